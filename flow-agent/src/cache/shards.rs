//! The shards and their threads: table entries in, records out, both in batches.

use std::thread::{self, JoinHandle};
use std::time::Instant;

use crossbeam::channel::{Receiver, Sender, bounded};

use super::entry_batch::EntryBatch;
use super::intake::Intake;
use super::shard::{Shard, ShardStats, Timeouts};
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
    /// Open flows in all shards together.
    pub max_flows: usize,
    /// When flows are emitted.
    pub timeouts: Timeouts,
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
    /// Emptied batches, to be filled again.
    spare: Receiver<EntryBatch>,
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
        let mut shards = Vec::with_capacity(count);
        let mut threads = Vec::with_capacity(count);
        let (empty, spare) = bounded(count * QUEUE);
        for number in 0..count {
            let (sender, receiver) = bounded(QUEUE);
            let flows = config.max_flows.div_ceil(count);
            let shard = Shard::new(flows, config.timeouts, config.seed);
            let (records, latency, empty) = (records.clone(), latency.clone(), empty.clone());
            let thread = thread::Builder::new()
                .name(format!("cache-{number}"))
                .spawn(move || run(shard, &receiver, &empty, &records, &latency))?;
            shards.push(sender);
            threads.push(thread);
        }
        Ok(Self { shards, threads, spare })
    }

    /// Where the flows of a drain go in, whose tables are split so.
    ///
    /// # Panics
    /// When there are more parts than shards.
    pub fn intake(&self, partition: Partition) -> Intake {
        assert!(partition.parts() <= self.shards.len(), "a shard for each part");
        Intake::new(self.shards.clone(), self.spare.clone(), partition)
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

/// A shard's thread: until its sender is gone, then it emits everything.
fn run(
    mut shard: Shard,
    messages: &Receiver<Message>,
    empty: &Sender<EntryBatch>,
    records: &Sender<Vec<FlowRecord>>,
    latency: &Latency,
) -> ShardStats {
    /// Records that leave together, if there are so many.
    const RECORDS: usize = 1024;
    let mut out = Vec::new();
    let mut drift = 0;
    let emit = |out: &mut Vec<FlowRecord>, drift: i64| {
        for record in out.iter_mut() {
            record.start_ns = record.start_ns.saturating_add_signed(drift);
            record.end_ns = record.end_ns.saturating_add_signed(drift);
        }
        if !out.is_empty() {
            // The batcher outlives the shards; without it there is nobody to tell.
            let _ = records.send(std::mem::take(out));
        }
    };
    for message in messages {
        let started = Instant::now();
        match message {
            Message::Read { part } => part.read(|entry, interval| {
                shard.update(&entry.delta(interval), &mut out);
                if out.len() >= RECORDS {
                    emit(&mut out, drift);
                }
            }),
            Message::Update { mut batch, interval } => {
                for entry in batch.iter() {
                    shard.update(&entry.delta(&interval), &mut out);
                }
                batch.clear();
                // Where enough wait already it is freed.
                let _ = empty.try_send(batch);
            }
            Message::Expire { now_ns, drift_ns } => {
                drift = drift_ns;
                shard.expire(now_ns, &mut out);
            }
        }
        latency.record(Stage::Cache, started.elapsed());
        emit(&mut out, drift);
    }
    shard.flush(&mut out);
    emit(&mut out, drift);
    shard.stats()
}
