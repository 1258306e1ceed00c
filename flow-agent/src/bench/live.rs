//! What a receiver takes that meters every packet and then drops it, against one that only drops.
//!
//! One CPU sends live frames over a veth pair as fast as it can and runs the receiving XDP program
//! (a veth's softirq runs where its sender is); the others drain as a running agent does. The
//! pairs are in a network namespace that has no name and ends with the threads in it.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use aya::programs::{Program, Xdp, XdpMode};
use rustix::thread::UnshareFlags;
use serde::Serialize;

use super::drain::start_cache;
use super::generator::{Generator, PACKETS, Plan, Traffic};
use super::kernel::ipv4;
use super::rig::{Rig, allowed_cpus, default_config, drain_into, pin};
use super::workload::{Distribution, workload};
use super::{RUNS, Spread, failed, rounded};
use crate::Error;
use crate::cache::Intake;
use crate::run::{LOOK, nearly_full};

/// Packets of a run: about a second.
const RUN: u32 = 8 * PACKETS;

/// The pair whose receiver only drops, and the one whose receiver meters: sender, receiver.
const DROPPED: (&str, &str) = ("drop-out", "drop-in");
const METERED: (&str, &str) = ("meter-out", "meter-in");

/// One figure.
#[derive(Debug, Serialize)]
pub struct LiveResult {
    bench: &'static str,
    ip: u8,
    flows: u32,
    distribution: &'static str,
    /// Million packets a second that an empty program drops.
    drop_mpps: f64,
    /// Million packets a second that are metered, then dropped.
    metered_mpps: f64,
    /// The second by the first: the median of the runs, smallest and largest.
    ratio: f64,
    min_ratio: f64,
    max_ratio: f64,
    runs: usize,
    /// The share of metered packets that were counted as lost.
    lost: f64,
}

impl LiveResult {
    /// For people.
    pub fn line(&self) -> String {
        format!(
            "live    {:>9} flows {:<8} {:>6.2} Mpps metered and dropped, {:.2} only dropped: \
             {:.1} % ({:.1} to {:.1})",
            self.flows,
            self.distribution,
            self.metered_mpps,
            self.drop_mpps,
            self.ratio * 100.0,
            self.min_ratio * 100.0,
            self.max_ratio * 100.0
        )
    }
}

/// Measures both distributions.
///
/// # Errors
/// The namespace, the pairs or the programs cannot be made, or packets are missing.
pub fn measure(flows: u32, report: impl FnMut(LiveResult) + Send) -> Result<(), Error> {
    std::thread::scope(|scope| {
        let inside = move || {
            enter_new_namespace()?;
            for (sender, receiver) in [DROPPED, METERED] {
                make_pair(sender, receiver)?;
            }
            measure_here(flows, report)
        };
        scope.spawn(inside).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn measure_here(flows: u32, mut report: impl FnMut(LiveResult)) -> Result<(), Error> {
    let frame = ipv4();
    let generator = |output: &str| -> Result<Generator, Error> {
        let output_ifindex = ifindex(output)?;
        Generator::load(Plan { flow_offset: frame.flow_offset, output_ifindex, churn: 0 })
    };
    let (mut dropped, mut metered) = (generator(DROPPED.0)?, generator(METERED.0)?);
    attach(dropped.ebpf.program_mut("drop_xdp"), DROPPED.1)?;
    let mut rig = Rig::dropping(ifindex(METERED.1)?)?;
    let xdp = rig.kernel.xdp()?;
    xdp.attach_to_if_index(ifindex(METERED.1)?, XdpMode::Driver).map_err(failed)?;
    let cache = start_cache(rig.kernel.size)?;
    let mut intake = cache.intake(rig.drain.partition(cache.shards()));
    // Cache and drain have the other CPUs.
    let cpus = allowed_cpus()?;
    let sending = cpus.last().copied().unwrap_or(0);
    for distribution in Distribution::ALL {
        let flow_of = workload(distribution, flows, PACKETS as usize, 7);
        dropped.set_workload(&flow_of)?;
        metered.set_workload(&flow_of)?;
        let (mut drops, mut meters, mut lost) = (Vec::new(), Vec::new(), 0.0);
        for run in 0..=RUNS {
            let drop = rate(&dropped, DROPPED.1, &frame.octets, sending)?;
            let (meter, share) =
                metered_rate(&metered, &mut rig, &mut intake, &frame.octets, sending)?;
            // The first run warms both up.
            if run > 0 {
                drops.push(drop);
                meters.push(meter);
                lost += share / RUNS as f64;
            }
        }
        let ratios = Spread(meters.iter().zip(&drops).map(|(meter, drop)| meter / drop).collect());
        let ratio = |value: f64| (value * 1e4).round() / 1e4;
        report(LiveResult {
            bench: "live",
            ip: 4,
            flows,
            distribution: distribution.label(),
            drop_mpps: rounded(Spread(drops).median()),
            metered_mpps: rounded(Spread(meters).median()),
            ratio: ratio(ratios.median()),
            min_ratio: ratio(ratios.min()),
            max_ratio: ratio(ratios.max()),
            runs: RUNS,
            lost,
        });
    }
    drop(intake);
    cache.stop();
    Ok(())
}

/// Million packets a second that a receiver gets of one run.
fn rate(generator: &Generator, receiver: &str, frame: &[u8], cpu: usize) -> Result<f64, Error> {
    let before = received(receiver)?;
    // On a thread of its own, so that only the sending is bound to the CPU.
    let took = std::thread::scope(|scope| {
        let send = || {
            pin(cpu)?;
            generator.send(Traffic::Workload, frame, RUN)
        };
        scope.spawn(send).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    Ok((received(receiver)? - before) as f64 / took.as_secs_f64() / 1e6)
}

/// The same while draining; with the share that was counted as lost. What the interface received,
/// what the programs saw and what was drained must be the same number.
fn metered_rate(
    generator: &Generator,
    rig: &mut Rig,
    intake: &mut Intake,
    frame: &[u8],
    cpu: usize,
) -> Result<(f64, f64), Error> {
    let before = received(METERED.1)?;
    let sent = AtomicBool::new(false);
    let interval = default_config()?.drain_interval;
    let (rate, seen, metered, lost) = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let rate = rate(generator, METERED.1, frame, cpu);
            sent.store(true, Ordering::Release);
            rate
        });
        let (mut seen, mut metered, mut lost) = (0, 0, 0);
        let mut drain = |rig: &mut Rig| -> Result<(), Error> {
            let (sums, _) = drain_into(rig, intake)?;
            seen += sums.balance.seen.packets;
            metered += sums.balance.metered.packets;
            lost += sums.lost();
            Ok(())
        };
        let mut next = Instant::now() + interval;
        while !sent.load(Ordering::Acquire) {
            std::thread::park_timeout(LOOK);
            if Instant::now() >= next || nearly_full(rig.drain.fill_level()) {
                next = Instant::now() + interval;
                drain(rig)?;
            }
        }
        // Both generations.
        drain(rig)?;
        drain(rig)?;
        let rate = sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok::<_, Error>((rate, seen, metered, lost))
    })?;
    let came = received(METERED.1)? - before;
    if seen != came || metered + lost != came {
        let counts = format!("{came} came, {seen} seen, {metered} metered, {lost} lost");
        return Err(failed(counts));
    }
    Ok((rate, lost as f64 / came as f64))
}

/// Moves this thread into a network namespace of its own; threads that it starts are in it, too.
fn enter_new_namespace() -> Result<(), Error> {
    #[expect(deprecated, reason = "unsafe for file tables only; the network is nobody's memory")]
    rustix::thread::unshare(UnshareFlags::NEWNET).map_err(|errno| {
        failed(format!("a network namespace was refused ({errno}): run as root"))
    })?;
    // Nothing is sent but what is measured.
    std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").map_err(failed)
}

fn make_pair(sender: &str, receiver: &str) -> Result<(), Error> {
    ip(&["link", "add", sender, "type", "veth", "peer", "name", receiver])?;
    ip(&["link", "set", sender, "up"])?;
    ip(&["link", "set", receiver, "up"])?;
    Ok(())
}

fn attach(program: Option<&mut Program>, interface: &str) -> Result<(), Error> {
    let program: &mut Xdp =
        program.ok_or_else(|| failed("no program"))?.try_into().map_err(failed)?;
    program.attach_to_if_index(ifindex(interface)?, XdpMode::Driver).map_err(failed)?;
    Ok(())
}

fn ifindex(interface: &str) -> Result<u32, Error> {
    let link = link(interface)?;
    let index = link["ifindex"].as_u64().and_then(|index| u32::try_from(index).ok());
    index.ok_or_else(|| failed(format!("`ip` says no ifindex of {interface}")))
}

/// Packets that the interface has received, also those that XDP dropped.
fn received(interface: &str) -> Result<u64, Error> {
    let packets = &link(interface)?["stats64"]["rx"]["packets"];
    packets.as_u64().ok_or_else(|| failed(format!("`ip` says no statistics of {interface}")))
}

fn link(interface: &str) -> Result<serde_json::Value, Error> {
    let json = ip(&["-statistics", "-json", "link", "show", "dev", interface])?;
    let mut links: Vec<serde_json::Value> = serde_json::from_slice(&json).map_err(failed)?;
    links.pop().ok_or_else(|| failed(format!("`ip` does not know {interface}")))
}

/// Runs `ip` in the namespace of this thread; what it printed.
fn ip(arguments: &[&str]) -> Result<Vec<u8>, Error> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .map_err(|error| failed(format!("`ip` cannot be started ({error}): install iproute2")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(format!("ip {}: {}", arguments.join(" "), said.trim())));
    }
    Ok(output.stdout)
}
