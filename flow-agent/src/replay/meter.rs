//! Metering a capture: packets in, flow records out, on the capture's clock.
//!
//! It holds that the same packets give the same records in the same order.

use std::sync::Arc;

use flow_common::tcp::flags::{ACK, SYN};
use flow_common::{Count, Link, NotMetered, Options, parse};

use super::ReplayError;
use super::capture::{Capture, LinkType, Packet};
use super::fragments::Fragments;
use super::sequences::Sequences;
use crate::cache::{Limits, Shard, Timeouts};
use crate::delta::Delta;
use crate::ledger::{Entry, Ledger};
use crate::record::FlowRecord;

/// Flows are expired each time the capture's clock has moved this far.
const EXPIRY_STEP_NS: u64 = 100_000_000;

/// Packets between two reports of progress.
const PROGRESS_STEP: u64 = 1 << 14;

/// Meters captures one after the other; flows may go on from one to the next.
pub struct CaptureMeter {
    shard: Shard,
    fragments: Fragments,
    sequences: Sequences,
    options: Options,
    /// Interface names; a number is the position plus one.
    interfaces: Vec<Arc<str>>,
    /// What was counted on each interface, by number minus one.
    counts: Vec<Counts>,
    expired_at_ns: u64,
    packets: u64,
    records: Vec<FlowRecord>,
}

/// An interface of the capture that is being read.
struct Known {
    number: u16,
    /// None where the link type is not supported; that matters at its first packet.
    link: Option<Link>,
}

/// The books of one interface.
#[derive(Clone, Copy, Default)]
struct Counts {
    seen: Count,
    metered: Count,
    not_metered: [Count; NotMetered::COUNT],
}

impl CaptureMeter {
    /// A meter that has seen nothing. With `decapsulate`, packets in tunnels are metered as what
    /// the tunnels carry.
    pub fn new(max_flows: usize, timeouts: Timeouts, decapsulate: bool) -> Self {
        Self {
            // The seed is fixed: a replay gives the same rows each time.
            shard: Shard::new(Limits::new(max_flows, timeouts), 0),
            fragments: Fragments::default(),
            sequences: Sequences::default(),
            options: Options { decapsulate, super_packet: false },
            interfaces: Vec::new(),
            counts: Vec::new(),
            expired_at_ns: 0,
            packets: 0,
            records: Vec::new(),
        }
    }

    /// Names of the interfaces so far.
    pub fn interfaces(&self) -> &[Arc<str>] {
        &self.interfaces
    }

    /// What its flow cache has done.
    pub fn stats(&self) -> crate::cache::ShardStats {
        self.shard.stats()
    }

    /// Later fragments that were metered with ports 0.
    pub fn fragments_without_ports(&self) -> u64 {
        self.fragments.without_ports
    }

    /// Meters a whole capture. `out` is given the records as they end, `progress`
    /// the octets of the file read so far.
    ///
    /// # Errors
    /// The file cannot be read or has an unsupported link type, or `out` fails.
    pub fn capture(
        &mut self,
        capture: &mut Capture,
        mut progress: impl FnMut(u64),
        mut out: impl FnMut(&mut Vec<FlowRecord>, &[Arc<str>]) -> Result<(), ReplayError>,
    ) -> Result<(), ReplayError> {
        // The capture's interface indices to our numbers and links.
        let mut known: Vec<Known> = Vec::new();
        while let Some(packet) = capture.next_packet()? {
            let index = packet.interface as usize;
            if let Some(Known { number, link: Some(link) }) = known.get(index) {
                self.packet(&packet, *number, *link);
            } else {
                // Rare: the names are the capture's, which the packet borrows.
                let data = packet.data.to_vec();
                let Packet { time_ns, interface, link, wire_octets, .. } = packet;
                self.learn(capture, &mut known)?;
                let packet = Packet { time_ns, interface, link, wire_octets, data: &data };
                let Known { number, link } = known[index];
                let link = match link {
                    Some(link) => link,
                    None => parser_link(packet.link, capture, index)?,
                };
                self.packet(&packet, number, link);
            }
            if self.packets.is_multiple_of(PROGRESS_STEP) {
                progress(capture.file_octets_read());
            }
            if !self.records.is_empty() {
                out(&mut self.records, &self.interfaces)?;
            }
        }
        progress(capture.file_octets_read());
        Ok(())
    }

    /// Emits every open flow.
    ///
    /// # Errors
    /// `out` fails.
    pub fn finish(
        &mut self,
        mut out: impl FnMut(&mut Vec<FlowRecord>, &[Arc<str>]) -> Result<(), ReplayError>,
    ) -> Result<(), ReplayError> {
        self.shard.flush(&mut self.records);
        out(&mut self.records, &self.interfaces)
    }

    /// Writes what was seen into the ledger.
    pub fn post(&self, ledger: &Ledger) {
        for (position, counts) in self.counts.iter().enumerate() {
            let name = &self.interfaces[position];
            ledger.add(name, Entry::Seen, counts.seen);
            ledger.add(name, Entry::Drained, counts.metered);
            for (reason, count) in counts.not_metered.iter().enumerate() {
                ledger.add(name, Entry::NotMetered(reason as u8), *count);
            }
        }
    }

    fn learn(&mut self, capture: &Capture, known: &mut Vec<Known>) -> Result<(), ReplayError> {
        for interface in &capture.interfaces()[known.len()..] {
            // Flows go on in the next capture of the same interface; two interfaces
            // of one capture stay two, even if both have no name of their own.
            let taken = |position: usize| {
                known.iter().any(|known| usize::from(known.number) == position + 1)
            };
            let position = (0..self.interfaces.len()).find(|position| {
                *self.interfaces[*position] == *interface.name && !taken(*position)
            });
            let position = position.unwrap_or_else(|| {
                self.interfaces.push(interface.name.as_str().into());
                self.counts.push(Counts::default());
                self.interfaces.len() - 1
            });
            let number = u16::try_from(position + 1)
                .map_err(|_| ReplayError::Interfaces { file: capture.file().to_string() })?;
            known.push(Known { number, link: link(interface.link) });
        }
        Ok(())
    }

    fn packet(&mut self, packet: &Packet<'_>, number: u16, link: Link) {
        self.packets += 1;
        let now = packet.time_ns;
        if now >= self.expired_at_ns.saturating_add(EXPIRY_STEP_NS) || now < self.expired_at_ns {
            self.shard.expire(now, &mut self.records);
            self.expired_at_ns = now;
        }
        let counts = &mut self.counts[usize::from(number) - 1];
        match parse(packet.data, link, packet.wire_octets, None, self.options) {
            Ok(mut parsed) => {
                parsed.key.interface = number;
                self.fragments.tie(&mut parsed, now);
                let octets = u64::from(parsed.octets);
                counts.seen.add(1, octets);
                counts.metered.add(1, octets);
                let syn = parsed.tcp_flags & SYN != 0;
                let ack = parsed.tcp_flags & ACK != 0;
                let repeats = self.sequences.repeats(&parsed);
                let tunnel = (!parsed.tunnel.is_none()).then(|| Box::new(parsed.tunnel));
                let delta = Delta {
                    key: parsed.key,
                    tunnel,
                    packets: 1,
                    octets,
                    first_ns: now,
                    last_ns: now,
                    syn_ns: if syn { now } else { 0 },
                    ack_ns: if ack && !syn { now } else { 0 },
                    syn_packets: u32::from(syn && !ack),
                    syn_ack_packets: u32::from(syn && ack),
                    retransmits: u32::from(repeats),
                    tcp_flags: parsed.tcp_flags,
                    dscp: parsed.dscp(),
                    min_ttl: parsed.ttl,
                    max_ttl: parsed.ttl,
                    sampling: 1,
                };
                self.shard.update(&delta, &mut self.records);
            }
            Err((reason, octets)) => {
                counts.seen.add(1, u64::from(octets));
                counts.not_metered[reason as usize].add(1, u64::from(octets));
            }
        }
    }
}

/// The parser's name for the link type of an interface of `capture`.
///
/// # Errors
/// The parser cannot read it.
pub fn parser_link(
    link_type: LinkType,
    capture: &Capture,
    interface: usize,
) -> Result<Link, ReplayError> {
    link(link_type).ok_or_else(|| ReplayError::LinkType {
        file: capture.file().to_string(),
        interface: capture.interfaces()[interface].name.clone(),
        link: link_type,
    })
}

/// The parser's name for a capture's link type, if it can read it.
fn link(link: LinkType) -> Option<Link> {
    match link.canonical() {
        LinkType::ETHERNET => Some(Link::Ethernet),
        LinkType::RAW | LinkType::IPV4 | LinkType::IPV6 => Some(Link::RawIp),
        LinkType::LINUX_SLL => Some(Link::LinuxSll),
        LinkType::LINUX_SLL2 => Some(Link::LinuxSll2),
        LinkType::NULL | LinkType::LOOP => Some(Link::BsdLoopback),
        _ => None,
    }
}
