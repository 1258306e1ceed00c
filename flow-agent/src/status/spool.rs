//! The spool as JSON and as metrics.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::Sources;
use super::metrics::{
    Family, Metric, SPOOL_APPENDED, SPOOL_BATCHES, SPOOL_BYTES, SPOOL_CORRUPT, SPOOL_FAILING,
    SPOOL_LIMIT, SPOOL_LOST, SPOOL_LOST_ROWS, SPOOL_OLDEST, SPOOL_RECOVERED, SPOOL_ROWS,
    SPOOL_SYNC_ERRORS, SPOOL_SYNC_TIME, SPOOL_SYNCS, SPOOL_WRITE_ERRORS, Sample, Value as Number,
};
use crate::spool::{Contents, LossReason, SpoolFigures};

/// `/api/v1/spool`.
pub fn page(sources: &Sources) -> Value {
    let Some(figures) = sources.spool.figures() else { return json!({ "enabled": false }) };
    let lost: BTreeMap<_, _> =
        figures.lost.iter().map(|(reason, lost)| (reason.label(), contents(lost))).collect();
    let mut page = short(&figures, now(sources));
    page["enabled"] = json!(true);
    page["dir"] = json!(figures.dir);
    page["full"] = json!(figures.full);
    page["fsync"] = json!(figures.fsync);
    page["max_bytes"] = json!(figures.max_octets);
    page["max_memory_bytes"] = json!(figures.memory_limit);
    page["damaged_bytes"] = json!(figures.damaged_octets);
    page["segments"] = json!(figures.segments);
    page["under_way"] = json!(figures.out);
    page["appended"] = json!(figures.appended);
    page["recovered"] = json!(figures.recovered);
    page["acknowledged"] = json!(figures.acknowledged);
    page["quarantined"] = json!(figures.quarantined);
    page["corrupt"] = json!(figures.corrupt);
    page["lost"] = json!(lost);
    page["write_errors"] = json!(figures.write_errors);
    page["note_errors"] = json!(figures.note_errors);
    page["sync_errors"] = json!(figures.sync_errors);
    page["syncs"] = json!(figures.syncs);
    page["sync_s"] = json!(figures.sync_seconds);
    page
}

/// The part of it that `/api/v1/status` has.
pub fn section(sources: &Sources) -> Value {
    sources.spool.figures().map_or(Value::Null, |figures| short(&figures, now(sources)))
}

fn short(figures: &SpoolFigures, now: Duration) -> Value {
    json!({
        "batches": figures.batches,
        "rows": figures.rows,
        "disk_bytes": figures.disk_octets,
        "memory_bytes": figures.memory_octets,
        "only_in_memory": figures.only_in_memory,
        "oldest_age_s": age(figures, now),
        "lost_batches": figures.lost.total().batches,
        "trouble": figures.trouble,
    })
}

fn contents(contents: &Contents) -> Value {
    let count =
        |count: &flow_common::Count| json!({ "packets": count.packets, "octets": count.octets });
    let interfaces: BTreeMap<_, _> =
        contents.counts.iter().map(|(name, counted)| (name.to_string(), count(counted))).collect();
    let total = contents.total();
    json!({
        "batches": contents.batches,
        "rows": contents.rows,
        "packets": total.packets,
        "octets": total.octets,
        "interfaces": interfaces,
    })
}

/// Since 1970.
fn now(sources: &Sources) -> Duration {
    Duration::from_nanos(sources.vitals.started_ns()) + sources.vitals.uptime()
}

/// Of the oldest batch, in seconds; none if there is none.
fn age(figures: &SpoolFigures, now: Duration) -> Option<u64> {
    let oldest = figures.oldest_exported_at?;
    Some(now.as_secs().saturating_sub(oldest.into()))
}

/// Its metrics; families without samples if there is none.
pub fn metrics(sources: &Sources, out: &mut Vec<Family>) {
    let figures = sources.spool.figures();
    let figures = figures.as_ref();
    let one = |metric: Metric, value: fn(&SpoolFigures) -> u64| {
        let value = figures.map(value);
        family(metric, value.map(|value| (Vec::new(), Number::Number(value))))
    };
    let by = |metric: Metric, values: fn(&SpoolFigures) -> Vec<(&'static str, u64)>| {
        let values = figures.map(values).unwrap_or_default();
        let samples = values
            .into_iter()
            .map(|(label, value)| (vec![(metric.labels, label.to_owned())], Number::Number(value)));
        family(metric, samples)
    };
    out.push(one(SPOOL_BATCHES, |figures| figures.batches));
    out.push(one(SPOOL_ROWS, |figures| figures.rows));
    out.push(by(SPOOL_BYTES, |figures| {
        vec![("disk", figures.disk_octets), ("memory", figures.memory_octets)]
    }));
    out.push(by(SPOOL_LIMIT, |figures| {
        vec![("disk", figures.max_octets), ("memory", figures.memory_limit)]
    }));
    let age = figures.map(|figures| age(figures, now(sources)).unwrap_or(0));
    out.push(family(SPOOL_OLDEST, age.map(|age| (Vec::new(), Number::Number(age)))));
    out.push(one(SPOOL_APPENDED, |figures| figures.appended));
    out.push(one(SPOOL_RECOVERED, |figures| figures.recovered));
    out.push(by(SPOOL_LOST, |figures| lost(figures, |lost| lost.batches)));
    out.push(by(SPOOL_LOST_ROWS, |figures| lost(figures, |lost| lost.rows)));
    out.push(one(SPOOL_CORRUPT, |figures| figures.corrupt));
    out.push(one(SPOOL_FAILING, |figures| u64::from(figures.trouble.is_some())));
    out.push(one(SPOOL_WRITE_ERRORS, |figures| figures.write_errors));
    out.push(one(SPOOL_SYNC_ERRORS, |figures| figures.sync_errors));
    out.push(one(SPOOL_SYNCS, |figures| figures.syncs));
    let seconds = figures.map(|figures| (Vec::new(), Number::Real(figures.sync_seconds)));
    out.push(family(SPOOL_SYNC_TIME, seconds));
}

fn lost(figures: &SpoolFigures, value: fn(&Contents) -> u64) -> Vec<(&'static str, u64)> {
    let of = |reason: LossReason| (reason.label(), value(&figures.lost.of(reason)));
    LossReason::ALL.map(of).into()
}

fn family(
    metric: Metric,
    samples: impl IntoIterator<Item = (Vec<(&'static str, String)>, Number)>,
) -> Family {
    let samples = samples.into_iter().map(|(labels, value)| Sample { labels, value });
    Family { metric, samples: samples.collect() }
}
