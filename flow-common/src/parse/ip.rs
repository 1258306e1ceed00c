//! IPv4 and IPv6 headers: addresses, octets, fragments, the transport protocol.

use super::link::Payload;
use super::{FragmentRole, Packet, transport};
use crate::key::{Address, protocol};
use crate::{FlowKey, Frame, NotMetered, Tunnel};

const MAX_EXTENSION_HEADERS: usize = 8;
/// A power of two above every transport header's offset: link header, IPv6
/// header and eight extension headers of at most 2,048 octets are 16,552.
pub(super) const MAX_HEADER_OCTETS: usize = 1 << 15;

/// Reads the IP header at `payload.offset`; `wire` is the octets on the wire from there.
#[inline(always)]
pub(super) fn read<F: Frame + ?Sized>(
    frame: &F,
    payload: &Payload,
    wire: u32,
) -> Result<Packet, NotMetered> {
    let first = frame.u16(payload.offset).ok_or(NotMetered::Truncated)?;
    let version = (first >> 12) as u8;
    if payload.version != 0 && payload.version != version {
        return Err(NotMetered::Malformed);
    }
    match version {
        4 => ipv4(frame, payload, wire),
        6 => ipv6(frame, payload, wire),
        _ => Err(NotMetered::Malformed),
    }
}

/// RFC 791 section 3.1.
#[inline(always)]
fn ipv4<F: Frame + ?Sized>(frame: &F, payload: &Payload, wire: u32) -> Result<Packet, NotMetered> {
    let offset = payload.offset;
    let [first, second, third, src, dst] = frame.words(offset).ok_or(NotMetered::Truncated)?;
    let (first, second, third) = (u32::from_be(first), u32::from_be(second), u32::from_be(third));
    let header_octets = (first >> 24 & 0x0f) as usize * 4;
    if header_octets < 20 {
        return Err(NotMetered::Malformed);
    }
    let total = first & 0xffff;
    if total != 0 && total < header_octets as u32 {
        return Err(NotMetered::Malformed);
    }
    if header_octets > 20 && frame.u16(offset + header_octets - 2).is_none() {
        return Err(NotMetered::Truncated);
    }
    let protocol = (third >> 16) as u8;
    let mut packet = Packet {
        key: FlowKey {
            src: Address::mapped(src),
            dst: Address::mapped(dst),
            protocol,
            vlan_id: payload.vlan_id,
            inner_vlan_id: payload.inner_vlan_id,
            ..FlowKey::default()
        },
        // 0 is what offload engines write; more than the wire carries cannot be believed.
        octets: if total == 0 || total > wire { wire } else { total },
        header_octets: header_octets as u16,
        payload_octets: 0,
        tcp_seq: 0,
        tcp_flags: 0,
        dscp: (first >> 18 & 0x3f) as u8,
        ttl: (third >> 24) as u8,
        fragment: fragment_role(second & 0x1fff, second & 0x2000 != 0),
        fragment_id: second >> 16,
        fragment_protocol: protocol,
        jumbo: false,
        tunnel: Tunnel::default(),
    };
    let end = offset + packet.octets as usize;
    transport::read(frame, offset + header_octets, end, &mut packet);
    Ok(packet)
}

/// RFC 8200 section 3 and 4.
#[inline(always)]
fn ipv6<F: Frame + ?Sized>(frame: &F, payload: &Payload, wire: u32) -> Result<Packet, NotMetered> {
    let offset = payload.offset;
    let [first, second, s0, s1, s2, s3, d0, d1, d2, d3] =
        frame.words(offset).ok_or(NotMetered::Truncated)?;
    let (first, second) = (u32::from_be(first), u32::from_be(second));
    let length = second >> 16;
    let next_header = (second >> 8) as u8;
    let jumbo = length == 0 && next_header == protocol::HOP_BY_HOP;
    let mut packet = Packet {
        key: FlowKey {
            src: Address([s0, s1, s2, s3]),
            dst: Address([d0, d1, d2, d3]),
            protocol: next_header,
            vlan_id: payload.vlan_id,
            inner_vlan_id: payload.inner_vlan_id,
            ..FlowKey::default()
        },
        octets: if jumbo || 40 + length > wire { wire } else { 40 + length },
        header_octets: 40,
        payload_octets: 0,
        tcp_seq: 0,
        tcp_flags: 0,
        dscp: (first >> 22 & 0x3f) as u8,
        ttl: second as u8,
        fragment: FragmentRole::Whole,
        fragment_id: 0,
        fragment_protocol: 0,
        jumbo,
        tunnel: Tunnel::default(),
    };
    let end = offset + packet.octets as usize;
    let transport = extension_headers(frame, offset + 40, end, &mut packet);
    packet.header_octets = (transport - offset) as u16;
    transport::read(frame, transport, end, &mut packet);
    Ok(packet)
}

/// Walks the extension headers; leaves the last next header in `key.protocol`
/// and returns the offset behind the last one that was read whole.
#[inline(always)]
fn extension_headers<F: Frame + ?Sized>(
    frame: &F,
    mut offset: usize,
    end: usize,
    packet: &mut Packet,
) -> usize {
    for _ in 0..MAX_EXTENSION_HEADERS {
        let octets = match packet.key.protocol {
            protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::DESTINATION_OPTIONS
            | protocol::MOBILITY
            | protocol::HIP
            | protocol::SHIM6 => {
                if offset + 2 > end {
                    break;
                }
                let Some(header) = frame.u16(offset) else { break };
                packet.key.protocol = (header >> 8) as u8;
                (usize::from(header & 0xff) + 1) * 8
            }
            // RFC 4302 section 2.2: in units of four octets, minus two.
            protocol::AH => {
                if offset + 2 > end {
                    break;
                }
                let Some(header) = frame.u16(offset) else { break };
                packet.key.protocol = (header >> 8) as u8;
                (usize::from(header & 0xff) + 2) * 4
            }
            protocol::FRAGMENT => {
                if offset + 8 > end {
                    break;
                }
                let Some([header, id]) = frame.words(offset) else { break };
                let header = u32::from_be(header);
                packet.key.protocol = (header >> 24) as u8;
                packet.fragment = fragment_role(header >> 3 & 0x1fff, header & 1 != 0);
                packet.fragment_id = u32::from_be(id);
                packet.fragment_protocol = packet.key.protocol;
                if let FragmentRole::Later = packet.fragment {
                    // What follows is the middle of a payload, not a header.
                    return offset + 8;
                }
                8
            }
            _ => break,
        };
        offset = frame.merge_paths(offset + octets, MAX_HEADER_OCTETS);
    }
    offset
}

#[inline(always)]
const fn fragment_role(offset: u32, more: bool) -> FragmentRole {
    match (offset, more) {
        (0, false) => FragmentRole::Whole,
        (0, true) => FragmentRole::First,
        _ => FragmentRole::Later,
    }
}
