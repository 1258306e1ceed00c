//! What a frame is on the wire: its flow, and how many packets and octets it becomes.
//!
//! Not the agent's parser: the headers are read by another crate (`etherparse`).

use std::net::IpAddr;

use etherparse::{
    IpNumber, Ipv6ExtensionSlice, LaxNetSlice, LaxSlicedPacket, TcpHeaderSlice, TransportSlice,
    UdpHeaderSlice,
};

/// One direction of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Where its packets come from.
    pub source: IpAddr,
    /// Where they go.
    pub destination: IpAddr,
    /// The IP protocol number.
    pub protocol: u8,
    /// TCP or UDP port of the source; 0 for others.
    pub source_port: u16,
    /// TCP or UDP port of the destination; 0 for others.
    pub destination_port: u16,
}

/// Packets and IP octets on the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets, each segment of a super-packet counted.
    pub packets: u64,
    /// IP octets, the headers of each segment counted.
    pub octets: u64,
}

impl Count {
    /// Adds another count to this one.
    pub fn add(&mut self, other: Self) {
        self.packets += other.packets;
        self.octets += other.octets;
    }
}

/// Which datagram a fragment belongs to: only its first one has the ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// The datagram's identification.
    pub datagram: u32,
    /// It begins the datagram.
    pub first: bool,
}

/// A frame on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded {
    /// Its flow; a later fragment's ports are 0.
    pub key: Key,
    /// What it counts.
    pub count: Count,
    /// It is not a whole datagram.
    pub fragment: Option<Fragment>,
}

/// Reads a frame; nothing if it is not IP or cannot be read.
///
/// A super-packet with `gso_size` octets of payload a segment counts as the
/// segments that go on the wire, each with headers of its own.
pub fn decode(frame: &[u8], gso_size: u16) -> Option<Decoded> {
    let packet = LaxSlicedPacket::from_ethernet(frame).ok()?;
    let (mut fragment, mut begins) = (None, None);
    let (source, destination, octets, header, protocol): (IpAddr, IpAddr, _, _, _) =
        match packet.net.as_ref()? {
            LaxNetSlice::Ipv4(ip) => {
                let header = ip.header();
                if header.is_fragmenting_payload() {
                    let first = header.fragments_offset().value() == 0;
                    let datagram = u32::from(header.identification());
                    begins = first.then_some(ip.payload().payload);
                    fragment = Some(Fragment { datagram, first });
                }
                (
                    header.source_addr().into(),
                    header.destination_addr().into(),
                    u64::from(header.total_len()),
                    header.slice().len(),
                    ip.payload().ip_number,
                )
            }
            LaxNetSlice::Ipv6(ip) => {
                let header = ip.header();
                for extension in ip.extensions().clone() {
                    if let Ipv6ExtensionSlice::Fragment(header) = extension {
                        let first = header.fragment_offset().value() == 0;
                        let datagram = header.identification();
                        begins = first.then_some(ip.payload().payload);
                        fragment = Some(Fragment { datagram, first });
                    }
                }
                (
                    header.source_addr().into(),
                    header.destination_addr().into(),
                    40 + u64::from(header.payload_length()),
                    40 + ip.extensions().slice().len(),
                    ip.payload().ip_number,
                )
            }
            LaxNetSlice::Arp(_) => return None,
        };
    let (source_port, destination_port, transport_header) = match packet.transport.as_ref() {
        Some(TransportSlice::Tcp(tcp)) => {
            (tcp.source_port(), tcp.destination_port(), tcp.header_slice().len())
        }
        Some(TransportSlice::Udp(udp)) => (udp.source_port(), udp.destination_port(), 8),
        // etherparse reads no header of a fragment's payload, not even a first one's.
        None => begins.and_then(|begins| fragment_ports(protocol, begins)).unwrap_or_default(),
        _ => (0, 0, 0),
    };
    let headers = (header + transport_header) as u64;
    let payload = octets.saturating_sub(headers);
    let packets = match gso_size {
        0 => 1,
        size => payload.div_ceil(u64::from(size)).max(1),
    };
    let key = Key { source, destination, protocol: protocol.0, source_port, destination_port };
    let count = Count { packets, octets: octets + (packets - 1) * headers };
    Some(Decoded { key, count, fragment })
}

/// Ports and header length of a datagram that begins so.
fn fragment_ports(protocol: IpNumber, begins: &[u8]) -> Option<(u16, u16, usize)> {
    match protocol {
        IpNumber::UDP => {
            let udp = UdpHeaderSlice::from_slice(begins).ok()?;
            Some((udp.source_port(), udp.destination_port(), 8))
        }
        IpNumber::TCP => {
            let tcp = TcpHeaderSlice::from_slice(begins).ok()?;
            Some((tcp.source_port(), tcp.destination_port(), tcp.slice().len()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    fn tcp(payload: usize) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .tcp(1000, 80, 1, 1000);
        let mut frame = Vec::new();
        builder.write(&mut frame, &vec![0; payload]).unwrap();
        frame
    }

    #[test]
    fn a_packet_counts_once() {
        let Decoded { key, count, fragment } = decode(&tcp(100), 0).unwrap();
        assert_eq!(fragment, None);
        assert_eq!((key.protocol, key.source_port, key.destination_port), (6, 1000, 80));
        assert_eq!(count, Count { packets: 1, octets: 140 });
    }

    #[test]
    fn a_super_packet_counts_as_its_segments_however_little_was_captured() {
        let frame = tcp(3001);
        let expected = Count { packets: 4, octets: 3001 + 4 * 40 };
        assert_eq!(decode(&frame, 1000).unwrap().count, expected);
        assert_eq!(decode(&frame[..60], 1000).unwrap().count, expected);
    }

    #[test]
    fn only_the_first_fragment_of_a_datagram_has_its_ports() {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .udp(1000, 53);
        let mut frame = Vec::new();
        builder.write(&mut frame, &[0; 100]).unwrap();
        for (offset, ports) in [([0x20, 0], (1000, 53)), ([0, 16], (0, 0))] {
            frame[14 + 4..14 + 8].copy_from_slice(&[0, 9, offset[0], offset[1]]);
            let Decoded { key, count, fragment } = decode(&frame, 0).unwrap();
            assert_eq!(fragment, Some(Fragment { datagram: 9, first: ports != (0, 0) }));
            assert_eq!((key.source_port, key.destination_port), ports);
            assert_eq!(count, Count { packets: 1, octets: 128 });
        }
    }

    #[test]
    fn icmpv6_has_no_ports() {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv6([1; 16], [2; 16], 64)
            .icmpv6_echo_request(7, 1);
        let mut frame = Vec::new();
        builder.write(&mut frame, &[0; 56]).unwrap();
        let Decoded { key, count, .. } = decode(&frame, 0).unwrap();
        assert_eq!((key.protocol, key.source_port, key.destination_port), (58, 0, 0));
        assert_eq!(count, Count { packets: 1, octets: 40 + 8 + 56 });
    }

    #[test]
    fn what_is_not_ip_is_nothing() {
        assert_eq!(decode(&[0; 60], 0), None);
        assert_eq!(decode(&[], 0), None);
    }
}
