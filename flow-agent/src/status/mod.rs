//! The status of the running agent over HTTP on loopback, and the commands that ask it.
//!
//! Enters: requests. Leaves: metrics, JSON, and orders to the cache. It holds that no stage
//! ever waits for a client: everything is read from handles, and what takes long runs in a
//! few threads of the server's own.

mod client;
mod delivery;
mod error;
mod explain;
mod find;
mod findings;
mod key;
mod level;
pub mod metrics;
mod open_flows;
mod pages;
mod reasons;
mod report;
mod respond;
mod selection;
mod server;
mod sources;
mod spool;
mod stored;
mod vitals;

pub use client::Client;
pub use error::StatusError;
pub use explain::explain;
pub use key::FlowName;
pub use level::{FlowSummary, FoundFlow, Level};
pub use open_flows::{OpenFlow, OpenFlows};
pub use report::cache_report;
pub use selection::InvalidateOrder;
pub use server::{Bound, Server};
pub use sources::{RulesBook, Sources};
pub use vitals::{DrainFigures, Phase, Vitals};
