//! What a flow costs to drain: from the kernel tables to deltas, flip included.

use std::time::Instant;

use serde::Serialize;

use super::kernel::usual_frame;
use super::rig::{Hook, PACKETS, Rig, failed, pin_to_one_cpu};
use super::{RUNS, median, rounded};
use crate::Error;

/// One figure.
#[derive(Debug, Serialize)]
pub struct DrainResult {
    bench: &'static str,
    /// Places in use when the table is full, in flows.
    flows: u32,
    /// Flows that were touched since the last drain.
    touched: u32,
    /// From the flip to the last delta, ns.
    total_ns: f64,
    /// The same a flow.
    ns_per_entry: f64,
    /// The flip alone: two clock readings and the kernel's grace period, ns.
    flip_ns: f64,
}

impl DrainResult {
    /// For people.
    pub fn line(&self) -> String {
        format!(
            "drain   {:>9} flows touched of {:>9}: {:>8.1} ns a flow beyond the flip ({:.1} ms)",
            self.touched,
            self.flows,
            self.ns_per_entry,
            self.flip_ns / 1e6
        )
    }
}

/// Measures a table with all its flows touched, and with a thousand.
///
/// # Errors
/// Programs cannot be loaded, or flows are missing.
pub fn measure(flows: u32, mut report: impl FnMut(DrainResult)) -> Result<(), Error> {
    pin_to_one_cpu()?;
    let frame = usual_frame();
    let mut rig = Rig::new(flows, &frame)?;
    let mut touches = vec![flows];
    if flows > 1000 {
        touches.push(1000);
    }
    for touched in touches {
        let packets: Vec<u32> = (0..PACKETS).map(|packet| packet % touched).collect();
        rig.set_workload(&packets)?;
        let (mut totals, mut flips) = (Vec::new(), Vec::new());
        let mut deltas = Vec::with_capacity(flows as usize);
        for _ in 0..RUNS {
            rig.run(Hook::Xdp, false, &frame, PACKETS)?;
            deltas.clear();
            let started = Instant::now();
            rig.drain(&mut deltas)?;
            totals.push(started.elapsed().as_nanos() as f64);
            // A flow whose set is full leaves it and comes back: then it is drained twice.
            let metered: u64 = deltas.iter().map(|delta| delta.packets).sum();
            if deltas.len() < touched as usize || metered != u64::from(PACKETS) {
                let counts = format!("{} flows, {metered} packets", deltas.len());
                return Err(failed(format!("{counts} drained of {touched} and {PACKETS}")));
            }
            let started = Instant::now();
            rig.drain(&mut Vec::new())?;
            flips.push(started.elapsed().as_nanos() as f64);
        }
        let (total, flip) = (median(totals), median(flips));
        report(DrainResult {
            bench: "drain",
            flows,
            touched,
            total_ns: rounded(total),
            ns_per_entry: rounded((total - flip).max(0.0) / f64::from(touched)),
            flip_ns: rounded(flip),
        });
    }
    Ok(())
}
