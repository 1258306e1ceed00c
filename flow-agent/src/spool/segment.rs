//! The layout of a segment file, and of the first octets of its index.
//!
//! | octets | what |
//! |---|---|
//! | 0 to 4095 | head: magic number, version, number; checked |
//! | 4096 to 8191 | sums, one copy |
//! | 8192 to 12287 | sums, the other copy |
//! | from 12288 | records: header, block |
//!
//! The sums say what all records hold that were ever written here. The two copies are written in
//! turn, so that one is whole whatever happens.

use uuid::Uuid;

use super::codec::{MOST_PIECE, Reader, piece, put_contents, take_contents, take_piece};
use super::contents::Contents;

const MAGIC: [u8; 8] = *b"FLOWSPOL";
const HEAD: [u8; 4] = *b"FHED";
const SUMS: [u8; 4] = *b"FSUM";
/// The version that this agent reads and writes.
pub const VERSION: u32 = 1;
/// Each of the first three parts.
pub const PART: u64 = 4096;
/// Where records begin.
pub const RECORDS: u64 = 3 * PART;

/// The suffix of a segment's name.
const SEGMENT: &str = ".spool";
/// The suffix of its index.
const INDEX: &str = ".index";
/// Added to the names of what was moved aside.
pub const DAMAGED: &str = ".damaged";
/// Added to the name of a segment that is being removed.
pub const SPENT: &str = ".spent";

/// The name of a segment.
pub fn segment_name(number: u64) -> String {
    format!("{number:08}{SEGMENT}")
}

/// The name of its index.
pub fn index_name(number: u64) -> String {
    format!("{number:08}{INDEX}")
}

/// A file of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    Segment(u64),
    Index(u64),
    Damaged,
    Spent(u64),
}

impl Name {
    pub fn parse(name: &str) -> Option<Self> {
        if name.ends_with(DAMAGED) {
            return Some(Self::Damaged);
        }
        let number = |digits: &str| {
            let plain = digits.len() >= 8 && digits.bytes().all(|octet| octet.is_ascii_digit());
            let number: u64 = plain.then(|| digits.parse().ok()).flatten()?;
            // One name for one number.
            (format!("{number:08}") == digits && number < u64::MAX / 2).then_some(number)
        };
        if let Some(name) = name.strip_suffix(SPENT) {
            return number(name.strip_suffix(SEGMENT)?).map(Self::Spent);
        }
        if let Some(digits) = name.strip_suffix(SEGMENT) {
            return number(digits).map(Self::Segment);
        }
        number(name.strip_suffix(INDEX)?).map(Self::Index)
    }
}

/// The head of a segment or an index.
pub fn head(number: u64) -> Vec<u8> {
    let mut content = MAGIC.to_vec();
    content.extend(VERSION.to_le_bytes());
    content.extend(number.to_le_bytes());
    piece(HEAD, 0, &content)
}

/// Length of [`head`].
pub const HEAD_LENGTH: usize = 20 + super::codec::PIECE;

/// The version that a head says; none if it is not whole.
pub fn version(octets: &[u8]) -> Option<u32> {
    let (_, content, _) = take_piece(HEAD, octets)?;
    let mut reader = Reader(content);
    (reader.take()? == MAGIC).then(|| reader.u32()).flatten()
}

/// What all records hold that were ever written to a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub contents: Contents,
    /// Where the last of them ends.
    pub end: u64,
    /// Its batch. It may be elsewhere, too, if the write of these sums failed.
    pub last: Uuid,
}

impl Sums {
    /// Of a segment without records.
    pub fn empty() -> Self {
        Self { end: RECORDS, ..Self::default() }
    }

    /// The octets, and where they are written.
    pub fn encode(&self) -> (u64, Vec<u8>) {
        let mut content = self.end.to_le_bytes().to_vec();
        content.extend(self.last.as_bytes());
        let most = PART as usize - super::codec::PIECE - content.len();
        put_contents(&mut content, &self.contents, most);
        (PART * (1 + self.contents.batches % 2), piece(SUMS, 0, &content))
    }

    /// The younger of the copies that are whole. `octets` are the first three parts.
    pub fn decode(octets: &[u8]) -> Option<Self> {
        let copy = |part: u64| {
            let octets = octets.get((part * PART) as usize..)?;
            let (_, content, _) = take_piece(SUMS, octets)?;
            let mut reader = Reader(content);
            let (end, last) = (reader.u64()?, Uuid::from_bytes(reader.take()?));
            Some(Self { contents: take_contents(&mut reader)?, end, last })
        };
        [copy(1), copy(2)].into_iter().flatten().max_by_key(|sums| sums.contents.batches)
    }
}

const _: () = assert!(MOST_PIECE > PART as usize);
