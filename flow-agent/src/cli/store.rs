//! Arguments of the commands that serve and save a store: `store`, `backup`, `restore`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use flow_agent::backup::Place;
use flow_agent::sink::StoreTarget;
use flow_agent::store::LEAST_MEMORY_MIB;

use super::AccessArgs;

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
