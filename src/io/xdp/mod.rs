//! AF_XDP: requests taken from the card past the kernel's network stack, replies given to it.
//!
//! **How it fits.** The [`Keeper`], a thread of its own, sets interfaces up: a filter program on
//! each, a socket with memory and rings for each receive queue. It hands the sockets to the workers
//! through their [`Seat`]s and takes them back when the interface changes, and goes on trying where
//! that fails. A worker's port has an [`Engine`]: in one turn it turns the sockets it was handed and
//! the ordinary ones, which stay bound and answer all that the filter leaves to them.
//!
//! `bpf`, `filter`: the program. `device`: interfaces. `mapping`, `ring`, `umem`, `socket`: what
//! is shared with the kernel. `frame`: headers. `queue`: a batch. `rig`: a queue without a card.
//!
//! **Invariants.**
//! - *no more than the sockets do*: the filter takes what is sent to addresses that this host has
//!   and every worker listens on; so an address is not taken before workers know it.
//! - *never the last way*: whatever becomes of an interface, the ordinary sockets serve.
//! - *still when idle*: a turn with nothing to do sleeps in one poll.
//! - *one owner*: a queue's memory is used by the worker that has its socket, alone.
//!
//! **Sections.** Documentation/networking/af_xdp.rst of Linux.
//!
//! Replies go back to the hardware address that asked: where the way back differs from the way
//! here, this is not to be used. Nothing of it is seen by packet filters or captures.

mod bpf;
mod device;
mod error;
mod filter;
mod frame;
mod interface;
mod keeper;
mod mapping;
mod queue;
mod report;
mod rig;
mod ring;
mod seat;
mod socket;
mod umem;

use std::cell::Cell;
use std::io;
use std::iter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

pub use bpf::Mode;
pub use error::{Aimless, SetUpError, aim};
pub use keeper::{Keeper, Options};
pub use report::{QueueTold, Reporter, Told};
pub use rig::{Datagram, Rig};
pub use seat::Seat;
pub use socket::ZeroCopy;

use super::mmsg::Mmsg;
use super::sys::{Bell, PollSet};
use super::{Route, Serve, Socket, Turn};
use seat::Order;
use socket::Xsk;

/// With a smaller MTU not even a reply of 512 octets fits.
const MTU_MIN: u32 = 576;

/// Busy turns between two looks at the ordinary sockets and the bell.
const POLL_EVERY: u32 = 16;

/// How soon a send that the kernel put off is tried again.
const AGAIN: Duration = Duration::from_millis(1);

/// A worker's AF_XDP sockets and its ordinary ones.
pub(super) struct Engine {
    sockets: Vec<Xsk>,
    listening: Listening,
    kernel: Mmsg,
    /// The ordinary sockets or the bell may have something.
    kernel_ready: bool,
    turns_to_poll: u32,
    /// The AF_XDP sockets, then the ordinary ones and the bell.
    poll: PollSet,
    bell: Arc<Bell>,
    seat: Arc<Seat>,
}

impl Engine {
    pub(super) fn new(sockets: Vec<Arc<Socket>>, bell: Arc<Bell>, seat: Arc<Seat>) -> Self {
        seat.sit(Arc::clone(&bell), addresses(&sockets));
        let mut engine = Self {
            sockets: Vec::new(),
            listening: Listening::new(sockets.clone()),
            kernel: Mmsg::new(sockets, Arc::clone(&bell)),
            kernel_ready: true,
            turns_to_poll: 0,
            poll: PollSet::new(iter::empty()),
            bell,
            seat,
        };
        engine.obey();
        engine.watch();
        engine
    }

    /// Packets for an address are not taken before this has been said everywhere.
    pub(super) fn replace(&mut self, sockets: Vec<Arc<Socket>>) {
        self.listening = Listening::new(sockets.clone());
        self.seat.know(addresses(&sockets));
        self.kernel.replace(sockets);
        self.kernel_ready = true;
        self.watch();
    }

    pub(super) fn turn(
        &mut self,
        wait: Option<Duration>,
        serve: &mut (impl Serve + ?Sized),
    ) -> io::Result<Turn> {
        let mut turn = self.take(serve);
        match self.turns_to_poll.checked_sub(1) {
            _ if turn == Turn::default() && !self.kernel_ready => {
                let patience = self.patience(wait);
                self.look(patience)?;
                add(&mut turn, self.take(serve));
            }
            Some(turns) => self.turns_to_poll = turns,
            None => self.look(Some(Duration::ZERO))?,
        }
        if self.kernel_ready {
            let kernel = self.kernel.turn(Some(Duration::ZERO), serve)?;
            // Only a turn with nothing has asked all of them, and the bell.
            self.kernel_ready = kernel != Turn::default();
            if kernel.woken {
                self.obey();
            }
            add(&mut turn, kernel);
        }
        Ok(turn)
    }

    /// Turns the AF_XDP sockets.
    fn take(&mut self, serve: &mut (impl Serve + ?Sized)) -> Turn {
        let mut turn = Turn::default();
        let listening = &self.listening;
        for socket in &mut self.sockets {
            let route = |packet: &frame::Packet<'_>, interface| listening.route(packet, interface);
            add(&mut turn, socket.turn(route, serve));
        }
        turn
    }

    /// Learns whether the ordinary sockets have something; sleeps for at most `wait` while nothing
    /// has.
    fn look(&mut self, wait: Option<Duration>) -> io::Result<()> {
        self.turns_to_poll = POLL_EVERY;
        if self.poll.wait(wait)? > 0 {
            let first = self.sockets.len();
            let end = first + self.listening.count() + 1;
            self.kernel_ready |= (first..end).any(|index| self.poll.is_ready(index));
        }
        Ok(())
    }

    /// How long to sleep at the most: not long with something left to send.
    fn patience(&self, wait: Option<Duration>) -> Option<Duration> {
        match self.sockets.iter().any(Xsk::is_waiting_to_send) {
            true => Some(wait.map_or(AGAIN, |wait| wait.min(AGAIN))),
            false => wait,
        }
    }

    /// Takes the sockets that the keeper hands over, and closes those it wants closed.
    fn obey(&mut self) {
        let orders = self.seat.orders();
        if orders.is_empty() {
            return;
        }
        for order in orders {
            match order {
                Order::Turn(socket) => self.sockets.push(*socket),
                Order::Close(set) => self.sockets.retain(|socket| socket.set != set),
            }
        }
        self.watch();
    }

    fn watch(&mut self) {
        let sockets = self.sockets.iter().map(Xsk::as_fd);
        let ordinary = self.listening.sockets().map(AsFd::as_fd);
        self.poll = PollSet::new(sockets.chain(ordinary).chain(iter::once(self.bell.as_fd())));
        self.turns_to_poll = 0;
    }
}

fn addresses(sockets: &[Arc<Socket>]) -> Vec<SocketAddr> {
    sockets.iter().map(|socket| socket.local()).collect()
}

fn add(sum: &mut Turn, turn: Turn) {
    sum.received += turn.received;
    sum.sent += turn.sent;
    sum.dropped += turn.dropped;
    sum.woken |= turn.woken;
}

/// What is listened on, to be found by address.
struct Listening {
    sorted: Vec<(SocketAddr, Arc<Socket>)>,
    /// Where the last one was found: most packets are for where the one before was.
    last: Cell<usize>,
}

impl Listening {
    fn new(sockets: Vec<Arc<Socket>>) -> Self {
        let mut sorted: Vec<_> =
            sockets.into_iter().map(|socket| (plain(socket.local()), socket)).collect();
        sorted.sort_by_key(|(address, _)| *address);
        Self { sorted, last: Cell::new(0) }
    }

    fn count(&self) -> usize {
        self.sorted.len()
    }

    fn sockets(&self) -> impl Iterator<Item = &Socket> {
        self.sorted.iter().map(|(_, socket)| &**socket)
    }

    /// The way back of a packet, if we listen where it was sent to.
    #[inline]
    fn route(&self, packet: &frame::Packet<'_>, interface: u32) -> Option<Route> {
        let (peer, to) = (frame::scoped(packet.from(), interface), packet.to());
        if let Some(socket) = self.find(to) {
            return Some(socket.route(peer, None));
        }
        let any: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = self.find(SocketAddr::new(any, to.port()))?;
        Some(socket.route(peer, Some((to.ip(), interface))))
    }

    #[inline]
    fn find(&self, address: SocketAddr) -> Option<&Socket> {
        match self.sorted.get(self.last.get()) {
            Some((last, socket)) if *last == address => Some(socket),
            _ => self.search(address),
        }
    }

    fn search(&self, address: SocketAddr) -> Option<&Socket> {
        let found = self.sorted.binary_search_by_key(&address, |(address, _)| *address).ok()?;
        self.last.set(found);
        Some(&self.sorted[found].1)
    }
}

/// Without scope: a packet says none.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}
