//! A table with a fixed bound: what was touched least recently makes room, and is counted.

use std::hash::Hash;

use foldhash::fast::RandomState;
use lru::LruCache;
use serde::Serialize;

/// How full a bounded structure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Size {
    /// What it holds.
    pub name: &'static str,
    /// Entries now.
    pub entries: usize,
    /// Entries at most.
    pub limit: usize,
    /// Entries that had to make room since the start.
    pub forgotten: u64,
}

/// Keys with values, at most `limit` of them.
#[derive(Debug)]
pub struct Bounded<K: Hash + Eq, V> {
    entries: LruCache<K, V, RandomState>,
    limit: usize,
    forgotten: u64,
}

impl<K: Hash + Eq, V> Bounded<K, V> {
    /// An empty one; memory is taken as it fills.
    pub fn new(limit: usize) -> Self {
        let entries = LruCache::unbounded_with_hasher(RandomState::default());
        Self { entries, limit: limit.max(1), forgotten: 0 }
    }

    /// The value of a key, which counts as touched.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key)
    }

    /// True if the key is there; it is not touched.
    pub fn contains(&self, key: &K) -> bool {
        self.entries.contains(key)
    }

    /// The value of a key, made if there is none; the entry that had to make room, if any.
    pub fn entry(&mut self, key: K, make: impl FnOnce() -> V) -> (&mut V, Option<(K, V)>) {
        let full = self.entries.len() >= self.limit && !self.entries.contains(&key);
        let out = if full { self.entries.pop_lru() } else { None };
        self.forgotten += u64::from(out.is_some());
        (self.entries.get_or_insert_mut(key, make), out)
    }

    /// Removes what was touched least recently, for as long as `is_old` says so.
    pub fn expire(&mut self, mut is_old: impl FnMut(&V) -> bool) {
        while self.entries.peek_lru().is_some_and(|(_, value)| is_old(value)) {
            self.entries.pop_lru();
        }
    }

    /// Everything, most recently touched first.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter()
    }

    /// Everything, most recently touched first.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.entries.iter_mut()
    }

    /// How full it is.
    pub fn size(&self, name: &'static str) -> Size {
        Size { name, entries: self.entries.len(), limit: self.limit, forgotten: self.forgotten }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_touched_makes_room_and_is_counted() {
        let mut table = Bounded::new(2);
        assert!(table.entry(1, || 'a').1.is_none());
        table.entry(2, || 'b');
        assert_eq!(table.get_mut(&1), Some(&mut 'a'));
        assert_eq!(table.entry(3, || 'c').1, Some((2, 'b')));
        assert_eq!(table.entry(1, || 'x').0, &'a');
        assert_eq!(table.size("t"), Size { name: "t", entries: 2, limit: 2, forgotten: 1 });
        table.expire(|value| *value == 'c');
        assert_eq!(table.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [1]);
    }
}
