//! Zones, their diffs and their timers on disk.
//!
//! **How it fits.** `replica` hands every new version to the store and publishes it when the
//! [`Ticket`] is done: *durable before served*. At start, [`Store::open`] and [`Opened::load`] give
//! back what was kept. The store knows names and opaque bytes, nothing of messages or records.
//! `intake` takes what is handed over, makes diffs durable in the `log`, one flush for all that
//! wait, and gives everything to the `keeper`, which brings it into LMDB.
//!
//! A zone is kept as a *base*, its whole content at some serial, and the *diffs* since; older diffs
//! stay for outgoing IXFR. When the diffs outgrow a tenth of the base, the keeper *folds* them: it
//! writes a new base from the snapshot that came with the last diff, in slices between commits. Where
//! a whole zone comes in the place of another, that one can be kept beside it, to go back to. What
//! has come of a large zone can be written while the rest is on its way (`ahead`).
//!
//! The files in the state directory: `lock` (one process at a time), `data.mdb` and `lock.mdb`
//! (LMDB), `log.0` and `log.1` (diffs on their way to LMDB, 8 MiB each), `damaged/` (what was set
//! aside), `new/` (a store being created).
//!
//! **Invariants.**
//! - *durable*: a ticket is done after the flush of the log or of the commit that holds its change
//!   (unless [`Durability::Relaxed`]); what it acknowledged survives any crash or power loss.
//! - *whole*: a zone is found as one of its acknowledged versions or a later one, never a mixture.
//! - *sealed*, *chunked*, *checked*: see `format`.
//! - *inspected*: LMDB maps the file only after ordinary reads have shown that it is complete and
//!   that every page is what its parent says, since a bad page in a mapping is a signal, not an
//!   error (`inspect`). What can be read of any other is put into a new one (`salvage`).
//! - *one writer*: a single thread, the keeper, holds every write transaction.
//!
//! **Sections.** RFC 1982 (serials wrap: diffs are numbered apart from them), RFC 1995 (history).
//!
//! It never serves: a version that is not in memory is read at start, or when its zone is
//! configured again. It does not shrink its file: the room of what was deleted is used again.

mod ahead;
mod change;
mod format;
mod inspect;
mod intake;
mod keeper;
mod layout;
mod load;
mod log;
mod reader;
mod replay;
mod request;
mod salvage;
mod sector;
mod stage;
mod stored;
mod tables;
#[cfg(test)]
mod tests;

pub use ahead::Ahead;
pub use change::DIFF_MAX;
pub use load::Opened;
pub use stored::{Diff, Diffs, Entries, Stored};

use crate::name::{Key, Name, NameBuf};
use crate::tree::Tree;
use crossbeam::channel::{self, Sender};
use format::ZoneKey;
use intake::{QUEUE_MAX, UnderWay};
use request::{Append, Done, Read, Request, Which};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;
use tables::Environment;
use tokio::sync::oneshot;

/// The zones kept in a state directory; dropped, it finishes what is queued and closes.
pub struct Store {
    requests: Arc<Sender<Request>>,
    shared: Arc<Shared>,
    /// The intake and the keeper, in the order in which they end.
    threads: Vec<JoinHandle<()>>,
}

impl Store {
    /// Locks the state directory, creating it and an empty store where there is none.
    ///
    /// # Errors
    /// Another process has the directory, or the file there is foreign, of another format or page
    /// size. It is left exactly as it was then. A damaged one is salvaged.
    pub fn open(dir: &Path, options: Options) -> Result<Opened, StoreError> {
        Opened::new(dir, options)
    }

    /// Keeps a whole zone: the version `state.serial`, whose content `snapshot` gives.
    ///
    /// Written in slices under an id of its own, so that commits for other zones go in between,
    /// and made the zone's base in one step at the end.
    pub fn replace(
        &self,
        apex: Name<'_>,
        state: State,
        history: History,
        snapshot: impl Snapshot,
    ) -> Ticket {
        self.replace_ahead(apex, state, history, snapshot, None)
    }

    /// As [`replace`](Self::replace), of a zone that was written `ahead` in part: with what is the
    /// beginning of `snapshot`, entry by entry.
    pub fn replace_ahead(
        &self,
        apex: Name<'_>,
        state: State,
        history: History,
        snapshot: impl Snapshot,
        ahead: Option<Ahead>,
    ) -> Ticket {
        let key = ZoneKey::of(apex);
        self.ask(|done| {
            let snapshot = Arc::new(snapshot);
            Request::Replace { key, state, history, snapshot, ahead, done }
        })
    }

    /// Room for a zone that is about to come in. Nothing is written before anything is pushed.
    pub fn ahead(&self) -> Ahead {
        let number = self.shared.aheads.fetch_add(1, Ordering::Relaxed);
        Ahead::new(Arc::downgrade(&self.requests), number)
    }

    /// Keeps one more version: the bytes that lead from serial `from` to `state.serial`, and a
    /// snapshot of that new version, which is what a fold writes.
    ///
    /// # Errors
    /// The ticket fails with [`StoreError::OutOfStep`] if the version kept is not `from`: then
    /// [`replace`](Self::replace) is the way.
    pub fn append(
        &self,
        apex: Name<'_>,
        state: State,
        from: u32,
        diff: Vec<u8>,
        snapshot: impl Snapshot,
    ) -> Ticket {
        let key = ZoneKey::of(apex);
        self.ask(|done| {
            let append = Append { key, state, from, diff, snapshot: Arc::new(snapshot) };
            Request::Append { append, done }
        })
    }

    /// Keeps new timers for the version `state.serial`, within about a second.
    ///
    /// Ignored if another version is kept by then. A zone that has no data yet gets a row of its
    /// own if the state says so too.
    pub fn touch(&self, apex: Name<'_>, state: State) {
        let first = {
            let mut touches = lock(&self.shared.touches);
            let first = touches.is_empty();
            touches.insert(ZoneKey::of(apex), state);
            first
        };
        if first {
            self.send(Request::Wake).ok();
        }
    }

    /// Marks a zone as removed from the configuration at `at_ms`; any later state without
    /// `retired_at_ms` takes the mark off.
    pub fn retire(&self, apex: Name<'_>, at_ms: u64) -> Ticket {
        let key = ZoneKey::of(apex);
        lock(&self.shared.touches).remove(&key);
        self.ask(|done| Request::Retire { key, at_ms, done })
    }

    /// Forgets the zones that have been retired for longer than [`Options::keep_removed`].
    pub fn sweep(&self, now_ms: u64) {
        self.send(Request::Sweep { now_ms }).ok();
    }

    /// Forgets a zone; its data is deleted in bounded steps afterwards.
    pub fn forget(&self, apex: Name<'_>) -> Ticket {
        let key = ZoneKey::of(apex);
        lock(&self.shared.touches).remove(&key);
        self.ask(|done| Request::Forget { key, done })
    }

    /// Reads what is kept of a zone, as it is after all changes handed over before: `with` is
    /// called on a thread of the store's own, and what it makes of the zone is given back. `None`
    /// if there is nothing, or it cannot be read.
    ///
    /// Until `with` returns, the file may grow rather than use room again.
    pub fn read<T: Send + 'static>(
        &self,
        apex: Name<'_>,
        with: impl FnOnce(Result<Stored<'_>, Damage>) -> T + Send + 'static,
    ) -> Pin<Box<dyn Future<Output = Option<T>> + Send>> {
        self.read_one(apex, Which::Newest, with)
    }

    /// As [`read`](Self::read), the version in whose place the newest whole zone came, if it was
    /// kept ([`History::Before`]).
    pub fn read_before<T: Send + 'static>(
        &self,
        apex: Name<'_>,
        with: impl FnOnce(Result<Stored<'_>, Damage>) -> T + Send + 'static,
    ) -> Pin<Box<dyn Future<Output = Option<T>> + Send>> {
        self.read_one(apex, Which::Before, with)
    }

    fn read_one<T: Send + 'static>(
        &self,
        apex: Name<'_>,
        which: Which,
        with: impl FnOnce(Result<Stored<'_>, Damage>) -> T + Send + 'static,
    ) -> Pin<Box<dyn Future<Output = Option<T>> + Send>> {
        let (given, made) = oneshot::channel();
        let with = Box::new(move |stored: Option<Result<Stored<'_>, Damage>>| {
            given.send(stored.map(with)).ok();
        });
        // If it cannot be sent, it is dropped, and with it the sender.
        self.send(Request::Read(Read { key: ZoneKey::of(apex), which, with })).ok();
        Box::pin(async move { made.await.ok().flatten() })
    }

    /// A small value of the caller's own.
    pub fn meta(&self, key: &str) -> Option<Vec<u8>> {
        lock(&self.shared.meta).get(key).cloned()
    }

    /// Is there a value of the caller's own whose key begins so?
    pub fn has_meta(&self, prefix: &str) -> bool {
        lock(&self.shared.meta).keys().any(|key| key.starts_with(prefix))
    }

    /// Keeps a small value of the caller's own: a key of 1-100 octets, a value of 1,000 at most.
    ///
    /// What is handed over afterwards is never kept without it.
    pub fn put_meta(&self, key: &str, value: &[u8]) -> Ticket {
        assert!((1..=100).contains(&key.len()) && value.len() <= 1000, "meta values are small");
        let (key, value) = (key.to_owned(), value.to_vec());
        self.ask(|done| Request::PutMeta { key, value, done })
    }

    /// How the disk is, for `status`.
    pub fn disk(&self) -> Disk {
        let queued = self.requests.len() + self.shared.queued.load(Ordering::Relaxed);
        Disk { queued, ..lock(&self.shared.disk).clone() }
    }

    fn ask(&self, request: impl FnOnce(Done) -> Request) -> Ticket {
        let (done, ticket) = oneshot::channel();
        let ticket = Ticket(ticket);
        match self.send(request(Done::new(done))) {
            Ok(()) => ticket,
            Err(error) => Ticket::failed(error),
        }
    }

    fn send(&self, request: Request) -> Result<(), StoreError> {
        // Not the channel's own bound: one with a bound has all of its places in memory.
        if self.requests.len() >= QUEUE_MAX {
            return Err(StoreError::Busy);
        }
        self.requests.send(request).map_err(|_| StoreError::Closed)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let (none, _) = channel::bounded(0);
        drop(std::mem::replace(&mut self.requests, Arc::new(none)));
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

/// What `replace` does with the diffs kept so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// Drop them: they do not lead to the new version.
    Drop,
    /// Keep them: the new version has the serial that they lead to.
    Keep,
    /// Drop them, but keep the version that they lead to beside the new one, in the place of any
    /// kept so before ([`Store::read_before`]): nothing is written for that.
    Before,
}

/// What a snapshot calls with key and blob of each entry, until it breaks.
pub type Each<'e> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'e;

/// The content of one version, which the keeper walks in slices, in a thread of its own.
///
/// The entries must be the same on every call, whatever happens to the zone in between.
pub trait Snapshot: Send + Sync + 'static {
    /// Calls `each` with key and blob of the entries after the key `after` (from the first one if
    /// there is none), in order, until it breaks. A key has 254 octets at most, a blob less than
    /// 4 GiB.
    fn entries_after(&self, after: Option<&[u8]>, each: &mut Each<'_>);
}

impl<V: Clone + Send + Sync + 'static> Snapshot for Tree<V> {
    fn entries_after(&self, after: Option<&[u8]>, each: &mut Each<'_>) {
        let from = match after {
            Some(key) => Key::from_bytes(key).expect("the key of an entry of this tree"),
            None => {
                let first = Key::empty();
                if let Some((blob, _)) = self.get(&first)
                    && each(first.as_bytes(), blob).is_break()
                {
                    return;
                }
                first
            }
        };
        for entry in self.after(&from) {
            if each(entry.key.to_key().as_bytes(), entry.blob).is_break() {
                return;
            }
        }
    }
}

/// What is kept about a zone besides its data. Times are milliseconds of the caller's clock.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct State {
    /// The serial of the version kept.
    pub serial: u32,
    /// Is there any version? The store says so itself after `replace` and `append`.
    pub has_data: bool,
    /// The last good contact with a primary.
    pub contact_ms: u64,
    /// When to ask next.
    pub refresh_at_ms: u64,
    /// When the data is no longer to be served (RFC 1035 section 3.3.13).
    pub expires_at_ms: u64,
    /// The interval of expiry in force, in seconds.
    pub expire_s: u32,
    /// The primary of the last good contact.
    pub primary: Option<SocketAddr>,
    /// When the zone was removed from the configuration, if it was.
    pub retired_at_ms: Option<u64>,
}

/// How the store is to work.
#[derive(Clone, Debug)]
pub struct Options {
    /// When a ticket is done.
    pub durability: Durability,
    /// How many diffs older than the base are kept for outgoing IXFR, at most; together they are
    /// never larger than the base.
    pub history_versions: u64,
    /// How long a retired zone's data is kept.
    pub keep_removed: Duration,
    /// Octets of each of the log's two files.
    pub log_len: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::Commit,
            history_versions: 100,
            keep_removed: Duration::from_hours(7 * 24),
            log_len: 8 << 20,
        }
    }
}

/// When a ticket is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When the change is on the disk.
    Commit,
    /// When the change is queued: a commit a second. A crash may lose that second, never more,
    /// and never damages the store.
    Relaxed,
}

/// The promise of a change: wait for it in a thread, or await it.
#[must_use = "a version may be served only after its ticket is done"]
#[derive(Debug)]
pub struct Ticket(oneshot::Receiver<Result<(), StoreError>>);

impl Ticket {
    /// Waits until the change is kept. Not for asynchronous code, which awaits the ticket.
    ///
    /// # Errors
    /// The change is not kept; the store goes on with what it had.
    pub fn wait(self) -> Result<(), StoreError> {
        self.0.blocking_recv().unwrap_or(Err(StoreError::Closed))
    }

    fn failed(error: StoreError) -> Self {
        let (done, ticket) = oneshot::channel();
        done.send(Err(error)).ok();
        Self(ticket)
    }
}

impl Future for Ticket {
    type Output = Result<(), StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|done| done.unwrap_or(Err(StoreError::Closed)))
    }
}

/// How the disk is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Octets of the data file.
    pub file_len: u64,
    /// Changes that wait to be written.
    pub queued: usize,
    /// Why the last commit failed; `None` after one that did not.
    pub error: Option<String>,
    /// Was it for want of room?
    pub full: bool,
}

/// A zone, or what may be one, that was not found as it was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {what}; {}", zone_text(.apex.as_ref()), aside_text(.aside.as_ref()))]
pub struct Damage {
    /// The zone; `None` if not even its name could be read.
    pub apex: Option<NameBuf>,
    /// What is damaged.
    pub what: String,
    /// The file that its values were moved to; `None` if that failed and they were left in place.
    pub aside: Option<PathBuf>,
}

fn zone_text(apex: Option<&NameBuf>) -> String {
    apex.map_or_else(|| "a zone whose name is lost".into(), NameBuf::to_string)
}

fn aside_text(aside: Option<&PathBuf>) -> String {
    aside.map_or_else(
        || "its values are left in place until the zone is replaced".into(),
        |path| format!("its values were moved to {}", path.display()),
    )
}

/// Why the store cannot be opened or a change is not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The state directory is in use.
    #[error("{}: another process uses this state directory; stop it or choose another", .0.display())]
    Locked(PathBuf),
    /// The data file was not written by a store.
    #[error(
        "{}: not a store of Backstop ({what}); move the file away or choose another state directory",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What shows it.
        what: String,
    },
    /// The store has another format.
    #[error(
        "{}: the store has format {found}, this version knows {}: use the version that wrote it, \
         or move the file away (every zone is then transferred anew)",
        path.display(), format::FORMAT
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The store was written on a machine with another page size.
    #[error(
        "{}: written with pages of {found} octets, this machine has {here}: move the file away \
         (every zone is then transferred anew)",
        path.display()
    )]
    PageSize {
        /// The file.
        path: PathBuf,
        /// Its page size.
        found: u64,
        /// This machine's.
        here: u64,
    },
    /// The file ends too early.
    #[error(
        "{}: cut: {found} octets where {expected} are in use; restore the file or move it away \
         (every zone is then transferred anew)",
        path.display()
    )]
    Cut {
        /// The file.
        path: PathBuf,
        /// Its length.
        found: u64,
        /// The least length it should have.
        expected: u64,
    },
    /// The structure of the file is damaged.
    #[error(
        "{}: {what}; restore the file or move it away (every zone is then transferred anew)",
        path.display()
    )]
    Structure {
        /// The file.
        path: PathBuf,
        /// What is damaged.
        what: String,
    },
    /// What is kept of the zone is damaged: replace the zone.
    #[error("{what}; the zone must be replaced")]
    Damaged {
        /// What is damaged.
        what: String,
    },
    /// The diff does not lead on from the version kept: replace the zone.
    #[error("a diff from serial {from} does not apply: {}", kept_text(*kept))]
    OutOfStep {
        /// The version kept, if any.
        kept: Option<u32>,
        /// Where the diff begins.
        from: u32,
    },
    /// There is no room left on the disk; the store works again when there is.
    #[error("the disk is full: {0}")]
    Full(String),
    /// The disk or LMDB failed.
    #[error("the store's disk failed: {0}")]
    Disk(String),
    /// Too many changes wait already.
    #[error("the store is behind with its work; try again later")]
    Busy,
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

fn kept_text(kept: Option<u32>) -> String {
    kept.map_or_else(|| "nothing is kept".into(), |serial| format!("serial {serial} is kept"))
}

/// What the threads and their callers share.
#[derive(Default)]
struct Shared {
    touches: Mutex<HashMap<ZoneKey, State>>,
    meta: Mutex<BTreeMap<String, Vec<u8>>>,
    disk: Mutex<Disk>,
    /// The environment while the keeper has it open.
    env: Mutex<Option<Environment>>,
    under_way: Arc<UnderWay>,
    /// The last record of the log that is in LMDB.
    applied: AtomicU64,
    /// What waits for the keeper.
    queued: AtomicUsize,
    /// How many zones were about to come in.
    aheads: AtomicU64,
}

/// No holder of these locks leaves anything half done, so a panic elsewhere changes nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
