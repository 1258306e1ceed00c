//! Arguments of `replay`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use flow_agent::host::check_name;
use flow_agent::replay::OutputTarget;

use super::AccessArgs;

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
