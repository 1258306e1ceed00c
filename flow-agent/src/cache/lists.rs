//! Lists of slots, each in the order of placement.
//!
//! Slots are small numbers without gaps, so that the links are an array: to place a slot touches
//! five links of eight octets at most, and hashes nothing.

/// The neighbours of a slot in its list, or of a list's ends. What is in no list is its own
/// neighbour.
#[derive(Clone, Copy, Debug)]
struct Link {
    newer: u32,
    older: u32,
}

/// `N` lists; a slot is in one of them at most.
#[derive(Debug)]
pub struct Lists<const N: usize> {
    /// The ends of each list, between its oldest and its newest slot; behind them the slots.
    links: Vec<Link>,
}

impl<const N: usize> Lists<N> {
    /// Empty ones.
    pub fn new() -> Self {
        Self { links: (0..N as u32).map(|at| Link { newer: at, older: at }).collect() }
    }

    /// Makes a slot the newest of a list, wherever it was.
    #[inline]
    pub fn put(&mut self, list: usize, slot: u32) {
        let at = slot + N as u32;
        if at as usize >= self.links.len() {
            self.grow(at as usize + 1);
        }
        self.unlink(at);
        let ends = list as u32;
        let newest = self.links[list].older;
        self.links[at as usize] = Link { newer: ends, older: newest };
        self.links[newest as usize].newer = at;
        self.links[list].older = at;
    }

    /// Takes a slot out of its list, if it is in one.
    #[inline]
    pub fn remove(&mut self, slot: u32) {
        let at = slot + N as u32;
        if (at as usize) < self.links.len() {
            self.unlink(at);
            self.links[at as usize] = Link { newer: at, older: at };
        }
    }

    /// True for a slot in any list.
    pub fn contains(&self, slot: u32) -> bool {
        let at = slot + N as u32;
        self.links.get(at as usize).is_some_and(|link| link.newer != at)
    }

    /// By a part of what there is at least, so that a slot is rarely moved; by a small one, since
    /// memory is counted.
    #[cold]
    fn grow(&mut self, len: usize) {
        if len > self.links.capacity() {
            let room = len.max(self.links.len() + more(self.links.len()));
            self.links.reserve_exact(room - self.links.len());
        }
        let next = self.links.len() as u32;
        self.links.extend((next..len as u32).map(|at| Link { newer: at, older: at }));
    }

    /// Has its neighbours be each other's.
    #[inline]
    fn unlink(&mut self, at: u32) {
        let Link { newer, older } = self.links[at as usize];
        self.links[newer as usize].older = older;
        self.links[older as usize].newer = newer;
    }

    /// The slot of a list that was placed first.
    #[inline]
    pub fn oldest(&self, list: usize) -> Option<u32> {
        self.links[list].newer.checked_sub(N as u32)
    }

    /// The slots of a list, the one that was placed first first.
    pub fn oldest_first(&self, list: usize) -> impl Iterator<Item = u32> {
        let slot = |at: u32| at.checked_sub(N as u32);
        let next = move |slot: &u32| self.links[*slot as usize + N].newer.checked_sub(N as u32);
        std::iter::successors(slot(self.links[list].newer), next)
    }

    /// The same lists of other slots, as `new` says, in no more memory than they need.
    pub fn renamed(&self, new: impl Fn(u32) -> u32) -> Self {
        let mut lists = Self::new();
        for list in 0..N {
            self.oldest_first(list).for_each(|slot| lists.put(list, new(slot)));
        }
        lists.links.shrink_to_fit();
        lists
    }

    /// Memory taken, octets.
    pub fn bytes(&self) -> u64 {
        (self.links.capacity() * size_of::<Link>()) as u64
    }

    /// Memory that so many slots take at most, octets.
    pub fn bytes_for(slots: usize) -> u64 {
        let links = slots + N;
        ((links + more(links)) * size_of::<Link>()) as u64
    }
}

/// How much memory is added to that of so many links, links.
fn more(links: usize) -> usize {
    (links / 8).max(512)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// As numbered placements say it.
        #[test]
        fn they_hold_what_was_placed_in_its_order(
            steps in proptest::collection::vec((0usize..4, 0u32..40), 1..400),
        ) {
            let mut lists = Lists::<3>::new();
            let mut model: BTreeMap<u32, (usize, usize)> = BTreeMap::new();
            for (turn, (list, slot)) in steps.into_iter().enumerate() {
                if list < 3 {
                    lists.put(list, slot);
                    model.insert(slot, (list, turn));
                } else {
                    lists.remove(slot);
                    model.remove(&slot);
                }
            }
            let turned = lists.renamed(|slot| 40 - slot);
            for list in 0..3 {
                let mut placed: Vec<_> = model
                    .iter()
                    .filter(|(_, (of, _))| *of == list)
                    .map(|(slot, (_, turn))| (*turn, *slot))
                    .collect();
                placed.sort_unstable();
                let expected: Vec<u32> = placed.into_iter().map(|(_, slot)| slot).collect();
                prop_assert_eq!(lists.oldest(list), expected.first().copied());
                prop_assert_eq!(&lists.oldest_first(list).collect::<Vec<_>>(), &expected);
                let expected: Vec<u32> = expected.iter().map(|slot| 40 - slot).collect();
                prop_assert_eq!(turned.oldest_first(list).collect::<Vec<_>>(), expected);
            }
            prop_assert!((0..50).all(|slot| lists.contains(slot) == model.contains_key(&slot)));
            prop_assert!(lists.bytes() <= Lists::<3>::bytes_for(40));
        }
    }

    #[test]
    fn slots_are_rarely_moved_and_memory_is_not_wasted() {
        let mut lists = Lists::<3>::new();
        let mut moves = 0;
        for slot in 0..100_000 {
            let before = lists.bytes();
            lists.put(0, slot);
            moves += u32::from(lists.bytes() != before);
            assert!(lists.bytes() <= Lists::<3>::bytes_for(slot as usize + 1));
        }
        assert!(moves < 64, "memory was taken {moves} times");
    }
}
