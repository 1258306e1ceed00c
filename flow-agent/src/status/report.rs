//! The figures of the cache as text for a person.

use std::fmt::Write;

use serde_json::Value;

use crate::cache::{Counter, StatsLevel};

/// Text of what `/api/v1/cache?details=true` answers.
pub fn cache_report(page: &Value) -> String {
    let mut text = String::new();
    // Writing to a text cannot fail.
    let _ = write(&mut text, page);
    text
}

fn write(text: &mut String, page: &Value) -> std::fmt::Result {
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    let mib = number(&page["bytes"]) / f64::from(1 << 20);
    let ratio = match page["hit_ratio"].as_f64() {
        Some(ratio) => format!("{:.2} % of the updates found their flow open", ratio * 100.0),
        None => "-".into(),
    };
    let level = page["level"].as_str().unwrap_or("-");
    let (flows, most, shards) = (&page["flows"], &page["max_flows"], &page["shards"]);
    writeln!(text, "flows          {flows} open, at most {most}, in {shards} shards")?;
    writeln!(text, "memory         {mib:.1} MiB")?;
    writeln!(text, "hit ratio      {ratio}")?;
    writeln!(text, "last eviction  {}", page["last_eviction"].as_str().unwrap_or("never"))?;
    writeln!(text, "statistics     {level}")?;
    if level == StatsLevel::Off.label() {
        writeln!(text, "\nNothing is counted: statistics is \"off\" in [cache].")?;
        return write_details(text, &page["details"], level);
    }
    writeln!(text, "\nsince the start")?;
    for counter in Counter::ALL {
        if let Some(count) = page["counts"].get(counter.label()) {
            writeln!(text, "  {:<17} {count:>12}  {}", counter.label(), about(counter))?;
        }
    }
    writeln!(text, "\nper second, over      1 min      5 min     15 min")?;
    for (name, rates) in page["per_second"].as_object().into_iter().flatten() {
        let [one, five, fifteen] = ["1m", "5m", "15m"].map(|span| number(&rates[span]));
        writeln!(text, "  {name:<14} {one:>10.1} {five:>10.1} {fifteen:>10.1}")?;
    }
    write_details(text, &page["details"], level)
}

/// What a count counts.
pub(super) const fn about(counter: Counter) -> &'static str {
    match counter {
        Counter::Hits => "updates that found their flow open",
        Counter::Misses => "updates that did not",
        Counter::Insertions => "flows opened",
        Counter::LeftIdle => "flows without a packet for the idle timeout",
        Counter::Continued => "records at the active timeout; the flow goes on",
        Counter::LeftEnded => "flows that both ends closed",
        Counter::Ttl => "records at the age ttl_s of [cache]; the flow goes on",
        Counter::EvictedFull => "flows that made room for others, at the limit of flows",
        Counter::EvictedMemory => "flows that made room for others, at the limit of memory",
        Counter::EvictedResize => "flows that had to go when the limit was lowered",
        Counter::LeftStopped => "flows that were open when the agent stopped",
        Counter::InvalidatedSoft => "flows emitted by an order, and kept",
        Counter::InvalidatedHard => "flows emitted by an order, and removed",
    }
}

fn write_details(text: &mut String, details: &Value, level: &str) -> std::fmt::Result {
    writeln!(text, "\n                           count        p50        p99        max")?;
    for (name, what) in [
        ("age_ms", "open flows: age, ms"),
        ("idle_ms", "open flows: idle, ms"),
        ("get_ns", "look-up, ns"),
        ("update_ns", "update, ns"),
        ("evict_ns", "eviction, ns"),
    ] {
        let of = |field: &str| match details[name][field].as_u64() {
            Some(value) => value.to_string(),
            None => "-".into(),
        };
        let (count, p50, p99, max) = (of("count"), of("p50"), of("p99"), of("max"));
        writeln!(text, "  {what:<20} {count:>10} {p50:>10} {p99:>10} {max:>10}")?;
    }
    writeln!(
        text,
        "  {}",
        if level == StatsLevel::Full.label() {
            "(one look-up and update in about 1,000 is timed, and one eviction in 64)"
        } else {
            "(latencies are measured with statistics = \"full\" in [cache])"
        }
    )?;
    let hot = details["hot_flows"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !hot.is_empty() {
        writeln!(text, "\nflows with most packets (in brackets: how many may be another flow's)")?;
    }
    for flow in hot {
        let text_of = |field: &str| flow[field].as_str().unwrap_or("-").to_owned();
        let (packets, error) = (&flow["packets"], &flow["error"]);
        writeln!(text, "  {packets:>10} ({error}) {} {}", text_of("interface"), text_of("key"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_and_a_page_without_anything_are_printed() {
        let page = json!({
            "flows": 3, "max_flows": 10, "shards": 2, "bytes": 1 << 20, "hit_ratio": 0.5,
            "level": "full", "last_eviction": null, "counts": { "hits": 7 },
            "per_second": { "hits": { "1m": 1.25, "5m": 2, "15m": 3 } },
            "details": {
                "age_ms": { "count": 3, "p50": 10, "p99": 20, "max": 30 },
                "hot_flows": [{ "interface": "eth0", "key": "udp,a,b", "packets": 9, "error": 0 }],
            },
        });
        let text = cache_report(&page);
        for words in [
            "3 open, at most 10, in 2 shards",
            "1.0 MiB",
            "50.00 %",
            "never",
            "updates that found",
            "eth0 udp,a,b",
        ] {
            assert!(text.contains(words), "{words}:\n{text}");
        }
        assert!(!text.contains("Nothing is counted"), "{text}");
        let off = cache_report(&json!({ "level": "off", "counts": { "hits": 0 } }));
        assert!(off.contains("Nothing is counted") && !off.contains("hits"), "{off}");
        assert!(cache_report(&json!({})).contains("hit ratio      -"));
    }
}
