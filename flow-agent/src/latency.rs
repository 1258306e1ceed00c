//! Latency of each stage, as histograms that merge across intervals and hosts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

/// Where time is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// One drain of the kernel tables, flip and grace period included.
    Drain,
    /// One message handled by a cache shard.
    Cache,
    /// From a record's arrival in an open batch until the batch was frozen.
    Batch,
    /// One insert, until its answer, retries included.
    Insert,
    /// From the last packet of a record until the store acknowledged it,
    /// the flow's timeout included.
    PacketToAcknowledged,
}

impl Stage {
    /// Every stage, in the order data passes them.
    pub const ALL: [Self; 5] =
        [Self::Drain, Self::Cache, Self::Batch, Self::Insert, Self::PacketToAcknowledged];

    /// The name in rows and documents.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Cache => "cache",
            Self::Batch => "batch",
            Self::Insert => "insert",
            Self::PacketToAcknowledged => "packet_to_acknowledged",
        }
    }
}

/// Two significant digits: buckets are at most 1 % wide, and the same on every host.
const SIGNIFICANT_DIGITS: u8 = 2;
/// Values above an hour are counted as an hour.
const LARGEST_NS: u64 = 3_600_000_000_000;

/// One bucket of a stage's histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The stage.
    pub stage: Stage,
    /// The largest latency that falls into the bucket, in ns.
    pub upper_ns: u64,
    /// How many did since the last call of [`Latency::take`].
    pub count: u64,
}

/// What was counted of a stage.
#[derive(Debug)]
struct Recorded {
    /// Since the last call of [`Latency::take`].
    interval: Histogram<u64>,
    /// Before that, since the start.
    before: Histogram<u64>,
}

/// The histograms of all stages; clones share them.
#[derive(Clone, Debug)]
pub struct Latency {
    stages: Arc<[Mutex<Recorded>; Stage::ALL.len()]>,
    /// Packets are of the past: how long ago says nothing of the agent.
    replay: bool,
}

impl Default for Latency {
    fn default() -> Self {
        let histogram = || {
            Histogram::new_with_bounds(1, LARGEST_NS, SIGNIFICANT_DIGITS)
                .expect("constant bounds are valid")
        };
        let recorded = || Recorded { interval: histogram(), before: histogram() };
        Self { stages: Arc::new(Stage::ALL.map(|_| Mutex::new(recorded()))), replay: false }
    }
}

impl Latency {
    /// For a replay: does not count [`Stage::PacketToAcknowledged`].
    pub fn of_replay() -> Self {
        Self { replay: true, ..Self::default() }
    }

    /// Counts one latency.
    pub fn record(&self, stage: Stage, latency: Duration) {
        self.record_ns(stage, [latency.as_nanos() as u64]);
    }

    /// Counts latencies in ns.
    pub fn record_ns(&self, stage: Stage, latencies: impl IntoIterator<Item = u64>) {
        if self.replay && stage == Stage::PacketToAcknowledged {
            return;
        }
        let mut recorded = self.stage(stage);
        for ns in latencies {
            recorded.interval.saturating_record(ns.max(1));
        }
    }

    /// The buckets filled since the last call.
    pub fn take(&self) -> Vec<Bucket> {
        let mut buckets = Vec::new();
        for stage in Stage::ALL {
            let mut recorded = self.stage(stage);
            let Recorded { interval, before } = &mut *recorded;
            buckets.extend(interval.iter_recorded().map(|bucket| Bucket {
                stage,
                upper_ns: bucket.value_iterated_to(),
                count: bucket.count_since_last_iteration(),
            }));
            before.add(&*interval).expect("both have the same bounds");
            interval.reset();
        }
        buckets
    }

    /// Everything that was counted since the start, stage by stage, in ns.
    pub fn totals(&self) -> Vec<(Stage, Histogram<u64>)> {
        let total = |stage| {
            let recorded = self.stage(stage);
            let mut total = recorded.before.clone();
            total.add(&recorded.interval).expect("both have the same bounds");
            (stage, total)
        };
        Stage::ALL.map(total).into()
    }

    fn stage(&self, stage: Stage) -> MutexGuard<'_, Recorded> {
        // A histogram is valid between any two of its operations.
        self.stages[stage as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_taken_once_and_keep_every_count() {
        let latency = Latency::default();
        latency.record_ns(Stage::Insert, [5, 5, 1_000_000, u64::MAX, 0]);
        latency.record(Stage::Drain, Duration::from_millis(7));
        let buckets = latency.take();
        let count =
            |stage| -> u64 { buckets.iter().filter(|b| b.stage == stage).map(|b| b.count).sum() };
        assert_eq!(count(Stage::Insert), 5);
        assert_eq!(count(Stage::Drain), 1);
        assert!(latency.take().is_empty());
        latency.record_ns(Stage::Insert, [7]);
        let totals = latency.totals();
        let total = |stage| totals.iter().find(|(s, _)| *s == stage).map_or(0, |(_, h)| h.len());
        assert_eq!((total(Stage::Insert), total(Stage::Drain), total(Stage::Cache)), (6, 1, 0));
    }

    #[test]
    fn a_replay_does_not_count_the_age_of_packets() {
        let latency = Latency::of_replay();
        latency.record_ns(Stage::PacketToAcknowledged, [1]);
        latency.record_ns(Stage::Insert, [1]);
        let stages: Vec<_> = latency.take().iter().map(|bucket| bucket.stage).collect();
        assert_eq!(stages, [Stage::Insert]);
    }

    #[test]
    fn a_bucket_is_at_most_one_percent_wide() {
        let latency = Latency::default();
        latency.record_ns(Stage::Cache, [123_456_789]);
        let bucket = latency.take()[0].upper_ns;
        assert!((123_456_789..=124_800_000).contains(&bucket), "{bucket}");
    }
}
