//! Records, what is known of them and names become one block.
//!
//! One pass over the records, some hundred at a time: they stay in the nearest cache while column
//! after column is written to its place, which is known beforehand for columns of fixed width.

use std::sync::Arc;

use flow_common::Count;
use uuid::Uuid;

use super::cell::Cell;
use super::columns::{self, OF_RECORDS, OTHERS};
use super::dictionary::Dictionary;
use super::labels::{HostTexts, LabelColumns};
use super::native::{BlockBuilder, BlockSize};
use crate::enrich::BatchLabels;
use crate::frozen::{FrozenBatch, Table};
use crate::names::Names;
use crate::record::FlowRecord;

/// Records that are encoded together: about 40 KiB.
const TILE: usize = 256;

/// Octets for names and types of the columns and for small dictionaries.
const HEADS: usize = 8 << 10;

impl FrozenBatch {
    /// Freezes records with what is known of them and what their interfaces are called, at a time
    /// in Unix seconds.
    ///
    /// # Panics
    /// There are no records, or more than [`super::MOST_ROWS`].
    pub fn of_flows(
        records: &[FlowRecord],
        labels: &BatchLabels,
        names: &Names,
        id: Uuid,
        exported_at: u32,
    ) -> Self {
        let rows = records.len();
        assert!((1..=super::MOST_ROWS).contains(&rows), "{rows} rows are no batch");
        let hosts = HostTexts::of(labels, rows);
        let fixed: usize = OF_RECORDS.iter().map(|of| of.width).sum();
        let other: usize =
            OTHERS.iter().map(|column| columns::width(column.kind).unwrap_or(1)).sum();
        let columns = OF_RECORDS.len() + OTHERS.len();
        let octets = HEADS + rows * (fixed + other) + hosts.octets();
        let mut block = BlockBuilder::new(BlockSize { columns, rows, octets });
        let places: Vec<_> =
            OF_RECORDS.iter().map(|of| block.fixed(of.column, of.width).start).collect();
        let place = block.fixed(columns::EXPORTED_AT, u32::WIDTH);
        repeat(block.values(place), exported_at);
        let place = block.fixed(columns::BATCH_ID, Uuid::WIDTH);
        repeat(block.values(place), id);
        let asn = [columns::SRC_ASN, columns::DST_ASN];
        let asn = asn.map(|column| block.fixed(column, u32::WIDTH).start);

        let mut interfaces = Interfaces::new(names, rows);
        let mut known = LabelColumns::new(labels, rows);
        for (tile, records) in records.chunks(TILE).enumerate() {
            let at = tile * TILE;
            for (of, start) in OF_RECORDS.iter().zip(&places) {
                let start = start + at * of.width;
                (of.encode)(records, block.values(start..start + records.len() * of.width));
            }
            interfaces.add(records);
            known.add(at, records);
            for (column, start) in asn.iter().enumerate() {
                let start = start + at * u32::WIDTH;
                let place = start..start + records.len() * u32::WIDTH;
                known.put_asn(at, column, block.values(place));
            }
        }
        block.dictionary(columns::EXPORTER.name, &Dictionary::constant(&names.exporter, rows));
        block.dictionary(columns::INTERFACE.name, &interfaces.dictionary);
        known.write(&mut block);
        hosts.write(&mut block);
        let counts = interfaces.counts();
        Self {
            id,
            table: Table::Flows,
            exported_at,
            rows: rows as u32,
            counts,
            block: block.finish(),
        }
    }
}

/// Fills a column with one value.
pub(super) fn repeat<C: Cell>(out: &mut [u8], value: C) {
    for cell in out.chunks_exact_mut(C::WIDTH) {
        value.put(cell);
    }
}

/// The column `interface`, and what is counted by it.
struct Interfaces<'n> {
    names: &'n Names,
    dictionary: Dictionary,
    /// By the records' numbers: the name's number in the dictionary plus one.
    numbers: Vec<u32>,
    /// By number in the dictionary.
    counts: Vec<(Arc<str>, Count)>,
}

impl<'n> Interfaces<'n> {
    fn new(names: &'n Names, rows: usize) -> Self {
        Self {
            names,
            dictionary: Dictionary::with_capacity(rows),
            // One more for the numbers that have no name.
            numbers: vec![0; names.highest() + 2],
            counts: Vec::new(),
        }
    }

    fn add(&mut self, records: &[FlowRecord]) {
        for record in records {
            let slot = usize::from(record.interface).min(self.numbers.len() - 1);
            let index = match self.numbers[slot] {
                0 => self.name(slot, record.interface),
                known => known - 1,
            };
            self.dictionary.push(index);
            let (_, count) = &mut self.counts[index as usize];
            count.add(record.total_packets(), record.total_octets());
        }
    }

    #[cold]
    fn name(&mut self, slot: usize, number: u16) -> u32 {
        let name = self.names.interface(number);
        let index = self.dictionary.key(name);
        self.numbers[slot] = index + 1;
        if self.counts.len() <= index as usize {
            self.counts.push((name.clone(), Count::default()));
        }
        index
    }

    fn counts(mut self) -> Vec<(Arc<str>, Count)> {
        self.counts.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.counts
    }
}
