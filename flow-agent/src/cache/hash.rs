//! The hash of a flow: keyed, so that a sender who does not know the seed cannot choose flows
//! that share a place.

use flow_common::random::SplitMix64;
use flow_common::{FlowKey, Tunnel};

/// Hashes keys by multiplying pairs of words (NH, as in UMAC) with secret keys added.
#[derive(Clone, Debug)]
pub struct FlowHasher([u64; 7]);

impl FlowHasher {
    /// One whose hashes depend on `seed`.
    pub fn new(seed: u64) -> Self {
        let mut random = SplitMix64::new(seed);
        Self(std::array::from_fn(|_| random.next()))
    }

    /// 32 bits, the upper ones as good as the lower ones.
    #[inline(always)]
    pub fn hash(&self, key: &FlowKey, tunnel: Option<&Tunnel>) -> u32 {
        let (w, k) = (key.wide_words(), &self.0);
        let mut sum = fold(w[0] ^ k[0], w[1] ^ k[1])
            .wrapping_add(fold(w[2] ^ k[2], w[3] ^ k[3]))
            .wrapping_add(fold(w[4] ^ k[4], w[5] ^ k[5]));
        if let Some(tunnel) = tunnel {
            let words: &[u32; 10] = bytemuck::must_cast_ref(tunnel);
            for word in words {
                sum = fold(sum ^ u64::from(*word), k[6] | 1);
            }
        }
        (fold(sum ^ k[6], 0x9e37_79b9_7f4a_7c15) >> 32) as u32
    }
}

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn hashes_of_like_keys_spread_in_all_bits() {
        let hasher = FlowHasher::new(3);
        let mut hashes = HashSet::new();
        let mut ones = [0u32; 32];
        for flow in 0..100_000u32 {
            let key = FlowKey {
                src: (flow / 7).to_be_bytes().into(),
                src_port: (flow % 7) as u16,
                protocol: 17,
                ..FlowKey::default()
            };
            let hash = hasher.hash(&key, None);
            hashes.insert(hash);
            for (bit, ones) in ones.iter_mut().enumerate() {
                *ones += hash >> bit & 1;
            }
        }
        // Of 100,000 random ones, 1.2 pairs agree.
        assert!(hashes.len() > 99_980, "{}", hashes.len());
        assert!(ones.iter().all(|ones| (49_000..51_000).contains(ones)), "{ones:?}");
    }

    #[test]
    fn the_seed_and_the_tunnel_count() {
        let key = FlowKey { src_port: 1, ..FlowKey::default() };
        let tunnel = |id| Tunnel { kind: 1, id, ..Tunnel::NONE };
        let hash = |seed, tunnel: Option<Tunnel>| FlowHasher::new(seed).hash(&key, tunnel.as_ref());
        let hashes = [
            hash(1, None),
            hash(2, None),
            hash(1, Some(tunnel(1))),
            hash(1, Some(tunnel(2))),
            hash(2, Some(tunnel(1))),
        ];
        assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), hashes.len());
        assert_eq!(hash(1, None), hash(1, None));
    }
}
