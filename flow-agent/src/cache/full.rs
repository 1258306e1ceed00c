//! What a shard counts only at the level `full`.

use std::time::Duration;

use super::details::{CacheDetails, latencies};
use super::hot::Hot;
use hdrhistogram::Histogram;

/// Latencies, sampled, and flows with many packets.
#[derive(Debug)]
pub struct Full {
    get_ns: Histogram<u64>,
    update_ns: Histogram<u64>,
    evict_ns: Histogram<u64>,
    pub hot: Hot,
}

impl Default for Full {
    fn default() -> Self {
        let [get_ns, update_ns, evict_ns] = std::array::from_fn(|_| latencies());
        Self { get_ns, update_ns, evict_ns, hot: Hot::default() }
    }
}

impl Full {
    /// A flow was looked up in `get` and updated in `update`.
    pub fn time(&mut self, get: Duration, update: Duration) {
        record(&mut self.get_ns, get);
        record(&mut self.update_ns, update);
    }

    /// Room was made.
    pub fn evicted(&mut self, took: Duration) {
        record(&mut self.evict_ns, took);
    }

    /// Adds its latencies to what is told.
    pub fn tell(&self, details: &mut CacheDetails) {
        details.get_ns.clone_from(&self.get_ns);
        details.update_ns.clone_from(&self.update_ns);
        details.evict_ns.clone_from(&self.evict_ns);
    }

    /// Memory taken by the histograms, octets; the lists of flows are 60 KiB at most.
    pub fn bytes(&self) -> u64 {
        let buckets = [&self.get_ns, &self.update_ns, &self.evict_ns];
        buckets.iter().map(|histogram| histogram.distinct_values() as u64 * 8).sum::<u64>()
            + (60 << 10)
    }
}

fn record(histogram: &mut Histogram<u64>, took: Duration) {
    histogram.saturating_record((took.as_nanos() as u64).max(1));
}
