//! A capture file enters, all its frames up to the first defect leave.

use std::io::Read;
use std::path::Path;

/// One captured frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Unix time in nanoseconds.
    pub time_ns: i128,
    /// Position of the interface in the capture, counted over all sections.
    pub interface: usize,
    /// `LINKTYPE_` number.
    pub link: u16,
    /// Octets on the wire.
    pub wire: usize,
    /// Octets captured.
    pub data: Vec<u8>,
}

/// The file is no capture; holds the first octets or the system's error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoCapture(pub String);

/// Reads numbers in the byte order of the capture.
#[derive(Clone, Copy)]
struct Reader<'a> {
    bytes: &'a [u8],
    big: bool,
}

impl<'a> Reader<'a> {
    fn bytes(&self, at: usize, count: usize) -> Option<&'a [u8]> {
        self.bytes.get(at..at.checked_add(count)?)
    }

    fn number(&self, at: usize, count: usize) -> Option<usize> {
        let bytes = self.bytes(at, count)?;
        let digits: Vec<u8> =
            if self.big { bytes.to_vec() } else { bytes.iter().rev().copied().collect() };
        Some(digits.iter().fold(0, |number, digit| number << 8 | usize::from(*digit)))
    }
}

/// All frames of the capture at `path` up to its end or first defect.
pub fn read_frames(path: &Path) -> Result<Vec<Frame>, NoCapture> {
    let mut bytes = std::fs::read(path).map_err(|error| NoCapture(error.to_string()))?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::new();
        // What was decompressed before a defect stays in `plain`.
        let _ = flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut plain);
        bytes = plain;
    }
    let mut frames = Vec::new();
    let magic = bytes.get(..4).unwrap_or_default().to_vec();
    let known = match magic[..] {
        [0xa1, 0xb2, 0xc3, 0xd4] => classic(&bytes, true, 1_000, &mut frames),
        [0xa1, 0xb2, 0x3c, 0x4d] => classic(&bytes, true, 1, &mut frames),
        [0xd4, 0xc3, 0xb2, 0xa1] => classic(&bytes, false, 1_000, &mut frames),
        [0x4d, 0x3c, 0xb2, 0xa1] => classic(&bytes, false, 1, &mut frames),
        [0x0a, 0x0d, 0x0d, 0x0a] => blocks(&bytes, &mut frames),
        _ => None,
    };
    // A defect leaves the frames before it; only a file without a header is none.
    let header = if magic.first() == Some(&0x0a) { 28 } else { 24 };
    if known.is_none() && (frames.is_empty() && bytes.len() < header || !starts_known(&magic)) {
        return Err(NoCapture(format!("{magic:02x?}")));
    }
    Ok(frames)
}

fn starts_known(magic: &[u8]) -> bool {
    matches!(
        magic,
        [0xa1, 0xb2, 0xc3, 0xd4]
            | [0xa1, 0xb2, 0x3c, 0x4d]
            | [0xd4, 0xc3, 0xb2, 0xa1]
            | [0x4d, 0x3c, 0xb2, 0xa1]
            | [0x0a, 0x0d, 0x0d, 0x0a]
    )
}

/// Classic pcap. `None` is the first defect or cut.
fn classic(bytes: &[u8], big: bool, fraction_ns: i128, frames: &mut Vec<Frame>) -> Option<()> {
    let file = Reader { bytes, big };
    let minor = file.number(6, 2)?;
    let link = file.number(20, 4)? as u16;
    let mut at = 24;
    while at < bytes.len() {
        let seconds = file.number(at, 4)? as i128;
        let fraction = file.number(at + 4, 4)? as i128;
        let (mut captured, mut wire) = (file.number(at + 8, 4)?, file.number(at + 12, 4)?);
        // Before version 2.4 the lengths were the other way round, in 2.3 sometimes.
        if minor < 3 || minor == 3 && captured > wire {
            (captured, wire) = (wire, captured);
        }
        let data = file.bytes(at + 16, captured)?.to_vec();
        frames.push(Frame {
            time_ns: seconds * 1_000_000_000 + fraction * fraction_ns,
            interface: 0,
            link,
            wire: wire.max(captured),
            data,
        });
        at += 16 + captured;
    }
    Some(())
}

struct Interface {
    index: usize,
    link: u16,
    snaplen: usize,
    /// Timestamp units in a second.
    per_second: i128,
    offset_s: i64,
}

/// pcapng. `None` is the first defect or cut.
fn blocks(bytes: &[u8], frames: &mut Vec<Frame>) -> Option<()> {
    let mut big = false;
    let mut at = 0;
    let mut section: Vec<Interface> = Vec::new();
    let mut described = 0;
    let mut last_time_ns = 0;
    while at < bytes.len() {
        if bytes.get(at..at + 4)? == [0x0a, 0x0d, 0x0d, 0x0a] {
            big = match bytes.get(at + 8..at + 12)? {
                [0x1a, 0x2b, 0x3c, 0x4d] => true,
                [0x4d, 0x3c, 0x2b, 0x1a] => false,
                _ => return None,
            };
            section.clear();
        }
        let file = Reader { bytes, big };
        let kind = file.number(at, 4)?;
        let length = file.number(at + 4, 4)?;
        if length < 12 || length % 4 != 0 || file.number(at + length - 4, 4)? != length {
            return None;
        }
        let body = Reader { bytes: file.bytes(at + 8, length - 12)?, big };
        at += length;
        // Where a block keeps: interface, time, captured length, data.
        let (index, time_at, captured, wire, data_at) = match kind {
            1 => {
                section.push(interface(body, described)?);
                described += 1;
                continue;
            }
            2 => (body.number(0, 2)?, Some(4), body.number(12, 4)?, body.number(16, 4)?, 20),
            3 => {
                let wire = body.number(0, 4)?;
                let snaplen = section.first()?.snaplen;
                (0, None, if snaplen == 0 { wire } else { wire.min(snaplen) }, wire, 4)
            }
            6 => (body.number(0, 4)?, Some(4), body.number(12, 4)?, body.number(16, 4)?, 20),
            _ => continue,
        };
        let interface = section.get(index)?;
        if let Some(at) = time_at {
            let units = (body.number(at, 4)? << 32 | body.number(at + 4, 4)?) as i128;
            last_time_ns = units * 1_000_000_000 / interface.per_second
                + i128::from(interface.offset_s) * 1_000_000_000;
        }
        frames.push(Frame {
            time_ns: last_time_ns,
            interface: interface.index,
            link: interface.link,
            wire: wire.max(captured),
            data: body.bytes(data_at, captured)?.to_vec(),
        });
    }
    Some(())
}

fn interface(body: Reader, index: usize) -> Option<Interface> {
    let mut interface = Interface {
        index,
        link: body.number(0, 2)? as u16,
        snaplen: body.number(4, 4)?,
        per_second: 1_000_000,
        offset_s: 0,
    };
    let mut at = 8;
    while let (Some(code), Some(length)) = (body.number(at, 2), body.number(at + 2, 2)) {
        let Some(value) = body.bytes(at + 4, length) else {
            break;
        };
        match (code, value) {
            (0, _) => break,
            (9, [resolution]) => {
                let exponent = u32::from(resolution & 0x7f).min(36);
                let base: i128 = if resolution & 0x80 == 0 { 10 } else { 2 };
                interface.per_second = base.pow(exponent);
            }
            (14, _) => interface.offset_s = body.number(at + 4, 8)?.cast_signed() as i64,
            _ => {}
        }
        at += 4 + length.next_multiple_of(4);
    }
    Some(interface)
}
