//! The `flow-agent` command: parses the command line and calls the library.

use std::process::ExitCode;

use clap::Parser;

mod cli;

use cli::{Cli, Command, StoreArgs};
use flow_agent::store::{self, StoreConfig};

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
        Command::Store(args) => serve_store(args),
    }
}

fn serve_store(args: StoreArgs) -> Result<(), flow_agent::Error> {
    let config = StoreConfig {
        dir: args.dir,
        listen: args.listen,
        allow_remote: args.allow_remote,
        library: None,
    };
    store::serve(config, store::stop_signal(args.stop_on_stdin_eof))?;
    Ok(())
}
