//! What both ends of a spool share: the books, the files, and what passes between them.
//!
//! Locks are taken in this order: the files' writer, the books. No file is touched while the
//! books are locked, so whoever settles or reads figures waits for nobody's disk.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::book::{After, Leaving};
use super::contents::{Contents, LossReason};
use super::core::{Core, Entry, Place, Settled};
use super::disk::Disk;
use super::index::Note;
use super::segment::Name;
use super::settings::Full;
use super::status::SpoolFigures;
use super::writer::Kept;
use crate::frozen::{FrozenBatch, Table};

/// Closed segments that may wait to be synced, each with open files.
const MOST_UNSYNCED: usize = 8;
/// A failing disk is told at each of so many failures, after the first.
const TELL_EACH: u64 = 100;

/// See the module.
#[derive(Debug)]
pub struct Shared {
    core: Mutex<Core>,
    /// None: in memory only.
    pub(super) disk: Option<Disk>,
    full: Full,
    /// A batch came, or the writer is gone.
    pub arrived: Notify,
    /// A batch left, or the reader is gone.
    pub room: Notify,
    failures: AtomicU64,
}

/// Why there is no room for a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// The files may not take more, or there are too many batches.
    Disk,
    /// The batch is larger than the files may be, and the memory is full.
    TooLarge,
    /// The disk is full, and so is the memory.
    Space,
    /// The disk fails, and the memory is full.
    Failing,
    /// There is no disk, and the memory is full.
    Memory,
}

impl Shared {
    pub fn new(core: Core, disk: Option<Disk>, full: Full) -> Self {
        Self {
            core: Mutex::new(core),
            disk,
            full,
            arrived: Notify::new(),
            room: Notify::new(),
            failures: AtomicU64::new(0),
        }
    }

    pub fn core(&self) -> MutexGuard<'_, Core> {
        // Each method leaves the books whole; none panics half-way.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn full(&self) -> Full {
        self.full
    }

    pub fn figures(&self) -> SpoolFigures {
        self.core().figures()
    }

    /// Of all batches, oldest first.
    pub fn numbers(&self) -> Vec<u64> {
        self.core().entries().map(|(number, _)| number).collect()
    }

    /// A batch, wherever it is.
    pub fn peek(&self, number: u64) -> Option<Arc<FrozenBatch>> {
        let entry = self.core().entry(number)?.clone();
        match &entry.memory {
            Some(batch) => Some(batch.clone()),
            None => self.load(&entry).ok(),
        }
    }

    /// Takes a batch in. `tainted` are places where it may be although it is not stored there.
    pub fn put(&self, batch: &Arc<FrozenBatch>, tainted: &mut Vec<Place>) -> Result<Kept, NoRoom> {
        let mut no_room = NoRoom::Memory;
        if let Some(disk) = &self.disk {
            let mut state = disk.state();
            match self.put_on_disk(disk, &mut state, batch, tainted) {
                Ok(()) => {
                    self.write_only_in_memory(disk, &mut state);
                    let crowd = state.unsynced() > MOST_UNSYNCED;
                    drop(state);
                    if crowd {
                        self.sync_all();
                    }
                    self.arrived.notify_one();
                    return Ok(Kept::Disk);
                }
                Err(NoRoom::Disk) => return Err(NoRoom::Disk),
                Err(problem) => no_room = problem,
            }
        }
        let mut core = self.core();
        if core.is_crowded() || !core.make_memory_room(batch.block.len() as u64) {
            return Err(no_room);
        }
        core.insert(Entry::new(batch, std::mem::take(tainted)), Some(batch), true);
        drop(core);
        self.arrived.notify_one();
        Ok(Kept::Memory)
    }

    /// Makes room by the loss of what is oldest; false if there is nothing that may be dropped.
    pub fn drop_oldest(&self, no_room: NoRoom) -> bool {
        let (reason, on_disk) = match no_room {
            NoRoom::Disk | NoRoom::Space => (LossReason::FullOldest, true),
            NoRoom::Memory => (LossReason::FullOldest, false),
            NoRoom::Failing => (LossReason::Error, false),
            // All others would not be enough.
            NoRoom::TooLarge => return false,
        };
        if on_disk
            && let Some(disk) = &self.disk
            && self.drop_oldest_segment(disk, reason)
        {
            return true;
        }
        let (number, books) = {
            let core = self.core();
            let Some(number) = core.oldest_only_in_memory() else { return false };
            (number, core.books_of(&[number]))
        };
        let lost = self.lose(number, reason);
        if lost {
            self.rescue(books);
        }
        lost
    }

    fn drop_oldest_segment(&self, disk: &Disk, reason: LossReason) -> bool {
        let mut state = disk.state();
        let (segment, books, leaving) = {
            let mut core = self.core();
            let Some((segment, numbers)) = core.oldest_segment() else { return false };
            let books = core.books_of(&numbers);
            let leaving = numbers.into_iter().filter_map(|number| core.lose(number, reason));
            (segment, books, leaving.collect::<Vec<_>>())
        };
        self.rescue(books);
        for leaving in leaving {
            self.follow_all(leaving);
        }
        if state.open_segment() == Some(segment) {
            let segment = disk.close(&mut state);
            self.closed(disk, segment);
        }
        true
    }

    /// Batches of the table `ledger` that make room are handed to whoever appends: what they say
    /// can be written down anew.
    fn rescue(&self, books: Vec<Entry>) {
        for entry in books {
            let batch = entry.memory.clone().map_or_else(|| self.load(&entry), Ok);
            match batch {
                Ok(batch) => self.core().dropped_books.push(batch),
                Err(error) => {
                    tracing::warn!("{} rows of the ledger are lost: {error}", entry.rows);
                }
            }
        }
    }

    /// A batch that was not taken in is dropped.
    pub fn drop_new(&self, batch: &Arc<FrozenBatch>, tainted: &[Place], reason: LossReason) {
        let mut core = self.core();
        core.note_loss(reason, &Contents::of(batch));
        if batch.table == Table::Ledger {
            core.dropped_books.push(batch.clone());
        }
        drop(core);
        if let Some(disk) = &self.disk {
            for place in tainted {
                self.note(disk, place.segment, &Note::Settled(batch.id), true);
            }
        }
    }

    /// A batch is done with.
    pub fn settle(&self, number: u64, how: Settled) {
        let leaving = self.core().settle(number, how);
        if let Some(leaving) = leaving {
            self.follow_all(leaving);
        }
    }

    /// A batch is lost; false if it was settled already.
    pub fn lose(&self, number: u64, reason: LossReason) -> bool {
        let leaving = self.core().lose(number, reason);
        let Some(leaving) = leaving else { return false };
        self.follow_all(leaving);
        true
    }

    /// A batch cannot be read back.
    pub fn lose_unreadable(&self, number: u64, problem: &io::Error) {
        let lost = {
            let mut core = self.core();
            let Some(entry) = core.entry(number).cloned() else { return };
            if entry.memory.is_some() {
                return;
            }
            for place in &entry.places {
                if let Some(book) = core.segments.get_mut(&place.segment) {
                    book.damaged = true;
                }
            }
            entry
        };
        tracing::warn!(
            "batch {} of {} rows cannot be read back from the spool and is lost: {problem}",
            lost.id,
            lost.rows
        );
        self.core().figures.corrupt += 1;
        self.lose(number, LossReason::Corrupt);
    }

    /// A batch was given back.
    pub fn give_back(&self, number: u64) {
        self.core().give_back(number);
    }

    /// Reads a batch back.
    pub fn load(&self, entry: &Entry) -> io::Result<Arc<FrozenBatch>> {
        let disk = self.disk.as_ref().ok_or(io::ErrorKind::NotFound)?;
        disk.read(entry).map(Arc::new)
    }

    /// Where a batch may be although it is not stored there comes first, and is synced: without
    /// the note there the next agent would call it lost.
    fn follow_all(&self, leaving: Leaving) {
        if let Some(disk) = &self.disk {
            let Leaving { id, unreadable, sure, after } = leaving;
            let note = if unreadable { Note::Lost(id) } else { Note::Settled(id) };
            let sure = |after: &&After| Some(after.segment()) == sure;
            for after in after.iter().filter(|after| !sure(after)) {
                self.follow(disk, *after, Some((&note, true)));
            }
            for after in after.iter().filter(sure) {
                self.follow(disk, *after, Some((&note, false)));
            }
        }
        self.room.notify_one();
    }

    /// Does what follows on disk; true if the segment is gone. The note may have to be synced.
    pub(super) fn follow(&self, disk: &Disk, after: After, note: Option<(&Note, bool)>) -> bool {
        if let (After::Remove(segment) | After::MoveAside(segment), Some((note, true))) =
            (after, note)
        {
            self.note(disk, segment, note, true);
        }
        let (segment, done) = match after {
            After::Note(segment) => {
                let Some((note, sync)) = note else { return false };
                self.note(disk, segment, note, sync);
                return false;
            }
            After::Remove(segment) => (segment, disk.remove(segment)),
            After::MoveAside(segment) => (segment, disk.move_aside(segment)),
        };
        match done {
            Ok(()) => {
                let mut core = self.core();
                let book = core.segments.remove(&segment);
                if matches!(after, After::MoveAside(_)) {
                    core.figures.damaged_octets += book.map_or(0, |book| book.octets);
                }
                true
            }
            Err(error) => {
                self.tell(&error);
                if let Some((note, sync)) = note {
                    self.note(disk, segment, note, sync);
                }
                false
            }
        }
    }

    pub(super) fn note(&self, disk: &Disk, segment: u64, note: &Note, sync: bool) {
        match disk.note(segment, note, sync) {
            Ok(octets) => {
                if let Some(book) = self.core().segments.get_mut(&segment) {
                    book.octets += octets;
                }
            }
            // Removed by another meanwhile, with all its batches.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                self.core().figures.note_errors += 1;
                self.tell(&error);
            }
        }
    }

    /// What was moved aside makes room when there is none.
    pub(super) fn remove_damaged(&self, disk: &Disk) {
        let Ok(names) = disk.files.list() else { return };
        for name in names {
            if Name::parse(&name) == Some(Name::Damaged) {
                tracing::warn!("{name} in {} is removed to make room", disk.files.name());
                if let Err(error) = disk.files.remove(&name) {
                    self.tell(&error);
                }
            }
        }
        self.core().figures.damaged_octets = 0;
    }

    pub(super) fn tell(&self, error: &io::Error) {
        let mut core = self.core();
        core.figures.write_errors += 1;
        core.figures.trouble = Some(error.to_string());
        drop(core);
        if self.failures.fetch_add(1, Ordering::Relaxed).is_multiple_of(TELL_EACH) {
            let name = self.disk.as_ref().map_or_else(String::new, |disk| disk.files.name());
            tracing::warn!(
                "the spool {name} fails: {error}; batches are held in memory until it works \
                 again"
            );
        }
    }
}
