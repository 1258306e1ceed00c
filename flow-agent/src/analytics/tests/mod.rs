//! The detectors together, with made time and made records.

mod bounds;
mod changes;
mod devices;
mod floods;
mod listeners;
mod scans;
mod state;

use std::time::Duration;

use flow_common::Direction;
use flow_common::tcp::flags::{ACK, FIN, RST, SYN};

use super::*;
use crate::names::Names;
use crate::record::{FlowEndReason, FlowRecord, InitiatorBy};

pub(super) const SECOND: u64 = 1_000_000_000;
/// Some day in 2025.
pub(super) const START: u64 = 1_750_000_000 * SECOND;

pub(super) fn address(text: &str) -> Address {
    mapped(text.parse().expect("an address"))
}

/// An address of 10.0.0.0/8.
pub(super) fn host(number: u32) -> Address {
    mapped(std::net::Ipv4Addr::from_bits(0x0a00_0000 + number).into())
}

/// An address of 198.18.0.0/15, which is not local.
pub(super) fn stranger(number: u32) -> Address {
    mapped(std::net::Ipv4Addr::from_bits(0xc612_0000 + number).into())
}

/// A web request and its answer.
pub(super) fn request(src: Address, src_port: u16, dst: Address, dst_port: u16) -> FlowRecord {
    FlowRecord {
        start_ns: START,
        end_ns: START + SECOND / 10,
        interface: 1,
        direction: Direction::Ingress,
        src,
        dst,
        src_port,
        dst_port,
        protocol: 6,
        icmp_type: 0,
        icmp_code: 0,
        vlan_id: 0,
        inner_vlan_id: 0,
        packets: 6,
        octets: 900,
        reverse_packets: 5,
        reverse_octets: 4_000,
        tcp_flags: SYN | ACK | FIN,
        reverse_tcp_flags: SYN | ACK | FIN,
        dscp: 0,
        min_ttl: 60,
        max_ttl: 64,
        tunnel: None,
        handshake_rtt_ns: 1_000_000,
        retransmits: 0,
        end_reason: FlowEndReason::EndOfFlow,
        initiator_by: InitiatorBy::Syn,
        sampling: 1,
    }
}

/// A SYN and nothing more.
pub(super) fn syn(src: Address, dst: Address, dst_port: u16) -> FlowRecord {
    FlowRecord {
        packets: 1,
        octets: 60,
        reverse_packets: 0,
        reverse_octets: 0,
        tcp_flags: SYN,
        reverse_tcp_flags: 0,
        end_reason: FlowEndReason::IdleTimeout,
        ..request(src, 40_000, dst, dst_port)
    }
}

/// A SYN to a closed port.
pub(super) fn refused(src: Address, dst: Address, dst_port: u16) -> FlowRecord {
    FlowRecord {
        reverse_packets: 1,
        reverse_octets: 40,
        reverse_tcp_flags: RST | ACK,
        ..syn(src, dst, dst_port)
    }
}

pub(super) fn names() -> Names {
    Names::new("host", &["eth0", "eth1"])
}

/// An engine that has nothing to learn.
pub(super) fn engine() -> Engine {
    engine_with(AnalyticsConfig { learning: Duration::ZERO, ..AnalyticsConfig::default() })
}

pub(super) fn engine_with(config: AnalyticsConfig) -> Engine {
    Engine::new(config, START)
}

/// Everything that was said, each event in its last revision.
pub(super) fn said(engine: &mut Engine) -> Vec<Event> {
    let mut last: Vec<Event> = Vec::new();
    for event in engine.take().events {
        match last.iter_mut().find(|known| known.id == event.id) {
            Some(known) => *known = event,
            None => last.push(event),
        }
    }
    last
}

pub(super) fn kinds(events: &[Event]) -> Vec<Kind> {
    events.iter().map(|event| event.finding.kind).collect()
}

#[test]
fn what_is_switched_off_says_and_keeps_nothing() {
    let mut engine = engine_with(AnalyticsConfig {
        learning: Duration::ZERO,
        devices: false,
        listeners: false,
        scans: false,
        syn_floods: false,
        changes: false,
        top: false,
        ..AnalyticsConfig::default()
    });
    let records: Vec<_> = (0..60_000).map(|port| syn(host(1), host(2), port)).collect();
    engine.observe(&records, &names(), START);
    engine.observe(&[request(host(3), 40_000, host(4), 80)], &names(), START);
    engine.tick(START + 3600 * SECOND);
    engine.finish(START + 3600 * SECOND);
    assert_eq!(engine.take(), Output::default());
    for size in engine.sizes().iter().filter(|size| size.name != "interface_names") {
        assert_eq!(size.entries, 0, "{size:?}");
    }
}

#[test]
fn the_lists_of_who_talks_most_are_right_and_slide() {
    let mut engine = engine();
    let mut records: Vec<_> =
        (0..5_000).map(|n| request(host(n + 100), 40_000, host(1), 443)).collect();
    let backup = FlowRecord { octets: 10_000_000_000, ..request(host(7), 40_000, host(8), 22) };
    records.push(backup);
    engine.observe(&records, &names(), START);
    engine.tick(START + SECOND);
    let top = engine.snapshot(START + SECOND, None).top;
    let talkers: Vec<_> = top.talkers.iter().map(|t| t.what.address.as_str()).take(3).collect();
    assert_eq!(talkers, ["10.0.0.7", "10.0.0.8", "10.0.0.1"]);
    for (talker, octets) in top.talkers.iter().zip([10_000_004_000, 10_000_004_000, 24_500_000]) {
        assert!(talker.octets >= octets && talker.octets - talker.octets_error <= octets);
    }
    assert_eq!(top.conversations[0].what.service, "ssh");
    assert_eq!(top.services.iter().map(|s| s.what.port).collect::<Vec<_>>(), [22, 443]);
    assert_eq!((top.durations[0].protocol, top.durations[0].flows), ("tcp", 5_001));
    assert!((0.099..=0.101).contains(&top.durations[0].p50_s));
    engine.tick(START + 301 * SECOND);
    assert_eq!(engine.snapshot(START + 301 * SECOND, None).top.services.len(), 2);
    engine.tick(START + 602 * SECOND);
    assert_eq!(engine.snapshot(START + 602 * SECOND, None).top.services.len(), 0);
}
