//! Kernel map memory in this process: the only place that touches it.

use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};

use bytemuck::Pod;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A kernel array map with `BPF_F_MMAPABLE`, readable and writable as a slice.
///
/// The values are plain old data whose size is a multiple of eight octets, as the
/// kernel lays out array values.
pub struct MappedArray<T> {
    memory: NonNull<T>,
    len: usize,
    _values: PhantomData<T>,
}

// SAFETY: it owns the mapping, and the values are plain data.
unsafe impl<T: Pod> Send for MappedArray<T> {}
// SAFETY: values are copied by `glance`, or borrowed by `idle`, whose callers keep others off.
unsafe impl<T: Pod> Sync for MappedArray<T> {}

impl<T: Pod> MappedArray<T> {
    const WHOLE_WORDS: () = assert!(size_of::<T>().is_multiple_of(8));

    /// Maps the `len` values of the map behind `fd`.
    ///
    /// # Errors
    /// What mmap(2) says, e.g. that the map is not mmapable or memory is short.
    pub fn new(fd: impl AsFd, len: usize) -> io::Result<Self> {
        let () = Self::WHOLE_WORDS;
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
    /// While the slice lives no kernel program writes them, for they belong to a
    /// generation that was flipped away and whose grace period is over, and nobody
    /// else here borrows or glances at them.
    ///
    /// # Panics
    /// When the range is not within the map.
    #[allow(clippy::mut_from_ref, reason = "several threads have different parts of a map")]
    pub unsafe fn idle(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "range within the map");
        // SAFETY: in bounds; `T` accepts any bits; the caller excludes all others.
        unsafe {
            std::slice::from_raw_parts_mut(self.memory.as_ptr().add(range.start), range.len())
        }
    }

    /// A copy of a value that a program may be writing: each of its words is one
    /// that was there, but they need not belong together.
    ///
    /// # Panics
    /// When there is no such value.
    pub fn glance(&self, index: usize) -> T {
        assert!(index < self.len, "index within the map");
        // SAFETY: in bounds; `T` accepts any bits.
        unsafe { self.memory.as_ptr().add(index).read_volatile() }
    }
}

impl<T> Drop for MappedArray<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, with its length; no slice outlives `self`.
        let unmapped = unsafe { munmap(self.memory.as_ptr().cast(), self.len * size_of::<T>()) };
        debug_assert!(unmapped.is_ok(), "unmapping an own mapping");
    }
}

/// Asks the processor to have the cache line of `value` at hand soon.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; it reads nothing that the program could notice.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(ptr::from_ref(value).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
