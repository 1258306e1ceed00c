//! `/api/v1/overview`: what the page at `/` shows, of one moment and in one answer.

use serde_json::{Value, json};

use super::level::time;
use super::{Sources, alerts, findings, pages, spool};
use crate::cache::Counter;

/// The document; of the live series only what is later than `since_ms`, Unix ms.
pub fn overview(sources: &Sources, since_ms: u64) -> Value {
    let vitals = &sources.vitals;
    let mut ledger = pages::ledger(sources);
    // There may be a thousand.
    ledger.as_object_mut().and_then(|ledger| ledger.remove("interfaces"));
    json!({
        "now": time(vitals.now_ns()),
        "status": pages::status(sources),
        "alerts": alerts::current(sources),
        "traffic": vitals.traffic().page(since_ms),
        "ledger": ledger,
        // Without details no shard is asked, so it cannot fail.
        "cache": pages::cache(sources, false).unwrap_or(Value::Null),
        "cache_about": Counter::ALL
            .into_iter()
            .map(|counter| (counter.label().to_owned(), super::report::about(counter).into()))
            .collect::<serde_json::Map<_, Value>>(),
        "spool": spool::page(sources),
        "latency": pages::latency(sources, true),
        "top": shortened(findings::top(sources)),
        "events": shortened(findings::events(sources)),
    })
}

/// The first entries of each list.
fn shortened(mut page: Value) -> Value {
    const MOST: usize = 12;
    for name in ["talkers", "conversations", "services", "events"] {
        if let Some(list) = page.get_mut(name).and_then(Value::as_array_mut) {
            list.truncate(MOST);
        }
    }
    page
}
