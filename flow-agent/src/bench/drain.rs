//! What a flow costs to drain: from the kernel's tables to the cache's queues, by what `run` calls.

use std::time::Instant;

use crossbeam::channel::bounded;
use serde::Serialize;

use super::generator::{Generator, Hook, PACKETS, Plan};
use super::kernel::ipv4;
use super::rig::{Rig, allowed_cpus, default_config, drain_into, pin};
use super::{RUNS, Spread, failed, rounded};
use crate::Error;
use crate::cache::{Cache, CacheConfig};
use crate::latency::Latency;

/// One figure.
#[derive(Debug, Serialize)]
pub struct DrainResult {
    bench: &'static str,
    /// Flows in the table, all of which were touched unless `touched` says otherwise.
    flows: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    touched: Option<u32>,
    /// Reading, clearing and the hand-over to the cache, a flow; without the flip.
    ns_per_entry: f64,
    min_ns_per_entry: f64,
    max_ns_per_entry: f64,
    /// The same for all of them.
    total_us: f64,
    /// The flip: the kernel's grace period, spent asleep, and the clocks.
    flip_us: f64,
    /// Flows that the table of one CPU has places for.
    places: u32,
    runs: usize,
}

impl DrainResult {
    /// For people.
    pub fn line(&self) -> String {
        format!(
            "drain   {:>9} flows touched, places for {:>9}: {:>8.1} ns a flow ({:.1} to {:.1}), \
             {:.0} us; and the flip, {:.1} ms",
            self.touched.unwrap_or(self.flows),
            self.places,
            self.ns_per_entry,
            self.min_ns_per_entry,
            self.max_ns_per_entry,
            self.total_us,
            self.flip_us / 1e3
        )
    }
}

/// Measures a table with all its flows touched, and with a thousand.
///
/// # Errors
/// Programs cannot be loaded, or flows are missing.
pub fn measure(flows: u32, mut report: impl FnMut(DrainResult)) -> Result<(), Error> {
    let cpus = allowed_cpus()?;
    let cache = start_cache()?;
    let mut intake = cache.intake();
    // The cache's threads have the other CPUs.
    pin(cpus.last().copied().unwrap_or(0))?;
    let frame = ipv4();
    let mut rig = Rig::new(flows)?;
    let plan = Plan { flow_offset: frame.flow_offset, ..Plan::default() };
    let mut generator = Generator::load(plan)?;
    generator.set_target(Hook::Xdp, Some(&rig.program(Hook::Xdp)?))?;
    let touches = if flows > 1000 { vec![None, Some(1000)] } else { vec![None] };
    for touched in touches {
        let workload: Vec<u32> =
            (0..PACKETS).map(|packet| packet % touched.unwrap_or(flows)).collect();
        generator.set_workload(&workload)?;
        let entries = touched.unwrap_or(flows);
        let (mut totals, mut flips) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            generator.vary(Hook::Xdp, &frame.octets, PACKETS)?;
            let started = Instant::now();
            let (sums, took) = drain_into(&mut rig, &mut intake)?;
            flips.push((started.elapsed().saturating_sub(took)).as_nanos() as f64);
            totals.push(took.as_nanos() as f64);
            let metered = sums.balance.metered.packets;
            if metered != u64::from(PACKETS) {
                return Err(failed(format!("{metered} packets drained of {PACKETS}")));
            }
        }
        let (total, flip) = (Spread(totals), Spread(flips));
        let entry = |ns: f64| rounded(ns / f64::from(entries));
        report(DrainResult {
            bench: "drain",
            flows,
            touched,
            ns_per_entry: entry(total.median()),
            min_ns_per_entry: entry(total.min()),
            max_ns_per_entry: entry(total.max()),
            total_us: rounded(total.median() / 1e3),
            flip_us: rounded(flip.median() / 1e3),
            places: rig.places(),
            runs: RUNS,
        });
    }
    drop(intake);
    cache.stop();
    Ok(())
}

/// The cache that an agent with default settings has; its records go nowhere.
pub fn start_cache() -> Result<Cache, Error> {
    let config = default_config()?;
    let (sender, _) = bounded(1);
    let config = CacheConfig {
        shards: config.shards,
        limits: config.cache.limits,
        level: config.cache.level,
        hot_flows: config.cache.hot_flows,
        seed: 7,
    };
    Cache::start(&config, &sender, &Latency::default()).map_err(Error::thread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_begins_with_what_readers_look_for() {
        let result = |touched| DrainResult {
            bench: "drain",
            flows: 65_536,
            touched,
            ns_per_entry: 4.1,
            min_ns_per_entry: 4.0,
            max_ns_per_entry: 4.2,
            total_us: 268.7,
            flip_us: 7000.0,
            places: 262_144,
            runs: RUNS,
        };
        for (touched, expected) in [
            (None, r#"{"bench":"drain","flows":65536,"ns_per_entry":4.1,"#),
            (Some(1000), r#"{"bench":"drain","flows":65536,"touched":1000,"ns_per_entry":4.1,"#),
        ] {
            let json = serde_json::to_string(&result(touched)).expect("plain values");
            assert!(json.starts_with(expected), "{json}");
        }
    }
}
