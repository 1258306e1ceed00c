//! Load on the real agent: packets of a shape (`shape.rs`) on a veth pair between two network
//! namespaces, metered by XDP at one end into an embedded store, with the agent's defaults.
//!
//! Exits with 1 if the agent did not keep to the limits of the shape, which are told, and with 2
//! if it could not be measured. Needs root and libchdb.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;

mod cpu;
mod figures;
mod run;
mod sender;
mod shape;

use shape::Shape;

/// Puts load on a real agent and says what that costs. Run by `cargo xtask load` and `bench`.
#[derive(Debug, Parser)]
#[command(name = "flow-load")]
struct Arguments {
    /// The flow-agent to measure
    agent: PathBuf,
    /// What is sent
    #[arg(value_enum)]
    shape: Shape,
    /// How long it is measured
    #[arg(long, value_name = "S", default_value_t = 10)]
    seconds: u64,
    /// Packets a second, instead of those of the shape; limits stay
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
    /// Flows, instead of those of the shape
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    flows: Option<u32>,
    /// One JSON object instead of text; what was missed goes to the standard error
    #[arg(long)]
    json: bool,
    /// More arguments for the agent
    #[arg(last = true)]
    more: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("flow-load: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    ensure!(arguments.seconds > 0, "--seconds must be at least 1");
    let shape = arguments.shape;
    let work = shape.work().with(arguments.rate, arguments.flows);
    let figures = run::measure(
        &arguments.agent,
        shape,
        work,
        std::time::Duration::from_secs(arguments.seconds),
        &arguments.more,
    )?;
    if arguments.json {
        println!("{}", serde_json::to_string(&figures)?);
    } else {
        println!("{}", figures.lines());
    }
    let missed = figures.missed(shape);
    for words in &missed {
        eprintln!("flow-load: {}: {words}", shape.label());
    }
    if missed.is_empty() && !arguments.json {
        println!("{}: within its limits", shape.label());
    }
    Ok(missed.is_empty())
}
