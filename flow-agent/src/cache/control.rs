//! The handle by which others look into the cache and change it while it runs.
//!
//! Enters: questions and orders from any thread. Leaves: answers, within the patience of who
//! asks. It holds that a shard never waits for anybody here: it answers between two messages,
//! into a channel that has room, and whoever asks when many do already is told so at once. Where
//! all flows are looked at, messages come between two slices of them.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};

use super::details::CacheDetails;
use super::look::{DetailsSoFar, Mode};
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

/// Slots that are looked at before the next message: 12 MiB of flows.
const SLICE: u32 = 1 << 16;

/// A step of what a shard does for somebody, with what it may emit and the time.
pub(super) type Order = Box<dyn FnMut(&mut Shard, &mut Vec<FlowRecord>, Moment) -> Progress + Send>;

/// How far it is after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Done,
    /// Another step is needed; until then flows keep their slots.
    More,
}

impl Progress {
    pub fn is_done(self) -> bool {
        self == Self::Done
    }
}

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
    /// The same, but some shards were asked.
    #[error(
        "{QUESTIONS} questions wait for a part of the flow cache already: {asked} of its {of} \
         parts do what was asked, the others do not; ask again"
    )]
    PartlyCrowded {
        /// Shards that do it.
        asked: usize,
        /// All shards.
        of: usize,
    },
    /// It has ended.
    #[error("the flow cache has ended: the agent is stopping")]
    Ended,
}

/// Told once of every invalidation that a shard began, when all is done that will be: in the
/// thread that asked for it or, if that did not wait so long, in that of a shard.
pub type Hook = Box<dyn Fn(&Selection, Mode, &Invalidated) + Send>;

/// What an invalidation has done so far. The last who holds it tells the hooks, unless that is
/// done.
struct Tally {
    shared: Arc<Shared>,
    selection: Selection,
    mode: Mode,
    flows: AtomicU64,
    packets: AtomicU64,
    begun: AtomicBool,
    told: AtomicBool,
}

impl Tally {
    fn add(&self, flows: u64, packets: u64) {
        self.begun.store(true, Ordering::Relaxed);
        self.flows.fetch_add(flows, Ordering::Relaxed);
        self.packets.fetch_add(packets, Ordering::Relaxed);
    }

    fn sum(&self) -> Invalidated {
        let (flows, packets) = (&self.flows, &self.packets);
        Invalidated {
            flows: flows.load(Ordering::Relaxed),
            packets: packets.load(Ordering::Relaxed),
        }
    }

    fn tell(&self) {
        if self.begun.load(Ordering::Relaxed) && !self.told.swap(true, Ordering::Relaxed) {
            let hooks = self.shared.hooks.lock().unwrap_or_else(PoisonError::into_inner);
            for hook in hooks.iter() {
                hook(&self.selection, self.mode, &self.sum());
            }
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.tell();
    }
}

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
        let parts = self.ask_by_slices(patience, move |shard, _, moment, slots, sum| {
            let end = slots.end;
            shard.add_details(slots, moment.now_ns, most, sum);
            end
        })?;
        let mut details = CacheDetails::default();
        for part in parts {
            details.merge(DetailsSoFar::complete(part, most), most);
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
        let parts = self.ask_by_slices(patience, move |shard, _, moment, slots, found| {
            let (end, room) = (slots.end, MOST_FOUND - Vec::len(found));
            let more = shard.find_in(slots, |key| flow.matches(key), room);
            found.extend(more.into_iter().map(|mut record| {
                record.settle_times(moment.drift_ns);
                record
            }));
            if found.len() < MOST_FOUND { end } else { u32::MAX }
        })?;
        let mut found: Vec<_> = parts.into_iter().flatten().collect();
        found.sort_by_key(|record| (record.start_ns, record.interface));
        found.truncate(MOST_FOUND);
        Ok(found)
    }

    /// Emits what was counted of the selected flows. Nothing is thrown away: each of their
    /// packets is in a record. Hooks are told, also when the answer comes too late.
    ///
    /// # Errors
    /// A shard does not answer within `patience`: it does what was asked nevertheless, later.
    pub fn invalidate(
        &self,
        selection: &Selection,
        mode: Mode,
        patience: Duration,
    ) -> Result<Invalidated, Unanswered> {
        let tally = Arc::new(Tally {
            shared: Arc::clone(&self.shared),
            selection: selection.clone(),
            mode,
            flows: AtomicU64::new(0),
            packets: AtomicU64::new(0),
            begun: AtomicBool::new(false),
            told: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&tally);
        self.ask_by_slices(patience, move |shard, out, moment, slots, (): &mut ()| {
            let (before, wanted) = (out.len(), |key: &_| theirs.selection.matches(key));
            let (flows, next) = shard.invalidate_in(slots, wanted, mode, moment.now_ns, out);
            theirs.add(flows, out[before..].iter().map(FlowRecord::total_packets).sum());
            next
        })?;
        tally.tell();
        Ok(tally.sum())
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
        let parts = self.ask_by_slices(patience, move |shard, _, _, slots, told| {
            let (end, room) = (slots.end, each - Vec::len(told));
            told.extend(shard.initiators_in(slots, room));
            if told.len() < each { end } else { u32::MAX }
        })?;
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
            let _ = shard.try_send(Box::new(|_, _, _| Progress::Done));
        }
    }

    /// Has every shard do something at once, and waits for the answers, in no order.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        patience: Duration,
        what: impl Fn(&mut Shard, &mut Vec<FlowRecord>, Moment) -> T + Clone + Send + 'static,
    ) -> Result<Vec<T>, Unanswered> {
        self.ask_by_steps(patience, || {
            let what = what.clone();
            move |shard: &mut Shard, out: &mut Vec<FlowRecord>, moment| {
                Some(what(shard, out, moment))
            }
        })
    }

    /// The same for what looks at all flows: `look` is given some slots at a time and what it
    /// has found, and returns the slot to go on with.
    pub(super) fn ask_by_slices<T: Default + Send + 'static>(
        &self,
        patience: Duration,
        look: impl FnMut(&mut Shard, &mut Vec<FlowRecord>, Moment, Range<u32>, &mut T) -> u32
        + Clone
        + Send
        + 'static,
    ) -> Result<Vec<T>, Unanswered> {
        self.ask_by_steps(patience, || {
            let (mut look, mut next, mut end, mut found) = (look.clone(), 0, None, T::default());
            move |shard: &mut Shard, out: &mut Vec<FlowRecord>, moment| {
                // Flows that open later were not meant.
                let end = *end.get_or_insert_with(|| shard.slots());
                let slots = next..end.min(next + SLICE);
                next = look(shard, out, moment, slots, &mut found);
                (next >= end).then(|| std::mem::take(&mut found))
            }
        })
    }

    /// Gives every shard what `steps` makes, which is done when it returns an answer.
    fn ask_by_steps<T, S>(
        &self,
        patience: Duration,
        steps: impl Fn() -> S,
    ) -> Result<Vec<T>, Unanswered>
    where
        T: Send + 'static,
        S: FnMut(&mut Shard, &mut Vec<FlowRecord>, Moment) -> Option<T> + Send + 'static,
    {
        let deadline = Instant::now() + patience;
        let of = self.orders.len();
        // Room for every answer: a shard does not wait for a reader.
        let (answers, answered) = bounded(of);
        for (asked, shard) in self.orders.iter().enumerate() {
            let (mut step, answers) = (steps(), answers.clone());
            let order: Order = Box::new(move |shard, out, moment| {
                let Some(answer) = step(shard, out, moment) else { return Progress::More };
                // Who asked may have gone.
                let _ = answers.try_send(answer);
                Progress::Done
            });
            shard.try_send(order).map_err(|error| match asked {
                _ if !error.is_full() => Unanswered::Ended,
                0 => Unanswered::Crowded,
                asked => Unanswered::PartlyCrowded { asked, of },
            })?;
        }
        drop(answers);
        (0..of)
            .map(|_| {
                answered.recv_deadline(deadline).map_err(|error| {
                    if error.is_timeout() { Unanswered::Late(patience) } else { Unanswered::Ended }
                })
            })
            .collect()
    }
}

#[cfg(test)]
#[path = "tests/orders.rs"]
mod tests;
