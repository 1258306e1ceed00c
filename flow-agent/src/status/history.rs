//! `/api/v1/history`: what went through this host, from the rollups in the store.
//!
//! Enters: how far back. Leaves: at most some hundred points. It holds that nobody who opens a
//! page can load the store: there are five questions that may be asked, one is under way at a
//! time, its answer serves all for a while, and the store is told to give up early.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use clickhouse::Row;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Sources, StatusError};
use crate::sink::SinkError;

/// A question: hours back, the rollup, seconds of a point, and how long its answer serves.
#[derive(Debug)]
struct Span {
    hours: u32,
    table: &'static str,
    step_s: u32,
    fresh: Duration,
}

const SPANS: [Span; 5] = [
    Span { hours: 1, table: "flows_1m", step_s: 60, fresh: Duration::from_secs(20) },
    Span { hours: 6, table: "flows_1m", step_s: 60, fresh: Duration::from_secs(30) },
    Span { hours: 24, table: "flows_1m", step_s: 300, fresh: Duration::from_secs(120) },
    Span { hours: 168, table: "flows_1h", step_s: 3_600, fresh: Duration::from_secs(600) },
    Span { hours: 720, table: "flows_1h", step_s: 7_200, fresh: Duration::from_secs(600) },
];

/// How long somebody waits while another question is under way.
const PATIENCE: Duration = Duration::from_secs(10);

/// A point.
#[derive(Clone, Debug, PartialEq, Eq, Row, Deserialize)]
struct Point {
    /// Unix s: its begin.
    at: u32,
    received_packets: u64,
    received_octets: u64,
    sent_packets: u64,
    sent_octets: u64,
    flows: u64,
}

/// The answers that are kept.
#[derive(Debug, Default)]
pub struct History {
    /// Held by who asks the store.
    asking: tokio::sync::Mutex<()>,
    /// As [`SPANS`].
    answers: Mutex<[Option<(Instant, Value)>; SPANS.len()]>,
}

impl History {
    fn answer(&self, place: usize, now: Instant) -> Option<Value> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, page) = answers[place].as_ref()?;
        (now.saturating_duration_since(*at) < SPANS[place].fresh).then(|| page.clone())
    }

    fn keep(&self, place: usize, now: Instant, page: &Value) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers[place] = Some((now, page.clone()));
    }
}

/// The place of a question that may be asked.
///
/// # Errors
/// It may not.
pub fn span(hours: Option<&str>) -> Result<usize, String> {
    let text = hours.unwrap_or("24");
    let hours = text.parse().ok();
    SPANS.iter().position(|span| Some(span.hours) == hours).ok_or_else(|| {
        let known = SPANS.map(|span| span.hours.to_string()).join(", ");
        format!("hours is {text:?}; it must be one of {known}")
    })
}

/// The document.
///
/// # Errors
/// The store is away, or too many ask.
pub async fn page(sources: &Sources, place: usize) -> Result<Value, StatusError> {
    if let Some(page) = sources.history.answer(place, Instant::now()) {
        return Ok(page);
    }
    let refused = |problem: String| StatusError::Refused { problem, usage: false };
    let asking = tokio::time::timeout(PATIENCE, sources.history.asking.lock()).await;
    let _asking = asking.map_err(|_| {
        refused("another question about the past is under way; ask again later".into())
    })?;
    if let Some(page) = sources.history.answer(place, Instant::now()) {
        return Ok(page);
    }
    let span = &SPANS[place];
    let now_s = (sources.vitals.now_ns() / 1_000_000_000) as u32;
    let points = points(sources, span, now_s).await.map_err(|error| refused(error.to_string()))?;
    let from = begin(span, now_s);
    let points: Vec<_> = points
        .iter()
        .map(|point| {
            json!([
                point.at,
                point.received_packets,
                point.received_octets,
                point.sent_packets,
                point.sent_octets,
                point.flows,
            ])
        })
        .collect();
    let page = json!({
        "hours": span.hours,
        "exporter": sources.exporter,
        "table": span.table,
        "step_s": span.step_s,
        "from": from,
        "to": now_s,
        "columns": [
            "at",
            "received_packets",
            "received_octets",
            "sent_packets",
            "sent_octets",
            "flows",
        ],
        "points": points,
    });
    sources.history.keep(place, Instant::now(), &page);
    Ok(page)
}

/// The first whole step, Unix s.
fn begin(span: &Span, now_s: u32) -> u32 {
    now_s.saturating_sub(span.hours * 3_600) / span.step_s * span.step_s
}

/// What has no direction is that of `lo`, where everything is received: as in the live series.
async fn points(sources: &Sources, span: &Span, now_s: u32) -> Result<Vec<Point>, SinkError> {
    let sql = "\
        SELECT toUnixTimestamp(toStartOfInterval(r.bucket, toIntervalSecond({step:UInt32}))) AS at, \
        sum(multiIf(r.direction = 'ingress', r.packets, r.direction = 'egress', r.reverse_packets, r.packets + r.reverse_packets) * r.sampling) AS received_packets, \
        sum(multiIf(r.direction = 'ingress', r.bytes, r.direction = 'egress', r.reverse_bytes, r.bytes + r.reverse_bytes) * r.sampling) AS received_octets, \
        sum(multiIf(r.direction = 'egress', r.packets, r.direction = 'ingress', r.reverse_packets, 0) * r.sampling) AS sent_packets, \
        sum(multiIf(r.direction = 'egress', r.bytes, r.direction = 'ingress', r.reverse_bytes, 0) * r.sampling) AS sent_octets, \
        sum(r.flows) AS flows \
        FROM {table} AS r WHERE r.bucket >= toDateTime({from:UInt32}, 'UTC') AND r.exporter = {exporter:String} \
        GROUP BY at ORDER BY at LIMIT 1000 \
        SETTINGS max_execution_time = 5, timeout_overflow_mode = 'throw', max_threads = 1, max_memory_usage = 268435456";
    let parameters = [
        ("step", span.step_s.to_string()),
        ("from", begin(span, now_s).to_string()),
        ("exporter", sources.exporter.clone()),
    ];
    let target = sources.store.choose(Instant::now());
    let rows = target.client.rows(span.table, sql, &parameters).await;
    sources.store.report(&target, rows.as_ref().map(|_| ()), Instant::now());
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_some_questions_may_be_asked_and_each_is_small() {
        assert_eq!(span(None), span(Some("24")));
        for bad in ["0", "2", "-1", "", "24h", "100000"] {
            assert!(span(Some(bad)).is_err_and(|problem| problem.contains("1, 6, 24")), "{bad}");
        }
        for span in &SPANS {
            assert!(span.hours * 3_600 / span.step_s <= 400, "{span:?}");
            let now = 1_763_690_000;
            let from = begin(span, now);
            assert!(
                from.is_multiple_of(span.step_s) && now - from >= span.hours * 3_600,
                "{span:?}"
            );
        }
    }

    #[test]
    fn an_answer_serves_for_a_while() {
        let (history, now) = (History::default(), Instant::now());
        assert_eq!(history.answer(0, now), None);
        history.keep(0, now, &json!(1));
        assert_eq!(history.answer(0, now + Duration::from_secs(19)), Some(json!(1)));
        assert_eq!(history.answer(0, now + Duration::from_secs(20)), None);
        assert_eq!(history.answer(1, now), None);
    }
}
