//! What the ledger and the latency histograms counted becomes blocks of their tables.

use std::sync::Arc;

use flow_common::Count;
use uuid::Uuid;

use super::BlockError;
use super::block::Block;
use super::cell::Cell;
use super::columns::{self, BATCH_ID, Column, UINT64};
use super::dictionary::Dictionary;
use super::native::{BlockBuilder, BlockSize};
use crate::frozen::{FrozenBatch, Table};
use crate::latency::Bucket;
use crate::ledger::{Counts, Entry};

/// More than a row and the columns' heads take.
const OCTETS_A_ROW: usize = 128;
const HEADS: usize = 1 << 10;

const TS: Column = Column { name: "ts", kind: columns::EXPORTED_AT.kind };

/// A block that begins with the columns that both tables have.
fn block(columns: usize, rows: usize, exporter: &str, id: Uuid, ts: u32) -> BlockBuilder {
    let octets = HEADS + rows * OCTETS_A_ROW;
    let mut block = BlockBuilder::new(BlockSize { columns, rows, octets });
    cells(&mut block, TS, rows, |_| ts);
    cells(&mut block, BATCH_ID, rows, |_| id);
    block.dictionary(columns::EXPORTER.name, &Dictionary::constant(exporter, rows));
    block
}

fn cells<C: Cell>(
    block: &mut BlockBuilder,
    column: Column,
    rows: usize,
    value: impl Fn(usize) -> C,
) {
    let place = block.fixed(column, C::WIDTH);
    let cells = block.values(place).chunks_exact_mut(C::WIDTH);
    (0..rows).zip(cells).for_each(|(row, cell)| value(row).put(cell));
}

fn dictionary<'t>(
    block: &mut BlockBuilder,
    name: &'static str,
    texts: impl Iterator<Item = &'t str>,
) {
    let mut dictionary = Dictionary::default();
    for text in texts {
        let number = dictionary.key(text);
        dictionary.push(number);
    }
    block.dictionary(name, &dictionary);
}

impl FrozenBatch {
    /// Freezes what the ledger counted in an interval that ended at `ts` (Unix seconds).
    ///
    /// # Panics
    /// There is nothing in it.
    pub fn of_ledger(counts: &Counts, exporter: &str, id: Uuid, ts: u32) -> Self {
        assert!(!counts.is_empty(), "no rows are no batch");
        let rows = counts.len();
        let mut block = block(7 + 1, rows, exporter, id, ts);
        let interfaces = counts.keys().map(|(interface, _): &(Arc<str>, _)| &**interface);
        dictionary(&mut block, "interface", interfaces);
        let labels: Vec<_> = counts.keys().map(|(_, entry)| entry.labels()).collect();
        dictionary(&mut block, "stage", labels.iter().map(|(stage, _)| *stage));
        dictionary(&mut block, "reason", labels.iter().map(|(_, reason)| *reason));
        let counts: Vec<_> = counts.values().collect();
        let packets = Column { name: "packets", kind: UINT64 };
        cells(&mut block, packets, rows, |row| counts[row].packets);
        let octets = Column { name: "octets", kind: UINT64 };
        cells(&mut block, octets, rows, |row| counts[row].octets);
        Self::of_books(Table::Ledger, id, ts, rows, block)
    }

    /// Freezes histogram buckets of an interval that ended at `ts` (Unix seconds).
    ///
    /// # Panics
    /// There are none.
    pub fn of_latency(buckets: &[Bucket], exporter: &str, id: Uuid, ts: u32) -> Self {
        assert!(!buckets.is_empty(), "no rows are no batch");
        let rows = buckets.len();
        let mut block = block(5 + 1, rows, exporter, id, ts);
        dictionary(&mut block, "stage", buckets.iter().map(|bucket| bucket.stage.label()));
        let bucket_ns = Column { name: "bucket_ns", kind: UINT64 };
        cells(&mut block, bucket_ns, rows, |row| buckets[row].upper_ns);
        let count = Column { name: "count", kind: UINT64 };
        cells(&mut block, count, rows, |row| buckets[row].count);
        Self::of_books(Table::Latency, id, ts, rows, block)
    }

    /// What a batch of the table `ledger` says.
    ///
    /// # Errors
    /// The block is damaged, of another table, or of a version that counts what this one does not.
    pub fn ledger_counts(&self) -> Result<Counts, BlockError> {
        let block = Block::parse(&self.block)?;
        let (interfaces, interface) = block.dictionary("interface")?;
        let (stages, stage) = block.dictionary("stage")?;
        let (reasons, reason) = block.dictionary("reason")?;
        let numbers = |name| {
            let octets: &[u8] = block.fixed(name, UINT64)?;
            Ok::<_, BlockError>(octets.chunks_exact(u64::WIDTH).filter_map(u64::get))
        };
        let names: Vec<Arc<str>> = interfaces.iter().map(|name| Arc::from(*name)).collect();
        let sums = numbers("packets")?.zip(numbers("octets")?);
        let mut counts = Counts::new();
        for (((interface, stage), reason), (packets, octets)) in
            interface.zip(stage).zip(reason).zip(sums)
        {
            let entry = Entry::from_labels(stages[stage], reasons[reason]);
            let entry = entry.ok_or_else(|| BlockError::Value { column: "stage".into() })?;
            let count = Count { packets, octets };
            counts.entry((names[interface].clone(), entry)).or_default().merge(count);
        }
        Ok(counts)
    }

    fn of_books(table: Table, id: Uuid, ts: u32, rows: usize, block: BlockBuilder) -> Self {
        Self {
            id,
            table,
            exported_at: ts,
            rows: rows as u32,
            counts: Vec::new(),
            block: block.finish(),
        }
    }
}
