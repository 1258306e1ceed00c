//! Sequence numbers of TCP connections whose flows have left a shard: where each goes on.
//!
//! Enters: connections as their flows leave. Leaves: the same, as their flows open again. It holds
//! that at least [`Sequences::new`]'s number of connections that left last are remembered: in
//! two tables, of which the one before is thrown away when the current one is full. A look-up
//! is one cache line, which can be fetched ahead.

use std::hash::BuildHasher;

use flow_common::{FlowKey, Tunnel};
use foldhash::fast::FixedState;

use super::prefetch;

/// What the two ends of a connection have sent so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    /// The next sequence number of each end.
    pub next: [u32; 2],
    /// Flags of all segments of each end.
    pub flags: [u8; 2],
}

/// The connections of a shard.
pub struct Sequences {
    current: Table,
    previous: Table,
    /// Connections in a table.
    most: usize,
}

/// Open addressing; three of four lines are used at most.
#[derive(Default)]
struct Table {
    lines: Vec<Line>,
    used: usize,
}

/// A connection, and where it was.
#[repr(C, align(64))]
#[derive(Clone, Copy, Default)]
struct Line {
    /// As the low end sends it.
    key: FlowKey,
    hash: u32,
    /// A hash of its tunnel, not 0; 0 for none.
    tunnel: u32,
    at: Sequence,
}

impl Line {
    /// A flow that was followed has flags.
    #[inline(always)]
    fn is_used(&self) -> bool {
        self.at.flags != [0; 2]
    }
}

const _: () = assert!(size_of::<Line>() == 64);

/// Lines of a table that has something in it.
const LEAST_LINES: usize = 64;

impl Sequences {
    /// Remembers at least so many connections.
    pub fn new(most: usize) -> Self {
        Self { current: Table::default(), previous: Table::default(), most: most.max(1) }
    }

    /// Has the processor fetch where the connection with this hash is, or would be.
    #[inline(always)]
    pub fn prefetch(&self, hash: u32) {
        if let Some(line) = self.current.lines.get(self.current.home(hash)) {
            prefetch(line);
        }
    }

    /// Where the connection with this key of the low end, this tunnel and their hash was when its
    /// flow left.
    pub fn of(&self, hash: u32, key: &FlowKey, tunnel: Option<&Tunnel>) -> Option<Sequence> {
        let tunnel = tunnel.map_or(0, mark);
        [&self.current, &self.previous]
            .into_iter()
            .find_map(|table| table.find(hash, key, tunnel).map(|at| table.lines[at].at))
    }

    /// Remembers where a connection is whose flow leaves.
    pub fn keep(&mut self, hash: u32, key: &FlowKey, tunnel: Option<&Tunnel>, at: Sequence) {
        let tunnel = tunnel.map_or(0, mark);
        if let Some(line) = self.current.find(hash, key, tunnel) {
            self.current.lines[line].at = at;
            return;
        }
        if self.current.used == self.most {
            std::mem::swap(&mut self.current, &mut self.previous);
            self.current.clear();
        }
        self.current.insert(Line { key: *key, hash, tunnel, at });
    }
}

#[cold]
fn mark(tunnel: &Tunnel) -> u32 {
    FixedState::with_seed(0).hash_one(*tunnel) as u32 | 1
}

impl Table {
    #[inline(always)]
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.lines.len() as u64) >> 32) as usize
    }

    #[inline(always)]
    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.lines.len() - 1)
    }

    /// Where a connection is.
    #[inline(always)]
    fn find(&self, hash: u32, key: &FlowKey, tunnel: u32) -> Option<usize> {
        let mut at = self.home(hash);
        loop {
            let line = self.lines.get(at).filter(|line| line.is_used())?;
            if line.hash == hash && line.key == *key && line.tunnel == tunnel {
                return Some(at);
            }
            at = self.after(at);
        }
    }

    /// Adds one that is not there.
    fn insert(&mut self, line: Line) {
        if (self.used + 1) * 4 > self.lines.len() * 3 {
            let larger = vec![Line::default(); (self.lines.len() * 2).max(LEAST_LINES)];
            for line in std::mem::replace(&mut self.lines, larger) {
                if line.is_used() {
                    let at = self.free(line.hash);
                    self.lines[at] = line;
                }
            }
        }
        self.used += 1;
        let at = self.free(line.hash);
        self.lines[at] = line;
    }

    fn free(&self, hash: u32) -> usize {
        let mut at = self.home(hash);
        while self.lines[at].is_used() {
            at = self.after(at);
        }
        at
    }

    fn clear(&mut self) {
        self.lines.fill(Line::default());
        self.used = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use flow_common::random::SplitMix64;
    use flow_common::tcp::flags::ACK;

    use super::*;

    /// Against a map that forgets nothing: as long as few enough others leave between, each
    /// connection is remembered, and so is each end.
    #[test]
    fn what_left_lately_is_remembered_whatever_shares_a_place() {
        const MOST: usize = 100;
        let (mut sequences, mut model) = (Sequences::new(MOST), HashMap::new());
        let mut random = SplitMix64::new(3);
        let tunnels = [None, Some(Tunnel { kind: 1, id: 7, ..Tunnel::NONE })];
        for step in 0..50_000_u32 {
            // A working set of 64 keys that moves on.
            let number = step / 200 + random.next() as u32 % 32;
            let tunnel = tunnels[random.next() as usize % 2].as_ref();
            let key = FlowKey { src_port: number as u16, ..FlowKey::default() };
            // Few hashes, so that places are shared.
            let hash = (number % 7) << 29;
            let was = model.get(&(number, tunnel.copied())).copied();
            assert_eq!(sequences.of(hash, &key, tunnel), was, "{step}");
            let next = [random.next() as u32, random.next() as u32];
            let now = Sequence { next, flags: [ACK, 0] };
            sequences.keep(hash, &key, tunnel, now);
            model.insert((number, tunnel.copied()), now);
        }
        assert!(sequences.current.lines.len() <= 4 * MOST);
    }
}
