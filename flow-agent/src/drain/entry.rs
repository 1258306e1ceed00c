//! An entry of the tables, and how it becomes a delta.

use flow_common::Tunnel;
use flow_common::table::{ColdLine, HotLine};

use super::Interval;
use crate::delta::Delta;

/// A flow as the tables hold it.
#[derive(Clone, Copy, Debug)]
pub struct FlowEntry<'a> {
    /// Its counters.
    pub hot: &'a HotLine,
    /// Its beginning.
    pub cold: &'a ColdLine,
    /// The tunnel that it came in.
    pub tunnel: &'a Tunnel,
}

impl FlowEntry<'_> {
    /// The delta, with what its generation has in common.
    pub fn delta(&self, interval: &Interval) -> Delta {
        let (hot, cold, clock) = (self.hot, self.cold, &interval.clock);
        let first_ns = clock.agent_ns(cold.first_ns);
        Delta {
            key: hot.key,
            tunnel: (!self.tunnel.is_none()).then(|| Box::new(*self.tunnel)),
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
}
