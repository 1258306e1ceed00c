//! Counting different things: exactly while they are few, then by a sketch.
//!
//! Up to [`EXACT`] things the count is exact (two of them share a 32-bit hash once in half a
//! million sets). Above that it is a `HyperLogLog` of [`REGISTERS`] registers: the standard
//! error is 1.04 / sqrt(512), 4.6 %. A set never takes more than 512 octets beside itself.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;

/// Things that are counted exactly.
pub const EXACT: usize = 128;
/// Octets of the sketch.
pub const REGISTERS: usize = 512;

const INDEX_BITS: u32 = REGISTERS.trailing_zeros();

/// A set that only knows how many things are in it.
#[derive(Clone, Debug, Default)]
pub struct Distinct {
    exact: Vec<u32>,
    sketch: Option<Box<[u8; REGISTERS]>>,
    /// Of the sketch.
    estimate: u64,
}

impl Distinct {
    /// Adds a thing; true if the count may have changed.
    pub fn insert(&mut self, thing: &impl Hash) -> bool {
        // The seed is no secret: who makes hashes collide is counted too low, no more.
        let hash = FixedState::with_seed(0x5ca9).hash_one(thing);
        self.insert_hash((mix(hash) >> 32) as u32)
    }

    fn insert_hash(&mut self, hash: u32) -> bool {
        if let Some(sketch) = &mut self.sketch {
            let changed = raise(sketch, hash);
            if changed {
                self.estimate = self.estimate.max(estimate(sketch));
            }
            return changed;
        }
        if self.exact.contains(&hash) {
            return false;
        }
        if self.exact.len() < EXACT {
            self.exact.push(hash);
            return true;
        }
        let mut sketch = Box::new([0; REGISTERS]);
        for hash in std::mem::take(&mut self.exact).into_iter().chain([hash]) {
            raise(&mut sketch, hash);
        }
        self.estimate = estimate(&sketch).max(EXACT as u64 + 1);
        self.sketch = Some(sketch);
        true
    }

    /// How many different things were added.
    pub fn count(&self) -> u64 {
        if self.sketch.is_some() { self.estimate } else { self.exact.len() as u64 }
    }

    /// True while the count is exact.
    pub fn is_exact(&self) -> bool {
        self.sketch.is_none()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The sketch needs every bit to depend on all others, which a table's hash does not promise
/// (the finalizer of `MurmurHash3`).
fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

fn raise(sketch: &mut [u8; REGISTERS], hash: u32) -> bool {
    let register = &mut sketch[(hash >> (32 - INDEX_BITS)) as usize];
    let rank = ((hash << INDEX_BITS).leading_zeros().min(32 - INDEX_BITS) + 1) as u8;
    let higher = rank > *register;
    *register = rank.max(*register);
    higher
}

/// Flajolet, Fusy, Gandouet, Meunier: `HyperLogLog` (2007), with linear counting for few.
fn estimate(sketch: &[u8; REGISTERS]) -> u64 {
    let registers = REGISTERS as f64;
    // 2 to the power of -rank, exactly.
    let power = |rank: &u8| f64::from_bits((1023 - u64::from(*rank)) << 52);
    let sum: f64 = sketch.iter().map(power).sum();
    let raw = 0.7213 / (1.0 + 1.079 / registers) * registers * registers / sum;
    let empty: u32 = sketch.iter().map(|rank| u32::from(*rank == 0)).sum();
    if raw <= 2.5 * registers && empty > 0 {
        (registers * (registers / f64::from(empty)).ln()) as u64
    } else {
        raw as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn few_are_counted_exactly(things in prop::collection::vec(0..200u64, 0..400)) {
            let mut set = Distinct::default();
            let different: std::collections::BTreeSet<_> = things.iter().collect();
            prop_assume!(different.len() <= EXACT);
            for thing in &things {
                set.insert(thing);
            }
            prop_assert_eq!(set.count(), different.len() as u64);
            prop_assert!(set.is_exact());
        }

        #[test]
        fn many_are_counted_within_five_standard_errors(seed: u64, many in 129..200_000u64) {
            let mut set = Distinct::default();
            let mut before = 0;
            for thing in 0..many {
                set.insert(&(seed, thing));
                prop_assert!(set.count() >= before, "never fewer");
                before = set.count();
            }
            let error = (set.count() as f64 / many as f64 - 1.0).abs();
            prop_assert!(error < 0.23, "{many} counted as {}", set.count());
            let count = set.count();
            for thing in 0..many.min(1000) {
                prop_assert!(!set.insert(&(seed, thing)), "the same again");
            }
            prop_assert_eq!(set.count(), count);
        }
    }
}
