//! Rings: queues of one producer and one consumer, one of them the kernel, in shared memory.
//!
//! **Invariants.**
//! - *one of each*: a ring's memory has one [`Producer`] and one [`Consumer`]; of those the kernel
//!   is one (in tests, the card of a [rig](super::rig)). Entries from the consumer's counter up to the producer's
//!   are the consumer's, the others the producer's.
//! - *published once a batch*: what is pushed or popped is the other side's with `publish`.
//! - *wrapping*: the counters run through all 32 bits and over; an index is a counter masked.

#![allow(unsafe_code, reason = "the memory is shared with the kernel")]

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::mapping::Mapping;

/// What a ring may hold: integers, of which any bits are a value.
pub(super) trait Entry: Copy {}

/// The address of a frame.
impl Entry for u64 {}

/// A packet in a frame: `struct xdp_desc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Packet {
    /// Where it begins.
    pub(super) address: u64,
    /// Octets.
    pub(super) len: u32,
    pub(super) options: u32,
}

impl Entry for Packet {}

/// Where in its memory a ring has what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) producer: usize,
    pub(super) consumer: usize,
    pub(super) flags: usize,
    pub(super) entries: usize,
}

impl Layout {
    /// Of a ring that no kernel has laid out.
    pub(super) const OWN: Self = Self { producer: 0, consumer: 64, flags: 128, entries: 192 };

    /// Octets of a ring with `count` entries.
    pub(super) fn len<T: Entry>(&self, count: u32) -> usize {
        self.entries + count as usize * size_of::<T>()
    }
}

/// Both ends' view of the memory.
struct Shared<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    count: u32,
    _memory: Arc<Mapping>,
}

// SAFETY: the pointers are to `_memory`, which goes along; T is integers.
unsafe impl<T: Entry> Send for Shared<T> {}

impl<T: Entry> Shared<T> {
    fn new(memory: Arc<Mapping>, layout: Layout, count: u32) -> Self {
        assert!(count.is_power_of_two(), "rings have a power of two of entries");
        assert!(memory.len() >= layout.len::<T>(count), "the memory holds the ring");
        Self {
            producer: memory.at(layout.producer),
            consumer: memory.at(layout.consumer),
            flags: memory.at(layout.flags),
            entries: memory.at(layout.entries),
            count,
            _memory: memory,
        }
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: within the memory and aligned (see `new`); accessed atomically by both sides.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as in `producer`.
        unsafe { self.consumer.as_ref() }
    }

    fn flags(&self) -> &AtomicU32 {
        // SAFETY: as in `producer`.
        unsafe { self.flags.as_ref() }
    }

    fn entry(&self, counter: u32) -> NonNull<T> {
        let index = counter & (self.count - 1);
        // SAFETY: the index is below `count`, and so many entries are within the memory.
        unsafe { self.entries.add(index as usize) }
    }
}

/// The end that fills a ring.
pub(super) struct Producer<T: Entry> {
    shared: Shared<T>,
    /// Pushed, and how far that is published.
    head: u32,
    told: u32,
    /// The consumer's counter as last seen.
    seen: u32,
}

impl<T: Entry> Producer<T> {
    pub(super) fn new(memory: Arc<Mapping>, layout: Layout, count: u32) -> Self {
        let shared = Shared::new(memory, layout, count);
        let head = shared.producer().load(Ordering::Relaxed);
        let seen = shared.consumer().load(Ordering::Acquire);
        Self { shared, head, told: head, seen }
    }

    /// Adds an entry; `false`: the ring is full.
    pub(super) fn push(&mut self, entry: T) -> bool {
        if self.head.wrapping_sub(self.seen) >= self.shared.count {
            self.seen = self.shared.consumer().load(Ordering::Acquire);
            if self.head.wrapping_sub(self.seen) >= self.shared.count {
                return false;
            }
        }
        // SAFETY: an entry that is the producer's (see *one of each*), and that is us.
        unsafe { self.shared.entry(self.head).write(entry) };
        self.head = self.head.wrapping_add(1);
        true
    }

    /// Lets the consumer have what was pushed.
    pub(super) fn publish(&mut self) {
        // A counter that did not move stays in the other side's cache.
        if self.told != self.head {
            self.shared.producer().store(self.head, Ordering::Release);
            self.told = self.head;
        }
    }

    /// Has the consumer taken all?
    pub(super) fn is_drained(&self) -> bool {
        self.shared.consumer().load(Ordering::Acquire) == self.head
    }

    /// Does the kernel want to be told of what was published?
    pub(super) fn needs_wakeup(&self) -> bool {
        self.shared.flags().load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }
}

/// The end that empties a ring.
pub(super) struct Consumer<T: Entry> {
    shared: Shared<T>,
    /// Popped, and how far that is published.
    tail: u32,
    told: u32,
    /// The producer's counter as last seen.
    seen: u32,
}

impl<T: Entry> Consumer<T> {
    pub(super) fn new(memory: Arc<Mapping>, layout: Layout, count: u32) -> Self {
        let shared = Shared::new(memory, layout, count);
        let tail = shared.consumer().load(Ordering::Relaxed);
        let seen = shared.producer().load(Ordering::Acquire);
        Self { shared, tail, told: tail, seen }
    }

    /// The next entry, if there is one.
    pub(super) fn pop(&mut self) -> Option<T> {
        if self.tail == self.seen {
            self.seen = self.shared.producer().load(Ordering::Acquire);
            if self.tail == self.seen {
                return None;
            }
        }
        // SAFETY: an entry that is the consumer's (see *one of each*), and that is us; the load
        // of `seen` synchronised with its writing. Any bits are a T.
        let entry = unsafe { self.shared.entry(self.tail).read() };
        self.tail = self.tail.wrapping_add(1);
        Some(entry)
    }

    /// Lets the producer have the places of what was popped.
    pub(super) fn publish(&mut self) {
        if self.told != self.tail {
            self.shared.consumer().store(self.tail, Ordering::Release);
            self.told = self.tail;
        }
    }
}

/// Both ends of an empty ring of our own, in memory that nobody uses, or will; its counters begin
/// with `start`.
pub(super) fn pair<T: Entry>(
    memory: &Arc<Mapping>,
    count: u32,
    start: u32,
) -> (Producer<T>, Consumer<T>) {
    let shared = Shared::<T>::new(Arc::clone(memory), Layout::OWN, count);
    shared.producer().store(start, Ordering::Relaxed);
    shared.consumer().store(start, Ordering::Relaxed);
    let producer = Producer::new(Arc::clone(memory), Layout::OWN, count);
    (producer, Consumer::new(Arc::clone(memory), Layout::OWN, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(count: u32, start: u32) -> (Producer<u64>, Consumer<u64>) {
        let memory = Arc::new(Mapping::anonymous(Layout::OWN.len::<u64>(count)).unwrap());
        pair(&memory, count, start)
    }

    #[test]
    fn entries_come_out_as_they_went_in_while_the_counters_wrap() {
        let (mut producer, mut consumer) = ring(4, u32::MAX - 5);
        let mut expected = 0;
        for number in 0..100 {
            assert!(producer.push(number));
            if number % 3 == 2 {
                producer.publish();
                assert!(!producer.is_drained());
                while let Some(entry) = consumer.pop() {
                    assert_eq!(entry, expected);
                    expected += 1;
                }
                consumer.publish();
                assert!(producer.is_drained());
            }
        }
        assert_eq!(expected, 99);
    }

    #[test]
    fn a_full_ring_takes_nothing_until_places_are_published() {
        let (mut producer, mut consumer) = ring(4, 7);
        assert!((0..4).all(|number| producer.push(number)) && !producer.push(4));
        assert_eq!(consumer.pop(), None, "nothing was published");
        producer.publish();
        assert_eq!((consumer.pop(), consumer.pop()), (Some(0), Some(1)));
        assert!(!producer.push(4), "the places were not published");
        consumer.publish();
        assert!(producer.push(4) && producer.push(5) && !producer.push(6));
    }
}
