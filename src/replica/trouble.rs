//! What is wrong with a primary: loud when it begins, quiet while it is the same, told when it is
//! over. A primary that is down for a week is worth a few lines, not one a retry.

use super::ask::{Answer, AskError};
use super::dial::random;
use super::scheduler::{Scheduler, tell_lower};
use super::zone::{Entry, millis};
use crate::edns::Obstacle;
use crate::refresh::{Ask, Event, Step};
use crate::seldom::is_loud;
use crate::wire::Serial;
use std::fmt;
use std::time::Instant;
use tracing::{debug, info, warn};

/// In what a primary is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Soa,
    Ixfr,
    Axfr,
    /// Its whole zone, to be compared with ours.
    Sum,
    /// Its serial is lower than ours.
    Serial,
    /// It is left alone for a while, which is told for all its zones at once.
    Silence,
}

impl From<Ask> for Of {
    fn from(ask: Ask) -> Self {
        match ask {
            Ask::Soa => Self::Soa,
            Ask::Ixfr(_) => Self::Ixfr,
            Ask::Axfr => Self::Axfr,
        }
    }
}

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Soa => "SOA",
            Self::Ixfr => "IXFR",
            Self::Axfr => "AXFR",
            Self::Sum => "AXFR to compare",
            Self::Serial => "serial",
            Self::Silence => "silence",
        })
    }
}

/// One that lasts, or may come back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) of: Of,
    pub(super) why: String,
    /// How often it came in just these words.
    pub(super) times: u32,
    pub(super) since_ms: u64,
    /// No: something else served instead, but that this works has not been seen.
    lasts: bool,
}

/// All of one primary and zone, the latest last; one of a kind.
#[derive(Debug, Default)]
pub(super) struct Troubles(Vec<Trouble>);

impl Troubles {
    /// Notes one. Returns how often it came in just these words, this time included.
    pub(super) fn add(&mut self, of: Of, why: String, now_ms: u64) -> u32 {
        let before = self.0.iter().position(|it| it.of == of).map(|at| self.0.remove(at));
        self.0.retain(|it| it.of != Of::Silence);
        let since_ms = before.as_ref().map_or(now_ms, |it| it.since_ms);
        let again = before.filter(|it| it.why == why).map_or(0, |it| it.times);
        let times = again.saturating_add(1);
        self.0.push(Trouble { of, why, times, since_ms, lasts: true });
        times
    }

    /// What is wrong now.
    pub(super) fn last(&self) -> Option<&str> {
        self.0.iter().rfind(|it| it.lasts).map(|it| it.why.as_str())
    }

    /// This is right. Returns what was wrong with it.
    pub(super) fn end(&mut self, of: Of) -> Option<Trouble> {
        let at = self.0.iter().position(|it| it.of == of)?;
        Some(self.0.remove(at))
    }

    /// The primary has just what we have, or gave it: all is well, as far as that tells. Returns
    /// what is over. That it failed in another way is remembered, to know it again.
    pub(super) fn settle(&mut self) -> Vec<Trouble> {
        let is_over = |it: &mut Trouble| matches!(it.of, Of::Soa | Of::Axfr | Of::Serial);
        let over = self.0.extract_if(.., is_over).collect();
        self.0.iter_mut().for_each(|it| it.lasts = false);
        over
    }
}

impl Scheduler {
    /// A primary was of no use.
    pub(super) fn failed(
        &mut self,
        id: usize,
        primary: usize,
        ask: Ask,
        why: &AskError,
        began: Instant,
    ) {
        let now_ms = self.clock.now_ms();
        let event = if ask == Ask::Soa {
            Event::Probed { primary, serial: None }
        } else {
            self.stats.replicated.transfers_failed.add(1);
            Event::Failed(why.failure())
        };
        let entry = self.entry_mut(id);
        let before = entry.refresh.lower();
        let step = entry.refresh.on(event, now_ms, random());
        let next = next(entry, primary, &step, now_ms);
        tell_failure(entry, primary, ask.into(), why, &next, began, now_ms);
        tell_lower(entry, before);
        self.take(id, step, now_ms);
    }
}

/// Says that a primary was of no use, and what comes next.
pub(super) fn tell_failure(
    entry: &mut Entry,
    primary: usize,
    asked: Of,
    why: &AskError,
    next: &str,
    began: Instant,
    now_ms: u64,
) {
    let serial = entry.zone.as_ref().map(|zone| zone.serial().0);
    let known = &mut entry.primaries[primary];
    known.obstacle = why.obstacle();
    let (zone, primary) = (&entry.apex, known.primary.address);
    if let AskError::Silent(_) = why {
        // That it is silent was told once, for all its zones.
        known.troubles.add(Of::Silence, why.to_string(), now_ms);
        debug!(%zone, %primary, %asked, serial, %why, next, "not asked");
        return;
    }
    let times = known.troubles.add(asked, why.to_string(), now_ms);
    let ms = millis(began.elapsed());
    if is_loud(times) {
        warn!(%zone, %primary, %asked, serial, %why, times, next, ms, "failed");
    } else {
        debug!(%zone, %primary, %asked, serial, %why, times, next, ms, "failed again");
    }
}

/// What a failure leads to.
fn next(entry: &Entry, primary: usize, step: &Step, now_ms: u64) -> String {
    match step.asks.first() {
        Some(&(to, ask)) if to == primary => {
            format!("{} from the same primary at once", Of::from(ask))
        }
        Some(&(to, ask)) => {
            format!("{} from {} at once", Of::from(ask), entry.primaries[to].primary.address)
        }
        None if entry.refresh.is_asking() => "what the other primaries say".into(),
        None => {
            let ms = entry.refresh.next_ms().saturating_sub(now_ms);
            format!("asked again in {} s", ms.div_ceil(1000))
        }
    }
}

/// Says what is over, now that a primary has answered.
pub(super) fn tell_use(entry: &mut Entry, primary: usize, ask: Ask, answer: &Answer, now_ms: u64) {
    let ours = entry.zone.as_ref().map(|zone| zone.serial());
    let is_good = match answer {
        Answer::Told(serial) => Some(*serial) == ours,
        Answer::Whole { zone, .. } => ours.is_none_or(|ours| !ours.is_after(zone.serial())),
        Answer::Changed { .. } | Answer::Compared { .. } => true,
    };
    let known = &mut entry.primaries[primary];
    known.obstacle = Obstacle::Unknown;
    let troubles = &mut known.troubles;
    troubles.end(Of::Silence);
    let mut over = Vec::new();
    if is_good || ask == Ask::Soa {
        over.extend(troubles.end(ask.into()));
    }
    if is_good {
        over.append(&mut troubles.settle());
    }
    over.iter().for_each(|trouble| tell_over(entry, primary, trouble, now_ms));
}

fn tell_over(entry: &Entry, primary: usize, trouble: &Trouble, now_ms: u64) {
    let primary = entry.primaries[primary].primary.address;
    let for_s = now_ms.saturating_sub(trouble.since_ms) / 1000;
    info!(zone = %entry.apex, %primary, asked = %trouble.of, why = trouble.why, for_s,
        "of use again");
}

/// Notes whether a primary's serial, as it told it in answer to `ask`, is lower than ours.
pub(super) fn note_behind(
    entry: &mut Entry,
    primary: usize,
    ask: Ask,
    serial: Serial,
    now_ms: u64,
) {
    let ours = entry.zone.as_ref().map(|zone| zone.serial());
    let is_behind = |ours: &Serial| ours.is_after(serial) && entry.refresh.is_comparable(primary);
    // What a transfer brought is not mended by what an SOA promises.
    let of = if ask == Ask::Soa { Of::Serial } else { ask.into() };
    let Some(ours) = ours.filter(is_behind) else {
        if let Some(over) = entry.primaries[primary].troubles.end(Of::Serial) {
            tell_over(entry, primary, &over, now_ms);
        }
        return;
    };
    let known = &mut entry.primaries[primary];
    let why = format!("its serial {serial} is behind ours, {ours}");
    // Told when it is new, not at each check.
    if known.troubles.add(of, why.clone(), now_ms) == 1 {
        warn!(zone = %entry.apex, primary = %known.primary.address, why, "not used");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_counted_and_other_words_begin_anew() {
        let mut troubles = Troubles::default();
        let mut add = |of, why: &str, now_ms| troubles.add(of, why.into(), now_ms);
        assert_eq!([add(Of::Axfr, "a", 1), add(Of::Axfr, "a", 2)], [1, 2]);
        assert_eq!([add(Of::Soa, "a", 3), add(Of::Axfr, "a", 4)], [1, 3], "one of a kind");
        assert_eq!([add(Of::Axfr, "b", 5), add(Of::Axfr, "b", 6)], [1, 2]);
        assert_eq!(troubles.last(), Some("b"));
        let over = troubles.end(Of::Axfr).unwrap();
        assert_eq!((over.times, over.since_ms), (2, 1), "it never worked since");
        assert_eq!(troubles.last(), Some("a"));
    }

    #[test]
    fn silence_hides_what_went_before_it_and_does_not_make_it_new() {
        let mut troubles = Troubles::default();
        troubles.add(Of::Soa, "cannot connect".into(), 1);
        troubles.add(Of::Silence, "not asked, 10 s".into(), 2);
        assert_eq!(troubles.last(), Some("not asked, 10 s"));
        assert_eq!(troubles.add(Of::Soa, "cannot connect".into(), 3), 2);
        assert_eq!(troubles.end(Of::Silence), None);
    }

    #[test]
    fn what_another_way_made_up_for_is_not_shown_and_not_forgotten() {
        let mut troubles = Troubles::default();
        troubles.add(Of::Ixfr, "out of sync".into(), 1);
        troubles.add(Of::Axfr, "too slow".into(), 2);
        let over: Vec<_> = troubles.settle().into_iter().map(|it| it.of).collect();
        assert_eq!(over, [Of::Axfr]);
        assert_eq!(troubles.last(), None);
        assert_eq!(troubles.add(Of::Ixfr, "out of sync".into(), 3), 2);
    }
}
