//! `flow-agent report` on the real engine, against sums that are made here of rows that are made
//! here: nothing of rollups, views and observation points is known to them.
//! Needs libchdb (`cargo xtask setup`); no privileges.

mod filled;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context as _, Result};
use filled::{Filled, Row};
use flow_tests::bin_path::flow_agent;
use serde_json::Value;

/// Seconds.
const HOUR: u64 = 3600;

/// Whole hours, whole minutes, and next to nothing.
const WINDOWS: [(u64, u64); 4] =
    [(0, 2 * HOUR), (HOUR, 2 * HOUR), (600, HOUR + 660), (100 * 60, 101 * 60)];

fn name(host: u64) -> String {
    format!("10.0.0.{host}")
}

fn number(row: &Value, column: &str) -> u64 {
    row[column].as_u64().unwrap_or_else(|| panic!("{column} of {row}"))
}

#[test]
fn talkers_conversations_and_services_are_the_sums_of_the_rows() -> Result<()> {
    let filled = Filled::new();
    for window in WINDOWS {
        let wire = filled.wire(window);
        assert!(!wire.is_empty());
        // Sent and received, flows, peers.
        let mut talkers: BTreeMap<String, (u64, u64, u64, BTreeSet<u64>)> = BTreeMap::new();
        let mut talks: BTreeMap<(String, String, u64), [u64; 5]> = BTreeMap::new();
        let mut services: BTreeMap<u64, (BTreeSet<u64>, BTreeSet<u64>)> = BTreeMap::new();
        for row in &wire {
            for (me, other, sent, received) in [
                (row.src, row.dst, row.bytes(), row.back()),
                (row.dst, row.src, row.back(), row.bytes()),
            ] {
                let sums = talkers.entry(name(me)).or_default();
                (sums.0, sums.1, sums.2) = (sums.0 + sent, sums.1 + received, sums.2 + 1);
                sums.3.insert(other);
            }
            let sums = talks.entry((name(row.src), name(row.dst), row.port)).or_default();
            let more = [row.packets, row.bytes(), row.reverse, row.back(), 1];
            sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
            if row.reverse > 0 {
                let both = services.entry(row.port).or_default();
                both.0.insert(row.dst);
                both.1.insert(row.src);
            }
        }
        let found = &filled.json("top-talkers", window)?["top_talkers"];
        assert_eq!(found.len(), talkers.len().min(20), "{window:?}");
        let total = |row: &Value| number(row, "bytes_sent") + number(row, "bytes_received");
        assert!(found.windows(2).all(|pair| total(&pair[0]) >= total(&pair[1])));
        for row in found {
            let (sent, received, flows, peers) = &talkers[row["address"].as_str().unwrap()];
            assert_eq!(
                (number(row, "bytes_sent"), number(row, "bytes_received")),
                (*sent, *received)
            );
            assert_eq!((number(row, "flows"), number(row, "peers")), (*flows, peers.len() as u64));
        }

        let found = &filled.json("conversations", window)?["conversations"];
        assert_eq!(found.len(), talks.len().min(20));
        for row in found {
            let key = ["src_ip", "dst_ip"].map(|end| row[end].as_str().unwrap().to_owned());
            let [src, dst] = key;
            let columns = ["packets", "bytes", "reverse_packets", "reverse_bytes", "flows"];
            let sums = columns.map(|column| number(row, column));
            assert_eq!(sums, talks[&(src, dst, number(row, "service_port"))], "{row}");
        }

        let found = &filled.json("services", window)?["services"];
        assert_eq!(found.len(), services.len());
        for row in found {
            let (servers, clients) = &services[&number(row, "service_port")];
            assert_eq!(number(row, "servers"), servers.len() as u64);
            assert_eq!(number(row, "clients"), clients.len() as u64);
            let names = BTreeMap::from([(80, "http"), (443, "https"), (5432, "postgresql")]);
            assert_eq!(row["service"], names[&number(row, "service_port")]);
        }
    }
    Ok(())
}

#[test]
fn bandwidth_is_of_each_interface_in_tables_and_pictures() -> Result<()> {
    let filled = Filled::new();
    for window in WINDOWS {
        let seconds = (window.1 - window.0) as f64;
        let found = &filled.json("bandwidth", window)?["bandwidth"];
        let ended = filled.rows.iter().filter(|row| (window.0..window.1).contains(&row.end));
        let points: BTreeSet<_> = ended.map(|row| row.exporter).collect();
        let told = found.iter().filter_map(|row| row["exporter"].as_str());
        assert_eq!(told.collect::<BTreeSet<_>>(), points);
        assert_eq!(found.len(), points.len());
        for row in found {
            let exporter = row["exporter"].as_str().context("a name")?;
            let rows = filled.rows.iter().filter(|row| row.exporter == exporter);
            let rows: Vec<_> = rows.filter(|row| (window.0..window.1).contains(&row.end)).collect();
            let sum =
                |of: fn(&Row) -> u64| rows.iter().map(|row| of(row)).sum::<u64>() as f64 * 8.0;
            let received =
                sum(|row| if row.direction == "ingress" { row.bytes() } else { row.back() });
            let all = sum(|row| row.bytes() + row.back());
            for (column, bits) in [
                ("received_bits_per_second", received),
                ("sent_bits_per_second", all - received),
                ("bits_per_second", all),
            ] {
                let mean = row[column].as_f64().context("a mean")?;
                assert!((mean - bits / seconds).abs() <= 1e-6 * (mean + 1.0), "{column} {row}");
            }
            let mut minutes: BTreeMap<u64, u64> = BTreeMap::new();
            for row in &rows {
                *minutes.entry(row.end / 60).or_default() += row.bytes() + row.back();
            }
            let peak = minutes.values().max().copied().unwrap_or(0) as f64 * 8.0 / 60.0;
            let found = row["peak_bits_per_second"].as_f64().context("a peak")?;
            assert!((found - peak).abs() <= 1e-6 * peak, "{found} {peak}");
            // A character for each step; those without a flow are empty.
            let course = row["course"].as_str().context("a course")?;
            let steps = (window.1 - window.0) / 60;
            let step = steps.div_ceil(60);
            assert_eq!(course.chars().count() as u64, steps.div_ceil(step), "{course}");
            let first = window.0 / 60;
            for (at, bar) in course.chars().enumerate() {
                let range = first + at as u64 * step..first + (at as u64 + 1) * step;
                assert_eq!(
                    bar == ' ',
                    !range.into_iter().any(|minute| minutes.contains_key(&minute))
                );
            }
            assert!(course.contains('█'), "{course}");
        }
    }
    let folder = tempfile::tempdir()?;
    let [from, to] = filled.times((0, 2 * HOUR));
    let mut of_name = BTreeMap::new();
    for ending in ["svg", "html", "csv", "txt"] {
        let path = folder.path().join(format!("a.{ending}")).display().to_string();
        filled.text(&["bandwidth", "--from", &from, "--to", &to, "--output", &path])?;
        of_name.insert(ending, std::fs::read_to_string(&path)?);
    }
    let svg = &of_name["svg"];
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
    assert_eq!(svg.matches("client eth0").count() + svg.matches("server eth0").count(), 2, "{svg}");
    let html = &of_name["html"];
    assert!(html.starts_with("<!doctype html>") && html.contains("<svg"), "{html}");
    assert!(!html.contains("<script") && !html.contains("src=") && !html.contains("href="));
    assert_eq!(of_name["csv"].lines().count(), 3);
    assert!(of_name["txt"].contains('█') && of_name["txt"].contains("bit/s"));
    Ok(())
}

#[test]
fn anomalies_and_latencies_are_found_and_nothing_else() -> Result<()> {
    let filled = Filled::new();
    let found = filled.json("anomalies", (HOUR, 2 * HOUR))?;
    let scanners = &found["scanners"];
    assert_eq!((scanners.len(), &scanners[0]["address"]), (1, &name(5).into()));
    assert_eq!((number(&scanners[0], "hosts"), number(&scanners[0], "services")), (1, 120));
    // Everything that answered did so in the hour before, too.
    assert_eq!(found["new_services"].len(), 0, "{found:?}");
    assert_eq!(found["ledger_gaps"].len(), 0);
    assert_eq!(found["bandwidth_outliers"].len(), 0);
    let found = filled.json("anomalies", (0, HOUR))?;
    let services: BTreeSet<_> = found["new_services"]
        .iter()
        .map(|row| {
            (row["address"].as_str().unwrap_or_default().to_owned(), number(row, "service_port"))
        })
        .collect();
    let expected = filled.wire((0, HOUR)).into_iter().map(|row| (name(row.dst), row.port));
    assert_eq!(services, expected.collect());
    let gaps = &found["ledger_gaps"];
    assert_eq!((gaps.len(), &gaps[0]["interface"]), (1, &"bad0".into()));
    assert_eq!((number(&gaps[0], "packets_lost"), &gaps[0]["packets_unaccounted"]), (3, &0.into()));
    assert_eq!(found["scanners"].len(), 0);
    // The gigabyte of the third hour, against the second; by hours and by minutes.
    for window in [(2 * HOUR, 3 * HOUR), (2 * HOUR, 2 * HOUR + 1800)] {
        let outliers = &filled.json("anomalies", window)?["bandwidth_outliers"];
        assert_eq!((outliers.len(), &outliers[0]["exporter"]), (1, &"client".into()));
        let mean = outliers[0]["bits_per_second"].as_f64().context("a mean")?;
        let seconds = (window.1 - window.0) as f64;
        assert!((mean * seconds / 8.0 - 1_000_001_000.0).abs() < 1.0, "{mean}");
    }

    let found = filled.json("latency", (0, 2 * HOUR))?;
    let stage = &found["stages"][0];
    assert_eq!(
        (found["stages"].len(), &stage["stage"], number(stage, "measured")),
        (1, &"insert".into(), 200)
    );
    assert_eq!((stage["p50_ms"].as_f64(), stage["p99_ms"].as_f64()), (Some(1.0), Some(3.0)));
    // Port 80 took 1 ms, 443 took 2, 5432 took 3: n % 3 decides both.
    let handshakes: Vec<_> = found["handshakes"]
        .iter()
        .map(|row| (number(row, "service_port"), row["p50_ms"].as_f64()))
        .collect();
    assert_eq!(handshakes, [(5432, Some(3.0)), (443, Some(2.0)), (80, Some(1.0))]);
    // In one table of CSV, all sections.
    let [from, to] = filled.times((0, HOUR));
    let csv = filled.text(&["anomalies", "--format", "csv", "--from", &from, "--to", &to])?;
    let sections: BTreeSet<_> = csv.lines().filter_map(|line| line.split(',').next()).collect();
    assert_eq!(sections, BTreeSet::from(["section", "ledger_gaps", "new_services"]), "{csv}");
    let text = filled.text(&["anomalies", "--from", &from, "--to", &to])?;
    assert!(text.contains("bandwidth_outliers") && text.contains("0 rows"), "{text}");
    Ok(())
}

#[test]
fn an_embedded_store_answers_too_and_bad_wishes_are_named() -> Result<()> {
    let filled = Filled::new();
    let [from, to] = filled.times((0, 2 * HOUR));
    let window = ["--from", &from, "--to", &to, "--format", "csv", "--limit", "3"];
    let arguments = [&["top-talkers"], &window[..]].concat();
    let served = filled.text(&arguments)?;
    assert_eq!(served.lines().count(), 4, "{served}");
    // Nothing ended in the last minute.
    let empty = filled.text(&["services", "--last", "1m"])?;
    assert!(empty.contains("0 rows"), "{empty}");
    for (arguments, code, words) in [
        (&["services", "--format", "svg"][..], 2, "picture of bandwidth"),
        (&["services", "--output", "/tmp/a.doc"], 2, ".html"),
        (&["services", "--last", "1y"], 2, "90m, 1h or 7d"),
        (&["services", "--from", "noon"], 2, "2026-11-20T13:00:00Z"),
        (&["services", "--from", &to, "--to", &from], 2, "exchange them"),
        (&["services", "--last", "1h", "--from", &to], 2, "cannot be used with"),
        (&["gossip"], 2, "top-talkers"),
    ] {
        let output = filled.run(arguments)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(code) && said.contains(words),
            "{arguments:?}: {said}"
        );
    }
    let dir = filled.store.dir.path().join("data").display().to_string();
    let Filled { store, .. } = filled;
    let folder = store.stop_keeping();
    let embedded = format!("embedded:{dir}");
    let output = Command::new(flow_agent())
        .args(["report", "--store", &embedded])
        .args(&arguments)
        .output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout)?, served);
    drop(folder);
    Ok(())
}
