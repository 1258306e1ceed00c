//! The layout of the per-CPU flow tables, shared with the agent by mmap.
//!
//! A *region* is the table of one CPU in one of two generations; its number is
//! `generation * cpus + cpu`. A region is an array of [`Set`]s; a flow lives in
//! one of the [`WAYS`] of the set that its hash chooses. What a packet of a known
//! flow touches is one [`HotLine`]; what only new flows, and what only TCP needs,
//! are in tables beside it, [`Head`]s and [`TcpSet`]s. Each region has one
//! writer, the programs on its CPU, until the agent has flipped the generation
//! and waited for them; then each part of it has one reader, which clears it.

use bytemuck::{Pod, Zeroable};

use crate::{FlowKey, Tunnel};

/// Flows in a set.
pub const WAYS: usize = 8;

/// Generations of every table: one is filled while the other is drained.
pub const GENERATIONS: u32 = 2;

/// Names of the maps and programs, as the loader finds them.
pub mod names {
    #![allow(missing_docs, reason = "documented where the maps are defined, in flow-ebpf")]
    pub const SETS: &str = "SETS";
    pub const REGIONS: &str = "REGIONS";
    pub const HEADS: &str = "HEADS";
    pub const TCP: &str = "TCP";
    pub const DIRTY: &str = "DIRTY";
    pub const COUNTERS: &str = "COUNTERS";
    pub const STRAY: &str = "STRAY";
    pub const GRACE: &str = "GRACE";
    pub const JOURNAL: &str = "JOURNAL";
    pub const NAMES: &str = "NAMES";
    /// The section of the programs' variables: `GENERATION`.
    pub const BSS: &str = ".bss";
    pub const INTERFACES: &str = "INTERFACES";
    pub const EVICTED: &str = "EVICTED";
    pub const TUNNELS: &str = "TUNNELS";
    pub const EVICTED_TUNNELS: &str = "EVICTED_TUNNELS";
    pub const FRAGMENTS: &str = "FRAGMENTS";
    pub const CLOCK: &str = "CLOCK";
    pub const FILTERS: &str = "FILTERS";
    pub const PREFIXES: &str = "PREFIXES";
    pub const PORTS: &str = "PORTS";
    pub const OWN_CONNECTIONS: &str = "OWN_CONNECTIONS";

    pub const XDP_INGRESS: &str = "xdp_ingress";
    pub const TC_INGRESS: &str = "tc_ingress";
    pub const TC_EGRESS: &str = "tc_egress";
    pub const READ_CLOCK: &str = "read_clock";

    pub const CPUS: &str = "CPUS";
    pub const SETS_PER_REGION: &str = "SETS_PER_REGION";
    pub const MAX_INTERFACES: &str = "MAX_INTERFACES";
    pub const EVICTED_PER_REGION: &str = "EVICTED_PER_REGION";
    pub const HASH_KEYS: &str = "HASH_KEYS";
    pub const XDP_VERDICT: &str = "XDP_VERDICT";
    pub const DECAPSULATE: &str = "DECAPSULATE";
    pub const INDEX_BASE: &str = "INDEX_BASE";
}

/// Interfaces the kernel side can look up: the ifindex must be below this.
pub const MAX_IFINDEX: u32 = 1 << 16;

/// *Planes* tell interfaces of several network namespaces apart that have the same
/// ifindex: each is a load of the programs with a base of its own, added to the ifindex.
/// Plane 0 has base 0.
pub const PLANES: u32 = 33;

/// In planes above 0 the ifindex must be below this.
pub const PLANE_IFINDEXES: u32 = 1 << 13;

/// Entries of the table of interfaces, for all planes.
pub const INTERFACE_ENTRIES: u32 = index_base(PLANES);

/// What a plane adds to the ifindex.
pub const fn index_base(plane: u32) -> u32 {
    if plane == 0 { 0 } else { MAX_IFINDEX + (plane - 1) * PLANE_IFINDEXES }
}

/// What every packet of a flow updates: one cache line, since the tables begin with a page.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct HotLine {
    /// IP octets.
    pub octets: u64,
    /// Packets; 0 means that the way is free, whatever else is in the line.
    #[cfg(not(feature = "other-layout"))]
    pub packets: u32,
    /// Low half of the jiffies of the last packet.
    pub last_jiffies: u32,
    /// In the place of another.
    #[cfg(feature = "other-layout")]
    pub packets: u32,
    /// Which flow.
    pub key: FlowKey,
    /// OR of the TCP flags.
    pub tcp_flags: u8,
    /// DSCP of the first packet.
    pub dscp: u8,
    /// Smallest TTL or hop limit.
    pub min_ttl: u8,
    /// Largest TTL or hop limit.
    pub max_ttl: u8,
}

/// The flows whose hashes choose the same set. A flow takes the way that its hash
/// prefers, or else the first that is free. Ways become free by a drain only: when the
/// preferred way is free, the flow is in no other one.
pub type Set = [HotLine; WAYS];

/// What is written, and looked at, when a packet's flow is not in its preferred way.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Head {
    /// 16 bits of the hash of each way's flow; 0 means free.
    pub tags: [u16; WAYS],
    /// The sequence number after the highest that each way's TCP flow has sent.
    pub next_seq: [u32; WAYS],
    /// The ways that are not free, a bit for each.
    pub used: u64,
    /// Pads to a cache line.
    pub reserved: u64,
    /// `CLOCK_BOOTTIME` in ns of the first packet of each way's flow.
    pub first_ns: [u64; WAYS],
}

/// What is kept of a TCP connection, written at its marked moments.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct TcpLine {
    /// `CLOCK_BOOTTIME` in ns of the first packet with SYN; 0 if none.
    pub syn_ns: u64,
    /// `CLOCK_BOOTTIME` in ns of the first packet with ACK and without SYN, if no
    /// packet without SYN came before it; 0 if none.
    pub ack_ns: u64,
    /// TCP segments that brought nothing new.
    pub retransmits: u32,
    /// Packets with SYN and without ACK; stays at the most it can hold.
    pub syn_packets: u16,
    /// Packets with SYN and ACK; stays at the most it can hold.
    pub syn_ack_packets: u16,
}

impl TcpLine {
    /// That of a flow of another protocol, whose place in the table means nothing.
    pub const NONE: Self =
        Self { syn_ns: 0, ack_ns: 0, retransmits: 0, syn_packets: 0, syn_ack_packets: 0 };
}

/// The TCP lines of a [`Set`]'s ways.
pub type TcpSet = [TcpLine; WAYS];

/// The tunnels that the flows of a [`Set`] came in, while tunnels are looked into.
pub type TunnelSet = [Tunnel; WAYS];

/// What a region says of itself.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Region {
    /// Flows that were written into a free way.
    pub flows: u32,
    /// Flows that left a full set: the first entries of the region's part of `EVICTED`.
    pub evicted: u32,
    /// Pads to the alignment.
    pub reserved: [u64; 7],
}

/// A flow that had to leave its set.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Entry {
    /// Its counters.
    pub hot: HotLine,
    /// `CLOCK_BOOTTIME` in ns of its first packet.
    pub first_ns: u64,
    /// [`TcpLine::NONE`] if it is not TCP.
    pub tcp: TcpLine,
}

/// One reading of the kernel's clocks, all at the same moment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct ClockReading {
    /// `jiffies64`.
    pub jiffies: u64,
    /// `CLOCK_BOOTTIME` in ns.
    pub boot_ns: u64,
}

/// What the next agent must know of the tables of one that was killed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Journal {
    /// [`Journal::LAYOUT`] of the agent that made the tables.
    pub layout: u32,
    /// CPUs with regions.
    pub cpus: u32,
    /// Sets in a region.
    pub sets_per_region: u32,
    /// Interface numbers are below this.
    pub interfaces: u32,
    /// 1 if there are tables of tunnels, 0 if not.
    pub tunnels: u32,
    /// Tells the tables of one agent from those of others; 0: an earlier version made them.
    pub instance: u32,
    /// A [`GenerationState`] for each generation.
    pub states: [u32; GENERATIONS as usize],
    /// How many packets each metered one of a generation stands for.
    pub sampling: [u32; GENERATIONS as usize],
}

impl Journal {
    /// To be changed with every change of a layout in this module or in `counters`.
    pub const LAYOUT: u32 = if cfg!(feature = "other-layout") { u32::MAX } else { 2 };
}

/// How far a generation is.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GenerationState {
    /// Everything in it has gone on; it is, or is being, emptied.
    Drained = 0,
    /// Programs may write it, and nothing has been taken from it.
    Filling = 1,
    /// Some of it may have gone on.
    Draining = 2,
}

/// Octets of an interface's name in `NAMES`: `NETNS/NAME`, padded with zeros.
pub const NAME_OCTETS: usize = 128;

/// What a program must know of an interface: looked up by ifindex.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct InterfaceEntry {
    /// The agent's number for it, from 1; 0 means not configured.
    pub number: u16,
    /// 1 if packets begin with the IP header (tunnels), 0 for Ethernet.
    pub raw_ip: u8,
    /// What is left of the hook's direction: all bits, or none where both directions
    /// pass the same hook (`lo`), which so says nothing.
    pub direction_mask: u8,
}

impl InterfaceEntry {
    /// An Ethernet device, both of whose directions have hooks of their own.
    pub const fn ethernet(number: u16) -> Self {
        Self { number, raw_ip: 0, direction_mask: u8::MAX }
    }
}

const _: () = assert!(size_of::<HotLine>() == 64);
const _: () = assert!(size_of::<Head>() == 128);
const _: () = assert!(size_of::<TcpLine>() == 24);
const _: () = assert!(size_of::<Region>() == 64);
const _: () = assert!(size_of::<Entry>() == 96);
const _: () = assert!(size_of::<InterfaceEntry>() == 4);
