//! Transport headers: ports, ICMP type and code, TCP flags and sequence.

use super::{FragmentRole, Packet};
use crate::Frame;
use crate::key::protocol;

/// Where a header is, what it is, and where the IP packet ends: behind that,
/// Ethernet pads.
#[derive(Clone, Copy)]
pub(super) struct Header {
    pub offset: usize,
    pub end: usize,
    pub protocol: u8,
}

/// Fills ports, flags and sequence from the transport header, as far as it was
/// captured and the IP packet has it.
#[inline(always)]
pub(super) fn read<F: Frame + ?Sized>(
    frame: &F,
    header: Header,
    role: FragmentRole,
    packet: &mut Packet,
) {
    let Header { offset, end, protocol } = header;
    packet.key.src_port = 0;
    packet.key.dst_port = 0;
    packet.tcp_flags = 0;
    packet.payload_octets = 0;
    if role == FragmentRole::Later {
        return;
    }
    match protocol {
        protocol::TCP => {
            ports(frame, header, packet);
            // RFC 9293 section 3.1: sequence number; data offset in words, then the flags.
            if offset + 14 <= end
                && let Some(seq) = frame.u32(offset + 4)
                && let Some(flags) = frame.u16(offset + 12)
            {
                packet.header_octets += (flags >> 12) * 4;
                packet.tcp_flags = flags as u8;
                packet.tcp_seq = seq;
                let headers = u32::from(packet.header_octets);
                if packet.octets > headers {
                    packet.payload_octets = packet.octets - headers;
                }
            }
        }
        protocol::UDP => {
            ports(frame, header, packet);
            packet.header_octets += 8;
        }
        protocol::SCTP => {
            ports(frame, header, packet);
            // RFC 9260 section 3.1: each segment of a super-packet has the common header.
            packet.header_octets += 12;
        }
        protocol::UDP_LITE | protocol::DCCP => ports(frame, header, packet),
        protocol::ICMP | protocol::ICMPV6 => {
            if offset + 2 <= end
                && let Some(type_and_code) = frame.u16(offset)
            {
                packet.key.dst_port = type_and_code;
            }
        }
        _ => {}
    }
}

#[inline(always)]
fn ports<F: Frame + ?Sized>(frame: &F, Header { offset, end, .. }: Header, packet: &mut Packet) {
    if offset + 4 <= end
        && let Some(ports) = frame.u32(offset)
    {
        packet.key.src_port = (ports >> 16) as u16;
        packet.key.dst_port = ports as u16;
    }
}
