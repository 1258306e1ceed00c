//! Reading a block: octets enter, columns with their values leave, still encoded.
//!
//! Nothing of the octets is believed: lengths are checked against what is there, so damaged ones
//! end in an error, never in a panic or in memory that they only claim to need.

use super::BlockError;
use super::columns::{DICTIONARY, STRING, width};
use super::dictionary::{FLAGS, KEY_VERSION};

/// More columns than any table of the schema has.
const MOST_COLUMNS: u64 = 1_000;
/// A block never has more rows.
const MOST_ROWS: u64 = super::MOST_ROWS as u64;

/// The columns of a block.
#[derive(Debug)]
pub(super) struct Block<'a> {
    pub rows: usize,
    pub columns: Vec<BlockColumn<'a>>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct BlockColumn<'a> {
    pub name: &'a str,
    pub kind: &'a str,
    pub values: Values<'a>,
}

/// The values of a column.
#[derive(Debug)]
pub(super) enum Values<'a> {
    /// So many octets a row.
    Fixed { width: usize, octets: &'a [u8] },
    /// One after the other.
    Texts(Vec<&'a str>),
    /// Texts, and octets with the index of each row.
    Dictionary { keys: Vec<&'a str>, width: usize, indexes: &'a [u8] },
}

impl<'a> Block<'a> {
    /// Reads a whole block.
    pub fn parse(octets: &'a [u8]) -> Result<Self, BlockError> {
        Self::parse_until(octets, |_| false)
    }

    /// Reads the columns up to the one that is the `last` that is needed; all of them and the end
    /// if there is none.
    pub fn parse_until(octets: &'a [u8], last: impl Fn(&str) -> bool) -> Result<Self, BlockError> {
        let mut rest = Rest(octets);
        let count = rest.number("number of columns", MOST_COLUMNS)?;
        let rows = rest.number("number of rows", MOST_ROWS)?;
        let mut block = Self { rows, columns: Vec::with_capacity(count) };
        for _ in 0..count {
            let (name, kind) = (rest.text("name of a column")?, rest.text("type of a column")?);
            let values = rest.values(name, kind, rows)?;
            block.columns.push(BlockColumn { name, kind, values });
            if last(name) {
                return Ok(block);
            }
        }
        match rest.0.len() {
            0 => Ok(block),
            octets => Err(BlockError::Rest { octets }),
        }
    }

    fn column(&self, name: &'static str) -> Result<&BlockColumn<'a>, BlockError> {
        let found = self.columns.iter().find(|column| column.name == name);
        found.ok_or(BlockError::Missing { column: name })
    }

    /// The octets of a column whose values have a fixed width.
    pub fn fixed(&self, name: &'static str, kind: &str) -> Result<&'a [u8], BlockError> {
        let column = self.column(name)?;
        match column.values {
            Values::Fixed { octets, .. } if column.kind == kind => Ok(octets),
            _ => Err(column.wrong_type()),
        }
    }

    /// The texts of a column of such, by row.
    pub fn texts(&self, name: &'static str) -> Result<&[&'a str], BlockError> {
        let column = self.column(name)?;
        match &column.values {
            Values::Texts(texts) => Ok(texts),
            _ => Err(column.wrong_type()),
        }
    }

    /// The keys of a column with a dictionary, and the number of each row's key.
    pub fn dictionary(
        &self,
        name: &'static str,
    ) -> Result<(&[&'a str], impl Iterator<Item = usize> + use<'a>), BlockError> {
        let column = self.column(name)?;
        match &column.values {
            Values::Dictionary { keys, width, indexes } => Ok((keys, indexes_of(*width, indexes))),
            _ => Err(column.wrong_type()),
        }
    }
}

impl BlockColumn<'_> {
    fn wrong_type(&self) -> BlockError {
        BlockError::Type { column: self.name.into(), kind: self.kind.into() }
    }
}

/// Little-endian numbers of `width` octets.
pub(super) fn indexes_of(width: usize, octets: &[u8]) -> impl Iterator<Item = usize> {
    octets
        .chunks_exact(width)
        .map(|octets| octets.iter().rev().fold(0, |number, octet| number << 8 | *octet as usize))
}

/// Octets that are not yet read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, octets: usize, within: &'static str) -> Result<&'a [u8], BlockError> {
        let (taken, rest) = self.0.split_at_checked(octets).ok_or(BlockError::Cut { within })?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number of 7 bits an octet, at most `most`.
    fn number(&mut self, what: &'static str, most: u64) -> Result<usize, BlockError> {
        let mut number: u64 = 0;
        for shift in (0..64).step_by(7) {
            let [octet] = *self.take(1, what)? else { break };
            number |= u64::from(octet & 0x7f) << shift;
            if octet < 0x80 {
                break;
            }
        }
        if number > most {
            return Err(BlockError::TooMany { what, number });
        }
        Ok(number as usize)
    }

    fn text(&mut self, what: &'static str) -> Result<&'a str, BlockError> {
        let length = self.number(what, self.0.len() as u64)?;
        str::from_utf8(self.take(length, what)?).map_err(|_| BlockError::NoText { what })
    }

    fn word(&mut self) -> Result<u64, BlockError> {
        let octets = self.take(8, "the head of a dictionary")?;
        Ok(octets.iter().rev().fold(0, |number, octet| number << 8 | u64::from(*octet)))
    }

    fn values(&mut self, name: &str, kind: &str, rows: usize) -> Result<Values<'a>, BlockError> {
        match kind {
            STRING => Ok(Values::Texts(self.list(rows)?)),
            DICTIONARY if rows == 0 => Ok(Values::Dictionary {
                keys: Vec::new(),
                width: 1,
                indexes: self.take(0, "a dictionary")?,
            }),
            DICTIONARY => self.dictionary(name, rows),
            kind => {
                let unknown = || BlockError::Type { column: name.into(), kind: kind.into() };
                let width = width(kind).ok_or_else(unknown)?;
                let octets = self.take(width * rows, "the values of a column")?;
                Ok(Values::Fixed { width, octets })
            }
        }
    }

    /// Texts, each of at least one octet.
    fn list(&mut self, count: usize) -> Result<Vec<&'a str>, BlockError> {
        if count > self.0.len() {
            return Err(BlockError::Cut { within: "texts" });
        }
        (0..count).map(|_| self.text("a text")).collect()
    }

    fn dictionary(&mut self, name: &str, rows: usize) -> Result<Values<'a>, BlockError> {
        let bad = || BlockError::Value { column: name.into() };
        let (version, flags) = (self.word()?, self.word()?);
        if version != KEY_VERSION || flags & !3 != FLAGS {
            return Err(bad());
        }
        let width = 1 << (flags & 3);
        let keys = self.word()?;
        let keys = self.list(usize::try_from(keys).unwrap_or(usize::MAX))?;
        if self.word()? != rows as u64 {
            return Err(bad());
        }
        let indexes = self.take(width * rows, "the indexes of a dictionary")?;
        if indexes_of(width, indexes).any(|index| index >= keys.len()) {
            return Err(bad());
        }
        Ok(Values::Dictionary { keys, width, indexes })
    }
}
