//! One pinned thread that answers UDP requests, a batch at a time.
//!
//! **How it fits.** `server` binds sockets and [`start`]s workers; each owns a [`Port`] over its
//! own sockets, turns it, and answers what came with [`respond`](answer::respond) from the view
//! that it refreshed once for the batch. What `respond` defers goes to `stream` through a bounded
//! queue, as a copy with what its reply needs to find the way back. What `respond` answers, a
//! [`Limiter`] of its own may hold back.
//!
//! **Invariants.**
//! - *undisturbed*: answering a packet allocates, locks and logs nothing; handing one on copies it.
//! - *current*: a publication wakes the worker, so an idle one keeps no view alive but the newest.
//! - *survives a bug*: a panic while answering costs that request its answer (it gets SERVFAIL)
//!   and nothing else; it is counted, and told at most once a second (see [`panics`]).
//! - *never silently dead*: a port that fails is opened again until that succeeds or the worker is
//!   stopped.
//!
//! **Sections.** RFC 1035 section 4.1.1 (the SERVFAIL).
//!
//! It decides nothing about a message: that is `answer`'s, and `limit`'s.

pub(crate) mod panics;
#[cfg(test)]
pub(crate) mod tests;

use crate::answer::{self, Outcome, Via};
use crate::clock::{Clock, Wall};
use crate::io::{
    self, Backend, Courier, OpenError, Packet, Port, Route, Serve, Socket, Turn, Waker, xdp,
};
use crate::limit::{Limiter, Subject, Verdict};
use crate::stats;
use crate::view::{RateLimit, Reader, View, Views};
use crate::wire::{HEADER_LEN, Rcode, flag};
use crossbeam::channel::{self, Receiver, Sender};
use crossbeam::utils::CachePadded;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

/// How long what is queued in the sockets is still answered once the worker is to stop.
const DRAIN_MAX: Duration = Duration::from_millis(200);

/// How long to wait before a port that failed is opened again.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// What makes a worker this one.
pub struct Options {
    /// Its number among the workers, for names.
    pub index: usize,
    /// The CPU that it is pinned to; `None`: to none.
    pub cpu: Option<usize>,
    /// What it listens on; no other worker does.
    pub sockets: Vec<Arc<Socket>>,
    /// How its port talks to the kernel.
    pub backend: Backend,
    /// With [`Backend::Xdp`]: where it is handed AF_XDP sockets.
    pub seat: Option<Arc<xdp::Seat>>,
}

impl Options {
    fn open_port(&self) -> Result<Port, OpenError> {
        match &self.seat {
            Some(seat) => Port::open_xdp(self.sockets.clone(), Arc::clone(seat)),
            None => Port::open(self.backend, self.sockets.clone()),
        }
    }
}

/// What all workers share.
#[derive(Clone)]
pub struct Shared {
    /// What is answered from.
    pub views: Arc<Views>,
    /// What zones expire by.
    pub clock: Clock,
    /// Where each worker finds counters of its own.
    pub stats: Arc<stats::Stats>,
    /// Where requests go that workers do not decide.
    pub deferred: mpsc::Sender<Deferred>,
}

/// A request that a worker handed on, and the way back.
pub struct Deferred {
    /// The request as it came.
    pub request: Vec<u8>,
    /// From whom, to which address.
    pub route: Route,
    /// Sends the reply.
    pub courier: Courier,
}

/// A worker that runs.
pub struct Handle {
    commands: Sender<Command>,
    bell: Arc<DoorBell>,
    backend: Backend,
    fell_back: Option<String>,
    thread: JoinHandle<()>,
}

enum Command {
    Replace(Vec<Arc<Socket>>),
    Stop,
}

impl Handle {
    /// Listens on `sockets` from now on; see [`Port::replace`]. Returns at once.
    pub fn replace(&self, sockets: Vec<Arc<Socket>>) {
        self.command(Command::Replace(sockets));
    }

    /// Has the worker answer what is queued in its sockets, for a moment, and end. Returns at once.
    pub fn stop(&self) {
        self.command(Command::Stop);
    }

    /// Waits until the worker has ended. It ends after [`stop`](Self::stop) only.
    pub fn join(self) {
        if self.thread.join().is_err() {
            error!("a worker ended in a panic");
        }
    }

    /// The backend in use, never [`Backend::Auto`].
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Why [`Backend::Auto`] did not become the best one, if so: to be logged, once for all workers.
    pub fn fell_back(&self) -> Option<&str> {
        self.fell_back.as_deref()
    }

    fn command(&self, command: Command) {
        // A worker that has ended obeys no more.
        let _ = self.commands.send(command);
        self.bell.ring();
    }
}

/// Wakes the worker whichever port it has at the time.
struct DoorBell(Mutex<Waker>);

impl DoorBell {
    fn ring(&self) {
        self.0.lock().expect("waking does not panic").wake();
    }
}

/// Starts a worker.
///
/// # Errors
/// If its port cannot be opened, or no thread can be started.
pub fn start(options: Options, shared: &Shared) -> Result<Handle, OpenError> {
    panics::tell_seldom();
    let port = options.open_port()?;
    let bell = Arc::new(DoorBell(Mutex::new(port.waker())));
    let (commands, receiver) = channel::unbounded();
    let backend = port.backend();
    let fell_back = port.fell_back().map(ToString::to_string);
    let desk = Desk {
        view: shared.views.reader(),
        clock: shared.clock,
        wall: Wall::new(),
        counters: shared.stats.worker(options.index.to_string()),
        deferred: shared.deferred.clone(),
        courier: port.courier(),
        limiter: None,
    };
    let name = format!("worker-{}", options.index);
    let worker = Worker { port, desk, options, commands: receiver, bell: Arc::clone(&bell) };
    let thread = thread::Builder::new().name(name).spawn(move || worker.run())?;
    let weak = Arc::downgrade(&bell);
    shared.views.on_publish(Box::new(move || {
        if let Some(bell) = weak.upgrade() {
            bell.ring();
        }
    }));
    // What was published between the making of the reader and the line above.
    bell.ring();
    Ok(Handle { commands, bell, backend, fell_back, thread })
}

/// The thread's own.
struct Worker {
    port: Port,
    desk: Desk,
    options: Options,
    commands: Receiver<Command>,
    bell: Arc<DoorBell>,
}

impl Worker {
    fn run(mut self) {
        if let Some(cpu) = self.options.cpu
            && let Err(error) = io::pin(cpu)
        {
            warn!(worker = self.options.index, cpu, %error, "the worker is not pinned");
        }
        loop {
            let error = match panic::catch_unwind(AssertUnwindSafe(|| self.turns())) {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "a bug: it panicked".to_owned(),
            };
            error!(worker = self.options.index, error, "the port failed; opening it again");
            if !self.reopen() {
                return;
            }
        }
    }

    /// Answers until the worker is to stop.
    fn turns(&mut self) -> std::io::Result<()> {
        loop {
            let turn = self.turn(None)?;
            if turn.woken {
                self.desk.view.refresh();
                while let Ok(command) = self.commands.try_recv() {
                    match command {
                        Command::Replace(sockets) => {
                            self.options.sockets.clone_from(&sockets);
                            self.port.replace(sockets)?;
                        }
                        Command::Stop => return self.drain(),
                    }
                }
            }
        }
    }

    fn turn(&mut self, wait: Option<Duration>) -> std::io::Result<Turn> {
        let turn = self.port.turn(wait, &mut self.desk)?;
        self.desk.counters.served.io_dropped.add(turn.dropped as u64);
        Ok(turn)
    }

    /// Answers what is queued in the sockets, for a moment.
    fn drain(&mut self) -> std::io::Result<()> {
        let end = Instant::now() + DRAIN_MAX;
        while Instant::now() < end {
            let turn = self.turn(Some(Duration::ZERO))?;
            if turn.received == 0 && !turn.woken {
                break;
            }
        }
        // The replies of the last turn leave with the next, if the backend works so.
        self.turn(Some(Duration::ZERO)).map(|_| ())
    }

    /// Opens another port, trying until it succeeds. `false`: the worker is to stop.
    fn reopen(&mut self) -> bool {
        let mut times = 0_u32;
        loop {
            match self.commands.recv_timeout(REOPEN_AFTER) {
                Ok(Command::Replace(sockets)) => self.options.sockets = sockets,
                Ok(Command::Stop) => return false,
                Err(error) if error.is_disconnected() => return false,
                Err(_) => match self.options.open_port() {
                    Ok(port) => {
                        info!(worker = self.options.index, "the port is open again");
                        *self.bell.0.lock().expect("waking does not panic") = port.waker();
                        self.desk.courier = port.courier();
                        self.desk.view.refresh();
                        self.port = port;
                        return true;
                    }
                    Err(error) => {
                        times = times.saturating_add(1);
                        if panics::is_loud(times) {
                            error!(worker = self.options.index, %error, times,
                                "the port does not open; it is tried every second");
                        }
                    }
                },
            }
        }
    }
}

/// Where a worker's requests are answered.
struct Desk {
    view: Reader,
    clock: Clock,
    wall: Wall,
    counters: Arc<CachePadded<stats::Worker>>,
    deferred: mpsc::Sender<Deferred>,
    courier: Courier,
    /// As the view that was last answered from says.
    limiter: Option<Limiter>,
}

impl Serve for Desk {
    fn serve(&mut self, batch: &mut [Packet<'_>]) {
        self.serve_with(batch, answer::respond);
    }
}

impl Desk {
    /// Answers a batch, from one view and as of one time.
    fn serve_with(
        &mut self,
        batch: &mut [Packet<'_>],
        respond: impl Fn(&[u8], &Via<'_>, &View, &mut [u8]) -> Outcome,
    ) {
        let began = Instant::now();
        let (now_ms, unix_s) = (self.clock.ms_at(began), self.wall.unix_s(began));
        let view = self.view.refresh();
        set_limit(&mut self.limiter, view.identity.rate_limit.as_ref());
        let served = &self.counters.served;
        served.requests.add(batch.len() as u64);
        served.request_octets.add(batch.iter().map(|packet| packet.request.len() as u64).sum());
        for packet in &mut *batch {
            let via = Via { now_ms, unix_s, ..Via::datagram(packet.route.peer.ip()) };
            let answer = || respond(packet.request, &via, view, packet.reply);
            match panics::survive(answer) {
                Some(Outcome::Reply { len, rcode, kind, zone, known_client }) => {
                    let verdict = match &mut self.limiter {
                        Some(limiter) if !known_client => {
                            limiter.judge(&Subject { peer: via.peer, zone, kind }, now_ms)
                        }
                        _ => Verdict::Send,
                    };
                    let counters = &self.counters;
                    let sent = limited(verdict, packet, &via, view, (len, rcode), counters);
                    if let Some((len, rcode)) = sent {
                        packet.reply_len = len;
                        count_reply(counters, &packet.reply[..len], rcode);
                    }
                }
                Some(Outcome::Silent(_)) => served.silent.add(1),
                Some(Outcome::Defer(_)) => {
                    served.deferred.add(1);
                    match self.deferred.try_reserve() {
                        Ok(place) => place.send(Deferred {
                            request: packet.request.to_vec(),
                            route: *packet.route,
                            courier: self.courier.clone(),
                        }),
                        Err(_) => served.deferred_dropped.add(1),
                    }
                }
                None => {
                    served.panics.add(1);
                    panics::tell(packet.request);
                    if let Some(len) = failure(packet.request, packet.reply) {
                        packet.reply_len = len;
                        count_reply(&self.counters, &packet.reply[..len], Rcode::SERVFAIL);
                    }
                }
            }
        }
        // Each of them leaves with the last.
        self.counters.latency.record(began.elapsed(), batch.len() as u64);
    }
}

/// Makes the limiter what the settings say. What it knew goes with settings that have changed.
fn set_limit(limiter: &mut Option<Limiter>, settings: Option<&Arc<RateLimit>>) {
    let Some(settings) = settings else {
        *limiter = None;
        return;
    };
    if !limiter.as_mut().is_some_and(|limiter| limiter.follows(settings)) {
        let mut key = [0; 16];
        getrandom::fill(&mut key).expect("the kernel gives random numbers");
        *limiter = Some(Limiter::new(Arc::clone(settings), &key));
    }
}

/// Does with a reply what the rate limit says: the length and the rcode of what is sent, if any.
#[inline]
fn limited(
    verdict: Verdict,
    packet: &mut Packet<'_>,
    via: &Via<'_>,
    view: &View,
    reply: (usize, Rcode),
    counters: &stats::Worker,
) -> Option<(usize, Rcode)> {
    let served = &counters.served;
    match verdict {
        Verdict::Send => return Some(reply),
        Verdict::SendOver => {
            served.limited_dry_run.add(1);
            return Some(reply);
        }
        Verdict::Slip | Verdict::Drop => served.limited.add(1),
    }
    if verdict == Verdict::Drop {
        return None;
    }
    let (request, reply) = (packet.request, &mut *packet.reply);
    let len =
        panics::survive(|| answer::truncate(request, via, view, reply)).unwrap_or_else(|| {
            served.panics.add(1);
            panics::tell(request);
            None
        })?;
    served.slipped.add(1);
    Some((len, Rcode::NOERROR))
}

fn count_reply(counters: &stats::Worker, reply: &[u8], rcode: Rcode) {
    counters.served.replies.add(1);
    counters.served.reply_octets.add(reply.len() as u64);
    counters.served.truncated.add(u64::from(is_truncated(reply)));
    counters.rcode(rcode.0).add(1);
}

/// Does this reply say that it is not all?
pub(crate) fn is_truncated(reply: &[u8]) -> bool {
    reply.get(2).is_some_and(|&octet| octet & (flag::TC >> 8) as u8 != 0)
}

/// Writes a SERVFAIL that is a header alone, for a request that cannot be trusted to be readable.
/// Its length; `None` for what must get no reply: responses, and what has no header.
pub(crate) fn failure(request: &[u8], reply: &mut [u8]) -> Option<usize> {
    let header = request.first_chunk::<HEADER_LEN>()?;
    let flags = u16::from_be_bytes([header[2], header[3]]);
    if flags & flag::QR != 0 {
        return None;
    }
    let kept = flags & (0xf << flag::OPCODE_SHIFT | flag::RD);
    let reply = reply.first_chunk_mut::<HEADER_LEN>()?;
    reply.fill(0);
    reply[..2].copy_from_slice(&header[..2]);
    reply[2..4].copy_from_slice(&(kept | flag::QR | Rcode::SERVFAIL.0).to_be_bytes());
    Some(HEADER_LEN)
}
