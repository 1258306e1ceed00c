//! Whatever comes, in any order: nothing is lost, and records are those of a plain reference.

use std::collections::BTreeMap;
use std::time::Duration;

use flow_common::FlowKey;
use flow_common::key::protocol;
use proptest::prelude::*;

use super::super::{BiflowKey, Limits, Mode, Policy, Shard, StatsLevel, Timeouts};
use super::{SECOND, packet};
use crate::delta::Delta;
use crate::record::{FlowEndReason, FlowRecord};

/// Packets and octets per sender, receiver and protocol.
type Sums = BTreeMap<([u8; 16], [u8; 16], u8), (u64, u64)>;

fn add(sums: &mut Sums, key: ([u8; 16], [u8; 16], u8), packets: u64, octets: u64) {
    if packets > 0 {
        let sum = sums.entry(key).or_default();
        sum.0 += packets;
        sum.1 += octets;
    }
}

fn add_record(sums: &mut Sums, r: &FlowRecord) {
    add(sums, (r.src, r.dst, r.protocol), r.packets, r.octets);
    add(sums, (r.dst, r.src, r.protocol), r.reverse_packets, r.reverse_octets);
}

/// What is done to a shard.
#[derive(Clone, Debug)]
enum Step {
    /// Packets: sender, receiver, port, flags, second, protocol.
    Update(Vec<(u8, u8, u16, u8, u64, u8)>),
    Expire(u64),
    Invalidate(u8, bool),
    Resize(usize),
    Level(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let packet = (0u8..6, 0u8..6, 0u16..3, any::<u8>(), 0u64..90, 0u8..4);
    prop_oneof![
        8 => proptest::collection::vec(packet, 1..80).prop_map(Step::Update),
        3 => (0u64..120).prop_map(Step::Expire),
        2 => (0u8..6, any::<bool>()).prop_map(|(host, soft)| Step::Invalidate(host, soft)),
        1 => (1usize..20).prop_map(Step::Resize),
        1 => (0usize..3).prop_map(Step::Level),
    ]
}

fn delta((src, dst, port, flags, second, kind): (u8, u8, u16, u8, u64, u8)) -> Delta {
    let protocol = [protocol::TCP, protocol::ICMP, protocol::UDP, 47][kind as usize];
    // ICMP types 0 to 15, so that some are answers; times go back and forth.
    let (src_port, port) = match protocol {
        protocol::ICMP => (0, u16::from(flags % 16) << 8),
        47 => (0, 0),
        _ => (7, port),
    };
    packet(protocol, (src, src_port), (dst, port), flags, second * SECOND)
}

proptest! {
    /// Every packet is in exactly one record or open flow, on its side, after each step.
    #[test]
    fn nothing_is_lost_or_counted_twice(
        steps in proptest::collection::vec(step(), 1..40),
        max_flows in 1usize..20,
        policy in 0usize..3,
        ttl in proptest::option::of(1u64..40),
        enabled in prop_oneof![9 => Just(true), 1 => Just(false)],
    ) {
        let timeouts = Timeouts { active: Duration::from_secs(20), ..Timeouts::default() };
        let mut limits = Limits::new(max_flows, timeouts);
        (limits.policy, limits.enabled) = (Policy::ALL[policy], enabled);
        limits.ttl = ttl.map(Duration::from_secs);
        let mut shard = Shard::new(limits, 7);
        let (mut sent, mut left, mut most) = (Sums::new(), Sums::new(), max_flows);
        for step in steps {
            let mut out = Vec::new();
            match step {
                Step::Update(packets) => {
                    let deltas: Vec<Delta> = packets.into_iter().map(delta).collect();
                    for d in &deltas {
                        let key = (d.key.src.octets(), d.key.dst.octets(), d.key.protocol);
                        add(&mut sent, key, 1, 100);
                    }
                    shard.update_all(&deltas, &mut out);
                }
                Step::Expire(second) => shard.expire(second * SECOND, &mut out),
                Step::Invalidate(host, soft) => {
                    let mode = if soft { Mode::Soft } else { Mode::Hard };
                    let is = |key: &FlowKey| key.src == [host; 16].into();
                    let before = shard.find(is, usize::MAX);
                    let flows = shard.invalidate(is, mode, 0, &mut out);
                    prop_assert_eq!(flows, before.len() as u64);
                    prop_assert_eq!(
                        out.iter().map(FlowRecord::total_packets).sum::<u64>(),
                        before.iter().map(FlowRecord::total_packets).sum::<u64>()
                    );
                    let after = shard.find(is, usize::MAX);
                    prop_assert_eq!(after.len(), if soft { before.len() } else { 0 });
                    prop_assert!(after.iter().all(|flow| flow.total_packets() == 0));
                }
                Step::Resize(flows) => {
                    most = flows;
                    shard.resize(flows);
                    while shard.shed(1, 0, &mut out) {}
                }
                Step::Level(level) => shard.set_level(StatsLevel::ALL[level]),
            }
            prop_assert!(shard.len() <= most, "{} of {most}", shard.len());
            prop_assert_eq!(shard.stats().flows, shard.len() as u64);
            for record in &out {
                prop_assert!(record.start_ns <= record.end_ns && record.total_packets() > 0);
                add_record(&mut left, record);
            }
            let mut accounted = left.clone();
            for open in shard.find(|_| true, usize::MAX) {
                add_record(&mut accounted, &open);
            }
            prop_assert_eq!(&sent, &accounted);
        }
        let mut out = Vec::new();
        shard.flush(&mut out);
        prop_assert!(shard.is_empty());
        for record in &out {
            add_record(&mut left, record);
        }
        prop_assert_eq!(sent, left);
    }

    /// With room for all and a clock that goes forward, records are those of the reference:
    /// which flows, when they began and ended, how much, and why they left.
    #[test]
    fn records_are_those_of_a_plain_reference(
        packets in proptest::collection::vec(
            ((0u8..3, 0u8..3, 0u16..2, any::<u8>(), Just(0), 0u8..4), 0u64..2_000_000_000, 0u8..3),
            1..300),
        idle in 1u64..12,
        active in 1u64..30,
    ) {
        let seconds = Duration::from_secs;
        let timeouts = Timeouts { idle: seconds(idle), active: seconds(active), ..Timeouts::default() };
        let mut shard = Shard::new(Limits::new(10_000, timeouts), 3);
        let mut reference = Reference::new(idle * SECOND, active * SECOND);
        let (mut now, mut out) = (0, Vec::new());
        for (packet, pause, expire) in packets {
            now += if expire == 2 { pause * 4 } else { pause / 8 };
            if expire > 0 {
                shard.expire(now, &mut out);
                reference.expire(now);
            }
            let mut delta = delta(packet);
            (delta.first_ns, delta.last_ns) = (now, now);
            shard.update_all([&delta], &mut out);
            reference.update(&delta);
        }
        shard.flush(&mut out);
        reference.flush();
        let mut records: Vec<_> = out
            .iter()
            .map(|r| (r.start_ns, r.end_ns, r.total_packets(), r.end_reason as u8))
            .collect();
        records.sort_unstable();
        reference.out.sort_unstable();
        prop_assert_eq!(records, reference.out);
    }
}

/// The rules in the plainest way: every flow is looked at each time.
struct Reference {
    idle_ns: u64,
    active_ns: u64,
    open: BTreeMap<FlowKey, Open>,
    /// Start, end, packets, reason.
    out: Vec<(u64, u64, u64, u8)>,
}

#[derive(Clone, Copy, Default)]
struct Open {
    start_ns: u64,
    last_ns: u64,
    packets: u64,
    flags: [u8; 2],
    ended_ns: Option<u64>,
}

impl Reference {
    const LINGER_NS: u64 = 2 * SECOND;

    fn new(idle_ns: u64, active_ns: u64) -> Self {
        Self { idle_ns, active_ns, open: BTreeMap::new(), out: Vec::new() }
    }

    fn emit(&mut self, flow: Open, reason: FlowEndReason) {
        self.out.push((flow.start_ns, flow.last_ns, flow.packets, reason as u8));
    }

    /// Why a flow leaves at this time.
    fn due(&self, flow: &Open, now: u64) -> Option<FlowEndReason> {
        match flow.ended_ns {
            Some(ended) if now >= ended + Self::LINGER_NS => Some(FlowEndReason::EndOfFlow),
            None if now >= flow.last_ns + self.idle_ns => Some(FlowEndReason::IdleTimeout),
            _ => None,
        }
    }

    fn expire(&mut self, now: u64) {
        let keys: Vec<FlowKey> = self.open.keys().copied().collect();
        for key in keys {
            let flow = self.open[&key];
            if let Some(reason) = self.due(&flow, now) {
                self.open.remove(&key);
                self.emit(flow, reason);
            }
        }
    }

    fn update(&mut self, delta: &Delta) {
        use flow_common::tcp::flags::{FIN, RST};

        let (biflow, side) = BiflowKey::of(delta);
        let key = biflow.sent_by(super::super::Side::Low);
        let now = delta.first_ns;
        if let Some(flow) = self.open.get(&key).copied() {
            let reason = match self.due(&flow, now) {
                None if flow.ended_ns.is_some() && delta.syn_packets > 0 && now > flow.last_ns => {
                    Some(FlowEndReason::EndOfFlow)
                }
                None if flow.ended_ns.is_none() && now >= flow.start_ns + self.active_ns => {
                    Some(FlowEndReason::ActiveTimeout)
                }
                due => due,
            };
            if let Some(reason) = reason {
                self.open.remove(&key);
                self.emit(flow, reason);
                if reason == FlowEndReason::ActiveTimeout {
                    // It goes on, and who has closed it has closed it.
                    let flags = flow.flags.map(|flags| flags & FIN);
                    self.open.insert(key, Open { start_ns: now, flags, ..Open::default() });
                }
            }
        }
        let flow = self.open.entry(key).or_insert(Open { start_ns: now, ..Open::default() });
        flow.last_ns = now;
        flow.packets += 1;
        flow.flags[side as usize] |= delta.tcp_flags;
        let [low, high] = flow.flags;
        if flow.ended_ns.is_none() && (low & high & FIN != 0 || (low | high) & RST != 0) {
            flow.ended_ns = Some(now);
        }
    }

    fn flush(&mut self) {
        for flow in std::mem::take(&mut self.open).into_values() {
            let ended = flow.ended_ns.is_some();
            let reason = if ended { FlowEndReason::EndOfFlow } else { FlowEndReason::ForcedEnd };
            self.emit(flow, reason);
        }
    }
}
