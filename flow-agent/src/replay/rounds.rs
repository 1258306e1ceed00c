//! The rounds of a replay: threads that read, parse and meter a capture together.
//!
//! Enters: a capture. Leaves: what each round emitted. A round is a fixed number of blocks. Its
//! blocks are read one after the other, each by the thread that has time, which then parses it.
//! When all are parsed, one thread does what needs their order. Then each lane is metered by the
//! thread that has time, and who finds no lane begins with the next round.
//!
//! It holds that what leaves depends on the capture alone, not on how many threads there are or
//! which is the faster one.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, TryLockError};

use crossbeam::channel::Sender;
use crossbeam::utils::Backoff;

use super::ReplayError;
use super::capture::{Block, Capture};
use super::fragments::Fragments;
use super::lane::Lane;
use super::meeting::Meeting;
use super::parsed::{Parsed, Parser};
use super::reading::{Known, Reading};
use crate::record::FlowRecord;

/// Blocks of a round: enough that threads seldom wait for each other, few enough that what was
/// parsed is still in a cache when it is metered.
const BLOCKS: usize = 16;

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
    /// When flows were last expired, on the capture's clock, ns.
    pub expired_at_ns: u64,
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
    halves: [Vec<RwLock<Parsed>>; 2],
    /// How many blocks the round has.
    blocks: AtomicUsize,
    next_lane: AtomicUsize,
    /// Where all threads meet; known once it is known how many they are.
    meeting: OnceLock<Meeting>,
    emitted: Mutex<Option<Sender<Emitted>>>,
    /// Said while all threads meet, so that they see the same.
    done: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Where blocks come from.
struct Source<'a> {
    capture: &'a mut Capture,
    reading: &'a mut Reading,
    known: Known,
    /// Blocks of the round that were taken.
    taken: usize,
    /// Nothing is to be read any more.
    ended: bool,
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
        let source = Source { capture, reading, known, taken: 0, ended: false, result: Ok(()) };
        Self {
            source: Mutex::new(source),
            in_order: Mutex::new(in_order),
            parser,
            lanes,
            max_flows,
            halves: [(); 2].map(|()| (0..BLOCKS).map(|_| RwLock::default()).collect()),
            blocks: AtomicUsize::new(0),
            next_lane: AtomicUsize::new(0),
            meeting: OnceLock::new(),
            emitted: Mutex::new(Some(emitted)),
            done: AtomicBool::new(false),
            panic: Mutex::new(None),
        }
    }

    /// So many threads [`Rounds::work`]; said once, at least one.
    pub fn begin(&self, threads: usize) {
        let _ = self.meeting.set(Meeting::new(threads));
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
        let meeting = self.meeting.wait();
        let mut memory = Block::default();
        for half in [0, 1].into_iter().cycle() {
            self.guarded(|| self.read_and_parse(half, &mut memory));
            meeting.meet(|| {
                self.guarded(|| self.arrange(half));
                if self.done.load(Ordering::Acquire) || lock(&self.panic).is_some() {
                    self.done.store(true, Ordering::Release);
                    // Who waits for what is emitted waits no longer.
                    lock(&self.emitted).take();
                }
            });
            if self.done.load(Ordering::Acquire) {
                return;
            }
            self.guarded(|| self.meter(half));
        }
    }

    /// Others wait for this thread: it must come to the next meeting whatever happens.
    fn guarded(&self, step: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(step)) {
            lock(&self.panic).get_or_insert(panic);
        }
    }

    /// Each thread reads all its blocks into the same memory, which so stays in its cache.
    fn read_and_parse(&self, half: usize, memory: &mut Block) {
        loop {
            let mut source = self.source();
            if source.ended || source.taken == BLOCKS {
                return;
            }
            let block = &self.halves[half][source.taken];
            source.taken += 1;
            let mut parsed = block.write().unwrap_or_else(PoisonError::into_inner);
            source.read(memory, &mut parsed);
            drop(source);
            parsed.parse(memory, self.parser);
        }
    }

    /// The source, as soon as nobody reads. That takes less time than to be woken, so who waits
    /// looks again and again.
    fn source(&self) -> MutexGuard<'_, Source<'a>> {
        let backoff = Backoff::new();
        loop {
            match self.source.try_lock() {
                Err(TryLockError::WouldBlock) => backoff.snooze(),
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Ok(source) => return source,
            }
        }
    }

    /// What needs the order of the packets; takes what the round before emitted.
    fn arrange(&self, half: usize) {
        let mut source = lock(&self.source);
        let mut in_order = lock(&self.in_order);
        let blocks = std::mem::take(&mut source.taken);
        for block in &self.halves[half][..blocks] {
            let mut parsed = block.write().unwrap_or_else(PoisonError::into_inner);
            parsed.tie_fragments(self.parser, &mut in_order.fragments);
            parsed.note_expiries(&mut in_order.expired_at_ns);
            source.reading.count(&parsed.counts);
        }
        let mut lanes: Vec<_> = self.lanes.iter().map(lock).collect();
        let records = lanes.iter_mut().map(|lane| std::mem::take(&mut lane.records)).collect();
        share_room(&mut lanes, self.max_flows);
        drop(lanes);
        self.blocks.store(blocks, Ordering::Release);
        self.next_lane.store(0, Ordering::Release);
        let interfaces = source.reading.interfaces().clone();
        let octets_read = source.capture.file_octets_read();
        let emitted = Emitted { records, interfaces, octets_read };
        let taken = lock(&self.emitted).as_ref().is_some_and(|to| to.send(emitted).is_ok());
        self.done.store(blocks == 0 || !taken, Ordering::Release);
    }

    fn meter(&self, half: usize) {
        let blocks = &self.halves[half][..self.blocks.load(Ordering::Acquire)];
        let blocks: Vec<_> = blocks
            .iter()
            .map(|block| block.read().unwrap_or_else(PoisonError::into_inner))
            .collect();
        loop {
            let number = self.next_lane.fetch_add(1, Ordering::AcqRel);
            let Some(lane) = self.lanes.get(number) else { return };
            lock(lane).meter(number, blocks.iter().map(|parsed| &**parsed));
        }
    }
}

impl Source<'_> {
    fn read(&mut self, block: &mut Block, parsed: &mut Parsed) {
        let read = self.reading.block(self.capture, &mut self.known, block, parsed);
        self.ended = read.is_err() || self.capture.end().is_some();
        if read.is_err() {
            self.result = read;
        }
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
