//! AF_XDP sockets: one a receive queue, with memory and rings of its own.
//!
//! **How it fits.** The keeper [opens](Xsk::open) them; a worker turns those of its queues.
//!
//! **Invariants.** *kicked, never waited for*: a system call that sends is tried a few times and
//! never blocks. *memory last*: the memory is unmapped after the socket is closed; the kernel holds
//! its pages for as long as it needs them in any case.
//!
//! if_xdp.h; Documentation/networking/af_xdp.rst.

#![allow(unsafe_code, reason = "this is where AF_XDP sockets are set up")]

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use libc::{c_int, c_ulonglong, c_void};

use super::super::sys::{check, size};
use super::super::{Route, Serve, Turn};
use super::device::Device;
use super::frame;
use super::mapping::Mapping;
use super::queue::{HEADROOM, Queue, Rings};
use super::ring::{Consumer, Entry, Layout, Producer};
use super::umem::Umem;

/// How often a send is tried again in a turn: the kernel may send 32 packets a call.
const KICKS: usize = 8;

/// What sends at the most wait for in the kernel, in octets of its accounting.
const SEND_BUFFER: c_int = 16 << 20;

/// Packets a call sends in copy mode, where the kernel lets us say (Linux 6.18).
const XDP_MAX_TX_SKB_BUDGET: c_int = 9;
const SO_PREFER_BUSY_POLL: c_int = 69;
const SO_BUSY_POLL_BUDGET: c_int = 70;
const BUSY_POLL_PACKETS: c_int = 64;

/// May the card write into our memory?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroCopy {
    /// If it can.
    Auto,
    /// It must.
    On,
    /// The kernel copies.
    Off,
}

/// How sockets are opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    /// Entries of each ring: a power of two.
    pub(super) ring: u32,
    pub(super) zero_copy: ZeroCopy,
    pub(super) busy_poll: Option<Duration>,
}

/// Why a socket cannot be had.
#[derive(Debug)]
pub(super) enum Refusal {
    /// There is too little memory that may be locked; so much is needed, in octets.
    Memory(usize),
    /// Somebody has the queue.
    Busy,
    /// The driver has no zero-copy.
    NoZeroCopy,
    /// Something else, at this step.
    Other(&'static str, io::Error),
}

/// The octets of frames that a card of this MTU needs.
pub(super) fn frame_size(mtu: u32) -> Option<usize> {
    let whole = mtu as usize + frame::HEAD_MAX + HEADROOM;
    [2048, 4096].into_iter().find(|&size| whole <= size)
}

/// The longest Ethernet frame that fits.
pub(super) fn packet_max(frame_size: usize) -> u16 {
    u16::try_from(frame_size - HEADROOM).expect("frames have a few thousand octets")
}

/// What is known of a socket by those who do not turn it.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Requests, replies, and what was dropped of both in our hands.
    pub(super) received: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) dropped: AtomicU64,
    /// The interface's MTU: it may change.
    pub(super) mtu: AtomicU32,
    /// The worker no longer has it.
    closed: AtomicBool,
}

impl Tally {
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The worker is the only one who counts.
    fn add(&self, turn: &Turn) {
        let add = |to: &AtomicU64, number: usize| {
            to.store(to.load(Ordering::Relaxed) + number as u64, Ordering::Relaxed);
        };
        add(&self.received, turn.received);
        add(&self.sent, turn.sent);
        add(&self.dropped, turn.dropped);
    }
}

/// A socket that is turned.
pub(super) struct Xsk {
    fd: Arc<OwnedFd>,
    queue: Queue,
    interface: u32,
    /// Which set-up of which interface it belongs to.
    pub(super) set: u64,
    tally: Arc<Tally>,
    /// The kernel refuses to send: not to be tried before something else happens.
    stuck: bool,
}

impl Xsk {
    /// Opens the socket of a queue. It is given packets once it is in the map.
    pub(super) fn open(
        device: &Device,
        number: u32,
        set: u64,
        options: &Options,
    ) -> Result<Self, Refusal> {
        let other = |what| move |error| Refusal::Other(what, error);
        let size = frame_size(device.mtu).unwrap_or(4096);
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: takes no pointers.
        let fd = check(unsafe { libc::socket(libc::AF_XDP, kind, 0) }).map_err(other("socket"))?;
        // SAFETY: just opened, owned by nobody else.
        let fd = Arc::new(unsafe { OwnedFd::from_raw_fd(fd) });
        let umem = Umem::new(2 * options.ring, size).map_err(other("memory"))?;
        register(fd.as_fd(), &umem)?;
        let rings = rings(&fd, options.ring).map_err(other("rings"))?;
        let queue = Queue::new(umem, rings, options.ring);
        tune(fd.as_fd(), options);
        bind(fd.as_fd(), device.index, number, options.zero_copy)?;
        let tally = Arc::new(Tally { mtu: AtomicU32::new(device.mtu), ..Tally::default() });
        Ok(Self { fd, queue, interface: device.index, set, tally, stuck: false })
    }

    pub(super) fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// For who wants to know, without keeping it open.
    pub(super) fn weak(&self) -> Weak<OwnedFd> {
        Arc::downgrade(&self.fd)
    }

    /// Does the card write into our memory?
    pub(super) fn is_zero_copy(&self) -> bool {
        let mut options = libc::xdp_options { flags: 0 };
        let read = get(self.fd.as_fd(), libc::XDP_OPTIONS, &mut options);
        read.is_ok() && options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0
    }

    /// Receives a batch, has it served, and sends the replies.
    pub(super) fn turn(
        &mut self,
        route: impl Fn(&frame::Packet<'_>, u32) -> Option<Route>,
        serve: &mut (impl Serve + ?Sized),
    ) -> Turn {
        let mtu = self.tally.mtu.load(Ordering::Relaxed) as usize;
        let interface = self.interface;
        let turn = self.queue.turn(mtu, |packet| route(packet, interface), serve);
        if turn != Turn::default() {
            self.tally.add(&turn);
            self.stuck = false;
            if self.queue.needs_fill_kick() {
                self.kick_fill();
            }
        }
        if !self.stuck && self.queue.needs_kick() {
            self.kick();
        }
        turn
    }

    /// Has the kernel send what is in the ring, as far as it does so at once.
    fn kick(&mut self) {
        for _ in 0..KICKS {
            let (fd, flags) = (self.fd.as_raw_fd(), libc::MSG_DONTWAIT);
            // SAFETY: no data and no address: the kernel looks at its rings.
            let sent = unsafe { libc::sendto(fd, ptr::null(), 0, flags, ptr::null(), 0) };
            let error = if sent < 0 { io::Error::last_os_error().raw_os_error() } else { None };
            match error {
                None | Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::EINTR) => {}
                // The interface is down, or gone: who keeps it will see to that.
                Some(_) => {
                    self.stuck = true;
                    return;
                }
            }
            if !self.queue.needs_kick() {
                return;
            }
        }
    }

    /// Tells a card that has run out of frames that there are more.
    fn kick_fill(&self) {
        let (fd, flags) = (self.fd.as_raw_fd(), libc::MSG_DONTWAIT);
        let (none, no_len) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: no room for data or an address: the kernel looks at its rings.
        let _ = unsafe { libc::recvfrom(fd, ptr::null_mut(), 0, flags, none, no_len) };
    }

    /// Is there something to be sent that the kernel has yet to be told of again?
    pub(super) fn is_waiting_to_send(&self) -> bool {
        !self.stuck && self.queue.needs_kick()
    }
}

impl AsFd for Xsk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Xsk {
    fn drop(&mut self) {
        self.tally.closed.store(true, Ordering::Release);
    }
}

/// What the kernel dropped of what was for a socket: rings full, or without frames.
pub(super) fn kernel_drops(fd: BorrowedFd<'_>) -> u64 {
    // SAFETY: integers: all zeros are a value.
    let mut told: libc::xdp_statistics = unsafe { mem::zeroed() };
    match get(fd, libc::XDP_STATISTICS, &mut told) {
        Ok(()) => told.rx_dropped + told.rx_ring_full,
        Err(_) => 0,
    }
}

fn register(fd: BorrowedFd<'_>, umem: &Umem) -> Result<(), Refusal> {
    let memory = umem.memory();
    let registration = libc::xdp_umem_reg {
        addr: memory.at::<u8>(0).expose_provenance().get() as u64,
        len: memory.len() as u64,
        chunk_size: u32::try_from(umem.frame_size()).expect("frames are small"),
        headroom: 0,
        flags: 0,
        tx_metadata_len: 0,
    };
    set(fd, libc::SOL_XDP, libc::XDP_UMEM_REG, &registration).map_err(|error| {
        match error.raw_os_error() {
            Some(libc::ENOBUFS | libc::ENOMEM) => Refusal::Memory(memory.len()),
            _ => Refusal::Other("registering memory", error),
        }
    })
}

fn rings(fd: &Arc<OwnedFd>, count: u32) -> io::Result<Rings> {
    for ring in [
        libc::XDP_UMEM_FILL_RING,
        libc::XDP_UMEM_COMPLETION_RING,
        libc::XDP_RX_RING,
        libc::XDP_TX_RING,
    ] {
        set(fd.as_fd(), libc::SOL_XDP, ring, &count)?;
    }
    // SAFETY: integers: all zeros are a value.
    let mut offsets: libc::xdp_mmap_offsets = unsafe { mem::zeroed() };
    get(fd.as_fd(), libc::XDP_MMAP_OFFSETS, &mut offsets)?;
    let fill = libc::XDP_UMEM_PGOFF_FILL_RING;
    let completion = libc::XDP_UMEM_PGOFF_COMPLETION_RING;
    let receive = libc::XDP_PGOFF_RX_RING.cast_unsigned();
    let send = libc::XDP_PGOFF_TX_RING.cast_unsigned();
    let (memory, layout) = ring::<u64>(fd, offsets.fr, fill, count)?;
    let fill = Producer::new(memory, layout, count);
    let (memory, layout) = ring::<u64>(fd, offsets.cr, completion, count)?;
    let completion = Consumer::new(memory, layout, count);
    let (memory, layout) = ring::<super::ring::Packet>(fd, offsets.rx, receive, count)?;
    let receive = Consumer::new(memory, layout, count);
    let (memory, layout) = ring::<super::ring::Packet>(fd, offsets.tx, send, count)?;
    let send = Producer::new(memory, layout, count);
    Ok(Rings { fill, completion, receive, send })
}

/// Maps a ring that the kernel laid out so.
fn ring<T: Entry>(
    fd: &impl AsFd,
    at: libc::xdp_ring_offset,
    page: c_ulonglong,
    count: u32,
) -> io::Result<(Arc<Mapping>, Layout)> {
    let offset = |offset| usize::try_from(offset).map_err(io::Error::other);
    let layout = Layout {
        producer: offset(at.producer)?,
        consumer: offset(at.consumer)?,
        flags: offset(at.flags)?,
        entries: offset(at.desc)?,
    };
    let page = libc::off_t::try_from(page).map_err(io::Error::other)?;
    Ok((Arc::new(Mapping::of(fd, layout.len::<T>(count), page)?), layout))
}

/// What helps and is not needed: a kernel that knows it not, or forbids it, does without.
fn tune(fd: BorrowedFd<'_>, options: &Options) {
    let socket = libc::SOL_SOCKET;
    let budget = options.ring.cast_signed();
    let _ = set(fd, socket, libc::SO_SNDBUFFORCE, &SEND_BUFFER);
    let _ = set(fd, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &budget);
    if let Some(time) = options.busy_poll {
        let microseconds = c_int::try_from(time.as_micros()).unwrap_or(c_int::MAX);
        let _ = set(fd, socket, SO_PREFER_BUSY_POLL, &1);
        let _ = set(fd, socket, libc::SO_BUSY_POLL, &microseconds);
        let _ = set(fd, socket, SO_BUSY_POLL_BUDGET, &BUSY_POLL_PACKETS);
    }
}

fn bind(fd: BorrowedFd<'_>, interface: u32, queue: u32, how: ZeroCopy) -> Result<(), Refusal> {
    let copy = match how {
        ZeroCopy::Auto => 0,
        ZeroCopy::On => libc::XDP_ZEROCOPY,
        ZeroCopy::Off => libc::XDP_COPY,
    };
    let name = libc::sockaddr_xdp {
        sxdp_family: u16::try_from(libc::AF_XDP).expect("a small number"),
        sxdp_flags: libc::XDP_USE_NEED_WAKEUP | copy,
        sxdp_ifindex: interface,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: 0,
    };
    let (start, len) = ((&raw const name).cast(), size::<libc::sockaddr_xdp>());
    // SAFETY: `name` is borrowed for the call, with its size.
    let bound = check(unsafe { libc::bind(fd.as_raw_fd(), start, len) });
    bound.map(drop).map_err(|error| match error.raw_os_error() {
        Some(libc::EBUSY) => Refusal::Busy,
        Some(libc::EOPNOTSUPP) if how == ZeroCopy::On => Refusal::NoZeroCopy,
        _ => Refusal::Other("binding to a queue", error),
    })
}

/// setsockopt(2), as in `sys`.
fn set<T>(fd: BorrowedFd<'_>, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    let start: *const c_void = ptr::from_ref(value).cast();
    // SAFETY: `start` is borrowed for the call, with its size; the memory that a registration
    // names belongs to a Mapping that the socket's owner holds.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, start, size::<T>()) }).map(drop)
}

/// getsockopt(2), of SOL_XDP: `T` is of integers.
fn get<T>(fd: BorrowedFd<'_>, option: c_int, value: &mut T) -> io::Result<()> {
    let start: *mut c_void = ptr::from_mut(value).cast();
    let mut len = size::<T>();
    // SAFETY: `start` is borrowed for the call, with its size.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_XDP, option, start, &raw mut len) })
        .map(drop)
}
