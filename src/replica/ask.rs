//! Asking a primary: one question, its answer, over the network.
//!
//! The task here reads octets and waits; taking transfers apart and building zones happens on the
//! builders' threads (`spawn_blocking`) when there is more than a little of it, a stretch of
//! messages at a time, while the next ones are being received. No builder ever waits for a
//! primary.

use super::course::Course;
use super::dial;
use super::inbox::Inbox;
use super::limits::Limits;
use super::probe::{PROBE_WAITS, probe};
use super::queue::{Lane, Place};
use super::sameness::Difference;
use crate::clock::now_s;
use crate::edns::Obstacle;
use crate::name::NameBuf;
use crate::refresh::{Ask, Failure};
use crate::store::Ahead;
use crate::tsig::{Key, TsigError, Verifier};
use crate::wire::{Rcode, Serial};
use crate::xfr::{self, Incoming, Progress, Statistics, XfrError};
use crate::zone::{BuildError, Builder, Diff, OutOfSync, Zone};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;

/// A primary of a zone.
pub(super) struct Primary {
    pub(super) address: SocketAddr,
    pub(super) source: Option<SocketAddr>,
    pub(super) key: Option<Arc<Key>>,
}

/// A question to one primary.
pub(super) struct Job {
    pub(super) apex: NameBuf,
    pub(super) primary: Arc<Primary>,
    pub(super) ask: Ask,
    pub(super) lane: Lane,
    /// The version held.
    pub(super) have: Option<Arc<Zone>>,
    /// It came from this primary.
    pub(super) is_source: bool,
    /// The whole zone is only to be compared with that.
    pub(super) compares: bool,
    pub(super) max_octets: u64,
    /// Where a zone is written to while it comes in, if none is held.
    pub(super) ahead: Option<Ahead>,
    /// What is told of it while it lasts.
    pub(super) course: Arc<Course>,
}

/// What the primary said.
pub(super) enum Answer {
    /// Its serial, and no more.
    Told(Serial),
    /// What has changed.
    Changed {
        /// A version a step; at least one.
        changes: Vec<Change>,
        /// It was the whole zone that came: the one change is how it compares to ours.
        compared: bool,
    },
    /// The whole zone was compared with the version held.
    Compared {
        /// Its serial.
        serial: Serial,
        /// Has it the same records?
        same: bool,
    },
    /// The whole zone.
    Whole {
        /// The version.
        zone: Arc<Zone>,
        /// It has the serial of the version held, and other records.
        differs: bool,
    },
}

/// A difference, and the version that it makes.
#[derive(Clone)]
pub(super) struct Change {
    pub(super) diff: Arc<Diff>,
    pub(super) zone: Arc<Zone>,
    /// It was served before.
    pub(super) was_served: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// Left alone for a while.
    #[error("not asked: it did not answer, next attempt in {} s", .0.as_secs())]
    Silent(Duration),
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The connection or the datagram was lost.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Nothing came.
    #[error("no answer within {} s", .0.as_secs())]
    TimeOut(Duration),
    /// Nothing more came.
    #[error("it stopped in mid-transfer: nothing for {} s", .0.as_secs())]
    Stalled(Duration),
    /// Too little came.
    #[error("it is too slow: less than {0} octets/s")]
    Slow(u64),
    /// The connection ended before anything came.
    #[error("it closed the connection without an answer")]
    Unanswered,
    /// Something else came.
    #[error("what it sent is no answer to the request")]
    NoReply,
    /// The connection ended early.
    #[error("it closed the connection in mid-transfer")]
    Closed,
    /// The reply cannot be believed.
    #[error("{0}")]
    Tsig(#[from] TsigError),
    /// The reply is no transfer.
    #[error("{0}")]
    Transfer(#[from] XfrError),
    /// The primary answers with an error, and says more about it.
    #[error("the primary answered {0} ({1})")]
    Refused(Rcode, String),
    /// The transfer is no zone.
    #[error("{0}")]
    Build(#[from] BuildError),
    /// The differences are not from our version.
    #[error("{0}")]
    OutOfSync(#[from] OutOfSync),
    /// A bug.
    #[error("a builder failed: {0}")]
    Builder(#[from] JoinError),
}

impl AskError {
    /// What it means for what to ask next.
    pub(super) fn failure(&self) -> Failure {
        match self {
            Self::Transfer(XfrError::Rcode(rcode)) | Self::Refused(rcode, _)
                if refuses_ixfr(*rcode) =>
            {
                Failure::NoIxfr
            }
            Self::Refused(..) => Failure::BadIxfr,
            Self::Transfer(error) if error.asks_for_axfr() => Failure::BadIxfr,
            Self::OutOfSync(_) => Failure::BadIxfr,
            _ => Failure::Primary,
        }
    }
}

impl AskError {
    /// What it means to who wants the zone, in the fewest words.
    pub(super) fn obstacle(&self) -> Obstacle {
        match self {
            Self::Io(error) if error.kind() == io::ErrorKind::ConnectionReset => Obstacle::Useless,
            Self::Silent(_)
            | Self::Connect(_)
            | Self::Io(_)
            | Self::TimeOut(_)
            | Self::Unanswered => Obstacle::Silence,
            Self::Transfer(XfrError::Rcode(rcode)) | Self::Refused(rcode, _) => {
                Obstacle::Error(*rcode)
            }
            _ => Obstacle::Useless,
        }
    }
}

fn refuses_ixfr(rcode: Rcode) -> bool {
    matches!(rcode, Rcode::REFUSED | Rcode::NOTIMP | Rcode::FORMERR | Rcode::NOTAUTH)
}

/// The answer, and what came with it.
pub(super) struct Asked {
    pub(super) answer: Result<Answer, AskError>,
    pub(super) statistics: Statistics,
    pub(super) began: Instant,
    /// Seconds until the zone expires at the primary, if it says so (RFC 7314).
    pub(super) expire_s: Option<u32>,
    /// A sign that the primary has other data under our serial.
    pub(super) difference: Option<Difference>,
    /// What of the whole zone that came is written already.
    pub(super) ahead: Option<Ahead>,
    /// Who was asked, and in which lane.
    pub(super) address: IpAddr,
    pub(super) lane: Lane,
}

impl Asked {
    /// Did it take longer than a datagram and its answer should?
    pub(super) fn is_late(&self) -> bool {
        self.began.elapsed() >= PROBE_WAITS[0]
    }
}

/// Asks, in the place given.
pub(super) async fn ask(mut job: Job, limits: Arc<Limits>, _place: Place) -> Asked {
    let address = job.primary.address.ip();
    let mut asked = Asked {
        answer: Ok(Answer::Told(Serial(0))),
        statistics: Statistics::default(),
        began: Instant::now(),
        expire_s: None,
        difference: None,
        ahead: job.ahead.take(),
        address,
        lane: job.lane,
    };
    if let Some(left) = limits.is_silent(address) {
        asked.answer = Err(AskError::Silent(left));
        return asked;
    }
    for edns in [true, false] {
        asked.answer = match job.ask {
            Ask::Soa => probe(&job, &limits, edns, &mut asked).await.map(Answer::Told),
            _ => transfer(&job, &limits, edns, &mut asked).await,
        };
        // It may know no EDNS (RFC 6891 section 7). Without IXFR there is still AXFR.
        let malformed = Rcode::FORMERR;
        let is_old = matches!(&asked.answer,
            Err(AskError::Transfer(XfrError::Rcode(rcode))) if *rcode == malformed);
        if !is_old || matches!(job.ask, Ask::Ixfr(_)) {
            break;
        }
    }
    match &asked.answer {
        Err(AskError::Connect(error) | AskError::Io(error)) if is_unreachable(error.kind()) => {
            limits.silent(address);
        }
        Err(_) => {}
        Ok(_) => limits.heard(address),
    }
    asked
}

/// Is nobody there, as far as the network can tell? One who refuses a connection is.
pub(super) fn is_unreachable(error: io::ErrorKind) -> bool {
    use io::ErrorKind::{HostUnreachable, NetworkUnreachable, TimedOut};
    matches!(error, TimedOut | HostUnreachable | NetworkUnreachable)
}

/// A transfer under way: what takes its messages apart.
struct Reading {
    incoming: Incoming,
    verifier: Option<Verifier>,
    /// Seconds until the zone expires at the primary: what the first message says.
    expire_s: Option<u32>,
    /// Where what is final is written to, and how many pages of it are.
    ahead: Option<Ahead>,
    pages: usize,
}

/// Stretches of up to so many octets are read where they arrive: handing them to a builder would
/// take longer.
const READ_HERE: usize = 32 * 1024;

/// A zone of fewer pages is written when it has come: it takes as long.
const AHEAD_MIN: usize = 2048;

/// How long more than one newer SOA is waited for in answer to an IXFR.
const LONE_SOA_WAIT: Duration = Duration::from_secs(1);

impl Reading {
    /// Reads the messages of a stretch.
    fn read(&mut self, stretch: &mut super::inbox::Stretch) -> Result<Progress, AskError> {
        while let Some(message) = stretch.next() {
            let message = match &mut self.verifier {
                Some(verifier) => verifier.verify(message, now_s())?,
                None => message,
            };
            if self.incoming.statistics().messages == 0 {
                self.expire_s = xfr::read_extended(message).expire_s;
            }
            let progress = self.incoming.message(message);
            match progress.map_err(|error| refused(error, message))? {
                Progress::More => {}
                end => {
                    if let Some(verifier) = &self.verifier {
                        verifier.finish()?;
                    }
                    return Ok(end);
                }
            }
        }
        Ok(Progress::More)
    }

    /// Has the store write what is final of a whole zone; as much as there is room for now.
    fn write_ahead(&mut self) {
        let Some(builder) = self.incoming.builder() else { return };
        let Some(ahead) = self.ahead.as_mut().filter(|_| builder.is_in_order()) else {
            self.ahead = None;
            return;
        };
        let pages = builder.final_pages();
        if pages < AHEAD_MIN {
            return;
        }
        while self.pages < pages && ahead.has_room() {
            builder.final_page(self.pages, |key, blob| ahead.push(key, blob));
            self.pages += 1;
        }
    }
}

/// An error, with what the primary says of it beside the RCODE.
pub(super) fn refused(error: XfrError, reply: &[u8]) -> AskError {
    match (error, xfr::read_extended(reply).error) {
        (XfrError::Rcode(rcode), Some(text)) => AskError::Refused(rcode, text),
        _ => error.into(),
    }
}

async fn transfer(
    job: &Job,
    limits: &Limits,
    edns: bool,
    asked: &mut Asked,
) -> Result<Answer, AskError> {
    let options = limits.options();
    let id = dial::random_id();
    let apex = job.apex.as_name();
    let (mut request, incoming) = match job.ask {
        Ask::Ixfr(have) => {
            (xfr::ixfr_query(id, apex, have), Incoming::ixfr(apex, id, have, job.max_octets))
        }
        _ if job.compares => (xfr::axfr_query(id, apex), Incoming::sum(apex, id, job.max_octets)),
        _ => (xfr::axfr_query(id, apex), Incoming::axfr(apex, id, job.max_octets)),
    };
    if edns {
        xfr::extend(&mut request, false);
    }
    let key = job.primary.key.as_ref();
    let verifier = key.map(|key| key.sign_request(&mut request, now_s()));
    let mut inbox = begin(job, limits, &request).await?;
    let ahead = asked.ahead.take();
    let mut reading = Reading { incoming, verifier, expire_s: None, ahead, pages: 0 };
    let end = receive(job, &mut inbox, &mut reading, options.stall_timeout).await;
    asked.statistics = reading.incoming.statistics();
    asked.expire_s = reading.expire_s;
    let end = match (end, reading.incoming.lone_soa()) {
        // All that it had to say: it was not the first of a record a message.
        (Err(AskError::Closed | AskError::Stalled(_)), Some(serial)) => {
            return Ok(Answer::Told(serial));
        }
        (end, _) => end?,
    };
    if let Some(stream) = inbox.into_stream() {
        limits.connections.keep(&job.primary, stream);
    }
    if matches!(&end, Progress::Whole(builder, _) if builder.is_in_order()) {
        asked.ahead = reading.ahead;
    }
    job.course.received();
    install(job, end, asked.statistics.octets).await
}

/// How long the first message is waited for over a connection that was used before: there are
/// primaries that answer one request a connection and leave it open.
const AGAIN_WAIT: Duration = Duration::from_secs(2);

/// Sends the request over a connection that is kept, or else a new one, and waits for the first
/// message of its reply.
pub(super) async fn begin(job: &Job, limits: &Limits, request: &[u8]) -> Result<Inbox, AskError> {
    let options = limits.options();
    let mut heeds_kept = true;
    loop {
        let (stream, used) = if heeds_kept {
            limits.connections.get(&job.primary, options.connect_timeout).await?
        } else {
            (connect(&job.primary, options.connect_timeout).await?, false)
        };
        let stall = options.stall_timeout;
        let wait = if used { stall.min(AGAIN_WAIT) } else { stall };
        let begun = async {
            let mut inbox = Inbox::new(send(stream, request, wait).await?);
            inbox.min_rate = options.min_rate;
            inbox.fill(wait).await?;
            Ok(inbox)
        };
        match begun.await {
            // The primary has closed it just before: that says nothing about this request.
            Err(AskError::Io(_) | AskError::Unanswered) if used => {}
            Err(AskError::TimeOut(_) | AskError::Stalled(_) | AskError::Slow(_)) if used => {
                limits.connections.forget(&job.primary);
                heeds_kept = false;
            }
            begun => return begun,
        }
    }
}

/// Reads stretch after stretch, the next one being received while a builder reads the last.
async fn receive(
    job: &Job,
    inbox: &mut Inbox,
    reading: &mut Reading,
    stall: Duration,
) -> Result<Progress, AskError> {
    let mut stretch = inbox.next(stall).await?;
    loop {
        if stretch.len() <= READ_HERE {
            let progress = reading.read(&mut stretch)?;
            job.course.note(reading.incoming.statistics(), &job.apex, job.primary.address);
            match progress {
                // One newer SOA: a transfer's first record, or all that there is to come (RFC 1995
                // section 4). The rest of a transfer follows on the heels of its beginning.
                Progress::More if reading.incoming.lone_soa().is_some() => {
                    stretch = inbox.next(stall.min(LONE_SOA_WAIT)).await?;
                }
                Progress::More => stretch = inbox.next(stall).await?,
                end => return Ok(end),
            }
            continue;
        }
        // The reading state goes to the builder and comes back.
        let empty = Reading {
            incoming: Incoming::axfr(crate::name::Name::ROOT, 0, 0),
            verifier: None,
            expire_s: None,
            ahead: None,
            pages: 0,
        };
        let mut away = std::mem::replace(reading, empty);
        let mut built = spawn_blocking(move || {
            let progress = away.read(&mut stretch);
            away.write_ahead();
            (away, progress)
        });
        let (back, next) = tokio::select! {
            built = &mut built => (built?, None),
            next = inbox.next(stall) => (built.await?, Some(next)),
        };
        *reading = back.0;
        job.course.note(reading.incoming.statistics(), &job.apex, job.primary.address);
        match (back.1?, next) {
            (Progress::More, Some(next)) => stretch = next?,
            (Progress::More, None) => stretch = inbox.next(stall).await?,
            (end, _) => return Ok(end),
        }
    }
}

/// Makes a version of what came in `octets`.
async fn install(job: &Job, end: Progress, octets: u64) -> Result<Answer, AskError> {
    match end {
        Progress::More => Err(AskError::Closed),
        Progress::UpToDate(serial) | Progress::Behind(serial) => Ok(Answer::Told(serial)),
        Progress::Summed(theirs, soa) => {
            let have = job.have.clone().ok_or(AskError::Closed)?;
            let same = spawn_blocking(move || have.sum() == theirs).await?;
            Ok(Answer::Compared { serial: soa.serial, same })
        }
        Progress::Whole(builder, _) if octets <= READ_HERE as u64 && job.have.is_none() => {
            whole(*builder, None)
        }
        Progress::Whole(builder, _) => {
            let have = job.have.clone();
            spawn_blocking(move || whole(*builder, have)).await?
        }
        Progress::Diffs(diffs) => {
            let have = job.have.clone().ok_or(AskError::Closed)?;
            let octets: usize = diffs.iter().map(Diff::octets).sum();
            if octets <= READ_HERE {
                changed(&have, diffs)
            } else {
                spawn_blocking(move || changed(&have, diffs)).await?
            }
        }
    }
}

fn changed(have: &Zone, diffs: Vec<Diff>) -> Result<Answer, AskError> {
    let mut changes: Vec<Change> = Vec::with_capacity(diffs.len());
    for diff in diffs {
        let last = changes.last().map_or(have, |change| &change.zone);
        let (zone, exact) = last.apply_exactly(&diff)?;
        // What is kept must lead back as well.
        let diff = if exact { diff } else { Diff::among(last, &zone, [&diff]) };
        let zone = Arc::new(zone);
        changes.push(Change { diff: Arc::new(diff), zone, was_served: false });
    }
    Ok(Answer::Changed { changes, compared: false })
}

fn whole(builder: Builder, have: Option<Arc<Zone>>) -> Result<Answer, AskError> {
    Ok(compare(builder.build()?, have.as_deref())?)
}

/// A whole zone becomes the version held and a difference, if that is not large: see
/// [`Zone::follow`].
///
/// # Errors
/// Those of that.
pub(super) fn compare(zone: Zone, have: Option<&Zone>) -> Result<Answer, OutOfSync> {
    let whole = |zone, differs| Ok(Answer::Whole { zone: Arc::new(zone), differs });
    let Some(have) = have else { return whole(zone, false) };
    if zone.serial() == have.serial() {
        let differs = Diff::within(have, &zone, 0).is_none();
        return whole(zone, differs);
    }
    if !zone.serial().is_after(have.serial()) {
        return whole(zone, false);
    }
    let (zone, diff) = zone.follow(have)?;
    let Some(diff) = diff else { return whole(zone, false) };
    let changes = vec![Change { diff: Arc::new(diff), zone: Arc::new(zone), was_served: false }];
    Ok(Answer::Changed { changes, compared: true })
}

pub(super) async fn connect(primary: &Primary, wait: Duration) -> Result<TcpStream, AskError> {
    match timeout(wait, dial::tcp(primary.address, primary.source)).await {
        Ok(result) => result.map_err(AskError::Connect),
        Err(_) => Err(AskError::Connect(io::ErrorKind::TimedOut.into())),
    }
}

/// Sends a request.
pub(super) async fn send(
    mut stream: TcpStream,
    request: &[u8],
    wait: Duration,
) -> Result<TcpStream, AskError> {
    timeout(wait, dial::send(&mut stream, request))
        .await
        .map_err(|_| AskError::TimeOut(wait))??;
    Ok(stream)
}
