//! What the agent takes, and what its ledger says, at one moment.

use std::fmt;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use flow_tests::faulty::Faulty;
use flow_tests::process::{Agent, memory};
use flow_tests::status::Status;
use serde_json::Value;

/// A moment.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Since the start.
    pub after: Duration,
    /// Resident, without files, in octets.
    pub memory: u64,
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
    /// Packets that a hook was given.
    pub seen: u64,
    /// Packets in the store.
    pub acknowledged: u64,
    /// Packets on their way.
    pub in_flight: i64,
    /// Packets that nothing explains.
    pub unaccounted: i64,
    /// Faults of the proxy so far.
    pub faults: u64,
}

impl Sample {
    /// What the columns are.
    pub const HEAD: &str = "minute: memory, descriptors, threads; packets seen, stored, on their \
                            way, unaccounted; faults of the proxy";

    /// Of this moment.
    pub fn of(agent: &Agent, faulty: &Faulty, after: Duration) -> Result<Self> {
        let total = Status::of(agent)?.json("/api/v1/ledger")?["total"].take();
        let packets = |entry: &str| -> Result<i64> {
            let none = Value::from(0);
            let found = total.get(entry).map_or(&none, |entry| &entry["packets"]);
            found.as_i64().with_context(|| format!("no packets of {entry}: {total}"))
        };
        let entries = |folder: &str| -> Result<usize> {
            Ok(fs::read_dir(format!("/proc/{}/{folder}", agent.id()))?.count())
        };
        Ok(Self {
            after,
            memory: memory(agent.id())?,
            descriptors: entries("fd")?,
            threads: entries("task")?,
            seen: packets("seen")?.unsigned_abs(),
            acknowledged: packets("acknowledged")?.unsigned_abs(),
            in_flight: packets("in_flight")?,
            unaccounted: packets("unaccounted")?,
            faults: faulty.proxy.fired().total(),
        })
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>6.1}: {:>5.1} MiB, {}, {}; {}, {}, {}, {}; {}",
            self.after.as_secs_f64() / 60.0,
            self.memory as f64 / f64::from(1 << 20),
            self.descriptors,
            self.threads,
            self.seen,
            self.acknowledged,
            self.in_flight,
            self.unaccounted,
            self.faults
        )
    }
}

/// How a figure grows in a minute, by least squares.
pub fn slope(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> f64 {
    let count = samples.len() as f64;
    let minutes = |sample: &Sample| sample.after.as_secs_f64() / 60.0;
    let mean = |of: &dyn Fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(&minutes), mean(&of));
    let spread: f64 = samples.iter().map(|sample| (minutes(sample) - x).powi(2)).sum();
    let both: f64 = samples.iter().map(|one| (minutes(one) - x) * (of(one) - y)).sum();
    if spread > 0.0 { both / spread } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_slope_and_a_point_none() {
        let sample = |minute: u64| Sample {
            after: Duration::from_mins(minute),
            memory: 100 + 7 * minute,
            descriptors: 0,
            threads: 0,
            seen: 0,
            acknowledged: 0,
            in_flight: 0,
            unaccounted: 0,
            faults: 0,
        };
        let samples: Vec<Sample> = (1..9).map(sample).collect();
        let grown = slope(&samples, |sample| sample.memory as f64);
        assert!((grown - 7.0).abs() < 1e-9, "{grown}");
        assert!(slope(&samples[..1], |sample| sample.memory as f64).abs() < 1e-9);
    }
}
