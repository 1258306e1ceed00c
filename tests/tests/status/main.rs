//! The status of the running agent on real traffic: look-up of flows on every level, metrics,
//! invalidation, memory pressure. Needs root, the agent's binary and libchdb.

mod explain;
mod invalidation;
mod lookup;
mod memory;
mod metrics;

use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use flow_tests::process::Agent;
use flow_tests::rig::Rig;
use flow_tests::status::{ANY_PORT, Status};

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

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
