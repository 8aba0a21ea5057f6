//! The server's side of the control socket.

use super::history::write_changes;
use super::{
    Answers, Changes, Done, Exported, History, PATIENCE, Refused, Request, ServerStatus, Status,
};
use crate::clock::Clock;
use crate::io::xdp::Reporter;
use crate::name::NameBuf;
use crate::replica::{CommandError, Handle, Swapped, Versions};
use crate::stats::{Latency, Stats};
use crate::store::Disk;
use crate::view::Views;
use crate::wire::Serial;
use crate::zone::{self, Diff, Zone};
use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, BufRead as _, BufWriter, Read as _, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::sync::Semaphore;
use tokio::time;
use tracing::{debug, info, warn};

/// Clients at a time; more are told to come back.
const CLIENTS_MAX: usize = 64;

/// How long a client may take to say what it wants.
const REQUEST_TIME: Duration = Duration::from_secs(10);

/// Octets of the longest request: a name escaped throughout, and what is around it.
const REQUEST_MAX: u64 = 4096;

/// Clients that the system keeps waiting before it refuses them.
const BACKLOG: i32 = 128;

/// What commands are carried out with.
pub struct Parts {
    /// Who keeps the zones.
    pub replica: Handle,
    /// What is served.
    pub views: Arc<Views>,
    /// What zones expire by.
    pub clock: Clock,
    /// What is counted.
    pub stats: Arc<Stats>,
    /// How the store's disk is.
    pub disk: Box<dyn Fn() -> Disk + Send + Sync>,
    /// How AF_XDP is.
    pub xdp: Reporter,
    /// Reads the configuration anew; it may block. What to tell the client, or why nothing
    /// changed.
    pub reload: Box<dyn Fn() -> Result<String, String> + Send + Sync>,
}

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another server answers there.
    #[error(
        "{}: another server is using this control socket; stop it, or set another `control`",
        .0.display()
    )]
    InUse(PathBuf),
    /// What is there is not ours to remove.
    #[error("{}: there is something else than a socket; set another `control`", .0.display())]
    Foreign(PathBuf),
    /// The system does not let us.
    #[error("{}: the control socket cannot be made: {error}", path.display())]
    System {
        /// Where.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
}

/// A control socket that clients can connect to; dropped, its file is removed.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    /// Device and inode, to remove no one else's.
    file: (u64, u64),
}

impl Listener {
    /// Listens at `path`; its folder is created if there is none. The socket of a dead server
    /// is replaced.
    ///
    /// # Errors
    /// Another server is living there, or something else is, or the system does not let us.
    pub fn bind(path: &Path) -> Result<Self, ListenError> {
        let failed = |error| ListenError::System { path: path.to_owned(), error };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o750).create(folder).map_err(failed)?;
        }
        let socket = match bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_stale(path)?;
                bind(path)
            }
            bound => bound,
        };
        let socket = socket.map_err(failed)?;
        let file = identity(path).map_err(failed)?;
        Ok(Self { socket, path: path.to_owned(), file })
    }

    /// Tells a client that waits, if one does, why nothing can be asked yet.
    pub fn refuse(&self, why: &str) {
        if let Ok((client, _)) = self.socket.accept() {
            // Who has gone need not be told.
            let _ = refuse(&client, why);
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            // What is left behind is found stale by the next server.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// How long a client is waited for that is not served yet.
const REFUSAL_TIME: Duration = Duration::from_millis(200);

fn refuse(mut client: &UnixStream, why: &str) -> io::Result<()> {
    client.set_read_timeout(Some(REFUSAL_TIME))?;
    client.set_write_timeout(Some(REFUSAL_TIME))?;
    // What it wants must be read, or it would see a broken connection (unix(7)).
    let mut request = String::new();
    io::BufReader::new(client.take(REQUEST_MAX)).read_line(&mut request)?;
    let refused = Refused { error: why.to_owned() };
    client.write_all(&[&serde_json::to_vec(&refused)?[..], b"\n"].concat())
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Makes a socket that is its owner's alone before it has a name (unix(7): the mode of the
/// socket is that of its file).
fn bind(path: &Path) -> io::Result<UnixListener> {
    let socket = File::from(OwnedFd::from(Socket::new(Domain::UNIX, Type::STREAM, None)?));
    socket.set_permissions(Permissions::from_mode(0o600))?;
    let socket = Socket::from(OwnedFd::from(socket));
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(UnixListener::from(OwnedFd::from(socket)))
}

fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let failed = |error| ListenError::System { path: path.to_owned(), error };
    if !fs::symlink_metadata(path).map_err(failed)?.file_type().is_socket() {
        return Err(ListenError::Foreign(path.to_owned()));
    }
    // A living server that is too busy to take us answers "would block": only one that is gone
    // refuses.
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
    probe.set_nonblocking(true).map_err(failed)?;
    let address = SockAddr::unix(path).map_err(failed)?;
    match probe.connect(&address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => Err(ListenError::InUse(path.to_owned())),
    }
}

/// Serves clients until it is dropped; its runtime must have a blocking thread for each client. A
/// reply under way may still wait for its client for half a minute: end the runtime with
/// `shutdown_timeout`.
///
/// # Errors
/// There is no tokio runtime with I/O.
pub async fn serve(listener: Listener, parts: Parts) -> io::Result<()> {
    let socket = tokio::net::UnixListener::from_std(listener.socket.try_clone()?)?;
    let parts = Arc::new(parts);
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    let mut clients = tokio::task::JoinSet::new();
    loop {
        while clients.try_join_next().is_some() {}
        let client = match socket.accept().await {
            Ok((client, _)) => client,
            Err(error) => {
                // Out of files, most likely: waiting is all that helps.
                warn!(%error, "a control client cannot be taken");
                time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let parts = Arc::clone(&parts);
        let place = Arc::clone(&places).try_acquire_owned();
        clients.spawn(async move {
            let served = match place {
                Ok(_place) => converse(client, parts).await,
                Err(_) => {
                    let error = "too many control clients at once; try again".into();
                    send(client, Reply::Refused(error)).await
                }
            };
            if let Err(error) = served {
                debug!(%error, "a control client was lost");
            }
        });
    }
}

/// What is sent to a client.
enum Reply {
    Status(Status),
    Statuses(Status<Statuses>),
    Server(ServerStatus),
    Done(String),
    Refused(String),
    Zone(Exported, Arc<Zone>),
    History(History),
    Changes(Changes, Arc<Diff>),
}

async fn converse(client: tokio::net::UnixStream, parts: Arc<Parts>) -> io::Result<()> {
    let mut client = BufReader::new(client);
    let mut line = Vec::new();
    let mut limited = (&mut client).take(REQUEST_MAX);
    let read = time::timeout(REQUEST_TIME, limited.read_until(b'\n', &mut line)).await;
    let reply = match read {
        Err(_) => Reply::Refused("no request came in time".into()),
        Ok(Err(error)) => return Err(error),
        Ok(Ok(0)) => return Ok(()),
        Ok(Ok(_)) => match request(&line) {
            Ok(request) => carry_out(request, parts).await.unwrap_or_else(Reply::Refused),
            Err(error) => Reply::Refused(error),
        },
    };
    send(client.into_inner(), reply).await
}

fn request(line: &[u8]) -> Result<Request, String> {
    let Some(line) = line.strip_suffix(b"\n") else {
        return Err(format!("the request is no line of {REQUEST_MAX} octets at the most"));
    };
    serde_json::from_slice(line).map_err(|error| format!("the request is not understood: {error}"))
}

async fn carry_out(request: Request, parts: Arc<Parts>) -> Result<Reply, String> {
    match request {
        Request::Status { zone } => status(zone, &parts).await,
        Request::Server {} => Ok(Reply::Server(server_status(&parts).await)),
        Request::Refresh { zone } => {
            let apex = apex(&zone)?;
            info!(zone = %apex, "to be refreshed now, as asked on the control socket");
            let checked = parts.replica.check(apex.clone()).await;
            checked.map_err(|error| refusal(&apex, error))?;
            let (file, primaries) = ("its file is being read", "the primaries are being asked");
            Ok(Reply::Done(format!("{apex}: {}", of(&apex, &parts, file, primaries).await)))
        }
        Request::Retransfer { zone } => {
            let apex = apex(&zone)?;
            info!(zone = %apex, "to be transferred anew, as asked on the control socket");
            let asked = parts.replica.retransfer(apex.clone()).await;
            asked.map_err(|error| refusal(&apex, error))?;
            let (file, primaries) =
                ("its file is being read", "the whole zone is being transferred");
            Ok(Reply::Done(format!("{apex}: {}", of(&apex, &parts, file, primaries).await)))
        }
        Request::Notify { zone } => {
            let apex = apex(&zone)?;
            match parts.replica.notify(apex.clone()).await {
                Err(error) => Err(refusal(&apex, error)),
                Ok(0) => Err(format!("{apex}: its `notify` lists no server")),
                Ok(1) => Ok(Reply::Done(format!("{apex}: one server is being told"))),
                Ok(many) => Ok(Reply::Done(format!("{apex}: {many} servers are being told"))),
            }
        }
        Request::Approve { zone } => {
            let apex = apex(&zone)?;
            let approved = parts.replica.approve(apex.clone()).await;
            let to = approved.map_err(|error| refusal(&apex, error))?.to;
            Ok(Reply::Done(format!("{apex}: serial {to} is served")))
        }
        Request::Rollback { zone, serial, hold } => {
            let apex = apex(&zone)?;
            let rolled_back = parts.replica.rollback(apex.clone(), serial.map(Serial), hold).await;
            rolled_back
                .map(|swapped| Reply::Done(rolled_back_text(&apex, swapped, hold)))
                .map_err(|error| refusal(&apex, error))
        }
        Request::History { zone } => history(&zone, &parts).await,
        Request::Changes { zone, serial } => changes(&zone, serial, &parts).await,
        Request::Export { zone } => export(&zone, &parts),
        Request::Reload {} => {
            let reload = tokio::task::spawn_blocking(move || (parts.reload)());
            let reloaded = reload.await.unwrap_or_else(|error| Err(error.to_string()));
            reloaded.map(Reply::Done)
        }
    }
}

/// What fits where the zone comes from: a file or primaries.
async fn of(
    apex: &NameBuf,
    parts: &Parts,
    file: &'static str,
    primaries: &'static str,
) -> &'static str {
    let status = parts.replica.status(apex.clone()).await;
    if status.is_some_and(|status| super::table::is_from_file(&status)) { file } else { primaries }
}

fn apex(zone: &str) -> Result<NameBuf, String> {
    zone.parse().map_err(|error| format!("\"{zone}\" is no domain name: {error}"))
}

fn refusal(apex: &NameBuf, error: CommandError) -> String {
    format!("{apex}: {error}")
}

async fn status(zone: Option<String>, parts: &Parts) -> Result<Reply, String> {
    let told = parts.xdp.report();
    let mut warnings = warnings(&(parts.disk)());
    warnings.extend(told.iter().filter(|told| told.trouble.is_some()).map(ToString::to_string));
    let io = told.iter().map(ToString::to_string).collect();
    let Some(zone) = zone else {
        let zones = Statuses(parts.replica.clone());
        return Ok(Reply::Statuses(Status { warnings, io, zones }));
    };
    let apex = apex(&zone)?;
    let one = parts.replica.status(apex.clone()).await;
    let one = one.ok_or_else(|| refusal(&apex, CommandError::NoZone))?;
    Ok(Reply::Status(Status { warnings, io, zones: vec![one] }))
}

/// All zones, asked for while they are written.
struct Statuses(Handle);

impl Serialize for Statuses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.statuses())
    }
}

async fn server_status(parts: &Parts) -> ServerStatus {
    let replicated = parts.stats.replicated.each();
    let counted = parts.stats.served().into_iter().chain(replicated);
    ServerStatus {
        version: env!("CARGO_PKG_VERSION").into(),
        up_s: parts.stats.up().as_secs(),
        warnings: warnings(&(parts.disk)()),
        zones: parts.replica.count().await,
        counted: counted.map(|(name, _, count)| (name.to_owned(), count)).collect(),
        answers: answers(&parts.stats),
    }
}

/// Of each worker that has answered, and of all.
fn answers(stats: &Stats) -> Vec<Answers> {
    let mut all = Latency::empty();
    let mut each = Vec::new();
    for worker in stats.workers() {
        let mut own = Latency::empty();
        worker.latency.add_to(&mut own);
        if !own.is_empty() {
            each.push(told(&worker.name, &own));
            worker.latency.add_to(&mut all);
        }
    }
    each.push(told("all", &all));
    each
}

fn told(worker: &str, histogram: &Histogram<u64>) -> Answers {
    Answers {
        worker: worker.to_owned(),
        count: histogram.len(),
        p50_ns: histogram.value_at_quantile(0.5),
        p90_ns: histogram.value_at_quantile(0.9),
        p99_ns: histogram.value_at_quantile(0.99),
        p999_ns: histogram.value_at_quantile(0.999),
        max_ns: histogram.max(),
    }
}

/// What an operator should know of the disk.
fn warnings(disk: &Disk) -> Vec<String> {
    let advice = if disk.full { "make room on the disk" } else { "see to the disk" };
    let told =
        |error| format!("zones are not being kept, and no new versions served: {error}; {advice}");
    disk.error.iter().map(told).collect()
}

fn rolled_back_text(apex: &NameBuf, swapped: Swapped, hold: bool) -> String {
    let to = swapped.to;
    let from = swapped.from.unwrap_or(to);
    let next = if hold { "No version is taken" } else { "It and older ones are not taken" };
    format!(
        "{apex}: serial {to} is served in place of {from}. {next} from a primary until you say \
         `backstop approve {apex}`"
    )
}

/// Counting takes as long as there are differences: that is for a thread that may.
async fn of_versions<T: Send + 'static>(
    zone: &str,
    parts: &Parts,
    make: impl FnOnce(&str, &Versions) -> T + Send + 'static,
) -> Result<T, String> {
    let apex = apex(zone)?;
    let versions = parts.replica.history(apex.clone()).await;
    let versions = versions.map_err(|error| refusal(&apex, error))?;
    let made = tokio::task::spawn_blocking(move || make(&apex.to_string(), &versions)).await;
    made.map_err(|error| error.to_string())
}

async fn history(zone: &str, parts: &Parts) -> Result<Reply, String> {
    of_versions(zone, parts, History::of).await.map(Reply::History)
}

async fn changes(zone: &str, serial: u32, parts: &Parts) -> Result<Reply, String> {
    let found = move |apex: &str, versions: &Versions| Changes::of(apex, versions, serial);
    let found = of_versions(zone, parts, found).await?;
    let (changes, diff) = found.ok_or_else(|| {
        format!("{zone}: what made serial {serial} is not held; `backstop history` tells what is")
    })?;
    Ok(Reply::Changes(changes, diff))
}

fn export(zone: &str, parts: &Parts) -> Result<Reply, String> {
    let apex = apex(zone)?;
    let view = parts.views.load();
    let served = view.zone(apex.as_name()).ok_or_else(|| refusal(&apex, CommandError::NoZone))?;
    let zone = served.zone.as_ref().ok_or_else(|| format!("{apex}: there is no version yet"))?;
    let exported = Exported {
        zone: apex.to_string(),
        serial: zone.serial().0,
        records: zone.records(),
        expired: served.expiry.is_over(parts.clock.now_ms()),
    };
    Ok(Reply::Zone(exported, Arc::clone(zone)))
}

/// Sends the reply from a thread that may wait for the client.
async fn send(client: tokio::net::UnixStream, reply: Reply) -> io::Result<()> {
    let client = client.into_std()?;
    client.set_nonblocking(false)?;
    client.set_write_timeout(Some(PATIENCE))?;
    tokio::task::spawn_blocking(move || write(client, &reply)).await?
}

fn write(client: UnixStream, reply: &Reply) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(64 * 1024, client);
    match reply {
        Reply::Status(status) => line(status, &mut out)?,
        Reply::Statuses(status) => line(status, &mut out)?,
        Reply::Server(status) => line(status, &mut out)?,
        Reply::Done(done) => line(&Done { done: done.clone() }, &mut out)?,
        Reply::Refused(error) => line(&Refused { error: error.clone() }, &mut out)?,
        Reply::Zone(exported, zone) => {
            line(exported, &mut out)?;
            zone::file::write(zone, &mut out)?;
        }
        Reply::History(history) => line(history, &mut out)?,
        Reply::Changes(changes, diff) => {
            line(changes, &mut out)?;
            write_changes(diff, &mut out)?;
        }
    }
    out.flush()
}

fn line(reply: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, reply)?;
    out.write_all(b"\n")
}
