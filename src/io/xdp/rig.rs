//! A queue without a card: what tests and fuzzing turn, with the kernel's side in their hands.

#![allow(unsafe_code, reason = "the kernel's side of the memory")]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::slice;
use std::sync::Arc;

use super::super::{ListenerId, Route, Serve, Turn};
use super::frame;
use super::mapping::Mapping;
use super::queue::{HEADROOM, Queue, Rings};
use super::ring::{Consumer, Layout, Packet, Producer, pair};
use super::umem::{Count, Umem};

/// Octets of a frame.
const FRAME: usize = 2048;

/// A queue and both ends of its rings. It answers for whatever address is asked.
pub struct Rig {
    queue: Queue,
    mtu: usize,
    ring: u32,
    parts: Parts,
    fill: Consumer<u64>,
    completion: Producer<u64>,
    receive: Producer<Packet>,
    send: Consumer<Packet>,
}

/// The memory of the frames and of the rings.
struct Parts {
    frames: Arc<Mapping>,
    rings: [Arc<Mapping>; 4],
}

impl Rig {
    /// With rings of `ring` entries.
    ///
    /// # Errors
    /// There is no memory.
    pub fn new(ring: u32, mtu: usize) -> io::Result<Self> {
        let part = |len| Mapping::anonymous(len).map(Arc::new);
        let (addresses, packets) = (Layout::OWN.len::<u64>(ring), Layout::OWN.len::<Packet>(ring));
        let rings = [part(addresses)?, part(addresses)?, part(packets)?, part(packets)?];
        let frames = part(2 * ring as usize * FRAME)?;
        Ok(Self::over(Parts { frames, rings }, ring, mtu))
    }

    /// As it was when it was new, in the same memory: getting that takes the system longer than
    /// most of what is done with it.
    #[must_use]
    pub fn renew(self) -> Self {
        let Self { parts, ring, mtu, .. } = self;
        let (start, len) = (parts.frames.at::<u8>(0), parts.frames.len());
        // SAFETY: all of the mapping; no reference into it outlives a borrow of `self`.
        unsafe { start.write_bytes(0, len) };
        Self::over(parts, ring, mtu)
    }

    fn over(parts: Parts, ring: u32, mtu: usize) -> Self {
        let umem = Umem::over(Arc::clone(&parts.frames), 2 * ring, FRAME);
        let [fills, completions, receives, sends] = &parts.rings;
        let (fill_in, fill) = pair(fills, ring, 0);
        let (completion, completion_out) = pair(completions, ring, 0);
        let (receive, receive_out) = pair(receives, ring, 0);
        let (send_in, send) = pair(sends, ring, 0);
        let rings = Rings {
            fill: fill_in,
            completion: completion_out,
            receive: receive_out,
            send: send_in,
        };
        let queue = Queue::new(umem, rings, ring);
        Self { queue, mtu, ring, parts, fill, completion, receive, send }
    }

    /// A frame comes in. `false`: there is no room for it, and it is lost.
    pub fn deliver(&mut self, frame: &[u8]) -> bool {
        let fits = frame.len() <= FRAME - HEADROOM;
        let Some(address) = fits.then(|| self.fill.pop()).flatten() else { return false };
        self.fill.publish();
        let start = usize::try_from(address).expect("an address of the memory") + HEADROOM;
        let to = self.parts.frames.at::<[u8; FRAME - HEADROOM]>(start).cast::<u8>().as_ptr();
        // SAFETY: within a frame that the queue lent for this, and nobody else is at.
        unsafe { to.copy_from_nonoverlapping(frame.as_ptr(), frame.len()) };
        let len = u32::try_from(frame.len()).expect("it fits a frame");
        let taken =
            self.receive.push(Packet { address: address + HEADROOM as u64, len, options: 0 });
        self.receive.publish();
        taken
    }

    /// A kernel that has gone mad says that a packet came, here.
    pub fn forge_arrival(&mut self, address: u64, len: u32) {
        if self.receive.push(Packet { address, len, options: 0 }) {
            self.receive.publish();
        }
    }

    /// A kernel that has gone mad says that this was sent.
    pub fn forge_completion(&mut self, address: u64) {
        if self.completion.push(address) {
            self.completion.publish();
        }
    }

    /// One turn.
    pub fn turn(&mut self, serve: &mut impl Serve) -> Turn {
        self.queue.turn(self.mtu, route, serve)
    }

    /// Sends the next frame: its octets.
    pub fn send(&mut self) -> Option<Vec<u8>> {
        let Packet { address, len, .. } = self.send.pop()?;
        self.send.publish();
        let start = usize::try_from(address).expect("an address of the memory");
        let len = len as usize;
        assert!(start % FRAME + len <= FRAME, "a packet is within its frame");
        let from = self.parts.frames.at::<u8>(start).as_ptr();
        // SAFETY: within a frame (just checked) that the queue lent for this, and nobody writes to.
        let frame = unsafe { slice::from_raw_parts(from, len) }.to_vec();
        self.forge_completion(address);
        Some(frame)
    }

    /// Panics if a frame is lost, or is in two places. To be called between turns.
    pub fn check(&self) {
        let Count { free, receiving, sending, held } = self.queue.count();
        assert_eq!(held, 0, "a frame is lost: {:?}", self.queue.count());
        assert_eq!(free + receiving + sending, 2 * self.ring as usize);
    }

    /// The frames that are out: to receive into, and to be sent.
    pub fn lent(&self) -> (usize, usize) {
        let Count { receiving, sending, .. } = self.queue.count();
        (receiving, sending)
    }
}

/// A datagram as a client's card sends it; without the checksums that nobody here looks at.
#[derive(Clone, Debug)]
pub struct Datagram<'p> {
    /// The hardware addresses, to and from.
    pub macs: [[u8; 6]; 2],
    /// The 802.1Q tag, if there is one.
    pub tag: Option<u16>,
    /// Who asks.
    pub from: SocketAddr,
    /// Who is asked; of the same family.
    pub to: SocketAddr,
    /// The request.
    pub payload: &'p [u8],
}

impl Datagram<'_> {
    /// The frame.
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = self.macs.concat();
        frame.extend(self.tag.iter().flat_map(|tag| {
            let [high, low] = tag.to_be_bytes();
            [0x81, 0, high, low]
        }));
        let len = |head: usize| {
            u16::try_from(head + self.payload.len()).expect("a small payload").to_be_bytes()
        };
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let [high, low] = len(28);
                frame.extend([8, 0, 0x45, 0, high, low, 0, 0, 0, 0, 64, 17, 0, 0]);
                frame.extend([from.octets(), to.octets()].concat());
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let [high, low] = len(8);
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, high, low, 17, 64]);
                frame.extend([from.octets(), to.octets()].concat());
            }
            _ => panic!("addresses of two families"),
        }
        frame.extend(self.from.port().to_be_bytes());
        frame.extend(self.to.port().to_be_bytes());
        frame.extend(len(8));
        frame.extend([0, 0]);
        frame.extend(self.payload);
        frame
    }
}

/// All is for us.
fn route(packet: &frame::Packet<'_>) -> Option<Route> {
    let local: IpAddr = packet.to().ip();
    let peer: SocketAddr = packet.from();
    Some(Route { peer, local, interface: 0, listener: ListenerId::NONE })
}

#[cfg(test)]
mod tests;
