//! What every metric is now.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use flow_common::Count;
use hdrhistogram::Histogram;

#[allow(clippy::wildcard_imports, reason = "every metric is collected here")]
use super::*;
use crate::attach::{ProgramReading, Runs};
use crate::cache::Counter;
use crate::clock::wall_clock;
use crate::ledger::{Entry, InterfaceTotals};
use crate::pressure::PressureState;
use crate::sink::EndpointView;
use crate::status::{Phase, Sources};

type Interfaces = BTreeMap<Arc<str>, InterfaceTotals>;

/// Every metric, in the order of [`METRICS`].
pub fn collect(sources: &Sources) -> Vec<Family> {
    let mut families = Vec::with_capacity(METRICS.len());
    agent(sources, &mut families);
    ledger(sources, &mut families);
    interfaces(sources, &mut families);
    programs(&sources.programs.read(Instant::now()), &mut families);
    embedded_store(sources, &mut families);
    drains(sources, &mut families);
    cache(sources, &mut families);
    delivery(sources, &mut families);
    crate::status::delivery::metrics(sources, &mut families);
    crate::status::spool::metrics(sources, &mut families);
    endpoints(&sources.store.view(), &mut families);
    memory(&sources.pressure.state(), &mut families);
    findings::analytics(sources.analytics.as_ref(), &mut families);
    findings::enrichment(&sources.enrich.read(), &mut families);
    families
}

fn one(metric: Metric, value: Value) -> Family {
    Family { metric, samples: vec![Sample { labels: Vec::new(), value }] }
}

fn number(metric: Metric, value: u64) -> Family {
    one(metric, Value::Number(value))
}

fn agent(sources: &Sources, out: &mut Vec<Family>) {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let labels = vec![("version", version), ("exporter", sources.exporter.clone())];
    out.push(Family { metric: BUILD, samples: vec![Sample { labels, value: Value::Info }] });
    out.push(number(READY, u64::from(sources.vitals.phase() == Phase::Metering)));
    out.push(one(START, Value::Real(sources.vitals.started_ns() as f64 / 1e9)));
    // Not the agent's own count of time: a clock that was set wrong is to be seen.
    out.push(one(CLOCK, Value::Real(wall_clock() as f64 / 1e9)));
}

fn ledger(sources: &Sources, out: &mut Vec<Family>) {
    let totals = sources.ledger.interfaces();
    let both = |entries: fn(&Entry) -> bool, packets: Metric, bytes: Metric| {
        let of = |metric, value: fn(&Count) -> u64| by_interface(&totals, metric, entries, value);
        [of(packets, |count| count.packets), of(bytes, |count| count.octets)]
    };
    out.extend(both(|entry| *entry == Entry::Seen, SEEN, SEEN_BYTES));
    out.extend(both(|entry| *entry == Entry::Metered, METERED, METERED_BYTES));
    let not_metered = |entry: &Entry| matches!(entry, Entry::NotMetered(_));
    out.extend(both(not_metered, NOT_METERED, NOT_METERED_BYTES));
    out.extend(both(|entry| matches!(entry, Entry::Lost(_)), LOST, LOST_BYTES));
    out.push(one(UNACCOUNTED, Value::Real(sources.ledger.unaccounted().0 as f64)));
    let fragments = |entry: &Entry| *entry == Entry::FragmentWithoutPorts;
    out.push(by_interface(&totals, FRAGMENTS, fragments, |count| count.packets));
    out.extend(both(|entry| *entry == Entry::Drained, DRAINED, DRAINED_BYTES));
    out.extend(both(|entry| *entry == Entry::Recovered, RECOVERED, RECOVERED_BYTES));
    out.extend(both(|entry| *entry == Entry::Acknowledged, ACKNOWLEDGED, ACKNOWLEDGED_BYTES));
    let undelivered = |entry: &Entry| matches!(entry, Entry::LostRecord(_));
    out.extend(both(undelivered, UNDELIVERED, UNDELIVERED_BYTES));
    out.push(one(IN_FLIGHT, Value::Real(sources.ledger.in_flight().0 as f64)));
}

/// A sample for each interface and, where there are several, reason.
fn by_interface(
    totals: &Interfaces,
    metric: Metric,
    entries: fn(&Entry) -> bool,
    value: fn(&Count) -> u64,
) -> Family {
    let mut samples = Vec::new();
    for (interface, totals) in totals {
        for (entry, count) in totals.iter().filter(|(entry, _)| entries(entry)) {
            let mut labels = vec![("interface", interface.to_string())];
            if metric.labels.contains("reason") {
                labels.push(("reason", entry.labels().1.to_owned()));
            }
            samples.push(Sample { labels, value: Value::Number(value(count)) });
        }
    }
    Family { metric, samples }
}

fn interfaces(sources: &Sources, out: &mut Vec<Family>) {
    let list = sources.metered.current();
    out.push(number(INTERFACES, list.metered.len() as u64));
    out.push(number(REFUSED, list.refused.len() as u64));
}

fn programs(reading: &ProgramReading, out: &mut Vec<Family>) {
    out.push(number(PROGRAM_STATISTICS, reading.counted_for.is_some().into()));
    let each = |metric, value: fn(Runs) -> Value| {
        let samples = reading.programs.iter().map(|(program, runs)| Sample {
            labels: vec![("program", (*program).to_owned())],
            value: value(*runs),
        });
        Family { metric, samples: samples.collect() }
    };
    out.push(each(PROGRAM_RUNS, |runs| Value::Number(runs.count)));
    out.push(each(PROGRAM_SECONDS, |runs| Value::Real(runs.time_ns as f64 / 1e9)));
}

/// No samples for a store that is no process of the agent's.
fn embedded_store(sources: &Sources, out: &mut Vec<Family>) {
    let Some(runs) = &sources.store_runs else {
        let none = |metric| Family { metric, samples: Vec::new() };
        out.extend([EMBEDDED_UP, STORE_RESTARTS, STORE_FAILED_STARTS].map(none));
        return;
    };
    out.push(number(EMBEDDED_UP, runs.is_up().into()));
    out.push(number(STORE_RESTARTS, runs.restarts()));
    out.push(number(STORE_FAILED_STARTS, runs.failed_starts()));
}

fn drains(sources: &Sources, out: &mut Vec<Family>) {
    let figures = sources.vitals.figures();
    out.push(number(DRAINS, figures.drains));
    out.push(number(EARLY_DRAINS, figures.early));
    out.push(number(FAILED_DRAINS, figures.failed));
    out.push(one(SINCE_DRAIN, Value::Real(figures.since_last.as_secs_f64())));
    out.push(number(EVICTED, figures.evicted));
    let fill = [("flows", figures.fill.flows), ("evicted", figures.fill.evicted)];
    let samples = fill.map(|(table, fill)| Sample {
        labels: vec![("table", table.to_owned())],
        value: Value::Real(fill.into()),
    });
    out.push(Family { metric: TABLE_FILL, samples: samples.into() });
    out.push(number(TABLE_BYTES, sources.tables.bytes()));
}

fn cache(sources: &Sources, out: &mut Vec<Family>) {
    let stats = sources.cache.stats();
    let count = |counter| stats.sum.counts.get(counter);
    out.push(number(CACHE_HITS, count(Counter::Hits)));
    out.push(number(CACHE_MISSES, count(Counter::Misses)));
    out.push(number(CACHE_INSERTIONS, count(Counter::Insertions)));
    let events = [Counter::Hits, Counter::Misses, Counter::Insertions];
    let causes = Counter::ALL.into_iter().filter(|counter| !events.contains(counter));
    let samples = causes.map(|counter| Sample {
        labels: vec![("cause", counter.label().to_owned())],
        value: Value::Number(count(counter)),
    });
    out.push(Family { metric: CACHE_RECORDS, samples: samples.collect() });
    out.push(number(CACHE_FLOWS, stats.sum.flows));
    out.push(number(CACHE_LIMIT, stats.sum.max_flows));
    let configured = sources.pressure.state().configured_flows as u64;
    out.push(number(
        CACHE_CONFIGURED,
        if configured == 0 { stats.sum.max_flows } else { configured },
    ));
    out.push(number(CACHE_BYTES, stats.sum.bytes));
    out.push(number(CACHE_QUEUED, stats.sum.queued));
}

fn delivery(sources: &Sources, out: &mut Vec<Family>) {
    let size = sources.waiting.size();
    let places = [("open_batch", size.open_records), ("batches", size.batch_records)];
    let samples = places.map(|(place, records)| Sample {
        labels: vec![("place", place.to_owned())],
        value: Value::Number(records as u64),
    });
    out.push(Family { metric: WAITING, samples: samples.into() });
    out.push(number(WAITING_BATCHES, size.batches as u64));
    let stages = sources.latency.totals();
    let samples = stages.iter().map(|(stage, histogram)| Sample {
        labels: vec![("stage", stage.label().to_owned())],
        value: in_seconds(histogram),
    });
    out.push(Family { metric: LATENCY, samples: samples.collect() });
}

/// A sample for each server of the store.
fn endpoints(views: &[EndpointView], out: &mut Vec<Family>) {
    let each = |metric, value: fn(&EndpointView) -> u64| {
        let samples = views.iter().map(|view| Sample {
            labels: vec![("endpoint", view.url.clone())],
            value: Value::Number(value(view)),
        });
        Family { metric, samples: samples.collect() }
    };
    out.push(each(STORE_UP, |view| u64::from(view.state != "down")));
    out.push(each(STORE_FAILURES, |view| view.failures));
    out.push(each(STORE_CONNECTIONS, |view| view.connects));
}

/// Upper bounds of the buckets: 1, 2.5 and 5 of each decade, 1 us to 500 s, in ns.
fn bounds_ns() -> impl Iterator<Item = u64> {
    (3..12).flat_map(|exponent| [2, 5, 10].map(|factor| factor * 10u64.pow(exponent) / 2))
}

/// A histogram of ns in seconds.
fn in_seconds(histogram: &Histogram<u64>) -> Value {
    let (mut sum, mut buckets) = (0.0, Vec::new());
    let mut recorded = histogram.iter_recorded().peekable();
    for bound in bounds_ns() {
        let mut count = 0;
        while let Some(bucket) = recorded.next_if(|bucket| bucket.value_iterated_to() <= bound) {
            count += bucket.count_since_last_iteration();
            sum += bucket.value_iterated_to() as f64 * bucket.count_since_last_iteration() as f64;
        }
        buckets.push((bound as f64 / 1e9, count));
    }
    for bucket in recorded {
        sum += bucket.value_iterated_to() as f64 * bucket.count_since_last_iteration() as f64;
    }
    Value::Histogram { sum: sum / 1e9, count: histogram.len(), buckets }
}

fn memory(state: &PressureState, out: &mut Vec<Family>) {
    let sample = |value: fn(&crate::pressure::Reading) -> u64| {
        let reading = state.reading.iter();
        let sample = reading.map(|reading| Sample {
            labels: vec![("source", reading.source.label().to_owned())],
            value: Value::Number(value(reading)),
        });
        sample.collect()
    };
    out.push(Family { metric: MEMORY_USED, samples: sample(|reading| reading.used_bytes) });
    out.push(Family { metric: MEMORY_LIMIT, samples: sample(|reading| reading.limit_bytes) });
    let stall = state.reading.map_or(0.0, |reading| f64::from(reading.stall_percent) / 100.0);
    out.push(one(MEMORY_STALL, Value::Real(stall)));
    out.push(number(MEMORY_SHRINKS, state.shrinks));
    out.push(number(MEMORY_REGROWS, state.regrows));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_keeps_every_count_and_its_sum() {
        let mut histogram =
            Histogram::<u64>::new_with_bounds(1, 3_600_000_000_000, 2).expect("valid");
        for ns in [1, 900, 1_100, 1_000_000, 3_000_000_000_000] {
            histogram.record(ns).expect("in bounds");
        }
        let Value::Histogram { sum, count, buckets } = in_seconds(&histogram) else {
            panic!("a histogram is one");
        };
        assert_eq!(count, 5);
        assert!((3_000.0..3_030.0).contains(&sum), "{sum}");
        // What is above the last bound is in the count alone.
        assert_eq!(buckets.iter().map(|(_, count)| count).sum::<u64>(), 4);
        assert_eq!(buckets[0], (1e-6, 2));
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0));
        assert!(buckets.last().is_some_and(|(bound, _)| *bound < 3_000.0));
    }
}
