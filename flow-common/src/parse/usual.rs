//! The usual packet, read in one go: TCP or UDP in whole IPv4 without options or in
//! IPv6 without extension headers, in Ethernet with at most one tag, whose headers are all there.
//!
//! Nearly all packets are like this. It says of each exactly what the stages would
//! say, in fewer instructions; whatever is not like this it leaves to them.

use super::link::{IPV4, IPV6, VLAN};
use super::{FragmentRole, Options, Packet};
use crate::key::{Address, protocol};
use crate::tunnel::Tunnel;
use crate::{FlowKey, Frame};

/// What both versions of IP say.
struct IpHeader {
    /// Where the transport header is.
    transport: usize,
    /// Octets from the IP header to the end of the packet.
    octets: u32,
    /// Of them, the IP header's.
    header_octets: u16,
    protocol: u8,
    /// The first word of the transport header.
    ports: u32,
}

/// Reads a usual packet whole; false leaves `packet` in any state.
#[inline(always)]
pub(super) fn read<F: Frame + ?Sized>(
    frame: &F,
    stripped_vlan: Option<u16>,
    options: Options,
    packet: &mut Packet,
) -> bool {
    let Some(mut ethertype) = frame.u16(12) else { return false };
    let (mut offset, mut vlan_id) = (14, stripped_vlan.unwrap_or(0));
    if ethertype == VLAN && stripped_vlan.is_none() {
        let Some(tag) = frame.u32(14) else { return false };
        (vlan_id, ethertype) = ((tag >> 16) as u16 & 0x0fff, tag as u16);
        offset = 18;
    }
    let header = match ethertype {
        IPV4 => ipv4(frame, offset, packet),
        IPV6 => ipv6(frame, offset, packet),
        _ => return false,
    };
    let Some(header) = header else { return false };
    if !frame.has_octets(offset + header.octets as usize) {
        return false;
    }
    packet.octets = header.octets;
    packet.fragment = FragmentRole::Whole;
    let key = &mut packet.key;
    key.set_vlan_ids(vlan_id, 0);
    key.set_ports((header.ports >> 16) as u16, header.ports as u16);
    key.protocol = header.protocol;
    if options.decapsulate {
        packet.tunnel = Tunnel::default();
    }
    match header.protocol {
        protocol::TCP => tcp(frame, &header, packet),
        // A tunnel's port is for the stages to see.
        protocol::UDP if !options.decapsulate && !options.super_packet => {
            packet.header_octets = header.header_octets + 8;
            packet.tcp_flags = 0;
            packet.payload_octets = 0;
            header.octets >= u32::from(packet.header_octets)
        }
        _ => false,
    }
}

/// RFC 791 section 3.1.
#[inline(always)]
fn ipv4<F: Frame + ?Sized>(frame: &F, offset: usize, packet: &mut Packet) -> Option<IpHeader> {
    let [first, second, third, src, dst, ports] = frame.words(offset)?;
    let (first, third) = (u32::from_be(first), u32::from_be(third));
    // Version and length of the header; more fragments and offset.
    if first >> 24 != 0x45 || u32::from_be(second) & 0x3fff != 0 {
        return None;
    }
    let FlowKey { src: key_src, dst: key_dst, .. } = &mut packet.key;
    *key_src = Address::mapped(src);
    *key_dst = Address::mapped(dst);
    packet.ip_word = first;
    packet.ttl = (third >> 24) as u8;
    Some(IpHeader {
        transport: offset + 20,
        octets: first & 0xffff,
        header_octets: 20,
        protocol: (third >> 16) as u8,
        ports: u32::from_be(ports),
    })
}

/// RFC 8200 section 3.
#[inline(always)]
fn ipv6<F: Frame + ?Sized>(frame: &F, offset: usize, packet: &mut Packet) -> Option<IpHeader> {
    let [first, second, s0, s1, s2, s3, d0, d1, d2, d3, ports] = frame.words(offset)?;
    let (first, second) = (u32::from_be(first), u32::from_be(second));
    if first >> 28 != 6 {
        return None;
    }
    packet.key.src = Address([s0, s1, s2, s3]);
    packet.key.dst = Address([d0, d1, d2, d3]);
    packet.ip_word = first;
    packet.ttl = second as u8;
    Some(IpHeader {
        transport: offset + 40,
        octets: 40 + (second >> 16),
        header_octets: 40,
        protocol: (second >> 8) as u8,
        ports: u32::from_be(ports),
    })
}

/// RFC 9293 section 3.1.
#[inline(always)]
fn tcp<F: Frame + ?Sized>(frame: &F, header: &IpHeader, packet: &mut Packet) -> bool {
    let Some([seq, _, flags]) = frame.words(header.transport + 4) else { return false };
    let flags = u32::from_be(flags);
    let headers = header.header_octets + (flags >> 28) as u16 * 4;
    if flags >> 28 < 5 || header.octets < u32::from(headers) {
        return false;
    }
    packet.header_octets = headers;
    packet.tcp_seq = u32::from_be(seq);
    packet.tcp_flags = (flags >> 16) as u8;
    packet.payload_octets = header.octets - u32::from(headers);
    true
}
