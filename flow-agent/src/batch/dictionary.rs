//! A column of the type `LowCardinality(String)`: each text once, and a number for each row.
//!
//! As in `SerializationLowCardinality` for the `Native` format: a state prefix (the version of the
//! keys), then flags with the width of the indexes, the keys of this block alone, the indexes.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::native::put_text;

/// `SharedDictionariesWithAdditionalKeys`, the only version there is.
pub(super) const KEY_VERSION: u64 = 1;
/// The keys come with the block, and replace what was before.
pub(super) const FLAGS: u64 = 1 << 9 | 1 << 10;

/// Texts of a column, by number, and the numbers of its rows.
#[derive(Clone, Debug, Default)]
pub struct Dictionary {
    /// Texts with their lengths, as they are written.
    keys: Vec<u8>,
    numbers: HashMap<Box<str>, u32, FixedState>,
    indexes: Vec<u32>,
}

impl Dictionary {
    /// No keys, and room for so many rows.
    pub fn with_capacity(rows: usize) -> Self {
        Self { indexes: Vec::with_capacity(rows), ..Self::default() }
    }

    /// All rows have one text.
    pub fn constant(text: &str, rows: usize) -> Self {
        let mut dictionary = Self::default();
        dictionary.key(text);
        dictionary.indexes = vec![0; rows];
        dictionary
    }

    /// The number of a text.
    pub fn key(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.numbers.len() as u32;
        put_text(&mut self.keys, text);
        self.numbers.insert(text.into(), number);
        number
    }

    /// The next row has the text with this number.
    #[inline]
    pub fn push(&mut self, number: u32) {
        self.indexes.push(number);
    }

    /// Rows so far.
    pub fn rows(&self) -> usize {
        self.indexes.len()
    }

    /// Writes the column's values.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let (code, width) = match self.numbers.len() {
            0..=0x100 => (0, 1),
            0x101..=0x1_0000 => (1, 2),
            _ => (2, 4),
        };
        out.extend_from_slice(&KEY_VERSION.to_le_bytes());
        out.extend_from_slice(&(FLAGS | code).to_le_bytes());
        out.extend_from_slice(&(self.numbers.len() as u64).to_le_bytes());
        out.extend_from_slice(&self.keys);
        out.extend_from_slice(&(self.indexes.len() as u64).to_le_bytes());
        match width {
            1 => out.extend(self.indexes.iter().map(|index| *index as u8)),
            2 => out.extend(self.indexes.iter().flat_map(|index| (*index as u16).to_le_bytes())),
            _ => out.extend(self.indexes.iter().flat_map(|index| index.to_le_bytes())),
        }
    }
}
