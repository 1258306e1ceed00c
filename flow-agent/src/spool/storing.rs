//! What goes to the files of a spool, and what follows when they fail.
//!
//! It holds that a batch is called stored by a file that took it whole; what such a file may have
//! lost since, by a failed sync, is written anew or held in memory.

use std::io;
use std::sync::Arc;

use rustix::io::Errno;

use super::book::After;
use super::core::{Entry, Place};
use super::disk::{Changes, Disk, DiskState, need};
use super::index::Note;
use super::shared::{NoRoom, Shared};
use crate::failpoint::failpoint;
use crate::frozen::FrozenBatch;

impl Shared {
    /// Takes a batch in, on disk.
    pub(super) fn put_on_disk(
        &self,
        disk: &Disk,
        state: &mut DiskState,
        batch: &Arc<FrozenBatch>,
        tainted: &mut Vec<Place>,
    ) -> Result<(), NoRoom> {
        const ATTEMPTS: u32 = 2;
        for _ in 0..ATTEMPTS {
            self.check_room(disk, batch)?;
            match self.write(disk, state, batch, tainted) {
                Ok(place) => {
                    failpoint!("spool::written");
                    let mut places = vec![place];
                    places.append(tainted);
                    self.core().insert(Entry::new(batch, places), Some(batch), false);
                    return Ok(());
                }
                Err(error) if is_full(&error) => return Err(NoRoom::Space),
                Err(_) => {}
            }
        }
        Err(NoRoom::Failing)
    }

    fn check_room(&self, disk: &Disk, batch: &FrozenBatch) -> Result<(), NoRoom> {
        let need = need(batch);
        let (crowded, used, aside) = {
            let core = self.core();
            (core.is_crowded(), core.disk(), core.figures.damaged_octets)
        };
        if need > disk.max_octets {
            return Err(NoRoom::TooLarge);
        }
        if crowded {
            return Err(NoRoom::Disk);
        }
        if aside > 0 && used + aside + need > disk.max_octets {
            self.remove_damaged(disk);
        }
        if used + need > disk.max_octets {
            return Err(NoRoom::Disk);
        }
        if !disk.has_space(need) {
            self.tell(&Errno::NOSPC.into());
            return Err(NoRoom::Space);
        }
        Ok(())
    }

    /// Writes a batch, and does what follows from a failure.
    fn write(
        &self,
        disk: &Disk,
        state: &mut DiskState,
        batch: &FrozenBatch,
        tainted: &mut Vec<Place>,
    ) -> io::Result<Place> {
        let mut changes = Changes::default();
        let written = disk.write(state, batch, &mut changes);
        let at_risk = changes.unsafe_segment;
        self.note_syncs(&changes);
        if let Some(stored) = &changes.tainted {
            let mut core = self.core();
            let book = core.segments.entry(stored.place.segment).or_default();
            (book.octets, book.open) = (stored.octets, true);
            tainted.push(stored.place);
        }
        let result = match written {
            Ok(stored) => {
                let mut core = self.core();
                let book = core.segments.entry(stored.place.segment).or_default();
                (book.octets, book.open) = (stored.octets, true);
                core.figures.trouble = None;
                Ok(stored.place)
            }
            Err(error) => {
                self.tell(&error);
                Err(error)
            }
        };
        for segment in changes.closed {
            // Where the files are gone for sure, the batch is not: else they may come back with a
            // power cut, and it would be called lost.
            if self.closed(disk, segment)
                && tainted.iter().any(|place| place.segment == segment)
                && disk.files.sync_folder().is_ok()
            {
                tainted.retain(|place| place.segment != segment);
            }
        }
        if let Some(segment) = at_risk {
            self.core().figures.sync_errors += 1;
            self.write_anew(disk, state, segment);
        }
        result
    }

    /// Nothing is written to a segment any more; true if it is gone.
    pub(super) fn closed(&self, disk: &Disk, segment: u64) -> bool {
        let after = {
            let mut core = self.core();
            let book = core.segments.entry(segment).or_default();
            book.open = false;
            book.closed(segment)
        };
        after.is_some_and(|after| self.follow(disk, after, None))
    }

    /// The sync of a segment failed: the system may have dropped what it had, and another sync
    /// would prove nothing. What is not settled is written again elsewhere, or held.
    fn write_anew(&self, disk: &Disk, state: &mut DiskState, segment: u64) {
        let numbers = self.core().only_there(segment);
        let mut works = true;
        for number in numbers {
            let Some(batch) = self.peek(number) else { continue };
            works = works && self.move_to_disk(disk, state, number, &batch, true);
            if !works && !self.core().hold(number, &batch) {
                tracing::warn!(
                    "batch {} may not outlive a power cut: its sync failed, and there is no room \
                     in memory",
                    batch.id
                );
            }
        }
    }

    /// Writes an entry; false if that fails. A failed sync in here concerns this entry alone when
    /// it is `last`, because its segment was begun for it.
    fn move_to_disk(
        &self,
        disk: &Disk,
        state: &mut DiskState,
        number: u64,
        batch: &FrozenBatch,
        last: bool,
    ) -> bool {
        if self.check_room(disk, batch).is_err() && !last {
            return false;
        }
        let mut changes = Changes::default();
        let written = disk.write(state, batch, &mut changes);
        self.note_syncs(&changes);
        let stored = match &written {
            Ok(stored) => Some(stored),
            Err(error) => {
                self.tell(error);
                changes.tainted.as_ref()
            }
        };
        if let Some(stored) = stored {
            let mut core = self.core();
            let book = core.segments.entry(stored.place.segment).or_default();
            (book.octets, book.open) = (stored.octets, true);
            if written.is_ok() {
                core.figures.trouble = None;
                if !core.move_to(number, stored.place) {
                    // Settled meanwhile, and so it is here.
                    drop(core);
                    let note = Note::Settled(batch.id);
                    self.note(disk, stored.place.segment, &note, false);
                }
            } else {
                core.taint(number, stored.place);
            }
        }
        for segment in changes.closed {
            self.closed(disk, segment);
        }
        if let Some(segment) = changes.unsafe_segment {
            self.core().figures.sync_errors += 1;
            // What came here before this entry is at risk, too.
            let others = self.core().only_there(segment);
            for number in others {
                if let Some(batch) = self.peek(number) {
                    self.core().hold(number, &batch);
                }
            }
        }
        written.is_ok()
    }

    /// Writes what is in memory alone, as far as that works.
    pub(super) fn write_only_in_memory(&self, disk: &Disk, state: &mut DiskState) {
        let numbers = self.core().only_in_memory();
        for number in numbers {
            let Some(batch) = self.peek(number) else { continue };
            if !self.move_to_disk(disk, state, number, &batch, false) {
                return;
            }
        }
    }

    /// See [`Shared::write_only_in_memory`].
    pub fn write_what_is_only_in_memory(&self) {
        if let Some(disk) = &self.disk {
            self.write_only_in_memory(disk, &mut disk.state());
        }
    }

    /// Syncs what was written and is not settled yet, and tries again what failed before.
    pub fn sync_all(&self) {
        let Some(disk) = &self.disk else { return };
        let unsynced = disk.state().take_unsynced();
        let (mut failed, mut fresh, mut changes) = (Vec::new(), false, Changes::default());
        for writing in unsynced {
            let segment = writing.segment;
            let live = self.core().segments.get(&segment).is_some_and(|book| !book.live.is_empty());
            if !live || !disk.syncs() {
                continue;
            }
            fresh |= writing.is_fresh();
            if let Err(error) = writing.sync(true, &mut changes.syncs) {
                self.tell(&error);
                failed.push(segment);
            }
        }
        self.note_syncs(&changes);
        if fresh && let Err(error) = disk.files.sync_folder() {
            self.tell(&error);
        }
        let mut state = disk.state();
        for segment in failed {
            self.core().figures.sync_errors += 1;
            if state.open_segment() == Some(segment) {
                let segment = disk.close(&mut state);
                self.closed(disk, segment);
            }
            self.write_anew(disk, &mut state, segment);
        }
        self.write_only_in_memory(disk, &mut state);
        drop(state);
        self.remove_again(disk);
    }

    /// Segments that could not be removed when they should have been.
    fn remove_again(&self, disk: &Disk) {
        let spent: Vec<After> = {
            let core = self.core();
            core.segments.iter().filter_map(|(segment, book)| book.closed(*segment)).collect()
        };
        for after in spent {
            self.follow(disk, after, None);
        }
    }

    fn note_syncs(&self, changes: &Changes) {
        let mut core = self.core();
        core.figures.syncs += changes.syncs.len() as u64;
        let seconds: f64 = changes.syncs.iter().map(std::time::Duration::as_secs_f64).sum();
        core.figures.sync_seconds += seconds;
    }
}

/// True if a disk is full, rather than broken.
fn is_full(error: &io::Error) -> bool {
    let full = [Errno::NOSPC, Errno::DQUOT, Errno::FBIG];
    full.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
