//! Ways in for fuzzers: what reads octets that somebody else wrote, one function each.
//!
//! Nothing in the agent calls these. They are what `flow_tests::fuzz` needs of modules that are
//! private otherwise, so that a fuzzer drives the very code that runs in the agent.

pub use crate::sink::fuzz as sink;
pub use crate::spool::fuzz as spool;
#[cfg(feature = "live")]
pub use crate::state::fuzz as state;
#[cfg(feature = "live")]
pub use crate::status::fuzz as status;
pub use crate::store::fuzz as store;
