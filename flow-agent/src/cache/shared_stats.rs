//! A shard's counters where others read them: written by their owner, read by anybody.
//!
//! A shard counts in its own memory; its thread copies the sums here after each message. A reader
//! takes no lock and stops nothing: each word is one that was there, but words of one reading may
//! be a message apart.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;

use super::stats::{COUNTERS, Counts, Rates, ShardStats};

/// A shard's figures where others can read them; one thread writes.
#[derive(Debug, Default)]
pub struct SharedStats(CachePadded<[AtomicU64; SHARED]>);

/// Sizes, the last eviction, rates, counters.
const SHARED: usize = 5 + 9 + COUNTERS;

impl SharedStats {
    /// Writes everything; only the owner does.
    pub fn publish(&self, stats: &ShardStats) {
        let ShardStats { flows, bytes, max_flows, queued, last_eviction_ns, .. } = *stats;
        let sizes = [flows, bytes, max_flows, queued, last_eviction_ns];
        let Rates { hits, misses, evictions } = stats.rates;
        let rates = [hits, misses, evictions].into_iter().flatten().map(f64::to_bits);
        let words = sizes.into_iter().chain(rates).chain(stats.counts.0);
        for (shared, word) in self.0.iter().zip(words) {
            shared.store(word, Ordering::Relaxed);
        }
    }

    /// Reads everything.
    pub fn read(&self) -> ShardStats {
        let word = |index: usize| self.0[index].load(Ordering::Relaxed);
        let rates = |first: usize| [0, 1, 2].map(|i| f64::from_bits(word(first + i)));
        ShardStats {
            flows: word(0),
            bytes: word(1),
            max_flows: word(2),
            queued: word(3),
            last_eviction_ns: word(4),
            rates: Rates { hits: rates(5), misses: rates(8), evictions: rates(11) },
            counts: Counts(std::array::from_fn(|i| word(14 + i))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stats::Counter;
    use super::*;

    #[test]
    fn what_is_published_is_read() {
        let mut stats = ShardStats { flows: 3, bytes: 5, max_flows: 7, ..ShardStats::default() };
        (stats.queued, stats.last_eviction_ns) = (4, 9);
        stats.rates = Rates { hits: [1.5, 2.5, 3.5], misses: [4.5; 3], evictions: [0.0, 1.0, 2.0] };
        for (i, counter) in Counter::ALL.into_iter().enumerate() {
            stats.counts.add(counter, i as u64 + 1);
        }
        let shared = SharedStats::default();
        shared.publish(&stats);
        assert_eq!(shared.read(), stats);
        let mut twice = stats;
        twice.merge(&stats);
        assert_eq!((twice.flows, twice.counts.get(Counter::InvalidatedHard)), (6, 26));
        assert_eq!((twice.rates.evictions, twice.last_eviction_ns), ([0.0, 2.0, 4.0], 9));
    }
}
