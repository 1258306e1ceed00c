//! The command line, as typed. Each command's module validates its part.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

mod access;
#[cfg(feature = "live")]
mod agent;
#[cfg(feature = "live")]
mod bench;
#[cfg(feature = "live")]
mod cache;
#[cfg(feature = "live")]
mod config;
#[cfg(feature = "live")]
mod look;
mod quarantine;
mod query;
mod replay;
#[cfg(feature = "live")]
mod run;
mod schema;
mod store;
mod watching;

pub use access::AccessArgs;
#[cfg(feature = "live")]
pub use agent::AgentArgs;
#[cfg(feature = "live")]
pub use bench::BenchArgs;
#[cfg(feature = "live")]
pub use cache::{CacheCommand, InvalidateArgs};
#[cfg(feature = "live")]
pub use config::{ConfigCommand, run as configure};
#[cfg(feature = "live")]
pub use look::{CheckArgs, ExplainArgs, ReconcileArgs};
pub use quarantine::{QuarantineArgs, QuarantineCommand};
pub use query::QueryArgs;
pub use replay::ReplayArgs;
#[cfg(feature = "live")]
pub use run::RunArgs;
pub use schema::SchemaCommand;
pub use store::{BackupArgs, RestoreArgs, StoreArgs};
#[cfg(feature = "live")]
pub use watching::TopArgs;
pub use watching::{PlanArgs, ReportArgs};

/// A network flow agent: meters packets in the kernel, stores flow records in ClickHouse.
#[derive(Debug, Parser)]
#[command(name = "flow-agent", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Meter this host's packets and store the flows until stopped
    #[cfg(feature = "live")]
    Run(RunArgs),
    /// Meter packet captures (pcap, pcapng, gzip) on their own clock
    Replay(ReplayArgs),
    /// Serve the embedded ClickHouse engine over its HTTP interface
    Store(StoreArgs),
    /// Ask a store in SQL
    Query(QueryArgs),
    /// Who talks most, bandwidth, anomalies and more, from any store
    Report(ReportArgs),
    /// What a fleet takes: memory, CPU, rows, disk, by measured costs
    Plan(PlanArgs),
    /// Save the tables of a store, also while it is in use
    Backup(BackupArgs),
    /// Bring saved tables back into a store
    Restore(RestoreArgs),
    /// Look into the flow cache of the running agent, or have it emit flows
    #[cfg(feature = "live")]
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Watch the flows of the running agent on the terminal
    #[cfg(feature = "live")]
    Top(TopArgs),
    /// Say whether an agent would work here: kernel, privileges, interfaces, disks, clock, store
    #[cfg(feature = "live")]
    Check(CheckArgs),
    /// Compare the running agent's ledger with the drivers' counters, and explain the difference
    #[cfg(feature = "live")]
    Reconcile(ReconcileArgs),
    /// Say where a flow is: kernel tables, cache, batches, store; and why it may be missing
    #[cfg(feature = "live")]
    Explain(ExplainArgs),
    /// Show, check or describe the configuration
    #[cfg(feature = "live")]
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Measure what a packet and a flow cost on this host; `kernel`, `drain` and `live` need root
    #[cfg(feature = "live")]
    Bench(BenchArgs),
    /// Look at batches that the store refused, or send them again
    #[command(subcommand)]
    Quarantine(QuarantineCommand),
    /// Show or apply the tables
    #[command(subcommand)]
    Schema(SchemaCommand),
    /// Write man pages and shell completions, for packages
    #[command(hide = true)]
    Generate {
        /// Folder, made if it is missing
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}
