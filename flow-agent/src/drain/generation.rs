//! The two generations: one is filled while the other is drained.

use std::sync::{Arc, Mutex, PoisonError};

use aya::Ebpf;
use aya::maps::{Array, ArrayOfMaps, HashMap, MapData};
use aya::programs::SchedClassifier;
use flow_common::filter::ConnectionKey;
use flow_common::table::{GenerationState, names};

use super::clock::ClockReader;
use super::journal::JournalWriter;
use super::tables::{FillLevel, Tables, take, take_map};
use super::{Balance, Destination, DrainError, FlowEntry, Here, KernelClock, Partition};
use crate::attach::{Kernel, TableSize};
use crate::delta::Delta;
use crate::filter::{RuleTables, Rules};

/// What all entries of one generation have in common.
#[derive(Clone, Copy, Debug)]
pub struct Interval {
    /// The clocks at the flip.
    pub clock: KernelClock,
    /// How many packets each metered one stands for; 1 without sampling.
    pub sampling: u32,
}

/// What one drain gives besides flows.
#[derive(Debug)]
#[must_use = "the generation must be closed"]
pub struct Drained {
    generation: u32,
    /// One for each interface number; number 0 is for unknown interfaces.
    pub balances: Vec<Balance>,
    /// The clocks at the flip.
    pub clock: KernelClock,
    /// Flows that left a full set.
    pub evicted: u64,
}

/// A generation that nobody writes any more, to be read.
#[derive(Debug)]
#[must_use = "its packets are in the tables still"]
pub struct Flipped {
    generation: u32,
    /// For its entries.
    interval: Interval,
}

/// Reads and clears the tables, one generation at a time.
pub struct Drain {
    interfaces: usize,
    instance: u32,
    size: TableSize,
    /// Of the programs' hashes.
    seed: u64,
    /// The generation that the programs fill.
    filling: u32,
    /// The programs' variable that says so.
    selector: Array<MapData, u32>,
    grace: ArrayOfMaps<MapData, Array<MapData, u32>>,
    inner: Array<MapData, u32>,
    tables: Tables,
    journal: JournalWriter,
    clock: ClockReader,
    /// The program that reads the clocks.
    clock_side: Ebpf,
    /// Held while the selector changes.
    flips: Arc<Mutex<()>>,
    rules: RuleTables,
}

impl Drain {
    /// Takes the tables of a kernel side that meters `interfaces` interfaces;
    /// the programs fill generation 0 from now on.
    ///
    /// # Errors
    /// A table cannot be used or mapped.
    pub fn new(kernel: &mut Kernel, interfaces: usize) -> Result<Self, DrainError> {
        let bug = || DrainError::Map { problem: "the clock was taken already".into() };
        let mut clock_side = kernel.clock.take().ok_or_else(bug)?;
        let missing = || DrainError::Map { problem: format!("map {} is missing", names::CLOCK) };
        let clock_map = clock_side.take_map(names::CLOCK).ok_or_else(missing)?;
        let clock_map = clock_map.try_into().map_err(DrainError::map)?;
        let size = kernel.size;
        let numbers = interfaces + 1; // number 0 is for packets of unknown interfaces
        Ok(Self {
            interfaces: numbers,
            instance: kernel.instance(),
            size,
            seed: kernel.seed,
            filling: 0,
            selector: take(kernel, names::BSS)?,
            grace: take(kernel, names::GRACE)?,
            inner: Array::create(1, 0).map_err(DrainError::map)?,
            journal: JournalWriter::new(kernel)?,
            tables: Tables::new(size, |name| take_map(kernel, name))?,
            clock: ClockReader::new(clock_program(&clock_side)?, clock_map)?,
            clock_side,
            flips: kernel.flips.clone(),
            rules: RuleTables::new(
                take(kernel, names::FILTERS)?,
                take(kernel, names::PREFIXES)?,
                take(kernel, names::PORTS)?,
            ),
        })
    }

    /// Lets the programs fill the other generation, waits until none of them can
    /// still write this one, and reads the clocks.
    ///
    /// # Errors
    /// The kernel refused; what was not read stays in its generation, for a later call.
    pub fn flip(&mut self, wall_clock: impl FnOnce() -> u64) -> Result<Flipped, DrainError> {
        let generation = self.filling;
        let next = 1 - generation;
        self.prepare(next)?;
        self.journal.begin(next, self.rules.weight(next))?;
        {
            // Not while a load of the programs writes the variable, too.
            let _flip = self.flips.lock().unwrap_or_else(PoisonError::into_inner);
            self.selector.set(0, next, 0).map_err(DrainError::map)?;
        }
        self.filling = next;
        if self.rules.flipped(next) {
            tracing::info!("the filters and sampling of the configuration are in force");
        }
        // Every program that began before this call has ended when it returns.
        self.grace.set(0, &self.inner, 0).map_err(DrainError::map)?;
        let clock = self.clock.sample(clock_program(&self.clock_side)?, wall_clock)?;
        self.journal.set_state(generation, GenerationState::Draining)?;
        let interval = Interval { clock, sampling: self.rules.weight(generation) };
        Ok(Flipped { generation, interval })
    }

    /// Reads what was counted: each flow goes to `to`, and has gone when this returns.
    /// Then [`Drain::close`] the generation.
    pub fn read(&mut self, flipped: Flipped, to: &mut impl Destination) -> Drained {
        let Flipped { generation, interval } = flipped;
        let mut balances = vec![Balance::default(); self.interfaces];
        // Here and not at the flip, where the newest interfaces are not covered yet.
        if let Err(error) = self.tables.read_stray(generation, &mut balances) {
            tracing::warn!("packets on CPUs without a flow table are counted later: {error}");
        }
        // SAFETY: `flip` has waited for every program that could write this generation.
        let evicted = unsafe { self.tables.read(generation, &interval, &mut balances, to) };
        Drained { generation, balances, clock: interval.clock, evicted }
    }

    /// Forgets a generation whose flows have all gone on.
    ///
    /// # Errors
    /// The kernel refuses to write the journal. The generation is empty all the same; an
    /// agent that takes over after a crash would call it lost.
    pub fn close(&mut self, drained: &Drained) -> Result<(), DrainError> {
        let generation = drained.generation;
        let journaled = self.journal.set_state(generation, GenerationState::Drained);
        // Also when the journal cannot be written: what went on must not be counted again.
        // SAFETY: as in `read`: the generation is not filled again before the next flip.
        unsafe { self.tables.clear_counters(generation, self.interfaces) };
        self.rules.drained(generation);
        journaled
    }

    /// Before anything is attached: only what these rules allow is metered.
    ///
    /// # Errors
    /// The kernel refuses a rule.
    pub fn install_rules(&mut self, rules: Rules) -> Result<(), DrainError> {
        self.rules.set(rules);
        for generation in 0..2 {
            self.prepare(generation)?;
            self.journal.set_sampling(generation, self.rules.weight(generation))?;
        }
        self.rules.installed();
        Ok(())
    }

    /// Gives a generation that is not filled the rules that are wanted.
    fn prepare(&mut self, generation: u32) -> Result<(), DrainError> {
        if let Some(flags) = self.rules.prepare(generation).map_err(DrainError::map)? {
            // SAFETY: nobody fills it: it was drained and closed, or nothing is attached yet.
            unsafe { self.tables.set_rules(generation, flags) };
        }
        Ok(())
    }

    /// From the next flip on, other rules.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules.set(rules);
    }

    /// Notices that the host was suspended: what was counted before has other times then.
    /// To be called often.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn look_at_clocks(&mut self) -> Result<(), DrainError> {
        self.clock.look(clock_program(&self.clock_side)?)
    }

    /// The clocks, now.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn clock(&mut self, wall_clock: impl FnOnce() -> u64) -> Result<KernelClock, DrainError> {
        self.clock.sample(clock_program(&self.clock_side)?, wall_clock)
    }

    /// Flips, reads into a list of deltas, and closes.
    ///
    /// # Errors
    /// As [`Drain::flip`].
    pub fn drain(
        &mut self,
        wall_clock: impl FnOnce() -> u64,
        out: &mut Vec<Delta>,
    ) -> Result<Drained, DrainError> {
        let flipped = self.flip(wall_clock)?;
        let mut to = Here(|entry: FlowEntry<'_>, interval: &_| out.push(entry.delta(interval)));
        let drained = self.read(flipped, &mut to);
        self.close(&drained)?;
        Ok(drained)
    }

    /// From now on interfaces 1 to `interfaces` are metered, if that is more than until now.
    /// Their packets are read only after this: it comes between flip and reading, if hooks
    /// are attached meanwhile.
    pub fn cover(&mut self, interfaces: usize) {
        self.interfaces = self.interfaces.max(interfaces + 1);
    }

    /// The sets in `parts` parts, one for each thread that is to read them; as many as
    /// [`Partition::even_parts`] says.
    pub fn partition(&self, parts: usize) -> Partition {
        Partition::new(self.size, self.seed, parts)
    }

    /// Tells these tables from those of other agents.
    pub fn instance(&self) -> u32 {
        self.instance
    }

    /// How full the tables are that are being filled.
    pub fn fill_level(&self) -> FillLevel {
        self.tables.fill_level(self.filling)
    }
}

/// The table of the agent's own connections.
///
/// # Errors
/// It is not there, or was taken.
pub fn own_connections(
    kernel: &mut Kernel,
) -> Result<HashMap<MapData, ConnectionKey, u32>, DrainError> {
    take(kernel, names::OWN_CONNECTIONS)
}

fn clock_program(side: &Ebpf) -> Result<&SchedClassifier, DrainError> {
    let missing = || DrainError::Clock { problem: format!("no program {}", names::READ_CLOCK) };
    side.program(names::READ_CLOCK).ok_or_else(missing)?.try_into().map_err(DrainError::clock)
}
