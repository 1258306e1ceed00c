//! A network flow agent for Linux hosts.
//!
//! Data flows in this order: `attach` (kernel programs on interfaces) ->
//! `drain` (per-CPU kernel tables) -> `cache` (sharded LRU, biflow merging) ->
//! `batch` (frozen blocks of rows) -> `spool` (what the store does not have yet) -> `sink`
//! (ClickHouse, JSON lines).
//! `replay` feeds captures through the same parser, cache and sinks; `store`
//! serves the embedded ClickHouse engine over its HTTP interface.

pub mod analytics;
#[cfg(feature = "live")]
pub mod attach;
pub mod backup;
pub mod batch;
#[cfg(feature = "live")]
pub mod bench;
pub mod books;
pub mod cache;
#[cfg(feature = "live")]
pub mod check;
pub mod clock;
pub mod community_id;
#[cfg(feature = "live")]
pub mod config;
pub mod delta;
#[cfg(feature = "live")]
pub mod drain;
pub mod enrich;
pub mod error;
pub mod estate;
pub mod failpoint;
#[cfg(feature = "live")]
pub mod filter;
pub mod frozen;
pub mod fuzz;
pub mod host;
pub mod latency;
pub mod ledger;
pub mod logging;
#[cfg(feature = "live")]
mod mapped;
pub mod names;
pub mod plan;
#[cfg(feature = "live")]
pub mod pressure;
#[cfg(feature = "live")]
pub mod privileges;
#[cfg(feature = "live")]
pub mod reconcile;
pub mod record;
#[cfg(feature = "live")]
mod reload;
pub mod replay;
pub mod report;
#[cfg(feature = "live")]
pub mod run;
pub mod schema;
pub mod services;
pub mod shutdown;
pub mod sink;
pub mod spool;
pub mod spooler;
#[cfg(feature = "live")]
pub mod state;
#[cfg(feature = "live")]
pub mod status;
pub mod store;
pub mod target;
#[cfg(feature = "live")]
pub mod top;
pub mod waiting;

pub use error::{Error, Exit};
