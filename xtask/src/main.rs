//! The project's own commands: `cargo xtask setup | build | demo | test`.
//!
//! `build`, `demo` and `test` begin with `setup`, so each of them works on a
//! fresh machine. Nothing here needs an answer.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod build;
mod cache;
mod command;
mod demo;
mod setup;
mod test;

/// The project's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Find or install what the build needs
    Setup,
    /// Set up, then build target/release/flow-agent
    Build,
    /// Set up, build, and watch real traffic being metered into ClickHouse (root)
    Demo,
    /// Set up, then run everything CI runs (root)
    Test {
        /// Run only the tests whose names contain this; lints are skipped
        filter: Option<String>,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cargo xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Setup => setup::run(setup::For::Build).map(|_| ExitCode::SUCCESS),
        Command::Build => build::run().map(|_| ExitCode::SUCCESS),
        Command::Demo => demo::run(),
        Command::Test { filter } => test::run(filter.as_deref()),
    }
}
