//! One round: whom it asks, what it makes of the answers, how it ends.

use super::{
    Ask, At, EMPTY_WAIT_MS_MAX, Failure, GATHER_MS, Have, IXFR_REFUSED_MS, LowerSerial,
    NOTIFY_HOLD_MS, RETRY_MS_MIN, Refresh, Step, Times,
};
use crate::wire::Serial;

/// An attempt to bring the zone up to date.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) wish: Wish,
    /// All lineages, and which of them has its turn.
    lineages: Vec<usize>,
    turn: usize,
    pub(super) transfer: Option<Transfer>,
    /// Until when the other answers are waited for; none have come if there is no such time.
    gather_until_ms: Option<u64>,
    /// When it is to be looked at again though nothing has come.
    pub(super) wake_ms: u64,
    /// A primary has our serial.
    contact: bool,
    /// A primary should have had something for us, and no one gave it.
    missed: bool,
}

/// The one transfer under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    primary: usize,
    ask: Ask,
    /// It is wanted whatever its serial: from another lineage, or a lower one that is accepted.
    pub(super) any_serial: bool,
}

/// Why there is a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Check,
    Follow { primary: usize, serial: Option<Serial> },
    Retransfer,
    Repair(usize),
}

/// How far a primary has come in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It has not been asked.
    Waiting,
    /// It is being asked for its SOA.
    Asked,
    /// This is its serial.
    Told(Serial),
    /// It did not tell its serial.
    Silent,
    /// It is asked for a transfer, or that did not work out.
    Used,
}

impl Refresh {
    pub(super) fn begin(&mut self, wish: Wish, at: At, step: &mut Step) {
        self.pending = None;
        for peer in &mut self.peers {
            (peer.turn, peer.told) = (Turn::Waiting, None);
        }
        self.round = Some(Box::new(Round {
            wish,
            lineages: self.lineages(),
            turn: 0,
            transfer: None,
            gather_until_ms: None,
            wake_ms: u64::MAX,
            contact: false,
            missed: false,
        }));
        match wish {
            Wish::Check => self.open(step),
            Wish::Retransfer => self.transfer(self.members()[0], Ask::Axfr, false, step),
            Wish::Repair(primary) => self.transfer(primary, Ask::Axfr, false, step),
            Wish::Follow { primary, .. } => {
                let lineage = self.lineage_of(primary);
                let round = self.round();
                let place = round.lineages.iter().position(|&first| first == lineage);
                round.turn = place.expect("each primary has one");
                match self.may_ixfr(primary, at.now_ms) {
                    // A NOTIFY is worth a connection at once: one round trip less than a probe
                    // before it.
                    Some(have) if self.withheld.is_none() => {
                        self.transfer(primary, Ask::Ixfr(have), false, step);
                    }
                    _ if self.newest_known().is_none() => {
                        self.transfer(primary, Ask::Axfr, false, step);
                    }
                    _ => self.probe(primary, step),
                }
            }
        }
    }

    fn round(&mut self) -> &mut Round {
        self.round.as_mut().expect("called within a round")
    }

    /// The primaries whose lineage has its turn.
    fn members(&self) -> Vec<usize> {
        let Some(round) = &self.round else { return Vec::new() };
        let lineage = round.lineages[round.turn];
        (0..self.peers.len()).filter(|&primary| self.lineage_of(primary) == lineage).collect()
    }

    /// Asks those of the lineage in turn that were not asked yet, all at once. If nothing can be
    /// compared with what we have, the first is asked for all of it without a probe.
    fn open(&mut self, step: &mut Step) {
        for primary in self.members() {
            if self.peers[primary].turn != Turn::Waiting {
                continue;
            }
            if self.is_comparable(primary) || self.is_transferring() {
                self.probe(primary, step);
            } else {
                self.transfer(primary, Ask::Axfr, self.have.is_some(), step);
            }
        }
    }

    fn probe(&mut self, primary: usize, step: &mut Step) {
        let peer = &mut self.peers[primary];
        peer.turn = Turn::Asked;
        if !std::mem::replace(&mut peer.probing, true) {
            step.asks.push((primary, Ask::Soa));
        }
    }

    fn transfer(&mut self, primary: usize, ask: Ask, any_serial: bool, step: &mut Step) {
        self.peers[primary].turn = Turn::Used;
        let round = self.round();
        round.transfer = Some(Transfer { primary, ask, any_serial });
        round.wake_ms = u64::MAX;
        step.asks.push((primary, ask));
    }

    pub(super) fn probed(
        &mut self,
        primary: usize,
        serial: Option<Serial>,
        at: At,
        step: &mut Step,
    ) {
        let peer = &mut self.peers[primary];
        (peer.probing, peer.told) = (false, serial);
        let known = self.newest_known().filter(|_| self.is_comparable(primary));
        let same = known.is_some() && serial.is_some_and(|serial| self.is_known(serial));
        if let Some(round) = &mut self.round {
            let turn = &mut self.peers[primary].turn;
            if !matches!(turn, Turn::Asked | Turn::Waiting) {
                return;
            }
            *turn = serial.map_or(Turn::Silent, Turn::Told);
            if serial.is_some() {
                round.gather_until_ms.get_or_insert(at.now_ms + GATHER_MS);
            }
            if same {
                self.contact(primary, at, step);
            }
            self.go_on(at, step);
        } else if same {
            self.contact(primary, at, step);
        } else if let (Some(serial), Some(known)) = (serial, known)
            && serial.is_after(known.serial)
        {
            // It answers late, after its round, and has something.
            self.notified(primary, Some(serial), at, step);
        }
    }

    /// This primary has just what we have.
    fn contact(&mut self, primary: usize, at: At, step: &mut Step) {
        step.contact = Some(primary);
        (self.lower, self.expired) = (None, false);
        if let Some(held) = &mut self.have {
            held.contact_ms = at.now_ms;
        }
        if let Some(round) = &mut self.round {
            round.contact = true;
        }
    }

    pub(super) fn told(&mut self, serial: Serial, at: At, step: &mut Step) {
        let Some(transfer) = self.round.as_mut().and_then(|round| round.transfer.take()) else {
            return;
        };
        let primary = transfer.primary;
        self.peers[primary].told = Some(serial);
        match (self.have, transfer.ask) {
            (Some(_), _) if self.is_known(serial) => {
                self.peers[primary].turn = Turn::Told(serial);
                if let (Some(held), true) = (&mut self.have, transfer.any_serial) {
                    // Another lineage's version turned out to be just ours.
                    held.source = Some(primary);
                }
                self.contact(primary, at, step);
            }
            // A newer serial and nothing else: to an IXFR, it means that AXFR is to be used.
            (Some(held), Ask::Ixfr(_)) if serial.is_after(held.serial) => {
                return self.transfer(primary, Ask::Axfr, transfer.any_serial, step);
            }
            // Unless it had told a newer one before.
            (Some(held), _)
                if !serial.is_after(held.serial) && self.round().wish != Wish::Check =>
            {
                self.peers[primary].turn = Turn::Told(serial);
            }
            _ => self.round().missed = true,
        }
        self.go_on(at, step);
    }

    pub(super) fn installed(&mut self, serial: Serial, times: Times, at: At, step: &mut Step) {
        let transfer = self.round.as_mut().and_then(|round| round.transfer.take());
        let before = self.have;
        self.have = Some(match transfer {
            Some(transfer) => {
                step.contact = Some(transfer.primary);
                (self.lower, self.expired) = (None, false);
                let source = Some(transfer.primary);
                Have { serial, times, source, contact_ms: at.now_ms }
            }
            // What was held passes by now. Whoever gave it was heard of before.
            None => Have {
                serial,
                times,
                source: self.withheld().or(before).and_then(|held| held.source),
                contact_ms: before.or_else(|| self.withheld()).map_or(0, |held| held.contact_ms),
            },
        });
        self.withheld = None;
        // NOTIFYs are about something again.
        self.hold_until_ms = 0;
        if let Some(round) = &mut self.round {
            (round.contact, round.missed) = (true, false);
        }
        // A primary that answered meanwhile may have a still newer one.
        if let Some((primary, newest)) = self.newest(|told| told.is_after(serial)) {
            self.pending.get_or_insert(Wish::Follow { primary, serial: Some(newest) });
        }
        self.end(at, true, step);
    }

    pub(super) fn held(&mut self, serial: Serial, times: Times, at: At, step: &mut Step) {
        let transfer = self.round.as_mut().and_then(|round| round.transfer.take());
        let before = self.have.and_then(|held| held.source);
        let source = transfer.map(|transfer| transfer.primary).or(before);
        self.withheld = Some(Box::new(Have { serial, times, source, contact_ms: at.now_ms }));
        if let Some(transfer) = transfer {
            self.round().missed = false;
            self.contact(transfer.primary, at, step);
        }
        self.end(at, false, step);
    }

    pub(super) fn failed(&mut self, failure: Failure, at: At, step: &mut Step) {
        let Some(transfer) = self.round.as_mut().and_then(|round| round.transfer.take()) else {
            return;
        };
        let primary = transfer.primary;
        if matches!(transfer.ask, Ask::Ixfr(_)) && failure != Failure::Primary {
            if failure == Failure::NoIxfr {
                self.peers[primary].no_ixfr_until_ms = at.now_ms + IXFR_REFUSED_MS;
            }
            return self.transfer(primary, Ask::Axfr, transfer.any_serial, step);
        }
        self.round().missed = true;
        self.go_on(at, step);
    }

    /// What next, now that something has come or was waited for in vain?
    pub(super) fn go_on(&mut self, at: At, step: &mut Step) {
        let Some(round) = &self.round else { return };
        if round.transfer.is_some() {
            return;
        }
        let (wish, contact) = (round.wish, round.contact);
        let gathered = round.gather_until_ms.is_some_and(|until| until <= at.now_ms);
        let wake_ms = round.gather_until_ms.unwrap_or(u64::MAX);
        match wish {
            Wish::Repair(_) => return self.end(at, false, step),
            Wish::Retransfer => return self.retransfer_from_next(at, step),
            Wish::Follow { .. } | Wish::Check => {}
        }
        let members = self.members();
        let known = self.newest_known();
        let known = known.filter(|_| members.iter().any(|&it| self.is_comparable(it)));
        let is_newer = |told: Serial| known.is_none_or(|known| told.is_after(known.serial));
        if let Wish::Follow { primary, .. } = wish
            && !contact
            && self.newest(is_newer).is_none()
            && self.peers[primary].turn != Turn::Asked
        {
            // The sender was of no use: perhaps the others are.
            self.open(step);
            if self.is_transferring() {
                return;
            }
        }
        let outstanding = members.iter().any(|&it| self.peers[it].turn == Turn::Asked);
        // Any data are better than none.
        let gathered = gathered || known.is_none() && self.newest(is_newer).is_some();
        if outstanding && !gathered {
            self.round().wake_ms = wake_ms;
            return;
        }
        if let Some((primary, _)) = self.newest(is_newer) {
            let ask = self.may_ixfr(primary, at.now_ms).map_or(Ask::Axfr, Ask::Ixfr);
            let any_serial = self.have.is_some() && known.is_none();
            return self.transfer(primary, ask, any_serial, step);
        }
        if contact {
            return self.end(at, false, step);
        }
        if outstanding {
            self.round().wake_ms = u64::MAX;
            return;
        }
        self.last_resort(&members, known.is_some(), at, step);
    }

    /// Of those in turn, the first with the newest serial that is `wanted`.
    fn newest(&self, wanted: impl Fn(Serial) -> bool) -> Option<(usize, Serial)> {
        let mut newest: Option<(usize, Serial)> = None;
        for primary in self.members() {
            if let Turn::Told(serial) = self.peers[primary].turn
                && wanted(serial)
                && newest.is_none_or(|(_, than)| serial.is_after(than))
            {
                newest = Some((primary, serial));
            }
        }
        newest
    }

    /// All of the lineage in turn have answered, and none has what we have or a newer version.
    fn last_resort(&mut self, members: &[usize], comparable: bool, at: At, step: &mut Step) {
        if comparable {
            let all = members.iter().all(|&it| self.peers[it].told.is_some());
            // One that does not give what it tells has it all the same.
            let is_behind = self.is_behind();
            let accepted = match self.policy.lower_serial {
                LowerSerial::Keep => false,
                LowerSerial::AcceptAfterExpiry => self.expired,
                LowerSerial::Accept => self.expired || all && !is_behind,
            };
            let newest = self.newest(|_| true).map(|(_, serial)| serial);
            self.lower = newest.filter(|_| !is_behind);
            if let Some((primary, _)) = self.newest(|_| accepted) {
                return self.transfer(primary, Ask::Axfr, true, step);
            }
        } else {
            // Who does not tell its SOA may yet give the zone.
            let silent = members.iter().find(|&&it| self.peers[it].turn == Turn::Silent);
            if let Some(&primary) = silent {
                return self.transfer(primary, Ask::Axfr, self.have.is_some(), step);
            }
        }
        let may_switch = self.may_switch(at.now_ms);
        let round = self.round();
        if round.turn + 1 < round.lineages.len() && may_switch {
            (round.turn, round.gather_until_ms) = (round.turn + 1, None);
            self.open(step);
            self.go_on(at, step);
        } else {
            self.end(at, false, step);
        }
    }

    /// The operator wants all of it: one after the other, those of the version's lineage first.
    fn retransfer_from_next(&mut self, at: At, step: &mut Step) {
        let round = self.round();
        let (contact, lineages) = (round.contact, round.lineages.clone());
        let waiting = |&primary: &usize| self.peers[primary].turn == Turn::Waiting;
        let place =
            |&primary: &usize| lineages.iter().position(|&first| first == self.lineage_of(primary));
        let next = (0..self.peers.len()).filter(waiting).min_by_key(place);
        match next.filter(|_| !contact) {
            Some(primary) => self.transfer(primary, Ask::Axfr, false, step),
            None => self.end(at, false, step),
        }
    }

    /// Has a primary told a newer serial than that of the version held?
    fn is_behind(&self) -> bool {
        let known = self.newest_known();
        let is_newer = |told: Serial| known.is_some_and(|known| told.is_after(known.serial));
        let mut members = (0..self.peers.len()).filter(|&it| self.is_comparable(it));
        members.any(|it| self.peers[it].told.is_some_and(is_newer))
    }

    fn end(&mut self, at: At, installed: bool, step: &mut Step) {
        let Some(round) = self.round.take() else { return };
        let follow = matches!(round.wish, Wish::Follow { .. });
        let good = round.contact && !round.missed && !self.is_behind();
        if good {
            self.failures = 0;
        } else if !matches!(round.wish, Wish::Repair(_)) {
            self.failures = self.failures.saturating_add(1);
        }
        self.next_ms = match self.have.or_else(|| self.withheld()) {
            Some(held) if good => at.within(held.times.refresh_ms),
            Some(held) => at.around(held.times.retry_ms.max(RETRY_MS_MIN)),
            None => {
                let doubled = 1_000 << self.failures.saturating_sub(1).min(20);
                at.around(EMPTY_WAIT_MS_MAX.min(doubled))
            }
        };
        let pending_follow = matches!(self.pending, Some(Wish::Follow { .. }));
        if !installed && (follow && good || pending_follow && !good) {
            // One that came after the question may be about what its answer could not have yet:
            // that one is not held, if none was for a while.
            let at_once =
                good && pending_follow && self.hold_until_ms + NOTIFY_HOLD_MS <= at.now_ms;
            self.hold_until_ms = at.now_ms + if at_once { 0 } else { NOTIFY_HOLD_MS };
            if let (Wish::Follow { primary, serial: Some(promised) }, Some(known)) =
                (round.wish, self.newest_known())
                && good
                && promised.is_after(known.serial)
            {
                // The NOTIFY was ahead of what the primary answers with: once more, soon.
                self.pending.get_or_insert(Wish::Follow { primary, serial: None });
            }
        }
        self.resume(at, step);
    }
}
