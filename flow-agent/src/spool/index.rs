//! The index of a segment: a second copy of each record's header, and what became of them.
//!
//! It is only appended to, by several at once, and never synced before its segment is closed: a
//! lost note makes a batch doubtful once more, a lost copy leaves the header in the segment.

use uuid::Uuid;

use super::codec::{Reader, piece, put_contents, take_contents, take_piece};
use super::contents::Contents;
use super::record::RecordHeader;

const MAGIC: [u8; 4] = *b"FIDX";
const RECORD: u8 = 1;
const SETTLED: u8 = 2;
const TOLD: u8 = 3;
const LOST: u8 = 4;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A record whose header begins there.
    Record(u64, RecordHeader),
    /// This batch is done with.
    Settled(Uuid),
    /// This batch cannot be read back, which was told.
    Lost(Uuid),
    /// This was lost, has no known id, and was told.
    Told(Contents),
}

impl Note {
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Record(offset, header) => {
                let mut content = offset.to_le_bytes().to_vec();
                content.extend(header.encode());
                piece(MAGIC, RECORD, &content)
            }
            Self::Settled(id) => piece(MAGIC, SETTLED, id.as_bytes()),
            Self::Lost(id) => piece(MAGIC, LOST, id.as_bytes()),
            Self::Told(contents) => {
                let mut content = Vec::new();
                put_contents(&mut content, contents, super::codec::MOST_PIECE);
                piece(MAGIC, TOLD, &content)
            }
        }
    }

    fn decode(kind: u8, content: &[u8]) -> Option<Self> {
        let mut reader = Reader(content);
        match kind {
            RECORD => {
                let offset = reader.u64()?;
                RecordHeader::decode(reader.0).map(|(header, _)| Self::Record(offset, header))
            }
            SETTLED => Some(Self::Settled(Uuid::from_bytes(reader.take()?))),
            LOST => Some(Self::Lost(Uuid::from_bytes(reader.take()?))),
            TOLD => take_contents(&mut reader).map(Self::Told),
            _ => None,
        }
    }

    /// All that are whole, in order. What is damaged is passed over.
    pub fn all(mut octets: &[u8]) -> Vec<Self> {
        let mut notes = Vec::new();
        while octets.len() >= MAGIC.len() {
            if let Some((kind, content, length)) = take_piece(MAGIC, octets) {
                notes.extend(Self::decode(kind, content));
                octets = &octets[length..];
            } else {
                let next = octets[1..].windows(MAGIC.len()).position(|window| window == MAGIC);
                let Some(next) = next else { break };
                octets = &octets[next + 1..];
            }
        }
        notes
    }
}
