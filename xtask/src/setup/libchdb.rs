//! `libchdb.so`, ClickHouse as a library: fetched once from npm, checked against a
//! pinned integrity, kept in the cache with a stamp that makes later checks cheap.
//!
//! What must hold: the library is in its place only after its package had the
//! pinned hash, and only whole (atomic rename). A copy whose content is no longer
//! what was unpacked is fetched again.

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::integrity;
use super::report::{Step, found};
use crate::command;

/// The ClickHouse version inside.
const VERSION: &str = "26.7.3";
/// The npm version that carries it.
const NPM_VERSION: &str = "26.7.3-stable.1";
const WHY: &str = "the embedded ClickHouse engine";
const TRIES: u32 = 3;

/// A published package: what to fetch and what it must hash to.
struct Package {
    architecture: &'static str,
    name: &'static str,
    integrity: &'static str,
}

/// The architectures that have a package of this version. The npm registry had none
/// for arm64 when this was pinned; there `FLOW_LIBCHDB` names a copy.
const PACKAGES: [Package; 1] = [Package {
    architecture: "x86_64",
    name: "@chdb/lib-linux-x64-gnu",
    integrity: "sha512-XP97mMqnc5tZpKQywR8N7cLTsHNiTmHr30pC5mzo3jWmukjKn2IBa60c2B/gWUNcuFjOMjWoorQICCqBVj5wpw==",
}];

/// Finds the library, else fetches it.
pub fn ensure(cache: &Path) -> Result<PathBuf> {
    if let Some(path) = env::var_os("FLOW_LIBCHDB").filter(|value| !value.is_empty()) {
        let path = PathBuf::from(path);
        if !path.is_file() {
            bail!(
                "FLOW_LIBCHDB names {}, which is not a file: correct or unset it",
                path.display()
            );
        }
        found("libchdb", WHY, format!("{} (FLOW_LIBCHDB)", path.display()));
        return Ok(path);
    }
    let place = Place::in_cache(cache);
    let state = place.state()?;
    if matches!(state, State::Good) {
        found("libchdb", WHY, format!("{VERSION} {}", place.library.display()));
        return Ok(place.library);
    }
    let Some(package) = PACKAGES.iter().find(|package| package.architecture == env::consts::ARCH)
    else {
        bail!(
            "no libchdb {VERSION} is published for {}: set FLOW_LIBCHDB to a libchdb.so of your own",
            env::consts::ARCH
        );
    };
    if let State::Bad(reason) = state {
        println!("  bad   libchdb       {reason}: fetching it again");
        // Gone at once: if it cannot be fetched, nobody may open a damaged copy.
        place.remove();
    }
    let step = Step::begin("libchdb", WHY, format!("fetching {VERSION}, 178 MB packed"));
    place.fetch(package)?;
    step.done(place.library.display());
    Ok(place.library)
}

/// Where the library and its stamp are.
struct Place {
    folder: PathBuf,
    library: PathBuf,
    stamp: PathBuf,
}

enum State {
    Good,
    Missing,
    Bad(&'static str),
}

impl Place {
    fn in_cache(cache: &Path) -> Self {
        let folder = cache.join(format!("libchdb-{VERSION}"));
        Self { library: folder.join("libchdb.so"), stamp: folder.join("stamp"), folder }
    }

    /// Compares the library with its stamp; the content is read only if the file
    /// was written or moved since the stamp was made.
    fn state(&self) -> Result<State> {
        let (Ok(library), Ok(text)) =
            (fs::metadata(&self.library), fs::read_to_string(&self.stamp))
        else {
            return Ok(State::Missing);
        };
        let Some(stamp) = Stamp::parse(&text) else {
            return Ok(State::Bad("its stamp is damaged"));
        };
        if stamp.size != library.len() {
            return Ok(State::Bad("it is truncated"));
        }
        if stamp.changed == changed(&library) {
            return Ok(State::Good);
        }
        if integrity::sha256(&self.library)? != stamp.sha256 {
            return Ok(State::Bad("it is damaged"));
        }
        self.write_stamp(stamp.sha256)?; // moved or touched, but the same
        Ok(State::Good)
    }

    fn write_stamp(&self, sha256: String) -> Result<()> {
        let metadata = fs::metadata(&self.library)?;
        let stamp = Stamp { size: metadata.len(), changed: changed(&metadata), sha256 };
        fs::write(&self.stamp, stamp.text())
            .with_context(|| format!("cannot write {}", self.stamp.display()))
    }

    fn remove(&self) {
        drop(fs::remove_file(&self.stamp));
        drop(fs::remove_file(&self.library));
    }

    /// Fetches until a package has the pinned integrity, then puts the library in place.
    fn fetch(&self, package: &Package) -> Result<()> {
        fs::create_dir_all(&self.folder)?;
        let work = self.folder.join("fetch");
        let result = (|| {
            for attempt in 1..=TRIES {
                drop(fs::remove_dir_all(&work));
                fs::create_dir_all(&work)?;
                match download(package, &work) {
                    Ok(archive) => return self.unpack(&archive, &work),
                    Err(error) if attempt == TRIES => return Err(error),
                    Err(error) => println!("        try {attempt} of {TRIES}: {error:#}"),
                }
            }
            unreachable!("the last try returns")
        })();
        drop(fs::remove_dir_all(&work));
        result.with_context(|| format!("libchdb cannot be put into {}", self.folder.display()))
    }

    fn unpack(&self, archive: &Path, work: &Path) -> Result<()> {
        let mut tar = Command::new("tar");
        tar.arg("-xzf").arg(archive).arg("-C").arg(work).arg("package/libchdb.so");
        command::quiet(&mut tar)?;
        let unpacked = work.join("package/libchdb.so");
        let sha256 = integrity::sha256(&unpacked)?;
        File::open(&unpacked)?.sync_all()?;
        fs::rename(&unpacked, &self.library)?;
        self.write_stamp(sha256)
    }
}

/// Fetches the package with npm and checks it; a broken one is an error.
fn download(package: &Package, work: &Path) -> Result<PathBuf> {
    let mut npm = Command::new("npm");
    npm.args(["pack", "--silent", &format!("{}@{NPM_VERSION}", package.name)]).current_dir(work);
    command::quiet(&mut npm).context("check the network and npm's settings")?;
    let archive = fs::read_dir(work)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "tgz"))
        .context("npm pack left no .tgz file")?;
    let integrity = integrity::npm(&archive)?;
    if integrity != package.integrity {
        bail!(
            "{} {NPM_VERSION} has the integrity {integrity}, not the pinned {}: the download is \
             broken or the package is not the one that was pinned",
            package.name,
            package.integrity
        );
    }
    Ok(archive)
}

/// What the library was when it was unpacked from a package with the pinned hash.
struct Stamp {
    size: u64,
    /// The inode's change time, which every write and rename moves.
    changed: String,
    sha256: String,
}

impl Stamp {
    fn text(&self) -> String {
        format!("{NPM_VERSION}\n{}\n{}\n{}\n", self.size, self.changed, self.sha256)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != NPM_VERSION {
            return None;
        }
        let (size, changed, sha256) = (lines.next()?, lines.next()?, lines.next()?);
        Some(Self {
            size: size.parse().ok()?,
            changed: changed.to_owned(),
            sha256: sha256.to_owned(),
        })
    }
}

fn changed(metadata: &fs::Metadata) -> String {
    format!("{}.{:09}", metadata.ctime(), metadata.ctime_nsec())
}

#[cfg(test)]
mod tests {
    use super::Stamp;

    #[test]
    fn a_stamp_is_read_back_and_a_damaged_one_is_not() {
        let stamp = Stamp { size: 7, changed: "1.000000002".into(), sha256: "h".into() };
        let read = Stamp::parse(&stamp.text()).unwrap();
        assert_eq!((read.size, read.changed, read.sha256), (7, "1.000000002".into(), "h".into()));
        assert!(Stamp::parse("").is_none());
        assert!(Stamp::parse("26.7.3-stable.1\nx\ny\nz\n").is_none());
    }
}
