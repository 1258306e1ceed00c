//! The books: what ledger and histograms counted in an interval becomes batches like any other.
//!
//! Enters: time. Leaves: batches of the tables `ledger` and `latency`, which go the way of the
//! flows, so that an outage or a stop does not lose them.

use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::frozen::FrozenBatch;
use crate::latency::Latency;
use crate::ledger::Ledger;

/// How often the books are written.
const INTERVAL: Duration = Duration::from_secs(10);

/// The books of one agent; clones write the same ones.
#[derive(Clone, Debug)]
pub struct Books {
    /// What became of packets.
    pub ledger: Ledger,
    /// How long stages took.
    pub latency: Latency,
    /// This host's name.
    pub exporter: String,
}

/// When the books are due.
#[derive(Clone, Copy, Debug)]
pub struct BooksClock(Instant);

impl BooksClock {
    /// The first time an interval from now.
    pub fn new(now: Instant) -> Self {
        Self(now + INTERVAL)
    }

    /// True once an interval.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = now >= self.0;
        if due {
            self.0 = now + INTERVAL;
        }
        due
    }

    /// Time until then.
    pub fn left(&self, now: Instant) -> Duration {
        self.0.saturating_duration_since(now)
    }
}

impl Books {
    /// What was counted since the last call, in the interval that ends now (Unix ns).
    pub fn freeze(&mut self, now_ns: u64) -> Vec<FrozenBatch> {
        let ts = (now_ns / 1_000_000_000) as u32;
        let id = Uuid::now_v7();
        let (counts, buckets) = (self.ledger.take(id), self.latency.take());
        let mut batches = Vec::new();
        if !counts.is_empty() {
            batches.push(FrozenBatch::of_ledger(&counts, &self.exporter, id, ts));
        }
        if !buckets.is_empty() {
            batches.push(FrozenBatch::of_latency(&buckets, &self.exporter, Uuid::now_v7(), ts));
        }
        batches
    }
}

#[cfg(test)]
mod tests {
    use flow_common::Count;

    use super::*;
    use crate::frozen::Table;
    use crate::latency::Stage;
    use crate::ledger::Entry;

    #[test]
    fn what_was_counted_is_written_once() {
        let (ledger, latency) = (Ledger::default(), Latency::default());
        let mut books =
            Books { ledger: ledger.clone(), latency: latency.clone(), exporter: "host".into() };
        assert!(books.freeze(0).is_empty());
        ledger.add(&"eth0".into(), Entry::Seen, Count { packets: 1, octets: 60 });
        latency.record(Stage::Drain, Duration::from_millis(1));
        let batches = books.freeze(7_000_000_000);
        let tables: Vec<_> = batches.iter().map(|batch| (batch.table, batch.exported_at)).collect();
        assert_eq!(tables, [(Table::Ledger, 7), (Table::Latency, 7)]);
        assert!(books.freeze(8_000_000_000).is_empty());
    }

    #[test]
    fn books_are_due_once_an_interval() {
        let start = Instant::now();
        let mut clock = BooksClock::new(start);
        assert!(!clock.is_due(start));
        assert_eq!(clock.left(start), INTERVAL);
        assert!(clock.is_due(start + INTERVAL));
        assert!(!clock.is_due(start + INTERVAL));
        assert_eq!(clock.left(start + INTERVAL * 3), Duration::ZERO);
    }
}
