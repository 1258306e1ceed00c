//! The `flow-agent` command: parses the command line and calls the library.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use flow_agent::Error;
use flow_agent::backup;
use flow_agent::cache::Timeouts;
use flow_agent::enrich::GeoFiles;
use flow_agent::host::host_name;
use flow_agent::logging;
use flow_agent::replay::Replay;
use flow_agent::schema::Schema;
use flow_agent::store::{self, Key, StoreConfig, StoreError};
use flow_agent::target::{Opening, Store};

#[cfg(feature = "live")]
mod ask;
mod cli;
mod generate;
#[cfg(feature = "live")]
mod look;
mod query;
mod refused;
mod standard_output;
mod watching;

use cli::{Cli, Command, ReplayArgs, SchemaCommand};
use standard_output::StandardOutput;

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start();
    #[cfg(feature = "failpoints")]
    if let Err(problem) = flow_agent::failpoint::arm() {
        say(&format_args!("flow-agent: {problem}"));
        return ExitCode::FAILURE;
    }
    let outcome = run(cli.command);
    logging::finish();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format_args!("flow-agent: {error}"));
            ExitCode::from(error.exit() as u8)
        }
    }
}

/// A line on the standard error; where that cannot be written, the exit code has to do.
fn say(line: &dyn Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn run(command: Command) -> Result<(), Error> {
    match command {
        #[cfg(feature = "live")]
        Command::Run(args) => live(args),
        Command::Replay(args) => replay(args),
        Command::Store(args) => serve_store(args),
        Command::Query(args) => query::query(args),
        Command::Report(args) => watching::report(args),
        Command::Plan(args) => watching::plan(&args),
        #[cfg(feature = "live")]
        Command::Top(args) => watching::top(args),
        Command::Backup(args) => backup(args),
        Command::Restore(args) => restore(args),
        #[cfg(feature = "live")]
        Command::Cache(command) => ask::cache(command),
        #[cfg(feature = "live")]
        Command::Check(args) => look::check(args),
        #[cfg(feature = "live")]
        Command::Reconcile(args) => ask::reconcile(&args),
        #[cfg(feature = "live")]
        Command::Explain(args) => ask::explain(&args),
        #[cfg(feature = "live")]
        Command::Config(command) => cli::configure(command),
        #[cfg(feature = "live")]
        Command::Bench(cli::BenchArgs { stage, flows, rows, rollups, file, threads, json }) => {
            let rows = rows as usize;
            flow_agent::bench::Bench { stage, flows, rows, rollups, file, threads, json }.run()
        }
        Command::Quarantine(command) => refused::run(command),
        Command::Schema(command) => schema(command),
        Command::Generate { folder } => generate::generate(&folder)
            .map_err(|source| Error::Generate { folder: folder.display().to_string(), source }),
    }
}

#[cfg(feature = "live")]
fn live(args: cli::RunArgs) -> Result<(), Error> {
    use flow_agent::run::Start;
    let start = if args.take_over { Start::TakeOver } else { Start::Alone };
    flow_agent::run::run(args.source(), start, flow_agent::shutdown::on_signals)
}

fn replay(args: ReplayArgs) -> Result<(), Error> {
    let replay = Replay {
        files: args.files,
        output: args.output,
        access: args.access.config(),
        ledger: args.ledger,
        exporter: args.exporter.unwrap_or_else(host_name),
        decapsulate: args.decapsulate,
        max_flows: args.max_flows as usize,
        timeouts: Timeouts {
            idle: Duration::from_secs(args.idle_timeout),
            active: Duration::from_secs(args.active_timeout),
            ..Timeouts::default()
        },
        geoip: GeoFiles { country: args.geoip_country, asn: args.geoip_asn },
        threads: args.threads,
    };
    replay.run()
}

fn schema(command: SchemaCommand) -> Result<(), Error> {
    match command {
        SchemaCommand::Print { database, shape } => {
            let mut out = StandardOutput::default();
            out.write(shape.of(Schema::new(&database, false)).script().as_bytes());
            out.finish()
        }
        SchemaCommand::Apply { store, access, shape } => {
            Store::open(&store, &shape.opening(access))?.close()
        }
        SchemaCommand::Verify { store, access, shape } => {
            let store = Store::connect(&store, &shape.opening(access))?;
            let schema = store.schema();
            let found = store.ask(async |client| client.verify_schema(schema).await);
            let windows = store.ask(async |client| client.check_windows(schema).await);
            store.close()?;
            let differences = found?;
            let mut out = StandardOutput::default();
            for difference in &differences {
                out.write(format!("{difference}\n").as_bytes());
            }
            out.finish()?;
            windows?;
            match differences.len() {
                0 => Ok(()),
                count => Err(Error::Differences { count }),
            }
        }
    }
}

fn backup(args: cli::BackupArgs) -> Result<(), Error> {
    args.to.check_free()?;
    let opening = Opening { access: args.access.config(), ..Opening::default() };
    let store = Store::connect(&args.store, &opening)?;
    let saved = store.work(async |client| backup::save(client, &args.to).await);
    store.close()?;
    let backup::Saved { tables, rows } = saved?;
    say(&format_args!("saved {rows} rows of {tables} tables to {}", args.to));
    Ok(())
}

fn restore(args: cli::RestoreArgs) -> Result<(), Error> {
    let opening = Opening { access: args.access.config(), ..Opening::default() };
    let store = Store::open_bare(&args.store, &opening)?;
    let restored =
        store.work(async |client| backup::restore(client, &args.from, args.replace).await);
    store.close()?;
    let backup::Restored { tables, rows } = restored?;
    say(&format_args!("restored {rows} rows of {tables} tables, equal to what was saved"));
    Ok(())
}

fn serve_store(args: cli::StoreArgs) -> Result<(), Error> {
    let key = args.key_on_stdin.then(Key::read_stdin).transpose();
    let config = StoreConfig {
        dir: args.dir,
        listen: args.listen,
        allow_remote: args.allow_remote,
        library: None,
        config_file: args.config_file,
        memory_mib: args.memory_mib,
        key: key.map_err(|source| StoreError::System { action: "read its key", source })?,
    };
    Ok(store::serve(config, || store::stop_signal(args.stop_on_stdin_eof))?)
}
