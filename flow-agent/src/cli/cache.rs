//! Arguments of `cache`: what is shown or emitted of the running agent's flows.

use clap::{Args, Subcommand};

use super::AgentArgs;

/// `flow-agent cache ...`.
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
