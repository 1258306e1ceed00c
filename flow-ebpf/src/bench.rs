//! For measurements only, never attached: gives the metering programs another
//! flow with each test run of the same packet, and an empty program as the floor.
#![no_std]
#![no_main]
#![allow(missing_docs, reason = "the macros make undocumented functions of the documented ones")]

use core::ptr;

use aya_ebpf::bindings::{TC_ACT_UNSPEC, xdp_action::XDP_PASS};
use aya_ebpf::macros::{classifier, map, xdp};
use aya_ebpf::maps::{Array, ProgramArray};
use aya_ebpf::programs::{TcContext, XdpContext};

/// Packets until the workload begins again; a power of two.
const PACKETS: u32 = 1 << 20;

/// The flow of each packet: written into the last four octets of the source address.
#[map]
static WORKLOAD: Array<u32> = Array::with_max_entries(PACKETS, 0);

/// How many packets have been varied.
#[map]
static CURSOR: Array<u32> = Array::with_max_entries(1, 0);

/// The program that is measured: the shipped one, or the empty one.
#[map]
static TARGET_XDP: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// The same for TC.
#[map]
static TARGET_TC: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Where in the frame the flow goes. Not zero, so that no constant shares its place.
#[unsafe(no_mangle)]
static FLOW_OFFSET: u32 = 0xffff_ff01;

/// Varies the packet, then goes on with the program under measurement.
#[xdp(frags)]
pub fn vary_xdp(ctx: XdpContext) -> u32 {
    vary(ctx.data(), ctx.data_end());
    // SAFETY: the array holds one program of this type; a missing one only fails the call.
    unsafe {
        let _ = TARGET_XDP.tail_call(&ctx, 0);
    }
    XDP_PASS
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

#[inline(always)]
fn vary(data: usize, data_end: usize) {
    // SAFETY: a static of this program; volatile because the loader sets it.
    let offset = unsafe { ptr::read_volatile(&raw const FLOW_OFFSET) } as usize;
    let at = data + offset;
    if at + 4 > data_end {
        return;
    }
    let Some(cursor) = CURSOR.get_ptr_mut(0) else { return };
    // SAFETY: map memory; a measurement runs on one CPU.
    let packet = unsafe {
        let packet = *cursor;
        *cursor = packet.wrapping_add(1);
        packet
    };
    if let Some(flow) = WORKLOAD.get(packet & (PACKETS - 1)) {
        // SAFETY: at..at+4 is packet memory, checked above.
        unsafe { *(at as *mut u32) = *flow };
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
