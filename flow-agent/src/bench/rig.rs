//! The rig: the shipped programs and tables, fed by test runs on one CPU.

use std::time::Instant;

use aya::maps::{Array, MapData, ProgramArray};
use aya::programs::{Program, ProgramFd, SchedClassifier, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use flow_common::table::{InterfaceEntry, WAYS, names};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Error;
use crate::attach::{Kernel, TableSize};
use crate::clock::wall_clock;
use crate::delta::Delta;
use crate::drain::Drain;
use crate::filter::Rules;

/// The compiled `flow-bench`.
const OBJECT: &[u8] = include_bytes_aligned!(env!("FLOW_BENCH_OBJECT"));

/// Packets in a workload, as in `flow-ebpf/src/bench.rs`.
pub const PACKETS: u32 = 1 << 20;

/// Test runs say that packets come from `lo`.
const TEST_RUN_IFINDEX: u32 = 1;

/// The hook whose program is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// XDP ingress.
    Xdp,
    /// TC ingress.
    Tc,
}

/// A frame and where its flow number goes.
pub struct Frame {
    /// The octets.
    pub octets: Vec<u8>,
    /// Offset of the last four octets of the source address.
    pub flow_offset: u32,
    /// 4 or 6.
    pub ip: u8,
    /// VLAN tags.
    pub vlan_tags: u8,
}

/// Shipped programs with private tables, and the programs that vary packets.
pub struct Rig {
    kernel: Kernel,
    drain: Drain,
    bench: Ebpf,
}

impl Rig {
    /// Tables that hold `flows` flows at a quarter of their places or less.
    ///
    /// # Errors
    /// Programs or tables cannot be loaded.
    pub fn new(flows: u32, frame: &Frame) -> Result<Self, Error> {
        let sets = (flows.max(1) * 4).div_ceil(WAYS as u32).next_power_of_two().max(1 << 14);
        let cpus = crate::host::online_cpus();
        let mut kernel = Kernel::load(TableSize { cpus, sets_per_region: sets }, 7)?;
        let mut drain = Drain::new(&mut kernel, 1)?;
        // As a live agent has it by default.
        drain.install_rules(Rules { own_port: Some(8123), ..Rules::default() })?;
        let entry = InterfaceEntry { number: 1, ..InterfaceEntry::default() };
        kernel.set_interface(TEST_RUN_IFINDEX, entry)?;
        let mut bench = EbpfLoader::new()
            .override_global("FLOW_OFFSET", &frame.flow_offset, true)
            .load(OBJECT)
            .map_err(failed)?;
        for (_, program) in bench.programs_mut() {
            match program {
                Program::Xdp(program) => program.load().map_err(failed)?,
                Program::SchedClassifier(program) => program.load().map_err(failed)?,
                _ => {}
            }
        }
        Ok(Self { kernel, drain, bench })
    }

    /// Packets will belong to these flows, again and again.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_workload(&mut self, flows: &[u32]) -> Result<(), Error> {
        let map = self.bench.map_mut("WORKLOAD").ok_or_else(|| failed("no WORKLOAD"))?;
        let mut workload: Array<&mut MapData, u32> = map.try_into().map_err(failed)?;
        for (packet, flow) in flows.iter().enumerate() {
            workload.set(packet as u32, flow, 0).map_err(failed)?;
        }
        Ok(())
    }

    /// Runs `packets` packets through the shipped program of a hook, or through
    /// an empty one; ns a packet, the variation of the packet included.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn run(
        &mut self,
        hook: Hook,
        empty: bool,
        frame: &Frame,
        packets: u32,
    ) -> Result<f64, Error> {
        let target = match (hook, empty) {
            (Hook::Xdp, true) => fd::<Xdp>(&self.bench, "empty_xdp")?,
            (Hook::Xdp, false) => fd::<Xdp>(&self.kernel.ebpf, names::XDP_INGRESS)?,
            (Hook::Tc, true) => fd::<SchedClassifier>(&self.bench, "empty_tc")?,
            (Hook::Tc, false) => fd::<SchedClassifier>(&self.kernel.ebpf, names::TC_INGRESS)?,
        };
        let array = if hook == Hook::Xdp { "TARGET_XDP" } else { "TARGET_TC" };
        let map = self.bench.map_mut(array).ok_or_else(|| failed("no target"))?;
        let mut targets: ProgramArray<&mut MapData> = map.try_into().map_err(failed)?;
        targets.set(0, &target, 0).map_err(failed)?;
        let options = TestRunOptions {
            data_in: Some(&frame.octets),
            repeat: packets,
            ..TestRunOptions::default()
        };
        let started = Instant::now();
        match hook {
            Hook::Xdp => program::<Xdp>(&self.bench, "vary_xdp")?.test_run(options),
            Hook::Tc => program::<SchedClassifier>(&self.bench, "vary_tc")?.test_run(options),
        }
        .map_err(failed)?;
        Ok(started.elapsed().as_nanos() as f64 / f64::from(packets))
    }

    /// Drains the generation that was filled: the deltas, and the packets that
    /// the kernel says were seen and lost.
    ///
    /// # Errors
    /// The kernel refuses, or the books do not balance.
    pub fn drain(&mut self, out: &mut Vec<Delta>) -> Result<(u64, u64), Error> {
        let balances = self.drain.drain(&self.kernel, wall_clock, out)?.balances;
        let mut sum = crate::drain::Balance::default();
        for balance in &balances {
            sum.merge(balance);
        }
        if sum.unaccounted() != (0, 0) {
            return Err(failed(format!("the books do not balance: {sum:?}")));
        }
        Ok((sum.seen.packets, sum.lost.iter().map(|count| count.packets).sum()))
    }
}

/// Keeps this thread on one CPU for as long as it measures.
pub fn pin_to_one_cpu() -> Result<(), Error> {
    let allowed = sched_getaffinity(None).map_err(|errno| failed(std::io::Error::from(errno)))?;
    let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| allowed.is_set(*cpu)).unwrap_or(0);
    let mut one = CpuSet::new();
    one.set(last);
    sched_setaffinity(None, &one).map_err(|errno| failed(std::io::Error::from(errno)))
}

fn program<'a, P: 'a>(ebpf: &'a Ebpf, name: &str) -> Result<&'a P, Error>
where
    &'a P: TryFrom<&'a Program, Error = aya::programs::ProgramError>,
{
    let program = ebpf.program(name).ok_or_else(|| failed(format!("no program {name}")))?;
    <&P>::try_from(program).map_err(failed)
}

fn fd<'a, P: HasFd + 'a>(ebpf: &'a Ebpf, name: &str) -> Result<ProgramFd, Error>
where
    &'a P: TryFrom<&'a Program, Error = aya::programs::ProgramError>,
{
    program::<P>(ebpf, name)?.duplicate()
}

/// Programs have descriptors, but no common trait for them.
trait HasFd {
    fn duplicate(&self) -> Result<ProgramFd, Error>;
}

impl HasFd for Xdp {
    fn duplicate(&self) -> Result<ProgramFd, Error> {
        self.fd().map_err(failed)?.try_clone().map_err(failed)
    }
}

impl HasFd for SchedClassifier {
    fn duplicate(&self) -> Result<ProgramFd, Error> {
        self.fd().map_err(failed)?.try_clone().map_err(failed)
    }
}

/// A measurement that cannot be made or trusted.
pub fn failed(problem: impl std::fmt::Display) -> Error {
    Error::Measurement { problem: problem.to_string() }
}
