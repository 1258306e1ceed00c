//! What a shard does when it is asked: it looks at each of its flows, slice by slice where
//! messages are to come between.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::ops::Range;
use std::time::Duration;

use flow_common::FlowKey;
use foldhash::fast::RandomState;

use super::details::{CacheDetails, HotFlow};
use super::hot::Sum;
use super::leave::RECORDS;
use super::shard::Shard;
use super::stats::Counter;
use super::timeouts::Class;
use crate::record::{FlowEndReason, FlowRecord};

/// What becomes of an invalidated flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A record of what was counted leaves (`active_timeout`); the flow stays open and counts
    /// from zero.
    Soft,
    /// It is emitted and removed (`forced_end`).
    Hard,
}

/// Histograms and hot flows while they are gathered.
#[derive(Default)]
pub(super) struct DetailsSoFar {
    details: CacheDetails,
    /// Of the flows in the lists.
    sums: HashMap<FlowKey, Sum, RandomState>,
    /// Open flows that are in no list: the smallest of the largest is on top.
    largest: BinaryHeap<Reverse<(u64, FlowKey)>>,
}

impl DetailsSoFar {
    /// With the `most` flows with the most packets.
    pub fn complete(self, most: usize) -> CacheDetails {
        let Self { mut details, sums, largest } = self;
        let open = largest.into_iter();
        let open = open.map(|Reverse((packets, key))| HotFlow { key, packets, error: 0 });
        let listed = sums.into_iter();
        let listed =
            listed.map(|(key, sum)| HotFlow { key, packets: sum.packets, error: sum.error });
        details.hot_flows = listed.chain(open).collect();
        details.keep_hottest(most);
        details
    }
}

impl Shard {
    /// The number of slots of which some have flows: those before it.
    pub(super) fn slots(&self) -> u32 {
        self.slab.slots()
    }

    /// Flows with these keys as the records they would be now, at most `most`.
    pub fn find(&self, wanted: impl Fn(&FlowKey) -> bool, most: usize) -> Vec<FlowRecord> {
        self.find_in(0..self.slots(), wanted, most)
    }

    /// Those in these slots.
    pub(super) fn find_in(
        &self,
        slots: Range<u32>,
        wanted: impl Fn(&FlowKey) -> bool,
        most: usize,
    ) -> Vec<FlowRecord> {
        let flows = self.slab.iter(slots).map(|(_, flow)| flow).filter(|flow| wanted(&flow.key));
        let record = |class| match class {
            Class::Ended => FlowEndReason::EndOfFlow,
            _ => FlowEndReason::ForcedEnd,
        };
        flows.map(|flow| flow.record(record(flow.class))).take(most).collect()
    }

    /// Emits what was counted of the flows with these keys; returns how many they are.
    pub fn invalidate(
        &mut self,
        wanted: impl Fn(&FlowKey) -> bool,
        mode: Mode,
        now_ns: u64,
        out: &mut Vec<FlowRecord>,
    ) -> u64 {
        let (mut slots, mut sum) = (0..self.slots(), 0);
        while !slots.is_empty() {
            let (flows, next) = self.invalidate_in(slots.clone(), &wanted, mode, now_ns, out);
            (slots.start, sum) = (next, sum + flows);
        }
        sum
    }

    /// Those in these slots, at most 1,024; returns also the slot to go on with.
    pub(super) fn invalidate_in(
        &mut self,
        slots: Range<u32>,
        wanted: impl Fn(&FlowKey) -> bool,
        mode: Mode,
        now_ns: u64,
        out: &mut Vec<FlowRecord>,
    ) -> (u64, u32) {
        let mut flows = 0;
        for slot in slots.clone() {
            let flow = self.slab.get(slot);
            if flow.is_free() || !wanted(&flow.key) {
                continue;
            }
            match mode {
                Mode::Hard => {
                    self.count(Counter::InvalidatedHard);
                    self.leave(slot, FlowEndReason::ForcedEnd, out);
                }
                Mode::Soft => {
                    self.count(Counter::InvalidatedSoft);
                    self.renew(slot, now_ns, out);
                }
            }
            flows += 1;
            if flows == RECORDS as u64 {
                return (flows, slot + 1);
            }
        }
        (flows, slots.end)
    }

    /// Histograms, and the `most` flows with the most packets, at `now_ns`.
    pub fn details(&self, now_ns: u64, most: usize) -> CacheDetails {
        let mut sum = DetailsSoFar::default();
        self.add_details(0..self.slots(), now_ns, most, &mut sum);
        sum.complete(most)
    }

    /// Adds the flows in these slots, and with the first of them what is counted by the shard.
    pub(super) fn add_details(
        &self,
        slots: Range<u32>,
        now_ns: u64,
        most: usize,
        sum: &mut DetailsSoFar,
    ) {
        if slots.start == 0
            && let Some(full) = &self.full
        {
            sum.sums = full.hot.sums();
            full.tell(&mut sum.details);
        }
        for (_, flow) in self.slab.iter(slots) {
            let since = |ns: u64| Duration::from_nanos(now_ns.saturating_sub(ns));
            sum.details.add_flow(since(flow.start_ns()), since(flow.last_ns));
            let packets = flow.total_packets();
            if let Some(listed) = sum.sums.get_mut(&flow.key) {
                listed.packets += packets;
            } else if packets > 0 {
                sum.largest.push(Reverse((packets, flow.key)));
                if sum.largest.len() > most {
                    sum.largest.pop();
                }
            }
        }
    }
}
