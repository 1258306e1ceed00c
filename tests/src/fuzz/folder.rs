//! A folder in memory, as a spool sees it: what is in its files is all there is to it.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flow_agent::spool::file_system::{FileSystem, OpenFile, Space};

type Octets = Arc<Mutex<Vec<u8>>>;

/// A folder; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<BTreeMap<String, Octets>>>);

#[derive(Debug)]
struct Open(Octets);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    /// A folder with these files.
    pub fn with(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let memory = Self::default();
        for (name, octets) in files {
            lock(&memory.0).insert(name, Arc::new(Mutex::new(octets)));
        }
        memory
    }

    /// What is in its files.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let files = lock(&self.0);
        files.iter().map(|(name, octets)| (name.clone(), lock(octets).clone())).collect()
    }

    fn file(&self, name: &str) -> io::Result<Octets> {
        lock(&self.0).get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl FileSystem for Memory {
    fn name(&self) -> String {
        "memory".into()
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        Ok(Box::new(()))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(lock(&self.0).keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn OpenFile>> {
        let octets = Octets::default();
        match lock(&self.0).entry(name.to_owned()) {
            std::collections::btree_map::Entry::Occupied(_) => {
                Err(io::ErrorKind::AlreadyExists.into())
            }
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(octets.clone());
                Ok(Box::new(Open(octets)))
            }
        }
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn OpenFile>> {
        Ok(Box::new(Open(self.file(name)?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let file = self.file(from)?;
        let mut files = lock(&self.0);
        files.remove(from);
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.file(name)?;
        lock(&self.0).remove(name);
        Ok(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        Ok(Space { free: 1 << 40, total: 1 << 40 })
    }
}

impl OpenFile for Open {
    fn length(&self) -> io::Result<u64> {
        Ok(lock(&self.0).len() as u64)
    }

    fn read_at(&self, offset: u64, octets: &mut [u8]) -> io::Result<usize> {
        let data = lock(&self.0);
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(data.len());
        let length = octets.len().min(data.len() - start);
        octets[..length].copy_from_slice(&data[start..start + length]);
        Ok(length)
    }

    fn write_at(&self, offset: u64, octets: &[u8]) -> io::Result<usize> {
        let mut data = lock(&self.0);
        let (start, end) = (offset as usize, offset as usize + octets.len());
        let length = data.len().max(end);
        data.resize(length, 0);
        data[start..end].copy_from_slice(octets);
        Ok(octets.len())
    }

    fn append(&self, octets: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(octets);
        Ok(octets.len())
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        lock(&self.0).truncate(length as usize);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
