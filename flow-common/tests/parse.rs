//! The parser on packets built here: what each layer must do, and never a panic.

use etherparse::{IpNumber, PacketBuilder, SingleVlanHeader, VlanHeader, VlanId};
use flow_common::key::protocol;
use flow_common::parse::FragmentRole;
use flow_common::{FlowKey, Link, NotMetered, Options, Packet, parse};
use proptest::prelude::*;

const SRC: [u8; 4] = [10, 0, 0, 1];
const DST: [u8; 4] = [10, 0, 0, 2];
const PAYLOAD: &[u8] = b"payload";

fn ethernet(frame: &[u8]) -> Result<Packet, NotMetered> {
    parse(frame, Link::Ethernet, frame.len() as u32, None, Options::default())
        .map_err(|(reason, _)| reason)
}

fn builder() -> etherparse::PacketBuilderStep<etherparse::Ethernet2Header> {
    PacketBuilder::ethernet2([2; 6], [4; 6])
}

fn udp_frame() -> Vec<u8> {
    let mut frame = Vec::new();
    builder().ipv4(SRC, DST, 64).udp(4000, 53).write(&mut frame, PAYLOAD).expect("valid");
    frame
}

/// An Ethernet frame around an IP packet.
fn frame(ethertype: u16, ip: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(ip);
    frame
}

/// An IPv6 header with this next header, then `rest`.
fn ipv6(next_header: u8, rest: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x60, 0, 0, 0];
    ip.extend((rest.len() as u16).to_be_bytes());
    ip.extend([next_header, 61]);
    ip.extend([0xfd; 16]);
    ip.extend([0xfc; 16]);
    ip.extend(rest);
    ip
}

#[test]
fn udp_over_ipv4() {
    let packet = ethernet(&udp_frame()).expect("metered");
    let expected = FlowKey {
        src: SRC.into(),
        dst: DST.into(),
        src_port: 4000,
        dst_port: 53,
        protocol: protocol::UDP,
        ..FlowKey::default()
    };
    assert_eq!(packet.key, expected);
    assert_eq!(packet.octets, 20 + 8 + 7);
    assert_eq!(packet.header_octets, 28);
    assert_eq!(packet.ttl, 64);
    assert_eq!(packet.fragment, FragmentRole::Whole);
}

#[test]
fn tcp_flags_over_ipv6() {
    let mut frame = Vec::new();
    builder()
        .ipv6([1; 16], [2; 16], 9)
        .tcp(1, 443, 0, 0)
        .syn()
        .ece()
        .write(&mut frame, PAYLOAD)
        .expect("valid");
    let packet = ethernet(&frame).expect("metered");
    assert_eq!(packet.tcp_flags, 0x42);
    assert_eq!((packet.key.src_port, packet.key.dst_port), (1, 443));
    assert_eq!(packet.octets, 40 + 20 + 7);
    assert_eq!(packet.ttl, 9);
}

#[test]
fn ethernet_padding_is_not_counted_and_not_read() {
    let mut padded = udp_frame();
    padded.resize(60, 0xaa);
    assert_eq!(ethernet(&padded).expect("metered").octets, 35);
    // An IP packet that ends before its ports: what follows is padding.
    let mut short = udp_frame();
    short[17] = 22;
    let packet = ethernet(&short).expect("metered");
    assert_eq!((packet.key.src_port, packet.key.dst_port, packet.octets), (0, 0, 22));
}

#[test]
fn a_length_that_cannot_be_gives_the_octets_on_the_wire() {
    let mut frame = udp_frame();
    frame[16..18].copy_from_slice(&0u16.to_be_bytes()); // offloaded
    assert_eq!(ethernet(&frame).expect("metered").octets, 35);
    frame[16..18].copy_from_slice(&9000u16.to_be_bytes()); // past the end
    assert_eq!(ethernet(&frame).expect("metered").octets, 35);
    // A snap length changes nothing: the frame was longer on the wire.
    let packet =
        parse(&frame[..40], Link::Ethernet, 9014, None, Options::default()).expect("metered");
    assert_eq!(packet.octets, 9000);
}

#[test]
fn up_to_four_vlan_tags() {
    let vlan = |id| SingleVlanHeader {
        vlan_id: VlanId::try_new(id).expect("12 bits"),
        ..SingleVlanHeader::default()
    };
    let mut single = Vec::new();
    builder()
        .vlan(VlanHeader::Single(vlan(7)))
        .ipv4(SRC, DST, 64)
        .udp(1, 2)
        .write(&mut single, PAYLOAD)
        .expect("valid");
    let packet = ethernet(&single).expect("metered");
    assert_eq!((packet.key.vlan_id, packet.key.inner_vlan_id), (7, 0));
    assert_eq!(packet.octets, 35);

    let ip = &udp_frame()[14..];
    let tags = |count: u16| {
        let mut rest = Vec::new();
        for tag in 1..=count {
            rest.extend((0x3000 | tag).to_be_bytes()); // priority bits set
            rest.extend((if tag == count { 0x0800u16 } else { 0x8100 }).to_be_bytes());
        }
        rest.extend(ip);
        frame(0x88a8, &rest)
    };
    let packet = ethernet(&tags(4)).expect("metered");
    assert_eq!((packet.key.vlan_id, packet.key.inner_vlan_id), (1, 2));
    assert_eq!(ethernet(&tags(5)), Err(NotMetered::Unsupported));

    // A tag that the device took out comes first.
    let packet =
        parse(&single[..], Link::Ethernet, 53, Some(99), Options::default()).expect("metered");
    assert_eq!((packet.key.vlan_id, packet.key.inner_vlan_id), (99, 7));
}

#[test]
fn mpls_and_pppoe_carry_ip() {
    let ip = &udp_frame()[14..];
    let mut labels = vec![0, 0, 0, 64, 0, 0, 1, 64];
    labels.extend(ip);
    assert_eq!(ethernet(&frame(0x8847, &labels)).expect("metered").key.dst_port, 53);
    let mut session = vec![0x11, 0, 0, 1, 0, 0, 0x00, 0x21];
    session.extend(ip);
    assert_eq!(ethernet(&frame(0x8864, &session)).expect("metered").key.dst_port, 53);
    session[7] = 0x23; // not IP
    assert_eq!(ethernet(&frame(0x8864, &session)), Err(NotMetered::Other));
    let bottomless = [0u8; 64];
    assert_eq!(ethernet(&frame(0x8847, &bottomless)), Err(NotMetered::Unsupported));
}

#[test]
fn other_link_layers() {
    let ip = udp_frame().split_off(14);
    let with = |header: &[u8]| [header, &ip].concat();
    let mut sll = [0; 16];
    sll[14] = 8;
    let mut sll2 = [0; 20];
    sll2[0] = 8;
    for (link, bytes) in [
        (Link::RawIp, ip.clone()),
        (Link::LinuxSll, with(&sll)),
        (Link::LinuxSll2, with(&sll2)),
        (Link::BsdLoopback, with(&[2, 0, 0, 0])),
        (Link::BsdLoopback, with(&[0, 0, 0, 2])),
    ] {
        let packet =
            parse(&bytes[..], link, bytes.len() as u32, None, Options::default()).expect("metered");
        assert_eq!((packet.key.dst_port, packet.octets), (53, 35), "{link:?}");
    }
}

#[test]
fn what_is_not_ip_is_named() {
    for (ethertype, reason) in [
        (0x0806, NotMetered::Arp),
        (0x88cc, NotMetered::Lldp),
        (0x8035, NotMetered::Other),
        (0x0026, NotMetered::Other), // a length: LLC
    ] {
        assert_eq!(ethernet(&frame(ethertype, &[0; 46])), Err(reason));
    }
}

#[test]
fn contradictions_are_malformed() {
    let mut version = udp_frame();
    version[14] = 0x55;
    let mut ihl = udp_frame();
    ihl[14] = 0x44;
    let mut length = udp_frame();
    length[17] = 19;
    for frame in [version, ihl, length] {
        assert_eq!(ethernet(&frame), Err(NotMetered::Malformed));
    }
}

#[test]
fn ipv4_options_are_skipped() {
    let mut ip = udp_frame().split_off(14);
    ip[0] = 0x47;
    ip[3] += 8;
    let options = [1u8; 8];
    ip.splice(20..20, options);
    let packet = ethernet(&frame(0x0800, &ip)).expect("metered");
    assert_eq!((packet.key.src_port, packet.key.dst_port), (4000, 53));
    assert_eq!(packet.header_octets, 36);
}

#[test]
fn fragments_know_their_place() {
    let mut first = udp_frame();
    first[18..20].copy_from_slice(&0x1234u16.to_be_bytes());
    first[20] = 0x20; // more fragments
    let packet = ethernet(&first).expect("metered");
    assert_eq!((packet.fragment, packet.fragment_id), (FragmentRole::First, 0x1234));
    assert_eq!(packet.key.dst_port, 53);
    let mut later = first.clone();
    later[21] = 1; // offset
    let mut packet_later = ethernet(&later).expect("metered");
    assert_eq!(packet_later.fragment, FragmentRole::Later);
    assert_eq!(packet_later.key.dst_port, 0);
    assert_eq!(packet_later.fragment_key(), packet.fragment_key());
    packet_later.adopt(&packet.fragment_ports(5));
    assert_eq!(packet_later.key, packet.key);
}

#[test]
fn ipv6_extension_headers_are_walked() {
    let udp = [0x0f, 0xa0, 0, 53, 0, 8, 0, 0];
    let walk = |headers: &[(u8, Vec<u8>)]| {
        let first = headers.first().map_or(protocol::UDP, |header| header.0);
        let mut rest = Vec::new();
        for (i, (_, body)) in headers.iter().enumerate() {
            rest.push(headers.get(i + 1).map_or(protocol::UDP, |next| next.0));
            rest.extend(body);
        }
        rest.extend(udp);
        ethernet(&frame(0x86dd, &ipv6(first, &rest))).expect("metered")
    };
    let options = |octets: usize| {
        let mut body = vec![0; octets - 1];
        body[0] = (octets / 8 - 1) as u8;
        body
    };
    let mut ah = vec![0; 23];
    ah[0] = 4; // (4 + 2) * 4 octets
    let packet = walk(&[
        (protocol::HOP_BY_HOP, options(8)),
        (protocol::ROUTING, options(24)),
        (protocol::AH, ah),
        (protocol::DESTINATION_OPTIONS, options(16)),
    ]);
    assert_eq!((packet.key.protocol, packet.key.dst_port), (protocol::UDP, 53));
    assert_eq!(packet.header_octets, 40 + 8 + 24 + 24 + 16 + 8);

    let mut fragment = vec![0, 0, 1];
    fragment.extend(7u32.to_be_bytes());
    let packet = walk(&[(protocol::FRAGMENT, fragment)]);
    assert_eq!((packet.fragment, packet.fragment_id), (FragmentRole::First, 7));
    assert_eq!(packet.key.dst_port, 53);

    let nine: Vec<_> = (0..9).map(|_| (protocol::DESTINATION_OPTIONS, options(8))).collect();
    let packet = walk(&nine);
    assert_eq!(packet.key.protocol, protocol::DESTINATION_OPTIONS);
    assert_eq!(packet.key.dst_port, 0);
}

#[test]
fn icmp_has_type_and_code_instead_of_ports() {
    let mut frame = Vec::new();
    builder()
        .ipv4(SRC, DST, 64)
        .icmpv4_echo_request(1, 2)
        .write(&mut frame, PAYLOAD)
        .expect("valid");
    let packet = ethernet(&frame).expect("metered");
    assert_eq!((packet.key.src_port, packet.key.dst_port), (0, 8 << 8));
}

#[test]
fn super_packets_count_their_segments() {
    let mut frame = Vec::new();
    let payload = vec![0; 3001];
    builder().ipv4(SRC, DST, 64).tcp(1, 2, 3, 4).write(&mut frame, &payload).expect("valid");
    let packet = ethernet(&frame).expect("metered");
    assert_eq!(packet.on_the_wire(0, 0), (1, 3041));
    assert_eq!(packet.on_the_wire(1000, 0), (4, 3001 + 4 * 40));
    assert_eq!(packet.on_the_wire(1000, 4), (4, 3001 + 4 * 40));
}

/// The kernel tells how many segments there are: each chunk is one, of its own size.
#[test]
fn segments_of_sctp_have_the_common_header_each() {
    let mut frame = Vec::new();
    let builder = builder().ipv4(SRC, DST, 64);
    builder.write(&mut frame, IpNumber::SCTP, &[0; 12 + 3000]).expect("valid");
    let packet = ethernet(&frame).expect("metered");
    assert_eq!(packet.on_the_wire(0xffff, 3), (3, 3000 + 3 * 32));
}

/// Super-packets above 64 KiB have no length, and perhaps a jumbo option that is not sent.
#[test]
fn segments_of_big_tcp_over_ipv6_do_not_have_the_jumbo_option() {
    const PAYLOAD: usize = 100_000;
    const JUMBO: [u8; 8] = [6, 0, 0xc2, 4, 0, 1, 0x86, 0xbc]; // 20 + 100,000 and its own 8
    let options = Options { super_packet: true, ..Options::default() };
    let mut plain = Vec::new();
    let header = |frame: &mut Vec<u8>| {
        builder().ipv6([1; 16], [2; 16], 64).tcp(1, 2, 3, 4).write(frame, &[]).expect("valid");
    };
    header(&mut plain);
    plain[18..20].fill(0);
    plain.resize(plain.len() + PAYLOAD, 0);
    let mut with_option = plain.clone();
    with_option[20] = 0;
    with_option.splice(54..54, JUMBO);
    for frame in [plain, with_option] {
        let wire = frame.len() as u32;
        let packet = parse(&frame, Link::Ethernet, wire, None, options).expect("metered");
        assert_eq!((packet.key.src_port, packet.payload_octets), (1, PAYLOAD as u32));
        assert_eq!(packet.on_the_wire(1000, 100), (100, (PAYLOAD + 100 * 60) as u64));
        assert_eq!(packet.on_the_wire(1000, 0), (100, (PAYLOAD + 100 * 60) as u64));
    }
}

#[test]
fn every_truncation_has_an_answer_and_keeps_what_is_known() {
    let mut frame = Vec::new();
    builder().ipv4(SRC, DST, 64).tcp(5, 6, 7, 8).write(&mut frame, PAYLOAD).expect("valid");
    let whole = ethernet(&frame).expect("metered");
    for cut in 0..frame.len() {
        match parse(&frame[..cut], Link::Ethernet, frame.len() as u32, None, Options::default()) {
            Ok(packet) => {
                assert!(cut >= 34);
                assert_eq!(packet.octets, whole.octets);
                let ports = if cut >= 38 { 6 } else { 0 };
                assert_eq!(packet.key.dst_port, ports, "cut at {cut}");
            }
            Err((reason, _)) => {
                assert!(cut < 34, "cut at {cut}");
                assert_eq!(reason, NotMetered::Truncated);
            }
        }
    }
}

proptest! {
    #[test]
    fn any_octets_have_an_answer(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ethertype in proptest::sample::select(vec![
            0x0800u16, 0x86dd, 0x8100, 0x88a8, 0x8847, 0x8864, 0x0806,
        ]),
        link in proptest::sample::select(vec![
            Link::Ethernet, Link::RawIp, Link::LinuxSll, Link::LinuxSll2, Link::BsdLoopback,
        ]),
        wire in 0u32..70_000,
        decapsulate in any::<bool>(),
    ) {
        if bytes.len() > 14 && link == Link::Ethernet {
            bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
        }
        let wire = wire.max(bytes.len() as u32);
        match parse(&bytes[..], link, wire, None, Options { decapsulate, super_packet: false }) {
            Ok(packet) => prop_assert!(packet.octets <= wire),
            Err((_, octets)) => prop_assert!(octets <= wire),
        }
    }

    #[test]
    fn addresses_and_ports_come_back(
        src in any::<[u8; 16]>(), dst in any::<[u8; 16]>(),
        ports in any::<(u16, u16)>(), hop_limit in any::<u8>(),
    ) {
        let mut frame = Vec::new();
        builder().ipv6(src, dst, hop_limit).udp(ports.0, ports.1)
            .write(&mut frame, PAYLOAD).expect("valid");
        let packet = ethernet(&frame).expect("metered");
        prop_assert_eq!((packet.key.src.octets(), packet.key.dst.octets()), (src, dst));
        prop_assert_eq!((packet.key.src_port, packet.key.dst_port), ports);
        prop_assert_eq!(packet.ttl, hop_limit);
    }
}
