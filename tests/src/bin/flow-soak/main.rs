//! `cargo xtask soak`: one agent, a fixed load and random faults for as long as told.
//!
//! Enters: a number of minutes and a seed. Leaves: a line each minute, and the exit code. What
//! must hold: no packet is unaccounted for in any minute, memory, descriptors and threads do not
//! grow without end, and at the end every packet of the wire is in the store once, flow by flow,
//! in the table, in each rollup and in the ledger.

mod fault;
mod sample;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use flow_tests::faulty::{Faulty, batches};
use flow_tests::traffic::{self, Ends};
use flow_tests::wild::Dice;

use fault::Fault;
use sample::{Sample, slope};

/// A fixed load with random faults.
#[derive(Debug, Parser)]
struct Cli {
    /// How long
    #[arg(long, default_value_t = 20)]
    minutes: u64,
    /// Of the faults: the same seed, the same faults
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Rows of a batch.
const ROWS: usize = 200;
/// Between two samples.
const MINUTE: Duration = Duration::from_mins(1);

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("the soak has failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let mut faulty = Faulty::new()?;
    let mut dice = Dice::new(cli.seed);
    let agent = faulty.agent(&batches(ROWS))?;
    let (started, end) = (Instant::now(), MINUTE * u32::try_from(cli.minutes)?);
    let (mut samples, mut rounds): (Vec<Sample>, u64) = (Vec::new(), 0);
    println!("seed {}; {}", cli.seed, Sample::HEAD);
    while started.elapsed() < end {
        let fault = Fault::pick(&mut dice);
        let (back, during) = fault.begin(faulty, &agent, &mut dice)?;
        faulty = back;
        load(&mut faulty)?;
        faulty = during.end(faulty)?;
        agent.hear()?;
        rounds += 1;
        if started.elapsed() >= MINUTE * (samples.len() as u32 + 1) {
            let sample = Sample::of(&agent, &faulty, started.elapsed())?;
            println!("{sample}");
            ensure!(sample.unaccounted == 0, "packets are unaccounted for");
            samples.push(sample);
        }
    }
    faulty.proxy.calm();
    faulty.settle(agent)?;
    println!(
        "{rounds} rounds; {} packets of the wire are in the store, once; faults of the proxy {:?}",
        faulty.passed().packets,
        faulty.proxy.fired().all()
    );
    bounded(&samples)
}

/// A round of the load: short flows, a stream of TCP, short connections.
fn load(faulty: &mut Faulty) -> Result<()> {
    faulty.talk(300, 2)?;
    faulty.count(|lab| {
        let (left, right) = (&lab.left, &lab.right);
        traffic::bulk(Ends::v4((right, 0), (left, 0), 5201), 2 << 20, 10 << 20)?;
        traffic::short(Ends::v6((left, 0), (right, 0), 443), 20, 200, 5_000).map(drop)
    })
}

/// Nothing has grown without end since the caches were warm.
fn bounded(samples: &[Sample]) -> Result<()> {
    /// Minutes until buffers have the size that they need.
    const WARM: usize = 3;
    let Some(warm) = samples.get(WARM..) else { return Ok(()) };
    let (Some(first), Some(last)) = (warm.first(), warm.last()) else { return Ok(()) };
    let mib = slope(warm, |sample| sample.memory as f64) * 60.0 / f64::from(1 << 20);
    println!(
        "from minute {WARM} on: memory {:+.2} MiB an hour, descriptors {} to {}, threads {} to {}",
        mib, first.descriptors, last.descriptors, first.threads, last.threads
    );
    ensure!(last.memory < 2 * first.memory + (64 << 20), "memory has grown");
    ensure!(last.descriptors <= first.descriptors + 32, "descriptors have grown");
    ensure!(last.threads <= first.threads + 8, "threads have grown");
    Ok(())
}
