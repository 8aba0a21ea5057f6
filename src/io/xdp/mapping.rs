//! Memory shared with the kernel: mmap(2).
//!
//! **Invariants.** *addresses only*: no reference to the memory is handed out here; who makes one
//! says why nobody else, the kernel included, is at those octets.

#![allow(unsafe_code, reason = "this is where memory is mapped")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::{self, NonNull};

/// A stretch of mapped memory, unmapped when dropped.
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: it is an address and a length; what is done at the address is for its users to answer.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Memory of our own, zeros; in huge pages where the system is so kind.
    pub(super) fn anonymous(len: usize) -> io::Result<Self> {
        let mapping = Self::map(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)?;
        // SAFETY: advice on memory that was just mapped; it changes no content.
        let _ = unsafe { libc::madvise(mapping.start.as_ptr().cast(), len, libc::MADV_HUGEPAGE) };
        Ok(mapping)
    }

    /// Memory of the kernel's that `fd` gives access to at `offset`.
    pub(super) fn of(fd: &impl AsFd, len: usize, offset: libc::off_t) -> io::Result<Self> {
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        Self::map(len, flags, fd.as_fd().as_raw_fd(), offset)
    }

    fn map(len: usize, flags: i32, fd: i32, offset: libc::off_t) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, wherever the kernel likes: no memory in use is touched.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, access, flags, fd, offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).expect("what is mapped is not at null");
        Ok(Self { start, len })
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Where it begins.
    #[inline]
    pub(super) fn start(&self) -> *const u8 {
        self.start.as_ptr()
    }

    /// The address of `T` at `offset`, which must be within and aligned.
    pub(super) fn at<T>(&self, offset: usize) -> NonNull<T> {
        let end = offset.checked_add(size_of::<T>());
        assert!(end.is_some_and(|end| end <= self.len), "within the mapping");
        // SAFETY: just checked to be within the same mapping.
        let at = unsafe { self.start.add(offset) }.cast::<T>();
        assert!(at.is_aligned(), "aligned");
        at
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length, unmapped once; who has addresses of it holds it.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
