//! Arguments of `run`: what overrides the configuration file.

use std::path::PathBuf;

use clap::Args;

use super::AccessArgs;

/// Arguments of `flow-agent run`; each overrides its key in the file.
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
