//! The command line, as typed. Each command's module validates its part.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

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
    /// Serve the embedded ClickHouse engine over its HTTP interface
    Store(StoreArgs),
}

/// Arguments of `flow-agent store`.
#[derive(Debug, Args)]
pub struct StoreArgs {
    /// The data folder; created if it is missing
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// Address and port to listen on; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8123")]
    pub listen: SocketAddr,
    /// Listen on an address that other hosts can reach: the store has no passwords and no TLS
    #[arg(long)]
    pub allow_remote: bool,
    /// Stop at the end of standard input, so that the store ends with its parent
    #[arg(long, hide = true)]
    pub stop_on_stdin_eof: bool,
}
