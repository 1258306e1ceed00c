//! The layout of the per-CPU flow tables, shared with the agent by mmap.
//!
//! A *region* is the table of one CPU in one of two generations; its number is
//! `generation * cpus + cpu`. A region is an array of [`Set`]s; a flow lives in
//! one of the [`WAYS`] of the set that its hash chooses. Each region has one
//! writer, the programs on its CPU, until the agent has flipped the generation
//! and waited for them; then it has one reader, which clears it.

use crate::FlowKey;

/// Flows in a set.
pub const WAYS: usize = 8;

/// Generations of every table: one is filled while the other is drained.
pub const GENERATIONS: u32 = 2;

/// Names of the maps and programs, as the loader finds them.
pub mod names {
    #![allow(missing_docs, reason = "documented where the maps are defined, in flow-ebpf")]
    pub const SETS: &str = "SETS";
    pub const REGIONS: &str = "REGIONS";
    pub const DIRTY: &str = "DIRTY";
    pub const COUNTERS: &str = "COUNTERS";
    pub const STRAY: &str = "STRAY";
    pub const GENERATION: &str = "GENERATION";
    pub const INTERFACES: &str = "INTERFACES";
    pub const EVICTED: &str = "EVICTED";
    pub const FRAGMENTS: &str = "FRAGMENTS";
    pub const CLOCK: &str = "CLOCK";

    pub const XDP_INGRESS: &str = "xdp_ingress";
    pub const TC_INGRESS: &str = "tc_ingress";
    pub const TC_EGRESS: &str = "tc_egress";
    pub const READ_CLOCK: &str = "read_clock";

    pub const CPUS: &str = "CPUS";
    pub const SETS_PER_REGION: &str = "SETS_PER_REGION";
    pub const MAX_INTERFACES: &str = "MAX_INTERFACES";
    pub const HASH_KEYS: &str = "HASH_KEYS";
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

/// What every packet of a flow updates: one cache line, as [`Set`] places it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct HotLine {
    /// IP octets.
    pub octets: u64,
    /// Packets.
    pub packets: u32,
    /// Low half of the jiffies of the last packet.
    pub last_jiffies: u32,
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

/// What is written when a flow begins and when a SYN passes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ColdLine {
    /// `CLOCK_BOOTTIME` in ns of the first packet.
    pub first_ns: u64,
    /// `CLOCK_BOOTTIME` in ns of the first packet with SYN; 0 if none.
    pub syn_ns: u64,
    /// Packets with SYN and without ACK.
    pub syn_packets: u32,
    /// Packets with SYN and ACK.
    pub syn_ack_packets: u32,
    /// Pads to half a cache line.
    pub reserved: u64,
}

/// The flows that share a hash bucket.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct Set {
    /// 16 bits of the hash of each way's flow; 0 means free.
    pub tags: [u16; WAYS],
    /// Pads the tags to a cache line of their own.
    pub reserved: [u64; 6],
    /// Updated by every packet.
    pub hot: [HotLine; WAYS],
    /// Updated rarely.
    pub cold: [ColdLine; WAYS],
}

/// What a region says of itself.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// Sets that hold a flow: the first `dirty` entries of the region's part of the dirty list.
    pub dirty: u32,
    /// Pads to the alignment.
    pub reserved: u32,
    /// Flows that left a full set of this region, to the ring or to be lost.
    pub evicted: u64,
}

/// A flow that had to leave its set, as the ring carries it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Evicted {
    /// Its counters.
    pub hot: HotLine,
    /// Its beginning.
    pub cold: ColdLine,
    /// The generation whose counters have seen its packets.
    pub generation: u32,
    /// Pads to the alignment.
    pub reserved: u32,
}

/// One reading of the kernel's clocks, all at the same moment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct ClockReading {
    /// `jiffies64`.
    pub jiffies: u64,
    /// `CLOCK_BOOTTIME` in ns.
    pub boot_ns: u64,
}

/// What a program must know of an interface: looked up by ifindex.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceEntry {
    /// The agent's number for it, from 1; 0 means not configured.
    pub number: u16,
    /// 1 if packets begin with the IP header (tunnels), 0 for Ethernet.
    pub raw_ip: u8,
    /// 1 if both directions pass the same hook (`lo`), so the hook says nothing.
    pub undirected: u8,
}

const _: () = assert!(size_of::<HotLine>() == 64);
const _: () = assert!(size_of::<ColdLine>() == 32);
const _: () = assert!(size_of::<Set>() == 64 + WAYS * (64 + 32));
const _: () = assert!(size_of::<Region>() == 64);
const _: () = assert!(size_of::<Evicted>() == 104);
const _: () = assert!(core::mem::offset_of!(Set, hot) == 64);
const _: () = assert!(size_of::<InterfaceEntry>() == 4);
