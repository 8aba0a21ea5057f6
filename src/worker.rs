//! One pinned thread that answers UDP requests, a batch at a time.
//!
//! **How it fits.** `server` binds sockets and [`start`]s workers; each owns a [`Port`] over its
//! own sockets and turns it. What came is answered at its [`desk`], from the view that was
//! refreshed once for the batch; what is not decided there goes to `stream` through a bounded
//! queue, as a copy with what its reply needs to find the way back.
//!
//! **Invariants.**
//! - *undisturbed*: a turn allocates, locks and logs nothing; handing a request on copies it.
//! - *current*: a publication wakes the worker, so an idle one keeps no view alive but the newest.
//! - *survives a bug*: a panic while answering costs that request its answer (it gets SERVFAIL)
//!   and nothing else; it is counted, and told at most once a second (see [`panics`]).
//! - *never silently dead*: a port that fails is opened again until that succeeds or the worker is
//!   stopped.
//!
//! It decides nothing about a message: that is `answer`'s, and `limit`'s.

mod desk;
pub(crate) mod panics;
#[cfg(test)]
pub(crate) mod tests;
mod watch;

use crate::clock::Clock;
use crate::io::{self, Backend, Courier, OpenError, Port, Route, Socket, Turn, Waker, xdp};
use crate::seldom::is_loud;
use crate::stats;
use crate::view::Views;
use crossbeam::channel::{self, Receiver, Sender};
use desk::Desk;
pub(crate) use desk::{failure, is_truncated};
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
    let desk = Desk::new(shared, options.index.to_string(), port.courier());
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
                        if is_loud(times) {
                            error!(worker = self.options.index, %error, times,
                                "the port does not open; it is tried every second");
                        }
                    }
                },
            }
        }
    }
}
