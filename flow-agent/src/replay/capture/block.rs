//! Packets that follow each other, in the memory that they were read into: what one thread reads
//! and another one parses.

use super::Packet;
use super::link::LinkType;
use crate::cache::prefetch;

/// Some of a capture's packets; its memory is used again.
#[derive(Debug, Default)]
pub struct Block {
    pub(super) buffer: Vec<u8>,
    pub(super) places: Vec<Place>,
    /// What the packets of each interface begin with.
    pub(super) links: Vec<LinkType>,
}

/// Packets of one interface that follow each other.
pub struct Run<P> {
    /// Index into [`super::Capture::interfaces`].
    pub interface: u32,
    /// The position of the first packet in its block.
    pub first: usize,
    /// The packets.
    pub packets: P,
}

/// Where a packet is in the buffer, and what the capture says of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) time_ns: u64,
    pub(super) at: u32,
    pub(super) octets: u32,
    pub(super) wire_octets: u32,
    pub(super) interface: u32,
}

impl Block {
    /// The packets, in the order of the capture.
    #[inline]
    pub fn packets(&self) -> impl ExactSizeIterator<Item = Packet<'_>> {
        self.places.iter().map(|place| self.packet(place))
    }

    /// The packets by runs of the same interface: its index, the position of the first packet, and
    /// the packets.
    #[inline]
    pub fn runs(&self) -> impl Iterator<Item = Run<impl ExactSizeIterator<Item = Packet<'_>>>> {
        let mut position = 0;
        self.places.chunk_by(|a, b| a.interface == b.interface).map(move |places| {
            let first = position;
            position += places.len();
            let interface = places[0].interface;
            Run { interface, first, packets: places.iter().map(|place| self.packet(place)) }
        })
    }

    #[inline(always)]
    fn packet(&self, place: &Place) -> Packet<'_> {
        let at = place.at as usize;
        Packet {
            time_ns: place.time_ns,
            interface: place.interface,
            link: self.links[place.interface as usize],
            wire_octets: place.wire_octets,
            data: &self.buffer[at..at + place.octets as usize],
        }
    }

    /// Has the processor fetch the headers of the packet at this position, if there is one.
    #[inline(always)]
    pub fn prefetch(&self, position: usize) {
        let Some(place) = self.places.get(position) else { return };
        let start = place.at as usize;
        for at in [start, start + 63] {
            if let Some(octet) = self.buffer.get(at) {
                prefetch(octet);
            }
        }
    }

    /// Forgets the packets from this position on.
    pub fn truncate(&mut self, packets: usize) {
        self.places.truncate(packets);
    }
}
