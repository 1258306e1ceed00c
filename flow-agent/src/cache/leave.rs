//! How flows leave a shard: by the clock, for want of room, or all of them.

use std::time::Instant;

use super::index::Index;
use super::order::{Orders, tick};
use super::shard::{REST, Shard};
use super::slab::Slab;
use super::stats::Counter;
use super::timeouts::{Class, Limits, Policy};
use crate::record::{FlowEndReason, FlowRecord};

/// Slots from which on a shard is worth tidying; tests tidy small ones, too.
const LARGE: usize = if cfg!(test) { 1 } else { 2048 };

/// Records that are handed over together, where many flows leave at once.
pub(super) const RECORDS: usize = 1024;

/// Flows that leave by the clock are noted by so many, before they leave.
const DUE: usize = 16_384;

/// Flows between the fetch of a flow, that of its place in the index, and its leaving.
const AHEAD: usize = 4;

/// One eviction in so many is timed, where that is asked for.
const SAMPLE: u64 = 64;

/// How many flows a shard may hold, and what follows from how many it does.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    max_flows: usize,
    /// Flows whose memory stays within the limit of memory.
    memory_flows: usize,
    used: usize,
    lru: bool,
    scarce: bool,
    near: u32,
}

impl Room {
    /// For an empty shard.
    pub fn new(limits: &Limits) -> Self {
        let by_age = limits.by_age();
        let memory_flows = limits.max_memory.map_or(usize::MAX, |octets| flows_in(octets, by_age));
        let max_flows = limits.max_flows.max(1);
        let lru = limits.policy == Policy::Lru;
        Self { max_flows, memory_flows, used: 0, lru, scarce: false, near: 0 }
    }

    /// Flows that it may hold.
    pub fn limit(&self) -> usize {
        self.max_flows.min(self.memory_flows)
    }

    fn set_max_flows(&mut self, max_flows: usize) {
        self.max_flows = max_flows.max(1);
        self.set_used(self.used);
    }

    /// Says how many it holds.
    #[inline]
    pub fn set_used(&mut self, used: usize) {
        self.used = used;
        self.scarce = self.lru && used >= self.limit() - self.limit() / 8;
        self.near = (used / 16) as u32;
    }

    /// True when somebody will have to leave soon, so that it matters who was used last.
    #[inline(always)]
    pub fn is_scarce(&self) -> bool {
        self.scarce
    }

    /// Placements after which a flow is no longer among the latest.
    #[inline(always)]
    pub fn near(&self) -> u32 {
        self.near
    }
}

impl Limits {
    /// Flows that so many shards may hold together, within the limit of memory, too; at least one
    /// each.
    pub fn flows_of(&self, shards: usize) -> usize {
        let each = Room::new(&self.divided(shards)).limit();
        (each * shards).min(self.max_flows.max(shards))
    }
}

/// The most flows, at least one, whose memory is within so many octets.
fn flows_in(octets: u64, by_age: bool) -> usize {
    let (mut fits, mut beyond) = (1, (octets / size_of::<super::flow::Flow>() as u64) as usize + 2);
    while beyond - fits > 1 {
        let middle = fits.midpoint(beyond);
        if bytes_for(middle, by_age) <= octets {
            fits = middle;
        } else {
            beyond = middle;
        }
    }
    fits
}

/// Memory that so many flows take, all of them in tunnels, while the index grows.
fn bytes_for(flows: usize, by_age: bool) -> u64 {
    let index = Index::bytes_for(flows);
    let orders = Orders::bytes_for(flows, by_age);
    Slab::bytes_for(flows) + index + index / 2 + orders + flows as u64 * 48 + REST
}

fn hand_over_many(out: &mut Vec<FlowRecord>, hand_over: &mut impl FnMut(&mut Vec<FlowRecord>)) {
    if out.len() >= RECORDS {
        hand_over(out);
    }
}

impl Shard {
    /// Makes room for one more flow.
    #[inline]
    pub(super) fn make_room(&mut self, now_ns: u64, out: &mut Vec<FlowRecord>) {
        // Two for one, where the limit was lowered.
        for _ in 0..2 {
            if self.room.used < self.room.limit() {
                return;
            }
            let full = self.room.used >= self.room.max_flows;
            self.evict(
                if full { Counter::EvictedFull } else { Counter::EvictedMemory },
                now_ns,
                out,
            );
        }
    }

    #[inline(never)]
    fn evict(&mut self, cause: Counter, now_ns: u64, out: &mut Vec<FlowRecord>) {
        let sampled = self.full.is_some() && self.stats.counts.evictions().is_multiple_of(SAMPLE);
        let started = sampled.then(Instant::now);
        // A flow that has ended loses nothing by leaving early.
        if let Some(slot) = self.orders.last(Class::Ended) {
            self.count(Counter::LeftEnded);
            self.leave(slot, FlowEndReason::EndOfFlow, out);
        } else if let Some(slot) = self.victim() {
            self.count(cause);
            self.stats.last_eviction_ns = self.stats.last_eviction_ns.max(now_ns);
            self.leave(slot, FlowEndReason::LackOfResources, out);
        }
        if let (Some(full), Some(started)) = (&mut self.full, started) {
            full.evicted(started.elapsed());
        }
    }

    fn victim(&self) -> Option<u32> {
        if self.limits.policy != Policy::Lru {
            return self.orders.oldest();
        }
        let lasts = Class::OPEN.into_iter().filter_map(|class| self.orders.last(class));
        lasts.max_by_key(|slot| self.orders.turns_since(self.slab.get(*slot).placed))
    }

    /// Emits the flows whose timeout is over at `now_ns`, and gives back memory that is not
    /// needed any more.
    pub fn expire(&mut self, now_ns: u64, out: &mut Vec<FlowRecord>) {
        self.expire_by_parts(now_ns, out, |_| ());
    }

    /// The same; whenever there are 1,024 records in `out`, or more, `hand_over` is to take them.
    pub fn expire_by_parts(
        &mut self,
        now_ns: u64,
        out: &mut Vec<FlowRecord>,
        mut hand_over: impl FnMut(&mut Vec<FlowRecord>),
    ) {
        self.meter.tick(now_ns, &self.stats.counts);
        if let Some(full) = &mut self.full {
            full.hot.turn(now_ns);
        }
        let mut due = Vec::new();
        for class in Class::OPEN.into_iter().chain([Class::Ended]) {
            let (counter, reason) = match class {
                Class::Ended => (Counter::LeftEnded, FlowEndReason::EndOfFlow),
                _ => (Counter::LeftIdle, FlowEndReason::IdleTimeout),
            };
            loop {
                let complete = self.note_due(class, now_ns, &mut due);
                self.leave_all(&due, (counter, reason), out, &mut hand_over);
                due.clear();
                if complete {
                    break;
                }
            }
        }
        if let Some(ttl) = self.limits.ttl() {
            let ttl_ns = u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX);
            // Each once, even if it is of that age at once.
            for _ in 0..self.len() {
                let due = self
                    .orders
                    .oldest()
                    .filter(|slot| self.slab.get(*slot).since_ns.saturating_add(ttl_ns) <= now_ns);
                let Some(slot) = due else { break };
                if self.slab.get(slot).total_packets() > 0 {
                    self.count(Counter::Ttl);
                }
                self.renew(slot, now_ns, out);
                hand_over_many(out, &mut hand_over);
            }
        }
        self.tidy();
    }

    /// Emits these flows, which leave; what that takes is fetched ahead.
    fn leave_all(
        &mut self,
        slots: &[u32],
        (counter, reason): (Counter, FlowEndReason),
        out: &mut Vec<FlowRecord>,
        hand_over: &mut impl FnMut(&mut Vec<FlowRecord>),
    ) {
        for (at, slot) in slots.iter().enumerate() {
            if let Some(later) = slots.get(at + 2 * AHEAD) {
                self.slab.prefetch_whole(*later);
            }
            if let Some(next) = slots.get(at + AHEAD) {
                let flow = self.slab.get(*next);
                let hash = self.hasher.hash(&flow.key, flow.tunnel());
                self.index.prefetch(hash);
                if let Some(sequences) = &self.sequences {
                    sequences.prefetch(hash);
                }
            }
            self.count(counter);
            self.leave(*slot, reason, out);
            hand_over_many(out, hand_over);
        }
    }

    /// Notes the flows of a class that are due, in their order; false when there may be more.
    fn note_due(&self, class: Class, now_ns: u64, due: &mut Vec<u32>) -> bool {
        let timeout = self.idle_ns[class as usize];
        let before = tick(now_ns.saturating_sub(timeout));
        let mut kept = 0;
        for slot in self.orders.oldest_first(class) {
            // What is passed over is looked at again each time: not without a gain.
            if due.len() >= DUE.max(kept) {
                return false;
            }
            #[cfg(test)]
            self.looks.update(|looks| looks + 1);
            let flow = self.slab.get(slot);
            let since = if class == Class::Ended { flow.since_ns } else { flow.last_ns };
            if since.saturating_add(timeout) <= now_ns {
                due.push(slot);
            } else if (before.wrapping_sub(flow.placed.tick) as i32) < 0 {
                // Nothing behind it was placed, and so nothing was used, before.
                break;
            } else {
                kept += 1;
            }
        }
        true
    }

    /// Emits everything; segments are followed no more.
    pub fn flush(&mut self, out: &mut Vec<FlowRecord>) {
        out.reserve(self.len());
        self.flush_by_parts(out, |_| ());
    }

    /// The same; whenever there are 1,024 records in `out`, or more, `hand_over` is to take them.
    pub fn flush_by_parts(
        &mut self,
        out: &mut Vec<FlowRecord>,
        mut hand_over: impl FnMut(&mut Vec<FlowRecord>),
    ) {
        for class in [Class::Ended].into_iter().chain(Class::OPEN) {
            let (counter, reason) = match class {
                Class::Ended => (Counter::LeftEnded, FlowEndReason::EndOfFlow),
                _ => (Counter::LeftStopped, FlowEndReason::ForcedEnd),
            };
            let slots: Vec<u32> = self.orders.oldest_first(class).collect();
            for (at, slot) in slots.iter().enumerate() {
                if let Some(later) = slots.get(at + AHEAD) {
                    self.slab.prefetch_whole(*later);
                }
                self.count(counter);
                self.emit(*slot, reason, out);
                hand_over_many(out, &mut hand_over);
            }
        }
        // All at once, which is less work than one by one.
        self.slab = Slab::new();
        self.index = Index::new();
        self.orders = Orders::new(self.limits.by_age());
        self.sequences = None;
        self.tunnels = 0;
        self.room.set_used(0);
    }

    /// Sets how many flows it may hold; [`Shard::shed`] has those leave that are too many.
    pub fn resize(&mut self, max_flows: usize) {
        self.room.set_max_flows(max_flows);
    }

    /// Emits at most `most` of the flows that are too many; false when none is left.
    pub fn shed(&mut self, most: usize, now_ns: u64, out: &mut Vec<FlowRecord>) -> bool {
        let shed = self.room.used.saturating_sub(self.room.limit());
        for _ in 0..shed.min(most) {
            self.evict(Counter::EvictedResize, now_ns, out);
        }
        if shed > 0 && shed <= most {
            // Whoever lowered the limit wants the memory, all of it.
            self.compact();
        }
        shed > most
    }

    /// Gives memory back when three quarters of it are not used: a number of flows that goes up
    /// and down is not moved each time.
    fn tidy(&mut self) {
        let capacity = self.slab.capacity();
        if capacity >= LARGE && self.slab.len() < capacity / 4 {
            self.compact();
        }
    }

    /// While somebody looks at the slots step by step, no flow changes its place.
    #[cfg(feature = "live")]
    pub(super) fn hold_places(&mut self, hold: bool) {
        self.places_held = hold;
        if !hold && std::mem::take(&mut self.compact_later) {
            self.compact();
        }
    }

    /// Gives all memory back that the flows do not need.
    fn compact(&mut self) {
        if self.places_held {
            self.compact_later = true;
            return;
        }
        let first = self.slab.len();
        let mut moves: Vec<u32> = Vec::new();
        let (index, hasher) = (&mut self.index, &self.hasher);
        self.slab.compact(|flow, from, to| {
            index.relocate(hasher.hash(&flow.key, flow.tunnel()), from, to);
            let place = from as usize - first;
            if moves.len() <= place {
                moves.resize(place + 1, 0);
            }
            moves[place] = to;
        });
        self.orders
            .rename(|slot| (slot as usize).checked_sub(first).map_or(slot, |place| moves[place]));
        self.index.shrink();
    }
}
