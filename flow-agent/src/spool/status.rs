//! What a spool holds and has done, cheap to read at any time.

use std::sync::Arc;

use super::contents::{Contents, Losses};
use super::shared::Shared;
use crate::frozen::FrozenBatch;

/// A handle; clones share it. The default is of no spool, and says nothing.
#[derive(Clone, Debug, Default)]
pub struct SpoolStatus(Option<Arc<Shared>>);

impl SpoolStatus {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Some(shared.clone()))
    }

    /// The figures now; none if there is no spool.
    pub fn figures(&self) -> Option<SpoolFigures> {
        self.0.as_ref().map(|shared| shared.figures())
    }

    /// Octets of blocks that it takes, in memory or on the disk, whichever is less; 0 if there is
    /// no spool.
    pub fn room(&self) -> u64 {
        self.figures().map_or(0, |figures| {
            let disk = figures.dir.map_or(u64::MAX, |_| figures.max_octets);
            figures.memory_limit.min(disk)
        })
    }

    /// What is in it, whether somebody delivers it or not.
    pub fn contents(&self) -> Contents {
        let mut contents = Contents::default();
        if let Some(shared) = &self.0 {
            for (_, entry) in shared.core().entries() {
                contents.add(entry.rows, &entry.counts);
            }
        }
        contents
    }

    /// Looks at the batches that are there now, oldest first, until `look` answers false. Those
    /// that are on disk alone are read one by one, so it may take long: never call it where
    /// somebody waits. What is delivered meanwhile may be missed.
    pub fn visit(&self, mut look: impl FnMut(&FrozenBatch) -> bool) {
        let Some(shared) = &self.0 else { return };
        for number in shared.numbers() {
            if let Some(batch) = shared.peek(number)
                && !look(&batch)
            {
                return;
            }
        }
    }
}

/// What a spool holds and has done since the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpoolFigures {
    /// The folder; none: in memory only.
    pub dir: Option<String>,
    /// What happens when it is full.
    pub full: &'static str,
    /// When it syncs.
    pub fsync: &'static str,
    /// All files may take so much.
    pub max_octets: u64,
    /// Blocks in memory may take so much.
    pub memory_limit: u64,
    /// Batches that are in it.
    pub batches: u64,
    /// Their rows.
    pub rows: u64,
    /// Of the batches, those that are being delivered.
    pub out: u64,
    /// Of the batches, those that the disk does not have.
    pub only_in_memory: u64,
    /// Blocks in memory.
    pub memory_octets: u64,
    /// All files.
    pub disk_octets: u64,
    /// Of them, those that were moved aside.
    pub damaged_octets: u64,
    /// Segment files.
    pub segments: u64,
    /// When the oldest batch was frozen, Unix seconds.
    pub oldest_exported_at: Option<u32>,
    /// Batches taken in by this agent.
    pub appended: u64,
    /// Batches that were there at the start.
    pub recovered: u64,
    /// Batches that the store took.
    pub acknowledged: u64,
    /// Batches that went to the quarantine.
    pub quarantined: u64,
    /// What was lost, by reason.
    pub lost: Losses,
    /// Batches that could not be read back, at the start or later.
    pub corrupt: u64,
    /// Writes, and makings and removals of files, that failed.
    pub write_errors: u64,
    /// Notes of settled batches that could not be written: the next agent may find such a batch
    /// doubtful or call it lost.
    pub note_errors: u64,
    /// Syncs that failed.
    pub sync_errors: u64,
    /// Syncs of a file.
    pub syncs: u64,
    /// How long they took, in seconds.
    pub sync_seconds: f64,
    /// What the disk last failed with, until it works again.
    pub trouble: Option<String>,
}
