//! Which part of the sets a flow is in, when several threads share them.

use std::ops::Range;

use flow_common::hash::{HashKeys, flow_hash, keys_from, tunnel_hash};
use flow_common::{FlowKey, Tunnel};

use crate::attach::TableSize;

/// The sets of every CPU, split into parts of whole words of the bitmap of sets. The hash of a
/// flow differs from that of its answers in bits inside a word only, so a connection is in one
/// part; and a sender who does not know the seed cannot choose it.
#[derive(Clone, Debug)]
pub struct Partition {
    keys: HashKeys,
    sets_per_region: u32,
    parts: usize,
}

impl Partition {
    /// `parts` parts, for programs that were loaded with this size and seed.
    ///
    /// # Panics
    /// When there are fewer words than parts.
    pub fn new(size: TableSize, seed: u64, parts: usize) -> Self {
        assert!((1..=size.dirty_words() as usize).contains(&parts), "a word for each part");
        Self { keys: keys_from(seed), sets_per_region: size.sets_per_region, parts }
    }

    /// The most parts that are of like size, if as many as `wanted` are not: a part of few
    /// words would otherwise have half the flows of its neighbour, which has one word more.
    pub fn even_parts(size: TableSize, wanted: usize) -> usize {
        let words = size.dirty_words() as usize; // a power of two
        let wanted = wanted.clamp(1, words);
        if words / wanted >= 8 { wanted } else { 1 << wanted.ilog2() }
    }

    /// How many parts there are.
    pub fn parts(&self) -> usize {
        self.parts
    }

    /// The part of a flow. Of an IPv6 packet with a mapped address, which no host should
    /// send, it may be another one than that of its set: then the flow makes two records.
    pub fn part(&self, key: &FlowKey, tunnel: &Tunnel) -> usize {
        let secret = |at: usize| self.keys[at];
        let hash = flow_hash(key, key.src.is_mapped(), secret) ^ tunnel_hash(tunnel, secret);
        let set = hash as u32 & (self.sets_per_region - 1);
        (u64::from(set / 64) * self.parts as u64 / u64::from(self.sets_per_region / 64)) as usize
    }

    /// The words of a region's bitmap that belong to a part, of so many.
    pub fn words(words: u32, part: usize, parts: usize) -> Range<usize> {
        let first = |part: usize| (part * words as usize).div_ceil(parts);
        first(part)..first(part + 1)
    }
}

#[cfg(test)]
mod tests {
    use flow_common::{Direction, TunnelKind};

    use super::*;

    fn size(sets_per_region: u32) -> TableSize {
        TableSize { cpus: 2, sets_per_region, interfaces: 256, tunnels: true }
    }

    fn key(src: u32, dst: u32, src_port: u16, dst_port: u16) -> FlowKey {
        FlowKey {
            src: src.to_be_bytes().into(),
            dst: dst.to_be_bytes().into(),
            src_port,
            dst_port,
            protocol: 6,
            direction: Direction::Ingress as u8,
            interface: 3,
            ..FlowKey::default()
        }
    }

    fn answer(key: FlowKey) -> FlowKey {
        FlowKey {
            src: key.dst,
            dst: key.src,
            src_port: key.dst_port,
            dst_port: key.src_port,
            direction: Direction::Egress as u8,
            ..key
        }
    }

    #[test]
    fn every_word_has_one_part_and_parts_are_of_like_size() {
        for sets in (8..=20).map(|power| 1 << power) {
            for wanted in 1..=256 {
                let parts = Partition::even_parts(size(sets), wanted);
                assert!(parts <= wanted && parts * 2 > wanted.min(sets as usize / 64));
                let words: Vec<Vec<usize>> = (0..parts)
                    .map(|part| Partition::words(sets / 64, part, parts).collect())
                    .collect();
                assert!(words.concat().into_iter().eq(0..sets as usize / 64), "{sets}, {parts}");
                let least = words.iter().map(Vec::len).min();
                let most = words.iter().map(Vec::len).max();
                assert!(most <= least.map(|least| least + least.div_ceil(8)), "{sets}, {parts}");
            }
        }
    }

    #[test]
    fn a_flow_is_in_the_part_that_has_its_set() {
        let partition = Partition::new(size(1024), 7, 5);
        for flow in 0..10_000 {
            let key = key(flow, 1, flow as u16, 443);
            let hash = flow_hash(&key, true, |at| partition.keys[at]);
            let word = (hash as usize & 1023) / 64;
            let part = partition.part(&key, &Tunnel::NONE);
            assert!(Partition::words(16, part, 5).contains(&word));
        }
    }

    #[test]
    fn answers_have_the_same_part_and_parts_have_like_shares() {
        let partition = Partition::new(size(1 << 15), 7, 7);
        let mut shares = [0; 7];
        for flow in 0..70_000u32 {
            let key = key(flow.wrapping_mul(31), 1, flow as u16, 443);
            let tunnel = Tunnel {
                kind: TunnelKind::Vxlan as u32,
                id: flow % 5,
                src: [10, 0, 0, 1].into(),
                dst: flow.to_be_bytes().into(),
            };
            for tunnel in [Tunnel::NONE, tunnel] {
                let part = partition.part(&key, &tunnel);
                assert_eq!(part, partition.part(&answer(key), &tunnel.reversed()));
                shares[part] += 1;
            }
        }
        assert!(shares.iter().all(|share| (18_000..22_000).contains(share)), "{shares:?}");
    }

    #[test]
    fn ports_alone_and_addresses_alone_spread() {
        let partition = Partition::new(size(1 << 15), 9, 8);
        for by_port in [true, false] {
            let mut shares = [0; 8];
            for flow in 0..8_000u32 {
                let key = if by_port { key(1, 2, flow as u16, 443) } else { key(flow, 2, 53, 53) };
                shares[partition.part(&key, &Tunnel::NONE)] += 1;
            }
            assert!(shares.iter().all(|share| (800..1200).contains(share)), "{shares:?}");
        }
    }

    #[test]
    fn an_echo_reply_has_the_part_of_its_request() {
        let partition = Partition::new(size(1 << 15), 3, 64);
        for host in 0..1000 {
            let request = FlowKey { protocol: 1, ..key(5, host, 0, 8 << 8) };
            let reply = FlowKey { dst_port: 0, src_port: 0, ..answer(request) };
            let part = |key: &FlowKey| partition.part(key, &Tunnel::NONE);
            assert_eq!(part(&request), part(&reply));
        }
    }
}
