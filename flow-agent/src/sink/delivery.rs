//! Delivery: each batch is sent until the store has acknowledged it.
//!
//! Enters: batches, in order, by a bounded queue. It holds that a batch is
//! acknowledged, or counted as lost with a reason, and never sent with other
//! rows under the same token.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use super::{ClickHouse, SinkError};
use crate::batch::BatchSize;
use crate::frozen::FrozenBatch;
use crate::latency::{Latency, Stage};
use crate::ledger::{Entry, Ledger, LostRecord};
use crate::room::Queued;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Between two tries while the agent stops.
const MOST_WHILE_STOPPING: Duration = Duration::from_secs(1);
/// How long one try may take.
const ATTEMPT: Duration = Duration::from_secs(60);
/// How often a store that stays away is news.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// How often the books are written.
const BOOKS_INTERVAL: Duration = Duration::from_secs(10);

/// How delivery ended.
#[derive(Debug)]
pub struct Outcome {
    /// Rows that the store acknowledged.
    pub rows: u64,
    /// Rows that it had not taken when time was up, with the last error.
    pub undelivered: Option<(u64, SinkError)>,
}

/// Sends batches and books to one store.
pub struct Delivery {
    /// The store, with connections that nothing else uses.
    pub store: ClickHouse,
    /// This host's name, for the books.
    pub exporter: String,
    /// Where acknowledged packets are counted.
    pub ledger: Ledger,
    /// Where inserts are measured; also written to the store.
    pub latency: Latency,
    /// Hears how long inserts take.
    pub size: BatchSize,
    /// Reads the wall clock, Unix ns.
    pub wall_clock: fn() -> u64,
    /// After the queue is closed, the store has this long to take what is left.
    pub patience: Duration,
}

impl Delivery {
    /// Starts [`Delivery::run`] on a thread of its own.
    ///
    /// # Errors
    /// The system refuses the thread.
    pub fn start(
        self,
        batches: mpsc::Receiver<Queued>,
        stopping: watch::Receiver<bool>,
    ) -> io::Result<JoinHandle<Outcome>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new()
            .name("delivery".into())
            .spawn(move || runtime.block_on(self.run(batches, stopping)))
    }

    /// Delivers until the queue is closed and empty. `stopping` becomes true
    /// when the agent stops; from then on a store that is away is waited for
    /// only as long as [`Delivery::patience`].
    pub async fn run(
        self,
        mut batches: mpsc::Receiver<Queued>,
        stopping: watch::Receiver<bool>,
    ) -> Outcome {
        let mut outcome = Outcome { rows: 0, undelivered: None };
        let mut deadline = Deadline::new(stopping, self.patience);
        let mut books = tokio::time::interval(BOOKS_INTERVAL);
        books.reset();
        loop {
            tokio::select! {
                batch = batches.recv() => match batch {
                    Some(queued) => self.deliver(&queued.batch, &mut deadline, &mut outcome).await,
                    None => break,
                },
                _ = books.tick() => self.write_books(&mut deadline).await,
            }
        }
        self.write_books(&mut deadline).await;
        outcome
    }

    async fn deliver(&self, batch: &FrozenBatch, deadline: &mut Deadline, outcome: &mut Outcome) {
        let started = Instant::now();
        let sent = retry(deadline, || self.store.insert_batch(batch)).await;
        match sent {
            Ok(()) => {
                self.latency.record(Stage::Insert, started.elapsed());
                let now = (self.wall_clock)();
                let ages = batch.flow_ends().map(|end_ns| now.saturating_sub(end_ns));
                self.latency.record_ns(Stage::PacketToAcknowledged, ages);
                for (interface, count) in &batch.counts {
                    self.ledger.add(interface, Entry::Acknowledged, *count);
                }
                self.size.inserted(batch.rows as usize, started.elapsed());
                outcome.rows += u64::from(batch.rows);
            }
            Err(error) => {
                for (interface, count) in &batch.counts {
                    let lost = Entry::LostRecord(LostRecord::Undelivered);
                    self.ledger.add(interface, lost, *count);
                }
                let before = outcome.undelivered.take().map_or(0, |(rows, _)| rows);
                outcome.undelivered = Some((before + u64::from(batch.rows), error));
            }
        }
    }

    /// Ledger and latency of the time since the last call. A store that does not
    /// take them loses them: the totals stay in the agent and in its last log line.
    async fn write_books(&self, deadline: &mut Deadline) {
        let ts = ((self.wall_clock)() / 1_000_000_000) as u32;
        let (counts, buckets) = (self.ledger.take(), self.latency.take());
        let (ledger_token, latency_token) = (Uuid::now_v7(), Uuid::now_v7());
        let result = retry(deadline, async || {
            if !counts.is_empty() {
                self.store.insert_ledger(ledger_token, ts, &counts, &self.exporter).await?;
            }
            if !buckets.is_empty() {
                self.store.insert_latency(latency_token, ts, &buckets, &self.exporter).await?;
            }
            Ok(())
        })
        .await;
        if let Err(error) = result {
            tracing::warn!("the ledger of the last interval is not in the store: {error}");
        }
    }
}

/// When to give a store up.
pub(super) struct Deadline {
    stopping: watch::Receiver<bool>,
    patience: Duration,
    /// When the agent began to stop, as seen here.
    since: Option<Instant>,
    /// When a failure was last told.
    told: Option<Instant>,
}

impl Deadline {
    pub(super) fn new(stopping: watch::Receiver<bool>, patience: Duration) -> Self {
        Self { stopping, patience, since: None, told: None }
    }

    /// The time that is left, once the agent is stopping.
    fn left(&mut self) -> Option<Duration> {
        if !*self.stopping.borrow() {
            return None;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        Some(self.patience.saturating_sub(since.elapsed()))
    }

    /// Ends when the agent is stopping and its patience is over.
    async fn over(&mut self) {
        loop {
            match self.left() {
                Some(left) => return tokio::time::sleep(left).await,
                // A sender that is gone has stopped.
                None if self.stopping.changed().await.is_err() => return,
                None => {}
            }
        }
    }

    /// True when there is no use in trying again after `error`.
    fn gives_up(&mut self, error: &SinkError) -> bool {
        self.left().is_some_and(|left| left.is_zero() || !error.is_transient())
    }

    /// Waits before the next try; less when the agent begins to stop.
    async fn pause(&mut self, pause: Duration) {
        match self.left() {
            Some(left) => tokio::time::sleep(pause.min(left).min(MOST_WHILE_STOPPING)).await,
            None => drop(tokio::time::timeout(pause, self.stopping.changed()).await),
        }
    }

    /// Says that the store does not answer, but not at each try.
    fn tell(&mut self, error: &SinkError) {
        if self.told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
            self.told = Some(Instant::now());
            if let Some(left) = self.left() {
                tracing::warn!("{error} (waiting up to {} s more)", left.as_secs());
            } else {
                tracing::warn!("{error} (trying again until it answers)");
            }
        }
    }
}

/// Tries until it succeeds or the deadline is over, with a growing, jittered pause.
/// An attempt may hang: it is given up with the deadline, or after a minute.
pub(super) async fn retry<F: Future<Output = Result<(), SinkError>>>(
    deadline: &mut Deadline,
    mut attempt: impl FnMut() -> F,
) -> Result<(), SinkError> {
    let mut pause = FIRST_PAUSE;
    let mut last = None;
    loop {
        let outcome = tokio::select! {
            outcome = tokio::time::timeout(ATTEMPT, attempt()) => outcome,
            () = deadline.over() => return Err(last.unwrap_or(SinkError::TooLate)),
        };
        let error = match outcome {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => SinkError::Silent { seconds: ATTEMPT.as_secs() },
        };
        if deadline.gives_up(&error) {
            return Err(error);
        }
        deadline.tell(&error);
        last = Some(error);
        // Full jitter: agents that lost the same store do not come back in step.
        let jitter = f64::from(Uuid::now_v7().as_u128() as u32) / f64::from(u32::MAX);
        deadline.pause(pause.mul_f64(jitter.max(0.1))).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
