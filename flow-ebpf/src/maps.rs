//! The maps and load-time constants of the kernel side.
//!
//! Sizes given here are placeholders; the loader sets them from the memory
//! budget and the CPUs. Layouts are in `flow_common::table`.

use core::ptr;

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::btf_maps::{Array as BtfArray, ArrayOfMaps};
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_boot_ns};
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray};
use flow_common::filter::{
    ConnectionKey, Filter, MAX_OWN_CONNECTIONS, MAX_PREFIXES, PORT_WORDS, PortWord,
};
use flow_common::hash::HashKeys;
use flow_common::table::{
    ClockReading, Entry, GENERATIONS, Head, INTERFACE_ENTRIES, InterfaceEntry, Journal,
    NAME_OCTETS, Region, Set, TcpSet, TunnelSet,
};
use flow_common::{Count, FragmentKey, FragmentPorts, InterfaceCounters, Tunnel};

/// The flow tables: `SETS_PER_REGION` sets for each region. Read by mmap.
#[map]
pub static SETS: Array<Set> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The heads of `SETS`. Read by mmap.
#[map]
pub static HEADS: Array<Head> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// What is kept of the TCP flows in `SETS`. Read by mmap.
#[map]
pub static TCP: Array<TcpSet> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// One bit for each set of a region, 1 if it holds a flow: 64 to an entry. Read by mmap.
#[map]
pub static DIRTY: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// One entry for each region. Read by mmap.
#[map]
pub static REGIONS: Array<Region> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Flows that had to leave a full set: `EVICTED_PER_REGION` for each region. Read by mmap.
#[map]
pub static EVICTED: Array<Entry> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The tunnels of the flows in `SETS`; with one entry, and not used, where tunnels are
/// not looked into. Read by mmap.
#[map]
pub static TUNNELS: Array<TunnelSet> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The same for the flows in `EVICTED`.
#[map]
pub static EVICTED_TUNNELS: Array<Tunnel> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// `MAX_INTERFACES` counters for each region. Read by mmap.
#[map]
pub static COUNTERS: Array<InterfaceCounters> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Packets on CPUs that appeared after the tables were sized and so have no
/// region: `MAX_INTERFACES` counts for each generation.
#[map]
pub static STRAY: PerCpuArray<Count> = PerCpuArray::with_max_entries(1, 0);

/// Interfaces by ifindex and plane.
#[map]
static INTERFACES: Array<u32> = Array::with_max_entries(INTERFACE_ENTRIES, 0);

/// What is known of an interface; of one that is not metered, nothing.
#[inline(always)]
pub fn interface(ifindex: u32) -> InterfaceEntry {
    // One load and shifts: of a structure the compiler makes loads and branches.
    let word = INTERFACES.get(index_base() + ifindex).copied().unwrap_or(0);
    InterfaceEntry {
        number: word as u16,
        raw_ip: (word >> 16) as u8,
        direction_mask: (word >> 24) as u8,
    }
}

/// Ports of first fragments. When it overflows, later fragments lose a port, no more.
#[map]
pub static FRAGMENTS: LruHashMap<FragmentKey, FragmentPorts> =
    LruHashMap::with_max_entries(4096, 0);

/// Where `read_clock` leaves its reading.
#[map]
pub static CLOCK: Array<ClockReading> = Array::with_max_entries(1, 0);

/// What is metered, one entry for each generation.
#[map]
pub static FILTERS: Array<Filter> = Array::with_max_entries(GENERATIONS, 0);

/// Included and excluded prefixes of both generations; the key begins with the generation.
#[map]
pub static PREFIXES: LpmTrie<[u32; 5], u32> =
    LpmTrie::with_max_entries(GENERATIONS * MAX_PREFIXES, 0);

/// Included and excluded ports: `PORT_WORDS` for each generation.
#[map]
pub static PORTS: Array<PortWord> = Array::with_max_entries(GENERATIONS * PORT_WORDS, 0);

/// The agent's connections to its store, once for each direction.
#[map]
pub static OWN_CONNECTIONS: HashMap<ConnectionKey, u32> =
    HashMap::with_max_entries(2 * MAX_OWN_CONNECTIONS, 0);

/// Not read here: what the next agent must know if this one is killed.
#[map]
pub static JOURNAL: Array<Journal> = Array::with_max_entries(1, 0);

/// Not read here: the names of the interfaces by number, for the same.
#[map]
pub static NAMES: Array<[u8; NAME_OCTETS]> = Array::with_max_entries(1, 0);

/// Not read here. It is a map in a map because updating one makes the kernel wait
/// until every program that runs has ended (kernel/bpf/syscall.c,
/// `maybe_wait_bpf_programs`): the grace period after a flip.
#[btf_map]
pub static GRACE: ArrayOfMaps<BtfArray<u32, 1>, 1> = ArrayOfMaps::new();

/// The generation being filled: the only variable of `.bss`, written by the agent.
#[unsafe(no_mangle)]
static mut GENERATION: u32 = 0;

/// The generation being filled.
#[inline(always)]
pub fn generation() -> u32 {
    // SAFETY: an aligned word that the agent replaces whole; volatile because it does.
    unsafe { ptr::read_volatile(&raw const GENERATION) & 1 }
}

// Set by the loader. The values here are ones that no constant of the programs has:
// LLVM merges equal read-only data, and a `&0` that shared its place with a 0 here
// became what the loader wrote (a lookup of key 0 in `GENERATION` became one of key 2).
#[unsafe(no_mangle)]
static CPUS: u32 = 0xffff_ff01;
#[unsafe(no_mangle)]
static SETS_PER_REGION: u32 = 0xffff_ff02;
#[unsafe(no_mangle)]
static MAX_INTERFACES: u32 = 0xffff_ff03;
#[unsafe(no_mangle)]
static EVICTED_PER_REGION: u32 = 0xffff_ff04;
#[unsafe(no_mangle)]
static HASH_KEYS: HashKeys = [0xffff_ff05; 12];
#[unsafe(no_mangle)]
static DECAPSULATE: u32 = 0xffff_ff06;
#[unsafe(no_mangle)]
static INDEX_BASE: u32 = 0xffff_ff07;
#[unsafe(no_mangle)]
static XDP_VERDICT: u32 = 0xffff_ff08;

macro_rules! constant {
    ($(#[$doc:meta])* $name:ident, $static:ident, $ty:ty) => {
        $(#[$doc])*
        #[inline(always)]
        pub fn $name() -> $ty {
            // SAFETY: a static of this program, in read-only data; volatile because the loader sets it.
            unsafe { ptr::read_volatile(&raw const $static) }
        }
    };
}
constant!(/// CPUs that have regions.
    cpus, CPUS, u32);
constant!(/// A power of two.
    sets_per_region, SETS_PER_REGION, u32);
constant!(/// Evicted flows that a region keeps.
    evicted_per_region, EVICTED_PER_REGION, u32);
constant!(/// Interface numbers are below this.
    max_interfaces, MAX_INTERFACES, u32);
constant!(/// Where the interfaces of this plane begin in `INTERFACES`.
    index_base, INDEX_BASE, u32);
constant!(/// What XDP says of a metered packet: pass, except in one measurement.
    xdp_verdict, XDP_VERDICT, u32);
constant!(/// 1 for true, 0 for false.
    decapsulate_number, DECAPSULATE, u32);

/// Whether a tunnel's packets are metered as what they carry. The verifier knows the loader's
/// answer and drops the code that it rules out.
#[inline(always)]
pub fn decapsulate() -> bool {
    decapsulate_number() != 0
}

/// One of the secret words of the flow hash.
#[inline(always)]
pub fn hash_key(position: usize) -> u32 {
    // SAFETY: as above; positions are constants below twelve.
    unsafe { ptr::read_volatile((&raw const HASH_KEYS).cast::<u32>().add(position)) }
}

/// `jiffies64`; the kernel inlines it.
#[inline(always)]
pub fn jiffies() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_jiffies64() }
}

/// `CLOCK_BOOTTIME` in ns.
#[inline(always)]
pub fn boot_ns() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Reads both clocks into `CLOCK`.
#[inline(always)]
pub fn store_clock() {
    let reading = ClockReading { jiffies: jiffies(), boot_ns: boot_ns() };
    // The only entry always exists, so this cannot fail; the agent checks the reading.
    let _ = CLOCK.set(0, reading, 0);
}
