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

/// The sketch. A key keeps its place; the heap, lightest on top, is of the places' numbers, so
/// that no key is hashed to move one.
#[derive(Clone, Debug)]
pub struct SpaceSaving<K: Hash + Eq + Copy> {
    heavies: Vec<Heavy<K>>,
    index: HashMap<K, u32, RandomState>,
    heap: Vec<Light>,
    /// Where in the heap each place is.
    positions: Vec<u32>,
    places: usize,
    total: u64,
    replaced: u64,
}

#[derive(Clone, Copy, Debug)]
struct Light {
    weight: u64,
    place: u32,
}

impl<K: Hash + Eq + Copy> SpaceSaving<K> {
    /// With so many places, at least one.
    pub fn new(places: usize) -> Self {
        Self {
            heavies: Vec::new(),
            index: HashMap::default(),
            heap: Vec::new(),
            positions: Vec::new(),
            places: places.max(1),
            total: 0,
            replaced: 0,
        }
    }

    /// Adds weight and packets to a key.
    pub fn add(&mut self, key: K, weight: u64, packets: u64) {
        self.total += weight;
        if let Some(place) = self.index.get(&key) {
            let heavy = &mut self.heavies[*place as usize];
            heavy.weight += weight;
            heavy.packets += packets;
            let light = Light { weight: heavy.weight, place: *place };
            self.sink(self.positions[*place as usize] as usize, light);
        } else if self.heavies.len() < self.places {
            let place = self.heavies.len() as u32;
            self.heavies.push(Heavy { key, weight, error: 0, packets });
            self.index.insert(key, place);
            let light = Light { weight, place };
            self.heap.push(light);
            self.positions.push(place);
            self.rise(place as usize, light);
        } else {
            let Light { weight: error, place } = self.heap[0];
            let heavy = &mut self.heavies[place as usize];
            self.index.remove(&heavy.key);
            *heavy = Heavy { key, weight: error + weight, error, packets };
            self.index.insert(key, place);
            self.replaced += 1;
            self.sink(0, Light { weight: error + weight, place });
        }
    }

    /// Every key that has a place, in no order.
    pub fn keys(&self) -> &[Heavy<K>] {
        &self.heavies
    }

    /// A key's weight and error; for one without a place what it may have at most.
    pub fn get(&self, key: &K) -> Heavy<K> {
        match self.index.get(key) {
            Some(place) => self.heavies[*place as usize],
            None => Heavy { key: *key, weight: self.floor(), error: self.floor(), packets: 0 },
        }
    }

    /// What a key without a place may weigh at most.
    pub fn floor(&self) -> u64 {
        if self.heavies.len() < self.places { 0 } else { self.heap[0].weight }
    }

    /// The weight of everything.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How often a key lost its place.
    pub fn replaced(&self) -> u64 {
        self.replaced
    }

    /// Puts what has become heavier where it belongs, from `position` downwards.
    fn sink(&mut self, mut position: usize, light: Light) {
        loop {
            let left = 2 * position + 1;
            let Some(mut child) = self.heap.get(left).copied() else { break };
            let mut lighter = left;
            if let Some(right) = self.heap.get(left + 1)
                && right.weight < child.weight
            {
                (child, lighter) = (*right, left + 1);
            }
            if light.weight <= child.weight {
                break;
            }
            self.put(position, child);
            position = lighter;
        }
        self.put(position, light);
    }

    /// Puts what is new where it belongs, from `position` upwards.
    fn rise(&mut self, mut position: usize, light: Light) {
        while position > 0 {
            let above = (position - 1) / 2;
            let parent = self.heap[above];
            if parent.weight <= light.weight {
                break;
            }
            self.put(position, parent);
            position = above;
        }
        self.put(position, light);
    }

    fn put(&mut self, position: usize, light: Light) {
        self.heap[position] = light;
        self.positions[light.place as usize] = position as u32;
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
