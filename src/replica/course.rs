//! How far a transfer has come: told by `status` while it lasts, and by the log now and then.

use super::status::{Doing, TransferStatus};
use super::zone::millis;
use crate::name::NameBuf;
use crate::xfr::Statistics;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tracing::info;

/// How often the log tells of a transfer that takes its time.
const TELL_EVERY: Duration = Duration::from_secs(3);

/// A transfer under way, written by who carries it out.
pub(super) struct Course {
    began: Instant,
    octets: AtomicU64,
    records: AtomicU64,
    /// All has come.
    received: AtomicBool,
    /// Since when the log has told nothing of it, in milliseconds from the beginning.
    told_ms: AtomicU64,
}

impl Course {
    pub(super) fn begin() -> Self {
        Self {
            began: Instant::now(),
            octets: AtomicU64::new(0),
            records: AtomicU64::new(0),
            received: AtomicBool::new(false),
            told_ms: AtomicU64::new(0),
        }
    }

    /// Some more has come.
    pub(super) fn note(&self, so_far: Statistics, zone: &NameBuf, primary: SocketAddr) {
        self.octets.store(so_far.octets, Ordering::Relaxed);
        self.records.store(so_far.records, Ordering::Relaxed);
        let now_ms = millis(self.began.elapsed());
        if now_ms - self.told_ms.load(Ordering::Relaxed) >= millis(TELL_EVERY) {
            self.told_ms.store(now_ms, Ordering::Relaxed);
            info!(%zone, %primary, records = so_far.records, octets = so_far.octets, ms = now_ms,
                "being transferred");
        }
    }

    /// Nothing more is to come.
    pub(super) fn received(&self) {
        self.received.store(true, Ordering::Relaxed);
    }

    /// For `status`; `None` while nothing has come.
    pub(super) fn status(&self, storing: bool) -> Option<TransferStatus> {
        let octets = self.octets.load(Ordering::Relaxed);
        let doing = match self.received.load(Ordering::Relaxed) {
            _ if storing => Doing::Storing,
            true => Doing::Building,
            false => Doing::Receiving,
        };
        let records = self.records.load(Ordering::Relaxed);
        let s = self.began.elapsed().as_secs();
        (octets > 0).then_some(TransferStatus { doing, octets, records, s })
    }
}
