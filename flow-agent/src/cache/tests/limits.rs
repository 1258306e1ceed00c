//! Policies, classes and limits one by one.

use std::time::Duration;

use flow_common::key::protocol;
use flow_common::tcp::flags::{ACK, FIN, SYN};

use super::super::{Class, ClassTimeouts, Counter, Limits, Policy, Shard, Timeouts};
use super::{CLIENT, SECOND, SERVER, flush, packet, play, tcp};
use crate::record::{FlowEndReason, InitiatorBy};

fn limited(max_flows: usize, policy: Policy) -> Shard {
    Shard::new(Limits { policy, ..Limits::new(max_flows, Timeouts::default()) }, 1)
}

#[test]
fn fifo_has_the_oldest_leave_even_if_it_was_just_used() {
    for (policy, leaves) in [(Policy::Lru, 2), (Policy::Fifo, 1), (Policy::Ttl, 1)] {
        let mut shard = limited(2, policy);
        let updates = [(1, 1), (2, 2), (1, 3), (4, 4)];
        let updates = updates.map(|(host, time)| tcp((host, 9), SERVER, ACK, time));
        let out = play(&mut shard, &updates);
        assert_eq!(out.len(), 1);
        assert_eq!((out[0].src[0], out[0].end_reason), (leaves, FlowEndReason::LackOfResources));
        let stats = shard.stats();
        assert_eq!((stats.counts.get(Counter::EvictedFull), stats.last_eviction_ns), (1, 4));
    }
}

#[test]
fn an_entry_leaves_at_its_age_though_packets_come() {
    for policy in Policy::ALL {
        let ttl = Some(Duration::from_secs(5));
        let mut shard =
            Shard::new(Limits { policy, ttl, ..Limits::new(9, Timeouts::default()) }, 1);
        let mut out = Vec::new();
        for second in 0..12 {
            out.extend(play(&mut shard, &[tcp(CLIENT, SERVER, ACK, second * SECOND)]));
            shard.expire(second * SECOND, &mut out);
        }
        let records: Vec<_> = out.iter().map(|r| (r.packets, r.end_reason)).collect();
        // Begun at 0, emitted with the packet of 5 s; from then on, with that of 10 s.
        assert_eq!(records, [6, 5].map(|p| (p, FlowEndReason::ActiveTimeout)), "{policy:?}");
        assert_eq!(shard.stats().counts.get(Counter::Ttl), 2);
    }
}

/// The second period has no SYN, and only packets of the end that did not begin.
#[test]
fn a_flow_keeps_its_initiator_when_a_record_of_it_is_emitted_for_its_age() {
    for policy in Policy::ALL {
        let ttl = Some(Duration::from_secs(5));
        let mut shard =
            Shard::new(Limits { policy, ttl, ..Limits::new(9, Timeouts::default()) }, 1);
        let mut out = play(
            &mut shard,
            &[tcp(CLIENT, SERVER, SYN, 0), tcp(SERVER, CLIENT, SYN | ACK, SECOND)],
        );
        shard.expire(5 * SECOND, &mut out);
        out.extend(play(&mut shard, &[tcp(SERVER, CLIENT, ACK, 6 * SECOND)]));
        shard.expire(10 * SECOND, &mut out);
        // Nothing came in the third period; idleness ends it.
        shard.expire(15 * SECOND, &mut out);
        assert_eq!(shard.len(), 1, "{policy:?}");
        shard.expire(21 * SECOND, &mut out);
        let rows: Vec<_> = out
            .iter()
            .map(|r| (r.src_port, r.packets, r.reverse_packets, r.initiator_by, r.end_reason))
            .collect();
        let row = |packets, reverse| {
            (CLIENT.1, packets, reverse, InitiatorBy::Syn, FlowEndReason::ActiveTimeout)
        };
        assert_eq!(rows, [row(1, 1), row(0, 1)], "{policy:?}");
        assert!(shard.is_empty());
        let counts = shard.stats().counts;
        assert_eq!((counts.get(Counter::Ttl), counts.get(Counter::LeftIdle)), (2, 1));
    }
}

#[test]
fn each_class_has_its_own_timeouts() {
    let seconds = Duration::from_secs;
    let mut timeouts = Timeouts::default();
    for (class, own) in (1..).zip(&mut timeouts.classes) {
        *own = ClassTimeouts { idle: Some(seconds(class)), active: Some(seconds(100 * class)) };
    }
    let flows = [
        (protocol::TCP, ACK, Class::Tcp),
        (protocol::TCP, FIN | ACK, Class::TcpClosing),
        (protocol::UDP, 0, Class::Udp),
        (protocol::ICMPV6, 0, Class::Icmp),
        (protocol::GRE, 0, Class::Other),
    ];
    for ((protocol, flags, class), idle) in flows.into_iter().zip(1..) {
        let mut shard = Shard::new(Limits::new(9, timeouts), 1);
        let update = |time| packet(protocol, CLIENT, SERVER, flags, time);
        play(&mut shard, &[update(0)]);
        let mut out = Vec::new();
        shard.expire(idle * SECOND - 1, &mut out);
        assert!(out.is_empty(), "{class:?}");
        shard.expire(idle * SECOND, &mut out);
        assert_eq!(out[0].end_reason, FlowEndReason::IdleTimeout, "{class:?}");
        // Twice a second for ten minutes: the active timeout cuts it into pieces.
        let updates: Vec<_> = (0..1200).map(|i| update(i * SECOND / 2)).collect();
        let out = play(&mut shard, &updates);
        assert!(out.iter().all(|r| r.end_reason == FlowEndReason::ActiveTimeout));
        assert_eq!(out.len() as u64, (600 - 1) / (100 * idle), "{class:?}");
    }
}

#[test]
fn nothing_is_held_when_the_cache_is_switched_off() {
    let mut shard = Shard::new(Limits { enabled: false, ..Limits::new(9, Timeouts::default()) }, 1);
    let updates = [(CLIENT, SERVER, ACK), (SERVER, CLIENT, ACK), (CLIENT, SERVER, FIN)];
    let updates = updates.map(|(src, dst, flags)| tcp(src, dst, flags, 7));
    let out = play(&mut shard, &updates);
    assert_eq!(out.len(), 3);
    assert!(out.iter().all(|record| record.total_packets() == 1) && shard.is_empty());
}

#[test]
fn a_lower_limit_is_reached_in_steps_and_memory_is_given_back() {
    let mut shard = limited(100_000, Policy::Lru);
    let update = |flow: u32| {
        let mut update = packet(protocol::UDP, CLIENT, SERVER, 0, u64::from(flow));
        update.key.src = flow.to_be_bytes().into();
        update
    };
    play(&mut shard, &(0..100_000).map(update).collect::<Vec<_>>());
    let full = shard.stats().bytes;
    shard.resize(1000);
    let (mut out, mut steps) = (Vec::new(), 1);
    while shard.shed(4096, 7, &mut out) {
        steps += 1;
        assert_eq!(out.len(), 4096 * (steps - 1));
    }
    assert_eq!((out.len(), shard.len(), steps), (99_000, 1000, 25));
    assert_eq!(shard.stats().counts.get(Counter::EvictedResize), 99_000);
    assert!(shard.stats().bytes < full / 50, "{} of {full}", shard.stats().bytes);
    // The rest has moved and is still found, in its order.
    assert!((99_000..100_000).all(|flow| shard.contains(&update(flow))));
    shard.resize(100_000);
    let mut records = play(&mut shard, &(99_000..150_000).map(update).collect::<Vec<_>>());
    records.extend(flush(&mut shard));
    assert_eq!(records.iter().filter(|record| record.packets == 2).count(), 1000);
    assert_eq!(records.len(), 51_000);
}

/// The first step of memory pressure, and the next ones.
#[test]
fn a_limit_that_is_a_quarter_lower_gives_a_quarter_of_the_memory_back() {
    let mut shard = limited(100_000, Policy::Lru);
    let update = |flow: u32| {
        let mut update = packet(protocol::UDP, CLIENT, SERVER, 0, u64::from(flow));
        update.key.src = flow.to_be_bytes().into();
        update
    };
    play(&mut shard, &(0..100_000).map(update).collect::<Vec<_>>());
    let mut before = shard.stats().bytes;
    for most in [75_000u32, 56_250, 42_187] {
        shard.resize(most as usize);
        while shard.shed(1024, 7, &mut Vec::new()) {}
        let bytes = shard.stats().bytes;
        assert!(bytes < before - before / 5, "{bytes} of {before} octets for {most} flows");
        before = bytes;
        assert!((100_000 - most..100_000).all(|flow| shard.contains(&update(flow))));
    }
}

#[test]
fn however_many_leave_at_once_no_more_than_1024_records_wait_to_be_handed_over() {
    let update = |flow: u32| {
        // Every third is used again, and so is passed over when the others are due.
        let mut update = packet(protocol::UDP, CLIENT, SERVER, 0, u64::from(flow));
        update.key.src = flow.to_be_bytes().into();
        update
    };
    let again = |flow: u32| {
        let mut update = update(flow);
        (update.first_ns, update.last_ns) = (SECOND, SECOND);
        update
    };
    let mut shard = limited(100_000, Policy::Lru);
    play(&mut shard, &(0..90_000).map(update).collect::<Vec<_>>());
    play(&mut shard, &(0..30_000).map(again).collect::<Vec<_>>());
    let (mut out, mut parts) = (Vec::new(), Vec::new());
    shard.expire_by_parts(15 * SECOND + 90_000, &mut out, |out| parts.push(out.drain(..).len()));
    assert_eq!(parts.iter().sum::<usize>() + out.len(), 60_000);
    assert_eq!((parts, shard.len()), (vec![1024; 58], 30_000));
    let mut parts = Vec::new();
    out.clear();
    shard.flush_by_parts(&mut out, |out| parts.push(out.drain(..).len()));
    assert_eq!(parts, [1024; 29]);
    assert_eq!((out.len(), shard.len()), (30_000 - 29 * 1024, 0));
}

/// Few of them are used again each second, the others may be silent for long, and none is new: no
/// placement comes between, and yet the order has to follow the clock.
#[test]
fn a_nearly_full_shard_whose_flows_stay_looks_at_few_of_them_when_it_expires() {
    let mut timeouts = Timeouts::default();
    timeouts.classes[Class::Tcp as usize].idle = Some(Duration::from_secs(3600));
    let mut shard = Shard::new(Limits::new(1000, timeouts), 1);
    let flow = |protocol, flow: u32, second| {
        let mut update = packet(protocol, CLIENT, SERVER, ACK, second * SECOND);
        update.key.src = flow.to_be_bytes().into();
        update
    };
    let mut out = Vec::new();
    shard.update_all((0..940).map(|number| flow(protocol::TCP, number, 1000)), &mut out);
    for second in 1000..1050 {
        shard.update_all((0..50).map(|number| flow(protocol::UDP, number, second)), &mut out);
        let before = shard.looks.get();
        shard.expire(second * SECOND, &mut out);
        let looks = shard.looks.get() - before;
        assert!(looks < 10, "{looks} flows are looked at after {second} s");
    }
    assert!(out.is_empty() && shard.len() == 990);
}

#[test]
fn the_lower_limit_is_the_one_that_shards_have_together() {
    for (max_flows, mib, shards) in
        [(1_000_000, None, 1), (1_000_000, Some(8), 3), (1000, Some(64), 3), (1, None, 2)]
    {
        let limits = Limits {
            max_memory: mib.map(|mib: u64| mib << 20),
            ..Limits::new(max_flows, Timeouts::default())
        };
        let most = limits.flows_of(shards);
        // What the shards say, but for less than one each.
        let shard = Shard::new(limits.divided(shards), 1);
        let all = shard.stats().max_flows as usize * shards;
        assert!((most..most + shards).contains(&all), "{most} {all}");
        assert!(most <= max_flows.max(shards));
        match mib {
            Some(8) => assert!((20_000..45_000).contains(&most), "{most}"),
            _ => assert_eq!(most, max_flows.max(shards)),
        }
    }
}
