//! The parser on tunnels: the inner packet where it can be metered, else the outer, never a panic.

use etherparse::PacketBuilder;
use flow_common::parse::FragmentRole;
use flow_common::{Address, Link, Options, Packet, Tunnel, TunnelKind, parse};
use proptest::prelude::*;

const OUTER: ([u8; 4], [u8; 4]) = ([192, 0, 2, 1], [192, 0, 2, 2]);
const INNER: ([u8; 4], [u8; 4]) = ([10, 0, 0, 1], [10, 0, 0, 2]);
const PAYLOAD: &[u8] = b"payload";
const ENTER: Options = Options { decapsulate: true, super_packet: false };

fn read(frame: &[u8], options: Options) -> Packet {
    parse(frame, Link::Ethernet, frame.len() as u32, None, options).expect("metered")
}

/// An inner IPv4 packet, TCP.
fn inner_v4() -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv4(INNER.0, INNER.1, 33)
        .tcp(4000, 80, 1000, 500)
        .psh()
        .ack(5)
        .write(&mut packet, PAYLOAD)
        .expect("valid");
    packet
}

/// An inner IPv6 packet, UDP.
fn inner_v6() -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv6([0xfd; 16], [0xfc; 16], 33)
        .udp(4000, 80)
        .write(&mut packet, PAYLOAD)
        .expect("valid");
    packet
}

fn ethernet(ethertype: u16, packet: &[u8]) -> Vec<u8> {
    [&[4; 12], &ethertype.to_be_bytes()[..], packet].concat()
}

/// An outer frame with UDP to this port.
fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4(OUTER.0, OUTER.1, 64)
        .udp(50_000, port)
        .write(&mut frame, payload)
        .expect("valid");
    frame
}

/// An outer frame with this IP protocol.
fn ip(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4(OUTER.0, OUTER.1, 64)
        .write(&mut frame, protocol.into(), payload)
        .expect("valid");
    frame
}

/// The same in IPv6.
fn ip6(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv6([0xaa; 16], [0xbb; 16], 64)
        .write(&mut frame, protocol.into(), payload)
        .expect("valid");
    frame
}

fn vxlan(port: u16, inner: &[u8]) -> Vec<u8> {
    udp(port, &[&[8, 0, 0, 0, 0x12, 0x34, 0x56, 0], inner].concat())
}

fn geneve(options: u8, ethertype: u16, inner: &[u8]) -> Vec<u8> {
    let mut header = vec![options, 0];
    header.extend(ethertype.to_be_bytes());
    header.extend([0, 0, 7, 0]);
    header.extend(vec![0xee; usize::from(options) * 4]);
    udp(6081, &[&header, inner].concat())
}

fn gre(flags: u16, fields: &[u8], ethertype: u16, inner: &[u8]) -> Vec<u8> {
    ip(47, &[&flags.to_be_bytes(), &ethertype.to_be_bytes(), fields, inner].concat())
}

fn gtp_u(flags: u8, rest: &[u8], inner: &[u8]) -> Vec<u8> {
    let length = (rest.len() + inner.len()) as u16;
    let header = [&[flags, 255][..], &length.to_be_bytes(), &[0, 0, 1, 1], rest].concat();
    udp(2152, &[&header, inner].concat())
}

/// Every kind of tunnel, what it is, its id, and its outer addresses where they are not [`OUTER`].
fn tunnels() -> Vec<(&'static str, Vec<u8>, TunnelKind, u32)> {
    use TunnelKind::{Geneve, Gre, GtpU, IpIp, Vxlan};
    let (v4, v6) = (inner_v4(), inner_v6());
    let (e4, e6) = (ethernet(0x0800, &v4), ethernet(0x86dd, &v6));
    let extended = [0, 0, 0, 0x85, 1, 0, 0, 0x40, 2, 0, 0, 0, 0, 0, 0, 0];
    vec![
        ("vxlan", vxlan(4789, &e4), Vxlan, 0x12_3456),
        ("vxlan, the kernel's port", vxlan(8472, &e6), Vxlan, 0x12_3456),
        ("geneve", geneve(0, 0x6558, &e4), Geneve, 7),
        ("geneve with options", geneve(63, 0x6558, &e6), Geneve, 7),
        ("geneve without Ethernet", geneve(1, 0x86dd, &v6), Geneve, 7),
        ("gre", gre(0, &[], 0x0800, &v4), Gre, 0),
        ("gre with a key", gre(0x2000, &[0, 0, 0, 9], 0x86dd, &v6), Gre, 9),
        (
            "gre with everything",
            gre(0xb000, &[1, 1, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1], 0x6558, &e4),
            Gre,
            9,
        ),
        ("4in4", ip(4, &v4), IpIp, 0),
        ("6in4", ip(41, &v6), IpIp, 0),
        ("4in6", ip6(4, &v4), IpIp, 0),
        ("6in6", ip6(41, &v6), IpIp, 0),
        ("gtpu", gtp_u(0x30, &[], &v4), GtpU, 0x101),
        ("gtpu with a sequence number", gtp_u(0x32, &[0, 1, 0, 0], &v6), GtpU, 0x101),
        ("gtpu with extensions", gtp_u(0x34, &extended, &v4), GtpU, 0x101),
    ]
}

#[test]
fn the_inner_packet_is_metered_with_its_tunnel() {
    for (name, frame, kind, id) in tunnels() {
        let packet = read(&frame, ENTER);
        let (src, dst, octets, header_octets) = if packet.key.protocol == 6 {
            (Address::from(INNER.0), Address::from(INNER.1), 47, 40)
        } else {
            ([0xfd; 16].into(), [0xfc; 16].into(), 55, 48)
        };
        assert_eq!((packet.key.src, packet.key.dst), (src, dst), "{name}");
        assert_eq!((packet.key.src_port, packet.key.dst_port), (4000, 80), "{name}");
        assert_eq!((packet.octets, packet.header_octets), (octets, header_octets), "{name}");
        assert_eq!(packet.ttl, 33, "{name}");
        let outer = read(&frame, Options::default());
        assert!(outer.tunnel.is_none());
        let tunnel = Tunnel { kind: kind as u32, id, src: outer.key.src, dst: outer.key.dst };
        assert_eq!(packet.tunnel, tunnel, "{name}");
        assert_eq!(outer.octets as usize, frame.len() - 14, "{name}");
    }
}

#[test]
fn tcp_of_the_inner_packet_is_read() {
    let packet = read(&vxlan(4789, &ethernet(0x0800, &inner_v4())), ENTER);
    assert_eq!((packet.tcp_flags, packet.tcp_seq, packet.payload_octets), (0x18, 1000, 7));
}

#[test]
fn vlan_ids_are_those_of_the_inner_frame() {
    let inner = [&[0, 9, 0x81, 0, 0, 8, 0x08, 0], &inner_v4()[..]].concat();
    let mut frame = vxlan(4789, &ethernet(0x88a8, &inner));
    frame.splice(12..12, [0x81, 0, 0, 3]);
    let packet = read(&frame, ENTER);
    assert_eq!((packet.key.vlan_id, packet.key.inner_vlan_id), (9, 8));
    let outer = read(&frame, Options::default());
    assert_eq!((outer.key.vlan_id, outer.key.inner_vlan_id), (3, 0));
}

#[test]
fn one_tunnel_is_entered_and_the_next_is_a_flow() {
    let nested = ip(4, &ip(47, &[&[0, 0, 8, 0], &inner_v4()[..]].concat())[14..]);
    let packet = read(&nested, ENTER);
    assert_eq!(packet.key.protocol, 47);
    assert_eq!(packet.tunnel.kind(), TunnelKind::IpIp);
}

#[test]
fn what_cannot_be_metered_leaves_the_outer_packet() {
    let (v4, e4) = (inner_v4(), ethernet(0x0800, &inner_v4()));
    let mut malformed = v4.clone();
    malformed[0] = 0x44;
    let mut short = v4.clone();
    short[3] = 19;
    let mut fragment = vxlan(4789, &e4);
    fragment[20] = 0x20;
    let mut later = fragment.clone();
    later[21] = 1;
    let mut no_id = vxlan(4789, &e4);
    no_id[42] = 0;
    // The outer packet ends before the inner one begins: what follows is padding.
    let mut padding = ip(4, &v4);
    padding[17] = 20;
    let mut padded_header = padding.clone();
    padded_header[17] = 39;
    let endless = [0, 0, 0, 1, 1, 0, 0, 1].repeat(3);
    let frames = [
        ("an inner header that is malformed", ip(4, &malformed)),
        ("an inner length below its header", ip(4, &short)),
        ("another version than announced", ip(41, &v4)),
        ("a fragment", fragment),
        ("a later fragment", later),
        ("vxlan without an id", no_id),
        ("vxlan with arp", vxlan(4789, &ethernet(0x0806, &[0; 28]))),
        ("another port", vxlan(4790, &e4)),
        ("geneve of another version", geneve(0x40, 0x6558, &e4)),
        ("geneve with something else", geneve(0, 0x0806, &[0; 40])),
        ("gre of another version", gre(1, &[], 0x0800, &v4)),
        ("gre with routes", gre(0x4000, &[0; 8], 0x0800, &v4)),
        ("gre with something else", gre(0, &[], 0x880b, &v4)),
        ("gtp', not gtp-u", gtp_u(0x20, &[], &v4)),
        ("gtp-u of another version", gtp_u(0x50, &[], &v4)),
        ("gtp-u with an extension of no length", gtp_u(0x34, &[0, 0, 0, 1, 0, 0, 0, 0], &v4)),
        ("gtp-u with endless extensions", gtp_u(0x34, &endless, &v4)),
        ("gtp-u with no IP", gtp_u(0x30, &[], &[0x55; 40])),
        ("an echo of gtp-u", {
            let mut frame = gtp_u(0x30, &[], &v4);
            frame[43] = 1;
            frame
        }),
        ("only padding", padding),
        ("a header that ends in padding", padded_header),
    ];
    for (name, frame) in frames {
        let outer = read(&frame, Options::default());
        assert_eq!(read(&frame, ENTER), outer, "{name}");
        assert!(outer.key.src == OUTER.0.into() && outer.tunnel.is_none(), "{name}");
    }
}

#[test]
fn an_inner_packet_that_claims_more_has_what_the_outer_one_holds() {
    let mut inner = inner_v4();
    inner[2] = 1;
    let mut frame = ip(4, &inner);
    frame.resize(90, 0);
    assert_eq!(read(&frame, ENTER).octets, 47);
}

#[test]
fn inner_fragments_are_told_apart_by_tunnel() {
    let mut inner = inner_v4();
    inner[6] = 0x20;
    let first = read(&gre(0x2000, &[0, 0, 0, 9], 0x0800, &inner), ENTER);
    let other = read(&gre(0x2000, &[0, 0, 0, 8], 0x0800, &inner), ENTER);
    assert_eq!(first.fragment, FragmentRole::First);
    assert_eq!(first.key, other.key);
    assert_ne!(first.fragment_key(), other.fragment_key());
}

#[test]
fn every_cut_gives_the_inner_packet_or_the_outer() {
    for (name, frame, ..) in tunnels() {
        let wire = frame.len() as u32;
        let whole = read(&frame, ENTER);
        let mut entered = false;
        for cut in 0..frame.len() {
            let frame = &frame[..cut];
            let outer = parse(frame, Link::Ethernet, wire, None, Options::default());
            let packet = parse(frame, Link::Ethernet, wire, None, ENTER);
            let Ok(packet) = packet else {
                assert_eq!(packet, outer, "{name} cut at {cut}");
                assert!(!entered);
                continue;
            };
            if packet.tunnel.is_none() {
                assert_eq!(Ok(packet), outer, "{name} cut at {cut}");
                assert!(!entered, "{name} cut at {cut}");
            } else {
                assert_eq!((packet.octets, packet.tunnel), (whole.octets, whole.tunnel));
                assert_eq!((packet.key.src, packet.key.dst), (whole.key.src, whole.key.dst));
                entered = true;
            }
        }
        assert!(entered, "{name}");
    }
}

#[test]
fn segments_of_a_tunnels_super_packet_have_the_inner_headers_too() {
    let options = Options { decapsulate: false, super_packet: true };
    for (name, frame, ..) in tunnels() {
        let outer = read(&frame, Options::default());
        let super_packet = read(&frame, options);
        assert_eq!(super_packet.header_octets, outer.octets as u16 - 7, "{name}");
        assert_eq!(Packet { header_octets: outer.header_octets, ..super_packet }, outer, "{name}");
        // Seven octets in segments of four: two packets.
        let octets = u64::from(outer.octets) * 2 - 7;
        assert_eq!(super_packet.on_the_wire(4, 0), (2, octets), "{name}");
    }
    let plain = udp(4000, PAYLOAD);
    assert_eq!(read(&plain, options), read(&plain, Options::default()));
}

proptest! {
    /// Octets of a tunnel changed at random: the outer packet, or one that lies in it.
    #[test]
    fn any_change_has_an_answer(
        which in 0usize..15, changes in proptest::collection::vec((14usize..200, any::<u8>()), 0..6),
        cut in 0usize..200, super_packet in any::<bool>(),
    ) {
        let (_, mut frame, ..) = tunnels().swap_remove(which);
        let wire = frame.len() as u32;
        for (at, octet) in changes {
            if let Some(place) = frame.get_mut(at) {
                *place = octet;
            }
        }
        frame.truncate(wire as usize - cut.min(wire as usize));
        let read = |options| parse(&frame[..], Link::Ethernet, wire, None, options);
        let outer = read(Options::default());
        match (outer, read(Options { decapsulate: true, super_packet })) {
            (Err(outer), packet) => prop_assert_eq!(packet, Err(outer)),
            (Ok(outer), packet) => {
                let packet = packet.expect("one of the two is metered");
                if packet.tunnel.is_none() {
                    prop_assert_eq!(packet, outer);
                } else {
                    prop_assert!(packet.octets + 4 <= outer.octets || packet.octets + 20 <= outer.octets);
                    prop_assert_eq!((packet.tunnel.src, packet.tunnel.dst), (outer.key.src, outer.key.dst));
                }
            }
        }
    }
}
