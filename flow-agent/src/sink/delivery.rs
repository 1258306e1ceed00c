//! Delivery: batches go from the spool to the store, several at a time.
//!
//! Enters: batches of the spool, in order. Leaves: rows in the store, and the spool's permission
//! to forget them. It holds that a batch is settled only when the store has all of it exactly
//! once, or what it refuses is in the quarantine; whatever is not settled stays in the spool.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, oneshot, watch};

use super::aside::Aside;
use super::courier::{Carried, Courier};
use super::patience::{Limits, Patience};
use super::quarantine::Quarantine;
use super::{DeliveryBook, Endpoints, SinkError};
use crate::batch::BatchSize;
use crate::books::Books;
use crate::estate::Witness;
use crate::failpoint::failpoint;
use crate::frozen::{FrozenBatch, Table};
use crate::latency::{Latency, Stage};
use crate::ledger::{Counts, Entry, Ledger, LostRecord};
use crate::schema::Schema;
use crate::spool::{Contents, Losses, Pending, SpoolReader, SpoolWriter};

/// How delivery ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Rows of flows that the store acknowledged.
    pub rows: u64,
    /// What is in the spool for the next agent, and where.
    pub left: Option<(Contents, String)>,
    /// Rows of the last books that neither the store nor the spool has.
    pub books_lost: u64,
    /// Why the store was given up.
    pub given_up: Option<SinkError>,
}

/// The books are closed after the last batch of flows: who has the end of the spool that batches
/// go into gives it away for that when it has put in its last one.
pub type LastBooks = oneshot::Sender<SpoolWriter>;

/// Delivers what is in a spool.
pub struct Delivery {
    /// The servers, with connections that nothing else uses.
    pub store: Endpoints,
    /// The tables.
    pub schema: Schema,
    /// Inserts that may be under way at once; as many more of batches whose first try failed.
    pub in_flight: usize,
    /// Where rows go that the store refuses; none: the delivery is given up.
    pub quarantine: Option<Quarantine>,
    /// Where acknowledged packets are counted.
    pub ledger: Ledger,
    /// Where inserts are measured.
    pub latency: Latency,
    /// The books, for the last time.
    pub books: Books,
    /// Hears how long inserts take.
    pub size: Option<BatchSize>,
    /// What the status shows.
    pub book: DeliveryBook,
    /// Reads the wall clock, Unix ns.
    pub wall_clock: fn() -> u64,
    /// How long the store has once the agent stops.
    pub limits: Limits,
}

impl Delivery {
    /// Starts it on a thread of its own. It ends after the last books: see [`LastBooks`].
    ///
    /// # Errors
    /// The system refuses the thread.
    pub fn start(
        self,
        spool: SpoolReader,
        stopping: watch::Receiver<bool>,
    ) -> io::Result<(JoinHandle<Outcome>, LastBooks)> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (sender, last) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("delivery".into())
            .spawn(move || self.run(&runtime, spool, stopping, last))?;
        Ok((thread, sender))
    }

    /// What waits for the disk, closing the books, is done between two runs of the runtime.
    fn run(
        self,
        runtime: &Runtime,
        spool: SpoolReader,
        stopping: watch::Receiver<bool>,
        last: oneshot::Receiver<SpoolWriter>,
    ) -> Outcome {
        let courier = Courier {
            store: self.store,
            schema: self.schema,
            book: self.book,
            patience: Patience::new(stopping, self.limits),
            quarantine: self.quarantine,
            size: self.size,
            through: Notify::new(),
            released: Notify::new(),
            aside: Aside::new(self.in_flight, spool.status().room()),
            told: std::sync::Mutex::default(),
        };
        let (ledger, latency, wall_clock) = (self.ledger, self.latency, self.wall_clock);
        let counters = Counters { ledger, latency, wall_clock };
        let mut lane =
            Lane { spool, courier: &courier, counters: &counters, outcome: Outcome::default() };
        let writer = runtime.block_on(lane.deliver(last));
        let Lane { mut spool, mut outcome, .. } = lane;
        let status = spool.status();
        let Some(mut writer) = writer else {
            // Its thread has panicked: that is told elsewhere.
            counters.note_losses(&spool.finish());
            return outcome;
        };
        let mut books = self.books;
        if outcome.given_up.is_some() {
            counters.note_losses(&spool.rest());
            counters.note_left(&status.contents());
            // What was just counted as kept must stay: the books take no room from it.
            let mut lost = Losses::default();
            for batch in books.freeze(wall_clock()) {
                lost.merge(&writer.append_last(batch).lost);
            }
            // Those that the disk did not take are tried once more, then lost.
            lost.merge(&spool.finish());
            outcome.books_lost = lost.total().rows;
            counters.note_losses(&lost);
        } else {
            counters.note_losses(&spool.losses());
            for batch in books.freeze(wall_clock()) {
                counters.note_losses(&writer.append(batch).lost);
            }
            drop(writer);
            let lane = Lane { spool, courier: &courier, counters: &counters, outcome };
            (spool, outcome) = runtime.block_on(lane.deliver_rest());
            counters.note_losses(&spool.finish());
        }
        let left = status.contents();
        let dir = status.figures().and_then(|figures| figures.dir);
        outcome.left = dir.filter(|_| !left.is_empty()).map(|dir| (left, dir));
        outcome
    }
}

/// Batches between the spool and the store.
struct Lane<'a> {
    spool: SpoolReader,
    courier: &'a Courier,
    counters: &'a Counters,
    outcome: Outcome,
}

impl Lane<'_> {
    /// Delivers until the writer of the spool is given away and nothing of the spool is left, or
    /// the store is given up. No writer: it was dropped.
    async fn deliver(&mut self, mut last: oneshot::Receiver<SpoolWriter>) -> Option<SpoolWriter> {
        let aside = &self.courier.aside;
        let mut under_way = FuturesUnordered::new();
        let mut writer = None;
        let mut closed = false;
        loop {
            let taking = self.outcome.given_up.is_none() && !closed;
            let over = !taking || self.spool.is_empty();
            if let Some(writer) = writer.take_if(|_| over && under_way.is_empty()) {
                return writer;
            }
            tokio::select! {
                biased;
                Some(carried) = under_way.next() => self.settle(carried),
                () = aside.freed.notified(), if !under_way.is_empty() => {}
                pending = self.spool.next(), if taking && aside.has_slot(under_way.len()) => {
                    match pending {
                        Some(pending) => under_way.push(carry(self.courier, pending)),
                        None => closed = true,
                    }
                }
                given = &mut last, if writer.is_none() => writer = Some(given.ok()),
            }
            self.counters.note_losses(&self.spool.losses());
        }
    }

    /// Delivers until nothing of the spool is left, or the store is given up.
    async fn deliver_rest(mut self) -> (SpoolReader, Outcome) {
        let aside = &self.courier.aside;
        let mut under_way = FuturesUnordered::new();
        let mut closed = false;
        loop {
            let taking = self.outcome.given_up.is_none() && !closed;
            if !taking && under_way.is_empty() {
                drop(under_way);
                return (self.spool, self.outcome);
            }
            tokio::select! {
                biased;
                Some(carried) = under_way.next() => self.settle(carried),
                () = aside.freed.notified(), if !under_way.is_empty() => {}
                pending = self.spool.next(), if taking && aside.has_slot(under_way.len()) => {
                    match pending {
                        Some(pending) => under_way.push(carry(self.courier, pending)),
                        None => closed = true,
                    }
                }
            }
        }
    }

    fn settle(&mut self, (pending, started, carried): (Pending, Instant, Carried)) {
        failpoint!("delivery::carried");
        let Carried { stored, quarantined, given_up, rest } = carried;
        let book = &self.courier.book;
        book.ended();
        if let Some(error) = given_up {
            self.outcome.given_up.get_or_insert(error);
            // Nobody else will make room for a writer that waits for it.
            self.spool.close();
            if self.courier.quarantine.is_some() || stored.is_empty() {
                return;
            }
            // A batch that was split, of a spool in memory: there is no next agent.
            self.tell_stored(&stored);
            let mut counts = Counts::new();
            for batch in &stored {
                add(&mut counts, batch, Entry::Acknowledged);
            }
            self.counters.ledger.post(&counts, Witness::None, || ());
            let mut lost = Contents::default();
            for part in &rest {
                lost.add(part.rows, &part.counts);
            }
            pending.lost(&lost);
            return;
        }
        self.tell_stored(&stored);
        let mut counts = Counts::new();
        for batch in &stored {
            add(&mut counts, batch, Entry::Acknowledged);
        }
        for (batch, reason) in &quarantined {
            add(&mut counts, batch, Entry::LostRecord(LostRecord::aside(*reason)));
            book.quarantined(u64::from(batch.rows));
        }
        self.counters.latency.record(Stage::Insert, started.elapsed());
        let witness = match pending.batch.table {
            Table::Ledger => Witness::Books(pending.batch.id),
            Table::Flows | Table::Latency => Witness::Batch(pending.batch.id),
        };
        self.counters.ledger.post(&counts, witness, || {
            if quarantined.is_empty() {
                pending.acknowledge();
            } else {
                pending.quarantined();
            }
        });
    }

    fn tell_stored(&mut self, stored: &[Arc<FrozenBatch>]) {
        let now_ns = (self.counters.wall_clock)();
        for batch in stored {
            let ages = batch.flow_ends().map(|end| now_ns.saturating_sub(end));
            self.counters.latency.record_ns(Stage::PacketToAcknowledged, ages);
            self.courier.book.acknowledged(u64::from(batch.rows), now_ns);
            if batch.table == Table::Flows {
                self.outcome.rows += u64::from(batch.rows);
            }
        }
    }
}

async fn carry(courier: &Courier, pending: Pending) -> (Pending, Instant, Carried) {
    courier.book.began();
    let started = Instant::now();
    failpoint!("delivery::taken");
    // While others wait, that one more is tried is no sign that the store takes any.
    if courier.aside.is_empty() {
        courier.patience.progress(started);
    }
    let carried = courier.carry(&pending.batch, pending.in_doubt).await;
    (pending, started, carried)
}

/// Where delivery counts.
struct Counters {
    ledger: Ledger,
    latency: Latency,
    wall_clock: fn() -> u64,
}

impl Counters {
    fn note_losses(&self, losses: &Losses) {
        self.ledger.add_losses(losses);
    }

    fn note_left(&self, left: &Contents) {
        for (interface, count) in &left.counts {
            self.ledger.add(interface, Entry::Spooled, *count);
        }
    }
}

fn add(counts: &mut Counts, batch: &FrozenBatch, entry: Entry) {
    for (interface, count) in &batch.counts {
        counts.entry((interface.clone(), entry)).or_default().merge(*count);
    }
}
