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

use super::super::{BATCH, Batch, REPLY_MAX, Route, Serve, Turn};
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
    arrivals: Vec<Arrival>,
}

/// A request that came, and the frame for its reply.
struct Arrival {
    request: Frame,
    /// Where in its frame the request's packet is.
    at: usize,
    len: usize,
    place: Place,
    route: Route,
    reply: Frame,
}

impl Queue {
    /// Over rings of `ring` entries; the frames to receive into are pushed at once.
    pub(super) fn new(umem: Umem, rings: Rings, ring: u32) -> Self {
        let arrivals = Vec::with_capacity(BATCH);
        let mut queue = Self { umem, rings, receiving_max: ring, receiving: 0, arrivals };
        queue.refill();
        queue
    }

    /// Receives a batch, has it served, and publishes the replies. `route` knows whether a request
    /// is for us, and its way back. No packet is longer than `mtu`, without its link header.
    pub(super) fn turn(
        &mut self,
        mtu: usize,
        route: impl Fn(&frame::Packet) -> Option<Route>,
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
            for Arrival { request, reply, .. } in self.arrivals.drain(..) {
                self.umem.put(request);
                self.umem.put(reply);
            }
            self.refill();
        }
        while let Some(address) = self.rings.completion.pop() {
            if let Some((frame, _)) = self.umem.regain(address, Holder::Send) {
                self.umem.put(frame);
            }
        }
        self.rings.completion.publish();
    }

    /// Takes what came, up to a batch.
    fn arrive(&mut self, route: impl Fn(&frame::Packet) -> Option<Route>, turn: &mut Turn) {
        while self.arrivals.len() < BATCH {
            let Some(Packet { address, len, .. }) = self.rings.receive.pop() else { break };
            // The kernel names no frame that it was not lent; if it did, there is nothing to lose.
            let Some((request, at)) = self.umem.regain(address, Holder::Receive) else { continue };
            self.receiving -= 1;
            let octets = self.umem.octets(&request).get(at..at.saturating_add(len as usize));
            let packet = octets.and_then(frame::read);
            let known = packet.and_then(|packet| Some((route(&packet)?, packet.place)));
            let Some(((route, place), reply)) =
                known.and_then(|known| Some((known, self.umem.take()?)))
            else {
                turn.dropped += 1;
                self.umem.put(request);
                continue;
            };
            let len = len as usize;
            self.arrivals.push(Arrival { request, at, len, place, route, reply });
        }
        turn.received = self.arrivals.len();
        self.rings.receive.publish();
    }

    /// Has the batch served. Returns the lengths of the replies.
    fn serve(&mut self, mtu: usize, serve: &mut (impl Serve + ?Sized)) -> [usize; BATCH] {
        let umem = &self.umem;
        let room = umem.frame_size() - REPLY_AT;
        let mut batch = Batch::new();
        for arrival in &mut self.arrivals {
            let Arrival { request, at, place, route, reply, .. } = arrival;
            let room = room.min(mtu.saturating_sub(place.overhead())).min(REPLY_MAX);
            let request = &umem.octets(request)[*at..][place.payload()];
            batch.push(request, route, &mut umem.octets_mut(reply)[REPLY_AT..][..room]);
        }
        batch.serve(serve)
    }

    /// Publishes the replies and frees the requests' frames.
    fn send(&mut self, lens: [usize; BATCH], turn: &mut Turn) {
        let mut arrivals = std::mem::take(&mut self.arrivals);
        for (Arrival { request, at, len, place, mut reply, .. }, reply_len) in
            arrivals.drain(..).zip(lens)
        {
            if reply_len == 0 {
                self.umem.put(reply);
            } else {
                let octets = &self.umem.octets(&request)[at..at + len];
                let payload = REPLY_AT..REPLY_AT + reply_len;
                let whole = frame::write(place, octets, self.umem.octets_mut(&mut reply), payload);
                match self.push(reply, whole.start, whole.len()) {
                    true => turn.sent += 1,
                    false => turn.dropped += 1,
                }
            }
            self.umem.put(request);
        }
        self.arrivals = arrivals;
        self.rings.send.publish();
    }

    /// Moves a frame to the ring of those to be sent; `false`: that is full.
    fn push(&mut self, frame: Frame, start: usize, len: usize) -> bool {
        let base = self.umem.lend(frame, Holder::Send);
        let len = u32::try_from(len).expect("a frame has a few thousand octets");
        let packet = Packet { address: base + start as u64, len, options: 0 };
        let pushed = self.rings.send.push(packet);
        if !pushed && let Some((frame, _)) = self.umem.regain(base, Holder::Send) {
            self.umem.put(frame);
        }
        pushed
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
