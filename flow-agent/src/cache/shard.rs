//! One shard of the cache: open flows, owned by one thread.
//!
//! Enters: [`Delta`]s. Leaves: [`FlowRecord`]s. It holds that every packet that entered is in
//! exactly one record that left or in one open flow. Time is an argument.
//!
//! Updates are taken by the chunk: first every key is hashed, then every flow is looked up, then
//! every flow is updated. The cache misses of a chunk so overlap, instead of adding up.

use std::borrow::Borrow;
use std::time::Instant;

use flow_common::tcp::Segment;
use flow_common::{FlowKey, Tunnel};

use super::full::Full;
use super::hash::FlowHasher;
use super::index::Index;
use super::key::{Side, low_key, of_low};
use super::leave::Room;
use super::memory::Memory;
use super::order::{Orders, tick};
use super::rates::Meter;
use super::sequences::Sequences;
use super::slab::{NONE, Slab};
use super::stats::{Counter, ShardStats, StatsLevel};
use super::timeouts::{Class, Limits};
use crate::delta::Delta;
use crate::record::FlowRecord;

/// Updates of a chunk: their flows' lines fit into the first cache with room to spare.
const CHUNK: usize = 32;

/// One update in so many is timed, where that is asked for.
const SAMPLE: u32 = 1024;

/// What is small in a shard, and what the allocator takes for itself with each table, octets.
pub(super) const REST: u64 = 512;

/// Some of the open flows, owned by one thread.
pub struct Shard {
    pub(super) hasher: FlowHasher,
    pub(super) index: Index,
    pub(super) slab: Slab,
    pub(super) orders: Orders,
    pub(super) limits: Limits,
    pub(super) room: Room,
    /// Boxes of flows in tunnels.
    pub(super) tunnels: u64,
    /// By class, ns.
    pub(super) idle_ns: [u64; Class::COUNT],
    pub(super) active_ns: [u64; Class::COUNT],
    /// By class: ticks after which a flow is placed again.
    stale_ticks: [u32; Class::COUNT],
    pub(super) stats: ShardStats,
    pub(super) meter: Meter,
    level: StatsLevel,
    /// At level [`StatsLevel::Full`].
    pub(super) full: Option<Box<Full>>,
    until_sample: u32,
    pub(super) memory: Memory,
    /// Of connections whose flows have left, where segments are followed.
    pub(super) sequences: Option<Box<Sequences>>,
    /// Flows must stay in their slots for now.
    pub(super) places_held: bool,
    /// Memory is to be given back as soon as they need not.
    pub(super) compact_later: bool,
    /// Flows that were looked at for whether they are due.
    #[cfg(test)]
    pub(super) looks: std::cell::Cell<u64>,
    /// Slots of the chunk whose flows are to be placed again.
    stale: Vec<u32>,
}

/// Who sent the packets of an update, and in which flow.
#[derive(Clone, Copy)]
pub struct Sent<'a> {
    /// The flow's, as its low end sends it.
    pub key: &'a FlowKey,
    /// Of that key, and of the tunnel.
    pub hash: u32,
    /// Which end sent them.
    pub side: Side,
    /// What is still to be followed; where the kernel did, nothing.
    pub segment: Option<Segment>,
}

/// Updates that are made together, by [`Shard::push`].
pub struct Chunk<D>(Vec<Ready<D>>);

/// An empty one.
impl<D> Default for Chunk<D> {
    fn default() -> Self {
        Self(Vec::with_capacity(CHUNK))
    }
}

/// An update on its way.
struct Ready<D> {
    delta: D,
    key: FlowKey,
    hash: u32,
    side: Side,
    /// Where its flow probably is.
    slot: u32,
}

impl Shard {
    /// An empty shard. The `seed` of the hash keeps senders from choosing colliding flows.
    pub fn new(limits: Limits, seed: u64) -> Self {
        let by_age = limits.by_age();
        let idle_ns = limits.timeouts.idle_ns();
        Self {
            hasher: FlowHasher::new(seed),
            index: Index::new(),
            slab: Slab::new(),
            orders: Orders::new(by_age),
            room: Room::new(&limits),
            limits,
            tunnels: 0,
            idle_ns,
            active_ns: limits.timeouts.active_ns(),
            stale_ticks: idle_ns.map(|ns| tick((ns / 4).min(1 << 55)).max(1)),
            stats: ShardStats::default(),
            meter: Meter::default(),
            level: StatsLevel::default(),
            full: None,
            until_sample: SAMPLE,
            memory: Memory::default(),
            sequences: None,
            places_held: false,
            compact_later: false,
            #[cfg(test)]
            looks: std::cell::Cell::default(),
            stale: Vec::with_capacity(CHUNK),
        }
    }

    /// Adds packets to their flow; records that this ends go to `out`.
    pub fn update(&mut self, delta: &Delta, out: &mut Vec<FlowRecord>) {
        let mut ready = self.ready(delta);
        ready.slot = self.index.first(ready.hash).unwrap_or(NONE);
        self.apply(&ready, out);
        self.place_stale();
    }

    /// Adds many, in this order.
    pub fn update_all<D: Borrow<Delta>>(
        &mut self,
        deltas: impl IntoIterator<Item = D>,
        out: &mut Vec<FlowRecord>,
    ) {
        let mut chunk = Chunk::default();
        for delta in deltas {
            self.push(delta, &mut chunk, out);
        }
        self.update_chunk(&mut chunk, out);
    }

    /// Adds packets with their chunk, which [`Shard::update_chunk`] must complete at the end.
    #[inline(always)]
    pub fn push<D: Borrow<Delta>>(
        &mut self,
        delta: D,
        chunk: &mut Chunk<D>,
        out: &mut Vec<FlowRecord>,
    ) {
        if chunk.0.len() == CHUNK {
            self.update_chunk(chunk, out);
            if self.until_sample == 0 {
                self.until_sample = SAMPLE;
                if self.full.is_some() {
                    self.update_timed(delta, out);
                    return;
                }
            }
        }
        let ready = self.ready(delta);
        self.index.prefetch(ready.hash);
        chunk.0.push(ready);
    }

    /// Adds what is in the chunk.
    pub fn update_chunk<D: Borrow<Delta>>(
        &mut self,
        chunk: &mut Chunk<D>,
        out: &mut Vec<FlowRecord>,
    ) {
        self.until_sample = self.until_sample.saturating_sub(chunk.0.len() as u32);
        for ready in &mut chunk.0 {
            if let Some(slot) = self.index.first(ready.hash) {
                ready.slot = slot;
                self.slab.prefetch(slot);
            }
        }
        for ready in &chunk.0 {
            self.apply(ready, out);
        }
        chunk.0.clear();
        self.place_stale();
    }

    /// Places the flows again that are due for it; to be done after some updates by
    /// [`Shard::go_on`].
    #[inline(always)]
    pub fn place_stale(&mut self) {
        if !self.stale.is_empty() {
            self.place_all_stale();
        }
    }

    #[inline(never)]
    fn place_all_stale(&mut self) {
        for slot in self.stale.drain(..) {
            let flow = self.slab.get_mut(slot);
            // One that left since has a free slot, or another flow in it that may as well be
            // placed. Those that linger stay in the order of their ends.
            if !flow.is_free() && flow.class != Class::Ended {
                self.orders.place(slot, flow);
            }
        }
    }

    /// One update by itself, whose latency is counted.
    fn update_timed<D: Borrow<Delta>>(&mut self, delta: D, out: &mut Vec<FlowRecord>) {
        let started = Instant::now();
        let mut ready = self.ready(delta);
        let tunnel = ready.delta.borrow().tunnel.as_deref();
        let is = |slot| self.slab.get(slot).is(&ready.key, tunnel, ready.side);
        ready.slot = self.index.find(ready.hash, is).unwrap_or(NONE);
        let found = started.elapsed();
        self.apply(&ready, out);
        self.place_stale();
        if let Some(full) = &mut self.full {
            full.time(found, started.elapsed());
        }
    }

    #[inline(always)]
    fn ready<D: Borrow<Delta>>(&self, delta: D) -> Ready<D> {
        let update = delta.borrow();
        let (key, side) = low_key(&update.key);
        let hash = match update.tunnel.as_deref() {
            None => self.hasher.hash(&key, None),
            Some(tunnel) => self.hasher.hash(&key, Some(&of_low(tunnel, side))),
        };
        Ready { delta, key, hash, side, slot: NONE }
    }

    #[inline(always)]
    fn apply<D: Borrow<Delta>>(&mut self, ready: &Ready<D>, out: &mut Vec<FlowRecord>) {
        let delta = ready.delta.borrow();
        let sent = Sent { key: &ready.key, hash: ready.hash, side: ready.side, segment: None };
        if !self.go_on(ready.slot, sent, delta.tunnel.as_deref(), delta) {
            self.apply_rare(delta, sent, out);
        }
    }

    /// Has it follow the segments it is told of. Of at least so many connections whose flows left
    /// last it remembers where they were.
    #[must_use]
    pub fn following_segments(self, connections: usize) -> Self {
        Self { sequences: Some(Box::new(Sequences::new(connections))), ..self }
    }

    /// Has the processor fetch what [`Shard::slot`] reads.
    #[inline(always)]
    pub fn prefetch(&self, hash: u32) {
        self.index.prefetch(hash);
    }

    /// Where the flow with this hash probably is, until the next [`Shard::expire`]; has the
    /// processor fetch it.
    #[inline(always)]
    pub fn slot(&self, hash: u32) -> u32 {
        let Some(slot) = self.index.first(hash) else { return NONE };
        self.slab.prefetch(slot);
        slot
    }

    /// Most updates: an open flow goes on, and nothing else happens. False when more is to be done
    /// than that, or this slot has another flow; then nothing was.
    ///
    /// `tunnel` counts, not that of `delta`.
    #[inline(always)]
    pub fn go_on(
        &mut self,
        slot: u32,
        sent: Sent<'_>,
        tunnel: Option<&Tunnel>,
        delta: &Delta,
    ) -> bool {
        if slot == NONE {
            return false;
        }
        let flow = self.slab.get_mut(slot);
        let class = flow.class as usize;
        let goes_on = flow.is(sent.key, tunnel, sent.side)
            && flow.class != Class::Ended
            && delta.first_ns < flow.last_ns.saturating_add(self.idle_ns[class])
            && delta.first_ns < flow.start_ns().saturating_add(self.active_ns[class])
            && delta.sampling == flow.sampling
            && !Class::may_change(delta.tcp_flags);
        if !goes_on {
            return false;
        }
        if self.level != StatsLevel::Off {
            self.stats.counts.add(Counter::Hits, 1);
        }
        flow.add(delta, sent.side);
        if let Some(segment) = sent.segment {
            flow.follow(segment, sent.side);
        }
        // A full cache whose flows stay has few placements, and must not look at all of them for
        // those that are due.
        let age = tick(flow.last_ns).wrapping_sub(flow.placed.tick) as i32;
        let stale = age > self.stale_ticks[class] as i32
            || self.room.is_scarce() && self.orders.turns_since(flow.placed) > self.room.near();
        if stale {
            self.stale.push(slot);
        }
        true
    }

    #[inline]
    pub(super) fn count(&mut self, counter: Counter) {
        if self.level != StatsLevel::Off {
            self.stats.counts.add(counter, 1);
        }
    }

    /// True when the flow of this update is held.
    pub fn contains(&self, delta: &Delta) -> bool {
        let ready = self.ready(delta);
        let tunnel = delta.tunnel.as_deref();
        let is = |slot| self.slab.get(slot).is(&ready.key, tunnel, ready.side);
        self.index.find(ready.hash, is).is_some()
    }

    /// Open and lingering flows.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// True when no flow is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sets how much is counted.
    pub fn set_level(&mut self, level: StatsLevel) {
        self.level = level;
        match (level, &self.full) {
            (StatsLevel::Full, None) => self.full = Some(Box::default()),
            (StatsLevel::Full, Some(_)) => {}
            _ => self.full = None,
        }
    }

    /// What it has done, and what it holds.
    pub fn stats(&self) -> ShardStats {
        ShardStats {
            flows: self.len() as u64,
            bytes: self.bytes(),
            max_flows: self.room.limit() as u64,
            rates: self.meter.rates(),
            ..self.stats
        }
    }

    /// Memory taken from the allocator, its own share included, octets.
    pub fn bytes(&self) -> u64 {
        /// A tunnel of 40 octets in a block of 48.
        const TUNNEL: u64 = 48;
        let full = self.full.as_ref().map_or(0, |full| full.bytes());
        let tables = self.index.bytes() + self.slab.bytes() + self.orders.bytes();
        tables + self.tunnels * TUNNEL + full + REST
    }
}
