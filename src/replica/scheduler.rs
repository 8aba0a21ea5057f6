//! The scheduler's thread: what comes, whose turn it is, what becomes of it.

use super::approach::Approach;
use super::ask::{Answer, Asked, Job, ask};
use super::course::Course;
use super::dial::random;
use super::forward;
use super::judge::{CAREFUL_MAX, Reason};
use super::limits::Limits;
use super::notify::Notifier;
use super::program::Programs;
use super::queue::{Bounds, Lane, Place, Question, Queue};
use super::rollback::{Reply, Swapped, Undone};
use super::terms::AllTerms;
use super::versions::{Recalled, Version};
use super::zone::{Entry, Known};
use super::zones::Zones;
use super::{
    Command, CommandError, Counts, Loaded, Notified, Parts, Passed, Settings, Slice, Versions,
    ZoneStatus,
};
use crate::check::Ending;
use crate::clock::Clock;
use crate::name::NameBuf;
use crate::refresh::{Ask, Event, LowerSerial, Step};
use crate::stats::Stats;
use crate::store::{Store, StoreError};
use crate::tsig::Keys;
use crate::view::{Served, Views};
use crate::wire::Serial;
use crate::zone::Zone;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tracing::{error, info};

/// How often the clock is kept, zones that are no longer wanted are looked for, and secondaries told
/// that were put off.
const KEEP_MS: u64 = 60_000;
/// How many events are seen to before what they made ready is published.
const EVENTS_MAX: usize = 512;
/// How many zones are told of at once: a fraction of a millisecond.
const SLICE: usize = 256;

pub(super) struct Scheduler {
    pub(super) views: Arc<Views>,
    pub(super) store: Arc<Store>,
    pub(super) clock: Clock,
    pub(super) stats: Arc<Stats>,
    pub(super) limits: Arc<Limits>,
    /// Places for UPDATEs that are being forwarded.
    pub(super) forwards: Arc<Semaphore>,
    queue: Queue,
    pub(super) keys: Arc<Keys>,
    pub(super) notifier: Notifier,
    pub(super) zones: Zones,
    agenda: BTreeSet<(u64, usize)>,
    keep_ms: u64,
    pub(super) epoch: u64,
    /// Places for checks that read a zone.
    pub(super) careful: Arc<Semaphore>,
    pub(super) programs: Arc<Programs>,
    pub(super) done: UnboundedSender<Done>,
    of_done: UnboundedReceiver<Done>,
    /// Versions that are stored and not published yet.
    pub(super) ready: Vec<(usize, Arc<Served>)>,
    /// Versions that the store has not acknowledged yet.
    pub(super) storing: usize,
    /// Who is to be told of what, once it is published.
    pub(super) replies: Vec<(Reply, Swapped)>,
    /// Zones whose secondaries are to be told when there is room for that.
    pub(super) put_off: BTreeSet<usize>,
    stopping: bool,
}

/// What a task has come back with.
pub(super) struct Done {
    pub(super) id: usize,
    pub(super) epoch: u64,
    pub(super) what: What,
}

pub(super) enum What {
    Asked { primary: usize, ask: Ask, asked: Asked },
    Compared { primary: usize, have: Option<Arc<Zone>>, asked: Asked },
    Read(Result<Answer, String>, Instant),
    Judged(Result<(), Reason>, Version),
    Undone(Result<Undone, (String, Reply)>),
    Signatures(Option<Ending>),
    Updated { primary: usize },
    Stored(Result<(), StoreError>, Version),
    Recalled(Recalled),
}

impl What {
    /// Is the transfer over that was under way, or stored what came of it?
    fn ends_course(&self) -> bool {
        match self {
            Self::Asked { ask, .. } => *ask != Ask::Soa,
            Self::Compared { .. } | Self::Stored(..) => true,
            Self::Read(..)
            | Self::Judged(..)
            | Self::Undone(_)
            | Self::Signatures(_)
            | Self::Updated { .. }
            | Self::Recalled(_) => false,
        }
    }
}

impl Scheduler {
    pub(super) fn new(parts: Parts, loaded: Loaded) -> Self {
        let (done, of_done) = mpsc::unbounded_channel();
        let Loaded { mut zones, keys, .. } = loaded;
        let planned = zones.iter_mut().map(|(id, entry)| {
            entry.agenda_ms = entry.due_ms();
            (entry.agenda_ms, id)
        });
        // As a whole: that takes less time than one after the other, and less room.
        let agenda = planned.filter(|&(due_ms, _)| due_ms != u64::MAX).collect();
        Self {
            views: parts.views,
            store: parts.store,
            clock: parts.clock,
            notifier: Notifier::new(Arc::clone(&parts.stats)),
            stats: parts.stats,
            queue: Queue::new(Bounds {
                concurrent: parts.limits.concurrent,
                per_primary: parts.limits.per_primary,
                probes_a_second: parts.limits.probes_a_second,
            }),
            limits: Arc::new(Limits::new(parts.limits)),
            forwards: Arc::new(Semaphore::new(forward::CONCURRENT)),
            keys,
            zones,
            agenda,
            keep_ms: 0,
            epoch: 0,
            careful: Arc::new(Semaphore::new(CAREFUL_MAX)),
            programs: Arc::new(Programs::new(parts.scratch)),
            done,
            of_done,
            ready: Vec::new(),
            storing: 0,
            replies: Vec::new(),
            put_off: BTreeSet::new(),
            stopping: false,
        }
    }

    pub(super) async fn run(
        mut self,
        mut commands: UnboundedReceiver<Command>,
        mut passed: mpsc::Receiver<Passed>,
    ) {
        self.read_files();
        while !(self.stopping && self.storing == 0) {
            let next = self.agenda.first().map_or(u64::MAX, |&(at, _)| at).min(self.keep_ms);
            let next = self.clock.instant(next);
            let next = self.queue.paced_at().map_or(next, |at| at.min(next));
            let next = tokio::time::Instant::from_std(next);
            tokio::select! {
                biased;
                Some(done) = self.of_done.recv() => self.finish(done),
                Some(command) = commands.recv() => self.obey(command),
                Some(passed) = passed.recv(), if !self.stopping => match passed {
                    Passed::Notify(notified) => self.notified(&notified),
                    Passed::Update(update) => self.forward(update),
                },
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
            Command::Check(apex, reply) => {
                // Who asked may have gone; the zone is looked after all the same.
                let _ = reply.send(self.look_after(&apex, Event::Check));
            }
            Command::Retransfer(apex, reply) => {
                let _ = reply.send(self.look_after(&apex, Event::Retransfer));
            }
            Command::Notify(apex, reply) => {
                let _ = reply.send(self.notify(&apex));
            }
            Command::Approve(apex, reply) => self.approve(&apex, reply),
            Command::Rollback { apex, serial, hold, reply } => {
                self.rollback(&apex, serial, hold, reply);
            }
            Command::History(apex, reply) => {
                let _ = reply.send(self.history(&apex));
            }
            Command::Status(apex, reply) => {
                let _ = reply.send(self.status(&apex));
            }
            Command::Slice(from, reply) => {
                let _ = reply.send(self.slice(from));
            }
            Command::Count(reply) => {
                let _ = reply.send(self.count());
            }
            Command::Worst(zones_max, reply) => {
                let _ = reply.send(self.worst(zones_max));
            }
            Command::Configure(settings, _applied) => self.configure(settings),
            Command::Stop => self.stopping = true,
        }
    }

    fn count(&self) -> Counts {
        let now_ms = self.clock.now_ms();
        let mut counts = Counts::default();
        self.zones.iter().for_each(|(_, entry)| entry.count(now_ms, &mut counts));
        counts
    }

    /// Texts are made for the zones that are told of only.
    fn worst(&self, zones_max: usize) -> Vec<ZoneStatus> {
        let now_ms = self.clock.now_ms();
        let entries = self.zones.iter();
        let mut zones: Vec<_> = entries.map(|(_, entry)| (entry.state(now_ms), entry)).collect();
        if zones_max < zones.len() {
            zones.select_nth_unstable_by_key(zones_max, |&(state, _)| state);
            zones.truncate(zones_max);
        }
        zones.sort_by_key(|&(state, _)| state);
        zones.into_iter().map(|(_, entry)| entry.status(now_ms)).collect()
    }

    fn status(&self, apex: &NameBuf) -> Option<ZoneStatus> {
        let id = self.id(apex).ok()?;
        Some(self.entry(id).status(self.clock.now_ms()))
    }

    fn slice(&self, from: usize) -> Slice {
        let now_ms = self.clock.now_ms();
        let end = self.zones.end().min(from.saturating_add(SLICE));
        let entries = (from..end).filter_map(|id| self.zones.get(id));
        let next = Some(end).filter(|&end| end < self.zones.end());
        Slice { zones: entries.map(|entry| entry.status(now_ms)).collect(), next }
    }

    pub(super) fn id(&self, apex: &NameBuf) -> Result<usize, CommandError> {
        self.zones.id(apex).ok_or(CommandError::NoZone)
    }

    fn history(&self, apex: &NameBuf) -> Result<Versions, CommandError> {
        let entry = self.entry(self.id(apex)?);
        Ok(Versions {
            served: entry.zone.clone(),
            since: entry.since,
            steps: entry.history.steps().map(|(diff, note)| (Arc::clone(diff), note)).collect(),
            before: entry.older_than_history(),
            held: entry.held().map(|held| Arc::clone(&held.version.zone)),
        })
    }

    fn look_after(&mut self, apex: &NameBuf, event: Event) -> Result<(), CommandError> {
        let id = self.id(apex)?;
        if self.entry(id).file().is_some() {
            self.read_file(id);
        } else {
            self.on(id, event);
            self.hurry(id);
        }
        Ok(())
    }

    fn notify(&mut self, apex: &NameBuf) -> Result<usize, CommandError> {
        let id = self.id(apex)?;
        if self.entry(id).zone.is_none() {
            return Err(CommandError::NoVersion);
        }
        self.tell_secondaries(id);
        Ok(self.entry(id).settings().notify.len())
    }

    fn notified(&mut self, notified: &Notified) {
        let Some(id) = self.zones.id(&notified.apex) else { return };
        let entry = self.entry(id);
        if entry.file().is_some() {
            return;
        }
        let from = notified.peer.ip();
        let sent_it = |known: &Known| known.primary.address.ip() == from;
        let primary = entry.primaries.iter().position(sent_it).unwrap_or(0);
        self.limits.heard(from);
        self.on(id, Event::Notified { primary, serial: notified.serial });
        self.hurry(id);
    }

    /// The zones whose time has come.
    fn look_at_clock(&mut self) {
        let now_ms = self.clock.now_ms();
        if self.keep_ms <= now_ms {
            self.keep_ms = now_ms + KEEP_MS;
            self.keep_clock();
            self.store.sweep(now_ms);
            self.tell_put_off();
        }
        for _ in 0..EVENTS_MAX {
            match self.agenda.first() {
                Some(&(at, id)) if at <= now_ms => self.due(id, now_ms),
                _ => break,
            }
        }
        let now = Instant::now();
        while let Some(primary) = self.queue.next_paced(now) {
            self.ask_next(primary, Lane::Probe);
        }
    }

    fn due(&mut self, id: usize, now_ms: u64) {
        let entry = self.entry_mut(id);
        let approach = entry.approach(now_ms);
        if approach > entry.told {
            entry.told = approach;
            entry.tell_approach(now_ms);
            if approach == Approach::Over {
                self.on(id, Event::Expired);
            }
        }
        if self.entry(id).compares_at_ms() <= now_ms {
            self.compare(id);
        }
        if self.entry(id).signatures_due_ms() <= now_ms {
            self.look_at_signatures(id);
        }
        let entry = self.entry(id);
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
    pub(super) fn on(&mut self, id: usize, event: Event) {
        let now_ms = self.clock.now_ms();
        let entry = self.entry_mut(id);
        let before = entry.refresh.lower();
        let step = entry.refresh.on(event, now_ms, random());
        tell_lower(entry, before);
        self.take(id, step, now_ms);
    }

    pub(super) fn take(&mut self, id: usize, step: Step, now_ms: u64) {
        let entry = &mut self.zones[id];
        if let Some(source) = entry.refresh.source() {
            entry.primary = Some(Arc::clone(&entry.primaries[source].primary));
        }
        entry.note_obstacle();
        let was_behind = entry.behind_ms.is_some();
        entry.note_lag(now_ms);
        if let Some(primary) = step.contact {
            entry.confirm(primary, now_ms);
        }
        let is_news = step.contact.is_some() || !was_behind && entry.behind_ms.is_some();
        if let (Some(zone), Some(contact_ms), true) = (&entry.zone, entry.contact_ms, is_news) {
            let kept = entry.kept_on(zone.soa(), contact_ms);
            self.store.touch(entry.apex.as_name(), kept);
        }
        let urgent = self.entry(id).refresh.is_urgent();
        for (primary, ask) in step.asks {
            let lane = match ask {
                _ if urgent => Lane::Urgent,
                Ask::Soa => Lane::Probe,
                Ask::Ixfr(_) | Ask::Axfr => Lane::Planned,
            };
            self.ask(id, primary, ask, lane);
        }
        self.plan(id);
    }

    /// Has a question wait for its turn.
    pub(super) fn ask(&mut self, id: usize, primary: usize, ask: Ask, lane: Lane) {
        let entry = self.entry_mut(id);
        let known = &mut entry.primaries[primary];
        if let Some(waits) = known.waits_mut(ask, lane) {
            *waits = Some((ask, lane));
        }
        let address = known.primary.address.ip();
        let question = Question { id, epoch: entry.epoch, primary, ask, lane };
        self.queue.push(address, question, Instant::now());
        self.ask_next(address, lane);
    }

    /// What still waits of a zone's planned questions is urgent now.
    pub(super) fn hurry(&mut self, id: usize) {
        for primary in 0..self.entry(id).primaries.len() {
            for (ask, lane) in self.entry(id).primaries[primary].waits.into_iter().flatten() {
                if lane != Lane::Urgent {
                    self.ask(id, primary, ask, Lane::Urgent);
                }
            }
        }
    }

    /// Begins as many questions to this primary as there are places for.
    fn ask_next(&mut self, primary: IpAddr, lane: Lane) {
        while let Some((question, place)) = self.queue.next(primary, lane, Instant::now()) {
            self.begin(question, place);
        }
    }

    /// Asks, unless it is not wanted any longer.
    fn begin(&mut self, question: Question, place: Place) {
        let Question { id, epoch, primary, ask: what, lane } = question;
        let Some(entry) = self.zones.get_mut(id).filter(|entry| entry.epoch == epoch) else {
            return;
        };
        let known = &mut entry.primaries[primary];
        if let Some(waits) = known.waits_mut(what, lane)
            && waits.take_if(|waits| *waits == (what, lane)).is_none()
        {
            // It has become urgent, and was asked before.
            return;
        }
        let have = entry.zone.clone();
        let course = Arc::new(Course::begin());
        if what != Ask::Soa {
            entry.course = Some(Arc::clone(&course));
        }
        let job = Job {
            apex: entry.apex.clone(),
            primary: Arc::clone(&known.primary),
            ask: what,
            lane,
            have: have.clone(),
            is_source: entry.source() == Some(primary),
            compares: lane == Lane::Idle,
            max_octets: entry.settings().max_size,
            ahead: (what != Ask::Soa && have.is_none()).then(|| self.store.ahead()),
            course,
        };
        let replicated = &self.stats.replicated;
        match what {
            Ask::Soa => replicated.probes.add(1),
            Ask::Ixfr(_) | Ask::Axfr => replicated.transfers.add(1),
        }
        let (done, limits) = (self.done.clone(), Arc::clone(&self.limits));
        tokio::spawn(async move {
            let asked = ask(job, limits, place).await;
            let what = match lane {
                Lane::Idle => What::Compared { primary, have, asked },
                _ => What::Asked { primary, ask: what, asked },
            };
            // At shutdown nobody wants to know any more.
            let _ = done.send(Done { id, epoch, what });
        });
    }

    /// A question has ended: others have its place.
    fn ask_others(&mut self, asked: (IpAddr, Lane), late: bool) {
        let (primary, lane) = asked;
        self.queue.answered(primary, lane, late);
        while let Some(starved) = self.queue.next_starved(lane) {
            self.ask_next(starved, lane);
        }
        self.ask_next(primary, lane);
    }

    fn finish(&mut self, done: Done) {
        let Done { id, epoch, what } = done;
        if let What::Asked { asked, .. } | What::Compared { asked, .. } = &what {
            self.ask_others((asked.address, asked.lane), asked.is_late());
        }
        if let What::Stored(..) = what {
            self.storing -= 1;
            if let Some(entry) = self.zones.get_mut(id) {
                entry.storing = false;
            }
        }
        if self.zones.get(id).is_none_or(|entry| entry.epoch != epoch) {
            return;
        }
        let entry = self.entry_mut(id);
        let course = if what.ends_course() { entry.course.take() } else { None };
        match what {
            What::Asked { primary, ask, asked } => self.asked(id, primary, ask, asked),
            What::Compared { primary, have, asked } => {
                self.compared(id, primary, have.as_ref(), asked);
            }
            What::Read(read, began) => self.read(id, read, began),
            What::Recalled(recalled) => self.recalled(id, recalled),
            What::Judged(judged, version) => self.judged(id, judged, version),
            What::Undone(undone) => self.undone(id, undone),
            What::Signatures(ending) => self.signatures_looked_at(id, ending),
            What::Updated { primary } => self.updated(id, primary),
            What::Stored(Ok(()), version) => self.stored(id, version),
            What::Stored(Err(error), version) => self.not_stored(id, &error, version),
        }
        let entry = self.entry_mut(id);
        if entry.storing && entry.course.is_none() {
            entry.course = course;
        }
        if entry.reread && !entry.reading {
            self.read_file(id);
        }
        self.tell_untold(id);
        self.plan(id);
    }

    /// Other zones: what is new is fetched, what is gone is kept on disk for a while. All zone files
    /// are read anew, as they may have been edited as well.
    fn configure(&mut self, settings: Settings) {
        let now_ms = self.clock.now_ms();
        self.epoch += 1;
        let Settings { zones, keys, identity } = settings;
        let keys_changed = !Arc::ptr_eq(&self.keys, &keys);
        self.keys = Arc::clone(&keys);
        let mut wanted = vec![false; self.zones.end()];
        let mut changed = Vec::new();
        let mut terms = AllTerms::new(&keys);
        for config in zones {
            let terms = terms.of(&config.settings);
            let id = if let Some(id) = self.zones.id(&config.name) {
                let entry = &mut self.zones[id];
                if keys_changed || *entry.settings() != *config.settings {
                    entry.configure(terms, now_ms, self.epoch);
                    changed.push(id);
                }
                id
            } else {
                let entry = Entry::new(config.name, terms, now_ms, self.epoch);
                let id = self.zones.insert(entry);
                changed.push(id);
                id
            };
            if let Some(wanted) = wanted.get_mut(id) {
                *wanted = true;
            }
        }
        let gone = (0..wanted.len()).filter(|&id| !wanted[id]);
        let gone: Vec<Entry> = gone.filter_map(|id| self.forget(id, now_ms)).collect();
        self.views.publish(|view| {
            view.keys = keys;
            view.identity = identity;
            for entry in &gone {
                view.remove(entry.apex.as_name());
            }
            for &id in &changed {
                view.put(self.zones[id].served());
            }
        });
        self.read_files();
        for id in changed {
            if self.entry(id).file().is_none() {
                self.recall(id);
            }
            self.plan(id);
        }
    }

    /// Takes out a zone that is wanted no more.
    fn forget(&mut self, id: usize, now_ms: u64) -> Option<Entry> {
        let entry = self.zones.remove(id)?;
        self.agenda.remove(&(entry.agenda_ms, id));
        // If that is lost, the next start finds it again.
        drop(self.store.retire(entry.apex.as_name(), now_ms));
        info!(zone = %entry.apex, "no longer configured; its data is kept for a while");
        Some(entry)
    }

    /// Puts a zone on the agenda for when it is due.
    fn plan(&mut self, id: usize) {
        let Some(entry) = self.zones.get_mut(id) else { return };
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

    /// Reads all zone files.
    fn read_files(&mut self) {
        for id in 0..self.zones.end() {
            if self.zones.get(id).is_some() {
                self.read_file(id);
            }
        }
    }

    pub(super) fn entry(&self, id: usize) -> &Entry {
        &self.zones[id]
    }

    pub(super) fn entry_mut(&mut self, id: usize) -> &mut Entry {
        &mut self.zones[id]
    }
}

/// Says once that a zone's serial went backwards at its primaries.
pub(super) fn tell_lower(entry: &Entry, before: Option<Serial>) {
    let ours = entry.zone.as_ref().map(|zone| zone.serial().0);
    match (before, entry.refresh.lower()) {
        (None, Some(theirs)) => {
            let next = match entry.settings().on_lower_serial {
                LowerSerial::Keep => "ours stays until `backstop retransfer`",
                LowerSerial::AcceptAfterExpiry => {
                    "theirs is taken when the zone expires, or by `backstop retransfer`"
                }
                LowerSerial::Accept => "theirs is taken as soon as all primaries have a lower one",
            };
            error!(zone = %entry.apex, ours, theirs = theirs.0, next,
                "lower-serial: all primaries that answer have a lower serial than ours");
        }
        (Some(theirs), None) => {
            info!(zone = %entry.apex, ours, theirs = theirs.0, "no longer do all primaries that \
                answer have a lower serial");
        }
        _ => {}
    }
}

/// Where the store keeps the clock.
pub const CLOCK: &str = "clock";
