//! What the measurements share. Updates of flows come from [`flow_agent::bench::updates`], as in
//! the tests and in `flow-agent bench cache`.

pub mod capture;
mod enriched;
#[path = "../../tests/src/mmdb.rs"]
mod mmdb;

pub use enriched::Enriched;

use std::net::Ipv4Addr;

use flow_agent::record::{FlowEndReason, FlowRecord, InitiatorBy};
use flow_common::Direction;
use flow_common::key::protocol;
use flow_common::random::SplitMix64;

/// A key as large as that of a flow, rounded up, for caches that know no flows.
pub type Key = [u64; 6];

/// A value as large as a flow's counters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Value(pub [u64; 12]);

/// The key of a flow with this number.
#[must_use]
pub const fn key(flow: u32) -> Key {
    [0, 0xffff << 32 | flow as u64, 0, 0x0100_000a_ffff, 0x01bb_9c40, 17]
}

impl Value {
    /// Adds a packet, as an update of a flow does.
    pub const fn add(&mut self, now_ns: u64) {
        self.0[0] += 1;
        self.0[1] += 500;
        if self.0[2] == 0 {
            self.0[2] = now_ns;
        }
        self.0[3] = now_ns;
    }
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

/// Records of TCP connections from 65,536 clients to 16 servers; two of a hundred get no answer.
pub fn records(count: usize) -> Vec<FlowRecord> {
    let mut random = SplitMix64::new(5);
    let address = |host: u32| Ipv4Addr::from_bits(0x0a00_0000 + host).to_ipv6_mapped().octets();
    (0..count as u64)
        .map(|i| {
            let number = random.next();
            let silent = (number >> 48).is_multiple_of(64);
            let start_ns = 1_700_000_000_000_000_000 + i * 1000;
            FlowRecord {
                start_ns,
                end_ns: start_ns + (number >> 40),
                interface: 1,
                direction: Direction::Ingress,
                src: address(0x1_0000 | (number as u32 & 0xffff)),
                dst: address(1 + (number >> 16) as u32 % 16),
                src_port: 32_768 | (number >> 20) as u16,
                dst_port: [443, 80, 22, 5_432][(number >> 36) as usize % 4],
                protocol: protocol::TCP,
                icmp_type: 0,
                icmp_code: 0,
                vlan_id: 0,
                inner_vlan_id: 0,
                packets: if silent { 1 } else { 6 },
                octets: 900,
                reverse_packets: if silent { 0 } else { 5 },
                reverse_octets: 4_000,
                tcp_flags: if silent { 2 } else { 0x13 },
                reverse_tcp_flags: if silent { 0 } else { 0x13 },
                dscp: 0,
                min_ttl: 64,
                max_ttl: 64,
                tunnel: None,
                handshake_rtt_ns: 0,
                retransmits: 0,
                end_reason: FlowEndReason::EndOfFlow,
                initiator_by: InitiatorBy::Syn,
                sampling: 1,
            }
        })
        .collect()
}
