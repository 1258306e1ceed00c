//! The drain: flips the generation, waits, and reads what the kernel counted.
//!
//! Enters: the tables of `attach`. Leaves: [`FlowEntry`]s, and a [`Balance`] for
//! each interface. It holds that a generation is read only after every program
//! that could write it has ended, so nothing is lost or counted twice.

mod balance;
mod clock;
mod entry;
mod generation;
mod journal;
mod leftover;
mod look;
mod overflow;
mod partition;
mod sets;
mod suspend;
mod tables;

pub use balance::Balance;
pub use clock::KernelClock;
pub use entry::FlowEntry;
pub use generation::{Drain, Drained, Flipped, Interval, own_connections};
pub use leftover::Leftover;
pub use look::{Look, SeenFlow};
pub use partition::Partition;
pub use sets::{Destination, Here, Part};
pub use tables::FillLevel;

use aya::maps::MapError;
use aya::programs::ProgramError;

use crate::Exit;

/// Why the kernel tables cannot be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message says what each field is")]
pub enum DrainError {
    /// A map is missing or has another shape than expected.
    #[error("the kernel's flow tables cannot be used: {problem}; this is a bug, please report it")]
    Map { problem: String },
    /// The tables of a dead agent are of another kind.
    #[error("they have layout {found}, this agent knows {known}")]
    Layout { found: u32, known: u32 },
    /// Programs of a dead agent count in its tables.
    #[error(
        "programs that it left attached still count in them: `tc qdisc del dev INTERFACE clsact` \
         detaches them (`bpftool net` lists them); then start again"
    )]
    Written,
    /// The kernel does not say whether programs count in the tables of a dead agent.
    #[error(
        "the kernel does not say whether programs still count in them ({source}); before Linux \
         6.6 that takes CAP_SYS_ADMIN"
    )]
    Programs { source: std::io::Error },
    /// A table cannot be mapped into memory.
    #[error(
        "the kernel's {map} table ({bytes} bytes) cannot be mapped: {source}; lower table_memory_mib"
    )]
    Mapping { map: &'static str, bytes: u64, source: std::io::Error },
    /// The kernel's clocks cannot be read.
    #[error(
        "the kernel's clock cannot be read by a test run: {problem}; Linux 6.1 or later is needed"
    )]
    Clock { problem: String },
}

impl DrainError {
    fn map(error: MapError) -> Self {
        Self::Map { problem: error.to_string() }
    }

    fn clock(error: ProgramError) -> Self {
        Self::Clock { problem: error.to_string() }
    }

    /// The process exit code for this error.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Map { .. }
            | Self::Mapping { .. }
            | Self::Layout { .. }
            | Self::Written
            | Self::Programs { .. } => Exit::Failed,
            Self::Clock { .. } => Exit::Privilege,
        }
    }
}
