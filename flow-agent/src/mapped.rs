//! Kernel map memory in this process: the only place that touches it.

use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Types whose every bit pattern is a value, so that kernel memory can be read as them.
///
/// # Safety
/// The type is `repr(C)` or primitive, made of integers only, and has the size
/// the kernel gives to a map value (a multiple of eight octets).
pub unsafe trait MapValue: Copy {}

// SAFETY: integers only, without padding that matters; sizes asserted in flow-common.
unsafe impl MapValue for flow_common::table::Set {}
// SAFETY: as above.
unsafe impl MapValue for flow_common::table::Region {}
// SAFETY: as above.
unsafe impl MapValue for flow_common::InterfaceCounters {}
// SAFETY: an integer of eight octets.
unsafe impl MapValue for u64 {}

/// A kernel array map with `BPF_F_MMAPABLE`, readable and writable as a slice.
pub struct MappedArray<T> {
    memory: NonNull<T>,
    len: usize,
    _values: PhantomData<T>,
}

// SAFETY: it owns the mapping; access needs `&mut`.
unsafe impl<T: MapValue> Send for MappedArray<T> {}

impl<T: MapValue> MappedArray<T> {
    /// Maps the `len` values of the map behind `fd`.
    ///
    /// # Errors
    /// What mmap(2) says, e.g. that the map is not mmapable or memory is short.
    pub fn new(fd: impl AsFd, len: usize) -> io::Result<Self> {
        let bytes = len * size_of::<T>();
        let flags = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh shared mapping at an address of the kernel's choice;
        // the kernel checks its length against the map.
        let memory = unsafe { mmap(ptr::null_mut(), bytes, flags, MapFlags::SHARED, fd, 0)? };
        let memory = NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { memory, len, _values: PhantomData })
    }

    /// The values in `range`.
    ///
    /// # Safety
    /// No kernel program writes them while the slice lives: they belong to a
    /// generation that was flipped away and whose grace period is over.
    ///
    /// # Panics
    /// When the range is not within the map.
    pub unsafe fn idle(&mut self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "range within the map");
        // SAFETY: in bounds; `T` accepts any bits; `&mut self` excludes other
        // readers here and the caller excludes the kernel.
        unsafe {
            std::slice::from_raw_parts_mut(self.memory.as_ptr().add(range.start), range.len())
        }
    }
}

impl<T> Drop for MappedArray<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, with its length; no slice outlives `self`.
        let unmapped = unsafe { munmap(self.memory.as_ptr().cast(), self.len * size_of::<T>()) };
        debug_assert!(unmapped.is_ok(), "unmapping an own mapping");
    }
}

/// Reads a ring record; `None` when it has another length.
pub fn read_evicted(record: &[u8]) -> Option<flow_common::table::Evicted> {
    if record.len() != size_of::<flow_common::table::Evicted>() {
        return None;
    }
    // SAFETY: the length is right and the type is made of integers only; the
    // read does not need alignment.
    Some(unsafe { record.as_ptr().cast::<flow_common::table::Evicted>().read_unaligned() })
}
