//! When to tell of what happens again and again: often enough to be seen, too seldom to drown.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Is what happened so often to be told loudly? The first time; then seldom, and ever more so.
pub(crate) fn is_loud(times: u32) -> bool {
    times.checked_ilog10().is_some_and(|tens| times == 10_u32.pow(tens))
}

/// Says yes once a second at most, to all threads together.
pub(crate) struct Seldom(AtomicU64);

impl Seldom {
    /// Says yes when it is asked first.
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Is it time to tell again?
    pub(crate) fn is_due(&self) -> bool {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        let now_s = START.elapsed().as_secs() + 1;
        let last_s = self.0.load(Ordering::Relaxed);
        let changed =
            self.0.compare_exchange(last_s, now_s, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        now_s != last_s && changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seldom_is_once_however_many_ask() {
        let seldom = Seldom::new();
        let begun = Instant::now();
        let said = (0..1000).filter(|_| seldom.is_due()).count() as u64;
        assert!((1..=begun.elapsed().as_secs() + 2).contains(&said));
    }

    #[test]
    fn it_is_loud_the_first_time_and_then_ever_more_seldom() {
        let loud: Vec<u32> = (0..=20_000).filter(|&times| is_loud(times)).collect();
        assert_eq!(loud, [1, 10, 100, 1000, 10_000]);
    }
}
