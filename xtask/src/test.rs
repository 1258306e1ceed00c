//! `cargo xtask test`: everything CI runs, each step with its duration.
//!
//! One profile (dev, with optimised dependencies) and one feature set, so that
//! nothing is compiled twice; only the replay-only check has features of its own.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::setup::{self, For, Tools};
use crate::{build, command, deny, guard};

/// Members that are tested: not flow-ebpf, which only compiles for the BPF target.
const HOST: [&str; 3] = ["--workspace", "--exclude", "flow-ebpf"];

/// Every test program runs, whatever failed before it.
const TEST: [&str; 2] = ["test", "--no-fail-fast"];

/// What `--long` sets, unless it is set already: sizes of tests that can run for any time.
const LONG: [(&str, &str); 7] = [
    ("FLOW_DIFFERENTIAL_PACKETS", "20000000"),
    ("FLOW_EXACTNESS_PACKETS", "1000000000"),
    ("FLOW_FLOOD_PACKETS", "4000000"),
    ("FLOW_ANALYTICS_RECORDS", "10000000"),
    ("FLOW_FAULTS", "1000"),
    ("FLOW_FAULT_SCHEDULES", "200"),
    ("FLOW_OUTAGE_SECONDS", "600"),
];

/// Runs all of it, or only the tests whose names contain `filter`.
pub fn run(filter: Option<&str>, long: bool) -> Result<ExitCode> {
    needs_root()?;
    let mut steps = Steps::new(setup::run(For::Test)?);
    if filter.is_none() {
        lints(&mut steps);
    }
    // The agent that the integration tests drive, built as they are built.
    if !steps.cargo("build", &words(&["build"], &["--bins"]), |_| {}) {
        return Ok(steps.summary());
    }
    let agent = build::target_dir().join("debug/flow-agent");
    if filter.is_none() {
        steps.own("guard", |tools| guard::run(tools, false));
    }
    let names = filter.unwrap_or_default();
    steps.cargo("unit", &words(&TEST, &["--lib", "--bins", "--", names]), |_| {});
    // One test at a time: they meter real traffic, and another test's load would
    // slow the traffic and overflow the tallies.
    let integration = words(&TEST, &["--test", "*", "--", "--test-threads=1", names]);
    steps.cargo("integration", &integration, |cargo| {
        cargo.env("FLOW_AGENT_BIN", &agent);
        for (name, value) in LONG {
            if long && std::env::var_os(name).is_none() {
                cargo.env(name, value);
            }
        }
    });
    if filter.is_none() {
        steps.cargo("doc tests", &words(&["test"], &["--doc"]), |_| {});
        steps.cargo("docs", &words(&["doc"], &["--no-deps"]), |cargo| {
            cargo.env("RUSTDOCFLAGS", "-D warnings");
        });
    }
    Ok(steps.summary())
}

/// An error unless this is root.
pub fn needs_root() -> Result<()> {
    if !command::is_root() {
        bail!(
            "the tests make network namespaces and load eBPF programs, which needs root, and none \
             is skipped: run them as root, for example \
             `sudo -E env PATH=\"$PATH\" cargo xtask test`"
        );
    }
    Ok(())
}

/// A cargo command on the host's packages: always the same selection, so that the
/// features of shared dependencies stay the same and nothing is compiled twice.
pub fn words<'a>(command: &[&'a str], options: &[&'a str]) -> Vec<&'a str> {
    [command, &HOST, options].concat().into_iter().filter(|word| !word.is_empty()).collect()
}

fn lints(steps: &mut Steps) {
    steps.cargo("format", &["fmt", "--all", "--check"], |_| {});
    let clippy = words(&["clippy"], &["--all-targets", "--", "-D", "warnings"]);
    steps.cargo("clippy", &clippy, |_| {});
    let replay_only = ["check", "--package", "flow-agent", "--no-default-features"];
    steps.cargo("replay-only", &replay_only, |_| {});
    steps.own("dependencies", |_| deny::check());
}

/// The steps so far: a failed one does not keep the others from being run.
pub struct Steps {
    tools: Tools,
    done: Vec<(&'static str, bool, Duration)>,
}

impl Steps {
    /// None yet.
    pub fn new(tools: Tools) -> Self {
        Self { tools, done: Vec::new() }
    }

    /// Runs one and says how it went; true if it went well.
    pub fn cargo(
        &mut self,
        name: &'static str,
        words: &[&str],
        prepare: impl FnOnce(&mut Command),
    ) -> bool {
        let mut cargo = command::cargo();
        cargo.args(words);
        self.tools.apply(&mut cargo);
        prepare(&mut cargo);
        println!("== {name}: cargo {}", words.join(" "));
        let started = Instant::now();
        let good = cargo.status().is_ok_and(|status| status.success());
        let took = started.elapsed();
        println!("== {name}: {} in {:.1} s\n", verdict(good), took.as_secs_f64());
        self.done.push((name, good, took));
        good
    }

    /// The same with what this program does itself.
    pub fn own(&mut self, name: &'static str, check: impl FnOnce(&Tools) -> Result<()>) -> bool {
        println!("== {name}");
        let started = Instant::now();
        let checked = check(&self.tools);
        if let Err(error) = &checked {
            println!("{error:#}");
        }
        let (good, took) = (checked.is_ok(), started.elapsed());
        println!("== {name}: {} in {:.1} s\n", verdict(good), took.as_secs_f64());
        self.done.push((name, good, took));
        good
    }

    fn failed(&self) -> bool {
        self.done.iter().any(|(_, good, _)| !good)
    }

    /// Says how all of them went.
    pub fn summary(&self) -> ExitCode {
        println!("== summary");
        for (name, good, took) in &self.done {
            println!("  {name:<12} {:<7} {:>7.1} s", verdict(*good), took.as_secs_f64());
        }
        let total: Duration = self.done.iter().map(|(_, _, took)| *took).sum();
        println!("  {:<12} {:<7} {:>7.1} s", "all", verdict(!self.failed()), total.as_secs_f64());
        if self.failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

fn verdict(good: bool) -> &'static str {
    if good { "ok" } else { "FAILED" }
}
