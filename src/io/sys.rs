//! System calls, checked: what socket2 and std do not cover, each behind a safe function.
//!
//! **How it fits.** Outside of here, only `uring` has unsafe code in `io`. [`Inbox`] and [`Outbox`]
//! are the memory that recvmmsg and sendmmsg (and `uring`'s sends) work on; their users see slices.
//!
//! **Invariants.**
//! - *stable*: memory whose address the kernel is told lies in a [`Stable`] and does not move.
//! - *any bits*: the unions read here hold integers only, so that whatever bytes are in them (they
//!   start as zeros) are a value.
//!
//! **Sections.** RFC 3542 section 6.1 (IPV6_PKTINFO); ip(7), ipv6(7), cmsg(3).

#![allow(unsafe_code, reason = "this is where system calls are made")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::time::Duration;

use libc::{c_int, c_void, socklen_t};

use super::{REQUEST_MAX, Route, Socket};

/// TCP connections that may wait to be accepted; the system may allow fewer.
pub(super) const BACKLOG_MAX: c_int = libc::SOMAXCONN;

/// A slice that stays where it is, for the kernel to read and write.
///
/// It is held by a raw pointer, so that neither moving the owner nor borrowing the slice ends the
/// validity of addresses handed out by [`Stable::at`].
pub(super) struct Stable<T>(NonNull<[T]>);

// SAFETY: a Stable owns its elements, as a Box does.
unsafe impl<T: Send> Send for Stable<T> {}

impl<T> Stable<T> {
    /// `count` elements, made by `element`.
    pub(super) fn new(count: usize, element: impl FnMut(usize) -> T) -> Self {
        let slice: Box<[T]> = (0..count).map(element).collect();
        Self(NonNull::from(Box::leak(slice)))
    }

    /// The address of element `index`, valid as long as this lives. Using it is up to the caller:
    /// not while the slice is borrowed.
    pub(super) fn at(&self, index: usize) -> *mut T {
        assert!(index < self.0.len(), "an element of the slice");
        self.0.cast::<T>().as_ptr().wrapping_add(index)
    }
}

impl<T> Deref for Stable<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: made by Box::leak in `new`, freed only in `drop`; &self keeps writers out.
        unsafe { self.0.as_ref() }
    }
}

impl<T> DerefMut for Stable<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; &mut self keeps everybody else out.
        unsafe { self.0.as_mut() }
    }
}

impl<T> Drop for Stable<T> {
    fn drop(&mut self) {
        // SAFETY: the slice came from a Box and is given back once.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// A socket address as the kernel has it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) union Name {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
    space: [u64; 4],
}

impl Name {
    /// The room for any, in octets.
    pub(super) const SPACE: socklen_t = size::<Self>();
    pub(super) const NONE: Self = Self { space: [0; 4] };

    fn of(addr: SocketAddr) -> (Self, socklen_t) {
        let mut name = Self::NONE;
        match addr {
            SocketAddr::V4(addr) => {
                name.v4 = libc::sockaddr_in {
                    sin_family: family(libc::AF_INET),
                    sin_port: addr.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from(*addr.ip()).to_be() },
                    sin_zero: [0; 8],
                };
                (name, size::<libc::sockaddr_in>())
            }
            SocketAddr::V6(addr) => {
                name.v6 = libc::sockaddr_in6 {
                    sin6_family: family(libc::AF_INET6),
                    sin6_port: addr.port().to_be(),
                    sin6_flowinfo: addr.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: addr.ip().octets() },
                    sin6_scope_id: addr.scope_id(),
                };
                (name, size::<libc::sockaddr_in6>())
            }
        }
    }

    /// The address, if it is one of the Internet. The flow label of a request is not kept.
    fn addr(&self) -> Option<SocketAddr> {
        // SAFETY: any bits; both families begin with theirs.
        let v4 = unsafe { self.v4 };
        if v4.sin_family == family(libc::AF_INET) {
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            return Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into());
        }
        // SAFETY: any bits.
        let v6 = unsafe { self.v6 };
        (v6.sin6_family == family(libc::AF_INET6)).then(|| {
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), 0, v6.sin6_scope_id).into()
        })
    }
}

/// A control message that tells or sets the local address: the only one we ask for.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) union Control {
    v4: PacketInfo<libc::in_pktinfo>,
    v6: PacketInfo<libc::in6_pktinfo>,
    space: [u64; 5],
}

#[derive(Clone, Copy)]
#[repr(C)]
struct PacketInfo<I> {
    header: libc::cmsghdr,
    info: I,
}

impl<I> PacketInfo<I> {
    /// What `cmsg_len` says of it (CMSG_LEN).
    const LEN: usize = mem::offset_of!(Self, info) + size_of::<I>();

    fn new(level: c_int, kind: c_int, info: I) -> Self {
        let header = libc::cmsghdr { cmsg_len: Self::LEN, cmsg_level: level, cmsg_type: kind };
        Self { header, info }
    }
}

impl Control {
    /// The room for any, in octets.
    pub(super) const SPACE: usize = size_of::<Self>();
    pub(super) const NONE: Self = Self { space: [0; 5] };

    /// Makes a message leave from `local`; and how long that is.
    fn of(local: IpAddr, interface: u32) -> (Self, usize) {
        let mut control = Self::NONE;
        match local {
            IpAddr::V4(ip) => {
                let none = libc::in_addr { s_addr: 0 };
                let ipi_spec_dst = libc::in_addr { s_addr: u32::from(ip).to_be() };
                let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst, ipi_addr: none };
                control.v4 = PacketInfo::new(libc::IPPROTO_IP, libc::IP_PKTINFO, info);
                (control, size_of::<PacketInfo<libc::in_pktinfo>>())
            }
            IpAddr::V6(ip) => {
                let ipi6_addr = libc::in6_addr { s6_addr: ip.octets() };
                let info = libc::in6_pktinfo { ipi6_addr, ipi6_ifindex: interface };
                control.v6 = PacketInfo::new(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
                (control, size_of::<PacketInfo<libc::in6_pktinfo>>())
            }
        }
    }

    /// The local address and the interface a message came to, if its first `len` octets tell.
    fn asked(&self, len: usize) -> Option<(IpAddr, u32)> {
        if len < PacketInfo::<libc::in_pktinfo>::LEN {
            return None;
        }
        // SAFETY: any bits; both kinds begin with the header.
        let v4 = unsafe { self.v4 };
        match (v4.header.cmsg_level, v4.header.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let ip = Ipv4Addr::from(u32::from_be(v4.info.ipi_spec_dst.s_addr));
                Some((ip.into(), v4.info.ipi_ifindex.cast_unsigned()))
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO)
                if len >= PacketInfo::<libc::in6_pktinfo>::LEN =>
            {
                // SAFETY: any bits.
                let v6 = unsafe { self.v6 };
                Some((Ipv6Addr::from(v6.info.ipi6_addr.s6_addr).into(), v6.info.ipi6_ifindex))
            }
            _ => None,
        }
    }
}

/// One datagram as it arrives.
#[repr(C)]
pub(super) struct Letter {
    name: Name,
    control: Control,
    request: [u8; REQUEST_MAX],
}

impl Letter {
    pub(super) const NONE: Self =
        Self { name: Name::NONE, control: Control::NONE, request: [0; REQUEST_MAX] };

    /// The way back, given the length of the control data that came; none if the peer has no
    /// address that can be answered.
    pub(super) fn route(&self, socket: &Socket, control_len: usize) -> Option<Route> {
        let peer = self.name.addr()?;
        Some(socket.route(peer, self.control.asked(control_len)))
    }

    /// The first `len` octets of the request.
    pub(super) fn request(&self, len: usize) -> &[u8] {
        &self.request[..len.min(REQUEST_MAX)]
    }
}

/// A message header for the kernel.
struct Header(libc::mmsghdr);

// SAFETY: its pointers lead to Stable memory with the same owner, and are the kernel's to follow.
unsafe impl Send for Header {}

impl Header {
    /// Points at a name and one piece of data.
    fn new(name: *mut Name, iov: *mut Piece) -> Self {
        // SAFETY: integers and pointers only: all zeros are a value.
        let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
        header.msg_hdr.msg_name = name.cast();
        header.msg_hdr.msg_iov = iov.cast();
        header.msg_hdr.msg_iovlen = 1;
        Self(header)
    }
}

/// Where the data of a message is.
#[repr(transparent)]
struct Piece(libc::iovec);

// SAFETY: as for Header.
unsafe impl Send for Piece {}

impl Piece {
    fn new(start: *mut u8, len: usize) -> Self {
        Self(libc::iovec { iov_base: start.cast(), iov_len: len })
    }
}

/// What recvmmsg fills.
pub(super) struct Inbox {
    headers: Stable<Header>,
    letters: Stable<Letter>,
    #[expect(dead_code, reason = "the headers point at them")]
    pieces: Stable<Piece>,
    /// Headers from here on are as recvmmsg wants them.
    used: usize,
}

impl Inbox {
    pub(super) fn new(count: usize) -> Self {
        let letters = Stable::new(count, |_| Letter::NONE);
        let field = |i, offset| letters.at(i).cast::<u8>().wrapping_add(offset);
        let request = |i| field(i, mem::offset_of!(Letter, request));
        let pieces = Stable::new(count, |i| Piece::new(request(i), REQUEST_MAX));
        let headers = Stable::new(count, |i| {
            let name = field(i, mem::offset_of!(Letter, name)).cast();
            let mut header = Header::new(name, pieces.at(i));
            header.0.msg_hdr.msg_control = field(i, mem::offset_of!(Letter, control)).cast();
            header
        });
        Self { headers, letters, pieces, used: count }
    }

    /// Receives what is there into the letters from `first` on, which follow those received
    /// before. Says how many, at least one; `WouldBlock` is none.
    pub(super) fn receive(&mut self, socket: &Socket, first: usize) -> io::Result<usize> {
        let last = self.used.max(first);
        for Header(header) in &mut self.headers[first..last] {
            header.msg_hdr.msg_namelen = Name::SPACE;
            header.msg_hdr.msg_controllen = Control::SPACE;
        }
        self.used = first;
        let headers: *mut libc::mmsghdr = self.headers.at(first).cast();
        let count = u32::try_from(self.headers.len() - first).expect("a batch is small");
        let (fd, wait) = (socket.as_fd().as_raw_fd(), ptr::null_mut());
        // SAFETY: `headers` are `count` headers that point into `letters` and `pieces`, which are
        // stable and, through &mut self, lent to nobody.
        let got = unsafe { libc::recvmmsg(fd, headers, count, libc::MSG_DONTWAIT, wait) };
        let got = check_count(got)?;
        self.used = first + got;
        Ok(got)
    }

    /// Letter `index` of those received: its request and the way back; none if it was cut.
    pub(super) fn route(&self, index: usize, socket: &Socket) -> Option<Route> {
        let header = &self.headers[index].0.msg_hdr;
        let whole = header.msg_flags & libc::MSG_TRUNC == 0;
        whole.then(|| self.letters[index].route(socket, header.msg_controllen)).flatten()
    }

    /// The bytes of letter `index`.
    pub(super) fn request(&self, index: usize) -> &[u8] {
        self.letters[index].request(self.headers[index].0.msg_len as usize)
    }
}

/// What sendmmsg sends.
pub(super) struct Outbox {
    headers: Stable<Header>,
    names: Stable<Name>,
    controls: Stable<Control>,
    pieces: Stable<Piece>,
}

/// What became of the letters of an [`Outbox`].
pub(super) struct Sent {
    /// How many left.
    pub(super) sent: usize,
    /// How many did not.
    pub(super) failed: usize,
    /// Why the last of those did not.
    pub(super) error: Option<io::Error>,
}

impl Outbox {
    pub(super) fn new(count: usize) -> Self {
        let names = Stable::new(count, |_| Name::NONE);
        let pieces = Stable::new(count, |_| Piece::new(ptr::null_mut(), 0));
        let headers = Stable::new(count, |i| Header::new(names.at(i), pieces.at(i)));
        Self { headers, names, controls: Stable::new(count, |_| Control::NONE), pieces }
    }

    /// Makes letter `index` say: `reply`, from `socket` along `route`. The header returned is valid
    /// until that letter is written again, and while `reply` stays where it is.
    pub(super) fn write(
        &mut self,
        index: usize,
        socket: &Socket,
        route: &Route,
        reply: &[u8],
    ) -> *const libc::msghdr {
        let header = &mut self.headers[index].0.msg_hdr;
        (self.names[index], header.msg_namelen) = Name::of(route.peer);
        self.pieces[index] = Piece::new(reply.as_ptr().cast_mut(), reply.len());
        if socket.tells_source(route) {
            let (control, len) = Control::of(route.local, route.interface);
            self.controls[index] = control;
            header.msg_control = self.controls.at(index).cast();
            header.msg_controllen = len;
        } else {
            header.msg_control = ptr::null_mut();
            header.msg_controllen = 0;
        }
        self.headers.at(index).cast()
    }

    /// Sends each reply along its route, those that can be sent at once. Never blocks.
    pub(super) fn send<'a>(
        &mut self,
        socket: &Socket,
        replies: impl IntoIterator<Item = (&'a Route, &'a [u8])>,
    ) -> Sent {
        let mut count = 0;
        for (route, reply) in replies {
            self.write(count, socket, route, reply);
            count += 1;
        }
        let mut sent = Sent { sent: 0, failed: 0, error: None };
        while sent.sent + sent.failed < count {
            match self.send_some(socket, sent.sent + sent.failed, count) {
                Ok(some) => sent.sent += some,
                Err(error) => {
                    sent.failed += 1;
                    sent.error = Some(error);
                }
            }
        }
        sent
    }

    /// Sends letters from `first`, written by the caller with replies that are still borrowed.
    fn send_some(&mut self, socket: &Socket, first: usize, end: usize) -> io::Result<usize> {
        let headers: *mut libc::mmsghdr = self.headers.at(first).cast();
        let count = u32::try_from(end - first).expect("a batch is small");
        let (fd, flags) = (socket.as_fd().as_raw_fd(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        // SAFETY: `headers` are `count` headers that `write` just pointed at stable memory of this
        // outbox and at replies that `send`'s caller lends it.
        check_count(unsafe { libc::sendmmsg(fd, headers, count, flags) })
    }
}

/// Wakes a sleeping turn: an eventfd.
pub(super) struct Bell(File);

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: just opened, owned by nobody else.
        Ok(Self(File::from(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Makes it readable. It can only fail where it is so already.
    pub(super) fn ring(&self) {
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }

    /// Makes it unreadable again. Had it rung?
    pub(super) fn hush(&self) -> bool {
        (&self.0).read(&mut [0; 8]).is_ok()
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// File descriptors to sleep on until one is readable.
pub(super) struct PollSet(Vec<libc::pollfd>);

impl PollSet {
    pub(super) fn new<'a>(fds: impl Iterator<Item = BorrowedFd<'a>>) -> Self {
        let entry = |fd: BorrowedFd<'_>| libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        Self(fds.map(entry).collect())
    }

    /// Waits until one is readable, `wait` is over (`None`: never), or a signal came. How many are?
    pub(super) fn wait(&mut self, wait: Option<Duration>) -> io::Result<usize> {
        let timeout = wait.map(timespec);
        let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        let (fds, count) = (self.0.as_mut_ptr(), self.0.len() as libc::nfds_t);
        // SAFETY: `fds` and `timeout` are borrowed for the call, `count` is their number.
        match check_count(unsafe { libc::ppoll(fds, count, timeout, ptr::null()) }) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            result => result,
        }
    }

    /// Was entry `index` readable, or in error, when last waited for?
    pub(super) fn is_ready(&self, index: usize) -> bool {
        self.0[index].revents != 0
    }
}

/// Binds the calling thread to one CPU.
pub fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: an array of integers.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: `cpu` was checked to be within the set.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: `set` is borrowed for the call, with its size.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) }).map(drop)
}

/// The CPUs that the calling thread may run on; none if the kernel does not say.
pub fn cpus() -> Vec<usize> {
    // SAFETY: an array of integers.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: `set` is borrowed for the call, with its size.
    let result = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
    if check(result).is_err() {
        return Vec::new();
    }
    // SAFETY: the range is that of the set.
    (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
}

/// Never set don't-fragment, never believe a path MTU (RFC 9715 section 3.1).
pub(super) fn set_mtu_omit(fd: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    if v6 {
        set(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, &libc::IPV6_PMTUDISC_OMIT)
    } else {
        set(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, &libc::IP_PMTUDISC_OMIT)
    }
}

/// Has the kernel tell the local address with each datagram.
pub(super) fn set_packet_info(fd: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    if v6 {
        set(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, &1)
    } else {
        set(fd, libc::IPPROTO_IP, libc::IP_PKTINFO, &1)
    }
}

/// A receive buffer beyond the system's limit; needs CAP_NET_ADMIN.
pub(super) fn force_receive_buffer(fd: BorrowedFd<'_>, size: usize) -> io::Result<()> {
    let size = c_int::try_from(size).unwrap_or(c_int::MAX);
    set(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &size)
}

/// A send buffer beyond the system's limit; needs CAP_NET_ADMIN.
pub(super) fn force_send_buffer(fd: BorrowedFd<'_>, size: usize) -> io::Result<()> {
    let size = c_int::try_from(size).unwrap_or(c_int::MAX);
    set(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &size)
}

#[expect(clippy::cast_possible_truncation, reason = "instruction codes have 16 bits")]
/// Gives the packets of a group of `count` sockets to the one numbered CPU modulo `count`.
pub(super) fn steer_by_cpu(fd: BorrowedFd<'_>, count: u32) -> io::Result<()> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const MODULO: u16 = (libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_A) as u16;
    const CPU: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_CPU).cast_unsigned();
    let step = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    let mut steps = [step(LOAD, CPU), step(MODULO, count), step(RETURN, 0)];
    let program = libc::sock_fprog { len: 3, filter: steps.as_mut_ptr() };
    set(fd, libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, &program)
}

/// setsockopt(2). `T` must be the type that the option wants; any other is an error or nonsense,
/// but the kernel reads no more than its size.
fn set<T>(fd: BorrowedFd<'_>, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    let start: *const c_void = ptr::from_ref(value).cast();
    // SAFETY: `start` is borrowed for the call, with its size; pointers in it (in a sock_fprog)
    // are to locals of the caller.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, start, size::<T>()) }).map(drop)
}

/// A wait as the kernel wants it; beyond its range is as good as for ever.
pub(super) fn timespec(wait: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: wait.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: wait.subsec_nanos().into(),
    }
}

/// The result of a system call: an error is -1 and errno.
fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The same, of one that returns a count.
fn check_count(result: c_int) -> io::Result<usize> {
    check(result).map(|count| count.cast_unsigned() as usize)
}

#[expect(clippy::cast_possible_truncation, reason = "the types of this file are small")]
const fn size<T>() -> socklen_t {
    size_of::<T>() as socklen_t
}

#[expect(clippy::cast_possible_truncation, reason = "there are fewer than 64 families")]
const fn family(family: c_int) -> libc::sa_family_t {
    family.cast_unsigned() as libc::sa_family_t
}

/// Does the kernel say that something keeps the wall clock right?
pub fn wall_clock_is_synchronised() -> bool {
    // SAFETY: all fields of a `timex` are numbers, for which zero is a value.
    let mut clock: libc::timex = unsafe { mem::zeroed() };
    // SAFETY: `clock` is borrowed for the call; with no modes set it is only written to.
    let state = unsafe { libc::adjtimex(&raw mut clock) };
    state >= 0 && state != libc::TIME_ERROR && clock.status & libc::STA_UNSYNC == 0
}
