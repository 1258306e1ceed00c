//! An inner TCP payload's length enters, a frame of each kind of tunnel leaves, with what is known
//! of it.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::PacketBuilder;

use crate::reference::Tunnel;

/// Sender and receiver of the outer packets.
pub const OUTER: (IpAddr, IpAddr) =
    (IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)));
/// Sender and receiver of the inner packets.
pub const INNER: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
/// The inner TCP ports.
pub const PORTS: (u16, u16) = (4000, 80);
/// Octets of the inner IP and TCP headers.
pub const INNER_HEADERS: usize = 40;

/// A frame and what it is.
#[derive(Debug, Clone)]
pub struct Made {
    /// From the Ethernet header on.
    pub frame: Vec<u8>,
    /// Its tunnel.
    pub tunnel: Tunnel,
    /// Octets from the outer IP header to the inner payload.
    pub headers: usize,
}

/// A frame of each kind, around `payload` octets that go one way or the other.
pub fn frames(payload: usize, forward: bool) -> Vec<Made> {
    let inner = inner(payload, forward);
    let ethernet = [&[4; 12][..], &[0x08, 0x00], &inner].concat();
    let udp = |port: u16, header: &[u8], content: &[u8]| {
        let length = (8 + header.len() + content.len()) as u16;
        let ports = [&50_000u16.to_be_bytes()[..], &port.to_be_bytes()].concat();
        [&ports, &length.to_be_bytes()[..], &[0, 0], header, content].concat()
    };
    let gre = [&[0x20, 0, 0x08, 0, 0, 0, 0, 9][..], &inner].concat();
    let gtp_u = [0x34, 255, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0x85, 1, 0, 0, 0];
    let kinds: [(&'static str, u32, u8, Vec<u8>); 5] = [
        ("vxlan", 7, 17, udp(4789, &[8, 0, 0, 0, 0, 0, 7, 0], &ethernet)),
        ("geneve", 7, 17, udp(6081, &[1, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 1, 1, 1], &ethernet)),
        ("gre", 9, 47, gre),
        ("ipip", 0, 4, inner.clone()),
        ("gtpu", 0x101, 17, udp(2152, &gtp_u, &inner)),
    ];
    let (src, dst) = if forward { OUTER } else { (OUTER.1, OUTER.0) };
    let made = kinds.into_iter().map(|(kind, id, protocol, content)| {
        let mut frame = vec![2; 12];
        frame.extend([0x08, 0x00]);
        frame.extend(ipv4(src, dst, protocol, content.len()));
        frame.extend(content);
        let headers = frame.len() - 14 - payload;
        Made { frame, tunnel: Tunnel { kind, id, src, dst }, headers }
    });
    made.collect()
}

fn inner(payload: usize, forward: bool) -> Vec<u8> {
    let (addresses, ports) =
        if forward { (INNER, PORTS) } else { ((INNER.1, INNER.0), (PORTS.1, PORTS.0)) };
    let mut packet = Vec::new();
    PacketBuilder::ipv4(addresses.0.octets(), addresses.1.octets(), 33)
        .tcp(ports.0, ports.1, 1, 500)
        .ack(1)
        .write(&mut packet, &vec![0x55; payload])
        .expect("valid");
    packet
}

fn ipv4(src: IpAddr, dst: IpAddr, protocol: u8, payload: usize) -> Vec<u8> {
    let mut header = vec![0x45, 0];
    header.extend(((20 + payload) as u16).to_be_bytes());
    header.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    for address in [src, dst] {
        let IpAddr::V4(address) = address else { unreachable!("outer addresses are IPv4") };
        header.extend(address.octets());
    }
    header
}
