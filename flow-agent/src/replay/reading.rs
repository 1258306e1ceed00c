//! Reading a capture: its packets, parsed, as what each adds to a flow.
//!
//! Enters: a capture. Leaves: [`Batch`]es in the order of the packets. It holds that the same
//! packets make the same batches, whenever they are taken.

use std::sync::Arc;

use flow_common::tcp::flags::{ACK, SYN};
use flow_common::{Count, Link, NotMetered, Options, parse};

use super::ReplayError;
use super::capture::{Capture, LinkType, Packet};
use super::fragments::Fragments;
use super::sequences::Sequences;
use crate::delta::Delta;
use crate::ledger::{Entry, Ledger};

/// Packets of a batch: small enough for the second-level cache, large enough that handing one over
/// costs nothing.
const BATCH: usize = 1 << 12;

/// What packets that follow each other add to flows.
pub struct Batch {
    /// One for each metered packet.
    pub deltas: Vec<Delta>,
    /// Names of the interfaces so far; a number is the position plus one.
    pub interfaces: Arc<Vec<Arc<str>>>,
    /// Octets of the file read so far.
    pub octets_read: u64,
}

/// What is kept from packet to packet, and from capture to capture.
pub struct Reading {
    fragments: Fragments,
    sequences: Sequences,
    options: Options,
    /// Interface names; a number is the position plus one.
    interfaces: Arc<Vec<Arc<str>>>,
    /// What was counted on each interface, by number minus one.
    counts: Vec<Counts>,
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

impl Reading {
    /// Nothing was read yet. With `decapsulate`, packets in tunnels are metered as what the tunnels
    /// carry.
    pub fn new(decapsulate: bool) -> Self {
        Self {
            fragments: Fragments::default(),
            sequences: Sequences::default(),
            options: Options { decapsulate, super_packet: false },
            interfaces: Arc::default(),
            counts: Vec::new(),
        }
    }

    /// Names of the interfaces so far.
    pub fn interfaces(&self) -> &Arc<Vec<Arc<str>>> {
        &self.interfaces
    }

    /// Later fragments that were metered with ports 0.
    pub fn fragments_without_ports(&self) -> u64 {
        self.fragments.without_ports
    }

    /// Reads a whole capture. `give` takes a batch, and gives an empty list for the next one or
    /// none when nobody wants more.
    ///
    /// # Errors
    /// The file cannot be read or has an unsupported link type; the packets before were given.
    pub fn capture(
        &mut self,
        capture: &mut Capture,
        mut give: impl FnMut(Batch) -> Option<Vec<Delta>>,
    ) -> Result<(), ReplayError> {
        let mut deltas = Vec::with_capacity(BATCH);
        let read = self.packets(capture, &mut deltas, &mut give);
        give(self.batch(deltas, capture));
        read
    }

    fn packets(
        &mut self,
        capture: &mut Capture,
        deltas: &mut Vec<Delta>,
        give: &mut impl FnMut(Batch) -> Option<Vec<Delta>>,
    ) -> Result<(), ReplayError> {
        // The capture's interface indices to our numbers and links.
        let mut known: Vec<Known> = Vec::new();
        while let Some(packet) = capture.next_packet()? {
            let index = packet.interface as usize;
            let delta = if let Some(Known { number, link: Some(link) }) = known.get(index) {
                self.packet(&packet, *number, *link)
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
                self.packet(&packet, number, link)
            };
            deltas.extend(delta);
            if deltas.len() == BATCH {
                let batch = self.batch(std::mem::take(deltas), capture);
                let Some(empty) = give(batch) else { return Ok(()) };
                *deltas = empty;
            }
        }
        Ok(())
    }

    fn batch(&self, deltas: Vec<Delta>, capture: &Capture) -> Batch {
        let octets_read = capture.file_octets_read();
        Batch { deltas, interfaces: self.interfaces.clone(), octets_read }
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
                Arc::make_mut(&mut self.interfaces).push(interface.name.as_str().into());
                self.counts.push(Counts::default());
                self.interfaces.len() - 1
            });
            let number = u16::try_from(position + 1)
                .map_err(|_| ReplayError::Interfaces { file: capture.file().to_string() })?;
            known.push(Known { number, link: link(interface.link) });
        }
        Ok(())
    }

    /// What a packet adds to a flow, if it belongs to one.
    #[inline]
    fn packet(&mut self, packet: &Packet<'_>, number: u16, link: Link) -> Option<Delta> {
        let now = packet.time_ns;
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
                Some(Delta {
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
                })
            }
            Err((reason, octets)) => {
                counts.seen.add(1, u64::from(octets));
                counts.not_metered[reason as usize].add(1, u64::from(octets));
                None
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
