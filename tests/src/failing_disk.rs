//! A disk that fails late: an ext2 file system on a loop device whose own disk has no room, so that
//! what the page cache has taken cannot be written, and syncs fail.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::mount::{UnmountFlags, unmount};

use crate::small_disk::SmallDisk;

/// A mounted disk, gone when it is dropped.
#[derive(Debug)]
pub struct FailingDisk {
    below: SmallDisk,
    path: PathBuf,
}

impl FailingDisk {
    /// One that works, of 64 MiB.
    pub fn new() -> Result<Self> {
        let below = SmallDisk::new(80)?;
        let (image, path) = (below.path().join("image"), below.path().join("mounted"));
        std::fs::File::create(&image)?.set_len(64 << 20)?;
        std::fs::create_dir(&path)?;
        let text = |path: &Path| path.to_str().map(str::to_owned).context("a path in UTF-8");
        let (image, mounted) = (text(&image)?, text(&path)?);
        run("mkfs.ext2", &["-q", "-F", "-N", "128", &image])?;
        run("mount", &["-o", "loop", &image, &mounted])?;
        Ok(Self { below, path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From now on no block is written that was not written before.
    pub fn fail(&self) -> Result<()> {
        rustix::fs::sync();
        self.below.fill(0)
    }

    /// It works again.
    pub fn heal(&self) -> Result<()> {
        self.below.empty()
    }
}

impl Drop for FailingDisk {
    fn drop(&mut self) {
        // The loop device goes with its last user.
        if let Err(error) = unmount(&self.path, UnmountFlags::DETACH) {
            eprintln!("cannot unmount {}: {error}", self.path.display());
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot start {program}: run `cargo xtask setup`"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {errors}", arguments.join(" "));
    Ok(())
}
