//! One workload generator for all measurements: seeded, so two runs see the same packets.

mod enriched;
#[path = "../../tests/src/mmdb.rs"]
mod mmdb;

pub use enriched::Enriched;

use flow_agent::delta::Delta;
use flow_common::key::protocol;
use flow_common::random::SplitMix64;
use flow_common::{Direction, FlowKey};

/// Deltas of UDP packets, spread uniformly over `flows` flows, a microsecond apart.
pub fn deltas(flows: u64, count: usize, seed: u64) -> Vec<Delta> {
    let mut random = SplitMix64::new(seed);
    (0..count as u64)
        .map(|i| {
            let flow = random.next() % flows;
            let now = 1_700_000_000_000_000_000 + i * 1000;
            Delta {
                key: FlowKey {
                    src: (flow as u32).to_be_bytes().into(),
                    dst: [10, 0, 0, 1].into(),
                    src_port: 40_000 + (flow >> 32) as u16,
                    dst_port: 443,
                    interface: 1,
                    protocol: protocol::UDP,
                    direction: Direction::Ingress as u8,
                    ..FlowKey::default()
                },
                tunnel: None,
                packets: 1,
                octets: 500,
                first_ns: now,
                last_ns: now,
                syn_ns: 0,
                ack_ns: 0,
                syn_packets: 0,
                syn_ack_packets: 0,
                retransmits: 0,
                tcp_flags: 0,
                dscp: 0,
                min_ttl: 64,
                max_ttl: 64,
                sampling: 1,
            }
        })
        .collect()
}

/// An Ethernet frame with `tags` VLAN tags, an IPv4 header and a TCP header.
pub fn tcp_frame(tags: usize) -> Vec<u8> {
    let mut frame = vec![2; 12];
    for tag in 0..tags {
        frame.extend([0x81, 0x00, 0, tag as u8]);
    }
    frame.extend([0x08, 0x00]);
    frame.extend([0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, protocol::TCP, 0, 0]);
    frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0x9c, 0x40, 0x01, 0xbb, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10, 0, 0, 0, 0, 0, 0]);
    frame
}
