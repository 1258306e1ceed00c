//! One open flow: its counters in both directions, and who began it.

use flow_common::Direction;
use flow_common::tcp::flags::{FIN, RST};

use super::key::{BiflowKey, Side, icmp_request, is_icmp_request};
use crate::delta::Delta;
use crate::record::{FlowEndReason, FlowRecord, InitiatorBy};
use crate::services::service;

/// What one end sent.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    packets: u64,
    octets: u64,
    /// Unix ns of the first packet; meaningless while `packets` is 0.
    first_ns: u64,
    syn_ns: u64,
    ack_ns: u64,
    syn_packets: u32,
    syn_ack_packets: u32,
    retransmits: u32,
    tcp_flags: u8,
    dscp: u8,
    /// An ICMP answer was among the packets.
    answered: bool,
}

impl Sent {
    fn retransmits(&self) -> u32 {
        let beyond_first = |packets: u32| packets.saturating_sub(1);
        beyond_first(self.syn_packets) + beyond_first(self.syn_ack_packets) + self.retransmits
    }
}

/// The round trip between this host and the other end, 0 if it was not seen: who sends first waits
/// for the SYN-ACK, who answers for the ACK of it.
fn handshake_rtt_ns(initiator: &Sent, responder: &Sent, direction: Direction) -> u64 {
    if initiator.syn_packets == 0 || responder.syn_ack_packets == 0 {
        return 0;
    }
    match direction {
        Direction::Egress | Direction::Unknown => responder.syn_ns.saturating_sub(initiator.syn_ns),
        Direction::Ingress => initiator.ack_ns.saturating_sub(responder.syn_ns),
    }
}

/// The earlier of two times, where 0 is none.
fn earliest(time_ns: &mut u64, other_ns: u64) {
    if other_ns != 0 && (*time_ns == 0 || other_ns < *time_ns) {
        *time_ns = other_ns;
    }
}

/// An open flow.
#[derive(Clone, Debug)]
pub struct Flow {
    sent: [Sent; 2],
    pub start_ns: u64,
    pub last_ns: u64,
    /// When it ended; meaningless while it is open.
    pub ended_ns: u64,
    min_ttl: u8,
    max_ttl: u8,
    /// Of every packet counted so far.
    pub sampling: u32,
    /// Decided by an earlier record of the same flow, or known from before.
    initiator: Option<(Side, InitiatorBy)>,
}

impl Flow {
    /// A flow that begins with `delta`, sent by `side`.
    pub fn new(delta: &Delta, side: Side) -> Self {
        let mut flow = Self {
            sent: [Sent::default(); 2],
            start_ns: delta.first_ns,
            last_ns: delta.last_ns,
            ended_ns: 0,
            min_ttl: delta.min_ttl,
            max_ttl: delta.max_ttl,
            sampling: delta.sampling,
            initiator: None,
        };
        flow.add(delta, side);
        flow
    }

    /// The flow after its record was emitted for its age: the initiator stays.
    pub fn continued(&self, key: &BiflowKey, delta: &Delta, side: Side) -> Self {
        let initiator = Some(self.initiator(key));
        Self { initiator, ..Self::new(delta, side) }
    }

    /// Adds packets that `side` sent.
    pub fn add(&mut self, delta: &Delta, side: Side) {
        let sent = &mut self.sent[side as usize];
        if sent.packets == 0 || delta.first_ns < sent.first_ns {
            sent.first_ns = delta.first_ns;
            sent.dscp = delta.dscp;
        }
        sent.packets += delta.packets;
        sent.octets += delta.octets;
        sent.tcp_flags |= delta.tcp_flags;
        sent.syn_packets += delta.syn_packets;
        sent.syn_ack_packets += delta.syn_ack_packets;
        sent.retransmits += delta.retransmits;
        earliest(&mut sent.syn_ns, delta.syn_ns);
        earliest(&mut sent.ack_ns, delta.ack_ns);
        sent.answered |= icmp_request(&delta.key).is_some();
        self.start_ns = self.start_ns.min(delta.first_ns);
        self.last_ns = self.last_ns.max(delta.last_ns);
        self.min_ttl = self.min_ttl.min(delta.min_ttl);
        self.max_ttl = self.max_ttl.max(delta.max_ttl);
    }

    /// FIN from both ends, or RST from one.
    pub fn has_ended(&self) -> bool {
        let [low, high] = &self.sent;
        (low.tcp_flags & high.tcp_flags & FIN) != 0 || (low.tcp_flags | high.tcp_flags) & RST != 0
    }

    /// It is known from elsewhere who began the flow.
    pub fn decide(&mut self, decided: (Side, InitiatorBy)) {
        self.initiator = Some(decided);
    }

    /// Who began the flow, and which rule says so. What no SYN decided gives way to one.
    pub fn initiator(&self, key: &BiflowKey) -> (Side, InitiatorBy) {
        let syn = self.sent.iter().any(|sent| sent.syn_packets > 0);
        if let Some(decided) = self.initiator
            && (decided.1 == InitiatorBy::Syn || !syn)
        {
            return decided;
        }
        let first = self.first_sender();
        let [low, high] = &self.sent;
        match (low.syn_packets > 0, high.syn_packets > 0) {
            (true, false) => return (Side::Low, InitiatorBy::Syn),
            (false, true) => return (Side::High, InitiatorBy::Syn),
            (true, true) => return (first, InitiatorBy::Syn), // RFC 9293: simultaneous open
            (false, false) => {}
        }
        let sent_key = key.sent_by(first);
        if is_icmp_request(&sent_key) {
            // Both ends of a ping share the key; who answered did not begin.
            let requester = match (low.answered, high.answered) {
                (true, false) => Side::High,
                (false, true) => Side::Low,
                _ => first,
            };
            return (requester, InitiatorBy::Icmp);
        }
        let known = |port| service(sent_key.protocol, port).is_some();
        if known(sent_key.src_port) && !known(sent_key.dst_port) {
            return (first.other(), InitiatorBy::ServicePort);
        }
        (first, InitiatorBy::FirstPacket)
    }

    fn first_sender(&self) -> Side {
        let [low, high] = &self.sent;
        if high.packets == 0 || low.packets > 0 && low.first_ns <= high.first_ns {
            Side::Low
        } else {
            Side::High
        }
    }

    /// The record of everything counted so far.
    pub fn record(&self, key: &BiflowKey, end_reason: FlowEndReason) -> FlowRecord {
        let (side, initiator_by) = self.initiator(key);
        let (sent, answered) = (&self.sent[side as usize], &self.sent[side.other() as usize]);
        let flow_key = key.sent_by(side);
        let icmp = flow_key.is_icmp();
        let [icmp_type, icmp_code] = if icmp { flow_key.dst_port.to_be_bytes() } else { [0, 0] };
        let direction = Direction::from_number(flow_key.direction);
        FlowRecord {
            start_ns: self.start_ns,
            end_ns: self.last_ns,
            interface: flow_key.interface,
            direction,
            src: flow_key.src.octets(),
            dst: flow_key.dst.octets(),
            src_port: if icmp { 0 } else { flow_key.src_port },
            dst_port: if icmp { 0 } else { flow_key.dst_port },
            protocol: flow_key.protocol,
            icmp_type,
            icmp_code,
            vlan_id: flow_key.vlan_id,
            inner_vlan_id: flow_key.inner_vlan_id,
            packets: sent.packets,
            octets: sent.octets,
            reverse_packets: answered.packets,
            reverse_octets: answered.octets,
            tcp_flags: sent.tcp_flags,
            reverse_tcp_flags: answered.tcp_flags,
            dscp: if sent.packets > 0 { sent.dscp } else { answered.dscp },
            min_ttl: self.min_ttl,
            max_ttl: self.max_ttl,
            tunnel: key.tunnel_of(side),
            handshake_rtt_ns: match initiator_by {
                InitiatorBy::Syn => handshake_rtt_ns(sent, answered, direction),
                _ => 0,
            },
            retransmits: self.sent.iter().map(Sent::retransmits).sum(),
            end_reason,
            initiator_by,
            sampling: self.sampling,
        }
    }
}
