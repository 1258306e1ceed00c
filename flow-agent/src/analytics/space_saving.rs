//! The heaviest keys of a stream, in fixed memory.
//!
//! Space-Saving (Metwally, Agrawal, El Abbadi 2005), with weights: a key without a place takes
//! that of the lightest and its weight, which is from then on the error of the newcomer. So the
//! true weight of a key lies between `weight - error` and `weight`, every key heavier than
//! `total / places` has a place, and no error is larger than that.
//!
//! Packets ride along: those of a key since it took its place.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;

/// A key with a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heavy<K> {
    /// The key.
    pub key: K,
    /// At most this.
    pub weight: u64,
    /// By how much at most the weight is too large.
    pub error: u64,
    /// At least these packets; all of them if there is no error.
    pub packets: u64,
}

/// The sketch: a heap with the lightest on top, and where each key is in it.
#[derive(Clone, Debug)]
pub struct SpaceSaving<K: Hash + Eq + Copy> {
    heap: Vec<Heavy<K>>,
    index: HashMap<K, u32, RandomState>,
    places: usize,
    total: u64,
    replaced: u64,
}

impl<K: Hash + Eq + Copy> SpaceSaving<K> {
    /// With so many places, at least one.
    pub fn new(places: usize) -> Self {
        Self {
            heap: Vec::new(),
            index: HashMap::default(),
            places: places.max(1),
            total: 0,
            replaced: 0,
        }
    }

    /// Adds weight and packets to a key.
    pub fn add(&mut self, key: K, weight: u64, packets: u64) {
        self.total += weight;
        if let Some(position) = self.index.get(&key) {
            let position = *position as usize;
            self.heap[position].weight += weight;
            self.heap[position].packets += packets;
            self.sink(position);
        } else if self.heap.len() < self.places {
            self.heap.push(Heavy { key, weight, error: 0, packets });
            self.index.insert(key, self.heap.len() as u32 - 1);
            self.rise(self.heap.len() - 1);
        } else {
            let lightest = self.heap[0];
            self.index.remove(&lightest.key);
            let error = lightest.weight;
            self.heap[0] = Heavy { key, weight: error + weight, error, packets };
            self.index.insert(key, 0);
            self.replaced += 1;
            self.sink(0);
        }
    }

    /// Every key that has a place, in no order.
    pub fn keys(&self) -> &[Heavy<K>] {
        &self.heap
    }

    /// A key's weight and error; for one without a place what it may have at most.
    pub fn get(&self, key: &K) -> Heavy<K> {
        match self.index.get(key) {
            Some(position) => self.heap[*position as usize],
            None => Heavy { key: *key, weight: self.floor(), error: self.floor(), packets: 0 },
        }
    }

    /// What a key without a place may weigh at most.
    pub fn floor(&self) -> u64 {
        if self.heap.len() < self.places { 0 } else { self.heap[0].weight }
    }

    /// The weight of everything.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How often a key lost its place.
    pub fn replaced(&self) -> u64 {
        self.replaced
    }

    fn sink(&mut self, mut position: usize) {
        loop {
            let (left, right) = (2 * position + 1, 2 * position + 2);
            let mut least = position;
            for child in [left, right] {
                if child < self.heap.len() && self.heap[child].weight < self.heap[least].weight {
                    least = child;
                }
            }
            if least == position {
                return;
            }
            self.swap(position, least);
            position = least;
        }
    }

    fn rise(&mut self, mut position: usize) {
        while position > 0 {
            let parent = (position - 1) / 2;
            if self.heap[parent].weight <= self.heap[position].weight {
                return;
            }
            self.swap(position, parent);
            position = parent;
        }
    }

    fn swap(&mut self, one: usize, other: usize) {
        self.heap.swap(one, other);
        for position in [one, other] {
            if let Some(place) = self.index.get_mut(&self.heap[position].key) {
                *place = position as u32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_bounds_hold(
            stream in prop::collection::vec((0..60u32, 0..100u64, 0..9u64), 0..600),
            places in 1..40usize,
        ) {
            let mut sketch = SpaceSaving::new(places);
            let mut exact: HashMap<u32, (u64, u64)> = HashMap::new();
            for (key, weight, packets) in &stream {
                sketch.add(*key, *weight, *packets);
                let sums = exact.entry(*key).or_default();
                *sums = (sums.0 + weight, sums.1 + packets);
            }
            let total: u64 = exact.values().map(|(weight, _)| weight).sum();
            prop_assert_eq!(sketch.total(), total);
            prop_assert!(sketch.keys().len() <= places);
            let never_full = exact.len() <= places;
            for (key, (weight, packets)) in &exact {
                let heavy = sketch.get(key);
                prop_assert!(heavy.weight >= *weight, "{key}: {heavy:?}, truly {weight}");
                prop_assert!(heavy.weight - heavy.error <= *weight, "{key}: {heavy:?}");
                prop_assert!(heavy.error <= total / places as u64);
                prop_assert!(heavy.packets <= *packets, "{key}: {heavy:?}, truly {packets}");
                prop_assert!(!never_full || heavy.packets == *packets, "{key}: {heavy:?}");
                let has_place = sketch.keys().iter().any(|heavy| heavy.key == *key);
                prop_assert!(has_place || *weight <= total / places as u64, "{key}: {weight}");
            }
        }
    }
}
