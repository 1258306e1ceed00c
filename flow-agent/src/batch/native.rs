//! ClickHouse's `Native` format: numbers of columns and rows, then for each column its name, its
//! type and its values, one column after the other.
//!
//! Columns of fixed width may be filled later and in any order; the others follow them. It holds
//! that the columns which were announced are written, each once, with a value for each row.

use std::ops::Range;

use bytes::Bytes;

use super::buffers::BUFFERS;
use super::columns::{Column, DICTIONARY, STRING};
use super::dictionary::Dictionary;

/// A block that is being written.
#[derive(Debug)]
pub struct BlockBuilder {
    out: Vec<u8>,
    rows: usize,
    /// Columns that are still to come.
    missing: usize,
}

/// Rows and columns of a block, and room for its values.
#[derive(Clone, Copy, Debug)]
pub struct BlockSize {
    /// Columns.
    pub columns: usize,
    /// Rows.
    pub rows: usize,
    /// Octets that it will have, about.
    pub octets: usize,
}

impl BlockBuilder {
    /// The head of a block.
    pub fn new(size: BlockSize) -> Self {
        let mut out = BUFFERS.take(size.octets);
        put_number(&mut out, size.columns as u64);
        put_number(&mut out, size.rows as u64);
        Self { out, rows: size.rows, missing: size.columns }
    }

    /// A column of `width` octets a row, all 0 until [`BlockBuilder::values`] at the returned
    /// place are filled.
    pub fn fixed(&mut self, column: Column, width: usize) -> Range<usize> {
        self.head(column.name, column.kind);
        let start = self.out.len();
        self.out.resize(start + width * self.rows, 0);
        start..self.out.len()
    }

    /// The values of a column of fixed width.
    pub fn values(&mut self, place: Range<usize>) -> &mut [u8] {
        &mut self.out[place]
    }

    /// A column of the type `LowCardinality(String)`.
    ///
    /// # Panics
    /// The dictionary has not one index a row.
    pub fn dictionary(&mut self, name: &str, dictionary: &Dictionary) {
        assert_eq!(dictionary.rows(), self.rows, "{name} has an index for each row");
        self.head(name, DICTIONARY);
        dictionary.write(&mut self.out);
    }

    /// A column of texts.
    ///
    /// # Panics
    /// There is not one a row.
    pub fn texts<'t>(&mut self, name: &str, texts: impl IntoIterator<Item = &'t str>) {
        self.head(name, STRING);
        let mut rows = 0;
        for text in texts {
            put_text(&mut self.out, text);
            rows += 1;
        }
        assert_eq!(rows, self.rows, "{name} has a text for each row");
    }

    /// The whole block.
    ///
    /// # Panics
    /// Columns that were announced are missing.
    pub fn finish(self) -> Bytes {
        assert_eq!(self.missing, 0, "columns are missing");
        BUFFERS.share(self.out)
    }

    /// A column of fixed width whose values are encoded already.
    ///
    /// # Panics
    /// They are not `width` octets a row.
    pub fn encoded(&mut self, name: &str, kind: &str, width: usize, values: &[u8]) {
        assert_eq!(values.len(), width * self.rows, "{name} has a value for each row");
        self.head(name, kind);
        self.out.extend_from_slice(values);
    }

    fn head(&mut self, name: &str, kind: &str) {
        self.missing = self.missing.checked_sub(1).expect("no more columns than announced");
        put_text(&mut self.out, name);
        put_text(&mut self.out, kind);
    }
}

/// A number as 7 bits an octet, the low ones first.
pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A text after its length.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}
