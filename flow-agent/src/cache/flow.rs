//! One open flow: its key, its counters in both directions, and who began it.

use flow_common::tcp::Segment;
use flow_common::tcp::flags::{FIN, RST};
use flow_common::{Direction, FlowKey, Tunnel};

use super::key::{Side, icmp_request, is_icmp_request, of_low, sent_by};
use super::notes::Notes;
use super::order::Placed;
use super::sequences::Sequence;
use super::timeouts::Class;
use crate::delta::Delta;
use crate::record::{FlowEndReason, FlowRecord, InitiatorBy};
use crate::services::is_well_known;

/// No packet has come.
const NEVER: u64 = u64::MAX;

/// An open flow: three cache lines. An update that finds its flow reads the first and changes the
/// second; the third is for beginnings, handshakes, retransmissions and tunnels. Arrays have the
/// low end's value, then the high end's.
#[repr(C, align(64))]
#[derive(Clone, Debug)]
pub struct Flow {
    /// As the low end sends it.
    pub key: FlowKey,
    /// How many packets each counted one stands for.
    pub sampling: u32,
    /// What is expected of each end next, where segments are followed.
    next: [u32; 2],
    /// Last packet, ns.
    pub last_ns: u64,

    packets: [u64; 2],
    pub(super) octets: [u64; 2],
    /// First packet, ns.
    first_ns: [u64; 2],
    tcp_flags: [u8; 2],
    /// Of all segments that were followed, in whatever record.
    followed_flags: [u8; 2],
    min_ttl: u8,
    max_ttl: u8,
    pub class: Class,
    notes: Notes,
    pub placed: Placed,

    /// As the low end's packets have it.
    tunnel: Option<Box<Tunnel>>,
    /// First SYN, ns; 0 for none.
    syn_ns: [u64; 2],
    /// First ACK without SYN, ns; 0 for none.
    ack_ns: [u64; 2],
    /// When the record began, or, of a flow that lingers, when it ended; ns.
    pub since_ns: u64,
    /// Repeated segments; each SYN and SYN-ACK of an end but the first.
    retransmits: u32,
    /// Of each end, [`SYN_SEEN`] and [`SYN_ACK_SEEN`].
    handshake: [u8; 2],
    /// FIN of each end, if an earlier record of the flow has it.
    earlier_fin: [u8; 2],
    /// Of each end's first packet.
    dscp: [u8; 2],
}

const _: () = assert!(size_of::<Flow>() == 192);
const _: () = assert!(std::mem::offset_of!(Flow, packets) == 64);
const _: () = assert!(std::mem::offset_of!(Flow, tunnel) == 128);

/// In [`Flow::handshake`].
const SYN_SEEN: u8 = 1;

/// In [`Flow::handshake`].
const SYN_ACK_SEEN: u8 = 2;

impl Flow {
    /// A slot without a flow, and the next such slot.
    pub fn free(next: u32) -> Self {
        Self {
            key: FlowKey::default(),
            sampling: 0,
            next: [0; 2],
            last_ns: 0,
            packets: [0; 2],
            octets: [0; 2],
            first_ns: [NEVER; 2],
            tcp_flags: [0; 2],
            followed_flags: [0; 2],
            min_ttl: u8::MAX,
            max_ttl: 0,
            class: Class::Other,
            notes: Notes::default(),
            placed: Placed { tick: 0, turn: next },
            tunnel: None,
            syn_ns: [0; 2],
            ack_ns: [0; 2],
            since_ns: 0,
            retransmits: 0,
            handshake: [0; 2],
            earlier_fin: [0; 2],
            dscp: [0; 2],
        }
    }

    /// True for a slot without a flow.
    #[inline]
    pub fn is_free(&self) -> bool {
        self.sampling == 0
    }

    /// The next slot without a flow.
    pub fn next_free(&self) -> u32 {
        self.placed.turn
    }

    /// A flow with the low end's key, which begins with `delta`, sent by `side`; and who began it,
    /// if that is known from before.
    pub fn new(
        key: &FlowKey,
        delta: &Delta,
        side: Side,
        known: Option<(Side, InitiatorBy)>,
    ) -> Self {
        let tunnel = delta.tunnel.as_deref().map(|tunnel| Box::new(of_low(tunnel, side)));
        let notes = Notes::new(known, tunnel.is_some());
        let mut flow = Self { key: *key, tunnel, notes, ..Self::free(0) };
        flow.begin(delta, side);
        flow
    }

    /// Counts from zero, with `delta` first.
    fn begin(&mut self, delta: &Delta, side: Side) {
        self.sampling = delta.sampling.max(1);
        self.last_ns = delta.last_ns;
        self.since_ns = delta.first_ns;
        self.add(delta, side);
        self.class = self.class_now();
        if self.class == Class::Ended {
            self.since_ns = delta.last_ns;
        }
    }

    /// Forgets what was counted, after its record was emitted; the initiator stays, and which
    /// ends have closed the connection.
    pub fn reset(&mut self) {
        let fin = |end: usize| (self.tcp_flags[end] | self.earlier_fin[end]) & FIN;
        *self = Self {
            sampling: self.sampling,
            last_ns: self.last_ns,
            class: self.class,
            since_ns: self.since_ns,
            earlier_fin: [fin(0), fin(1)],
            ..self.next_record(Some(self.initiator()))
        };
    }

    /// Takes what outlasts a record: the key and the tunnel, the place, and the sequence numbers.
    fn next_record(&mut self, initiator: Option<(Side, InitiatorBy)>) -> Self {
        Self {
            key: self.key,
            tunnel: self.tunnel.take(),
            placed: self.placed,
            next: self.next,
            followed_flags: self.followed_flags,
            notes: Notes::new(initiator, self.notes.in_tunnel()),
            ..Self::free(0)
        }
    }

    /// Another flow with the same key.
    pub fn begin_anew(&mut self, delta: &Delta, side: Side, known: Option<(Side, InitiatorBy)>) {
        *self = self.next_record(known);
        self.begin(delta, side);
    }

    /// The flow after its record was emitted for its age: the initiator stays, and the class is
    /// that of the new record's packets and of a FIN before.
    pub fn go_on(&mut self, delta: &Delta, side: Side) {
        self.reset();
        self.begin(delta, side);
    }

    /// True for the flow with this key of the low end and this tunnel of `side`'s packets.
    #[inline(always)]
    pub fn is(&self, key: &FlowKey, tunnel: Option<&Tunnel>, side: Side) -> bool {
        if self.key != *key || self.is_free() {
            return false;
        }
        match tunnel {
            // The tunnel itself is in a line that no other update reads.
            None => !self.notes.in_tunnel(),
            Some(tunnel) => self.tunnel.as_deref() == Some(&of_low(tunnel, side)),
        }
    }

    /// The tunnel as the low end's packets have it.
    pub fn tunnel(&self) -> Option<&Tunnel> {
        self.tunnel.as_deref()
    }

    /// What an update changes, to be fetched ahead.
    #[inline(always)]
    pub fn counts(&self) -> &[u64; 2] {
        &self.packets
    }

    /// Adds packets that `side` sent.
    #[inline(always)]
    pub fn add(&mut self, delta: &Delta, side: Side) {
        let end = side as usize;
        if delta.first_ns < self.first_ns[end] {
            self.first_ns[end] = delta.first_ns;
            self.dscp[end] = delta.dscp;
        }
        self.packets[end] += delta.packets;
        self.octets[end] += delta.octets;
        self.tcp_flags[end] |= delta.tcp_flags;
        self.min_ttl = self.min_ttl.min(delta.min_ttl);
        self.max_ttl = self.max_ttl.max(delta.max_ttl);
        // An ACK known before is not later than the last packet before: no need to look at it.
        let acks = delta.ack_ns != 0
            && !(self.notes.has(Notes::ACKED, side) && delta.ack_ns >= self.last_ns);
        let rare = delta.syn_packets | delta.syn_ack_packets | delta.retransmits;
        if acks || rare != 0 {
            self.add_tcp(delta, side);
        }
        if self.key.is_icmp() && icmp_request(&delta.key).is_some() {
            self.notes.set(Notes::ANSWERED, side);
        }
        self.last_ns = self.last_ns.max(delta.last_ns);
    }

    /// Adds what is in the third line.
    #[inline(always)]
    fn add_tcp(&mut self, delta: &Delta, side: Side) {
        let end = side as usize;
        self.retransmits += delta.retransmits;
        for (packets, seen) in
            [(delta.syn_packets, SYN_SEEN), (delta.syn_ack_packets, SYN_ACK_SEEN)]
        {
            if packets > 0 {
                self.retransmits += packets - u32::from(self.handshake[end] & seen == 0);
                self.handshake[end] |= seen;
            }
        }
        earliest(&mut self.syn_ns[end], delta.syn_ns);
        earliest(&mut self.ack_ns[end], delta.ack_ns);
        if delta.ack_ns != 0 {
            self.notes.set(Notes::ACKED, side);
        }
    }

    /// Follows a segment that `side` sent, which counts if it repeats what was sent before.
    #[inline(always)]
    pub fn follow(&mut self, segment: Segment, side: Side) {
        let end = side as usize;
        let repeats;
        (self.next[end], repeats) = segment.follow(self.followed_flags[end], self.next[end]);
        self.followed_flags[end] |= segment.flags;
        if repeats {
            self.retransmits += 1;
        }
    }

    /// Where its segments are; none if none was followed.
    pub fn sequence(&self) -> Option<Sequence> {
        (self.followed_flags != [0; 2])
            .then_some(Sequence { next: self.next, flags: self.followed_flags })
    }

    /// Its segments go on from here.
    pub fn set_sequence(&mut self, sequence: Sequence) {
        (self.next, self.followed_flags) = (sequence.next, sequence.flags);
    }

    /// The class that its flags say: ended by FIN from both ends, or RST from one.
    pub fn class_now(&self) -> Class {
        let [low, high] = [0, 1].map(|end| self.tcp_flags[end] | self.earlier_fin[end]);
        if low & high & FIN != 0 || (low | high) & RST != 0 {
            Class::Ended
        } else {
            Class::of(self.key.protocol, low | high)
        }
    }

    /// The first packet of the record, ns; [`u64::MAX`] if none has come.
    #[inline(always)]
    pub fn start_ns(&self) -> u64 {
        self.first_ns[0].min(self.first_ns[1])
    }

    /// Packets of both ends.
    pub fn total_packets(&self) -> u64 {
        self.packets[0] + self.packets[1]
    }

    /// Who began the flow, and which rule says so. What no SYN decided gives way to one.
    pub fn initiator(&self) -> (Side, InitiatorBy) {
        if let Some(decided) = self.notes.initiator()
            && (decided.1 == InitiatorBy::Syn || !self.saw(SYN_SEEN).contains(&true))
        {
            return decided;
        }
        let first = if self.first_ns[0] <= self.first_ns[1] { Side::Low } else { Side::High };
        match self.saw(SYN_SEEN) {
            [false, false] => {}
            [true, false] => return (Side::Low, InitiatorBy::Syn),
            [false, true] => return (Side::High, InitiatorBy::Syn),
            // RFC 9293: simultaneous open
            [true, true] => return (first, InitiatorBy::Syn),
        }
        let sent_key = sent_by(&self.key, first);
        if is_icmp_request(&sent_key) {
            // Both ends of a ping share the key; who answered did not begin.
            let answered = |side| self.notes.has(Notes::ANSWERED, side);
            let requester = match (answered(Side::Low), answered(Side::High)) {
                (true, false) => Side::High,
                (false, true) => Side::Low,
                _ => first,
            };
            return (requester, InitiatorBy::Icmp);
        }
        let known = |port| is_well_known(sent_key.protocol, port);
        if known(sent_key.src_port) && !known(sent_key.dst_port) {
            return (first.other(), InitiatorBy::ServicePort);
        }
        (first, InitiatorBy::FirstPacket)
    }

    /// The round trip between this host and the other end, 0 if it was not seen: who sends first
    /// waits for the SYN-ACK, who answers for the ACK of it.
    fn handshake_rtt_ns(&self, initiator: Side, direction: Direction) -> u64 {
        let (from, to) = (initiator as usize, initiator.other() as usize);
        if !self.saw(SYN_SEEN)[from] || !self.saw(SYN_ACK_SEEN)[to] {
            return 0;
        }
        match direction {
            Direction::Egress | Direction::Unknown => {
                self.syn_ns[to].saturating_sub(self.syn_ns[from])
            }
            Direction::Ingress => self.ack_ns[from].saturating_sub(self.syn_ns[to]),
        }
    }

    /// Of which ends this was seen.
    fn saw(&self, what: u8) -> [bool; 2] {
        self.handshake.map(|seen| seen & what != 0)
    }

    /// The record of everything counted so far.
    pub fn record(&self, end_reason: FlowEndReason) -> FlowRecord {
        let (side, initiator_by) = self.initiator();
        let (from, to) = (side as usize, side.other() as usize);
        let flow_key = sent_by(&self.key, side);
        let icmp = flow_key.is_icmp();
        let [icmp_type, icmp_code] = if icmp { flow_key.dst_port.to_be_bytes() } else { [0, 0] };
        let direction = Direction::from_number(flow_key.direction);
        FlowRecord {
            start_ns: self.start_ns().min(self.last_ns),
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
            packets: self.packets[from],
            octets: self.octets[from],
            reverse_packets: self.packets[to],
            reverse_octets: self.octets[to],
            tcp_flags: self.tcp_flags[from],
            reverse_tcp_flags: self.tcp_flags[to],
            dscp: self.dscp[if self.packets[from] > 0 { from } else { to }],
            min_ttl: self.min_ttl,
            max_ttl: self.max_ttl,
            tunnel: self.tunnel.as_deref().map(|tunnel| Box::new(of_low(tunnel, side))),
            handshake_rtt_ns: match initiator_by {
                InitiatorBy::Syn => self.handshake_rtt_ns(side, direction),
                _ => 0,
            },
            retransmits: self.retransmits,
            end_reason,
            initiator_by,
            sampling: self.sampling,
        }
    }
}

/// The earlier of two times, where 0 is none.
fn earliest(time_ns: &mut u64, other_ns: u64) {
    if other_ns != 0 && (*time_ns == 0 || other_ns < *time_ns) {
        *time_ns = other_ns;
    }
}
