//! A metered packet enters; if it is a tunnel's, what the tunnel carries leaves.

use std::net::IpAddr;

use super::capture::Frame;
use super::ip::{self, Packet};
use super::link::{self, Network, Version};

/// One direction of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tunnel {
    /// The name in `tunnel_type`.
    pub kind: &'static str,
    /// VNI, key or TEID.
    pub id: u32,
    /// Sender of the outer packet.
    pub src: IpAddr,
    /// Its receiver.
    pub dst: IpAddr,
}

/// What is in a tunnel.
#[derive(Debug)]
pub(super) struct Inside {
    pub(super) tunnel: Tunnel,
    pub(super) vlans: Vec<u16>,
    pub(super) packet: Packet,
}

/// What follows a tunnel header.
#[derive(Clone, Copy)]
enum Carried {
    Ethernet,
    Ip(Version),
}

/// Where in the frame a tunnel's content begins at the latest.
const LAST_START: usize = 8192;

/// Opens the tunnel that `outer` is, if its content can be metered.
pub(super) fn open(frame: &Frame, network: &Network, outer: &Packet) -> Option<Inside> {
    if outer.fragment.is_some() {
        return None;
    }
    let octets = outer.octets as usize;
    let data = &network.data[..octets.min(network.data.len())];
    let at = transport_offset(data)?;
    let header = data.get(at..)?;
    let (kind, id, length, carried) = header_of(outer, header)?;
    let before = frame.data.len() - network.data.len();
    if before + at >= LAST_START || before + at + length >= LAST_START {
        return None;
    }
    let content = header.get(length..)?;
    let wire = octets - at - length;
    let (vlans, packet) = match carried {
        Carried::Ip(version) => {
            let inner = Network { vlans: Vec::new(), version, data: content, wire };
            (Vec::new(), ip::read(&inner).ok()?)
        }
        Carried::Ethernet => {
            let frame = Frame { link: 1, wire, data: content.to_vec(), ..frame.clone() };
            let inner = link::strip(&frame).ok()?.ok()?;
            let packet = ip::read(&inner).ok()?;
            (inner.vlans, packet)
        }
    };
    let (src, dst) = (outer.direction.src, outer.direction.dst);
    Some(Inside { tunnel: Tunnel { kind, id, src, dst }, vlans, packet })
}

/// Behind the IP header and IPv6's extension headers.
fn transport_offset(data: &[u8]) -> Option<usize> {
    if data.first()? >> 4 == 4 {
        return Some(usize::from(data[0] & 0xf) * 4);
    }
    let (mut next, mut at) = (*data.get(6)?, 40);
    for _ in 0..8 {
        let length = usize::from(*data.get(at + 1).unwrap_or(&0));
        let octets = match next {
            0 | 43 | 60 | 135 | 139 | 140 => (length + 1) * 8,
            51 => (length + 2) * 4,
            44 => 8,
            _ => break,
        };
        next = *data.get(at)?;
        at += octets;
    }
    Some(at)
}

/// Kind, id, length and content of the tunnel header that `header` begins with.
fn header_of(outer: &Packet, header: &[u8]) -> Option<(&'static str, u32, usize, Carried)> {
    match (outer.direction.protocol, outer.direction.dst_port) {
        (4, _) => Some(("ipip", 0, 0, Carried::Ip(Version::V4))),
        (41, _) => Some(("ipip", 0, 0, Carried::Ip(Version::V6))),
        (47, _) => gre(header),
        (17, 4789 | 8472) => match header.get(8..16)? {
            [flags, _, _, _, a, b, c, _] if flags & 8 != 0 => {
                Some(("vxlan", u32::from_be_bytes([0, *a, *b, *c]), 16, Carried::Ethernet))
            }
            _ => None,
        },
        (17, 6081) => match header.get(8..16)? {
            [options @ 0..=0x3f, _, high, low, a, b, c, _] => Some((
                "geneve",
                u32::from_be_bytes([0, *a, *b, *c]),
                16 + usize::from(*options) * 4,
                carried(*high, *low)?,
            )),
            _ => None,
        },
        (17, 2152) => gtp_u(header),
        _ => None,
    }
}

fn carried(high: u8, low: u8) -> Option<Carried> {
    match (high, low) {
        (0x08, 0x00) => Some(Carried::Ip(Version::V4)),
        (0x86, 0xdd) => Some(Carried::Ip(Version::V6)),
        (0x65, 0x58) => Some(Carried::Ethernet),
        _ => None,
    }
}

fn gre(header: &[u8]) -> Option<(&'static str, u32, usize, Carried)> {
    let [flags, version, high, low] = header.first_chunk()?;
    if flags & 0x40 != 0 || version & 7 != 0 {
        return None;
    }
    let (checksum, key, sequence) = (flags & 0x80 != 0, flags & 0x20 != 0, flags & 0x10 != 0);
    let key_at = 4 + 4 * usize::from(checksum);
    let id = if key { u32::from_be_bytes(*header.get(key_at..)?.first_chunk()?) } else { 0 };
    let length = key_at + 4 * (usize::from(key) + usize::from(sequence));
    Some(("gre", id, length, carried(*high, *low)?))
}

fn gtp_u(header: &[u8]) -> Option<(&'static str, u32, usize, Carried)> {
    let [flags, 255, _, _, a, b, c, d] = *header.get(8..16)? else { return None };
    if flags >> 4 != 3 {
        return None;
    }
    let mut length = 16;
    if flags & 7 != 0 {
        length += 4;
        let mut next = *header.get(length - 1)?;
        let mut extensions = 0;
        while flags & 4 != 0 && next != 0 {
            extensions += 1;
            let words = usize::from(*header.get(length)?);
            if words == 0 || extensions > 4 {
                return None;
            }
            length += words * 4;
            next = *header.get(length - 1)?;
        }
    }
    let id = u32::from_be_bytes([a, b, c, d]);
    Some(("gtpu", id, length, Carried::Ip(Version::ByNibble)))
}
