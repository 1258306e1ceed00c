//! A source's octets enter in large reads, the next octets of the capture leave as one slice.
//!
//! What must hold: the buffer is reused and grows only to the largest packet or block asked for,
//! which its callers bound; a slice stays valid until the next `need` or `skip`.

use std::io;
use std::ops::Range;

use super::End;
use super::source::{Defect, Source};

/// Octets of one read: measured no slower than 1 MiB, and it stays in a small cache.
const READ_OCTETS: usize = 256 << 10;

/// The part of a capture that is in memory.
#[derive(Debug)]
pub(super) struct Window {
    source: Source,
    buffer: Vec<u8>,
    /// What is read but not yet consumed.
    filled: Range<usize>,
    /// Offset in the capture of the buffer's first octet.
    base: u64,
    ended: bool,
}

impl Window {
    pub(super) fn new(source: Source) -> Self {
        Self { source, buffer: vec![0; READ_OCTETS], filled: 0..0, base: 0, ended: false }
    }

    /// Makes sure that `octets` octets are in memory; `false` if the capture ends before.
    #[inline]
    pub(super) fn need(&mut self, octets: usize) -> io::Result<bool> {
        if self.filled.len() >= octets {
            return Ok(true);
        }
        self.fill(octets)
    }

    #[cold]
    fn fill(&mut self, octets: usize) -> io::Result<bool> {
        self.buffer.copy_within(self.filled.clone(), 0);
        self.base += self.filled.start as u64;
        self.filled = 0..self.filled.len();
        if octets > self.buffer.len() {
            self.buffer.resize(octets.next_multiple_of(READ_OCTETS), 0);
        }
        while self.filled.len() < octets && !self.ended {
            let read = self.source.read(&mut self.buffer[self.filled.end..])?;
            self.ended = read == 0;
            self.filled.end += read;
        }
        Ok(self.filled.len() >= octets)
    }

    /// Where the next `octets` octets are; they were asked for with [`Self::need`].
    #[inline]
    pub(super) fn ahead(&self, octets: usize) -> Range<usize> {
        self.filled.start..self.filled.start + octets
    }

    /// The octets at `range` of the buffer.
    #[inline]
    pub(super) fn slice(&self, range: Range<usize>) -> &[u8] {
        &self.buffer[range]
    }

    /// Octets in memory that are not consumed.
    pub(super) fn len(&self) -> usize {
        self.filled.len()
    }

    /// Consumes `octets` octets that were asked for with [`Self::need`].
    #[inline]
    pub(super) fn advance(&mut self, octets: usize) {
        debug_assert!(octets <= self.filled.len());
        self.filled.start += octets;
    }

    /// Consumes `octets` octets of any number without keeping them; `false` if the capture ends
    /// before.
    pub(super) fn skip(&mut self, mut octets: u64) -> io::Result<bool> {
        while octets > 0 {
            if !self.need(1)? {
                return Ok(false);
            }
            let step = octets.min(self.filled.len() as u64);
            self.filled.start += step as usize;
            octets -= step;
        }
        Ok(true)
    }

    /// Offset in the capture of the next octet.
    pub(super) fn offset(&self) -> u64 {
        self.base + self.filled.start as u64
    }

    /// How the capture ended, when the packet or block at offset `start` is not all there.
    pub(super) fn end_at(&self, start: u64) -> End {
        match self.source.defect() {
            Some(defect @ Defect::Damaged) => {
                End::Corrupt { offset: start, reason: defect.to_string() }
            }
            None if self.base + self.filled.end as u64 == start => End::Complete,
            None | Some(Defect::Cut) => End::Truncated { offset: start },
        }
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }
}
