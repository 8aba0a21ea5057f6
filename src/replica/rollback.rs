//! Going back to an older version, and staying there.
//!
//! The diffs held are undone from the version served down to the one wanted, on a builder's
//! thread. What that makes is stored as one more diff, whose serial goes back, so that a crash
//! leaves the one version or the other. A [`Pin`], stored with it, keeps the primary's newer version
//! from being taken again: it is held, and approving it undoes the rollback.

use super::CommandError;
use super::ask::Change;
use super::dial::random;
use super::history::ROLLBACK;
use super::judge::{Held, Reason};
use super::scheduler::{Done, Scheduler, What};
use super::versions::Version;
use crate::name::{Name, NameBuf};
use crate::refresh::Event;
use crate::store::Store;
use crate::wire::Serial;
use crate::xfr::Statistics;
use crate::zone::{Diff, OutOfSync, Zone};
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tracing::info;

/// What an operator's command has changed: which version is served in the place of which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swapped {
    /// The version served before, if there was one.
    pub from: Option<Serial>,
    /// The version served now.
    pub to: Serial,
}

/// Where to tell that, or why nothing has changed.
pub(super) type Reply = oneshot::Sender<Result<Swapped, CommandError>>;

/// What is not taken from a primary after a rollback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pin {
    /// The serial that was rolled back from: this one and older ones are not taken.
    above: u32,
    /// Nothing is taken.
    hold: bool,
}

impl Pin {
    /// Does it keep the version `serial` from being served?
    pub(super) fn bars(self, serial: Serial) -> bool {
        self.hold || !serial.is_after(Serial(self.above))
    }

    /// Why, for who wonders.
    pub(super) fn reason(self) -> Reason {
        Reason::RolledBack { from: Serial(self.above), hold: self.hold }
    }

    /// The pin that is kept for a zone of which `zone` is served. One that the zone has gone
    /// beyond, or was never rolled back under, holds no more.
    pub(super) fn kept(store: &Store, zone: &Zone) -> Option<Self> {
        let kept = store.meta(&key(zone.apex()))?;
        let pin: Self = serde_json::from_slice(&kept).ok()?;
        Serial(pin.above).is_after(zone.serial()).then_some(pin)
    }

    /// Is one kept for any zone?
    pub(super) fn is_any_kept(store: &Store) -> bool {
        store.has_meta(KEPT)
    }

    fn keep(self, store: &Store, apex: Name<'_>) {
        let value = serde_json::to_vec(&self).expect("a number and a word");
        // It is queued before the version that it belongs to, and so is kept if that is.
        drop(store.put_meta(&key(apex), &value));
    }

    /// No pin any more.
    pub(super) fn forget(store: &Store, apex: Name<'_>) {
        drop(store.put_meta(&key(apex), &[]));
    }
}

/// What the keys of pins in the store begin with.
const KEPT: &str = "rollback.";

/// Where the store keeps a zone's pin: names are longer than its keys may be.
fn key(apex: Name<'_>) -> String {
    let mut key = KEPT.to_owned();
    for octet in Sha1::digest(apex.as_wire().to_ascii_lowercase()) {
        write!(key, "{octet:02x}").expect("a String takes all");
    }
    key
}

/// A rollback to be made.
pub(super) struct Undo {
    /// What is served.
    served: Arc<Zone>,
    /// The diffs to undo, the newest last, and whether the versions that they lead to were served.
    steps: Vec<(Arc<Diff>, bool)>,
    hold: bool,
    reply: Reply,
}

/// A rollback that is made, and not stored yet.
pub(super) struct Undone {
    undo: Undo,
    back: Change,
    /// What leads forward again.
    forward: Vec<Change>,
}

impl Undo {
    fn run(self) -> Result<Undone, (OutOfSync, Reply)> {
        let mut zone = Arc::clone(&self.served);
        let mut forward = Vec::with_capacity(self.steps.len());
        for (diff, was_served) in self.steps.iter().rev() {
            let before = match zone.apply(&diff.reversed()) {
                Ok(before) => Arc::new(before),
                Err(error) => return Err((error, self.reply)),
            };
            forward.push(Change { diff: Arc::clone(diff), zone, was_served: *was_served });
            zone = before;
        }
        forward.reverse();
        let diff = Diff::among(&self.served, &zone, self.steps.iter().map(|(step, _)| &**step));
        let back = Change { diff: Arc::new(diff), zone, was_served: true };
        Ok(Undone { back, forward, undo: self })
    }
}

impl Scheduler {
    /// Goes back to the version `serial`, or to the one that was served before. With `hold`, no
    /// version at all is taken afterwards until one is approved.
    pub(super) fn rollback(
        &mut self,
        apex: &NameBuf,
        serial: Option<Serial>,
        hold: bool,
        reply: Reply,
    ) {
        match self.undo(apex, serial) {
            Err(error) => {
                // Who asked may have gone.
                let _ = reply.send(Err(error));
            }
            Ok((id, served, steps)) => {
                let (epoch, done) = (self.entry(id).epoch, self.done.clone());
                let undo = Undo { served, steps, hold, reply };
                spawn_blocking(move || {
                    let undone = undo.run();
                    let _ = done.send(Done { id, epoch, what: What::Undone(undone) });
                });
            }
        }
    }

    #[expect(clippy::type_complexity, reason = "what an Undo is made of")]
    fn undo(
        &self,
        apex: &NameBuf,
        serial: Option<Serial>,
    ) -> Result<(usize, Arc<Zone>, Vec<(Arc<Diff>, bool)>), CommandError> {
        let id = self.id(apex)?;
        let entry = self.entry(id);
        let served = entry.zone.clone().ok_or(CommandError::NoVersion)?;
        if entry.storing {
            return Err(CommandError::Busy);
        }
        let first = match serial {
            Some(serial) => entry.history.after(serial),
            None => entry.history.after_last_served(),
        };
        let steps = entry.history.steps().skip(first.ok_or(CommandError::NotHeld)?);
        let steps = steps.map(|(diff, note)| (Arc::clone(diff), note.served));
        Ok((id, served, steps.collect()))
    }

    /// Has a rollback stored, if what it starts from is still what is served.
    pub(super) fn undone(&mut self, id: usize, undone: Result<Undone, (OutOfSync, Reply)>) {
        let now_ms = self.clock.now_ms();
        let Undone { undo, back, mut forward } = match undone {
            Ok(undone) => undone,
            Err((error, reply)) => {
                tracing::error!(zone = %self.entry(id).apex, why = %error,
                    "the differences that are held cannot be undone");
                let _ = reply.send(Err(CommandError::NotUndone));
                return;
            }
        };
        let entry = &mut self.zones[id];
        let unchanged = entry.zone.as_ref().is_some_and(|zone| Arc::ptr_eq(zone, &undo.served));
        if !unchanged || entry.storing {
            let _ = undo.reply.send(Err(CommandError::Busy));
            return;
        }
        let from = undo.served.serial();
        let mut pin = Pin { above: from.0, hold: undo.hold };
        let mut newest = undo.served;
        if let Some(held) = entry.held() {
            // What is newer still stays what approval is about.
            newest = Arc::clone(&held.version.zone);
            match held.version.changes.first() {
                Some(first) if first.diff.from == from => {
                    forward.extend(held.version.changes.iter().cloned());
                }
                _ => forward.clear(),
            }
        }
        if let Some(old) = entry.pin() {
            let above = if from.is_after(Serial(old.above)) { from.0 } else { old.above };
            pin = Pin { above, hold: pin.hold || old.hold };
        }
        let version = |zone, changes, kind| Version {
            zone,
            changes,
            asked: None,
            kind,
            from: Some(from),
            primary: None,
            differs: false,
            forced: true,
            again: false,
            statistics: Statistics::default(),
            began: Instant::now(),
        };
        let ahead = version(newest, forward, ROLLBACK);
        let back = version(Arc::clone(&back.zone), vec![back], ROLLBACK);
        let (reason, since_ms) = (pin.reason(), now_ms);
        let rare = entry.rare_mut();
        let held = Held { version: ahead, reason, since_ms, is_judged: false };
        rare.rolled_back = Some(Box::new(held));
        rare.pin = Some(pin);
        rare.waiting = Some(undo.reply);
        let apex = entry.apex.clone();
        pin.keep(&self.store, apex.as_name());
        info!(zone = %apex, from = from.0, to = back.zone.serial().0, hold = pin.hold,
            "to be rolled back");
        self.disregard(id);
        self.keep(id, back);
    }

    /// A rollback is stored: what it went back from is held.
    pub(super) fn hold_rolled_back(&mut self, id: usize, held: Box<Held>) {
        let now_ms = self.clock.now_ms();
        let entry = self.entry_mut(id);
        let soa = held.version.zone.soa();
        let event = Event::Held(soa.serial, entry.times(soa));
        entry.rare_mut().held = Some(held);
        entry.refresh.on(event, now_ms, random());
    }
}
