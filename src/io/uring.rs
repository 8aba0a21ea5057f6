//! The io_uring backend: one receive a socket that never ends, replies submitted together.
//!
//! **How it fits.** [`super::Port`] turns it. A turn is one io_uring_enter: it submits the replies
//! of the turn before and waits for requests; what the completions bring is served, and the
//! replies to it are queued. So a reply leaves as the next turn begins, or when the port is dropped.
//!
//! **Invariants.**
//! - *lent*: a buffer is the kernel's until a completion names it: then a [`Taken`] stands for it,
//!   which cannot be copied, and giving that back gives the buffer back.
//! - *written once*: a reply's memory is written again only when the submission queue is empty.
//!   The kernel is done with a send once submitted, for MSG_DONTWAIT makes it succeed or fail there.
//! - *one thread*: the ring takes its orders from the thread of the first turn only.
//! - *quiet before freed*: memory the kernel may write to is freed only after every receive has
//!   ended; where that cannot be had (dropped by another thread), it is leaked.
//!
//! Closing a ring interrupts system calls of the thread that opened it: they may see EINTR.
//!
//! **Tried, did not pay** (`benches/port.rs`, on a shared machine): sends by sendmmsg (5.1 us instead
//! of 4.4 for a lone request, no clear gain in batches), registered files and ring, IORING_OP_SEND
//! with an address instead of SENDMSG with a header (all within noise). What is left is the price of
//! an entry of the queue for each reply: 2.4-2.7 us a reply in batches of 32 where mmsg takes 2.15.
//!
//! **Needs** Linux 6.0 (multishot recvmsg); from 6.1 on, completions wait for the turn that reaps
//! them (DEFER_TASKRUN) rather than interrupt it.

#![allow(unsafe_code, reason = "what is queued has pointers in it")]

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::message::{Control, Letter, Name, Outbox, Stable};
use super::sys::Bell;
use super::{BATCH, Batch, Lens, Packet, REPLY_MAX, Route, Serve, Socket, Turn, served};

/// Entries of the submission queue: a batch of replies and some sockets to arm.
const SUBMISSIONS: u32 = 256;
/// Buffers for requests: four batches. More would only cool the cache: the kernel uses them in
/// turn, and what finds none waits in its socket.
const BUFFERS: u16 = 256;
/// Entries of the completion queue: every buffer, a failure of every send, and to spare.
const COMPLETIONS: u32 = 1024;
/// The one group of buffers.
const GROUP: u16 = 0;

pub(super) struct Uring {
    ring: IoUring,
    enabled: bool,
    lines: Vec<Line>,
    bell: Arc<Bell>,
    bell_armed: bool,
    /// What this batch is made of.
    arrivals: Vec<Arrival>,
    memory: ManuallyDrop<Memory>,
}

/// All that the kernel is told the address of.
struct Memory {
    buffers: Buffers,
    /// How much of a buffer the name and the control data take.
    shape: Stable<Shape>,
    outbox: Outbox,
    replies: Stable<[u8; REPLY_MAX]>,
}

/// A place for a socket, whose index names it in completions.
struct Line {
    /// None: the place is free.
    socket: Option<Arc<Socket>>,
    /// The kernel has a receive for it.
    armed: bool,
    /// Replaced: it becomes free when its receive has ended and its replies are submitted.
    leaves: bool,
}

/// A request that came.
struct Arrival {
    taken: Taken,
    line: usize,
    route: Route,
    len: usize,
}

impl Uring {
    /// Sets everything up, so that a kernel that lacks or forbids something says so here.
    pub(super) fn new(sockets: Vec<Arc<Socket>>, bell: Arc<Bell>) -> io::Result<Self> {
        let ring = ring(true).or_else(|_| ring(false))?;
        let memory = Memory {
            buffers: Buffers::new(),
            shape: Stable::new(1, |_| Shape::new()),
            outbox: Outbox::new(BATCH),
            replies: Stable::new(BATCH, |_| [0; REPLY_MAX]),
        };
        let entries = memory.buffers.entries.at(0).expose_provenance() as u64;
        // SAFETY: the entries are BUFFERS in number, page-aligned, and freed only when quiet.
        unsafe { ring.submitter().register_buf_ring_with_flags(entries, BUFFERS, GROUP, 0) }?;
        let mut uring = Self {
            ring,
            enabled: false,
            lines: Vec::new(),
            bell,
            bell_armed: false,
            arrivals: Vec::with_capacity(BATCH),
            memory: ManuallyDrop::new(memory),
        };
        uring.replace(sockets)?;
        Ok(uring)
    }

    /// Sockets that stay keep their receive; those that go have it cancelled.
    pub(super) fn replace(&mut self, mut sockets: Vec<Arc<Socket>>) -> io::Result<()> {
        for index in 0..self.lines.len() {
            let line = &mut self.lines[index];
            let Some(socket) = &line.socket else { continue };
            let found = sockets.iter().position(|stays| stays.id() == socket.id());
            match found {
                _ if line.leaves => {} // even if it comes back: its receive is ending
                Some(place) => drop(sockets.swap_remove(place)),
                None => {
                    line.leaves = true;
                    if line.armed {
                        let what = CancelBuilder::user_data(Tag::Receive(index).into());
                        self.push(opcode::AsyncCancel2::new(what).build(), Tag::Cancel)?;
                    }
                }
            }
        }
        for socket in sockets {
            let line = Line { socket: Some(socket), armed: false, leaves: false };
            match self.lines.iter_mut().find(|line| line.socket.is_none()) {
                Some(free) => *free = line,
                None => self.lines.push(line),
            }
        }
        Ok(())
    }

    pub(super) fn turn(
        &mut self,
        wait: Option<Duration>,
        serve: &mut (impl Serve + ?Sized),
    ) -> io::Result<Turn> {
        if !self.enabled {
            self.ring.submitter().register_enable_rings()?;
            self.enabled = true;
        }
        self.arm()?;
        if self.ring.completion().is_empty() {
            self.enter(wait)?;
        } else if !self.ring.submission().is_empty() {
            self.enter(Some(Duration::ZERO))?;
        }
        let mut turn = Turn::default();
        if !self.ring.submission().is_empty() {
            return Ok(turn); // the kernel is short of memory: try again before writing replies
        }
        for line in self.lines.iter_mut().filter(|line| line.leaves && !line.armed) {
            *line = Line { socket: None, armed: false, leaves: false };
        }
        self.reap(&mut turn)?;
        turn.received = self.arrivals.len();
        if turn.received > 0 {
            let lens = self.serve(serve);
            self.send(&lens, &mut turn)?;
        }
        Ok(turn)
    }

    /// Starts the receives that are not under way.
    fn arm(&mut self) -> io::Result<()> {
        for index in 0..self.lines.len() {
            let line = &mut self.lines[index];
            if let (Some(socket), false) = (&line.socket, line.armed || line.leaves) {
                line.armed = true;
                let shape = self.memory.shape.at(0).cast();
                let fd = Fd(socket.as_fd().as_raw_fd());
                let receive = opcode::RecvMsgMulti::new(fd, shape, GROUP).build();
                self.push(receive, Tag::Receive(index))?;
            }
        }
        if !self.bell_armed {
            self.bell_armed = true;
            let readable = u32::from(libc::POLLIN.cast_unsigned());
            let poll = opcode::PollAdd::new(Fd(self.bell.as_fd().as_raw_fd()), readable);
            self.push(poll.multi(true).build(), Tag::Bell)?;
        }
        Ok(())
    }

    /// Queues `entry`, submitting first if the queue is full.
    fn push(&mut self, entry: squeue::Entry, tag: Tag) -> io::Result<()> {
        let entry = entry.user_data(tag.into());
        if self.ring.submission().is_full() {
            self.enter(Some(Duration::ZERO))?;
        }
        // SAFETY: sockets are held by their line and the bell by self until their requests ended;
        // the other pointers lead into `memory` (see *written once* and *quiet before freed*).
        unsafe { self.ring.submission().push(&entry) }.map_err(|_| io::ErrorKind::WouldBlock.into())
    }

    /// Submits what is queued and waits for a completion, at most for `wait`.
    fn enter(&mut self, wait: Option<Duration>) -> io::Result<()> {
        let submitter = self.ring.submitter();
        let result = match wait {
            None => submitter.submit_and_wait(1),
            Some(Duration::ZERO) => submitter.submit_and_wait(0),
            Some(wait) => {
                let wait = Timespec::from(wait);
                submitter.submit_with_args(1, &SubmitArgs::new().timespec(&wait))
            }
        };
        match result {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Takes completions until the batch is full or there are no more.
    fn reap(&mut self, turn: &mut Turn) -> io::Result<()> {
        // A batch that made Serve panic is not served again.
        self.memory.buffers.give_back(self.arrivals.drain(..).map(|arrival| arrival.taken));
        while self.arrivals.len() < BATCH {
            let Some(entry) = self.ring.completion().next() else { break };
            let more = cqueue::more(entry.flags());
            match Tag::from(entry.user_data()) {
                Tag::Receive(line) => {
                    turn.dropped += self.arrive(line, &entry)?;
                    self.lines[line].armed = more;
                }
                Tag::Send => turn.dropped += usize::from(entry.result() < 0),
                Tag::Bell => {
                    self.bell_armed = more;
                    turn.woken |= self.bell.hush();
                }
                Tag::Cancel => {}
            }
        }
        Ok(())
    }

    /// One completion of a receive. How many requests did it lose?
    fn arrive(&mut self, line: usize, entry: &cqueue::Entry) -> io::Result<usize> {
        let Some(taken) = self.memory.buffers.take(entry) else {
            return match -entry.result() {
                // Without a buffer the request waits in its socket.
                libc::ENOBUFS | libc::ECANCELED => Ok(0),
                error => super::lost(io::Error::from_raw_os_error(error)),
            };
        };
        let socket = self.lines[line].socket.as_deref().expect("a receive ends before its line");
        let buffer = self.memory.buffers.look(&taken);
        let whole = buffer.out.flags & libc::MSG_TRUNC.cast_unsigned() == 0;
        let route = buffer.letter.route(socket, buffer.out.control_len as usize);
        match route.filter(|_| whole && entry.result() >= 0) {
            Some(route) => {
                let len = buffer.out.payload_len as usize;
                self.arrivals.push(Arrival { taken, line, route, len });
                Ok(0)
            }
            None => {
                self.memory.buffers.give_back([taken]);
                Ok(1)
            }
        }
    }

    /// Has the batch served. Returns the lengths of the replies.
    fn serve(&mut self, serve: &mut (impl Serve + ?Sized)) -> Lens {
        let Memory { buffers, replies, .. } = &mut *self.memory;
        let mut batch = Batch::new();
        for (arrival, reply) in self.arrivals.iter().zip(replies.iter_mut()) {
            let request = buffers.look(&arrival.taken).letter.request(arrival.len);
            batch.push(Packet::new(request, &arrival.route, reply));
        }
        served(&mut batch, serve)
    }

    /// Queues the replies and gives the requests' buffers back.
    fn send(&mut self, lens: &Lens, turn: &mut Turn) -> io::Result<()> {
        let mut arrivals = std::mem::take(&mut self.arrivals);
        for (index, arrival) in arrivals.iter().enumerate().filter(|(index, _)| lens[*index] > 0) {
            let Some(socket) = &self.lines[arrival.line].socket else { continue };
            let Memory { outbox, replies, .. } = &mut *self.memory;
            let reply = &replies[index][..lens[index]];
            let header = outbox.write(index, socket, &arrival.route, reply);
            let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL).cast_unsigned();
            let send = opcode::SendMsg::new(Fd(socket.as_fd().as_raw_fd()), header).flags(flags);
            let send = send.build().flags(squeue::Flags::SKIP_SUCCESS);
            self.push(send, Tag::Send)?;
            turn.sent += 1;
        }
        self.memory.buffers.give_back(arrivals.drain(..).map(|arrival| arrival.taken));
        self.arrivals = arrivals;
        Ok(())
    }

    /// Sends what is queued and ends every receive. Did it, within some tries?
    fn quiet(&mut self) -> bool {
        const TRIES: usize = 100;
        if !self.enabled {
            return true;
        }
        let all = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
        let armed = |uring: &Self| uring.bell_armed || uring.lines.iter().any(|l| l.armed);
        if self.push(all, Tag::Cancel).is_err() {
            return false;
        }
        for _ in 0..TRIES {
            if !armed(self) && self.ring.submission().is_empty() {
                return true;
            }
            if self.enter(Some(Duration::from_millis(10))).is_err() {
                return false;
            }
            let mut turn = Turn::default();
            let reaped = self.reap(&mut turn);
            self.memory.buffers.give_back(self.arrivals.drain(..).map(|arrival| arrival.taken));
            if reaped.is_err() {
                return false;
            }
        }
        false
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        if self.quiet() {
            // SAFETY: dropped once, here, and not used after.
            unsafe { ManuallyDrop::drop(&mut self.memory) };
        }
    }
}

/// A ring, still disabled, that is for one thread; `defer`: it runs its work only when told to.
fn ring(defer: bool) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_single_issuer().setup_r_disabled().setup_submit_all().setup_cqsize(COMPLETIONS);
    if defer {
        builder.setup_defer_taskrun();
    } else {
        builder.setup_coop_taskrun();
    }
    builder.setup_taskrun_flag().build(SUBMISSIONS)
}

/// What a completion is of.
enum Tag {
    Receive(usize),
    Send,
    Bell,
    Cancel,
}

impl From<Tag> for u64 {
    fn from(tag: Tag) -> Self {
        match tag {
            Tag::Send => 0,
            Tag::Bell => 1,
            Tag::Cancel => 2,
            Tag::Receive(line) => 3 + line as Self,
        }
    }
}

impl From<u64> for Tag {
    fn from(data: u64) -> Self {
        match data {
            0 => Self::Send,
            1 => Self::Bell,
            2 => Self::Cancel,
            line => Self::Receive(usize::try_from(line - 3).expect("made from a usize")),
        }
    }
}

/// The memory requests arrive in.
struct Buffers {
    buffers: Stable<Buffer>,
    /// The ring of those that are the kernel's to fill. It only reads it.
    entries: Stable<Entries>,
    /// How many were ever given, wrapping.
    given: u16,
}

/// A request as a multishot receive delivers it.
#[repr(C)]
struct Buffer {
    out: Out,
    letter: Letter,
}

/// `struct io_uring_recvmsg_out`.
#[repr(C)]
struct Out {
    name_len: u32,
    control_len: u32,
    payload_len: u32,
    flags: u32,
}

/// `struct io_uring_buf_ring`: it starts on a page.
#[repr(C, align(4096))]
struct Entries([Entry; BUFFERS as usize]);

/// `struct io_uring_buf`.
#[repr(C)]
struct Entry {
    addr: u64,
    len: u32,
    id: u16,
    /// In the first entry: `given`, for the kernel.
    tail: AtomicU16,
}

/// A buffer that is ours: its number.
struct Taken(u16);

impl Buffers {
    fn new() -> Self {
        const NONE: Out = Out { name_len: 0, control_len: 0, payload_len: 0, flags: 0 };
        let entry = |_| Entry { addr: 0, len: 0, id: 0, tail: AtomicU16::new(0) };
        let mut buffers = Self {
            buffers: Stable::new(BUFFERS.into(), |_| Buffer { out: NONE, letter: Letter::NONE }),
            entries: Stable::new(1, |_| Entries(std::array::from_fn(entry))),
            given: 0,
        };
        buffers.give_back((0..BUFFERS).map(Taken));
        buffers
    }

    /// The buffer that a completion delivers, if it does.
    fn take(&mut self, entry: &cqueue::Entry) -> Option<Taken> {
        cqueue::buffer_select(entry.flags()).map(Taken)
    }

    fn look(&self, taken: &Taken) -> &Buffer {
        let buffer: *const Buffer = self.buffers.at(taken.0.into());
        // SAFETY: the address is of a live buffer, and while it is taken (see *lent*) the kernel
        // does not write to it, nor do we. Any bits are a Buffer.
        unsafe { &*buffer }
    }

    /// The kernel may fill these again.
    fn give_back(&mut self, taken: impl IntoIterator<Item = Taken>) {
        let Entries(entries) = &mut self.entries[0];
        for Taken(id) in taken {
            let entry = &mut entries[usize::from(self.given % BUFFERS)];
            entry.addr = self.buffers.at(id.into()).expose_provenance() as u64;
            entry.len = u32::try_from(size_of::<Buffer>()).expect("some KiB");
            entry.id = id;
            self.given = self.given.wrapping_add(1);
        }
        entries[0].tail.store(self.given, Ordering::Release);
    }
}

/// The header that a multishot receive is started with: nothing but lengths.
struct Shape(#[expect(dead_code, reason = "the kernel reads it")] libc::msghdr);

// SAFETY: it holds no pointer but null.
unsafe impl Send for Shape {}

impl Shape {
    fn new() -> Self {
        Self(libc::msghdr {
            msg_name: ptr::null_mut(),
            msg_namelen: Name::SPACE,
            msg_iov: ptr::null_mut(),
            msg_iovlen: 0,
            msg_control: ptr::null_mut(),
            msg_controllen: Control::SPACE,
            msg_flags: 0,
        })
    }
}
