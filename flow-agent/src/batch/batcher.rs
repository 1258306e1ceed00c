//! The thread that makes batches: records enter, frozen batches leave.
//!
//! It holds that each record goes into one batch, or two if a batch would be too large; that a
//! batch is frozen when it has as many rows as the store takes in the target time, or is old; and
//! that records are shown to the analytics whatever becomes of their batch.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};
use uuid::Uuid;

use super::{BatchSize, MOST_OCTETS};
use crate::analytics::Tap;
use crate::enrich::{BatchLabels, Enricher};
use crate::failpoint::failpoint;
use crate::frozen::FrozenBatch;
use crate::latency::{Latency, Stage};
use crate::names::NameBook;
use crate::record::FlowRecord;
use crate::waiting::Waiting;

/// Takes frozen batches over: the spool.
pub trait Frozen: Send {
    /// Takes a batch, waiting for room as long as it may. What it does not keep it counts as lost.
    fn put(&mut self, batch: Arc<FrozenBatch>);

    /// Called about once a second, or after each batch if they come more slowly.
    fn tick(&mut self) {}
}

/// Makes batches of records and gives them on.
pub struct Batching {
    /// When a batch is frozen.
    pub size: BatchSize,
    /// Where frozen batches go.
    pub frozen: Box<dyn Frozen>,
    /// The analytics look at every record, too.
    pub tap: Option<Tap>,
    /// What rows are labelled with; without it they have no labels.
    pub enricher: Option<Enricher>,
    /// What interfaces are called.
    pub names: NameBook,
    /// Where the age of batches is measured.
    pub latency: Latency,
    /// Where what is held and given on can be looked at.
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
        let batcher = Batcher { age: self.size.next_age(), setup: self, arrived: None };
        thread::Builder::new().name("batch".into()).spawn(move || batcher.run(&records))
    }
}

struct Batcher {
    setup: Batching,
    /// When the first record of the open batch arrived.
    arrived: Option<Instant>,
    /// How old the open batch may get.
    age: Duration,
}

impl Batcher {
    fn run(mut self, records: &Receiver<Vec<FlowRecord>>) {
        loop {
            let age = self.arrived.map_or(Duration::ZERO, |arrived| arrived.elapsed());
            match records.recv_timeout(self.age.saturating_sub(age)) {
                Ok(records) => {
                    failpoint!("batch::arrived");
                    self.add(records);
                }
                Err(RecvTimeoutError::Timeout) if self.arrived.is_some() => self.freeze(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.setup.frozen.tick();
        }
        self.freeze();
    }

    fn add(&mut self, mut records: Vec<FlowRecord>) {
        let mut records = records.drain(..);
        while records.len() > 0 {
            self.arrived.get_or_insert_with(Instant::now);
            let most = self.setup.size.rows();
            let rows = {
                let mut open = self.setup.waiting.open();
                let room = most.saturating_sub(open.len());
                open.extend(records.by_ref().take(room));
                open.len()
            };
            let old = self.arrived.is_some_and(|arrived| arrived.elapsed() >= self.age);
            if rows >= most || old {
                self.freeze();
            }
        }
    }

    fn freeze(&mut self) {
        if let Some(arrived) = self.arrived.take() {
            self.setup.latency.record(Stage::Batch, arrived.elapsed());
        }
        self.age = self.setup.size.next_age();
        let Batching { waiting, names, enricher, wall_clock, tap, frozen, .. } = &mut self.setup;
        let (names, now_ns) = (names.current(), wall_clock());
        let batches = waiting.freeze(|records| {
            let labels = enricher.as_mut().map_or_else(BatchLabels::default, |enricher| {
                enricher.label(records, &names, Instant::now())
            });
            if let Some(tap) = tap {
                tap.show(records, &names, now_ns);
            }
            let exported_at = (now_ns / 1_000_000_000) as u32;
            let id = Uuid::now_v7();
            within(MOST_OCTETS, FrozenBatch::of_flows(records, &labels, &names, id, exported_at))
        });
        for batch in batches {
            failpoint!("batch::frozen");
            frozen.put(batch);
        }
    }
}

/// The batch, in parts if its block has more octets than `most`.
pub fn within(most: usize, batch: FrozenBatch) -> Vec<FrozenBatch> {
    let halves = if batch.block.len() > most { batch.halves() } else { None };
    match halves {
        Some(halves) => halves.into_iter().flat_map(|half| within(most, half)).collect(),
        None => vec![batch],
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use crossbeam::channel::bounded;

    use super::super::BatchLimits;
    use super::*;
    use crate::names::Names;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<Arc<FrozenBatch>>>>);

    impl Frozen for Kept {
        fn put(&mut self, batch: Arc<FrozenBatch>) {
            self.0.lock().expect("no panic").push(batch);
        }
    }

    fn ports(batches: &[Arc<FrozenBatch>]) -> Vec<Vec<u16>> {
        let ports = |batch: &Arc<FrozenBatch>| -> Vec<u16> {
            let records = batch.records().expect("ours").records;
            records.iter().map(|record| record.src_port).collect()
        };
        batches.iter().map(ports).collect()
    }

    #[test]
    fn records_leave_in_order_in_batches_of_the_size_and_none_stays() {
        let limits = BatchLimits {
            min_rows: 3,
            max_rows: 3,
            age: Duration::from_mins(10),
            ..BatchLimits::default()
        };
        let kept = Kept::default();
        let batching = Batching {
            size: BatchSize::new(limits),
            frozen: Box::new(kept.clone()),
            tap: None,
            enricher: None,
            names: NameBook::new(Names::new("host", &["eth0"])),
            latency: Latency::default(),
            waiting: Waiting::default(),
            wall_clock: || 7_999_999_999,
        };
        let (sender, receiver) = bounded(9);
        let batcher = batching.start(receiver).expect("a thread");
        for message in [vec![1, 2], vec![3, 4, 5, 6, 7], vec![], vec![8]] {
            sender.send(message.into_iter().map(FlowRecord::example).collect()).expect("running");
        }
        drop(sender);
        batcher.join().expect("no panic");
        let kept = kept.0.lock().expect("no panic");
        assert_eq!(ports(&kept), [vec![1, 2, 3], vec![4, 5, 6], vec![7, 8]]);
        assert!(kept.iter().all(|batch| batch.exported_at == 7));
    }

    #[test]
    fn a_block_that_is_too_large_becomes_several() {
        let records: Vec<_> = (0..64).map(FlowRecord::example).collect();
        let labels = BatchLabels::default();
        let names = Names::new("host", &["eth0"]);
        let whole = FrozenBatch::of_flows(&records, &labels, &names, Uuid::now_v7(), 7);
        let most = whole.block.len() / 3;
        let parts: Vec<_> = within(most, whole).into_iter().map(Arc::new).collect();
        assert!(parts.len() > 3 && parts.iter().all(|part| part.block.len() <= most));
        assert_eq!(ports(&parts).concat(), (0..64).collect::<Vec<_>>());
    }
}
