//! What the kernel programs and the agent share: the packet parser, the flow
//! key, the layout of the per-CPU tables, the counters and their reasons.
//!
//! Everything here is `no_std`, free of `unsafe`, and compiled twice: for the
//! BPF virtual machine and for the host. [`parse()`] is the only packet parser of
//! the project; kernel metering and capture replay both call it.
#![no_std]
#![forbid(unsafe_code)]

pub mod counters;
pub mod filter;
pub mod frame;
pub mod hash;
pub mod key;
pub mod parse;
pub mod random;
pub mod reason;
pub mod table;
pub mod tcp;
pub mod tunnel;

pub use counters::{Count, InterfaceCounters, Overflow};
pub use frame::Frame;
pub use key::{Address, Direction, FlowKey};
pub use parse::FragmentPorts;
pub use parse::{FragmentKey, FragmentRole, Link, Options, Packet, parse};
pub use reason::{Lost, NotMetered};
pub use tunnel::{Tunnel, TunnelKind};
