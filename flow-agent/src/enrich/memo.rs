//! A bounded memory of answers: the least recently used leave first, and each has a time to live.

use std::hash::Hash;
use std::time::Duration;

use foldhash::fast::RandomState;
use lru::LruCache;

use super::stats::Counts;

/// How much is kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Entries, at least one.
    pub entries: usize,
    /// An answer older than this is none.
    pub ttl: Duration,
}

/// Answers by what was asked.
pub struct Memo<K: Hash + Eq, V> {
    answers: LruCache<K, Answer<V>, RandomState>,
    ttl_s: u32,
    counts: Counts,
}

struct Answer<V> {
    value: V,
    /// On the caller's clock, s.
    expires_s: u32,
}

impl<K: Hash + Eq, V> Memo<K, V> {
    /// An empty one.
    pub fn new(lifetime: Lifetime) -> Self {
        Self {
            // Its own limit would take the memory at once; `put_for` keeps to it instead.
            answers: LruCache::unbounded_with_hasher(RandomState::default()),
            ttl_s: u32::try_from(lifetime.ttl.as_secs()).unwrap_or(u32::MAX),
            counts: Counts { capacity: lifetime.entries.max(1) as u64, ..Counts::default() },
        }
    }

    /// What is known of `key` and has not expired.
    #[inline]
    pub fn get(&mut self, key: &K, now_s: u32) -> Option<&V> {
        let known = self.answers.get(key).filter(|answer| now_s < answer.expires_s);
        *(if known.is_some() { &mut self.counts.hits } else { &mut self.counts.misses }) += 1;
        known.map(|answer| &answer.value)
    }

    /// True if an answer is known and has not expired; one that is counts as used, but not as
    /// looked up.
    #[inline]
    pub fn touch(&mut self, key: &K, now_s: u32) -> bool {
        self.answers.get(key).is_some_and(|answer| now_s < answer.expires_s)
    }

    /// What is known of `key`, however old; this is no look-up.
    #[inline]
    pub fn peek(&self, key: &K) -> Option<&V> {
        self.answers.peek(key).map(|answer| &answer.value)
    }

    /// Keeps an answer for the usual time.
    pub fn put(&mut self, key: K, value: V, now_s: u32) {
        self.put_for(key, value, now_s, self.ttl_s);
    }

    /// Keeps an answer for `ttl_s` seconds.
    pub fn put_for(&mut self, key: K, value: V, now_s: u32, ttl_s: u32) {
        let capacity = self.counts.capacity as usize;
        self.counts.insertions += 1;
        if self.answers.len() >= capacity && !self.answers.contains(&key) {
            self.answers.pop_lru();
            self.counts.evictions += 1;
        }
        self.answers.put(key, Answer { value, expires_s: now_s.saturating_add(ttl_s) });
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.answers.clear();
    }

    /// What it has done so far.
    pub fn counts(&self) -> Counts {
        Counts { entries: self.answers.len() as u64, ..self.counts }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn memo(entries: usize, seconds: u64) -> Memo<u8, u32> {
        Memo::new(Lifetime { entries, ttl: Duration::from_secs(seconds) })
    }

    proptest! {
        /// Against a plain list: the same answers, never more entries than allowed.
        #[test]
        fn it_answers_as_a_list_of_the_last_used_does(
            entries in 1usize..6,
            steps in prop::collection::vec((0u8..10, any::<bool>(), 0u32..3), 0..200),
        ) {
            let mut memo = memo(entries, 5);
            let mut model: Vec<(u8, u32, u32)> = Vec::new(); // oldest first: key, value, expiry
            let mut now = 0;
            let mut expected = Counts { capacity: entries as u64, ..Counts::default() };
            for (number, (key, put, passed)) in steps.into_iter().enumerate() {
                now += passed;
                let at = model.iter().position(|(known, ..)| *known == key);
                let known = at.map(|at| model.remove(at));
                if put {
                    memo.put(key, number as u32, now);
                    expected.insertions += 1;
                    if known.is_none() && model.len() == entries {
                        model.remove(0);
                        expected.evictions += 1;
                    }
                    model.push((key, number as u32, now + 5));
                } else {
                    let fresh = known.filter(|(_, _, expiry)| now < *expiry).map(|(_, v, _)| v);
                    prop_assert_eq!(memo.get(&key, now).copied(), fresh);
                    *(if fresh.is_some() { &mut expected.hits } else { &mut expected.misses }) += 1;
                    model.extend(known);
                }
                expected.entries = model.len() as u64;
                prop_assert_eq!(memo.counts(), expected);
            }
        }
    }

    #[test]
    fn a_time_to_live_of_its_own() {
        let mut memo = memo(3, 100);
        memo.put_for(1, 10, 0, 2);
        assert_eq!((memo.get(&1, 1).copied(), memo.get(&1, 2).copied()), (Some(10), None));
        memo.put(2, 20, 0);
        memo.clear();
        assert_eq!(memo.get(&2, 0), None);
    }
}
