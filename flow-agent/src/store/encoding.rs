//! HTTP content encodings: enters an encoded body, leaves plain data, and the
//! other way round for responses. What must hold: an encoded body that is cut
//! is an error.

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use lz4_flex::frame::{FrameDecoder, FrameEncoder};

use super::framing;

/// An encoding that this server reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// LZ4 frames.
    Lz4,
    /// gzip.
    Gzip,
    /// zlib.
    Deflate,
    /// Zstandard frames.
    Zstd,
}

/// In ClickHouse's order of preference.
const ALL: [(Encoding, &str); 4] = [
    (Encoding::Lz4, "lz4"),
    (Encoding::Gzip, "gzip"),
    (Encoding::Deflate, "deflate"),
    (Encoding::Zstd, "zstd"),
];

impl Encoding {
    /// The encoding of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        ALL.iter().find(|(_, known)| known.eq_ignore_ascii_case(name.trim())).map(|(e, _)| *e)
    }

    /// The best encoding that an `Accept-Encoding` header allows.
    pub fn accepted(header: &str) -> Option<Self> {
        let allowed = |name: &str| {
            header.split(',').any(|item| {
                let mut parts = item.split(';');
                let named = parts.next().is_some_and(|n| n.trim().eq_ignore_ascii_case(name));
                named && !parts.any(|p| matches!(p.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
            })
        };
        ALL.iter().find(|(_, name)| allowed(name)).map(|(e, _)| *e)
    }

    /// Its name in HTTP headers.
    pub fn name(self) -> &'static str {
        ALL.iter().find(|(e, _)| *e == self).map_or("identity", |(_, name)| name)
    }

    /// Decodes a stream.
    pub fn reader<R: Read + Send + 'static>(self, inner: R) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::Lz4 => Box::new(Lz4Reader::new(inner)),
            Self::Gzip => Box::new(MultiGzDecoder::new(inner)),
            Self::Deflate => Box::new(ZlibDecoder::new(inner)),
            Self::Zstd => Box::new(zstd::Decoder::new(inner)?),
        })
    }
}

/// An LZ4 frame of no data.
const EMPTY_FRAME: &[u8] = &[0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82, 0, 0, 0, 0];

/// Reads LZ4 frames to the end of the stream. The decoder takes a stream that
/// is cut between two blocks for a whole one, so an empty frame follows it:
/// inside an unfinished frame its octets are an impossible block size.
struct Lz4Reader<R: Read>(Option<FrameDecoder<Marked<R>>>);

type Marked<R> = io::Chain<R, io::Cursor<&'static [u8]>>;

impl<R: Read> Lz4Reader<R> {
    fn new(inner: R) -> Self {
        Self(Some(FrameDecoder::new(inner.chain(io::Cursor::new(EMPTY_FRAME)))))
    }
}

impl<R: Read> Read for Lz4Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = &mut self.0 {
            let n = decoder.read(buffer)?;
            if n > 0 || buffer.is_empty() {
                return Ok(n);
            }
            // The end of a frame. The next one gets a new decoder: a used one
            // keeps its block size, which the next frame need not have.
            let (_, mark) = decoder.get_ref().get_ref();
            match mark.position() as usize {
                0 => {}
                end if end == EMPTY_FRAME.len() => return Ok(0),
                _ => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
            self.0 = self.0.take().map(|decoder| FrameDecoder::new(decoder.into_inner()));
        }
        Ok(0)
    }
}

enum Sink {
    Plain(Vec<u8>),
    Lz4(Box<FrameEncoder<Vec<u8>>>),
    Gzip(GzEncoder<Vec<u8>>),
    Deflate(ZlibEncoder<Vec<u8>>),
    Zstd(zstd::Encoder<'static, Vec<u8>>),
}

/// Encodes a response piece by piece: native frames inside, if asked for, and
/// an HTTP encoding outside.
pub struct Encoder {
    framed: bool,
    sink: Sink,
}

impl Encoder {
    /// An encoder for one response; `framed` is `compress=1`.
    pub fn new(framed: bool, encoding: Option<Encoding>) -> io::Result<Self> {
        let out = Vec::new();
        let sink = match encoding {
            None => Sink::Plain(out),
            Some(Encoding::Lz4) => Sink::Lz4(Box::new(FrameEncoder::new(out))),
            Some(Encoding::Gzip) => Sink::Gzip(GzEncoder::new(out, Compression::fast())),
            Some(Encoding::Deflate) => Sink::Deflate(ZlibEncoder::new(out, Compression::fast())),
            Some(Encoding::Zstd) => Sink::Zstd(zstd::Encoder::new(out, 1)?),
        };
        Ok(Self { framed, sink })
    }

    /// Takes a piece; leaves what is ready to be sent, which may be nothing.
    pub fn write(&mut self, data: &[u8]) -> io::Result<Vec<u8>> {
        let mut frame = Vec::new();
        let data = if self.framed && !data.is_empty() {
            framing::write_frame(data, &mut frame);
            &frame
        } else {
            data
        };
        match &mut self.sink {
            Sink::Plain(out) => out.write_all(data)?,
            Sink::Lz4(sink) => sink.write_all(data)?,
            Sink::Gzip(sink) => sink.write_all(data)?,
            Sink::Deflate(sink) => sink.write_all(data)?,
            Sink::Zstd(sink) => sink.write_all(data)?,
        }
        Ok(self.take())
    }

    /// Leaves everything taken so far, as whole blocks.
    pub fn flush(&mut self) -> io::Result<Vec<u8>> {
        match &mut self.sink {
            Sink::Plain(_) => {}
            Sink::Lz4(sink) => sink.flush()?,
            Sink::Gzip(sink) => sink.flush()?,
            Sink::Deflate(sink) => sink.flush()?,
            Sink::Zstd(sink) => sink.flush()?,
        }
        Ok(self.take())
    }

    /// Ends the stream; leaves its last octets.
    pub fn finish(self) -> io::Result<Vec<u8>> {
        match self.sink {
            Sink::Plain(out) => Ok(out),
            Sink::Lz4(sink) => sink.finish().map_err(io::Error::other),
            Sink::Gzip(sink) => sink.finish(),
            Sink::Deflate(sink) => sink.finish(),
            Sink::Zstd(sink) => sink.finish(),
        }
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(match &mut self.sink {
            Sink::Plain(out) => out,
            Sink::Lz4(sink) => sink.get_mut(),
            Sink::Gzip(sink) => sink.get_mut(),
            Sink::Deflate(sink) => sink.get_mut(),
            Sink::Zstd(sink) => sink.get_mut(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(encoding: Encoding, data: &[u8]) -> Vec<u8> {
        let mut encoder = Encoder::new(false, Some(encoding)).unwrap();
        let mut out = Vec::new();
        for piece in data.chunks(70_000) {
            out.extend(encoder.write(piece).unwrap());
        }
        out.extend(encoder.flush().unwrap());
        out.extend(encoder.finish().unwrap());
        out
    }

    fn decode(encoding: Encoding, data: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        encoding.reader(io::Cursor::new(data))?.read_to_end(&mut plain)?;
        Ok(plain)
    }

    #[test]
    fn every_encoding_round_trips_and_a_cut_one_fails() {
        let data: Vec<u8> = (0..300_000_u32).flat_map(|n| (n % 977).to_le_bytes()).collect();
        for (encoding, name) in ALL {
            let encoded = encode(encoding, &data);
            assert_eq!(decode(encoding, encoded.clone()).unwrap(), data, "{name}");
            let twice = [encoded.clone(), encoded.clone()].concat();
            if encoding != Encoding::Deflate {
                assert_eq!(decode(encoding, twice).unwrap().len(), 2 * data.len(), "{name}");
            }
            for cut in [encoded.len() / 3, encoded.len() - 4, encoded.len() - 1] {
                assert!(decode(encoding, encoded[..cut].to_vec()).is_err(), "{name} cut at {cut}");
            }
        }
    }

    #[test]
    fn accept_encoding_prefers_as_clickhouse_does() {
        assert_eq!(Encoding::accepted("deflate, gzip, br, zstd"), Some(Encoding::Gzip));
        assert_eq!(Encoding::accepted("lz4"), Some(Encoding::Lz4));
        assert_eq!(Encoding::accepted("gzip;q=0, zstd;q=0.5"), Some(Encoding::Zstd));
        assert_eq!(Encoding::accepted("br, identity"), None);
    }
}
