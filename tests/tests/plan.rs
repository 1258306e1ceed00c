//! `flow-agent plan` against what really happens: a real agent, real traffic, the real store.
//! Needs root, the agent's binary and libchdb.

use std::collections::BTreeSet;
use std::process::{Command, Output};

use anyhow::{Result, ensure};
use flow_tests::bin_path::flow_agent;
use flow_tests::rig::{self, Rig};
use flow_tests::sql;
use flow_tests::tally::{Counts, Key};
use flow_tests::traffic::{self, Ends, Sent};
use flow_tests::wild::Dice;
use serde_json::Value;

/// Octets a row on disk may be so many times more or less than the plan says: a small run has
/// other flows, in a smaller part, than what was measured.
const DISK_FACTOR: f64 = 2.0;

fn run(arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(flow_agent()).arg("plan").args(arguments).output()?)
}

fn plan(arguments: &[&str]) -> Result<Value> {
    let output = run(&[arguments, &["--json"]].concat())?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn figure(plan: &Value, name: &str) -> f64 {
    let lists = ["host", "store"].into_iter().filter_map(|list| plan[list].as_array());
    let found = lists.flatten().find(|figure| figure["name"] == name);
    found.and_then(|figure| figure["value"].as_f64()).unwrap_or_else(|| panic!("no {name}: {plan}"))
}

/// Flows on a wire, both directions as one: a port that is given out again is no other flow.
fn flows_of(counts: &Counts) -> usize {
    let both_ways = |key: &Key| {
        let (from, to) = ((key.source, key.source_port), (key.destination, key.destination_port));
        (key.protocol, from.min(to), from.max(to))
    };
    counts.by_key().keys().map(both_ways).collect::<BTreeSet<_>>().len()
}

#[test]
fn the_model_agrees_with_a_small_run() -> Result<()> {
    /// Conversations of the same size; what is measured has others, too.
    const ALIKE: u64 = 4;
    let rig = Rig::new()?;
    let agent = rig.agent(("tc", "tc"))?;
    let counts = rig::tally(&rig.lab, |lab| {
        let (mut sent, mut dice) = (Sent::default(), Dice::new(7));
        for turn in 0..240_u8 {
            let port = [53, 80, 123, 443, 5432, 8080, 8443, 9090][usize::from(turn % 8)];
            let ends = Ends::v4((&lab.left, turn / 8), (&lab.right, turn / 32), port);
            let (request, answer) = (20 + dice.below(1400), 20 + dice.below(1400));
            let rounds = 1 + dice.below(5) as u64;
            sent.add(match turn % 2 {
                0 => traffic::ask(ends, ALIKE, rounds, request, answer)?,
                _ => traffic::short(ends, ALIKE, request as u64, answer as u64 * rounds)?,
            });
        }
        Ok(sent)
    })?;
    agent.stop()?;
    let store = rig.store.url();
    // A "second" in which all of it happened, on two interfaces; kept for one day.
    let packets = (counts.0.total.packets + counts.1.total.packets).to_string();
    let flows = (flows_of(&counts.0) + flows_of(&counts.1)).to_string();
    let load = ["--hosts", "1", "--packets-per-second", &packets, "--flows-per-second", &flows];
    let kept = ["--retention-days", "2", "--retention-1m-days", "2", "--retention-1h-days", "2"];
    let model = plan(&[&load[..], &kept].concat())?;
    let seconds = 2.0 * 86_400.0;

    let rows = sql::number(store, "SELECT count() FROM flow.flows")? as f64;
    let planned = figure(&model, "rows_per_second");
    // Flows that a drain or timeout has cut are two rows; the traffic takes less than either.
    ensure!(rows >= planned && rows <= planned * 1.05, "{rows} rows, {planned} planned");
    sql::text(store, "OPTIMIZE TABLE flow.flows FINAL")?;
    let octets = |table: &str| {
        sql::number(
            store,
            &format!(
                "SELECT sum(bytes_on_disk) FROM system.parts \
                 WHERE active AND database = 'flow' AND table = '{table}'"
            ),
        )
    };
    let disk = octets("flows")? as f64;
    let planned = figure(&model, "disk_flows") / seconds;
    println!("{disk} octets of {rows} rows on disk, {planned} planned");
    let near = disk <= planned * DISK_FACTOR && disk >= planned / DISK_FACTOR;
    ensure!(near, "{disk} octets on disk, {planned} planned");
    // Rollups have no more rows than flows, with fewer columns: cheaper than flows.
    ensure!(octets("flows_1m")? as f64 <= disk * DISK_FACTOR);
    Ok(())
}

#[test]
fn figures_grow_with_the_load_and_name_what_they_rest_on() -> Result<()> {
    let with = |hosts: &str, flows: &str, days: &str| {
        plan(&[
            "--hosts",
            hosts,
            "--packets-per-second",
            "20000",
            "--flows-per-second",
            flows,
            "--retention-days",
            days,
        ])
    };
    let (one, hosts) = (with("100", "50", "15")?, with("200", "50", "15")?);
    let (flows, days) = (with("100", "100", "15")?, with("100", "50", "30")?);
    for name in ["disk_flows", "disk_rollups", "rows_per_second", "clickhouse_cores"] {
        assert!((figure(&hosts, name) / figure(&one, name) - 2.0).abs() < 1e-9, "{name}");
        assert!((figure(&flows, name) / figure(&one, name) - 2.0).abs() < 1e-9, "{name}");
    }
    assert!((figure(&days, "disk_flows") / figure(&one, "disk_flows") - 2.0).abs() < 1e-9);
    let costs = one["costs"].as_array().cloned().unwrap_or_default();
    for figure in ["host", "store"].into_iter().flat_map(|list| one[list].as_array().unwrap()) {
        for name in figure["rests_on"].as_array().unwrap() {
            let cost = costs.iter().find(|cost| cost["name"] == *name);
            let by = cost.and_then(|cost| cost["measured_by"].as_str());
            assert!(by.is_some_and(|by| by.len() > 10), "{figure}");
        }
    }
    let load = ["--hosts", "10", "--packets-per-second", "5e4", "--flows-per-second", "50"];
    let output = run(&load)?;
    let text = String::from_utf8(output.stdout)?;
    for words in ["disk flows", "clickhouse cores", "flow-agent bench kernel", "Not counted"] {
        assert!(text.contains(words), "no {words}: {text}");
    }
    for (hosts, packets, words) in
        [("0", "1", "1..="), ("1", "-1", "number"), ("1", "many", "number")]
    {
        let packets = format!("--packets-per-second={packets}");
        let output = run(&["--hosts", hosts, &packets, "--flows-per-second", "1"])?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(words), "{said}");
    }
    Ok(())
}
