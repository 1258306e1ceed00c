//! In which order flows leave: one LRU list for each class, one by age where that is asked for.
//!
//! Moving a flow to the front of its list at each update would cost more than the update. So a
//! list is in the order of *placement*: a flow is placed again when a quarter of its idle timeout
//! has passed since, and also, when the shard is nearly full and the order decides who leaves,
//! when more than a sixteenth of all flows were placed after it. What is due is therefore within the
//! first part of a list, and who leaves was used least recently, give or take a sixteenth.

use super::flow::Flow;
use super::lists::Lists;
use super::timeouts::Class;

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
    by_class: Lists<{ Class::COUNT }>,
    by_age: Option<Lists<1>>,
    /// Placements so far.
    turn: u32,
}

impl Orders {
    /// Empty lists.
    pub fn new(by_age: bool) -> Self {
        Self { by_class: Lists::new(), by_age: by_age.then(Lists::new), turn: 0 }
    }

    /// Puts a new flow in front.
    pub fn insert(&mut self, slot: u32, flow: &mut Flow) {
        self.place(slot, flow);
        if let Some(by_age) = self.by_age.as_mut().filter(|_| flow.class != Class::Ended) {
            by_age.put(0, slot);
        }
    }

    /// Puts a flow in front of the list of its class, which may be another than before. One that
    /// has ended is no more among those by age.
    pub fn place(&mut self, slot: u32, flow: &mut Flow) {
        let ns = if flow.class == Class::Ended { flow.since_ns } else { flow.last_ns };
        self.turn = self.turn.wrapping_add(1);
        flow.placed = Placed { tick: tick(ns), turn: self.turn };
        self.by_class.put(flow.class as usize, slot);
        if let Some(by_age) = self.by_age.as_mut().filter(|_| flow.class == Class::Ended) {
            by_age.remove(slot);
        }
    }

    /// A new record of the flow begins; if it has ended already, that is of no account.
    pub fn renew(&mut self, slot: u32) {
        if let Some(by_age) = self.by_age.as_mut().filter(|by_age| by_age.contains(slot)) {
            by_age.put(0, slot);
        }
    }

    /// Takes a flow out.
    pub fn remove(&mut self, slot: u32) {
        self.by_class.remove(slot);
        if let Some(by_age) = &mut self.by_age {
            by_age.remove(slot);
        }
    }

    /// Placements since this one.
    #[inline(always)]
    pub fn turns_since(&self, placed: Placed) -> u32 {
        self.turn.wrapping_sub(placed.turn)
    }

    /// The flow of a class that was placed first.
    pub fn last(&self, class: Class) -> Option<u32> {
        self.by_class.oldest(class as usize)
    }

    /// The flows of a class, the one that was placed first first.
    pub fn oldest_first(&self, class: Class) -> impl Iterator<Item = u32> {
        self.by_class.oldest_first(class as usize)
    }

    /// The flow whose record is the oldest, where that is kept.
    pub fn oldest(&self) -> Option<u32> {
        self.by_age.as_ref().and_then(|by_age| by_age.oldest(0))
    }

    /// Gives every flow the slot that `new` says, and memory back.
    pub fn rename(&mut self, new: impl Fn(u32) -> u32) {
        self.by_class = self.by_class.renamed(&new);
        self.by_age = self.by_age.as_ref().map(|by_age| by_age.renamed(&new));
    }

    /// Memory taken, octets.
    pub fn bytes(&self) -> u64 {
        self.by_class.bytes() + self.by_age.as_ref().map_or(0, Lists::bytes)
    }

    /// Memory that so many flows take at most, octets.
    pub fn bytes_for(flows: usize, by_age: bool) -> u64 {
        let by_age = if by_age { Lists::<1>::bytes_for(flows) } else { 0 };
        Lists::<{ Class::COUNT }>::bytes_for(flows) + by_age
    }
}
