//! What holds for all that is asked of the primaries: limits, open connections, who is silent.

use super::connections::Connections;
use crate::seldom::is_loud;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{debug, info, warn};

/// The limits and time-outs of outgoing requests.
#[derive(Clone, Debug)]
pub struct Options {
    /// Transfers at once, in all.
    pub concurrent: usize,
    /// Transfers at once from one primary's address.
    pub per_primary: usize,
    /// Planned SOA queries to one primary's address, a second.
    pub probes_a_second: u32,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long nothing may come.
    pub stall_timeout: Duration,
    /// The least octets a second of a transfer, once it has lasted for `stall_timeout`.
    pub min_rate: u64,
}

/// What holds for all.
pub(super) struct Limits {
    options: Options,
    /// What was opened within them and may be used again.
    pub(super) connections: Connections,
    silent: Mutex<HashMap<IpAddr, Silent>>,
}

/// An address where nobody answered a connection attempt.
#[derive(Clone, Copy)]
struct Silent {
    until: Instant,
    wait: Duration,
    /// How often it was found so.
    times: u32,
}

/// How long a silent address is left alone at first, and at most.
const SILENT: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));

impl Limits {
    pub(super) fn new(options: Options) -> Self {
        Self { options, connections: Connections::default(), silent: Mutex::default() }
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
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
        let entry =
            silent.entry(primary).or_insert(Silent { until: now, wait: SILENT.0 / 2, times: 0 });
        // Many zones find out at once: that is one finding.
        if entry.until <= now {
            entry.wait = (entry.wait * 2).min(SILENT.1);
            entry.until = now + entry.wait;
            entry.times = entry.times.saturating_add(1);
            let (left_alone_s, times) = (entry.wait.as_secs(), entry.times);
            if is_loud(times) {
                warn!(%primary, left_alone_s, times, "unreachable: all its zones leave it alone \
                    for this long, or until a NOTIFY comes from it, and for longer each time");
            } else {
                debug!(%primary, left_alone_s, times, "still unreachable");
            }
        }
    }

    /// It has given a sign of life.
    pub(super) fn heard(&self, primary: IpAddr) {
        let mut silent = self.silent.lock().expect("no panic while it is held");
        if silent.remove(&primary).is_some() {
            info!(%primary, "reachable again");
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
            probes_a_second: 1000,
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
}
