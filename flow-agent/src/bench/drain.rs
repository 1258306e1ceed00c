//! What a flow costs to drain: out of the kernel's tables, and into the cache, by what `run` calls.

use std::hint::black_box;

use crossbeam::channel::bounded;
use serde::Serialize;

use super::generator::{Generator, Hook, PACKETS, Plan};
use super::kernel::ipv4;
use super::rig::{Rig, Sums, allowed_cpus, default_config, drain_into, pin};
use super::{RUNS, Spread, failed, rounded};
use crate::Error;
use crate::attach::TableSize;
use crate::cache::{Cache, CacheConfig};
use crate::drain::{FlowEntry, Here, Interval, Partition};
use crate::latency::Latency;

/// One figure.
#[derive(Debug, Serialize)]
pub struct DrainResult {
    bench: &'static str,
    /// Flows in the table, all of which were touched unless `touched` says otherwise.
    flows: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    touched: Option<u32>,
    /// CPU time of reading, clearing and handing over a flow; without the flip and without
    /// what the cache does with it.
    ns_per_entry: f64,
    min_ns_per_entry: f64,
    max_ns_per_entry: f64,
    /// The same for all of them.
    total_us: f64,
    /// CPU time of all threads, a flow, when the shards of the cache read the tables and
    /// count the flow there.
    cached_ns_per_entry: f64,
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
             {:.0} us; with the cache {:.1} ns; and the flip, {:.1} ms",
            self.touched.unwrap_or(self.flows),
            self.places,
            self.ns_per_entry,
            self.min_ns_per_entry,
            self.max_ns_per_entry,
            self.total_us,
            self.cached_ns_per_entry,
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
    let frame = ipv4();
    let mut rig = Rig::new(flows)?;
    let cache = start_cache(rig.kernel.size)?;
    let mut intake = cache.intake(rig.drain.partition(cache.shards()));
    // The cache's threads have the other CPUs.
    pin(cpus.last().copied().unwrap_or(0))?;
    let plan = Plan { flow_offset: frame.flow_offset, ..Plan::default() };
    let mut generator = Generator::load(plan)?;
    generator.set_target(Hook::Xdp, Some(&rig.program(Hook::Xdp)?))?;
    let touches = if flows > 1000 { vec![None, Some(1000)] } else { vec![None] };
    for touched in touches {
        let workload: Vec<u32> =
            (0..PACKETS).map(|packet| packet % touched.unwrap_or(flows)).collect();
        generator.set_workload(&workload)?;
        let entries = touched.unwrap_or(flows);
        let (mut totals, mut flips, mut cached) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..RUNS {
            generator.vary(Hook::Xdp, &frame.octets, PACKETS)?;
            // Every line that the cache would read is read.
            let mut sum = 0u64;
            let mut read = Here(|entry: FlowEntry<'_>, _: &Interval| {
                sum = sum.wrapping_add(entry.hot.octets ^ entry.first_ns);
            });
            let (sums, cost) = drain_into(&mut rig, &mut read)?;
            black_box(sum);
            totals.push(cost.thread.as_nanos() as f64);
            flips.push(cost.flip.as_nanos() as f64);
            all_metered(&sums)?;
            generator.vary(Hook::Xdp, &frame.octets, PACKETS)?;
            let (sums, cost) = drain_into(&mut rig, &mut intake)?;
            cached.push(cost.process.as_nanos() as f64);
            all_metered(&sums)?;
        }
        let (total, flip, cached) = (Spread(totals), Spread(flips), Spread(cached));
        let entry = |ns: f64| rounded(ns / f64::from(entries));
        report(DrainResult {
            bench: "drain",
            flows,
            touched,
            ns_per_entry: entry(total.median()),
            min_ns_per_entry: entry(total.min()),
            max_ns_per_entry: entry(total.max()),
            total_us: rounded(total.median() / 1e3),
            cached_ns_per_entry: entry(cached.median()),
            flip_us: rounded(flip.median() / 1e3),
            places: rig.places(),
            runs: RUNS,
        });
    }
    drop(intake);
    cache.stop();
    Ok(())
}

/// An error unless every packet of a run was metered.
fn all_metered(sums: &Sums) -> Result<(), Error> {
    let metered = sums.balance.metered.packets;
    if metered == u64::from(PACKETS) {
        return Ok(());
    }
    Err(failed(format!("{metered} packets drained of {PACKETS}")))
}

/// The cache that an agent with default settings has beside tables of this size; its records
/// go nowhere.
pub fn start_cache(size: TableSize) -> Result<Cache, Error> {
    let config = default_config()?;
    let (sender, _) = bounded(1);
    let config = CacheConfig {
        shards: Partition::even_parts(size, config.shards),
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
            cached_ns_per_entry: 60.0,
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
