//! Updates of a shard that do more than let an open flow go on: flows open, end, begin anew.

use flow_common::tcp::flags::SYN;

use super::flow::Flow;
use super::shard::{Sent, Shard};
use super::stats::Counter;
use super::timeouts::Class;
use crate::delta::Delta;
use crate::record::{FlowEndReason, FlowRecord};

impl Shard {
    /// Whatever is not just an open flow that goes on.
    #[inline(never)]
    pub fn apply_rare(&mut self, delta: &Delta, sent: Sent<'_>, out: &mut Vec<FlowRecord>) {
        if !self.limits.enabled {
            let flow = self.begin(delta, sent);
            let ended = flow.class == Class::Ended;
            self.count(Counter::Misses);
            out.push(flow.record(if ended {
                FlowEndReason::EndOfFlow
            } else {
                FlowEndReason::ActiveTimeout
            }));
            return;
        }
        let tunnel = delta.tunnel.as_deref();
        let is = |slot| self.slab.get(slot).is(sent.key, tunnel, sent.side);
        match self.index.find(sent.hash, is) {
            Some(slot) if self.slab.get(slot).class == Class::Ended => {
                self.update_ended(slot, delta, sent, out);
            }
            Some(slot) => self.update_open(slot, delta, sent, out),
            None => self.open(delta, sent, out),
        }
    }

    fn update_open(&mut self, slot: u32, delta: &Delta, sent: Sent<'_>, out: &mut Vec<FlowRecord>) {
        let side = sent.side;
        let flow = self.slab.get(slot);
        let class = flow.class as usize;
        let reason = if delta.first_ns >= flow.last_ns.saturating_add(self.idle_ns[class]) {
            Some(FlowEndReason::IdleTimeout)
        } else if delta.first_ns >= flow.start_ns().saturating_add(self.active_ns[class])
            || delta.sampling != flow.sampling
        {
            // A record has one weight: when it changes, the flow goes on in the next record.
            Some(FlowEndReason::ActiveTimeout)
        } else {
            None
        };
        if let Some(reason) = reason {
            self.emit(slot, reason, out);
        }
        let flow = self.slab.get_mut(slot);
        match reason {
            Some(FlowEndReason::IdleTimeout) => {
                flow.begin_anew(delta, side, self.memory.of_first(delta, side));
            }
            Some(_) => flow.go_on(delta, side),
            None => flow.add(delta, side),
        }
        if let Some(segment) = sent.segment {
            flow.follow(segment, side);
        }
        flow.class = flow.class_now();
        if flow.class == Class::Ended {
            flow.since_ns = delta.last_ns;
        }
        self.orders.place(slot, flow);
        match reason {
            Some(FlowEndReason::IdleTimeout) => {
                self.count(Counter::LeftIdle);
                self.count(Counter::Misses);
                self.count(Counter::Insertions);
                self.orders.renew(slot);
            }
            Some(_) => {
                self.count(Counter::Continued);
                self.count(Counter::Hits);
                self.orders.renew(slot);
            }
            None => self.count(Counter::Hits),
        }
    }

    /// Packets of an ended flow do not make it linger longer: the list stays in the order of
    /// ending.
    fn update_ended(
        &mut self,
        slot: u32,
        delta: &Delta,
        sent: Sent<'_>,
        out: &mut Vec<FlowRecord>,
    ) {
        let linger = self.idle_ns[Class::Ended as usize];
        let flow = self.slab.get_mut(slot);
        let lingers = delta.first_ns < flow.since_ns.saturating_add(linger);
        // Of a connection that changed its CPU the end may be drained before the beginning.
        let is_next = delta.syn_packets > 0 && delta.first_ns > flow.last_ns;
        if lingers && !is_next && delta.sampling == flow.sampling {
            flow.add(delta, sent.side);
            if let Some(segment) = sent.segment {
                flow.follow(segment, sent.side);
            }
            self.count(Counter::Hits);
            return;
        }
        self.count(Counter::LeftEnded);
        self.leave(slot, FlowEndReason::EndOfFlow, out);
        self.open(delta, sent, out);
    }

    fn open(&mut self, delta: &Delta, sent: Sent<'_>, out: &mut Vec<FlowRecord>) {
        self.count(Counter::Misses);
        self.count(Counter::Insertions);
        self.make_room(delta.last_ns, out);
        let mut flow = self.begin(delta, sent);
        if let (Some(segment), Some(sequences)) = (sent.segment, &self.sequences) {
            // A SYN begins anew, whatever was before.
            if segment.flags & SYN == 0
                && let Some(sequence) = sequences.of(sent.hash, sent.key, flow.tunnel())
            {
                flow.set_sequence(sequence);
            }
            flow.follow(segment, sent.side);
        }
        self.tunnels += u64::from(flow.tunnel().is_some());
        let slot = self.slab.insert(flow);
        self.index.insert(sent.hash, slot);
        self.orders.insert(slot, self.slab.get_mut(slot));
        self.room.set_used(self.slab.len());
    }

    /// A flow of which nothing came before, as far as this shard knows.
    fn begin(&self, delta: &Delta, sent: Sent<'_>) -> Flow {
        Flow::new(sent.key, delta, sent.side, self.memory.of_first(delta, sent.side))
    }

    /// Emits the record of a flow, which stays.
    pub(super) fn emit(&mut self, slot: u32, reason: FlowEndReason, out: &mut Vec<FlowRecord>) {
        let flow = self.slab.get(slot);
        let packets = flow.total_packets();
        if packets > 0 {
            out.push(flow.record(reason));
            if let Some(full) = &mut self.full {
                full.hot.add(&flow.key, packets);
            }
        }
    }

    /// Emits what was counted of a flow, which stays with its initiator and counts from zero.
    pub(super) fn renew(&mut self, slot: u32, now_ns: u64, out: &mut Vec<FlowRecord>) {
        self.emit(slot, FlowEndReason::ActiveTimeout, out);
        let flow = self.slab.get_mut(slot);
        flow.reset();
        // A flow that lingers does so since its end.
        if flow.class != Class::Ended {
            flow.since_ns = now_ns;
            self.orders.renew(slot);
        }
    }

    /// Emits a flow, which leaves.
    pub(super) fn leave(&mut self, slot: u32, reason: FlowEndReason, out: &mut Vec<FlowRecord>) {
        self.emit(slot, reason, out);
        let flow = self.slab.remove(slot);
        self.tunnels -= u64::from(flow.tunnel().is_some());
        let hash = self.hasher.hash(&flow.key, flow.tunnel());
        self.index.remove(hash, slot);
        if let (Some(sequences), Some(sequence)) = (&mut self.sequences, flow.sequence()) {
            sequences.keep(hash, &flow.key, flow.tunnel(), sequence);
        }
        self.orders.remove(slot);
        self.room.set_used(self.slab.len());
    }
}
