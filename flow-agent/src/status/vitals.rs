//! Vital signs of the agent: written by the thread that drains, read by the status.
//!
//! Writing is a few stores; nobody waits for a reader but for the copy of a clock.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::traffic::TrafficBook;
use crate::drain::{FillLevel, KernelClock};

/// How far the agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not all interfaces are attached.
    Starting = 0,
    /// It meters.
    Metering = 1,
    /// It detaches, drains and delivers for the last time.
    Stopping = 2,
}

impl Phase {
    /// The name in answers.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Metering => "metering",
            Self::Stopping => "stopping",
        }
    }
}

/// What the drain has done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DrainFigures {
    /// Generations that were drained.
    pub drains: u64,
    /// Those before their time, because the tables filled up.
    pub early: u64,
    /// Tries that failed.
    pub failed: u64,
    /// Flows that left full sets of the kernel tables.
    pub evicted: u64,
    /// Time since the last drain, or since the start.
    pub since_last: Duration,
    /// The fullest CPU's tables before the last look.
    pub fill: FillLevel,
}

/// The vital signs.
#[derive(Debug)]
pub struct Vitals {
    started: Instant,
    /// Unix ns.
    started_ns: u64,
    interval: Duration,
    phase: AtomicU8,
    drains: AtomicU64,
    early: AtomicU64,
    failed: AtomicU64,
    evicted: AtomicU64,
    /// Since `started`.
    last_drain_ns: AtomicU64,
    fill: [AtomicU32; 2],
    clock: Mutex<Option<KernelClock>>,
    traffic: TrafficBook,
}

/// How long a drain may take, beyond three intervals, before the agent is called ill.
const PATIENCE: Duration = Duration::from_secs(30);

impl Vitals {
    /// Of an agent that starts at `now`, Unix ns, and drains each `interval`.
    pub fn new(now_ns: u64, interval: Duration) -> Self {
        Self {
            started: Instant::now(),
            started_ns: now_ns,
            interval,
            phase: AtomicU8::new(Phase::Starting as u8),
            drains: AtomicU64::default(),
            early: AtomicU64::default(),
            failed: AtomicU64::default(),
            evicted: AtomicU64::default(),
            last_drain_ns: AtomicU64::default(),
            fill: Default::default(),
            clock: Mutex::default(),
            traffic: TrafficBook::new(now_ns),
        }
    }

    /// From now on.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// How far the agent is.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Metering,
            _ => Phase::Stopping,
        }
    }

    /// A drain has ended.
    pub fn drained(&self, evicted: u64, clock: KernelClock) {
        self.drains.fetch_add(1, Ordering::Relaxed);
        self.evicted.fetch_add(evicted, Ordering::Relaxed);
        self.last_drain_ns.store(self.started.elapsed().as_nanos() as u64, Ordering::Relaxed);
        self.set_clock(clock);
    }

    /// A drain begins before its time.
    pub fn early(&self) {
        self.early.fetch_add(1, Ordering::Relaxed);
    }

    /// A drain has failed.
    pub fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// How full the tables are.
    pub fn set_fill(&self, level: FillLevel) {
        for (shared, value) in self.fill.iter().zip([level.flows, level.evicted]) {
            shared.store(value.to_bits(), Ordering::Relaxed);
        }
    }

    /// For the times of entries of the kernel tables.
    pub fn set_clock(&self, clock: KernelClock) {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock);
    }

    /// The latest clock.
    pub fn clock(&self) -> Option<KernelClock> {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the drain has done.
    pub fn figures(&self) -> DrainFigures {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let share = |shared: &AtomicU32| f32::from_bits(shared.load(Ordering::Relaxed));
        let last = Duration::from_nanos(of(&self.last_drain_ns));
        DrainFigures {
            drains: of(&self.drains),
            early: of(&self.early),
            failed: of(&self.failed),
            evicted: of(&self.evicted),
            since_last: self.started.elapsed().saturating_sub(last),
            fill: FillLevel { flows: share(&self.fill[0]), evicted: share(&self.fill[1]) },
        }
    }

    /// Unix ns of the start.
    pub fn started_ns(&self) -> u64 {
        self.started_ns
    }

    /// Time since the start.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// What was metered lately, by direction.
    pub fn traffic(&self) -> &TrafficBook {
        &self.traffic
    }

    /// Unix ns, on a clock that never steps.
    pub fn now_ns(&self) -> u64 {
        self.started_ns + self.started.elapsed().as_nanos() as u64
    }

    /// Time between two drains.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// What is wrong with an agent that does not drain any more.
    pub fn illness(&self) -> Option<String> {
        let since = self.figures().since_last;
        let limit = self.interval * 3 + PATIENCE;
        (self.phase() == Phase::Metering && since > limit).then(|| {
            format!(
                "the kernel tables have not been drained for {} s, though they are to be \
                 drained every {} ms; the log of the agent says why",
                since.as_secs(),
                self.interval.as_millis()
            )
        })
    }
}
