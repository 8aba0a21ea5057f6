//! One zone as the scheduler knows it.

use super::CommandError;
use super::approach::Approach;
use super::ask::Primary;
use super::course::Course;
use super::dial::random;
use super::history::{History, Note};
use super::judge::Held;
use super::load::Restored;
use super::queue::Lane;
use super::rollback::{Pin, Reply};
use super::signatures::Signatures;
use super::status::{Counts, HeldStatus, LastTransfer, PrimaryStatus, State, ZoneStatus};
use super::terms::Terms;
use super::trouble::Troubles;
pub(super) use crate::clock::millis;
use crate::config::{Source, ZoneSettings};
use crate::edns::Obstacle;
use crate::name::NameBuf;
use crate::refresh::{Ask, Have, Policy, Refresh, Times};
use crate::store;
use crate::view::{Expiry, Served};
use crate::wire::Serial;
use crate::zone::{Soa, Zone};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A zone: its version, how it is refreshed, and what is known of its primaries.
pub(super) struct Entry {
    pub(super) apex: NameBuf,
    pub(super) terms: Arc<Terms>,
    pub(super) primaries: Box<[Known]>,
    pub(super) refresh: Refresh,
    pub(super) expiry: Arc<Expiry>,
    pub(super) zone: Option<Arc<Zone>>,
    pub(super) history: History,
    /// When and how the version served came; not known after a restart.
    pub(super) since: Option<Note>,
    pub(super) contact_ms: Option<u64>,
    /// The primary that the version came from.
    pub(super) primary: Option<Arc<Primary>>,
    /// A primary had other data under our serial, whether they were taken or not.
    pub(super) difference: bool,
    /// Such data were found at the primary that ours came from, and are not taken.
    pub(super) diverged: bool,
    /// When all of it is compared with the primary's next, and whether it is.
    pub(super) compare_ms: u64,
    pub(super) comparing: bool,
    /// Since when a newer serial is known.
    pub(super) behind_ms: Option<u64>,
    /// For how long contacts have made the version good, at the most.
    pub(super) granted_ms: u64,
    /// How much was told of the approach of expiry.
    pub(super) told: Approach,
    pub(super) last: Option<Box<Last>>,
    /// The transfer under way, if one is.
    pub(super) course: Option<Arc<Course>>,
    /// Answers to questions of an earlier configuration are not for this one.
    pub(super) epoch: u64,
    /// When it is on the agenda.
    pub(super) agenda_ms: u64,
    /// Its file is being read, or what the store kept of it.
    pub(super) reading: bool,
    /// A version of it is being stored.
    pub(super) storing: bool,
    /// The version held has passed the checks that are configured.
    pub(super) proven: bool,
    /// Its file is to be read once more when that is done.
    pub(super) reread: bool,
    /// Our secondaries may not have heard of it: since a restart, or since there are others.
    pub(super) untold: bool,
    rare: Option<Box<Rare>>,
}

/// What few of a million zones have.
#[derive(Default)]
pub(super) struct Rare {
    /// What the store kept is damaged, and how.
    pub(super) damaged: Option<String>,
    pub(super) error: Option<String>,
    /// When its signatures run out, if that is watched.
    pub(super) signatures: Option<Signatures>,
    /// What a check refused.
    pub(super) held: Option<Box<Held>>,
    /// What is not taken after a rollback.
    pub(super) pin: Option<Pin>,
    /// What is to be held once the rollback being stored is.
    pub(super) rolled_back: Option<Box<Held>>,
    /// The operator waits for the version being stored.
    pub(super) waiting: Option<Reply>,
    /// The version that the store keeps beside the one served, as a whole zone replaced it.
    pub(super) before: Option<Serial>,
}

impl Rare {
    fn is_empty(&self) -> bool {
        let Self { damaged, error, signatures, held, pin, rolled_back, waiting, before } = self;
        let told = damaged.is_some() || error.is_some() || signatures.is_some();
        let wanted = pin.is_some() || rolled_back.is_some() || waiting.is_some();
        !(told || held.is_some() || wanted || before.is_some())
    }
}

/// A primary and what it said last.
pub(super) struct Known {
    pub(super) primary: Arc<Primary>,
    pub(super) serial: Option<Serial>,
    /// Seconds until the zone expires there, if it says so.
    pub(super) expire_s: Option<u32>,
    pub(super) troubles: Troubles,
    /// What the last of them means to who wants the zone.
    pub(super) obstacle: Obstacle,
    pub(super) asked_ms: Option<u64>,
    /// The query for its SOA and the transfer that wait for their turn, and where they wait.
    pub(super) waits: [Option<(Ask, Lane)>; 2],
}

/// The last version received.
pub(super) struct Last {
    pub(super) kind: &'static str,
    pub(super) octets: u64,
    pub(super) records: u64,
    pub(super) ms: u64,
    pub(super) at_ms: u64,
}

impl Entry {
    /// A zone without data, due at `due_ms`.
    pub(super) fn new(apex: NameBuf, terms: &Arc<Terms>, due_ms: u64, epoch: u64) -> Self {
        Self {
            apex,
            terms: Arc::clone(terms),
            primaries: terms.primaries(),
            refresh: refresh(&terms.settings, None, due_ms),
            expiry: Arc::new(Expiry::at(0)),
            zone: None,
            history: History::default(),
            since: None,
            contact_ms: None,
            primary: None,
            difference: false,
            diverged: false,
            compare_ms: u64::MAX,
            comparing: false,
            behind_ms: None,
            granted_ms: 0,
            told: Approach::Far,
            last: None,
            course: None,
            epoch,
            agenda_ms: 0,
            reading: false,
            storing: false,
            proven: false,
            reread: false,
            untold: false,
            rare: None,
        }
    }

    pub(super) fn settings(&self) -> &ZoneSettings {
        &self.terms.settings
    }

    /// What few have, if it has any of it.
    pub(super) fn rare(&self) -> Option<&Rare> {
        self.rare.as_deref()
    }

    /// What few have, to change it.
    pub(super) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Changes what few have, if it has any of it.
    pub(super) fn relieve(&mut self, change: impl FnOnce(&mut Rare)) {
        self.rare.as_deref_mut().map(change);
        self.rare.take_if(|rare| rare.is_empty());
    }

    /// What a check refused.
    pub(super) fn held(&self) -> Option<&Held> {
        self.rare()?.held.as_deref()
    }

    /// What is not taken after a rollback.
    pub(super) fn pin(&self) -> Option<Pin> {
        self.rare()?.pin
    }

    /// The version that the store keeps beside the one served.
    pub(super) fn before(&self) -> Option<Serial> {
        self.rare()?.before
    }

    /// That version, if it is to be gone back to and only the store has it.
    pub(super) fn older_than_history(&self) -> Option<Serial> {
        let before = self.before()?;
        let is_older = self.zone.as_ref().is_some_and(|zone| zone.serial().is_after(before));
        let within = self.history.diffs().len() < self.terms.settings.history;
        (is_older && within && self.history.after(before).is_none()).then_some(before)
    }

    fn damaged(&self) -> Option<&str> {
        self.rare()?.damaged.as_deref()
    }

    fn error(&self) -> Option<&str> {
        self.rare()?.error.as_deref()
    }

    /// Takes up what is not to be taken after a rollback, if there is a pin that still stands.
    pub(super) fn recall_pin(&mut self, store: &store::Store) {
        let pin = self.zone.as_ref().and_then(|zone| Pin::kept(store, zone));
        match pin {
            Some(pin) => self.rare_mut().pin = Some(pin),
            None => self.relieve(|rare| rare.pin = None),
        }
    }

    /// Takes on the version that the store kept.
    pub(super) fn restore(
        &mut self,
        Restored { zone, history, before }: Restored,
        state: &store::State,
        due_ms: u64,
        now_ms: u64,
    ) {
        self.primary = state.primary.map(|address| self.terms.primary(address));
        let never = self.file().is_some();
        self.expiry.set(if never { Expiry::NEVER } else { state.expires_at_ms });
        self.granted_ms = state.expires_at_ms.saturating_sub(state.contact_ms);
        self.contact_ms = Some(state.contact_ms);
        self.history = history;
        self.zone = Some(zone);
        self.untold = true;
        match before {
            Some(before) => self.rare_mut().before = Some(before),
            None => self.relieve(|rare| rare.before = None),
        }
        // Within what is configured now.
        let refresh_ms = self.have().map(|have| have.times.refresh_ms);
        self.begin_anew(refresh_ms.map_or(due_ms, |ms| due_ms.min(now_ms + ms)));
        // Spread over the whole time: a start finds many zones at once.
        self.compare_in(u64::from(random() % 10), now_ms, random());
        self.trim_history();
        self.watch_signatures();
    }

    /// Refreshes from the version held on. Questions under way are forgotten.
    pub(super) fn begin_anew(&mut self, due_ms: u64) {
        // That it has expired is told once, and goes on to be so.
        let expired = self.told == Approach::Over;
        self.refresh = refresh(&self.terms.settings, self.have(), due_ms).after_expiry(expired);
        for known in &mut self.primaries {
            known.waits = [None; 2];
        }
    }

    /// Other settings. The version stays; questions under way are forgotten.
    pub(super) fn configure(&mut self, terms: &Arc<Terms>, now_ms: u64, epoch: u64) {
        let due_ms = self.refresh.next_ms().min(now_ms);
        self.untold |= self.settings().notify != terms.settings.notify;
        self.terms = Arc::clone(terms);
        self.primaries = terms.primaries();
        self.begin_anew(due_ms);
        self.comparing = false;
        self.course = None;
        self.compare_in(u64::from(random() % 10), now_ms, random());
        self.reading = false;
        // By other rules it may pass: it is transferred again, and judged again.
        self.proven = false;
        self.relieve(|rare| {
            (rare.held, rare.rolled_back) = (None, None);
            if let Some(reply) = rare.waiting.take() {
                // Who asked may have gone.
                let _ = reply.send(Err(CommandError::Busy));
            }
        });
        self.watch_signatures();
        self.epoch = epoch;
        if self.file().is_some() && self.zone.is_some() {
            self.expiry.set(Expiry::NEVER);
        } else if self.expiry.get() == Expiry::NEVER {
            self.prolong(None, now_ms);
        }
    }

    /// The version held, as the state machine knows it.
    fn have(&self) -> Option<Have> {
        let soa = self.zone.as_ref()?.soa();
        let from = |address| self.primaries.iter().position(|it| it.primary.address == address);
        Some(Have {
            serial: soa.serial,
            times: self.times(soa),
            source: self.primary.as_ref().and_then(|primary| from(primary.address)),
            contact_ms: self.contact_ms.unwrap_or(0),
        })
    }

    /// The zone file that the zone is from, if it is.
    pub(super) fn file(&self) -> Option<&Path> {
        match &self.settings().source {
            Source::File(path) => Some(path),
            Source::Primaries(_) => None,
        }
    }

    /// The SOA's intervals within the configured bounds. One that is asked about less often than it
    /// expires would do so while its primary is well, so it is asked about in the middle.
    pub(super) fn times(&self, soa: &Soa) -> Times {
        let [refresh, retry] = [soa.refresh, soa.retry].map(seconds);
        let settings = self.settings();
        Times {
            refresh_ms: millis(settings.refresh.apply(refresh.min(self.expire(soa) / 2))),
            retry_ms: millis(settings.retry.apply(retry)),
        }
    }

    /// The interval of expiry in force: that of the SOA. One that says nothing means a refresh and a
    /// retry, or no version could ever be served.
    pub(super) fn expire(&self, soa: &Soa) -> Duration {
        let told = match soa.expire {
            0 => seconds(soa.refresh) + seconds(soa.retry),
            expire => seconds(expire),
        };
        self.settings().expire.apply(told)
    }

    /// For how long a version with this SOA is good if `primary` has it now, milliseconds: never
    /// for longer than there (RFC 7314 section 4). Who says what the SOA says, as the head of a
    /// chain does, bounds nothing: the least that is in force may be more.
    fn good_for_ms(&self, soa: &Soa, primary: Option<usize>) -> u64 {
        let there = primary.and_then(|primary| self.primaries[primary].expire_s);
        let there = there.filter(|&s| s != soa.expire).map_or(u64::MAX, |s| u64::from(s) * 1000);
        millis(self.expire(soa)).min(there)
    }

    /// A primary has confirmed the version.
    pub(super) fn confirm(&mut self, primary: usize, now_ms: u64) {
        let Some(zone) = &self.zone else { return };
        let (soa, at_ms) = (zone.soa(), self.expiry.get());
        let granted_ms = self.good_for_ms(soa, Some(primary));
        // Who learnt it from another secondary can know of a later contact than this one; and whose
        // own copy has expired renews nothing.
        let until_ms = if granted_ms == 0 { at_ms } else { at_ms.max(now_ms + granted_ms) };
        // What a chain passes on shrinks while its head is of no use: half of the time and a tenth
        // are those of the most that this version had.
        let most_ms = self.granted_ms.max(granted_ms).min(millis(self.expire(soa)));
        self.renew(until_ms, most_ms, now_ms);
    }

    /// A primary has renewed the version.
    pub(super) fn prolong(&mut self, primary: Option<usize>, now_ms: u64) {
        let Some(zone) = &self.zone else { return };
        let granted_ms = self.good_for_ms(zone.soa(), primary);
        self.renew(now_ms.saturating_add(granted_ms), granted_ms, now_ms);
    }

    fn renew(&mut self, until_ms: u64, granted_ms: u64, now_ms: u64) {
        let before_ms = self.expiry.get();
        self.expiry.set(if self.file().is_some() { Expiry::NEVER } else { until_ms });
        (self.granted_ms, self.contact_ms) = (granted_ms, Some(now_ms));
        let approach = self.approach(now_ms);
        if approach < self.told {
            self.tell_renewal(before_ms, now_ms);
            self.told = approach;
        }
    }

    /// Compares all of it with its primary's in a share of the usual time, in tenths, with up to
    /// another tenth by `dice`.
    pub(super) fn compare_in(&mut self, tenths: u64, now_ms: u64, dice: u32) {
        let every_ms = self.settings().compare_every.map(millis);
        self.compare_ms = every_ms.map_or(u64::MAX, |every_ms| {
            let tenth = every_ms / 10;
            now_ms.saturating_add(tenths * tenth + (tenth.saturating_mul(dice.into()) >> 32))
        });
    }

    /// When all of it is to be compared with its primary's.
    pub(super) fn compares_at_ms(&self) -> u64 {
        let never = self.comparing || self.zone.is_none() || self.file().is_some();
        if never { u64::MAX } else { self.compare_ms }
    }

    /// The primary that the version came from, if it is still one.
    pub(super) fn source(&self) -> Option<usize> {
        let address = self.primary.as_ref()?.address;
        self.primaries.iter().position(|known| known.primary.address == address)
    }

    /// Notes whether a newer serial is known than that of the version held.
    pub(super) fn note_lag(&mut self, now_ms: u64) {
        let behind = self.behind_serials() > 0;
        self.behind_ms = behind.then(|| self.behind_ms.unwrap_or(now_ms));
    }

    fn behind_serials(&self) -> u32 {
        let Some(ours) = self.zone.as_ref().map(|zone| zone.serial()) else { return 0 };
        let comparable = (0..self.primaries.len()).filter(|&at| self.refresh.is_comparable(at));
        let told = comparable.filter_map(|at| self.primaries[at].serial);
        let newer = told.filter(|serial| serial.is_after(ours));
        newer.map(|serial| serial.0.wrapping_sub(ours.0)).max().unwrap_or(0)
    }

    /// Keeps as much history as is worth it: as many versions as are configured, together not
    /// larger than half of what sending the zone would take (RFC 1995 section 5 leaves it to us).
    pub(super) fn trim_history(&mut self) {
        let Some(zone) = &self.zone else { return };
        // A record takes some forty octets in a transfer.
        let octets = usize::try_from(zone.records()).unwrap_or(usize::MAX).saturating_mul(20);
        self.history.trim(self.terms.settings.history, octets.max(64 * 1024));
    }

    /// What the workers are to see.
    pub(super) fn served(&self) -> Arc<Served> {
        Arc::new(Served {
            apex: self.apex.clone(),
            access: Arc::clone(&self.terms.access),
            zone: self.zone.clone(),
            expiry: Arc::clone(&self.expiry),
            history: Arc::clone(self.history.diffs()),
        })
    }

    /// What the store is to keep beside the version `soa` is of, which `primary` gave now.
    pub(super) fn kept_anew(&self, soa: &Soa, primary: Option<usize>, now_ms: u64) -> store::State {
        let until = now_ms.saturating_add(self.good_for_ms(soa, primary));
        self.kept(soa, now_ms, until)
    }

    /// What the store is to keep beside the version held, which was confirmed at `contact_ms`. If
    /// it is not the newest that we know of, it is looked after at once after a restart.
    pub(super) fn kept_on(&self, soa: &Soa, contact_ms: u64) -> store::State {
        let kept = self.kept(soa, contact_ms, self.expiry.get());
        let is_newest = self.held().is_none() && self.behind_ms.is_none();
        if is_newest { kept } else { store::State { refresh_at_ms: contact_ms, ..kept } }
    }

    fn kept(&self, soa: &Soa, now_ms: u64, expires_at_ms: u64) -> store::State {
        let expire = self.expire(soa);
        // As early as the next round may be: zones that came together are not asked together after
        // a restart.
        let refresh_ms = self.times(soa).refresh_ms;
        let early_ms = (refresh_ms / 10).saturating_mul(random().into()) >> 32;
        store::State {
            serial: soa.serial.0,
            has_data: true,
            contact_ms: now_ms,
            refresh_at_ms: now_ms + refresh_ms - early_ms,
            expires_at_ms,
            expire_s: u32::try_from(expire.as_secs()).unwrap_or(u32::MAX),
            primary: self.primary.as_ref().map(|primary| primary.address),
            retired_at_ms: None,
        }
    }

    /// What keeps the primaries from giving the zone, for those who are not answered.
    pub(super) fn note_obstacle(&self) {
        let told = self.primaries.iter().map(|known| known.obstacle);
        let told = told.max_by_key(|obstacle| obstacle.code()).unwrap_or_default();
        self.expiry.note(match () {
            () if self.zone.is_none() && self.held().is_some() => Obstacle::Check,
            () if self.refresh.lower().is_some() => Obstacle::LowerSerial,
            () => told,
        });
    }

    /// Is this another error than the zone has already?
    pub(super) fn is_news(&self, error: &str) -> bool {
        self.error() != Some(error)
    }

    /// When the scheduler should look at it next.
    pub(super) fn due_ms(&self) -> u64 {
        let never = self.reading || self.file().is_some() && self.zone.is_some();
        let ask_ms = if never { u64::MAX } else { self.refresh.next_ms() };
        let look_ms = self.signatures_due_ms();
        ask_ms.min(self.approach_ms()).min(self.compares_at_ms()).min(look_ms)
    }

    /// Adds it to the numbers of all zones.
    pub(super) fn count(&self, now_ms: u64, counts: &mut Counts) {
        *counts.states.entry(self.state(now_ms)).or_default() += 1;
        let min = |a: Option<u64>, b: u64| Some(a.map_or(b, |a| a.min(b)));
        let over = self.expiry.is_over(now_ms);
        if self.zone.is_some() && (!over || self.terms.access.serve_stale) {
            counts.served += 1;
            let at = self.expiry.get();
            if !over && at != Expiry::NEVER {
                counts.soonest_expiry_s =
                    min(counts.soonest_expiry_s, at.saturating_sub(now_ms) / 1000);
            }
        }
        if let Some(at) = self.contact_ms.filter(|_| self.file().is_none()) {
            let ago_s = now_ms.saturating_sub(at) / 1000;
            counts.oldest_contact_s = counts.oldest_contact_s.max(Some(ago_s));
        }
        if let Some(signatures) = self.signatures_status() {
            let soonest = &mut counts.soonest_signature_end_s;
            *soonest = min(*soonest, signatures.ends_in_s);
        }
    }

    pub(super) fn state(&self, now_ms: u64) -> State {
        let failing = self.refresh.failures() > 0 || self.error().is_some();
        match self.approach(now_ms) {
            _ if self.zone.is_none() && self.damaged().is_some() => State::Damaged,
            _ if self.zone.is_none() => State::NeverLoaded,
            Approach::Over => State::Expired,
            _ if self.refresh.lower().is_some() => State::LowerSerial,
            Approach::Half | Approach::Tenth => State::Expiring,
            Approach::Far if self.held().is_some() => State::HeldByCheck,
            Approach::Far if failing => State::Stale,
            Approach::Far if self.diverged => State::Diverged,
            Approach::Far if self.refresh.is_asking() => State::Refreshing,
            Approach::Far => State::Ok,
        }
    }

    pub(super) fn status(&self, now_ms: u64) -> ZoneStatus {
        let ago = |at_ms: u64| now_ms.saturating_sub(at_ms) / 1000;
        let until = |at_ms: u64| at_ms.saturating_sub(now_ms) / 1000;
        let from_file = self.file().is_some();
        let expires = Some(self.expiry.get()).filter(|&at| at != Expiry::NEVER);
        ZoneStatus {
            zone: self.apex.to_string(),
            state: self.state(now_ms),
            serial: self.zone.as_ref().map(|zone| zone.serial().0),
            records: self.zone.as_ref().map_or(0, |zone| zone.records()),
            last_contact_s: self.contact_ms.filter(|_| !from_file).map(ago),
            refresh_in_s: if self.refresh.is_asking() { 0 } else { until(self.refresh.next_ms()) },
            expires_in_s: expires.filter(|_| self.zone.is_some()).map(until),
            serve_stale: self.terms.access.serve_stale,
            behind_serials: self.behind_serials(),
            behind_s: self.behind_ms.map_or(0, ago),
            primary: self.primary.as_ref().map(|primary| primary.address),
            lower_serial: self.refresh.lower().map(|serial| serial.0),
            same_serial_difference: self.difference,
            versions_held: self.history.diffs().len(),
            nsec3_iterations: self.zone.as_deref().map_or(0, Zone::nsec3_iterations),
            held: self.held().map(|held| HeldStatus {
                serial: held.version.zone.serial().0,
                check: held.reason.check().into(),
                why: held.reason.to_string(),
                since_s: ago(held.since_ms),
            }),
            signatures: self.signatures_status(),
            error: self.error().or_else(|| self.damaged()).map(ToOwned::to_owned),
            transfer: self.course.as_ref().and_then(|it| it.status(self.storing)),
            last_transfer: self.last.as_ref().map(|last| LastTransfer {
                kind: last.kind.into(),
                octets: last.octets,
                records: last.records,
                ms: last.ms,
                ago_s: ago(last.at_ms),
            }),
            primaries: self.primaries.iter().map(|known| known.status(now_ms)).collect(),
        }
    }
}

impl Known {
    pub(super) fn new(primary: &Arc<Primary>) -> Self {
        Self {
            primary: Arc::clone(primary),
            serial: None,
            expire_s: None,
            troubles: Troubles::default(),
            obstacle: Obstacle::Unknown,
            asked_ms: None,
            waits: [None; 2],
        }
    }

    /// What waits of this kind. Comparisons are beside the zone's rounds: nothing overtakes them.
    pub(super) fn waits_mut(&mut self, ask: Ask, lane: Lane) -> Option<&mut Option<(Ask, Lane)>> {
        let kind = usize::from(ask != Ask::Soa);
        (lane != Lane::Idle).then_some(&mut self.waits[kind])
    }

    fn status(&self, now_ms: u64) -> PrimaryStatus {
        PrimaryStatus {
            address: self.primary.address,
            serial: self.serial.map(|serial| serial.0),
            last_error: self.troubles.last().map(ToOwned::to_owned),
            asked_s: self.asked_ms.map(|at_ms| now_ms.saturating_sub(at_ms) / 1000),
        }
    }
}

fn refresh(settings: &ZoneSettings, have: Option<Have>, due_ms: u64) -> Refresh {
    let independent: Vec<bool> = match &settings.source {
        Source::Primaries(primaries) => primaries.iter().map(|it| it.independent).collect(),
        // A file is read by the clock of attempts of a zone with one primary.
        Source::File(_) => vec![false],
    };
    let policy = Policy {
        ixfr: settings.ixfr,
        lower_serial: settings.on_lower_serial,
        pin_tolerance_ms: millis(settings.pin_tolerance),
    };
    Refresh::new(independent, policy, have, due_ms)
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}
