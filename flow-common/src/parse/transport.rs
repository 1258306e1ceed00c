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
            // RFC 9293 section 3.1: behind the source port stand the destination port and half
            // of the sequence number, its other half, and two octets before data offset and flags.
            if octets >= 14
                && let Some(words) = frame.words(offset + 2)
            {
                let [port_and_high, low, header] = words.map(u32::from_be);
                packet.header_octets += (header as u16 >> 12) * 4;
                packet.tcp_flags = header as u8;
                packet.tcp_seq = port_and_high << 16 | low >> 16;
                packet.payload_octets =
                    packet.octets.saturating_sub(u32::from(packet.header_octets));
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
