//! `flow_common`'s parser against the reference, which `etherparse` reads for: key, octets, TCP
//! flags, code point, TTL, tunnel, fragment, or the reason why there is none.

use flow_common::parse::{FragmentRole, Link, Options, parse};
use flow_common::{NotMetered, TunnelKind};

use super::take;
use crate::counted::{Counted, Flow, Sums};
use crate::reference;

/// The first octet says whether tunnels are opened, the second how much of the frame was cut.
pub fn run(mut octets: &[u8]) {
    let decapsulate = take(&mut octets) & 1 == 1;
    let cut = usize::from(take(&mut octets)) * 8;
    if octets.len() < crate::packets::SHORTEST {
        return;
    }
    let wire = octets.len() + cut;
    let ours = ours(octets, wire, decapsulate);
    let theirs = Counted::by_reference([(wire, octets)], decapsulate);
    assert_eq!(ours, theirs, "parser left, reference right; tunnels opened: {decapsulate}");
    // What the packet says of its fragment decides which flow later ones join.
    let packet = parse(octets, Link::Ethernet, wire as u32, None, options(decapsulate)).ok();
    let reading = reference::reading(octets, wire, decapsulate).ok();
    let (Some(packet), Some(reading)) = (packet, reading) else { return };
    let fragment = match packet.fragment {
        FragmentRole::Whole => None,
        role => Some((role == FragmentRole::First, packet.fragment_id, packet.fragment_protocol)),
    };
    let expected = reading.fragment.map(|one| (one.first, one.id, one.protocol));
    assert_eq!(fragment, expected);
    let (packets, wired) = packet.on_the_wire(0, 0);
    assert_eq!((packets, wired), (1, u64::from(packet.octets)));
}

fn options(decapsulate: bool) -> Options {
    Options { decapsulate, super_packet: false }
}

/// The parser's answer in the terms of the reference.
fn ours(octets: &[u8], wire: usize, decapsulate: bool) -> Counted {
    let mut counted = Counted::default();
    let packet = match parse(octets, Link::Ethernet, wire as u32, None, options(decapsulate)) {
        Ok(packet) => packet,
        Err((reason, after_link)) => {
            assert!(NotMetered::ALL.contains(&reason) && after_link as usize <= wire);
            counted.not_metered.insert(reason.label(), 1);
            return counted;
        }
    };
    let tunnel = Some(&packet.tunnel).filter(|tunnel| tunnel.kind() != TunnelKind::None);
    let flow = Flow::of(&packet.key, tunnel);
    let sums = Sums {
        packets: 1,
        octets: packet.octets.into(),
        tcp_flags: packet.tcp_flags,
        dscp: packet.dscp(),
        min_ttl: packet.ttl,
        max_ttl: packet.ttl,
    };
    counted.flows.insert(flow, sums);
    counted.fragments_without_ports = u64::from(packet.fragment == FragmentRole::Later);
    counted
}
