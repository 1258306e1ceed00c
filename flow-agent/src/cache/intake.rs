//! The intake: gives each shard its part of the kernel tables, and what is in no table.
//!
//! Shards read their part in place. Flows that had to leave a full set, overflow rows and what
//! a killed agent left are copied into batches for their shards, which are recycled.

use std::sync::Weak;

use crossbeam::channel::{Receiver, Sender};

use super::entry_batch::EntryBatch;
use super::shards::{Message, send};
use crate::drain::{Destination, FlowEntry, Interval, Part, Partition};

/// Where a drain's flows go in.
pub struct Intake {
    shards: Vec<Sender<Message>>,
    /// Each shard's thread has the other end.
    living: Vec<Weak<()>>,
    /// What each shard will be sent next.
    batches: Vec<EntryBatch>,
    spare: Receiver<EntryBatch>,
    partition: Partition,
}

impl Intake {
    pub(super) fn new(
        shards: Vec<Sender<Message>>,
        living: Vec<Weak<()>>,
        spare: Receiver<EntryBatch>,
        partition: Partition,
    ) -> Self {
        let batches = shards.iter().map(|_| EntryBatch::new()).collect();
        Self { shards, living, batches, spare, partition }
    }

    fn send(&mut self, shard: usize, interval: &Interval) {
        let next = self.spare.try_recv().unwrap_or_else(|_| EntryBatch::new());
        let batch = std::mem::replace(&mut self.batches[shard], next);
        send(&self.shards[shard], Message::Update { batch, interval: *interval });
    }
}

impl Destination for Intake {
    fn parts(&self) -> usize {
        self.partition.parts()
    }

    fn part(&mut self, part: Part) {
        send(&self.shards[part.number], Message::Read { part });
    }

    fn is_gone(&self, part: usize) -> bool {
        self.living[part].strong_count() == 0
    }

    fn flow(&mut self, entry: FlowEntry<'_>, interval: &Interval) {
        let shard = self.partition.part(&entry.hot.key, entry.tunnel);
        let batch = &mut self.batches[shard];
        batch.push(entry);
        if batch.is_full() {
            self.send(shard, interval);
        }
    }

    fn flush(&mut self, interval: &Interval) {
        for shard in 0..self.shards.len() {
            if !self.batches[shard].is_empty() {
                self.send(shard, interval);
            }
        }
    }
}
