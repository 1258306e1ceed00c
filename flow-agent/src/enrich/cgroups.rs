//! Names of units and containers by the number of a cgroup.
//!
//! A cgroup's number is the inode of its folder. The tree is walked again when a number comes
//! that is not known, at most once in each look.

use std::fs;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::memo::{Lifetime, Memo};
use super::unit_name::unit_name;

/// Where the unified hierarchy is: alone, or beside those of version 1.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// Folders looked at in a walk.
const MOST_FOLDERS: usize = 50_000;
/// Folders in each other.
const MOST_DEPTH: usize = 24;

/// The units of the cgroups that have been seen.
pub struct Cgroups {
    root: PathBuf,
    /// None: in no unit.
    units: Memo<u64, Option<Arc<str>>>,
    /// It was said that there are too many.
    told: bool,
}

impl Cgroups {
    /// Those of this host; none without the unified hierarchy.
    pub fn of_host() -> Option<Self> {
        let unified = |root: &&&str| Path::new(root).join("cgroup.controllers").exists();
        ROOTS.iter().find(unified).map(Self::below)
    }

    /// Those of a tree.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        // A container that has gone keeps its name as long as its flows may be on their way.
        let lifetime =
            Lifetime { entries: MOST_FOLDERS, ttl: Duration::from_secs(u32::MAX.into()) };
        Self { root: root.into(), units: Memo::new(lifetime), told: false }
    }

    /// Walks the tree if one of these is not known yet.
    pub fn learn(&mut self, numbers: impl IntoIterator<Item = u64>) {
        let mut unknown: Vec<_> =
            numbers.into_iter().filter(|number| self.units.get(number, 0).is_none()).collect();
        if unknown.is_empty() {
            return;
        }
        self.walk();
        // What is nowhere in the tree, such as a cgroup that has gone, is not looked for again.
        unknown.retain(|number| self.units.peek(number).is_none());
        for number in unknown {
            self.units.put(number, None, 0);
        }
    }

    /// The unit of a cgroup.
    pub fn unit(&mut self, number: u64) -> Option<Arc<str>> {
        self.units.get(&number, 0)?.clone()
    }

    fn walk(&mut self) {
        let Ok(root) = fs::metadata(&self.root) else { return };
        self.units.put(root.ino(), None, 0);
        let mut folders = vec![(self.root.clone(), String::new())];
        let mut seen = 0;
        while let Some((folder, path)) = folders.pop() {
            // A folder that has gone meanwhile has no children.
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            for entry in entries.flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                seen += 1;
                if seen > MOST_FOLDERS {
                    self.tell();
                    return;
                }
                let path = format!("{path}/{}", entry.file_name().to_string_lossy());
                self.units.put(entry.ino(), unit_name(&path).map(Into::into), 0);
                if path.matches('/').count() < MOST_DEPTH {
                    folders.push((entry.path(), path));
                }
            }
        }
    }

    fn tell(&mut self) {
        if !self.told {
            self.told = true;
            tracing::warn!(
                "there are more than {MOST_FOLDERS} cgroups below {}; flows of others have no unit",
                self.root.display()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_tree_is_walked_again_for_what_is_new() {
        let tree = tempfile::tempdir().expect("a folder");
        let make = |path: &str| {
            let folder = tree.path().join(path);
            fs::create_dir_all(&folder).expect("ours");
            fs::metadata(folder).expect("there").ino()
        };
        let root = fs::metadata(tree.path()).expect("there").ino();
        let (slice, nginx) = (make("system.slice"), make("system.slice/nginx.service/worker"));
        let mut cgroups = Cgroups::below(tree.path());
        assert_eq!(cgroups.unit(nginx), None, "nothing was learned yet");
        cgroups.learn([nginx, 1 << 60]);
        assert_eq!(cgroups.unit(nginx).as_deref(), Some("nginx.service"));
        assert_eq!(
            (cgroups.unit(slice), cgroups.unit(root), cgroups.unit(1 << 60)),
            (None, None, None)
        );

        let web = make("system.slice/web.service");
        fs::remove_dir_all(tree.path().join("system.slice/nginx.service")).expect("ours");
        cgroups.learn([nginx, slice]);
        assert_eq!(cgroups.unit(web), None, "nobody asked for it");
        cgroups.learn([web]);
        assert_eq!(cgroups.unit(web).as_deref(), Some("web.service"));
        assert_eq!(cgroups.unit(nginx).as_deref(), Some("nginx.service"), "its flows are here yet");
    }

    #[test]
    fn a_tree_that_is_not_there_has_no_units() {
        let mut cgroups = Cgroups::below("/nowhere");
        cgroups.learn([1, 2]);
        assert_eq!(cgroups.unit(1), None);
    }
}
