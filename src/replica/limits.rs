//! How much is asked of the primaries at once, all zones together.
//!
//! *One slow primary delays no other*: a job first waits for a place with its primary, and only
//! then for one of the places of all. What a NOTIFY asks for has places of its own, so that it
//! need not wait behind planned refreshes.

use super::connections::Connections;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The limits and time-outs of outgoing requests.
#[derive(Clone, Debug)]
pub struct Options {
    /// Transfers at once, in all.
    pub concurrent: usize,
    /// Transfers at once from one primary's address.
    pub per_primary: usize,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long nothing may come.
    pub stall_timeout: Duration,
    /// The least octets a second of a transfer, once it has lasted for `stall_timeout`.
    pub min_rate: u64,
}

/// Why a job runs: what is urgent has places of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// The timer says so.
    Planned,
    /// A NOTIFY or the operator does.
    Urgent,
}

/// The places.
pub(super) struct Limits {
    options: Options,
    /// What was opened within them and may be used again.
    pub(super) connections: Connections,
    all: [Arc<Semaphore>; 2],
    primaries: Mutex<HashMap<(IpAddr, usize), Arc<Semaphore>>>,
    silent: Mutex<HashMap<IpAddr, Silent>>,
}

/// An address that did not answer a connection attempt.
#[derive(Clone, Copy)]
struct Silent {
    until: Instant,
    wait: Duration,
}

/// The right to ask; dropped, it is given back.
pub(super) struct Place {
    _primary: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

/// How long a silent address is left alone at first, and at most.
const SILENT: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));

impl Limits {
    pub(super) fn new(options: Options) -> Self {
        let all = [(); 2].map(|()| Arc::new(Semaphore::new(options.concurrent.max(1))));
        let connections = Connections::default();
        Self { options, connections, all, primaries: Mutex::default(), silent: Mutex::default() }
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// Waits for a place.
    pub(super) async fn place(&self, primary: IpAddr, lane: Lane) -> Place {
        let lane = lane as usize;
        let of_primary = {
            let mut primaries = self.primaries.lock().expect("no panic while it is held");
            let places = self.options.per_primary.max(1);
            let entry = primaries.entry((primary, lane));
            Arc::clone(entry.or_insert_with(|| Arc::new(Semaphore::new(places))))
        };
        let open = "semaphores are never closed";
        let of_primary = of_primary.acquire_owned().await.expect(open);
        let of_all = Arc::clone(&self.all[lane]).acquire_owned().await.expect(open);
        Place { _primary: of_primary, _all: of_all }
    }

    /// For how long this address is still left alone, if it is.
    pub(super) fn is_silent(&self, primary: IpAddr) -> Option<Duration> {
        let silent = self.silent.lock().expect("no panic while it is held");
        let left = silent.get(&primary)?.until.checked_duration_since(Instant::now())?;
        (!left.is_zero()).then_some(left)
    }

    /// It did not answer: all its zones leave it alone for a while, each time for longer.
    pub(super) fn silent(&self, primary: IpAddr) {
        let mut silent = self.silent.lock().expect("no panic while it is held");
        let now = Instant::now();
        let entry = silent.entry(primary).or_insert(Silent { until: now, wait: SILENT.0 / 2 });
        // Many zones find out at once: that is one finding.
        if entry.until <= now {
            entry.wait = (entry.wait * 2).min(SILENT.1);
            entry.until = now + entry.wait;
        }
    }

    /// It has given a sign of life.
    pub(super) fn heard(&self, primary: IpAddr) {
        self.silent.lock().expect("no panic while it is held").remove(&primary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_address_is_left_alone_until_it_is_heard() {
        let options = Options {
            concurrent: 1,
            per_primary: 1,
            connect_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(30),
            min_rate: 1024,
        };
        let limits = Limits::new(options);
        let (one, other) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        assert!(limits.is_silent(one).is_none());
        limits.silent(one);
        limits.silent(one);
        let left = limits.is_silent(one).unwrap();
        assert!(left <= SILENT.0 && left > SILENT.0 / 2, "two zones' findings are one");
        assert!(limits.is_silent(other).is_none());
        limits.heard(one);
        assert!(limits.is_silent(one).is_none());
    }
}
