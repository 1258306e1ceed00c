//! ClickHouse's native block framing (`compress=1`, `decompress=1`): each frame
//! is a `CityHash128` of the rest, a method, two sizes and the payload. What must
//! hold: a damaged or cut frame is an error, never data.

use std::io::{self, Read};

use super::failure::{Failure, code};

const CHECKSUM: usize = 16;
const HEADER: usize = 9;
const LZ4: u8 = 0x82;
const ZSTD: u8 = 0x90;
const NONE: u8 = 0x02;
/// No client sends larger frames; a corrupt size must not reserve memory.
const MAX_FRAME: u32 = 256 << 20;

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    cityhash_rs::cityhash_102_128(bytes).rotate_right(64).to_le_bytes()
}

/// Appends `data` to `out` as one LZ4 frame.
pub fn write_frame(data: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let payload_at = start + CHECKSUM + HEADER;
    out.resize(payload_at + lz4_flex::block::get_maximum_output_size(data.len()), 0);
    let length = lz4_flex::block::compress_into(data, &mut out[payload_at..])
        .expect("the buffer has the maximum size");
    out.truncate(payload_at + length);
    let header = start + CHECKSUM;
    out[header] = LZ4;
    out[header + 1..header + 5].copy_from_slice(&((HEADER + length) as u32).to_le_bytes());
    out[header + 5..header + 9].copy_from_slice(&(data.len() as u32).to_le_bytes());
    let sum = checksum(&out[header..]);
    out[start..header].copy_from_slice(&sum);
}

/// Reads the frames of `inner` as one stream of plain data.
pub struct FrameReader<R> {
    inner: R,
    frame: Vec<u8>,
    plain: Vec<u8>,
    at: usize,
}

impl<R: Read> FrameReader<R> {
    /// Reads frames from `inner`.
    pub fn new(inner: R) -> Self {
        Self { inner, frame: Vec::new(), plain: Vec::new(), at: 0 }
    }

    /// Reads the next frame; false at the end of the stream.
    fn next_frame(&mut self) -> io::Result<bool> {
        let mut head = [0; CHECKSUM + HEADER];
        let mut filled = 0;
        while filled < head.len() {
            match self.inner.read(&mut head[filled..])? {
                0 if filled == 0 => return Ok(false),
                0 => return Err(damaged("the body ends inside a frame header")),
                n => filled += n,
            }
        }
        let size =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (method, compressed, plain) = (head[16], size(17), size(21));
        if compressed < HEADER as u32 || compressed > MAX_FRAME || plain > MAX_FRAME {
            return Err(damaged(&format!(
                "a frame of {compressed} to {plain} octets is out of range"
            )));
        }
        self.frame.clear();
        self.frame.extend_from_slice(&head[CHECKSUM..]);
        let payload = u64::from(compressed) - HEADER as u64;
        let got = (&mut self.inner).take(payload).read_to_end(&mut self.frame)?;
        if got as u64 != payload {
            return Err(damaged("the body ends inside a frame"));
        }
        if checksum(&self.frame) != head[..CHECKSUM] {
            return Err(failed(
                code::CHECKSUM_DOESNT_MATCH,
                "CHECKSUM_DOESNT_MATCH",
                "Checksum of a compressed block doesn't match: the body was damaged on the way",
            ));
        }
        self.plain.resize(plain as usize, 0);
        let payload = &self.frame[HEADER..];
        let written = match method {
            LZ4 => lz4_flex::block::decompress_into(payload, &mut self.plain)
                .map_err(|error| damaged(&error.to_string()))?,
            ZSTD => zstd::bulk::decompress_to_buffer(payload, &mut self.plain)?,
            NONE if payload.len() == self.plain.len() => {
                self.plain.copy_from_slice(payload);
                payload.len()
            }
            other => {
                return Err(failed(
                    code::UNKNOWN_COMPRESSION_METHOD,
                    "UNKNOWN_COMPRESSION_METHOD",
                    &format!(
                        "Unknown compression method 0x{other:02x}; LZ4 (0x82), ZSTD (0x90) and none (0x02) are known"
                    ),
                ));
            }
        };
        if written != plain as usize {
            return Err(damaged("a frame holds less than it says"));
        }
        self.at = 0;
        Ok(true)
    }
}

fn failed(code: i32, name: &str, message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Failure::new(code, name, message))
}

fn damaged(message: &str) -> io::Error {
    failed(
        code::CANNOT_DECOMPRESS,
        "CANNOT_DECOMPRESS",
        &format!("Cannot decompress the body: {message}"),
    )
}

impl<R: Read> Read for FrameReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.plain.len() {
            if !self.next_frame()? {
                return Ok(0);
            }
        }
        let n = buffer.len().min(self.plain.len() - self.at);
        buffer[..n].copy_from_slice(&self.plain[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(frames: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        FrameReader::new(frames).read_to_end(&mut plain).map(|_| plain)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..2000), 0..4)) {
            let mut frames = Vec::new();
            for part in &parts {
                write_frame(part, &mut frames);
            }
            prop_assert_eq!(read(&frames).unwrap(), parts.concat());
        }

        #[test]
        fn a_cut_or_changed_frame_is_an_error(data in proptest::collection::vec(any::<u8>(), 1..500), at in any::<prop::sample::Index>()) {
            let mut frame = Vec::new();
            write_frame(&data, &mut frame);
            let at = at.index(frame.len() - 1);
            prop_assert!(read(&frame[..=at][..at.max(1)]).is_err());
            frame[at] ^= 0x55;
            prop_assert!(read(&frame).is_err());
        }
    }

    #[test]
    fn a_frame_of_a_clickhouse_server_is_read() {
        let data = b"\x01\0\x02\xff\xff\xff\xff\0\x01\x01\x01s\x06String\x03abc";
        let mut frame = vec![245, 5, 222, 235, 225, 158, 59, 108, 225, 31, 65, 215, 66, 66, 36, 92];
        frame.extend_from_slice(&[LZ4, 34, 0, 0, 0, 23, 0, 0, 0, 240, 8]);
        frame.extend_from_slice(data);
        assert_eq!(read(&frame).unwrap(), data);
    }

    #[test]
    fn an_uncompressed_frame_is_read() {
        let mut frame = vec![NONE];
        frame.extend_from_slice(&11_u32.to_le_bytes());
        frame.extend_from_slice(&2_u32.to_le_bytes());
        frame.extend_from_slice(b"1\n");
        let mut whole = checksum(&frame).to_vec();
        whole.extend_from_slice(&frame);
        assert_eq!(read(&whole).unwrap(), b"1\n");
    }

    #[test]
    fn an_unknown_method_is_named() {
        let mut frame = vec![0x99];
        frame.extend_from_slice(&9_u32.to_le_bytes());
        frame.extend_from_slice(&0_u32.to_le_bytes());
        let mut whole = checksum(&frame).to_vec();
        whole.extend_from_slice(&frame);
        let error = read(&whole).unwrap_err().to_string();
        assert!(error.contains("0x99"), "{error}");
    }
}
