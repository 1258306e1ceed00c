//! The loop of the drain thread: drain when it is time, until told to stop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::RecvTimeoutError;

use super::announce;
use super::books::enter;
use super::kernel_log::KernelLog;
use super::manager::Manager;
use super::pipeline::Pipeline;
use crate::Error;
use crate::analytics::NeighbourWatch;
use crate::attach::{Attacher, TableSize};
use crate::cache::{Cache, Intake};
use crate::clock::wall_clock;
use crate::drain::{Drain, FillLevel};
use crate::estate::Witness;
use crate::failpoint::failpoint;
use crate::latency::{Latency, Stage};
use crate::ledger::{Counts, Ledger};
use crate::logging;
use crate::names::NameBook;
use crate::reload::{Changes, Reloader};
use crate::shutdown::Requests;
use crate::status::{Phase, RulesBook, Vitals};
use crate::target::Store;

/// How often the agent looks how full the kernel tables are.
pub const LOOK: Duration = Duration::from_millis(10);
/// Drains that may fail one after the other before the agent stops.
const FAILED_DRAINS: u32 = 10;

/// What the drain thread works with.
pub struct MeterLoop {
    pub names: NameBook,
    /// Reads what the analytics want to know of the networks.
    pub neighbours: Option<NeighbourWatch>,
    pub ledger: Ledger,
    pub latency: Latency,
    pub kernel_log: KernelLog,
    pub intake: Intake,
    pub drain: Drain,
    pub store: Store,
    pub reloader: Reloader,
    pub interval: Duration,
    /// When the tables are drained next, if they do not fill up before.
    pub next: Instant,
    /// Drains that failed one after the other.
    pub failed: u32,
    /// What the status shows of this.
    pub vitals: Arc<Vitals>,
    /// The service manager, told how it goes.
    pub manager: Manager,
    /// The rules, as the status shows them.
    pub rules: RulesBook,
}

impl MeterLoop {
    /// Meters until told to stop or until it fails for good.
    pub fn live(
        &mut self,
        attacher: &Attacher,
        pipeline: &Pipeline,
        size: TableSize,
        requests: &Requests,
    ) -> Result<(), Error> {
        loop {
            match requests.stop.recv_timeout(self.until_look()) {
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let alive = attacher.is_alive();
            match attacher.news() {
                Some(Ok(interfaces)) => {
                    announce(interfaces, size, &self.store);
                    self.vitals.set_phase(Phase::Metering);
                    self.manager.metering(interfaces);
                }
                Some(Err(error)) => return Err(error.into()),
                None if !alive => return Err(Error::Stage { stage: "attach" }),
                None => {}
            }
            if attacher.is_relieved() {
                tracing::info!("another flow-agent has taken over");
                return Ok(());
            }
            if let Some(Changes { rules, selection }) = self.reloader.changes() {
                self.manager.reloading();
                if let Some(rules) = rules {
                    self.rules.set(rules.clone());
                    self.drain.set_rules(rules);
                }
                if let Some(selection) = selection {
                    if let Some(neighbours) = &self.neighbours {
                        neighbours.select(selection.clone());
                    }
                    attacher.select(selection);
                }
                self.manager.reloaded();
            }
            if let Some(stage) = pipeline.dead_stage() {
                return Err(Error::Stage { stage });
            }
            self.step(pipeline)?;
            if self.failed == 0 {
                self.manager.alive(Instant::now(), &self.vitals);
            }
        }
    }

    /// Says that the agent is about to detach, and how long it waits for the store then.
    pub fn stopping(&mut self, patience: Duration) {
        self.vitals.set_phase(Phase::Stopping);
        self.manager.stopping();
        tracing::info!(
            "stopping: detaching, then everything goes to the store; waiting for it up to {} s",
            patience.as_secs()
        );
    }

    /// Detaches everything, and drains meanwhile.
    pub fn detach(&mut self, attacher: &mut Attacher, pipeline: &Pipeline) -> Result<(), Error> {
        attacher.stop();
        let mut result = Ok(());
        while !attacher.is_done(self.until_look()) {
            result = result.and(self.step(pipeline));
        }
        result
    }

    /// Drains when it is time.
    fn step(&mut self, pipeline: &Pipeline) -> Result<(), Error> {
        self.manager.turn();
        // Tried again at each look; told, if need be, with the next drain.
        let looked = self.drain.look_at_clocks().map_err(Error::from);
        let now = Instant::now();
        let level = self.drain.fill_level();
        self.vitals.set_fill(level);
        if now < self.next {
            if !nearly_full(level) {
                return Ok(());
            }
            self.vitals.early();
        }
        self.next = now + self.interval;
        match self.pass(&pipeline.cache).and(looked) {
            Ok(()) => self.failed = 0,
            Err(error) if self.failed == FAILED_DRAINS => return Err(error),
            Err(error) => {
                self.failed += 1;
                self.vitals.failed();
                tracing::warn!("{error}; trying again");
            }
        }
        Ok(())
    }

    /// Time until the next look at the tables.
    fn until_look(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now()).min(LOOK)
    }

    /// One drain: flows to the cache, counts to the ledger.
    pub fn pass(&mut self, cache: &Cache) -> Result<(), Error> {
        let started = Instant::now();
        let flipped = self.drain.flip(wall_clock)?;
        failpoint!("drain::flipped");
        // A number has a name before its interface is attached, so before its first packet.
        let names = self.names.current();
        self.drain.cover(names.highest());
        let drained = self.drain.read(flipped, &mut self.intake);
        failpoint!("drain::read");
        let mut counts = Counts::new();
        for (number, balance) in drained.balances.iter().enumerate() {
            enter(&mut counts, names.interface(number as u16), balance);
        }
        // Its flows have gone on, so it is in the books even if it cannot be closed.
        let witness = Witness::Tables(self.drain.instance());
        let closed = self.ledger.post(&counts, witness, || self.drain.close(&drained));
        failpoint!("drain::closed");
        self.latency.record(Stage::Drain, started.elapsed());
        cache.expire(drained.clock.now_ns(), drained.clock.drift_ns());
        self.vitals.drained(drained.evicted, drained.clock);
        self.vitals.traffic().add(&drained.balances, self.vitals.now_ns());
        if drained.evicted > 0 {
            tracing::debug!("{} flows left full sets of the flow tables", drained.evicted);
        }
        self.kernel_log.flush();
        logging::tick(started);
        Ok(closed?)
    }
}

/// True when the tables must not wait for the end of the interval: a flood could
/// fill what is left before the next look.
pub fn nearly_full(level: FillLevel) -> bool {
    level.flows > 0.25 || level.evicted > 0.1
}
