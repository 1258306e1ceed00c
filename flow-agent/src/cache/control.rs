//! The handle by which others look into the cache and change it while it runs.
//!
//! Enters: questions and orders from any thread. Leaves: answers, within the patience of who
//! asks. It holds that a shard never waits for anybody here: it answers between two messages,
//! into a channel that has room, and whoever asks when many do already is told so at once.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};

use super::details::CacheDetails;
use super::look::Mode;
use super::memory::{Initiator, Memory};
use super::query::{FlowQuery, Invalidated, Selection};
use super::shard::Shard;
use super::shared_stats::SharedStats;
use super::stats::{CacheStats, ShardStats, StatsLevel};
use crate::record::FlowRecord;

/// Questions that may wait for one shard.
const QUESTIONS: usize = 256;

/// Flows that are told at most for one question.
const MOST_FOUND: usize = 10_000;

/// What a shard does for somebody, with what it may emit and the time.
pub(super) type Order = Box<dyn FnOnce(&mut Shard, &mut Vec<FlowRecord>, Moment) + Send>;

/// When a shard does it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moment {
    /// On the clock of the updates, ns: the latest that the shard was told.
    pub now_ns: u64,
    /// What that clock lacks to Unix time, ns.
    pub drift_ns: i64,
}

/// No answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// In time.
    #[error("the flow cache did not answer within {} ms; it is busy, ask again", .0.as_millis())]
    Late(Duration),
    /// Too many ask.
    #[error("{QUESTIONS} questions wait for the flow cache already; ask again")]
    Crowded,
    /// It has ended.
    #[error("the flow cache has ended: the agent is stopping")]
    Ended,
}

/// Told of every invalidation, in the thread that asked for it.
pub type Hook = Box<dyn Fn(&Selection, Mode, &Invalidated) + Send>;

/// What shards and handles share.
pub(super) struct Shared {
    pub shards: Box<[SharedStats]>,
    level: AtomicU8,
    /// Of each shard.
    max_flows: AtomicUsize,
    hooks: Mutex<Vec<Hook>>,
}

impl Shared {
    pub fn new(shards: usize, max_flows: usize, level: StatsLevel) -> Self {
        Self {
            shards: (0..shards).map(|_| SharedStats::default()).collect(),
            level: AtomicU8::new(level as u8),
            max_flows: AtomicUsize::new(max_flows),
            hooks: Mutex::default(),
        }
    }

    /// How much is to be counted.
    pub fn level(&self) -> StatsLevel {
        let level = self.level.load(Ordering::Relaxed);
        StatsLevel::ALL[usize::from(level).min(StatsLevel::ALL.len() - 1)]
    }

    /// Flows that each shard may hold.
    pub fn max_flows(&self) -> usize {
        self.max_flows.load(Ordering::Relaxed)
    }
}

/// A handle on the running cache. Cheap to clone; it does not keep the cache from ending.
#[derive(Clone)]
pub struct CacheControl {
    shared: Arc<Shared>,
    orders: Arc<[Sender<Order>]>,
    hot_flows: usize,
}

impl CacheControl {
    /// For as many shards as `shared` has; each gets one of the receivers.
    pub(super) fn new(shared: Arc<Shared>, hot_flows: usize) -> (Self, Vec<Receiver<Order>>) {
        let (orders, receivers): (Vec<_>, _) =
            shared.shards.iter().map(|_| bounded(QUESTIONS)).unzip();
        (Self { shared, orders: orders.into(), hot_flows }, receivers)
    }

    /// Sums of the shards' counters, read without stopping a shard.
    pub fn stats(&self) -> CacheStats {
        let mut sum = ShardStats::default();
        for shard in &self.shared.shards {
            sum.merge(&shard.read());
        }
        let (level, shards) = (self.shared.level(), self.shared.shards.len());
        CacheStats { level, shards, sum }
    }

    /// Histograms and hot flows, of all shards.
    ///
    /// # Errors
    /// A shard does not answer within `patience`.
    pub fn details(&self, patience: Duration) -> Result<CacheDetails, Unanswered> {
        let most = self.hot_flows;
        let parts =
            self.ask(patience, move |shard, _, moment| shard.details(moment.now_ns, most))?;
        let mut details = CacheDetails::default();
        for part in parts {
            details.merge(part, most);
        }
        Ok(details)
    }

    /// Open flows as the records they would be now: at most 10,000, the first by time first.
    ///
    /// # Errors
    /// A shard does not answer within `patience`.
    pub fn find(
        &self,
        flow: &FlowQuery,
        patience: Duration,
    ) -> Result<Vec<FlowRecord>, Unanswered> {
        let flow = *flow;
        let parts = self.ask(patience, move |shard, _, moment| {
            let mut found = shard.find(|key| flow.matches(key), MOST_FOUND);
            for record in &mut found {
                record.shift(moment.drift_ns);
            }
            found
        })?;
        let mut found: Vec<_> = parts.into_iter().flatten().collect();
        found.sort_by_key(|record| (record.start_ns, record.interface));
        found.truncate(MOST_FOUND);
        Ok(found)
    }

    /// Emits what was counted of the selected flows. Nothing is thrown away: each of their
    /// packets is in a record. Hooks are told.
    ///
    /// # Errors
    /// A shard does not answer within `patience`: it does what was asked nevertheless, later.
    pub fn invalidate(
        &self,
        selection: &Selection,
        mode: Mode,
        patience: Duration,
    ) -> Result<Invalidated, Unanswered> {
        let wanted = selection.clone();
        let parts = self.ask(patience, move |shard, out, moment| {
            let before = out.len();
            let flows = shard.invalidate(|key| wanted.matches(key), mode, moment.now_ns, out);
            let packets = out[before..].iter().map(FlowRecord::total_packets).sum();
            Invalidated { flows, packets }
        })?;
        let done = parts.iter().fold(Invalidated::default(), |sum, part| Invalidated {
            flows: sum.flows + part.flows,
            packets: sum.packets + part.packets,
        });
        for hook in self.shared.hooks.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            hook(selection, mode, &done);
        }
        Ok(done)
    }

    /// Has `hook` told of every later invalidation, whoever asks for it.
    pub fn on_invalidation(&self, hook: Hook) {
        self.shared.hooks.lock().unwrap_or_else(PoisonError::into_inner).push(hook);
    }

    /// Gives every shard what is known of connections from before.
    ///
    /// # Errors
    /// A shard does not answer within `patience`: it takes it nevertheless, later.
    pub fn remember(&self, memory: &Memory, patience: Duration) -> Result<(), Unanswered> {
        let memory = memory.clone();
        self.ask(patience, move |shard, _, _| shard.remember(memory.clone())).map(drop)
    }

    /// Who began the open flows, at most `most`.
    ///
    /// # Errors
    /// A shard does not answer within `patience`.
    pub fn initiators(
        &self,
        most: usize,
        patience: Duration,
    ) -> Result<Vec<Initiator>, Unanswered> {
        let each = most.div_ceil(self.orders.len());
        let parts = self.ask(patience, move |shard, _, _| shard.initiators(each))?;
        Ok(parts.into_iter().flatten().take(most).collect())
    }

    /// Sets how many flows all shards together may hold, at least one each. What is above
    /// leaves step by step (`lack_of_resources`).
    pub fn resize(&self, max_flows: usize) {
        let each = max_flows.div_ceil(self.orders.len()).max(1);
        self.shared.max_flows.store(each, Ordering::Relaxed);
        self.wake();
    }

    /// Sets how much is counted.
    pub fn set_level(&self, level: StatsLevel) {
        self.shared.level.store(level as u8, Ordering::Relaxed);
        self.wake();
    }

    /// Shards look at what they share after each message or order.
    fn wake(&self) {
        for shard in &*self.orders {
            // One with a full queue is awake.
            let _ = shard.try_send(Box::new(|_, _, _| ()));
        }
    }

    /// Has every shard do something, and waits for the answers, in no order.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        patience: Duration,
        what: impl Fn(&mut Shard, &mut Vec<FlowRecord>, Moment) -> T + Clone + Send + 'static,
    ) -> Result<Vec<T>, Unanswered> {
        let deadline = Instant::now() + patience;
        // Room for every answer: a shard does not wait for a reader.
        let (answers, answered) = bounded(self.orders.len());
        for shard in &*self.orders {
            let (what, answers) = (what.clone(), answers.clone());
            let order: Order = Box::new(move |shard, out, moment| {
                // Who asked may have gone.
                let _ = answers.try_send(what(shard, out, moment));
            });
            shard.try_send(order).map_err(|error| {
                if error.is_full() { Unanswered::Crowded } else { Unanswered::Ended }
            })?;
        }
        drop(answers);
        (0..self.orders.len())
            .map(|_| {
                answered.recv_deadline(deadline).map_err(|error| {
                    if error.is_timeout() { Unanswered::Late(patience) } else { Unanswered::Ended }
                })
            })
            .collect()
    }
}
