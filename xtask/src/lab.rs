//! `cargo xtask demo`, `bench-throughput` and `soak`: set up, build, and run a program of
//! `flow-tests` with the agent just built.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::setup::For;
use crate::{build, command};

/// Real traffic, metered into ClickHouse.
pub fn demo() -> Result<ExitCode> {
    run("demo", "flow-demo", For::Build, |demo, agent| demo.arg(agent))
}

/// TCP throughput with and without the agent.
pub fn bench_throughput() -> Result<ExitCode> {
    run("bench-throughput", "flow-throughput", For::Measure, |bench, agent| bench.arg(agent))
}

/// A fixed load amid random faults, for as long as told.
pub fn soak(minutes: u64, seed: u64) -> Result<ExitCode> {
    run("soak", "flow-soak", For::Build, |soak, agent| {
        let (minutes, seed) = (minutes.to_string(), seed.to_string());
        soak.args(["--minutes", &minutes, "--seed", &seed]).env("FLOW_AGENT_BIN", agent)
    })
}

/// Builds all of it, then becomes the program: signals and the exit code are its own.
fn run(
    name: &str,
    program: &str,
    purpose: For,
    prepare: impl for<'a> FnOnce(&'a mut Command, &Path) -> &'a mut Command,
) -> Result<ExitCode> {
    if !command::is_root() {
        bail!(
            "this makes network namespaces and loads eBPF programs, which needs root: \
             run it as root, for example `sudo -E env PATH=\"$PATH\" cargo xtask {name}`"
        );
    }
    let built = build::run(purpose)?;
    println!("building {program} (release)");
    let mut cargo = command::cargo();
    // It shares what `build` has just compiled: the features of common crates are the same.
    cargo.args(["build", "--release", "--package", "flow-tests", "--bin", program]);
    command::run(built.tools.apply(&mut cargo))?;
    let program = build::target_dir().join("release").join(program);
    let mut command = Command::new(&program);
    prepare(&mut command, &built.agent).current_dir(command::workspace());
    // exec returns only if it failed.
    Err(built.tools.apply(&mut command).exec())
        .with_context(|| format!("cannot start {}", program.display()))
}
