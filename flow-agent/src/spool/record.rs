//! The header of a record: all that is to be known of a batch but its rows.

use std::sync::Arc;

use flow_common::Count;
use uuid::Uuid;

use super::codec::{PIECE, Reader, checksum, piece, put_counts, take_counts, take_piece};
use crate::frozen::{FrozenBatch, Table};

const MAGIC: [u8; 4] = *b"FREC";
/// With four thousand interfaces; counts of more are summed up.
const MOST_HEADER: usize = 128 << 10;

/// What comes before the block, and a second time in the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    pub id: Uuid,
    pub table: Table,
    pub exported_at: u32,
    pub rows: u32,
    /// Length of the block.
    pub octets: u32,
    /// Of the block.
    pub checksum: u32,
    pub counts: Vec<(Arc<str>, Count)>,
}

impl RecordHeader {
    pub fn of(batch: &FrozenBatch) -> Self {
        Self {
            id: batch.id,
            table: batch.table,
            exported_at: batch.exported_at,
            rows: batch.rows,
            octets: batch.block.len() as u32,
            checksum: checksum(&batch.block),
            counts: batch.counts.clone(),
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(64);
        content.extend(self.id.as_bytes());
        content.push(self.table as u8);
        content.extend(self.exported_at.to_le_bytes());
        content.extend(self.rows.to_le_bytes());
        content.extend(self.octets.to_le_bytes());
        content.extend(self.checksum.to_le_bytes());
        let content_before = content.len();
        put_counts(
            &mut content,
            self.counts.iter().map(|(name, count)| (name, count)),
            MOST_HEADER - PIECE - content_before,
        );
        piece(MAGIC, 0, &content)
    }

    /// The header that `octets` begin with, and its length.
    pub fn decode(octets: &[u8]) -> Option<(Self, usize)> {
        let (_, content, length) = take_piece(MAGIC, octets)?;
        let mut reader = Reader(content);
        let header = Self {
            id: Uuid::from_bytes(reader.take()?),
            table: table(reader.u8()?)?,
            exported_at: reader.u32()?,
            rows: reader.u32()?,
            octets: reader.u32()?,
            checksum: reader.u32()?,
            counts: take_counts(&mut reader)?,
        };
        Some((header, length))
    }

    /// How long the header is that `octets` begin with, judging by its first octets alone.
    pub fn length(octets: &[u8]) -> Option<usize> {
        let mut reader = Reader(octets);
        if reader.take::<4>()? != MAGIC {
            return None;
        }
        let (_, length) = (reader.u8()?, reader.u32()? as usize);
        (PIECE + length <= MOST_HEADER).then_some(PIECE + length)
    }

    /// Where the next header may begin, after the first of `octets`.
    pub fn next_in(octets: &[u8]) -> Option<usize> {
        let rest = octets.get(1..)?;
        rest.windows(MAGIC.len()).position(|window| window == MAGIC).map(|at| at + 1)
    }
}

fn table(number: u8) -> Option<Table> {
    [Table::Flows, Table::Ledger, Table::Latency].into_iter().find(|table| *table as u8 == number)
}
