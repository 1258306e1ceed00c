//! Load on the real agent (`tests/src/bin/flow-load`): as figures, and as a check of limits.

use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::Value;

use super::results::Figure;
use super::stages::number;
use super::{Run, binaries};
use crate::command;
use crate::setup::{self, For};

/// A shape of load with limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// 100,000 packets a second of 10,000 flows
    Normal,
    /// A million packets a second of 10,000 flows
    Peak,
    /// 100,000 new flows a second
    Stress,
}

/// Arguments of `cargo xtask load`.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// What is sent
    #[arg(value_enum)]
    shape: Shape,
    /// How long it is measured
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Use what target/release holds, instead of building it first
    #[arg(long)]
    no_build: bool,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Puts a load on the agent; fails if that does not keep to the limits of the shape.
pub fn load(arguments: &LoadArgs) -> Result<ExitCode> {
    if !command::is_root() {
        bail!("this loads eBPF programs and makes network namespaces: run it as root");
    }
    let tools = setup::run(For::Build)?;
    let (agent, load) = binaries(&tools, arguments.no_build)?;
    let mut program = Command::new(load);
    let shape = arguments.shape.to_possible_value().context("every shape has a name")?;
    program.arg(agent).arg(shape.get_name()).args(["--seconds", &arguments.seconds.to_string()]);
    program.args(arguments.json.then_some("--json"));
    let status = tools.apply(&mut program).status().context("cannot start flow-load")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is kept of a shape: key, name, unit, goal.
type Kept = (&'static str, &'static str, &'static str, Option<&'static str>);

const ALWAYS: [Kept; 8] = [
    ("packets_per_s", "packets that came", "packets a second", None),
    ("unaccounted", "packets unaccounted for", "packets", Some("0")),
    ("lost", "packets counted as lost", "packets", None),
    (
        "agent_user_percent_per_mpps",
        "agent, user CPU at a million packets a second",
        "% of a core",
        None,
    ),
    ("agent_system_percent", "agent, CPU in the kernel", "% of a core", None),
    ("rows_per_s", "rows", "rows a second", None),
    ("store_percent", "store, CPU", "% of a core", None),
    ("memory_mib", "agent, memory of its own", "MiB", None),
];

/// A shape, more arguments of `flow-load`, what is told of it besides [`ALWAYS`].
type Case = (&'static str, &'static [&'static str], &'static [Kept]);

const CPU_GOAL: Kept = (
    "agent_user_percent_per_mpps",
    "agent, user CPU at a million packets a second",
    "% of a core",
    Some("at most 2"),
);
const LATENCY: [Kept; 5] = [
    ("packet_to_row_p50_s", "last packet to row, median", "s", None),
    ("packet_to_row_p99_s", "last packet to row, p99", "s", None),
    ("linger_to_row_p99_s", "end of linger to row, p99", "s", Some("under 2")),
    ("batch_p99_ms", "of that in a batch, p99", "ms", None),
    ("insert_p99_ms", "of that in the insert, p99", "ms", None),
];

const CASES: [Case; 4] = [
    ("peak", &[], &[CPU_GOAL]),
    (
        "stress",
        &[],
        &[
            ("packets_per_s", "packets that came", "packets a second", Some("100,000 new flows")),
            ("agent_cpu_s_per_million_rows", "agent, CPU", "s a million rows", None),
        ],
    ),
    ("limit", &[], &[]),
    ("latency", &[], &LATENCY),
];

/// The whole agent under each shape.
pub fn pipeline(run: &Run<'_>) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (shape, more, kept) in CASES {
        if run.shape.as_ref().is_some_and(|wanted| wanted != shape) {
            continue;
        }
        let seconds = if run.quick { "3" } else { "10" };
        let words = [&[shape, "--seconds", seconds][..], more].concat();
        let lines: Vec<Value> = (0..run.runs).map(|_| ask(run, &words)).collect::<Result<_>>()?;
        let command = format!("flow-load flow-agent {}", words.join(" "));
        // What has a goal of its own is told once; packets say nothing of connections.
        let of_rows = |key: &str| key == "unaccounted" || key == "rows_per_s";
        let always = ALWAYS.iter().filter(|always| {
            kept.iter().all(|kept| kept.0 != always.0) && (shape != "latency" || of_rows(always.0))
        });
        for (key, name, unit, goal) in always.chain(kept) {
            let runs: Vec<f64> = lines.iter().map(|line| number(&line[*key])).collect();
            let figure =
                Figure::of_runs("pipeline", &format!("{shape}: {name}"), unit, &runs, &command);
            figures.push(goal.map_or(figure.clone(), |goal| figure.with_goal(goal)));
        }
    }
    Ok(figures)
}

/// One run. Whether limits were kept is told by the figures.
fn ask(run: &Run<'_>, words: &[&str]) -> Result<Value> {
    let mut load = Command::new(&run.load);
    load.arg(&run.agent).args(words).arg("--json").stdin(Stdio::null());
    let output = run.tools.apply(&mut load).output().context("cannot start flow-load")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    if !matches!(output.status.code(), Some(0 | 1)) {
        bail!("{} failed ({}): {}", command::shown(&load), output.status, errors.trim());
    }
    for line in errors.lines() {
        println!("  {line}");
    }
    serde_json::from_slice(&output.stdout).context("flow-load said no JSON")
}
