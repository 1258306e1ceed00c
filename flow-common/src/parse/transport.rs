//! Transport headers: ports, ICMP type and code, TCP flags.

use super::{FragmentRole, Packet};
use crate::Frame;
use crate::key::protocol;

/// Fills ports and flags from the transport header at `offset`, as far as it was captured.
#[inline(always)]
pub(super) fn read<F: Frame + ?Sized>(frame: &F, offset: usize, packet: &mut Packet) {
    if let FragmentRole::Later = packet.fragment {
        return;
    }
    match packet.key.protocol {
        protocol::TCP => {
            ports(frame, offset, packet);
            // RFC 9293 section 3.1: data offset in words, then the flags.
            if let Some(header) = frame.read::<2>(offset + 12) {
                packet.header_octets += u16::from(header[0] >> 4) * 4;
                packet.tcp_flags = header[1];
            }
        }
        protocol::UDP => {
            ports(frame, offset, packet);
            packet.header_octets += 8;
        }
        protocol::UDP_LITE | protocol::SCTP | protocol::DCCP => ports(frame, offset, packet),
        protocol::ICMP | protocol::ICMPV6 => {
            if let Some(type_and_code) = frame.read::<2>(offset) {
                packet.key.dst_port = u16::from_be_bytes(type_and_code);
            }
        }
        _ => {}
    }
}

#[inline(always)]
fn ports<F: Frame + ?Sized>(frame: &F, offset: usize, packet: &mut Packet) {
    if let Some(ports) = frame.read::<4>(offset) {
        packet.key.src_port = u16::from_be_bytes([ports[0], ports[1]]);
        packet.key.dst_port = u16::from_be_bytes([ports[2], ports[3]]);
    }
}
