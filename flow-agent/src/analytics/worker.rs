//! The thread of the analytics: frozen batches come in, rows for the store go out.
//!
//! Both ways are bounded, and neither is waited for: records that do not fit are skipped, rows
//! that do not fit for long are dropped, and both are counted in the [`View`]. A panic ends the
//! analytics only: it is told and counted, and records are skipped from then on.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, after, bounded, never, select};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::config::AnalyticsConfig;
use super::devices::DeviceRow;
use super::engine::{Engine, Output};
use super::event::Event;
use super::network::LinkState;
use super::state::StateError;
use super::view::{View, Watch};
use crate::names::Names;
use crate::record::FlowRecord;

/// Batches that may wait.
const BATCHES: usize = 256;
/// Records that may wait, unless one batch alone has more: about 40 MB that the store may have
/// taken already.
const RECORDS: usize = 200_000;
/// Orders that may wait.
const ORDERS: usize = 16;
/// Between two looks at the clock.
const TICK: Duration = Duration::from_secs(1);
/// Between two snapshots, and between two lists of devices.
const SNAPSHOT: Duration = Duration::from_secs(5);
const DEVICES: Duration = Duration::from_secs(30);
/// Rows that are inserted together.
const ROWS: usize = 4_096;
/// Such inserts that may wait for the store.
const INSERTS: usize = 8;
/// Rows that may wait for one of these.
const PENDING: usize = 32_768;

/// Rows that are inserted together; their ids are deduplication tokens.
#[derive(Debug)]
pub struct Rows {
    /// Of the events.
    pub events_id: Uuid,
    /// Rows of `events`.
    pub events: Vec<Event>,
    /// Of the devices.
    pub devices_id: Uuid,
    /// Rows of `devices`.
    pub devices: Vec<DeviceRow>,
}

/// Where the rows come out.
pub struct RowsQueue {
    /// Ends with the analytics.
    pub rows: mpsc::Receiver<Rows>,
    view: View,
    _watch: Watch,
}

impl RowsQueue {
    /// Counts rows that the store has.
    pub fn stored(&self, rows: &Rows) {
        let count = (rows.events.len() + rows.devices.len()) as u64;
        self.view.counters.stored_rows.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts rows that it will never have.
    pub fn dropped(&self, rows: &Rows) {
        let count = (rows.events.len() + rows.devices.len()) as u64;
        self.view.counters.dropped_rows.fetch_add(count, Ordering::Relaxed);
    }
}

/// Where records are shown to the analytics; the analytics end when it is dropped.
#[derive(Debug)]
pub struct Tap {
    batches: Sender<Frozen>,
    view: View,
}

/// Records of one batch.
#[derive(Debug)]
struct Frozen {
    records: Arc<Vec<FlowRecord>>,
    names: Arc<Names>,
    now_ns: u64,
}

impl Tap {
    /// Shows records, which were frozen at `now_ns`; never waits.
    pub fn show(&self, records: &Arc<Vec<FlowRecord>>, names: &Arc<Names>, now_ns: u64) {
        let counters = &self.view.counters;
        let rows = records.len();
        let waiting = counters.waiting.fetch_add(rows, Ordering::Relaxed);
        let frozen = Frozen { records: records.clone(), names: names.clone(), now_ns };
        let taken =
            (waiting == 0 || waiting + rows <= RECORDS) && self.batches.try_send(frozen).is_ok();
        if !taken {
            counters.waiting.fetch_sub(rows, Ordering::Relaxed);
            counters.skipped.fetch_add(rows as u64, Ordering::Relaxed);
        }
    }
}

enum Order {
    Network { links: Vec<LinkState>, taken_ns: u64 },
    Save(Sender<Vec<u8>>),
    Load(Vec<u8>, Sender<Result<(), StateError>>),
}

/// The running analytics.
pub struct Analytics {
    thread: JoinHandle<()>,
    control: AnalyticsControl,
    view: View,
}

/// Tells the analytics things; cheap to clone.
#[derive(Clone)]
pub struct AnalyticsControl {
    orders: Sender<Order>,
    /// What they knew when they ended.
    last: Arc<OnceLock<Vec<u8>>>,
}

impl Analytics {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn start(
        config: AnalyticsConfig,
        wall_clock: fn() -> u64,
    ) -> io::Result<(Self, Tap, RowsQueue)> {
        let view = View::default();
        let (batches, batch_receiver) = bounded(BATCHES);
        let (orders, order_receiver) = bounded(ORDERS);
        let (rows, row_receiver) = mpsc::channel(INSERTS);
        let last = Arc::new(OnceLock::new());
        let worker = Worker {
            engine: Engine::new(config, wall_clock()),
            view: view.clone(),
            outbox: Outbox { rows, view: view.clone(), pending: Output::default() },
            last: last.clone(),
            wall_clock,
        };
        let thread = thread::Builder::new().name("analytics".into()).spawn(move || {
            let _watch = Watch { view: worker.view.clone(), without: "the analytics" };
            worker.run(&batch_receiver, order_receiver);
        })?;
        let tap = Tap { batches, view: view.clone() };
        let watch = Watch { view: view.clone(), without: "the delivery of events and devices" };
        let queue = RowsQueue { rows: row_receiver, view: view.clone(), _watch: watch };
        let control = AnalyticsControl { orders, last };
        Ok((Self { thread, control, view }, tap, queue))
    }

    /// What others may know.
    pub fn view(&self) -> View {
        self.view.clone()
    }

    /// Whoever has this can tell the analytics things.
    pub fn control(&self) -> AnalyticsControl {
        self.control.clone()
    }

    /// Waits until it has said everything; the [`Tap`] must be gone.
    pub fn finish(self) {
        // A panic of it has been told.
        let _ = self.thread.join();
    }
}

impl AnalyticsControl {
    /// Takes the networks as they were at `taken_ns`; dropped if the thread is busy.
    pub fn set_network(&self, links: Vec<LinkState>, taken_ns: u64) {
        // The next look brings them again.
        let _ = self.orders.try_send(Order::Network { links, taken_ns });
    }

    /// What the next agent should know: of analytics that have ended, what they knew then. None
    /// if the thread does not answer in time.
    pub fn save(&self, patience: Duration) -> Option<Vec<u8>> {
        let (sender, answer) = bounded(1);
        let asked = self.orders.send_timeout(Order::Save(sender), patience);
        let answer = asked.ok().and_then(|()| answer.recv_timeout(patience).ok());
        answer.or_else(|| self.last.get().cloned())
    }

    /// Goes on with what an earlier agent has saved; true if the thread took it in time.
    ///
    /// # Errors
    /// It is damaged or of another version.
    pub fn load(&self, state: Vec<u8>, patience: Duration) -> Result<bool, StateError> {
        let (sender, answer) = bounded(1);
        if self.orders.send_timeout(Order::Load(state, sender), patience).is_err() {
            return Ok(false);
        }
        answer.recv_timeout(patience).map_or(Ok(false), |result| result.map(|()| true))
    }
}

struct Worker {
    engine: Engine,
    view: View,
    outbox: Outbox,
    last: Arc<OnceLock<Vec<u8>>>,
    wall_clock: fn() -> u64,
}

impl Worker {
    fn run(mut self, batches: &Receiver<Frozen>, mut orders: Receiver<Order>) {
        let (mut ticked, mut shown) = (Instant::now(), None);
        let (mut listed, mut known) = (Instant::now(), 0);
        loop {
            let tick = after(TICK.saturating_sub(ticked.elapsed()));
            select! {
                recv(batches) -> frozen => match frozen {
                    Ok(frozen) => self.observe(&frozen),
                    Err(_) => break,
                },
                recv(orders) -> order => match order {
                    Ok(order) => self.obey(order),
                    // Nobody can give one any more.
                    Err(_) => orders = never(),
                },
                recv(tick) -> _ => {}
            }
            if ticked.elapsed() < TICK {
                continue;
            }
            ticked = Instant::now();
            let now_ns = (self.wall_clock)();
            self.engine.tick(now_ns);
            self.outbox.send(self.engine.take());
            if shown.is_none_or(|shown: Instant| shown.elapsed() >= SNAPSHOT) {
                let before = self.view.snapshot();
                // A device that came is shown with the next snapshot.
                let devices = self.engine.device_count();
                let fresh = shown.is_none() || devices != known || listed.elapsed() >= DEVICES;
                if fresh {
                    (listed, known) = (Instant::now(), devices);
                }
                let devices = (!fresh).then_some(&before.devices);
                self.view.set(self.engine.snapshot(now_ns, devices));
                shown = Some(Instant::now());
            }
        }
        let now_ns = (self.wall_clock)();
        self.engine.finish(now_ns);
        // Nobody has set it before, and an order that comes now is not answered.
        let _ = self.last.set(self.engine.save(now_ns));
        self.outbox.send(self.engine.take());
        self.view.set(self.engine.snapshot(now_ns, None));
    }

    fn observe(&mut self, frozen: &Frozen) {
        self.engine.observe(&frozen.records, &frozen.names, frozen.now_ns);
        self.view.counters.waiting.fetch_sub(frozen.records.len(), Ordering::Relaxed);
    }

    fn obey(&mut self, order: Order) {
        let now_ns = (self.wall_clock)();
        // Who asked and went away needs no answer.
        match order {
            Order::Network { links, taken_ns } => self.engine.set_network(&links, taken_ns),
            Order::Save(answer) => drop(answer.send(self.engine.save(now_ns))),
            Order::Load(state, answer) => drop(answer.send(self.engine.load(&state, now_ns))),
        }
    }
}

/// Rows that wait for their insert.
struct Outbox {
    rows: mpsc::Sender<Rows>,
    view: View,
    pending: Output,
}

impl Outbox {
    fn send(&mut self, output: Output) {
        let Output { events, devices } = &mut self.pending;
        events.extend(output.events);
        devices.extend(output.devices);
        while !events.is_empty() || !devices.is_empty() {
            let rows = Rows {
                events_id: Uuid::now_v7(),
                events: events.drain(..events.len().min(ROWS)).collect(),
                devices_id: Uuid::now_v7(),
                devices: devices.drain(..devices.len().min(ROWS)).collect(),
            };
            if let Err(error) = self.rows.try_send(rows) {
                let (mpsc::error::TrySendError::Full(rows)
                | mpsc::error::TrySendError::Closed(rows)) = error;
                events.splice(0..0, rows.events);
                devices.splice(0..0, rows.devices);
                break;
            }
        }
        // The newest are dropped: their devices and episodes say more later.
        let spare = (events.len().saturating_sub(PENDING), devices.len().saturating_sub(PENDING));
        events.truncate(PENDING);
        devices.truncate(PENDING);
        self.view.counters.dropped_rows.fetch_add((spare.0 + spare.1) as u64, Ordering::Relaxed);
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let left = (self.pending.events.len() + self.pending.devices.len()) as u64;
        self.view.counters.dropped_rows.fetch_add(left, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// A clock that stops the first time somebody looks at it after the start.
    fn broken_clock() -> u64 {
        static LOOKS: AtomicU64 = AtomicU64::new(0);
        let looks = LOOKS.fetch_add(1, Ordering::Relaxed);
        assert_eq!(looks, 0, "the clock is broken");
        1_000_000_000
    }

    #[test]
    fn a_panic_is_counted_and_stops_nobody_else() {
        let started = Analytics::start(AnalyticsConfig::default(), broken_clock);
        let (analytics, tap, mut queue) = started.expect("a thread");
        assert_eq!(analytics.view().failures(), 0);
        // It has to ask the clock.
        assert_eq!(analytics.control().save(PATIENCE), None);
        assert!(queue.rows.blocking_recv().is_none(), "the thread has ended");
        let (records, names) =
            (Arc::new(vec![FlowRecord::example(1); 3]), Arc::new(Names::new("host", &["eth0"])));
        let view = analytics.view();
        // Until then it may still take what nobody will look at.
        analytics.finish();
        tap.show(&records, &names, 1);
        assert_eq!((view.failures(), view.skipped()), (1, 3));
    }
}
