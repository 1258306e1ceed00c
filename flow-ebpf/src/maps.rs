//! The maps and load-time constants of the kernel side.
//!
//! Sizes given here are placeholders; the loader sets them from the memory
//! budget and the CPUs. Layouts are in `flow_common::table`.

use core::ptr;

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::btf_maps::{Array as BtfArray, ArrayOfMaps};
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_boot_ns};
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{Array, LruHashMap, PerCpuArray, RingBuf};
use flow_common::hash::HashKeys;
use flow_common::table::{ClockReading, INTERFACE_ENTRIES, InterfaceEntry, Region, Set};
use flow_common::{Count, FragmentKey, FragmentPorts, InterfaceCounters};

/// The flow tables: `SETS_PER_REGION` sets for each region. Read by mmap.
#[map]
pub static SETS: Array<Set> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// One entry for each region. Read by mmap.
#[map]
pub static REGIONS: Array<Region> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The sets of each region that hold a flow, in the order of their first. Read
/// by mmap; the kernel pads array values to eight octets.
#[map]
pub static DIRTY: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// `MAX_INTERFACES` counters for each region. Read by mmap.
#[map]
pub static COUNTERS: Array<InterfaceCounters> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Packets on CPUs that appeared after the tables were sized and so have no
/// region: `MAX_INTERFACES` counts for each generation.
#[map]
pub static STRAY: PerCpuArray<Count> = PerCpuArray::with_max_entries(1, 0);

/// Interfaces by ifindex and plane.
#[map]
pub static INTERFACES: Array<InterfaceEntry> = Array::with_max_entries(INTERFACE_ENTRIES, 0);

/// Flows that had to leave a full set, as `flow_common::table::Evicted`.
#[map]
pub static EVICTED: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Ports of first fragments. When it overflows, later fragments lose a port, no more.
#[map]
pub static FRAGMENTS: LruHashMap<FragmentKey, FragmentPorts> =
    LruHashMap::with_max_entries(4096, 0);

/// Where `read_clock` leaves its reading.
#[map]
pub static CLOCK: Array<ClockReading> = Array::with_max_entries(1, 0);

/// The generation being filled. It is a map in a map because updating one makes
/// the kernel wait until no program can still use the old value
/// (kernel/bpf/syscall.c, `maybe_wait_bpf_programs`): the grace period of a flip.
#[btf_map]
pub static GENERATION: ArrayOfMaps<BtfArray<u32, 1>, 1> = ArrayOfMaps::new();

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
static HASH_KEYS: HashKeys = [0xffff_ff04; 12];
#[unsafe(no_mangle)]
static INDEX_BASE: u32 = 0xffff_ff21;

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
constant!(/// Interface numbers are below this.
    max_interfaces, MAX_INTERFACES, u32);
constant!(/// Where the interfaces of this plane begin in `INTERFACES`.
    index_base, INDEX_BASE, u32);

/// One of the secret words of the flow hash.
#[inline(always)]
pub fn hash_key(position: usize) -> u32 {
    // SAFETY: as above; positions are constants below twelve.
    unsafe { ptr::read_volatile((&raw const HASH_KEYS).cast::<u32>().add(position)) }
}

/// The generation being filled.
#[inline(always)]
pub fn generation() -> Option<u32> {
    GENERATION.get(0)?.get(0).copied()
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
