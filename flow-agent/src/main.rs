//! The `flow-agent` command: parses the command line and calls the library.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use flow_agent::Error;
use flow_agent::cache::Timeouts;
use flow_agent::host::host_name;
use flow_agent::replay::Replay;
use flow_agent::schema::Schema;
use flow_agent::store::{self, Key, StoreConfig, StoreError};
use flow_agent::target::Store;
use tracing_subscriber::EnvFilter;

mod cli;

use cli::{Cli, Command, QueryArgs, ReplayArgs, SchemaCommand};

fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flow-agent: {error}");
            ExitCode::from(error.exit() as u8)
        }
    }
}

/// Logs go to the standard error; `RUST_LOG` chooses levels.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

fn run(command: Command) -> Result<(), Error> {
    match command {
        #[cfg(feature = "live")]
        Command::Run(args) => live(args),
        Command::Replay(args) => replay(args),
        Command::Store(args) => serve_store(args),
        Command::Query(args) => query(&args),
        #[cfg(feature = "live")]
        Command::Bench(cli::BenchArgs { stage, flows, json }) => {
            flow_agent::bench::Bench { stage, flows, json }.run()
        }
        Command::Schema(SchemaCommand::Print) => {
            print!("{}", Schema::new("flow", false).script());
            Ok(())
        }
        Command::Schema(SchemaCommand::Apply { store }) => Store::open(&store)?.close(),
    }
}

#[cfg(feature = "live")]
fn live(args: cli::RunArgs) -> Result<(), Error> {
    use flow_agent::config::ConfigFile;

    let mut file = match &args.config {
        Some(path) => ConfigFile::read(path)?,
        None => ConfigFile::default(),
    };
    if !args.interface.is_empty() {
        file.interfaces = Some(args.interface);
    }
    file.attach = args.attach.or(file.attach);
    file.store = args.store.or(file.store);
    file.exporter = args.exporter.or(file.exporter);
    file.drain_interval_ms = args.drain_interval.or(file.drain_interval_ms);
    file.idle_timeout_s = args.idle_timeout.or(file.idle_timeout_s);
    file.active_timeout_s = args.active_timeout.or(file.active_timeout_s);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let config = file.check(&host_name(), cpus)?;
    let shutdown = flow_agent::shutdown::on_signals().map_err(Error::thread)?;
    flow_agent::run::run(&config, &shutdown)
}

fn replay(args: ReplayArgs) -> Result<(), Error> {
    let replay = Replay {
        files: args.files,
        output: args.output,
        ledger: args.ledger,
        exporter: args.exporter.unwrap_or_else(host_name),
        max_flows: args.max_flows as usize,
        timeouts: Timeouts {
            idle: Duration::from_secs(args.idle_timeout),
            active: Duration::from_secs(args.active_timeout),
            ..Timeouts::default()
        },
    };
    replay.run()
}

fn serve_store(args: cli::StoreArgs) -> Result<(), Error> {
    let key = args.key_on_stdin.then(Key::read_stdin).transpose();
    let config = StoreConfig {
        dir: args.dir,
        listen: args.listen,
        allow_remote: args.allow_remote,
        library: None,
        key: key.map_err(|source| StoreError::System { action: "read its key", source })?,
    };
    Ok(store::serve(config, store::stop_signal(args.stop_on_stdin_eof))?)
}

fn query(args: &QueryArgs) -> Result<(), Error> {
    let store = Store::connect(&args.store)?;
    let answer = store.ask(async |client| {
        // A reader that has gone away (head, less) wants no more.
        let print = |bytes: &[u8]| std::io::stdout().write_all(bytes).is_ok();
        client.query(&args.sql, &args.format, print).await
    });
    store.close()?;
    answer
}
