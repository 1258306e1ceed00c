//! The `flow-agent` command: parses the command line and calls the library.

use std::process::ExitCode;

use clap::Parser;

mod cli;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flow-agent: {error}");
            ExitCode::from(error.exit() as u8)
        }
    }
}

fn run(command: Command) -> Result<(), flow_agent::Error> {
    match command {
        Command::Store(_args) => Ok(()),
    }
}
