//! What one drained table entry, or one replayed packet, adds to a flow.

use flow_common::{FlowKey, Tunnel};

/// Counts of one direction of one flow. Times are ns of the meter's clock: agent
/// time (see `drain::clock`), or the capture's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// Which direction of which flow.
    pub key: FlowKey,
    /// What it came in, when that was taken off. A pointer, because most flows have none.
    pub tunnel: Option<Box<Tunnel>>,
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
    /// First packet with ACK and without SYN, ns; 0 if there was none.
    pub ack_ns: u64,
    /// Packets with SYN and without ACK.
    pub syn_packets: u32,
    /// Packets with SYN and ACK.
    pub syn_ack_packets: u32,
    /// TCP segments that repeat what was sent before; SYNs are not among them.
    pub retransmits: u32,
    /// How many packets each of these stands for; 1 without sampling.
    pub sampling: u32,
    /// OR of the TCP flags.
    pub tcp_flags: u8,
    /// DSCP of the first packet.
    pub dscp: u8,
    /// Smallest TTL or hop limit.
    pub min_ttl: u8,
    /// Largest TTL or hop limit.
    pub max_ttl: u8,
}
