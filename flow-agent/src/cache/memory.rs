//! What the cache knows of connections from before: who began those that were open when the last
//! agent ended, and which ports are services here.
//!
//! Asked only when a flow opens without a SYN. In a replay there is nothing of it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use flow_common::FlowKey;
use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};

use super::key::Side;
use super::shard::Shard;
use super::timeouts::Class;
use crate::delta::Delta;
use crate::record::InitiatorBy;
use crate::services::{KnownPorts, is_well_known};

/// Initiators that are remembered, at most.
pub const MOST_INITIATORS: usize = 1 << 16;

/// Both ends of a connection, at whatever interface: the end that sorts first, then the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Connection {
    low: ([u8; 16], u16),
    high: ([u8; 16], u16),
    protocol: u8,
}

impl Connection {
    /// The connection of packets with this key, and their sender's end; none where there are no
    /// ports: what is asked then says who asks.
    pub fn of(key: &FlowKey) -> Option<(Self, Side)> {
        let src = (key.src.octets(), key.src_port);
        let dst = (key.dst.octets(), key.dst_port);
        let protocol = key.protocol;
        if key.is_icmp() || (key.src_port, key.dst_port) == (0, 0) {
            None
        } else if src <= dst {
            Some((Self { low: src, high: dst, protocol }, Side::Low))
        } else {
            Some((Self { low: dst, high: src, protocol }, Side::High))
        }
    }
}

/// Who began a connection, as it is written down: the end, and the rule that found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Initiator {
    /// The connection.
    pub connection: Connection,
    high: bool,
    by: u8,
}

impl Initiator {
    /// Of the flow whose low end sends packets with this key.
    pub fn of(key_of_low: &FlowKey, (side, by): (Side, InitiatorBy)) -> Option<Self> {
        let (connection, low) = Connection::of(key_of_low)?;
        let high = (side == Side::High) == (low == Side::Low);
        Some(Self { connection, high, by: by as u8 })
    }

    /// The end, and the rule.
    fn decision(&self) -> Option<(Side, InitiatorBy)> {
        let by = match self.by {
            1 => InitiatorBy::Syn,
            3 => InitiatorBy::ServicePort,
            4 => InitiatorBy::FirstPacket,
            _ => return None,
        };
        Some((if self.high { Side::High } else { Side::Low }, by))
    }
}

/// What the shards know; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    remembered: Option<Arc<HashMap<Connection, Initiator, RandomState>>>,
    known_ports: Option<KnownPorts>,
}

impl Memory {
    /// These ports are services.
    pub fn new(known_ports: KnownPorts) -> Self {
        Self { remembered: None, known_ports: Some(known_ports) }
    }

    /// The same, and these connections were begun so; the first [`MOST_INITIATORS`] count.
    #[must_use]
    pub fn with(self, initiators: impl IntoIterator<Item = Initiator>) -> Self {
        let initiators = initiators.into_iter().take(MOST_INITIATORS);
        let remembered: HashMap<_, _, RandomState> =
            initiators.map(|initiator| (initiator.connection, initiator)).collect();
        let remembered = (!remembered.is_empty()).then(|| Arc::new(remembered));
        Self { remembered, ..self }
    }

    /// The connections that are remembered.
    pub fn initiators(&self) -> impl Iterator<Item = &Initiator> {
        self.remembered.iter().flat_map(|remembered| remembered.values())
    }

    /// Who began the flow that opens with these packets of `sender`'s end, if that is known from
    /// before. A SYN says it itself.
    #[inline]
    pub fn of_first(&self, delta: &Delta, sender: Side) -> Option<(Side, InitiatorBy)> {
        if delta.syn_packets > 0 { None } else { self.initiator(&delta.key, sender) }
    }

    /// Who began the flow that opens with packets of this key, which have no SYN and whose sender
    /// is at `sender`'s end of it, as far as that is known here and nowhere else.
    #[inline]
    pub fn initiator(&self, key: &FlowKey, sender: Side) -> Option<(Side, InitiatorBy)> {
        let known_ports = self.known_ports.as_ref()?;
        if let Some(remembered) = &self.remembered
            && let Some((connection, side)) = Connection::of(key)
            && let Some((end, by)) = remembered.get(&connection).and_then(Initiator::decision)
        {
            return Some((if end == side { sender } else { sender.other() }, by));
        }
        if key.is_icmp() {
            return None;
        }
        let known = |port| known_ports.contains(key.protocol, port);
        let (src, dst) = (known(key.src_port), known(key.dst_port));
        // What everybody knows is decided when the record leaves, and who was first is known.
        let well_known = |port| is_well_known(key.protocol, port);
        if src == dst || well_known(key.src_port) || well_known(key.dst_port) {
            return None;
        }
        Some(if src {
            (sender.other(), InitiatorBy::ServicePort)
        } else {
            (sender, InitiatorBy::FirstPacket)
        })
    }
}

impl Shard {
    /// Takes what is known of connections from before.
    pub fn remember(&mut self, memory: Memory) {
        self.memory = memory;
    }

    /// Who began the open flows, at most `most`.
    pub fn initiators(&self, most: usize) -> Vec<Initiator> {
        self.initiators_in(0..self.slots(), most)
    }

    /// Of those in these slots.
    pub(super) fn initiators_in(&self, slots: Range<u32>, most: usize) -> Vec<Initiator> {
        self.slab
            .iter(slots)
            .filter(|(_, flow)| flow.class != Class::Ended)
            .filter_map(|(_, flow)| Initiator::of(&flow.key, flow.initiator()))
            .take(most)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use flow_common::key::protocol::{ICMP, TCP, UDP};
    use proptest::prelude::*;

    use super::super::{BiflowKey, Limits, Timeouts};
    use super::*;

    fn key(src: u8, dst: u8, src_port: u16, dst_port: u16, protocol: u8) -> FlowKey {
        FlowKey {
            src: [src; 16].into(),
            dst: [dst; 16].into(),
            src_port,
            dst_port,
            protocol,
            ..FlowKey::default()
        }
    }

    fn turned(key: &FlowKey) -> FlowKey {
        let (src, dst) = (key.dst, key.src);
        FlowKey { src, dst, src_port: key.dst_port, dst_port: key.src_port, ..*key }
    }

    proptest! {
        /// Whichever end sends first after the restart, at whatever interface.
        #[test]
        fn the_initiator_is_the_same_for_packets_of_both_ends(
            (src, dst) in (0u8..3, 0u8..3),
            (src_port, dst_port) in (1u16..4, 1u16..4),
            begun_by_src: bool,
            interface: u16,
        ) {
            let key = key(src, dst, src_port, dst_port, TCP);
            let (biflow, sender) = BiflowKey::new(&key, None);
            let began = if begun_by_src { sender } else { sender.other() };
            let initiator =
                Initiator::of(&biflow.sent_by(Side::Low), (began, InitiatorBy::Syn)).expect("ports");
            let memory = Memory::new(KnownPorts::default()).with([initiator]);
            for sent in [key, turned(&key)] {
                let sent = FlowKey { interface, ..sent };
                let (biflow, sender) = BiflowKey::new(&sent, None);
                let (side, by) = memory.initiator(&sent, sender).expect("remembered");
                prop_assert_eq!(by, InitiatorBy::Syn);
                let found = biflow.sent_by(side);
                let began = if begun_by_src { key } else { turned(&key) };
                prop_assert_eq!(
                    (found.src, found.src_port, found.dst, found.dst_port),
                    (began.src, began.src_port, began.dst, began.dst_port)
                );
            }
        }
    }

    fn delta(key: FlowKey, first_ns: u64, syn_packets: u32) -> Delta {
        Delta {
            key,
            tunnel: None,
            packets: 1,
            octets: 40,
            first_ns,
            last_ns: first_ns,
            syn_ns: if syn_packets > 0 { first_ns } else { 0 },
            ack_ns: 0,
            syn_packets,
            syn_ack_packets: 0,
            retransmits: 0,
            tcp_flags: 0,
            dscp: 0,
            min_ttl: 64,
            max_ttl: 64,
            sampling: 1,
        }
    }

    /// The initiator's port and the rule, of the one record that these become in a shard that has
    /// this memory.
    fn stored(memory: &Memory, deltas: &[Delta]) -> (u16, InitiatorBy) {
        let mut shard = Shard::new(Limits::new(8, Timeouts::default()), 7);
        shard.remember(memory.clone());
        let mut out = Vec::new();
        for delta in deltas {
            shard.update(delta, &mut out);
        }
        shard.flush(&mut out);
        assert_eq!(out.len(), 1);
        assert_eq!(out[0].total_packets(), deltas.len() as u64);
        (out[0].src_port, out[0].initiator_by)
    }

    #[test]
    fn a_flow_that_opens_without_a_syn_has_its_old_initiator_and_a_syn_says_it_anew() {
        let asked = key(1, 2, 40_000, 7003, TCP);
        let (biflow, sender) = BiflowKey::new(&asked, None);
        let began = |by| Initiator::of(&biflow.sent_by(Side::Low), (sender, by)).expect("ports");
        let ports = KnownPorts::default();
        let by_syn = Memory::new(ports.clone()).with([began(InitiatorBy::Syn)]);
        let answer = turned(&asked);
        assert_eq!(stored(&by_syn, &[delta(answer, 5, 0)]), (40_000, InitiatorBy::Syn));
        let cold = Memory::new(ports.clone());
        assert_eq!(stored(&cold, &[delta(answer, 5, 0)]), (7003, InitiatorBy::FirstPacket));
        // Another connection with the same ends, begun by the other one.
        let anew = delta(answer, 5, 1);
        assert_eq!(stored(&by_syn, std::slice::from_ref(&anew)), (7003, InitiatorBy::Syn));
        let by_chance = Memory::new(ports).with([began(InitiatorBy::FirstPacket)]);
        let late = [delta(asked, 4, 0), anew];
        assert_eq!(stored(&by_chance, &late), (7003, InitiatorBy::Syn));
    }

    #[test]
    fn what_shards_export_is_what_they_are_told() {
        let mut shard = Shard::new(Limits::new(8, Timeouts::default()), 7);
        let keys = [key(1, 2, 40_000, 7003, TCP), key(3, 2, 50_000, 7003, TCP)];
        for asked in keys {
            shard.update(&delta(asked, 5, 1), &mut Vec::new());
            shard.update(&delta(turned(&asked), 6, 0), &mut Vec::new());
        }
        shard.update(&delta(key(1, 2, 0, 8 << 8, ICMP), 5, 0), &mut Vec::new());
        let told = shard.initiators(9);
        assert_eq!((told.len(), shard.initiators(1).len()), (2, 1));
        let memory = Memory::new(KnownPorts::default()).with(told);
        for asked in keys {
            let silent = delta(turned(&asked), 9, 0);
            assert_eq!(stored(&memory, &[silent]), (asked.src_port, InitiatorBy::Syn));
        }
    }

    #[test]
    fn learned_ports_say_who_was_asked_and_known_ones_are_left_to_the_record() {
        let ports = KnownPorts::default();
        ports.set([(UDP, 9999)].into_iter());
        let memory = Memory::new(ports);
        let first = |key: &FlowKey| {
            let (biflow, sender) = BiflowKey::new(key, None);
            let (side, by) = memory.initiator(key, sender)?;
            Some((biflow.sent_by(side).src_port, by))
        };
        let asked = key(1, 2, 40_000, 9999, UDP);
        assert_eq!(first(&asked), Some((40_000, InitiatorBy::FirstPacket)));
        assert_eq!(first(&turned(&asked)), Some((40_000, InitiatorBy::ServicePort)));
        assert_eq!(first(&key(1, 2, 9999, 9999, UDP)), None);
        assert_eq!(first(&key(1, 2, 40_000, 53, UDP)), None);
        assert_eq!(first(&key(1, 2, 53, 9999, UDP)), None);
        assert_eq!(first(&key(1, 2, 40_000, 9999, TCP)), None, "another protocol");
        assert_eq!(first(&key(1, 2, 0, 8 << 8, ICMP)), None);
        assert_eq!(Memory::default().initiator(&asked, Side::Low), None, "in a replay");
    }

    #[test]
    fn no_more_are_remembered_than_allowed() {
        let initiator = |number: u32| {
            let key = FlowKey { src: number.to_be_bytes().into(), ..key(0, 9, 1, 2, TCP) };
            Initiator::of(&key, (Side::Low, InitiatorBy::Syn)).expect("ports")
        };
        let all = (0..2 * MOST_INITIATORS as u32).map(initiator);
        let memory = Memory::new(KnownPorts::default()).with(all);
        assert_eq!(memory.initiators().count(), MOST_INITIATORS);
    }
}
