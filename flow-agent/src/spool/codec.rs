//! Octets of the files: numbers are little-endian, and every piece has a checksum of its own.

use std::sync::Arc;

use flate2::Crc;
use flow_common::Count;

use super::contents::Contents;
use crate::ledger::FORMER_INTERFACES;

/// The CRC-32 of some octets.
pub fn checksum(octets: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(octets);
    crc.sum()
}

/// A piece: magic number, kind, length, content, checksum of all before.
pub fn piece(magic: [u8; 4], kind: u8, content: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(PIECE + content.len());
    octets.extend(magic);
    octets.push(kind);
    octets.extend((content.len() as u32).to_le_bytes());
    octets.extend(content);
    let sum = checksum(&octets);
    octets.extend(sum.to_le_bytes());
    octets
}

/// What a piece has beside its content.
pub const PIECE: usize = 4 + 1 + 4 + 4;
/// A piece that is longer is none of ours.
pub const MOST_PIECE: usize = 1 << 20;

/// The piece that `octets` begin with: kind, content, and its whole length; none if there is
/// none that is whole.
pub fn take_piece(magic: [u8; 4], octets: &[u8]) -> Option<(u8, &[u8], usize)> {
    let mut reader = Reader(octets);
    if reader.take::<4>()? != magic {
        return None;
    }
    let kind = reader.u8()?;
    let length = reader.u32()? as usize;
    if length > MOST_PIECE {
        return None;
    }
    let content = reader.octets(length)?;
    let sum = reader.u32()?;
    let whole = PIECE + length;
    (checksum(&octets[..whole - 4]) == sum).then_some((kind, content, whole))
}

/// Reads from the front; none when there is not enough.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn octets(&mut self, length: usize) -> Option<&'a [u8]> {
        let (found, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(found)
    }

    pub fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (found, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*found)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.take().map(|[octet]| octet)
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

/// Counts by interface. What does not fit into `most` octets is summed up.
pub fn put_counts<'a>(
    out: &mut Vec<u8>,
    counts: impl IntoIterator<Item = (&'a Arc<str>, &'a Count)>,
    most: usize,
) {
    const EACH: usize = 2 + 16;
    let start = out.len();
    out.extend([0; 2]);
    let (mut number, mut rest, mut used) = (0u16, Count::default(), 2);
    // The sum has a place at any time.
    let room = most.saturating_sub(EACH + FORMER_INTERFACES.len());
    for (name, count) in counts {
        let name = name.as_bytes();
        if used + EACH + name.len() > room || number == u16::MAX - 1 || name.len() > MOST_NAME {
            rest.merge(*count);
        } else {
            used += EACH + name.len();
            number += 1;
            put_count(out, name, *count);
        }
    }
    if rest != Count::default() {
        number += 1;
        put_count(out, FORMER_INTERFACES.as_bytes(), rest);
    }
    out[start..start + 2].copy_from_slice(&number.to_le_bytes());
}

/// The name of an interface with its namespace is never that long.
const MOST_NAME: usize = 1024;

fn put_count(out: &mut Vec<u8>, name: &[u8], count: Count) {
    out.extend((name.len() as u16).to_le_bytes());
    out.extend(name);
    out.extend(count.packets.to_le_bytes());
    out.extend(count.octets.to_le_bytes());
}

/// See [`put_counts`].
pub fn take_counts(reader: &mut Reader<'_>) -> Option<Vec<(Arc<str>, Count)>> {
    let number = reader.u16()?;
    let mut counts = Vec::new();
    for _ in 0..number {
        let length = reader.u16()?;
        let name = std::str::from_utf8(reader.octets(length.into())?).ok()?;
        let count = Count { packets: reader.u64()?, octets: reader.u64()? };
        counts.push((name.into(), count));
    }
    Some(counts)
}

/// Contents, in at most so many octets.
pub fn put_contents(out: &mut Vec<u8>, contents: &Contents, most: usize) {
    let start = out.len();
    out.extend(contents.batches.to_le_bytes());
    out.extend(contents.rows.to_le_bytes());
    let most = most.saturating_sub(out.len() - start);
    put_counts(out, &contents.counts, most);
}

/// See [`put_contents`].
pub fn take_contents(reader: &mut Reader<'_>) -> Option<Contents> {
    let (batches, rows) = (reader.u64()?, reader.u64()?);
    let mut contents = Contents { batches, rows, ..Contents::default() };
    for (name, count) in take_counts(reader)? {
        contents.counts.entry(name).or_default().merge(count);
    }
    Some(contents)
}
