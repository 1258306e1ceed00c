//! Batching: records become frozen batches, one insert each.
//!
//! Enters: records from the cache shards. Leaves: [`Batch`]es by a queue that is
//! bounded in rows. A frozen batch never changes: its id is its deduplication token, and
//! the same token must always mean the same rows.

use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use uuid::Uuid;

use super::BatchLimits;
use crate::analytics::Tap;
use crate::enrich::{BatchLabels, Enricher};
use crate::latency::{Latency, Stage};
use crate::ledger::{Entry, Ledger};
use crate::names::{NameBook, Names};
use crate::record::FlowRecord;
use crate::room::{Room, Waits};
use crate::row::FlowRow;
use crate::waiting::Waiting;

/// Rows that are inserted together or not at all.
#[derive(Debug)]
pub struct Batch {
    /// UUID version 7: the deduplication token, the query id, and a column.
    pub id: Uuid,
    /// Unix seconds when it was frozen; partitions and TTLs derive from it.
    pub exported_at: u32,
    /// At least one.
    pub records: Arc<Vec<FlowRecord>>,
    /// What was known of the records when it was frozen.
    pub labels: BatchLabels,
    /// What the records' interfaces were called when it was frozen.
    pub names: Arc<Names>,
    /// Room in the queue, one permit a row; free again when the batch is dropped.
    room: OnceLock<OwnedSemaphorePermit>,
}

impl Batch {
    /// Freezes records at a wall-clock time in Unix ns, with what is known of them.
    pub fn freeze(
        records: impl Into<Arc<Vec<FlowRecord>>>,
        labels: BatchLabels,
        names: Arc<Names>,
        now_ns: u64,
    ) -> Self {
        let exported_at = (now_ns / 1_000_000_000) as u32;
        let room = OnceLock::new();
        Self { id: Uuid::now_v7(), exported_at, records: records.into(), labels, names, room }
    }

    /// Keeps its room in the queue until it is dropped.
    pub(crate) fn keep(&self, room: Option<OwnedSemaphorePermit>) {
        if let Some(room) = room {
            // A batch is queued once.
            let _ = self.room.set(room);
        }
    }

    /// The rows to be inserted, the same each time.
    pub fn rows(&self) -> impl Iterator<Item = FlowRow<'_>> {
        self.records.iter().enumerate().map(|(at, record)| {
            FlowRow::new(record, &self.labels.row(at), &self.names, self.id, self.exported_at)
        })
    }
}

/// Makes batches of records and queues them.
pub struct Batching {
    /// When a batch is frozen.
    pub limits: BatchLimits,
    /// Where frozen batches go.
    pub batches: mpsc::Sender<Arc<Batch>>,
    /// How long is waited for room there.
    pub waits: Waits,
    /// The analytics look at every record, too.
    pub tap: Option<Tap>,
    /// What rows are labelled with; without it they have no labels.
    pub enricher: Option<Enricher>,
    /// What interfaces are called.
    pub names: NameBook,
    /// Where lost records are counted.
    pub ledger: Ledger,
    /// Where the age of batches is measured.
    pub latency: Latency,
    /// Where what is held and queued can be looked at.
    pub waiting: Waiting,
    /// Reads the wall clock, Unix ns.
    pub wall_clock: fn() -> u64,
}

impl Batching {
    /// Starts the batcher. It ends when every record sender is gone, with nothing held back.
    ///
    /// # Errors
    /// The system refuses the thread.
    pub fn start(self, records: Receiver<Vec<FlowRecord>>) -> std::io::Result<JoinHandle<()>> {
        let rows = 16 * self.limits.max_rows;
        let room = Room::new(rows, self.batches.clone(), self.waits.clone())?;
        let batcher = Batcher { setup: self, arrived: None, room, lost_rows: 0, warned: None };
        thread::Builder::new().name("batch".into()).spawn(move || batcher.run(&records))
    }
}

struct Batcher {
    setup: Batching,
    /// When the first record of the open batch arrived.
    arrived: Option<Instant>,
    room: Room,
    lost_rows: usize,
    warned: Option<Instant>,
}

/// A store that stays away is not news each second.
const WARN_EVERY: Duration = Duration::from_secs(10);

impl Batcher {
    fn run(mut self, records: &Receiver<Vec<FlowRecord>>) {
        loop {
            let age = self.arrived.map_or(Duration::ZERO, |arrived| arrived.elapsed());
            match records.recv_timeout(self.setup.limits.age.saturating_sub(age)) {
                Ok(records) => self.add(records),
                Err(RecvTimeoutError::Timeout) if self.arrived.is_some() => self.freeze(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.freeze();
    }

    fn add(&mut self, mut records: Vec<FlowRecord>) {
        let mut records = records.drain(..);
        while records.len() > 0 {
            self.arrived.get_or_insert_with(Instant::now);
            let rows = {
                let mut open = self.setup.waiting.open();
                let room = self.setup.limits.max_rows - open.len();
                open.extend(records.by_ref().take(room));
                open.len()
            };
            let old =
                self.arrived.is_some_and(|arrived| arrived.elapsed() >= self.setup.limits.age);
            if rows >= self.setup.limits.max_rows || old {
                self.freeze();
            }
        }
    }

    fn freeze(&mut self) {
        if let Some(arrived) = self.arrived.take() {
            self.setup.latency.record(Stage::Batch, arrived.elapsed());
        }
        let Batching { waiting, names, enricher, wall_clock, tap, .. } = &mut self.setup;
        let (names, now_ns) = (names.current(), wall_clock());
        let Some(batch) = waiting.freeze(|records| {
            let labels = enricher.as_mut().map_or_else(BatchLabels::default, |enricher| {
                enricher.label(&records, &names, Instant::now())
            });
            Batch::freeze(records, labels, names.clone(), now_ns)
        }) else {
            return;
        };
        if let Some(tap) = tap {
            tap.show(&batch.records, &batch.names, now_ns);
        }
        let Err(reason) = self.room.put(&batch) else { return };
        self.setup.ledger.add_records(
            batch.records.iter(),
            |number| batch.names.interface(number),
            Entry::LostRecord(reason),
        );
        self.lost_rows += batch.records.len();
        if self.warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            self.warned = Some(Instant::now());
            tracing::warn!(
                "the store is slow or away and the queue of batches is full: \
                 {} flow records are lost so far",
                self.lost_rows
            );
        }
    }
}
