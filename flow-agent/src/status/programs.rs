//! The section `programs` of the status: what a packet costs in the kernel.

use serde_json::{Value, json};

use crate::attach::{CountedFor, ProgramReading, STATISTICS_SYSCTL};

/// What was read; where the kernel does not count, explicit nulls and how to have it count.
pub fn section(reading: &ProgramReading) -> Value {
    let counted = reading.counted_for;
    let each: Vec<_> = reading
        .programs
        .iter()
        .map(|(name, runs)| {
            json!({
                "name": name,
                "runs": counted.map(|_| runs.count),
                "run_time_ns": counted.map(|_| runs.time_ns),
            })
        })
        .collect();
    json!({
        "counted_for": counted.map(CountedFor::label),
        "switch_on": counted.is_none().then(|| format!("sysctl {STATISTICS_SYSCTL}=1")),
        "ns_per_run": reading.mean_ns(),
        "cpu_share": reading.cpu_share(),
        "each": each,
    })
}
