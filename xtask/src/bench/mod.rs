//! `cargo xtask bench` and `cargo xtask load`: every measurement by one command.
//!
//! Enters: which stages. Leaves: JSON (`results.rs`), a table, a chart. Each stage is measured by
//! a program of its own (`flow-agent bench`, `flow-load`, `cargo bench`); here they are run one
//! after the other, and what they say becomes [`Figure`]s.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::setup::{self, For};
use crate::{build, command};

mod cache_peers;
mod chart;
mod docs;
mod load;
mod machine;
mod replay;
mod results;
mod stages;

pub use load::{LoadArgs, load};
use results::{Figure, Results};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// ns a packet in the kernel, by flows
    Kernel,
    /// ns a packet beside hash-map programs as other agents have them, on one CPU and on all
    Peers,
    /// Packets a second on a veth: metered and dropped, against only dropped
    Live,
    /// ns a flow from the kernel's tables, by flows
    Drain,
    /// Updates of the flow cache a second, by flows and by threads
    Cache,
    /// The flow cache beside moka, `quick_cache` and others
    CachePeers,
    /// ns a row that is encoded, rows a second into the embedded store, and the store's CPU
    Insert,
    /// A capture to its flows, beside libpcap, nfpcapd, softflowd, argus and tshark
    Replay,
    /// The whole agent under load: rates, CPU, memory, latency
    Pipeline,
}

/// Arguments of `cargo xtask bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What to measure [default: all of it]
    #[arg(value_enum)]
    stages: Vec<Stage>,
    /// Few flows, few runs: to see whether it works, not for figures
    #[arg(long)]
    quick: bool,
    /// Only this many flows, where a stage is measured with several numbers of them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    flows: Option<u32>,
    /// Only this shape of load, for `pipeline`
    #[arg(long, value_name = "SHAPE")]
    shape: Option<String>,
    /// Runs of what does not repeat itself (`insert`, `pipeline`) [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: Option<u32>,
    /// Where the figures go as JSON; those of other stages that are in it stay
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Measure what target/release holds, instead of building it first
    #[arg(long)]
    no_build: bool,
    /// Write table and chart of all that is in the file into docs/performance.md, too
    #[arg(long)]
    docs: bool,
    /// Measure nothing: only show what the file holds
    #[arg(long)]
    show: bool,
}

/// What a stage is given.
pub struct Run<'a> {
    /// The release binary of the agent.
    pub agent: PathBuf,
    /// The release binary that puts load on it.
    pub load: PathBuf,
    /// What setup found.
    pub tools: &'a setup::Tools,
    /// Numbers of flows, where there are several.
    pub flows: Vec<u32>,
    /// The only shape of load.
    pub shape: Option<String>,
    /// Runs of what does not repeat itself.
    pub runs: u32,
    /// A look, no measurement.
    pub quick: bool,
}

/// How figures grow is measured with so many flows.
const FLOWS: [u32; 4] = [1_000, 10_000, 100_000, 1_000_000];
const RUNS: u32 = 5;

/// Measures, and shows what was found.
pub fn run(arguments: BenchArgs) -> Result<ExitCode> {
    let usual = build::target_dir().join("bench/results.json");
    let path = arguments.output.clone().unwrap_or(usual);
    let mut results = Results::read(&path)?;
    if !arguments.show {
        measure(&arguments, &mut results, &path)?;
    }
    println!("{}", results.table());
    let picture = chart::svg(&results)?;
    let drawn = path.with_extension("svg");
    results::write_whole(&drawn, &picture)?;
    println!("\nfigures: {}\nchart: {}", path.display(), drawn.display());
    if arguments.docs {
        docs::write(&results, &picture)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(arguments: &BenchArgs, results: &mut Results, path: &std::path::Path) -> Result<()> {
    if !command::is_root() {
        bail!(
            "this loads eBPF programs and makes network namespaces, which needs root: run it as \
             root, for example `sudo -E env PATH=\"$PATH\" cargo xtask bench`"
        );
    }
    let tools = setup::run(For::Bench)?;
    let (agent, load) = binaries(&tools, arguments.no_build)?;
    let quick = arguments.quick;
    let run = Run {
        agent,
        load,
        tools: &tools,
        flows: match arguments.flows {
            Some(flows) => vec![flows],
            None if quick => vec![10_000],
            None => FLOWS.to_vec(),
        },
        shape: arguments.shape.clone(),
        runs: arguments.runs.unwrap_or(if quick { 1 } else { RUNS }),
        quick,
    };
    let machine = machine::describe(&run.agent);
    let all = Stage::value_variants();
    let stages = if arguments.stages.is_empty() { all } else { &arguments.stages };
    for stage in stages {
        let found = measure_stage(*stage, &run)?;
        for figure in &found {
            println!("  {}", figure.line());
        }
        results.replace(found, &machine);
        // What is found is kept, whatever becomes of the next stage.
        results.write(path)?;
    }
    Ok(())
}

fn measure_stage(stage: Stage, run: &Run<'_>) -> Result<Vec<Figure>> {
    println!(
        "measuring {}",
        stage.to_possible_value().map_or(String::new(), |v| v.get_name().into())
    );
    match stage {
        Stage::Kernel => stages::kernel(run),
        Stage::Peers => stages::peers(run),
        Stage::Live => stages::live(run),
        Stage::Drain => stages::drain(run),
        Stage::Cache => stages::cache(run),
        Stage::CachePeers => cache_peers::measure(run),
        Stage::Insert => stages::insert(run),
        Stage::Replay => replay::measure(run),
        Stage::Pipeline => load::pipeline(run),
    }
}

/// The release binaries of the agent and of what puts load on it.
fn binaries(tools: &setup::Tools, no_build: bool) -> Result<(PathBuf, PathBuf)> {
    let release = build::target_dir().join("release");
    let (agent, load) = (release.join("flow-agent"), release.join("flow-load"));
    if no_build {
        for program in [&agent, &load] {
            if !program.is_file() {
                bail!("there is no {}: leave --no-build out", program.display());
            }
        }
        return Ok((agent, load));
    }
    for words in [
        ["--package", "flow-agent", "--bin", "flow-agent"],
        ["--package", "flow-tests", "--bin", "flow-load"],
    ] {
        println!("building {} (release)", words[3]);
        let mut cargo = command::cargo();
        cargo.args(["build", "--release"]).args(words);
        command::run(tools.apply(&mut cargo))?;
    }
    Ok((agent, load))
}
