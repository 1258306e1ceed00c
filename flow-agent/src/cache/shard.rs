//! One shard of the cache: an LRU list of open flows and one of ended flows.
//!
//! Each list is in the order of last use, so the flows to expire are at its
//! end and expiry costs what expires. Time is an argument.

use std::time::Duration;

use flow_common::FlowKey;
use foldhash::fast::FixedState;
use lru::LruCache;

use super::details::{CacheDetails, HotFlow};
use super::flow::Flow;
use super::key::{BiflowKey, Side};
use super::memory::{Initiator, Memory};
use super::stats::{Counter, ShardStats};
use crate::delta::Delta;
use crate::record::{FlowEndReason, FlowRecord};

/// When flows are emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// After this long without a packet.
    pub idle: Duration,
    /// At the first packet after the flow has lasted this long; it goes on.
    pub active: Duration,
    /// This long after FIN both ways or RST, so that the last ACK opens no new flow.
    pub linger: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(15),
            active: Duration::from_secs(60),
            linger: Duration::from_secs(2),
        }
    }
}

/// What becomes of an invalidated flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A record of what was counted leaves; the flow stays open and counts from zero.
    Soft,
    /// It is emitted and removed (`forced_end`).
    Hard,
}

type List = LruCache<BiflowKey, Flow, FixedState>;

/// Some of the open flows, owned by one thread.
pub struct Shard {
    open: List,
    /// Flows that ended and linger, in the order of ending.
    ended: List,
    max_flows: usize,
    timeouts: Timeouts,
    stats: ShardStats,
    memory: Memory,
}

impl Shard {
    /// An empty shard for at most `max_flows` flows (at least one). The `seed`
    /// of the hash keeps senders from choosing colliding flows.
    pub fn new(max_flows: usize, timeouts: Timeouts, seed: u64) -> Self {
        let state = FixedState::with_seed(seed);
        Self {
            open: LruCache::unbounded_with_hasher(state.clone()),
            ended: LruCache::unbounded_with_hasher(state),
            max_flows: max_flows.max(1),
            timeouts,
            stats: ShardStats::default(),
            memory: Memory::default(),
        }
    }

    /// Adds packets to their flow; records that this ends go to `out`.
    pub fn update(&mut self, delta: &Delta, out: &mut Vec<FlowRecord>) {
        let (key, side) = BiflowKey::of(delta);
        if let Some(flow) = self.open.get_mut(&key) {
            if let Some(reason) = due(flow, delta, &self.timeouts) {
                out.push(flow.record(&key, reason));
                if reason == FlowEndReason::ActiveTimeout {
                    self.stats.counts.add(Counter::Hits, 1);
                    *flow = flow.continued(&key, delta, side);
                } else {
                    self.stats.counts.add(Counter::Misses, 1);
                    *flow = Flow::new(delta, side);
                }
            } else {
                self.stats.counts.add(Counter::Hits, 1);
                flow.add(delta, side);
            }
            if flow.has_ended()
                && let Some(flow) = self.open.pop(&key)
            {
                self.linger(key, flow, delta.last_ns);
            }
            return;
        }
        // Packets of an ended flow do not make it linger longer: the list stays
        // in the order of ending.
        if let Some(flow) = self.ended.peek_mut(&key) {
            let lingers = delta.first_ns < after(flow.ended_ns, self.timeouts.linger);
            // Of a connection that changed its CPU the end may be drained before the beginning.
            let is_next = delta.syn_packets > 0 && delta.first_ns > flow.last_ns;
            if lingers && !is_next && delta.sampling == flow.sampling {
                self.stats.counts.add(Counter::Hits, 1);
                flow.add(delta, side);
                return;
            }
            out.push(flow.record(&key, FlowEndReason::EndOfFlow));
            self.ended.pop(&key);
        }
        self.insert(key, delta, side, out);
    }

    fn linger(&mut self, key: BiflowKey, mut flow: Flow, now_ns: u64) {
        flow.ended_ns = now_ns;
        self.ended.put(key, flow);
    }

    fn insert(&mut self, key: BiflowKey, delta: &Delta, side: Side, out: &mut Vec<FlowRecord>) {
        self.stats.counts.add(Counter::Misses, 1);
        if self.len() >= self.max_flows {
            // A flow that has ended loses nothing by leaving early.
            if let Some((key, flow)) = self.ended.pop_lru() {
                out.push(flow.record(&key, FlowEndReason::EndOfFlow));
            } else if let Some((key, flow)) = self.open.pop_lru() {
                self.stats.counts.add(Counter::EvictedFull, 1);
                out.push(flow.record(&key, FlowEndReason::LackOfResources));
            }
        }
        let mut flow = Flow::new(delta, side);
        if delta.syn_packets == 0
            && let Some(decided) = self.memory.initiator(&delta.key, side)
        {
            flow.decide(decided);
        }
        if flow.has_ended() {
            self.linger(key, flow, delta.last_ns);
        } else {
            self.open.put(key, flow);
        }
    }

    /// Emits the flows whose timeout is over at `now_ns`.
    pub fn expire(&mut self, now_ns: u64, out: &mut Vec<FlowRecord>) {
        let Timeouts { idle, linger, .. } = self.timeouts;
        let is_idle = |flow: &Flow| after(flow.last_ns, idle) <= now_ns;
        let has_lingered = |flow: &Flow| after(flow.ended_ns, linger) <= now_ns;
        pop_while(&mut self.open, is_idle, FlowEndReason::IdleTimeout, out);
        pop_while(&mut self.ended, has_lingered, FlowEndReason::EndOfFlow, out);
    }

    /// Emits everything.
    pub fn flush(&mut self, out: &mut Vec<FlowRecord>) {
        pop_while(&mut self.ended, |_| true, FlowEndReason::EndOfFlow, out);
        pop_while(&mut self.open, |_| true, FlowEndReason::ForcedEnd, out);
    }

    /// Flows with these keys as the records they would be now, at most `most`.
    pub fn find(&self, wanted: impl Fn(&FlowKey) -> bool, most: usize) -> Vec<FlowRecord> {
        self.open
            .iter()
            .chain(self.ended.iter())
            .filter(|(key, _)| wanted(&key.sent_by(Side::Low)))
            .map(|(key, flow)| flow.record(key, FlowEndReason::ForcedEnd))
            .take(most)
            .collect()
    }

    /// Emits the flows with these keys; returns how many.
    pub fn invalidate(
        &mut self,
        wanted: impl Fn(&FlowKey) -> bool,
        _mode: Mode,
        _now_ns: u64,
        out: &mut Vec<FlowRecord>,
    ) -> u64 {
        let mut flows = 0;
        for list in [&mut self.open, &mut self.ended] {
            let keys: Vec<_> = list
                .iter()
                .filter(|(key, _)| wanted(&key.sent_by(Side::Low)))
                .map(|(key, _)| key.clone())
                .collect();
            for key in keys {
                if let Some(flow) = list.pop(&key) {
                    flows += 1;
                    out.push(flow.record(&key, FlowEndReason::ForcedEnd));
                }
            }
        }
        flows
    }

    /// Histograms and hot flows at `now_ns`.
    pub fn details(&self, now_ns: u64, most: usize) -> CacheDetails {
        let mut details = CacheDetails::default();
        for (key, flow) in self.open.iter().chain(self.ended.iter()) {
            let since = |ns: u64| Duration::from_nanos(now_ns.saturating_sub(ns));
            details.add_flow(since(flow.start_ns), since(flow.last_ns));
            let packets = flow.record(key, FlowEndReason::ForcedEnd).total_packets();
            details.hot_flows.push(HotFlow { key: key.sent_by(Side::Low), packets, error: 0 });
        }
        details.hot_flows.sort_by_key(|flow| std::cmp::Reverse(flow.packets));
        details.hot_flows.truncate(most);
        details
    }

    /// Takes what is known of connections from before.
    pub fn remember(&mut self, memory: Memory) {
        self.memory = memory;
    }

    /// Who began the open flows, at most `most`, those with the latest packets.
    pub fn initiators(&self, most: usize) -> Vec<Initiator> {
        let initiator = |(key, flow): (&BiflowKey, &Flow)| {
            Initiator::of(&key.sent_by(Side::Low), flow.initiator(key))
        };
        self.open.iter().filter_map(initiator).take(most).collect()
    }

    /// Open and lingering flows.
    pub fn len(&self) -> usize {
        self.open.len() + self.ended.len()
    }

    /// True when no flow is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it has done.
    pub fn stats(&self) -> ShardStats {
        ShardStats { flows: self.len() as u64, max_flows: self.max_flows as u64, ..self.stats }
    }
}

fn after(ns: u64, duration: Duration) -> u64 {
    ns.saturating_add(duration.as_nanos() as u64)
}

/// Why the flow has to be emitted before `delta` can be counted, if it has to.
fn due(flow: &Flow, delta: &Delta, timeouts: &Timeouts) -> Option<FlowEndReason> {
    if delta.first_ns >= after(flow.last_ns, timeouts.idle) {
        Some(FlowEndReason::IdleTimeout)
    } else if delta.first_ns >= after(flow.start_ns, timeouts.active)
        || delta.sampling != flow.sampling
    {
        // A record has one weight: when it changes, the flow goes on in the next record.
        Some(FlowEndReason::ActiveTimeout)
    } else {
        None
    }
}

fn pop_while(
    list: &mut List,
    due: impl Fn(&Flow) -> bool,
    reason: FlowEndReason,
    out: &mut Vec<FlowRecord>,
) {
    while let Some((key, flow)) = list.peek_lru().filter(|(_, flow)| due(flow)) {
        out.push(flow.record(key, reason));
        list.pop_lru();
    }
}
