//! The open flows with most octets among those that somebody looks for.
//!
//! Enters: which keys are meant. Leaves: their records as they would be now, and how many flows
//! are meant in all. It holds that the memory for one question is bounded.

use std::cmp::Reverse;
use std::ops::Range;
use std::time::Duration;

use flow_common::FlowKey;

use super::control::{CacheControl, Unanswered};
use super::shard::Shard;
use crate::record::{FlowEndReason, FlowRecord};

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Largest {
    /// Flows that are meant.
    pub matching: u64,
    /// Those of them with most octets in their open record, the largest first.
    pub flows: Vec<FlowRecord>,
}

impl Largest {
    /// Keeps the `most` largest.
    fn keep(&mut self, most: usize) {
        self.flows.sort_by_key(|record| {
            let octets = Reverse(record.total_octets());
            (octets, record.start_ns, record.interface, record.src_port, record.dst_port)
        });
        self.flows.truncate(most);
    }
}

impl CacheControl {
    /// The `most` open flows with most octets, of those whose key is `wanted`.
    ///
    /// # Errors
    /// A shard does not answer within `patience`.
    pub fn largest(
        &self,
        wanted: impl Fn(&FlowKey) -> bool + Clone + Send + 'static,
        most: usize,
        patience: Duration,
    ) -> Result<Largest, Unanswered> {
        let parts = self.ask_by_slices(patience, move |shard, _, moment, slots, found| {
            let end = slots.end;
            shard.add_largest(slots, &wanted, most, found);
            if end >= shard.slots() {
                for record in &mut found.flows {
                    record.settle_times(moment.drift_ns);
                }
            }
            end
        })?;
        let mut sum = Largest::default();
        for part in parts {
            sum.matching += part.matching;
            sum.flows.extend(part.flows);
            sum.keep(most);
        }
        Ok(sum)
    }
}

impl Shard {
    /// Adds the flows in these slots.
    fn add_largest(
        &self,
        slots: Range<u32>,
        wanted: impl Fn(&FlowKey) -> bool,
        most: usize,
        found: &mut Largest,
    ) {
        let mut least = 0;
        for (_, flow) in self.slab.iter(slots) {
            if !wanted(&flow.key) {
                continue;
            }
            found.matching += 1;
            if flow.octets.iter().sum::<u64>() < least {
                continue;
            }
            found.flows.push(flow.record(FlowEndReason::ForcedEnd));
            if found.flows.len() >= 2 * most.max(1) {
                found.keep(most);
                least = found.flows.last().map_or(0, FlowRecord::total_octets);
            }
        }
        found.keep(most);
    }
}
