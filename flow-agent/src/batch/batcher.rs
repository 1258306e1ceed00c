//! The thread that makes batches: records enter, frozen batches leave.
//!
//! It holds that each record goes into one batch, or two if a batch would be too large; that a
//! batch is frozen when it has as many rows as the store takes in the target time, or is old, or
//! when its burst is over and the last batch was long enough ago; and that records are shown to the
//! analytics whatever becomes of their batch.
//!
//! Records come in bursts, one a drain. To wait for an age after one would make every row older
//! and no batch larger.

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

/// No record for so long: the burst is over.
const QUIET: Duration = Duration::from_millis(50);

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
        let batcher = Batcher { age: self.size.next_age(), setup: self, open: None, frozen: None };
        thread::Builder::new().name("batch".into()).spawn(move || batcher.run(&records))
    }
}

struct Batcher {
    setup: Batching,
    open: Option<Open>,
    /// When the last batch was.
    frozen: Option<Instant>,
    /// How old the open batch may get, and how long ago the last one must be at the end of a burst.
    age: Duration,
}

/// The open batch: when its records arrived.
#[derive(Clone, Copy)]
struct Open {
    first: Instant,
    last: Instant,
}

impl Batcher {
    fn run(mut self, records: &Receiver<Vec<FlowRecord>>) {
        loop {
            let now = Instant::now();
            let wait = self.due().map_or(self.age, |due| due.saturating_duration_since(now));
            match records.recv_timeout(wait) {
                Ok(records) => {
                    failpoint!("batch::arrived");
                    self.add(records);
                }
                Err(RecvTimeoutError::Timeout) => self.freeze(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.setup.frozen.tick();
        }
        self.freeze();
    }

    /// When the open batch is to be frozen, whatever it has by then.
    fn due(&self) -> Option<Instant> {
        let Open { first, last } = self.open?;
        let paced = self.frozen.map_or(last, |frozen| frozen + self.age);
        Some((first + self.age).min(paced.max(last + QUIET)))
    }

    fn add(&mut self, mut records: Vec<FlowRecord>) {
        let now = Instant::now();
        let mut records = records.drain(..);
        while records.len() > 0 {
            self.open.get_or_insert(Open { first: now, last: now }).last = now;
            let most = self.setup.size.rows();
            let rows = {
                let mut open = self.setup.waiting.open();
                let room = most.saturating_sub(open.len());
                open.extend(records.by_ref().take(room));
                open.len()
            };
            let old = self.open.is_some_and(|open| open.first.elapsed() >= self.age);
            if rows >= most || old {
                self.freeze();
            }
        }
    }

    fn freeze(&mut self) {
        let Some(open) = self.open.take() else { return };
        self.setup.latency.record(Stage::Batch, open.first.elapsed());
        self.frozen = Some(Instant::now());
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
    use std::sync::{Condvar, Mutex};

    use crossbeam::channel::{Sender, bounded};

    use super::super::BatchLimits;
    use super::*;
    use crate::names::Names;

    #[derive(Clone, Default)]
    struct Kept(Arc<(Mutex<Vec<Arc<FrozenBatch>>>, Condvar)>);

    impl Kept {
        /// What was kept, once it is so many batches or so long has passed.
        fn wait(&self, batches: usize, patience: Duration) -> Vec<Arc<FrozenBatch>> {
            let (kept, more) = &*self.0;
            let kept = kept.lock().expect("no panic");
            let waited = more.wait_timeout_while(kept, patience, |kept| kept.len() < batches);
            waited.expect("no panic").0.clone()
        }

        fn all(&self) -> Vec<Arc<FrozenBatch>> {
            self.wait(0, Duration::ZERO)
        }
    }

    impl Frozen for Kept {
        fn put(&mut self, batch: Arc<FrozenBatch>) {
            self.0.0.lock().expect("no panic").push(batch);
            self.0.1.notify_all();
        }
    }

    fn ports(batches: &[Arc<FrozenBatch>]) -> Vec<Vec<u16>> {
        let ports = |batch: &Arc<FrozenBatch>| -> Vec<u16> {
            let records = batch.records().expect("ours").records;
            records.iter().map(|record| record.src_port).collect()
        };
        batches.iter().map(ports).collect()
    }

    /// Batches of at most so many rows that never get old.
    fn batching(rows: usize, kept: &Kept) -> Batching {
        let limits = BatchLimits {
            min_rows: rows,
            max_rows: rows,
            age: Duration::from_mins(10),
            ..BatchLimits::default()
        };
        Batching {
            size: BatchSize::new(limits),
            frozen: Box::new(kept.clone()),
            tap: None,
            enricher: None,
            names: NameBook::new(Names::new("host", &["eth0"])),
            latency: Latency::default(),
            waiting: Waiting::default(),
            wall_clock: || 7_999_999_999,
        }
    }

    fn send(sender: &Sender<Vec<FlowRecord>>, ports: &[u16]) {
        let records = ports.iter().copied().map(FlowRecord::example).collect();
        sender.send(records).expect("running");
    }

    #[test]
    fn records_leave_in_order_in_batches_of_the_size_and_none_stays() {
        let kept = Kept::default();
        let (sender, receiver) = bounded(9);
        let batcher = batching(3, &kept).start(receiver).expect("a thread");
        for message in [&[1, 2][..], &[3, 4, 5, 6, 7], &[], &[8]] {
            send(&sender, message);
        }
        drop(sender);
        batcher.join().expect("no panic");
        let kept = kept.all();
        assert_eq!(ports(&kept), [vec![1, 2, 3], vec![4, 5, 6], vec![7, 8]]);
        assert!(kept.iter().all(|batch| batch.exported_at == 7));
    }

    #[test]
    fn a_burst_is_frozen_when_it_is_over_if_the_last_batch_is_long_ago() {
        let kept = Kept::default();
        let (sender, receiver) = bounded(9);
        let batcher = batching(100, &kept).start(receiver).expect("a thread");
        send(&sender, &[1, 2]);
        // By age it would take ten minutes.
        assert_eq!(kept.wait(1, Duration::from_mins(1)).len(), 1, "still open");
        for burst in [[3, 4], [5, 6]] {
            send(&sender, &burst);
            assert_eq!(kept.wait(2, 3 * QUIET).len(), 1, "one batch an age");
        }
        drop(sender);
        batcher.join().expect("no panic");
        let kept = kept.all();
        assert_eq!(ports(&kept), [vec![1, 2], vec![3, 4, 5, 6]]);
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
