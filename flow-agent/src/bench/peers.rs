//! The shipped program beside hash-map programs as other flow agents have them
//! (`flow-ebpf/src/peers.rs`), on the same packets, in turns: on one CPU, and on all at once.

use std::time::Duration;

use aya::maps::{HashMap, MapData, PerCpuHashMap};
use aya::programs::{Program, ProgramFd, Xdp};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use serde::Serialize;

use super::generator::{Generator, Hook, PACKETS, Plan, program};
use super::kernel::ipv4;
use super::rig::{Rig, allowed_cpus, pin};
use super::workload::{Distribution, workload};
use super::{RUNS, Spread, failed, rounded};
use crate::Error;

/// The compiled `flow-peers`.
const OBJECT: &[u8] = include_bytes_aligned!(env!("FLOW_PEERS_OBJECT"));

/// Programs of that object, and the map of each; true where each CPU has values of its own.
const PEERS: [(&str, &str, bool); 4] = [
    ("percpu_hash", "PER_CPU_HASH", true),
    ("hash", "HASH", false),
    ("lru_hash", "LRU_HASH", false),
    ("lru_percpu_hash", "LRU_PER_CPU_HASH", true),
];

/// Key and value, as in `flow-ebpf/src/peers.rs`.
type Key = [u32; 10];
type Value = [u64; 5];

/// Beyond so many flows the maps are not read: that takes longer than measuring.
const MOST_READ: u32 = 100_000;

/// Working sets, in flows.
pub const WORKING_SETS: [u32; 3] = [1_000, 65_536, 1 << 20];

/// Packets of a run on each CPU.
const TIMED: u32 = PACKETS;

/// One figure.
#[derive(Debug, Serialize)]
pub struct PeerResult {
    bench: &'static str,
    program: &'static str,
    flows: u32,
    distribution: &'static str,
    /// CPUs that run it at once.
    cpus: usize,
    /// What it takes over an empty program, ns a packet and CPU: median of the runs.
    over_floor_ns: f64,
    min_over_floor_ns: f64,
    max_over_floor_ns: f64,
    runs: usize,
}

impl PeerResult {
    /// For people.
    pub fn line(&self) -> String {
        format!(
            "peers   {:<16} {:>9} flows {:<8} {} CPUs {:>7.1} ns a packet over the floor \
             ({:.1} to {:.1})",
            self.program,
            self.flows,
            self.distribution,
            self.cpus,
            self.over_floor_ns,
            self.min_over_floor_ns,
            self.max_over_floor_ns
        )
    }
}

/// Measures a working set by XDP with IPv4 packets, which all of them meter.
///
/// # Errors
/// Programs cannot be loaded, or packets are missing.
pub fn measure(flows: u32, mut report: impl FnMut(PeerResult)) -> Result<(), Error> {
    let cpus = allowed_cpus()?;
    let frame = ipv4();
    let plan = Plan { flow_offset: frame.flow_offset, ..Plan::default() };
    let mut generator = Generator::load(plan)?;
    let mut rig = Rig::new(flows)?;
    for distribution in Distribution::ALL {
        generator.set_workload(&workload(distribution, flows, PACKETS as usize, 7))?;
        // New maps: flows of the other distribution are no part of this one.
        let peers = load(flows)?;
        let mut programs = vec![("flow-agent", rig.program(Hook::Xdp)?)];
        for (name, ..) in PEERS {
            let fd = program::<Xdp>(&peers, name)?.fd().map_err(failed)?;
            programs.push((name, fd.try_clone().map_err(failed)?));
        }
        let used = if cpus.len() > 1 { vec![1, cpus.len()] } else { vec![1] };
        for used in used {
            let on = &cpus[cpus.len() - used..];
            let results = turns(&mut generator, &mut rig, &programs, &frame.octets, on)?;
            // Where CPUs share a value, they lose some of what they add at once.
            if used == 1 && flows <= MOST_READ {
                all_metered(&peers)?;
            }
            for ((name, _), over_floor) in programs.iter().zip(results) {
                report(PeerResult {
                    bench: "peers",
                    program: name,
                    flows,
                    distribution: distribution.label(),
                    cpus: used,
                    over_floor_ns: rounded(over_floor.median()),
                    min_over_floor_ns: rounded(over_floor.min()),
                    max_over_floor_ns: rounded(over_floor.max()),
                    runs: RUNS,
                });
            }
        }
    }
    Ok(())
}

/// Each program in each run, behind the wrapper, less the empty one behind it.
fn turns(
    generator: &mut Generator,
    rig: &mut Rig,
    programs: &[(&'static str, ProgramFd)],
    frame: &[u8],
    cpus: &[usize],
) -> Result<Vec<Spread>, Error> {
    let mut over_floor = vec![Vec::new(); programs.len()];
    for _ in 0..RUNS {
        generator.set_target(Hook::Xdp, None)?;
        let wrapper = on_all(generator, frame, cpus)?;
        for ((number, (name, fd)), over_floor) in programs.iter().enumerate().zip(&mut over_floor) {
            generator.set_target(Hook::Xdp, Some(fd))?;
            // Once to have every flow in its table or map.
            on_all(generator, frame, cpus)?;
            over_floor.push(on_all(generator, frame, cpus)? - wrapper);
            if number == 0 {
                let sums = rig.drain(&mut Vec::new())?;
                let (ran, seen) = (2 * TIMED as usize * cpus.len(), sums.balance.seen.packets);
                if seen != ran as u64 {
                    return Err(failed(format!("{ran} packets ran, {name} saw {seen}")));
                }
            }
        }
    }
    Ok(over_floor.into_iter().map(Spread).collect())
}

/// ns a packet when each of these CPUs runs as many at once.
fn on_all(generator: &Generator, frame: &[u8], cpus: &[usize]) -> Result<f64, Error> {
    let one = |cpu: usize| -> Result<Duration, Error> {
        pin(cpu)?;
        generator.vary(Hook::Xdp, frame, TIMED)
    };
    let took: Vec<Result<Duration, Error>> = std::thread::scope(|scope| {
        let threads: Vec<_> = cpus.iter().map(|cpu| scope.spawn(move || one(*cpu))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    });
    let took: Vec<Duration> = took.into_iter().collect::<Result<_, _>>()?;
    let sum: Duration = took.iter().sum();
    Ok(sum.as_nanos() as f64 / took.len() as f64 / f64::from(TIMED))
}

/// Loads them with room for all flows: nothing is refused, and nothing has to leave.
fn load(flows: u32) -> Result<Ebpf, Error> {
    // LRU maps keep some of their entries free for each CPU.
    let entries = flows.saturating_mul(2).max(1 << 16);
    let mut loader = EbpfLoader::new();
    for (_, map, _) in PEERS {
        loader.map_max_entries(map, entries);
    }
    let mut ebpf = loader.load(OBJECT).map_err(failed)?;
    for (_, program) in ebpf.programs_mut() {
        if let Program::Xdp(program) = program {
            program.load().map_err(failed)?;
        }
    }
    Ok(ebpf)
}

/// An error unless each has counted every packet of the runs: else it measured something else.
fn all_metered(peers: &Ebpf) -> Result<(), Error> {
    let expected = 2 * u64::from(TIMED) * RUNS as u64;
    for (name, map, per_cpu) in PEERS {
        let map = peers.map(map).ok_or_else(|| failed(format!("no {map}")))?;
        let mut counted = 0;
        if per_cpu {
            let map: PerCpuHashMap<&MapData, Key, Value> = map.try_into().map_err(failed)?;
            for entry in &map {
                counted += entry.map_err(failed)?.1.iter().map(|value| value[0]).sum::<u64>();
            }
        } else {
            let map: HashMap<&MapData, Key, Value> = map.try_into().map_err(failed)?;
            for entry in &map {
                counted += entry.map_err(failed)?.1[0];
            }
        }
        if counted != expected {
            return Err(failed(format!("{expected} packets ran, {name} counted {counted}")));
        }
    }
    Ok(())
}
