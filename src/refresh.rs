//! When to ask which primary what: one zone's replication as a state machine.
//!
//! **How it fits.** The replica feeds it events (a timer, a NOTIFY, what a primary said) with the
//! time and a random number, and carries out what it asks for. It does no I/O, so its tests need
//! no sockets and no waiting.
//!
//! **Invariants.**
//! - *one at a time*: a zone asks one primary one thing; what comes meanwhile is remembered once.
//! - *it always goes on*: whatever happens, there is a next time.
//! - *only agreement is contact*: the zone's life is prolonged by an installed version or by a
//!   primary that has the same serial, or that of a version held by a check, by nothing else.
//! - *a flood costs little*: NOTIFYs that turn out to be about nothing are followed up once a
//!   [`NOTIFY_HOLD_MS`].
//!
//! **Sections.** RFC 1034 section 4.3.5, RFC 1995 section 4, RFC 1996 sections 4.5-4.11.

use crate::wire::Serial;

/// The zone's times, in milliseconds: its SOA's, within the configured bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Between two checks.
    pub refresh_ms: u64,
    /// Between a failure and the next attempt.
    pub retry_ms: u64,
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The time set by [`Refresh::next_ms`] has come.
    Due,
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
    /// The primary answered the SOA query, or an IXFR, with this serial and nothing else.
    Told(Serial),
    /// A version was installed.
    Installed(Serial, Times),
    /// A version was transferred and is held by a check: we know what the primary has.
    Held(Serial, Times),
    /// It did not work out.
    Failed(Failure),
}

/// How it did not work out.
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Ask this primary this.
    pub ask: Option<(usize, Ask)>,
    /// The zone was found to be good: its expiry begins anew.
    pub contact: bool,
}

/// How long NOTIFYs are not followed up after one that was about nothing new.
pub const NOTIFY_HOLD_MS: u64 = 1_000;
/// How long a primary that refused IXFR is asked for AXFR at once.
pub const IXFR_REFUSED_MS: u64 = 3_600_000;
/// The longest wait of a zone that was never loaded; it begins with a second and doubles.
pub const EMPTY_WAIT_MS_MAX: u64 = 600_000;
/// A failing zone never asks more often than this.
const RETRY_MS_MIN: u64 = 1_000;

/// One zone's replication.
#[derive(Debug)]
pub struct Refresh {
    serial: Option<Serial>,
    /// The version that is held by a check; transferring it again would bring nothing new.
    held: Option<Serial>,
    times: Times,
    next_ms: u64,
    doing: Option<Doing>,
    pending: Option<Wish>,
    hold_until_ms: u64,
    failures: u32,
    ixfr: bool,
    /// Until when each primary is not asked for IXFR.
    no_ixfr_until_ms: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Doing {
    primary: usize,
    ask: Ask,
    /// How many primaries have had their turn in this round, this one included.
    turns: usize,
    wish: Wish,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Check,
    Follow { primary: usize, serial: Option<Serial> },
    Retransfer,
}

impl Refresh {
    /// A zone with so many primaries, at least one, that holds `serial` and is due at `next_ms`.
    pub fn new(
        primaries: usize,
        ixfr: bool,
        serial: Option<Serial>,
        times: Times,
        next_ms: u64,
    ) -> Self {
        Self {
            serial,
            held: None,
            times,
            next_ms,
            doing: None,
            pending: None,
            hold_until_ms: 0,
            failures: 0,
            ixfr,
            no_ixfr_until_ms: vec![0; primaries],
        }
    }

    /// When [`Event::Due`] is wanted next, unless something is being asked.
    pub fn next_ms(&self) -> u64 {
        self.next_ms
    }

    /// Is a primary being asked?
    pub fn is_asking(&self) -> bool {
        self.doing.is_some()
    }

    /// Is the whole zone being fetched because the operator wants it, whatever its serial?
    pub fn is_forced(&self) -> bool {
        self.doing.is_some_and(|doing| doing.wish == Wish::Retransfer)
    }

    /// Is what is being asked more urgent than a planned refresh?
    pub fn is_urgent(&self) -> bool {
        self.doing.is_some_and(|doing| doing.wish != Wish::Check)
    }

    /// Rounds in a row in which no primary was of use.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// What to do about `event`. `dice` is a random number.
    pub fn on(&mut self, event: Event, now_ms: u64, dice: u32) -> Step {
        match event {
            Event::Due => self.wish(self.pending.unwrap_or(Wish::Check), now_ms),
            Event::Check => self.wish(Wish::Check, now_ms),
            Event::Retransfer => self.wish(Wish::Retransfer, now_ms),
            Event::Notified { primary, serial } => self.notified(primary, serial, now_ms),
            Event::Told(serial) => self.told(serial, now_ms, dice),
            Event::Installed(serial, times) => {
                (self.serial, self.times, self.held) = (Some(serial), times, None);
                self.succeed(now_ms, dice, false)
            }
            Event::Held(serial, times) => {
                self.held = Some(serial);
                if self.serial.is_none() {
                    self.times = times;
                }
                self.succeed(now_ms, dice, true)
            }
            Event::Failed(failure) => self.failed(failure, now_ms, dice),
        }
    }

    fn wish(&mut self, wish: Wish, now_ms: u64) -> Step {
        if self.doing.is_some() {
            if self.pending != Some(Wish::Retransfer) {
                self.pending = Some(wish);
            }
            return Step::default();
        }
        self.pending = None;
        let primary = match wish {
            Wish::Follow { primary, .. } => primary,
            Wish::Check | Wish::Retransfer => 0,
        };
        self.ask(primary, 1, wish, now_ms)
    }

    fn notified(&mut self, primary: usize, serial: Option<Serial>, now_ms: u64) -> Step {
        if let (Some(told), Some(ours)) = (serial, self.serial)
            && !told.is_after(ours)
        {
            return Step::default();
        }
        if serial.is_some() && serial == self.held {
            return Step::default();
        }
        let wish = Wish::Follow { primary, serial };
        if self.doing.is_none() && now_ms < self.hold_until_ms {
            self.pending.get_or_insert(wish);
            self.next_ms = self.next_ms.min(self.hold_until_ms);
            return Step::default();
        }
        self.wish(wish, now_ms)
    }

    /// The first question of a primary's turn.
    fn ask(&mut self, primary: usize, turns: usize, wish: Wish, now_ms: u64) -> Step {
        let ask = match (self.serial, wish) {
            (_, Wish::Retransfer) => Ask::Axfr,
            _ if self.held.is_some() => Ask::Soa,
            (None, _) => Ask::Axfr,
            // A NOTIFY is worth a connection at once: one round trip less than a probe before it.
            (Some(have), Wish::Follow { .. }) if self.may_ixfr(primary, now_ms) => Ask::Ixfr(have),
            (Some(_), _) => Ask::Soa,
        };
        self.put(Doing { primary, ask, turns, wish })
    }

    fn put(&mut self, doing: Doing) -> Step {
        self.doing = Some(doing);
        Step { ask: Some((doing.primary, doing.ask)), contact: false }
    }

    fn may_ixfr(&self, primary: usize, now_ms: u64) -> bool {
        self.ixfr && self.no_ixfr_until_ms[primary] <= now_ms
    }

    fn told(&mut self, serial: Serial, now_ms: u64, dice: u32) -> Step {
        let Some(doing) = self.doing else { return Step::default() };
        if Some(serial) == self.held {
            return self.succeed(now_ms, dice, true);
        }
        let Some(have) = self.serial else {
            return self.put(Doing { ask: Ask::Axfr, ..doing });
        };
        if serial == have {
            return self.succeed(now_ms, dice, true);
        }
        if !serial.is_after(have) {
            return self.next_primary(now_ms, dice);
        }
        // A newer serial and nothing else: to an IXFR, it means that AXFR is to be used.
        let ask = match doing.ask {
            Ask::Soa if self.may_ixfr(doing.primary, now_ms) => Ask::Ixfr(have),
            _ => Ask::Axfr,
        };
        self.put(Doing { ask, ..doing })
    }

    fn succeed(&mut self, now_ms: u64, dice: u32, nothing_new: bool) -> Step {
        let doing = self.doing.take();
        self.failures = 0;
        self.next_ms = now_ms + jitter_down(self.times.refresh_ms, dice);
        if nothing_new && matches!(doing, Some(Doing { wish: Wish::Follow { .. }, .. })) {
            self.hold_until_ms = now_ms + NOTIFY_HOLD_MS;
        }
        Step { contact: true, ..self.go_on(now_ms) }
    }

    /// What was wished for meanwhile, if it is still worth it.
    fn go_on(&mut self, now_ms: u64) -> Step {
        match self.pending.take() {
            None => Step::default(),
            Some(Wish::Follow { primary, serial }) => self.notified(primary, serial, now_ms),
            Some(wish) => self.wish(wish, now_ms),
        }
    }

    fn failed(&mut self, failure: Failure, now_ms: u64, dice: u32) -> Step {
        let Some(doing) = self.doing else { return Step::default() };
        match (failure, doing.ask) {
            (Failure::NoIxfr, Ask::Ixfr(_)) => {
                self.no_ixfr_until_ms[doing.primary] = now_ms + IXFR_REFUSED_MS;
                self.put(Doing { ask: Ask::Axfr, ..doing })
            }
            (Failure::BadIxfr, Ask::Ixfr(_)) => self.put(Doing { ask: Ask::Axfr, ..doing }),
            _ => self.next_primary(now_ms, dice),
        }
    }

    fn next_primary(&mut self, now_ms: u64, dice: u32) -> Step {
        let Some(doing) = self.doing.take() else { return Step::default() };
        let count = self.no_ixfr_until_ms.len();
        if doing.turns < count {
            return self.ask((doing.primary + 1) % count, doing.turns + 1, doing.wish, now_ms);
        }
        self.failures = self.failures.saturating_add(1);
        let wait = if self.serial.is_some() {
            self.times.retry_ms.max(RETRY_MS_MIN)
        } else {
            EMPTY_WAIT_MS_MAX.min(1_000 << (self.failures - 1).min(20))
        };
        self.next_ms = now_ms + jitter_around(wait, dice);
        if matches!(self.pending, Some(Wish::Follow { .. })) {
            self.hold_until_ms = now_ms + NOTIFY_HOLD_MS;
        }
        self.go_on(now_ms)
    }
}

/// Up to a tenth less.
fn jitter_down(ms: u64, dice: u32) -> u64 {
    ms - tenth(ms, dice)
}

/// Up to a tenth less or more.
fn jitter_around(ms: u64, dice: u32) -> u64 {
    ms - ms / 10 + 2 * tenth(ms, dice)
}

/// The share of a tenth of `ms` that `dice` says.
fn tenth(ms: u64, dice: u32) -> u64 {
    (ms / 10).saturating_mul(u64::from(dice)) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times { refresh_ms: 100_000, retry_ms: 20_000 };

    fn zone(primaries: usize) -> Refresh {
        Refresh::new(primaries, true, Some(Serial(5)), TIMES, 1000)
    }

    fn asks(primary: usize, ask: Ask) -> Step {
        Step { ask: Some((primary, ask)), contact: false }
    }

    const CONTACT: Step = Step { ask: None, contact: true };
    const NOTHING: Step = Step { ask: None, contact: false };

    #[test]
    fn a_due_zone_asks_for_the_soa_and_rests_when_nothing_is_new() {
        let mut zone = zone(1);
        assert_eq!(zone.on(Event::Due, 1000, 0), asks(0, Ask::Soa));
        assert_eq!(zone.on(Event::Told(Serial(5)), 2000, 0), CONTACT);
        assert_eq!(zone.next_ms(), 102_000);
        assert_eq!(zone.on(Event::Due, 102_000, 0), asks(0, Ask::Soa));
        assert_eq!(zone.on(Event::Told(Serial(6)), 102_000, 0), asks(0, Ask::Ixfr(Serial(5))));
        assert_eq!(zone.on(Event::Installed(Serial(6), TIMES), 103_000, u32::MAX), CONTACT);
        assert!((193_000..=193_001).contains(&zone.next_ms()), "up to a tenth earlier");
    }

    #[test]
    fn a_zone_without_data_is_transferred_without_a_probe_and_backs_off() {
        let mut zone = Refresh::new(1, true, None, TIMES, 0);
        let mut now = 0;
        for wait in [1_000, 2_000, 4_000, 8_000] {
            assert_eq!(zone.on(Event::Due, now, 1 << 31), asks(0, Ask::Axfr));
            assert_eq!(zone.on(Event::Failed(Failure::Primary), now, 1 << 31), NOTHING);
            assert_eq!(zone.next_ms() - now, wait);
            now = zone.next_ms();
        }
        let notify = Event::Notified { primary: 0, serial: None };
        assert_eq!(zone.on(notify, now - 5, 0), asks(0, Ask::Axfr), "a NOTIFY need not wait");
        for _ in 0..40 {
            zone.on(Event::Failed(Failure::Primary), now, 1 << 31);
            zone.on(Event::Due, now, 0);
        }
        assert_eq!(zone.failures(), 44);
        zone.on(Event::Failed(Failure::Primary), now, 1 << 31);
        assert_eq!(zone.next_ms() - now, EMPTY_WAIT_MS_MAX);
    }

    #[test]
    fn primaries_are_tried_in_order_beginning_with_the_one_that_notified() {
        let mut zone = zone(3);
        let notify = Event::Notified { primary: 1, serial: Some(Serial(6)) };
        assert_eq!(zone.on(notify, 0, 0), asks(1, Ask::Ixfr(Serial(5))));
        let failed = Event::Failed(Failure::Primary);
        assert_eq!(zone.on(failed, 0, 0), asks(2, Ask::Ixfr(Serial(5))));
        assert_eq!(zone.on(failed, 0, 0), asks(0, Ask::Ixfr(Serial(5))));
        assert_eq!(zone.on(failed, 0, 1 << 31), NOTHING);
        assert_eq!((zone.next_ms(), zone.failures()), (20_000, 1));
        assert_eq!(zone.on(Event::Due, 20_000, 0), asks(0, Ask::Soa));
    }

    #[test]
    fn a_failed_ixfr_becomes_an_axfr_of_the_same_primary_at_once() {
        let mut zone = zone(2);
        let notify = Event::Notified { primary: 1, serial: None };
        zone.on(notify, 0, 0);
        assert_eq!(zone.on(Event::Failed(Failure::BadIxfr), 0, 0), asks(1, Ask::Axfr));
        zone.on(Event::Installed(Serial(7), TIMES), 0, 0);
        assert_eq!(zone.on(notify, 0, 0), asks(1, Ask::Ixfr(Serial(7))));
        assert_eq!(zone.on(Event::Failed(Failure::NoIxfr), 0, 0), asks(1, Ask::Axfr));
        zone.on(Event::Installed(Serial(8), TIMES), 0, 0);
        assert_eq!(zone.on(notify, 1, 0), asks(1, Ask::Soa), "it is remembered");
        assert_eq!(zone.on(Event::Told(Serial(9)), 1, 0), asks(1, Ask::Axfr));
        zone.on(Event::Installed(Serial(9), TIMES), 1, 0);
        assert_eq!(zone.on(notify, IXFR_REFUSED_MS, 0), asks(1, Ask::Ixfr(Serial(9))));
    }

    #[test]
    fn a_single_newer_soa_in_answer_to_an_ixfr_asks_for_an_axfr() {
        let mut zone = zone(1);
        zone.on(Event::Notified { primary: 0, serial: None }, 0, 0);
        assert_eq!(zone.on(Event::Told(Serial(9)), 0, 0), asks(0, Ask::Axfr));
    }

    #[test]
    fn a_lower_serial_is_no_contact() {
        let mut zone = zone(2);
        zone.on(Event::Due, 0, 0);
        assert_eq!(zone.on(Event::Told(Serial(4)), 0, 0), asks(1, Ask::Soa));
        assert_eq!(zone.on(Event::Told(Serial(4)), 0, 0), NOTHING);
        assert_eq!(zone.failures(), 1);
    }

    #[test]
    fn a_version_that_is_held_is_contact_and_not_transferred_again() {
        let mut zone = zone(1);
        let notify = |serial| Event::Notified { primary: 0, serial };
        zone.on(notify(Some(Serial(6))), 0, 0);
        assert_eq!(zone.on(Event::Held(Serial(6), TIMES), 0, 0), CONTACT);
        assert_eq!(zone.next_ms(), TIMES.refresh_ms);
        assert_eq!(zone.on(notify(Some(Serial(6))), 5000, 0), NOTHING, "we know it");
        assert_eq!(zone.on(notify(None), 5000, 0), asks(0, Ask::Soa), "a look is enough");
        assert_eq!(zone.on(Event::Told(Serial(6)), 5000, 0), CONTACT);
        assert_eq!(zone.on(notify(Some(Serial(7))), 9000, 0), asks(0, Ask::Soa));
        assert_eq!(zone.on(Event::Told(Serial(7)), 9000, 0), asks(0, Ask::Ixfr(Serial(5))));
        zone.on(Event::Installed(Serial(7), TIMES), 9000, 0);
        assert_eq!(zone.on(notify(None), 20_000, 0), asks(0, Ask::Ixfr(Serial(7))));
    }

    #[test]
    fn a_held_version_of_a_zone_without_data_is_asked_about_at_its_own_interval() {
        let mut zone = Refresh::new(1, true, None, Times { refresh_ms: 0, retry_ms: 0 }, 0);
        zone.on(Event::Due, 0, 0);
        zone.on(Event::Held(Serial(6), TIMES), 0, 0);
        assert_eq!(zone.next_ms(), TIMES.refresh_ms);
        assert_eq!(zone.on(Event::Due, 100_000, 0), asks(0, Ask::Soa));
        assert_eq!(zone.on(Event::Told(Serial(6)), 100_000, 0), CONTACT);
        zone.on(Event::Due, 200_000, 0);
        assert_eq!(zone.on(Event::Told(Serial(7)), 200_000, 0), asks(0, Ask::Axfr));
        assert_eq!(zone.on(Event::Retransfer, 0, 0), NOTHING);
    }

    #[test]
    fn what_comes_while_asking_is_done_afterwards_if_still_of_use() {
        let mut zone = zone(1);
        zone.on(Event::Due, 0, 0);
        let notify = |serial| Event::Notified { primary: 0, serial: Some(Serial(serial)) };
        assert_eq!(zone.on(notify(6), 0, 0), NOTHING);
        zone.on(Event::Told(Serial(6)), 0, 0);
        assert_eq!(zone.on(Event::Installed(Serial(6), TIMES), 0, 0), CONTACT, "6 is here");
        zone.on(Event::Due, 0, 0);
        zone.on(notify(8), 0, 0);
        let step = zone.on(Event::Told(Serial(6)), 0, 0);
        assert_eq!(step, Step { contact: true, ..asks(0, Ask::Ixfr(Serial(6))) });
        zone.on(Event::Retransfer, 0, 0);
        zone.on(notify(9), 0, 0);
        let step = zone.on(Event::Installed(Serial(9), TIMES), 0, 0);
        assert_eq!(step, Step { contact: true, ..asks(0, Ask::Axfr) }, "retransfers are kept");
    }

    #[test]
    fn notifies_about_nothing_are_followed_up_once_a_second() {
        let mut zone = zone(1);
        let notify = Event::Notified { primary: 0, serial: None };
        let mut asked = 0;
        for now in 0..10_000 {
            let mut step = zone.on(notify, now, 0);
            if step.ask.is_none() && now >= zone.next_ms() {
                step = zone.on(Event::Due, now, 0);
            }
            if step.ask.is_some() {
                asked += 1;
                zone.on(Event::Told(Serial(5)), now, 0);
            }
        }
        assert_eq!(asked, 10);
        let old = Event::Notified { primary: 0, serial: Some(Serial(5)) };
        assert_eq!(zone.on(old, 1_000_000, 0), NOTHING, "we have that");
    }
}
