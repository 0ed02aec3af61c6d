//! The buffers that the kernel receives into: it takes one only when bytes are there, so idle connections have none.

use std::alloc::{Layout, alloc_zeroed};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// The number of the group, by which receiving asks for its buffers.
pub(super) const GROUP: u16 = 0;
/// A power of two.
const COUNT: u16 = 256;
const BUFFER_BYTES: usize = 2048;
const PAGE_BYTES: usize = 4096;

/// A ring of buffers, shared with the kernel.
///
/// Its memory stays allocated as long as the process: the kernel may write there until it has taken the io_uring
/// apart, which nothing tells.
pub(super) struct Buffers {
    entries: NonNull<BufRingEntry>,
    storage: NonNull<u8>,
    /// Counts all that were given to the kernel, modulo 2^16.
    tail: u16,
}

impl Buffers {
    /// Registers all of them as [`GROUP`].
    ///
    /// # Errors
    /// The kernel has no such rings (Linux 5.19 has).
    pub(super) fn register(submitter: &Submitter<'_>) -> io::Result<Self> {
        let entries = allocate(usize::from(COUNT) * size_of::<BufRingEntry>())?.cast();
        let storage = allocate(usize::from(COUNT) * BUFFER_BYTES)?;
        // SAFETY: the memory is as long as `COUNT` entries, begins with a page, and is never freed.
        unsafe { submitter.register_buf_ring_with_flags(entries.as_ptr() as u64, COUNT, GROUP, 0)? };
        let mut buffers = Self { entries, storage, tail: 0 };
        (0..COUNT).for_each(|buffer| buffers.give_back(buffer));
        Ok(buffers)
    }

    /// What a buffer holds that the kernel has just filled.
    pub(super) fn filled(&mut self, buffer: u16, length: usize) -> &mut [u8] {
        assert!(buffer < COUNT && length <= BUFFER_BYTES, "the kernel knows the buffers");
        // SAFETY: the bytes are within the storage; the kernel does not write there until the buffer is given back,
        // which the borrow rules out.
        unsafe { std::slice::from_raw_parts_mut(self.place(buffer).as_ptr(), length) }
    }

    /// Lets the kernel fill a buffer again.
    pub(super) fn give_back(&mut self, buffer: u16) {
        let slot = usize::from(self.tail % COUNT);
        // SAFETY: the slot is within the ring, and the kernel does not look at it before the tail is past it. Whoever
        // was lent the buffer has let it go, or could not borrow this.
        let entry = unsafe { self.entries.add(slot).as_mut() };
        entry.set_addr(self.place(buffer).as_ptr() as u64);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `entries` is where the ring begins; its tail is only ever written here.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    fn place(&self, buffer: u16) -> NonNull<u8> {
        // SAFETY: the storage is that long.
        unsafe { self.storage.add(usize::from(buffer) * BUFFER_BYTES) }
    }
}

/// Zeroed memory that begins with a page and is never freed.
fn allocate(bytes: usize) -> io::Result<NonNull<u8>> {
    let layout = Layout::from_size_align(bytes, PAGE_BYTES).map_err(io::Error::other)?;
    // SAFETY: the layout is not empty.
    NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}
