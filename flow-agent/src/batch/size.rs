//! How many rows a batch has: as many as the store takes in about the target time.
//!
//! Each insert that took longer than the target makes batches a tenth smaller, each full one that
//! took less makes them a tenth larger, between a floor and a ceiling. An insert has costs of its
//! own beside those of its rows; where they alone are a large part of the target, smaller batches
//! would only mean more of them, so the target is then what makes the rows half of the time.
//!
//! While the store is away nobody waits for a batch, and the fewer there are, the sooner it has all
//! of them once it is back.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use uuid::Uuid;

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
    /// Most time since its first record, less up to a fifth.
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
    /// The age at which a batch is frozen: up to a fifth less, as `random` says, so that the
    /// agents of a fleet do not insert in step.
    pub fn jittered_age(&self, random: u32) -> Duration {
        let part = f64::from(random) / f64::from(u32::MAX);
        self.age.mul_f64(0.8 + 0.2 * part)
    }
}

/// Rows that a new agent begins with.
const FIRST_ROWS: usize = 50_000;
/// Rows of a batch while the store is away, if the ceiling is not lower: more would not make rows
/// cheaper for the server (docs/performance.md), and they are in memory until they are frozen.
const AWAY_ROWS: usize = 200_000;
/// How old a batch gets then, unless it may get older anyway.
const AWAY_AGE: Duration = Duration::from_secs(5);
/// One step.
const STEP: f64 = 0.1;
/// What an insert weighs after the next one.
const DECAY: f64 = 0.9;
/// An insert that took more than so many times what was expected says no more than one that took
/// just that: it may have waited for something that is over.
const SURPRISE: f64 = 3.0;

/// The size of the next batch; clones share it.
#[derive(Clone, Debug)]
pub struct BatchSize {
    limits: BatchLimits,
    rows: Arc<AtomicU32>,
    away: Arc<AtomicBool>,
    costs: Arc<Mutex<Costs>>,
}

impl BatchSize {
    /// Begins in the middle, or as near as the limits allow.
    pub fn new(limits: BatchLimits) -> Self {
        let rows = limits.clamp(FIRST_ROWS as f64);
        let rows = Arc::new(AtomicU32::new(rows));
        Self { limits, rows, away: Arc::default(), costs: Arc::default() }
    }

    /// How old the next batch may get.
    pub fn next_age(&self) -> Duration {
        let mut limits = self.limits;
        if self.is_away() {
            limits.age = limits.age.max(AWAY_AGE);
        }
        limits.jittered_age(Uuid::now_v7().as_u128() as u32)
    }

    /// Rows at which a batch is frozen.
    pub fn rows(&self) -> usize {
        let rows = self.rows.load(Ordering::Relaxed) as usize;
        if self.is_away() { rows.max(AWAY_ROWS.min(self.limits.max_rows)) } else { rows }
    }

    fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// A server could not be reached, until one takes a batch.
    pub fn failed(&self) {
        self.away.store(true, Ordering::Relaxed);
    }

    /// A batch of so many rows was acknowledged on its first try, after this time.
    pub fn inserted(&self, rows: usize, took: Duration) {
        self.away.store(false, Ordering::Relaxed);
        let target = self.limits.target.as_secs_f64();
        let took = took.as_secs_f64();
        let fixed = {
            let mut costs = self.costs.lock().unwrap_or_else(PoisonError::into_inner);
            costs.note(rows as f64, took);
            costs.line().0
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
        let (fixed, a_row) = self.line();
        let expected = fixed + a_row * rows;
        let took = if expected > 0.0 { took.min(SURPRISE * expected) } else { took };
        for (sum, now) in [
            (&mut self.weight, 1.0),
            (&mut self.rows, rows),
            (&mut self.times, took),
            (&mut self.rows_rows, rows * rows),
            (&mut self.rows_times, rows * took),
        ] {
            *sum = DECAY * *sum + now;
        }
    }

    /// The time of an insert without rows and what each row adds, by the line through the last
    /// inserts; if all had about the same size, which tells nothing of it, rows are all there is.
    fn line(&self) -> (f64, f64) {
        if self.rows == 0.0 {
            return (0.0, 0.0);
        }
        let most = self.times / self.rows;
        let spread = self.weight * self.rows_rows - self.rows * self.rows;
        if spread < 1e-4 * self.rows * self.rows {
            return (0.0, most);
        }
        let a_row = (self.weight * self.rows_times - self.rows * self.times) / spread;
        let a_row = a_row.clamp(0.0, most);
        ((self.times - a_row * self.rows) / self.weight, a_row)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The last of many full inserts into a store that takes `fixed` and `a_row` ns.
    fn settled(limits: BatchLimits, fixed: f64, a_row: f64, noise: &[f64]) -> (usize, f64) {
        let size = BatchSize::new(limits);
        let mut last = (0, 0.0);
        for noise in noise.iter().cycle().take(400) {
            let rows = size.rows();
            let ns = (fixed + a_row * rows as f64) * noise;
            size.inserted(rows, Duration::from_nanos(ns as u64));
            assert!((limits.min_rows..=limits.max_rows).contains(&size.rows()));
            last = (rows, fixed + a_row * rows as f64);
        }
        last
    }

    proptest! {
        /// It ends within a few steps of the target time, or at the limit that keeps it away.
        #[test]
        fn it_settles_at_the_target_or_a_limit(
            fixed in 0.0..45e6,
            a_row in 10.0..100_000.0,
            noise in prop::collection::vec(0.97..1.03, 7),
        ) {
            let limits = BatchLimits::default();
            let (rows, ns) = settled(limits, fixed, a_row, &noise);
            let near = (70e6..140e6).contains(&ns);
            let floor = rows <= limits.min_rows * 12 / 10 && ns > 90e6;
            let ceiling = rows >= limits.max_rows * 8 / 10 && ns < 110e6;
            prop_assert!(near || floor || ceiling, "{} rows in {} ms", rows, ns / 1e6);
        }
    }

    #[test]
    fn where_inserts_are_slow_by_themselves_batches_do_not_shrink_to_the_floor() {
        // 300 ms and 1 us a row: 300,000 rows make the rows half of the time.
        let (rows, _) = settled(BatchLimits::default(), 300e6, 1_000.0, &[1.0, 1.02, 0.98]);
        assert!(rows > 100_000, "{rows}");
    }

    #[test]
    fn a_batch_that_was_not_full_does_not_make_the_next_larger() {
        let size = BatchSize::new(BatchLimits::default());
        let before = size.rows();
        for rows in [1, 10, 100, 20_000] {
            size.inserted(rows, Duration::from_millis(1));
            assert_eq!(size.rows(), before);
        }
        size.inserted(before, Duration::from_millis(1));
        assert_eq!(size.rows(), before + before / 10);
    }

    #[test]
    fn batches_are_large_while_the_store_is_away_as_far_as_they_may() {
        let size = BatchSize::new(BatchLimits::default());
        let (rows, age) = (size.rows(), BatchLimits::default().age);
        size.failed();
        assert_eq!(size.rows(), AWAY_ROWS);
        assert!(size.next_age() > 2 * age);
        size.inserted(10, Duration::from_millis(1));
        assert_eq!(size.rows(), rows);
        assert!(size.next_age() < 2 * age);
        let few = BatchLimits { min_rows: 1, max_rows: 20, ..BatchLimits::default() };
        let few = BatchSize::new(few);
        few.failed();
        assert_eq!(few.rows(), 20);
    }

    #[test]
    fn ages_differ_by_a_fifth_at_most() {
        let limits = BatchLimits { age: Duration::from_secs(10), ..BatchLimits::default() };
        assert_eq!(limits.jittered_age(0), Duration::from_secs(8));
        assert_eq!(limits.jittered_age(u32::MAX), Duration::from_secs(10));
        let ages: Vec<_> = (0..9).map(|_| BatchSize::new(limits).next_age()).collect();
        assert!(ages.iter().any(|age| *age != ages[0]), "{ages:?}");
    }
}
