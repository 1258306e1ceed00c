//! `flow-agent explain` with flows as people write them: where a flow is, step by step, or the one
//! reason why it is nowhere. Needs root, the agent's binary and libchdb.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flow_tests::process::Agent;
use flow_tests::rig::{self, Rig};
use flow_tests::sql;
use flow_tests::status::{Status, level};
use flow_tests::tally::Key;
use flow_tests::traffic::{self, Ends};
use rustix::process::Signal;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);

fn agent(rig: &Rig, configuration: &str, more: &[&str]) -> Result<(Agent, Status)> {
    let folder = tempfile::tempdir()?;
    let more = [&["--drain-interval", "50"], more].concat();
    rig.agent_configured(folder.path(), configuration, &more)
}

fn explain(status: &Status, flow: &str) -> Result<Value> {
    let output = status.command(&["explain", "--json", flow])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Asks until this is the outcome.
fn until(status: &Status, flow: &str, outcome: &str) -> Result<Value> {
    let started = Instant::now();
    loop {
        let found = explain(status, flow)?;
        if found["outcome"] == outcome {
            return Ok(found);
        }
        ensure!(started.elapsed() < PATIENCE, "{flow} does not become {outcome}: {found:#}");
    }
}

fn step(found: &Value, name: &str) -> String {
    let steps = found["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    let step = steps.iter().find(|step| step["step"] == name);
    step.and_then(|step| step["result"].as_str()).unwrap_or_default().to_owned()
}

/// As people write it, from the side that answers.
fn readable(key: &Key, arrow: &str) -> String {
    let end = |address, port| std::net::SocketAddr::new(address, port);
    let (source, destination) =
        (end(key.source, key.source_port), end(key.destination, key.destination_port));
    format!("udp {destination} {arrow} {source}")
}

#[test]
fn a_flow_is_followed_from_the_hook_to_its_batch() -> Result<()> {
    let rig = Rig::new()?;
    let (agent, status) = agent(&rig, "", &["--idle-timeout", "60"])?;
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    let (counts, _) = rig::tally(&rig.lab, |_| {
        let mut sent = traffic::ask(Ends::v4((left, 0), (right, 0), 53), 3, 5, 40, 300)?;
        sent.add(traffic::ask(Ends::v6((left, 1), (right, 1), 54), 1, 3, 40, 200)?);
        Ok(sent)
    })?;
    let keys: Vec<_> = counts.by_key().into_keys().collect();
    let to_53: Vec<_> = keys.iter().filter(|key| key.destination_port == 53).collect();
    let flow = readable(to_53.first().context("it was sent")?, "->");
    let found = until(&status, &flow, "open")?;
    for end in ["veth-left egress", "veth-right ingress"] {
        assert!(step(&found, "hook").contains(end), "{found:#}");
    }
    assert_eq!(step(&found, "filter"), "passes");
    assert_eq!(step(&found, "sampling"), "every packet is metered");
    // All flows of the pair, and those of one port: three client ports asked five times, at both ends.
    let (a, b) = (left.v4(0), right.v4(0));
    for pair in [format!("udp {a} <-> {b}"), format!("udp {b}:53 <-> {a}")] {
        let packets = |level: &Value| level["packets"].as_u64().unwrap_or_default();
        let started = Instant::now();
        loop {
            let found = explain(&status, &pair)?;
            if packets(level(&found, "cache")) == 60 {
                break;
            }
            ensure!(started.elapsed() < PATIENCE, "{pair}: {found:#}");
        }
    }
    let other = explain(&status, &format!("udp {b}:54 <-> {a}"))?;
    assert_eq!(other["outcome"], "unseen", "no flow of that port: {other:#}");
    let v6 = keys.iter().find(|key| key.destination_port == 54).context("it was sent")?;
    until(&status, &readable(v6, "<->"), "open")?;

    // The store hangs: the flow waits, and that is said.
    rig.store.signal(Signal::STOP);
    status.invalidate(&json!({ "all": true, "mode": "hard" }))?;
    let key = format!("udp,{},{}", right.v4(0), left.v4(0));
    let started = Instant::now();
    while status.json(&format!("/api/v1/flows?store=false&key={key}"))?["outcome"] != "waiting" {
        ensure!(started.elapsed() < PATIENCE, "it does not wait");
    }
    rig.store.signal(Signal::CONT);

    let found = until(&status, &flow, "stored")?;
    let store = level(&found, "store");
    assert_eq!(store["rows"], 2, "one at each end: {found:#}");
    let sql =
        "SELECT DISTINCT toString(batch_id) FROM flow.flows WHERE dst_port = 53 OR src_port = 53";
    let batches = sql::rows(rig.store.url(), sql)?;
    let batches: Vec<_> = batches.into_iter().flatten().collect();
    for batch in store["batches"].as_array().context("batches")? {
        assert!(batches.iter().any(|it| batch == it), "{batch} is none of {batches:?}");
    }
    assert!(found["conclusion"].as_str().is_some_and(|it| it.contains("forced_end")), "{found:#}");
    let pair = explain(&status, &format!("udp {a} <-> {b}"))?;
    assert_eq!(level(&pair, "store")["rows"], 6, "{pair:#}");
    assert_eq!(level(&pair, "store")["packets"], 60, "{pair:#}");
    let text = status.command(&["explain", &flow])?;
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    let second = text.lines().nth(1).unwrap_or_default();
    assert!(second.starts_with("=> stored: it has ended (forced_end)"), "{text}");
    agent.stop()?;
    Ok(())
}

#[test]
fn what_is_left_out_is_told_with_the_rule() -> Result<()> {
    let rig = Rig::new()?;
    let configuration = "[filter]\nexclude_ports = [\"510-520\"]\nexclude = [\"10.77.1.3\"]\n\
        include_protocols = [\"tcp\", \"udp\"]\n[sampling]\nmode = \"flow\"\nrate = 1000000\n";
    let (agent, status) = agent(&rig, configuration, &[])?;
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    let (counts, _) = rig::tally(&rig.lab, |_| {
        let mut sent = traffic::stream(Ends::v4((left, 0), (right, 0), 514), 20, 100)?;
        sent.add(traffic::stream(Ends::v4((left, 2), (right, 0), 53), 20, 100)?);
        sent.add(traffic::stream(Ends::v4((left, 0), (right, 0), 55), 20, 100)?);
        Ok(sent)
    })?;
    for (port, outcome, rule) in [
        (514, "filtered", "exclude_ports has 510-520"),
        (53, "filtered", "exclude has 10.77.1.3/32"),
        (55, "not_sampled", "1 in 1000000 flows"),
    ] {
        let key = counts.by_key().into_keys().find(|key| key.destination_port == port);
        let found = explain(&status, &readable(&key.context("it was sent")?, "->"))?;
        assert_eq!(found["outcome"], outcome, "{found:#}");
        assert!(found["conclusion"].as_str().is_some_and(|it| it.contains(rule)), "{found:#}");
    }
    let found = explain(&status, "icmp 10.77.1.1 -> 10.77.2.1")?;
    assert_eq!(found["outcome"], "filtered", "{found:#}");
    assert!(step(&found, "filter").contains("include_protocols has only 6, 17"), "{found:#}");
    // Interfaces of this host that nobody meters are named.
    let reasons = found["reasons"].as_array().context("reasons")?;
    let not_metered = |it: &Value| {
        it.as_str()
            .and_then(|it| it.split_once("interfaces that are not metered: "))
            .is_some_and(|(_, names)| names.split(", ").any(|name| name == "lo"))
    };
    assert!(reasons.iter().any(not_metered), "{found:#}");
    for bad in ["tcp 10.0.0.1:1 ->", "tcp 10.0.0.1:1 -> host:2", "tcp 10.0.0.1 -> ::1"] {
        let output = status.command(&["explain", bad])?;
        assert_eq!(output.status.code(), Some(2), "{bad}");
    }
    agent.stop()?;
    Ok(())
}
