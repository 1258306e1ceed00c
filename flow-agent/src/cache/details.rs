//! What a shard tells only when asked: it looks at each of its flows for it.

use std::time::Duration;

use flow_common::FlowKey;
use hdrhistogram::Histogram;

/// Ages are told to a hundredth, up to two days.
const LONGEST_AGE_MS: u64 = 2 * 86_400_000;
/// Latencies are told to a hundredth, up to a minute.
const LONGEST_LATENCY_NS: u64 = 60_000_000_000;

/// A flow with many packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HotFlow {
    /// As its low end sends it.
    pub key: FlowKey,
    /// Packets of both directions in the last five to ten minutes, the open record included; at
    /// levels below [`StatsLevel::Full`](super::StatsLevel::Full) those of the open record alone.
    pub packets: u64,
    /// How many of these may be another flow's.
    pub error: u64,
}

/// Histograms and the flows with most packets.
#[derive(Clone, Debug)]
pub struct CacheDetails {
    /// Open flows by the time since their record's first packet, ms.
    pub age_ms: Histogram<u64>,
    /// Open flows by the time since their last packet, ms.
    pub idle_ms: Histogram<u64>,
    /// Finding a flow, ns; sampled, at [`StatsLevel::Full`](super::StatsLevel::Full) only.
    pub get_ns: Histogram<u64>,
    /// Finding or opening a flow and adding to it, ns; sampled likewise.
    pub update_ns: Histogram<u64>,
    /// Making room for a flow, ns; sampled likewise.
    pub evict_ns: Histogram<u64>,
    /// The most packets first.
    pub hot_flows: Vec<HotFlow>,
}

impl Default for CacheDetails {
    fn default() -> Self {
        let age = || histogram(LONGEST_AGE_MS);
        Self {
            age_ms: age(),
            idle_ms: age(),
            get_ns: latencies(),
            update_ns: latencies(),
            evict_ns: latencies(),
            hot_flows: Vec::new(),
        }
    }
}

impl CacheDetails {
    /// Counts an open flow.
    pub fn add_flow(&mut self, age: Duration, idle: Duration) {
        self.age_ms.saturating_record(age.as_millis() as u64);
        self.idle_ms.saturating_record(idle.as_millis() as u64);
    }

    /// Adds another shard's; at most `most` hot flows stay.
    pub fn merge(&mut self, other: Self, most: usize) {
        for (mine, theirs) in [
            (&mut self.age_ms, &other.age_ms),
            (&mut self.idle_ms, &other.idle_ms),
            (&mut self.get_ns, &other.get_ns),
            (&mut self.update_ns, &other.update_ns),
            (&mut self.evict_ns, &other.evict_ns),
        ] {
            mine.add(theirs).expect("histograms of one kind have the same bounds");
        }
        // A flow has one shard, so no flow is in both lists.
        self.hot_flows.extend(other.hot_flows);
        self.keep_hottest(most);
    }

    /// Sorts the hot flows, most packets first, and drops all but `most`.
    pub fn keep_hottest(&mut self, most: usize) {
        self.hot_flows.sort_by(|a, b| (b.packets, &b.key).cmp(&(a.packets, &a.key)));
        self.hot_flows.truncate(most);
    }
}

/// An empty histogram of latencies.
pub fn latencies() -> Histogram<u64> {
    histogram(LONGEST_LATENCY_NS)
}

fn histogram(most: u64) -> Histogram<u64> {
    Histogram::new_with_bounds(1, most, 2).expect("constant bounds are valid")
}
