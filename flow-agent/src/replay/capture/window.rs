//! A source's octets enter in large reads, the next octets of the capture leave as one slice.
//!
//! What must hold: the buffer is reused and grows only to the largest packet or block asked for,
//! which its callers bound; a slice stays valid until the next `need` or `skip`. While a buffer is
//! held, for packets that are still to be looked at, it is not written again: what has not been
//! consumed moves to another one. Then reads fill a buffer, so that the same capture is cut into
//! the same buffers however its octets come.

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
    /// Packets of the buffer are still to be looked at.
    held: bool,
    /// The buffer that was held until there was no more in it.
    retired: Option<Vec<u8>>,
    /// Memory for the next buffer.
    spare: Vec<u8>,
}

impl Window {
    pub(super) fn new(source: Source) -> Self {
        Self {
            source,
            buffer: vec![0; READ_OCTETS],
            filled: 0..0,
            base: 0,
            ended: false,
            held: false,
            retired: None,
            spare: Vec::new(),
        }
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
        let begun = !self.held && self.retired.is_none();
        let size = octets.next_multiple_of(READ_OCTETS);
        if std::mem::take(&mut self.held) {
            let mut next = std::mem::take(&mut self.spare);
            if next.len() < size {
                next.resize(size, 0);
            }
            let rest = &self.buffer[self.filled.clone()];
            next[..rest.len()].copy_from_slice(rest);
            self.retired = Some(std::mem::replace(&mut self.buffer, next));
        } else {
            self.buffer.copy_within(self.filled.clone(), 0);
        }
        self.base += self.filled.start as u64;
        self.filled = 0..self.filled.len();
        if octets > self.buffer.len() {
            self.buffer.resize(size, 0);
        }
        // The rest of a buffer that was not begun is read by whoever begins it, into the cache of
        // the processor that then looks at it.
        let most = if begun { self.buffer.len() } else { octets };
        while self.filled.len() < octets && !self.ended {
            let read = self.source.read(&mut self.buffer[self.filled.end..most])?;
            self.ended = read == 0;
            self.filled.end += read;
        }
        Ok(self.filled.len() >= octets)
    }

    /// Begins a block: fills the buffer, and takes memory for the next one.
    pub(super) fn begin_block(&mut self, spare: Vec<u8>) -> io::Result<()> {
        self.spare = spare;
        while self.filled.end < self.buffer.len() && !self.ended {
            let read = self.source.read(&mut self.buffer[self.filled.end..])?;
            self.ended = read == 0;
            self.filled.end += read;
        }
        Ok(())
    }

    /// Says that packets of the buffer are still to be looked at.
    #[inline]
    pub(super) fn hold(&mut self) {
        self.held = true;
    }

    /// True when what was held is in the buffer that [`Self::end_block`] gives, and the latest
    /// packet is not.
    #[inline]
    pub(super) fn has_retired(&self) -> bool {
        self.retired.is_some()
    }

    /// The buffer that the packets of the block are in. When it is not a retired one, the capture
    /// must have ended.
    pub(super) fn end_block(&mut self) -> Vec<u8> {
        self.held = false;
        self.retired.take().unwrap_or_else(|| {
            let filled = std::mem::take(&mut self.filled);
            self.base += filled.start as u64;
            std::mem::take(&mut self.buffer)
        })
    }

    /// What is in memory and not consumed, and where it starts in the buffer.
    #[inline]
    pub(super) fn rest(&self) -> (&[u8], usize) {
        (&self.buffer[self.filled.clone()], self.filled.start)
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
