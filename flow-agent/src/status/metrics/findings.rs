//! What the metrics of the analytics and of the enrichment are now.

#[allow(clippy::wildcard_imports, reason = "every metric of these is collected here")]
use super::*;
use crate::analytics::{Kind, KindCount, Size, View};
use crate::enrich::{CacheReading, Counts};

/// Of the analytics; families without samples if they are switched off.
pub fn analytics(view: Option<&View>, out: &mut Vec<Family>) {
    let snapshot = view.map(View::snapshot);
    let by_kind = |metric, value: fn(KindCount) -> u64| {
        let samples = snapshot.iter().flat_map(|snapshot| {
            Kind::ALL.into_iter().map(|kind| {
                let count = snapshot.events.get(kind.label()).copied().unwrap_or_default();
                sample("kind", kind.label(), value(count))
            })
        });
        Family { metric, samples: samples.collect() }
    };
    out.push(by_kind(EVENTS, |count| count.events));
    out.push(by_kind(SUPPRESSED, |count| count.suppressed));
    let number = |metric, value: Option<u64>| {
        let value = value.map(Value::Number);
        let samples = value.map(|value| Sample { labels: Vec::new(), value });
        Family { metric, samples: samples.into_iter().collect() }
    };
    out.push(number(LEARNING, snapshot.as_ref().map(|snapshot| snapshot.learning.into())));
    out.push(number(ANALYTICS_RECORDS, snapshot.as_ref().map(|snapshot| snapshot.records)));
    out.push(number(ANALYTICS_SKIPPED, view.map(View::skipped)));
    out.push(number(ANALYTICS_STORED, view.map(View::stored_rows)));
    out.push(number(ANALYTICS_DROPPED, view.map(View::dropped_rows)));
    out.push(number(ANALYTICS_FAILURES, view.map(View::failures)));
    let by_structure = |metric, value: fn(&Size) -> u64| {
        let sizes = snapshot.iter().flat_map(|snapshot| &snapshot.sizes);
        let samples = sizes.map(|size| sample("structure", size.name, value(size)));
        Family { metric, samples: samples.collect() }
    };
    out.push(by_structure(ANALYTICS_ENTRIES, |size| size.entries as u64));
    out.push(by_structure(ANALYTICS_LIMIT, |size| size.limit as u64));
    out.push(by_structure(ANALYTICS_FORGOTTEN, |size| size.forgotten));
}

/// Of the enrichment's caches that are switched on.
pub fn enrichment(caches: &[CacheReading], out: &mut Vec<Family>) {
    let by_cache = |metric, value: fn(&Counts) -> u64| {
        let samples =
            caches.iter().map(|reading| sample("cache", reading.cache, value(&reading.counts)));
        Family { metric, samples: samples.collect() }
    };
    out.push(by_cache(ENRICHMENT_HITS, |counts| counts.hits));
    out.push(by_cache(ENRICHMENT_MISSES, |counts| counts.misses));
    out.push(by_cache(ENRICHMENT_INSERTIONS, |counts| counts.insertions));
    out.push(by_cache(ENRICHMENT_EVICTIONS, |counts| counts.evictions));
    out.push(by_cache(ENRICHMENT_REFUSED, |counts| counts.refused));
    out.push(by_cache(ENRICHMENT_ENTRIES, |counts| counts.entries));
    out.push(by_cache(ENRICHMENT_LIMIT, |counts| counts.capacity));
}

fn sample(label: &'static str, text: &str, value: u64) -> Sample {
    Sample { labels: vec![(label, text.to_owned())], value: Value::Number(value) }
}
