//! The flow cache: merges directions and intervals into flow records.
//!
//! Enters: [`Delta`](crate::delta::Delta)s. Leaves: [`FlowRecord`](crate::record::FlowRecord)s.
//! It holds that every packet that entered is in exactly one record that left
//! or in one open flow.

mod flow;
mod key;
mod shard;
mod shards;

#[cfg(test)]
mod tests;

pub use key::{BiflowKey, Side};
pub use shard::{Shard, ShardStats, Timeouts};
pub use shards::{Cache, CacheConfig, Message};
