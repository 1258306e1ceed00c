//! Bounds-checked access to the captured octets of one packet.

/// The captured octets of a packet, from its link header on.
///
/// A kernel program implements this over packet memory, so each read must be
/// one bounds check and one load; replay implements it for slices.
pub trait Frame {
    /// The `N` octets at `offset`, or `None` when any of them was not captured.
    ///
    /// `N` is at least 2: the kernel's verifier does not follow the comparison
    /// that compilers make of a single octet's bounds check.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
}

impl Frame for [u8] {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..)?.first_chunk::<N>().copied()
    }
}
