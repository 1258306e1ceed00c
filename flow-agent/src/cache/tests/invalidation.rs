//! Soft and hard invalidation.

use std::time::Duration;

use flow_common::FlowKey;
use flow_common::tcp::flags::{ACK, FIN, SYN};

use super::super::{Counter, Mode, StatsLevel};
use super::{CLIENT, SECOND, SERVER, flush, play, shard, tcp};
use crate::record::{FlowEndReason, InitiatorBy};

#[test]
fn softly_the_flow_goes_on_with_its_initiator_hard_it_begins_anew() {
    for (mode, reason, initiator_by, counts) in [
        (Mode::Soft, FlowEndReason::ActiveTimeout, InitiatorBy::Syn, (0, 1)),
        (Mode::Hard, FlowEndReason::ForcedEnd, InitiatorBy::FirstPacket, (1, 0)),
    ] {
        let mut shard = shard(9);
        let begin = [tcp(CLIENT, SERVER, SYN, SECOND), tcp(SERVER, CLIENT, SYN | ACK, SECOND)];
        play(&mut shard, &begin);
        let mut out = Vec::new();
        assert_eq!(shard.invalidate(|_| true, mode, 2 * SECOND, &mut out), 1);
        assert_eq!((out[0].packets, out[0].reverse_packets, out[0].end_reason), (1, 1, reason));
        play(&mut shard, &[tcp(SERVER, CLIENT, ACK, 3 * SECOND)]);
        let record = &flush(&mut shard)[0];
        assert_eq!((record.packets, record.reverse_packets), counts);
        assert_eq!(record.initiator_by, initiator_by);
        assert_eq!(record.start_ns, 3 * SECOND);
        assert_eq!(shard.stats().counts.invalidations(), 1);
    }
}

#[test]
fn a_flow_without_packets_since_leaves_without_a_record() {
    let mut shard = shard(9);
    play(&mut shard, &[tcp(CLIENT, SERVER, ACK, 0)]);
    let mut out = Vec::new();
    shard.invalidate(|_| true, Mode::Soft, SECOND, &mut out);
    assert_eq!((out.len(), shard.len()), (1, 1));
    shard.expire(15 * SECOND, &mut out);
    assert_eq!((out.len(), shard.len()), (1, 0));
    assert_eq!(shard.stats().counts.get(Counter::LeftIdle), 1);
}

#[test]
fn details_know_ages_latencies_and_the_flow_with_most_packets() {
    let mut shard = shard(100_000);
    shard.set_level(StatsLevel::Full);
    let hot = |key: &FlowKey| key.src == [CLIENT.0; 16].into() || key.dst == [CLIENT.0; 16].into();
    let mut out = Vec::new();
    // Active records of it leave meanwhile, and it is open.
    let updates = (0..20_000u64).map(|i| match i % 4 {
        0 => tcp(CLIENT, SERVER, ACK, i * SECOND / 100),
        _ => tcp((1, i as u16), SERVER, ACK, i * SECOND / 100),
    });
    shard.update_all(updates, &mut out);
    assert!(out.iter().any(|record| record.src[0] == CLIENT.0));
    let now = 200 * SECOND;
    shard.expire(now, &mut out);
    let details = shard.details(now, 3);
    assert_eq!(details.hot_flows.len(), 3);
    assert!(hot(&details.hot_flows[0].key));
    let (packets, error) = (details.hot_flows[0].packets, details.hot_flows[0].error);
    assert!((5000..=5000 + error).contains(&packets), "{packets} {error}");
    assert_eq!(details.idle_ms.len(), shard.len() as u64);
    assert!(details.idle_ms.max() <= Duration::from_millis(15_200).as_millis() as u64);
    assert!(details.age_ms.max() >= details.idle_ms.max());
    assert!(details.update_ns.len() >= 15 && details.get_ns.len() == details.update_ns.len());
}

#[test]
fn a_flow_ends_though_a_record_was_emitted_between_its_two_fins() {
    for soft in [true, false] {
        let mut shard = shard(9);
        let mut out = Vec::new();
        // The active timeout is a minute, and the last packet of the first record is at 50 s.
        let open = (0..6).map(|i| tcp(CLIENT, SERVER, ACK, i * 10 * SECOND));
        shard.update_all(open, &mut out);
        play(&mut shard, &[tcp(CLIENT, SERVER, FIN | ACK, 55 * SECOND)]);
        let later = if soft {
            assert_eq!(shard.invalidate(|_| true, Mode::Soft, 56 * SECOND, &mut out), 1);
            57 * SECOND
        } else {
            61 * SECOND
        };
        out.extend(play(&mut shard, &[tcp(SERVER, CLIENT, FIN | ACK, later)]));
        out.extend(play(&mut shard, &[tcp(CLIENT, SERVER, ACK, later + 1)]));
        shard.expire(later + 2 * SECOND, &mut out);
        let rows: Vec<_> =
            out.iter().map(|r| (r.packets, r.reverse_packets, r.end_reason)).collect();
        let (active, ended) = (FlowEndReason::ActiveTimeout, FlowEndReason::EndOfFlow);
        assert_eq!(rows, [(7, 0, active), (1, 1, ended)], "soft: {soft}");
        assert_eq!(out[1].tcp_flags & FIN, 0, "its own packets' flags");
        assert!(shard.is_empty());
    }
}
