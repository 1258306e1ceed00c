//! A lane: some of the flows of a replay, with all that their packets need to be metered.
//!
//! Enters: parsed blocks in the order of the capture, and when the capture's clock had moved far
//! enough to look for flows that are over. Leaves: records. Lanes know nothing of each other, so
//! that any thread may work on any of them: what leaves a lane depends on what entered it alone.

use flow_common::Tunnel;

use super::metered::Metered;
use super::parsed::Parsed;
use crate::cache::{Shard, prefetch};
use crate::record::FlowRecord;

/// Packets whose flows are fetched together, before they are metered, so that the cache misses
/// overlap.
const CHUNK: usize = 32;

/// Some of the flows.
pub struct Lane {
    /// Open flows.
    pub shard: Shard,
    /// Emitted and not yet taken.
    pub records: Vec<FlowRecord>,
}

impl Lane {
    /// Of these flows.
    pub fn new(shard: Shard) -> Self {
        Self { shard, records: Vec::new() }
    }

    /// Meters this lane's packets of some blocks.
    pub fn meter<'a>(&mut self, number: usize, blocks: impl Iterator<Item = &'a Parsed>) {
        // The latest clock of those since the lane's last packet: whoever is due earlier is then,
        // too.
        let mut due: Option<u64> = None;
        for parsed in blocks {
            let mut rest = parsed.lanes[number].as_slice();
            for expiry in &parsed.expiries {
                let before = rest.partition_point(|packet| packet.position < expiry.position);
                self.packets(&rest[..before], parsed, &mut due);
                due = due.max(Some(expiry.now_ns));
                rest = &rest[before..];
            }
            self.packets(rest, parsed, &mut due);
        }
        if let Some(now_ns) = due {
            self.expire(now_ns);
        }
    }

    /// Meters some packets of a block, after the expiry that is due.
    fn packets(&mut self, packets: &[Metered], parsed: &Parsed, due: &mut Option<u64>) {
        if packets.is_empty() {
            return;
        }
        if let Some(now_ns) = due.take() {
            self.expire(now_ns);
        }
        let mut rest = packets;
        while !rest.is_empty() {
            let (packets, after) = rest.split_at(rest.len().min(CHUNK));
            self.fetch(packets, &after[..after.len().min(CHUNK)]);
            let slots = self.slots(packets);
            for (packet, slot) in packets.iter().zip(slots) {
                self.packet(packet, slot, parsed.tunnel(packet));
            }
            self.shard.place_stale();
            rest = after;
        }
    }

    /// Has the processor fetch what tells where the flows of these packets are, and the packets
    /// behind them.
    #[inline(always)]
    fn fetch(&self, packets: &[Metered], next: &[Metered]) {
        for packet in packets {
            self.shard.prefetch(packet.hash);
        }
        for packet in next {
            prefetch(&packet.time_ns);
            prefetch(&packet.hash);
        }
    }

    /// Where the flows of these packets probably are; has the processor fetch them.
    #[inline(always)]
    fn slots(&self, packets: &[Metered]) -> [u32; CHUNK] {
        let mut slots = [0; CHUNK];
        for (slot, packet) in slots.iter_mut().zip(packets) {
            *slot = self.shard.slot(packet.hash);
        }
        slots
    }

    #[inline(always)]
    fn packet(&mut self, packet: &Metered, slot: u32, tunnel: Option<&Tunnel>) {
        // Of this, no more is made than what is looked at.
        let delta = packet.delta(None);
        if !self.shard.go_on(slot, packet.sent(), tunnel, &delta) {
            self.rare(packet, tunnel);
        }
    }

    /// A packet that opens a flow, or ends one.
    #[inline(never)]
    fn rare(&mut self, packet: &Metered, tunnel: Option<&Tunnel>) {
        self.shard.apply_rare(&packet.delta(tunnel), packet.sent(), &mut self.records);
    }

    #[cold]
    fn expire(&mut self, now_ns: u64) {
        self.shard.place_stale();
        self.shard.expire(now_ns, &mut self.records);
    }
}
