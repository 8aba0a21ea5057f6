//! When to ask which primary what: one zone's replication as a state machine.
//!
//! **How it fits.** The replica feeds it events (a timer, a NOTIFY, what a primary said) with the
//! time and a random number, and carries out what it asks for. It does no I/O, so its tests need
//! no sockets and no waiting.
//!
//! **A round** is one attempt to bring the zone up to date. Planned ones ask all primaries for
//! their SOA at once and transfer from the one with the newest; one that a NOTIFY began transfers
//! from its sender, and asks the others only if that fails. A zone with one primary is asked for
//! with one question.
//!
//! **A lineage** is a row of versions whose serials can be compared. Primaries share one, unless
//! they are independent: then each has its own. A version belongs to the lineage that it came
//! from. Another one is turned to when that was of no use for `pin_tolerance_ms`, with an AXFR.
//!
//! **Invariants.**
//! - *one transfer at a time*: what is wished for meanwhile is remembered once.
//! - *it always goes on*: whatever happens, there is a next time.
//! - *no one waits for the dead*: a primary that does not answer delays no decision for longer
//!   than [`GATHER_MS`] once another has answered, and no transfer that a NOTIFY asks for at all.
//! - *only agreement is contact*: the zone's life is prolonged by an installed version or by a
//!   primary that has the same serial, or that of a version held by a check, by nothing else.
//! - *lineages are not mixed*: an IXFR is asked only of the lineage that the version is from.
//! - *a flood costs little*: NOTIFYs that turn out to be about nothing are followed up once a
//!   [`NOTIFY_HOLD_MS`]; only the first that came while one was, at once.
//!
//! **Sections.** RFC 1034 section 4.3.5, RFC 1995 section 4, RFC 1996 sections 4.5-4.11.

mod round;
#[cfg(test)]
mod tests;

use crate::wire::Serial;
use round::{Round, Turn, Wish};

/// The zone's times, in milliseconds: its SOA's, within the configured bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Between two checks.
    pub refresh_ms: u64,
    /// Between a failure and the next attempt.
    pub retry_ms: u64,
}

/// What is done about a serial that is lower than ours at every primary that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LowerSerial {
    /// It is never taken.
    Keep,
    /// It is taken once the zone has expired.
    AcceptAfterExpiry,
    /// It is taken as soon as all primaries have one; once the zone has expired, from any.
    Accept,
}

/// What the operator has chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Are differences asked for?
    pub ixfr: bool,
    /// What becomes of serials that went backwards.
    pub lower_serial: LowerSerial,
    /// How long the lineage that the version is from is waited for before another is turned to.
    pub pin_tolerance_ms: u64,
}

/// The version held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Have {
    /// Its serial.
    pub serial: Serial,
    /// Its times.
    pub times: Times,
    /// The primary that it came from, if that is still one.
    pub source: Option<usize>,
    /// When a primary confirmed or renewed it last.
    pub contact_ms: u64,
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The time set by [`Refresh::next_ms`] has come.
    Due,
    /// The zone has expired.
    Expired,
    /// A primary says that the zone has changed, and perhaps to which serial.
    Notified {
        /// Which primary.
        primary: usize,
        /// The serial it told.
        serial: Option<Serial>,
    },
    /// The operator wants the zone checked now.
    Check,
    /// The operator wants the whole zone again.
    Retransfer,
    /// This primary has other data under our serial, and they are wanted.
    Diverged(usize),
    /// What a primary said to the SOA query; `None`: nothing of use.
    Probed {
        /// Which primary.
        primary: usize,
        /// Its serial.
        serial: Option<Serial>,
    },
    /// To the request for a transfer, the primary answered with this serial and nothing else.
    Told(Serial),
    /// The version transferred was installed.
    Installed(Serial, Times),
    /// A version is held by a check: we know what the primary has.
    Held(Serial, Times),
    /// The transfer did not work out.
    Failed(Failure),
}

/// How a transfer did not work out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The primary does not do IXFR (for us): do not ask it again for a while.
    NoIxfr,
    /// The IXFR was of no use: out of sync, malformed.
    BadIxfr,
    /// Anything else: another primary may do better.
    Primary,
}

/// What to ask a primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Its SOA record.
    Soa,
    /// What has changed since the version held.
    Ixfr(Serial),
    /// All of it.
    Axfr,
}

/// What to do now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Ask these primaries this, all at once.
    pub asks: Vec<(usize, Ask)>,
    /// This primary found the zone to be good: its expiry begins anew.
    pub contact: Option<usize>,
}

/// How long NOTIFYs are not followed up after one that was about nothing new.
pub const NOTIFY_HOLD_MS: u64 = 1_000;
/// How long a primary that refused IXFR is asked for AXFR at once.
pub const IXFR_REFUSED_MS: u64 = 3_600_000;
/// The longest wait of a zone that was never loaded; it begins with a second and doubles.
pub const EMPTY_WAIT_MS_MAX: u64 = 600_000;
/// How long the other primaries' answers are waited for once one has answered.
pub const GATHER_MS: u64 = 1_000;
/// A failing zone never asks more often than this.
const RETRY_MS_MIN: u64 = 1_000;

/// One zone's replication.
#[derive(Debug)]
pub struct Refresh {
    policy: Policy,
    peers: Box<[Peer]>,
    have: Option<Have>,
    /// The version that is held by a check: to transfer it again would bring nothing new. Boxed, as
    /// a round is.
    withheld: Option<Box<Have>>,
    next_ms: u64,
    /// Boxed: of a million zones few have one.
    round: Option<Box<Round>>,
    pending: Option<Wish>,
    hold_until_ms: u64,
    failures: u32,
    expired: bool,
    lower: Option<Serial>,
}

/// One primary.
#[derive(Debug)]
struct Peer {
    independent: bool,
    /// A query for its SOA is under way, perhaps since an earlier round.
    probing: bool,
    /// Until when it is not asked for IXFR.
    no_ixfr_until_ms: u64,
    turn: Turn,
    /// The serial that it has told in this round.
    told: Option<Serial>,
}

impl Refresh {
    /// A zone without data that is due at `due_ms`. `independent` tells of each primary, at least
    /// one, whether it has a lineage of its own.
    pub fn new(
        independent: impl IntoIterator<Item = bool>,
        policy: Policy,
        have: Option<Have>,
        due_ms: u64,
    ) -> Self {
        let peer = |independent| Peer {
            independent,
            probing: false,
            no_ixfr_until_ms: 0,
            turn: Turn::Waiting,
            told: None,
        };
        Self {
            policy,
            peers: independent.into_iter().map(peer).collect(),
            have,
            withheld: None,
            next_ms: due_ms,
            round: None,
            pending: None,
            hold_until_ms: 0,
            failures: 0,
            expired: false,
            lower: None,
        }
    }

    /// The zone has expired before this began.
    #[must_use]
    pub fn after_expiry(self, expired: bool) -> Self {
        Self { expired, ..self }
    }

    /// When [`Event::Due`] is wanted next.
    pub fn next_ms(&self) -> u64 {
        self.round.as_ref().map_or(self.next_ms, |round| round.wake_ms)
    }

    /// Is a primary being asked?
    pub fn is_asking(&self) -> bool {
        self.round.is_some()
    }

    /// Is what is being transferred wanted whatever its serial?
    pub fn is_forced(&self) -> bool {
        let of = |round: &Round| {
            round.wish == Wish::Retransfer || round.transfer.is_some_and(|it| it.any_serial)
        };
        self.round.as_deref().is_some_and(of)
    }

    /// Is what is being asked more urgent than a planned refresh?
    pub fn is_urgent(&self) -> bool {
        self.round.as_ref().is_some_and(|round| round.wish != Wish::Check)
    }

    /// Rounds in a row in which no primary was of use, or none had what another promised.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The highest serial at the primaries, if all that answered last have a lower one than ours.
    pub fn lower(&self) -> Option<Serial> {
        self.lower
    }

    /// The primary that the version held came from, if it is still one.
    pub fn source(&self) -> Option<usize> {
        self.have?.source
    }

    /// May what this primary has be compared with the version held, serial by serial?
    pub fn is_comparable(&self, primary: usize) -> bool {
        self.newest_known().is_some() && self.pinned() == Some(self.lineage_of(primary))
    }

    /// What to do about `event`. `dice` is a random number.
    pub fn on(&mut self, event: Event, now_ms: u64, dice: u32) -> Step {
        let mut step = Step::default();
        let at = At { now_ms, dice };
        match event {
            Event::Due if self.round.is_some() => self.go_on(at, &mut step),
            Event::Due => self.wish(self.pending.unwrap_or(Wish::Check), at, &mut step),
            Event::Expired => {
                self.expired = true;
                self.wish(Wish::Check, at, &mut step);
            }
            Event::Check => self.wish(Wish::Check, at, &mut step),
            Event::Retransfer => self.wish(Wish::Retransfer, at, &mut step),
            Event::Diverged(primary) => self.wish(Wish::Repair(primary), at, &mut step),
            Event::Notified { primary, serial } => self.notified(primary, serial, at, &mut step),
            Event::Probed { primary, serial } => self.probed(primary, serial, at, &mut step),
            Event::Told(serial) => self.told(serial, at, &mut step),
            Event::Installed(serial, times) => self.installed(serial, times, at, &mut step),
            Event::Held(serial, times) => self.held(serial, times, at, &mut step),
            Event::Failed(failure) => self.failed(failure, at, &mut step),
        }
        step
    }

    fn wish(&mut self, wish: Wish, at: At, step: &mut Step) {
        match &self.round {
            Some(round) if round.transfer.is_some() => {
                if self.pending != Some(Wish::Retransfer) {
                    self.pending = Some(wish);
                }
            }
            Some(_) if wish == Wish::Check => {}
            // Only probes are under way: what they bring is heard all the same.
            _ => self.begin(wish, at, step),
        }
    }

    fn notified(&mut self, primary: usize, serial: Option<Serial>, at: At, step: &mut Step) {
        if let Some(held) = self.have {
            if !self.is_comparable(primary) {
                // Another lineage: of interest when ours has been silent for long enough.
                if self.may_switch(at.now_ms) {
                    self.wish(Wish::Check, at, step);
                }
                return;
            }
            if serial.is_some_and(|told| !told.is_after(held.serial)) {
                return;
            }
        }
        if serial.is_some() && serial == self.withheld().map(|held| held.serial) {
            return;
        }
        let wish = Wish::Follow { primary, serial };
        if !self.is_transferring() && at.now_ms < self.hold_until_ms {
            self.pending.get_or_insert(wish);
            self.next_ms = self.next_ms.min(self.hold_until_ms);
            return;
        }
        self.wish(wish, at, step);
    }

    fn is_transferring(&self) -> bool {
        self.round.as_ref().is_some_and(|round| round.transfer.is_some())
    }

    /// What was wished for meanwhile, if it is still worth it.
    fn resume(&mut self, at: At, step: &mut Step) {
        match self.pending.take() {
            None => {}
            Some(Wish::Follow { primary, serial }) => self.notified(primary, serial, at, step),
            Some(wish) => self.wish(wish, at, step),
        }
    }

    /// The lineage of a primary, named by the first that has it.
    fn lineage_of(&self, primary: usize) -> usize {
        if self.peers[primary].independent { primary } else { self.shared().unwrap_or(primary) }
    }

    /// The lineage that primaries share, if they do.
    fn shared(&self) -> Option<usize> {
        self.peers.iter().position(|peer| !peer.independent)
    }

    /// The lineage that the version held is from. Where that is not known, it is the shared one.
    fn pinned(&self) -> Option<usize> {
        let source = self.have.or_else(|| self.withheld())?.source;
        source.map(|source| self.lineage_of(source)).or_else(|| self.shared())
    }

    /// The newest version that we know of in its lineage: the one held by a check, or ours.
    fn newest_known(&self) -> Option<Have> {
        let of_it = |held: &Have| {
            held.source.is_none_or(|source| self.pinned() == Some(self.lineage_of(source)))
        };
        self.withheld().filter(of_it).or(self.have)
    }

    fn withheld(&self) -> Option<Have> {
        self.withheld.as_deref().copied()
    }

    /// Is this what we have, or what a check holds?
    fn is_known(&self, serial: Serial) -> bool {
        [self.have, self.newest_known()].iter().flatten().any(|known| known.serial == serial)
    }

    /// All lineages, the one to begin with first.
    fn lineages(&self) -> Vec<usize> {
        let mut all: Vec<usize> =
            (0..self.peers.len()).filter(|&at| self.lineage_of(at) == at).collect();
        if let Some(pinned) = self.pinned() {
            all.sort_by_key(|&lineage| lineage != pinned);
        }
        all
    }

    /// May another lineage than that of the version held be turned to?
    fn may_switch(&self, now_ms: u64) -> bool {
        let tolerance = self.policy.pin_tolerance_ms;
        let waited = |held: Have| now_ms.saturating_sub(held.contact_ms) >= tolerance;
        self.expired || self.pinned().is_none() || self.have.is_none_or(waited)
    }

    fn may_ixfr(&self, primary: usize, now_ms: u64) -> Option<Serial> {
        let may = self.policy.ixfr
            && self.peers[primary].no_ixfr_until_ms <= now_ms
            && self.is_comparable(primary);
        self.have.filter(|_| may).map(|held| held.serial)
    }
}

/// The time of an event, and a random number.
#[derive(Clone, Copy)]
struct At {
    now_ms: u64,
    dice: u32,
}

impl At {
    /// Up to a tenth earlier than in `ms`.
    fn within(self, ms: u64) -> u64 {
        self.now_ms + ms - self.tenth(ms)
    }

    /// Up to a tenth earlier or later than in `ms`.
    fn around(self, ms: u64) -> u64 {
        self.now_ms + ms - ms / 10 + 2 * self.tenth(ms)
    }

    /// The share of a tenth of `ms` that the dice say.
    fn tenth(self, ms: u64) -> u64 {
        (ms / 10).saturating_mul(u64::from(self.dice)) >> 32
    }
}
