//! The hooks: from a program context to one observation for the meter.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_xdp_get_buff_len;
use aya_ebpf::programs::{TcContext, XdpContext};
use flow_common::Direction;

use crate::maps;
use crate::meter::meter;

/// Stack and drivers leave all headers in the linear part of a socket buffer; a
/// buffer with less than Ethernet, IPv4 and UDP there has not been looked at yet.
const LINEAR_HEADERS: u32 = 42;

/// The same with IPv6. Headers of TCP, which are more, are there when the packet leaves.
const LINEAR_HEADERS_IPV6: u32 = 62;

/// Ethertype of IPv6, as it stands in a context.
const IPV6: u32 = 0x86dd_u16.to_be() as u32;

/// Such a buffer gets this much pulled in. Not others: pulling copies the headers
/// of every TCP packet that leaves, which costs a tenth of the throughput.
const PULLED_OCTETS: u32 = 192;

/// What a hook knows of a packet.
pub struct Observation {
    /// First directly readable octet.
    pub start: usize,
    /// One past the last.
    pub end: usize,
    /// The kernel's number for the interface.
    pub ifindex: u32,
    /// Which way the packet goes.
    pub direction: Direction,
    /// A VLAN tag that is no longer in the frame.
    pub stripped_vlan: Option<u16>,
    /// Payload octets of each segment of a super-packet; 0 for an ordinary one.
    pub segment_size: u32,
    /// Segments of a super-packet, 0 if the kernel does not say.
    pub segments: u32,
}

/// XDP: always one packet as it is on the wire, possibly in several buffers.
#[inline(always)]
pub fn xdp(ctx: &XdpContext) {
    let observation = Observation {
        start: ctx.data(),
        end: ctx.data_end(),
        ifindex: ctx.ingress_ifindex() as u32,
        direction: Direction::Ingress,
        stripped_vlan: None,
        segment_size: 0,
        segments: 0,
    };
    meter(ctx, &observation);
}

/// TC: a socket buffer, perhaps a super-packet, perhaps with its tag in metadata.
#[inline(always)]
pub fn tc(ctx: &TcContext, direction: Direction) {
    let len = ctx.len();
    let linear = (ctx.data_end() - ctx.data()) as u32;
    // SAFETY: the context is the one this program was called with.
    let protocol = unsafe { (*ctx.skb.skb).protocol };
    // The headers inside a tunnel may lie behind those that drivers look for.
    let wanted = if maps::decapsulate() {
        PULLED_OCTETS
    } else if protocol == IPV6 {
        LINEAR_HEADERS_IPV6
    } else {
        LINEAR_HEADERS
    };
    if linear < len && linear < wanted {
        // On failure the linear part is parsed, and what is missing counts as truncated.
        let _ = ctx.pull_data(if len < PULLED_OCTETS { len } else { PULLED_OCTETS });
    }
    // SAFETY: the context is the one this program was called with.
    let skb = unsafe { &*ctx.skb.skb };
    let observation = Observation {
        start: ctx.data(),
        end: ctx.data_end(),
        ifindex: skb.ifindex,
        direction,
        stripped_vlan: (skb.vlan_present != 0).then_some(skb.vlan_tci as u16 & 0x0fff),
        segment_size: skb.gso_size,
        segments: skb.gso_segs,
    };
    meter(ctx, &observation);
}

/// What the meter asks a program context for.
pub trait Context: EbpfContext {
    /// Octets of the whole frame on the wire; a helper's call at XDP.
    fn wire_octets(&self) -> u32;
}

impl Context for XdpContext {
    #[inline(always)]
    fn wire_octets(&self) -> u32 {
        // SAFETY: the context is the one this program was called with.
        unsafe { bpf_xdp_get_buff_len(self.ctx) as u32 }
    }
}

impl Context for TcContext {
    #[inline(always)]
    fn wire_octets(&self) -> u32 {
        self.len()
    }
}
