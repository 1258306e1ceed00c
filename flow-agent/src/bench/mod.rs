//! Measurements on this host: what a packet costs in the kernel, what a flow costs to drain, to
//! cache and to store.
//!
//! Programs and tables are loaded privately and attached nowhere; the programs
//! are the shipped ones. One JSON object a line, or a table for people. Generator and workload
//! are also what tests make their packets with.

mod cache;
mod drain;
pub mod generator;
mod insert;
mod kernel;
mod live;
mod replay;
pub mod rig;
pub mod rows;
pub mod updates;
pub mod workload;

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use serde::Serialize;

use crate::Error;

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Stage {
    /// ns a packet, over an empty program.
    Kernel,
    /// ns a flow, from the kernel tables to entries.
    Drain,
    /// Updates a second of the flow cache; needs no privilege.
    Cache,
    /// Packets a second on a live veth: metered and dropped, against only dropped.
    Live,
    /// Rows a second into an embedded store; needs no privilege.
    Insert,
    /// Seconds from a capture to its flow records; needs --file and no privilege.
    Replay,
    /// Everything but the inserts and replay.
    All,
}

/// A measurement.
#[derive(Clone, Debug)]
pub struct Bench {
    /// What.
    pub stage: Stage,
    /// One working set instead of the usual ones.
    pub flows: Option<u32>,
    /// Rows to insert.
    pub rows: usize,
    /// Insert into the rollups, too.
    pub rollups: bool,
    /// The capture that is replayed.
    pub file: Option<PathBuf>,
    /// Threads that replay it; all processors without.
    pub threads: Option<NonZeroUsize>,
    /// JSON lines instead of a table.
    pub json: bool,
}

/// Working sets, in flows.
const WORKING_SETS: [u32; 4] = [1, 1_000, 65_536, 1 << 20];

/// The working set of the live measurement, in flows.
const LIVE_FLOWS: u32 = 65_536;

/// Each figure is the median of so many runs.
const RUNS: usize = 7;

impl Bench {
    /// Measures and prints.
    ///
    /// # Errors
    /// Programs cannot be loaded, or a count is wrong: then no figure is to be trusted.
    pub fn run(&self) -> Result<(), Error> {
        let sets = self.flows.map_or(WORKING_SETS.to_vec(), |flows| vec![flows]);
        let wanted = |stage| self.stage == stage || self.stage == Stage::All;
        if wanted(Stage::Kernel) {
            for flows in &sets {
                kernel::measure(*flows, |result| self.print(&result, &result.line()))?;
            }
        }
        if wanted(Stage::Drain) {
            for flows in &sets {
                drain::measure(*flows, |result| self.print(&result, &result.line()))?;
            }
        }
        if wanted(Stage::Cache) {
            for flows in &sets {
                cache::measure(*flows, |result| self.print(&result, &result.line()))?;
            }
        }
        if wanted(Stage::Live) {
            let flows = self.flows.unwrap_or(LIVE_FLOWS);
            live::measure(flows, |result| self.print(&result, &result.line()))?;
        }
        if self.stage == Stage::Insert {
            insert::measure(self.rows, self.rollups, |result| self.print(&result, &result.line()))?;
        }
        if self.stage == Stage::Replay {
            let Some(file) = &self.file else {
                return Err(failed("replay needs --file; `cargo xtask capture` makes one"));
            };
            replay::measure(file, self.threads, |result| self.print(&result, &result.line()))?;
        }
        Ok(())
    }

    fn print(&self, result: &impl Serialize, line: &str) {
        let mut out = std::io::stdout();
        let line = if self.json {
            serde_json::to_string(result).unwrap_or_default()
        } else {
            line.to_string()
        };
        // A reader that has gone away wants no more.
        let _ = writeln!(out, "{line}");
    }
}

/// An odd number of measurements of one thing.
struct Spread(Vec<f64>);

impl Spread {
    /// The middle one.
    fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }

    fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn max(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }
}

/// A measurement that cannot be made or trusted.
fn failed(problem: impl std::fmt::Display) -> Error {
    Error::Measurement { problem: problem.to_string() }
}

/// Two decimals are more than a measurement has.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
