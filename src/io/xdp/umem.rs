//! The memory that packets are in, in frames, and who has each of them.
//!
//! **Invariants.**
//! - *one handle a frame*: a [`Frame`] cannot be copied or made from a number. It is moved into the
//!   kernel's hands ([`Umem::lend`]) and comes back ([`Umem::regain`]) once for each time it was
//!   lent, whatever the kernel says. So who has a handle is alone at the frame's octets.
//! - *none lost*: every frame is free, lent, or a handle in someone's hands; [`Umem::count`] knows.

#![allow(unsafe_code, reason = "the memory is lent to the kernel")]

use std::io;
use std::slice;
use std::sync::Arc;

use super::mapping::Mapping;
use crate::octets;

/// A frame that is ours alone. It is never dropped, but given back: [`Umem::put`].
#[must_use]
#[derive(Debug)]
pub(super) struct Frame(u32);

/// With whom a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// Free, or in someone's hands.
    Us,
    /// The kernel, to receive into.
    Receive,
    /// The kernel, to be sent.
    Send,
}

/// How many frames are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) free: usize,
    pub(super) receiving: usize,
    pub(super) sending: usize,
    /// Handles in someone's hands.
    pub(super) held: usize,
}

/// All frames of a socket.
pub(super) struct Umem {
    memory: Arc<Mapping>,
    /// Octets of a frame, as a power of two: dividing by it costs as much as the rest of `regain`.
    shift: u32,
    free: Vec<Frame>,
    holders: Box<[Holder]>,
}

impl Umem {
    /// `count` frames of `size` octets.
    pub(super) fn new(count: u32, size: usize) -> io::Result<Self> {
        let memory = Arc::new(Mapping::anonymous(count as usize * size)?);
        Ok(Self::over(memory, count, size))
    }

    /// The same in memory that nobody uses, or will.
    pub(super) fn over(memory: Arc<Mapping>, count: u32, size: usize) -> Self {
        assert!(size.is_power_of_two(), "frames are of a power of two");
        assert!(memory.len() >= count as usize * size, "the memory holds the frames");
        Self {
            memory,
            shift: size.trailing_zeros(),
            // Popped from the end: the first ones first.
            free: (0..count).rev().map(Frame).collect(),
            holders: vec![Holder::Us; count as usize].into(),
        }
    }

    /// The memory itself, to be registered.
    pub(super) fn memory(&self) -> &Arc<Mapping> {
        &self.memory
    }

    /// Octets of a frame.
    pub(super) fn frame_size(&self) -> usize {
        1 << self.shift
    }

    /// A free frame.
    pub(super) fn take(&mut self) -> Option<Frame> {
        self.free.pop()
    }

    /// Makes a frame free.
    pub(super) fn put(&mut self, frame: Frame) {
        debug_assert_eq!(self.holders[frame.0 as usize], Holder::Us);
        self.free.push(frame);
    }

    /// Moves a frame into the kernel's hands: its address, to be pushed to a ring at once.
    pub(super) fn lend(&mut self, frame: Frame, to: Holder) -> u64 {
        self.holders[frame.0 as usize] = to;
        u64::from(frame.0) << self.shift
    }

    /// The frame that `address` lies in, and how far in, if it was lent to `from`: it no longer is.
    pub(super) fn regain(&mut self, address: u64, from: Holder) -> Option<(Frame, usize)> {
        let address = usize::try_from(address).ok()?;
        let (number, offset) = (address >> self.shift, address & (self.frame_size() - 1));
        let holder = self.holders.get_mut(number).filter(|holder| **holder == from)?;
        *holder = Holder::Us;
        Some((Frame(u32::try_from(number).ok()?), offset))
    }

    /// Starts loading the packet at `address`, as far as its question: it was written by another
    /// core, so that to read it is to wait, unless one does not wait for one after the other.
    #[inline]
    pub(super) fn prefetch(&self, address: u64) {
        let offset = usize::try_from(address).unwrap_or(0);
        for line in 0..2 {
            octets::prefetch(self.memory.start(), offset.wrapping_add(64 * line));
        }
    }

    /// The octets of a frame.
    pub(super) fn octets<'f>(&'f self, frame: &'f Frame) -> &'f [u8] {
        let start = self.memory.at::<u8>(self.offset(frame)).as_ptr();
        // SAFETY: a frame's octets within the memory, at which nobody writes (see *one handle a
        // frame*): a handle that is borrowed is neither lent nor borrowed to write.
        unsafe { slice::from_raw_parts(start, self.frame_size()) }
    }

    /// The octets of a frame, to write to.
    pub(super) fn octets_mut<'f>(&'f self, frame: &'f mut Frame) -> &'f mut [u8] {
        let start = self.memory.at::<u8>(self.offset(frame)).as_ptr();
        // SAFETY: as in `octets`, and the handle is borrowed by nobody else.
        unsafe { slice::from_raw_parts_mut(start, self.frame_size()) }
    }

    /// The last frame's end is the memory's: `at` checks the first octet, this holds for the rest.
    fn offset(&self, frame: &Frame) -> usize {
        (frame.0 as usize) << self.shift
    }

    /// Who has what.
    pub(super) fn count(&self) -> Count {
        let with = |holder| self.holders.iter().filter(|&&with| with == holder).count();
        let (free, receiving, sending) =
            (self.free.len(), with(Holder::Receive), with(Holder::Send));
        let held = self.holders.len() - free - receiving - sending;
        Count { free, receiving, sending, held }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back_once_for_each_time_it_was_lent() {
        let mut umem = Umem::new(4, 2048).unwrap();
        let frame = umem.take().unwrap();
        let address = umem.lend(frame, Holder::Receive);
        assert!(umem.regain(address, Holder::Send).is_none(), "it was not lent to be sent");
        let (frame, offset) = umem.regain(address + 256, Holder::Receive).unwrap();
        assert_eq!(offset, 256);
        assert!(umem.regain(address, Holder::Receive).is_none(), "it is back already");
        assert_eq!(umem.count(), Count { free: 3, held: 1, ..Count::default() });
        umem.put(frame);
        assert_eq!(umem.count(), Count { free: 4, ..Count::default() });
    }

    #[test]
    fn addresses_that_are_of_no_frame_are_refused() {
        let mut umem = Umem::new(4, 2048).unwrap();
        for address in [0, 4 * 2048, u64::MAX] {
            assert!(umem.regain(address, Holder::Receive).is_none());
        }
    }

    #[test]
    fn frames_do_not_overlap() {
        let mut umem = Umem::new(8, 2048).unwrap();
        let mut frames: Vec<_> = (0..8).map(|_| umem.take().unwrap()).collect();
        assert!(umem.take().is_none());
        for (number, frame) in (0_u8..).zip(&mut frames) {
            umem.octets_mut(frame).fill(number);
        }
        for (number, frame) in (0_u8..).zip(&frames) {
            assert!(umem.octets(frame).iter().all(|&octet| octet == number));
        }
    }
}
