//! Records of a classic pcap file enter, packets leave (draft-ietf-opsawg-pcap, sections 4 and 5).

use std::io;

use super::block::Place;
use super::interfaces::Interfaces;
use super::order::Order;
use super::window::Window;
use super::{End, LinkType, MAX_PACKET_OCTETS, Record, Step};

/// Octets of the file header.
pub(super) const FILE_HEADER_OCTETS: usize = 24;

/// Octets of a record's header.
const RECORD_HEADER_OCTETS: usize = 16;

/// A record's captured length up to this is never taken for damage (libpcap's `MAXIMUM_SNAPLEN`).
const USUAL_SNAPLEN: u32 = 256 << 10;

/// The variants told apart by the magic number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Variant {
    order: Order,
    /// Nanoseconds in a unit of the time's fraction.
    fraction_ns: u32,
    /// Octets of a record's header.
    record_octets: usize,
}

impl Variant {
    /// The variant of a file that starts with `magic`.
    pub(super) fn from_magic(magic: [u8; 4]) -> Option<Self> {
        [Order::Little, Order::Big].into_iter().find_map(|order| {
            let (fraction_ns, record_octets) = match order.u32(&magic, 0) {
                0xa1b2_c3d4 => (1_000, RECORD_HEADER_OCTETS),
                0xa1b2_3c4d => (1, RECORD_HEADER_OCTETS),
                // Kuznetzov's modified format (Linux, 1999): interface index, protocol and packet
                // type follow each record's header.
                0xa1b2_cd34 => (1_000, RECORD_HEADER_OCTETS + 8),
                _ => return None,
            };
            Some(Self { order, fraction_ns, record_octets })
        })
    }
}

/// Reads the records after the file header.
#[derive(Debug)]
pub(super) struct PcapReader {
    variant: Variant,
    lengths: Lengths,
    max_captured: u32,
    interface: u32,
    link: LinkType,
}

/// Order of the two lengths in a record, by the version of the file (libpcap, `sf-pcap.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lengths {
    CapturedFirst,
    WireFirst,
    /// Some writers of version 2.3 have it one way, some the other.
    SmallerIsCaptured,
}

impl PcapReader {
    /// Reads the file header. An error says what is not supported.
    pub(super) fn open(
        header: &[u8],
        variant: Variant,
        interfaces: &mut Interfaces,
    ) -> Result<Self, String> {
        let order = variant.order;
        let (major, minor) = (order.u16(header, 4), order.u16(header, 6));
        let lengths = match (major, minor) {
            (2, 0..=2) | (543, _) => Lengths::WireFirst,
            (2, 3) => Lengths::SmallerIsCaptured,
            (2, _) => Lengths::CapturedFirst,
            _ => return Err(format!("pcap version {major}.{minor} is not 2.x")),
        };
        let snaplen = order.u32(header, 16);
        // The upper half of the field says whether frames end with their check sequence.
        let link = LinkType(order.u32(header, 20) as u16);
        let interface = interfaces.describe(None, link).unwrap_or_default();
        let max_captured = snaplen.clamp(USUAL_SNAPLEN, MAX_PACKET_OCTETS);
        Ok(Self { variant, lengths, max_captured, interface, link })
    }

    /// Notes the records that are whole in `octets`, up to the first that needs another look; gives
    /// the octets that they take. `at` is where `octets` are in their buffer.
    pub(super) fn walk(&self, octets: &[u8], at: usize, places: &mut Vec<Place>) -> usize {
        match self.variant.order {
            // Two loops, each without a question of order.
            Order::Little => self.walk_in(octets, at, places, u32::from_le_bytes),
            Order::Big => self.walk_in(octets, at, places, u32::from_be_bytes),
        }
    }

    #[inline(always)]
    fn walk_in(
        &self,
        octets: &[u8],
        at: usize,
        places: &mut Vec<Place>,
        number: impl Fn([u8; 4]) -> u32,
    ) -> usize {
        if self.lengths != Lengths::CapturedFirst {
            return 0;
        }
        let record_octets = self.variant.record_octets;
        let mut rest = octets;
        while let Some(([seconds, fraction, captured, wire_octets], _)) =
            rest.as_chunks::<4>().0.split_first_chunk::<4>()
        {
            let captured = number(*captured);
            let record = record_octets + captured as usize;
            if captured > self.max_captured || record > rest.len() {
                break;
            }
            places.push(Place {
                time_ns: self.time_ns(number(*seconds), number(*fraction)),
                at: (at + octets.len() - rest.len() + record_octets) as u32,
                octets: captured,
                wire_octets: number(*wire_octets).max(captured),
                interface: self.interface,
            });
            rest = &rest[record..];
        }
        octets.len() - rest.len()
    }

    #[inline(always)]
    fn time_ns(&self, seconds: u32, fraction: u32) -> u64 {
        let fraction_ns = u64::from(fraction) * u64::from(self.variant.fraction_ns);
        u64::from(seconds) * 1_000_000_000 + fraction_ns
    }

    /// The next record.
    #[inline]
    pub(super) fn next(&self, window: &mut Window) -> io::Result<Step> {
        let Variant { order, record_octets, .. } = self.variant;
        if !window.need(record_octets)? {
            return Ok(Step::End(window.end_at(window.offset())));
        }
        let header = window.slice(window.ahead(RECORD_HEADER_OCTETS));
        let seconds = order.u32(header, 0);
        let fraction = order.u32(header, 4);
        let (first, second) = (order.u32(header, 8), order.u32(header, 12));
        let (captured, wire_octets) = match self.lengths {
            Lengths::CapturedFirst => (first, second),
            Lengths::WireFirst => (second, first),
            Lengths::SmallerIsCaptured => (first.min(second), first.max(second)),
        };
        if captured > self.max_captured {
            return Ok(Step::End(End::Corrupt {
                offset: window.offset(),
                reason: format!(
                    "a packet of {captured} captured octets, more than the {} possible here",
                    self.max_captured
                ),
            }));
        }
        let record = record_octets + captured as usize;
        if !window.need(record)? {
            return Ok(Step::End(window.end_at(window.offset())));
        }
        let range = window.ahead(record);
        window.advance(record);
        Ok(Step::Packet(Record {
            time_ns: self.time_ns(seconds, fraction),
            interface: self.interface,
            link: self.link,
            wire_octets,
            data: range.start + record_octets..range.end,
        }))
    }
}
