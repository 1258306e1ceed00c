//! A batch becomes two, under new ids, with the same rows.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use flow_common::Count;
use uuid::{Uuid, Variant, Version};

use super::BlockError;
use super::block::{Block, Values, indexes_of};
use super::cell::Cell;
use super::columns::{self, UINT64};
use super::dictionary::Dictionary;
use super::encode::repeat;
use super::native::{BlockBuilder, BlockSize};
use crate::frozen::{FrozenBatch, Table};
use crate::ledger::{Entry, LostRecord};

/// Beside 0 and 1 of the halves.
const RESENT: u8 = 2;

impl FrozenBatch {
    /// Two halves under new ids, which their columns `batch_id` have, too; none for one row, or
    /// for a block that cannot be read. The same batch always has the same halves, ids included:
    /// an agent that is killed while it splits a batch has sent some that the next one sends.
    pub fn halves(&self) -> Option<[Self; 2]> {
        let block = Block::parse(&self.block).ok()?;
        if block.rows < 2 {
            return None;
        }
        let middle = block.rows / 2;
        let first = self.part(&block, 0..middle).ok()?;
        Some([first, self.part(&block, middle..block.rows).ok()?])
    }

    /// True if one of these ids is that of a part of it: a half, a half of a half, and so on.
    pub fn has_part_in(&self, ids: &HashSet<Uuid>) -> bool {
        if ids.is_empty() {
            return false;
        }
        let mut wholes = vec![(self.id, self.rows)];
        while let Some((whole, rows)) = wholes.pop() {
            if rows < 2 {
                continue;
            }
            let parts =
                [(part_id(whole, false), rows / 2), (part_id(whole, true), rows - rows / 2)];
            if parts.iter().any(|(id, _)| ids.contains(id)) {
                return true;
            }
            wholes.extend(parts);
        }
        false
    }

    /// How the ids of it and of all its parts begin.
    pub fn family(&self) -> String {
        /// Characters that say the time, which parts have from the whole.
        const TIME: usize = 13;
        let mut id = self.id.to_string();
        id.truncate(TIME);
        id
    }

    /// The batch of the ledger that says that it was put aside for this reason at `ts` (Unix
    /// seconds) and that the store has it now; always under the same id, so that it is stored
    /// once. None for other tables than flows.
    ///
    /// # Errors
    /// The block cannot be read.
    pub fn resent(&self, reason: LostRecord, ts: u32) -> Result<Option<Self>, BlockError> {
        if self.counts.is_empty() {
            return Ok(None);
        }
        let exporter = self.records()?.names.exporter;
        let count =
            |(name, count): &(Arc<str>, Count)| ((name.clone(), Entry::Resent(reason)), *count);
        let counts = self.counts.iter().map(count).collect();
        Ok(Some(Self::of_ledger(&counts, &exporter, derived(self.id, RESENT), ts)))
    }

    fn part(&self, block: &Block<'_>, rows: Range<usize>) -> Result<Self, BlockError> {
        let id = part_id(self.id, rows.start > 0);
        let size = BlockSize {
            columns: block.columns.len(),
            rows: rows.len(),
            octets: self.block.len() / 2,
        };
        let mut out = BlockBuilder::new(size);
        for column in &block.columns {
            let name = column.name;
            match &column.values {
                Values::Fixed { .. } if name == columns::BATCH_ID.name => {
                    let place = out.fixed(columns::BATCH_ID, Uuid::WIDTH);
                    repeat(out.values(place), id);
                }
                Values::Fixed { width, octets } => {
                    let values = &octets[rows.start * width..rows.end * width];
                    out.encoded(name, column.kind, *width, values);
                }
                Values::Texts(texts) => out.texts(name, texts[rows.clone()].iter().copied()),
                Values::Dictionary { keys, width, indexes } => {
                    let mut dictionary = Dictionary::with_capacity(rows.len());
                    let indexes = &indexes[rows.start * width..rows.end * width];
                    for index in indexes_of(*width, indexes) {
                        let number = dictionary.key(keys[index]);
                        dictionary.push(number);
                    }
                    out.dictionary(name, &dictionary);
                }
            }
        }
        let counts = match self.table {
            Table::Flows => counts(block, rows.clone())?,
            Table::Ledger | Table::Latency => Vec::new(),
        };
        Ok(Self {
            id,
            table: self.table,
            exported_at: self.exported_at,
            rows: rows.len() as u32,
            counts,
            block: out.finish(),
        })
    }
}

fn part_id(whole: Uuid, second: bool) -> Uuid {
    derived(whole, second.into())
}

/// Version 7 with the time of the whole; the rest is a hash of the whole's id.
fn derived(whole: Uuid, number: u8) -> Uuid {
    /// Octets of the time.
    const TIME: usize = 6;
    let mut seed = whole.as_bytes().to_vec();
    seed.push(number);
    let mut id = cityhash_rs::cityhash_102_128(&seed).to_le_bytes();
    id[..TIME].copy_from_slice(&whole.as_bytes()[..TIME]);
    let builder = uuid::Builder::from_bytes(id);
    builder.with_variant(Variant::RFC4122).with_version(Version::SortRand).into_uuid()
}

/// Packets and octets of some rows, by interface.
fn counts(block: &Block<'_>, rows: Range<usize>) -> Result<Vec<(Arc<str>, Count)>, BlockError> {
    let column = |name| {
        let octets = block.fixed(name, UINT64)?;
        let octets = &octets[rows.start * u64::WIDTH..rows.end * u64::WIDTH];
        Ok::<_, BlockError>(octets.chunks_exact(u64::WIDTH).filter_map(u64::get))
    };
    let packets = column("packets")?.zip(column("reverse_packets")?);
    let octets = column("bytes")?.zip(column("reverse_bytes")?);
    let (names, numbers) = block.dictionary(columns::INTERFACE.name)?;
    let mut counts: BTreeMap<&str, Count> = BTreeMap::new();
    let numbers = numbers.skip(rows.start);
    for (number, ((packets, back), (octets, octets_back))) in numbers.zip(packets.zip(octets)) {
        let count = counts.entry(names[number]).or_default();
        count.add(packets.wrapping_add(back), octets.wrapping_add(octets_back));
    }
    Ok(counts.into_iter().map(|(name, count)| (name.into(), count)).collect())
}
