//! What was metered lately, by direction: a bounded series for those who look at the status.
//!
//! Enter: the balances of each drain. Leaves: totals since the start, and the rates of at least
//! the last quarter of an hour. It holds that the drain waits for nobody but a copy of the
//! series, and that the memory is bounded: a sample spans a second at least.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use flow_common::Count;
use serde_json::{Value, json};

use crate::drain::Balance;

/// Samples that are kept.
const SAMPLES: usize = 900;
/// Drains that come faster are summed up, ns.
const SHORTEST_NS: u64 = 1_000_000_000;

/// What was metered in a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sample {
    /// Unix ns.
    begin_ns: u64,
    end_ns: u64,
    /// Packets that metered interfaces received.
    received: Count,
    /// And sent.
    sent: Count,
    /// Packets whose flow was lost in the kernel.
    lost_packets: u64,
}

#[derive(Debug, Default)]
struct Series {
    /// Since the start.
    received: Count,
    sent: Count,
    /// Not yet long enough.
    open: Sample,
    done: VecDeque<Sample>,
}

/// The series; written by the thread that drains.
#[derive(Debug)]
pub struct TrafficBook(Mutex<Series>);

impl TrafficBook {
    /// Nothing metered at `now_ns`, Unix ns.
    pub fn new(now_ns: u64) -> Self {
        let open = Sample { begin_ns: now_ns, end_ns: now_ns, ..Sample::default() };
        Self(Mutex::new(Series { open, ..Series::default() }))
    }

    /// Adds a drain that ended at `now_ns`, Unix ns.
    pub fn add(&self, balances: &[Balance], now_ns: u64) {
        let mut received = Count::default();
        let mut sent = Count::default();
        let mut lost_packets = 0;
        for balance in balances {
            received.merge(balance.received);
            sent.packets += balance.metered.packets.saturating_sub(balance.received.packets);
            sent.octets += balance.metered.octets.saturating_sub(balance.received.octets);
            lost_packets += balance.lost.iter().map(|count| count.packets).sum::<u64>();
        }
        let mut series = self.series();
        series.received.merge(received);
        series.sent.merge(sent);
        let open = &mut series.open;
        open.received.merge(received);
        open.sent.merge(sent);
        open.lost_packets += lost_packets;
        open.end_ns = now_ns.max(open.begin_ns);
        if open.end_ns - open.begin_ns >= SHORTEST_NS {
            let done = *open;
            *open = Sample { begin_ns: now_ns, end_ns: now_ns, ..Sample::default() };
            if series.done.len() == SAMPLES {
                series.done.pop_front();
            }
            series.done.push_back(done);
        }
    }

    /// Packets whose flow was lost in the kernel, in the last `span_ns` before `now_ns`.
    pub fn lost_since(&self, now_ns: u64, span_ns: u64) -> u64 {
        let series = self.series();
        let recent = series.done.iter().filter(|sample| sample.end_ns + span_ns >= now_ns);
        recent.map(|sample| sample.lost_packets).sum::<u64>() + series.open.lost_packets
    }

    /// Packets whose flow was lost in the kernel in the drains that touch the time from
    /// `begin_ns` to `end_ns`, Unix ns; none if that is longer ago than is kept.
    pub fn lost_between(&self, begin_ns: u64, end_ns: u64) -> Option<u64> {
        let series = self.series();
        let oldest = series.done.front().unwrap_or(&series.open);
        if series.done.len() == SAMPLES && oldest.begin_ns > begin_ns {
            return None;
        }
        let open = std::iter::once(&series.open).filter(|open| open.begin_ns <= end_ns);
        let done = series.done.iter();
        let touched = done.filter(|it| it.begin_ns <= end_ns && it.end_ns >= begin_ns).chain(open);
        Some(touched.map(|sample| sample.lost_packets).sum())
    }

    /// As JSON: totals, and the samples that ended later than `since_ms`, Unix ms.
    pub fn page(&self, since_ms: u64) -> Value {
        let count = |count: Count| json!({ "packets": count.packets, "octets": count.octets });
        let series = self.series();
        let samples: Vec<_> = series
            .done
            .iter()
            .filter(|sample| sample.end_ns / 1_000_000 > since_ms)
            .map(|sample| {
                let Sample { received, sent, .. } = sample;
                json!([
                    sample.end_ns / 1_000_000,
                    (sample.end_ns - sample.begin_ns) / 1_000_000,
                    received.packets,
                    received.octets,
                    sent.packets,
                    sent.octets,
                    sample.lost_packets,
                ])
            })
            .collect();
        json!({
            "received": count(series.received),
            "sent": count(series.sent),
            "columns": [
                "end_ms",
                "span_ms",
                "received_packets",
                "received_octets",
                "sent_packets",
                "sent_octets",
                "lost_packets",
            ],
            "samples": samples,
        })
    }

    fn series(&self) -> MutexGuard<'_, Series> {
        // Counts are valid between any two additions.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn losses_are_those_of_the_drains_around_a_time() {
        let book = TrafficBook::new(0);
        let second = 1_000 * MS;
        // One packet is lost in each drain.
        for drain in 1..=10 {
            book.add(&[balance(1, 1)], drain * second);
        }
        assert_eq!(book.lost_between(0, 10 * second), Some(10));
        assert_eq!(book.lost_between(2 * second + 1, 3 * second - 1), Some(1));
        assert_eq!(book.lost_between(2 * second + 1, 4 * second - 1), Some(2));
        assert_eq!(book.lost_between(20 * second, 30 * second), Some(0));
        for drain in 11..=SAMPLES as u64 + 10 {
            book.add(&[balance(1, 1)], drain * second);
        }
        assert_eq!(book.lost_between(2 * second, 3 * second), None, "that is not kept any more");
        assert_eq!(book.lost_between(50 * second + 1, 51 * second - 1), Some(1));
    }

    fn balance(received: u64, sent: u64) -> Balance {
        let mut balance = Balance::default();
        balance.metered.add(received + sent, 100 * (received + sent));
        balance.received.add(received, 100 * received);
        balance.lost[0].add(1, 40);
        balance
    }

    #[test]
    fn every_packet_is_in_one_sample_whatever_the_pace_of_the_drains() {
        for pace in [10, 100, 333, 1_000, 5_000] {
            let book = TrafficBook::new(0);
            let drains = 40_000 / pace;
            for drain in 1..=drains {
                book.add(&[balance(3, 0), balance(0, 2)], drain * pace * MS);
            }
            let page = book.page(0);
            assert_eq!(page["received"]["packets"], 3 * drains);
            assert_eq!(page["sent"]["octets"], 200 * drains);
            let samples = page["samples"].as_array().expect("samples");
            let of = |sample: &Value, at: usize| sample[at].as_u64().expect("a number");
            let open = book.series().open;
            let sum = |at: usize| samples.iter().map(|sample| of(sample, at)).sum::<u64>();
            assert_eq!(sum(2) + open.received.packets, 3 * drains, "{pace}");
            assert_eq!(sum(6) + open.lost_packets, 2 * drains, "{pace}");
            let mut end = 0;
            for sample in samples {
                assert!(of(sample, 1) >= 1_000, "{sample}");
                end += of(sample, 1);
                assert_eq!(of(sample, 0), end, "they leave no time out");
            }
            assert_eq!(book.lost_since(drains * pace * MS, u64::MAX / 2), 2 * drains);
        }
    }

    #[test]
    fn it_is_bounded_and_told_from_where_one_was() {
        let book = TrafficBook::new(0);
        for second in 1..=3 * SAMPLES as u64 {
            book.add(&[balance(1, 1)], second * SHORTEST_NS);
        }
        let samples = |since| book.page(since)["samples"].as_array().map_or(0, Vec::len);
        assert_eq!(samples(0), SAMPLES);
        assert_eq!(samples(3 * SAMPLES as u64 * 1_000 - 2_000), 2);
        assert_eq!(samples(u64::MAX), 0);
    }
}
