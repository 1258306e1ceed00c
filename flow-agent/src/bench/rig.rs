//! The rig: the shipped programs and tables, loaded as a running agent loads them, attached
//! nowhere. What measurements ask of the kernel side and the drain stands here and nowhere else.

use std::num::NonZero;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use aya::programs::{Program, ProgramFd};
use flow_common::table::{InterfaceEntry, WAYS, names};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

use super::failed;
use super::generator::{Hook, descriptor};
use crate::Error;
use crate::attach::{Kernel, TableSize};
use crate::clock::wall_clock;
use crate::config::{Config, Settings};
use crate::delta::Delta;
use crate::drain::{Balance, Destination, Drain, Drained};
use crate::filter::Rules;
use crate::host::online_cpus;

/// Test runs say that packets come from `lo`.
const TEST_RUN_IFINDEX: u32 = 1;

/// Seed of the flow hash: the same at each measurement.
pub(super) const SEED: u64 = 7;

/// Shipped programs with private tables.
pub struct Rig {
    /// The kernel side.
    pub kernel: Kernel,
    /// Its drain.
    pub drain: Drain,
}

/// What a drain says besides deltas.
#[derive(Clone, Copy, Debug)]
pub struct Sums {
    /// The books of all interfaces; they balance.
    pub balance: Balance,
    /// Flows that left a full set.
    pub evicted: u64,
}

impl Sums {
    /// Packets that are lost, for any reason.
    pub fn lost(&self) -> u64 {
        self.balance.lost.iter().map(|count| count.packets).sum()
    }
}

impl Rig {
    /// Tables of the default size where `flows` flows fill a quarter of them or less, else of the
    /// next size where they do.
    ///
    /// # Errors
    /// Programs or tables cannot be loaded.
    pub fn new(flows: u32) -> Result<Self, Error> {
        let default = default_tables()?;
        let sets = flows.saturating_mul(4).div_ceil(WAYS as u32).next_power_of_two();
        let sets_per_region = default.sets_per_region.max(sets);
        Self::with_tables(TableSize { sets_per_region, ..default })
    }

    /// Tables of this size; `lo` is the interface that test runs name.
    ///
    /// # Errors
    /// Programs or tables cannot be loaded.
    pub fn with_tables(size: TableSize) -> Result<Self, Error> {
        Self::metering(Kernel::load(size, SEED)?, TEST_RUN_IFINDEX)
    }

    /// Default tables, and an XDP program that drops what it has metered on this interface.
    ///
    /// # Errors
    /// Programs or tables cannot be loaded.
    pub fn dropping(ifindex: u32) -> Result<Self, Error> {
        Self::metering(Kernel::load_dropping(default_tables()?, SEED)?, ifindex)
    }

    fn metering(mut kernel: Kernel, ifindex: u32) -> Result<Self, Error> {
        let mut drain = Drain::new(&mut kernel, 1)?;
        drain.install_rules(default_rules()?)?;
        let entry = InterfaceEntry::ethernet(1);
        kernel.set_interface(ifindex, entry)?;
        Ok(Self { kernel, drain })
    }

    /// Flows that the table of one CPU has places for.
    pub fn places(&self) -> u32 {
        self.kernel.size.flows_per_region()
    }

    /// A descriptor of the shipped program of a hook.
    ///
    /// # Errors
    /// It is not loaded.
    pub fn program(&self, hook: Hook) -> Result<ProgramFd, Error> {
        descriptor(&self.kernel.ebpf, hook, program_name(hook))
    }

    /// Drains the generation that was filled.
    ///
    /// # Errors
    /// The kernel refuses, or the books do not balance.
    pub fn drain(&mut self, out: &mut Vec<Delta>) -> Result<Sums, Error> {
        drain(&mut self.drain, out)
    }
}

/// The same for a kernel side that programs are using meanwhile.
///
/// # Errors
/// The kernel refuses, or the books do not balance.
pub fn drain(drain: &mut Drain, out: &mut Vec<Delta>) -> Result<Sums, Error> {
    let drained = drain.drain(wall_clock, out)?;
    sums(&drained)
}

/// What a drain cost.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// CPU time of this thread, which read the tables if no other one did.
    pub thread: Duration,
    /// CPU time of all threads of the process.
    pub process: Duration,
    /// What the flip took, which waits for programs.
    pub flip: Duration,
}

/// Drains as `run` does; the costs are those without the flip.
///
/// # Errors
/// The kernel refuses, or the books do not balance.
pub fn drain_into(rig: &mut Rig, to: &mut impl Destination) -> Result<(Sums, Cost), Error> {
    let started = Instant::now();
    let flipped = rig.drain.flip(wall_clock)?;
    let flip = started.elapsed();
    let (thread, process) = (cpu_time(ClockId::ThreadCPUTime), cpu_time(ClockId::ProcessCPUTime));
    let drained = rig.drain.read(flipped, to);
    rig.drain.close(&drained).map_err(failed)?;
    let thread = cpu_time(ClockId::ThreadCPUTime).saturating_sub(thread);
    let process = cpu_time(ClockId::ProcessCPUTime).saturating_sub(process);
    Ok((sums(&drained)?, Cost { thread, process, flip }))
}

/// Time on a CPU, by one of its clocks.
pub(super) fn cpu_time(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn sums(drained: &Drained) -> Result<Sums, Error> {
    let mut balance = Balance::default();
    for interface in &drained.balances {
        balance.merge(interface);
    }
    if balance.unaccounted() != (0, 0) {
        return Err(failed(format!("the books do not balance: {balance:?}")));
    }
    Ok(Sums { balance, evicted: drained.evicted })
}

/// What `flow-agent run` works with when nothing is configured.
///
/// # Errors
/// The defaults are refused, which is a bug.
pub fn default_config() -> Result<Config, Error> {
    let cpus = available_parallelism().map_or(1, NonZero::get);
    Settings::default().check("bench", cpus).map_err(failed)
}

/// The rules of an agent when nothing is configured: only its own packets to the store are left
/// out, which here are those of ClickHouse's port.
fn default_rules() -> Result<Rules, Error> {
    const STORE_PORT: u16 = 8123;
    let config = default_config()?;
    let own_port = config.exclude_own_traffic.then_some(STORE_PORT);
    Ok(Rules { own_port, ..config.rules })
}

/// The tables of an agent that meters one interface, when nothing is configured.
///
/// # Errors
/// They cannot be made on this host.
pub fn default_tables() -> Result<TableSize, Error> {
    let config = default_config()?;
    Ok(TableSize::of_host(online_cpus(), 1, config.decapsulate, config.table_memory_bytes)?)
}

/// What the kernel says of a loaded program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The hash of its instructions.
    pub tag: u64,
    /// Octets after the verifier has put the read-only data's values in and taken dead code out.
    pub translated: Option<u32>,
}

/// The programs that an agent with default settings would attach now, by [`Hook::ALL`].
///
/// # Errors
/// They cannot be loaded.
pub fn attached_identities() -> Result<[Identity; 2], Error> {
    // What `run` does; the seed fills the hash keys, which are data and no code.
    let kernel = Kernel::load(default_tables()?, SEED)?;
    identities(&kernel)
}

/// The programs of a kernel side, by [`Hook::ALL`].
///
/// # Errors
/// The kernel does not say.
pub fn identities(kernel: &Kernel) -> Result<[Identity; 2], Error> {
    let one = |hook| -> Result<Identity, Error> {
        let name = program_name(hook);
        let program = kernel.ebpf.program(name).ok_or_else(|| failed(format!("no {name}")))?;
        let info = Program::info(program).map_err(failed)?;
        Ok(Identity { tag: info.tag(), translated: info.size_translated() })
    };
    Ok([one(Hook::Xdp)?, one(Hook::Tc)?])
}

const fn program_name(hook: Hook) -> &'static str {
    match hook {
        Hook::Xdp => names::XDP_INGRESS,
        Hook::Tc => names::TC_INGRESS,
    }
}

/// The CPUs that this thread may run on.
///
/// # Errors
/// The system does not say.
pub fn allowed_cpus() -> Result<Vec<usize>, Error> {
    let allowed = sched_getaffinity(None).map_err(|errno| failed(std::io::Error::from(errno)))?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect())
}

/// Keeps this thread on one CPU from now on.
///
/// # Errors
/// The system refuses.
pub fn pin(cpu: usize) -> Result<(), Error> {
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only).map_err(|errno| failed(std::io::Error::from(errno)))
}
