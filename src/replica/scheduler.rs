//! The scheduler's thread: what comes, whose turn it is, what becomes of it.

use super::ask::{Answer, Asked, Change, Job, ask, compare, random};
use super::limits::{Lane, Limits};
use super::notify::Notifier;
use super::zone::{Entry, Last, millis};
use super::{Command, CommandError, Kept, Loaded, Notified, Parts, Settings, ZoneStatus};
use crate::clock::Clock;
use crate::name::NameBuf;
use crate::refresh::{Ask, Event, Failure, Step};
use crate::stats::{Replicated, Stats};
use crate::store::{History, Store, StoreError};
use crate::tsig::Keys;
use crate::view::{Expiry, Served, Views};
use crate::wire::Serial;
use crate::xfr::Statistics;
use crate::zone::{Soa, Zone, file};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

/// How often the clock is kept and zones that are no longer wanted are looked for.
const KEEP_MS: u64 = 60_000;
/// How many events are seen to before what they made ready is published.
const EVENTS_MAX: usize = 512;

pub(super) struct Scheduler {
    views: Arc<Views>,
    store: Arc<Store>,
    clock: Clock,
    stats: Arc<Stats>,
    limits: Arc<Limits>,
    keys: Arc<Keys>,
    notifier: Notifier,
    zones: HashMap<NameBuf, usize>,
    entries: Vec<Option<Entry>>,
    free: Vec<usize>,
    agenda: BTreeSet<(u64, usize)>,
    keep_ms: u64,
    epoch: u64,
    done: UnboundedSender<Done>,
    of_done: UnboundedReceiver<Done>,
    /// Versions that are stored and not published yet.
    ready: Vec<(usize, Arc<Served>)>,
    /// Versions that the store has not acknowledged yet.
    storing: usize,
    stopping: bool,
}

/// What a task has come back with.
struct Done {
    id: usize,
    epoch: u64,
    what: What,
}

enum What {
    Asked { primary: usize, ask: Ask, asked: Asked },
    Read(Result<Answer, String>, Instant),
    Stored(Result<(), StoreError>, Version),
}

/// A version on its way from a primary to the view.
struct Version {
    zone: Arc<Zone>,
    /// How it came from the version held; empty if it replaces it.
    changes: Vec<Change>,
    kind: &'static str,
    from: Option<Serial>,
    primary: Option<usize>,
    differs: bool,
    statistics: Statistics,
    began: Instant,
}

impl Scheduler {
    pub(super) fn new(parts: Parts, loaded: Loaded) -> Self {
        let (done, of_done) = mpsc::unbounded_channel();
        let mut scheduler = Self {
            views: parts.views,
            store: parts.store,
            clock: parts.clock,
            notifier: Notifier::new(Arc::clone(&parts.stats)),
            stats: parts.stats,
            limits: Arc::new(Limits::new(parts.limits)),
            keys: loaded.keys,
            zones: HashMap::with_capacity(loaded.entries.len()),
            entries: Vec::with_capacity(loaded.entries.len()),
            free: Vec::new(),
            agenda: BTreeSet::new(),
            keep_ms: 0,
            epoch: 0,
            done,
            of_done,
            ready: Vec::new(),
            storing: 0,
            stopping: false,
        };
        for entry in loaded.entries {
            let id = scheduler.entries.len();
            scheduler.zones.insert(entry.apex.clone(), id);
            scheduler.entries.push(Some(entry));
            scheduler.plan(id);
        }
        scheduler
    }

    pub(super) async fn run(
        mut self,
        mut commands: UnboundedReceiver<Command>,
        mut notifies: mpsc::Receiver<Command>,
    ) {
        for id in 0..self.entries.len() {
            self.read_file(id);
        }
        while !(self.stopping && self.storing == 0) {
            let next = self.agenda.first().map_or(u64::MAX, |&(at, _)| at).min(self.keep_ms);
            let next = tokio::time::Instant::from_std(self.clock.instant(next));
            tokio::select! {
                biased;
                Some(done) = self.of_done.recv() => self.finish(done),
                Some(command) = commands.recv() => self.obey(command),
                Some(command) = notifies.recv(), if !self.stopping => self.obey(command),
                () = tokio::time::sleep_until(next), if !self.stopping => self.look_at_clock(),
                else => break,
            }
            for _ in 0..EVENTS_MAX {
                let Ok(done) = self.of_done.try_recv() else { break };
                self.finish(done);
            }
            self.publish();
        }
        self.keep_clock();
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Notified(notified) => self.notified(&notified),
            Command::Check(apex, reply) => {
                // Who asked may have gone; the zone is looked after all the same.
                let _ = reply.send(self.look_after(&apex, Event::Check));
            }
            Command::Retransfer(apex, reply) => {
                let _ = reply.send(self.look_after(&apex, Event::Retransfer));
            }
            Command::Status(apex, reply) => {
                let _ = reply.send(self.status(apex));
            }
            Command::Configure(settings) => self.configure(&settings),
            Command::Stop => self.stopping = true,
        }
    }

    fn status(&self, apex: Option<NameBuf>) -> Vec<ZoneStatus> {
        let now_ms = self.clock.now_ms();
        let all = || self.entries.iter().flatten();
        match apex {
            None => all().map(|entry| entry.status(now_ms)).collect(),
            Some(apex) => {
                let entry = self.zones.get(&apex).and_then(|&id| self.entries[id].as_ref());
                entry.map(|entry| entry.status(now_ms)).into_iter().collect()
            }
        }
    }

    fn look_after(&mut self, apex: &NameBuf, event: Event) -> Result<(), CommandError> {
        let id = *self.zones.get(apex).ok_or(CommandError::NoZone)?;
        if self.entry(id).file().is_some() {
            self.read_file(id);
        } else {
            self.on(id, event);
        }
        Ok(())
    }

    fn notified(&mut self, notified: &Notified) {
        let Some(&id) = self.zones.get(&notified.apex) else { return };
        let entry = self.entry(id);
        if entry.file().is_some() {
            return;
        }
        self.stats.replicated.notifies.add(1);
        let from = notified.peer.ip();
        let sent_it = |known: &super::zone::Known| known.primary.address.ip() == from;
        let entry = self.entry(id);
        let primary = entry.primaries.iter().position(sent_it).unwrap_or(0);
        self.limits.heard(from);
        self.on(id, Event::Notified { primary, serial: notified.serial });
    }

    /// The zones whose time has come.
    fn look_at_clock(&mut self) {
        let now_ms = self.clock.now_ms();
        if self.keep_ms <= now_ms {
            self.keep_ms = now_ms + KEEP_MS;
            self.keep_clock();
            self.store.sweep(now_ms);
        }
        for _ in 0..EVENTS_MAX {
            match self.agenda.first() {
                Some(&(at, id)) if at <= now_ms => self.due(id, now_ms),
                _ => break,
            }
        }
    }

    fn due(&mut self, id: usize, now_ms: u64) {
        let entry = self.entry_mut(id);
        if entry.zone.is_some() && !entry.expiry_told && entry.expiry.is_over(now_ms) {
            entry.expiry_told = true;
            let since = entry.contact_ms.map(|at| now_ms.saturating_sub(at) / 1000);
            error!(zone = %entry.apex, last_contact_s = since, "expired: no primary could be \
                reached in time; it is answered with SERVFAIL until one can");
        }
        if entry.file().is_some() {
            // A file is read on command; if it never could be, it is tried again.
            let missing = entry.zone.is_none() && entry.refresh.next_ms() <= now_ms;
            if missing {
                self.read_file(id);
            }
            self.plan(id);
        } else if self.entry(id).refresh.next_ms() <= now_ms {
            self.on(id, Event::Due);
        } else {
            self.plan(id);
        }
    }

    /// Feeds an event to the zone's state machine and does what it says.
    fn on(&mut self, id: usize, event: Event) {
        let now_ms = self.clock.now_ms();
        let step = self.entry_mut(id).refresh.on(event, now_ms, random());
        self.take(id, step, now_ms);
    }

    fn take(&mut self, id: usize, step: Step, now_ms: u64) {
        if step.contact {
            let entry = self.entry_mut(id);
            entry.prolong(now_ms);
            if let Some(zone) = entry.zone.clone() {
                let kept = entry.kept(zone.soa(), now_ms, entry.refresh.next_ms());
                let apex = entry.apex.clone();
                self.store.touch(apex.as_name(), kept);
            }
        }
        if let Some((primary, ask)) = step.ask {
            self.ask(id, primary, ask);
        }
        self.plan(id);
    }

    fn ask(&mut self, id: usize, primary: usize, what: Ask) {
        let entry = self.entry(id);
        let job = Job {
            apex: entry.apex.clone(),
            primary: entry.primaries[primary].primary.clone(),
            ask: what,
            lane: if entry.refresh.is_urgent() { Lane::Urgent } else { Lane::Planned },
            have: entry.zone.clone(),
            max_octets: entry.settings.max_size,
        };
        let replicated = &self.stats.replicated;
        match what {
            Ask::Soa => replicated.probes.add(1),
            Ask::Ixfr(_) | Ask::Axfr => replicated.transfers.add(1),
        }
        let (epoch, done) = (entry.epoch, self.done.clone());
        let limits = Arc::clone(&self.limits);
        tokio::spawn(async move {
            let asked = ask(job, limits).await;
            // At shutdown nobody wants to know any more.
            let _ = done.send(Done { id, epoch, what: What::Asked { primary, ask: what, asked } });
        });
    }

    fn finish(&mut self, done: Done) {
        let Done { id, epoch, what } = done;
        if let What::Stored(..) = what {
            self.storing -= 1;
        }
        if self.entries.get(id).and_then(Option::as_ref).is_none_or(|e| e.epoch != epoch) {
            return;
        }
        match what {
            What::Asked { primary, ask, asked } => self.asked(id, primary, ask, asked),
            What::Read(read, began) => self.read(id, read, began),
            What::Stored(Ok(()), version) => self.stored(id, version),
            What::Stored(Err(error), version) => self.not_stored(id, &error, version),
        }
        self.plan(id);
    }

    fn asked(&mut self, id: usize, primary: usize, ask: Ask, asked: Asked) {
        let now_ms = self.clock.now_ms();
        let replicated = &self.stats.replicated;
        replicated.transfer_octets.add(asked.statistics.octets);
        replicated.records_outside.add(asked.statistics.outside);
        let entry = self.entry_mut(id);
        let known = &mut entry.primaries[primary];
        known.asked_ms = Some(now_ms);
        known.error = asked.answer.as_ref().err().map(ToString::to_string);
        let version = |zone: &Arc<Zone>, changes, kind, differs| Version {
            zone: Arc::clone(zone),
            changes,
            kind,
            from: entry.zone.as_ref().map(|zone| zone.serial()),
            primary: Some(primary),
            differs,
            statistics: asked.statistics,
            began: asked.began,
        };
        match asked.answer {
            Err(error) => {
                let failure = error.failure();
                tell_failure(entry, primary, ask, failure, &error.to_string(), asked.began);
                if ask != Ask::Soa {
                    self.stats.replicated.transfers_failed.add(1);
                }
                self.on(id, Event::Failed(failure));
            }
            Ok(Answer::Told(serial)) => {
                entry.primaries[primary].serial = Some(serial);
                self.told(id, primary, serial);
            }
            Ok(Answer::Changed { changes, compared }) => {
                let zone = Arc::clone(&changes.last().expect("at least one").zone);
                // What came, not what was asked for: whole zones come in reply to IXFR as well.
                let kind = if compared { "AXFR" } else { "IXFR" };
                let version = version(&zone, changes, kind, false);
                self.keep(id, version);
            }
            Ok(Answer::Whole { zone, differs }) => {
                let version = version(&zone, Vec::new(), "AXFR", differs);
                self.whole(id, primary, version);
            }
        }
    }

    fn told(&mut self, id: usize, primary: usize, serial: Serial) {
        let entry = self.entry_mut(id);
        if let Some(ours) = entry.zone.as_ref().map(|zone| zone.serial()) {
            if ours != serial && !serial.is_after(ours) {
                let known = &mut entry.primaries[primary];
                let behind = format!("its serial {serial} is behind ours, {ours}");
                warn!(zone = %entry.apex, primary = %known.primary.address, why = %behind,
                    "not used; `backstop retransfer` takes its version all the same");
                known.error = Some(behind);
            } else if ours == serial {
                entry.primary = Some(entry.primaries[primary].primary.address);
            }
        }
        self.on(id, Event::Told(serial));
    }

    /// A whole zone: wanted, if it is newer, or if the operator wants it in any case.
    fn whole(&mut self, id: usize, primary: usize, version: Version) {
        let serial = version.zone.serial();
        let entry = self.entry_mut(id);
        let forced = entry.refresh.is_forced();
        entry.primaries[primary].serial = Some(serial);
        match version.from {
            Some(ours) if ours == serial && version.differs => {
                warn!(zone = %entry.apex, %serial,
                    primary = %entry.primaries[primary].primary.address,
                    "the primary has other data under the serial that we have: \
                     it was edited without a new serial; its data are taken");
                self.keep(id, version);
            }
            Some(ours) if ours == serial => {
                info!(zone = %entry.apex, %serial, "transferred anew: nothing is different");
                entry.difference = false;
                self.told(id, primary, serial);
            }
            Some(ours) if !serial.is_after(ours) && !forced => self.told(id, primary, serial),
            _ => self.keep(id, version),
        }
    }

    /// Gives a version to the store; it is published when that has it.
    fn keep(&mut self, id: usize, version: Version) {
        let now_ms = self.clock.now_ms();
        let entry = self.entries[id].as_mut().expect("looked at before");
        if let Some(primary) = version.primary {
            entry.primary = Some(entry.primaries[primary].primary.address);
        }
        let next_ms = |soa: &Soa| now_ms + entry.times(soa).refresh_ms;
        let kept = |soa: &Soa| entry.kept(soa, now_ms, next_ms(soa));
        let apex = entry.apex.as_name();
        let epoch = entry.epoch;
        let mut ticket = None;
        for change in &version.changes {
            let snapshot = Kept(Arc::clone(&change.zone));
            let state = kept(change.zone.soa());
            let from = change.diff.from.0;
            // If a step fails, so does the last one, which is out of step then.
            ticket = Some(self.store.append(apex, state, from, change.diff.encode(), snapshot));
        }
        let ticket = ticket.unwrap_or_else(|| {
            let snapshot = Kept(Arc::clone(&version.zone));
            self.store.replace(apex, kept(version.zone.soa()), History::Drop, snapshot)
        });
        self.storing += 1;
        let done = self.done.clone();
        tokio::spawn(async move {
            let result = ticket.await;
            let _ = done.send(Done { id, epoch, what: What::Stored(result, version) });
        });
    }

    fn not_stored(&mut self, id: usize, error: &StoreError, mut version: Version) {
        if matches!(error, StoreError::OutOfStep { .. }) && !version.changes.is_empty() {
            version.changes.clear();
            self.keep(id, version);
            return;
        }
        self.stats.replicated.store_failures.add(1);
        let entry = self.entry_mut(id);
        error!(zone = %entry.apex, serial = %version.zone.serial(), why = %error,
            "the store cannot keep the new version; the old one stays served");
        entry.error = Some(format!("the store: {error}"));
        entry.reading = false;
        if version.primary.is_some() {
            self.on(id, Event::Failed(Failure::Primary));
        }
    }

    fn stored(&mut self, id: usize, version: Version) {
        let now_ms = self.clock.now_ms();
        let replicated: &Replicated = &self.stats.replicated;
        let entry = self.entries[id].as_mut().expect("looked at before");
        match version.kind {
            "IXFR" => replicated.ixfrs.add(1),
            "AXFR" => replicated.axfrs.add(1),
            _ => {}
        }
        entry.history = if version.changes.is_empty() {
            Arc::new([])
        } else {
            let new = version.changes.iter().map(|change| Arc::clone(&change.diff));
            entry.history.iter().cloned().chain(new).collect()
        };
        entry.zone = Some(Arc::clone(&version.zone));
        entry.difference = version.differs;
        entry.error = None;
        entry.trim_history();
        let times = entry.times(version.zone.soa());
        let serial = version.zone.serial();
        let ms = millis(version.began.elapsed());
        entry.last = Some(Last {
            kind: version.kind,
            octets: version.statistics.octets,
            records: version.statistics.records,
            ms,
            at_ms: now_ms,
        });
        if let Some(primary) = version.primary {
            entry.primaries[primary].serial = Some(serial);
            let address = entry.primaries[primary].primary.address;
            info!(zone = %entry.apex, primary = %address, got = version.kind,
                from = version.from.map(|serial| serial.0), to = serial.0,
                records = version.statistics.records, octets = version.statistics.octets,
                messages = version.statistics.messages, outside = version.statistics.outside, ms,
                "transferred");
            entry.prolong(now_ms);
            let step = entry.refresh.on(Event::Installed(serial, times), now_ms, random());
            let served = entry.served();
            self.ready.push((id, served));
            let step = Step { contact: false, ..step };
            self.take(id, step, now_ms);
        } else {
            entry.reading = false;
            entry.expiry.set(Expiry::NEVER);
            info!(zone = %entry.apex, from = version.from.map(|serial| serial.0), to = serial.0,
                records = version.zone.records(), ms, "zone file read");
            let served = entry.served();
            self.ready.push((id, served));
        }
    }

    /// Publishes what is ready, all of it as one view.
    fn publish(&mut self) {
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
        for (id, served) in &ready {
            let Some(entry) = &self.entries[*id] else { continue };
            if let Some(zone) = &served.zone {
                self.notifier.tell(zone, &entry.settings.notify, &self.keys);
            }
        }
    }

    /// Reads a zone file, if the zone is from one and it is not being read.
    fn read_file(&mut self, id: usize) {
        let entry = self.entry_mut(id);
        let Some(path) = entry.file().map(ToOwned::to_owned) else { return };
        if std::mem::replace(&mut entry.reading, true) {
            return;
        }
        let (epoch, apex, have) = (entry.epoch, entry.apex.clone(), entry.zone.clone());
        let octets = usize::try_from(entry.settings.max_size).unwrap_or(usize::MAX);
        let done = self.done.clone();
        tokio::spawn(async move {
            let began = Instant::now();
            let read = spawn_blocking(move || {
                let builder = file::read(&path, apex.as_name(), file::Limits { octets })
                    .map_err(|error| error.to_string())?;
                let zone = builder.build().map_err(|e| format!("{}: {e}", path.display()))?;
                Ok(compare(Arc::new(zone), have.as_deref()))
            });
            let read = read.await.unwrap_or_else(|error| Err(error.to_string()));
            let _ = done.send(Done { id, epoch, what: What::Read(read, began) });
        });
    }

    fn read(&mut self, id: usize, read: Result<Answer, String>, began: Instant) {
        let now_ms = self.clock.now_ms();
        let entry = self.entry_mut(id);
        let from = entry.zone.as_ref().map(|zone| zone.serial());
        let (zone, changes, differs) = match read {
            Err(error) => return self.unreadable(id, error),
            Ok(Answer::Told(_)) => return,
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
            entry.error = None;
            entry.reading = false;
            entry.contact_ms = Some(now_ms);
            return;
        }
        let statistics = Statistics { records: zone.records(), ..Statistics::default() };
        let kind = "file";
        let version =
            Version { zone, changes, kind, from, primary: None, differs, statistics, began };
        self.keep(id, version);
    }

    fn unreadable(&mut self, id: usize, what: String) {
        let now_ms = self.clock.now_ms();
        let entry = self.entry_mut(id);
        error!(zone = %entry.apex, why = %what, "the zone file is not used");
        entry.error = Some(what);
        entry.reading = false;
        // Its own clock of attempts: those of a zone without data.
        entry.refresh.on(Event::Due, now_ms, random());
        entry.refresh.on(Event::Failed(Failure::Primary), now_ms, random());
    }

    /// Other zones: what is new is fetched, what is gone is kept on disk for a while.
    fn configure(&mut self, settings: &Settings) {
        let now_ms = self.clock.now_ms();
        self.epoch += 1;
        let Settings { zones, keys, identity } = settings;
        let keys_changed = !Arc::ptr_eq(&self.keys, keys);
        self.keys = Arc::clone(keys);
        let mut gone = std::mem::take(&mut self.zones);
        let mut changed = Vec::new();
        for config in zones {
            let id = gone.remove(&config.name).unwrap_or_else(|| {
                let entry = Entry::new(config, &self.keys, now_ms, self.epoch);
                self.put(entry)
            });
            self.zones.insert(config.name.clone(), id);
            let entry = self.entries[id].as_mut().expect("just found");
            let same = entry.epoch != self.epoch && *entry.settings == *config.settings;
            if !same || keys_changed {
                entry.configure(config, &self.keys, now_ms, self.epoch);
                changed.push(id);
            }
        }
        for (apex, id) in &gone {
            if let Some(entry) = self.entries[*id].take() {
                self.agenda.remove(&(entry.agenda_ms, *id));
            }
            self.free.push(*id);
            // If that is lost, the next start finds it again.
            drop(self.store.retire(apex.as_name(), now_ms));
            info!(zone = %apex, "no longer configured; its data is kept for a while");
        }
        self.views.publish(|view| {
            view.keys = Arc::clone(keys);
            view.identity = Arc::clone(identity);
            for apex in gone.keys() {
                view.remove(apex.as_name());
            }
            for &id in &changed {
                view.put(self.entries[id].as_ref().expect("just configured").served());
            }
        });
        self.ready.retain(|(_, served)| !gone.contains_key(&served.apex));
        for id in changed {
            self.read_file(id);
            self.plan(id);
        }
    }

    fn put(&mut self, entry: Entry) -> usize {
        match self.free.pop() {
            Some(id) => {
                self.entries[id] = Some(entry);
                id
            }
            None => {
                self.entries.push(Some(entry));
                self.entries.len() - 1
            }
        }
    }

    /// Puts a zone on the agenda for when it is due.
    fn plan(&mut self, id: usize) {
        let Some(entry) = &mut self.entries[id] else { return };
        let due_ms = entry.due_ms();
        if entry.agenda_ms == due_ms && self.agenda.contains(&(due_ms, id)) {
            return;
        }
        self.agenda.remove(&(entry.agenda_ms, id));
        entry.agenda_ms = due_ms;
        if due_ms != u64::MAX {
            self.agenda.insert((due_ms, id));
        }
    }

    fn keep_clock(&mut self) {
        let kept = serde_json::to_vec(&self.clock.keep()).expect("numbers and a string");
        // The clock goes on without it, less exactly.
        drop(self.store.put_meta(CLOCK, &kept));
    }

    fn entry(&self, id: usize) -> &Entry {
        self.entries[id].as_ref().expect("ids are of zones that are there")
    }

    fn entry_mut(&mut self, id: usize) -> &mut Entry {
        self.entries[id].as_mut().expect("ids are of zones that are there")
    }
}

/// Where the store keeps the clock.
pub const CLOCK: &str = "clock";

/// Says that a primary was of no use, and what comes next.
fn tell_failure(
    entry: &Entry,
    primary: usize,
    ask: Ask,
    failure: Failure,
    why: &str,
    began: Instant,
) {
    let address = entry.primaries[primary].primary.address;
    let (asked, next) = match (ask, failure) {
        (Ask::Soa, _) => ("SOA", "the next primary, or again later"),
        (Ask::Axfr, _) => ("AXFR", "the next primary, or again later"),
        (Ask::Ixfr(_), Failure::Primary) => ("IXFR", "the next primary, or again later"),
        (Ask::Ixfr(_), _) => ("IXFR", "AXFR from the same primary at once"),
    };
    let ms = millis(began.elapsed().min(Duration::from_hours(24)));
    let serial = entry.zone.as_ref().map(|zone| zone.serial().0);
    warn!(zone = %entry.apex, primary = %address, asked, serial, why, next, ms, "failed");
}
