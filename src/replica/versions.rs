//! What becomes of an answer: a version that is judged, kept by the store, and published; or a
//! failure that is told.

use super::Kept;
use super::ask::{Answer, Asked, Change, compare};
use super::compare::tell_difference;
use super::dial::random;
use super::history::{History, Note};
use super::load::{Restored, restore};
use super::rollback::Pin;
use super::scheduler::{Done, Scheduler, What, tell_lower};
use super::trouble::{Of, note_behind, tell_use};
use super::zone::{Entry, Last, millis};
use crate::config::SameSerial;
use crate::refresh::{Ask, Event, Failure, Step};
use crate::stats::Replicated;
use crate::store::{self, Ahead, StoreError};
use crate::view::Expiry;
use crate::wire::Serial;
use crate::xfr::Statistics;
use crate::zone::{Soa, Zone, file};
use std::sync::Arc;
use std::time::Instant;
use tokio::task::spawn_blocking;
use tracing::field::display;
use tracing::{error, info, warn};

/// Of how many zones that were put off secondaries are told in one go.
const PUT_OFF_AT_ONCE: usize = 256;

/// A version on its way from a primary to the view.
#[derive(Clone)]
pub(super) struct Version {
    pub(super) zone: Arc<Zone>,
    /// How it came from the version held; empty if it replaces it.
    pub(super) changes: Vec<Change>,
    /// What of it the store has written already.
    pub(super) ahead: Option<Arc<Ahead>>,
    /// The version that the store keeps beside it, once it is stored.
    pub(super) before: Option<Serial>,
    /// What was asked for; `None`: no primary was asked.
    pub(super) asked: Option<Ask>,
    /// What it is noted as.
    pub(super) kind: &'static str,
    pub(super) from: Option<Serial>,
    pub(super) primary: Option<usize>,
    pub(super) differs: bool,
    /// The operator wants it, whatever the checks say.
    pub(super) forced: bool,
    /// It is held, and is judged once more.
    pub(super) again: bool,
    pub(super) statistics: Statistics,
    pub(super) began: Instant,
}

/// What was kept of a zone that is configured again, if anything was.
pub(super) type Recalled = Result<Option<(Restored, store::State)>, String>;

impl Scheduler {
    /// Asks the store for what it has kept of a zone without data, before any primary is
    /// asked, or once its file could not be read: it may have been there before.
    pub(super) fn recall(&mut self, id: usize) {
        let entry = self.entry_mut(id);
        if entry.zone.is_some() {
            return;
        }
        entry.reading = true;
        let (epoch, apex) = (entry.epoch, entry.apex.clone());
        let done = self.done.clone();
        let kept = self.store.read(apex.as_name(), |stored| {
            let stored = stored.map_err(|damage| damage.to_string())?;
            let state = stored.state.clone();
            if state.has_data { Ok(Some((restore(&stored)?, state))) } else { Ok(None) }
        });
        tokio::spawn(async move {
            let recalled = kept.await.unwrap_or(Ok(None));
            let _ = done.send(Done { id, epoch, what: What::Recalled(recalled) });
        });
    }

    pub(super) fn recalled(&mut self, id: usize, recalled: Recalled) {
        let now_ms = self.clock.now_ms();
        let entry = &mut self.zones[id];
        entry.reading = false;
        // A NOTIFY or an operator may have been faster.
        if entry.zone.is_some() || entry.refresh.is_asking() {
            return;
        }
        match recalled {
            Ok(None) => {}
            Err(what) => {
                error!(zone = %entry.apex, what, "what is kept cannot be used; the zone will be \
                    transferred");
                entry.rare_mut().damaged = Some(what);
            }
            Ok(Some((restored, state))) => {
                let until = match entry.file() {
                    Some(_) => "its file can be read",
                    None => "a primary has been asked",
                };
                info!(zone = %entry.apex, serial = state.serial, "configured again: served as \
                    it was kept until {until}");
                let kept = store::State { retired_at_ms: None, ..state.clone() };
                entry.restore(restored, &state, now_ms, now_ms);
                entry.recall_pin(&self.store);
                let (apex, served) = (entry.apex.clone(), entry.served());
                self.store.touch(apex.as_name(), kept);
                self.ready.push((id, served));
            }
        }
    }

    pub(super) fn asked(&mut self, id: usize, primary: usize, ask: Ask, asked: Asked) {
        let now_ms = self.clock.now_ms();
        let replicated = &self.stats.replicated;
        replicated.transfer_octets.add(asked.statistics.octets);
        replicated.records_outside.add(asked.statistics.outside);
        let entry = self.entry_mut(id);
        let known = &mut entry.primaries[primary];
        known.asked_ms = Some(now_ms);
        let answer = match asked.answer {
            Ok(answer) => answer,
            Err(error) => return self.failed(id, primary, ask, &error, asked.began),
        };
        known.expire_s = asked.expire_s;
        tell_use(entry, primary, ask, &answer, now_ms);
        let version = |zone: &Arc<Zone>, changes, kind, differs| Version {
            zone: Arc::clone(zone),
            changes,
            ahead: None,
            before: None,
            asked: Some(ask),
            kind,
            from: entry.zone.as_ref().map(|zone| zone.serial()),
            primary: Some(primary),
            differs,
            forced: false,
            again: false,
            statistics: asked.statistics,
            began: asked.began,
        };
        match answer {
            Answer::Told(serial) => {
                entry.primaries[primary].serial = Some(serial);
                note_behind(entry, primary, ask, serial, now_ms);
                match ask {
                    Ask::Soa => self.on(id, Event::Probed { primary, serial: Some(serial) }),
                    _ => self.on(id, Event::Told(serial)),
                }
                self.judge_again(id, serial);
                if let Some(difference) = asked.difference {
                    self.differs(id, primary, &difference);
                }
            }
            Answer::Changed { changes, compared } => {
                let zone = Arc::clone(&changes.last().expect("at least one").zone);
                // What came, not what was asked for: whole zones come in reply to IXFR as well.
                let kind = if compared { "AXFR" } else { "IXFR" };
                let version = version(&zone, changes, kind, false);
                self.judge(id, version);
            }
            // It is not asked for here.
            Answer::Compared { .. } => self.on(id, Event::Failed(Failure::Primary)),
            Answer::Whole { zone, differs } => {
                let mut version = version(&zone, Vec::new(), "AXFR", differs);
                version.ahead = asked.ahead.map(Arc::new);
                self.whole(id, primary, version);
            }
        }
    }

    /// A primary has the version that is held, for a reason that may be none any more.
    fn judge_again(&mut self, id: usize, serial: Serial) {
        let entry = self.entry_mut(id);
        if entry.held().is_none() {
            return;
        }
        if let Some(held) = entry.rare_mut().held.as_deref_mut()
            && held.version.zone.serial() == serial
            && held.reason.may_pass_later()
            && !std::mem::replace(&mut held.is_judged, true)
        {
            let version = Version { again: true, ..held.version.clone() };
            self.judge(id, version);
        }
    }

    /// A whole zone: wanted, if it is newer, or if the operator wants it in any case.
    pub(super) fn whole(&mut self, id: usize, primary: usize, version: Version) {
        let serial = version.zone.serial();
        let now_ms = self.clock.now_ms();
        let entry = self.entry_mut(id);
        let forced = entry.refresh.is_forced();
        let repair = entry.settings().on_same_serial == SameSerial::Retransfer;
        let address = entry.primaries[primary].primary.address;
        entry.primaries[primary].serial = Some(serial);
        match version.from {
            Some(ours) if ours == serial && version.differs && forced => {
                warn!(zone = %entry.apex, serial = serial.0, primary = %address,
                    "the primary has other data under the serial that we have: \
                     it was edited without a new serial; its data are taken");
                self.judge(id, version);
            }
            Some(ours) if ours == serial && version.differs => {
                tell_difference(entry, primary, &"all records were compared");
                match repair {
                    true => self.judge(id, version),
                    false => self.on(id, Event::Told(serial)),
                }
            }
            Some(ours) if ours == serial => {
                info!(zone = %entry.apex, serial = serial.0, "transferred anew: nothing is different");
                (entry.difference, entry.diverged) = (false, false);
                self.on(id, Event::Told(serial));
            }
            Some(ours) if !serial.is_after(ours) && !forced => {
                note_behind(entry, primary, Ask::Axfr, serial, now_ms);
                self.on(id, Event::Told(serial));
            }
            Some(ours) if !serial.is_after(ours) => {
                warn!(zone = %entry.apex, primary = %address, ours = ours.0, theirs = serial.0,
                    "a lower serial is taken: from now on ours is the primary's");
                self.judge(id, version);
            }
            _ => self.judge(id, version),
        }
    }

    /// Gives a version to the store; it is published when that has it.
    pub(super) fn keep(&mut self, id: usize, mut version: Version) {
        let now_ms = self.clock.now_ms();
        let entry = &mut self.zones[id];
        if let Some(primary) = version.primary {
            entry.primary = Some(Arc::clone(&entry.primaries[primary].primary));
        }
        entry.storing = true;
        // The operator's word is no contact with a primary.
        let kept = |soa: &Soa| match version.forced {
            true if entry.zone.is_some() => entry.kept_on(soa, entry.contact_ms.unwrap_or(now_ms)),
            _ => entry.kept_anew(soa, version.primary, now_ms),
        };
        let apex = entry.apex.as_name();
        let epoch = entry.epoch;
        let keeps_before = entry.settings().history > 0;
        let mut before = entry.before();
        let mut replace = |from: Option<Serial>, zone: &Arc<Zone>, ahead| {
            before = from.filter(|&from| keeps_before && zone.serial().is_after(from));
            let history = before.map_or(store::History::Drop, |_| store::History::Before);
            let snapshot = Kept(Arc::clone(zone));
            self.store.replace_ahead(apex, kept(zone.soa()), history, snapshot, ahead)
        };
        let mut ticket = None;
        let notes = notes(&version.changes, version.kind);
        for (Change { diff, zone, .. }, note) in version.changes.iter().zip(notes) {
            // If a step fails, so does the last one, which is out of step then.
            ticket = Some(if diff.octets() > store::DIFF_MAX {
                // The store would keep no such difference: it need not be encoded here.
                replace(Some(diff.from), zone, None)
            } else {
                let encoded = note.encode(diff);
                let snapshot = Kept(Arc::clone(zone));
                self.store.append(apex, kept(zone.soa()), diff.from.0, encoded, snapshot)
            });
        }
        let ours = entry.zone.as_ref().map(|zone| zone.serial());
        let ahead = version.ahead.take().and_then(Arc::into_inner);
        let ticket = ticket.unwrap_or_else(|| replace(ours, &version.zone, ahead));
        version.before = before;
        self.storing += 1;
        let done = self.done.clone();
        tokio::spawn(async move {
            let result = ticket.await;
            let _ = done.send(Done { id, epoch, what: What::Stored(result, version) });
        });
    }

    pub(super) fn not_stored(&mut self, id: usize, error: &StoreError, mut version: Version) {
        if matches!(error, StoreError::OutOfStep { .. }) && !version.changes.is_empty() {
            version.changes.clear();
            self.keep(id, version);
            return;
        }
        self.stats.replicated.store_failures.add(1);
        let entry = self.entry_mut(id);
        let what = format!("the store: {error}");
        if entry.is_news(&what) {
            error!(zone = %entry.apex, serial = version.zone.serial().0, why = %error,
                "the store cannot keep the new version; the old one stays served");
        }
        entry.rare_mut().error = Some(what);
        if version.forced {
            return self.not_forced(id);
        }
        entry.reading = false;
        if version.primary.is_some() {
            self.on(id, Event::Failed(Failure::Primary));
        }
    }

    pub(super) fn stored(&mut self, id: usize, version: Version) {
        let now_ms = self.clock.now_ms();
        let replicated: &Replicated = &self.stats.replicated;
        let entry = &mut self.zones[id];
        match version.kind {
            "IXFR" => replicated.ixfrs.add(1),
            "AXFR" => replicated.axfrs.add(1),
            _ => {}
        }
        note_steps(entry, &version);
        tell_iterations(entry, &version.zone);
        entry.zone = Some(Arc::clone(&version.zone));
        entry.note_signatures(&version, now_ms);
        entry.difference = version.differs;
        // What the operator took is told of until it is compared again or gets a serial of its own.
        entry.diverged = version.differs && entry.refresh.is_forced();
        entry.relieve(|rare| (rare.error, rare.damaged, rare.held) = (None, None, None));
        if entry.pin().is_some() && !version.forced {
            // The zone has gone beyond it: another way back is not of its concern.
            Pin::forget(&self.store, entry.apex.as_name());
            entry.relieve(|rare| rare.pin = None);
        }
        entry.proven = !version.forced;
        if version.kind == "AXFR" || entry.compare_ms == u64::MAX {
            entry.compare_in(10, now_ms, random());
        }
        entry.trim_history();
        let times = entry.times(version.zone.soa());
        let serial = version.zone.serial();
        let ms = millis(version.began.elapsed());
        if !version.forced {
            entry.last = Some(Box::new(Last {
                kind: version.kind,
                octets: version.statistics.octets,
                records: version.statistics.records,
                ms,
                at_ms: now_ms,
            }));
        }
        if version.forced {
            self.install_forced(id, &version);
        } else if let Some(primary) = version.primary {
            entry.primaries[primary].serial = Some(serial);
            let address = entry.primaries[primary].primary.address;
            let asked = version.asked.map(|ask| display(Of::from(ask)));
            info!(zone = %entry.apex, primary = %address, asked, got = %version.kind,
                from = version.from.map(|serial| serial.0), to = serial.0,
                records = version.statistics.records, octets = version.statistics.octets,
                messages = version.statistics.messages, outside = version.statistics.outside, ms,
                "transferred");
            entry.prolong(Some(primary), now_ms);
            let before = entry.refresh.lower();
            let step = entry.refresh.on(Event::Installed(serial, times), now_ms, random());
            self.ready.push((id, entry.served()));
            tell_lower(entry, before);
            let step = Step { contact: None, ..step };
            self.take(id, step, now_ms);
        } else {
            entry.reading = false;
            entry.expiry.set(Expiry::NEVER);
            entry.begin_anew(now_ms);
            info!(zone = %entry.apex, from = version.from.map(|serial| serial.0), to = serial.0,
                records = version.zone.records(), ms, "zone file read");
            self.ready.push((id, entry.served()));
        }
    }

    /// Publishes what is ready, all of it as one view.
    pub(super) fn publish(&mut self) {
        if self.ready.is_empty() {
            return;
        }
        let ready = std::mem::take(&mut self.ready);
        self.views.publish(|view| {
            for (_, served) in &ready {
                view.put(Arc::clone(served));
            }
        });
        self.stats.replicated.published.add(ready.len() as u64);
        for (reply, swapped) in self.replies.drain(..) {
            // Who asked may have gone.
            let _ = reply.send(Ok(swapped));
        }
        for (id, _) in &ready {
            self.tell_secondaries(*id);
        }
    }

    /// Tells our secondaries of the version served.
    pub(super) fn tell_secondaries(&mut self, id: usize) {
        let Some(entry) = self.zones.get_mut(id) else { return };
        if let Some(zone) = &entry.zone {
            entry.untold = false;
            self.notifier.tell(zone, &entry.terms.settings.notify, &self.keys);
        }
    }

    /// Tells our secondaries of a version that they may not have heard of once it is clear that
    /// there is none newer, or that no primary says so. Where too much is being told already, it
    /// is put off.
    pub(super) fn tell_untold(&mut self, id: usize) {
        let Some(entry) = self.zones.get(id).filter(|entry| entry.untold) else { return };
        let comes = entry.reading || entry.storing || entry.refresh.is_asking();
        if comes || self.ready.iter().any(|&(at, _)| at == id) {
            return;
        }
        if self.notifier.has_room() {
            self.tell_secondaries(id);
        } else {
            self.put_off.insert(id);
        }
    }

    /// Tells some of what was put off.
    pub(super) fn tell_put_off(&mut self) {
        for _ in 0..PUT_OFF_AT_ONCE {
            let Some(id) = self.put_off.pop_first() else { break };
            self.tell_untold(id);
        }
    }

    /// Reads a zone file, if the zone is from one; once more if it is being read, since that may
    /// have been edited meanwhile.
    pub(super) fn read_file(&mut self, id: usize) {
        let entry = self.entry_mut(id);
        let Some(path) = entry.file().map(ToOwned::to_owned) else { return };
        entry.reread = std::mem::replace(&mut entry.reading, true);
        if entry.reread {
            return;
        }
        let (epoch, apex, have) = (entry.epoch, entry.apex.clone(), entry.zone.clone());
        let octets = usize::try_from(entry.settings().max_size).unwrap_or(usize::MAX);
        let done = self.done.clone();
        tokio::spawn(async move {
            let began = Instant::now();
            let read = spawn_blocking(move || {
                let builder = file::read(&path, apex.as_name(), file::Limits { octets })
                    .map_err(|error| error.to_string())?;
                let wrong = |what: String| format!("{}: {what}", path.display());
                let zone = builder.build().map_err(|error| wrong(error.to_string()))?;
                if let Some(what) = file::crowded(&zone) {
                    return Err(wrong(what));
                }
                compare(zone, have.as_deref()).map_err(|error| error.to_string())
            });
            let read = read.await.unwrap_or_else(|error| Err(error.to_string()));
            let _ = done.send(Done { id, epoch, what: What::Read(read, began) });
        });
    }

    pub(super) fn read(&mut self, id: usize, read: Result<Answer, String>, began: Instant) {
        let now_ms = self.clock.now_ms();
        let entry = self.entry_mut(id);
        let from = entry.zone.as_ref().map(|zone| zone.serial());
        let (zone, changes, differs) = match read {
            Err(error) => return self.unreadable(id, error),
            Ok(Answer::Told(_) | Answer::Compared { .. }) => return,
            Ok(Answer::Changed { changes, .. }) => {
                (Arc::clone(&changes.last().expect("at least one").zone), changes, false)
            }
            Ok(Answer::Whole { zone, differs }) => (zone, Vec::new(), differs),
        };
        if let Some(ours) = from
            && !zone.serial().is_after(ours)
        {
            if zone.serial() != ours || differs {
                let serial = zone.serial();
                let what = format!(
                    "the zone file was edited without a higher serial than {ours} (it has \
                     {serial}): raise the serial in its SOA record"
                );
                return self.unreadable(id, what);
            }
            entry.relieve(|rare| rare.error = None);
            entry.reading = false;
            entry.contact_ms = Some(now_ms);
            entry.begin_anew(now_ms);
            return;
        }
        let statistics = Statistics { records: zone.records(), ..Statistics::default() };
        let kind = "file";
        let (asked, primary, forced, again) = (None, None, false, false);
        self.judge(
            id,
            Version {
                zone,
                changes,
                ahead: None,
                before: None,
                asked,
                kind,
                from,
                primary,
                differs,
                forced,
                again,
                statistics,
                began,
            },
        );
    }

    fn unreadable(&mut self, id: usize, what: String) {
        let now_ms = self.clock.now_ms();
        let entry = self.entry_mut(id);
        if entry.is_news(&what) {
            error!(zone = %entry.apex, why = %what, "the zone file is not used");
        }
        entry.rare_mut().error = Some(what);
        entry.reading = false;
        if entry.zone.is_none() {
            // Its own clock of attempts: those of a zone without data.
            entry.refresh.on(Event::Due, now_ms, random());
            entry.refresh.on(Event::Failed(Failure::Primary), now_ms, random());
        }
        self.recall(id);
    }
}

/// Adds a version that is served now to what is known of those before it.
fn note_steps(entry: &mut Entry, version: &Version) {
    if version.changes.is_empty() {
        entry.history = History::default();
    } else {
        let diffs = version.changes.iter().map(|change| Arc::clone(&change.diff));
        entry.history.extend(diffs.zip(notes(&version.changes, version.kind)));
    }
    entry.since = Some(Note::now(version.kind));
    if entry.before() != version.before {
        entry.rare_mut().before = version.before;
    }
}

/// What is noted of each step of a version that came now: the last one is what is served.
fn notes(changes: &[Change], kind: &'static str) -> impl Iterator<Item = Note> {
    let (note, last) = (Note::now(kind), changes.len());
    (1..)
        .zip(changes)
        .map(move |(at, change)| Note { served: at == last || change.was_served, ..note })
}

/// RFC 9276 section 3.1: they cost validators and servers, and protect nothing. Told when they come
/// or change.
fn tell_iterations(entry: &Entry, new: &Zone) {
    let iterations = new.nsec3_iterations();
    let before = entry.zone.as_deref().map_or(0, Zone::nsec3_iterations);
    if iterations > 0 && iterations != before {
        warn!(zone = %entry.apex, serial = new.serial().0, iterations,
            "the zone's NSEC3 has extra iterations, which make every denial more costly and nothing \
             safer: RFC 9276 advises 0, to be set at the primary");
    }
}
