//! Ports: how UDP requests come to a worker and its replies leave, a batch at a time.
//!
//! A worker owns one [`Port`] over its own [`Socket`]s and calls [`Port::turn`] in a loop: receive
//! a batch, [`Serve`] it, send what was replied. Replies are written in place, into memory of the
//! backend (with AF_XDP: into the frame that is sent). Other threads hold a [`Waker`], which ends
//! an idle turn, and a [`Courier`], which sends a late reply.
//!
//! **How it fits.** `worker` turns a port, `server` binds sockets and chooses the backend, `stream`
//! listens on TCP. `io` knows bytes and addresses, never a DNS message. The backends are `mmsg`
//! (recvmmsg and sendmmsg: the reference), `uring` and [`xdp`]; the bytes they carry are the same.
//! `message` is the memory of the first two, `sys` holds the other system calls, `socket` what is
//! bound.
//!
//! **Invariants.**
//! - *from the address asked*: a reply leaves from the address and socket its request came to.
//! - *whole or not at all*: a request longer than [`REQUEST_MAX`] is dropped, never cut.
//! - *never blocked by a peer*: a reply that cannot be sent at once is dropped and counted.
//! - *fair*: no socket of a port can starve another, nor the waker.
//! - *still when idle*: a turn without packets sleeps in one system call, and none allocates.
//!
//! **Sections.** RFC 9715 (no fragments by path MTU), RFC 1035 section 4.2.1 as RFC 6891 widens it.
//!
//! Not here: what a reply says, rate limits, and TCP beyond the listening socket.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use arrayvec::ArrayVec;

mod memory;
mod message;
mod mmsg;
mod rights;
mod socket;
mod sys;
mod uring;
pub mod xdp;

pub use memory::{forget_mapped, give_back_at_once, huge_pages_where_asked_for};
use message::Outbox;
use mmsg::Mmsg;
pub use rights::{give_up_all, keep_for_xdp};
pub use socket::{Bind, ListenerId, Socket, bind, listen, steer_by_cpu};
use sys::Bell;
pub use sys::{cpus, pin, tick, wake_soon, wall_clock_is_synchronised};
use uring::Uring;

/// The most packets a turn hands over.
pub const BATCH: usize = 64;
/// The longest request taken, in octets; longer ones are dropped and counted.
pub const REQUEST_MAX: usize = 4096;
/// The room for a reply, in octets. A backend that knows the link's MTU may offer less.
pub const REPLY_MAX: usize = 4096;

/// What [`Backend::Auto`] is where permitted, by the rounds of `benches/port.rs` (Linux 6.18,
/// loopback, medians of seven alternating runs on a shared machine): with mmsg a reply takes 4.4 us
/// alone, 2.7 in batches of 4, 2.2 of 64; with uring 4.4, 3.0 and 2.8.
pub const BEST: Backend = Backend::Mmsg;

/// Where a request came from and to: all that its reply needs to find the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Who asked.
    pub peer: SocketAddr,
    /// The address that was asked. Unspecified if unknown (a multicast): the kernel then chooses.
    pub local: IpAddr,
    /// The interface's index where `local` means nothing without (link-local), else 0.
    pub interface: u32,
    /// The socket it came in by.
    pub listener: ListenerId,
}

/// One request and the room for its reply.
pub struct Packet<'a> {
    /// The request as it came; may be empty.
    pub request: &'a [u8],
    /// From whom, to which address.
    pub route: &'a Route,
    /// Where to write the reply; what it holds before is arbitrary.
    pub reply: &'a mut [u8],
    /// How much of `reply` to send, in octets; 0, as it comes, is silence.
    pub reply_len: usize,
}

/// What answers: called with all that came, a batch at a time (AF_XDP: one a queue and turn).
pub trait Serve {
    /// Writes replies into `batch`, which is never empty nor longer than [`BATCH`].
    fn serve(&mut self, batch: &mut [Packet<'_>]);
}

impl<F: FnMut(&mut [Packet<'_>])> Serve for F {
    fn serve(&mut self, batch: &mut [Packet<'_>]) {
        self(batch);
    }
}

/// What a turn did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Requests handed to [`Serve`].
    pub received: usize,
    /// Replies given to the kernel. `uring` learns of a failure one turn later, and then counts it
    /// as dropped as well.
    pub sent: usize,
    /// Requests too long, and replies that could not be sent.
    pub dropped: usize,
    /// A [`Waker`] was used since the last turn that said so.
    pub woken: bool,
}

/// How a port talks to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// What [`BEST`] names; `Mmsg` where that is not permitted.
    Auto,
    /// io_uring: multishot receives, sends submitted together.
    Uring,
    /// recvmmsg and sendmmsg: works everywhere.
    Mmsg,
    /// AF_XDP, past the kernel's stack.
    Xdp,
}

/// Why a port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The kernel, or the container around it, forbids or lacks it.
    #[error("io_uring is not available here ({0}); use io = \"mmsg\" or \"auto\"")]
    Uring(io::Error),
    /// AF_XDP is set up for all workers together: see [`Port::open_xdp`].
    #[error("AF_XDP was not set up")]
    NoXdp,
    /// A system call failed that none should.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A worker's way in and out. May be moved to its thread until the first turn, not after.
pub struct Port {
    engine: Engine,
    bell: Arc<Bell>,
    sockets: Arc<ArcSwap<Sockets>>,
    fell_back: Option<io::Error>,
}

type Sockets = Vec<Arc<Socket>>;

enum Engine {
    Mmsg(Box<Mmsg>),
    Uring(Box<Uring>),
    Xdp(Box<xdp::Engine>),
}

impl Port {
    /// Opens a port over `sockets`.
    pub fn open(backend: Backend, sockets: Sockets) -> Result<Self, OpenError> {
        let bell = Arc::new(Bell::new()?);
        let uring = || Uring::new(sockets.clone(), Arc::clone(&bell));
        let mmsg = || Engine::Mmsg(Box::new(Mmsg::new(sockets.clone(), Arc::clone(&bell))));
        let wanted = if backend == Backend::Auto { BEST } else { backend };
        let (engine, fell_back) = match wanted {
            Backend::Xdp => return Err(OpenError::NoXdp),
            Backend::Mmsg => (mmsg(), None),
            Backend::Uring | Backend::Auto => match uring() {
                Ok(uring) => (Engine::Uring(Box::new(uring)), None),
                Err(error) if backend == Backend::Auto => (mmsg(), Some(error)),
                Err(error) => return Err(OpenError::Uring(error)),
            },
        };
        let sockets = Arc::new(ArcSwap::from_pointee(sockets));
        Ok(Self { engine, bell, sockets, fell_back })
    }

    /// Opens a port over `sockets` and whatever AF_XDP sockets it is handed at its `seat`.
    pub fn open_xdp(sockets: Sockets, seat: Arc<xdp::Seat>) -> Result<Self, OpenError> {
        let bell = Arc::new(Bell::new()?);
        let engine = xdp::Engine::new(sockets.clone(), Arc::clone(&bell), seat);
        let sockets = Arc::new(ArcSwap::from_pointee(sockets));
        Ok(Self { engine: Engine::Xdp(Box::new(engine)), bell, sockets, fell_back: None })
    }

    /// The backend in use, never [`Backend::Auto`].
    pub fn backend(&self) -> Backend {
        match self.engine {
            Engine::Xdp(_) => Backend::Xdp,
            Engine::Mmsg(_) => Backend::Mmsg,
            Engine::Uring(_) => Backend::Uring,
        }
    }

    /// Why [`Backend::Auto`] did not become [`BEST`], if so: to be logged, once.
    pub fn fell_back(&self) -> Option<&io::Error> {
        self.fell_back.as_ref()
    }

    /// Receives a batch, has it served, sends the replies. With nothing there it sleeps for at
    /// most `wait` (`None`: until a packet or a wake). May return early with nothing done.
    ///
    /// An error means that the port is of no more use; what a peer does never causes one. After a
    /// panic of `serve` the port still is; the batch is lost.
    pub fn turn(
        &mut self,
        wait: Option<Duration>,
        serve: &mut (impl Serve + ?Sized),
    ) -> io::Result<Turn> {
        match &mut self.engine {
            Engine::Mmsg(mmsg) => mmsg.turn(wait, serve),
            Engine::Uring(uring) => uring.turn(wait, serve),
            Engine::Xdp(xdp) => xdp.turn(wait, serve),
        }
    }

    /// Listens on `sockets` from now on. What is queued on those that stay is kept; those that are
    /// gone close once nobody else holds them. For the thread that turns.
    pub fn replace(&mut self, sockets: Sockets) -> io::Result<()> {
        self.sockets.store(Arc::new(sockets.clone()));
        match &mut self.engine {
            Engine::Mmsg(mmsg) => mmsg.replace(sockets),
            Engine::Uring(uring) => uring.replace(sockets)?,
            Engine::Xdp(xdp) => xdp.replace(sockets),
        }
        Ok(())
    }

    /// What ends an idle turn from another thread.
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.bell))
    }

    /// What sends late replies from another thread.
    pub fn courier(&self) -> Courier {
        Courier(Arc::clone(&self.sockets))
    }
}

/// Ends an idle turn of its port.
#[derive(Clone)]
pub struct Waker(Arc<Bell>);

impl Waker {
    /// Makes the port's turn return soon, with `woken` set. Wakes before that turn are one.
    pub fn wake(&self) {
        self.0.ring();
    }
}

/// Sends replies that the worker left to others.
#[derive(Clone)]
pub struct Courier(Arc<ArcSwap<Sockets>>);

impl Courier {
    /// Sends `reply` the way back along `route`. It does not block: a full send buffer is
    /// `WouldBlock`. `NotConnected` if the port no longer has the socket that was asked.
    pub fn send(&self, route: &Route, reply: &[u8]) -> io::Result<()> {
        let sockets = self.0.load();
        let socket = sockets
            .iter()
            .find(|socket| socket.id() == route.listener)
            .ok_or(io::ErrorKind::NotConnected)?;
        Outbox::new(1).send(socket, route, reply).error.map_or(Ok(()), Err)
    }
}

/// A failed receive costs one packet, if that; only one that can never succeed is an error.
fn lost(error: io::Error) -> io::Result<usize> {
    match error.raw_os_error() {
        Some(libc::EBADF | libc::ENOTSOCK | libc::EFAULT | libc::EINVAL) => Err(error),
        _ => Ok(1),
    }
}

/// The packets of a turn, gathered without allocating.
type Batch<'a> = ArrayVec<Packet<'a>, BATCH>;

/// How long the reply to each packet of a batch is, in octets; 0 is silence.
type Lens = ArrayVec<usize, BATCH>;

impl<'a> Packet<'a> {
    fn new(request: &'a [u8], route: &'a Route, reply: &'a mut [u8]) -> Self {
        Self { request, route, reply, reply_len: 0 }
    }
}

/// Has a batch served.
fn served(batch: &mut Batch<'_>, serve: &mut (impl Serve + ?Sized)) -> Lens {
    if !batch.is_empty() {
        serve.serve(batch);
    }
    let len = |packet: &Packet<'_>| {
        debug_assert!(packet.reply_len <= packet.reply.len(), "a reply fits its room");
        packet.reply_len.min(packet.reply.len())
    };
    batch.iter().map(len).collect()
}
