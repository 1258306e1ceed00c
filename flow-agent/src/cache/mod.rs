//! The flow cache: merges directions and intervals into flow records.
//!
//! Enters: [`Delta`](crate::delta::Delta)s. Leaves: [`FlowRecord`](crate::record::FlowRecord)s.
//! It holds that every packet that entered is in exactly one record that left
//! or in one open flow.

#[cfg(feature = "live")]
mod entry_batch;
mod flow;
#[cfg(feature = "live")]
mod intake;
mod key;
mod shard;
#[cfg(feature = "live")]
mod shards;

#[cfg(test)]
mod tests;

#[cfg(feature = "live")]
pub use intake::Intake;
pub use key::{BiflowKey, Side};
pub use shard::{Shard, ShardStats, Timeouts};
#[cfg(feature = "live")]
pub use shards::{Cache, CacheConfig};
