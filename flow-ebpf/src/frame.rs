//! Packet memory as a [`Frame`]: every read is one comparison that the verifier understands.

use core::ptr;

use flow_common::Frame;

use crate::hook::Context;

/// The directly readable octets of a packet: `[start, end)`.
pub struct PacketMemory<'a, C> {
    ctx: &'a C,
    start: usize,
    end: usize,
    /// Map memory of this CPU, for [`Frame::merge_paths`].
    scratch: *mut u64,
}

impl<'a, C: Context> PacketMemory<'a, C> {
    /// `start` and `end` as the program context gives them; `scratch` in a map.
    #[inline(always)]
    pub fn new(ctx: &'a C, start: usize, end: usize, scratch: *mut u64) -> Self {
        Self { ctx, start, end, scratch }
    }

    /// A value at `offset`, in memory order. Larger than one octet: the verifier
    /// does not follow the comparison that compilers make of a single octet's check.
    #[inline(always)]
    fn read<T: Copy>(&self, offset: usize) -> Option<T> {
        const { assert!(size_of::<T>() >= 2) };
        let at = self.start + offset;
        if at + size_of::<T>() > self.end {
            return None;
        }
        // SAFETY: start..end is packet memory and the value lies in it; the
        // verifier checks the same. `T` is made of integers. Headers stand at
        // any offset, but a read that says so becomes one load for each octet;
        // BPF loads need no alignment in packets where the JIT is for x86-64 or
        // arm64, and elsewhere the verifier refuses the program.
        Some(unsafe { (at as *const T).read() })
    }
}

impl<C: Context> Frame for PacketMemory<'_, C> {
    #[inline(always)]
    fn wire_octets(&self) -> u32 {
        self.ctx.wire_octets()
    }

    #[inline(always)]
    fn captured_octets(&self) -> usize {
        self.end - self.start
    }

    #[inline(always)]
    fn words<const N: usize>(&self, offset: usize) -> Option<[u32; N]> {
        self.read(offset)
    }

    #[inline(always)]
    fn u16(&self, offset: usize) -> Option<u16> {
        self.read(offset).map(u16::from_be)
    }

    #[inline(always)]
    fn merge_paths(&self, offset: usize, limit: usize) -> usize {
        // The verifier does not follow what is in map memory.
        // SAFETY: `scratch` is memory of a map, which outlives the program.
        let forgotten = unsafe {
            ptr::write_volatile(self.scratch, offset as u64);
            ptr::read_volatile(self.scratch)
        };
        forgotten as usize & (limit - 1)
    }
}
