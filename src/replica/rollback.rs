//! Going back to an older version, and staying there.
//!
//! The diffs held are undone from the version served down to the one wanted, on a builder's
//! thread. What that makes is stored as one more diff, whose serial goes back, so that a crash
//! leaves the one version or the other. The version that a whole zone replaced is read from the
//! store, and stored as a whole zone again. A [`Pin`], stored with it, keeps the primary's newer
//! version from being taken again: it is held, and approving it undoes the rollback.

use super::CommandError;
use super::ask::Change;
use super::dial::random;
use super::history::{Note, ROLLBACK};
use super::judge::{Held, Reason};
use super::load::{Restored, restore};
use super::scheduler::{Done, Scheduler, What};
use super::versions::Version;
use crate::name::{Name, NameBuf};
use crate::refresh::Event;
use crate::store::{Damage, Store, Stored};
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
    hold: bool,
    reply: Reply,
}

/// A rollback that is made, and not stored yet.
pub(super) struct Undone {
    undo: Undo,
    back: Back,
}

/// How a version is gone back to.
enum Way {
    /// These diffs are undone, the newest last.
    Steps(Vec<Step>),
    /// The store has this version.
    Stored(Serial),
}

/// A difference, and whether the version that it leads to was served.
struct Step {
    diff: Arc<Diff>,
    was_served: bool,
}

impl Step {
    fn of((diff, note): (&Arc<Diff>, Note)) -> Self {
        Self { diff: Arc::clone(diff), was_served: note.served }
    }
}

/// The version gone back to.
struct Back {
    zone: Arc<Zone>,
    /// How it comes from the one served; empty if it replaces that.
    changes: Vec<Change>,
    /// What leads forward again, likewise.
    forward: Vec<Change>,
}

impl Undo {
    fn done(self, back: Result<Back, String>) -> Result<Undone, (String, Reply)> {
        match back {
            Ok(back) => Ok(Undone { undo: self, back }),
            Err(error) => Err((error, self.reply)),
        }
    }
}

impl Back {
    /// Undoes these diffs, the newest of which made what is served.
    fn undo(served: &Arc<Zone>, steps: &[Step]) -> Result<Self, OutOfSync> {
        let mut zone = Arc::clone(served);
        let mut forward = Vec::with_capacity(steps.len());
        for &Step { ref diff, was_served } in steps.iter().rev() {
            let before = Arc::new(zone.apply(&diff.reversed())?);
            forward.push(Change { diff: Arc::clone(diff), zone, was_served });
            zone = before;
        }
        forward.reverse();
        let diff = Diff::among(served, &zone, steps.iter().map(|step| &*step.diff));
        let (diff, back) = (Arc::new(diff), Arc::clone(&zone));
        let changes = vec![Change { diff, zone: back, was_served: true }];
        Ok(Self { zone, changes, forward })
    }

    /// The version `serial`, if this is what was kept.
    fn stored(stored: Result<Stored<'_>, Damage>, serial: Serial) -> Result<Self, String> {
        let stored = stored.map_err(|damage| damage.to_string())?;
        let Restored { zone, .. } = restore(&stored)?;
        if zone.serial() != serial {
            return Err(format!("it is serial {} that is kept", zone.serial()));
        }
        Ok(Self { zone, changes: Vec::new(), forward: Vec::new() })
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
            Ok((id, served, way)) => {
                let (epoch, done) = (self.entry(id).epoch, self.done.clone());
                let undo = Undo { served: Arc::clone(&served), hold, reply };
                let tell = move |back| {
                    let what = What::Undone(undo.done(back));
                    let _ = done.send(Done { id, epoch, what });
                };
                match way {
                    Way::Steps(steps) => {
                        spawn_blocking(move || {
                            tell(Back::undo(&served, &steps).map_err(|error| error.to_string()));
                        });
                    }
                    Way::Stored(serial) => {
                        let read =
                            move |stored: Result<Stored<'_>, Damage>| Back::stored(stored, serial);
                        let read = self.store.read_before(apex.as_name(), read);
                        tokio::spawn(async move {
                            let back = read.await;
                            tell(back.unwrap_or_else(|| Err("it is not kept".to_owned())));
                        });
                    }
                }
            }
        }
    }

    fn undo(
        &self,
        apex: &NameBuf,
        serial: Option<Serial>,
    ) -> Result<(usize, Arc<Zone>, Way), CommandError> {
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
        let before = entry.older_than_history();
        let way = match (first, before) {
            (Some(first), _) => {
                Way::Steps(entry.history.steps().skip(first).map(Step::of).collect())
            }
            (None, Some(before)) if serial.is_none_or(|serial| serial == before) => {
                Way::Stored(before)
            }
            (None, _) => return Err(CommandError::NotHeld),
        };
        Ok((id, served, way))
    }

    /// Has a rollback stored, if what it starts from is still what is served.
    pub(super) fn undone(&mut self, id: usize, undone: Result<Undone, (String, Reply)>) {
        let now_ms = self.clock.now_ms();
        let Undone { undo, back } = match undone {
            Ok(undone) => undone,
            Err((error, reply)) => {
                tracing::error!(zone = %self.entry(id).apex, why = %error,
                    "what is kept of its history does not lead back");
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
        let Back { zone, changes, mut forward } = back;
        if let Some(held) = entry.held() {
            // What is newer still stays what approval is about.
            newest = Arc::clone(&held.version.zone);
            match held.version.changes.first() {
                Some(first) if first.diff.from == from && !forward.is_empty() => {
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
            ahead: None,
            before: None,
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
        let back = version(zone, changes, ROLLBACK);
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
