//! The buffers that the kernel receives into: it takes one only when bytes are there, so idle connections have none.
//!
//! A buffer belongs to the kernel or to one [`Received`], never to both. To give it back takes the `Received`; the
//! next one is made when a completion names the buffer again.

use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use io_uring::Submitter;

/// The number of the group, by which receiving asks for its buffers.
pub(super) const GROUP: u16 = 0;
/// A power of two.
const COUNT: u16 = 256;
const BUFFER_BYTES: usize = 2048;

type Buffer = [u8; BUFFER_BYTES];

/// The ring in which the kernel finds the buffers that it may fill.
///
/// Source: `struct io_uring_buf_ring`, io_uring_register_buf_ring(3); it begins with a page.
#[repr(C, align(4096))]
struct Entries([Entry; COUNT as usize]);

#[repr(C)]
struct Entry {
    address: AtomicU64,
    length: AtomicU32,
    number: AtomicU16,
    /// In the first entry the ring's tail; nothing in the others.
    tail: AtomicU16,
}

/// All buffers of one io_uring.
///
/// Ring and buffers stay allocated as long as the process. The kernel may use them until it has taken the io_uring
/// apart, and does not tell when that is.
pub(super) struct Buffers {
    entries: &'static Entries,
    /// What the kernel has, by number.
    lent: Vec<Option<NonNull<Buffer>>>,
    /// Counts all that were given to the kernel, modulo 2^16.
    tail: u16,
}

/// Bytes that have come, in a buffer that is ours until [`Buffers::give_back`].
pub(super) struct Received {
    number: u16,
    length: usize,
    buffer: &'static mut Buffer,
}

impl Buffers {
    /// Registers all of them as [`GROUP`].
    ///
    /// # Errors
    /// The kernel has no such rings (Linux 5.19 has).
    pub(super) fn register(submitter: &Submitter<'_>) -> io::Result<Self> {
        let entries: &Entries = Box::leak(Box::new(Entries([const { Entry::new() }; COUNT as usize])));
        let address = ptr::from_ref(entries).expose_provenance() as u64;
        // SAFETY: there are `COUNT` entries, laid out as the kernel reads them, and they are never freed.
        unsafe { submitter.register_buf_ring_with_flags(address, COUNT, GROUP, 0)? };
        let mut buffers = Self { entries, lent: vec![None; COUNT.into()], tail: 0 };
        for (number, buffer) in (0..).zip(vec![[0; BUFFER_BYTES]; COUNT.into()].leak()) {
            buffers.lend(number, buffer);
        }
        Ok(buffers)
    }

    /// Takes the buffer that the kernel has filled with `length` bytes.
    ///
    /// # Safety
    /// A completion of receiving by these buffers has named `number`, and this is called once for it.
    pub(super) unsafe fn take(&mut self, number: u16, length: usize) -> Received {
        assert!(length <= BUFFER_BYTES, "the kernel knows how long a buffer is");
        let lent = self.lent[usize::from(number)].take();
        let mut buffer = lent.expect("the kernel fills buffers that it was given");
        // SAFETY: it was made of a `&'static mut`. By its completion the kernel has let it go, and it was the only
        // one in `lent`.
        let buffer = unsafe { buffer.as_mut() };
        Received { number, length, buffer }
    }

    /// Lets the kernel fill a buffer again.
    pub(super) fn give_back(&mut self, received: Received) {
        let Received { number, buffer, .. } = received;
        self.lend(number, buffer);
    }

    fn lend(&mut self, number: u16, buffer: &'static mut Buffer) {
        let buffer = NonNull::from(buffer);
        let lent = &mut self.lent[usize::from(number)];
        assert!(lent.is_none(), "no other buffer has this number");
        *lent = Some(buffer);
        let entry = &self.entries.0[usize::from(self.tail % COUNT)];
        entry.address.store(buffer.as_ptr().expose_provenance() as u64, Ordering::Relaxed);
        entry.length.store(BUFFER_BYTES as u32, Ordering::Relaxed);
        entry.number.store(number, Ordering::Relaxed);
        self.tail = self.tail.wrapping_add(1);
        // The kernel looks at no entry before the tail is past it.
        self.entries.0[0].tail.store(self.tail, Ordering::Release);
    }
}

impl Entry {
    const fn new() -> Self {
        Self {
            address: AtomicU64::new(0),
            length: AtomicU32::new(0),
            number: AtomicU16::new(0),
            tail: AtomicU16::new(0),
        }
    }
}

impl Deref for Received {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl DerefMut for Received {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use io_uring::IoUring;
    use io_uring::types::BufRingEntry;

    use super::*;

    #[test]
    fn entries_are_laid_out_as_the_kernel_reads_them() {
        assert_eq!(size_of::<Entry>(), size_of::<BufRingEntry>());
        let [address, length] = [offset_of!(Entry, address), offset_of!(Entry, length)];
        assert_eq!((address, length, offset_of!(Entry, number), offset_of!(Entry, tail)), (0, 8, 12, 14));
    }

    #[test]
    #[should_panic(expected = "no other buffer has this number")]
    fn a_buffer_that_the_kernel_has_is_not_given_again() {
        let ring = IoUring::new(2).expect("the kernel has io_uring");
        let mut buffers = Buffers::register(&ring.submitter()).expect("and rings of buffers");
        let (number, buffer) = (7, Box::leak(Box::new([0; BUFFER_BYTES])));
        buffers.give_back(Received { number, length: 0, buffer });
    }
}
