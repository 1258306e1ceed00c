//! What the status shows of events, devices, top lists and enrichment, on real traffic between
//! namespaces. Needs root, the agent's binary and libchdb.

#![allow(clippy::float_cmp, reason = "samples are whole numbers here")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flow_tests::attack;
use flow_tests::lab::Side;
use flow_tests::process::Agent;
use flow_tests::rig::{self, Rig};
use flow_tests::sql;
use flow_tests::status::Status;
use flow_tests::tally::Counts;
use flow_tests::traffic::{self, Ends};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A machine may be busy, and a snapshot 5 s old.
const PATIENCE: Duration = Duration::from_secs(60);
/// Flows are emitted quickly.
const CONFIG: &str = "\
drain_interval_ms = 100
idle_timeout_s = 1
active_timeout_s = 2
[analytics]
learning_s = 0
";

fn agent(rig: &Rig, folder: &TempDir, more: &str) -> Result<(Agent, Status)> {
    rig.agent_configured(folder.path(), &[CONFIG, more].concat(), &[])
}

/// Asks until the check passes; its last error if it never does.
fn until<T>(mut ask: impl FnMut() -> Result<T>, check: impl Fn(&T) -> Result<()>) -> Result<T> {
    let started = Instant::now();
    loop {
        let answer = ask()?;
        match check(&answer) {
            Ok(()) => return Ok(answer),
            Err(error) if started.elapsed() > PATIENCE => return Err(error),
            Err(_) => {}
        }
    }
}

fn list<'a>(page: &'a Value, name: &str) -> &'a [Value] {
    page[name].as_array().map_or(&[], Vec::as_slice)
}

/// Packets and octets of each address of a side, both directions.
fn by_address(counts: &Counts) -> BTreeMap<String, (u64, u64)> {
    let mut sums: BTreeMap<_, (u64, u64)> = BTreeMap::new();
    for (key, count) in counts.by_key() {
        for address in [key.source, key.destination] {
            let sum = sums.entry(address.to_string()).or_default();
            *sum = (sum.0 + count.packets, sum.1 + count.octets);
        }
    }
    sums
}

fn name_of(side: &Side) -> String {
    format!("{}/{}", side.namespace.name(), side.interface)
}

/// An error unless the top list has exactly these talkers at that interface.
fn talkers_are(page: &Value, side: &Side, counts: &Counts) -> Result<()> {
    let interface = name_of(side);
    let shown = list(page, "talkers").iter().filter(|entry| entry["interface"] == interface);
    let shown: BTreeMap<_, _> = shown
        .map(|entry| {
            let number = |field: &str| entry[field].as_u64().unwrap_or(u64::MAX);
            let address = entry["address"].as_str().unwrap_or_default().to_owned();
            (address, (number("packets"), number("octets"), number("octets_error")))
        })
        .collect();
    let expected: BTreeMap<_, _> = by_address(counts)
        .into_iter()
        .map(|(address, (packets, octets))| (address, (packets, octets, 0)))
        .collect();
    ensure!(shown == expected, "{interface}: {shown:?}, expected {expected:?}");
    Ok(())
}

#[test]
fn a_scan_is_shown_with_its_devices_and_their_packets() -> Result<()> {
    let (rig, folder) = (Rig::new()?, TempDir::new()?);
    let (agent, status) = agent(&rig, &folder, "")?;
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    let counts = rig::tally(&rig.lab, |_| {
        attack::scan((left, 0), right.v4(0), 10_000..10_200)?;
        let mut sent = traffic::short(Ends::v4((left, 1), (right, 1), 443), 20, 200, 30_000)?;
        sent.add(traffic::ask(Ends::v6((left, 2), (right, 2), 53), 10, 3, 40, 300)?);
        Ok(sent)
    })?;

    let page = until(
        || status.json("/api/v1/events"),
        |page| {
            let scans = &page["counts"]["port_scan"];
            ensure!(*scans == json!({ "events": 1, "suppressed": 0 }), "{page:#}");
            let examined = page["records"]["examined"].as_u64();
            let rows = sql::number(rig.store.url(), "SELECT count() FROM flow.flows")?;
            // Each port at both ends, and the other flows.
            ensure!(rows > 400 && examined == Some(rows), "{examined:?} of {rows}: {page:#}");
            Ok(())
        },
    )?;
    assert_eq!((&page["enabled"], &page["learning"]), (&json!(true), &json!(false)));
    assert_eq!(page["records"]["skipped"], 0);
    let scans: Vec<_> =
        list(&page, "events").iter().filter(|event| event["kind"] == "port_scan").collect();
    let [scan] = scans[..] else { panic!("one scan is one event: {page:#}") };
    assert_eq!(scan["src"], left.v4(0).to_string());
    assert_eq!(scan["dst"], right.v4(0).to_string());
    // From the limit to each port at both ends: the numbers are renewed once a minute.
    assert!((100..=400).contains(&scan["count"].as_u64().unwrap_or(0)), "{scan:#}");
    let message = scan["message"].as_str().unwrap_or_default();
    assert!(message.contains("tries the ports of"), "{message}");
    for time in ["ts", "first", "last"] {
        assert!(scan[time].as_str().is_some_and(|time| time.starts_with("20")), "{scan:#}");
    }

    let metrics = status.metrics()?;
    let events = |kind: &str| metrics[&format!("flow_agent_found_events_total{{kind=\"{kind}\"}}")];
    assert_eq!((events("port_scan"), events("syn_flood"), events("host_scan")), (1.0, 0.0, 0.0));
    assert_eq!(metrics["flow_agent_suppressed_events_total{kind=\"port_scan\"}"], 0.0);
    assert_eq!(metrics["flow_agent_analytics_skipped_records_total"], 0.0);
    assert_eq!(metrics["flow_agent_analytics_dropped_rows_total"], 0.0);
    assert_eq!(metrics["flow_agent_analytics_learning"], 0.0);
    assert!(metrics["flow_agent_analytics_records_total"] > 400.0);
    for size in list(&page, "sizes") {
        let name = size["name"].as_str().context("a name")?;
        let of = |metric: &str| metrics[&format!("flow_agent_{metric}{{structure=\"{name}\"}}")];
        assert_eq!(Some(of("analytics_limit_entries")), size["limit"].as_f64(), "{size}");
        assert!(of("analytics_entries") <= of("analytics_limit_entries"), "{size}");
    }
    let top = until(
        || status.json("/api/v1/top"),
        |page| {
            talkers_are(page, left, &counts.0)?;
            talkers_are(page, right, &counts.1)
        },
    )?;
    let of_service = |list: &[Value], service: &str, interface: &str| -> u64 {
        let is = |entry: &&Value| entry["service"] == service && entry["interface"] == interface;
        list.iter().filter(is).filter_map(|entry| entry["packets"].as_u64()).sum()
    };
    let https = counts.0.by_key().into_iter();
    let https = https.filter(|(key, _)| key.source_port == 443 || key.destination_port == 443);
    let https: u64 = https.map(|(_, count)| count.packets).sum();
    let interface = name_of(left);
    for name in ["services", "conversations"] {
        assert_eq!(of_service(list(&top, name), "https", &interface), https, "{name}: {top:#}");
    }
    let durations = list(&top, "durations");
    assert!(durations.iter().any(|class| class["protocol"] == "tcp"), "{durations:?}");

    let spoke: BTreeSet<IpAddr> =
        counts.0.by_key().into_keys().flat_map(|key| [key.source, key.destination]).collect();
    assert_eq!(spoke.len(), 6, "{spoke:?}");
    let devices = status.json("/api/v1/devices")?;
    let seen: BTreeMap<_, _> = list(&devices, "devices")
        .iter()
        .filter(|device| device["interface"] == interface)
        .map(|device| (device["address"].as_str().unwrap_or_default().to_owned(), device))
        .collect();
    let own = [left.v4(0), left.v4(1), left.v6(2)];
    for address in spoke {
        let device = seen.get(&address.to_string()).with_context(|| format!("no {address}"))?;
        assert_eq!(device["own"], own.contains(&address), "{device:#}");
        let time = |field: &str| device[field].as_str().unwrap_or_default().to_owned();
        let (first, last) = (time("first_seen"), time("last_seen"));
        assert!(first.starts_with("20") && first <= last, "{device:#}");
    }
    // The rows: at least the scan and these devices at both ends.
    until(
        || status.metrics(),
        |metrics| {
            let stored = metrics["flow_agent_analytics_stored_rows_total"];
            ensure!(stored >= 13.0, "{stored} rows are stored");
            Ok(())
        },
    )?;
    agent.stop()?;
    let rows = sql::number(
        rig.store.url(),
        "SELECT count() FROM flow.recent_events WHERE kind = 'port_scan'",
    )?;
    assert_eq!(rows, 1);
    rig::exact(&rig.lab, rig.store.url(), &counts)
}

#[test]
fn look_ups_of_the_enrichment_are_counted() -> Result<()> {
    let (rig, folder) = (Rig::new()?, TempDir::new()?);
    let (agent, status) = agent(&rig, &folder, "")?;
    let looked_up = |page: &Value, cache: &str| -> u64 {
        let of = |field: &str| page["caches"][cache][field].as_u64().unwrap_or(0);
        of("hits") + of("misses")
    };
    let caches = ["interfaces", "services", "units"];
    let before = status.json("/api/v1/enrichment")?;
    assert_eq!(before["enabled"], true);
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    let counts = rig::tally(&rig.lab, |_| {
        traffic::ask(Ends::v4((left, 0), (right, 0), 53), 20, 3, 40, 300)
    })?;
    // A flow at each of two ends, and each is looked up once.
    let flows = counts.0.by_key().len() as u64;
    let after = until(
        || status.json("/api/v1/enrichment"),
        |page| {
            for cache in caches {
                let rise = looked_up(page, cache) - looked_up(&before, cache);
                ensure!(rise >= flows, "{cache}: {rise} of {flows}: {page:#}");
            }
            Ok(())
        },
    )?;
    assert!(after["caches"]["services"]["hits"].as_u64() >= Some(flows), "port 53: {after:#}");
    // The last batch may come between the two.
    until(
        || Ok((status.json("/api/v1/enrichment")?, status.metrics()?)),
        |(page, metrics)| {
            for cache in caches {
                for (field, metric) in [
                    ("hits", "enrichment_hits_total"),
                    ("misses", "enrichment_misses_total"),
                    ("insertions", "enrichment_insertions_total"),
                    ("evictions", "enrichment_evictions_total"),
                    ("refused", "enrichment_refused_lookups_total"),
                    ("entries", "enrichment_entries"),
                    ("capacity", "enrichment_limit_entries"),
                ] {
                    let sample = metrics[&format!("flow_agent_{metric}{{cache=\"{cache}\"}}")];
                    let shown = page["caches"][cache][field].as_f64();
                    ensure!(shown == Some(sample), "{cache} {field}: {shown:?}, {sample}");
                }
            }
            Ok(())
        },
    )?;
    agent.stop()?;
    rig::exact(&rig.lab, rig.store.url(), &counts)
}

#[test]
fn what_is_switched_off_is_said_to_be() -> Result<()> {
    let (rig, folder) = (Rig::new()?, TempDir::new()?);
    let (agent, status) = agent(&rig, &folder, "enabled = false\n")?;
    for page in ["events", "devices", "top"] {
        let page = status.json(&format!("/api/v1/{page}"))?;
        assert_eq!(page, json!({ "enabled": false }));
    }
    let metrics = status.metrics()?;
    let of_analytics = |name: &&String| name.contains("analytics") || name.contains("_events");
    assert_eq!(metrics.keys().find(of_analytics), None);
    agent.stop()?;
    Ok(())
}
