//! The seeded hash of a flow key, made of operations that BPF has.

use crate::FlowKey;

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15; // 2^64 / golden ratio, odd

#[inline(always)]
const fn mix(hash: u64, word: u64) -> u64 {
    let product = (hash ^ word).wrapping_mul(MULTIPLIER);
    product ^ (product >> 32)
}

#[inline(always)]
const fn pair(low: u32, high: u32) -> u64 {
    (high as u64) << 32 | low as u64
}

/// Hash of `key` under `seed`; a random seed per start keeps a sender from
/// choosing colliding flows.
#[inline(always)]
pub const fn flow_hash(key: &FlowKey, seed: u64) -> u64 {
    let (src, dst) = (&key.src.0, &key.dst.0);
    let ports = (key.src_port as u64) << 48
        | (key.dst_port as u64) << 32
        | (key.vlan_id as u64) << 16
        | key.inner_vlan_id as u64;
    let rest = (key.interface as u64) << 16 | (key.protocol as u64) << 8 | key.direction as u64;
    // Two chains run side by side: half the latency of one.
    let mut a = mix(seed, pair(src[3], dst[3]));
    let mut b = mix(!seed, ports);
    if !(key.src.is_mapped() && key.dst.is_mapped()) {
        a = mix(mix(a, pair(src[0], src[1])), pair(src[2], dst[2]));
        b = mix(b, pair(dst[0], dst[1]));
    }
    mix(mix(a, rest), b)
}
