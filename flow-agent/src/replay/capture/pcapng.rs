//! Blocks of a pcapng file enter, packets leave; other blocks are skipped
//! (draft-ietf-opsawg-pcapng, sections 3 and 4).
//!
//! What must hold: a packet is yielded only if its whole block is there and its two lengths agree.

use std::io;

use super::interfaces::Interfaces;
use super::order::Order;
use super::resolution::Resolution;
use super::window::Window;
use super::{End, LinkType, MAX_PACKET_OCTETS, Record, Step};

/// Type of a Section Header Block: the same in both byte orders.
pub(super) const SECTION_HEADER: u32 = 0x0a0d_0d0a;

/// Octets of a Section Header Block without options.
pub(super) const SECTION_HEADER_OCTETS: usize = 28;

const INTERFACE_DESCRIPTION: u32 = 1;
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Octets of the type and the first length of a block.
const PREFIX_OCTETS: usize = 8;

/// Octets of a block without a body: type, length, length.
const BLOCK_OCTETS: usize = 12;

/// Octets of the fixed part of an Enhanced Packet Block's and a Packet Block's body.
const PACKET_FIXED_OCTETS: usize = 20;

/// Most octets of a block that is read as a whole: the largest packet and its options.
const MAX_BLOCK_OCTETS: usize = MAX_PACKET_OCTETS as usize + (1 << 20);

/// Reads the blocks of one section after the other.
#[derive(Debug)]
pub(super) struct PcapNgReader {
    order: Order,
    /// The interfaces that the section has described so far.
    section: Vec<Description>,
    last_time_ns: u64,
}

/// What the packets of an interface need to be read.
#[derive(Debug, Clone, Copy)]
struct Description {
    interface: u32,
    link: LinkType,
    snaplen: u32,
    resolution: Resolution,
    offset_s: i64,
}

/// What a block is, or how the capture ended in it.
enum Block {
    Packet(Record),
    Other,
    End(End),
}

impl PcapNgReader {
    /// Looks at the first Section Header Block without consuming it. An error says what is not
    /// supported.
    pub(super) fn open(header: &[u8]) -> Result<Self, String> {
        let order = section_order(header)?;
        Ok(Self { order, section: Vec::new(), last_time_ns: 0 })
    }

    /// The next packet.
    #[inline]
    pub(super) fn next(
        &mut self,
        window: &mut Window,
        interfaces: &mut Interfaces,
    ) -> io::Result<Step> {
        loop {
            match self.block(window, interfaces)? {
                Block::Packet(record) => return Ok(Step::Packet(record)),
                Block::Other => {}
                Block::End(end) => return Ok(Step::End(end)),
            }
        }
    }

    #[inline]
    fn block(&mut self, window: &mut Window, interfaces: &mut Interfaces) -> io::Result<Block> {
        let start = window.offset();
        if !window.need(BLOCK_OCTETS)? {
            return Ok(Block::End(window.end_at(start)));
        }
        let kind = self.order.u32(window.slice(window.ahead(BLOCK_OCTETS)), 0);
        let found = match kind {
            SECTION_HEADER => {
                if !window.need(SECTION_HEADER_OCTETS)? {
                    return Ok(Block::End(window.end_at(start)));
                }
                interfaces.begin_section();
                self.begin_section(window.slice(window.ahead(SECTION_HEADER_OCTETS)))
            }
            _ => Ok(()),
        };
        let length = match found.and_then(|()| self.length(window, kind)) {
            Ok(length) => length,
            Err(reason) => {
                return Ok(Block::End(End::Corrupt { offset: start, reason }));
            }
        };
        let read = match kind {
            INTERFACE_DESCRIPTION | PACKET | SIMPLE_PACKET | ENHANCED_PACKET => {
                if !window.need(length)? {
                    return Ok(Block::End(window.end_at(start)));
                }
                self.read(window, kind, length, interfaces)
            }
            _ => {
                // Its end alone is looked at: a block may be larger than memory should hold.
                if !window.skip(length as u64 - 4)? || !window.need(4)? {
                    return Ok(Block::End(window.end_at(start)));
                }
                let second = self.order.u32(window.slice(window.ahead(4)), 0);
                same_length(kind, length, second).map(|()| {
                    window.advance(4);
                    Block::Other
                })
            }
        };
        Ok(read.unwrap_or_else(|reason| Block::End(End::Corrupt { offset: start, reason })))
    }

    fn begin_section(&mut self, header: &[u8]) -> Result<(), String> {
        self.order = section_order(header)?;
        self.section.clear();
        Ok(())
    }

    /// The length of the block ahead, if it can be one.
    #[inline]
    fn length(&self, window: &Window, kind: u32) -> Result<usize, String> {
        let length = self.order.u32(window.slice(window.ahead(BLOCK_OCTETS)), 4) as usize;
        let (least, most) = match kind {
            SECTION_HEADER => (SECTION_HEADER_OCTETS, usize::MAX),
            INTERFACE_DESCRIPTION | PACKET | SIMPLE_PACKET | ENHANCED_PACKET => {
                (BLOCK_OCTETS, MAX_BLOCK_OCTETS)
            }
            _ => (BLOCK_OCTETS, usize::MAX),
        };
        if length < least || length > most || !length.is_multiple_of(4) {
            return Err(format!("a block of type {kind:#x} with a length of {length}"));
        }
        Ok(length)
    }

    /// Reads and consumes a block that is in the window as a whole.
    #[inline]
    fn read(
        &mut self,
        window: &mut Window,
        kind: u32,
        length: usize,
        interfaces: &mut Interfaces,
    ) -> Result<Block, String> {
        let range = window.ahead(length);
        let block = window.slice(range.clone());
        same_length(kind, length, self.order.u32(block, length - 4))?;
        let body = &block[PREFIX_OCTETS..length - 4];
        let record = match kind {
            INTERFACE_DESCRIPTION => self.describe(body, interfaces).map(|()| None),
            SIMPLE_PACKET => self.simple_packet(body).map(Some),
            _ => self.packet(body, kind).map(Some),
        }?;
        window.advance(length);
        let Some(mut record) = record else {
            return Ok(Block::Other);
        };
        let body_at = range.start + PREFIX_OCTETS;
        record.data = record.data.start + body_at..record.data.end + body_at;
        self.last_time_ns = record.time_ns;
        Ok(Block::Packet(record))
    }

    /// An Interface Description Block.
    fn describe(&mut self, body: &[u8], interfaces: &mut Interfaces) -> Result<(), String> {
        if body.len() < 8 {
            return Err(format!("an interface description of {} octets", body.len()));
        }
        let link = LinkType(self.order.u16(body, 0));
        let snaplen = self.order.u32(body, 4);
        let mut name = None;
        let mut resolution = Resolution::DEFAULT;
        let mut offset_s = 0;
        for (code, value) in Options::new(&body[8..], self.order) {
            match (code, value) {
                (2, value) => name = Some(value),
                (9, [tsresol, ..]) => resolution = Resolution::from_option(*tsresol),
                (14, value) if value.len() >= 8 => offset_s = self.order.i64(value, 0),
                _ => {}
            }
        }
        let interface = interfaces.describe(name, link).ok_or("too many interface descriptions")?;
        self.section.push(Description { interface, link, snaplen, resolution, offset_s });
        Ok(())
    }

    /// An Enhanced Packet Block, or the obsolete Packet Block that has a 16-bit interface index.
    #[inline]
    fn packet(&self, body: &[u8], kind: u32) -> Result<Record, String> {
        let order = self.order;
        if body.len() < PACKET_FIXED_OCTETS {
            return Err(format!("a packet block with a body of {} octets", body.len()));
        }
        let index = match kind {
            PACKET => u32::from(order.u16(body, 0)),
            _ => order.u32(body, 0),
        };
        let description = self.description(index)?;
        let units = u64::from(order.u32(body, 4)) << 32 | u64::from(order.u32(body, 8));
        let (captured, wire_octets) = (order.u32(body, 12), order.u32(body, 16));
        let space = body.len() - PACKET_FIXED_OCTETS;
        if captured as usize > space {
            return Err(format!("a packet of {captured} octets in a block that has {space}"));
        }
        Ok(Record {
            time_ns: description.resolution.time_ns(units, description.offset_s),
            interface: description.interface,
            link: description.link,
            wire_octets,
            data: PACKET_FIXED_OCTETS..PACKET_FIXED_OCTETS + captured as usize,
        })
    }

    /// A Simple Packet Block: of the section's first interface, without a time.
    fn simple_packet(&self, body: &[u8]) -> Result<Record, String> {
        if body.len() < 4 {
            return Err(format!("a simple packet block with a body of {} octets", body.len()));
        }
        let description = self.description(0)?;
        let wire_octets = self.order.u32(body, 0);
        let snaplen = if description.snaplen == 0 { u32::MAX } else { description.snaplen };
        let captured = wire_octets.min(snaplen) as usize;
        let space = body.len() - 4;
        if captured > space {
            return Err(format!("a packet of {captured} octets in a block that has {space}"));
        }
        Ok(Record {
            time_ns: self.last_time_ns,
            interface: description.interface,
            link: description.link,
            wire_octets,
            data: 4..4 + captured,
        })
    }

    #[inline]
    fn description(&self, index: u32) -> Result<&Description, String> {
        self.section.get(index as usize).ok_or_else(|| {
            let described = self.section.len();
            format!("a packet of interface {index} where {described} are described")
        })
    }
}

/// The byte order of a section, from the fixed part of its header; an error if the section is of
/// an unknown kind.
fn section_order(header: &[u8]) -> Result<Order, String> {
    let order = match Order::Little.u32(header, 8) {
        0x1a2b_3c4d => Order::Little,
        0x4d3c_2b1a => Order::Big,
        magic => {
            return Err(format!("a pcapng section with byte-order magic {magic:#010x}"));
        }
    };
    match (order.u16(header, 12), order.u16(header, 14)) {
        (1, _) => Ok(order),
        (major, minor) => Err(format!("pcapng version {major}.{minor} is not 1.x")),
    }
}

/// A block repeats its length at its end.
#[inline]
fn same_length(kind: u32, first: usize, second: u32) -> Result<(), String> {
    if second as usize == first {
        return Ok(());
    }
    Err(format!("a block of type {kind:#x} with the lengths {first} and {second}"))
}

/// Iterates over a block's options; ends at the end mark or at an option that is cut.
struct Options<'a> {
    rest: &'a [u8],
    order: Order,
}

impl<'a> Options<'a> {
    fn new(rest: &'a [u8], order: Order) -> Self {
        Self { rest, order }
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.len() < 4 {
            return None;
        }
        let (code, length) = (self.order.u16(self.rest, 0), self.order.u16(self.rest, 2) as usize);
        let value = self.rest.get(4..4 + length)?;
        self.rest = self.rest.get(4 + length.next_multiple_of(4)..).unwrap_or_default();
        (code != 0).then_some((code, value))
    }
}
