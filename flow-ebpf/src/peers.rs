//! For measurements only, never part of an agent: meters of the kinds that other flow agents
//! have, written for this comparison. Each reads Ethernet, IPv4, TCP and UDP, and counts the
//! packet into a hash map by its five-tuple.
//!
//! They do less than the shipped program: no IPv6, tags, tunnels or fragments, no books.
#![no_std]
#![no_main]
#![allow(missing_docs, reason = "the macros make undocumented functions of the documented ones")]

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{HashMap, LruHashMap, LruPerCpuHashMap, PerCpuHashMap};
use aya_ebpf::programs::XdpContext;

/// Addresses as IPv6, ports and protocol: a key for both families, as such agents have.
#[repr(C)]
#[derive(Clone, Copy)]
struct Key {
    source: [u32; 4],
    destination: [u32; 4],
    ports: u32,
    protocol: u32,
}

/// What is known of a flow.
#[repr(C)]
#[derive(Clone, Copy)]
struct Value {
    packets: u64,
    octets: u64,
    first_ns: u64,
    last_ns: u64,
    tcp_flags: u32,
    padding: u32,
}

/// Set by the loader.
const ENTRIES: u32 = 1 << 20;

/// A value for each CPU.
#[map]
static PER_CPU_HASH: PerCpuHashMap<Key, Value> = PerCpuHashMap::with_max_entries(ENTRIES, 0);

/// One for all CPUs.
#[map]
static HASH: HashMap<Key, Value> = HashMap::with_max_entries(ENTRIES, 0);

/// One for all CPUs; the oldest leaves.
#[map]
static LRU_HASH: LruHashMap<Key, Value> = LruHashMap::with_max_entries(ENTRIES, 0);

/// A value for each CPU; the oldest leaves.
#[map]
static LRU_PER_CPU_HASH: LruPerCpuHashMap<Key, Value> =
    LruPerCpuHashMap::with_max_entries(ENTRIES, 0);

/// A packet of a flow.
struct Packet {
    key: Key,
    octets: u64,
    tcp_flags: u32,
}

impl Packet {
    /// Nothing if it is no TCP or UDP over IPv4.
    #[inline(always)]
    fn read(ctx: &XdpContext) -> Option<Self> {
        const TCP: u8 = 6;
        const UDP: u8 = 17;
        let (data, end) = (ctx.data(), ctx.data_end());
        if data + 42 > end {
            return None;
        }
        // SAFETY: data..data+42 is packet memory, checked above; BPF loads in packets need no
        // alignment.
        let (ethertype, version, protocol, source, destination, ports) = unsafe {
            (
                *((data + 12) as *const u16),
                *((data + 14) as *const u8),
                *((data + 23) as *const u8),
                *((data + 26) as *const u32),
                *((data + 30) as *const u32),
                *((data + 34) as *const u32),
            )
        };
        let known = protocol == TCP || protocol == UDP;
        if ethertype != 0x0800u16.to_be() || version != 0x45 || !known {
            return None;
        }
        let mut tcp_flags = 0;
        if protocol == TCP && data + 48 <= end {
            // SAFETY: as above.
            tcp_flags = u32::from(unsafe { *((data + 47) as *const u8) });
        }
        let mapped = 0xffffu32.to_be();
        let key = Key {
            source: [0, 0, mapped, source],
            destination: [0, 0, mapped, destination],
            ports,
            protocol: u32::from(protocol),
        };
        Some(Self { key, octets: (end - data - 14) as u64, tcp_flags })
    }

    #[inline(always)]
    fn first(&self, now_ns: u64) -> Value {
        Value {
            packets: 1,
            octets: self.octets,
            first_ns: now_ns,
            last_ns: now_ns,
            tcp_flags: self.tcp_flags,
            padding: 0,
        }
    }

    /// Adds it to a value. Where all CPUs share one, some increments are lost: what is exact
    /// costs more than is measured here.
    #[inline(always)]
    fn add(&self, value: *mut Value, now_ns: u64) {
        // SAFETY: map memory, which is aligned and always there.
        unsafe {
            (*value).packets += 1;
            (*value).octets += self.octets;
            (*value).last_ns = now_ns;
            (*value).tcp_flags |= self.tcp_flags;
        }
    }
}

/// Meters into a map.
macro_rules! meter {
    ($ctx:expr, $map:expr) => {{
        if let Some(packet) = Packet::read(&$ctx) {
            // SAFETY: the helper has no preconditions.
            let now_ns = unsafe { bpf_ktime_get_ns() };
            match $map.get_ptr_mut(&packet.key) {
                Some(value) => packet.add(value, now_ns),
                None => {
                    // A full map refuses it.
                    let _ = $map.insert(&packet.key, &packet.first(now_ns), BPF_NOEXIST.into());
                }
            }
        }
        XDP_PASS
    }};
}

/// A per-CPU hash map.
#[xdp(frags)]
pub fn percpu_hash(ctx: XdpContext) -> u32 {
    meter!(ctx, PER_CPU_HASH)
}

/// A hash map for all CPUs.
#[xdp(frags)]
pub fn hash(ctx: XdpContext) -> u32 {
    meter!(ctx, HASH)
}

/// An LRU hash map for all CPUs.
#[xdp(frags)]
pub fn lru_hash(ctx: XdpContext) -> u32 {
    meter!(ctx, LRU_HASH)
}

/// A per-CPU LRU hash map.
#[xdp(frags)]
pub fn lru_percpu_hash(ctx: XdpContext) -> u32 {
    meter!(ctx, LRU_PER_CPU_HASH)
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The kernel lets only GPL-compatible programs use helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
