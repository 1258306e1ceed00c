//! What a replay costs: a capture becomes a finished set of flow records in memory. Needs no
//! privilege; the file should be in the page cache, as it is after the first run.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::{Spread, failed, rounded};
use crate::Error;
use crate::cache::Timeouts;
use crate::ledger::{Entry, Ledger};
use crate::record::FlowRecord;
use crate::replay::CaptureMeter;
use crate::replay::capture::{Block, Capture};

/// Each figure is the median of so many runs.
const RUNS: usize = 5;

/// Open flows at one time, as `flow-agent replay` has it.
const MAX_FLOWS: usize = 1_000_000;

/// One figure.
#[derive(Debug, Serialize)]
pub struct ReplayResult {
    bench: &'static str,
    packets: u64,
    flows: u64,
    threads: usize,
    /// To find all packets of the file, on one thread.
    walk_s: f64,
    /// To the last flow record, all of them kept; median, smallest and largest.
    flow_set_s: f64,
    min_s: f64,
    max_s: f64,
    /// The median of the processor time, of all threads: what others do on the machine changes
    /// it least.
    cpu_s: f64,
    million_packets_per_s: f64,
}

impl ReplayResult {
    /// For people.
    pub fn line(&self) -> String {
        format!(
            "replay  {} packets, {} flow records, {} threads: {:.3} s ({:.3} to {:.3}), CPU {:.3} s, \
             {:.1} M packets a second; finding the packets alone {:.3} s",
            self.packets,
            self.flows,
            self.threads,
            self.flow_set_s,
            self.min_s,
            self.max_s,
            self.cpu_s,
            self.million_packets_per_s,
            self.walk_s,
        )
    }
}

/// Measures a capture.
///
/// # Errors
/// It cannot be read, or packets are in no record.
pub fn measure(
    file: &Path,
    threads: Option<NonZeroUsize>,
    mut result: impl FnMut(ReplayResult),
) -> Result<(), Error> {
    let (mut walks, mut sets, mut cpus) = (Vec::new(), Vec::new(), Vec::new());
    let (mut packets, mut flows, mut used) = (0, 0, 0);
    // The first run reads the file into the page cache.
    for run in 0..=RUNS {
        let walk_s = walk(file)?;
        let (started, cpu) = (Instant::now(), cpu_s());
        let mut meter = CaptureMeter::new(MAX_FLOWS, Timeouts::default(), false);
        if let Some(threads) = threads {
            meter = meter.with_threads(threads);
        }
        let mut records = Vec::new();
        let mut capture = Capture::open(file, "bench").map_err(failed)?;
        meter
            .capture(
                &mut capture,
                |_| (),
                |more, _| {
                    records.push(std::mem::take(more));
                    Ok(())
                },
            )
            .map_err(failed)?;
        meter
            .finish(|more, _| {
                records.push(std::mem::take(more));
                Ok(())
            })
            .map_err(failed)?;
        let (flow_set_s, cpu) = (started.elapsed().as_secs_f64(), cpu_s() - cpu);
        let ledger = Ledger::default();
        meter.post(&ledger);
        let totals = ledger.totals();
        let total = |entry| totals.get(&entry).map_or(0, |count| count.packets);
        let in_records = records.iter().flatten().map(FlowRecord::total_packets).sum::<u64>();
        if in_records != total(Entry::Drained) {
            return Err(failed(format!(
                "{in_records} packets are in records, {} were metered",
                total(Entry::Drained)
            )));
        }
        packets = total(Entry::Seen);
        flows = records.iter().map(Vec::len).sum::<usize>() as u64;
        used = meter.threads();
        if run > 0 {
            walks.push(walk_s);
            sets.push(flow_set_s);
            cpus.push(cpu);
        }
    }
    let (walks, sets, cpus) = (Spread(walks), Spread(sets), Spread(cpus));
    let milliseconds = |seconds: f64| (seconds * 1e3).round() / 1e3;
    result(ReplayResult {
        bench: "replay",
        packets,
        flows,
        threads: used,
        walk_s: milliseconds(walks.median()),
        flow_set_s: milliseconds(sets.median()),
        min_s: milliseconds(sets.min()),
        max_s: milliseconds(sets.max()),
        cpu_s: milliseconds(cpus.median()),
        million_packets_per_s: rounded(packets as f64 / 1e6 / sets.median()),
    });
    Ok(())
}

fn walk(file: &Path) -> Result<f64, Error> {
    let started = Instant::now();
    let mut capture = Capture::open(file, "bench").map_err(failed)?;
    let mut block = Block::default();
    while capture.end().is_none() {
        capture.next_block(&mut block).map_err(failed)?;
    }
    Ok(started.elapsed().as_secs_f64())
}

/// Processor time of this process so far.
fn cpu_s() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}
