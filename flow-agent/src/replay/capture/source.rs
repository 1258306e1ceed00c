//! A file or the standard input enters, the octets of the uncompressed capture leave.
//!
//! What must hold: gzip is told by its magic, not by the file's name; concatenated gzip members
//! are one capture; cut or damaged gzip data ends the stream with a [`Defect`], not with an error.

use std::fs::File;
use std::io::{self, BufReader, Chain, Cursor, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

/// First octets of a gzip member (RFC 1952, section 2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Octets read at once from a compressed file.
const COMPRESSED_READ_OCTETS: usize = 256 << 10;

/// Where a capture's octets come from.
pub(super) struct Source {
    reader: Reader,
    octets_total: Option<u64>,
    defect: Option<Defect>,
}

enum Reader {
    Plain(Input),
    Gzip(Box<MultiGzDecoder<BufReader<Input>>>),
}

/// The octets that told the compression, then the rest of the file.
type Input = Chain<Cursor<Vec<u8>>, Counted>;

/// A file or pipe that counts what was read of it.
struct Counted {
    inner: Box<dyn Read + Send>,
    octets_read: u64,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.octets_read += read as u64;
        Ok(read)
    }
}

/// Why the octets ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Defect {
    /// The gzip stream ends in the middle.
    #[error("the gzip data is cut off")]
    Cut,
    /// The gzip stream is not gzip, or fails its checksum.
    #[error("the gzip data is damaged")]
    Damaged,
}

impl Source {
    /// Opens `path`; `-` is the standard input.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if path.as_os_str() == "-" {
            return Self::new(Box::new(io::stdin()), None);
        }
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Self::new(Box::new(file), metadata.is_file().then_some(metadata.len()))
    }

    /// Reads the first octets to tell gzip from a plain capture.
    pub(super) fn new(inner: Box<dyn Read + Send>, octets_total: Option<u64>) -> io::Result<Self> {
        let mut counted = Counted { inner, octets_read: 0 };
        let mut start = Vec::with_capacity(GZIP_MAGIC.len());
        (&mut counted).take(GZIP_MAGIC.len() as u64).read_to_end(&mut start)?;
        let gzip = start == GZIP_MAGIC;
        let input = Cursor::new(start).chain(counted);
        let reader = if gzip {
            let buffered = BufReader::with_capacity(COMPRESSED_READ_OCTETS, input);
            Reader::Gzip(Box::new(MultiGzDecoder::new(buffered)))
        } else {
            Reader::Plain(input)
        };
        Ok(Self { reader, octets_total, defect: None })
    }

    /// Fills a part of `buffer`; 0 is the end of the capture or, with a [`Self::defect`], of what
    /// can be decompressed of it.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.defect.is_some() {
            return Ok(0);
        }
        loop {
            let result = match &mut self.reader {
                Reader::Plain(reader) => reader.read(buffer),
                Reader::Gzip(reader) => reader.read(buffer),
            };
            let error = match result {
                Ok(read) => return Ok(read),
                Err(error) => error,
            };
            self.defect = match (&self.reader, error.kind()) {
                (_, io::ErrorKind::Interrupted) => continue,
                (Reader::Gzip(_), io::ErrorKind::UnexpectedEof) => Some(Defect::Cut),
                (Reader::Gzip(_), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => {
                    Some(Defect::Damaged)
                }
                _ => return Err(error),
            };
            return Ok(0);
        }
    }

    /// Why the octets ended early, if they did.
    pub(super) fn defect(&self) -> Option<Defect> {
        self.defect
    }

    /// Octets read of the (compressed) file.
    pub(super) fn octets_read(&self) -> u64 {
        match &self.reader {
            Reader::Plain(input) => input.get_ref().1.octets_read,
            Reader::Gzip(decoder) => decoder.get_ref().get_ref().get_ref().1.octets_read,
        }
    }

    /// Octets of the (compressed) file, unless it is a pipe.
    pub(super) fn octets_total(&self) -> Option<u64> {
        self.octets_total
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("octets_read", &self.octets_read())
            .field("octets_total", &self.octets_total)
            .field("defect", &self.defect)
            .finish_non_exhaustive()
    }
}
