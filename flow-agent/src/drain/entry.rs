//! A table entry becomes a delta.

use flow_common::table::{ColdLine, HotLine};

use super::Interval;
use crate::delta::Delta;

/// The delta of an entry, with what its generation has in common.
pub fn delta(hot: &HotLine, cold: &ColdLine, interval: &Interval) -> Delta {
    let clock = &interval.clock;
    let first_ns = clock.agent_ns(cold.first_ns);
    Delta {
        key: hot.key,
        tunnel: None,
        packets: u64::from(hot.packets),
        octets: hot.octets,
        first_ns,
        last_ns: clock.agent_ns_of_jiffies(hot.last_jiffies).max(first_ns),
        syn_ns: clock.agent_ns(cold.syn_ns),
        ack_ns: clock.agent_ns(cold.ack_ns),
        syn_packets: u32::from(cold.syn_packets),
        syn_ack_packets: u32::from(cold.syn_ack_packets),
        retransmits: cold.retransmits,
        sampling: interval.sampling,
        tcp_flags: hot.tcp_flags,
        dscp: hot.dscp,
        min_ttl: hot.min_ttl,
        max_ttl: hot.max_ttl,
    }
}
