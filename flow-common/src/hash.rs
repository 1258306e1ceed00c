//! The seeded hash of a flow key, made of operations that BPF has.

use crate::FlowKey;

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15; // 2^64 / golden ratio, odd

#[inline(always)]
const fn mix(hash: u64, word: u64) -> u64 {
    let product = (hash ^ word).wrapping_mul(MULTIPLIER);
    product ^ (product >> 32)
}

#[inline(always)]
const fn word(bytes: &[u8; 16], high: bool) -> u64 {
    let o = if high { 8 } else { 0 };
    u64::from_ne_bytes([
        bytes[o],
        bytes[o + 1],
        bytes[o + 2],
        bytes[o + 3],
        bytes[o + 4],
        bytes[o + 5],
        bytes[o + 6],
        bytes[o + 7],
    ])
}

/// Hash of `key` under `seed`; a random seed per start keeps a sender from
/// choosing colliding flows.
#[inline(always)]
pub const fn flow_hash(key: &FlowKey, seed: u64) -> u64 {
    let ports = (key.src_port as u64) << 48
        | (key.dst_port as u64) << 32
        | (key.vlan_id as u64) << 16
        | key.inner_vlan_id as u64;
    let rest = (key.interface as u64) << 16 | (key.protocol as u64) << 8 | key.direction as u64;
    // Two chains run side by side: half the latency of one.
    let a = mix(mix(seed, word(&key.src, true)), word(&key.src, false) ^ rest);
    let b = mix(mix(!seed, word(&key.dst, true)), word(&key.dst, false));
    mix(mix(a, b), ports)
}
