//! The shards and their threads: deltas in by hash, records out in batches.

use std::hash::BuildHasher;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crossbeam::channel::{Receiver, Sender, bounded};
use foldhash::fast::FixedState;

use super::key::BiflowKey;
use super::shard::{Shard, ShardStats, Timeouts};
use crate::delta::Delta;
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
#[derive(Debug)]
pub enum Message {
    /// Add these.
    Update(Vec<Delta>),
    /// Emit what is due.
    Expire {
        /// How late it is on the clock of the deltas, ns.
        now_ns: u64,
        /// What that clock lacks to Unix time, ns.
        drift_ns: i64,
    },
}

/// The running shards. Records leave by the channel given at start.
pub struct Cache {
    shards: Vec<Sender<Message>>,
    threads: Vec<JoinHandle<ShardStats>>,
    router: FixedState,
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
        for number in 0..count {
            let (sender, receiver) = bounded(QUEUE);
            let flows = config.max_flows.div_ceil(count);
            let shard = Shard::new(flows, config.timeouts, config.seed);
            let (records, latency) = (records.clone(), latency.clone());
            let thread = thread::Builder::new()
                .name(format!("cache-{number}"))
                .spawn(move || run(shard, &receiver, &records, &latency))?;
            shards.push(sender);
            threads.push(thread);
        }
        // Another seed than the shards' own maps: their low bits must not agree.
        let router = FixedState::with_seed(config.seed.rotate_left(32));
        Ok(Self { shards, threads, router })
    }

    /// Hands deltas to the shards that own their flows.
    pub fn update(&self, deltas: &[Delta]) {
        let count = self.shards.len();
        let mut parts: Vec<Vec<Delta>> = Vec::new();
        parts.resize_with(count, || Vec::with_capacity(deltas.len() / count + 1));
        for delta in deltas {
            let (key, _) = BiflowKey::of(delta);
            parts[self.router.hash_one(key) as usize % count].push(delta.clone());
        }
        for (shard, part) in self.shards.iter().zip(parts) {
            if !part.is_empty() {
                send(shard, Message::Update(part));
            }
        }
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
    pub fn stop(self) -> Vec<ShardStats> {
        drop(self.shards);
        self.threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    }
}

fn send(shard: &Sender<Message>, message: Message) {
    // A shard ends only after its sender is gone, unless it panicked; `stop` reports that.
    let _ = shard.send(message);
}

/// A shard's thread: until its sender is gone, then it emits everything.
fn run(
    mut shard: Shard,
    messages: &Receiver<Message>,
    records: &Sender<Vec<FlowRecord>>,
    latency: &Latency,
) -> ShardStats {
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
            Message::Update(deltas) => {
                for delta in &deltas {
                    shard.update(delta, &mut out);
                }
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
