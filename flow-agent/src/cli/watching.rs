//! The command lines of `top`, `report` and `plan`.

use std::path::PathBuf;

use clap::Args;
use flow_agent::report::{Format, Kind, Span, Window};
use flow_agent::sink::StoreTarget;
use jiff::Timestamp;

use super::AccessArgs;

/// Arguments of `flow-agent top`.
#[cfg(feature = "live")]
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Which agent
    #[command(flatten)]
    pub agent: super::AgentArgs,
    /// Time between two looks, 0.2 to 60
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    pub interval: std::time::Duration,
    /// Flows that are shown: those with the most octets, 1 to 200
    #[arg(long, value_name = "FLOWS", default_value_t = 200,
          value_parser = clap::value_parser!(u16).range(1..=200))]
    pub limit: u16,
    /// Sort by this column at first: source, destination, proto, service, interface, dir,
    /// packets, octets, rate or age
    #[arg(long, value_name = "COLUMN", default_value = "octets")]
    pub sort: flow_agent::top::Column,
    /// Show flows that have all of these words: part of an address, protocol, service, interface
    /// or direction; :443 for a port; 10.0.0.0/8 for a network
    #[arg(long, value_name = "WORDS", default_value = "", hide_default_value = true)]
    pub filter: String,
    /// Folder of what is exported
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub export_dir: PathBuf,
    /// Print the flows once, after two looks, for scripts and pipes
    #[arg(long)]
    pub once: bool,
    /// With --once, as JSON
    #[arg(long, requires = "once")]
    pub json: bool,
}

#[cfg(feature = "live")]
fn interval(text: &str) -> Result<std::time::Duration, &'static str> {
    let seconds = text.parse().ok().filter(|seconds| (0.2..=60.0).contains(seconds));
    seconds.map(std::time::Duration::from_secs_f64).ok_or("write seconds from 0.2 to 60")
}

/// Arguments of `flow-agent report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// What it is about
    #[arg(value_name = "REPORT")]
    pub kind: Kind,
    /// The store: embedded:DIR or http[s]://HOST[:PORT][/DATABASE], replicas with commas
    #[arg(long, value_name = "STORE", default_value = "http://127.0.0.1:8123")]
    pub store: StoreTarget,
    /// How the store is reached
    #[command(flatten)]
    pub access: AccessArgs,
    /// The time until now: 90m, 1h, 7d [default: 1h]
    #[arg(long, value_name = "TIME", conflicts_with_all = ["from", "to"])]
    pub last: Option<Span>,
    /// From this time: 2026-11-20T13:00:00Z, or '2026-11-20 13:00' for UTC
    #[arg(long, value_name = "TIME", value_parser = Window::time)]
    pub from: Option<Timestamp>,
    /// To this time, excluded [default: now]
    #[arg(long, value_name = "TIME", value_parser = Window::time, requires = "from")]
    pub to: Option<Timestamp>,
    /// Rows of each section
    #[arg(long, value_name = "ROWS", default_value_t = 20,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// How it is written [default: as the name of --output says, else table]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Write it to this file; it is there whole or not at all
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Arguments of `flow-agent plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Hosts with an agent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub hosts: u64,
    /// Packets a second that one host meters, each interface for itself
    #[arg(long, value_name = "P", value_parser = amount)]
    pub packets_per_second: f64,
    /// Flow records a second of one host: flows that end, and one a minute of those that go on
    #[arg(long, value_name = "F", value_parser = amount)]
    pub flows_per_second: f64,
    /// Flows of one host that are open at a time [default: flows/s times the idle timeout]
    #[arg(long, value_name = "FLOWS", value_parser = amount)]
    pub open_flows: Option<f64>,
    /// Days that rows of flows are kept
    #[arg(long, value_name = "DAYS", default_value_t = 15,
          value_parser = clap::value_parser!(u32).range(2..=3650))]
    pub retention_days: u32,
    /// Days that rows by the minute are kept; at least as many
    #[arg(long, value_name = "DAYS", default_value_t = 90,
          value_parser = clap::value_parser!(u32).range(2..=3650))]
    pub retention_1m_days: u32,
    /// Days that rows by the hour are kept; at least as many
    #[arg(long, value_name = "DAYS", default_value_t = 400,
          value_parser = clap::value_parser!(u32).range(2..=3650))]
    pub retention_1h_days: u32,
    /// Copies of each row
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=9))]
    pub replicas: u32,
    /// Age of a batch, as the configuration has it
    #[arg(long, value_name = "MS", default_value_t = 1000,
          value_parser = clap::value_parser!(u32).range(10..=60_000))]
    pub batch_age_ms: u32,
    /// Emit a flow after this long without a packet, as the configuration has it
    #[arg(long, value_name = "SECONDS", default_value_t = 15,
          value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub idle_timeout: u32,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

fn amount(text: &str) -> Result<f64, &'static str> {
    let amount = text.parse().ok().filter(|amount| (0.0..=1e12).contains(amount));
    amount.ok_or("write a number from 0 to 10^12, for example 50000 or 0.5")
}
