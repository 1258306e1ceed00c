//! The flow cache: merges directions and intervals into flow records.
//!
//! Enters: [`Delta`](crate::delta::Delta)s. Leaves: [`FlowRecord`](crate::record::FlowRecord)s.
//! It holds that every packet that entered is in exactly one record that left
//! or in one open flow.

#[cfg(feature = "live")]
mod control;
mod details;
#[cfg(feature = "live")]
mod entry_batch;
mod flow;
#[cfg(feature = "live")]
mod intake;
mod key;
mod memory;
#[cfg(feature = "live")]
mod query;
mod shard;
#[cfg(feature = "live")]
mod shards;
mod stats;

#[cfg(test)]
mod tests;

#[cfg(feature = "live")]
pub use control::{CacheControl, Hook, Unanswered};
pub use details::{CacheDetails, HotFlow};
#[cfg(feature = "live")]
pub use intake::Intake;
pub use key::{BiflowKey, Side};
pub use memory::{Connection, Initiator, MOST_INITIATORS, Memory};
#[cfg(feature = "live")]
pub use query::{FlowQuery, Invalidated, Selection};
pub use shard::{Mode, Shard, Timeouts};
#[cfg(feature = "live")]
pub use shards::{Cache, CacheConfig};
pub use stats::{CacheStats, Counter, Counts, Rates, ShardStats, StatsLevel};
