//! What the tests and the demo are made of: a lab of two network namespaces, real
//! traffic between them, an independent count of every packet on the wire, the agent
//! and its store as child processes, an independent reference for metering captures,
//! and an HTTP client that does exactly what it is told, also what a good one never does.

pub mod bin_path;
pub mod cleanup;
pub mod hooks;
pub mod lab;
pub mod ledger;
pub mod made;
pub mod pairs;
pub mod process;
pub mod raw_http;
pub mod reference;
pub mod rig;
pub mod rows;
pub mod sql;
pub mod store;
pub mod tally;
pub mod traffic;
pub mod wild;
