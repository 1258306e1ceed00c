//! The status of the running agent on real traffic: look-up of flows on every level, metrics,
//! invalidation, memory pressure. Needs root, the agent's binary and libchdb.

#![allow(clippy::float_cmp, reason = "samples are whole numbers here")]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flow_agent::status::metrics::METRICS;
use flow_tests::bin_path::flow_agent;
use flow_tests::ledger::Ledger;
use flow_tests::process::Agent;
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
    for words in ["kernel (", "found: 28 packets", "veth-left", "Packets of it may be missing"] {
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
        assert!(explained.contains("; forced_end\n"), "{explained}");
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
    assert!(said.len() >= 100, "{}", said.len());
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
    // A key for each direction at one end, a flow at each of two ends.
    let flows = counts.0.by_key().len() as f64;
    assert!(flows > 300.0, "{flows}");
    let metrics = until(|| status.metrics(), |metrics| metrics["flow_agent_cache_flows"] == flows)?;
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
    assert!(evicted as f64 >= flows - 300.0, "{evicted} of {flows}");
    rig::exact(&rig.lab, rig.store.url(), &counts)
}

#[test]
fn the_metrics_are_the_ledger_and_every_one_is_described() -> Result<()> {
    let rig = Rig::new()?;
    let (agent, status) = agent(&rig, &["--drain-interval", "100", "--idle-timeout", "1"])?;
    assert_eq!(status.get("/healthz")?.status, 200);
    let ready = json!({ "ready": true, "phase": "metering", "delivery": null });
    assert_eq!(status.json("/readyz")?, ready);
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
    let logged = "hard invalidation of All, asked for at the status address: ";
    agent.wait_log(logged, Duration::from_secs(10))?;
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
