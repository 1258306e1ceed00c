//! The delivery as JSON and as metrics, and whether it is well.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::Sources;
use super::metrics::{
    DELIVERY_ACKNOWLEDGED, DELIVERY_ACKNOWLEDGED_ROWS, DELIVERY_DOUBTS, DELIVERY_HELD,
    DELIVERY_IN_FLIGHT, DELIVERY_INSERTS, DELIVERY_QUARANTINED, DELIVERY_RETRIES, Family, Metric,
    SINCE_ACKNOWLEDGED, Sample, Value as Number,
};
use crate::sink::{DeliveryFigures, Doubt, InsertOutcome};

/// While batches wait, one has to be acknowledged within this time. Books are written every ten
/// seconds, so there is always one.
const LATE: Duration = Duration::from_secs(120);

/// The part of `/api/v1/status` that tells of it.
pub fn section(sources: &Sources) -> Value {
    let figures = sources.deliveries.figures();
    let by = |labels: Vec<(&'static str, u64)>| labels.into_iter().collect::<BTreeMap<_, _>>();
    json!({
        "in_flight": figures.in_flight,
        "acknowledged_batches": figures.acknowledged_batches,
        "acknowledged_rows": figures.acknowledged_rows,
        "quarantined_rows": figures.quarantined_rows,
        "since_acknowledged_s": since(&figures, now(sources)).as_secs_f64(),
        "inserts": by(inserts(&figures)),
        "retries": figures.retries,
        "doubts": by(doubts(&figures)),
        "failing": figures.failing,
        "held": figures.held,
    })
}

/// What is wrong with it, if something is.
pub fn illness(sources: &Sources) -> Option<String> {
    let waiting = sources.spool.figures().is_some_and(|spool| spool.batches > 0);
    judge(&sources.deliveries.figures(), waiting, now(sources))
}

fn judge(figures: &DeliveryFigures, waiting: bool, now: Duration) -> Option<String> {
    if let Some(held) = &figures.held {
        return Some(format!("batches are kept until this is changed: {held}"));
    }
    let since = since(figures, now);
    (waiting && since > LATE).then(|| {
        let why = figures.failing.as_ref().map_or(String::new(), |problem| format!(": {problem}"));
        format!("no batch was acknowledged for {} s{why}", since.as_secs())
    })
}

/// Since a batch was acknowledged.
fn since(figures: &DeliveryFigures, now: Duration) -> Duration {
    now.saturating_sub(Duration::from_nanos(figures.last_acknowledged_ns))
}

/// Since 1970.
fn now(sources: &Sources) -> Duration {
    Duration::from_nanos(sources.vitals.started_ns()) + sources.vitals.uptime()
}

fn inserts(figures: &DeliveryFigures) -> Vec<(&'static str, u64)> {
    let of = |outcome: InsertOutcome| {
        (outcome.label(), figures.inserts.get(&outcome).copied().unwrap_or_default())
    };
    InsertOutcome::ALL.map(of).into()
}

fn doubts(figures: &DeliveryFigures) -> Vec<(&'static str, u64)> {
    let of = |end: Doubt| (end.label(), figures.doubts.get(&end).copied().unwrap_or_default());
    Doubt::ALL.map(of).into()
}

/// Its metrics.
pub fn metrics(sources: &Sources, out: &mut Vec<Family>) {
    let figures = sources.deliveries.figures();
    let by = |metric: Metric, values: Vec<(&'static str, u64)>| {
        let samples = values.into_iter().map(|(label, value)| Sample {
            labels: vec![(metric.labels, label.to_owned())],
            value: Number::Number(value),
        });
        Family { metric, samples: samples.collect() }
    };
    let one = |metric: Metric, value: Number| Family {
        metric,
        samples: vec![Sample { labels: Vec::new(), value }],
    };
    let retries = figures.retries.iter().map(|(reason, count)| (*reason, *count)).collect();
    out.push(by(DELIVERY_INSERTS, inserts(&figures)));
    out.push(by(DELIVERY_RETRIES, retries));
    out.push(by(DELIVERY_DOUBTS, doubts(&figures)));
    out.push(one(DELIVERY_IN_FLIGHT, Number::Number(figures.in_flight)));
    out.push(one(DELIVERY_ACKNOWLEDGED, Number::Number(figures.acknowledged_batches)));
    out.push(one(DELIVERY_ACKNOWLEDGED_ROWS, Number::Number(figures.acknowledged_rows)));
    out.push(one(DELIVERY_QUARANTINED, Number::Number(figures.quarantined_rows)));
    let since = since(&figures, now(sources)).as_secs_f64();
    out.push(one(SINCE_ACKNOWLEDGED, Number::Real(since)));
    out.push(one(DELIVERY_HELD, Number::Number(u64::from(figures.held.is_some()))));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_or_late_is_told() {
        let at = Duration::from_secs;
        let mut figures =
            DeliveryFigures { last_acknowledged_ns: 1_000_000_000_000, ..Default::default() };
        assert_eq!(judge(&figures, true, at(1_000)), None);
        assert_eq!(judge(&figures, true, at(1_120)), None);
        assert_eq!(judge(&figures, false, at(9_999)), None, "nothing waits");
        figures.failing = Some("it is away".into());
        let late = judge(&figures, true, at(1_121)).expect("late");
        assert!(late.contains("121 s") && late.contains("it is away"), "{late}");
        figures.held = Some("Code: 60".into());
        let held = judge(&figures, true, at(1_000)).expect("held");
        assert!(held.contains("Code: 60"), "{held}");
    }
}
