//! Arguments of `bench`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use flow_agent::bench::Stage;

/// Arguments of `flow-agent bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What to measure
    #[arg(value_name = "STAGE", default_value = "all")]
    pub stage: Stage,
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
