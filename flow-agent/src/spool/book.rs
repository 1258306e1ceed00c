//! The books of one segment, and what follows on disk when a batch of it is done with.

use std::collections::BTreeSet;

use uuid::Uuid;

/// A segment file.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// With its index.
    pub octets: u64,
    /// Entries that it has and that are not settled.
    pub live: BTreeSet<u64>,
    /// It is still written to.
    pub open: bool,
    /// Something in it is not what was written: it is kept for a person to look at.
    pub damaged: bool,
}

/// What to do with a segment after one of its entries was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Note in its index that the entry is.
    Note(u64),
    /// It has nothing any more: remove it.
    Remove(u64),
    /// The same, but it is damaged.
    MoveAside(u64),
}

/// An entry that was settled, and what follows on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaving {
    pub id: Uuid,
    /// It cannot be read back.
    pub unreadable: bool,
    /// The segment that has it for sure.
    pub sure: Option<u64>,
    pub after: Vec<After>,
}

impl After {
    /// Of which segment.
    pub fn segment(self) -> u64 {
        match self {
            Self::Note(segment) | Self::Remove(segment) | Self::MoveAside(segment) => segment,
        }
    }
}

impl Book {
    /// What follows when an entry of it was settled.
    pub fn after(&self, segment: u64) -> After {
        if !self.live.is_empty() || self.open {
            After::Note(segment)
        } else if self.damaged {
            After::MoveAside(segment)
        } else {
            After::Remove(segment)
        }
    }

    /// What follows when it is not written to any more.
    pub fn closed(&self, segment: u64) -> Option<After> {
        let after = self.after(segment);
        (!matches!(after, After::Note(_))).then_some(after)
    }
}
