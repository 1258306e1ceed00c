//! A network flow agent for Linux hosts.
//!
//! Data flows in this order: `attach` (kernel programs on interfaces) ->
//! `drain` (per-CPU kernel tables) -> `cache` (sharded LRU, biflow merging) ->
//! `batch` (frozen blocks of rows) -> `sink` (ClickHouse, JSON lines).
//! `replay` feeds captures through the same parser, cache and sinks; `store`
//! serves the embedded ClickHouse engine over its HTTP interface.

pub mod community_id;
pub mod error;
pub mod replay;
pub mod services;
pub mod store;

pub use error::{Error, Exit};
