//! The status of the running agent over HTTP, and the commands that ask it.
//!
//! Enters: requests. Leaves: metrics, JSON, and orders to the cache. It holds that no stage
//! ever waits for a client: everything is read from handles, and what takes long runs in a
//! few threads of the server's own.

mod access;
mod access_log;
mod access_tls;
mod alerts;
mod client;
mod connections;
mod delivery;
mod error;
mod explain;
mod find;
mod findings;
mod flow_search;
pub mod fuzz;
mod history;
mod key;
mod level;
mod limits;
pub mod metrics;
mod openapi;
mod overview;
mod page;
mod pages;
mod pprof;
mod programs;
mod query;
mod reasons;
mod report;
mod respond;
mod selection;
mod server;
mod service;
mod sources;
mod spool;
mod stored;
mod trace;
mod traffic;
mod vitals;

pub use access::{Access, read as read_token};
pub use client::Client;
pub use error::StatusError;
pub use explain::explain;
pub use history::History;
pub use key::FlowName;
pub use level::{FlowSummary, FoundFlow, Level, Step};
pub use report::cache_report;
pub use selection::InvalidateOrder;
pub use server::{Bound, Server};
pub use sources::{RulesBook, Sources};
pub use traffic::TrafficBook;
pub use vitals::{DrainFigures, Phase, Vitals};
