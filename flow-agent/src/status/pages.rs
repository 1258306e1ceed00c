//! The JSON documents, but for those of single flows.

use std::collections::BTreeMap;
use std::time::Instant;

use flow_common::Count;
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::level::time;
use super::{Sources, StatusError};
use crate::cache::{CacheDetails, CacheStats, Counter};
use crate::filter::Sampling;
use crate::ledger::{self, Entry, InterfaceTotals};

/// `/api/v1/status`: how the agent is.
pub fn status(sources: &Sources) -> Value {
    let vitals = &sources.vitals;
    let (figures, tables) = (vitals.figures(), sources.tables);
    let waiting = sources.waiting.size();
    let stats = sources.cache.stats();
    let totals = sources.ledger.totals();
    let list = sources.metered.current();
    let packets = |wanted: fn(&Entry) -> bool| -> u64 {
        totals.iter().filter(|(entry, _)| wanted(entry)).map(|(_, count)| count.packets).sum()
    };
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "exporter": sources.exporter,
        "process": std::process::id(),
        "phase": vitals.phase().label(),
        "started": time(vitals.started_ns()),
        "uptime_s": vitals.uptime().as_secs(),
        "store": sources.store.address().to_string(),
        "endpoints": endpoints(sources),
        "embedded_store": sources.store_runs.as_ref().map(|runs| json!({
            "up": runs.is_up(),
            "restarts": runs.restarts(),
            "failed_starts": runs.failed_starts(),
        })),
        "interfaces": { "metered": list.metered.len(), "refused": list.refused.len() },
        "rules": rules(sources),
        "config": sources.configuration.summary(),
        "tables": {
            "cpus": tables.cpus,
            "flows_per_cpu": tables.flows_per_region(),
            "bytes": tables.bytes(),
            "fill": figures.fill.flows,
            "evicted_fill": figures.fill.evicted,
            "evicted_flows": figures.evicted,
        },
        "programs": super::programs::section(&sources.programs.read(Instant::now())),
        "drains": {
            "interval_ms": vitals.interval().as_millis() as u64,
            "count": figures.drains,
            "early": figures.early,
            "failed": figures.failed,
            "since_last_s": figures.since_last.as_secs_f64(),
        },
        "cache": {
            "flows": stats.sum.flows,
            "max_flows": stats.sum.max_flows,
            "bytes": stats.sum.bytes,
            "hit_ratio": stats.hit_ratio(),
        },
        "waiting": {
            "open_records": waiting.open_records,
            "batches": waiting.batches,
            "batch_records": waiting.batch_records,
        },
        "spool": super::spool::section(sources),
        "delivery": super::delivery::section(sources),
        "memory": memory(sources),
        "capabilities": capabilities(sources),
        "packets": {
            "seen": packets(|entry| *entry == Entry::Seen),
            "metered": packets(|entry| *entry == Entry::Metered),
            "not_metered": packets(|entry| matches!(entry, Entry::NotMetered(_))),
            "lost": packets(|entry| matches!(entry, Entry::Lost(_))),
            "unaccounted": ledger::unaccounted(&totals).0,
            "drained": packets(|entry| *entry == Entry::Drained),
            "recovered": packets(|entry| *entry == Entry::Recovered),
            "acknowledged": packets(|entry| *entry == Entry::Acknowledged),
            "undelivered": packets(|entry| matches!(entry, Entry::LostRecord(_))),
            "in_flight": ledger::in_flight(&totals).0,
        },
    })
}

fn rules(sources: &Sources) -> Value {
    let rules = sources.rules.current();
    let sampling = match rules.sampling {
        Sampling::All => json!({ "mode": "all", "rate": 1 }),
        Sampling::Flows(rate) => json!({ "mode": "flow", "rate": rate }),
        Sampling::Packets(rate) => json!({ "mode": "packet", "rate": rate }),
    };
    json!({
        "prefixes": rules.prefixes.len(),
        "ports": rules.include_ports.len() + rules.exclude_ports.len(),
        "protocols": rules.include_protocols.len() + rules.exclude_protocols.len(),
        "own_traffic_left_out": rules.own_port.is_some(),
        "sampling": sampling,
    })
}

fn memory(sources: &Sources) -> Value {
    let state = sources.pressure.state();
    if !state.enabled {
        return json!({ "enabled": false });
    }
    json!({
        "enabled": true,
        "source": state.reading.map(|reading| reading.source.label()),
        "used_bytes": state.reading.map(|reading| reading.used_bytes),
        "limit_bytes": state.reading.map(|reading| reading.limit_bytes),
        "stall_percent": state.reading.map(|reading| reading.stall_percent),
        "max_flows": state.max_flows,
        "configured_flows": state.configured_flows,
        "shrinks": state.shrinks,
        "regrows": state.regrows,
    })
}

/// What the threads may still do, and why.
fn capabilities(sources: &Sources) -> Value {
    let held = crate::privileges::held().unwrap_or_default();
    let threads = held.into_iter().map(|(thread, kept)| json!({ "thread": thread, "kept": kept }));
    json!({
        "choice": sources.privileges.choice().label(),
        "why": sources.privileges.why(),
        "threads": threads.collect::<Vec<_>>(),
    })
}

/// `/api/v1/ledger`: what became of every packet, in all and by interface.
pub fn ledger(sources: &Sources) -> Value {
    let interfaces: BTreeMap<String, Value> = sources
        .ledger
        .interfaces()
        .iter()
        .map(|(name, totals)| (name.to_string(), books(totals)))
        .collect();
    json!({
        "since": time(sources.vitals.started_ns()),
        "total": books(&sources.ledger.totals()),
        "interfaces": interfaces,
    })
}

/// Totals by stage and, where there are several, reason.
fn books(totals: &InterfaceTotals) -> Value {
    let mut stages = Map::new();
    for stage in ["seen", "metered", "drained", "recovered", "acknowledged", "spooled"] {
        stages.insert(stage.into(), count(Count::default()));
    }
    for stage in ["not_metered", "lost", "undelivered", "note"] {
        stages.insert(stage.into(), json!({}));
    }
    for (entry, sum) in totals {
        let (stage, reason) = entry.labels();
        let place = stages.entry(stage).or_insert_with(|| json!({}));
        if reason.is_empty() {
            *place = count(*sum);
        } else {
            place[reason] = count(*sum);
        }
    }
    for (name, (packets, octets)) in
        [("unaccounted", ledger::unaccounted(totals)), ("in_flight", ledger::in_flight(totals))]
    {
        stages.insert(name.into(), json!({ "packets": packets, "octets": octets }));
    }
    Value::Object(stages)
}

fn count(count: Count) -> Value {
    json!({ "packets": count.packets, "octets": count.octets })
}

/// `/api/v1/interfaces`: which are metered and how, and which refuse.
pub fn interfaces(sources: &Sources) -> Value {
    let list = sources.metered.current();
    let totals = sources.ledger.interfaces();
    let packets = |name: &str, entry| {
        totals.get(name).and_then(|totals| totals.get(&entry)).copied().unwrap_or_default()
    };
    let metered: Vec<_> = list
        .metered
        .iter()
        .map(|interface| {
            json!({
                "name": interface.name,
                "number": interface.number,
                "ifindex": interface.ifindex,
                "ingress": interface.ingress,
                "seen": count(packets(&interface.name, Entry::Seen)),
                "metered": count(packets(&interface.name, Entry::Metered)),
            })
        })
        .collect();
    let refused: Vec<_> = list
        .refused
        .iter()
        .map(|interface| json!({ "name": interface.name, "why": interface.why }))
        .collect();
    json!({ "metered": metered, "refused": refused })
}

/// `/api/v1/latency`: quantiles of each stage since the start, in ns; with buckets also how many
/// took at most so long and longer than half of it.
pub fn latency(sources: &Sources, buckets: bool) -> Value {
    let stages = sources.latency.totals();
    let stages: Map<_, _> = stages
        .iter()
        .map(|(stage, histogram)| {
            let mut page = quantiles(histogram);
            if buckets {
                page["buckets"] = json!(powers_of_two(histogram));
            }
            (stage.label().to_owned(), page)
        })
        .collect();
    json!({ "unit": "ns", "stages": stages })
}

/// Counts by the smallest power of two that is not below the value; without those that are 0 at
/// either end.
fn powers_of_two(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    let mut counts = BTreeMap::new();
    for value in histogram.iter_recorded() {
        let upper = value.value_iterated_to().checked_next_power_of_two().unwrap_or(u64::MAX);
        *counts.entry(upper).or_insert(0) += value.count_since_last_iteration();
    }
    let (Some((first, _)), Some((last, _))) = (counts.first_key_value(), counts.last_key_value())
    else {
        return Vec::new();
    };
    let uppers = std::iter::successors(Some(*first), |upper| upper.checked_mul(2));
    let uppers = uppers.take_while(|upper| upper <= last);
    uppers.map(|upper| (upper, counts.get(&upper).copied().unwrap_or(0))).collect()
}

fn quantiles(histogram: &Histogram<u64>) -> Value {
    if histogram.is_empty() {
        return json!({ "count": 0 });
    }
    json!({
        "count": histogram.len(),
        "min": histogram.min(),
        "p50": histogram.value_at_quantile(0.5),
        "p90": histogram.value_at_quantile(0.9),
        "p99": histogram.value_at_quantile(0.99),
        "p999": histogram.value_at_quantile(0.999),
        "max": histogram.max(),
    })
}

/// `/api/v1/cache`: the flow cache; with details its shards are asked, too.
///
/// # Errors
/// The shards do not answer in time.
pub fn cache(sources: &Sources, details: bool) -> Result<Value, StatusError> {
    let stats = sources.cache.stats();
    let mut page = figures(sources, &stats);
    if details {
        let refused = |error: crate::cache::Unanswered| StatusError::Refused {
            problem: error.to_string(),
            usage: false,
        };
        let found = sources.cache.details(sources.patience).map_err(refused)?;
        page["details"] = describe(sources, &found);
    }
    Ok(page)
}

fn figures(sources: &Sources, stats: &CacheStats) -> Value {
    let counts: Map<_, _> = Counter::ALL
        .into_iter()
        .map(|counter| (counter.label().to_owned(), json!(stats.sum.counts.get(counter))))
        .collect();
    let rates = |[one, five, fifteen]: [f64; 3]| json!({ "1m": one, "5m": five, "15m": fifteen });
    // On the clock of the updates: what that lacks to Unix time is with the kernel's clocks.
    let drift = sources.vitals.clock().map_or(0, |clock| clock.drift_ns());
    let last = stats.sum.last_eviction_ns;
    let last = if last == 0 { None } else { time(last.saturating_add_signed(drift)) };
    json!({
        "level": stats.level.label(),
        "shards": stats.shards,
        "flows": stats.sum.flows,
        "max_flows": stats.sum.max_flows,
        "bytes": stats.sum.bytes,
        "hit_ratio": stats.hit_ratio(),
        "last_eviction": last,
        "queued_messages": stats.sum.queued,
        "counts": counts,
        "per_second": {
            "hits": rates(stats.sum.rates.hits),
            "misses": rates(stats.sum.rates.misses),
            "evictions": rates(stats.sum.rates.evictions),
        },
    })
}

fn describe(sources: &Sources, details: &CacheDetails) -> Value {
    let names = sources.names.current();
    let hot: Vec<_> = details
        .hot_flows
        .iter()
        .map(|flow| {
            json!({
                "interface": &**names.interface(flow.key.interface),
                "key": super::key::of(&flow.key).to_string(),
                "packets": flow.packets,
                "error": flow.error,
            })
        })
        .collect();
    json!({
        "age_ms": quantiles(&details.age_ms),
        "idle_ms": quantiles(&details.idle_ms),
        "get_ns": quantiles(&details.get_ns),
        "update_ns": quantiles(&details.update_ns),
        "evict_ns": quantiles(&details.evict_ns),
        "hot_flows": hot,
    })
}

/// `/healthz` and `/readyz`: true if so, and what there is to say.
pub fn health(sources: &Sources) -> (bool, Value) {
    match sources.vitals.illness() {
        // A store that is away is no reason to start the agent again.
        None => (true, json!({ "healthy": true, "delivery": super::delivery::illness(sources) })),
        Some(illness) => (false, json!({ "healthy": false, "error": illness })),
    }
}

/// See [`health`].
pub fn readiness(sources: &Sources) -> (bool, Value) {
    let phase = sources.vitals.phase();
    let (healthy, _) = health(sources);
    let illness = super::delivery::illness(sources);
    let ready = healthy && phase == super::Phase::Metering && illness.is_none();
    (ready, json!({ "ready": ready, "phase": phase.label(), "delivery": illness }))
}

/// Every server of the store.
fn endpoints(sources: &Sources) -> Vec<Value> {
    let views = sources.store.view().into_iter();
    let endpoint = views.map(|view| {
        json!({
            "url": view.url,
            "shard": view.place.shard,
            "replica": view.place.replica,
            "home": view.home,
            "state": view.state,
            "failures": view.failures,
            "connections": view.connects,
            "last_error": view.last_error,
        })
    });
    endpoint.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_one_bucket_and_no_bucket_is_left_out() {
        let mut histogram = Histogram::new_with_bounds(1, 3_600_000_000_000, 2).expect("bounds");
        assert!(powers_of_two(&histogram).is_empty());
        for value in (1..60).map(|step| 1.4_f64.powi(step) as u64 + 1_000) {
            histogram.saturating_record(value);
        }
        let buckets = powers_of_two(&histogram);
        assert_eq!(buckets.iter().map(|(_, count)| count).sum::<u64>(), 59);
        assert!(buckets.windows(2).all(|pair| pair[1].0 == 2 * pair[0].0), "{buckets:?}");
        assert!(buckets.first().is_some_and(|(_, count)| *count > 0));
        assert!(buckets.last().is_some_and(|(upper, _)| *upper >= histogram.max() / 2));
    }
}
