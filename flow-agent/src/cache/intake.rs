//! The intake: entries of a drain, sorted into batches for the shards.
//!
//! Batches are recycled: memory that is fresh for each drain costs more than the
//! copying, and what a shard has just emptied is still in the processor's cache.

use crossbeam::channel::{Receiver, Sender};
use flow_common::FlowKey;
use flow_common::random::SplitMix64;

use super::entry_batch::EntryBatch;
use super::shards::{Message, send};
use crate::drain::{FlowEntry, Interval};

/// Where a drain's entries go in.
pub struct Intake {
    shards: Vec<Sender<Message>>,
    /// What each shard will be sent next.
    batches: Vec<EntryBatch>,
    spare: Receiver<EntryBatch>,
    router: Router,
}

impl Intake {
    pub(super) fn new(
        shards: Vec<Sender<Message>>,
        spare: Receiver<EntryBatch>,
        seed: u64,
    ) -> Self {
        let batches = shards.iter().map(|_| EntryBatch::new()).collect();
        let router = Router::new(seed, shards.len());
        Self { shards, batches, spare, router }
    }

    /// Puts an entry into the batch of the shard that owns its flow.
    #[inline(always)]
    pub fn add(&mut self, entry: FlowEntry<'_>, interval: &Interval) {
        let shard = self.router.shard(&entry.hot.key);
        let batch = &mut self.batches[shard];
        batch.push(entry);
        if batch.is_full() {
            self.send(shard, interval);
        }
    }

    /// Sends what has been added since the last full batches: the drain is over.
    pub fn flush(&mut self, interval: &Interval) {
        for shard in 0..self.shards.len() {
            if !self.batches[shard].is_empty() {
                self.send(shard, interval);
            }
        }
    }

    #[cold]
    fn send(&mut self, shard: usize, interval: &Interval) {
        let next = self.spare.try_recv().unwrap_or_else(|_| EntryBatch::new());
        let batch = std::mem::replace(&mut self.batches[shard], next);
        send(&self.shards[shard], Message::Update { batch, interval: *interval });
    }
}

/// Chooses a flow's shard: both directions have the same one, and a sender who does
/// not know the seed cannot choose it.
struct Router {
    keys: [u64; 3],
    shards: u64,
}

impl Router {
    fn new(seed: u64, shards: usize) -> Self {
        let mut random = SplitMix64::new(seed);
        let keys = [random.next(), random.next(), random.next() | 1];
        Self { keys, shards: shards as u64 }
    }

    #[inline]
    fn shard(&self, key: &FlowKey) -> usize {
        if self.shards == 1 {
            return 0;
        }
        // ICMP type and code are no ports: an answer has others than its request.
        let (src_port, dst_port) =
            if key.is_icmp() { (0, 0) } else { (key.src_port, key.dst_port) };
        let sum = self.end(&key.src.0, src_port).wrapping_add(self.end(&key.dst.0, dst_port));
        let spread = (sum ^ (sum >> 32)).wrapping_mul(self.keys[2]) >> 32;
        ((spread * self.shards) >> 32) as usize
    }

    /// The hash of one end.
    #[inline]
    fn end(&self, [a, b, c, d]: &[u32; 4], port: u16) -> u64 {
        let network = u64::from(*a) << 32 | u64::from(*b);
        let host = u64::from(*c ^ u32::from(port) << 16) << 32 | u64::from(*d);
        let product = u128::from(host ^ self.keys[0])
            * u128::from(network.rotate_left(17) ^ u64::from(port) ^ self.keys[1]);
        product as u64 ^ (product >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(src: u32, dst: u32, src_port: u16, dst_port: u16) -> FlowKey {
        FlowKey {
            src: src.to_be_bytes().into(),
            dst: dst.to_be_bytes().into(),
            src_port,
            dst_port,
            protocol: 6,
            ..FlowKey::default()
        }
    }

    #[test]
    fn both_directions_have_one_shard_and_shards_have_like_shares() {
        let router = Router::new(7, 7);
        let mut shares = [0; 7];
        for flow in 0..70_000u32 {
            let (port, host) = (flow as u16, flow.wrapping_mul(31));
            let shard = router.shard(&key(host, 1, port, 443));
            assert_eq!(shard, router.shard(&key(1, host, 443, port)));
            shares[shard] += 1;
        }
        assert!(shares.iter().all(|share| (9_000..11_000).contains(share)), "{shares:?}");
    }

    #[test]
    fn ports_alone_and_addresses_alone_spread() {
        let router = Router::new(9, 8);
        for by_port in [true, false] {
            let mut shares = [0; 8];
            for flow in 0..8_000u32 {
                let key = if by_port { key(1, 2, flow as u16, 443) } else { key(flow, 2, 53, 53) };
                shares[router.shard(&key)] += 1;
            }
            assert!(shares.iter().all(|share| (800..1200).contains(share)), "{shares:?}");
        }
    }

    #[test]
    fn an_echo_reply_has_the_shard_of_its_request() {
        let router = Router::new(3, 64);
        let request = FlowKey { protocol: 1, ..key(5, 6, 0, 8 << 8) };
        let reply = FlowKey { protocol: 1, ..key(6, 5, 0, 0) };
        assert_eq!(router.shard(&request), router.shard(&reply));
    }
}
