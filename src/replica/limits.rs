//! How much is asked of the primaries at once, all zones together.
//!
//! *One slow primary delays no other*: a job first waits for a place with its primary, and only
//! then for one of the places of all. What a NOTIFY asks for has places of its own, so that it
//! need not wait behind planned refreshes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::{info, warn};

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
    /// A zone is looked at for what its serial does not tell. There is time.
    Idle,
}

/// How many jobs of [`Lane::Idle`] run at once, and one from each primary.
const IDLE: usize = 2;

/// The places.
pub(super) struct Limits {
    options: Options,
    all: [Arc<Semaphore>; 3],
    primaries: Mutex<HashMap<(IpAddr, usize), Arc<Semaphore>>>,
    silent: Mutex<HashMap<IpAddr, Silent>>,
}

/// An address where nobody answered a connection attempt.
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
        let concurrent = options.concurrent.max(1);
        let all = [concurrent, concurrent, IDLE].map(|places| Arc::new(Semaphore::new(places)));
        Self { options, all, primaries: Mutex::default(), silent: Mutex::default() }
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// Waits for a place.
    pub(super) async fn place(&self, primary: IpAddr, lane: Lane) -> Place {
        let places = if lane == Lane::Idle { 1 } else { self.options.per_primary.max(1) };
        let lane = lane as usize;
        let of_primary = {
            let mut primaries = self.primaries.lock().expect("no panic while it is held");
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

    /// It did not answer: all its zones leave it alone for a while, each time for longer. Told
    /// here, once for all of them.
    pub(super) fn silent(&self, primary: IpAddr) {
        let mut silent = self.silent.lock().expect("no panic while it is held");
        let now = Instant::now();
        let entry = silent.entry(primary).or_insert(Silent { until: now, wait: SILENT.0 / 2 });
        // Many zones find out at once: that is one finding.
        if entry.until <= now {
            entry.wait = (entry.wait * 2).min(SILENT.1);
            entry.until = now + entry.wait;
            let s = entry.wait.as_secs();
            warn!(primary = %primary, left_alone_s = s, "unreachable: all its zones leave it \
                alone for this long, or until a NOTIFY comes from it");
        }
    }

    /// It has given a sign of life.
    pub(super) fn heard(&self, primary: IpAddr) {
        let mut silent = self.silent.lock().expect("no panic while it is held");
        if silent.remove(&primary).is_some() {
            info!(primary = %primary, "it is there again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits::new(Options {
            concurrent: 1,
            per_primary: 1,
            connect_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(30),
            min_rate: 1024,
        })
    }

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_is_left_alone_for_longer_and_longer_until_it_is_heard() {
        let limits = limits();
        assert!(limits.is_silent(ONE).is_none());
        for wait in [10, 20, 40, 80, 160, 300, 300] {
            limits.silent(ONE);
            limits.silent(ONE);
            let left = limits.is_silent(ONE).unwrap();
            assert_eq!(left, Duration::from_secs(wait), "two zones' findings are one");
            tokio::time::advance(left - Duration::from_millis(1)).await;
            assert!(limits.is_silent(ONE).is_some());
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(limits.is_silent(ONE).is_none(), "after {wait} s it may be asked again");
        }
        limits.silent(ONE);
        assert!(limits.is_silent(OTHER).is_none());
        limits.heard(ONE);
        assert!(limits.is_silent(ONE).is_none());
        limits.silent(ONE);
        assert_eq!(limits.is_silent(ONE), Some(SILENT.0), "it begins anew");
    }

    #[tokio::test(start_paused = true)]
    async fn each_lane_has_places_of_its_own() {
        let limits = limits();
        let _planned = limits.place(ONE, Lane::Planned).await;
        let _urgent = limits.place(ONE, Lane::Urgent).await;
        let _idle = limits.place(ONE, Lane::Idle).await;
        let soon = Duration::from_secs(1);
        for lane in [Lane::Planned, Lane::Urgent, Lane::Idle] {
            assert!(tokio::time::timeout(soon, limits.place(ONE, lane)).await.is_err());
        }
        let other = limits.place(OTHER, Lane::Idle);
        assert!(tokio::time::timeout(soon, other).await.is_ok());
    }
}
