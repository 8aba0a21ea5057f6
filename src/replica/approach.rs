//! How near a zone is to its expiry, and telling of it: at half of its time, at a tenth, when it is
//! over, and when a primary has renewed it after all; each once.

use super::zone::Entry;
use crate::view::Expiry;
use tracing::{error, info, warn};

/// How near expiry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Approach {
    /// More than half of the time is left.
    Far,
    /// Less than half.
    Half,
    /// Less than a tenth.
    Tenth,
    /// None.
    Over,
}

impl Entry {
    /// Do the primaries fail, or were they heard of when half of the time was over already, and did
    /// not renew it?
    fn is_unrenewed(&self) -> bool {
        let half_ms = self.expiry.get().saturating_sub(self.granted_ms / 2);
        self.refresh.failures() > 0 || self.contact_ms.is_some_and(|at_ms| at_ms >= half_ms)
    }

    /// How near expiry is. Half of the time is nothing to speak of while the primaries are of use.
    pub(super) fn approach(&self, now_ms: u64) -> Approach {
        let at = self.expiry.get();
        let left_ms = at.saturating_sub(now_ms);
        match () {
            () if self.zone.is_none() || at == Expiry::NEVER => Approach::Far,
            () if left_ms == 0 => Approach::Over,
            () if left_ms <= self.granted_ms / 10 => Approach::Tenth,
            () if left_ms <= self.granted_ms / 2 && self.is_unrenewed() => Approach::Half,
            () => Approach::Far,
        }
    }

    /// When the next approach of expiry is to be told.
    pub(super) fn approach_ms(&self) -> u64 {
        let at = self.expiry.get();
        if self.zone.is_none() || at == Expiry::NEVER {
            return u64::MAX;
        }
        match self.told {
            Approach::Far if self.is_unrenewed() => at.saturating_sub(self.granted_ms / 2),
            Approach::Far | Approach::Half => at.saturating_sub(self.granted_ms / 10),
            Approach::Tenth => at,
            Approach::Over => u64::MAX,
        }
    }

    /// Says once how near a zone's expiry is.
    pub(super) fn tell_approach(&self, now_ms: u64) {
        let last_contact_s = self.contact_ms.map(|at| now_ms.saturating_sub(at) / 1000);
        let expires_in_s = self.expiry.get().saturating_sub(now_ms) / 1000;
        let why = self.primaries.iter().find_map(|known| known.troubles.last());
        let share = match self.approach(now_ms) {
            Approach::Far => return,
            Approach::Over if self.terms.access.serve_stale => {
                error!(zone = %self.apex, last_contact_s, why, "expired: no primary has \
                    renewed it in time; it is served stale until one does");
                return;
            }
            Approach::Over => {
                error!(zone = %self.apex, last_contact_s, why, "expired: no primary has \
                    renewed it in time; it is answered with SERVFAIL until one does");
                return;
            }
            Approach::Half => "half",
            Approach::Tenth => "a tenth",
        };
        warn!(zone = %self.apex, last_contact_s, expires_in_s, why, "expiring: less than {share} of \
            the time is left in which it is served without a primary");
    }

    /// Says that what was told of expiry, which was to be at `before_ms`, is over.
    pub(super) fn tell_renewal(&self, before_ms: u64, now_ms: u64) {
        match self.told {
            Approach::Far => {}
            Approach::Half | Approach::Tenth => {
                info!(zone = %self.apex, "no longer expiring: a primary has renewed it");
            }
            Approach::Over => {
                let for_s = now_ms.saturating_sub(before_ms) / 1000;
                info!(zone = %self.apex, for_s, "no longer expired: a primary has renewed it, and \
                    it is answered for as ever");
            }
        }
    }
}
