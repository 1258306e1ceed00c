//! Transport headers: ports, ICMP type and code, TCP flags.

use super::{FragmentRole, Packet};
use crate::Frame;
use crate::key::protocol;

/// Fills ports and flags from the transport header at `offset`, as far as it was captured and
/// the IP packet, which ends at `end`, has it: behind that, Ethernet pads.
#[inline(always)]
pub(super) fn read<F: Frame + ?Sized>(frame: &F, offset: usize, end: usize, packet: &mut Packet) {
    if let FragmentRole::Later = packet.fragment {
        return;
    }
    let octets = end.saturating_sub(offset);
    match packet.key.protocol {
        protocol::TCP => {
            ports(frame, offset, octets, packet);
            // RFC 9293 section 3.1: data offset in words, then the flags.
            if octets >= 14
                && let Some(header) = frame.u16(offset + 12)
            {
                packet.header_octets += (header >> 12) * 4;
                packet.tcp_flags = header as u8;
            }
        }
        protocol::UDP => {
            ports(frame, offset, octets, packet);
            packet.header_octets += 8;
        }
        protocol::UDP_LITE | protocol::SCTP | protocol::DCCP => {
            ports(frame, offset, octets, packet);
        }
        protocol::ICMP | protocol::ICMPV6 => {
            if octets >= 2
                && let Some(type_and_code) = frame.u16(offset)
            {
                packet.key.dst_port = type_and_code;
            }
        }
        _ => {}
    }
}

#[inline(always)]
fn ports<F: Frame + ?Sized>(frame: &F, offset: usize, octets: usize, packet: &mut Packet) {
    if octets >= 4
        && let Some(ports) = frame.u32(offset)
    {
        packet.key.src_port = (ports >> 16) as u16;
        packet.key.dst_port = ports as u16;
    }
}
