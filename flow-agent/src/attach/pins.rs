//! Pins: tables that outlive an agent that is killed.
//!
//! Every agent has a numbered folder of its own below one folder of a BPF file
//! system, holds a lock on it while it lives, and removes it when it stops, or when it
//! cannot start. A folder without a holder belongs to an agent that was killed: the next
//! one reads what it had counted.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use aya::maps::MapData;
use aya::programs::loaded_programs;
use flow_common::table::names;
use rustix::fs::{FlockOperation, flock, statfs};
use rustix::io::Errno;

use super::handover::{SUCCESSOR, clear};
use super::link::errno;
use super::load::chain;
use super::{AttachError, Kernel};

/// `BPF_FS_MAGIC` (include/uapi/linux/magic.h).
const BPF_FS: i64 = 0xcafe_4a11;

/// Agents that may share a folder.
const MOST: u32 = 1024;

/// Tables that the next agent needs.
pub(crate) const PINNED: [&str; 12] = [
    names::SETS,
    names::HEADS,
    names::TCP,
    names::DIRTY,
    names::REGIONS,
    names::EVICTED,
    names::TUNNELS,
    names::EVICTED_TUNNELS,
    names::COUNTERS,
    names::STRAY,
    names::JOURNAL,
    names::NAMES,
];

/// What the next agent needs besides: see [`EstateMap`](super::EstateMap).
const ESTATE: &str = "ESTATE";

/// A folder with pinned tables, locked.
#[derive(Debug)]
pub struct PinFolder {
    path: PathBuf,
    lock: File,
    /// Nothing can have been counted yet: it is removed when it is dropped.
    unused: bool,
}

impl PinFolder {
    /// The folders of agents that were killed, oldest number first.
    ///
    /// # Errors
    /// There is no BPF file system at `parent`, or it may not be read.
    pub fn abandoned(parent: &Path) -> Result<Vec<Self>, AttachError> {
        prepare(parent)?;
        let mut found = Vec::new();
        for number in 0..MOST {
            let path = parent.join(number.to_string());
            if path.is_dir() {
                found.extend(Self::lock(path)?);
            }
        }
        Ok(found)
    }

    /// The folders of agents that run, each open: its lock is free when its agent has ended. Links
    /// that killed agents had pinned for their successors are gone with it.
    ///
    /// # Errors
    /// There is no BPF file system at `parent`, or it may not be read.
    pub fn living(parent: &Path) -> Result<Vec<(PathBuf, File)>, AttachError> {
        prepare(parent)?;
        let mut living = Vec::new();
        for path in (0..MOST).map(|number| parent.join(number.to_string())) {
            let Ok(file) = File::open(&path) else { continue };
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => clear(&path.join(SUCCESSOR)),
                Err(Errno::WOULDBLOCK) => living.push((path, file)),
                Err(errno) => return Err(pin_error(&path, &errno.into())),
            }
        }
        Ok(living)
    }

    /// A folder of its own for this agent, with the tables of `kernel`. Until
    /// [`PinFolder::keep`] it is removed when it is dropped.
    ///
    /// # Errors
    /// The tables cannot be pinned.
    pub fn create(parent: &Path, kernel: &Kernel) -> Result<Self, AttachError> {
        prepare(parent)?;
        let mut folder = Self::free(parent)?;
        folder.unused = true;
        for name in PINNED {
            let map = kernel.ebpf.map(name).ok_or_else(|| AttachError::Load {
                problem: format!("{name} is not in the embedded object"),
            })?;
            let path = folder.path.join(name);
            map.pin(&path).map_err(|error| AttachError::Pin {
                path: path.display().to_string(),
                problem: chain(&error),
            })?;
        }
        Ok(folder)
    }

    fn free(parent: &Path) -> Result<Self, AttachError> {
        for number in 0..MOST {
            let path = parent.join(number.to_string());
            match fs::create_dir(&path) {
                Ok(()) => {
                    if let Some(folder) = Self::lock(path)? {
                        return Ok(folder);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(pin_error(&path, &error)),
            }
        }
        let problem = format!("{MOST} agents have a folder there");
        Err(AttachError::Pin { path: parent.display().to_string(), problem })
    }

    /// Takes the folder; none if there is none, or another agent has it. Links that a killed agent
    /// had pinned for its successor are gone with it.
    pub(super) fn lock(path: PathBuf) -> Result<Option<Self>, AttachError> {
        let lock = match File::open(&path) {
            Ok(lock) => lock,
            // Another agent has just removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(pin_error(&path, &error)),
        };
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            // It may have been removed since it was opened.
            Ok(()) if !path.is_dir() => Ok(None),
            Ok(()) => {
                clear(&path.join(SUCCESSOR));
                Ok(Some(Self { path, lock, unused: false }))
            }
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(pin_error(&path, &errno.into())),
        }
    }

    /// Where a table is pinned.
    pub fn table(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The books of the dead agent have been taken over.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn forget_estate(&self) -> Result<(), AttachError> {
        match fs::remove_file(self.estate()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(pin_error(&self.path, &error))
            }
            _ => Ok(()),
        }
    }

    /// Where the estate is pinned.
    pub(super) fn estate(&self) -> PathBuf {
        self.table(ESTATE)
    }

    /// Its path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// True while a program is loaded that counts in its tables: programs outlive their
    /// agent where something else holds them, as filters of a clsact qdisc do.
    ///
    /// # Errors
    /// The kernel does not say; `CAP_SYS_ADMIN` is needed for that.
    pub fn is_written(&self) -> io::Result<bool> {
        let sets = MapData::from_pin(self.table(names::SETS)).and_then(|map| map.info());
        let sets = sets.map_err(io::Error::other)?.id();
        for program in loaded_programs() {
            match program.and_then(|program| program.map_ids()) {
                Ok(maps) if maps.iter().flatten().any(|map| *map == sets) => return Ok(true),
                Ok(_) => {}
                Err(error) => match errno(&error) {
                    // Unloaded since it was listed.
                    Some(Errno::NOENT) => {}
                    Some(errno) => return Err(errno.into()),
                    None => return Err(io::Error::other(error)),
                },
            }
        }
        Ok(false)
    }

    /// From now on packets are counted: it outlives this process unless it is removed.
    pub fn keep(&mut self) {
        self.unused = false;
    }

    /// Lets the kernel free the tables, once nobody else holds them. The lock is returned: for
    /// a successor the agent has ended when it is dropped.
    ///
    /// # Errors
    /// A file or the folder cannot be removed.
    pub fn remove(mut self) -> Result<File, AttachError> {
        self.unused = false;
        let lock = self.lock.try_clone().map_err(|error| pin_error(&self.path, &error))?;
        self.unlink()?;
        Ok(lock)
    }

    fn unlink(&self) -> Result<(), AttachError> {
        clear(&self.path.join(SUCCESSOR));
        for name in PINNED.into_iter().chain([ESTATE]) {
            match fs::remove_file(self.table(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(pin_error(&self.path, &error));
                }
                _ => {}
            }
        }
        fs::remove_dir(&self.path).map_err(|error| pin_error(&self.path, &error))
    }
}

impl Drop for PinFolder {
    fn drop(&mut self) {
        if self.unused
            && let Err(error) = self.unlink()
        {
            tracing::warn!("{error}; remove the folder to free its memory");
        }
    }
}

/// Makes the folder, which must be in a BPF file system.
fn prepare(parent: &Path) -> Result<(), AttachError> {
    // A folder that is there may be a mount of its own, as in the systemd unit.
    let place = if parent.is_dir() { parent } else { parent.parent().unwrap_or(parent) };
    let kind = statfs(place).map_err(|errno| pin_error(place, &errno.into()))?.f_type;
    if kind as i64 != BPF_FS {
        let problem = "it is no BPF file system; run `mount -t bpf bpf /sys/fs/bpf`".into();
        return Err(AttachError::Pin { path: place.display().to_string(), problem });
    }
    match fs::create_dir(parent) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(pin_error(parent, &error))
        }
        _ => Ok(()),
    }
}

fn pin_error(path: &Path, error: &io::Error) -> AttachError {
    AttachError::Pin { path: path.display().to_string(), problem: error.to_string() }
}
