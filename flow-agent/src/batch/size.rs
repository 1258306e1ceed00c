//! How many rows a batch has: as many as the store takes in about the target time.
//!
//! Each insert that took longer than the target makes batches a tenth smaller, each full one that
//! took less makes them a tenth larger, between a floor and a ceiling. An insert has costs of its
//! own beside those of its rows; where they alone are a large part of the target, smaller batches
//! would only mean more of them, so the target is then what makes the rows half of the time.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// ClickHouse splits larger inserts into several blocks, which are not atomic.
pub const MOST_ROWS: usize = 1_048_448;
/// As above, in octets of a block.
pub const MOST_OCTETS: usize = 256 << 20;

/// When a batch is frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// How long one insert should take.
    pub target: Duration,
    /// Rows that are worth an insert, however slow the store is; at least 1.
    pub min_rows: usize,
    /// Rows, at most [`MOST_ROWS`].
    pub max_rows: usize,
    /// Time since its first record, give or take a tenth.
    pub age: Duration,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self {
            target: Duration::from_millis(100),
            min_rows: 1_000,
            max_rows: 500_000,
            age: Duration::from_secs(1),
        }
    }
}

impl BatchLimits {
    /// The age at which a batch is frozen: a tenth more or less, as `random` says, so that the
    /// agents of a fleet do not insert in step.
    pub fn jittered_age(&self, random: u32) -> Duration {
        let part = f64::from(random) / f64::from(u32::MAX);
        self.age.mul_f64(0.9 + 0.2 * part)
    }
}

/// Rows that a new agent begins with.
const FIRST_ROWS: usize = 50_000;
/// One step.
const STEP: f64 = 0.1;
/// What an insert weighs after the next one.
const DECAY: f64 = 0.9;
/// An insert that took longer, in targets, says no more than one that took so long.
const LONGEST: f64 = 10.0;

/// The size of the next batch; clones share it.
#[derive(Clone, Debug)]
pub struct BatchSize {
    limits: BatchLimits,
    rows: Arc<AtomicU32>,
    costs: Arc<Mutex<Costs>>,
}

impl BatchSize {
    /// Begins in the middle, or as near as the limits allow.
    pub fn new(limits: BatchLimits) -> Self {
        let rows = limits.clamp(FIRST_ROWS as f64);
        Self { limits, rows: Arc::new(AtomicU32::new(rows)), costs: Arc::default() }
    }

    /// Rows at which a batch is frozen.
    pub fn rows(&self) -> usize {
        self.rows.load(Ordering::Relaxed) as usize
    }

    /// A batch of so many rows was acknowledged on its first try, after this time.
    pub fn inserted(&self, rows: usize, took: Duration) {
        let target = self.limits.target.as_secs_f64();
        let took = took.as_secs_f64().min(LONGEST * target);
        let fixed = {
            let mut costs = self.costs.lock().unwrap_or_else(PoisonError::into_inner);
            costs.note(rows as f64, took);
            costs.fixed()
        };
        let target = target.max(2.0 * fixed);
        let now = self.rows() as f64;
        // A batch that was frozen for its age says nothing about larger ones.
        let full = rows as f64 >= now * (1.0 - STEP);
        let next = match () {
            () if took > target => now * (1.0 - STEP),
            () if full => now * (1.0 + STEP),
            () => return,
        };
        // Two inserts may end at once; a step that is lost does no harm.
        self.rows.store(self.limits.clamp(next), Ordering::Relaxed);
    }
}

impl BatchLimits {
    fn clamp(&self, rows: f64) -> u32 {
        (rows as usize).clamp(self.min_rows, self.max_rows) as u32
    }
}

/// Time by rows of the last inserts: sums of weights, rows, times and their products.
#[derive(Debug, Default)]
struct Costs {
    weight: f64,
    rows: f64,
    times: f64,
    rows_rows: f64,
    rows_times: f64,
}

impl Costs {
    fn note(&mut self, rows: f64, took: f64) {
        for sum in [
            &mut self.weight,
            &mut self.rows,
            &mut self.times,
            &mut self.rows_rows,
            &mut self.rows_times,
        ] {
            *sum *= DECAY;
        }
        self.weight += 1.0;
        self.rows += rows;
        self.times += took;
        self.rows_rows += rows * rows;
        self.rows_times += rows * took;
    }

    /// The time of an insert without rows, by the line through the last ones; 0 if all had about
    /// the same size, which tells nothing.
    fn fixed(&self) -> f64 {
        let spread = self.weight * self.rows_rows - self.rows * self.rows;
        if spread < 1e-4 * self.rows * self.rows {
            return 0.0;
        }
        let a_row = (self.weight * self.rows_times - self.rows * self.times) / spread;
        let a_row = a_row.clamp(0.0, self.times / self.rows);
        (self.times - a_row * self.rows) / self.weight
    }
}
