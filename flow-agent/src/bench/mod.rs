//! Measurements on this host: what a packet costs in the kernel, what a flow costs to drain.
//!
//! Programs and tables are loaded privately and attached nowhere; the programs
//! are the shipped ones. One JSON object a line, or a table for people.

mod drain;
mod kernel;
mod rig;
mod workload;

use std::io::Write;

use serde::Serialize;

use crate::Error;

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Stage {
    /// ns a packet, over an empty program.
    Kernel,
    /// ns a flow, from the kernel tables to deltas.
    Drain,
    /// Everything.
    All,
}

/// A measurement.
#[derive(Clone, Copy, Debug)]
pub struct Bench {
    /// What.
    pub stage: Stage,
    /// One working set instead of the usual ones.
    pub flows: Option<u32>,
    /// JSON lines instead of a table.
    pub json: bool,
}

/// Working sets, in flows.
const WORKING_SETS: [u32; 4] = [1, 1_000, 65_536, 1 << 20];

/// Each figure is the median of so many runs.
const RUNS: usize = 7;

impl Bench {
    /// Measures and prints.
    ///
    /// # Errors
    /// Programs cannot be loaded, or a count is wrong: then no figure is to be trusted.
    pub fn run(&self) -> Result<(), Error> {
        let sets = self.flows.map_or(WORKING_SETS.to_vec(), |flows| vec![flows]);
        if self.stage != Stage::Drain {
            for flows in &sets {
                kernel::measure(*flows, |result| self.print(&result, &result.line()))?;
            }
        }
        if self.stage != Stage::Kernel {
            for flows in &sets {
                drain::measure(*flows, |result| self.print(&result, &result.line()))?;
            }
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

/// The middle of an odd number of measurements.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Two decimals are more than a measurement has.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
