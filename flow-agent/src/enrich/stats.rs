//! What the enrichment caches have done, for whoever shows it.
//!
//! The thread that uses the caches counts in plain numbers and publishes them once a batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one cache since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Look-ups that were answered.
    pub hits: u64,
    /// Look-ups without an answer.
    pub misses: u64,
    /// Answers taken in.
    pub insertions: u64,
    /// Answers that left because there was no room.
    pub evictions: u64,
    /// Look-ups in the background that were not begun because too many waited.
    pub refused: u64,
    /// Answers held now.
    pub entries: u64,
    /// Answers that can be held.
    pub capacity: u64,
}

/// The counters of one cache, with its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheReading {
    /// `services`, `interfaces`, `units`, `geoip` or `hosts`.
    pub cache: &'static str,
    /// As they were at the last batch.
    pub counts: Counts,
}

/// A handle on the counters of all caches; cheap to clone, reading makes nobody wait.
#[derive(Clone, Debug, Default)]
pub struct EnrichStats {
    caches: Arc<[(&'static str, Published)]>,
}

/// In the order of the fields of [`Counts`].
#[derive(Debug, Default)]
struct Published([AtomicU64; 7]);

impl EnrichStats {
    /// For caches of these names.
    #[cfg(any(feature = "live", test))]
    pub(super) fn new(names: &[&'static str]) -> Self {
        Self { caches: names.iter().map(|name| (*name, Published::default())).collect() }
    }

    /// Every cache that is switched on.
    pub fn read(&self) -> Vec<CacheReading> {
        let reading = |(cache, published): &(&'static str, Published)| CacheReading {
            cache,
            counts: published.read(),
        };
        self.caches.iter().map(reading).collect()
    }

    pub(super) fn publish(&self, cache: &str, counts: Counts) {
        if let Some((_, published)) = self.caches.iter().find(|(name, _)| *name == cache) {
            published.write(counts);
        }
    }
}

impl Published {
    fn write(&self, counts: Counts) {
        let Counts { hits, misses, insertions, evictions, refused, entries, capacity } = counts;
        let values = [hits, misses, insertions, evictions, refused, entries, capacity];
        for (field, value) in self.0.iter().zip(values) {
            field.store(value, Ordering::Relaxed);
        }
    }

    fn read(&self) -> Counts {
        let [hits, misses, insertions, evictions, refused, entries, capacity] =
            self.0.each_ref().map(|field| field.load(Ordering::Relaxed));
        Counts { hits, misses, insertions, evictions, refused, entries, capacity }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_read_by_every_clone() {
        let stats = EnrichStats::new(&["geoip", "hosts"]);
        let counts = Counts {
            hits: 1,
            misses: 2,
            insertions: 3,
            evictions: 4,
            refused: 5,
            entries: 6,
            capacity: 7,
        };
        stats.publish("hosts", counts);
        stats.publish("none", counts);
        let [geoip, hosts] = stats.clone().read().try_into().expect("two caches");
        assert_eq!(geoip, CacheReading { cache: "geoip", counts: Counts::default() });
        assert_eq!(hosts, CacheReading { cache: "hosts", counts });
    }
}
