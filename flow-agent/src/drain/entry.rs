//! A table entry becomes a delta.

use flow_common::table::{ColdLine, HotLine};

use super::KernelClock;
use crate::delta::Delta;

/// The delta of an entry, with the clock of its drain.
pub fn delta(hot: &HotLine, cold: &ColdLine, clock: &KernelClock) -> Delta {
    let first_ns = clock.agent_ns(cold.first_ns);
    Delta {
        key: hot.key,
        packets: u64::from(hot.packets),
        octets: hot.octets,
        first_ns,
        last_ns: clock.agent_ns_of_jiffies(hot.last_jiffies).max(first_ns),
        syn_ns: clock.agent_ns(cold.syn_ns),
        syn_packets: u32::from(cold.syn_packets),
        syn_ack_packets: u32::from(cold.syn_ack_packets),
        tcp_flags: hot.tcp_flags,
        dscp: hot.dscp,
        min_ttl: hot.min_ttl,
        max_ttl: hot.max_ttl,
    }
}
