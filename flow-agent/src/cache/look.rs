//! What a shard does when it is asked: it looks at each of its flows.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use flow_common::FlowKey;

use super::details::{CacheDetails, HotFlow};
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

impl Shard {
    /// Flows with these keys as the records they would be now, at most `most`.
    pub fn find(&self, wanted: impl Fn(&FlowKey) -> bool, most: usize) -> Vec<FlowRecord> {
        let flows = self.slab.iter().map(|(_, flow)| flow).filter(|flow| wanted(&flow.key));
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
        let selected = self.slab.iter().filter(|(_, flow)| wanted(&flow.key));
        let slots: Vec<u32> = selected.map(|(slot, _)| slot).collect();
        for slot in &slots {
            match mode {
                Mode::Hard => {
                    self.count(Counter::InvalidatedHard);
                    self.leave(*slot, FlowEndReason::ForcedEnd, out);
                }
                Mode::Soft => {
                    self.count(Counter::InvalidatedSoft);
                    self.renew(*slot, now_ns, out);
                }
            }
        }
        slots.len() as u64
    }

    /// Histograms, and the `most` flows with the most packets, at `now_ns`.
    pub fn details(&self, now_ns: u64, most: usize) -> CacheDetails {
        let mut details = CacheDetails::default();
        let mut sums = self.full.as_ref().map(|full| full.hot.sums()).unwrap_or_default();
        // Open flows that are in no list: the smallest of the largest is on top.
        let mut largest = BinaryHeap::with_capacity(most + 1);
        for (slot, flow) in self.slab.iter() {
            let since = |ns: u64| Duration::from_nanos(now_ns.saturating_sub(ns));
            details.add_flow(since(flow.start_ns()), since(flow.last_ns));
            let packets = flow.total_packets();
            if let Some(sum) = sums.get_mut(&flow.key) {
                sum.packets += packets;
            } else if packets > 0 {
                largest.push(Reverse((packets, slot)));
                if largest.len() > most {
                    largest.pop();
                }
            }
        }
        let open = largest.into_iter().map(|Reverse((packets, slot))| HotFlow {
            key: self.slab.get(slot).key,
            packets,
            error: 0,
        });
        let listed = sums.into_iter();
        let listed =
            listed.map(|(key, sum)| HotFlow { key, packets: sum.packets, error: sum.error });
        details.hot_flows = listed.chain(open).collect();
        details.keep_hottest(most);
        if let Some(full) = &self.full {
            full.tell(&mut details);
        }
        details
    }
}
