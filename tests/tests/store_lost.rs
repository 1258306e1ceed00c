//! The agent whose embedded store dies and cannot be started for a while: it
//! meters on, says so, and every packet is stored once in the end. Needs root
//! and libchdb (`cargo xtask setup`).

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use flow_tests::faults::{self, Outcome};
use flow_tests::lab::Lab;
use flow_tests::rig;
use flow_tests::status::Status;
use flow_tests::traffic::{self, Ends};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Until the agent has noticed and tried.
const PATIENCE: Duration = Duration::from_mins(1);

/// Kills the process that holds the folder.
fn kill_store(data: &Path) -> Result<()> {
    let pid = fs::read_to_string(data.join("flow-agent.lock"))?;
    let pid = Pid::from_raw(pid.trim().parse()?).context("a process id")?;
    Ok(kill_process(pid, Signal::KILL)?)
}

#[test]
fn the_agent_meters_on_while_its_store_cannot_be_started() -> Result<()> {
    let lab = Lab::new()?;
    let folder = TempDir::with_prefix("flow-lost-")?;
    let data = folder.path().join("data");
    let store = format!("embedded:{}", data.display());
    let agent = rig::agent(&lab, ("xdp", "tc"), &store, &["--status", "127.0.0.1:0"])?;
    let status = Status::of(&agent)?;
    let embedded = || anyhow::Ok(status.json("/api/v1/status")?["embedded_store"].clone());
    assert_eq!(embedded()?["restarts"], 0);
    let counts = rig::tally(&lab, |lab| {
        let (left, right) = (&lab.left, &lab.right);
        let mut sent = traffic::bulk(Ends::v4((left, 0), (right, 0), 5201), 2 << 20, 5 << 20)?;
        // The child refuses the folder of a newer engine each time that it is started.
        let version = data.join("flow-agent.version");
        let good = fs::read_to_string(&version)?;
        fs::write(&version, good.replace("engine 2", "engine 9"))?;
        kill_store(&data)?;
        agent.wait_times("cannot be started again", 2, PATIENCE)?;
        let down = embedded()?;
        assert_eq!((&down["up"], &down["restarts"]), (&false.into(), &0.into()), "{down}");
        sent.add(traffic::short(Ends::v6((right, 1), (left, 1), 443), 50, 500, 5_000)?);
        fs::write(&version, good)?;
        agent.wait_log("the embedded store runs again", PATIENCE)?;
        // And once more, without any hindrance.
        kill_store(&data)?;
        agent.wait_times("the embedded store runs again", 2, PATIENCE)?;
        sent.add(traffic::ask(Ends::v4((left, 2), (right, 2), 53), 50, 2, 40, 300)?);
        while embedded()?["up"] != true {
            thread::yield_now();
        }
        let restarts = embedded()?;
        assert_eq!(restarts["restarts"], 2, "{restarts}");
        let metrics = status.metrics_text()?;
        assert!(metrics.contains("\nflow_agent_embedded_store_restarts_total 2\n"), "{metrics}");
        Ok(sent)
    })?;
    let log = agent.stop()?;
    rig::exact(&lab, &store, &counts).inspect_err(|_| println!("the agent said:\n{log}"))?;
    let sent = counts.0.total.packets + counts.1.total.packets;
    let proof = "restarts in the status: 2; the log: cannot be started again";
    faults::record("engine_killed", proof, Outcome::compare(&store, sent)?)
}
