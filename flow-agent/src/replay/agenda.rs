//! What the threads of a replay do next.
//!
//! Enters: what a thread has finished. Leaves: its next task. Packets are taken by rounds of
//! [`BLOCKS`] blocks. All blocks of a round are parsed before it is arranged, and it is arranged
//! before its lanes are metered; the lanes of one round are metered before the next is arranged.
//! Blocks of the next round, and of the one after it as soon as there is memory, are parsed
//! meanwhile: nobody waits as long as there is anything to do.

use std::hint;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use super::rounds::lock;

/// Blocks of a round: enough that there is mostly something to do, few enough that what was parsed
/// is still in a cache when it is metered.
pub const BLOCKS: usize = 16;

/// Rounds that there is memory for.
pub const PLACES: usize = 3;

/// Looks before a thread sleeps, about 50 µs: to be woken takes longer than most waits.
const LOOKS: usize = 4_096;

/// Blocks that are arranged and metered together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// From 0.
    pub number: usize,
    /// How many it has: [`BLOCKS`], or fewer at the end of the capture.
    pub blocks: usize,
}

/// What a thread is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Read the next block, which has this number, say so by [`Agenda::has_read`], and parse it.
    Block(usize),
    /// Do what needs the order of the packets of this round. One without blocks is the last.
    Arrange(Round),
    /// Meter this lane's packets of this round.
    Lane(Round, usize),
}

/// What a thread has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// Parsed the block with this number.
    Block(usize),
    /// Arranged a round.
    Arrange,
    /// Metered a lane.
    Lane,
}

/// What is done and what is not.
#[derive(Debug)]
struct State {
    lanes: usize,
    /// Blocks that were read, or are being.
    begun: usize,
    reading: bool,
    /// Threads that read a block or parse one.
    at_blocks: usize,
    /// Blocks of the capture, once that is known.
    total: Option<usize>,
    /// Blocks that are parsed, of the round in each place.
    parsed: [usize; PLACES],
    /// Rounds that were arranged.
    arranged: usize,
    /// The last one that was, or is being.
    round: Round,
    arranging: bool,
    lanes_begun: usize,
    lanes_done: usize,
}

impl State {
    fn new(lanes: usize) -> Self {
        Self {
            lanes,
            begun: 0,
            reading: false,
            at_blocks: 0,
            total: None,
            parsed: [0; PLACES],
            arranged: 0,
            round: Round { number: 0, blocks: 0 },
            arranging: false,
            lanes_begun: lanes,
            lanes_done: lanes,
        }
    }

    /// One thread at a time reads. While there are lanes only one is at blocks, so that who reads
    /// and who meters do not wait for each other.
    fn next(&mut self) -> Option<Task> {
        let metered = self.lanes_done == self.lanes;
        let next = self.next_round();
        if metered && !self.arranging && self.parsed[next.number % PLACES] == next.blocks {
            self.arranging = true;
            self.round = next;
            return Some(Task::Arrange(next));
        }
        // While lanes are metered, the place of their round is not free.
        let rounds = self.arranged + if metered { PLACES } else { PLACES - 1 };
        let is_lane = self.lanes_begun < self.lanes;
        let is_block = !self.reading && self.total.is_none() && self.begun < rounds * BLOCKS;
        if is_lane && !(is_block && self.at_blocks == 0) {
            self.lanes_begun += 1;
            return Some(Task::Lane(self.round, self.lanes_begun - 1));
        }
        is_block.then(|| {
            self.reading = true;
            self.at_blocks += 1;
            self.begun += 1;
            Task::Block(self.begun - 1)
        })
    }

    fn has_read(&mut self, is_last: bool) {
        self.reading = false;
        self.total = is_last.then_some(self.begun);
    }

    fn finish(&mut self, finished: Finished) {
        match finished {
            Finished::Block(number) => {
                self.at_blocks -= 1;
                self.parsed[number / BLOCKS % PLACES] += 1;
            }
            Finished::Arrange => {
                self.parsed[self.arranged % PLACES] = 0;
                self.arranged += 1;
                self.arranging = false;
                (self.lanes_begun, self.lanes_done) = (0, 0);
            }
            Finished::Lane => self.lanes_done += 1,
        }
    }

    /// The round that is to be arranged next.
    fn next_round(&self) -> Round {
        let left = self.total.map(|total| total.saturating_sub(self.arranged * BLOCKS));
        Round { number: self.arranged, blocks: left.unwrap_or(BLOCKS).min(BLOCKS) }
    }
}

/// What is to be done, shared by all threads.
#[derive(Debug)]
pub struct Agenda {
    /// None when nothing is to be done any more.
    state: Mutex<Option<State>>,
    changes: AtomicUsize,
    changed: Condvar,
}

impl Agenda {
    /// For so many lanes; nothing is done.
    pub fn new(lanes: usize) -> Self {
        Self {
            state: Mutex::new(Some(State::new(lanes))),
            changes: AtomicUsize::new(0),
            changed: Condvar::new(),
        }
    }

    /// The next task of a thread that has finished one, or none yet; waits until there is one.
    /// None when nothing is to be done any more.
    pub fn next(&self, finished: Option<Finished>) -> Option<Task> {
        let mut guard = lock(&self.state);
        if let (Some(state), Some(finished)) = (guard.as_mut(), finished) {
            state.finish(finished);
            self.change();
        }
        loop {
            if let Some(task) = guard.as_mut()?.next() {
                return Some(task);
            }
            let before = self.changes.load(Ordering::Acquire);
            drop(guard);
            let is_same = || self.changes.load(Ordering::Acquire) == before;
            for _ in 0..LOOKS {
                if !is_same() {
                    break;
                }
                hint::spin_loop();
            }
            guard = lock(&self.state);
            while is_same() {
                guard = self.changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// The block that was to be read is; whether it is the last.
    pub fn has_read(&self, is_last: bool) {
        if let Some(state) = lock(&self.state).as_mut() {
            state.has_read(is_last);
            self.change();
        }
    }

    /// Nothing is to be done any more.
    pub fn end(&self) {
        let mut state = lock(&self.state);
        *state = None;
        self.change();
    }

    /// Only while the state is locked, or who is about to sleep would miss it.
    fn change(&self) {
        self.changes.fetch_add(1, Ordering::Release);
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Threads that take tasks and finish them in an order given by chance, and what they see.
    struct Model {
        state: State,
        lanes: usize,
        /// Blocks of the capture.
        capture: usize,
        read: usize,
        /// With whether a block is read.
        working: Vec<(Task, bool)>,
        parsed: BTreeSet<usize>,
        arranged: usize,
        /// Lanes of rounds.
        begun: BTreeSet<(usize, usize)>,
        metered: BTreeSet<(usize, usize)>,
    }

    impl Model {
        fn take(&mut self, task: Task) {
            let busy = |wanted: fn(&Task, bool) -> bool| {
                self.working.iter().any(|(task, read)| wanted(task, *read))
            };
            match task {
                Task::Block(number) => {
                    assert_eq!(number, self.read);
                    assert!(number < self.capture, "there is none");
                    assert!(!busy(|task, read| matches!(task, Task::Block(_)) && !read));
                    // The round that was in this place is metered.
                    if let Some(before) = (number / BLOCKS).checked_sub(PLACES) {
                        assert!((0..self.lanes).all(|lane| self.metered.contains(&(before, lane))));
                    }
                }
                Task::Arrange(round) => {
                    let (number, blocks) = (round.number, round.blocks);
                    assert_eq!(number, self.arranged);
                    assert!(!busy(|task, _| !matches!(task, Task::Block(_))), "with blocks only");
                    let first = (number * BLOCKS).min(self.capture);
                    assert_eq!(blocks, BLOCKS.min(self.capture - first));
                    assert!((first..first + blocks).all(|block| self.parsed.contains(&block)));
                    let metered = |lane| self.metered.contains(&(number - 1, lane));
                    assert!(number == 0 || (0..self.lanes).all(metered));
                }
                Task::Lane(round, lane) => {
                    assert_eq!(round.number + 1, self.arranged);
                    assert!(self.begun.insert((round.number, lane)), "a second time");
                }
            }
            self.working.push((task, false));
        }

        /// One of the threads goes on.
        fn step(&mut self, which: usize) {
            let which = which % self.working.len();
            let finished = match &mut self.working[which] {
                (Task::Block(_), read @ false) => {
                    *read = true;
                    self.read += 1;
                    self.state.has_read(self.read == self.capture);
                    return;
                }
                (Task::Block(number), _) => {
                    self.parsed.insert(*number);
                    Finished::Block(*number)
                }
                (Task::Arrange(_), _) => {
                    self.arranged += 1;
                    Finished::Arrange
                }
                (Task::Lane(round, lane), _) => {
                    self.metered.insert((round.number, *lane));
                    Finished::Lane
                }
            };
            self.working.swap_remove(which);
            self.state.finish(finished);
        }
    }

    proptest! {
        #[test]
        fn everything_is_done_once_and_in_its_order(
            capture in 1..5 * BLOCKS,
            lanes in 1..5_usize,
            threads in 1..5_usize,
            order in proptest::collection::vec(any::<usize>(), 64),
        ) {
            let mut model = Model {
                state: State::new(lanes),
                lanes,
                capture,
                read: 0,
                working: Vec::new(),
                parsed: BTreeSet::new(),
                arranged: 0,
                begun: BTreeSet::new(),
                metered: BTreeSet::new(),
            };
            let rounds = capture.div_ceil(BLOCKS);
            let mut order = order.into_iter().cycle();
            while model.arranged <= rounds {
                while model.working.len() < threads
                    && let Some(task) = model.state.next()
                {
                    model.take(task);
                }
                prop_assert!(!model.working.is_empty(), "nobody has anything to do");
                model.step(order.next().unwrap_or_default());
            }
            prop_assert_eq!(model.parsed.len(), capture);
            prop_assert_eq!(model.metered.len(), rounds * lanes);
        }
    }
}
