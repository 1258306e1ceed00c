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
mod full;
mod hash;
mod hot;
mod index;
#[cfg(feature = "live")]
mod intake;
mod key;
#[cfg(feature = "live")]
mod largest;
mod leave;
mod lists;
mod look;
mod memory;
mod notes;
mod order;
#[cfg(feature = "live")]
mod query;
mod rare;
mod rates;
mod sequences;
mod shard;
#[cfg(feature = "live")]
mod shards;
#[cfg(feature = "live")]
mod shared_stats;
mod slab;
mod stats;
mod timeouts;

#[cfg(test)]
mod tests;

#[cfg(feature = "live")]
pub use control::{CacheControl, Hook, Unanswered};
pub use details::{CacheDetails, HotFlow};
pub(crate) use hash::FlowHasher;
#[cfg(feature = "live")]
pub use intake::Intake;
pub use key::{BiflowKey, Side};
pub(crate) use key::{low_key, of_low, sent_by};
#[cfg(feature = "live")]
pub use largest::Largest;
pub use look::Mode;
pub use memory::{Connection, Initiator, MOST_INITIATORS, Memory};
#[cfg(feature = "live")]
pub use query::{FlowQuery, Invalidated, Selection};
pub use shard::{Chunk, Sent, Shard};
#[cfg(feature = "live")]
pub use shards::{Cache, CacheConfig};
pub use stats::{CacheStats, Counter, Counts, Rates, ShardStats, StatsLevel};
pub use timeouts::{Class, ClassTimeouts, Limits, Policy, Timeouts};

#[cfg(feature = "live")]
pub(crate) use crate::mapped::prefetch;

/// Nothing: it takes unsafe code, which a build without live metering has none of.
#[cfg(not(feature = "live"))]
pub(crate) fn prefetch<T>(_: &T) {}
