//! Which packets are metered: the rules that the agent writes and the programs read.
//!
//! Every rule table has a part for each generation, and the agent writes a part
//! only while its generation is idle. So all packets of a generation met the same
//! rules, a change needs no re-attaching, and a drained count has one sampling weight.

use crate::FlowKey;
use crate::key::protocol;

/// What is switched on, in [`Filter::flags`].
pub mod flag {
    /// Packets of the connections in the map of own connections are left out.
    pub const OWN_TRAFFIC: u32 = 1;
    /// There are prefixes.
    pub const PREFIXES: u32 = 2;
    /// One of the addresses must be in an included prefix.
    pub const INCLUDE_PREFIXES: u32 = 4;
    /// There are ports.
    pub const PORTS: u32 = 8;
    /// One of the ports must be an included one.
    pub const INCLUDE_PORTS: u32 = 16;
    /// The protocol must be set in [`Filter::protocols`](super::Filter::protocols).
    pub const PROTOCOLS: u32 = 32;
    /// Flows are sampled.
    pub const SAMPLE_FLOWS: u32 = 64;
    /// Packets are sampled.
    pub const SAMPLE_PACKETS: u32 = 128;
}

/// The rules of one generation, as far as they are not in tables of their own.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Bits of [`flag`]; 0 means that every packet is metered.
    pub flags: u32,
    /// A sample is taken when its random number is at most this: `2^32 / N - 1`.
    pub threshold: u32,
    /// The port that the agent's own connections go to.
    pub own_port: u16,
    /// Pads to the alignment.
    pub reserved: [u16; 11],
    /// One bit for each protocol number that is metered.
    pub protocols: [u64; 4],
}

impl Filter {
    /// In words, as the agent writes it.
    pub fn words(&self) -> [u64; 8] {
        let mut octets = [0; 64];
        octets[..4].copy_from_slice(&self.flags.to_ne_bytes());
        octets[4..8].copy_from_slice(&self.threshold.to_ne_bytes());
        octets[8..10].copy_from_slice(&self.own_port.to_ne_bytes());
        let mut words = [0; 8];
        for (word, chunk) in words.iter_mut().zip(octets.as_chunks::<8>().0) {
            *word = u64::from_ne_bytes(*chunk);
        }
        words[4..].copy_from_slice(&self.protocols);
        words
    }
}

/// The rules of 64 ports, one bit for each.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortWord {
    /// Ports of which a packet must have one.
    pub include: u64,
    /// Ports that a packet must not have.
    pub exclude: u64,
}

/// [`PortWord`]s of a generation.
pub const PORT_WORDS: u32 = 65_536 / 64;

/// Prefixes in a configuration.
pub const MAX_PREFIXES: u32 = 1 << 16;

/// The agent's own connections that can be known at a time; each has two entries.
pub const MAX_OWN_CONNECTIONS: u32 = 1024;

/// What the longest matching prefix says of an address.
pub mod prefix {
    /// It is included.
    pub const INCLUDE: u32 = 1;
    /// It is excluded.
    pub const EXCLUDE: u32 = 2;

    use crate::Address;

    /// What stands before the address in the trie: generation and address family,
    /// so that `::/0` is not a prefix of IPv4 addresses.
    pub const HEAD_BITS: u32 = 32;
    /// Bits of a whole key.
    pub const KEY_BITS: u32 = HEAD_BITS + 128;

    /// The data of a trie key.
    #[inline(always)]
    pub fn data(generation: u32, address: &Address) -> [u32; 5] {
        let [a, b, c, d] = address.0;
        [generation << 1 | u32::from(address.is_mapped()), a, b, c, d]
    }
}

/// A connection as the packets of one direction show it.
pub type ConnectionKey = [u32; 9];

/// Addresses and ports of a packet.
#[inline(always)]
pub fn connection_key(key: &FlowKey) -> ConnectionKey {
    let (src, dst) = (&key.src.0, &key.dst.0);
    let ports = u32::from(key.src_port) << 16 | u32::from(key.dst_port);
    [src[0], src[1], src[2], src[3], dst[0], dst[1], dst[2], dst[3], ports]
}

/// True for protocols whose keys carry ports.
#[inline(always)]
pub const fn has_ports(key: &FlowKey) -> bool {
    matches!(
        key.protocol,
        protocol::TCP | protocol::UDP | protocol::UDP_LITE | protocol::SCTP | protocol::DCCP
    )
}

/// A number for a flow, the same for both its directions and wherever it is
/// observed, evenly spread for those who do not know the keys. Each end is mixed
/// by itself before the ends are added, so that no other pair of ends has their sum.
#[inline(always)]
pub fn sampling_hash(key: &FlowKey, secret: impl Fn(usize) -> u32) -> u32 {
    // ICMP type and code differ between question and answer.
    let (src_port, dst_port) = if key.is_icmp() { (0, 0) } else { (key.src_port, key.dst_port) };
    let product = |a: u32, b: u32, at: usize| {
        u64::from(a.wrapping_add(secret(at))) * u64::from(b.wrapping_add(secret(at + 1)))
    };
    let end = |address: &[u32; 4], port: u16| {
        let sum = product(address[3], u32::from(port), 0)
            .wrapping_add(product(address[1], address[2], 4))
            .wrapping_add(product(address[0], 0, 8));
        mix(sum)
    };
    let ends = end(&key.src.0, src_port).wrapping_add(end(&key.dst.0, dst_port));
    let whole = mix(ends ^ (u64::from(key.protocol) << 32 | u64::from(secret(3))));
    (whole >> 32) as u32
}

/// The finalizer of `SplitMix64`: every bit of the result depends on every bit of `z`.
#[inline(always)]
const fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The threshold for a sample of 1 in `rate`, at least 1.
pub const fn threshold(rate: u32) -> u32 {
    let rate = if rate == 0 { 1 } else { rate };
    ((1 << 32) / rate as u64 - 1) as u32
}

const _: () = assert!(size_of::<Filter>() == 64);
const _: () = {
    use core::mem::offset_of;
    assert!(offset_of!(Filter, flags) == 0 && offset_of!(Filter, threshold) == 4);
    assert!(offset_of!(Filter, own_port) == 8 && offset_of!(Filter, protocols) == 32);
};
const _: () = assert!(size_of::<PortWord>() == 16);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::keys_from;
    use crate::random::SplitMix64;

    fn reversed(key: &FlowKey) -> FlowKey {
        FlowKey {
            src: key.dst,
            dst: key.src,
            src_port: key.dst_port,
            dst_port: key.src_port,
            direction: 2,
            interface: 9,
            ..*key
        }
    }

    #[test]
    fn both_directions_are_sampled_together() {
        let mut random = SplitMix64::new(1);
        let keys = keys_from(2);
        let hash = |key: &FlowKey| sampling_hash(key, |at| keys[at]);
        for _ in 0..1000 {
            let mut word = || random.next() as u32;
            let key = FlowKey {
                src: crate::Address([word(), word(), word(), word()]),
                dst: crate::Address([word(), word(), word(), word()]),
                src_port: word() as u16,
                dst_port: word() as u16,
                protocol: protocol::TCP,
                ..FlowKey::default()
            };
            assert_eq!(hash(&key), hash(&reversed(&key)));
            assert_ne!(hash(&key), hash(&FlowKey { protocol: protocol::UDP, ..key }));
        }
        let ping = FlowKey { dst_port: 8 << 8, protocol: protocol::ICMP, ..FlowKey::default() };
        assert_eq!(hash(&ping), hash(&FlowKey { dst_port: 0, ..ping }));
    }

    /// Neighbouring addresses and ports, as real hosts have them.
    #[test]
    fn a_sample_is_as_large_as_asked() {
        for seed in 0..4 {
            let keys = keys_from(seed);
            for rate in [2, 10, 100] {
                let mut taken = 0;
                for flow in 0..100_000u32 {
                    let key = FlowKey {
                        src: [10, 0, (flow >> 8) as u8, flow as u8].into(),
                        dst: [10, 0, 0, (flow >> 4) as u8].into(),
                        src_port: 1024 + (flow % 1000) as u16,
                        dst_port: 443,
                        protocol: protocol::TCP,
                        ..FlowKey::default()
                    };
                    taken += u32::from(sampling_hash(&key, |at| keys[at]) <= threshold(rate));
                }
                // Five standard deviations of a binomial distribution.
                let expected = 100_000.0 / f64::from(rate);
                let difference = f64::from(taken) - expected;
                assert!(
                    difference * difference < 25.0 * expected,
                    "1 in {rate}, keys {seed}: {taken} of 100,000"
                );
            }
        }
    }

    #[test]
    fn thresholds_are_exact() {
        assert_eq!(threshold(1), u32::MAX);
        assert_eq!(threshold(2), u32::MAX / 2);
        assert_eq!(threshold(1 << 20), (1 << 12) - 1);
    }
}
