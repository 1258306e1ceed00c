//! The files of a spool: batches enter, segments leave.
//!
//! It holds that a batch is only called stored when all of it was written, and, with
//! [`Fsync::Always`], synced; and that nothing is written to a segment any more after a write or
//! a sync of it failed.

use std::any::Any;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::codec::checksum;
use super::core::{Entry, Place};
use super::file_system::{FileSystem, OpenFile, append_all, is_damage, read_at, write_all_at};
use super::index::Note;
use super::record::RecordHeader;
use super::segment::{self, DAMAGED, RECORDS, SPENT, Sums, index_name, segment_name};
use super::settings::Fsync;
use crate::failpoint::failpoint;
use crate::frozen::FrozenBatch;

/// So much of a disk is left to others: one part of so many,
const RESERVE_PART: u64 = 20;
/// but no more than this.
const MOST_RESERVE: u64 = 1 << 30;

/// The files.
#[derive(Debug)]
pub struct Disk {
    pub files: Arc<dyn FileSystem>,
    pub max_octets: u64,
    segment_octets: u64,
    fsync: Fsync,
    state: Mutex<DiskState>,
    /// Keeps other agents out.
    _lock: Box<dyn Any + Send + Sync>,
}

/// What one writer at a time changes.
#[derive(Debug, Default)]
pub struct DiskState {
    active: Option<Active>,
    /// Closed, and not synced since they were written to.
    unsynced: Vec<Arc<Writing>>,
    next: u64,
}

/// A segment whose files are open.
#[derive(Debug)]
pub struct Writing {
    pub segment: u64,
    file: Box<dyn OpenFile>,
    index: Box<dyn OpenFile>,
    dirty: AtomicBool,
    /// Its name may not be on the disk.
    fresh: AtomicBool,
}

#[derive(Debug)]
struct Active {
    writing: Arc<Writing>,
    end: u64,
    index_octets: u64,
    sums: Sums,
}

/// A batch that was written.
#[derive(Debug)]
pub struct Stored {
    pub place: Place,
    /// The segment's files, in octets.
    pub octets: u64,
}

/// What a call changed beside the batch.
#[derive(Debug, Default)]
pub struct Changes {
    /// Segments that are not written to any more.
    pub closed: Vec<u64>,
    /// A segment whose sync failed: what it has may be lost at a power cut.
    pub unsafe_segment: Option<u64>,
    /// How long syncs took.
    pub syncs: Vec<Duration>,
    /// Where the batch may be although it is not stored, and the files' octets.
    pub tainted: Option<Stored>,
}

impl DiskState {
    /// The open segment.
    pub fn open_segment(&self) -> Option<u64> {
        self.active.as_ref().map(|active| active.writing.segment)
    }

    /// What is to be synced now. Closed segments are in it for the last time.
    pub fn take_unsynced(&mut self) -> Vec<Arc<Writing>> {
        let mut all = std::mem::take(&mut self.unsynced);
        all.extend(self.active.as_ref().map(|active| active.writing.clone()));
        all
    }

    /// Closed segments that wait to be synced, each with open files.
    pub fn unsynced(&self) -> usize {
        self.unsynced.len()
    }
}

/// Octets that a batch takes, at most.
pub fn need(batch: &FrozenBatch) -> u64 {
    const HEADERS: u64 = 512;
    let names: usize = batch.counts.iter().map(|(name, _)| name.len() + 32).sum();
    RECORDS + batch.block.len() as u64 + 2 * names as u64 + HEADERS
}

impl Disk {
    pub fn new(
        files: Arc<dyn FileSystem>,
        lock: Box<dyn Any + Send + Sync>,
        (max_octets, segment_octets): (u64, u64),
        fsync: Fsync,
        next: u64,
    ) -> Self {
        let state = Mutex::new(DiskState { next, ..DiskState::default() });
        Self { files, max_octets, segment_octets, fsync, state, _lock: lock }
    }

    /// Only one at a time writes. Locked before the books, never after.
    pub fn state(&self) -> MutexGuard<'_, DiskState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if the disk has room for so many octets beside those that are left to others.
    pub fn has_space(&self, octets: u64) -> bool {
        // One that does not say says so when it is written to.
        self.files.space().map_or(true, |space| {
            let reserve = (space.total / RESERVE_PART).min(MOST_RESERVE);
            space.free >= octets.saturating_add(reserve)
        })
    }

    /// Writes a batch.
    pub fn write(
        &self,
        state: &mut DiskState,
        batch: &FrozenBatch,
        changes: &mut Changes,
    ) -> io::Result<Stored> {
        let need = need(batch) - RECORDS;
        if let Some(active) = &state.active
            && active.end > RECORDS
            && active.end + need > self.segment_octets
        {
            changes.closed.push(self.close(state));
        }
        if state.active.is_none() {
            state.active = Some(self.begin(state)?);
        }
        let Some(active) = &mut state.active else { return Err(io::ErrorKind::NotFound.into()) };
        let (before, writing) = (active.end, active.writing.clone());
        writing.dirty.store(true, Ordering::Release);
        let (place, written) = active.write(batch);
        let octets = active.octets();
        let problem = match written {
            Ok(()) if self.fsync != Fsync::Always => None,
            Ok(()) => {
                let synced = writing.sync(false, &mut changes.syncs);
                if synced.is_err() {
                    changes.unsafe_segment = Some(writing.segment);
                }
                synced.err()
            }
            Err(error) => {
                // The space is somebody's; what is left of the record would be no record.
                let _ = writing.file.cut(before);
                Some(error)
            }
        };
        match problem {
            None => Ok(Stored { place, octets }),
            Some(error) => {
                changes.tainted = Some(Stored { place, octets });
                changes.closed.push(self.close(state));
                Err(error)
            }
        }
    }

    fn begin(&self, state: &mut DiskState) -> io::Result<Active> {
        let segment = state.next;
        // Whatever happens, no other segment has this number.
        state.next += 1;
        let [name, index_name] = [segment_name(segment), index_name(segment)];
        // One that is there is somebody's: it is never removed here.
        let file = self.files.create(&name)?;
        let index = self.files.create(&index_name).inspect_err(|_| {
            let _ = self.files.remove(&name);
        })?;
        let sums = Sums::empty();
        let written = write_all_at(&*file, 0, &segment::head(segment))
            .and_then(|()| {
                let (at, octets) = sums.encode();
                write_all_at(&*file, at, &octets)
            })
            .and_then(|()| append_all(&*index, &segment::head(segment)))
            .and_then(|()| match self.fsync {
                Fsync::Always => self.files.sync_folder(),
                _ => Ok(()),
            });
        if let Err(error) = written {
            let _ = self.files.remove(&name);
            let _ = self.files.remove(&index_name);
            return Err(error);
        }
        let [dirty, fresh] = [(); 2].map(|()| AtomicBool::new(true));
        let writing = Writing { segment, file, index, dirty, fresh };
        let index_octets = segment::HEAD_LENGTH as u64;
        Ok(Active { writing: Arc::new(writing), end: RECORDS, index_octets, sums })
    }

    /// True if what was written is ever to be synced.
    pub fn syncs(&self) -> bool {
        self.fsync != Fsync::Never
    }

    /// No more is written to the open segment; its number.
    pub fn close(&self, state: &mut DiskState) -> u64 {
        let Some(active) = state.active.take() else { return state.next };
        let segment = active.writing.segment;
        let interval = matches!(self.fsync, Fsync::Interval(_));
        if interval && active.writing.dirty.load(Ordering::Acquire) {
            state.unsynced.push(active.writing);
        }
        segment
    }

    /// Reads a batch back.
    ///
    /// # Errors
    /// It is in none of its places as it was written.
    pub fn read(&self, entry: &Entry) -> io::Result<FrozenBatch> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for place in &entry.places {
            match self.read_block(place, entry.octets) {
                Ok(block) => {
                    return Ok(FrozenBatch {
                        id: entry.id,
                        table: entry.table,
                        exported_at: entry.exported_at,
                        rows: entry.rows,
                        counts: entry.counts.clone(),
                        block: block.into(),
                    });
                }
                // A place that cannot be read now may have it all the same.
                Err(error) if is_damage(&last) => last = error,
                Err(_) => {}
            }
        }
        Err(last)
    }

    fn read_block(&self, place: &Place, octets: u32) -> io::Result<Vec<u8>> {
        let file = self.files.open(&segment_name(place.segment))?;
        let mut block = vec![0; octets as usize];
        if read_at(&*file, place.offset, &mut block)? < block.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if checksum(&block) != place.checksum {
            return Err(io::Error::other("its checksum is another one"));
        }
        Ok(block)
    }

    /// Adds to a segment's index, if there is one; how many octets.
    pub fn note(&self, segment: u64, note: &Note, sync: bool) -> io::Result<u64> {
        let octets = note.encode();
        let index = self.files.open(&index_name(segment))?;
        append_all(&*index, &octets)?;
        if sync {
            index.sync()?;
        }
        Ok(octets.len() as u64)
    }

    /// Removes a segment. Its new name comes first: from then on it is gone, whatever happens.
    pub fn remove(&self, segment: u64) -> io::Result<()> {
        let name = segment_name(segment);
        let spent = format!("{name}{SPENT}");
        match self.files.rename(&name, &spent) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.remove_if_there(&index_name(segment))?;
        self.remove_if_there(&spent)
    }

    /// Removes a file that may be gone.
    pub fn remove_if_there(&self, name: &str) -> io::Result<()> {
        match self.files.remove(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Keeps a damaged segment under another name.
    pub fn move_aside(&self, segment: u64) -> io::Result<()> {
        for name in [segment_name(segment), index_name(segment)] {
            match self.files.rename(&name, &format!("{name}{DAMAGED}")) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Writing {
    /// Syncs what was written since the last time.
    pub fn sync(&self, index: bool, took: &mut Vec<Duration>) -> io::Result<()> {
        if !self.dirty.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let started = Instant::now();
        let synced = self.file.sync();
        took.push(started.elapsed());
        if index {
            // A failure costs exactness of the next loss, no batch.
            let _ = self.index.sync();
        }
        synced
    }

    /// True once: the folder is to be synced for it.
    pub fn is_fresh(&self) -> bool {
        self.fresh.swap(false, Ordering::AcqRel)
    }
}

impl Active {
    /// The index first: a batch that is written in part is known by its id.
    fn write(&mut self, batch: &FrozenBatch) -> (Place, io::Result<()>) {
        let header = RecordHeader::of(batch);
        let octets = header.encode();
        let offset = self.end + octets.len() as u64;
        let Writing { segment, file, index, .. } = &*self.writing;
        let place = Place { segment: *segment, offset, checksum: header.checksum };
        let note = Note::Record(self.end, header).encode();
        self.index_octets += note.len() as u64;
        let mut sums = self.sums.clone();
        sums.contents.add(batch.rows, &batch.counts);
        (sums.end, sums.last) = (offset + batch.block.len() as u64, batch.id);
        let written = append_all(&**index, &note)
            .and_then(|()| write_all_at(&**file, self.end, &octets))
            .and_then(|()| {
                failpoint!("spool::begun");
                write_all_at(&**file, offset, &batch.block)
            })
            .and_then(|()| {
                let (at, octets) = sums.encode();
                write_all_at(&**file, at, &octets)
            });
        if written.is_ok() {
            self.end = sums.end;
            self.sums = sums;
        }
        (place, written)
    }

    fn octets(&self) -> u64 {
        self.end + self.index_octets
    }
}
