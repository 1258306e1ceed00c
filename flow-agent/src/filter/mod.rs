//! What is metered: the configuration's filters and sampling, and how they reach the kernel.
//!
//! Enters: [`Rules`] from the configuration, and the agent's own connections from
//! the sink. Leaves: the tables that `flow-ebpf/src/filter.rs` reads. It holds that
//! all packets of a generation met the same rules.

mod judge;
mod own;
mod parse;
mod rules;
mod tables;

pub use judge::LeftOut;
pub use own::OwnConnections;
pub use parse::{BadRule, Ports, Prefix, protocol};
pub use rules::{Rules, Sampling, Verdict};
pub use tables::RuleTables;
