//! The figures of the cache as text for a person.

use std::fmt::Write;

use serde_json::Value;

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
    let ratio = page["hit_ratio"].as_f64();
    let ratio = ratio.map_or_else(|| "-".into(), |ratio| format!("{:.2} %", ratio * 100.0));
    writeln!(
        text,
        "flows          {} of {} in {} shards",
        page["flows"], page["max_flows"], page["shards"]
    )?;
    writeln!(text, "memory         {mib:.1} MiB")?;
    writeln!(text, "hit ratio      {ratio}")?;
    writeln!(text, "last eviction  {}", page["last_eviction"].as_str().unwrap_or("never"))?;
    writeln!(text, "statistics     {}", page["level"].as_str().unwrap_or("-"))?;
    writeln!(text, "\ncounts since the start")?;
    for (name, count) in page["counts"].as_object().into_iter().flatten() {
        writeln!(text, "  {name:<18} {count}")?;
    }
    writeln!(text, "\nper second          1 min      5 min     15 min")?;
    for (name, rates) in page["per_second"].as_object().into_iter().flatten() {
        let [one, five, fifteen] = ["1m", "5m", "15m"].map(|span| number(&rates[span]));
        writeln!(text, "  {name:<12} {one:>10.1} {five:>10.1} {fifteen:>10.1}")?;
    }
    let details = &page["details"];
    writeln!(text, "\n                    count        p50        p99        max")?;
    for name in ["age_ms", "idle_ms", "get_ns", "update_ns", "evict_ns"] {
        let of = |field: &str| details[name][field].as_u64().unwrap_or(0);
        let (count, p50, p99, max) = (of("count"), of("p50"), of("p99"), of("max"));
        writeln!(text, "  {name:<12} {count:>10} {p50:>10} {p99:>10} {max:>10}")?;
    }
    let hot = details["hot_flows"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !hot.is_empty() {
        writeln!(text, "\nflows with most packets (at most so many of them another flow's)")?;
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
        for words in ["3 of 10 in 2 shards", "1.0 MiB", "50.00 %", "never", "hits", "eth0 udp,a,b"]
        {
            assert!(text.contains(words), "{words}:\n{text}");
        }
        assert!(cache_report(&json!({})).contains("hit ratio      -"));
    }
}
