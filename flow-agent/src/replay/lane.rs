//! A lane: some of the flows of a replay, with all that their packets need to be metered.
//!
//! Enters: parsed blocks in the order of the capture, and when the capture's clock had moved far
//! enough to look for flows that are over. Leaves: records. Lanes know nothing of each other, so
//! that any thread may work on any of them: what leaves a lane depends on what entered it alone.

use flow_common::Tunnel;

use super::metered::Metered;
use super::parsed::Parsed;
use super::sequences::Sequences;
use crate::cache::{Chunk, Shard, low_key, prefetch};
use crate::delta::Delta;
use crate::record::FlowRecord;

/// Packets between the fetch of what tells retransmissions and its use.
const AHEAD: usize = 8;

/// Packets between the fetch of a packet and that.
const FURTHER_AHEAD: usize = 12;

/// Some of the flows.
pub struct Lane {
    /// Open flows.
    pub shard: Shard,
    sequences: Sequences,
    /// Emitted and not yet taken.
    pub records: Vec<FlowRecord>,
}

impl Lane {
    /// Of these flows, with at least so many TCP connections remembered.
    pub fn new(shard: Shard, connections: usize) -> Self {
        Self { shard, sequences: Sequences::new(connections), records: Vec::new() }
    }

    /// Meters this lane's packets of some blocks.
    pub fn meter<'a>(&mut self, number: usize, blocks: impl Iterator<Item = &'a Parsed>) {
        let mut chunk = Chunk::default();
        // The latest clock of those since the lane's last packet: whoever is due earlier is then,
        // too.
        let mut due: Option<u64> = None;
        for parsed in blocks {
            let mut expiries = parsed.expiries.iter().peekable();
            let packets = &parsed.lanes[number];
            for (at, packet) in packets.iter().enumerate() {
                if let Some(next) = packets.get(at + AHEAD + FURTHER_AHEAD) {
                    prefetch(&next.time_ns);
                    prefetch(&next.hash);
                }
                if let Some(next) = packets.get(at + AHEAD) {
                    self.sequences.prefetch(next.hash);
                }
                while let Some(expiry) = expiries.next_if(|e| e.position <= packet.position) {
                    due = due.max(Some(expiry.now_ns));
                }
                if let Some(now_ns) = due.take() {
                    self.expire(now_ns, &mut chunk);
                }
                self.packet(packet, parsed.tunnel(packet), &mut chunk);
            }
            due = due.max(expiries.map(|expiry| expiry.now_ns).max());
        }
        if let Some(now_ns) = due {
            self.expire(now_ns, &mut chunk);
        }
        self.shard.update_chunk(&mut chunk, &mut self.records);
    }

    #[inline(always)]
    fn packet(&mut self, packet: &Metered, tunnel: Option<&Tunnel>, chunk: &mut Chunk<Delta>) {
        let (key, side) = low_key(&packet.key);
        let repeats = match packet.segment() {
            Some(segment) => self.sequences.repeats(segment, (&key, side), packet.hash, tunnel),
            None => false,
        };
        let delta = packet.delta(tunnel, repeats);
        self.shard.push_hashed(delta, (key, side), packet.hash, chunk, &mut self.records);
    }

    #[cold]
    fn expire(&mut self, now_ns: u64, chunk: &mut Chunk<Delta>) {
        self.shard.update_chunk(chunk, &mut self.records);
        self.shard.expire(now_ns, &mut self.records);
    }
}
