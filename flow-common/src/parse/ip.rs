//! IPv4 and IPv6 headers: addresses, octets, fragments, the transport protocol.

use super::link::Payload;
use super::{FragmentRole, Packet, transport};
use crate::key::{mapped, protocol};
use crate::{FlowKey, Frame, NotMetered};

const MAX_EXTENSION_HEADERS: usize = 8;

/// Reads the IP header at `payload.offset`; `wire` is the octets on the wire from there.
#[inline(always)]
pub(super) fn read<F: Frame + ?Sized>(
    frame: &F,
    payload: &Payload,
    wire: u32,
) -> Result<Packet, NotMetered> {
    let first = frame.read::<2>(payload.offset).ok_or(NotMetered::Truncated)?[0];
    let version = first >> 4;
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
    let header = frame.read::<20>(offset).ok_or(NotMetered::Truncated)?;
    let header_octets = usize::from(header[0] & 0x0f) * 4;
    if header_octets < 20 {
        return Err(NotMetered::Malformed);
    }
    let total = u32::from(u16::from_be_bytes([header[2], header[3]]));
    if total != 0 && total < header_octets as u32 {
        return Err(NotMetered::Malformed);
    }
    if header_octets > 20 && frame.read::<2>(offset + header_octets - 2).is_none() {
        return Err(NotMetered::Truncated);
    }
    let fragment_field = u16::from_be_bytes([header[6], header[7]]);
    let fragment = fragment_role(fragment_field & 0x1fff, fragment_field & 0x2000 != 0);
    let mut packet = Packet {
        key: FlowKey {
            src: mapped([header[12], header[13], header[14], header[15]]),
            dst: mapped([header[16], header[17], header[18], header[19]]),
            protocol: header[9],
            vlan_id: payload.vlan_id,
            inner_vlan_id: payload.inner_vlan_id,
            ..FlowKey::default()
        },
        // 0 is what offload engines write; more than the wire carries cannot be believed.
        octets: if total == 0 || total > wire { wire } else { total },
        header_octets: header_octets as u16,
        tcp_flags: 0,
        dscp: header[1] >> 2,
        ttl: header[8],
        fragment,
        fragment_id: u32::from(u16::from_be_bytes([header[4], header[5]])),
        fragment_protocol: header[9],
    };
    let end = offset + packet.octets as usize;
    transport::read(frame, offset + header_octets, end, &mut packet);
    Ok(packet)
}

/// RFC 8200 section 3 and 4.
#[inline(always)]
fn ipv6<F: Frame + ?Sized>(frame: &F, payload: &Payload, wire: u32) -> Result<Packet, NotMetered> {
    let offset = payload.offset;
    let header = frame.read::<8>(offset).ok_or(NotMetered::Truncated)?;
    let src = frame.read::<16>(offset + 8).ok_or(NotMetered::Truncated)?;
    let dst = frame.read::<16>(offset + 24).ok_or(NotMetered::Truncated)?;
    let length = u32::from(u16::from_be_bytes([header[4], header[5]]));
    let jumbo = length == 0 && header[6] == protocol::HOP_BY_HOP;
    let mut packet = Packet {
        key: FlowKey {
            src,
            dst,
            protocol: header[6],
            vlan_id: payload.vlan_id,
            inner_vlan_id: payload.inner_vlan_id,
            ..FlowKey::default()
        },
        octets: if jumbo || 40 + length > wire { wire } else { 40 + length },
        header_octets: 40,
        tcp_flags: 0,
        dscp: (u16::from_be_bytes([header[0], header[1]]) >> 6 & 0x3f) as u8,
        ttl: header[7],
        fragment: FragmentRole::Whole,
        fragment_id: 0,
        fragment_protocol: 0,
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
                let Some(header) = frame.read::<2>(offset) else { break };
                packet.key.protocol = header[0];
                (usize::from(header[1]) + 1) * 8
            }
            // RFC 4302 section 2.2: in units of four octets, minus two.
            protocol::AH => {
                if offset + 2 > end {
                    break;
                }
                let Some(header) = frame.read::<2>(offset) else { break };
                packet.key.protocol = header[0];
                (usize::from(header[1]) + 2) * 4
            }
            protocol::FRAGMENT => {
                if offset + 8 > end {
                    break;
                }
                let Some(header) = frame.read::<8>(offset) else { break };
                packet.key.protocol = header[0];
                let field = u16::from_be_bytes([header[2], header[3]]);
                packet.fragment = fragment_role(field >> 3, field & 1 != 0);
                packet.fragment_id =
                    u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
                packet.fragment_protocol = header[0];
                if let FragmentRole::Later = packet.fragment {
                    // What follows is the middle of a payload, not a header.
                    return offset + 8;
                }
                8
            }
            _ => break,
        };
        offset += octets;
    }
    offset
}

#[inline(always)]
const fn fragment_role(offset: u16, more: bool) -> FragmentRole {
    match (offset, more) {
        (0, false) => FragmentRole::Whole,
        (0, true) => FragmentRole::First,
        _ => FragmentRole::Later,
    }
}
