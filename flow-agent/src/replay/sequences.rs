//! Sequence numbers of the TCP connections of a lane: which segments were sent before.
//!
//! Enters: segments and their flows. Leaves: whether each repeats what was sent before. It holds
//! that at least [`Sequences::new`]'s number of connections that were seen last are remembered: in
//! two tables, of which the one before is thrown away when the current one is full. A look-up
//! is one cache line, which can be fetched ahead.

use std::hash::BuildHasher;

use flow_common::tcp::Segment;
use flow_common::{FlowKey, Tunnel};
use foldhash::fast::FixedState;

use crate::cache::{Side, of_low, prefetch};

/// Where the connections of a lane are.
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

/// A connection: which, and what its two ends have sent so far.
#[repr(C, align(64))]
#[derive(Clone, Copy, Default)]
struct Line {
    /// As the low end sends it.
    key: FlowKey,
    hash: u32,
    /// A hash of its tunnel, not 0; 0 for none.
    tunnel: u32,
    /// The next sequence number of each end.
    next: [u32; 2],
    /// Flags of all segments of each end.
    flags: [u8; 2],
    used: bool,
}

const _: () = assert!(size_of::<Line>() == 64);

/// Lines of a table that has something in it.
const LEAST_LINES: usize = 64;

impl Sequences {
    /// Remembers at least so many connections.
    pub fn new(most: usize) -> Self {
        Self { current: Table::default(), previous: Table::default(), most: most.max(1) }
    }

    /// Has the processor fetch what [`Sequences::repeats`] reads.
    #[inline(always)]
    pub fn prefetch(&self, hash: u32) {
        if let Some(line) = self.current.lines.get(self.current.home(hash)) {
            prefetch(line);
        }
    }

    /// True when the segment was sent before by `side` of the flow with this key of the low end
    /// and this hash.
    #[inline(always)]
    pub fn repeats(
        &mut self,
        segment: Segment,
        (key, side): (&FlowKey, Side),
        hash: u32,
        tunnel: Option<&Tunnel>,
    ) -> bool {
        let tunnel = tunnel.map_or(0, |tunnel| mark(&of_low(tunnel, side)));
        let line = match self.current.find(hash, key, tunnel) {
            Some(at) => &mut self.current.lines[at],
            None => self.remember(hash, key, tunnel),
        };
        let end = side as usize;
        let repeats;
        (line.next[end], repeats) = segment.follow(line.flags[end], line.next[end]);
        line.flags[end] |= segment.flags;
        repeats
    }

    /// A connection that is not in the current table.
    #[inline(never)]
    fn remember(&mut self, hash: u32, key: &FlowKey, tunnel: u32) -> &mut Line {
        let before = self.previous.find(hash, key, tunnel).map(|at| self.previous.lines[at]);
        if self.current.used == self.most {
            std::mem::swap(&mut self.current, &mut self.previous);
            self.current.clear();
        }
        let new = Line { key: *key, hash, tunnel, used: true, ..Line::default() };
        self.current.insert(before.unwrap_or(new))
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
            let line = self.lines.get(at).filter(|line| line.used)?;
            if line.hash == hash && line.key == *key && line.tunnel == tunnel {
                return Some(at);
            }
            at = self.after(at);
        }
    }

    /// Adds one that is not there.
    fn insert(&mut self, line: Line) -> &mut Line {
        if (self.used + 1) * 4 > self.lines.len() * 3 {
            let larger = vec![Line::default(); (self.lines.len() * 2).max(LEAST_LINES)];
            for line in std::mem::replace(&mut self.lines, larger) {
                if line.used {
                    let at = self.free(line.hash);
                    self.lines[at] = line;
                }
            }
        }
        self.used += 1;
        let at = self.free(line.hash);
        self.lines[at] = line;
        &mut self.lines[at]
    }

    fn free(&self, hash: u32) -> usize {
        let mut at = self.home(hash);
        while self.lines[at].used {
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

    /// Against a map that forgets nothing: as long as few enough others come between, each
    /// connection is remembered, and so is each end.
    #[test]
    fn what_was_seen_lately_is_remembered_whatever_shares_a_place() {
        const MOST: usize = 100;
        let (mut sequences, mut model) = (Sequences::new(MOST), HashMap::new());
        let mut random = SplitMix64::new(3);
        let tunnels = [None, Some(Tunnel { kind: 1, id: 7, ..Tunnel::NONE })];
        for step in 0..50_000_u32 {
            // A working set of 64 keys that moves on.
            let number = step / 200 + random.next() as u32 % 32;
            let tunnel = tunnels[random.next() as usize % 2].as_ref();
            let side = [Side::Low, Side::High][random.next() as usize % 2];
            let key = FlowKey { src_port: number as u16, ..FlowKey::default() };
            let seq = random.next() as u32 % 1000;
            let segment = Segment { seq, payload: 100, flags: ACK };
            // Few hashes, so that places are shared.
            let hash = (number % 7) << 29;
            let (flags, next): &mut (u8, u32) =
                model.entry((number, tunnel.copied(), side as u8)).or_default();
            let repeats;
            (*next, repeats) = segment.follow(*flags, *next);
            *flags |= ACK;
            assert_eq!(sequences.repeats(segment, (&key, side), hash, tunnel), repeats, "{step}");
        }
        assert!(sequences.current.lines.len() <= 4 * MOST);
    }
}
