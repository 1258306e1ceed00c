//! In which order flows leave: one LRU list for each class, one by age where that is asked for.
//!
//! Moving a flow to the front of its list at each update would cost more than the update. So a
//! list is in the order of *placement*: a flow is placed again when a quarter of its idle timeout
//! has passed since, and also, when the shard is nearly full and the order decides who leaves,
//! when more than a sixteenth of all flows were placed after it. What is due is therefore within the
//! first part of a list, and who leaves was used least recently, give or take a sixteenth.

use std::hash::{BuildHasher, Hasher};

use lru::LruCache;

use super::flow::Flow;
use super::timeouts::Class;

/// Slots in an order.
type List = LruCache<u32, (), SlotHash>;

/// When a flow was placed: in which tick of the updates' clock, and as which placement.
#[derive(Clone, Copy, Debug, Default)]
pub struct Placed {
    pub tick: u32,
    pub turn: u32,
}

/// Ticks are 16.8 ms.
const TICK_BITS: u32 = 24;

/// The tick of a time; they wrap around after two years.
#[inline(always)]
pub const fn tick(ns: u64) -> u32 {
    (ns >> TICK_BITS) as u32
}

/// The lists of a shard.
pub struct Orders {
    lists: [Sized; Class::COUNT],
    arrivals: Option<Sized>,
    /// Placements so far.
    turn: u32,
}

/// A list, and how long it was since its memory was last given back.
struct Sized {
    list: List,
    peak: usize,
}

impl Sized {
    fn new() -> Self {
        Self { list: LruCache::unbounded_with_hasher(SlotHash), peak: 0 }
    }

    fn put(&mut self, slot: u32) {
        self.list.put(slot, ());
        self.peak = self.peak.max(self.list.len());
    }

    fn last(&self) -> Option<u32> {
        self.list.peek_lru().map(|(slot, ())| *slot)
    }

    fn bytes(&self) -> u64 {
        table_bytes(self.peak) + (self.list.len() + 2) as u64 * NODE
    }

    fn rebuild(&mut self, new: impl Fn(u32) -> u32) {
        let mut old = std::mem::replace(self, Self::new());
        while let Some((slot, ())) = old.list.pop_lru() {
            self.put(new(slot));
        }
    }
}

/// What the allocator takes for a node of a list: 24 octets and its own 8.
const NODE: u64 = 32;

/// What a hash table of a list takes at most that has held `peak` slots: nine octets a bucket,
/// twice as many buckets as needed after many removals.
fn table_bytes(peak: usize) -> u64 {
    let needed = (peak.max(4) * 8).div_ceil(7).next_power_of_two();
    (needed * 2 * 9 + 32) as u64
}

impl Orders {
    /// Empty lists.
    pub fn new(by_age: bool) -> Self {
        Self {
            lists: std::array::from_fn(|_| Sized::new()),
            arrivals: by_age.then(Sized::new),
            turn: 0,
        }
    }

    /// Puts a new flow in front.
    pub fn insert(&mut self, slot: u32, flow: &mut Flow) {
        self.place(slot, flow);
        if let Some(arrivals) = self.arrivals.as_mut().filter(|_| flow.class != Class::Ended) {
            arrivals.put(slot);
        }
    }

    /// Puts a flow in front of the list of its class.
    #[inline(never)]
    pub fn place(&mut self, slot: u32, flow: &mut Flow) {
        let ns = if flow.class == Class::Ended { flow.since_ns } else { flow.last_ns };
        self.turn = self.turn.wrapping_add(1);
        flow.placed = Placed { tick: tick(ns), turn: self.turn };
        self.lists[flow.class as usize].put(slot);
    }

    /// Has a flow change its class; one that ends is no more among those by age.
    pub fn reclass(&mut self, slot: u32, flow: &mut Flow, class: Class) {
        self.lists[flow.class as usize].list.pop(&slot);
        flow.class = class;
        self.place(slot, flow);
        if let Some(arrivals) = self.arrivals.as_mut().filter(|_| class == Class::Ended) {
            arrivals.list.pop(&slot);
        }
    }

    /// A new record of the flow begins.
    pub fn renew(&mut self, slot: u32) {
        if let Some(arrivals) = &mut self.arrivals {
            arrivals.list.promote(&slot);
        }
    }

    /// Takes a flow out.
    pub fn remove(&mut self, slot: u32, class: Class) {
        self.lists[class as usize].list.pop(&slot);
        if let Some(arrivals) = &mut self.arrivals {
            arrivals.list.pop(&slot);
        }
    }

    /// True for a flow in the list of its class.
    pub fn holds(&self, slot: u32, class: Class) -> bool {
        self.lists[class as usize].list.contains(&slot)
    }

    /// Placements since this one.
    #[inline(always)]
    pub fn turns_since(&self, placed: Placed) -> u32 {
        self.turn.wrapping_sub(placed.turn)
    }

    /// The flow of a class that was placed first.
    pub fn last(&self, class: Class) -> Option<u32> {
        self.lists[class as usize].last()
    }

    /// The flows of a class, the one that was placed first first.
    pub fn oldest_first(&self, class: Class) -> impl Iterator<Item = u32> {
        self.lists[class as usize].list.iter().rev().map(|(slot, ())| *slot)
    }

    /// The flow whose record is the oldest, where that is kept.
    pub fn oldest(&self) -> Option<u32> {
        self.arrivals.as_ref().and_then(Sized::last)
    }

    /// Gives memory back that is no longer needed.
    pub fn shrink(&mut self) {
        for list in self.lists.iter_mut().chain(&mut self.arrivals) {
            if list.peak > 4096 && list.list.len() < list.peak / 4 {
                list.rebuild(|slot| slot);
            }
        }
    }

    /// Gives every flow the slot that `new` says, and memory back.
    pub fn rename(&mut self, new: impl Fn(u32) -> u32) {
        for list in self.lists.iter_mut().chain(&mut self.arrivals) {
            list.rebuild(&new);
        }
    }

    /// Memory taken, octets, the allocator's share included; rather too much than too little.
    pub fn bytes(&self) -> u64 {
        self.lists.iter().chain(&self.arrivals).map(Sized::bytes).sum()
    }

    /// Memory that so many flows take, octets.
    pub fn bytes_for(flows: usize, by_age: bool) -> u64 {
        let list = table_bytes(flows) + flows as u64 * NODE;
        list * (1 + u64::from(by_age)) + 8 * (table_bytes(0) + 2 * NODE)
    }
}

/// Slots are small numbers without gaps: as they are they fill a table evenly, and a factor
/// gives the upper bits, which the table compares first, some difference.
#[derive(Clone, Copy, Debug, Default)]
pub struct SlotHash;

impl BuildHasher for SlotHash {
    type Hasher = SlotHasher;

    #[inline(always)]
    fn build_hasher(&self) -> SlotHasher {
        SlotHasher(0)
    }
}

/// See [`SlotHash`].
#[derive(Debug)]
pub struct SlotHasher(u64);

impl Hasher for SlotHasher {
    #[inline(always)]
    fn write_u32(&mut self, slot: u32) {
        self.0 = u64::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write(&mut self, octets: &[u8]) {
        for octet in octets {
            self.0 = (self.0 ^ u64::from(*octet)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    #[inline(always)]
    fn finish(&self) -> u64 {
        self.0
    }
}
