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
}

/// A packet that is a part of a datagram.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fragment {
    /// Has the ports.
    pub(super) first: bool,
    /// The datagram's id.
    pub(super) id: u32,
    /// IPv4's protocol, or the next header of the fragment header.
    pub(super) protocol: u8,
}

/// Most extension headers that are walked.
const MAX_EXTENSIONS: usize = 8;

/// Reads the IP header and what the flow key needs after it.
pub(super) fn read(network: &Network) -> Result<Packet, Reason> {
    let nibble = network.data.first().ok_or(Reason::Truncated)? >> 4;
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
    let ports = if first { ports(protocol, payload) } else { (0, 0) };
    Ok(packet(addresses, protocol, ports, octets, fragment))
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
            if part.is_fragmenting_payload() {
                fragment = Some(Fragment {
                    first: part.fragment_offset().value() == 0,
                    id: part.identification(),
                    protocol: part.next_header().0,
                });
            }
        }
        protocol = rest[0];
        rest = rest.get(octets..).unwrap_or_default();
        if fragment.is_some_and(|fragment| !fragment.first) {
            break;
        }
    }
    let addresses = (header.source_addr().into(), header.destination_addr().into());
    let later = fragment.is_some_and(|fragment| !fragment.first);
    let ports = if later { (0, 0) } else { ports(protocol, rest) };
    Ok(packet(addresses, protocol, ports, octets, fragment))
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

fn packet(
    (src, dst): (IpAddr, IpAddr),
    protocol: u8,
    (src_port, dst_port): (u16, u16),
    octets: usize,
    fragment: Option<Fragment>,
) -> Packet {
    let (src, dst) = (src.to_canonical(), dst.to_canonical());
    let direction = Direction { src, dst, protocol, src_port, dst_port };
    Packet { direction, octets: octets as u64, fragment }
}
