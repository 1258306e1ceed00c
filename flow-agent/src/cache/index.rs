//! Where a flow is: from the hash of its key to its slot.
//!
//! Open addressing, eight octets a bucket, at most half of them used: nearly every look-up reads
//! one cache line, whose address is known as soon as the hash is, so it can be fetched ahead.
//! The bucket holds all 32 bits of the hash, so growing reads no flow.

use super::prefetch;

/// The hash in the upper half, the slot plus one in the lower; 0 is empty.
type Bucket = u64;

/// Buckets of an empty index, as a power of two.
const LEAST_BITS: u32 = 6;

/// A map from hashes to slots; several slots may share a hash.
#[derive(Debug)]
pub struct Index {
    buckets: Vec<Bucket>,
    len: usize,
    bits: u32,
}

impl Index {
    /// An empty one.
    pub fn new() -> Self {
        Self { buckets: vec![0; 1 << LEAST_BITS], len: 0, bits: LEAST_BITS }
    }

    #[inline(always)]
    fn home(&self, hash: u32) -> usize {
        (hash >> (32 - self.bits)) as usize
    }

    #[inline(always)]
    fn after(&self, position: usize) -> usize {
        (position + 1) & (self.buckets.len() - 1)
    }

    /// Has the processor fetch what [`Index::first`] reads.
    #[inline(always)]
    pub fn prefetch(&self, hash: u32) {
        prefetch(&self.buckets[self.home(hash)]);
    }

    /// The first slot with this hash; nearly always the only one.
    #[inline(always)]
    pub fn first(&self, hash: u32) -> Option<u32> {
        self.find(hash, |_| true)
    }

    /// The slot with this hash of which `is` says so.
    #[inline(always)]
    pub fn find(&self, hash: u32, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut position = self.home(hash);
        loop {
            let bucket = self.buckets[position];
            if bucket == 0 {
                return None;
            }
            let slot = (bucket as u32).wrapping_sub(1);
            if (bucket >> 32) as u32 == hash && is(slot) {
                return Some(slot);
            }
            position = self.after(position);
        }
    }

    /// Adds a slot.
    pub fn insert(&mut self, hash: u32, slot: u32) {
        if (self.len + 1) * 2 > self.buckets.len() && self.bits < 31 {
            self.resize(self.bits + 1);
        }
        self.put(u64::from(hash) << 32 | u64::from(slot + 1));
        self.len += 1;
    }

    fn put(&mut self, bucket: Bucket) {
        let mut position = self.home((bucket >> 32) as u32);
        while self.buckets[position] != 0 {
            position = self.after(position);
        }
        self.buckets[position] = bucket;
    }

    /// Says that what was in slot `from` is in slot `to`.
    pub fn relocate(&mut self, hash: u32, from: u32, to: u32) {
        if let Some(position) = self.position(hash, from) {
            self.buckets[position] = u64::from(hash) << 32 | u64::from(to + 1);
        }
    }

    /// Takes a slot out.
    pub fn remove(&mut self, hash: u32, slot: u32) {
        let Some(mut hole) = self.position(hash, slot) else { return };
        self.len -= 1;
        // Later ones move up, so that none is behind an empty bucket.
        let mut position = hole;
        loop {
            position = self.after(position);
            let bucket = self.buckets[position];
            if bucket == 0 {
                break;
            }
            let home = self.home((bucket >> 32) as u32);
            let distance = |from: usize| position.wrapping_sub(from) & (self.buckets.len() - 1);
            if distance(home) >= distance(hole) {
                self.buckets[hole] = bucket;
                hole = position;
            }
        }
        self.buckets[hole] = 0;
    }

    fn position(&self, hash: u32, slot: u32) -> Option<usize> {
        let wanted = u64::from(hash) << 32 | u64::from(slot + 1);
        let mut position = self.home(hash);
        loop {
            match self.buckets[position] {
                0 => return None,
                bucket if bucket == wanted => return Some(position),
                _ => position = self.after(position),
            }
        }
    }

    /// Gives memory back that so many slots do not need.
    pub fn shrink(&mut self) {
        let bits = Self::bits_for(self.len);
        if bits < self.bits {
            self.resize(bits);
        }
    }

    fn resize(&mut self, bits: u32) {
        let old = std::mem::replace(&mut self.buckets, vec![0; 1 << bits]);
        self.bits = bits;
        for bucket in old.into_iter().filter(|bucket| *bucket != 0) {
            self.put(bucket);
        }
    }

    fn bits_for(slots: usize) -> u32 {
        (slots * 2).next_power_of_two().trailing_zeros().max(LEAST_BITS)
    }

    /// Memory taken, octets.
    pub fn bytes(&self) -> u64 {
        (self.buckets.len() * size_of::<Bucket>()) as u64
    }

    /// Memory that so many slots take, octets.
    pub fn bytes_for(slots: usize) -> u64 {
        (size_of::<Bucket>() as u64) << Self::bits_for(slots)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few hashes, so that runs are long, wrap around and share homes.
        #[test]
        fn it_holds_what_a_set_holds(
            steps in proptest::collection::vec((0u32..12, 0u32..200, any::<bool>()), 1..600),
        ) {
            let hash = |h: u32| h.wrapping_mul(0x1555_5555) ^ (h % 3) << 31;
            let (mut index, mut model) = (Index::new(), BTreeSet::new());
            for (h, slot, add) in steps {
                if add && model.insert((h, slot)) {
                    index.insert(hash(h), slot);
                } else if model.remove(&(h, slot)) {
                    index.remove(hash(h), slot);
                }
                prop_assert_eq!(index.len, model.len());
            }
            for h in 0..12 {
                for slot in 0..200 {
                    let found = index.find(hash(h), |found| found == slot);
                    prop_assert_eq!(found.is_some(), model.contains(&(h, slot)));
                }
            }
            index.shrink();
            prop_assert!(index.buckets.len() <= (model.len() * 4).max(64));
            prop_assert!(model.iter().all(|(h, slot)| index.find(hash(*h), |f| f == *slot).is_some()));
        }
    }
}
