//! What a packet costs in the kernel: it is counted when that is asked for, and where it is not,
//! everybody is told how. Needs root, the agent's binary and libchdb.

#![allow(clippy::float_cmp, reason = "samples are whole numbers here")]

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flow_tests::process::Agent;
use flow_tests::rig::{self, Rig};
use flow_tests::status::Status;
use flow_tests::traffic::{self, Ends};
use serde_json::Value;

const SYSCTL: &str = "/proc/sys/kernel/bpf_stats_enabled";
const PATIENCE: Duration = Duration::from_secs(30);

/// The host has one switch.
static ONE: Mutex<()> = Mutex::new(());

/// Sets the host's switch, and back when it is dropped.
struct Switch {
    before: String,
    _one: MutexGuard<'static, ()>,
}

impl Switch {
    fn set(value: &str) -> Result<Self> {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::fs::read_to_string(SYSCTL).context("root, and Linux 5.1")?;
        std::fs::write(SYSCTL, value)?;
        Ok(Self { before, _one: one })
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = std::fs::write(SYSCTL, self.before.trim());
    }
}

fn agent(rig: &Rig, folder: &Path, config: &str) -> Result<(Agent, Status)> {
    rig.agent_configured(folder, &["drain_interval_ms = 100\n", config].concat(), &[])
}

/// Datagrams and echoes: no super-packets, so a run is a packet.
fn talk(rig: &Rig) -> Result<()> {
    rig::tally(&rig.lab, |lab| {
        let mut sent = traffic::ask(Ends::v4((&lab.left, 0), (&lab.right, 0), 53), 30, 5, 40, 300)?;
        sent.add(traffic::ping(Ends::v6((&lab.left, 0), (&lab.right, 0), 0), 9, 56)?);
        Ok(sent)
    })?;
    Ok(())
}

fn programs(status: &Status) -> Result<Value> {
    Ok(status.json("/api/v1/status")?["programs"].take())
}

fn sum(programs: &Value, what: &str) -> u64 {
    let each = programs["each"].as_array().map(Vec::as_slice).unwrap_or_default();
    each.iter().filter_map(|program| program[what].as_u64()).sum()
}

/// Waits until the programs have run as often as the hooks were given packets.
fn agrees_with_the_ledger(agent: &Agent, status: &Status, least: u64, before: u64) -> Result<u64> {
    let mut runs = 0;
    agent.wait_until("a run for each packet that was seen", PATIENCE, || {
        let page = status.json("/api/v1/status")?;
        let seen = page["packets"]["seen"].as_u64().context("a number")?;
        runs = sum(&page["programs"], "runs");
        Ok(seen >= least && seen - before == runs)
    })?;
    Ok(runs)
}

#[test]
fn an_agent_without_capabilities_still_reads_what_a_packet_costs() -> Result<()> {
    let (rig, folder) = (Rig::new()?, tempfile::tempdir()?);
    let _off = Switch::set("0")?;
    let config = "[run]\ncapabilities = \"drop\"\nkernel_statistics = true\n";
    let (agent, status) = agent(&rig, folder.path(), config)?;
    agent.wait_log("capabilities are given up: ", PATIENCE)?;
    talk(&rig)?;
    // Both ends are metered: each packet is seen twice.
    let runs = agrees_with_the_ledger(&agent, &status, 600, 0)?;
    let said = programs(&status)?;
    assert_eq!(said["counted_for"], "agent", "{said}");
    assert_eq!(said["switch_on"], Value::Null, "{said}");
    let time = sum(&said, "run_time_ns");
    let mean = said["ns_per_run"].as_f64().context("a mean")?;
    // Nothing has run since: lately is all there is.
    assert!((mean - time as f64 / runs as f64).abs() < 0.001, "{said}");
    assert!(time > 0 && said["cpu_share"].as_f64().is_some_and(|share| share > 0.0), "{said}");
    for (program, used) in [("tc_ingress", true), ("tc_egress", true), ("xdp_ingress", false)] {
        let each = said["each"].as_array().context("a list")?;
        let it = each.iter().find(|it| it["name"] == program).context(program)?;
        assert_eq!(it["runs"].as_u64() > Some(0), used, "{said}");
    }

    let metrics = status.metrics()?;
    assert_eq!(metrics["flow_agent_kernel_program_statistics"], 1.0);
    let all = |name: &str| -> f64 {
        let of = metrics.iter().filter(|(sample, _)| sample.starts_with(name));
        of.map(|(_, value)| value).sum()
    };
    assert!((all("flow_agent_kernel_program_runs_total") - runs as f64).abs() < 0.5);
    let seconds = all("flow_agent_kernel_program_run_seconds_total");
    assert!((seconds - time as f64 / 1e9).abs() < 1e-6, "{seconds}");

    let top = status.command(&["top", "--once"])?;
    let top = String::from_utf8(top.stdout)?;
    let line = top.lines().find(|line| line.starts_with("kernel ")).context(top.clone())?;
    ensure!(line.contains(" ns a packet, ") && line.ends_with(" % of a CPU"), "{line}");
    agent.stop()?;
    Ok(())
}

#[test]
fn where_it_is_not_counted_doing_what_is_said_counts_it() -> Result<()> {
    let (rig, folder) = (Rig::new()?, tempfile::tempdir()?);
    let _off = Switch::set("0")?;
    let (agent, status) = agent(&rig, folder.path(), "")?;
    talk(&rig)?;
    let seen = |least| -> Result<u64> {
        let mut seen = 0;
        agent.wait_until("all is seen", PATIENCE, || {
            let page = status.json("/api/v1/status")?;
            seen = page["packets"]["seen"].as_u64().context("a number")?;
            Ok(seen >= least)
        })?;
        Ok(seen)
    };
    let uncounted = seen(600)?;
    let said = programs(&status)?;
    for null in ["counted_for", "ns_per_run", "cpu_share"] {
        assert_eq!(said[null], Value::Null, "{said}");
    }
    let how = said["switch_on"].as_str().context("how to have it counted")?;
    let top = String::from_utf8(status.command(&["top", "--once"])?.stdout)?;
    ensure!(top.contains(&format!("kernel time not counted: `{how}` does")), "{top}");
    assert_eq!(status.metrics()?["flow_agent_kernel_program_statistics"], 0.0);

    // `sysctl NAME=VALUE`, as it is said.
    let setting = how.split_whitespace().nth(1).context("NAME=VALUE")?;
    let (name, value) = setting.split_once('=').context("NAME=VALUE")?;
    assert_eq!(Path::new("/proc/sys").join(name.replace('.', "/")), Path::new(SYSCTL));
    std::fs::write(SYSCTL, value)?;
    talk(&rig)?;
    agrees_with_the_ledger(&agent, &status, uncounted + 600, uncounted)?;
    let said = programs(&status)?;
    assert_eq!(said["counted_for"], "sysctl", "{said}");
    assert!(said["ns_per_run"].as_f64().is_some_and(|mean| mean > 0.0), "{said}");
    agent.stop()?;
    Ok(())
}
