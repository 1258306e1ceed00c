//! A capture file, gzip-compressed or not, enters; its packets leave, in file order.
//!
//! What must hold: no length field of the file is trusted (memory stays bounded), a cut or damaged
//! capture yields every packet before the defect and then says where and why it ended, and no
//! packet is allocated: [`Packet::data`] borrows the reader's own buffer.
//!
//! Formats: classic pcap (draft-ietf-opsawg-pcap) and pcapng (draft-ietf-opsawg-pcapng).

mod block;
mod error;
mod interfaces;
mod link;
mod order;
mod pcap;
mod pcapng;
mod resolution;
mod source;
#[cfg(test)]
mod tests;
mod window;

use std::ops::Range;
use std::path::Path;

pub use block::Block;
pub use error::CaptureError;
pub use interfaces::Interface;
pub use link::LinkType;

use block::Place;
use interfaces::Interfaces;
use pcap::PcapReader;
use pcapng::PcapNgReader;
use source::Source;
use window::Window;

/// The latest time a packet can have: what `DateTime64(9)` holds (2262-04-11), in Unix nanoseconds.
/// Later times (absurd ones, from damaged captures) are cut to it, times before 1970 to 0.
pub const MAX_TIME_NS: u64 = i64::MAX as u64;

/// Most octets one packet may have: libpcap's limit for ordinary link types is 262,144; a capture
/// may declare a larger snap length up to this.
const MAX_PACKET_OCTETS: u32 = 16 << 20;

/// One captured packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// When it was captured, in nanoseconds since 1970-01-01 UTC. A Simple Packet Block has no
    /// time: it takes that of the packet before it in the capture (0 for the first).
    pub time_ns: u64,
    /// Index into [`Capture::interfaces`].
    pub interface: u32,
    /// The link layer that `data` starts with.
    pub link: LinkType,
    /// Octets on the wire from the link header on; never less than `data.len()`.
    pub wire_octets: u32,
    /// The octets captured, at most the snap length.
    pub data: &'a [u8],
}

/// How a capture ended, once [`Capture::next_packet`] has returned `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// At the end of a packet or block.
    Complete,
    /// In the middle of a packet or block.
    Truncated {
        /// Where the incomplete packet or block starts, in octets of the uncompressed capture.
        offset: u64,
    },
    /// At a packet or block that cannot be read.
    Corrupt {
        /// Where that packet or block starts, in octets of the uncompressed capture.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Complete => write!(f, "the capture is complete"),
            Self::Truncated { offset } => {
                write!(f, "the capture is cut off in the packet or block at offset {offset}")
            }
            Self::Corrupt { offset, reason } => {
                write!(f, "the capture is damaged at offset {offset}: {reason}")
            }
        }
    }
}

/// A capture being read.
#[derive(Debug)]
pub struct Capture {
    file: String,
    window: Window,
    format: Format,
    interfaces: Interfaces,
    end: Option<End>,
    /// The packet that did not belong to the block before.
    carried: Option<Place>,
}

#[derive(Debug)]
enum Format {
    Pcap(PcapReader),
    PcapNg(PcapNgReader),
}

/// What a format's reader found next.
enum Step {
    Packet(Record),
    End(End),
}

/// A packet as a range of the window, which stays valid until the window is filled again.
struct Record {
    time_ns: u64,
    interface: u32,
    link: LinkType,
    wire_octets: u32,
    data: Range<usize>,
}

impl Capture {
    /// Opens the capture at `path`; `-` is the standard input. Reads its file header, so that what
    /// is no capture is refused here. `name` is for interfaces that have none of their own.
    pub fn open(path: &Path, name: &str) -> Result<Self, CaptureError> {
        let file = path.display().to_string();
        let source = Source::open(path)
            .map_err(|source| CaptureError::Open { file: file.clone(), source })?;
        Self::from_source(source, file, name)
    }

    /// Reads octets instead of a file.
    ///
    /// # Errors
    /// They begin like no capture.
    pub fn from_octets(octets: Vec<u8>) -> Result<Self, CaptureError> {
        let total = octets.len() as u64;
        let file = || "octets".to_owned();
        let source = Source::new(Box::new(std::io::Cursor::new(octets)), Some(total))
            .map_err(|source| CaptureError::Open { file: file(), source })?;
        Self::from_source(source, file(), "octets")
    }

    fn from_source(source: Source, file: String, name: &str) -> Result<Self, CaptureError> {
        let mut window = Window::new(source);
        let mut interfaces = Interfaces::new(name);
        let format = Format::detect(&mut window, &mut interfaces, &file)?;
        Ok(Self { file, window, format, interfaces, end: None, carried: None })
    }

    /// The next packet, or `None` at the end: [`Self::end`] then says how the capture ended. An
    /// error is a failure to read the file, not a defect of its content.
    #[inline]
    pub fn next_packet(&mut self) -> Result<Option<Packet<'_>>, CaptureError> {
        if self.end.is_some() {
            return Ok(None);
        }
        let step = match &mut self.format {
            Format::Pcap(reader) => reader.next(&mut self.window),
            Format::PcapNg(reader) => reader.next(&mut self.window, &mut self.interfaces),
        };
        match step {
            Ok(Step::Packet(record)) => Ok(Some(Packet {
                time_ns: record.time_ns,
                interface: record.interface,
                link: record.link,
                wire_octets: record.wire_octets.max(record.data.len() as u32),
                data: self.window.slice(record.data),
            })),
            Ok(Step::End(end)) => {
                self.end = Some(end);
                Ok(None)
            }
            Err(source) => Err(CaptureError::Read {
                file: self.file.clone(),
                offset: self.window.offset(),
                source,
            }),
        }
    }

    /// Reads some packets into `block`, which has none at the end: [`Self::end`] then says how the
    /// capture ended. The same capture makes the same blocks, from a file or from a pipe.
    ///
    /// # Errors
    /// As [`Self::next_packet`]; the packets before are in the block, and these were all.
    pub fn next_block(&mut self, block: &mut Block) -> Result<(), CaptureError> {
        block.places.clear();
        block.places.extend(self.carried.take());
        if self.end.is_some() && block.places.is_empty() {
            return Ok(());
        }
        let read = self.fill(block);
        block.buffer = self.window.end_block();
        let described = self.interfaces.as_slice();
        block.links.extend(described[block.links.len()..].iter().map(|interface| interface.link));
        read.map_err(|source| CaptureError::Read {
            file: self.file.clone(),
            offset: self.window.offset(),
            source,
        })
    }

    fn fill(&mut self, block: &mut Block) -> std::io::Result<()> {
        let places = &mut block.places;
        self.window.begin_block(std::mem::take(&mut block.buffer))?;
        if !places.is_empty() {
            self.window.hold();
        }
        loop {
            if let Format::Pcap(reader) = &self.format {
                let (rest, at) = self.window.rest();
                let octets = reader.walk(rest, at, places);
                self.window.advance(octets);
                if !places.is_empty() {
                    self.window.hold();
                }
            }
            let step = match &mut self.format {
                Format::Pcap(reader) => reader.next(&mut self.window)?,
                Format::PcapNg(reader) => reader.next(&mut self.window, &mut self.interfaces)?,
            };
            let record = match step {
                Step::Packet(record) => record,
                Step::End(end) => {
                    self.end = Some(end);
                    return Ok(());
                }
            };
            let octets = record.data.len() as u32;
            let place = Place {
                time_ns: record.time_ns,
                at: record.data.start as u32,
                octets,
                wire_octets: record.wire_octets.max(octets),
                interface: record.interface,
            };
            if self.window.has_retired() {
                self.carried = Some(place);
                return Ok(());
            }
            places.push(place);
            self.window.hold();
        }
    }

    /// How the capture ended, once it has.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The interfaces seen so far. A pcapng capture may describe one just before its first packet,
    /// so ask again when a packet's index is new.
    pub fn interfaces(&self) -> &[Interface] {
        self.interfaces.as_slice()
    }

    /// The path as given, for messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Octets of the (compressed) file read so far, for a progress bar.
    pub fn file_octets_read(&self) -> u64 {
        self.window.source().octets_read()
    }

    /// Octets of the (compressed) file, unless it is a pipe.
    pub fn file_octets(&self) -> Option<u64> {
        self.window.source().octets_total()
    }
}

impl Format {
    fn detect(
        window: &mut Window,
        interfaces: &mut Interfaces,
        file: &str,
    ) -> Result<Self, CaptureError> {
        let start = header(window, 4, file)?;
        let magic = [start[0], start[1], start[2], start[3]];
        if magic == pcapng::SECTION_HEADER.to_le_bytes() {
            header(window, pcapng::SECTION_HEADER_OCTETS, file)?;
            // The section itself is the first block that `next` reads; only its version is
            // looked at here, to refuse the file before anything is replayed.
            let reader =
                PcapNgReader::open(window.slice(window.ahead(pcapng::SECTION_HEADER_OCTETS)));
            return reader
                .map(Self::PcapNg)
                .map_err(|reason| CaptureError::Unsupported { file: file.to_owned(), reason });
        }
        let Some(variant) = pcap::Variant::from_magic(magic) else {
            return Err(CaptureError::NotACapture {
                file: file.to_owned(),
                start: error::describe_start(magic),
            });
        };
        let bytes = header(window, pcap::FILE_HEADER_OCTETS, file)?;
        let reader = PcapReader::open(bytes, variant, interfaces)
            .map_err(|reason| CaptureError::Unsupported { file: file.to_owned(), reason })?;
        window.advance(pcap::FILE_HEADER_OCTETS);
        Ok(Self::Pcap(reader))
    }
}

/// The first `octets` octets of the file.
fn header<'a>(window: &'a mut Window, octets: usize, file: &str) -> Result<&'a [u8], CaptureError> {
    let file = || file.to_owned();
    let full = window.need(octets).map_err(|source| CaptureError::Read {
        file: file(),
        offset: 0,
        source,
    })?;
    if full {
        return Ok(window.slice(window.ahead(octets)));
    }
    Err(match (window.len(), window.source().defect()) {
        (_, Some(defect)) => CaptureError::Compression { file: file(), defect: defect.to_string() },
        (0, None) => CaptureError::Empty { file: file() },
        (present, None) => CaptureError::Short { file: file(), present, needed: octets },
    })
}
