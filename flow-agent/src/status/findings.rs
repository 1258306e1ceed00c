//! The JSON documents of what the agent found out: events, devices, who talks most, enrichment.
//!
//! Enter: the last snapshot of the analytics and the counters of the enrichment. It holds that
//! nobody is asked: what is shown is at most some seconds old, and says of when it is.

use serde_json::{Map, Value, json};

use super::Sources;
use super::level::time;
use crate::analytics::{DeviceRow, EventView, Kind, Snapshot, View};
use crate::enrich::Counts;

/// `/api/v1/events`: the last events, and how many there were of each kind.
pub fn events(sources: &Sources) -> Value {
    analytics(sources, |view, snapshot| {
        let counts: Map<_, _> = Kind::ALL
            .into_iter()
            .map(|kind| {
                let count = snapshot.events.get(kind.label()).copied().unwrap_or_default();
                (kind.label().to_owned(), json!(count))
            })
            .collect();
        json!({
            "counts": counts,
            "records": { "examined": snapshot.records, "skipped": view.skipped() },
            "rows": { "stored": view.stored_rows(), "dropped": view.dropped_rows() },
            "sizes": snapshot.sizes,
            "events": snapshot.recent.iter().map(event).collect::<Vec<_>>(),
        })
    })
}

fn event(event: &EventView) -> Value {
    json!({
        "id": event.id,
        "ts": time(event.ts_ns),
        "kind": event.kind,
        "severity": event.severity,
        "interface": event.interface,
        "src": event.src,
        "dst": event.dst,
        "port": event.port,
        "protocol": event.protocol,
        "count": event.count,
        "first": time(event.first_ns),
        "last": time(event.last_ns),
        "message": event.message,
    })
}

/// `/api/v1/devices`: who is in the networks of this host, last seen first.
pub fn devices(sources: &Sources) -> Value {
    analytics(sources, |_, snapshot| {
        let size = snapshot.sizes.iter().find(|size| size.name == "devices");
        json!({
            "known": size.map(|size| size.entries),
            "devices": snapshot.devices.iter().map(device).collect::<Vec<_>>(),
        })
    })
}

fn device(device: &DeviceRow) -> Value {
    json!({
        "address": crate::analytics::ip(device.address).to_string(),
        "mac": device.mac,
        "interface": &*device.interface,
        "first_seen": time(device.first_ns),
        "last_seen": time(device.last_ns),
        "own": device.own,
    })
}

/// `/api/v1/top`: who talks most, and how long flows last.
pub fn top(sources: &Sources) -> Value {
    analytics(sources, |_, snapshot| {
        let top = &snapshot.top;
        json!({
            "window_s": top.seconds,
            "talkers": top.talkers,
            "conversations": top.conversations,
            "services": top.services,
            "durations": top.durations,
        })
    })
}

/// A document of the last snapshot; it says so when the analytics are switched off.
fn analytics(sources: &Sources, page: impl FnOnce(&View, &Snapshot) -> Value) -> Value {
    let Some(view) = &sources.analytics else { return json!({ "enabled": false }) };
    let snapshot = view.snapshot();
    let mut page = page(view, &snapshot);
    page["enabled"] = true.into();
    page["as_of"] = time(snapshot.ts_ns).into();
    page["learning"] = snapshot.learning.into();
    page
}

/// `/api/v1/enrichment`: what each cache of the enrichment has done and holds.
pub fn enrichment(sources: &Sources) -> Value {
    let caches: Map<_, _> = sources
        .enrich
        .read()
        .iter()
        .map(|reading| (reading.cache.to_owned(), counts(&reading.counts)))
        .collect();
    json!({ "enabled": !caches.is_empty(), "caches": caches })
}

fn counts(counts: &Counts) -> Value {
    let looked_up = counts.hits + counts.misses;
    json!({
        "entries": counts.entries,
        "capacity": counts.capacity,
        "hits": counts.hits,
        "misses": counts.misses,
        "hit_ratio": (looked_up > 0).then(|| counts.hits as f64 / looked_up as f64),
        "insertions": counts.insertions,
        "evictions": counts.evictions,
        "refused": counts.refused,
    })
}
