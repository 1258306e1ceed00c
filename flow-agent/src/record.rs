//! The flow record: what the cache emits and the sinks store.

use flow_common::{Direction, Tunnel};

/// Why a record was emitted (IPFIX flowEndReason, RFC 5102 section 5.11.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowEndReason {
    /// No packet for the idle timeout.
    IdleTimeout = 1,
    /// The flow goes on, but lasted as long as the active timeout.
    ActiveTimeout = 2,
    /// FIN from both sides, or RST.
    EndOfFlow = 3,
    /// The agent stopped.
    ForcedEnd = 4,
    /// The cache needed the place.
    LackOfResources = 5,
}

impl FlowEndReason {
    /// The reason with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::IdleTimeout,
            2 => Self::ActiveTimeout,
            3 => Self::EndOfFlow,
            4 => Self::ForcedEnd,
            5 => Self::LackOfResources,
            _ => return None,
        })
    }

    /// The name in rows and documents.
    pub const fn label(self) -> &'static str {
        match self {
            Self::IdleTimeout => "idle_timeout",
            Self::ActiveTimeout => "active_timeout",
            Self::EndOfFlow => "end_of_flow",
            Self::ForcedEnd => "forced_end",
            Self::LackOfResources => "lack_of_resources",
        }
    }
}

/// Which rule decided who began the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitiatorBy {
    /// It sent a SYN without ACK.
    Syn = 1,
    /// It sent the ICMP request.
    Icmp = 2,
    /// The other side's port is a known service and its own is not.
    ServicePort = 3,
    /// It sent the first packet.
    FirstPacket = 4,
}

impl InitiatorBy {
    /// The rule with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Syn,
            2 => Self::Icmp,
            3 => Self::ServicePort,
            4 => Self::FirstPacket,
            _ => return None,
        })
    }

    /// The name in rows and documents.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Syn => "syn",
            Self::Icmp => "icmp",
            Self::ServicePort => "service_port",
            Self::FirstPacket => "first_packet",
        }
    }
}

/// Both directions of a flow between two times. `src` is the initiator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRecord {
    /// First packet, Unix ns.
    pub start_ns: u64,
    /// Last packet, Unix ns.
    pub end_ns: u64,
    /// The agent's number for the interface.
    pub interface: u16,
    /// Direction of the initiator's packets there.
    pub direction: Direction,
    /// The initiator.
    pub src: [u8; 16],
    /// The other side.
    pub dst: [u8; 16],
    /// The initiator's port, 0 for ICMP.
    pub src_port: u16,
    /// The other side's port, 0 for ICMP.
    pub dst_port: u16,
    /// IP protocol.
    pub protocol: u8,
    /// Type of the ICMP request, or of a message that is no answer.
    pub icmp_type: u8,
    /// Its code.
    pub icmp_code: u8,
    /// Outer VLAN id.
    pub vlan_id: u16,
    /// Next VLAN id.
    pub inner_vlan_id: u16,
    /// Packets from the initiator.
    pub packets: u64,
    /// IP octets from the initiator.
    pub octets: u64,
    /// Packets to the initiator.
    pub reverse_packets: u64,
    /// IP octets to the initiator.
    pub reverse_octets: u64,
    /// OR of the initiator's TCP flags.
    pub tcp_flags: u8,
    /// OR of the other side's TCP flags.
    pub reverse_tcp_flags: u8,
    /// DSCP of the initiator's first packet, or of the other side's if it sent none.
    pub dscp: u8,
    /// Smallest TTL of both directions.
    pub min_ttl: u8,
    /// Largest TTL of both directions.
    pub max_ttl: u8,
    /// What the initiator's packets came in, when that was taken off.
    pub tunnel: Option<Box<Tunnel>>,
    /// Between this host and the other end, in ns; 0 if not seen: from the initiator's SYN to the
    /// SYN-ACK, or, where this host answers (`ingress`), from there to the initiator's ACK.
    pub handshake_rtt_ns: u64,
    /// SYN and SYN-ACK packets beyond the first of each, and repeated segments.
    pub retransmits: u32,
    /// Why it was emitted.
    pub end_reason: FlowEndReason,
    /// Which rule chose the initiator.
    pub initiator_by: InitiatorBy,
    /// How many packets each counted one stands for; 1 if all were metered.
    pub sampling: u32,
}

/// Of the times of flows that were metered live.
const TIME_STEP_NS: u64 = 1_000_000;
/// Of their handshakes.
const RTT_STEP_NS: u64 = 1_000;

impl FlowRecord {
    /// What the initiator's packets came in; all zero for nothing.
    pub fn tunnel(&self) -> Tunnel {
        self.tunnel.as_deref().copied().unwrap_or_default()
    }

    /// Moves a live flow's times by `drift_ns`, from agent time to Unix time, and to what is known
    /// of them: its times to milliseconds (IPFIX `flowStartMilliseconds`, RFC 5102; the kernel's
    /// tick is coarser), the handshake to microseconds. What lies below is noise, and noise cannot
    /// be compressed: it would take a fifth of a table.
    pub fn settle_times(&mut self, drift_ns: i64) {
        let whole = |ns: u64| ns - ns % TIME_STEP_NS;
        self.start_ns = whole(self.start_ns.saturating_add_signed(drift_ns));
        self.end_ns = whole(self.end_ns.saturating_add_signed(drift_ns));
        // Upwards: 0 stands for no handshake.
        self.handshake_rtt_ns =
            self.handshake_rtt_ns.div_ceil(RTT_STEP_NS).saturating_mul(RTT_STEP_NS);
    }

    /// Packets of both directions.
    pub const fn total_packets(&self) -> u64 {
        self.packets + self.reverse_packets
    }

    /// IP octets of both directions.
    pub const fn total_octets(&self) -> u64 {
        self.octets + self.reverse_octets
    }
}

#[cfg(test)]
impl FlowRecord {
    /// A DNS question without an answer, for tests.
    pub fn example(src_port: u16) -> Self {
        Self {
            start_ns: 1,
            end_ns: 2,
            interface: 1,
            direction: Direction::Egress,
            src: [1; 16],
            dst: [2; 16],
            src_port,
            dst_port: 53,
            protocol: 17,
            icmp_type: 0,
            icmp_code: 0,
            vlan_id: 0,
            inner_vlan_id: 0,
            packets: 1,
            octets: 60,
            reverse_packets: 0,
            reverse_octets: 0,
            tcp_flags: 0,
            reverse_tcp_flags: 0,
            dscp: 0,
            min_ttl: 64,
            max_ttl: 64,
            tunnel: None,
            handshake_rtt_ns: 0,
            retransmits: 0,
            end_reason: FlowEndReason::IdleTimeout,
            initiator_by: InitiatorBy::FirstPacket,
            sampling: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settled_times_are_whole_in_their_order_and_a_handshake_stays_one() {
        for (start_ns, lasts, drift_ns, rtt) in
            [(1_700_000_000_123_456_789, 0, -1, 1), (5_999_999, 1, 1, 999), (0, 3, -9, 1_001)]
        {
            let mut record = FlowRecord {
                start_ns,
                end_ns: start_ns + lasts,
                handshake_rtt_ns: rtt,
                ..FlowRecord::example(1)
            };
            record.settle_times(drift_ns);
            let off = start_ns.saturating_add_signed(drift_ns) - record.start_ns;
            assert!(off < 1_000_000 && record.start_ns <= record.end_ns);
            assert_eq!((record.start_ns % 1_000_000, record.end_ns % 1_000_000), (0, 0));
            assert!(record.handshake_rtt_ns >= rtt && record.handshake_rtt_ns < rtt + 1_000);
            assert_eq!(record.handshake_rtt_ns % 1_000, 0);
        }
        let mut none = FlowRecord::example(1);
        none.settle_times(0);
        assert_eq!(none.handshake_rtt_ns, 0);
    }
}
