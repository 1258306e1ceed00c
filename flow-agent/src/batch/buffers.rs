//! Memory of blocks that nobody has any more, for the next ones.
//!
//! A block of a busy host takes some ten megabytes. New memory of that size comes from the kernel
//! page by page, which costs more than to write it; memory that was just used is there. It holds
//! that no more than [`KEPT`] buffers wait, and none that is much larger than what is needed now.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Buffers that may wait: as many as are sent at a time on most hosts.
const KEPT: usize = 2;
/// Blocks that are smaller come from the allocator, which keeps such memory itself.
const SMALLEST: usize = 1 << 20;
/// A buffer so many times larger than what is needed is given back to the system.
const TOO_LARGE: usize = 4;

/// Those of this process.
pub(super) static BUFFERS: Buffers = Buffers(Mutex::new(Vec::new()));

/// Free buffers.
pub(super) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    /// An empty buffer with room for so many octets.
    pub fn take(&self, octets: usize) -> Vec<u8> {
        let mut free = self.free();
        free.retain(|buffer| buffer.capacity() / TOO_LARGE <= octets);
        let found = free.iter().position(|buffer| buffer.capacity() >= octets);
        // The next block may be a little larger; room that is not used takes no memory.
        found.map_or_else(|| Vec::with_capacity(octets + octets / 4), |at| free.swap_remove(at))
    }

    /// The octets of a buffer, which is free again when nobody has them.
    pub fn share(&'static self, buffer: Vec<u8>) -> Bytes {
        if buffer.capacity() < SMALLEST {
            return buffer.into();
        }
        Bytes::from_owner(Shared { buffer, home: self })
    }

    fn free(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        // A list is valid between any two of its operations.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Shared {
    buffer: Vec<u8>,
    home: &'static Buffers,
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let mut free = self.home.free();
        free.push(buffer);
        if free.len() > KEPT {
            // Batches have become larger: the smallest is of no use any more.
            free.sort_unstable_by_key(|buffer| std::cmp::Reverse(buffer.capacity()));
            free.truncate(KEPT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffers() -> &'static Buffers {
        Box::leak(Box::new(Buffers(Mutex::default())))
    }

    #[test]
    fn a_buffer_is_used_again_once_nobody_has_its_octets() {
        let buffers = buffers();
        let mut buffer = buffers.take(SMALLEST);
        let capacity = buffer.capacity();
        buffer.push(7);
        let block = buffers.share(buffer);
        let copy = block.clone();
        drop(block);
        assert_eq!(copy[..], [7]);
        assert!(buffers.free().is_empty(), "still in use");
        drop(copy);
        assert_eq!(buffers.free().len(), 1);
        let again = buffers.take(SMALLEST + SMALLEST / 5);
        assert_eq!((again.len(), again.capacity()), (0, capacity));
        assert!(buffers.free().is_empty());
    }

    #[test]
    fn few_are_kept_and_none_that_is_much_too_large() {
        let buffers = buffers();
        let blocks: Vec<_> = (0..9).map(|_| buffers.share(buffers.take(SMALLEST))).collect();
        drop(blocks);
        assert_eq!(buffers.free().len(), KEPT);
        drop(buffers.share(buffers.take(3 * SMALLEST)));
        assert!(buffers.free().iter().any(|buffer| buffer.capacity() >= 3 * SMALLEST));
        assert_eq!(buffers.free().len(), KEPT);
        assert!(buffers.take(SMALLEST / 8).capacity() < SMALLEST);
        assert!(buffers.free().is_empty());
        drop(buffers.share(buffers.take(SMALLEST / 8)));
        assert!(buffers.free().is_empty(), "small ones are the allocator's");
    }
}
