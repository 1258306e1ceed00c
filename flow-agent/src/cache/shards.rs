//! The shards and their threads: table entries in, records out, both in batches.

use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crossbeam::channel::select_biased;
use crossbeam::channel::{Receiver, Sender, bounded, never};

use super::control::{CacheControl, Moment, Order, Shared};
use super::entry_batch::EntryBatch;
use super::intake::Intake;
use super::leave::RECORDS;
use super::shard::{Chunk, Shard};
use super::stats::{ShardStats, StatsLevel};
use super::timeouts::Limits;
use crate::drain::{Interval, Part, Partition};
use crate::latency::{Latency, Stage};
use crate::record::FlowRecord;

/// Messages that may wait for a shard; more make the drain wait, while the
/// kernel tables go on counting.
const QUEUE: usize = 64;

/// How the cache is made.
#[derive(Clone, Copy, Debug)]
pub struct CacheConfig {
    /// Threads, each with a part of the flows.
    pub shards: usize,
    /// What all shards together may hold.
    pub limits: Limits,
    /// How much is counted at first.
    pub level: StatsLevel,
    /// Flows with most packets that are told.
    pub hot_flows: usize,
    /// Seed of the hashes.
    pub seed: u64,
}

/// What a shard is told.
pub(super) enum Message {
    /// Add this part of the kernel tables; the drain waits for it.
    Read { part: Part },
    /// Add these, all of one generation.
    Update { batch: EntryBatch, interval: Interval },
    /// Emit what is due.
    Expire {
        /// How late it is on the clock of the entries, ns.
        now_ns: u64,
        /// What that clock lacks to Unix time, ns.
        drift_ns: i64,
    },
}

/// The running shards. Records leave by the channel given at start.
pub struct Cache {
    shards: Vec<Sender<Message>>,
    threads: Vec<JoinHandle<ShardStats>>,
    /// Each thread has the other end.
    living: Vec<Weak<()>>,
    /// Emptied batches, to be filled again.
    spare: Receiver<EntryBatch>,
    control: CacheControl,
}

impl Cache {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(
        config: &CacheConfig,
        records: &Sender<Vec<FlowRecord>>,
        latency: &Latency,
    ) -> std::io::Result<Self> {
        let count = config.shards.max(1);
        let limits = config.limits.divided(count);
        let (shards, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| bounded(QUEUE)).unzip();
        let (empty, spare) = bounded(count * QUEUE);
        let shared = Arc::new(Shared::new(count, limits.max_flows, config.level));
        let (control, orders) = CacheControl::new(Arc::clone(&shared), config.hot_flows);
        let (mut threads, mut living) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for (number, (messages, orders)) in receivers.into_iter().zip(orders).enumerate() {
            let shard = Worker {
                number,
                shard: Shard::new(limits, config.seed),
                shared: Arc::clone(&shared),
                empty: empty.clone(),
                records: records.clone(),
                latency: latency.clone(),
                moment: Moment::default(),
                out: Vec::new(),
                alive: Arc::default(),
            };
            living.push(Arc::downgrade(&shard.alive));
            let thread = thread::Builder::new().name(format!("cache-{number}"));
            threads.push(thread.spawn(move || shard.run(&messages, orders))?);
        }
        Ok(Self { shards, threads, living, spare, control })
    }

    /// A handle to look into it and change it while it runs.
    pub fn control(&self) -> CacheControl {
        self.control.clone()
    }

    /// Where the flows of a drain go in, whose tables are split so.
    ///
    /// # Panics
    /// When there are not as many parts as shards.
    pub fn intake(&self, partition: Partition) -> Intake {
        assert_eq!(partition.parts(), self.shards.len(), "a part for each shard");
        Intake::new(self.shards.clone(), self.living.clone(), self.spare.clone(), partition)
    }

    /// How many there are.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Lets every shard emit what is due at `now_ns`. Records that leave from now
    /// on have `drift_ns` added to their times.
    pub fn expire(&self, now_ns: u64, drift_ns: i64) {
        for shard in &self.shards {
            send(shard, Message::Expire { now_ns, drift_ns });
        }
    }

    /// False when a shard's thread has ended before its time: it panicked.
    pub fn is_alive(&self) -> bool {
        !self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Ends the shards after they have emitted every flow; returns their statistics.
    /// Every [`Intake`] must be gone.
    pub fn stop(self) -> Vec<ShardStats> {
        drop(self.shards);
        self.threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    }
}

pub(super) fn send(shard: &Sender<Message>, message: Message) {
    // A shard ends only after its sender is gone, unless it panicked; `stop` reports that.
    let _ = shard.send(message);
}

/// A shard's thread.
struct Worker {
    number: usize,
    shard: Shard,
    shared: Arc<Shared>,
    /// Where emptied batches go.
    empty: Sender<EntryBatch>,
    records: Sender<Vec<FlowRecord>>,
    latency: Latency,
    moment: Moment,
    out: Vec<FlowRecord>,
    /// Goes with the thread, however it ends.
    alive: Arc<()>,
}

impl Worker {
    /// Until the cache lets go of it; then it emits everything.
    fn run(mut self, messages: &Receiver<Message>, mut orders: Receiver<Order>) -> ShardStats {
        let mut shedding = self.heed();
        // What is being done for somebody, step by step: one thing at a time.
        let mut asked: Option<Order> = None;
        loop {
            // Between two steps, of this or of shedding, a message is taken if one is there.
            let idle = if shedding || asked.is_some() { always() } else { never() };
            let next = if asked.is_some() { never() } else { orders.clone() };
            // The drain waits for messages, so they come before orders.
            select_biased! {
                recv(messages) -> message => match message {
                    Ok(message) => self.handle(message),
                    Err(_) => break,
                },
                recv(next) -> order => match order {
                    Ok(order) => asked = Some(order),
                    Err(_) => orders = never(),
                },
                recv(idle) -> _ => {}
            }
            if let Some(order) = &mut asked {
                self.shard.hold_places(true);
                if order(&mut self.shard, &mut self.out, self.moment).is_done() {
                    asked = None;
                    self.shard.hold_places(false);
                }
            }
            shedding = self.heed();
            let stats = ShardStats { queued: messages.len() as u64, ..self.shard.stats() };
            self.shared.shards[self.number].publish(&stats);
            self.emit();
        }
        let (drift_ns, records) = (self.moment.drift_ns, &self.records);
        self.shard.flush_by_parts(&mut self.out, |out| send_records(out, drift_ns, records));
        self.emit();
        self.shard.stats()
    }

    /// Follows what the handles have set; true while flows have to leave for it.
    fn heed(&mut self) -> bool {
        self.shard.set_level(self.shared.level());
        self.shard.resize(self.shared.max_flows());
        // Messages come between two steps.
        self.shard.shed(RECORDS, self.moment.now_ns, &mut self.out)
    }

    fn handle(&mut self, message: Message) {
        let started = Instant::now();
        match message {
            Message::Read { part } => {
                let mut chunk = Chunk::default();
                part.read(|entry, interval| {
                    self.shard.push(entry.delta(interval), &mut chunk, &mut self.out);
                    if self.out.len() >= RECORDS {
                        send_records(&mut self.out, self.moment.drift_ns, &self.records);
                    }
                });
                self.shard.update_chunk(&mut chunk, &mut self.out);
            }
            Message::Update { mut batch, interval } => {
                let deltas = batch.iter().map(|entry| entry.delta(&interval));
                self.shard.update_all(deltas, &mut self.out);
                batch.clear();
                // Where enough wait already it is freed.
                let _ = self.empty.try_send(batch);
            }
            Message::Expire { now_ns, drift_ns } => {
                self.moment = Moment { now_ns, drift_ns };
                let records = &self.records;
                let send = |out: &mut Vec<_>| send_records(out, drift_ns, records);
                self.shard.expire_by_parts(now_ns, &mut self.out, send);
            }
        }
        self.latency.record(Stage::Cache, started.elapsed());
    }

    fn emit(&mut self) {
        send_records(&mut self.out, self.moment.drift_ns, &self.records);
    }
}

/// Sends records, with their times in Unix time.
fn send_records(out: &mut Vec<FlowRecord>, drift_ns: i64, records: &Sender<Vec<FlowRecord>>) {
    for record in &mut *out {
        record.settle_times(drift_ns);
    }
    if !out.is_empty() {
        // The batcher outlives the shards; without it there is nobody to tell.
        let _ = records.send(std::mem::take(out));
    }
}

/// A channel that has something at once.
fn always() -> Receiver<()> {
    let (sender, receiver) = bounded(1);
    drop(sender);
    receiver
}
