//! The keyed hash of a flow key, made of operations that BPF has.
//!
//! Pairs of words are added to secret keys, multiplied and summed: NH (Black et
//! al., UMAC, 1999; RFC 4418 section 5.2.2). Two flows that a sender chooses
//! without knowing the keys collide with a probability of 2^-32, and the
//! products need not wait for each other. The end only spreads the sum.

use crate::FlowKey;
use crate::random::SplitMix64;

/// Secret words, drawn at each start.
pub type HashKeys = [u32; 12];

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15; // 2^64 / golden ratio, odd

/// Hash of `key` under secret keys; `secret` gives the word of [`HashKeys`] at a
/// position. (The kernel side reads each from memory that its loader has set.)
#[inline(always)]
pub fn flow_hash(key: &FlowKey, secret: impl Fn(usize) -> u32) -> u64 {
    let product = |a: u32, b: u32, at: usize| {
        u64::from(a.wrapping_add(secret(at))) * u64::from(b.wrapping_add(secret(at + 1)))
    };
    let (src, dst) = (&key.src.0, &key.dst.0);
    let ports = u32::from(key.src_port) << 16 | u32::from(key.dst_port);
    let tags = u32::from(key.vlan_id) << 16 | u32::from(key.inner_vlan_id);
    let rest =
        u32::from(key.interface) << 16 | u32::from(key.protocol) << 8 | u32::from(key.direction);
    let mut sum = product(src[3], dst[3], 0)
        .wrapping_add(product(ports, tags, 2))
        .wrapping_add(product(rest, 0, 4));
    if !(key.src.is_mapped() && key.dst.is_mapped()) {
        sum = sum
            .wrapping_add(product(src[0], src[1], 6))
            .wrapping_add(product(src[2], dst[2], 8))
            .wrapping_add(product(dst[0], dst[1], 10));
    }
    let spread = (sum ^ (sum >> 32)).wrapping_mul(MULTIPLIER);
    spread ^ (spread >> 32)
}

/// Keys from a random seed.
pub fn keys_from(seed: u64) -> HashKeys {
    let mut random = SplitMix64::new(seed);
    core::array::from_fn(|_| (random.next() >> 32) as u32)
}
