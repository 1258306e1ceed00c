//! IPv4 and IPv6 headers: addresses, octets, fragments, the transport protocol.

use super::link::Payload;
use super::transport::{self, Header};
use super::{FragmentRole, Packet};
use crate::key::{Address, protocol};
use crate::{Frame, NotMetered};

const MAX_EXTENSION_HEADERS: usize = 8;
/// The hop-by-hop header with nothing but the jumbo option (RFC 2675 section 2).
const JUMBO_HEADER_OCTETS: u32 = 8;
/// A power of two above every transport header's offset: link header, IPv6
/// header and eight extension headers of at most 2,048 octets are 16,552.
pub(super) const MAX_HEADER_OCTETS: usize = 1 << 15;

/// Reads the IP header at `payload.offset` and what follows.
#[inline(always)]
pub(super) fn read<F: Frame + ?Sized>(
    frame: &F,
    payload: Payload,
    super_packet: bool,
    packet: &mut Packet,
) -> Result<(), NotMetered> {
    let version = match payload.version {
        0 => frame.u16(payload.offset).ok_or(NotMetered::Truncated)? >> 12,
        stated => u16::from(stated),
    };
    match version {
        4 => ipv4(frame, payload.offset, packet),
        6 => ipv6(frame, payload.offset, super_packet, packet),
        _ => Err(NotMetered::Malformed),
    }
}

/// Why a header that is not wholly there cannot be read.
#[inline(always)]
fn cut_short<F: Frame + ?Sized>(frame: &F, offset: usize, version: u16) -> NotMetered {
    match frame.u16(offset) {
        Some(first) if first >> 12 != version => NotMetered::Malformed,
        _ => NotMetered::Truncated,
    }
}

/// The octets to count for a packet at `offset` whose header says `stated`.
#[inline(always)]
fn octets<F: Frame + ?Sized>(frame: &F, offset: usize, stated: u32, believed: bool) -> u32 {
    if believed && offset + stated as usize <= frame.captured_octets() {
        return stated; // the usual case needs no question to the hook
    }
    let wire = frame.wire_octets().saturating_sub(offset as u32);
    // More than the wire carries cannot be believed either.
    if believed && stated <= wire { stated } else { wire }
}

/// RFC 791 section 3.1.
#[inline(always)]
fn ipv4<F: Frame + ?Sized>(
    frame: &F,
    offset: usize,
    packet: &mut Packet,
) -> Result<(), NotMetered> {
    let words = frame.words(offset).ok_or_else(|| cut_short(frame, offset, 4))?;
    let [first, second, third, src, dst] = words;
    let (first, second, third) = (u32::from_be(first), u32::from_be(second), u32::from_be(third));
    let header_octets = (first >> 24 & 0x0f) as usize * 4;
    if first >> 28 != 4 || header_octets < 20 {
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
    packet.ip_word = first;
    packet.key.src = Address::mapped(src);
    packet.key.dst = Address::mapped(dst);
    packet.key.protocol = protocol;
    packet.ttl = (third >> 24) as u8;
    packet.header_octets = header_octets as u16;
    // 0 is what offload engines write.
    let octets = octets(frame, offset, total, total != 0);
    packet.octets = octets;
    let role = fragment_role(second & 0x1fff, second & 0x2000 != 0);
    packet.fragment = role;
    if role != FragmentRole::Whole {
        packet.fragment_id = second >> 16;
        packet.fragment_protocol = protocol;
    }
    let header = Header { offset: offset + header_octets, end: offset + octets as usize, protocol };
    transport::read(frame, header, role, packet);
    Ok(())
}

/// RFC 8200 section 3 and 4.
#[inline(always)]
fn ipv6<F: Frame + ?Sized>(
    frame: &F,
    offset: usize,
    super_packet: bool,
    packet: &mut Packet,
) -> Result<(), NotMetered> {
    let words = frame.words(offset).ok_or_else(|| cut_short(frame, offset, 6))?;
    let [first, second, s0, s1, s2, s3, d0, d1, d2, d3] = words;
    let (first, second) = (u32::from_be(first), u32::from_be(second));
    if first >> 28 != 6 {
        return Err(NotMetered::Malformed);
    }
    let length = second >> 16;
    let next_header = (second >> 8) as u8;
    packet.ip_word = first;
    packet.key.src = Address([s0, s1, s2, s3]);
    packet.key.dst = Address([d0, d1, d2, d3]);
    packet.ttl = second as u8;
    packet.fragment = FragmentRole::Whole;
    // Super-packets of more than 64 KiB state no length, newer kernels' not even with a
    // jumbo option (RFC 2675).
    let option = next_header == protocol::HOP_BY_HOP;
    let believed = length != 0 || !(option || super_packet);
    let octets = octets(frame, offset, 40 + length, believed);
    packet.octets = octets;
    let mut header =
        Header { offset: offset + 40, end: offset + octets as usize, protocol: next_header };
    extension_headers(frame, &mut header, packet);
    packet.key.protocol = header.protocol;
    packet.header_octets = (header.offset - offset) as u16;
    if super_packet && option && octets > 40 + 0xffff {
        // The kernel takes it off again when it segments (net/ipv6/ip6_offload.c).
        packet.octets -= JUMBO_HEADER_OCTETS;
        packet.header_octets -= JUMBO_HEADER_OCTETS as u16;
    }
    transport::read(frame, header, packet.fragment, packet);
    Ok(())
}

/// Walks the extension headers, to the last next header and behind the last one
/// that was read whole.
#[inline(always)]
fn extension_headers<F: Frame + ?Sized>(frame: &F, header: &mut Header, packet: &mut Packet) {
    for _ in 0..MAX_EXTENSION_HEADERS {
        let Header { offset, end, protocol } = *header;
        let octets = match protocol {
            protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::DESTINATION_OPTIONS
            | protocol::MOBILITY
            | protocol::HIP
            | protocol::SHIM6
            | protocol::AH => {
                if offset + 2 > end {
                    return;
                }
                let Some(word) = frame.u16(offset) else { return };
                header.protocol = (word >> 8) as u8;
                let length = usize::from(word & 0xff);
                // RFC 4302 section 2.2: in units of four octets, minus two.
                if protocol == protocol::AH { (length + 2) * 4 } else { (length + 1) * 8 }
            }
            protocol::FRAGMENT => {
                if offset + 8 > end {
                    return;
                }
                let Some([word, id]) = frame.words(offset) else { return };
                let word = u32::from_be(word);
                header.protocol = (word >> 24) as u8;
                packet.fragment = fragment_role(word >> 3 & 0x1fff, word & 1 != 0);
                packet.fragment_id = u32::from_be(id);
                packet.fragment_protocol = header.protocol;
                if packet.fragment == FragmentRole::Later {
                    // What follows is the middle of a payload, not a header.
                    header.offset = offset + 8;
                    return;
                }
                8
            }
            _ => return,
        };
        header.offset = frame.merge_paths(offset + octets, MAX_HEADER_OCTETS);
    }
}

#[inline(always)]
const fn fragment_role(offset: u32, more: bool) -> FragmentRole {
    match (offset, more) {
        (0, false) => FragmentRole::Whole,
        (0, true) => FragmentRole::First,
        _ => FragmentRole::Later,
    }
}
