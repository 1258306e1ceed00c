//! What one drained table entry, or one replayed packet, adds to a flow.

use flow_common::FlowKey;

/// Counts of one direction of one flow. Times are ns of the meter's clock: agent
/// time (see `drain::clock`), or the capture's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delta {
    /// Which direction of which flow.
    pub key: FlowKey,
    /// Packets on the wire.
    pub packets: u64,
    /// IP octets.
    pub octets: u64,
    /// First packet, ns.
    pub first_ns: u64,
    /// Last packet, ns.
    pub last_ns: u64,
    /// First packet with SYN, ns; 0 if there was none.
    pub syn_ns: u64,
    /// Packets with SYN and without ACK.
    pub syn_packets: u32,
    /// Packets with SYN and ACK.
    pub syn_ack_packets: u32,
    /// OR of the TCP flags.
    pub tcp_flags: u8,
    /// DSCP of the first packet.
    pub dscp: u8,
    /// Smallest TTL or hop limit.
    pub min_ttl: u8,
    /// Largest TTL or hop limit.
    pub max_ttl: u8,
    /// How many packets each of these stands for; 1 if all were metered.
    pub sampling: u32,
}
