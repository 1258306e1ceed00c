//! A cgroup of the test's own, as a systemd unit has one.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flow_agent::enrich::unit_name;

/// A cgroup of this process: sockets that it makes belong to it. Gone when dropped.
pub struct Cgroup {
    /// What rows are to say.
    pub unit: Option<String>,
    folder: Option<(PathBuf, PathBuf)>,
}

impl Cgroup {
    /// A unit of its own; where cgroups cannot be made, the one this process is in.
    ///
    /// # Errors
    /// The kernel does not say which that is.
    pub fn join() -> Result<Self> {
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::")).context("unified")?;
        let unified = Path::new("/sys/fs/cgroup/unified");
        let root = if unified.exists() { unified } else { Path::new("/sys/fs/cgroup") };
        let name = format!("flow-test-{}.service", std::process::id());
        let folder = root.join(&name);
        let joined = fs::create_dir(&folder)
            .and_then(|()| fs::write(folder.join("cgroup.procs"), std::process::id().to_string()));
        if joined.is_err() {
            drop(fs::remove_dir(&folder));
            return Ok(Self { unit: unit_name(own), folder: None });
        }
        let before = root.join(own.trim_start_matches('/'));
        Ok(Self { unit: Some(name), folder: Some((folder, before)) })
    }

    /// False where no cgroup could be made.
    pub fn is_own(&self) -> bool {
        self.folder.is_some()
    }

    /// From now on sockets belong to where this process was before.
    ///
    /// # Panics
    /// They must not any more.
    pub fn leave(&self) {
        if let Some((_, before)) = &self.folder {
            fs::write(before.join("cgroup.procs"), std::process::id().to_string())
                .expect("it was there before");
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.leave();
        if let Some((folder, _)) = &self.folder {
            drop(fs::remove_dir(folder));
        }
    }
}
