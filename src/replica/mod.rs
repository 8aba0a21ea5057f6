//! The scheduler: keeps every zone as its primaries have it.
//!
//! One thread with a timer a zone drives `refresh` and carries out what it asks for: questions to
//! primaries ([`ask`]), versions built on the builders' threads, kept by the store, and only then
//! published; NOTIFYs to our own secondaries; clients' UPDATEs on to the primaries. It never
//! parses megabytes, waits for a disk or serves a client.
//!
//! **Invariants.**
//! - *durable before served*: a version is published when its store ticket is done.
//! - *a broken transfer touches nothing*: what is served changes by publication alone.
//! - *together*: versions that are ready at the same time are published as one view.
//! - *told once*: each event is logged here, by who decides what happens next.
//!
//! **Sections.** RFC 1034 section 4.3.5, RFC 1995, RFC 1996, RFC 2136 section 6, RFC 5936.

mod approach;
mod ask;
mod compare;
mod connections;
mod course;
pub(crate) mod dial;
mod forward;
mod history;
mod inbox;
mod judge;
mod limits;
mod load;
mod notify;
mod probe;
mod program;
mod queue;
mod rollback;
mod sameness;
mod scheduler;
mod signatures;
mod status;
mod terms;
#[cfg(test)]
mod tests;
mod trouble;
mod versions;
mod zone;
mod zones;

pub use history::Note;
pub use limits::Options as Limits;
pub use load::{Loaded, load};
pub use rollback::Swapped;
pub use scheduler::CLOCK;
pub use status::{
    Counts, Doing, HeldStatus, LastTransfer, PrimaryStatus, SignaturesStatus, State,
    TransferStatus, ZoneStatus,
};

use crate::clock::Clock;
use crate::config::ZoneConfig;
use crate::name::NameBuf;
use crate::stats::Stats;
use crate::store::{Each, Snapshot, Store};
use crate::tsig::Keys;
use crate::view::{Identity, Views};
use crate::wire::Serial;
use crate::zone::{Diff, Zone};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use tokio::sync::{mpsc, oneshot};

/// A NOTIFY that came from one who may send it, its signature verified.
#[derive(Clone, Debug)]
pub struct Notified {
    /// The zone.
    pub apex: NameBuf,
    /// Who sent it.
    pub peer: SocketAddr,
    /// The serial that it told, if it did.
    pub serial: Option<Serial>,
}

/// An UPDATE from a client that may send it.
#[derive(Debug)]
pub struct Update {
    /// The zone.
    pub apex: NameBuf,
    /// Who sent it.
    pub peer: SocketAddr,
    /// As it came, its signature included.
    pub message: Vec<u8>,
    /// Where a primary's reply goes, with the ID of the message. Dropped: there is none.
    pub reply: oneshot::Sender<Vec<u8>>,
}

/// What clients have for the scheduler.
#[derive(Debug)]
pub enum Passed {
    /// A zone may have changed.
    Notify(Notified),
    /// A zone is to be changed.
    Update(Update),
}

/// Dropped when something is done.
type Applied = crossbeam::channel::Sender<Infallible>;

/// What the scheduler is to do.
enum Command {
    Check(NameBuf, Reply),
    Retransfer(NameBuf, Reply),
    Notify(NameBuf, oneshot::Sender<Result<usize, CommandError>>),
    Approve(NameBuf, rollback::Reply),
    Rollback { apex: NameBuf, serial: Option<Serial>, hold: bool, reply: rollback::Reply },
    History(NameBuf, oneshot::Sender<Result<Versions, CommandError>>),
    Status(NameBuf, oneshot::Sender<Option<ZoneStatus>>),
    Slice(usize, oneshot::Sender<Slice>),
    Count(oneshot::Sender<Counts>),
    Worst(usize, oneshot::Sender<Vec<ZoneStatus>>),
    Configure(Settings, Applied),
    Stop,
}

/// How some zones are.
struct Slice {
    zones: Vec<ZoneStatus>,
    /// Where the next ones begin, if there are more.
    next: Option<usize>,
}

type Reply = oneshot::Sender<Result<(), CommandError>>;

/// Why a command to the scheduler is not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// No such zone.
    #[error("no such zone is configured")]
    NoZone,
    /// There is nothing to approve.
    #[error("no version of it is held by a check")]
    NothingHeld,
    /// There is nothing to go back from, or to tell of.
    #[error("there is no version of it yet")]
    NoVersion,
    /// There is nothing to go back to.
    #[error("no such older version is held; `backstop history` tells which are")]
    NotHeld,
    /// The differences do not fit: a bug, or damage.
    #[error(
        "what is held of its history does not lead back; `backstop export` still tells what \
        is served"
    )]
    NotUndone,
    /// The disk.
    #[error("the store cannot keep it, nothing is changed; `backstop status` tells why")]
    NotStored,
    /// It would come in between.
    #[error("a version of it is being stored just now; try again in a moment")]
    Busy,
    /// The server is being stopped.
    #[error("the server is being stopped")]
    Stopping,
}

/// The versions held of a zone.
pub struct Versions {
    /// The one that is served, if there is one.
    pub served: Option<Arc<Zone>>,
    /// When and how that came, if it is known.
    pub since: Option<Note>,
    /// What led to it, the newest last, each with when and how it came.
    pub steps: Vec<(Arc<Diff>, Note)>,
    /// The one before all these, which is kept on disk alone.
    pub before: Option<Serial>,
    /// The one that is held by a check.
    pub held: Option<Arc<Zone>>,
}

/// NOTIFYs and UPDATEs that may wait for the scheduler. More are dropped: NOTIFYs are sent again by
/// their senders, and who sent an UPDATE is told.
const PASSED_MAX: usize = 4096;

/// Access to the scheduler from other threads.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    passed: mpsc::Sender<Passed>,
}

impl Handle {
    /// Has a NOTIFY heeded or an UPDATE forwarded, unless too many are waiting already. It does not
    /// block.
    pub fn pass(&self, passed: Passed) {
        let _ = self.passed.try_send(passed);
    }

    /// Asks the zone's primaries for a newer version now; a zone file is read anew.
    ///
    /// # Errors
    /// There is no such zone.
    pub async fn check(&self, apex: NameBuf) -> Result<(), CommandError> {
        self.command(|reply| Command::Check(apex, reply)).await
    }

    /// Transfers the whole zone anew.
    ///
    /// # Errors
    /// There is no such zone.
    pub async fn retransfer(&self, apex: NameBuf) -> Result<(), CommandError> {
        self.command(|reply| Command::Retransfer(apex, reply)).await
    }

    /// Tells our own secondaries of the version served. Returns how many are being told.
    ///
    /// # Errors
    /// There is no such zone, or no version of it.
    pub async fn notify(&self, apex: NameBuf) -> Result<usize, CommandError> {
        self.command(|reply| Command::Notify(apex, reply)).await
    }

    /// Serves the version that a check has refused.
    ///
    /// # Errors
    /// There is no such zone, no version of it is held, or the store cannot keep it.
    pub async fn approve(&self, apex: NameBuf) -> Result<Swapped, CommandError> {
        self.command(|reply| Command::Approve(apex, reply)).await
    }

    /// Serves the version `serial` again, or the one before what is served. Its successors up to
    /// what is served are not taken from a primary any more, with `hold` no version is, until one
    /// is approved.
    ///
    /// # Errors
    /// There is no such zone or version, or the store cannot keep it.
    pub async fn rollback(
        &self,
        apex: NameBuf,
        serial: Option<Serial>,
        hold: bool,
    ) -> Result<Swapped, CommandError> {
        self.command(|reply| Command::Rollback { apex, serial, hold, reply }).await
    }

    /// The versions held of a zone.
    ///
    /// # Errors
    /// There is no such zone.
    pub async fn history(&self, apex: NameBuf) -> Result<Versions, CommandError> {
        self.command(|reply| Command::History(apex, reply)).await
    }

    async fn command<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, CommandError>>) -> Command,
    ) -> Result<T, CommandError> {
        let (reply, result) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| CommandError::Stopping)?;
        result.await.map_err(|_| CommandError::Stopping)?
    }

    /// How a zone is; `None` if there is no such zone.
    pub async fn status(&self, apex: NameBuf) -> Option<ZoneStatus> {
        let (reply, status) = oneshot::channel();
        self.commands.send(Command::Status(apex, reply)).ok()?;
        status.await.ok()?
    }

    /// How all zones are, for a thread that may wait. They are asked for a few at a time, so that
    /// the scheduler is not held up by a million; with a reload in between, one may be missing or
    /// be told twice.
    pub fn statuses(&self) -> impl Iterator<Item = ZoneStatus> {
        let mut next = Some(0);
        let slices = std::iter::from_fn(move || {
            let (reply, slice) = oneshot::channel();
            self.commands.send(Command::Slice(next?, reply)).ok()?;
            let slice = slice.blocking_recv().ok()?;
            next = slice.next;
            Some(slice.zones)
        });
        slices.flatten()
    }

    /// How the zones are, in a few numbers. It costs a look at each zone, no text.
    pub async fn count(&self) -> Counts {
        let (reply, counts) = oneshot::channel();
        if self.commands.send(Command::Count(reply)).is_err() {
            return Counts::default();
        }
        counts.await.unwrap_or_default()
    }

    /// How up to `zones_max` zones are, those in trouble first.
    pub async fn worst(&self, zones_max: usize) -> Vec<ZoneStatus> {
        let (reply, status) = oneshot::channel();
        if self.commands.send(Command::Worst(zones_max, reply)).is_err() {
            return Vec::new();
        }
        status.await.unwrap_or_default()
    }

    /// Other settings from now on: what clients see of them has changed, as one, when this returns.
    /// It blocks until then.
    pub fn configure(&self, settings: Settings) {
        let (applied, done) = crossbeam::channel::bounded(0);
        // If the scheduler is gone, the server is being stopped: there is nothing to configure.
        let _ = self.commands.send(Command::Configure(settings, applied));
        // It ends when the scheduler has dropped its side: nothing is ever sent.
        let _ = done.recv();
    }

    /// Ends the scheduler once what is being stored is.
    pub fn stop(&self) {
        let _ = self.commands.send(Command::Stop);
    }
}

/// What can be changed while the server runs.
pub struct Settings {
    /// The zones.
    pub zones: Vec<ZoneConfig>,
    /// The keys that they name, and that clients may use.
    pub keys: Arc<Keys>,
    /// What the server says of itself.
    pub identity: Arc<Identity>,
}

/// What the scheduler works with.
pub struct Parts {
    /// Where versions are published.
    pub views: Arc<Views>,
    /// Where they are kept.
    pub store: Arc<Store>,
    /// What timers go by.
    pub clock: Clock,
    /// What is counted.
    pub stats: Arc<Stats>,
    /// How much is asked at once.
    pub limits: Limits,
    /// How many threads build versions.
    pub builders: usize,
    /// A folder of the scheduler's own, for what check programs are given.
    pub scratch: PathBuf,
}

/// Starts the scheduler's thread over the zones loaded.
///
/// # Errors
/// No thread or no runtime can be had.
pub fn start(parts: Parts, loaded: Loaded) -> io::Result<(Handle, JoinHandle<()>)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(parts.builders.max(1) + judge::CAREFUL_MAX)
        .thread_name("builder")
        .build()?;
    let (commands, of_commands) = mpsc::unbounded_channel();
    let (passed, of_passed) = mpsc::channel(PASSED_MAX);
    let thread = thread::Builder::new().name("scheduler".into()).spawn(move || {
        crate::io::wake_soon();
        let scheduler = scheduler::Scheduler::new(parts, loaded);
        runtime.block_on(scheduler.run(of_commands, of_passed));
    })?;
    Ok((Handle { commands, passed }, thread))
}

/// A version, for the store to walk.
struct Kept(Arc<Zone>);

impl Snapshot for Kept {
    fn entries_after(&self, after: Option<&[u8]>, each: &mut Each<'_>) {
        // Whether it was stopped or has ended is known to who stopped it.
        let _ = self.0.kept(after, each);
    }
}
