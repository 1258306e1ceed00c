//! Copies of table entries on their way to a shard.

use bytemuck::Zeroable;
use flow_common::Tunnel;
use flow_common::table::Entry;

use crate::drain::FlowEntry;

/// Up to 1,024 entries, 96 KiB, and the tunnels of those that came in one.
#[derive(Debug)]
pub struct EntryBatch {
    /// As many as there may be; those behind `len` mean nothing.
    entries: Box<[Entry]>,
    len: usize,
    /// With the positions of their entries, which ascend.
    tunnels: Vec<(usize, Tunnel)>,
}

impl EntryBatch {
    const CAPACITY: usize = 1024;

    /// An empty one.
    pub fn new() -> Self {
        let entries = vec![Entry::zeroed(); Self::CAPACITY].into();
        Self { entries, len: 0, tunnels: Vec::new() }
    }

    /// Copies an entry.
    ///
    /// # Panics
    /// When it is full.
    #[inline(always)]
    pub fn push(&mut self, entry: FlowEntry<'_>) {
        if !entry.tunnel.is_none() {
            self.tunnels.push((self.len, *entry.tunnel));
        }
        // Line by line: a whole entry would go over the stack.
        let place = &mut self.entries[self.len];
        place.hot = *entry.hot;
        place.first_ns = entry.first_ns;
        place.tcp = *entry.tcp;
        self.len += 1;
    }

    /// True when it should be sent.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.len == Self::CAPACITY
    }

    /// True when nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entries in the order they came.
    pub fn iter(&self) -> impl Iterator<Item = FlowEntry<'_>> {
        let mut tunnels = self.tunnels.iter().peekable();
        self.entries[..self.len].iter().enumerate().map(move |(position, entry)| {
            let own = tunnels.next_if(|(of, _)| *of == position);
            let Entry { hot, first_ns, tcp } = entry;
            let tunnel = own.map_or(&Tunnel::NONE, |(_, tunnel)| tunnel);
            FlowEntry { hot, first_ns: *first_ns, tcp, tunnel }
        })
    }

    /// Empties it; its memory stays.
    pub fn clear(&mut self) {
        self.len = 0;
        self.tunnels.clear();
    }
}
