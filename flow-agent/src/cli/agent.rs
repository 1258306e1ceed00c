//! Which running agent a command asks.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

/// Which running agent is asked.
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

fn status_address(text: &str) -> Result<SocketAddr, &'static str> {
    let bare = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    bare.parse().map_err(|_| "write IP:PORT, for example 127.0.0.1:9469")
}
