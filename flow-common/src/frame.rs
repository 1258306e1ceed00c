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

impl Frame for [u8] {
    #[inline(always)]
    fn words<const N: usize>(&self, offset: usize) -> Option<[u32; N]> {
        let (words, _) = self.get(offset..)?.as_chunks::<4>();
        Some(words.first_chunk::<N>()?.map(u32::from_ne_bytes))
    }

    #[inline(always)]
    fn u16(&self, offset: usize) -> Option<u16> {
        Some(u16::from_be_bytes(*self.get(offset..)?.first_chunk()?))
    }
}
