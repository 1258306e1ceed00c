//! A file system in memory that fails when it is told to, and forgets what a power cut would.
//!
//! A write is durable once its file was synced after it; a name once the folder was. A sync that
//! fails forgets what it should have written, as Linux does: the file still reads as before, and
//! another sync writes nothing of it. A power cut keeps any writes of those that are not durable,
//! whole or in part, and names up to any point of their history.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::io::Errno;

use super::super::file_system::{FileSystem, OpenFile, Space};

/// What goes wrong in an operation that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Half of it is written, and that is the answer.
    Short,
    /// Half of it is written, and the answer is an error.
    Broken,
    /// All of it is written, and the answer is an error.
    Liar,
    /// Nothing is written: the disk is full.
    Full,
}

#[derive(Clone, Debug)]
enum Change {
    Data(u64, Vec<u8>),
    Cut(u64),
}

impl Change {
    fn apply(&self, data: &mut Vec<u8>) {
        match self {
            Self::Data(offset, octets) => {
                let end = *offset as usize + octets.len();
                data.resize(data.len().max(end), 0);
                data[*offset as usize..end].copy_from_slice(octets);
            }
            Self::Cut(length) => data.resize(*length as usize, 0),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Inode {
    data: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

type Names = BTreeMap<String, usize>;

#[derive(Clone, Debug, Default)]
struct World {
    names: Names,
    durable_names: Names,
    /// The names after each change since the last sync of the folder.
    history: Vec<Names>,
    inodes: Vec<Inode>,
    operations: u64,
    faults: BTreeMap<u64, Fault>,
    /// From this operation on nothing happens any more.
    dies_at: Option<u64>,
    capacity: Option<usize>,
    broken: bool,
    /// The folder cannot be listed.
    hidden: bool,
    syncs: u64,
}

/// The folder; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Model {
    world: Arc<Mutex<World>>,
    locked: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Unlock(Arc<AtomicBool>);

impl Drop for Unlock {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

fn error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.raw_os_error())
}

impl Model {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no test panics in here")
    }

    /// These operations fail, by their number from now on.
    pub fn fail(&self, faults: impl IntoIterator<Item = (u64, Fault)>) {
        let mut world = self.world();
        let from = world.operations;
        world.faults.extend(faults.into_iter().map(|(at, fault)| (from + at, fault)));
    }

    /// No operation fails any more as it was told.
    pub fn heal(&self) {
        self.world().faults.clear();
    }

    /// The machine dies at this operation from now.
    pub fn die_at(&self, operation: u64) {
        let mut world = self.world();
        world.dies_at = Some(world.operations + operation);
    }

    /// The machine has died.
    pub fn is_dead(&self) -> bool {
        let world = self.world();
        world.dies_at.is_some_and(|at| world.operations > at)
    }

    /// Every change fails from now on, or none.
    pub fn set_broken(&self, broken: bool) {
        self.world().broken = broken;
    }

    /// The folder cannot be listed, or can.
    pub fn set_hidden(&self, hidden: bool) {
        self.world().hidden = hidden;
    }

    /// All files may hold so much.
    pub fn set_capacity(&self, octets: Option<usize>) {
        self.world().capacity = octets;
    }

    /// Syncs of files that were tried.
    pub fn syncs(&self) -> u64 {
        self.world().syncs
    }

    /// What the next process finds when this one is killed.
    pub fn after_kill(&self) -> Self {
        let mut world = self.world().clone();
        (world.dies_at, world.broken, world.capacity) = (None, false, None);
        world.faults.clear();
        Self { world: Arc::new(Mutex::new(world)), locked: Arc::default() }
    }

    /// What is there after a power cut; `seed` decides what is kept of what is not durable.
    pub fn after_power_cut(&self, mut seed: u64) -> Self {
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
            seed >> 33
        };
        let cut = self.after_kill();
        {
            let mut world = cut.world();
            for inode in &mut world.inodes {
                let mut data = std::mem::take(&mut inode.durable);
                for change in std::mem::take(&mut inode.pending) {
                    match (random() % 3, change) {
                        (0, _) => {}
                        (1, Change::Data(offset, octets)) => {
                            let kept = random() as usize % (octets.len() + 1);
                            Change::Data(offset, octets[..kept].to_vec()).apply(&mut data);
                        }
                        (_, change) => change.apply(&mut data),
                    }
                }
                (inode.data, inode.durable) = (data.clone(), data);
            }
            let history = std::mem::take(&mut world.history);
            let kept = random() as usize % (history.len() + 1);
            if kept > 0 {
                world.durable_names = history[kept - 1].clone();
            }
            world.names = world.durable_names.clone();
        }
        cut
    }

    /// The content of a file.
    pub fn get(&self, name: &str) -> Option<Vec<u8>> {
        let world = self.world();
        world.names.get(name).map(|inode| world.inodes[*inode].data.clone())
    }

    /// Puts a file there, durable.
    pub fn set(&self, name: &str, data: Vec<u8>) {
        let mut world = self.world();
        let inode = Inode { data: data.clone(), durable: data, pending: Vec::new() };
        world.inodes.push(inode);
        let number = world.inodes.len() - 1;
        world.names.insert(name.into(), number);
        world.durable_names.insert(name.into(), number);
    }

    /// Takes a file away, durable.
    pub fn take(&self, name: &str) -> Option<Vec<u8>> {
        let data = self.get(name);
        let mut world = self.world();
        world.names.remove(name);
        world.durable_names.remove(name);
        data
    }

    /// Names there are.
    pub fn names(&self) -> Vec<String> {
        self.world().names.keys().cloned().collect()
    }
}

impl World {
    /// One more operation that changes something.
    fn begin(&mut self) -> io::Result<Option<Fault>> {
        let number = self.operations;
        self.operations += 1;
        if self.broken || self.dies_at.is_some_and(|at| number >= at) {
            return Err(error(Errno::IO));
        }
        match self.faults.get(&number) {
            Some(Fault::Full) => Err(error(Errno::NOSPC)),
            fault => Ok(fault.copied()),
        }
    }

    fn renamed(&mut self) {
        let names = self.names.clone();
        self.history.push(names);
    }

    fn used(&self) -> usize {
        self.names.values().map(|inode| self.inodes[*inode].data.len()).sum()
    }
}

impl FileSystem for Model {
    fn name(&self) -> String {
        "model".into()
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        if self.locked.swap(true, Ordering::SeqCst) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Unlock(self.locked.clone())))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        if self.world().hidden {
            return Err(error(Errno::IO));
        }
        Ok(self.names())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn OpenFile>> {
        let mut world = self.world();
        let fault = world.begin()?;
        if world.names.contains_key(name) {
            return Err(error(Errno::EXIST));
        }
        if fault.is_some_and(|fault| fault != Fault::Short) {
            return Err(error(Errno::IO));
        }
        world.inodes.push(Inode::default());
        let inode = world.inodes.len() - 1;
        world.names.insert(name.into(), inode);
        world.renamed();
        Ok(Box::new(ModelFile { model: self.clone(), inode }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn OpenFile>> {
        let inode = self.world().names.get(name).copied();
        let inode = inode.ok_or_else(|| error(Errno::NOENT))?;
        Ok(Box::new(ModelFile { model: self.clone(), inode }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.world();
        if world.begin()?.is_some_and(|fault| fault == Fault::Broken) {
            return Err(error(Errno::IO));
        }
        let inode = world.names.remove(from).ok_or_else(|| error(Errno::NOENT))?;
        world.names.insert(to.into(), inode);
        world.renamed();
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.world();
        if world.begin()?.is_some_and(|fault| fault == Fault::Broken) {
            return Err(error(Errno::IO));
        }
        world.names.remove(name).ok_or_else(|| error(Errno::NOENT))?;
        world.renamed();
        Ok(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        let mut world = self.world();
        if world.begin()?.is_some() {
            return Err(error(Errno::IO));
        }
        world.history.clear();
        world.durable_names = world.names.clone();
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        let world = self.world();
        let total = world.capacity.unwrap_or(1 << 30);
        Ok(Space { free: total.saturating_sub(world.used()) as u64, total: total as u64 })
    }
}

#[derive(Debug)]
struct ModelFile {
    model: Model,
    inode: usize,
}

impl ModelFile {
    fn write(&self, offset: Option<u64>, octets: &[u8]) -> io::Result<usize> {
        let mut world = self.model.world();
        let fault = world.begin()?;
        let mut length = octets.len();
        if matches!(fault, Some(Fault::Short | Fault::Broken)) {
            length /= 2;
        }
        if let Some(capacity) = world.capacity {
            length = length.min(capacity.saturating_sub(world.used()));
        }
        if length == 0 && !octets.is_empty() && fault != Some(Fault::Broken) {
            if fault == Some(Fault::Short) {
                length = 1; // a write that is not empty writes something
            } else {
                return Err(error(Errno::NOSPC));
            }
        }
        let inode = &mut world.inodes[self.inode];
        let offset = offset.unwrap_or(inode.data.len() as u64);
        let change = Change::Data(offset, octets[..length].to_vec());
        change.apply(&mut inode.data);
        inode.pending.push(change);
        match fault {
            Some(Fault::Broken | Fault::Liar) => Err(error(Errno::IO)),
            _ => Ok(length),
        }
    }
}

impl OpenFile for ModelFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.model.world().inodes[self.inode].data.len() as u64)
    }

    fn read_at(&self, offset: u64, octets: &mut [u8]) -> io::Result<usize> {
        let world = self.model.world();
        let data = &world.inodes[self.inode].data;
        let found = data.get(offset as usize..).unwrap_or_default();
        // Short, as reads may be.
        let length = found.len().min(octets.len()).min(5000);
        octets[..length].copy_from_slice(&found[..length]);
        Ok(length)
    }

    fn write_at(&self, offset: u64, octets: &[u8]) -> io::Result<usize> {
        self.write(Some(offset), octets)
    }

    fn append(&self, octets: &[u8]) -> io::Result<usize> {
        self.write(None, octets)
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        let mut world = self.model.world();
        if world.begin()?.is_some() {
            return Err(error(Errno::IO));
        }
        let inode = &mut world.inodes[self.inode];
        let change = Change::Cut(length);
        change.apply(&mut inode.data);
        inode.pending.push(change);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.model.world();
        world.syncs += 1;
        let begun = world.begin();
        let inode = &mut world.inodes[self.inode];
        match begun {
            Ok(None | Some(Fault::Short)) => {
                // What an earlier failure forgot is not among them.
                for change in std::mem::take(&mut inode.pending) {
                    change.apply(&mut inode.durable);
                }
                Ok(())
            }
            Ok(Some(_)) => {
                inode.pending.clear();
                Err(error(Errno::IO))
            }
            Err(problem) => Err(problem),
        }
    }
}
