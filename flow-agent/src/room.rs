//! Room in the queue of batches, and how long the batcher waits for it.
//!
//! Enters: frozen batches. Leaves: the same into the queue, or a reason why not. Whoever waits
//! for the batcher waits for this: the shards, and for them the drain, while the kernel tables go
//! on counting. So while the agent meters it waits for `BURST` in all, which is enough for a
//! store that takes rows at all, and after that for a tenth of the time at most, and not at all
//! while the store takes nothing. Once the agent stops nothing comes after what is there, and it
//! waits as long as the delivery does.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::batch::Frozen;
use crate::frozen::FrozenBatch;
use crate::ledger::{Entry, Ledger, LostRecord};

/// How long bursts may be waited for before time earns more: a store takes some hundred thousand
/// rows meanwhile, and the kernel tables hold the new flows of more than that.
const BURST: Duration = Duration::from_secs(2);
/// What time earns: one part of so many.
const EARNED: u32 = 10;

/// How long the queue is waited for when there is no room in it.
#[derive(Clone, Debug)]
pub struct Waits {
    /// True once the agent stops.
    pub stopping: watch::Receiver<bool>,
    /// From then on it is waited for so long.
    pub patience: Duration,
}

/// A batch in the queue; its room is free again when it is dropped.
#[derive(Debug)]
pub struct Queued {
    /// The batch.
    pub batch: Arc<FrozenBatch>,
    _room: Option<OwnedSemaphorePermit>,
}

impl Queued {
    /// A batch that takes no room.
    pub fn new(batch: Arc<FrozenBatch>) -> Self {
        Self { batch, _room: None }
    }
}

/// Counts what the queue has no room for as lost.
pub struct Counted {
    /// The queue.
    pub room: Room,
    /// Where it is counted.
    pub ledger: Ledger,
    /// So far.
    pub lost_rows: usize,
    /// When it was last told.
    pub warned: Option<Instant>,
}

/// A store that stays away is not news each second.
const WARN_EVERY: Duration = Duration::from_secs(10);

impl Frozen for Counted {
    fn put(&mut self, batch: Arc<FrozenBatch>) {
        let Err(reason) = self.room.put(&batch) else { return };
        for (interface, count) in &batch.counts {
            self.ledger.add(interface, Entry::LostRecord(reason), *count);
        }
        self.lost_rows += batch.rows as usize;
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

/// The queue, as the batcher sees it.
pub struct Room {
    rows: Arc<Semaphore>,
    batches: mpsc::Sender<Queued>,
    waits: Waits,
    /// When the agent began to stop, as seen here.
    stopping_since: Option<Instant>,
    allowance: Allowance,
    runtime: Runtime,
}

impl Room {
    /// The empty queue, with room for so many rows.
    ///
    /// # Errors
    /// The system refuses a timer.
    pub fn new(rows: usize, batches: mpsc::Sender<Queued>, waits: Waits) -> io::Result<Self> {
        Ok(Self {
            rows: Arc::new(Semaphore::new(rows)),
            batches,
            waits,
            stopping_since: None,
            allowance: Allowance::new(BURST, Instant::now()),
            runtime: Builder::new_current_thread().enable_time().build()?,
        })
    }

    /// Queues a batch, which keeps its room until it is dropped.
    ///
    /// # Errors
    /// There was no room for too long, or nobody delivers any more.
    pub fn put(&mut self, batch: &Arc<FrozenBatch>) -> Result<(), LostRecord> {
        let started = Instant::now();
        let (rows, waits) = (self.rows.clone(), &mut self.waits);
        let placed = async {
            // It is never closed.
            let permit = rows.acquire_many_owned(batch.rows).await;
            let slot = self.batches.reserve().await.map_err(|_| LostRecord::Undelivered)?;
            slot.send(Queued { batch: batch.clone(), _room: permit.ok() });
            Ok(())
        };
        if *waits.stopping.borrow() {
            self.stopping_since.get_or_insert(started);
        }
        let (left, since) = (self.allowance.left, &mut self.stopping_since);
        let over = async {
            if since.is_none() {
                tokio::select! {
                    () = tokio::time::sleep(left) => return,
                    // A sender that is gone has stopped.
                    _ = waits.stopping.wait_for(|stopping| *stopping) => {}
                }
            }
            let since = *since.get_or_insert_with(Instant::now);
            tokio::time::sleep(waits.patience.saturating_sub(since.elapsed())).await;
        };
        let result = self.runtime.block_on(async {
            tokio::select! {
                biased;
                placed = placed => placed,
                () = over => Err(LostRecord::QueueFull),
            }
        });
        self.allowance.note(started, Instant::now(), result.is_ok());
        result
    }
}

/// How long may be waited while the agent meters.
#[derive(Debug, PartialEq, Eq)]
struct Allowance {
    most: Duration,
    left: Duration,
    noted: Instant,
}

impl Allowance {
    fn new(most: Duration, now: Instant) -> Self {
        Self { most, left: most, noted: now }
    }

    /// It was waited from one moment to the other, and the batch was taken or not. What has
    /// passed since the last one that was taken earns some.
    fn note(&mut self, from: Instant, to: Instant, taken: bool) {
        self.left = self.left.saturating_sub(to.saturating_duration_since(from));
        if taken {
            let passed = to.saturating_duration_since(self.noted);
            self.left = self.most.min(self.left + passed / EARNED);
            self.noted = to;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use uuid::Uuid;

    use super::*;
    use crate::enrich::BatchLabels;
    use crate::names::Names;
    use crate::record::FlowRecord;

    const LONG: Duration = Duration::from_secs(600);

    fn batch(rows: usize) -> Arc<FrozenBatch> {
        let names = Names::new("host", &["eth0"]);
        let records = vec![FlowRecord::example(1); rows];
        let labels = BatchLabels::default();
        Arc::new(FrozenBatch::of_flows(&records, &labels, &names, Uuid::now_v7(), 0))
    }

    type Fixture = (Room, mpsc::Receiver<Queued>, watch::Sender<bool>);

    /// Room for ten rows; the metering agent waits for `burst`.
    fn room(burst: Duration, patience: Duration) -> Fixture {
        let (sender, batches) = mpsc::channel(100);
        let (stop, stopping) = watch::channel(false);
        let mut room = Room::new(10, sender, Waits { stopping, patience }).expect("a timer");
        room.allowance = Allowance::new(burst, Instant::now());
        (room, batches, stop)
    }

    #[test]
    fn a_burst_waits_for_a_store_that_takes_rows() {
        let (mut room, mut batches, _stop) = room(LONG, Duration::ZERO);
        assert_eq!(room.put(&batch(10)), Ok(()));
        // Only the first fits: the rest has to wait for what is delivered.
        let store = thread::spawn(move || {
            let mut rows = 0;
            while let Some(batch) = batches.blocking_recv() {
                rows += batch.batch.rows;
            }
            rows
        });
        for _ in 0..100 {
            assert_eq!(room.put(&batch(10)), Ok(()));
        }
        drop(room);
        assert_eq!(store.join().expect("no panic"), 1010);
    }

    #[test]
    fn a_store_that_takes_nothing_is_waited_for_once() {
        let (mut room, mut batches, _stop) = room(Duration::from_millis(20), LONG);
        assert_eq!(room.put(&batch(6)), Ok(()));
        assert_eq!(room.put(&batch(6)), Err(LostRecord::QueueFull));
        assert_eq!(room.allowance.left, Duration::ZERO);
        assert_eq!(room.put(&batch(6)), Err(LostRecord::QueueFull));
        assert_eq!(room.put(&batch(4)), Ok(()), "what fits is taken");
        assert_eq!(batches.try_recv().map(|batch| batch.batch.rows), Ok(6));
        assert_eq!(room.put(&batch(6)), Ok(()), "there is room again");
        drop(batches);
        drop(room);
    }

    #[test]
    fn a_stopping_agent_waits_as_long_as_its_patience() {
        for (patience, expected) in [(Duration::ZERO, Err(LostRecord::QueueFull)), (LONG, Ok(()))] {
            let (mut room, mut batches, stop) = room(Duration::ZERO, patience);
            assert_eq!(room.put(&batch(10)), Ok(()));
            assert_eq!(room.put(&batch(10)), Err(LostRecord::QueueFull), "still metering");
            stop.send(true).expect("it listens");
            let (begin, begun) = std::sync::mpsc::channel::<()>();
            let store = thread::spawn(move || {
                // With patience it comes back; without it stays away until nobody waits.
                if expected.is_err() {
                    assert!(begun.recv().is_err(), "dropped");
                }
                let rows = batches.blocking_recv().map(|batch| batch.batch.rows);
                (rows, batches) // it stays
            });
            assert_eq!(room.put(&batch(10)), expected);
            drop(begin);
            let (rows, batches) = store.join().expect("no panic");
            assert_eq!(rows, Some(10));
            drop(batches);
        }
    }

    #[test]
    fn without_a_delivery_the_reason_is_another() {
        let (mut room, batches, _stop) = room(LONG, LONG);
        drop(batches);
        assert_eq!(room.put(&batch(1)), Err(LostRecord::Undelivered));
    }

    #[test]
    fn waiting_is_earned_by_what_is_taken() {
        let second = Duration::from_secs(1);
        let start = Instant::now();
        let at = |seconds: u32| start + second * seconds;
        let mut allowance = Allowance::new(BURST, start);
        allowance.note(at(0), at(3), false);
        assert_eq!(allowance.left, Duration::ZERO, "spent");
        allowance.note(at(100), at(100), false);
        assert_eq!(allowance.left, Duration::ZERO, "a store that is away earns nothing");
        allowance.note(at(200), at(200), true);
        assert_eq!(allowance.left, BURST, "no more than at first");
        allowance.note(at(200), at(202), true);
        assert_eq!(allowance.left, second / 5, "a tenth of two seconds");
    }
}
