//! The rounds of a replay: threads that read, parse and meter a capture together.
//!
//! Enters: a capture. Leaves: what each round emitted. A round is a fixed number of blocks. Its
//! blocks are read one after the other, each by the thread that has time, which then parses it.
//! When all are parsed, one thread does what needs their order. Then each lane is metered by the
//! thread that has time. [`Agenda`] says who does what when.
//!
//! It holds that what leaves depends on the capture alone, not on how many threads there are or
//! which is the faster one.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crossbeam::channel::Sender;

use super::ReplayError;
use super::agenda::{Agenda, BLOCKS, Finished, PLACES, Round, Task};
use super::capture::{Block, Capture};
use super::fragments::Fragments;
use super::lane::Lane;
use super::parsed::{Counts, Parsed, Parser};
use super::reading::{Known, Reading};
use crate::record::FlowRecord;

/// What a round emitted.
pub struct Emitted {
    /// By lane.
    pub records: Vec<Vec<FlowRecord>>,
    /// Names of the interfaces so far; a number is the position plus one.
    pub interfaces: Arc<Vec<Arc<str>>>,
    /// Octets of the file read so far.
    pub octets_read: u64,
}

/// What is kept from round to round, in the order of the capture.
#[derive(Default)]
pub struct InOrder {
    /// First fragments.
    pub fragments: Fragments,
    /// The step of the capture's clock that the last metered packet is in, ns.
    step_ns: Option<u64>,
    /// What was counted on each interface, by number minus one.
    pub counts: Vec<Counts>,
    interfaces: Arc<Vec<Arc<str>>>,
    octets_read: u64,
}

impl InOrder {
    fn take(&mut self, parsed: &mut Parsed, parser: &Parser) {
        parsed.tie_fragments(parser, &mut self.fragments);
        parsed.tie_expiries(&mut self.step_ns);
        if self.counts.len() < parsed.counts.len() {
            self.counts.resize(parsed.counts.len(), Counts::default());
        }
        for (sum, counts) in self.counts.iter_mut().zip(&parsed.counts) {
            sum.merge(counts);
        }
        self.interfaces = parsed.interfaces.clone();
        self.octets_read = parsed.octets_read;
    }
}

/// One capture, and all that its threads share.
pub struct Rounds<'a> {
    source: Mutex<Source<'a>>,
    in_order: Mutex<&'a mut InOrder>,
    parser: &'a Parser,
    lanes: &'a [Mutex<Lane>],
    /// Open flows at one time, in all lanes.
    max_flows: usize,
    /// The blocks of a round, while those of the one before are metered.
    places: [Vec<RwLock<Parsed>>; PLACES],
    agenda: Agenda,
    emitted: Mutex<Option<Sender<Emitted>>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Where blocks come from.
struct Source<'a> {
    capture: &'a mut Capture,
    reading: &'a mut Reading,
    known: Known,
    result: Result<(), ReplayError>,
}

impl<'a> Rounds<'a> {
    /// Nothing was read yet; what is emitted goes to `emitted`.
    pub fn new(
        capture: &'a mut Capture,
        reading: &'a mut Reading,
        in_order: &'a mut InOrder,
        parser: &'a Parser,
        (lanes, max_flows): (&'a [Mutex<Lane>], usize),
        emitted: Sender<Emitted>,
    ) -> Self {
        let known = Known::default();
        let source = Source { capture, reading, known, result: Ok(()) };
        Self {
            source: Mutex::new(source),
            in_order: Mutex::new(in_order),
            parser,
            lanes,
            max_flows,
            places: [(); PLACES].map(|()| (0..BLOCKS).map(|_| RwLock::default()).collect()),
            agenda: Agenda::new(lanes.len()),
            emitted: Mutex::new(Some(emitted)),
            panic: Mutex::new(None),
        }
    }

    /// How the reading ended.
    ///
    /// # Errors
    /// As [`Reading::block`].
    ///
    /// # Panics
    /// When a thread has.
    pub fn end(self) -> Result<(), ReplayError> {
        if let Some(panic) = self.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
            std::panic::resume_unwind(panic);
        }
        self.source.into_inner().unwrap_or_else(PoisonError::into_inner).result
    }

    /// What each thread does until the capture is metered.
    pub fn work(&self) {
        // All blocks that a thread reads are in the same memory, which so stays in its cache.
        let mut memory = Block::default();
        let mut finished = None;
        while let Some(task) = self.agenda.next(finished) {
            // Others wait for this thread: they must hear of whatever happens.
            match catch_unwind(AssertUnwindSafe(|| self.perform(task, &mut memory))) {
                Ok(done) => finished = Some(done),
                Err(panic) => {
                    lock(&self.panic).get_or_insert(panic);
                    self.stop();
                }
            }
        }
    }

    fn perform(&self, task: Task, memory: &mut Block) -> Finished {
        match task {
            Task::Block(number) => {
                self.read_and_parse(number, memory);
                Finished::Block(number)
            }
            Task::Arrange(round) => {
                self.arrange(round);
                Finished::Arrange
            }
            Task::Lane(round, lane) => {
                self.meter(round, lane);
                Finished::Lane
            }
        }
    }

    /// Nobody begins anything any more, and nobody waits for what is emitted.
    fn stop(&self) {
        self.agenda.end();
        lock(&self.emitted).take();
    }

    fn read_and_parse(&self, number: usize, memory: &mut Block) {
        let block = &self.places[number / BLOCKS % PLACES][number % BLOCKS];
        let mut parsed = block.write().unwrap_or_else(PoisonError::into_inner);
        let is_last = lock(&self.source).read(memory, &mut parsed);
        self.agenda.has_read(is_last);
        parsed.parse(memory, self.parser);
    }

    /// What needs the order of the packets; takes what the round before emitted.
    fn arrange(&self, round: Round) {
        let mut in_order = lock(&self.in_order);
        for block in self.blocks(round) {
            let mut parsed = block.write().unwrap_or_else(PoisonError::into_inner);
            in_order.take(&mut parsed, self.parser);
        }
        let mut lanes: Vec<_> = self.lanes.iter().map(lock).collect();
        let records = lanes.iter_mut().map(|lane| std::mem::take(&mut lane.records)).collect();
        share_room(&mut lanes, self.max_flows);
        drop(lanes);
        let (interfaces, octets_read) = (in_order.interfaces.clone(), in_order.octets_read);
        let emitted = Emitted { records, interfaces, octets_read };
        let taken = lock(&self.emitted).as_ref().is_some_and(|to| to.send(emitted).is_ok());
        if round.blocks == 0 || !taken {
            self.stop();
        }
    }

    fn meter(&self, round: Round, lane: usize) {
        let blocks = self.blocks(round).iter();
        let blocks: Vec<_> =
            blocks.map(|block| block.read().unwrap_or_else(PoisonError::into_inner)).collect();
        lock(&self.lanes[lane]).meter(lane, blocks.iter().map(|parsed| &**parsed));
    }

    fn blocks(&self, round: Round) -> &[RwLock<Parsed>] {
        &self.places[round.number % PLACES][..round.blocks]
    }
}

impl Source<'_> {
    /// Reads the next block; true when nothing is to be read after it.
    fn read(&mut self, block: &mut Block, parsed: &mut Parsed) -> bool {
        let read = self.reading.block(self.capture, &mut self.known, block, parsed);
        let failed = read.is_err();
        if failed {
            self.result = read;
        }
        failed || self.capture.end().is_some()
    }
}

/// Divides the room for flows among the lanes, each of which has what it holds.
fn share_room(lanes: &mut [MutexGuard<'_, Lane>], max_flows: usize) {
    let count = lanes.len();
    if count == 1 {
        return;
    }
    let open: usize = lanes.iter().map(|lane| lane.shard.len()).sum();
    // A lane has room for one flow at least.
    let share = max_flows.saturating_sub(open + count) / count;
    for lane in lanes {
        let room = lane.shard.len() + share;
        lane.shard.resize(room);
    }
}

/// Locks what only a thread that panicked can have left locked; then nothing of it is used.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
