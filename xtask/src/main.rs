//! The project's own commands: `cargo xtask setup | build | demo | test | fuzz | soak | dist |
//! bench | bench-throughput | capture | load | guard`.
//!
//! All of them begin with `setup`, so each works on a fresh
//! machine. Nothing here needs an answer.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bench;
mod build;
mod cache;
mod capture;
mod command;
mod deny;
mod dist;
mod faults;
mod fuzz;
mod guard;
mod kernels;
mod lab;
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
    /// Set up, build, and measure every stage; as JSON, table and chart (root)
    Bench(bench::BenchArgs),
    /// Set up, build, and put load on a real agent; fails if that misses its limits (root)
    Load(bench::LoadArgs),
    /// Set up, build, and measure TCP throughput with and without the agent (root)
    BenchThroughput,
    /// Set up, and make a capture to measure readers with, e.g. --packets 5000000 --output FILE
    Capture {
        /// Arguments of `flow-capture`; --help lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Set up, and make a tarball, a Debian and an RPM package in target/dist/out
    Dist {
        /// Build it all twice, from sources in different folders, and compare
        #[arg(long)]
        twice: bool,
        /// Package this binary, into --out, instead of building one
        #[arg(long, value_name = "FILE", requires = "out", conflicts_with = "twice")]
        binary: Option<PathBuf>,
        /// Folder for the files [default: target/dist/out]
        #[arg(long, value_name = "DIR", requires = "binary")]
        out: Option<PathBuf>,
        /// The packages' version [default: that of the workspace]
        #[arg(long, value_name = "VERSION", default_value = env!("CARGO_PKG_VERSION"))]
        package_version: String,
    },
    /// Set up, and compare instruction counts with benches/baseline.toml (root)
    Guard {
        /// Write the new figures instead
        #[arg(long)]
        accept: bool,
    },
    /// Set up, and fuzz what reads octets that others wrote, guided by coverage
    Fuzz(fuzz::Options),
    /// Set up, then run everything CI runs (root)
    Test {
        /// Run only the tests whose names contain this; lints are skipped
        filter: Option<String>,
        /// Far more packets in the tests that compare or count them: about a quarter of an hour more
        #[arg(long)]
        long: bool,
        /// Instead: boot the oldest and the newest packaged kernel in qemu and test the meter there; the
        /// filter picks test programs
        #[arg(long, conflicts_with = "long")]
        kernels: bool,
        /// Run the whole fault suite alone, and write docs/faults.md of it
        #[arg(long, conflicts_with_all = ["filter", "long"])]
        faults: bool,
    },
    /// Set up, build, and meter a fixed load amid random faults for as long as told (root)
    Soak {
        /// How long
        #[arg(long, default_value_t = 20)]
        minutes: u64,
        /// Of the faults: the same seed, the same faults
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

fn main() -> ExitCode {
    if let Some(code) = fuzz::as_compiler() {
        return code;
    }
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
        Command::Build => build::run(setup::For::Build).map(|_| ExitCode::SUCCESS),
        Command::Demo => lab::demo(),
        Command::Bench(arguments) => bench::run(arguments),
        Command::Load(arguments) => bench::load(&arguments),
        Command::BenchThroughput => lab::bench_throughput(),
        Command::Capture { arguments } => capture::run(&arguments),
        Command::Dist { binary: Some(binary), out: Some(out), package_version, .. } => {
            dist::package(&binary, &out, &package_version).map(|_| ExitCode::SUCCESS)
        }
        Command::Dist { twice, package_version, .. } => {
            dist::run(twice, &package_version).map(|()| ExitCode::SUCCESS)
        }
        Command::Guard { accept } => {
            guard::run(&setup::run(setup::For::Test)?, accept).map(|()| ExitCode::SUCCESS)
        }
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Soak { minutes, seed } => lab::soak(minutes, seed),
        Command::Test { faults: true, .. } => faults::run(),
        Command::Test { filter, kernels: true, .. } => kernels::run(filter.as_deref()),
        Command::Test { filter, long, .. } => test::run(filter.as_deref(), long),
    }
}
