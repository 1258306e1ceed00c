//! The cache against what it must do: conservation under any traffic, and the rules one by one.

use std::collections::BTreeMap;
use std::time::Duration;

use flow_common::key::protocol;
use flow_common::tcp::flags::{ACK, FIN, RST, SYN};
use flow_common::{Direction, FlowKey, Tunnel};
use proptest::prelude::*;

use super::{Limits, Shard, Timeouts};
use crate::delta::Delta;
use crate::record::{FlowEndReason, FlowRecord, InitiatorBy};

const SECOND: u64 = 1_000_000_000;

fn shard(max_flows: usize) -> Shard {
    Shard::new(Limits::new(max_flows, Timeouts::default()), 1)
}

/// One packet of 100 octets from host `src` to host `dst` at `time_ns`.
fn packet(protocol: u8, src: (u8, u16), dst: (u8, u16), flags: u8, time_ns: u64) -> Delta {
    let (syn, ack) = (flags & SYN != 0, flags & ACK != 0);
    Delta {
        key: FlowKey {
            src: [src.0; 16].into(),
            dst: [dst.0; 16].into(),
            src_port: src.1,
            dst_port: dst.1,
            protocol,
            ..FlowKey::default()
        },
        tunnel: None,
        packets: 1,
        octets: 100,
        first_ns: time_ns,
        last_ns: time_ns,
        syn_ns: if syn { time_ns } else { 0 },
        ack_ns: if ack && !syn { time_ns } else { 0 },
        syn_packets: u32::from(syn && !ack),
        syn_ack_packets: u32::from(syn && ack),
        retransmits: 0,
        tcp_flags: flags,
        dscp: 0,
        min_ttl: 64,
        max_ttl: 64,
        sampling: 1,
    }
}

fn tcp(src: (u8, u16), dst: (u8, u16), flags: u8, time_ns: u64) -> Delta {
    packet(protocol::TCP, src, dst, flags, time_ns)
}

fn play(shard: &mut Shard, deltas: &[Delta]) -> Vec<FlowRecord> {
    let mut out = Vec::new();
    for delta in deltas {
        shard.update(delta, &mut out);
    }
    out
}

fn flush(shard: &mut Shard) -> Vec<FlowRecord> {
    let mut out = Vec::new();
    shard.flush(&mut out);
    out
}

const CLIENT: (u8, u16) = (9, 50_000);
const SERVER: (u8, u16) = (3, 443);

#[test]
fn a_connection_is_one_row_with_both_directions() {
    let mut shard = shard(10);
    let out = play(
        &mut shard,
        &[
            tcp(CLIENT, SERVER, SYN, 1000),
            tcp(SERVER, CLIENT, SYN | ACK, 1500),
            tcp(CLIENT, SERVER, ACK, 1600),
            tcp(CLIENT, SERVER, FIN | ACK, 2000),
            tcp(SERVER, CLIENT, FIN | ACK, 2100),
            tcp(CLIENT, SERVER, ACK, 2200),
        ],
    );
    assert!(out.is_empty(), "the last ACK belongs to the flow");
    let mut out = Vec::new();
    shard.expire(2100 + 2 * SECOND - 1, &mut out);
    assert!(out.is_empty(), "it lingers");
    shard.expire(2100 + 2 * SECOND, &mut out);
    let [record] = &out[..] else { panic!("one record: {out:?}") };
    assert_eq!((record.packets, record.reverse_packets), (4, 2));
    assert_eq!((record.octets, record.reverse_octets), (400, 200));
    assert_eq!((record.src_port, record.dst_port), (50_000, 443));
    assert_eq!(record.initiator_by, InitiatorBy::Syn);
    assert_eq!(record.end_reason, FlowEndReason::EndOfFlow);
    assert_eq!(record.handshake_rtt_ns, 500);
    assert_eq!((record.start_ns, record.end_ns), (1000, 2200));
    assert!(shard.is_empty());
}

/// A handshake as the side sees it that the packets of the initiator come in or go out at.
fn handshake(direction: Direction, last_ack: bool) -> FlowRecord {
    let mut shard = shard(10);
    let mut packets = [
        tcp(CLIENT, SERVER, SYN, 1000),
        tcp(CLIENT, SERVER, SYN, 1100),
        tcp(SERVER, CLIENT, SYN | ACK, 1500),
        tcp(CLIENT, SERVER, ACK, 1700),
        tcp(CLIENT, SERVER, ACK, 9000),
    ];
    packets[4].retransmits = 3;
    for packet in &mut packets {
        let forward = packet.key.dst_port == SERVER.1;
        let direction = if forward { direction } else { direction.reversed() };
        packet.key.direction = direction as u8;
    }
    play(&mut shard, &packets[..if last_ack { 5 } else { 3 }]);
    flush(&mut shard).remove(0)
}

#[test]
fn an_end_that_is_drained_before_its_beginning_is_the_same_flow() {
    let mut shard = shard(10);
    let mut rest = [tcp(CLIENT, SERVER, FIN | ACK, 1500), tcp(SERVER, CLIENT, FIN | ACK, 1600)];
    rest[0].last_ns = 2000;
    let begin = [tcp(CLIENT, SERVER, SYN, 1000), tcp(SERVER, CLIENT, SYN | ACK, 1100)];
    let mut out = play(&mut shard, &rest);
    out.extend(play(&mut shard, &begin));
    assert!(out.is_empty(), "{out:?}");
    // A later SYN is the next connection.
    let out = play(&mut shard, &[tcp(CLIENT, SERVER, SYN, 2001)]);
    let [record] = &out[..] else { panic!("one record: {out:?}") };
    assert_eq!((record.packets, record.reverse_packets), (2, 2));
    assert_eq!((record.initiator_by, record.handshake_rtt_ns), (InitiatorBy::Syn, 100));
}

#[test]
fn the_handshake_is_timed_between_this_host_and_the_other_end() {
    for (direction, expected) in
        [(Direction::Egress, 500), (Direction::Unknown, 500), (Direction::Ingress, 200)]
    {
        assert_eq!(handshake(direction, true).handshake_rtt_ns, expected, "{direction:?}");
    }
    assert_eq!(handshake(Direction::Ingress, false).handshake_rtt_ns, 0);
}

#[test]
fn repeated_syns_and_segments_are_retransmits() {
    assert_eq!(handshake(Direction::Unknown, true).retransmits, 1 + 3);
}

#[test]
fn the_same_addresses_in_two_tunnels_are_two_flows() {
    let mut shard = shard(10);
    let tunnel = |id| Tunnel { kind: 1, id, src: [8; 4].into(), dst: [7; 4].into() };
    let (mut question, mut answer) = (tcp(CLIENT, SERVER, ACK, 1), tcp(SERVER, CLIENT, ACK, 2));
    question.tunnel = Some(Box::new(tunnel(5)));
    answer.tunnel = Some(Box::new(tunnel(5).reversed()));
    let mut other = question.clone();
    other.tunnel = Some(Box::new(tunnel(6)));
    other.first_ns = 3;
    let plain = tcp(CLIENT, SERVER, ACK, 4);
    play(&mut shard, &[question, answer, other, plain]);
    let mut records = flush(&mut shard);
    records.sort_by_key(|record| record.start_ns);
    let rows: Vec<_> = records
        .iter()
        .map(|record| (record.tunnel(), record.packets, record.reverse_packets))
        .collect();
    assert_eq!(rows, [(tunnel(5), 1, 1), (tunnel(6), 1, 0), (Tunnel::default(), 1, 0)]);
}

#[test]
fn the_syn_decides_even_when_the_answer_was_seen_first() {
    let mut shard = shard(10);
    play(&mut shard, &[tcp(SERVER, CLIENT, SYN | ACK, 1), tcp(CLIENT, SERVER, SYN, 2)]);
    let record = &flush(&mut shard)[0];
    assert_eq!((record.src_port, record.initiator_by), (50_000, InitiatorBy::Syn));
}

#[test]
fn a_known_service_is_not_the_initiator() {
    let mut shard = shard(10);
    let answer = packet(protocol::UDP, (3, 53), CLIENT, 0, 1);
    play(&mut shard, &[answer]);
    let record = &flush(&mut shard)[0];
    assert_eq!((record.dst_port, record.initiator_by), (53, InitiatorBy::ServicePort));
    assert_eq!((record.packets, record.reverse_packets), (0, 1));
}

#[test]
fn else_the_first_packet_decides() {
    let mut shard = shard(10);
    play(&mut shard, &[packet(protocol::UDP, (3, 60_001), (9, 60_002), 0, 1)]);
    let record = &flush(&mut shard)[0];
    assert_eq!((record.src_port, record.initiator_by), (60_001, InitiatorBy::FirstPacket));
}

#[test]
fn the_sender_of_an_icmp_request_is_the_initiator_even_unseen() {
    let mut shard = shard(10);
    let mut reply = packet(protocol::ICMP, (3, 0), (9, 0), 0, 1);
    reply.key.dst_port = 0; // echo reply
    play(&mut shard, &[reply]);
    let record = &flush(&mut shard)[0];
    assert_eq!(record.initiator_by, InitiatorBy::Icmp);
    assert_eq!((record.icmp_type, record.src[0]), (8, 9));
    assert_eq!((record.packets, record.reverse_packets), (0, 1));
}

#[test]
fn a_new_syn_opens_a_new_flow_while_the_old_one_lingers() {
    let mut shard = shard(10);
    let out = play(
        &mut shard,
        &[
            tcp(CLIENT, SERVER, SYN, 1),
            tcp(SERVER, CLIENT, RST | ACK, 2),
            tcp(CLIENT, SERVER, SYN, 3),
        ],
    );
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].end_reason, FlowEndReason::EndOfFlow);
    assert_eq!(flush(&mut shard).len(), 1);
}

#[test]
fn a_flow_that_goes_on_after_a_reset_does_not_hide_in_lingering() {
    let mut shard = shard(10);
    let deltas: Vec<Delta> = (0..300)
        .map(|second| {
            let flags = if second == 0 { RST } else { ACK };
            tcp(CLIENT, SERVER, flags, second * SECOND)
        })
        .collect();
    let mut out = play(&mut shard, &deltas);
    out.extend(flush(&mut shard));
    // The reset flow, then one record for each minute.
    let ends: Vec<_> = out.iter().map(|record| (record.packets, record.end_reason)).collect();
    assert_eq!(ends[0], (2, FlowEndReason::EndOfFlow));
    assert_eq!(ends[1], (60, FlowEndReason::ActiveTimeout));
    assert_eq!(out.iter().map(|record| record.packets).sum::<u64>(), 300);
    assert_eq!(ends.len(), 6);
}

#[test]
fn an_active_flow_goes_on_in_the_next_record_with_the_same_initiator() {
    let mut shard = shard(10);
    let deltas: Vec<Delta> = (0..70)
        .map(|second| {
            let flags = if second == 0 { SYN } else { ACK };
            // From 60 s on only the server talks.
            let (src, dst) = if second < 60 { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
            tcp(src, dst, flags, second * SECOND)
        })
        .collect();
    let out = play(&mut shard, &deltas);
    let [first] = &out[..] else { panic!("one record: {out:?}") };
    assert_eq!(first.end_reason, FlowEndReason::ActiveTimeout);
    assert_eq!(first.packets, 60);
    let second = &flush(&mut shard)[0];
    assert_eq!(second.end_reason, FlowEndReason::ForcedEnd);
    assert_eq!((second.packets, second.reverse_packets), (0, 10));
    assert_eq!((second.src_port, second.initiator_by), (50_000, InitiatorBy::Syn));
}

#[test]
fn idle_flows_leave_by_the_clock_or_at_their_next_packet() {
    let mut swept = shard(10);
    play(&mut swept, &[tcp(CLIENT, SERVER, ACK, 0)]);
    let mut out = Vec::new();
    swept.expire(15 * SECOND - 1, &mut out);
    assert!(out.is_empty());
    swept.expire(15 * SECOND, &mut out);
    assert_eq!(out[0].end_reason, FlowEndReason::IdleTimeout);

    let mut touched = shard(10);
    let late = [tcp(CLIENT, SERVER, ACK, 0), tcp(CLIENT, SERVER, ACK, 15 * SECOND)];
    assert_eq!(play(&mut touched, &late), out);
}

#[test]
fn a_full_shard_emits_the_flow_that_was_used_least_recently() {
    let mut shard = shard(2);
    let out = play(
        &mut shard,
        &[
            tcp((1, 1), SERVER, ACK, 1),
            tcp((2, 2), SERVER, ACK, 2),
            tcp((1, 1), SERVER, ACK, 3),
            tcp((4, 4), SERVER, ACK, 4),
        ],
    );
    assert_eq!(out.len(), 1);
    assert_eq!((out[0].end_reason, out[0].src[0]), (FlowEndReason::LackOfResources, 2));
    assert_eq!(shard.stats().counts.evictions(), 1);
}

#[test]
fn directions_at_the_interface_pair_up() {
    let mut shard = shard(10);
    let mut request = tcp(CLIENT, SERVER, SYN, 1);
    request.key.direction = Direction::Egress as u8;
    let mut answer = tcp(SERVER, CLIENT, SYN | ACK, 2);
    answer.key.direction = Direction::Ingress as u8;
    play(&mut shard, &[request, answer]);
    let out = flush(&mut shard);
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].direction, Direction::Egress);
}

#[test]
fn a_record_has_one_weight() {
    let mut shard = shard(10);
    let weighted = |flags, second, sampling| Delta {
        sampling,
        ..tcp((1, 4000), (2, 80), flags, second * SECOND)
    };
    let answer = |flags, second, sampling| Delta {
        sampling,
        ..tcp((2, 80), (1, 4000), flags, second * SECOND)
    };
    let mut records = play(
        &mut shard,
        &[
            weighted(SYN, 0, 1),
            answer(SYN | ACK, 0, 1),
            weighted(ACK, 1, 10),
            answer(FIN | ACK, 2, 10),
            weighted(FIN | ACK, 2, 10),
            // The last answer, of an ended flow.
            answer(ACK, 3, 1),
        ],
    );
    shard.flush(&mut records);
    let parts: Vec<_> = records
        .iter()
        .map(|r| (r.sampling, r.packets, r.reverse_packets, r.end_reason, r.initiator_by))
        .collect();
    assert_eq!(
        parts,
        [
            (1, 1, 1, FlowEndReason::ActiveTimeout, InitiatorBy::Syn),
            (10, 2, 1, FlowEndReason::EndOfFlow, InitiatorBy::Syn),
            (1, 0, 1, FlowEndReason::ForcedEnd, InitiatorBy::ServicePort),
        ]
    );
}

/// Packets and octets per sender, receiver and protocol.
type Sums = BTreeMap<([u8; 16], [u8; 16], u8), (u64, u64)>;

fn add(sums: &mut Sums, key: ([u8; 16], [u8; 16], u8), packets: u64, octets: u64) {
    if packets > 0 {
        let sum = sums.entry(key).or_default();
        sum.0 += packets;
        sum.1 += octets;
    }
}

proptest! {
    /// Whatever comes, every packet is in exactly one record, on its side.
    #[test]
    fn nothing_is_lost_or_counted_twice(
        packets in proptest::collection::vec(
            (0u8..6, 0u8..6, 0u16..3, any::<u8>(), 0u64..90, any::<bool>()), 1..400),
        max_flows in 1usize..20,
        expiry in 1usize..40,
    ) {
        let timeouts = Timeouts { active: Duration::from_secs(20), ..Timeouts::default() };
        let mut shard = Shard::new(Limits::new(max_flows, timeouts), 7);
        let mut sent = Sums::new();
        let mut out = Vec::new();
        for (i, (src, dst, port, flags, second, icmp)) in packets.iter().enumerate() {
            let protocol = if *icmp { protocol::ICMP } else { protocol::TCP };
            // ICMP types 0 to 15, so that some are answers; times go back and forth.
            let port = if *icmp { u16::from(flags % 16) << 8 } else { *port };
            let delta = packet(protocol, (*src, if *icmp { 0 } else { 7 }), (*dst, port), *flags,
                               second * SECOND);
            add(&mut sent, (delta.key.src.octets(), delta.key.dst.octets(), protocol), 1, 100);
            shard.update(&delta, &mut out);
            if i % expiry == 0 {
                shard.expire(second * SECOND, &mut out);
            }
            prop_assert!(shard.len() <= max_flows.max(1));
        }
        shard.flush(&mut out);
        prop_assert!(shard.is_empty());
        let mut recorded = Sums::new();
        for r in &out {
            prop_assert!(r.start_ns <= r.end_ns);
            prop_assert!(r.total_packets() > 0);
            add(&mut recorded, (r.src, r.dst, r.protocol), r.packets, r.octets);
            add(&mut recorded, (r.dst, r.src, r.protocol), r.reverse_packets, r.reverse_octets);
        }
        prop_assert_eq!(sent, recorded);
    }
}
