//! The status of the running agent on real traffic: look-up of flows on every level, metrics,
//! invalidation, and what bad clients do. Needs root, the agent's binary and libchdb.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flow_agent::status::metrics::METRICS;
use flow_tests::bin_path::flow_agent;
use flow_tests::lab::Lab;
use flow_tests::ledger::Ledger;
use flow_tests::process::Agent;
use flow_tests::raw_http;
use flow_tests::rig::{self, Rig};
use flow_tests::rows;
use flow_tests::sql;
use flow_tests::status::{ANY_PORT, Status, level, name};
use flow_tests::tally::{Count, Counts, Key};
use flow_tests::traffic::{self, Ends};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);

fn agent(rig: &Rig, more: &[&str]) -> Result<(Agent, Status)> {
    let agent = rig.agent_with(("tc", "tc"), &[&ANY_PORT, more].concat())?;
    let status = Status::of(&agent)?;
    Ok((agent, status))
}

/// Asks until it is so; an error with the last answer if it never is.
fn until<T: std::fmt::Debug>(
    mut ask: impl FnMut() -> Result<T>,
    is_so: impl Fn(&T) -> bool,
) -> Result<T> {
    let started = Instant::now();
    loop {
        let answer = ask()?;
        if is_so(&answer) {
            return Ok(answer);
        }
        ensure!(started.elapsed() < PATIENCE, "it does not become so: {answer:?}");
    }
}

/// Some flow to this port, and both its directions at both ends together.
fn some_flow(counts: &(Counts, Counts), port: u16) -> (Key, Count) {
    let forward = counts.0.by_key().into_keys().find(|key| key.destination_port == port);
    let forward = forward.expect("there was traffic");
    let is_it = |key: &Key| {
        (key.source, key.source_port) == (forward.source, forward.source_port)
            || (key.destination, key.destination_port) == (forward.source, forward.source_port)
    };
    let mut sum = Count::default();
    for side in [&counts.0, &counts.1] {
        side.by_key().iter().filter(|(key, _)| is_it(key)).for_each(|(_, count)| sum.add(*count));
    }
    (forward, sum)
}

fn backward(key: &Key) -> Key {
    Key {
        source: key.destination,
        destination: key.source,
        source_port: key.destination_port,
        destination_port: key.source_port,
        ..*key
    }
}

fn has(found: &Value, wanted: &str, count: Count) -> Result<()> {
    for name in ["kernel", "cache", "spool", "store"] {
        let level = level(found, name);
        ensure!(level["error"].is_null(), "{level}");
        let expected = if name == wanted { count } else { Count::default() };
        ensure!(level["found"] == (name == wanted), "in {name}, wanted in {wanted}: {found:#}");
        ensure!(level["packets"] == expected.packets, "{name}: {expected:?}, {found:#}");
        ensure!(level["bytes"] == expected.octets, "{name}: {expected:?}, {found:#}");
    }
    let level = level(found, wanted);
    let time = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (first, last) = (time(&level["first"]), time(&level["last"]));
    ensure!(first.starts_with("20") && first <= last, "{first} to {last}");
    Ok(())
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn sentence(output: &Output, code: i32) -> String {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    errors
}

#[test]
fn a_flow_is_in_the_kernel_before_a_drain() -> Result<()> {
    let rig = Rig::new()?;
    let (agent, status) = agent(&rig, &["--drain-interval", "60000"])?;
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    let counts = rig::tally(&rig.lab, |_| {
        let mut sent = traffic::ask(Ends::v4((left, 0), (right, 0), 53), 30, 5, 40, 300)?;
        sent.add(traffic::ask(Ends::v6((left, 1), (right, 1), 54), 30, 3, 40, 1_200)?);
        sent.add(traffic::short(Ends::v4((left, 0), (right, 0), 80), 5, 100, 30_000)?);
        sent.add(traffic::ping(Ends::v4((left, 2), (right, 2), 0), 7, 56)?);
        Ok(sent)
    })?;
    for port in [53, 54, 80] {
        let (key, count) = some_flow(&counts, port);
        has(&status.find(&name(&key))?, "kernel", count)?;
        has(&status.find(&name(&backward(&key)))?, "kernel", count)?;
        let other = Key { source_port: key.source_port ^ 1, ..key };
        let is_none = |key: &Key| !counts.0.by_key().contains_key(key);
        if is_none(&other) && is_none(&backward(&other)) {
            assert_eq!(level(&status.find(&name(&other))?, "kernel")["found"], false);
        }
    }
    // Requests and answers are entries of their own here, of 7 packets each at each end.
    let ping = format!("icmp,{},{}", left.v4(2), right.v4(2));
    let found = status.find(&ping)?;
    assert_eq!(level(&found, "kernel")["packets"], 28, "{found:#}");
    let explained = text(&status.command(&["explain", &ping])?);
    for words in ["kernel (", "found: 28 packets", "veth-left", "What may be missing of it:"] {
        assert!(explained.contains(words), "{words}:\n{explained}");
    }
    agent.stop()?;
    rig::exact(&rig.lab, rig.store.url(), &counts)
}

#[test]
fn a_flow_is_in_the_cache_after_a_drain_and_in_the_store_after_it_ended() -> Result<()> {
    let rig = Rig::new()?;
    let (agent, status) = agent(&rig, &["--drain-interval", "100", "--idle-timeout", "60"])?;
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    let counts = rig::tally(&rig.lab, |_| {
        let mut sent = traffic::ask(Ends::v4((left, 0), (right, 0), 53), 30, 5, 40, 300)?;
        sent.add(traffic::ask(Ends::v6((left, 1), (right, 1), 54), 30, 3, 40, 1_200)?);
        sent.add(traffic::ping(Ends::v4((left, 2), (right, 2), 0), 7, 56)?);
        Ok(sent)
    })?;
    for port in [53, 54] {
        let (key, count) = some_flow(&counts, port);
        // It may be on its way from the kernel, for a moment.
        let find = || status.find(&name(&key));
        let found = until(find, |found| has(found, "cache", count).is_ok())?;
        has(&found, "cache", count)?;
        has(&status.find(&name(&backward(&key)))?, "cache", count)?;
        // Its end: here because somebody wants it so.
        let done = status.invalidate(&json!({ "key": name(&key), "mode": "hard" }))?;
        assert_eq!(done, json!({ "mode": "hard", "flows": 2, "packets": count.packets }));
        // What the store has waits for its answer, for a moment.
        let found = until(find, |found| has(found, "store", count).is_ok())?;
        let reason = &level(&found, "store")["flows"][0]["flow_end_reason"];
        assert_eq!(reason, "forced_end");
        let explained = text(&status.command(&["explain", &name(&key)])?);
        assert!(explained.contains("store (ClickHouse"), "{explained}");
        assert!(explained.contains(", forced_end\n"), "{explained}");
    }
    let ping = format!("icmp,{},{}", right.v4(2), left.v4(2));
    let found = status.find(&ping)?;
    assert_eq!(level(&found, "cache")["packets"], 28, "{found:#}");
    agent.stop()?;
    rig::exact(&rig.lab, rig.store.url(), &counts)
}

#[test]
fn a_flow_waits_in_the_spool_while_the_store_hangs() -> Result<()> {
    let rig = Rig::new()?;
    let more = ["--drain-interval", "100", "--idle-timeout", "60"];
    let (agent, status) = agent(&rig, &more)?;
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    let counts = rig::tally(&rig.lab, |_| {
        traffic::ask(Ends::v4((left, 0), (right, 0), 53), 30, 5, 40, 300)
    })?;
    let (key, count) = some_flow(&counts, 53);
    let find = || status.json(&format!("/api/v1/flows?store=false&key={}", name(&key)));
    until(find, |found| level(found, "cache")["packets"] == count.packets)?;
    rig.store.signal(rustix::process::Signal::STOP);
    status.invalidate(&json!({ "key": name(&key), "mode": "hard" }))?;
    let found = until(find, |found| level(found, "spool")["found"] == true)?;
    assert_eq!(level(&found, "spool")["packets"], count.packets, "{found:#}");
    assert_eq!(level(&found, "cache")["found"], false);
    assert_eq!(level(&found, "store"), &Value::Null);
    rig.store.signal(rustix::process::Signal::CONT);
    until(find, |found| level(found, "spool")["found"] == false)?;
    until(|| status.find(&name(&key)), |found| has(found, "store", count).is_ok())?;
    agent.stop()?;
    rig::exact(&rig.lab, rig.store.url(), &counts)
}

#[test]
fn explain_says_why_a_flow_is_not_there() -> Result<()> {
    let rig = Rig::new()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("agent.toml");
    std::fs::write(
        &file,
        "[filter]\nexclude_ports = [514]\nexclude = [\"10.77.1.3\"]\n\
         include_protocols = [\"tcp\", \"udp\"]\n[status]\nlisten = \"127.0.0.1:0\"\n",
    )?;
    let path = file.display().to_string();
    let agent = rig.agent_with(("tc", "tc"), &["--config", &path, "--drain-interval", "100"])?;
    let status = Status::of(&agent)?;
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    let (counts, _) = rig::tally(&rig.lab, |_| {
        let mut sent = traffic::stream(Ends::v4((left, 0), (right, 0), 514), 20, 100)?;
        sent.add(traffic::stream(Ends::v4((left, 2), (right, 0), 53), 20, 100)?);
        Ok(sent)
    })?;
    let explain = |flow: &str| -> Result<String> { Ok(text(&status.command(&["explain", flow])?)) };
    until(
        || status.metrics(),
        |metrics| {
            let filtered = metrics.iter().filter(|(name, _)| name.contains("reason=\"filtered\""));
            filtered
                .filter(|(name, _)| name.contains("packets"))
                .map(|(_, value)| value)
                .sum::<f64>()
                >= 80.0
        },
    )?;
    for (port, words) in
        [(514, "the filters leave out its ports"), (53, "the filters leave out its addresses")]
    {
        let key = counts.by_key().into_keys().find(|key| key.destination_port == port);
        let explained = explain(&name(&key.context("it was sent")?))?;
        let metered = format!("{}/veth-left", left.namespace.name());
        let filtered = "packets since the start were not metered, reason filtered";
        for words in ["Not found. It may be missing because:", words, &metered, filtered] {
            assert!(explained.contains(words), "{words}:\n{explained}");
        }
    }
    let explained = explain("gre,10.77.1.1,10.77.2.1")?;
    assert!(explained.contains("the filters leave out its protocol"), "{explained}");
    assert!(!explained.contains("leave out its ports"), "{explained}");
    let bad = sentence(&status.command(&["explain", "tcp,10.0.0.1"])?, 2);
    assert!(bad.contains("write PROTOCOL,END,END"), "{bad}");
    agent.stop()?;
    Ok(())
}

#[test]
fn explain_knows_which_flows_are_in_the_sample() -> Result<()> {
    let rig = Rig::new()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("agent.toml");
    std::fs::write(&file, "[sampling]\nmode = \"flow\"\nrate = 3\n")?;
    let path = file.display().to_string();
    let (agent, status) = agent(&rig, &["--config", &path, "--drain-interval", "100"])?;
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    let (counts, _) = rig::tally(&rig.lab, |_| {
        let mut sent = traffic::ask(Ends::v4((left, 0), (right, 0), 53), 40, 1, 40, 300)?;
        sent.add(traffic::ask(Ends::v6((right, 1), (left, 1), 54), 40, 1, 40, 300)?);
        Ok(sent)
    })?;
    let mut said = Vec::new();
    for key in counts.by_key().into_keys() {
        let found = status.json(&format!(
            "/api/v1/flows?store=false&key={}",
            name(&key).replace('[', "%5B").replace(']', "%5D")
        ))?;
        let reasons = found["reasons"].to_string();
        said.push((key, !reasons.contains("it is not in the sample: 1 in 3 flows is metered")));
    }
    agent.stop()?;
    let stored = rows::flows(rig.store.url(), left.interface)?;
    assert!(said.len() >= 160, "{}", said.len());
    for (key, in_sample) in &said {
        assert_eq!(stored.contains_key(key), *in_sample, "{key:?}");
    }
    let in_sample = said.iter().filter(|(_, in_sample)| *in_sample).count();
    assert!(in_sample > 0 && in_sample < said.len(), "{in_sample} of {}", said.len());
    Ok(())
}

/// An agent for which another folder is the one of control groups.
fn in_made_group(folder: &Path) -> Result<PathBuf> {
    let script = folder.join("agent");
    let group = folder.join("group");
    std::fs::create_dir_all(&group)?;
    let text = format!(
        "#!/bin/sh\nexec unshare --mount --propagation private sh -c \
         'mount --bind {} /sys/fs/cgroup && exec \"$0\" \"$@\"' '{}' \"$@\"\n",
        group.display(),
        flow_agent().display()
    );
    std::fs::write(&script, text)?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

#[test]
fn a_short_memory_makes_the_cache_smaller_and_loses_no_packet() -> Result<()> {
    let rig = Rig::new()?;
    let folder = tempfile::tempdir()?;
    let binary = in_made_group(folder.path())?;
    let group =
        |name: &str, text: &str| std::fs::write(folder.path().join("group").join(name), text);
    group("memory.max", "1000000\n")?;
    group("memory.high", "max\n")?;
    group("memory.current", "500000\n")?;
    group("memory.stat", "inactive_file 100000\n")?;
    let file = folder.path().join("agent.toml");
    std::fs::write(&file, "max_flows = 1000\n[memory]\nfloor_flows = 100\n")?;
    let path = file.display().to_string();
    let more = ["--config", &path, "--drain-interval", "100", "--idle-timeout", "60"];
    let more = [&ANY_PORT[..], &more].concat();
    let agent = rig::agent_of(&binary, &rig.lab, ("tc", "tc"), rig.store.url(), &more)?;
    let status = Status::of(&agent)?;
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    let counts = rig::tally(&rig.lab, |_| {
        traffic::ask(Ends::v4((left, 0), (right, 0), 53), 200, 2, 40, 300)
    })?;
    let metrics = until(|| status.metrics(), |metrics| metrics["flow_agent_cache_flows"] == 400.0)?;
    assert_eq!(metrics["flow_agent_memory_shrinks_total"], 0.0);
    assert_eq!(metrics["flow_agent_memory_used_bytes{source=\"cgroup\"}"], 400_000.0);
    assert_eq!(metrics["flow_agent_memory_limit_bytes{source=\"cgroup\"}"], 1_000_000.0);
    group("memory.current", "1100000\n")?;
    let shrunk = |metrics: &flow_tests::status::Samples| {
        metrics["flow_agent_memory_shrinks_total"] >= 1.0
            && metrics["flow_agent_cache_flows"] <= 300.0
    };
    let metrics = until(|| status.metrics(), shrunk)?;
    assert!(metrics["flow_agent_cache_limit_flows"] <= 300.0);
    assert_eq!(metrics["flow_agent_cache_configured_flows"], 1_000.0);
    assert!(agent.log().contains("memory is short: 0 of 0 MiB in use (cgroup)"), "{}", agent.log());
    let memory = &status.json("/api/v1/status")?["memory"];
    assert_eq!(memory["configured_flows"], 1_000);
    agent.stop()?;
    let evicted = sql::number(
        rig.store.url(),
        "SELECT count() FROM flow.flows WHERE flow_end_reason = 'lack_of_resources'",
    )?;
    assert!(evicted >= 100, "{evicted}");
    rig::exact(&rig.lab, rig.store.url(), &counts)
}

#[test]
fn the_metrics_are_the_ledger_and_every_one_is_described() -> Result<()> {
    let rig = Rig::new()?;
    let (agent, status) = agent(&rig, &["--drain-interval", "100", "--idle-timeout", "1"])?;
    assert_eq!(status.get("/healthz")?.status, 200);
    assert_eq!(status.json("/readyz")?, json!({ "ready": true, "phase": "metering" }));
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    let counts = rig::tally(&rig.lab, |_| {
        let mut sent = traffic::ask(Ends::v4((left, 0), (right, 0), 53), 50, 5, 40, 300)?;
        sent.add(traffic::short(Ends::v6((left, 0), (right, 0), 80), 20, 100, 30_000)?);
        Ok(sent)
    })?;
    let packets = (counts.0.total.packets + counts.1.total.packets) as f64;
    let acknowledged = |metrics: &flow_tests::status::Samples| {
        let all = metrics.iter();
        let all = all.filter(|(name, _)| name.starts_with("flow_agent_acknowledged_packets"));
        all.map(|(_, value)| value).sum::<f64>() >= packets
    };
    let metrics = until(|| status.metrics(), acknowledged)?;
    assert_eq!(metrics["flow_agent_in_flight_packets"], 0.0);
    assert_eq!(metrics["flow_agent_unaccounted_packets"], 0.0);
    assert_eq!(metrics["flow_agent_metered_interfaces"], 2.0);
    let page = status.json("/api/v1/ledger")?;
    let pages = ["status", "cache", "latency", "interfaces"];
    for page in pages {
        assert!(status.json(&format!("/api/v1/{page}"))?.is_object(), "{page}");
    }
    let described = status.metrics_text()?;
    agent.stop()?;
    for side in [left, right] {
        let interface = format!("{}/{}", side.namespace.name(), side.interface);
        let ledger = Ledger::read(rig.store.url(), side.interface)?;
        let of = |metric: &str, unit: &str| {
            let name = format!("flow_agent_{metric}_{unit}_total{{interface=\"{interface}\"}}");
            metrics.get(&name).copied().unwrap_or(0.0)
        };
        for (metric, count) in [
            ("seen", ledger.seen),
            ("metered", ledger.metered),
            ("drained", ledger.drained),
            ("acknowledged", ledger.acknowledged),
        ] {
            assert_eq!(of(metric, "packets"), count.packets as f64, "{metric} {ledger:?}");
            assert_eq!(of(metric, "bytes"), count.octets as f64, "{metric} {ledger:?}");
            assert_eq!(page["interfaces"][&interface][metric]["packets"], count.packets);
            assert_eq!(page["interfaces"][&interface][metric]["octets"], count.octets);
        }
        assert_eq!(ledger.metered.packets, ledger.acknowledged.packets);
    }
    // Each metric is described, whether it has samples or not, and nothing else is written.
    assert!(described.ends_with("# EOF\n"));
    let word = |line: &str, at: usize| line.split(' ').nth(at).unwrap_or_default().to_owned();
    let lines = |begin: &str| -> Vec<String> {
        let begun = described.lines().filter(|line| line.starts_with(begin));
        begun.map(|line| word(line, 2)).collect()
    };
    let families: BTreeSet<_> = METRICS
        .iter()
        .map(|metric| {
            let name = metric.full_name();
            let name = name.strip_suffix("_total").or(name.strip_suffix("_info"));
            name.map_or_else(|| metric.full_name(), ToOwned::to_owned)
        })
        .collect();
    for begin in ["# HELP ", "# TYPE "] {
        let written = lines(begin);
        assert_eq!(written.len(), METRICS.len(), "{begin}");
        assert_eq!(written.into_iter().collect::<BTreeSet<_>>(), families, "{begin}");
    }
    let units = METRICS.iter().filter(|metric| !metric.unit.is_empty()).count();
    assert_eq!(lines("# UNIT ").len(), units);
    for sample in metrics.keys() {
        let name = sample.split('{').next().unwrap_or_default();
        let known = families.iter().any(|family| {
            name.strip_prefix(family.as_str()).is_some_and(|suffix| {
                ["", "_total", "_info", "_sum", "_count", "_bucket"].contains(&suffix)
            })
        });
        assert!(known, "{sample}");
    }
    Ok(())
}

#[test]
fn invalidation_by_every_selection_keeps_every_packet() -> Result<()> {
    let rig = Rig::new()?;
    let (agent, status) = agent(&rig, &["--drain-interval", "50", "--idle-timeout", "60"])?;
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    let interface = format!("{}/{}", left.namespace.name(), left.interface);
    let ping = format!("icmp,{},{}", left.v4(0), right.v4(0));
    let version = env!("CARGO_PKG_VERSION");
    let selections = [
        json!({ "key": ping }),
        json!({ "prefix": "10.77.2.0/24" }),
        json!({ "prefix": "fd00:77::/64" }),
        json!({ "interface": interface }),
        json!({ "version": version }),
        json!({ "all": true }),
    ];
    let counts = rig::tally(&rig.lab, |_| {
        std::thread::scope(|scope| {
            let (stop, stopped) = std::sync::mpsc::channel::<()>();
            let background = scope.spawn(move || -> Result<traffic::Sent> {
                let mut sent = traffic::Sent::default();
                while stopped.try_recv().is_err() {
                    let (four, six) =
                        (Ends::v4((left, 0), (right, 0), 53), Ends::v6((right, 1), (left, 1), 443));
                    sent.add(traffic::ask(four, 5, 4, 40, 300)?);
                    sent.add(traffic::short(six, 3, 100, 20_000)?);
                    sent.add(traffic::ping(Ends::v4((left, 0), (right, 0), 0), 3, 56)?);
                }
                Ok(sent)
            });
            let work = || -> Result<()> {
                for mode in ["soft", "hard", "soft", "hard"] {
                    for selection in &selections {
                        let mut order = selection.clone();
                        order["mode"] = mode.into();
                        // Until there was something to emit.
                        let emitted = |done: &Value| done["packets"] != 0 && done["flows"] != 0;
                        until(|| status.invalidate(&order), emitted)?;
                    }
                }
                // By the command, too.
                let done = text(&status.command(&["cache", "invalidate", "--all", "--hard"])?);
                ensure!(done.ends_with("packets, and removed\n"), "{done}");
                let by = ["cache", "invalidate", "--interface", &interface];
                ensure!(text(&status.command(&by)?).ends_with("and kept\n"), "{done}");
                Ok(())
            };
            let worked = work();
            let _ = stop.send(()); // it may have failed and gone
            let sent = background.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
            worked.map(|()| sent)
        })
    })?;
    assert_eq!(status.invalidate(&json!({ "version": "0.0.0-none" }))?["flows"], 0);
    let stats = text(&status.command(&["cache", "stats"])?);
    assert!(stats.contains("invalidated_hard") && stats.contains("hit ratio"), "{stats}");
    let stats: Value =
        serde_json::from_slice(&status.command(&["cache", "stats", "--json"])?.stdout)?;
    for count in ["invalidated_soft", "invalidated_hard", "hits", "misses"] {
        assert!(stats["counts"][count].as_u64() > Some(0), "{count}: {stats:#}");
    }
    agent.stop()?;
    // One ping is one flow: it has several records because it was emitted and kept.
    let rows = sql::number(
        rig.store.url(),
        "SELECT count() FROM flow.flows WHERE protocol = 1 AND endsWith(interface, 'veth-left')",
    )?;
    assert!(rows >= 4, "{rows}");
    rig::exact(&rig.lab, rig.store.url(), &counts)?;
    assert!(!rows::flows(rig.store.url(), left.interface)?.is_empty());
    Ok(())
}

#[test]
fn bad_clients_are_refused_and_hinder_nobody() -> Result<()> {
    let lab = Lab::new()?;
    let store = flow_tests::store::Store::start();
    let agent = rig::agent(&lab, ("tc", "tc"), store.url(), &ANY_PORT)?;
    let status = Status::of(&agent)?;
    let url = status.url();
    let json_type = ("Content-Type", "application/json");
    let invalidate = "/api/v1/cache/invalidate";
    let large = vec![b' '; 20 << 10];
    for (method, target, headers, body, code, words) in [
        ("POST", "/metrics", &[][..], &b""[..], 405, "it takes GET, HEAD"),
        ("DELETE", "/api/v1/flows", &[], b"", 405, "does not take DELETE"),
        ("GET", invalidate, &[], b"", 405, "it takes POST"),
        ("OPTIONS", invalidate, &[], b"", 405, "it takes POST"),
        ("GET", "/", &[], b"", 404, "there is no page /; there are /healthz"),
        ("GET", "/api/v1/flows/../status", &[], b"", 404, "there is no page"),
        ("GET", "/api/v1/flows", &[], b"", 400, "the key is missing"),
        ("GET", "/api/v1/flows?key=tcp", &[], b"", 400, "write PROTOCOL,END,END"),
        ("GET", "/api/v1/flows?kee=tcp", &[], b"", 400, "there are key, store"),
        ("GET", "/metrics?key=tcp", &[], b"", 400, "there are none"),
        ("POST", invalidate, &[], b"{\"all\":true}", 415, "must be application/json"),
        ("POST", invalidate, &[json_type], b"{}", 400, "exactly one of"),
        ("POST", invalidate, &[json_type], b"{", 400, "no order to invalidate"),
        ("POST", invalidate, &[json_type], &large, 413, "larger than"),
    ] {
        let answer = raw_http::send(url, method, target, headers, body);
        assert_eq!(answer.status, code, "{method} {target}: {}", answer.text());
        let page: Value = serde_json::from_str(&answer.text())?;
        let error = page["error"].as_str().unwrap_or_default();
        assert!(error.contains(words), "{method} {target}: {page}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("allow").is_some(), code == 405, "{}", answer.head);
    }
    let answer = raw_http::send(url, "HEAD", "/metrics", &[], b"");
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    // Another name for this host, as a web page in its browser would use.
    let mut stream = raw_http::connect(url);
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: example.org\r\n\r\n")?;
    assert_eq!(raw_http::read_answer(stream)?.status, 421);
    // Heads that are too large or have too many headers.
    let long = "x".repeat(40 << 10);
    assert_refused(url, &format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"))?;
    assert_refused(url, &format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n"))?;
    let many = "X: y\r\n".repeat(1_000);
    assert_refused(url, &format!("GET / HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"))?;
    for garbage in ["\r\n\r\n\r\n", "\0\u{1}\u{2}\r\n\r\n", "GET\r\n\r\n"] {
        assert_refused(url, garbage)?;
    }
    // A body that never comes, and heads that come slowly.
    let mut slow = Vec::new();
    for request in [
        format!(
            "POST {invalidate} HTTP/1.1\r\nHost: localhost\r\nContent-Type: \
                 application/json\r\nContent-Length: 100\r\n\r\n{{"
        ),
        "GET /metrics HTT".into(),
    ] {
        let mut stream = raw_http::connect(url);
        stream.write_all(request.as_bytes())?;
        slow.push(stream);
    }
    // More clients than there are places, that say nothing; who asks is answered nevertheless.
    let idle: Vec<_> = (0..500).map(|_| TcpStream::connect(status.address())).collect();
    assert!(idle.iter().all(Result::is_ok), "the listener takes them");
    assert_eq!(status.json("/readyz")?["ready"], true);
    let answer = raw_http::read_answer(slow.remove(0))?;
    assert_eq!(answer.status, 408, "{}", answer.text());
    let mut rest = Vec::new();
    // Cut off without an answer, or with one that says so.
    let _ = slow.remove(0).read_to_end(&mut rest);
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 4"), "{rest:?}");
    drop(idle);
    // And 500 that ask, all at once.
    let answers = std::thread::scope(|scope| {
        let asking: Vec<_> =
            (0..500).map(|_| scope.spawn(|| status.get("/api/v1/status"))).collect();
        asking.into_iter().map(|asking| asking.join().expect("no panic")).collect::<Vec<_>>()
    });
    for answer in answers {
        assert_eq!(answer?.status, 200);
    }
    let counts = rig::tally(&lab, |lab| {
        traffic::ask(Ends::v4((&lab.left, 0), (&lab.right, 0), 53), 50, 2, 100, 100)
    })?;
    agent.stop()?;
    rig::exact(&lab, store.url(), &counts)
}

/// The connection ends, with an answer that is an error or without one.
fn assert_refused(url: &str, request: &str) -> Result<()> {
    let mut stream = raw_http::connect(url);
    // The server may have cut the connection before everything was sent.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let refused = answer.is_empty() || answer.starts_with(b"HTTP/1.1 4");
    ensure!(refused, "{}: {}", &request[..request.len().min(60)], String::from_utf8_lossy(&answer));
    Ok(())
}

#[test]
fn an_address_that_cannot_be_had_is_told_and_the_default_one_is_not_needed() -> Result<()> {
    let run = |arguments: &[&str]| -> Result<Output> {
        let mut command = Command::new(flow_agent());
        command.arg("run").args(["--interface", "lo", "--pin-dir", ""]).args(arguments);
        Ok(command.output()?)
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let words = sentence(&run(&["--status", &address])?, 1);
    assert!(words.contains(&format!("cannot be served at {address}: the address is in use")));
    for (address, words) in [
        ("0.0.0.0:9469", "for this host alone"),
        ("192.0.2.1:9469", "for this host alone"),
        ("localhost", "IP:PORT on this host"),
    ] {
        let error = sentence(&run(&["--status", address])?, 2);
        assert!(error.contains("--status is") && error.contains(words), "{error}");
    }
    let lab = Lab::new()?;
    let store = flow_tests::store::Store::start();
    // Whoever has the port: this test or another agent.
    let default = std::net::TcpListener::bind("127.0.0.1:9469");
    let busy = rig::agent(&lab, ("tc", "tc"), store.url(), &[])?;
    assert!(busy.log().contains("127.0.0.1:9469: the address is in use"), "{}", busy.log());
    assert!(busy.log().contains("this agent goes on without"), "{}", busy.log());
    busy.stop()?;
    drop(default);
    let off = rig::agent(&lab, ("tc", "tc"), store.url(), &["--status", ""])?;
    assert!(!off.log().contains("status is at"), "{}", off.log());
    off.stop()?;
    Ok(())
}

#[test]
fn commands_without_an_agent_say_so() -> Result<()> {
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let nobody = Status::at(&format!("http://{free}"));
    for arguments in [
        &["cache", "stats"][..],
        &["cache", "invalidate", "--all"],
        &["explain", "tcp,10.0.0.1:1,10.0.0.2:2"],
    ] {
        let words = sentence(&nobody.command(arguments)?, 1);
        assert!(words.contains(&format!("no flow-agent answers at {free}")), "{words}");
    }
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("agent.toml");
    let path = file.display().to_string();
    let stats = || Command::new(flow_agent()).args(["cache", "stats", "--config", &path]).output();
    std::fs::write(&file, format!("[status]\nlisten = \"{free}\"\n"))?;
    assert!(sentence(&stats()?, 1).contains(&free.to_string()));
    std::fs::write(&file, "[status]\nlisten = \"\"\n")?;
    assert!(sentence(&stats()?, 2).contains("switches the status off"));
    // What answers is something else.
    let other = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = other.local_addr()?;
    let answering = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = other.accept()?;
        let mut request = [0; 16];
        stream.read_exact(&mut request)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    });
    let words =
        sentence(&Status::at(&format!("http://{address}")).command(&["cache", "stats"])?, 1);
    assert!(words.contains("is no flow-agent of this version"), "{words}");
    answering.join().expect("no panic")?;
    let usage = Command::new(flow_agent()).args(["cache", "invalidate"]).output()?;
    assert_eq!(usage.status.code(), Some(2));
    Ok(())
}
