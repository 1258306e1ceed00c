//! What a link header announced as IP enters, its direction and octets leave.

use std::net::IpAddr;

use etherparse::err::ipv4::HeaderSliceError;
use etherparse::{Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice};

use super::link::{Network, Version};
use super::{Direction, Reason};

/// A metered packet.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) direction: Direction,
    pub(super) octets: u64,
    pub(super) fragment: Option<Fragment>,
    pub(super) marks: Marks,
}

/// What the flow key leaves out, as the headers state it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// TCP flags, 0 for other protocols.
    pub tcp_flags: u8,
    /// ICMP or `ICMPv6` type and code, as `type * 256 + code`; 0 for other protocols.
    pub icmp: u16,
    /// Differentiated services code point.
    pub dscp: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
}

/// A packet that is a part of a datagram.
#[derive(Debug, Clone, Copy)]
pub struct Fragment {
    /// Has the ports.
    pub first: bool,
    /// The datagram's id.
    pub id: u32,
    /// IPv4's protocol, or the next header of the fragment header.
    pub protocol: u8,
}

/// Most extension headers that are walked.
const MAX_EXTENSIONS: usize = 8;

/// Reads the IP header and what the flow key needs after it.
pub(super) fn read(network: &Network) -> Result<Packet, Reason> {
    // The version is part of a field of two octets: with less, nothing can be said.
    let [first, _, ..] = network.data else { return Err(Reason::Truncated) };
    let nibble = first >> 4;
    match (network.version, nibble) {
        (Version::V4 | Version::ByNibble, 4) => ipv4(network),
        (Version::V6 | Version::ByNibble, 6) => ipv6(network),
        _ => Err(Reason::Malformed),
    }
}

fn ipv4(network: &Network) -> Result<Packet, Reason> {
    if network.data.len() < 20 {
        return Err(Reason::Truncated);
    }
    let total = usize::from(u16::from_be_bytes([network.data[2], network.data[3]]));
    let header_octets = usize::from(network.data[0] & 0xf) * 4;
    if total != 0 && total < header_octets {
        return Err(Reason::Malformed);
    }
    let header = Ipv4HeaderSlice::from_slice(network.data).map_err(|error| match error {
        HeaderSliceError::Len(_) => Reason::Truncated,
        HeaderSliceError::Content(_) => Reason::Malformed,
    })?;
    let octets = if total == 0 { network.wire } else { total.min(network.wire) };
    let protocol = header.protocol().0;
    let first = header.fragments_offset().value() == 0;
    let fragment = header.is_fragmenting_payload().then(|| Fragment {
        first,
        id: u32::from(header.identification()),
        protocol,
    });
    let addresses = (header.source_addr().into(), header.destination_addr().into());
    let payload = captured(network, octets).get(header_octets..).unwrap_or_default();
    let payload = if first { payload } else { &[] };
    let marks = Marks { dscp: header.dcp().value(), ttl: header.ttl(), ..marks(protocol, payload) };
    Ok(packet(addresses, protocol, ports(protocol, payload), octets, fragment, marks))
}

fn ipv6(network: &Network) -> Result<Packet, Reason> {
    if network.data.len() < 40 {
        return Err(Reason::Truncated);
    }
    let header = Ipv6HeaderSlice::from_slice(network.data).map_err(|_| Reason::Malformed)?;
    let payload_octets = usize::from(header.payload_length());
    let jumbo = payload_octets == 0 && header.next_header().0 == 0;
    let octets = if jumbo { network.wire } else { (40 + payload_octets).min(network.wire) };
    let mut rest = captured(network, octets).get(40..).unwrap_or_default();
    let mut protocol = header.next_header().0;
    let mut fragment = None;
    for _ in 0..MAX_EXTENSIONS {
        // The next header and the length; a header whose start is not captured is the last one
        // reached, one whose end is not captured leaves no ports.
        let octets = match (protocol, rest) {
            // hop-by-hop, routing, destination options, mobility, HIP, shim6
            (0 | 43 | 60 | 135 | 139 | 140, [_, length, ..]) => (usize::from(*length) + 1) * 8,
            // authentication
            (51, [_, length, ..]) => (usize::from(*length) + 2) * 4,
            (44, [_, _, _, _, _, _, _, _, ..]) => 8,
            _ => break,
        };
        if protocol == 44 {
            let part = Ipv6FragmentHeaderSlice::from_slice(rest).map_err(|_| Reason::Truncated)?;
            // A datagram is fragmented once; of two such headers the last one counts.
            fragment = part.is_fragmenting_payload().then(|| Fragment {
                first: part.fragment_offset().value() == 0,
                id: part.identification(),
                protocol: part.next_header().0,
            });
        }
        protocol = rest[0];
        rest = rest.get(octets..).unwrap_or_default();
        if fragment.is_some_and(|fragment| !fragment.first) {
            break;
        }
    }
    let addresses = (header.source_addr().into(), header.destination_addr().into());
    let later = fragment.is_some_and(|fragment| !fragment.first);
    let payload = if later { &[] } else { rest };
    let dscp = header.traffic_class() >> 2;
    let marks = Marks { dscp, ttl: header.hop_limit(), ..marks(protocol, payload) };
    Ok(packet(addresses, protocol, ports(protocol, payload), octets, fragment, marks))
}

/// The captured part of the IP packet, without what the link layer appends.
fn captured<'a>(network: &Network<'a>, octets: usize) -> &'a [u8] {
    &network.data[..octets.min(network.data.len())]
}

/// The first four octets of TCP, UDP, DCCP, SCTP and UDP-Lite.
fn ports(protocol: u8, payload: &[u8]) -> (u16, u16) {
    match (protocol, payload) {
        (6 | 17 | 33 | 132 | 136, [a, b, c, d, ..]) => {
            (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))
        }
        _ => (0, 0),
    }
}

/// What the transport header says besides ports; the rest is left at 0.
fn marks(protocol: u8, payload: &[u8]) -> Marks {
    match (protocol, payload) {
        (6, [_, _, _, _, _, _, _, _, _, _, _, _, _, flags, ..]) => {
            Marks { tcp_flags: *flags, ..Marks::default() }
        }
        (1 | 58, [kind, code, ..]) => {
            Marks { icmp: u16::from_be_bytes([*kind, *code]), ..Marks::default() }
        }
        _ => Marks::default(),
    }
}

fn packet(
    (src, dst): (IpAddr, IpAddr),
    protocol: u8,
    (src_port, dst_port): (u16, u16),
    octets: usize,
    fragment: Option<Fragment>,
    marks: Marks,
) -> Packet {
    let (src, dst) = (src.to_canonical(), dst.to_canonical());
    let direction = Direction { src, dst, protocol, src_port, dst_port };
    Packet { direction, octets: octets as u64, fragment, marks }
}
