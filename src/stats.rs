//! What is counted, a worker or task group each, and summed when someone asks.
//!
//! A worker adds to counters that no one else writes, on cache lines of their own: an add is a
//! load and a store, not a locked instruction. Stream threads share theirs and use
//! [`Counter::add_shared`].

mod latency;

pub use latency::{BUCKETS, Latency};

use crossbeam::utils::CachePadded;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Zero.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds, when this thread is the only one that does.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Adds, when others may too.
    pub fn add_shared(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The sum so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($(#[$doc:meta])* $name:ident { $($(#[doc = $help:literal])* $field:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $name { $($(#[doc = $help])* pub $field: Counter,)* }

        impl $name {
            /// The name, the meaning and the number of each counter.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($field), concat!($($help),*), self.$field.get()),)*].into_iter()
            }
        }
    };
}

counters! {
    /// What a worker counts, or the stream threads together.
    Served {
        /// Requests received.
        requests,
        /// Octets of requests.
        request_octets,
        /// Replies sent.
        replies,
        /// Octets of replies.
        reply_octets,
        /// Requests whose reply was there already, as the same was asked a moment ago.
        repeated,
        /// Replies that did not fit and say so.
        truncated,
        /// Replies over the rate limit, not sent as they were.
        limited,
        /// Of those, the ones in whose place an empty, truncated one was sent.
        slipped,
        /// Replies over the rate limit that were sent all the same, in a dry run.
        limited_dry_run,
        /// Requests that were answered with silence: responses, runts.
        silent,
        /// Requests handed on: NOTIFY, UPDATE, TSIG, transfers.
        deferred,
        /// Requests that would have been handed on but for a full queue.
        deferred_dropped,
        /// Packets that were lost in receiving or sending.
        io_dropped,
        /// Panics while answering: bugs, each of them. The server lives on.
        panics,
        /// Connections accepted.
        connections,
        /// Connections refused because there were too many, in all or of one client.
        connections_refused,
    }
}

counters! {
    /// What the replica counts.
    Replicated {
        /// NOTIFYs that named a zone of ours and came from one who may.
        notifies,
        /// NOTIFYs refused: unsigned where a signature is needed, or a bad one.
        notifies_refused,
        /// UPDATEs that came from one who may send them.
        updates,
        /// Of those, the ones that a primary has answered.
        updates_forwarded,
        /// Of those, the ones that no primary has answered, or that were too many at once.
        updates_failed,
        /// UPDATEs refused: unsigned where a signature is needed, or signed by another key.
        updates_refused,
        /// SOA queries sent.
        probes,
        /// Transfers asked for.
        transfers,
        /// Transfers that failed.
        transfers_failed,
        /// Whole zones received.
        axfrs,
        /// Diffs received.
        ixfrs,
        /// Octets of transfers received.
        transfer_octets,
        /// Records dropped because they were not in the zone transferred.
        records_outside,
        /// Versions held by a check.
        held_by_check,
        /// Versions published.
        published,
        /// NOTIFYs sent.
        notifies_sent,
        /// NOTIFYs that were not acknowledged.
        notifies_unanswered,
        /// Transfers sent to secondaries of ours.
        transfers_out,
        /// Octets of transfers sent.
        transfer_out_octets,
        /// Commits to the store that failed.
        store_failures,
    }
}

/// The rcodes that are told apart, and one place for all others.
const RCODES: usize = 24;

/// One worker's counters.
#[derive(Debug, Default)]
pub struct Worker {
    /// What it is called: a worker's number; "stream" are the stream threads.
    pub name: String,
    /// The plain counters.
    pub served: Served,
    /// How long requests over UDP waited for their answers.
    pub latency: Latency,
    rcodes: [Counter; RCODES],
}

impl Worker {
    /// Nothing counted yet.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Where replies with this rcode are counted.
    #[inline]
    pub fn rcode(&self, rcode: u16) -> &Counter {
        &self.rcodes[usize::from(rcode).min(RCODES - 1)]
    }

    /// Adds what was counted of a batch, when this thread is the only one that does.
    #[inline]
    pub fn count(&self, tally: &Tally) {
        self.served.requests.add(tally.requests);
        self.served.request_octets.add(tally.request_octets);
        self.served.replies.add(tally.replies);
        self.served.reply_octets.add(tally.reply_octets);
        self.served.repeated.add(tally.repeated);
        self.served.truncated.add(tally.truncated);
        self.rcode(tally.rcode).add(tally.alike);
    }
}

/// What is counted of every packet of a batch, to be added at its end: [`Worker::count`].
#[derive(Debug, Default)]
pub struct Tally {
    requests: u64,
    request_octets: u64,
    replies: u64,
    reply_octets: u64,
    repeated: u64,
    truncated: u64,
    /// The last rcode, and how many replies in a row had it.
    rcode: u16,
    alike: u64,
}

impl Tally {
    /// A request of so many octets.
    #[inline]
    pub fn request(&mut self, octets: usize) {
        self.requests += 1;
        self.request_octets += octets as u64;
    }

    /// Its reply is there already.
    #[inline]
    pub fn repeat(&mut self) {
        self.repeated += 1;
    }

    /// A reply. One with another rcode than the last has the counts of that one added to `worker`.
    #[inline]
    pub fn reply(&mut self, worker: &Worker, octets: usize, truncated: bool, rcode: u16) {
        self.replies += 1;
        self.reply_octets += octets as u64;
        self.truncated += u64::from(truncated);
        if rcode != self.rcode {
            worker.rcode(self.rcode).add(self.alike);
            (self.rcode, self.alike) = (rcode, 0);
        }
        self.alike += 1;
    }
}

/// All counters of the server.
#[derive(Debug)]
pub struct Stats {
    start: Instant,
    workers: Mutex<Vec<Arc<CachePadded<Worker>>>>,
    /// The replica's.
    pub replicated: Replicated,
}

impl Default for Stats {
    /// Counts from now on.
    fn default() -> Self {
        let (workers, replicated) = (Mutex::default(), Replicated::default());
        Self { start: Instant::now(), workers, replicated }
    }
}

impl Stats {
    /// For how long it has been counted.
    pub fn up(&self) -> Duration {
        self.start.elapsed()
    }

    /// Counters for one more worker.
    pub fn worker(&self, name: impl Into<String>) -> Arc<CachePadded<Worker>> {
        let worker = Arc::new(CachePadded::new(Worker::new(name)));
        self.workers.lock().expect("counting does not panic").push(Arc::clone(&worker));
        worker
    }

    /// Every worker's counters.
    pub fn workers(&self) -> Vec<Arc<CachePadded<Worker>>> {
        self.workers.lock().expect("counting does not panic").clone()
    }

    /// The sum of what all workers counted: name, meaning, number.
    pub fn served(&self) -> Vec<(&'static str, &'static str, u64)> {
        let mut sums: Vec<_> = Served::default().each().collect();
        for worker in self.workers() {
            for (sum, (_, _, number)) in sums.iter_mut().zip(worker.served.each()) {
                sum.2 += number;
            }
        }
        sums
    }

    /// How many replies had each rcode.
    pub fn rcodes(&self) -> [u64; RCODES] {
        let mut sums = [0; RCODES];
        for worker in self.workers() {
            for (sum, counter) in sums.iter_mut().zip(&worker.rcodes) {
                *sum += counter.get();
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_summed() {
        let stats = Stats::default();
        for n in [1, 10] {
            let worker = stats.worker(n.to_string());
            worker.served.requests.add(n);
            worker.rcode(3).add(n);
            worker.rcode(4000).add(n);
        }
        let requests = stats.served().into_iter().find(|(name, ..)| *name == "requests");
        assert_eq!(requests.map(|(.., number)| number), Some(11));
        assert_eq!((stats.rcodes()[3], stats.rcodes()[RCODES - 1]), (11, 11));
    }

    #[test]
    fn a_tally_is_what_adding_each_would_be() {
        let stats = Stats::default();
        let worker = stats.worker("0");
        let mut tally = Tally::default();
        for (octets, rcode) in [(10, 0), (20, 3), (30, 3), (40, 0), (50, 5)] {
            tally.request(octets);
            tally.reply(&worker, 2 * octets, rcode == 3, rcode);
        }
        tally.request(7);
        tally.repeat();
        worker.count(&tally);
        let counted = &worker.served;
        assert_eq!((counted.requests.get(), counted.request_octets.get()), (6, 157));
        assert_eq!((counted.replies.get(), counted.reply_octets.get()), (5, 300));
        assert_eq!((counted.truncated.get(), counted.repeated.get()), (2, 1));
        let rcodes = stats.rcodes();
        assert_eq!((rcodes[0], rcodes[3], rcodes[5]), (2, 2, 1));
    }
}
