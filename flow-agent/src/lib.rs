//! A network flow agent for Linux hosts.
//!
//! Data flows in this order: `attach` (kernel programs on interfaces) ->
//! `drain` (per-CPU kernel tables) -> `cache` (sharded LRU, biflow merging) ->
//! `batch` (frozen blocks of rows) -> `sink` (ClickHouse, JSON lines).
//! `replay` feeds captures through the same parser, cache and sinks; `store`
//! serves the embedded ClickHouse engine over its HTTP interface.

#[cfg(feature = "live")]
pub mod attach;
pub mod community_id;
pub mod delta;
#[cfg(feature = "live")]
pub mod drain;
pub mod error;
#[cfg(feature = "live")]
mod mapped;
pub mod replay;
pub mod services;
pub mod store;

pub use error::{Error, Exit};
