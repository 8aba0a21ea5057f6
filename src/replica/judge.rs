//! The checks between a version that has come and the store: what passes is kept and published,
//! what does not is held.
//!
//! **Invariants.**
//! - *untouched*: a version that is held changes nothing of what is served or stored; after a
//!   restart it is transferred and judged again.
//! - *contact*: a primary whose version is held was reached: the version served lives on, and the
//!   primary is asked again at the refresh interval, for its SOA only while that is the version held.
//! - *in nobody's way*: checks that read the zone have threads that no transfer waits for.

use super::CommandError;
use super::dial::random;
use super::history::APPROVED;
use super::program::ProgramError;
use super::rollback::{Pin, Reply, Swapped};
use super::scheduler::{Done, Scheduler, What};
use super::versions::Version;
use crate::check::Refusal;
use crate::clock;
use crate::config::ZoneSettings;
use crate::name::NameBuf;
use crate::refresh::{Event, Failure};
use crate::wire::Serial;
use crate::zone::Zone;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

/// How many checks that read a zone run at once; so many threads more than builders there are.
pub(super) const CAREFUL_MAX: usize = 2;

/// A version that is not served because a check refused it.
pub(super) struct Held {
    pub(super) version: Version,
    pub(super) reason: Reason,
    pub(super) since_ms: u64,
    /// It is being judged once more.
    pub(super) is_judged: bool,
}

/// Why a version is held.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Reason {
    /// A check refused it.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The operator's program did.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The operator went back from it.
    #[error("{}", rolled_back(*from, *hold))]
    RolledBack {
        /// What was gone back from.
        from: Serial,
        /// No other version is taken, either.
        hold: bool,
    },
    /// A bug.
    #[error("the check failed: {0}")]
    Failed(String),
}

impl Reason {
    /// The check, in a word.
    pub(super) fn check(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.check(),
            Self::Program(_) => "check-program",
            Self::RolledBack { .. } => "rollback",
            Self::Failed(_) => "bug",
        }
    }

    /// May it be another time what it is not now, without any change to the zone?
    pub(super) fn may_pass_later(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_early(),
            Self::Program(_) => true,
            Self::RolledBack { .. } | Self::Failed(_) => false,
        }
    }
}

fn rolled_back(from: Serial, hold: bool) -> String {
    let taken = if hold { "nothing is taken until it is approved" } else { "a newer one is taken" };
    format!("the zone was rolled back from serial {from}; {taken}")
}

/// The checks that read the zone, on a thread for that. What has not changed since `proven`, a
/// version that has passed them, need not be read again.
async fn read_through(
    settings: &Arc<ZoneSettings>,
    version: &Version,
    proven: Option<Arc<Zone>>,
    places: &Semaphore,
) -> Result<(), Reason> {
    if !settings.checks.need_care() {
        return Ok(());
    }
    let _place = places.acquire().await;
    let (settings, version) = (Arc::clone(settings), version.clone());
    let judged = spawn_blocking(move || {
        let diffs: Vec<_> = version.changes.iter().map(|change| &*change.diff).collect();
        let first = diffs.first().map(|diff| diff.from);
        let proven = proven.as_deref().filter(|zone| Some(zone.serial()) == first);
        let since = proven.map(|zone| (zone, &diffs[..]));
        // RFC 4034 section 3.1.5 counts so.
        settings.checks.with_care(&version.zone, since, clock::unix_s())
    });
    match judged.await {
        Ok(judged) => judged.map_err(Reason::from),
        Err(bug) => Err(Reason::Failed(bug.to_string())),
    }
}

impl Scheduler {
    /// Keeps a version that has come, if it passes the zone's checks.
    pub(super) fn judge(&mut self, id: usize, version: Version) {
        let entry = self.entry(id);
        if let Some(pin) = entry.pin().filter(|pin| pin.bars(version.zone.serial())) {
            return self.hold(id, pin.reason(), version);
        }
        let settings = Arc::clone(&entry.terms.settings);
        if let Err(refusal) = settings.checks.at_once(&version.zone, entry.zone.as_deref()) {
            return self.hold(id, refusal.into(), version);
        }
        if !settings.checks.need_care() && settings.check_program.is_none() {
            return self.keep(id, version);
        }
        let (epoch, done) = (entry.epoch, self.done.clone());
        let held = entry.zone.as_ref().map(|zone| zone.serial());
        let proven = entry.zone.clone().filter(|_| entry.proven);
        let (places, programs) = (Arc::clone(&self.careful), Arc::clone(&self.programs));
        tokio::spawn(async move {
            let mut judged = read_through(&settings, &version, proven, &places).await;
            if judged.is_ok()
                && let Some(program) = &settings.check_program
            {
                judged = programs.ask(program, &version.zone, held).await.map_err(Reason::from);
            }
            // At shutdown nobody wants to know any more.
            let _ = done.send(Done { id, epoch, what: What::Judged(judged, version) });
        });
    }

    pub(super) fn judged(&mut self, id: usize, judged: Result<(), Reason>, version: Version) {
        let is_it = |held: &Held| Arc::ptr_eq(&held.version.zone, &version.zone);
        if version.again && !self.entry(id).held().is_some_and(is_it) {
            // What took its place meanwhile was newer.
            return;
        }
        match judged {
            Ok(()) => self.keep(id, version),
            Err(reason) => self.hold(id, reason, version),
        }
    }

    /// Holds a version; told when it is another one, or for another reason, than before.
    fn hold(&mut self, id: usize, reason: Reason, version: Version) {
        // Who knows for how long: it is not to stay on the disk so long.
        let version = Version { ahead: None, ..version };
        let now_ms = self.clock.now_ms();
        let entry = &mut self.zones[id];
        let serial = version.zone.serial();
        let known = entry
            .held()
            .filter(|held| held.version.zone.serial() == serial && held.reason == reason);
        let since_ms = known.map_or(now_ms, |held| held.since_ms);
        if known.is_none() {
            let ours = entry.zone.as_ref().map(|zone| zone.serial().0);
            let next = format!("`backstop approve {}` serves it all the same", entry.apex);
            warn!(zone = %entry.apex, serial = serial.0, ours, check = reason.check(), why = %reason, next,
                "held by a check, it is not served");
            self.stats.replicated.held_by_check.add(1);
        }
        let times = entry.times(version.zone.soa());
        let (primary, again) = (version.primary, version.again);
        let held = Held { version, reason, since_ms, is_judged: false };
        entry.rare_mut().held = Some(Box::new(held));
        if again {
            // What asks the primaries knows of it.
            return;
        }
        if let Some(primary) = primary {
            let known = &mut entry.primaries[primary];
            known.serial = Some(serial);
            entry.contact_ms = Some(now_ms);
            return self.on(id, Event::Held(serial, times));
        }
        entry.reading = false;
        if entry.zone.is_none() {
            // Its own clock of attempts, as for a file that cannot be read.
            entry.refresh.on(Event::Due, now_ms, random());
            entry.refresh.on(Event::Failed(Failure::Primary), now_ms, random());
        }
    }

    /// Serves the version that is held.
    pub(super) fn approve(&mut self, apex: &NameBuf, reply: Reply) {
        let approved = self.id(apex).and_then(|id| {
            let entry = self.entry(id);
            let held = entry.held().ok_or(CommandError::NothingHeld)?;
            if entry.storing {
                return Err(CommandError::Busy);
            }
            let from = entry.zone.as_ref().map(|zone| zone.serial());
            let held = held.version.clone();
            Ok((id, Version { forced: true, kind: APPROVED, from, ..held }))
        });
        match approved {
            Err(error) => {
                // Who asked may have gone.
                let _ = reply.send(Err(error));
            }
            Ok((id, version)) => {
                info!(zone = %apex, serial = version.zone.serial().0, "approved: to be served");
                if self.entry(id).pin().is_some() {
                    Pin::forget(&self.store, apex.as_name());
                }
                self.disregard(id);
                self.entry_mut(id).rare_mut().waiting = Some(reply);
                self.keep(id, version);
            }
        }
    }

    /// Answers to what was asked about a zone until now are for another version than is served
    /// next.
    pub(super) fn disregard(&mut self, id: usize) {
        self.epoch += 1;
        let epoch = self.epoch;
        let entry = self.entry_mut(id);
        entry.epoch = epoch;
        entry.reading = false;
        entry.relieve(|rare| {
            if let Some(held) = &mut rare.held {
                held.is_judged = false;
            }
        });
        entry.watch_signatures();
    }

    /// A version that the operator wanted is stored: it is the one to refresh from now.
    pub(super) fn install_forced(&mut self, id: usize, version: &Version) {
        let now_ms = self.clock.now_ms();
        self.disregard(id);
        let entry = self.entry_mut(id);
        let soa = version.zone.soa();
        info!(zone = %entry.apex, from = version.from.map(|serial| serial.0), to = soa.serial.0,
            records = version.zone.records(), what = version.kind, "served, as the operator wants");
        // The operator's word is no contact with a primary: time goes on as it was.
        if version.from.is_none() {
            entry.prolong(version.primary, entry.contact_ms.unwrap_or(now_ms));
        }
        entry.begin_anew(now_ms);
        let (mut waiting, mut rolled_back) = (None, None);
        entry.relieve(|rare| {
            (waiting, rolled_back) = (rare.waiting.take(), rare.rolled_back.take());
            rare.pin.take_if(|_| rolled_back.is_none());
        });
        let served = entry.served();
        self.ready.push((id, served));
        let swapped = Swapped { from: version.from, to: soa.serial };
        self.replies.extend(waiting.map(|reply| (reply, swapped)));
        if let Some(held) = rolled_back {
            self.hold_rolled_back(id, held);
        }
        if self.entry(id).file().is_none() {
            // Whatever was being asked is forgotten.
            self.on(id, Event::Check);
        }
    }

    /// The store cannot keep what the operator wanted: all is as it was.
    pub(super) fn not_forced(&mut self, id: usize) {
        let entry = &mut self.zones[id];
        entry.recall_pin(&self.store);
        entry.relieve(|rare| {
            rare.rolled_back = None;
            if let Some(reply) = rare.waiting.take() {
                // Who asked may have gone.
                let _ = reply.send(Err(CommandError::NotStored));
            }
        });
    }
}
