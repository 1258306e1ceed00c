//! The keyed hash of a flow key, made of operations that BPF has.
//!
//! Pairs of words are added to secret keys, multiplied and summed: NH (Black et
//! al., UMAC, 1999; RFC 4418 section 5.2.2). Two flows that a sender chooses
//! without knowing the keys collide with a probability of 2^-32, and the
//! products need not wait for each other. The end only spreads the sum.
//!
//! Both ends of a flow go into the same products with the same keys, so a flow and its
//! answers have the same hash but for the lowest bits, which tell the directions apart
//! (where a hook does, which on `lo` it does not). Other pairs that have the same hash
//! whatever the keys are: IPv6 flows whose ends have exchanged some of their words, and
//! all ICMP types and codes between two hosts, for an answer has another type than its
//! request.

use crate::random::SplitMix64;
use crate::{FlowKey, Tunnel};

/// Secret words, drawn at each start.
pub type HashKeys = [u32; 12];

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15; // 2^64 / golden ratio, odd

/// Hash of a flow key under secret keys; `secret` gives the word of [`HashKeys`]
/// at a position (the kernel side reads each from memory that its loader has set).
/// Of an IPv4 packet, only the words of the addresses that differ are read.
#[inline(always)]
pub fn flow_hash(key: &FlowKey, ipv4: bool, secret: impl Fn(usize) -> u32) -> u64 {
    let pair = |a: u32, b: u32, at: usize| {
        u64::from(a.wrapping_add(secret(at))) * u64::from(b.wrapping_add(secret(at)))
    };
    // Source in words 0 to 3, destination in 4 to 7, then ports, tags and the rest.
    let words = key.words();
    let ports = if key.is_icmp() { 0 } else { words[8] };
    let rest = words[10] & DIRECTION.wrapping_sub(1);
    let others =
        u64::from(words[9].wrapping_add(secret(1))) * u64::from(rest.wrapping_add(secret(2)));
    let mut sum = pair(words[3], words[7], 0)
        .wrapping_add(pair(ports & 0xffff, ports >> 16, 8))
        .wrapping_add(others);
    if !ipv4 {
        sum = sum
            .wrapping_add(pair(words[0], words[4], 3))
            .wrapping_add(pair(words[1], words[5], 4))
            .wrapping_add(pair(words[2], words[6], 5));
    }
    let spread = (sum ^ (sum >> 32)).wrapping_mul(MULTIPLIER);
    spread ^ (spread >> 32) ^ u64::from(words[10] / DIRECTION)
}

/// The direction is the most significant octet of the last word of a key.
const DIRECTION: u32 = 1 << 24;

/// What a tunnel adds (by exclusive or) to the hash of a flow in it; 0 for none.
#[inline(always)]
pub fn tunnel_hash(tunnel: &Tunnel, secret: impl Fn(usize) -> u32) -> u64 {
    let mark = tunnel.mark();
    if mark == 0 {
        return 0;
    }
    let product = u64::from(mark ^ secret(6)) * u64::from(secret(7) | 1);
    (product ^ (product >> 32)).wrapping_mul(MULTIPLIER)
}

/// Keys from a random seed.
pub fn keys_from(seed: u64) -> HashKeys {
    let mut random = SplitMix64::new(seed);
    core::array::from_fn(|_| (random.next() >> 32) as u32)
}
