//! The kernel side: three programs that meter every packet of a host and let it pass.
//!
//! A hook's program ([`xdp_ingress`], [`tc_ingress`], [`tc_egress`]) turns its
//! context into a [`hook::Observation`]; [`meter`] parses it with the parser
//! that replay uses and counts it into the tables of [`maps`]. Whatever happens,
//! the packet goes on unchanged and other programs on the hook run.
#![no_std]
#![no_main]
#![allow(missing_docs, reason = "the macros make undocumented functions of the documented ones")]

mod diagnose;
mod filter;
mod frame;
mod hook;
mod maps;
mod meter;
mod table;

use aya_ebpf::bindings::TC_ACT_UNSPEC;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use flow_common::Direction;

/// Packets entering the host, in the driver (native) or just above it (generic).
#[xdp(frags)]
#[inline(always)]
pub fn xdp_ingress(ctx: XdpContext) -> u32 {
    hook::xdp(&ctx);
    maps::xdp_verdict()
}

/// Packets entering the host, where XDP is not attached.
#[classifier]
#[inline(always)]
pub fn tc_ingress(ctx: TcContext) -> i32 {
    hook::tc(&ctx, Direction::Ingress);
    TC_ACT_UNSPEC
}

/// Packets leaving the host.
#[classifier]
#[inline(always)]
pub fn tc_egress(ctx: TcContext) -> i32 {
    hook::tc(&ctx, Direction::Egress);
    TC_ACT_UNSPEC
}

/// Not attached: the agent runs it to read the clocks that only the kernel has.
#[classifier]
#[inline(always)]
pub fn read_clock(_ctx: TcContext) -> i32 {
    maps::store_clock();
    TC_ACT_UNSPEC
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The kernel lets only GPL-compatible programs use the helpers needed here.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
