//! What a shard has done, in plain counters.

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
    /// Records of flows that went on after their record's age by the clock (`active_timeout`).
    Ttl => "ttl",
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
pub(super) const COUNTERS: usize = Counter::ALL.len();

/// The counters of one shard, or their sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub(super) [u64; COUNTERS]);

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
    fn labels_are_all_different() {
        let mut labels = Counter::ALL.map(Counter::label).to_vec();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), COUNTERS);
    }
}
