//! In which order flows leave: one LRU list for each class, one by age where that is asked for.
//!
//! Moving a flow to the front of its list at each update would cost more than the update. So a
//! list is in the order of *placement*: a flow is placed again when a quarter of its idle timeout
//! has passed since, and also, when the shard is nearly full and the order decides who leaves,
//! when more than a sixteenth of all flows were placed after it. What is due is therefore within the
//! first part of a list, and who leaves was used least recently, give or take a sixteenth.

use super::flow::Flow;
use super::slab::NONE;
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
    lists: [List; Class::COUNT],
    /// Of all these lists: a flow is in one of them at most.
    links: Links,
    arrivals: Option<(List, Links)>,
    /// Placements so far.
    turn: u32,
}

/// The ends of a list.
#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
}

impl List {
    const EMPTY: Self = Self { first: NONE, last: NONE };
}

/// By slot, its neighbours in the list that it is in.
#[derive(Debug, Default)]
struct Links(Vec<Link>);

/// The slots before and behind one in its list.
#[derive(Clone, Copy, Debug)]
struct Link {
    before: u32,
    behind: u32,
}

impl Link {
    /// Of a slot in no list; it is not behind itself.
    const ABSENT: Self = Self { before: NONE - 1, behind: NONE - 1 };

    fn is_absent(self) -> bool {
        self.before == Self::ABSENT.before
    }
}

impl Links {
    #[inline]
    fn get(&self, slot: u32) -> Option<Link> {
        self.0.get(slot as usize).copied().filter(|link| !link.is_absent())
    }

    /// Puts a slot in front of a list, which it may be in already.
    fn put(&mut self, list: &mut List, slot: u32) {
        self.remove(list, slot);
        if self.0.len() <= slot as usize {
            self.0.resize(slot as usize + 1, Link::ABSENT);
        }
        self.0[slot as usize] = Link { before: NONE, behind: list.first };
        match list.first {
            NONE => list.last = slot,
            first => self.0[first as usize].before = slot,
        }
        list.first = slot;
    }

    /// Takes a slot out of its list, if it is in one.
    fn remove(&mut self, list: &mut List, slot: u32) {
        let Some(Link { before, behind }) = self.get(slot) else { return };
        match before {
            NONE => list.first = behind,
            before => self.0[before as usize].behind = behind,
        }
        match behind {
            NONE => list.last = before,
            behind => self.0[behind as usize].before = before,
        }
        self.0[slot as usize] = Link::ABSENT;
    }

    fn last_first(&self, list: List) -> impl Iterator<Item = u32> {
        let some = |slot| (slot != NONE).then_some(slot);
        std::iter::successors(some(list.last), move |slot| some(self.0[*slot as usize].before))
    }

    /// Adds a list of `old` under other slots.
    fn rename(&mut self, list: &mut List, old: &Self, new: impl Fn(u32) -> u32) {
        let mut renamed = List::EMPTY;
        for slot in old.last_first(*list) {
            self.put(&mut renamed, new(slot));
        }
        *list = renamed;
    }

    fn of(slots: usize) -> Self {
        Self(vec![Link::ABSENT; slots])
    }

    fn bytes(&self) -> u64 {
        (self.0.capacity() * size_of::<Link>()) as u64
    }
}

impl Orders {
    /// Empty lists.
    pub fn new(by_age: bool) -> Self {
        Self {
            lists: [List::EMPTY; Class::COUNT],
            links: Links::default(),
            arrivals: by_age.then(|| (List::EMPTY, Links::default())),
            turn: 0,
        }
    }

    /// Puts a new flow in front.
    pub fn insert(&mut self, slot: u32, flow: &mut Flow) {
        self.place(slot, flow);
        if let Some((list, links)) = self.arrivals.as_mut().filter(|_| flow.class != Class::Ended) {
            links.put(list, slot);
        }
    }

    /// Puts a flow in front of the list of its class, which it is in if in any.
    #[inline(never)]
    pub fn place(&mut self, slot: u32, flow: &mut Flow) {
        let ns = if flow.class == Class::Ended { flow.since_ns } else { flow.last_ns };
        self.turn = self.turn.wrapping_add(1);
        flow.placed = Placed { tick: tick(ns), turn: self.turn };
        self.links.put(&mut self.lists[flow.class as usize], slot);
    }

    /// Has a flow change its class; one that ends is no more among those by age.
    pub fn reclass(&mut self, slot: u32, flow: &mut Flow, class: Class) {
        self.links.remove(&mut self.lists[flow.class as usize], slot);
        flow.class = class;
        self.place(slot, flow);
        if let Some((list, links)) = self.arrivals.as_mut().filter(|_| class == Class::Ended) {
            links.remove(list, slot);
        }
    }

    /// A new record of the flow begins.
    pub fn renew(&mut self, slot: u32) {
        if let Some((list, links)) = &mut self.arrivals
            && links.get(slot).is_some()
        {
            links.put(list, slot);
        }
    }

    /// Takes a flow out.
    pub fn remove(&mut self, slot: u32, class: Class) {
        self.links.remove(&mut self.lists[class as usize], slot);
        if let Some((list, links)) = &mut self.arrivals {
            links.remove(list, slot);
        }
    }

    /// True for a flow in the list of its class.
    #[inline]
    pub fn holds(&self, slot: u32) -> bool {
        self.links.get(slot).is_some()
    }

    /// Placements since this one.
    #[inline(always)]
    pub fn turns_since(&self, placed: Placed) -> u32 {
        self.turn.wrapping_sub(placed.turn)
    }

    /// The flow of a class that was placed first.
    pub fn last(&self, class: Class) -> Option<u32> {
        self.oldest_first(class).next()
    }

    /// The flows of a class, the one that was placed first first.
    pub fn oldest_first(&self, class: Class) -> impl Iterator<Item = u32> {
        self.links.last_first(self.lists[class as usize])
    }

    /// The flow whose record is the oldest, where that is kept.
    pub fn oldest(&self) -> Option<u32> {
        self.arrivals.as_ref().and_then(|(list, links)| links.last_first(*list).next())
    }

    /// Gives every flow the slot that `new` says, below `slots`, and memory back.
    pub fn rename(&mut self, slots: usize, new: impl Fn(u32) -> u32) {
        let old = std::mem::replace(&mut self.links, Links::of(slots));
        for list in &mut self.lists {
            self.links.rename(list, &old, &new);
        }
        if let Some((list, links)) = &mut self.arrivals {
            let old = std::mem::replace(links, Links::of(slots));
            links.rename(list, &old, &new);
        }
    }

    /// Memory taken, octets.
    pub fn bytes(&self) -> u64 {
        self.links.bytes() + self.arrivals.as_ref().map_or(0, |(_, links)| links.bytes())
    }

    /// Memory that so many flows take at most, octets: each table doubles.
    pub fn bytes_for(flows: usize, by_age: bool) -> u64 {
        (flows * 2 * size_of::<Link>()) as u64 * (1 + u64::from(by_age))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Two lists in one table of neighbours, against two vectors, the latest first.
        #[test]
        fn lists_are_in_the_order_of_placement(
            steps in proptest::collection::vec((0_u32..40, 0..3_usize), 1..300),
            factor in 1_u32..3,
        ) {
            let (mut lists, mut links) = ([List::EMPTY; 2], Links::default());
            let mut model = [Vec::new(), Vec::new()];
            for (slot, step) in steps {
                let of = (slot % 2) as usize;
                model[of].retain(|other| *other != slot);
                if step == 0 {
                    links.remove(&mut lists[of], slot);
                } else {
                    links.put(&mut lists[of], slot);
                    model[of].insert(0, slot);
                }
                prop_assert_eq!(links.get(slot).is_some(), step != 0);
            }
            let old = std::mem::replace(&mut links, Links::of(3));
            for (list, model) in lists.iter_mut().zip(&model) {
                prop_assert!(old.last_first(*list).eq(model.iter().rev().copied()));
                links.rename(list, &old, |slot| slot * factor);
                prop_assert!(links.last_first(*list).eq(model.iter().rev().map(|s| s * factor)));
            }
        }
    }
}
