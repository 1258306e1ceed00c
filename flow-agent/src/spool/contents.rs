//! How much is in batches: what segments hold, what waits, what was lost and why.

use std::collections::BTreeMap;
use std::sync::Arc;

use flow_common::Count;

use crate::frozen::FrozenBatch;
use crate::ledger::{Counts, Entry, FORMER_INTERFACES, LostRecord};

/// Batches, their rows, and the packets and octets of their flows by interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// How many batches.
    pub batches: u64,
    /// Rows of all tables.
    pub rows: u64,
    /// Of the flows in them.
    pub counts: BTreeMap<Arc<str>, Count>,
}

impl Contents {
    /// Of one batch.
    pub fn of(batch: &FrozenBatch) -> Self {
        let mut contents = Self::default();
        contents.add(batch.rows, &batch.counts);
        contents
    }

    /// One batch more.
    pub fn add(&mut self, rows: u32, counts: &[(Arc<str>, Count)]) {
        self.batches += 1;
        self.rows += u64::from(rows);
        for (interface, count) in counts {
            self.counts.entry(interface.clone()).or_default().merge(*count);
        }
    }

    /// All of these more.
    pub fn merge(&mut self, others: &Self) {
        self.batches += others.batches;
        self.rows += others.rows;
        for (interface, count) in &others.counts {
            self.counts.entry(interface.clone()).or_default().merge(*count);
        }
    }

    /// Over all interfaces.
    pub fn total(&self) -> Count {
        let mut total = Count::default();
        for count in self.counts.values() {
            total.merge(*count);
        }
        total
    }

    /// True if there is nothing.
    pub fn is_empty(&self) -> bool {
        self.batches == 0
    }

    /// These less `known`, whose interfaces may be told apart further than these are; none if
    /// `known` has all of these.
    pub(super) fn less(&self, known: &Self) -> Option<Self> {
        if self.batches <= known.batches {
            return None;
        }
        let mut known_counts: BTreeMap<&str, Count> = BTreeMap::new();
        for (name, count) in &known.counts {
            let name = if self.counts.contains_key(name) { name } else { FORMER_INTERFACES };
            known_counts.entry(name).or_default().merge(*count);
        }
        let counts = self.counts.iter().map(|(name, count)| {
            let known = known_counts.get(&**name).copied().unwrap_or_default();
            let packets = count.packets.saturating_sub(known.packets);
            (name.clone(), Count { packets, octets: count.octets.saturating_sub(known.octets) })
        });
        Some(Self {
            batches: self.batches - known.batches,
            rows: self.rows.saturating_sub(known.rows),
            counts: counts.filter(|(_, count)| *count != Count::default()).collect(),
        })
    }
}

/// Why batches are not in the spool any more and not in the store either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LossReason {
    /// They were the oldest when there was no room.
    FullOldest,
    /// There was no room when they came.
    FullNewest,
    /// The disk failed, and there was no room in memory.
    Error,
    /// What is in the file is not what was written.
    Corrupt,
    /// The file ends before they do: an agent or a host died while they were written.
    Torn,
    /// They were in memory alone when the agent ended.
    Undelivered,
}

impl LossReason {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::FullOldest,
        Self::FullNewest,
        Self::Error,
        Self::Corrupt,
        Self::Torn,
        Self::Undelivered,
    ];

    /// The label in ledger and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::FullOldest => "spool_full_oldest",
            Self::FullNewest => "spool_full_newest",
            Self::Error => "spool_error",
            Self::Corrupt => "spool_corrupt",
            Self::Torn => "spool_torn",
            Self::Undelivered => "undelivered",
        }
    }
}

/// What was lost, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses(BTreeMap<LossReason, Contents>);

impl Losses {
    /// More was lost.
    pub fn add(&mut self, reason: LossReason, lost: &Contents) {
        if !lost.is_empty() {
            self.0.entry(reason).or_default().merge(lost);
        }
    }

    /// All of these more.
    pub fn merge(&mut self, others: &Self) {
        for (reason, lost) in &others.0 {
            self.add(*reason, lost);
        }
    }

    /// By reason.
    pub fn iter(&self) -> impl Iterator<Item = (LossReason, &Contents)> {
        self.0.iter().map(|(reason, lost)| (*reason, lost))
    }

    /// As the ledger has them.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::new();
        for (reason, lost) in self.iter() {
            for (interface, count) in &lost.counts {
                let entry = Entry::LostRecord(LostRecord::Spool(reason));
                counts.entry((interface.clone(), entry)).or_default().merge(*count);
            }
        }
        counts
    }

    /// For this reason.
    pub fn of(&self, reason: LossReason) -> Contents {
        self.0.get(&reason).cloned().unwrap_or_default()
    }

    /// For any reason.
    pub fn total(&self) -> Contents {
        let mut total = Contents::default();
        for lost in self.0.values() {
            total.merge(lost);
        }
        total
    }

    /// True if nothing was.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
