//! Bounds-checked access to the captured octets of one packet.

/// The captured octets of a packet, from its link header on.
///
/// A kernel program implements this over packet memory, so each read is one
/// comparison and a few wide loads; replay implements it for slices. Words are
/// what a 64-bit machine reads at once: a parser that asks for octets gets an
/// instruction for each of them.
pub trait Frame {
    /// The `N` words of four octets at `offset`, in memory order, or `None`
    /// when any of their octets was not captured.
    fn words<const N: usize>(&self, offset: usize) -> Option<[u32; N]>;

    /// Octets of the whole frame on the wire, which may be more than can be read.
    fn wire_octets(&self) -> u32;

    /// Octets that can be read.
    fn captured_octets(&self) -> usize;

    /// True when the frame surely has `octets` on the wire. Where it is no work to tell that of
    /// more than what can be read, it is told.
    #[inline(always)]
    fn has_octets(&self, octets: usize) -> bool {
        octets <= self.captured_octets()
    }

    /// The two octets at `offset`, as a number in network byte order.
    fn u16(&self, offset: usize) -> Option<u16>;

    /// The same offset, below `limit` (a power of two), without its history.
    ///
    /// The kernel's verifier follows every way through the parser as long as it
    /// can tell their offsets apart. Where ways meet it must be made to forget
    /// them, or their number multiplies from header to header.
    #[inline(always)]
    fn merge_paths(&self, offset: usize, limit: usize) -> usize {
        debug_assert!(offset < limit && limit.is_power_of_two());
        offset
    }

    /// The four octets at `offset`, as a number in network byte order.
    #[inline(always)]
    fn u32(&self, offset: usize) -> Option<u32> {
        Some(u32::from_be(self.words::<1>(offset)?[0]))
    }
}

/// A frame of a capture.
#[derive(Clone, Copy, Debug)]
pub struct Captured<'a> {
    /// Its octets, as far as they were captured.
    pub octets: &'a [u8],
    /// Octets on the wire.
    pub wire_octets: u32,
}

impl Frame for Captured<'_> {
    #[inline(always)]
    fn words<const N: usize>(&self, offset: usize) -> Option<[u32; N]> {
        let (words, _) = self.octets.get(offset..)?.as_chunks::<4>();
        Some(words.first_chunk::<N>()?.map(u32::from_ne_bytes))
    }

    #[inline(always)]
    fn wire_octets(&self) -> u32 {
        self.wire_octets
    }

    #[inline(always)]
    fn captured_octets(&self) -> usize {
        self.octets.len()
    }

    #[inline(always)]
    fn has_octets(&self, octets: usize) -> bool {
        octets <= self.octets.len().max(self.wire_octets as usize)
    }

    #[inline(always)]
    fn u16(&self, offset: usize) -> Option<u16> {
        Some(u16::from_be_bytes(*self.octets.get(offset..)?.first_chunk()?))
    }
}
