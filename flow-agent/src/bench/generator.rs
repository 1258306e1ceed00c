//! Packets for measurements and tests: the programs of `flow-ebpf/src/bench.rs`, loaded.
//!
//! A frame and a workload enter; test runs hand each packet to the program under measurement, or
//! send it. Nothing here is part of a running agent.

use std::time::{Duration, Instant};

use aya::maps::{Array, MapData, PerCpuArray, ProgramArray};
use aya::programs::{
    Program, ProgramFd, SchedClassifier, TestRun, TestRunAttrs, TestRunOptions, Xdp,
};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use flow_common::Count;

use super::failed;
use crate::Error;

/// The compiled `flow-bench`.
const OBJECT: &[u8] = include_bytes_aligned!(env!("FLOW_BENCH_OBJECT"));

/// Packets in a workload, as in `flow-ebpf/src/bench.rs`.
pub const PACKETS: u32 = 1 << 20;

/// Flows that a flood goes on feeding and the counters count one by one.
pub const WATCHED: u16 = 1000;
/// The first packets of a flood are theirs alone.
pub const WATCHED_ALONE: u32 = 20_000;
/// The source port of the first of them.
pub const WATCHED_FIRST: u16 = 10_000;
/// The destination port of all of them.
pub const WATCHED_PORT: u16 = 4242;

/// Live frames that are sent at once: fewer than a veth's ring holds.
const LIVE_BATCH: u32 = 64;

/// A kind of program: both hooks have one that varies packets and an empty one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// XDP ingress.
    Xdp,
    /// TC ingress.
    Tc,
}

impl Hook {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Xdp, Self::Tc];

    /// The name in results.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Tc => "tc",
        }
    }

    /// The program that does nothing.
    const fn empty(self) -> &'static str {
        match self {
            Self::Xdp => "empty_xdp",
            Self::Tc => "empty_tc",
        }
    }
}

/// What live frames are made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// The flows of the workload.
    Workload,
    /// Random tuples, one in sixteen of a watched flow. The frame must be Ethernet, IPv4, UDP.
    Flood,
}

/// An independent counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// `count_xdp`.
    Xdp,
    /// `count_tc_ingress`.
    TcIngress,
    /// `count_tc_egress`.
    TcEgress,
}

impl Counter {
    /// The name of its program.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Xdp => "count_xdp",
            Self::TcIngress => "count_tc_ingress",
            Self::TcEgress => "count_tc_egress",
        }
    }
}

/// How packets are made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    /// Where in the frame the flow's number goes: four octets, at most at 255.
    pub flow_offset: u32,
    /// What the flows' numbers grow by each time the workload begins again.
    pub churn: u32,
    /// The interface that generated packets leave by.
    pub output_ifindex: u32,
}

/// The loaded programs.
pub struct Generator {
    /// Programs and maps.
    pub ebpf: Ebpf,
}

impl Generator {
    /// Loads them.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn load(plan: Plan) -> Result<Self, Error> {
        let mut ebpf = EbpfLoader::new()
            .override_global("FLOW_OFFSET", &plan.flow_offset, true)
            .override_global("CHURN", &plan.churn, true)
            .override_global("OUTPUT", &plan.output_ifindex, true)
            .load(OBJECT)
            .map_err(failed)?;
        for (_, program) in ebpf.programs_mut() {
            match program {
                Program::Xdp(program) => program.load().map_err(failed)?,
                Program::SchedClassifier(program) => program.load().map_err(failed)?,
                _ => {}
            }
        }
        Ok(Self { ebpf })
    }

    /// Packets will belong to these flows, again and again: [`PACKETS`] of them.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_workload(&mut self, flows: &[u32]) -> Result<(), Error> {
        let map = self.ebpf.map_mut("WORKLOAD").ok_or_else(|| failed("no WORKLOAD"))?;
        let mut workload: Array<&mut MapData, u32> = map.try_into().map_err(failed)?;
        for (packet, flow) in flows.iter().enumerate() {
            workload.set(packet as u32, flow, 0).map_err(failed)?;
        }
        Ok(())
    }

    /// Varied packets go to this program, or to the empty one.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_target(&mut self, hook: Hook, target: Option<&ProgramFd>) -> Result<(), Error> {
        let empty;
        let target = if let Some(target) = target {
            target
        } else {
            empty = descriptor(&self.ebpf, hook, hook.empty())?;
            &empty
        };
        let array = if hook == Hook::Xdp { "TARGET_XDP" } else { "TARGET_TC" };
        let map = self.ebpf.map_mut(array).ok_or_else(|| failed("no target"))?;
        let mut targets: ProgramArray<&mut MapData> = map.try_into().map_err(failed)?;
        targets.set(0, target, 0).map_err(failed)
    }

    /// Runs `packets` varied packets through the target of a hook; the time it took.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn vary(&self, hook: Hook, frame: &[u8], packets: u32) -> Result<Duration, Error> {
        match hook {
            Hook::Xdp => self.test_run::<Xdp>("vary_xdp", frame, packets),
            Hook::Tc => self.test_run::<SchedClassifier>("vary_tc", frame, packets),
        }
    }

    /// Runs `packets` times the same packet through the empty program of a hook.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn floor(&self, hook: Hook, frame: &[u8], packets: u32) -> Result<Duration, Error> {
        match hook {
            Hook::Xdp => self.test_run::<Xdp>(hook.empty(), frame, packets),
            Hook::Tc => self.test_run::<SchedClassifier>(hook.empty(), frame, packets),
        }
    }

    fn test_run<'a, P>(&'a self, name: &str, frame: &[u8], packets: u32) -> Result<Duration, Error>
    where
        P: for<'o> TestRun<Opts<'o> = TestRunOptions<'o>> + 'a,
        &'a P: TryFrom<&'a Program, Error = aya::programs::ProgramError>,
    {
        let program: &P = program(&self.ebpf, name)?;
        let options =
            TestRunOptions { data_in: Some(frame), repeat: packets, ..TestRunOptions::default() };
        let started = Instant::now();
        program.test_run(options).map_err(failed)?;
        Ok(started.elapsed())
    }

    /// Sends `packets` live frames to the output interface, as fast as this CPU can. Those for
    /// which the receiver has no room are dropped before they arrive. The calling thread must be
    /// in the network namespace of the output interface.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn send(&self, traffic: Traffic, frame: &[u8], packets: u32) -> Result<Duration, Error> {
        let name = match traffic {
            Traffic::Workload => "send_xdp",
            Traffic::Flood => "flood_xdp",
        };
        let options = TestRunOptions {
            data_in: Some(frame),
            repeat: packets,
            attrs: TestRunAttrs::new().xdp_live_frames(LIVE_BATCH),
            ..TestRunOptions::default()
        };
        let started = Instant::now();
        program::<Xdp>(&self.ebpf, name)?.test_run(options).map_err(failed)?;
        Ok(started.elapsed())
    }

    /// What a counter has counted: packets, and octets behind the Ethernet header.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn counted(&self, counter: Counter) -> Result<Count, Error> {
        self.sum("COUNTS", counter as u32)
    }

    /// What the counters have counted of the watched flow with this number.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn watched(&self, flow: u16) -> Result<Count, Error> {
        self.sum("WATCHED_COUNTS", flow.into())
    }

    fn sum(&self, name: &str, index: u32) -> Result<Count, Error> {
        let map = self.ebpf.map(name).ok_or_else(|| failed(format!("no {name}")))?;
        let counts: PerCpuArray<&MapData, [u64; 2]> = map.try_into().map_err(failed)?;
        let mut sum = Count::default();
        for [packets, octets] in counts.get(&index, 0).map_err(failed)?.iter() {
            sum.add(*packets, *octets);
        }
        Ok(sum)
    }
}

/// A program of an object.
///
/// # Errors
/// It is not there, or of another type.
pub fn program<'a, P>(ebpf: &'a Ebpf, name: &str) -> Result<&'a P, Error>
where
    &'a P: TryFrom<&'a Program, Error = aya::programs::ProgramError>,
{
    let program = ebpf.program(name).ok_or_else(|| failed(format!("no program {name}")))?;
    program.try_into().map_err(failed)
}

/// A descriptor of a hook's program, for [`Generator::set_target`].
///
/// # Errors
/// It is not there, of another type, or not loaded.
pub fn descriptor(ebpf: &Ebpf, hook: Hook, name: &str) -> Result<ProgramFd, Error> {
    let descriptor = match hook {
        Hook::Xdp => program::<Xdp>(ebpf, name)?.fd(),
        Hook::Tc => program::<SchedClassifier>(ebpf, name)?.fd(),
    };
    descriptor.map_err(failed)?.try_clone().map_err(failed)
}
