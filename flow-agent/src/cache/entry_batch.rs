//! Copies of table entries on their way to a shard.

use flow_common::Tunnel;
use flow_common::table::Entry;

use crate::drain::FlowEntry;

/// Up to 512 entries, 48 KiB, and the tunnels of those that came in one.
#[derive(Debug)]
pub struct EntryBatch {
    entries: Vec<Entry>,
    /// With the positions of their entries, which ascend.
    tunnels: Vec<(usize, Tunnel)>,
}

impl EntryBatch {
    const CAPACITY: usize = 512;

    /// An empty one.
    pub fn new() -> Self {
        Self { entries: Vec::with_capacity(Self::CAPACITY), tunnels: Vec::new() }
    }

    /// Copies an entry.
    #[inline]
    pub fn push(&mut self, entry: FlowEntry<'_>) {
        if !entry.tunnel.is_none() {
            self.tunnels.push((self.entries.len(), *entry.tunnel));
        }
        self.entries.push(Entry { hot: *entry.hot, cold: *entry.cold });
    }

    /// True when it should be sent.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.entries.len() >= Self::CAPACITY
    }

    /// True when nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries in the order they came.
    pub fn iter(&self) -> impl Iterator<Item = FlowEntry<'_>> {
        let mut tunnels = self.tunnels.iter().peekable();
        self.entries.iter().enumerate().map(move |(position, Entry { hot, cold })| {
            let own = tunnels.next_if(|(of, _)| *of == position);
            FlowEntry { hot, cold, tunnel: own.map_or(&Tunnel::NONE, |(_, tunnel)| tunnel) }
        })
    }

    /// Empties it; its memory stays.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.tunnels.clear();
    }
}
