//! Updates of the flow cache: one generator for the benches, `bench cache` and the tests.

use flow_common::key::protocol;
use flow_common::random::SplitMix64;
use flow_common::{Direction, FlowKey};

use super::workload::{Distribution, workload};
use crate::delta::Delta;

/// When the first update happens, Unix ns.
pub const START_NS: u64 = 1_700_000_000_000_000_000;

/// How updates choose their flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Every flow alike.
    Uniform,
    /// Zipf with exponent 1.1.
    Zipf,
    /// Four fifths of the updates are of the first fifth of the flows.
    EightyTwenty,
    /// Each is of a flow of its own.
    New,
}

impl Choice {
    /// The name in results.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Zipf => "zipf",
            Self::EightyTwenty => "80/20",
            Self::New => "new",
        }
    }
}

/// The flows, numbers below `flows`, of `count` updates. New ones begin at 0 and are not bounded.
pub fn choose(choice: Choice, flows: u32, count: usize, seed: u64) -> Vec<u32> {
    match choice {
        Choice::Uniform => workload(Distribution::Uniform, flows, count, seed),
        Choice::Zipf => {
            let ranks = workload(Distribution::Zipf, flows, count, seed);
            ranks.into_iter().map(|rank| rank % flows.next_power_of_two()).collect()
        }
        Choice::EightyTwenty => {
            let mut random = SplitMix64::new(seed);
            let hot = (flows / 5).max(1);
            (0..count)
                .map(|_| {
                    let word = random.next();
                    let is_hot = word % 5 < 4 || hot == flows;
                    let flow = (word >> 32) as u32;
                    if is_hot { flow % hot } else { hot + flow % (flows - hot) }
                })
                .collect()
        }
        Choice::New => (0..count as u32).collect(),
    }
}

/// An update of one UDP packet of 500 octets; the flows with even numbers are answers.
#[inline]
pub fn update(flow: u32, now_ns: u64) -> Delta {
    let client: [u8; 4] = flow.to_be_bytes();
    let key = FlowKey {
        src: client.into(),
        dst: [10, 0, 0, 1].into(),
        src_port: 40_000,
        dst_port: 443,
        interface: 1,
        protocol: protocol::UDP,
        direction: Direction::Ingress as u8,
        ..FlowKey::default()
    };
    Delta {
        key,
        tunnel: None,
        packets: 1,
        octets: 500,
        first_ns: now_ns,
        last_ns: now_ns,
        syn_ns: 0,
        ack_ns: 0,
        syn_packets: 0,
        syn_ack_packets: 0,
        retransmits: 0,
        sampling: 1,
        tcp_flags: 0,
        dscp: 0,
        min_ttl: 64,
        max_ttl: 64,
    }
}

/// Updates of these flows from `start_ns` on, `step_ns` apart.
pub fn updates(flows: &[u32], start_ns: u64, step_ns: u64) -> impl Iterator<Item = Delta> {
    flows.iter().zip(0u64..).map(move |(flow, i)| update(*flow, start_ns + i * step_ns))
}

/// As many ns apart that each of so many flows has an update a second, as from drains.
pub const fn pace(flows: u32) -> u64 {
    1_000_000_000 / flows as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn shares_are_what_the_names_say() {
        let counts = |choice| {
            let mut counts = BTreeMap::new();
            for flow in choose(choice, 1000, 100_000, 3) {
                *counts.entry(flow).or_insert(0u32) += 1;
            }
            counts
        };
        let hot: u32 = counts(Choice::EightyTwenty).range(..200).map(|(_, count)| count).sum();
        assert!((79_000..81_000).contains(&hot), "{hot}");
        assert!(counts(Choice::Uniform).values().all(|count| *count < 200));
        assert_eq!(counts(Choice::New).len(), 100_000);
        let zipf = counts(Choice::Zipf);
        assert!(zipf.len() <= 1000 && zipf.values().any(|count| *count > 17_000));
    }
}
