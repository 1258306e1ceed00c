//! The data folder: enters a path, leaves a folder that this process alone
//! uses. The lock is the kernel's, so it ends with the process, however it ends.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;

use super::StoreError;

const LOCK_FILE: &str = "flow-agent.lock";

/// Refuses a folder in which no store has ever been.
pub fn check_is_store(dir: &Path) -> Result<(), StoreError> {
    match dir.join(LOCK_FILE).try_exists() {
        Ok(true) => Ok(()),
        Ok(false) => Err(StoreError::NoStore { dir: dir.to_owned() }),
        Err(source) => Err(failed(dir, source)),
    }
}

/// The folder cannot be used.
pub fn failed(dir: &Path, source: io::Error) -> StoreError {
    StoreError::Folder { dir: dir.to_owned(), uid: geteuid().as_raw(), source }
}

/// A locked data folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder if it is missing and locks it for this process.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let failed = |source: io::Error| failed(dir, source);
        if dir.metadata().is_ok_and(|metadata| !metadata.is_dir()) {
            return Err(StoreError::NotAFolder { dir: dir.to_owned() });
        }
        // Flows say who talks to whom: no other user reads them.
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let path = dir.canonicalize().map_err(failed)?;
        let lock_path = path.join(LOCK_FILE);
        if !lock_path.exists() && fs::read_dir(&path).map_err(failed)?.next().is_some() {
            return Err(StoreError::ForeignFolder { dir: dir.to_owned() });
        }
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(failed)?;
        if let Err(error) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(failed(error.into()));
            }
            let mut pid = String::new();
            lock.read_to_string(&mut pid).map_err(failed)?;
            return Err(StoreError::InUse { dir: dir.to_owned(), pid: pid.trim().to_owned() });
        }
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(failed)?;
        Ok(Self { path, _lock: lock })
    }

    /// The absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_by_name_and_a_later_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/store");
        let first = Folder::open(&path).unwrap();
        let refused = Folder::open(&path).unwrap_err();
        assert!(
            matches!(&refused, StoreError::InUse { pid, .. } if *pid == std::process::id().to_string()),
            "{refused}"
        );
        drop(first);
        Folder::open(&path).unwrap();
    }

    #[test]
    fn a_folder_with_other_files_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("letter.txt"), "x").unwrap();
        let refused = Folder::open(dir.path()).unwrap_err();
        assert!(matches!(refused, StoreError::ForeignFolder { .. }), "{refused}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
