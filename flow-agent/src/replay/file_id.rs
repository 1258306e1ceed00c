//! Which file a path means: two names of one file have one identity.

use std::fs::Metadata;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, fstat};

/// A file that must not be used in two roles. Devices and sockets have none: they can be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FileId {
    /// A regular file.
    File { device: u64, inode: u64 },
    /// A pipe.
    Fifo { device: u64, inode: u64 },
    /// A file that will be made here; the path has no symbolic links.
    New(PathBuf),
}

impl FileId {
    /// The file at `path`, if it is there.
    pub fn of(path: &Path) -> Option<Self> {
        let metadata: Metadata = path.metadata().ok()?;
        let (device, inode) = (metadata.dev(), metadata.ino());
        let kind = metadata.file_type();
        if kind.is_file() {
            return Some(Self::File { device, inode });
        }
        kind.is_fifo().then_some(Self::Fifo { device, inode })
    }

    /// An open file.
    pub fn of_open(file: impl AsFd) -> Option<Self> {
        let status = fstat(file).ok()?;
        let (device, inode) = (status.st_dev, status.st_ino);
        match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile => Some(Self::File { device, inode }),
            FileType::Fifo => Some(Self::Fifo { device, inode }),
            _ => None,
        }
    }
}
