//! Writes the report of the fault suite: `flow-faults docs/faults.md`, from the records of the
//! last run. Exit code 1 if a fault of the catalogue left no record.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// The report of the fault suite.
#[derive(Debug, Parser)]
struct Cli {
    /// Where it is written
    page: PathBuf,
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    let (page, missing) = flow_tests::faults::report::page()?;
    std::fs::write(&cli.page, page)?;
    for name in &missing {
        println!("{name}: no record, its test has failed or did not run");
    }
    println!("{} is written", cli.page.display());
    Ok(if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
