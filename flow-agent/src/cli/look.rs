//! Arguments of the commands that look for what is wrong: `check`, `explain`, `reconcile`.

use std::path::PathBuf;

use clap::Args;

use super::AgentArgs;

/// Arguments of `flow-agent check`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code: 0 all is well, 5 something warns, 1 something fails, 2 bad usage \
    or configuration. Nothing is changed on the host."
)]
pub struct CheckArgs {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Interface that would be metered, as for `run`, instead of those of the file
    #[arg(long, value_name = "IF")]
    pub interface: Vec<String>,
    /// Where flows would go, as for `run`
    #[arg(long, value_name = "STORE")]
    pub store: Vec<String>,
    /// Where batches would wait, as for `run`
    #[arg(long, value_name = "DIR")]
    pub spool_dir: Option<String>,
    /// One JSON object instead of lines
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `flow-agent reconcile`.
#[derive(Debug, Args)]
#[command(after_help = "Exit code: 0 everything is explained, 1 packets stay unexplained, or no \
    agent answers.")]
pub struct ReconcileArgs {
    /// Which agent
    #[command(flatten)]
    pub agent: AgentArgs,
    /// How long to compare
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// Only this interface, named as in the rows, metered or not; may be repeated
    #[arg(long, value_name = "IF")]
    pub interface: Vec<String>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `flow-agent explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Which agent
    #[command(flatten)]
    pub agent: AgentArgs,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// The flow
    #[arg(
        value_name = "FLOW",
        help = "'tcp 10.0.0.1:443 -> 10.0.0.2:5000', either end first, '<->' likewise; \
          'udp [2001:db8::1]:53 <-> [2001:db8::2]'; 'icmp 10.0.0.1 -> 10.0.0.2'; an end without \
          a port is any port. PROTOCOL,END,END works, too",
        num_args = 1..,
        required = true
    )]
    pub flow: Vec<String>,
}
