//! The intake: the thread that takes what `Store` queues, and makes diffs durable in the log.
//!
//! **How it fits.** A round takes all that waits. The diffs among it that lead on from what is kept
//! become one frame, and once that is on the disk their tickets are done; then everything goes on to
//! `keeper`, in its order. No timer: the flush in progress is the group. All other changes, and
//! diffs that the log has no room for, are done when the keeper has committed them, so that the
//! log is never waited for, and a store without one works as well.
//!
//! **Invariants.**
//! - *in step*: a diff is logged only if it leads on from what is kept: from the zone's last diff
//!   that is still on its way, or from its row if nothing is.
//! - *in order*: nothing is logged for a zone while another change of it is with the keeper, and
//!   nothing at all while a small value is, which may belong to any of them.

use super::format::{NO_BASE, ZoneKey};
use super::log::{Frame, Log, Position};
use super::request::{Append, Done, Logged, Request};
use super::tables::{Environment, Tables};
use super::{Shared, StoreError, lock};
use crossbeam::channel::{Receiver, Sender};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use tracing::{error, warn};

/// How many changes may wait for the keeper.
pub(super) const QUEUE_MAX: usize = 65_536;
/// The most changes in a round.
const ROUND: usize = 1024;
/// Diffs from this size on are not logged: LMDB writes them as fast.
const LOGGED_MAX: usize = 256 * 1024;

/// The thread's state.
pub(super) struct Intake {
    pub(super) requests: Receiver<Request>,
    pub(super) keeper: Sender<Request>,
    pub(super) shared: Arc<Shared>,
    /// `None` if it cannot be used, or tickets do not wait for the disk.
    log: Option<Log>,
}

impl Intake {
    pub(super) fn new(
        requests: Receiver<Request>,
        keeper: Sender<Request>,
        shared: Arc<Shared>,
    ) -> Self {
        Self { requests, keeper, shared, log: None }
    }

    /// Uses a log from now on, if it can be opened.
    pub(super) fn open_log(&mut self, dir: &Path, position: Position, len: u64) {
        let opened = Log::open(dir, position, len);
        self.log = opened.inspect_err(|error| warn!(%error, "the store works without a log")).ok();
    }

    /// Serves until the store is dropped.
    pub(super) fn run(mut self) {
        while let Ok(first) = self.requests.recv() {
            self.round(first);
        }
    }

    fn round(&mut self, first: Request) {
        let applied = self.shared.applied.load(Ordering::Acquire);
        let mut frame = self.log.as_ref().map(|log| log.frame(applied));
        let mut dones = Vec::new();
        let mut round = Vec::new();
        let mut next = Some(first);
        while let Some(request) = next {
            round.extend(match (request, &mut frame) {
                (Request::Append { append, done }, Some(frame)) => {
                    if self.log(&append, frame) {
                        dones.push(done);
                        Some(Request::Logged(self.logged(append, frame)))
                    } else {
                        self.direct(Request::Append { append, done })
                    }
                }
                (request, _) => self.direct(request),
            });
            next = if round.len() < ROUND { self.requests.try_recv().ok() } else { None };
        }
        if let (Some(log), Some(frame)) = (&mut self.log, frame)
            && !frame.is_empty()
            && let Err(error) = log.write(frame)
        {
            error!(%error, "the store's log failed: it is not used until the next start");
            self.log = None;
            round = self.unlogged(round, std::mem::take(&mut dones));
        }
        for done in dones {
            done.send(Ok(()));
        }
        for request in round {
            // The keeper outlives its only sender.
            self.keeper.send(request).ok();
        }
    }

    /// Puts a diff into the frame, if that is where it may go.
    fn log(&self, append: &Append, frame: &mut Frame) -> bool {
        append.diff.len() < LOGGED_MAX
            && self.leads_on(append)
            && frame.add(&append.key, &append.state, append.from, &append.diff)
    }

    fn leads_on(&self, append: &Append) -> bool {
        let ways = lock(&self.shared.under_way.0);
        if ways.values > 0 {
            return false;
        }
        let way = ways.zones.get(&append.key).copied();
        drop(ways);
        match way {
            Some(way) => way.direct == 0 && way.serial == append.from,
            None => lock(&self.shared.env).as_ref().is_some_and(|env| is_kept(env, append)),
        }
    }

    fn logged(&self, append: Append, frame: &Frame) -> Logged {
        let number = self.log.as_ref().map_or(0, |log| log.number(frame));
        let under_way = &self.shared.under_way;
        let claim = Claim::new(under_way, Some(&append.key), Some(append.state.serial));
        Logged { append, number, claim }
    }

    /// A change that the keeper commits by itself; `None` if it has too much to do already.
    fn direct(&self, mut request: Request) -> Option<Request> {
        let key = request.zone().cloned();
        let Some(done) = request.done() else { return Some(request) };
        if self.keeper.len() >= QUEUE_MAX {
            done.take().send(Err(StoreError::Busy));
            return None;
        }
        done.claim = Some(Claim::new(&self.shared.under_way, key.as_ref(), None));
        Some(request)
    }

    /// The changes of a round whose frame could not be written.
    fn unlogged(&self, round: Vec<Request>, dones: Vec<Done>) -> Vec<Request> {
        let mut dones = dones.into_iter();
        let again = |request| match request {
            Request::Logged(Logged { append, claim, .. }) => {
                drop(claim);
                self.direct(Request::Append { append, done: dones.next()? })
            }
            other => Some(other),
        };
        round.into_iter().filter_map(again).collect()
    }
}

/// Does the zone's row say that the version kept is the one that this leads on from?
fn is_kept(env: &Environment, append: &Append) -> bool {
    let row = || {
        let zones = Tables::zones(env).ok()??;
        let txn = env.read_txn().ok()?;
        let value = zones.get(&txn, append.key.as_bytes()).ok()??;
        super::format::Row::read(append.key.as_bytes(), value).ok()
    };
    // A retired one may be forgotten at any time.
    row().is_some_and(|row| {
        let retired = row.state.retired_at_ms.is_some();
        row.base != NO_BASE && !retired && row.state.serial == append.from
    })
}

/// The changes that are handed to the keeper and not committed yet.
#[derive(Default)]
pub(super) struct UnderWay(Mutex<Ways>);

impl UnderWay {
    /// Is any change of this zone?
    pub(super) fn has(&self, key: &ZoneKey) -> bool {
        lock(&self.0).zones.contains_key(key)
    }
}

#[derive(Default)]
struct Ways {
    zones: HashMap<ZoneKey, Way>,
    /// How many that are of no zone.
    values: u32,
}

/// A zone's.
#[derive(Clone, Copy, Default)]
struct Way {
    /// How many that are not logged, and how many that are.
    direct: u32,
    logged: u32,
    /// The serial that the last one logged leads to.
    serial: u32,
}

/// One change under way, until it is dropped.
pub(super) struct Claim {
    under_way: Arc<UnderWay>,
    key: Option<ZoneKey>,
    logged: bool,
}

impl Claim {
    /// Of a diff that is logged and leads to that serial, or of another change.
    fn new(under_way: &Arc<UnderWay>, key: Option<&ZoneKey>, logged: Option<u32>) -> Self {
        let mut ways = lock(&under_way.0);
        match (key, logged) {
            (None, _) => ways.values += 1,
            (Some(key), None) => ways.zones.entry(key.clone()).or_default().direct += 1,
            (Some(key), Some(serial)) => {
                let way = ways.zones.entry(key.clone()).or_default();
                (way.logged, way.serial) = (way.logged + 1, serial);
            }
        }
        drop(ways);
        Self { under_way: Arc::clone(under_way), key: key.cloned(), logged: logged.is_some() }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut ways = lock(&self.under_way.0);
        let Some(key) = self.key.take() else {
            ways.values -= 1;
            return;
        };
        let Entry::Occupied(mut entry) = ways.zones.entry(key) else { return };
        let way = entry.get_mut();
        let count = if self.logged { &mut way.logged } else { &mut way.direct };
        *count -= 1;
        if (way.direct, way.logged) == (0, 0) {
            entry.remove();
        }
    }
}
