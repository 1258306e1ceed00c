//! A flow is looked up where it is: in the kernel, the cache, the spool, the store.

use anyhow::{Result, ensure};
use flow_tests::rig::{self, Rig};
use flow_tests::status::{level, name};
use flow_tests::tally::{Count, Counts, Key};
use flow_tests::traffic::{self, Ends};
use serde_json::{Value, json};

use super::{agent, text, until};

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
