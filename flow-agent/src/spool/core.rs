//! The books of a spool: which batches wait, are out or settled, where each is, and what is held.
//!
//! No file is touched here and nothing waits. It holds that a batch is handed out once, in the
//! order of arrival; that one which is out is never dropped; and that what leaves without having
//! been settled by the store is in the losses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flow_common::Count;
use uuid::Uuid;

use super::book::{After, Book, Leaving};
use super::contents::{Contents, LossReason, Losses};
use super::status::SpoolFigures;
use crate::frozen::{FrozenBatch, Table};

/// Batches that may wait, however small they are: their entries take a few hundred octets each.
pub const MOST_BATCHES: usize = 1 << 18;

/// Where the block of a batch is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The segment's number.
    pub segment: u64,
    /// Of its block, in octets.
    pub offset: u64,
    /// Of its block.
    pub checksum: u32,
}

/// How far a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It will be handed out.
    Waiting,
    /// Somebody delivers it.
    Out,
    /// It was given back or passed over: the next agent has it, if this one does not come to it.
    Left,
}

/// How a batch is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The store has it.
    Acknowledged,
    /// It is in the quarantine.
    Quarantined,
    /// It is lost, and in the losses.
    Lost,
    /// The same, because it cannot be read back.
    Unreadable,
}

/// A batch in the spool, without its block unless that is held in memory.
#[derive(Clone, Debug)]
pub struct Entry {
    pub id: Uuid,
    pub table: Table,
    pub exported_at: u32,
    pub rows: u32,
    /// Length of its block.
    pub octets: u32,
    pub counts: Vec<(Arc<str>, Count)>,
    /// Several where one may be bad; none for a batch that is in memory alone.
    pub places: Vec<Place>,
    pub memory: Option<Arc<FrozenBatch>>,
    pub state: State,
    /// It may have been sent by an agent before this one.
    pub in_doubt: bool,
}

impl Entry {
    /// One of this agent's batches.
    pub fn new(batch: &Arc<FrozenBatch>, places: Vec<Place>) -> Self {
        Self {
            id: batch.id,
            table: batch.table,
            exported_at: batch.exported_at,
            rows: batch.rows,
            octets: batch.block.len() as u32,
            counts: batch.counts.clone(),
            places,
            memory: None,
            state: State::Waiting,
            in_doubt: false,
        }
    }
}

/// The books.
#[derive(Debug, Default)]
pub struct Core {
    entries: BTreeMap<u64, Entry>,
    next_number: u64,
    /// Entries before it are not waiting.
    cursor: u64,
    /// Waiting, in memory and on disk.
    cached: BTreeSet<u64>,
    /// In memory and in no place that can be relied on.
    only_in_memory: BTreeSet<u64>,
    pub segments: BTreeMap<u64, Book>,
    memory_limit: u64,
    /// Blocks that are held in memory, in octets.
    memory: u64,
    /// Not yet told.
    pub losses: Losses,
    /// Batches of the table `ledger` among them that made room, not yet told either.
    pub dropped_books: Vec<Arc<FrozenBatch>>,
    pub writer_gone: bool,
    pub reader_gone: bool,
    pub figures: SpoolFigures,
}

impl Core {
    /// Empty books; blocks may take so many octets of memory.
    pub fn new(memory_limit: u64, figures: SpoolFigures) -> Self {
        Self { memory_limit, figures, ..Self::default() }
    }

    /// Takes an entry in; `batch` is held in memory if there is room for it, or if it is `alone`
    /// there. Answers its number.
    pub fn insert(
        &mut self,
        mut entry: Entry,
        batch: Option<&Arc<FrozenBatch>>,
        alone: bool,
    ) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        for place in &entry.places {
            self.segments.entry(place.segment).or_default().live.insert(number);
        }
        let room = self.memory + u64::from(entry.octets) <= self.memory_limit;
        if let Some(batch) = batch
            && (alone || room)
        {
            self.memory += u64::from(entry.octets);
            entry.memory = Some(batch.clone());
            if alone {
                self.only_in_memory.insert(number);
            } else {
                self.cached.insert(number);
            }
        }
        self.figures.rows += u64::from(entry.rows);
        self.entries.insert(number, entry);
        number
    }

    /// Entries that a segment has, and no other for sure.
    pub fn only_there(&self, segment: u64) -> Vec<u64> {
        let live = self.segments.get(&segment).into_iter().flat_map(|book| &book.live);
        let only = |number: &&u64| {
            let first = self.entries.get(number).and_then(|entry| entry.places.first());
            first.is_some_and(|first| first.segment == segment)
        };
        live.filter(only).copied().collect()
    }

    /// The oldest entry that waits.
    pub fn next_waiting(&self) -> Option<(u64, &Entry)> {
        self.entries.range(self.cursor..).next().map(|(number, entry)| (*number, entry))
    }

    /// An entry.
    pub fn entry(&self, number: u64) -> Option<&Entry> {
        self.entries.get(&number)
    }

    /// All entries, oldest first.
    pub fn entries(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.entries.iter().map(|(number, entry)| (*number, entry))
    }

    /// Entries that are in memory alone, oldest first.
    pub fn only_in_memory(&self) -> Vec<u64> {
        self.only_in_memory.iter().copied().collect()
    }

    /// The oldest waiting entry stays in the spool, and others are handed out; it has to be asked
    /// for by its number.
    pub fn pass_over(&mut self, number: u64) {
        if self.next_waiting().is_some_and(|(oldest, _)| oldest == number) {
            self.cursor = number + 1;
            self.give_back(number);
        }
    }

    /// The oldest waiting entry, or one that was passed over, is out now, with its block; false
    /// if it is neither.
    pub fn hand_out(&mut self, number: u64, batch: &Arc<FrozenBatch>) -> bool {
        let oldest = self.next_waiting().is_some_and(|(oldest, _)| oldest == number);
        let passed_over = self.entry(number).is_some_and(|entry| entry.state == State::Left);
        if !oldest && !passed_over {
            return false;
        }
        self.cursor = self.cursor.max(number + 1);
        self.cached.remove(&number);
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.state = State::Out;
            if entry.memory.is_none() {
                self.memory += u64::from(entry.octets);
                entry.memory = Some(batch.clone());
            }
        }
        true
    }

    /// An entry that was out is not delivered by this agent.
    pub fn give_back(&mut self, number: u64) {
        let alone = self.only_in_memory.contains(&number);
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.state = State::Left;
            if !alone && entry.memory.take().is_some() {
                self.memory -= u64::from(entry.octets);
            }
        }
    }

    /// An entry is done with; none if it was already.
    pub fn settle(&mut self, number: u64, how: Settled) -> Option<Leaving> {
        let entry = self.entries.remove(&number)?;
        self.cached.remove(&number);
        let alone = self.only_in_memory.remove(&number);
        if entry.memory.is_some() {
            self.memory -= u64::from(entry.octets);
        }
        let figures = &mut self.figures;
        figures.rows -= u64::from(entry.rows);
        match how {
            Settled::Acknowledged => figures.acknowledged += 1,
            Settled::Quarantined => figures.quarantined += 1,
            Settled::Lost | Settled::Unreadable => {}
        }
        let mut after: Vec<After> = Vec::new();
        for place in &entry.places {
            let segment = place.segment;
            // An entry may have two places in one segment.
            if let Some(book) = self.segments.get_mut(&segment)
                && book.live.remove(&number)
            {
                after.push(book.after(segment));
            }
        }
        let sure = entry.places.first().filter(|_| !alone).map(|place| place.segment);
        Some(Leaving { id: entry.id, unreadable: how == Settled::Unreadable, sure, after })
    }

    /// As [`Core::settle`], and it is in the losses.
    pub fn lose(&mut self, number: u64, reason: LossReason) -> Option<Leaving> {
        let entry = self.entries.get(&number)?;
        let mut lost = Contents::default();
        lost.add(entry.rows, &entry.counts);
        self.note_loss(reason, &lost);
        let unreadable = reason == LossReason::Corrupt;
        self.settle(number, if unreadable { Settled::Unreadable } else { Settled::Lost })
    }

    /// Something that is in no entry was lost.
    pub fn note_loss(&mut self, reason: LossReason, lost: &Contents) {
        self.losses.add(reason, lost);
        self.figures.lost.add(reason, lost);
    }

    /// The disk has an entry now, for sure; false if it was settled meanwhile. Its other places
    /// stay: whoever settles it settles it there, too.
    pub fn move_to(&mut self, number: u64, place: Place) -> bool {
        let Some(entry) = self.entries.get_mut(&number) else { return false };
        entry.places.insert(0, place);
        self.segments.entry(place.segment).or_default().live.insert(number);
        if self.only_in_memory.remove(&number) {
            match entry.state {
                State::Waiting => drop(self.cached.insert(number)),
                State::Out => {}
                State::Left => {
                    if entry.memory.take().is_some() {
                        self.memory -= u64::from(entry.octets);
                    }
                }
            }
        }
        true
    }

    /// An entry may be there, too, although it is not stored there.
    pub fn taint(&mut self, number: u64, place: Place) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.places.push(place);
            self.segments.entry(place.segment).or_default().live.insert(number);
        }
    }

    /// The disk does not have this entry for sure; `batch` is what it is. False if there is no
    /// room for it in memory.
    pub fn hold(&mut self, number: u64, batch: &Arc<FrozenBatch>) -> bool {
        let Some(entry) = self.entries.get(&number) else { return true };
        if entry.memory.is_none() {
            if !self.make_memory_room(u64::from(batch.block.len() as u32)) {
                return false;
            }
            self.memory += batch.block.len() as u64;
            if let Some(entry) = self.entries.get_mut(&number) {
                entry.memory = Some(batch.clone());
            }
        }
        self.cached.remove(&number);
        self.only_in_memory.insert(number);
        true
    }

    /// Lets go of what the disk has, too, so that so many octets fit into memory. The newest
    /// first: the oldest is needed next.
    pub fn make_memory_room(&mut self, octets: u64) -> bool {
        while self.memory > 0 && self.memory + octets > self.memory_limit {
            let Some(number) = self.cached.pop_last() else { return false };
            if let Some(entry) = self.entries.get_mut(&number)
                && entry.memory.take().is_some()
            {
                self.memory -= u64::from(entry.octets);
            }
        }
        true
    }

    /// The oldest waiting entry that is in memory alone.
    pub fn oldest_only_in_memory(&self) -> Option<u64> {
        let droppable = |number: &&u64| self.droppable(**number);
        self.only_in_memory.iter().find(droppable).copied()
    }

    /// The oldest segment none of whose entries is out, with its entries.
    pub fn oldest_segment(&self) -> Option<(u64, Vec<u64>)> {
        self.segments
            .iter()
            .filter(|(_, book)| !book.live.is_empty())
            .find(|(_, book)| book.live.iter().all(|number| self.droppable(*number)))
            .map(|(segment, book)| (*segment, book.live.iter().copied().collect()))
    }

    /// Those of these entries that are of the table `ledger` and in no doubt.
    pub fn books_of(&self, numbers: &[u64]) -> Vec<Entry> {
        let entries = numbers.iter().filter_map(|number| self.entries.get(number));
        let is_book =
            |entry: &&Entry| entry.table == Table::Ledger && entry.state == State::Waiting;
        entries.filter(is_book).cloned().collect()
    }

    fn droppable(&self, number: u64) -> bool {
        self.entries.get(&number).is_none_or(|entry| entry.state != State::Out)
    }

    /// True if no more entries may be taken in.
    pub fn is_crowded(&self) -> bool {
        self.entries.len() >= MOST_BATCHES
    }

    /// All files, in octets.
    pub fn disk(&self) -> u64 {
        self.segments.values().map(|book| book.octets).sum()
    }

    /// The figures now.
    pub fn figures(&self) -> SpoolFigures {
        let out = self.entries.range(..self.cursor);
        let out = out.filter(|(_, entry)| entry.state == State::Out).count();
        SpoolFigures {
            batches: self.entries.len() as u64,
            out: out as u64,
            memory_octets: self.memory,
            disk_octets: self.disk() + self.figures.damaged_octets,
            segments: self.segments.len() as u64,
            only_in_memory: self.only_in_memory.len() as u64,
            oldest_exported_at: self.entries.values().next().map(|entry| entry.exported_at),
            ..self.figures.clone()
        }
    }
}
