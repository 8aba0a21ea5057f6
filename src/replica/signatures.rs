//! Signatures that run out though nothing changes: a zone with a trust anchor passes its checks
//! when it comes, and days later validating resolvers take no answer from it, because whoever
//! signs it has stopped. That is told before it hurts; the zone stays served, since nothing that
//! could be served instead would be better.
//!
//! All signatures are looked at when a version has come whole or the first time, then when the
//! first of them is about to end. In between only differences are, for one that ends earlier.

use super::scheduler::{Done, Scheduler, What};
use super::status::SignaturesStatus;
use super::versions::Version;
use super::zone::Entry;
use crate::check::Ending;
use crate::clock;
use crate::wire::Serial;
use std::sync::Arc;
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

/// While something is wrong each version is looked at, but not more often than this.
const APART_MS: u64 = 60_000;

/// What is known of one zone's.
#[derive(Debug, Default)]
pub(super) struct Signatures {
    /// The first that ends; none if there are none, or they were not looked at yet.
    ending: Option<Ending>,
    /// They are being looked at.
    looking: bool,
    looked_ms: u64,
    /// When to look next.
    look_ms: u64,
    told: Left,
}

/// How much of their time is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Left {
    #[default]
    Enough,
    Tenth,
    Nothing,
}

impl Signatures {
    /// When they are to be looked at.
    pub(super) fn due_ms(&self) -> u64 {
        if self.looking { u64::MAX } else { self.look_ms }
    }

    /// Another version is served.
    fn changed(&mut self, version: &Version, now_ms: u64) {
        let whole = version.changes.is_empty();
        let earlier = |ending: &Ending| {
            version.changes.iter().any(|change| ending.is_after_any_of(&change.diff))
        };
        if whole || self.told > Left::Enough || self.ending.as_ref().is_none_or(earlier) {
            self.look_ms = self.look_ms.min(now_ms.max(self.looked_ms.saturating_add(APART_MS)));
        }
    }

    /// They were looked at. How much of their time was left before, and is now.
    fn found(&mut self, ending: Option<Ending>, unix_s: u32, now_ms: u64) -> (Left, Left) {
        let until = |at: Serial| match at.is_after(Serial(unix_s)) {
            true => u64::from(at.0.wrapping_sub(unix_s)) * 1000,
            false => 0,
        };
        let (left, next_ms) = match ending.as_ref().map(|it| (until(it.near()), until(it.at))) {
            None => (Left::Enough, u64::MAX),
            Some((0, 0)) => (Left::Nothing, u64::MAX),
            Some((0, ms)) => (Left::Tenth, now_ms + ms),
            Some((ms, _)) => (Left::Enough, now_ms + ms),
        };
        (self.looking, self.looked_ms, self.ending) = (false, now_ms, ending);
        // What came while they were being looked at may want another look.
        self.look_ms = self.look_ms.min(next_ms);
        (std::mem::replace(&mut self.told, left), left)
    }

    pub(super) fn status(&self, unix_s: u32) -> Option<SignaturesStatus> {
        let Ending { owner, rtype, at, .. } = self.ending.as_ref()?;
        let left = if at.is_after(Serial(unix_s)) { at.0.wrapping_sub(unix_s) } else { 0 };
        Some(SignaturesStatus { ends_in_s: left.into(), of: format!("{owner} {rtype}") })
    }
}

impl Entry {
    /// A version is served, perhaps by other rules: its signatures are watched, if they are to be.
    pub(super) fn watch_signatures(&mut self) {
        let watched = self.zone.is_some() && !self.settings().checks.anchors.is_empty();
        match watched {
            true => self.rare_mut().signatures = Some(Signatures::default()),
            false => self.relieve(|rare| rare.signatures = None),
        }
    }

    /// When its signatures are to be looked at.
    pub(super) fn signatures_due_ms(&self) -> u64 {
        let watched = self.rare().and_then(|rare| rare.signatures.as_ref());
        watched.map_or(u64::MAX, Signatures::due_ms)
    }

    pub(super) fn signatures_status(&self) -> Option<SignaturesStatus> {
        self.rare()?.signatures.as_ref()?.status(clock::unix_s())
    }

    /// This version is served now.
    pub(super) fn note_signatures(&mut self, version: &Version, now_ms: u64) {
        if self.rare().is_none_or(|rare| rare.signatures.is_none()) {
            return self.watch_signatures();
        }
        self.relieve(|rare| {
            if let Some(signatures) = &mut rare.signatures {
                signatures.changed(version, now_ms);
            }
        });
    }
}

impl Scheduler {
    /// Looks at all signatures of a zone, beside whatever else goes on.
    pub(super) fn look_at_signatures(&mut self, id: usize) {
        let careful = Arc::clone(&self.careful);
        let done = self.done.clone();
        let entry = self.entry_mut(id);
        let epoch = entry.epoch;
        let zone = entry.zone.clone();
        let (Some(signatures), Some(zone)) = (&mut entry.rare_mut().signatures, zone) else {
            return;
        };
        (signatures.looking, signatures.look_ms) = (true, u64::MAX);
        tokio::spawn(async move {
            let _place = careful.acquire().await;
            // At shutdown nobody wants to know any more.
            if let Ok(ending) = spawn_blocking(move || Ending::of(&zone)).await {
                let _ = done.send(Done { id, epoch, what: What::Signatures(ending) });
            }
        });
    }

    pub(super) fn signatures_looked_at(&mut self, id: usize, ending: Option<Ending>) {
        let (now_ms, unix_s) = (self.clock.now_ms(), clock::unix_s());
        let entry = self.entry_mut(id);
        let Some(signatures) = &mut entry.rare_mut().signatures else { return };
        let (before, left) = signatures.found(ending, unix_s, now_ms);
        let Some(status) = signatures.status(unix_s) else { return };
        let (zone, of, in_s) = (&entry.apex, status.of, status.ends_in_s);
        let serial = entry.zone.as_ref().map(|zone| zone.serial().0);
        match left {
            _ if left == before => {}
            Left::Nothing => error!(%zone, serial, of, "signatures have expired, and the primary \
                has no newer ones: validating resolvers take it no more; it is served all the same"),
            Left::Tenth => warn!(%zone, serial, of, in_s, "signatures expire soon: less than a \
                tenth of their time is left, and the primary has no newer ones; sign it there"),
            Left::Enough => info!(%zone, serial, of, in_s, "no signature expires soon any more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Rtype;

    /// Good for 1000 s, of which 900 are over at 5900.
    fn ending() -> Ending {
        let (since, at) = (Serial(5000), Serial(6000));
        Ending { owner: "a.test.".into(), rtype: Rtype::A, since, at }
    }

    #[test]
    fn it_is_told_when_a_tenth_is_left_and_when_nothing_is_and_when_it_is_well_again() {
        let mut signatures = Signatures::default();
        let mut look = |ending, unix_s: u32, now_ms| {
            (signatures.looking, signatures.look_ms) = (true, u64::MAX);
            let (before, left) = signatures.found(ending, unix_s, now_ms);
            (before != left, left, signatures.due_ms())
        };
        assert_eq!(look(Some(ending()), 5100, 1), (false, Left::Enough, 800_001));
        assert_eq!(look(Some(ending()), 5900, 1), (true, Left::Tenth, 100_001));
        assert_eq!(look(Some(ending()), 5950, 1), (false, Left::Tenth, 50_001));
        assert_eq!(look(Some(ending()), 6000, 1), (true, Left::Nothing, u64::MAX));
        let later = Ending { since: Serial(6000), at: Serial(7000), ..ending() };
        assert_eq!(look(Some(later), 6001, 1), (true, Left::Enough, 899_001));
        assert_eq!(look(None, 6001, 1), (false, Left::Enough, u64::MAX), "it is signed no more");
    }

    #[test]
    fn what_is_left_is_told_also_when_the_times_wrap() {
        let mut signatures = Signatures::default();
        let wraps = Ending { since: Serial(u32::MAX - 99), at: Serial(900), ..ending() };
        assert_eq!(signatures.found(Some(wraps), u32::MAX, 0).1, Left::Enough);
        let status = signatures.status(u32::MAX).unwrap();
        assert_eq!((status.ends_in_s, status.of.as_str()), (901, "a.test. A"));
        assert_eq!(signatures.status(901).unwrap().ends_in_s, 0);
    }
}
