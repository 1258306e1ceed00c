//! What an update of the flow cache costs: no kernel, no privilege, one thread for each shard.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::updates::{Choice, START_NS, choose, pace, update, updates};
use super::{RUNS, Spread, failed, rounded};
use crate::Error;
use crate::cache::{Counter, Limits, Shard, StatsLevel, Timeouts};
use crate::record::FlowRecord;

/// Updates of a run, and at least eight of each flow: eight seconds of their time, in which each
/// has to be placed again in its list twice.
const UPDATES: usize = 2_000_000;

/// Updates that are timed one by one.
const TIMED: usize = 500_000;

/// One figure.
#[derive(Debug, Serialize)]
pub struct CacheResult {
    bench: &'static str,
    /// Flows that are updated; twice as many may be held, or, where they leave, as many.
    flows: u32,
    /// `update`: of flows that are there. `insert`: of new ones. `evict`: of new ones, each of
    /// which makes another one leave.
    work: &'static str,
    distribution: &'static str,
    statistics: &'static str,
    /// Threads, each with a shard and as many flows.
    threads: usize,
    /// Of all threads together, median of the runs.
    updates_per_s: f64,
    min_updates_per_s: f64,
    max_updates_per_s: f64,
    /// Of one thread.
    ns_per_update: f64,
    /// Updates by themselves, not by the chunk; the clock's 20 to 40 ns are in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    single: Option<Latencies>,
    hit_ratio: f64,
    /// Memory, the allocator's share included, for each flow.
    bytes_per_flow: f64,
    runs: usize,
}

/// ns.
#[derive(Debug, Serialize)]
struct Latencies {
    p50: u64,
    p99: u64,
    p999: u64,
}

impl CacheResult {
    /// For people.
    pub fn line(&self) -> String {
        let single = self.single.as_ref().map_or(String::new(), |ns| {
            format!("; one alone {} ns, p99 {}, p99.9 {}", ns.p50, ns.p99, ns.p999)
        });
        format!(
            "cache   {:>9} flows, {} {:<7}, statistics {:<8}, {} threads: {:>6.1} M a second \
             ({:.1} to {:.1}), {:.0} octets a flow{single}",
            self.flows,
            self.work,
            self.distribution,
            self.statistics,
            self.threads,
            self.updates_per_s / 1e6,
            self.min_updates_per_s / 1e6,
            self.max_updates_per_s / 1e6,
            self.bytes_per_flow,
        )
    }
}

/// What is measured.
#[derive(Clone, Copy)]
struct Case {
    flows: u32,
    work: &'static str,
    choice: Choice,
    level: StatsLevel,
    threads: usize,
}

/// Measures a working set: updates at each level of statistics, with one shard and one for each
/// CPU; new flows, with room and without.
///
/// # Errors
/// A count is wrong: then no figure is to be trusted.
pub fn measure(flows: u32, mut report: impl FnMut(CacheResult)) -> Result<(), Error> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let case = Case {
        flows,
        work: "update",
        choice: Choice::Uniform,
        level: StatsLevel::Full,
        threads: 1,
    };
    let mut cases = vec![
        case,
        Case { level: StatsLevel::Counters, ..case },
        Case { level: StatsLevel::Off, ..case },
        Case { choice: Choice::Zipf, ..case },
        Case { work: "insert", choice: Choice::New, ..case },
        Case { work: "evict", choice: Choice::New, ..case },
    ];
    cases.extend((2..=cpus).map(|threads| Case { threads, ..case }));
    for case in cases {
        report(case.measure()?);
    }
    Ok(())
}

/// What one thread found.
struct Run {
    seconds: f64,
    hit_ratio: f64,
    bytes: u64,
    flows: u64,
}

impl Case {
    fn measure(self) -> Result<CacheResult, Error> {
        let mut rates = Vec::new();
        let mut last = None;
        for _ in 0..RUNS {
            // Threads have flows of their own, as shards do.
            let runs: Vec<Result<Run, Error>> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..self.threads)
                    .map(|thread| scope.spawn(move || self.run(thread as u64)))
                    .collect();
                let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                };
                threads.into_iter().map(join).collect()
            });
            let runs: Vec<Run> = runs.into_iter().collect::<Result<_, _>>()?;
            rates.push(runs.iter().map(|run| self.updates() as f64 / run.seconds).sum());
            last = runs.into_iter().next();
        }
        let rates = Spread(rates);
        let run = last.ok_or_else(|| failed("no run"))?;
        let single = (self.work == "update" && self.threads == 1).then(|| self.single());
        Ok(CacheResult {
            bench: "cache",
            flows: self.flows,
            work: self.work,
            distribution: self.choice.label(),
            statistics: self.level.label(),
            threads: self.threads,
            updates_per_s: rates.median().round(),
            min_updates_per_s: rates.min().round(),
            max_updates_per_s: rates.max().round(),
            ns_per_update: rounded(1e9 * self.threads as f64 / rates.median()),
            single,
            hit_ratio: rounded(run.hit_ratio),
            bytes_per_flow: rounded(run.bytes as f64 / run.flows as f64),
            runs: RUNS,
        })
    }

    fn updates(self) -> usize {
        match self.choice {
            Choice::New => UPDATES,
            _ => UPDATES.max(8 * self.flows as usize),
        }
    }

    /// A shard that holds the working set, the records that it emits and the time.
    fn prepared(self, seed: u64) -> (Shard, Vec<FlowRecord>, u64) {
        let room = match self.work {
            "insert" => self.updates() * 2,
            "evict" => self.flows as usize,
            _ => self.flows as usize * 2,
        };
        let mut shard = Shard::new(Limits::new(room, Timeouts::default()), seed);
        shard.set_level(self.level);
        let mut out = Vec::new();
        // With "new", those that are there come first and have numbers of their own.
        let there: Vec<u32> = match self.choice {
            Choice::New => (u32::MAX - self.flows..u32::MAX).collect(),
            Choice::Zipf => (0..self.flows.next_power_of_two()).collect(),
            _ => (0..self.flows).collect(),
        };
        shard.update_all(updates(&there, START_NS, 0), &mut out);
        (shard, out, START_NS)
    }

    fn run(self, thread: u64) -> Result<Run, Error> {
        let flows = choose(self.choice, self.flows, self.updates(), thread + 1);
        let (mut shard, mut out, start) = self.prepared(thread);
        let (before, mut records) = (shard.stats().counts, 0);
        let step = pace(self.flows).min(10_000_000);
        let mut took = Duration::ZERO;
        // A second of the flows' time, or what a message has at least, at a time: then flows
        // expire, as between drains.
        let batch = (self.flows as usize).clamp(8192, 1 << 16);
        let (mut packets, mut now) = (0, start);
        for batch in flows.chunks(batch) {
            let began = Instant::now();
            shard.update_all(updates(batch, now, step), &mut out);
            now += batch.len() as u64 * step;
            shard.expire(now, &mut out);
            took += began.elapsed();
            packets += out.iter().map(FlowRecord::total_packets).sum::<u64>();
            records += out.len();
            out.clear();
        }
        let (stats, held) = (shard.stats(), shard.len());
        shard.flush(&mut out);
        packets += out.iter().map(FlowRecord::total_packets).sum::<u64>();
        let first = match self.choice {
            Choice::Zipf => self.flows.next_power_of_two(),
            _ => self.flows,
        };
        let expected = self.updates() as u64 + u64::from(first);
        if packets != expected {
            return Err(failed(format!("{packets} packets in {records} records, not {expected}")));
        }
        let of = |counter| (stats.counts.get(counter) - before.get(counter)) as f64;
        let (hits, misses) = (of(Counter::Hits), of(Counter::Misses));
        Ok(Run {
            seconds: took.as_secs_f64(),
            hit_ratio: if hits + misses > 0.0 { hits / (hits + misses) } else { 0.0 },
            bytes: stats.bytes,
            flows: held as u64,
        })
    }

    /// Updates one by one.
    fn single(self) -> Latencies {
        let flows = choose(self.choice, self.flows, TIMED, 9);
        let (mut shard, mut out, start) = self.prepared(1);
        let mut histogram: Histogram<u64> =
            Histogram::new_with_max(10_000_000_000, 2).expect("constant bounds are valid");
        let step = pace(self.flows).min(10_000_000);
        for (flow, i) in flows.into_iter().zip(0u64..) {
            let update = update(flow, start + i * step);
            let began = Instant::now();
            shard.update(&update, &mut out);
            histogram.saturating_record(began.elapsed().as_nanos() as u64);
            out.clear();
        }
        let at = |quantile| histogram.value_at_quantile(quantile);
        Latencies { p50: at(0.5), p99: at(0.99), p999: at(0.999) }
    }
}
