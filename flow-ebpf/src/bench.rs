//! For measurements and tests only, never part of an agent: programs that give each packet
//! another flow and hand it on, an empty program as the floor, and independent counters.
#![no_std]
#![no_main]
#![allow(missing_docs, reason = "the macros make undocumented functions of the documented ones")]

use core::ptr;

use aya_ebpf::bindings::{
    TC_ACT_UNSPEC,
    xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS},
};
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::macros::{classifier, map, xdp};
use aya_ebpf::maps::{Array, PerCpuArray, ProgramArray};
use aya_ebpf::programs::{TcContext, XdpContext};

/// Packets until the workload begins again; a power of two.
const PACKETS: u32 = 1 << 20;

/// The flow of each packet: written into the last four octets of the source address.
#[map]
static WORKLOAD: Array<u32> = Array::with_max_entries(PACKETS, 0);

/// How many packets each CPU has varied.
#[map]
static CURSOR: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// The program that is measured: the shipped one, or the empty one.
#[map]
static TARGET_XDP: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// The same for TC.
#[map]
static TARGET_TC: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Packets and octets behind the Ethernet header, by counter: XDP, TC ingress, TC egress.
#[map]
static COUNTS: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(3, 0);

/// The same for each watched flow, at XDP and TC ingress.
#[map]
static WATCHED_COUNTS: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(WATCHED, 0);

/// Flows that a flood goes on feeding and the counters count one by one.
const WATCHED: u32 = 1000;
/// So many packets are theirs alone, before the flood begins...
const WATCHED_ALONE: u64 = 20_000;
/// ...and one of so many in it.
const WATCHED_SHARE: u64 = 16;
/// Watched flows have this destination port, and source ports from `WATCHED_FIRST` on; random
/// tuples never have it.
const WATCHED_PORT: u16 = 4242;
const WATCHED_FIRST: u16 = 10_000;
/// The source address of the watched flows: 172.16.0.1.
const WATCHED_SOURCE: u32 = u32::from_be_bytes([172, 16, 0, 1]);

// Set by the loader. Not zero, and not alike, so that no constant shares their place.
/// Where in the frame the flow goes.
#[unsafe(no_mangle)]
static FLOW_OFFSET: u32 = 0xffff_ff01;
/// What a flow's number grows by each time the workload begins again: new flows take the place
/// of the old ones, each at a time of its own.
#[unsafe(no_mangle)]
static CHURN: u32 = 0xffff_ff02;
/// The interface that generated packets leave by.
#[unsafe(no_mangle)]
static OUTPUT: u32 = 0xffff_ff03;

/// Varies the packet, then goes on with the program under measurement.
#[xdp(frags)]
pub fn vary_xdp(ctx: XdpContext) -> u32 {
    vary(ctx.data(), ctx.data_end());
    // SAFETY: the array holds one program of this type; a missing one only fails the call.
    unsafe {
        let _ = TARGET_XDP.tail_call(&ctx, 0);
    }
    XDP_ABORTED
}

/// The same for TC.
#[classifier]
pub fn vary_tc(ctx: TcContext) -> i32 {
    vary(ctx.data(), ctx.data_end());
    // SAFETY: as above.
    unsafe {
        let _ = TARGET_TC.tail_call(&ctx, 0);
    }
    TC_ACT_UNSPEC
}

/// The floor.
#[xdp(frags)]
pub fn empty_xdp(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// The floor.
#[classifier]
pub fn empty_tc(_ctx: TcContext) -> i32 {
    TC_ACT_UNSPEC
}

/// The most that a receiver can drop.
#[xdp(frags)]
pub fn drop_xdp(_ctx: XdpContext) -> u32 {
    XDP_DROP
}

/// A generator (live frames): sends the workload.
#[xdp]
pub fn send_xdp(ctx: XdpContext) -> u32 {
    vary(ctx.data(), ctx.data_end());
    output()
}

/// A generator (live frames): sends random tuples, and the watched flows in turn.
#[xdp]
pub fn flood_xdp(ctx: XdpContext) -> u32 {
    let (data, end) = (ctx.data(), ctx.data_end());
    // Ethernet, IPv4 and UDP, as the flood's frame has them.
    if data + 42 > end {
        return XDP_ABORTED;
    }
    let Some(packet) = next_packet() else { return XDP_ABORTED };
    let watched = if packet < WATCHED_ALONE { packet } else { packet / WATCHED_SHARE };
    let is_watched = packet < WATCHED_ALONE || packet % WATCHED_SHARE == 0;
    let (source, source_port, port) = if is_watched {
        let watched = (watched % u64::from(WATCHED)) as u16;
        (WATCHED_SOURCE, WATCHED_FIRST + watched, WATCHED_PORT)
    } else {
        let random = mixed(packet);
        // 10.0.0.0/8, any port, any port from 32768 on.
        let address = 10 << 24 | (random as u32 & 0x00ff_ffff);
        (address, (random >> 24) as u16, (random >> 40) as u16 | 0x8000)
    };
    // SAFETY: data..data+42 is packet memory, checked above; BPF loads and stores in packets
    // need no alignment.
    unsafe {
        ((data + 26) as *mut u32).write_unaligned(source.to_be());
        ((data + 34) as *mut u16).write_unaligned(source_port.to_be());
        ((data + 36) as *mut u16).write_unaligned(port.to_be());
    }
    output()
}

/// Counts what comes and passes it on. Native XDP on a veth also makes it take live frames.
#[xdp(frags)]
pub fn count_xdp(ctx: XdpContext) -> u32 {
    count(0, ctx.data(), ctx.data_end(), (ctx.data_end() - ctx.data()) as u64);
    XDP_PASS
}

/// Counts what comes.
#[classifier]
pub fn count_tc_ingress(ctx: TcContext) -> i32 {
    count(1, ctx.data(), ctx.data_end(), u64::from(ctx.len()));
    TC_ACT_UNSPEC
}

/// Counts what leaves.
#[classifier]
pub fn count_tc_egress(ctx: TcContext) -> i32 {
    count(2, 0, 0, u64::from(ctx.len()));
    TC_ACT_UNSPEC
}

/// A constant that the loader sets.
#[inline(always)]
fn constant(constant: &'static u32) -> u32 {
    // SAFETY: a static of this program; volatile because the loader sets it.
    unsafe { ptr::read_volatile(constant) }
}

/// The number of this packet on this CPU.
#[inline(always)]
fn next_packet() -> Option<u64> {
    let cursor = CURSOR.get_ptr_mut(0)?;
    // SAFETY: per-CPU map memory, and programs do not nest on a CPU.
    unsafe {
        let packet = *cursor;
        *cursor = packet.wrapping_add(1);
        Some(packet)
    }
}

#[inline(always)]
fn vary(data: usize, data_end: usize) {
    let at = data + (constant(&FLOW_OFFSET) & 0xff) as usize;
    if at + 4 > data_end {
        return;
    }
    let Some(packet) = next_packet() else { return };
    if let Some(flow) = WORKLOAD.get(packet as u32 & (PACKETS - 1)) {
        let round = (packet + u64::from(*flow & (PACKETS - 1))) / u64::from(PACKETS);
        let flow = flow.wrapping_add((round as u32).wrapping_mul(constant(&CHURN)));
        // SAFETY: at..at+4 is packet memory, checked above.
        unsafe { *(at as *mut u32) = flow };
    }
}

/// The finaliser of `SplitMix64`: every packet number gives another tuple.
#[inline(always)]
fn mixed(packet: u64) -> u64 {
    let z = packet.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 27)
}

#[inline(always)]
fn output() -> u32 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_redirect(constant(&OUTPUT), 0) as u32 }
}

/// Adds a packet to a counter, and to its watched flow if it belongs to one.
#[inline(always)]
fn count(counter: u32, data: usize, end: usize, length: u64) {
    let octets = length - 14;
    if let Some(sum) = COUNTS.get_ptr_mut(counter) {
        add(sum, octets);
    }
    if data + 42 > end {
        return;
    }
    // SAFETY: data..data+42 is packet memory, checked above.
    let (ethertype, source_port, port) = unsafe {
        (
            u16::from_be(*((data + 12) as *const u16)),
            u16::from_be(*((data + 34) as *const u16)),
            u16::from_be(*((data + 36) as *const u16)),
        )
    };
    if ethertype == 0x0800
        && port == WATCHED_PORT
        && let Some(sum) =
            WATCHED_COUNTS.get_ptr_mut(u32::from(source_port.wrapping_sub(WATCHED_FIRST)))
    {
        add(sum, octets);
    }
}

#[inline(always)]
fn add(sum: *mut [u64; 2], octets: u64) {
    // SAFETY: per-CPU map memory, and programs do not nest on a CPU.
    unsafe {
        (*sum)[0] += 1;
        (*sum)[1] += octets;
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// Test runs of programs that use helpers need a GPL-compatible licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
