//! An entry of the tables, and how it becomes a delta.

use flow_common::Tunnel;
use flow_common::table::{HotLine, TcpLine};

use super::Interval;
use crate::delta::Delta;

/// A flow as the tables hold it.
#[derive(Clone, Copy, Debug)]
pub struct FlowEntry<'a> {
    /// Its counters.
    pub hot: &'a HotLine,
    /// `CLOCK_BOOTTIME` in ns of its first packet.
    pub first_ns: u64,
    /// [`TcpLine::NONE`] if it is not TCP.
    pub tcp: &'a TcpLine,
    /// The tunnel that it came in.
    pub tunnel: &'a Tunnel,
}

impl FlowEntry<'_> {
    /// The delta, with what its generation has in common.
    pub fn delta(&self, interval: &Interval) -> Delta {
        let (hot, tcp, clock) = (self.hot, self.tcp, &interval.clock);
        let first_ns = clock.agent_ns(self.first_ns);
        Delta {
            key: hot.key,
            tunnel: (!self.tunnel.is_none()).then(|| Box::new(*self.tunnel)),
            packets: u64::from(hot.packets),
            octets: hot.octets,
            first_ns,
            last_ns: clock.agent_ns_of_jiffies(hot.last_jiffies).max(first_ns),
            syn_ns: clock.agent_ns(tcp.syn_ns),
            ack_ns: clock.agent_ns(tcp.ack_ns),
            syn_packets: u32::from(tcp.syn_packets),
            syn_ack_packets: u32::from(tcp.syn_ack_packets),
            retransmits: tcp.retransmits,
            sampling: interval.sampling,
            tcp_flags: hot.tcp_flags,
            dscp: hot.dscp,
            min_ttl: hot.min_ttl,
            max_ttl: hot.max_ttl,
        }
    }
}
