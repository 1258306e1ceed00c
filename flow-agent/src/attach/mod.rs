//! Attaching: from interface names to kernel programs that meter them.
//!
//! Enters: what the configuration says to meter. Leaves: [`Hooks`], whose
//! programs fill the tables that `drain` reads. Dropping it detaches everything.

mod hooks;
mod interface;
mod load;
mod namespace;
mod pins;

pub use hooks::{Hooks, IngressHook};
pub use interface::{AttachMode, Interface, InterfaceSpec, resolve};
pub use load::{Kernel, TableSize};
pub use namespace::NetworkNamespace;
pub use pins::PinFolder;

use crate::Exit;

/// The numbered interfaces of one agent: `InterfaceId` is the position plus one.
pub const MAX_INTERFACES: u32 = 512;

/// What loading and attaching need.
const NEEDS_TO_LOAD: &str = "CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON";
/// What entering another network namespace needs (setns(2)).
const NEEDS_TO_JOIN: &str = "CAP_SYS_ADMIN";

/// Why metering cannot start.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message says what each field is")]
pub enum AttachError {
    /// An interface argument cannot be read.
    #[error("interface '{spec}': {problem}; write [NETNS/]NAME[:auto|xdp|xdp-generic|tc]")]
    BadSpec { spec: String, problem: String },
    /// No interface has the name.
    #[error("there is no interface '{name}'{place}; interfaces there: {known}")]
    UnknownInterface { name: String, place: String, known: String },
    /// No hardware interface was found and none was named.
    #[error("this host has no hardware interface to meter; name one with --interface")]
    NoHardwareInterface,
    /// The namespace cannot be opened.
    #[error("network namespace '{name}' cannot be opened at {path}: {source}; see `ip netns list`")]
    Namespace { name: String, path: String, source: std::io::Error },
    /// Two namespaces use one index, which the kernel side cannot tell apart yet.
    #[error(
        "interfaces {first} and {second} have the same index {ifindex} in their namespaces; \
         meter them with one agent each"
    )]
    SameIndex { first: String, second: String, ifindex: u32 },
    /// Too many interfaces, or an index too large for the kernel side's table.
    #[error("{what} is above the limit of {limit}; name fewer interfaces with --interface")]
    TooMany { what: String, limit: u32 },
    /// A privilege is missing.
    #[error(
        "{operation} was refused by the kernel (EPERM): run as root or give the process {needs}"
    )]
    Permission { operation: String, needs: &'static str },
    /// The kernel refused a program; its verifier says why.
    #[error("the kernel's verifier refused program {program} ({source}); its log:\n{log}")]
    Verifier { program: String, source: std::io::Error, log: String },
    /// The kernel cannot load the programs or create the maps.
    #[error(
        "the kernel side cannot be loaded: {problem}; Linux 6.1 or later with BTF and BPF JIT is needed"
    )]
    Load { problem: String },
    /// The tables do not fit.
    #[error("the flow tables of {cpus} CPUs need at least {least_mib} MiB; raise table_memory_mib")]
    TableMemory { cpus: u32, least_mib: u64 },
    /// Tables cannot be kept for the next agent.
    #[error("{path}: {problem}")]
    Pin { path: String, problem: String },
    /// Another agent meters there.
    #[error(
        "{interface} is metered by another flow-agent already ({hook}); \
         stop that one, or leave this interface out"
    )]
    AlreadyMetered { interface: String, hook: &'static str },
    /// An attach point refused the program.
    #[error("{hook} cannot be attached to {interface}: {problem}")]
    Attach { hook: &'static str, interface: String, problem: String },
    /// Something of the operating system failed on the way.
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
}

impl AttachError {
    /// The process exit code for this error.
    pub fn exit(&self) -> Exit {
        match self {
            Self::BadSpec { .. }
            | Self::UnknownInterface { .. }
            | Self::NoHardwareInterface
            | Self::Namespace { .. }
            | Self::SameIndex { .. }
            | Self::TableMemory { .. }
            | Self::TooMany { .. } => Exit::Usage,
            Self::Permission { .. } | Self::Verifier { .. } | Self::Load { .. } => Exit::Privilege,
            Self::Attach { .. }
            | Self::AlreadyMetered { .. }
            | Self::Pin { .. }
            | Self::Io { .. } => Exit::Failed,
        }
    }
}
