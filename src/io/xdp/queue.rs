//! The packets of one receive queue: taken from its rings, served, and replied to by its rings.
//!
//! **How it fits.** An [`super::socket::Xsk`] owns one over memory that it shares with the kernel;
//! tests own one over memory of their own. No system call is made here.
//!
//! **Invariants.**
//! - *apart*: a reply is written into a frame of its own, so that the request is there until it is
//!   sent. The request's frame goes back to the kernel in the same turn.
//! - *half and half*: at most as many frames as a ring has entries are out to receive, so that as
//!   many are left to send.
//! - *dropped and counted*: a reply without a frame or a place in the ring is dropped.

use arrayvec::ArrayVec;
use std::ops::Range;

use super::super::{self as asked, BATCH, Batch, Lens, REPLY_MAX, Route, Serve, Turn, served};
use super::frame::{self, HEAD_MAX, Place};
use super::ring::{Consumer, Packet, Producer};
use super::umem::{Count, Frame, Holder, Umem};

/// Where replies begin in their frame: all headers fit before, and copies are aligned.
const REPLY_AT: usize = 128;
const _: () = assert!(REPLY_AT >= HEAD_MAX, "the headers fit");

/// What the kernel may keep before a packet in its frame (XDP_PACKET_HEADROOM).
pub(super) const HEADROOM: usize = 256;

/// The four rings of a socket.
pub(super) struct Rings {
    /// Frames to receive into.
    pub(super) fill: Producer<u64>,
    /// Frames that were sent.
    pub(super) completion: Consumer<u64>,
    pub(super) receive: Consumer<Packet>,
    pub(super) send: Producer<Packet>,
}

pub(super) struct Queue {
    umem: Umem,
    rings: Rings,
    /// Frames that may be out to receive, and how many are.
    receiving_max: u32,
    receiving: u32,
    /// What this batch is made of.
    arrivals: ArrayVec<Arrival, BATCH>,
    /// The way back of each.
    routes: ArrayVec<Route, BATCH>,
}

/// A request that came, and the frame for its reply.
struct Arrival {
    request: Frame,
    reply: Frame,
    /// Where in its frame the request's packet is.
    at: usize,
    len: usize,
    place: Place,
}

impl Arrival {
    fn packet(&self) -> Range<usize> {
        self.at..self.at + self.len
    }
}

impl Queue {
    /// Over rings of `ring` entries; the frames to receive into are pushed at once.
    pub(super) fn new(umem: Umem, rings: Rings, ring: u32) -> Self {
        let (arrivals, routes) = (ArrayVec::new(), ArrayVec::new());
        let mut queue = Self { umem, rings, receiving_max: ring, receiving: 0, arrivals, routes };
        queue.refill();
        queue
    }

    /// Receives a batch, has it served, and publishes the replies. `route` knows whether a request
    /// is for us, and its way back. No packet is longer than `mtu`, without its link header.
    pub(super) fn turn(
        &mut self,
        mtu: usize,
        route: impl Fn(&frame::Packet<'_>) -> Option<Route>,
        serve: &mut (impl Serve + ?Sized),
    ) -> Turn {
        let mut turn = Turn::default();
        self.reap();
        self.arrive(route, &mut turn);
        if !self.arrivals.is_empty() {
            let lens = self.serve(mtu, serve);
            self.send(lens, &mut turn);
        }
        self.refill();
        turn
    }

    /// Frames that were sent are free again; so are those of a batch that made [`Serve`] panic.
    fn reap(&mut self) {
        if !self.arrivals.is_empty() {
            self.forget();
        }
        while let Some(address) = self.rings.completion.pop() {
            if let Some((frame, _)) = self.umem.regain(address, Holder::Send) {
                self.umem.put(frame);
            }
        }
        self.rings.completion.publish();
    }

    #[cold]
    fn forget(&mut self) {
        for Arrival { request, reply, .. } in self.arrivals.drain(..) {
            self.umem.put(request);
            self.umem.put(reply);
        }
        self.refill();
    }

    /// Takes what came, up to a batch.
    fn arrive(&mut self, route: impl Fn(&frame::Packet<'_>) -> Option<Route>, turn: &mut Turn) {
        self.routes.clear();
        let mut came: ArrayVec<Packet, BATCH> = ArrayVec::new();
        while let Some(packet) = self.rings.receive.pop() {
            self.umem.prefetch(packet.address);
            came.push(packet);
            if came.is_full() {
                break;
            }
        }
        for &Packet { address, len, .. } in &came {
            let len = len as usize;
            // The kernel names no frame that it was not lent; if it did, there is nothing to lose.
            let Some((request, at)) = self.umem.regain(address, Holder::Receive) else { continue };
            self.receiving -= 1;
            match self.arrived(&request, at, len, &route) {
                Some((reply, place)) => {
                    self.arrivals.push(Arrival { request, reply, at, len, place });
                }
                None => {
                    turn.dropped += 1;
                    self.umem.put(request);
                }
            }
        }
        turn.received = self.arrivals.len();
        self.rings.receive.publish();
    }

    /// A frame for the reply to the packet in this one, and where that has what, if it is for us
    /// and there is such a frame; its way back is noted.
    #[inline]
    fn arrived(
        &mut self,
        request: &Frame,
        at: usize,
        len: usize,
        route: impl Fn(&frame::Packet<'_>) -> Option<Route>,
    ) -> Option<(Frame, Place)> {
        let octets = self.umem.octets(request).get(at..at.saturating_add(len))?;
        let packet = frame::read(octets)?;
        let (place, route) = (packet.place, route(&packet)?);
        let reply = self.umem.take()?;
        self.routes.push(route);
        Some((reply, place))
    }

    /// Has the batch served. Returns the lengths of the replies.
    fn serve(&mut self, mtu: usize, serve: &mut (impl Serve + ?Sized)) -> Lens {
        let umem = &self.umem;
        let room = (umem.frame_size() - REPLY_AT).min(REPLY_MAX);
        let mut batch = Batch::new();
        for (arrival, route) in self.arrivals.iter_mut().zip(&self.routes) {
            let room = room.min(mtu.saturating_sub(arrival.place.overhead()));
            let packet = &umem.octets(&arrival.request)[arrival.packet()];
            let reply = &mut umem.octets_mut(&mut arrival.reply)[REPLY_AT..][..room];
            batch.push(asked::Packet::new(&packet[arrival.place.payload()], route, reply));
        }
        served(&mut batch, serve)
    }

    /// Publishes the replies and frees the requests' frames.
    fn send(&mut self, lens: Lens, turn: &mut Turn) {
        let Self { umem, rings, arrivals, .. } = self;
        for (mut arrival, reply_len) in arrivals.drain(..).zip(lens) {
            if reply_len == 0 {
                umem.put(arrival.reply);
            } else {
                let asked = &umem.octets(&arrival.request)[arrival.packet()];
                let payload = REPLY_AT..REPLY_AT + reply_len;
                let frame = umem.octets_mut(&mut arrival.reply);
                let whole = frame::write(arrival.place, asked, frame, payload);
                match push(umem, &mut rings.send, arrival.reply, whole) {
                    true => turn.sent += 1,
                    false => turn.dropped += 1,
                }
            }
            umem.put(arrival.request);
        }
        rings.send.publish();
    }

    /// Lends the kernel as many frames to receive into as it may have.
    fn refill(&mut self) {
        while self.receiving < self.receiving_max {
            let Some(frame) = self.umem.take() else { break };
            let address = self.umem.lend(frame, Holder::Receive);
            if !self.rings.fill.push(address) {
                if let Some((frame, _)) = self.umem.regain(address, Holder::Receive) {
                    self.umem.put(frame);
                }
                break;
            }
            self.receiving += 1;
        }
        self.rings.fill.publish();
    }

    /// Must the kernel be told that there is something to send?
    pub(super) fn needs_kick(&self) -> bool {
        self.rings.send.needs_wakeup() && !self.rings.send.is_drained()
    }

    /// Does the kernel wait to be told of frames to receive into?
    pub(super) fn needs_fill_kick(&self) -> bool {
        self.rings.fill.needs_wakeup()
    }

    /// Where the frames are.
    pub(super) fn count(&self) -> Count {
        self.umem.count()
    }
}

/// Moves a frame to the ring of those to be sent, where `whole` in it is the packet; `false`: that
/// is full.
#[inline]
fn push(umem: &mut Umem, ring: &mut Producer<Packet>, frame: Frame, whole: Range<usize>) -> bool {
    let base = umem.lend(frame, Holder::Send);
    let len = u32::try_from(whole.len()).expect("a frame has a few thousand octets");
    let pushed = ring.push(Packet { address: base + whole.start as u64, len, options: 0 });
    if !pushed && let Some((frame, _)) = umem.regain(base, Holder::Send) {
        umem.put(frame);
    }
    pushed
}
