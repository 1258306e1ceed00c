//! The real file system: a folder on a disk.

use std::any::Any;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock, statvfs};

use super::file_system::{FileSystem, OpenFile, Space};

/// The file whose lock keeps other agents out.
pub const LOCK: &str = "lock";

/// A folder on a disk.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The one at this path, there or not.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Only for its owner: batches say who talks to whom. Never a fifo or a link to elsewhere.
fn options() -> OpenOptions {
    const OWNER_ALONE: u32 = 0o600;
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(OWNER_ALONE);
    options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32);
    options
}

fn regular(file: File) -> io::Result<Box<dyn OpenFile>> {
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    Ok(Box::new(DiskFile(file)))
}

impl FileSystem for Folder {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        // Others may have folders beside it.
        if let Some(parent) = self.path.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        let file = options().create(true).truncate(false).open(self.at(LOCK))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(file))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // Ours are plain ASCII.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn OpenFile>> {
        regular(options().create_new(true).open(self.at(name))?)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn OpenFile>> {
        regular(options().open(self.at(name))?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.at(from), self.at(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.at(name))
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn space(&self) -> io::Result<Space> {
        space(&self.path)
    }
}

fn space(path: &Path) -> io::Result<Space> {
    let found = statvfs(path)?;
    Ok(Space { free: found.f_bavail * found.f_frsize, total: found.f_blocks * found.f_frsize })
}

#[derive(Debug)]
struct DiskFile(File);

impl OpenFile for DiskFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, octets: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(&self.0, octets, offset)
    }

    fn write_at(&self, offset: u64, octets: &[u8]) -> io::Result<usize> {
        FileExt::write_at(&self.0, octets, offset)
    }

    fn append(&self, octets: &[u8]) -> io::Result<usize> {
        // Two may append at once: the kernel orders them only for files opened to append.
        rustix::fs::fcntl_setfl(&self.0, OFlags::APPEND)?;
        (&self.0).write(octets)
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
