//! What time it is for a batch, and how long batches take, without asking the clock for each.
//!
//! To read the clock twice costs a batch of one a good part of what answering it does (45 ns a
//! reading): it is read when the kernel's coarse clock ([`tick`]) has moved, every 1 to 10 ms,
//! which is seen in less than half of that.
//! The first batch after a tick is measured; that others took as long by their size is reckoned
//! from it. So where little comes all is measured, and where a lot comes a sample of it, many
//! times a second.

use crate::clock::{Clock, Wall};
use crate::io::tick;
use std::time::{Duration, Instant};

/// A worker's watch.
pub(super) struct Watch {
    clock: Clock,
    wall: Wall,
    /// The coarse clock when the others were last read.
    tick: u64,
    now_ms: u64,
    unix_s: u32,
    /// What an answer took when it was last measured, in nanoseconds.
    each_ns: u64,
}

/// When a batch began.
#[derive(Clone, Copy)]
pub(super) struct Time {
    /// By the server's clock, which zones expire by, at most a tick ago.
    pub(super) now_ms: u64,
    /// By the wall clock, modulo 2^32, at most a second ago.
    pub(super) unix_s: u32,
    /// If this one is measured.
    began: Option<Instant>,
}

impl Watch {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, wall: Wall::new(), tick: 0, now_ms: 0, unix_s: 0, each_ns: 0 }
    }

    /// A batch begins.
    #[inline]
    pub(super) fn begin(&mut self) -> Time {
        let began = self.look(tick());
        Time { now_ms: self.now_ms, unix_s: self.unix_s, began }
    }

    /// Reads the clocks if there was a tick since that was last done.
    #[inline]
    fn look(&mut self, tick: u64) -> Option<Instant> {
        if tick == self.tick {
            return None;
        }
        let now = Instant::now();
        (self.tick, self.now_ms, self.unix_s) =
            (tick, self.clock.ms_at(now), self.wall.unix_s(now));
        Some(now)
    }

    /// A batch of so many has ended: how long it took, measured or reckoned.
    #[inline]
    pub(super) fn end(&mut self, time: Time, count: usize) -> Duration {
        let count = count as u64;
        if let Some(began) = time.began {
            let took = began.elapsed();
            let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            self.each_ns = took_ns / count.max(1);
            return took;
        }
        Duration::from_nanos(self.each_ns * count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_are_read_once_a_tick() {
        let (clock, _) = Clock::start(None);
        let mut watch = Watch::new(clock);
        let before_ms = clock.now_ms();
        assert!(watch.look(1).is_some(), "the first batch is measured");
        assert!(watch.now_ms >= before_ms && watch.unix_s > 0);
        assert!(watch.look(1).is_none());
        assert!(watch.look(2).is_some());
    }

    #[test]
    fn what_is_not_measured_is_reckoned_from_what_was_by_its_size() {
        let mut watch = Watch::new(Clock::start(None).0);
        let measured = Time { now_ms: 0, unix_s: 0, began: Some(Instant::now()) };
        let took = watch.end(measured, 10);
        assert_eq!(u128::from(watch.each_ns), took.as_nanos() / 10);
        watch.each_ns = 100;
        let not = Time { began: None, ..measured };
        assert_eq!(watch.end(not, 64), Duration::from_nanos(6400));
    }

    #[test]
    fn the_coarse_clock_moves() {
        let begun = tick();
        let deadline = Instant::now() + Duration::from_secs(20);
        while tick() == begun {
            assert!(Instant::now() < deadline, "it stands still");
            std::thread::yield_now();
        }
        assert!(tick() > begun);
    }
}
