//! The sets of the flow tables: read in place, by as many threads at once as there are parts.
//!
//! Enters: a generation that nobody writes any more. Leaves: each flow of it once, as a
//! reference into the table, which is emptied behind it. Nothing is copied on the way, and a
//! part is of all CPUs, so both directions of a connection are in one (see [`Partition`]).

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use aya::maps::Map;
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use flow_common::key::protocol;
use flow_common::table::{Head, Set, TcpLine, TcpSet, TunnelSet, WAYS, names};
use flow_common::{Count, Direction, Tunnel};

use super::tables::map;
use super::{Balance, DrainError, FlowEntry, Interval, Partition};
use crate::attach::TableSize;
use crate::mapped::{MappedArray, prefetch};

/// So many sets ahead of the reading, a set's head is fetched into the cache;
const HEADS_AHEAD: usize = 24;
/// and so many ahead, when it says which, the lines of its flows.
const LINES_AHEAD: usize = 12;

/// Where the flows of a drain go.
pub trait Destination {
    /// Parts in which the sets are read.
    fn parts(&self) -> usize;

    /// Takes a part, which has to be read soon, by any thread: the drain waits for it.
    fn part(&mut self, part: Part);

    /// True when a part that was taken is never going to be read: its thread has ended.
    fn is_gone(&self, part: usize) -> bool;

    /// Takes a flow that is in no set.
    fn flow(&mut self, entry: FlowEntry<'_>, interval: &Interval);

    /// No more flows come of this drain.
    fn flush(&mut self, interval: &Interval);
}

/// Reads everything at once, on the thread of the drain.
#[derive(Debug)]
pub struct Here<F>(pub F);

impl<F: FnMut(FlowEntry<'_>, &Interval)> Destination for Here<F> {
    fn parts(&self) -> usize {
        1
    }

    fn part(&mut self, part: Part) {
        part.read(&mut self.0);
    }

    fn is_gone(&self, _: usize) -> bool {
        false
    }

    fn flow(&mut self, entry: FlowEntry<'_>, interval: &Interval) {
        (self.0)(entry, interval);
    }

    fn flush(&mut self, _: &Interval) {}
}

/// The sets of both generations, and what belongs to them.
pub struct FlowSets {
    size: TableSize,
    sets: MappedArray<Set>,
    heads: MappedArray<Head>,
    tcp: MappedArray<TcpSet>,
    /// One bit for each set.
    dirty: MappedArray<u64>,
    tunnels: MappedArray<TunnelSet>,
}

impl FlowSets {
    /// Maps tables of a size, which `table` gives by name.
    ///
    /// # Errors
    /// A table is missing or cannot be mapped.
    pub fn new(
        size: TableSize,
        table: &mut impl FnMut(&'static str) -> Result<Map, DrainError>,
    ) -> Result<Self, DrainError> {
        let per_region = |count: u32| size.regions() as usize * count as usize;
        let sets = per_region(size.sets_per_region);
        let tunnels = per_region(size.tunnel_sets()).max(1);
        Ok(Self {
            size,
            sets: map(table(names::SETS)?, names::SETS, sets)?,
            heads: map(table(names::HEADS)?, names::HEADS, sets)?,
            tcp: map(table(names::TCP)?, names::TCP, sets)?,
            dirty: map(table(names::DIRTY)?, names::DIRTY, per_region(size.dirty_words()))?,
            tunnels: map(table(names::TUNNELS)?, names::TUNNELS, tunnels)?,
        })
    }

    /// Hands out a generation in parts.
    ///
    /// # Safety
    /// The generation was flipped away and its grace period is over, and it is not filled
    /// again before [`HandedOut::wait`] has returned.
    pub unsafe fn hand_out(
        this: &Arc<Self>,
        generation: u32,
        interval: Interval,
        interfaces: usize,
        to: &mut impl Destination,
    ) -> HandedOut {
        let parts = to.parts();
        let (done, metered) = bounded(parts);
        for number in 0..parts {
            let words = Partition::words(this.size.dirty_words(), number, parts);
            let (sets, done) = (Arc::clone(this), done.clone());
            to.part(Part { number, sets, generation, words, interval, interfaces, done });
        }
        HandedOut { metered, parts }
    }
}

/// Packets of an interface that were sent, and those that were received.
type ByDirection = [Count; 2];

/// How often the drain asks whether the threads that read for it are still there.
const LOOK: Duration = Duration::from_millis(100);

/// The parts of a generation, on their way.
#[must_use = "they are being read"]
pub struct HandedOut {
    metered: Receiver<(usize, Vec<ByDirection>)>,
    parts: usize,
}

impl HandedOut {
    /// Waits until every part was read, and adds up what was metered. A part whose thread
    /// has ended is left out, and its sets stay as they are.
    pub fn wait(self, to: &impl Destination, balances: &mut [Balance]) {
        let mut waiting: Vec<usize> = (0..self.parts).collect();
        while !waiting.is_empty() {
            match self.metered.recv_timeout(LOOK) {
                Ok((number, metered)) => {
                    waiting.retain(|part| *part != number);
                    for (balance, [sent, received]) in balances.iter_mut().zip(metered) {
                        balance.metered.merge(sent);
                        balance.metered.merge(received);
                        balance.received.merge(received);
                    }
                }
                // Who has ended has told before, if at all.
                Err(RecvTimeoutError::Timeout) => waiting.retain(|part| !to.is_gone(*part)),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

/// Some of the sets of every CPU, in a generation that nobody writes.
pub struct Part {
    /// Which of them, from 0.
    pub number: usize,
    sets: Arc<FlowSets>,
    generation: u32,
    /// Of each region's bitmap.
    words: Range<usize>,
    interval: Interval,
    /// Interface numbers are below this.
    interfaces: usize,
    /// Where it tells what it metered: the drain waits for it.
    done: Sender<(usize, Vec<ByDirection>)>,
}

impl Part {
    /// Gives each flow to `flow` and empties the sets.
    pub fn read(self, mut flow: impl FnMut(FlowEntry<'_>, &Interval)) {
        let size = &self.sets.size;
        let mut metered = vec![ByDirection::default(); self.interfaces];
        let mut used = Vec::new();
        for cpu in 0..size.cpus {
            let region = (self.generation * size.cpus + cpu) as usize;
            self.read_region(region, &mut used, |entry| {
                let key = &entry.hot.key;
                if let Some(counts) = metered.get_mut(usize::from(key.interface)) {
                    // At lo, which has no direction, a packet is metered where it enters.
                    let received = key.direction != Direction::Egress as u8;
                    counts[usize::from(received)]
                        .add(u64::from(entry.hot.packets), entry.hot.octets);
                    flow(entry, &self.interval);
                }
            });
        }
        // The drain waits for it, unless it panics.
        let _ = self.done.send((self.number, metered));
    }

    /// `used` is memory for the numbers of sets that hold a flow.
    #[inline(always)]
    fn read_region(&self, region: usize, used: &mut Vec<u32>, mut flow: impl FnMut(FlowEntry<'_>)) {
        let FlowSets { size, sets, heads, tcp, dirty, tunnels } = &*self.sets;
        let of = |per_region: u32, Range { start, end }: Range<usize>| {
            let first = region * per_region as usize;
            first + start..first + end
        };
        let in_part = self.words.start * 64..self.words.end * 64;
        let range = of(size.sets_per_region, in_part.clone());
        let with_tunnels = if size.tunnels { in_part } else { 0..0 };
        // SAFETY: who made this part promised that no program writes the generation, and
        // no other part has these words and their sets.
        let (sets, heads, tcp, dirty, tunnels) = unsafe {
            (
                sets.idle(range.clone()),
                heads.idle(range.clone()),
                tcp.idle(range),
                dirty.idle(of(size.dirty_words(), self.words.clone())),
                tunnels.idle(of(size.tunnel_sets(), with_tunnels)),
            )
        };
        used.clear();
        used.reserve(dirty.iter().map(|word| word.count_ones() as usize).sum());
        used.extend(Bits::new(dirty));
        for index in used.iter().take(HEADS_AHEAD) {
            fetch_head(&heads[*index as usize]);
        }
        for index in used.iter().take(LINES_AHEAD) {
            fetch_lines(&heads[*index as usize], &sets[*index as usize]);
        }
        for (position, &index) in used.iter().enumerate() {
            if let Some(next) = used.get(position + HEADS_AHEAD) {
                fetch_head(&heads[*next as usize]);
            }
            if let Some(next) = used.get(position + LINES_AHEAD) {
                fetch_lines(&heads[*next as usize], &sets[*next as usize]);
            }
            let index = index as usize;
            let (head, set) = (&mut heads[index], &mut sets[index]);
            for way in used_ways(head) {
                let hot = &mut set[way];
                let is_tcp = hot.key.protocol == protocol::TCP;
                let tcp = if is_tcp { &tcp[index][way] } else { &TcpLine::NONE };
                let tunnel = tunnels.get(index).map_or(&Tunnel::NONE, |tunnels| &tunnels[way]);
                flow(FlowEntry { hot, first_ns: head.first_ns[way], tcp, tunnel });
                hot.packets = 0;
            }
            head.tags = [0; WAYS];
            head.used = 0;
        }
        dirty.fill(0);
    }
}

#[inline(always)]
fn fetch_head(head: &Head) {
    prefetch(&head.tags);
    prefetch(&head.first_ns);
}

/// Fetches what is read of a set whose head is at hand.
#[inline(always)]
fn fetch_lines(head: &Head, set: &Set) {
    for way in used_ways(head) {
        prefetch(&set[way]);
    }
}

/// The ways that hold a flow.
#[inline(always)]
fn used_ways(head: &Head) -> impl Iterator<Item = usize> + use<> {
    let mut used = head.used;
    std::iter::from_fn(move || {
        let way = used.trailing_zeros() as usize;
        used &= used.wrapping_sub(1);
        (way < WAYS).then_some(way)
    })
}

/// The positions of the bits that are 1.
struct Bits<'a> {
    words: &'a [u64],
    /// The next word.
    word: usize,
    /// What is left of the one before it.
    rest: u64,
}

impl<'a> Bits<'a> {
    fn new(words: &'a [u64]) -> Self {
        Self { words, word: 0, rest: 0 }
    }
}

impl Iterator for Bits<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        while self.rest == 0 {
            self.rest = *self.words.get(self.word)?;
            self.word += 1;
        }
        let bit = self.rest.trailing_zeros();
        self.rest &= self.rest - 1;
        Some((self.word as u32 - 1) * 64 + bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_found_in_order() {
        let words = [0, 1 << 63 | 1, 0, 0b110];
        assert_eq!(Bits::new(&words).collect::<Vec<_>>(), [64, 127, 193, 194]);
        assert_eq!(Bits::new(&[]).next(), None);
    }

    /// One thread has read its part, the other one has ended with its part in its queue.
    struct OneIsGone;

    impl Destination for OneIsGone {
        fn parts(&self) -> usize {
            2
        }

        fn part(&mut self, _: Part) {}

        fn is_gone(&self, part: usize) -> bool {
            part == 1
        }

        fn flow(&mut self, _: FlowEntry<'_>, _: &Interval) {}

        fn flush(&mut self, _: &Interval) {}
    }

    #[test]
    fn a_thread_that_has_ended_is_not_waited_for() {
        let (done, metered) = bounded(2);
        let _queued = done.clone();
        let [sent, received] =
            [(1, 90), (2, 210)].map(|(packets, octets)| Count { packets, octets });
        done.send((0, vec![[sent, received]])).expect("room");
        let mut balances = [Balance::default()];
        HandedOut { metered, parts: 2 }.wait(&OneIsGone, &mut balances);
        assert_eq!(balances[0].metered, Count { packets: 3, octets: 300 });
        assert_eq!(balances[0].received, received);
    }
}
