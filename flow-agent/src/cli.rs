//! The command line, as typed. Each command's module validates its part.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use flow_agent::backup::Place;
use flow_agent::host::check_name;
use flow_agent::replay::OutputTarget;
use flow_agent::sink::StoreTarget;
use flow_agent::store::LEAST_MEMORY_MIB;

mod access;
#[cfg(feature = "live")]
mod config;
#[cfg(feature = "live")]
mod look;
mod quarantine;
mod schema;
mod watching;

pub use access::AccessArgs;
#[cfg(feature = "live")]
pub use config::{ConfigCommand, run as configure};
#[cfg(feature = "live")]
pub use look::{CheckArgs, ExplainArgs, ReconcileArgs};
pub use quarantine::{QuarantineArgs, QuarantineCommand};
pub use schema::SchemaCommand;
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

/// Arguments of `flow-agent run`; each overrides its key in the file.
#[cfg(feature = "live")]
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A set of values for a kind of host: small, default, large or debug [default: default]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Interface to meter, [NETNS/]NAME[:MODE] or pid:PID/NAME[:MODE], globs allowed
    /// [default: all hardware interfaces]
    #[arg(long, value_name = "IF")]
    pub interface: Vec<String>,
    /// Interface to leave out, [NETNS/]NAME or pid:PID/NAME, globs allowed
    #[arg(long, value_name = "IF")]
    pub exclude_interface: Vec<String>,
    /// How incoming packets are metered: auto, xdp, xdp-generic or tc [default: auto]
    #[arg(long, value_name = "MODE")]
    pub attach: Option<String>,
    /// Where flows go
    #[arg(
        long,
        value_name = "STORE",
        help = "Where flows go: embedded:DIR or http[s]://HOST[:PORT][/DATABASE], replicas with \
          commas, once for each shard [default: embedded:/var/lib/flow-agent/store]"
    )]
    pub store: Vec<String>,
    /// How the store is reached
    #[command(flatten)]
    pub access: AccessArgs,
    /// This host's name in the rows [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub exporter: Option<String>,
    /// Meter packets in VXLAN, GENEVE, GRE, IPIP and GTP-U tunnels as what the tunnels carry
    #[arg(long)]
    pub decapsulate: bool,
    /// Where the kernel tables are kept for the next agent should this one be killed: a folder
    /// in a BPF file system, or '' for none [default: /sys/fs/bpf/flow-agent]
    #[arg(long, value_name = "DIR")]
    pub pin_dir: Option<String>,
    /// Take the hooks over from the agents that run with the same --pin-dir, without a gap; they
    /// end. If this one cannot start, they go on. Where none runs it starts as usual
    #[arg(long)]
    pub take_over: bool,
    /// Where to serve the status over HTTP: IP:PORT of this host, or '' for nowhere
    /// [default: 127.0.0.1:9469, if it is free]
    #[arg(long, value_name = "ADDR")]
    pub status: Option<String>,
    /// Where to keep what a restart would forget, or '' for nothing
    /// [default: /var/lib/flow-agent/state]
    #[arg(long, value_name = "FILE")]
    pub state_file: Option<String>,
    /// Where batches wait for the store, or '' to hold them in memory only
    /// [default: /var/lib/flow-agent/spool]
    #[arg(long, value_name = "DIR")]
    pub spool_dir: Option<String>,
    /// Time between two drains of the kernel tables, 10 to 60000 [default: 1000]
    #[arg(long, value_name = "MS", allow_negative_numbers = true)]
    pub drain_interval: Option<i64>,
    /// Emit a flow after this long without a packet, 1 to 86400 [default: 15]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub idle_timeout: Option<i64>,
    /// Emit a flow that has lasted this long, 1 to 86400; it goes on in the next record
    /// [default: 60]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub active_timeout: Option<i64>,
}

/// Arguments of `flow-agent replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Where flows go: jsonl:FILE, jsonl:-, clickhouse:URL or embedded:DIR
    #[arg(long, value_name = "OUTPUT", default_value = "jsonl:-")]
    pub output: OutputTarget,
    /// How the store is reached
    #[command(flatten)]
    pub access: AccessArgs,
    /// Write what became of every packet to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// The host's name in the rows [default: the host name]
    #[arg(long, value_name = "NAME", value_parser = exporter_name)]
    pub exporter: Option<String>,
    /// Emit a flow after this long without a packet
    #[arg(long, value_name = "SECONDS", default_value_t = 15,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub idle_timeout: u64,
    /// Emit a flow that has lasted this long; it goes on in the next record
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub active_timeout: u64,
    /// Meter packets in VXLAN, GENEVE, GRE, IPIP and GTP-U tunnels as what the tunnels carry
    #[arg(long)]
    pub decapsulate: bool,
    /// Countries of addresses, from a MaxMind file such as GeoLite2-City.mmdb
    #[arg(long, value_name = "FILE")]
    pub geoip_country: Option<PathBuf>,
    /// Autonomous systems of addresses, from a MaxMind file such as GeoLite2-ASN.mmdb
    #[arg(long, value_name = "FILE")]
    pub geoip_asn: Option<PathBuf>,
    /// Open flows at one time; more are emitted early
    #[arg(long, value_name = "FLOWS", default_value_t = 1_000_000,
          value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    pub max_flows: u64,
    /// Threads that read, parse and meter [default: as many as processors]; the rows are the same
    #[arg(long, value_name = "THREADS")]
    pub threads: Option<NonZeroUsize>,
    /// Captures, metered one after the other; - is the standard input
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
}

fn exporter_name(name: &str) -> Result<String, String> {
    match check_name(name) {
        Ok(()) => Ok(name.into()),
        Err(needed) => Err(format!("it must be {needed}")),
    }
}

/// Arguments of `flow-agent store`.
#[derive(Debug, Args)]
pub struct StoreArgs {
    /// The data folder; created if it is missing
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// Address and port to listen on; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8123", value_parser = address)]
    pub listen: SocketAddr,
    /// Listen on an address that other hosts can reach: the store has no passwords and no TLS
    #[arg(long)]
    pub allow_remote: bool,
    /// A configuration file of the engine: its keepers, macros, clusters
    #[arg(long, value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// The most memory that the engine may take, from 512
    /// [default: half of the memory of the host or of the cgroup]
    #[arg(long, value_name = "MIB",
          value_parser = clap::value_parser!(u32).range(i64::from(LEAST_MEMORY_MIB)..=1 << 24))]
    pub memory_mib: Option<u32>,
    /// Stop at the end of standard input, so that the store ends with its parent
    #[arg(long, hide = true)]
    pub stop_on_stdin_eof: bool,
    /// Serve only clients with the password that is the first line of standard input
    #[arg(long, hide = true)]
    pub key_on_stdin: bool,
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "write IP:PORT, for example 127.0.0.1:8123")
}

/// Arguments of `flow-agent backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The store: embedded:DIR or http://HOST:PORT[/DATABASE]
    #[arg(long, value_name = "STORE", default_value = "http://127.0.0.1:8123")]
    pub store: StoreTarget,
    /// How the store is reached
    #[command(flatten)]
    pub access: AccessArgs,
    /// A new folder, or a new archive NAME.tar, NAME.tar.gz or NAME.tar.zst, on the store's host;
    /// or a place that the server knows: Disk('NAME', 'PATH'), S3(...)
    #[arg(long, value_name = "PLACE", value_parser = place)]
    pub to: Place,
}

/// Arguments of `flow-agent restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The store: embedded:DIR or http://HOST:PORT[/DATABASE]
    #[arg(long, value_name = "STORE", default_value = "http://127.0.0.1:8123")]
    pub store: StoreTarget,
    /// How the store is reached
    #[command(flatten)]
    pub access: AccessArgs,
    /// What `flow-agent backup --to` was told
    #[arg(long, value_name = "PLACE", value_parser = place)]
    pub from: Place,
    /// Remove the tables that are there, with their rows, first
    #[arg(long)]
    pub replace: bool,
}

fn place(text: &str) -> Result<Place, String> {
    Place::new(text).map_err(|error| error.to_string())
}

fn parameter(text: &str) -> Result<(String, String), &'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && name.chars().all(plain) => {
            Ok((name.into(), value.into()))
        }
        _ => Err("write NAME=VALUE; NAME has letters, digits and '_'"),
    }
}

/// Arguments of `flow-agent query`.
#[derive(Debug, Args)]
pub struct QueryArgs {
    /// The store: embedded:DIR or http[s]://HOST[:PORT][/DATABASE], replicas with commas
    #[arg(long, value_name = "STORE", default_value = "http://127.0.0.1:8123")]
    pub store: StoreTarget,
    /// How the store is reached
    #[command(flatten)]
    pub access: AccessArgs,
    /// table, json, jsonl, csv, tsv, parquet, or any of ClickHouse's formats
    /// [default: as the name of --output says; table on a terminal, else tsv
    /// without names]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Write the answer to this file; it is there whole or not at all
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// A value for {NAME:Type} in the question, may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parameter)]
    pub param: Vec<(String, String)>,
    /// The question; - reads it from the standard input
    #[arg(value_name = "SQL")]
    pub sql: String,
}

/// Arguments of `flow-agent bench`.
#[cfg(feature = "live")]
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What to measure
    #[arg(value_name = "STAGE", default_value = "all")]
    pub stage: flow_agent::bench::Stage,
    /// One working set instead of 1, 1,000, 65,536 and 1,048,576 flows
    #[arg(long, value_name = "FLOWS", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub flows: Option<u32>,
    /// Rows that `insert` inserts
    #[arg(long, value_name = "ROWS", default_value_t = 1_000_000,
          value_parser = clap::value_parser!(u32).range(10_000..=20_000_000))]
    pub rows: u32,
    /// The capture that `replay` replays
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Threads of `replay` [default: as many as processors]
    #[arg(long, value_name = "THREADS")]
    pub threads: Option<NonZeroUsize>,
    /// `insert` with the rollups that hang on the table, instead of without
    #[arg(long)]
    pub rollups: bool,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Which running agent is asked.
#[cfg(feature = "live")]
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// Where the running agent serves its status [default: what --config says, or
    /// 127.0.0.1:9469]
    #[arg(long, value_name = "ADDR", value_parser = status_address)]
    pub status: Option<SocketAddr>,
    /// The configuration file of the running agent
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Holds the token that the agent wants [default: what --config says]
    #[arg(long, value_name = "FILE", env = "FLOW_AGENT_STATUS_TOKEN_FILE")]
    pub status_token_file: Option<PathBuf>,
    /// Asks over TLS, and trusts these authorities (PEM) [default: those of the system, if
    /// --config says TLS]
    #[arg(long, value_name = "FILE", env = "FLOW_AGENT_STATUS_CA_FILE")]
    pub status_ca_file: Option<PathBuf>,
}

#[cfg(feature = "live")]
fn status_address(text: &str) -> Result<SocketAddr, &'static str> {
    let bare = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    bare.parse().map_err(|_| "write IP:PORT, for example 127.0.0.1:9469")
}

/// `flow-agent cache ...`.
#[cfg(feature = "live")]
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Show size, hits, evictions, ages and the flows with most packets
    Stats {
        /// Which agent
        #[command(flatten)]
        agent: AgentArgs,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Have it emit what was counted of some flows; no packet is lost
    Invalidate(InvalidateArgs),
}

/// Arguments of `flow-agent cache invalidate`.
#[cfg(feature = "live")]
#[derive(Debug, Args)]
pub struct InvalidateArgs {
    /// Which agent
    #[command(flatten)]
    pub agent: AgentArgs,
    /// Which flows
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Remove the flows; without it they stay open and count from zero
    #[arg(long)]
    pub hard: bool,
}

/// Which flows; exactly one.
#[cfg(feature = "live")]
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct SelectionArgs {
    /// One flow, at every interface: tcp,10.0.0.1:443,10.0.0.2:51234
    #[arg(long, value_name = "FLOW")]
    pub key: Option<String>,
    /// Flows with an end in this prefix: 10.0.0.0/8
    #[arg(long, value_name = "CIDR")]
    pub prefix: Option<String>,
    /// Flows at this interface, named as in the rows
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,
    /// Flows that this version of the agent counted
    #[arg(long, value_name = "V", id = "by_version")]
    pub version: Option<String>,
    /// All flows
    #[arg(long)]
    pub all: bool,
}
