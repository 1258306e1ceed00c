//! The stages that `flow-agent bench` measures: its JSON lines become figures.

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Run;
use super::results::Figure;
use crate::command;

/// Rows of an insert.
const ROWS: u32 = 1_000_000;
const QUICK_ROWS: u32 = 50_000;

/// ns a packet over an empty program.
pub fn kernel(run: &Run<'_>) -> Result<Vec<Figure>> {
    by_flows(run, "kernel", |line, command| {
        let tags = if line["vlan_tags"] == 0 { "" } else { ", one tag" };
        let words = ["hook", "ip", "distribution"].map(|key| text(&line[key]));
        let what = format!("{}, IPv{}{tags}, {}", words[0].to_uppercase(), words[1], words[2]);
        let unit = "ns a packet";
        vec![spread(line, ("kernel", &what, unit), "over_floor_ns", 1.0, command)]
    })
}

/// The same beside hash maps.
pub fn peers(run: &Run<'_>) -> Result<Vec<Figure>> {
    by_flows(run, "peers", |line, command| {
        let words = ["program", "distribution", "cpus"].map(|key| text(&line[key]));
        let what = format!("{}, {}, {} CPUs at once", words[0], words[1], words[2]);
        vec![spread(line, ("peers", &what, "ns a packet"), "over_floor_ns", 1.0, command)]
    })
}

/// What a receiver takes that meters and drops, by what one takes that only drops.
pub fn live(run: &Run<'_>) -> Result<Vec<Figure>> {
    const FLOWS: &str = "65536";
    let words = ["bench", "live", "--flows", FLOWS];
    let command = format!("flow-agent {}", words.join(" "));
    let mut figures = Vec::new();
    for line in ask(run, &words)? {
        let distribution = text(&line["distribution"]);
        let what = format!("metered and dropped, by only dropped, {distribution}");
        let ratio = spread(&line, ("live", &what, "of the rate"), "ratio", 1.0, &command);
        let goal = if distribution == "zipf" { "at least 0.80" } else { "at least 0.60" };
        figures.push(ratio.with_goal(goal));
        let rate = number(&line["metered_mpps"]) * 1e6;
        let what = format!("metered and dropped, {distribution}");
        let mut rate = Figure::of_runs("live", &what, "packets a second", &[rate], &command);
        (rate.flows, rate.runs) = (flows(&line), line["runs"].as_u64().unwrap_or(1) as u32);
        figures.push(rate);
    }
    Ok(figures)
}

/// ns a flow.
pub fn drain(run: &Run<'_>) -> Result<Vec<Figure>> {
    by_flows(run, "drain", |line, command| {
        if !line["touched"].is_null() {
            return Vec::new();
        }
        let read =
            spread(line, ("drain", "read and cleared", "ns a flow"), "ns_per_entry", 1.0, command);
        let cached = number(&line["cached_ns_per_entry"]);
        let mut with_cache = read.clone();
        // Only its median is told.
        (with_cache.median, with_cache.min, with_cache.max) = (cached, cached, cached);
        with_cache.what = "read, cleared and cached, CPU of all threads".into();
        vec![read, with_cache]
    })
}

/// Updates a second.
pub fn cache(run: &Run<'_>) -> Result<Vec<Figure>> {
    by_flows(run, "cache", |line, command| {
        let words = ["work", "distribution", "statistics", "threads"].map(|key| text(&line[key]));
        let what =
            format!("{}, {}, statistics {}, {} threads", words[0], words[1], words[2], words[3]);
        let mut figures =
            vec![spread(line, ("cache", &what, "updates a second"), "updates_per_s", 1.0, command)];
        if words[0] == "update" && words[2] == "full" && words[3] == "1" && words[1] == "uniform" {
            let bytes = number(&line["bytes_per_flow"]);
            let memory = Figure::of_runs("cache", "memory", "octets a flow", &[bytes], command);
            figures.push(Figure { flows: flows(line), ..memory });
        }
        figures
    })
}

/// Rows a second, and what they cost.
pub fn insert(run: &Run<'_>) -> Result<Vec<Figure>> {
    let rows = if run.quick { QUICK_ROWS } else { ROWS }.to_string();
    let mut figures = Vec::new();
    for rollups in [false, true] {
        let mut words = vec!["bench", "insert", "--rows", &rows];
        words.extend(rollups.then_some("--rollups"));
        let mut lines = Vec::new();
        for _ in 0..run.runs {
            lines.extend(ask(run, &words)?);
        }
        let command = format!("flow-agent {}", words.join(" "));
        let mut sizes: Vec<u64> =
            lines.iter().filter_map(|line| line["batch_rows"].as_u64()).collect();
        sizes.sort_unstable();
        sizes.dedup();
        for size in sizes {
            let of_size: Vec<&Value> =
                lines.iter().filter(|line| line["batch_rows"] == size).collect();
            let with = if rollups { "with rollups" } else { "no rollups" };
            let mut add = |name: &str, key: &str, unit: &str| {
                let runs: Vec<f64> = of_size.iter().map(|line| number(&line[key])).collect();
                let what = format!("{name}, {with}, batches of {size}");
                figures.push(Figure::of_runs("insert", &what, unit, &runs, &command));
            };
            add("rows", "rows_per_s", "rows a second");
            add("engine", "engine_cpu_s_per_million", "s of CPU a million rows");
            add("agent", "agent_ns_per_row", "ns of CPU a row");
            add("encoding", "encode_ns_per_row", "ns of CPU a row");
        }
    }
    Ok(figures)
}

/// Runs a stage with each number of flows.
fn by_flows(
    run: &Run<'_>,
    stage: &str,
    figures: impl Fn(&Value, &str) -> Vec<Figure>,
) -> Result<Vec<Figure>> {
    let mut all = Vec::new();
    for flows in &run.flows {
        let flows = flows.to_string();
        let words = ["bench", stage, "--flows", &flows];
        let command = format!("flow-agent {}", words.join(" "));
        for line in ask(run, &words)? {
            all.extend(figures(&line, &command));
        }
    }
    Ok(all)
}

/// What the agent's own measurement said, one object a line.
fn ask(run: &Run<'_>, words: &[&str]) -> Result<Vec<Value>> {
    let mut agent = Command::new(&run.agent);
    agent.args(words).arg("--json");
    let said = command::quiet(run.tools.apply(&mut agent))?;
    said.lines().map(|line| serde_json::from_str(line).context("the agent said no JSON")).collect()
}

/// A figure that has `KEY`, `min_KEY` and `max_KEY`.
fn spread(
    line: &Value,
    (stage, what, unit): (&str, &str, &str),
    key: &str,
    factor: f64,
    command: &str,
) -> Figure {
    let of = |key: &str| number(&line[key]) * factor;
    Figure {
        stage: stage.to_owned(),
        what: what.to_owned(),
        flows: flows(line),
        median: of(key),
        min: of(&format!("min_{key}")),
        max: of(&format!("max_{key}")),
        runs: line["runs"].as_u64().unwrap_or(1) as u32,
        unit: unit.to_owned(),
        command: command.to_owned(),
        ..Figure::default()
    }
}

fn flows(line: &Value) -> Option<u32> {
    line["flows"].as_u64().and_then(|flows| u32::try_from(flows).ok())
}

/// What is no number is told as such.
pub fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
