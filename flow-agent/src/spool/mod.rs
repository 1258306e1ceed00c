//! The spool: frozen batches enter by [`SpoolWriter::append`], leave by [`SpoolReader::next`], and
//! are gone when the store has them ([`Pending::acknowledge`]).
//!
//! It holds that a batch which it called stored is handed out, once and in order (later if it
//! cannot be read now), until it is acknowledged, also by the next agent; that one which may be on
//! a shard that is not named any more is held back; and that a batch which it cannot keep or read
//! back is counted, with the reason, in rows and in packets and octets by interface ([`Losses`]).
//!
//! # Files
//! A segment `NNNNNNNN.spool` has a head, sums, and records: a header, then the batch's block. Its
//! index `NNNNNNNN.index` has a copy of each header and a note for each batch that is done with.
//! Both are only appended to, but for the sums, which are written in turn to two places and say
//! what all records together hold. Every piece has a checksum. Blocks are not compressed: lz4
//! would cost the agent several times what the write does (docs/performance.md). A segment whose
//! batches are all done with is removed; one with something in it that is not what was written is
//! renamed to `*.damaged` instead, and removed, with a warning, only when there is no room.
//! A number is never used twice by one agent, and nothing is appended to an old segment.
//! A file that the system refuses to open may be whole: it is never called damaged.
//!
//! # Which damage still gives an exact figure
//! - A block that is changed or cut: its header has the figure, by interface.
//! - A header that is changed, cut, or gone with its whole segment: the index has it.
//! - An index that is changed, cut or gone: the segment has the headers. Batches whose notes are
//!   lost are handed out once more, in doubt.
//! - Both copies of some headers: what the sums have beyond the other records. It is exact, and
//!   by interface as far as 4 KiB go; interfaces beyond that are one, `(former)`.
//! - A segment that is damaged in all of these places, in the same batches: what is left is handed
//!   out, the rest is not known.
//!
//! Three things are not exact. After a power cut under [`Fsync::Interval`] or [`Fsync::Never`] a
//! batch of the last moments may be called lost although the store has it, if its header came to
//! the disk and its note did not; the same after a note could not be written (`note_errors`) of a
//! batch that was in memory because its write had failed. And a loss that was told is noted at
//! once: an agent that dies before it has stored its ledger takes that line with it.
//!
//! # Failing disks
//! A write that fails closes its segment, which is cut back to what it had; the batch is tried
//! once more in a new one, then held in memory. After a failed sync nothing of that segment counts
//! as stored: what is not acknowledged is written anew, or held in memory. What is in memory alone
//! goes to the disk with the next batch that does. A disk is full, too, when less than a twentieth
//! of it (at most 1 GiB) would be left to others. When there is no room in memory either, the
//! policy decides ([`Full`]); it drops whole segments of batches, never one that is out. What the
//! dropped ones of the table `ledger` say is written down anew ([`Appended::books`]).
//!
//! # Memory
//! Blocks take `memory_octets`, or one batch if that is more; entries a few hundred octets each,
//! for at most 262,144 batches. Up to 8 closed segments may wait to be synced.

pub mod file_system;
pub mod fuzz;

mod book;
mod codec;
mod contents;
mod core;
mod disk;
mod error;
mod folder;
mod index;
mod pending;
mod reader;
mod record;
mod recovery;
mod scan;
mod segment;
mod settings;
mod shards;
mod shared;
mod status;
mod storing;
mod syncer;
mod writer;

pub use contents::{Contents, LossReason, Losses};
pub use error::SpoolError;
pub use folder::Folder;
pub use pending::Pending;
pub use reader::SpoolReader;
pub use recovery::{Recovered, Spool};
pub use settings::{Fsync, Full, SpoolSettings, Waits};
pub use status::{SpoolFigures, SpoolStatus};
pub use writer::{Appended, Kept, SpoolWriter};

#[cfg(test)]
mod tests;
