//! The keeper: the one thread that writes to LMDB.
//!
//! **How it fits.** It takes what `intake` passes on. A turn is: one transaction with all small
//! changes that wait (group commit over all zones; no timer: the flush in progress is the group),
//! then one slice of a big job, then one bounded step of deletion, so that nothing big is ever in
//! the way of something small for longer than a slice. Diffs that are in the log already wait for
//! more of them, or for a change that follows them.
//!
//! **Invariants.**
//! - *after the commit*: tickets are done, and what the keeper remembers is changed, only after the
//!   transaction that holds the change is committed; one that fails changes nothing.
//! - *in step*: a diff is kept only if it leads on from the version kept.
//! - *in order*: changes of a zone whose stage is being written wait behind it.
//! - *all of the log*: its records are applied in the order of their numbers, and the position is
//!   moved in the same transaction.
//!
//! When a commit fails (a full disk), the tickets of its group fail and the reason is in `disk`;
//! logged diffs and background work rest for a second. After an error that LMDB does not survive, the environment
//! is closed and opened again.

use super::ahead::Begun;
use super::format::{Id, ZoneKey};
use super::load::DATA_FILE;
use super::log::Position;
use super::reader::Reader;
use super::request::{Done, Logged, Read, Request};
use super::stage::{Goal, Stage};
use super::tables::{self, Environment, Tables, error};
use super::{Disk, Durability, Options, Shared, State, StoreError, lock};
use crate::io::forget_mapped;
use crossbeam::channel::{Receiver, RecvTimeoutError, TryRecvError};
use heed::RwTxn;
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What a turn writes of a big job: smaller slices write more in all, larger ones stall commits.
pub(super) const SLICE: usize = 512 * 1024;
/// The most a group commit holds, in octets (the last change may pass it) and in changes.
const GROUP_LEN: usize = 1024 * 1024;
const GROUP_COUNT: usize = 1024;
/// How long a logged diff waits for others. Longer means less to write in all, and more to replay.
const LAZY: Duration = Duration::from_millis(200);
/// How long timers may wait for their commit, and how long background work rests after an error.
const PAUSE: Duration = Duration::from_secs(1);
/// After so many changes, what they touched of the data file is taken out of this process's memory
/// once nothing waits. A page here and there each: some megabytes.
const FORGET_AFTER: usize = 512;
/// How many changes a slice of background work is as good as, and a step of deletion, which touches
/// every page that it frees.
const SLICE_CHANGES: usize = 8;
const DELETION_CHANGES: usize = 64;

/// The thread's state; what LMDB lends lives on its stack.
pub(super) struct Keeper {
    pub(super) dir: PathBuf,
    pub(super) options: Options,
    pub(super) requests: Receiver<Request>,
    pub(super) shared: Arc<Shared>,
    pub(super) position: Position,
    pub(super) next_id: Id,
    /// The next id as it is kept.
    pub(super) saved_id: Id,
    /// Zones removed from the configuration, and when.
    pub(super) retired: HashMap<ZoneKey, u64>,
    /// What is to be deleted.
    pub(super) doomed: VecDeque<Id>,
    /// Whole zones being written, in turn.
    stages: VecDeque<Stage>,
    /// Folds, one after the other, when there is no stage.
    folds: VecDeque<Stage>,
    /// Bases of zones that are still coming in.
    pub(super) begun_ahead: Vec<Begun>,
    /// What came for zones whose stage is being written.
    pub(super) waiting: HashMap<ZoneKey, VecDeque<Request>>,
    /// What came for them and may go on.
    pub(super) ready: VecDeque<Request>,
    /// What the next transaction is to hold, and when it is due at the latest.
    group: Vec<Request>,
    group_due: Option<Instant>,
    /// The thread that reads, once there was anything to read.
    reader: Option<Reader>,
    /// The senders are gone.
    closing: bool,
    /// Background work rests until then.
    rest_until: Instant,
    /// When timers were last kept.
    touched: Instant,
    /// Changes since what they touched was last forgotten.
    unforgotten: usize,
}

/// What a transaction will have done once it is committed.
#[derive(Default)]
pub(super) struct Outcome {
    /// Tickets, and what becomes of them.
    pub(super) acks: Vec<(Done, Result<(), StoreError>)>,
    /// More to delete.
    pub(super) doomed: Vec<Id>,
    /// Stages to go on with, and folds.
    pub(super) stages: Vec<Stage>,
    pub(super) folds: Vec<Stage>,
    /// Bases of zones that are still coming in, which it has written to.
    pub(super) begun_ahead: Vec<Begun>,
    /// Zones whose stage has ended.
    pub(super) finished: Vec<ZoneKey>,
    /// What ended in this transaction, but was begun in an earlier one.
    pub(super) begun: Vec<Id>,
    /// Zones to be read.
    pub(super) reads: Vec<Read>,
    /// Values of the caller's.
    pub(super) meta: Vec<(String, Vec<u8>)>,
    /// Whether zones are retired, as of now.
    pub(super) retired: Vec<(ZoneKey, Option<u64>)>,
    /// What has nothing left to delete.
    pub(super) deleted: Option<Id>,
    /// Diffs that the log has.
    pub(super) logged: Vec<Logged>,
    /// Timers of versions that are still on their way.
    pub(super) early: Vec<(ZoneKey, State)>,
}

/// Why the inner loop ended.
enum Ended {
    Closed,
    Broken,
}

/// A change failed: by itself, or with its transaction.
pub(super) enum Failed {
    Change(StoreError),
    Transaction(heed::Error),
}

impl From<heed::Error> for Failed {
    fn from(error: heed::Error) -> Self {
        Self::Transaction(error)
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Change(error)
    }
}

impl Keeper {
    pub(super) fn new(
        dir: PathBuf,
        options: Options,
        requests: Receiver<Request>,
        shared: Arc<Shared>,
        position: Position,
        next_id: Id,
    ) -> Self {
        Self {
            dir,
            options,
            requests,
            shared,
            position,
            next_id,
            saved_id: next_id,
            retired: HashMap::new(),
            doomed: VecDeque::new(),
            stages: VecDeque::new(),
            folds: VecDeque::new(),
            begun_ahead: Vec::new(),
            waiting: HashMap::new(),
            ready: VecDeque::new(),
            group: Vec::new(),
            group_due: None,
            reader: None,
            closing: false,
            rest_until: Instant::now(),
            touched: Instant::now(),
            unforgotten: 0,
        }
    }

    /// Serves until the store is dropped.
    pub(super) fn run(mut self) {
        loop {
            let opened = tables::open(&self.dir);
            let ended = opened.and_then(|env| {
                let tables = Tables::of(&env)?;
                *lock(&self.shared.env) = Some(env.clone());
                let ended = self.serve(&env, tables);
                // They hold the environment too, which cannot be opened twice.
                *lock(&self.shared.env) = None;
                self.reader = None;
                Ok(ended)
            });
            match ended {
                Ok(Ended::Closed) => return,
                Ok(Ended::Broken) => self.fail_all(&StoreError::Disk("reopening".into())),
                Err(failed) => {
                    let failed = self.note(&failed);
                    self.fail_all(&failed);
                }
            }
            if self.closing {
                return;
            }
        }
    }

    fn serve(&mut self, env: &Environment, tables: Tables<'_>) -> Ended {
        loop {
            let group = self.gather().into_iter();
            let (pieces, group): (Vec<_>, Vec<_>) = group.partition(Request::is_piece);
            let touches = self.due_touches();
            let mut result = Ok(());
            if !pieces.is_empty() {
                // Nothing small is to fail with what is large.
                self.unforgotten += pieces.len() * SLICE_CHANGES;
                result = self.commit_group(env, tables, pieces, HashMap::new());
            }
            if !group.is_empty() || !touches.is_empty() {
                let committed = self.commit_group(env, tables, group, touches);
                result = result.and(committed);
            }
            if result.is_ok() && (!self.stages.is_empty() || self.background_due()) {
                result = self.background(env, tables);
            }
            if let Err(heed::Error::Mdb(
                heed::MdbError::Panic | heed::MdbError::BadTxn | heed::MdbError::Corrupted,
            )) = result
            {
                return Ended::Broken;
            }
            self.forget_touched();
            let idle = self.ready.is_empty() && self.stages.is_empty();
            if self.closing && idle && self.requests.is_empty() && self.no_touches() {
                return Ended::Closed;
            }
        }
    }

    /// Forgets what was touched, if that is much and nothing waits.
    fn forget_touched(&mut self) {
        if self.unforgotten >= FORGET_AFTER && self.requests.is_empty() {
            self.unforgotten = 0;
            // It only counts as ours: the system takes it when it needs room.
            let _ = forget_mapped(&self.dir.join(DATA_FILE));
        }
    }

    fn no_touches(&self) -> bool {
        lock(&self.shared.touches).is_empty()
    }

    fn background_due(&self) -> bool {
        let work = !self.folds.is_empty() || !self.doomed.is_empty();
        work && !self.closing && self.rest_until <= Instant::now()
    }

    /// The next group of changes: what waits now, or the first that comes. Empty while it only
    /// holds diffs that can wait.
    fn gather(&mut self) -> Vec<Request> {
        let mut group = std::mem::take(&mut self.group);
        let mut len = group.iter().map(Request::len).sum();
        let mut waited = false;
        while !waited || group.len() < GROUP_COUNT && len < GROUP_LEN {
            let next = match self.ready.pop_front() {
                Some(request) => Some(request),
                None if !waited => self.first(),
                None => self.requests.try_recv().ok(),
            };
            waited = true;
            match next {
                None => break,
                Some(Request::Wake) => {}
                Some(request) => {
                    len += request.len();
                    group.push(request);
                }
            }
        }
        self.shared.queued.store(self.requests.len(), Ordering::Relaxed);
        if self.options.durability == Durability::Relaxed {
            self.relax(&mut group, len);
        }
        let can_wait = group.iter().all(|request| matches!(request, Request::Logged(_)));
        let full = group.len() >= GROUP_COUNT || len >= GROUP_LEN;
        if !can_wait || group.is_empty() {
            return group;
        }
        let now = Instant::now();
        let due = *self.group_due.get_or_insert(now + LAZY);
        let resting = self.rest_until > now;
        if due <= now || full && !resting || self.closing || self.touches_due() {
            return group;
        }
        self.group = group;
        Vec::new()
    }

    fn touches_due(&self) -> bool {
        self.touched.elapsed() >= PAUSE && !self.no_touches()
    }

    /// Waits for a change, unless there is something else to do.
    fn first(&mut self) -> Option<Request> {
        if !self.stages.is_empty() || self.background_due() || self.closing {
            let request = self.requests.try_recv();
            self.closing |= matches!(request, Err(TryRecvError::Disconnected));
            return request.ok();
        }
        let resting = !self.folds.is_empty() || !self.doomed.is_empty();
        let until = [
            resting.then_some(self.rest_until),
            (!self.no_touches()).then_some(self.touched + PAUSE),
            self.group_due,
        ];
        let until = until.into_iter().flatten().min();
        let request = match until {
            Some(until) => self.requests.recv_deadline(until),
            None => self.requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        self.closing |= matches!(request, Err(RecvTimeoutError::Disconnected));
        request.ok()
    }

    /// Relaxed durability: tickets are done at once, and the group goes on growing for a while.
    fn relax(&mut self, group: &mut Vec<Request>, mut len: usize) {
        let until = Instant::now() + PAUSE;
        let mut acknowledged = 0;
        loop {
            for done in group[acknowledged..].iter_mut().filter_map(Request::take_done) {
                done.send(Ok(()));
            }
            acknowledged = group.len();
            if group.is_empty() || group.len() >= GROUP_COUNT || len >= GROUP_LEN || self.closing {
                return;
            }
            match self.requests.recv_deadline(until) {
                Ok(request) => {
                    len += request.len();
                    group.push(request);
                }
                Err(end) => {
                    self.closing |= end == RecvTimeoutError::Disconnected;
                    return;
                }
            }
        }
    }

    /// The timers that have waited long enough.
    fn due_touches(&mut self) -> HashMap<ZoneKey, State> {
        let due = self.closing || self.touched.elapsed() >= PAUSE;
        let mut touches = lock(&self.shared.touches);
        if !due || touches.is_empty() {
            return HashMap::new();
        }
        self.touched = Instant::now();
        std::mem::take(&mut *touches)
    }

    /// One transaction with all of `group` and `touches`.
    fn commit_group(
        &mut self,
        env: &Environment,
        tables: Tables<'_>,
        group: Vec<Request>,
        touches: HashMap<ZoneKey, State>,
    ) -> heed::Result<()> {
        let mut outcome = Outcome::default();
        self.unforgotten += group.len() + touches.len();
        let written = env.write_txn().and_then(|mut txn| {
            self.write_group(tables, &mut txn, group, &mut outcome)?;
            for (key, state) in &touches {
                self.touch(tables, &mut txn, key, state, &mut outcome)?;
            }
            self.save_next_id(tables, &mut txn)?;
            self.save_position(tables, &mut txn, &outcome)?;
            txn.commit()
        });
        if written.is_err() && !self.closing {
            self.postpone(touches);
        }
        self.settle(env, written, outcome)
    }

    /// Keeps timers later, unless there are newer ones by then.
    fn postpone(&self, touches: impl IntoIterator<Item = (ZoneKey, State)>) {
        let mut waiting = lock(&self.shared.touches);
        for (key, state) in touches {
            waiting.entry(key).or_insert(state);
        }
    }

    fn save_position(
        &self,
        tables: Tables<'_>,
        txn: &mut RwTxn<'_>,
        outcome: &Outcome,
    ) -> heed::Result<()> {
        let Some(last) = outcome.logged.last() else { return Ok(()) };
        tables.put_position(txn, Position { applied: last.number, ..self.position })
    }

    /// A slice of the stages in turn, or else of the folds, and a step of deletion.
    fn background(&mut self, env: &Environment, tables: Tables<'_>) -> heed::Result<()> {
        let mut outcome = Outcome::default();
        let deletes = !self.doomed.is_empty() && self.background_due();
        self.unforgotten += SLICE_CHANGES + if deletes { DELETION_CHANGES } else { 0 };
        let written = env.write_txn().and_then(|mut txn| {
            let mut budget = SLICE;
            while budget > 0
                && let Some(stage) = self.stages.pop_front()
            {
                self.advance(tables, &mut txn, stage, &mut budget, &mut outcome)?;
            }
            if self.background_due() {
                while budget > 0
                    && let Some(fold) = self.folds.pop_front()
                {
                    self.advance(tables, &mut txn, fold, &mut budget, &mut outcome)?;
                }
                outcome.deleted = self.delete_step(tables, &mut txn)?;
            }
            self.save_next_id(tables, &mut txn)?;
            txn.commit()
        });
        self.settle(env, written, outcome)
    }

    /// Makes the outcome of a transaction known: to the keeper itself and to the tickets.
    fn settle(
        &mut self,
        env: &Environment,
        written: heed::Result<()>,
        outcome: Outcome,
    ) -> heed::Result<()> {
        match &written {
            Ok(()) => self.succeed(env, outcome),
            Err(failed) => {
                let failed = self.note(failed);
                self.fail(&failed, outcome);
            }
        }
        written
    }

    fn succeed(&mut self, env: &Environment, outcome: Outcome) {
        self.saved_id = self.next_id;
        if let Some(last) = outcome.logged.last() {
            self.position.applied = last.number;
            self.shared.applied.store(last.number, Ordering::Release);
        }
        self.group_due = None;
        self.postpone(outcome.early);
        if outcome.deleted.is_some() {
            self.doomed.pop_front();
        }
        self.doomed.extend(outcome.doomed);
        for key in &outcome.finished {
            self.release(key);
        }
        for stage in outcome.stages {
            self.waiting.entry(stage.key.clone()).or_default();
            self.stages.push_back(stage);
        }
        for fold in outcome.folds {
            self.offer_fold(fold);
        }
        self.begun_ahead.extend(outcome.begun_ahead);
        for read in outcome.reads {
            self.reader.get_or_insert_with(|| Reader::start(env.clone())).take(read);
        }
        lock(&self.shared.meta).extend(outcome.meta);
        for (key, at) in outcome.retired {
            match at {
                Some(at) => self.retired.insert(key, at),
                None => self.retired.remove(&key),
            };
        }
        let file_len = env.real_disk_size().unwrap_or_default();
        let now = Disk { file_len, ..Disk::default() };
        if std::mem::replace(&mut *lock(&self.shared.disk), now).error.is_some() {
            tracing::info!("the store commits again");
        }
        for (done, result) in outcome.acks {
            done.send(result);
        }
    }

    /// Nothing of the transaction is kept: neither small changes nor what its stages wrote before.
    /// Diffs that the log has are tried again.
    fn fail(&mut self, failed: &StoreError, outcome: Outcome) {
        if !outcome.logged.is_empty() {
            self.group.splice(..0, outcome.logged.into_iter().map(Request::Logged));
            self.group_due = Some(self.rest_until);
        }
        self.doomed.extend(outcome.begun);
        self.doomed.extend(outcome.begun_ahead.iter().map(|begun| begun.base.id));
        for key in &outcome.finished {
            self.release(key);
        }
        for stage in outcome.stages.into_iter().chain(outcome.folds) {
            self.abandon(stage, failed);
        }
        for (done, result) in outcome.acks {
            done.send(result.and_then(|()| Err(failed.clone())));
        }
    }

    /// Queues a fold, in the place of one of the same zone that has not begun.
    fn offer_fold(&mut self, fold: Stage) {
        match self.folds.iter_mut().find(|other| other.key == fold.key) {
            Some(other) if other.started() => {}
            Some(other) => *other = fold,
            None => self.folds.push_back(fold),
        }
    }

    /// Remembers why a transaction failed.
    fn note(&mut self, failed: &heed::Error) -> StoreError {
        let failed = error(failed);
        self.rest_until = Instant::now() + PAUSE;
        let mut disk = lock(&self.shared.disk);
        disk.full = matches!(failed, StoreError::Full(_));
        let before = disk.error.replace(failed.to_string());
        let is_news = before != disk.error;
        drop(disk);
        if is_news {
            tracing::error!(%failed, "the store's commit failed: nothing is kept until one works again");
        } else {
            tracing::debug!(%failed, "the store's commit failed again");
        }
        failed
    }

    /// Fails what waits, for a moment, so that nobody waits for a store that is broken.
    fn fail_all(&mut self, failed: &StoreError) {
        for stage in std::mem::take(&mut self.stages) {
            self.abandon(stage, failed);
        }
        self.folds.clear();
        self.doomed.extend(self.begun_ahead.drain(..).map(|begun| begun.base.id));
        let until = Instant::now() + PAUSE;
        loop {
            let request = match self.ready.pop_front() {
                Some(request) => Ok(request),
                None => self.requests.recv_deadline(until),
            };
            match request {
                Ok(Request::Logged(logged)) => self.group.push(Request::Logged(logged)),
                Ok(mut request) => {
                    if let Some(done) = request.take_done() {
                        done.send(Err(failed.clone()));
                    }
                }
                Err(end) => {
                    self.closing |= end == RecvTimeoutError::Disconnected;
                    return;
                }
            }
        }
    }

    /// Gives a stage up after a failure.
    fn abandon(&mut self, stage: Stage, failed: &StoreError) {
        if stage.started() {
            self.doomed.push_back(stage.base.id);
        }
        if let Goal::Replace { done, .. } = stage.goal {
            self.release(&stage.key);
            done.send(Err(failed.clone()));
        }
    }

    /// Lets the changes go on that waited for the stage of a zone.
    fn release(&mut self, key: &ZoneKey) {
        if let Some(waiting) = self.waiting.remove(key) {
            self.ready.extend(waiting);
        }
    }
}
