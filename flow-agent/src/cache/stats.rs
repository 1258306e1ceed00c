//! What a shard has done, in plain counters: written by their owner, read by anybody.
//!
//! A shard counts in its own memory; its thread copies the sums into shared words after each
//! message. A reader takes no lock and stops nothing: each word is one that was there, but words
//! of one reading may be a message apart.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;

/// How much is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum StatsLevel {
    /// Size and memory alone.
    Off = 0,
    /// Hits, misses, departures and their rates as well.
    #[default]
    Counters = 1,
    /// Also latencies and flows with many packets.
    Full = 2,
}

impl StatsLevel {
    /// Every level.
    pub const ALL: [Self; 3] = [Self::Off, Self::Counters, Self::Full];

    /// The name in configuration and documents.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Counters => "counters",
            Self::Full => "full",
        }
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident => $label:literal,)*) => {
        /// What is counted. Values of all shards add up.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(usize)]
        pub enum Counter {
            $($(#[$doc])* $variant,)*
        }

        impl Counter {
            /// Every counter.
            pub const ALL: [Self; [$($label),*].len()] = [$(Self::$variant),*];

            /// The name in metrics and documents.
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)*
                }
            }
        }
    };
}

counters! {
    /// Updates that found their flow open.
    Hits => "hits",
    /// Updates that did not.
    Misses => "misses",
    /// Flows that were opened.
    Insertions => "insertions",
    /// Flows that left because no packet came (`idle_timeout`).
    LeftIdle => "left_idle",
    /// Records of flows that went on after their age limit (`active_timeout`).
    Continued => "continued",
    /// Flows that left because both ends had closed them (`end_of_flow`).
    LeftEnded => "left_ended",
    /// Flows that left because their entry was too old (`active_timeout`).
    LeftTtl => "left_ttl",
    /// Flows that left for another one, at the limit of flows (`lack_of_resources`).
    EvictedFull => "evicted_full",
    /// The same at the limit of memory.
    EvictedMemory => "evicted_memory",
    /// Flows that left because the limit was lowered (`lack_of_resources`).
    EvictedResize => "evicted_resize",
    /// Flows that left at the end (`forced_end`).
    LeftStopped => "left_stopped",
    /// Flows that a soft invalidation emitted and kept.
    InvalidatedSoft => "invalidated_soft",
    /// Flows that a hard invalidation removed (`forced_end`).
    InvalidatedHard => "invalidated_hard",
}

/// How many there are.
const COUNTERS: usize = Counter::ALL.len();

/// The counters of one shard, or their sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; COUNTERS]);

impl Counts {
    /// One of them.
    #[inline]
    pub const fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }

    /// Counts `many`.
    #[inline]
    pub const fn add(&mut self, counter: Counter, many: u64) {
        self.0[counter as usize] += many;
    }

    /// Flows that left before their time: for want of places or memory.
    pub const fn evictions(&self) -> u64 {
        self.get(Counter::EvictedFull)
            + self.get(Counter::EvictedMemory)
            + self.get(Counter::EvictedResize)
    }

    /// Flows that were invalidated, softly or not.
    pub const fn invalidations(&self) -> u64 {
        self.get(Counter::InvalidatedSoft) + self.get(Counter::InvalidatedHard)
    }
}

/// Per second, over the last 1, 5 and 15 minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Updates that found their flow open.
    pub hits: [f64; 3],
    /// Updates that did not.
    pub misses: [f64; 3],
    /// Flows that left before their time.
    pub evictions: [f64; 3],
}

/// What one shard says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ShardStats {
    /// Sums since it began.
    pub counts: Counts,
    /// Open and lingering flows.
    pub flows: u64,
    /// Memory that it has taken from the allocator, octets.
    pub bytes: u64,
    /// Flows that it may hold.
    pub max_flows: u64,
    /// Messages that waited for it when it last took one.
    pub queued: u64,
    /// When a flow last left for want of places or memory, on the clock of the updates, ns;
    /// 0 for never.
    pub last_eviction_ns: u64,
    /// How often, lately.
    pub rates: Rates,
}

/// What the whole cache says of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CacheStats {
    /// How much is counted.
    pub level: StatsLevel,
    /// Threads.
    pub shards: usize,
    /// The shards' sums; the last eviction is the latest.
    pub sum: ShardStats,
}

impl CacheStats {
    /// Updates that found their flow open, of all; none before the first update.
    pub fn hit_ratio(&self) -> Option<f64> {
        let (hits, misses) =
            (self.sum.counts.get(Counter::Hits), self.sum.counts.get(Counter::Misses));
        (hits + misses > 0).then(|| hits as f64 / (hits + misses) as f64)
    }
}

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

impl ShardStats {
    /// Adds another shard's.
    pub fn merge(&mut self, other: &Self) {
        for (sum, more) in self.counts.0.iter_mut().zip(other.counts.0) {
            *sum += more;
        }
        self.flows += other.flows;
        self.bytes += other.bytes;
        self.max_flows += other.max_flows;
        self.queued += other.queued;
        self.last_eviction_ns = self.last_eviction_ns.max(other.last_eviction_ns);
        for i in 0..3 {
            self.rates.hits[i] += other.rates.hits[i];
            self.rates.misses[i] += other.rates.misses[i];
            self.rates.evictions[i] += other.rates.evictions[i];
        }
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn labels_are_all_different() {
        let mut labels = Counter::ALL.map(Counter::label).to_vec();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), COUNTERS);
    }
}
