//! A disk that is full when a test wants it to be: a `tmpfs` of a fixed size.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

/// A mounted disk, gone when it is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// One of so many MiB.
    pub fn new(mib: u32) -> Result<Self> {
        let folder = TempDir::with_prefix("flow-disk-")?;
        let options = std::ffi::CString::new(format!("size={mib}m"))?;
        mount("tmpfs", folder.path(), "tmpfs", MountFlags::empty(), options.as_c_str())
            .with_context(|| format!("cannot mount a tmpfs at {}", folder.path().display()))?;
        Ok(Self { folder })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes all room but so many octets.
    pub fn fill(&self, but: u64) -> Result<()> {
        let free = statvfs(self.path())?;
        let octets = (free.f_bavail * free.f_frsize).saturating_sub(but);
        let file = File::create(self.filling())?;
        fallocate(&file, FallocateFlags::empty(), 0, octets).context("cannot fill a small disk")
    }

    /// Gives the room back.
    pub fn empty(&self) -> Result<()> {
        Ok(fs::remove_file(self.filling())?)
    }

    fn filling(&self) -> PathBuf {
        self.path().join("filling")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What still has files open there keeps it until it ends.
        if let Err(error) = unmount(self.path(), UnmountFlags::DETACH) {
            eprintln!("cannot unmount {}: {error}", self.path().display());
        }
    }
}
