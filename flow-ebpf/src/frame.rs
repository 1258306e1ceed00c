//! Packet memory as a [`Frame`]: every read is one comparison that the verifier understands.

use flow_common::Frame;

/// The directly readable octets of a packet: `[start, end)`.
pub struct PacketMemory {
    start: usize,
    end: usize,
}

impl PacketMemory {
    /// `start` and `end` as the program context gives them.
    #[inline(always)]
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }
}

impl Frame for PacketMemory {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        const { assert!(N >= 2) };
        let at = self.start + offset;
        if at + N > self.end {
            return None;
        }
        // SAFETY: start..end is packet memory and at..at+N lies in it; the verifier checks the same.
        Some(unsafe { *(at as *const [u8; N]) })
    }
}
