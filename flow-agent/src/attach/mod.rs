//! Attaching: from interface names to kernel programs that meter them.
//!
//! Enters: what the configuration says to meter. Leaves: [`Hooks`], whose
//! programs fill the tables that `drain` reads. Dropping it detaches everything.
//! `Selection -> Watcher -> Scan -> Hooks -> Links`, again whenever interfaces change.

mod attacher;
mod clsact;
mod estate_map;
mod expedite;
mod features;
mod handover;
mod hooks;
mod ingress_hook;
mod interface;
mod link;
mod link_state;
mod load;
mod metered;
mod namespace;
mod netlink;
mod numbers;
mod pins;
mod predecessor;
mod program_runs;
mod scan;
mod shared_maps;
mod spec;
mod stale;
mod survey;
mod table_size;
mod version;
mod watch;

pub use attacher::Attacher;
pub use estate_map::EstateMap;
pub use features::{Channels, VLAN_FEATURES, XdpFeatures};
pub use handover::Handover;
pub use hooks::Hooks;
pub use ingress_hook::IngressHook;
pub use interface::{Interface, Place};
pub use link_state::link_states;
pub use load::{Kernel, OBJECT};
pub use metered::{MeteredBook, MeteredInterface, MeteredList, RefusedInterface};
pub use namespace::{NamespaceId, NetworkNamespace};
pub use numbers::Numbers;
pub use pins::PinFolder;
pub use predecessor::Predecessor;
pub use program_runs::{CountedFor, ProgramBook, ProgramReading, Runs, STATISTICS_SYSCTL};
pub use scan::{Missing, Scan, Scanner};
pub use spec::{InterfaceSpec, NamespaceSpec, Selection};
pub use stale::end_counting;
pub use survey::{Attached, Counters, Survey, holders, link_counters};
pub use table_size::TableSize;
pub use version::{OLDEST, TCX, has_tcx};
pub use watch::{Watch, Watcher};

use crate::Exit;

/// Which hook meters the packets that enter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum AttachMode {
    /// Native XDP on hardware, TC on virtual interfaces.
    #[default]
    Auto,
    /// Native XDP, in the driver.
    Xdp,
    /// Generic XDP, above the driver: sees super-packets as one packet.
    XdpGeneric,
    /// TC ingress.
    Tc,
}

/// What loading and attaching need.
const NEEDS_TO_LOAD: &str = "CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON";
/// What entering another network namespace needs (setns(2)).
const NEEDS_TO_JOIN: &str = "CAP_SYS_ADMIN";

/// Why metering cannot start.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message says what each field is")]
pub enum AttachError {
    /// An interface argument cannot be read.
    #[error(
        "interface '{spec}': {problem}; write [NETNS/]NAME[:auto|xdp|xdp-generic|tc] or \
         pid:PID/NAME (without a mode to leave it out)"
    )]
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
    /// The process whose namespace was asked for has ended.
    #[error("there is no process {pid}, or not the one whose interfaces were asked for")]
    ProcessGone { pid: u32 },
    /// More than one interface fails.
    #[error("{count} interfaces cannot be metered, each is named above; the first: {first}")]
    Several { count: usize, first: Box<AttachError> },
    /// Too many interfaces, or an index too large for the kernel side's table.
    #[error("{what} is above the limit of {limit}; name fewer interfaces with --interface")]
    TooMany { what: String, limit: u32 },
    /// All numbers are in use, or the flows of the interfaces that had them are.
    #[error(
        "{interface} cannot be metered: all {most} places for interfaces are taken, or were a \
         moment ago; raise table_memory_mib or start again"
    )]
    NoNumber { interface: String, most: u16 },
    /// A privilege is missing.
    #[error(
        "{operation} was refused by the kernel (EPERM): run as root or give the process {needs}"
    )]
    Permission { operation: String, needs: &'static str },
    /// The kernel refused a program; its verifier says why.
    #[error("the kernel's verifier refused program {program} ({source}); its log:\n{log}")]
    Verifier { program: String, source: std::io::Error, log: String },
    /// The programs were never tried on so old a kernel.
    #[error("this is Linux {release}; Linux 6.1 is the oldest that flow-agent runs on")]
    OldKernel { release: String },
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
    /// The agent that runs cannot be relieved; it goes on.
    #[error("{folder}: the hooks of the agent that runs cannot be taken over: {problem}")]
    TakeOver { folder: String, problem: String },
    /// Another agent meters there.
    #[error(
        "{interface} is metered by another flow-agent already ({hook}); \
         stop that one, take over from it (run --take-over), or leave this interface out"
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
    /// None is no error; of several each is told.
    ///
    /// # Errors
    /// The only one, or how many there are.
    pub fn all(mut errors: Vec<Self>) -> Result<(), Self> {
        if errors.len() > 1 {
            for error in &errors {
                tracing::error!("{error}");
            }
            let (count, first) = (errors.len(), Box::new(errors.remove(0)));
            return Err(Self::Several { count, first });
        }
        errors.pop().map_or(Ok(()), Err)
    }

    /// The process exit code for this error.
    pub fn exit(&self) -> Exit {
        match self {
            Self::BadSpec { .. }
            | Self::UnknownInterface { .. }
            | Self::NoHardwareInterface
            | Self::Namespace { .. }
            | Self::ProcessGone { .. }
            | Self::NoNumber { .. }
            | Self::TableMemory { .. }
            | Self::TooMany { .. } => Exit::Usage,
            Self::Several { first, .. } => first.exit(),
            Self::Permission { .. }
            | Self::Verifier { .. }
            | Self::OldKernel { .. }
            | Self::Load { .. } => Exit::Privilege,
            Self::Attach { .. }
            | Self::AlreadyMetered { .. }
            | Self::Pin { .. }
            | Self::TakeOver { .. }
            | Self::Io { .. } => Exit::Failed,
        }
    }
}
