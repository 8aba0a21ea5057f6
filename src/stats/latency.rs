//! How long answering takes: buckets that one thread counts in and others read.
//!
//! The buckets are those of an HDR histogram of three bits: 64 ns wide at first, then eight to
//! each doubling, so that every value is known to an eighth of itself. [`Latency::add_to`] makes
//! an [`hdrhistogram`] of them, for percentiles and sums over workers.
//!
//! Recording is four loads and stores, no locked instruction, no allocation; a reader may see a
//! value in the sum that is not in its bucket yet.

use super::Counter;
use hdrhistogram::Histogram;
use std::time::Duration;

/// Nanoseconds of the finest bucket.
const UNIT_NS: u64 = 64;

/// Bits of a value that are told apart.
const BITS: u32 = 3;

/// How many buckets: the last holds all from 16 s on.
pub const BUCKETS: usize = 26 << BITS;

/// A histogram of durations.
#[derive(Debug)]
pub struct Latency {
    counts: [Counter; BUCKETS],
    sum_ns: Counter,
}

impl Default for Latency {
    fn default() -> Self {
        Self { counts: [const { Counter::new() }; BUCKETS], sum_ns: Counter::new() }
    }
}

impl Latency {
    /// Counts `n` answers that took so long, when this thread is the only one that does.
    #[inline]
    pub fn record(&self, took: Duration, n: u64) {
        let ns = took.as_secs() * 1_000_000_000 + u64::from(took.subsec_nanos());
        self.counts[bucket(ns)].add(n);
        self.sum_ns.add(ns * n);
    }

    /// How many answers there were in all.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(Counter::get).sum()
    }

    /// Seconds of all answers together.
    pub fn sum_s(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a metric need not be exact")]
        let ns = self.sum_ns.get() as f64;
        ns / 1e9
    }

    /// How many answers there were between each of `bounds_ns`, which ascend, and the one before
    /// it, and after the last. Exact where they are powers of two from 512 ns on.
    pub fn ranges(&self, bounds_ns: &[u64]) -> Vec<u64> {
        let mut ranges = vec![0; bounds_ns.len() + 1];
        for (at, count) in self.counts.iter().map(Counter::get).enumerate() {
            ranges[bounds_ns.partition_point(|&bound| bound < starts(at + 1))] += count;
        }
        ranges
    }

    /// Adds what was counted to a histogram of nanoseconds, each at the middle of its bucket.
    pub fn add_to(&self, histogram: &mut Histogram<u64>) {
        let counted = self.counts.iter().map(Counter::get).enumerate();
        // What was counted no time at all is no value either: the greatest is told, too.
        for (at, count) in counted.filter(|&(_, count)| count > 0) {
            // It is as wide as the buckets are.
            histogram.saturating_record_n((starts(at) + starts(at + 1)) / 2, count);
        }
    }

    /// An empty histogram that what was counted fits into.
    pub fn empty() -> Histogram<u64> {
        Histogram::new_with_bounds(UNIT_NS / 2, starts(BUCKETS), 2).expect("low, high, precision")
    }
}

/// The bucket of so many nanoseconds.
#[inline]
fn bucket(ns: u64) -> usize {
    let units = (ns / UNIT_NS).min((1 << (BITS + 25)) - 1);
    let doublings = units.checked_ilog2().unwrap_or(0).saturating_sub(BITS);
    (doublings as usize) * (1 << BITS) + (units >> doublings) as usize
}

/// The nanoseconds that a bucket begins at.
fn starts(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let doublings = (bucket >> BITS).saturating_sub(1);
    ((bucket - (doublings << BITS)) << doublings) * UNIT_NS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_the_bucket_that_begins_below_it_and_ends_above() {
        let mut last = 0;
        for ns in (0..20_000).chain((15..34).flat_map(|bit| [(1 << bit) - 1, 1 << bit, 3 << bit])) {
            let at = bucket(ns);
            assert!(at < BUCKETS && starts(at) <= ns, "{ns} is in {at}");
            assert!(ns < starts(at + 1) || at == BUCKETS - 1, "{ns} is in {at}");
            if ns < 20_000 {
                assert!(at == last || at == last + 1, "a bucket was left out at {ns}");
                last = at;
            }
            assert!(ns < 512 || starts(at + 1) - starts(at) <= ns / 8, "{ns}: {at} is too wide");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_within_an_eighth() {
        let latency = Latency::default();
        for us in 1..=1000 {
            latency.record(Duration::from_micros(us), 2);
        }
        let mut histogram = Latency::empty();
        latency.add_to(&mut histogram);
        assert_eq!(histogram.len(), 2000);
        for (quantile, us) in [(0.5, 500), (0.9, 900), (0.99, 990)] {
            let found = histogram.value_at_quantile(quantile);
            assert!(found.abs_diff(us * 1000) < us * 125, "{quantile}: {found} ns");
        }
        assert!(histogram.max().abs_diff(1_000_000) < 125_000, "{}", histogram.max());
        assert!((latency.sum_s() - 1.001).abs() < 1e-9, "{}", latency.sum_s());
    }

    #[test]
    fn ranges_between_powers_of_two_are_exact() {
        let latency = Latency::default();
        for (ns, n) in [(0, 1), (1023, 10), (1024, 100), (2047, 1000), (1 << 40, 10_000)] {
            latency.record(Duration::from_nanos(ns), n);
        }
        assert_eq!(latency.ranges(&[1024, 2048, 4096]), [11, 1100, 0, 10_000]);
        assert_eq!(latency.count(), 11_111);
    }
}
