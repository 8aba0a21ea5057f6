//! Messages in memory: addresses, control data and bytes, laid out as the kernel wants them.
//!
//! **How it fits.** [`Inbox`] and [`Outbox`] are what recvmmsg and sendmmsg work on; `uring` fills
//! [`Letter`]s and sends from an [`Outbox`] too. Their users see slices and [`Route`]s.
//!
//! **Invariants.**
//! - *stable*: memory whose address the kernel is told lies in a [`Stable`] and does not move.
//! - *any bits*: the unions read here hold integers only, so that whatever bytes are in them (they
//!   start as zeros) are a value.
//!
//! **Sections.** RFC 3542 section 6.1 (IPV6_PKTINFO); ip(7), ipv6(7), cmsg(3).

#![allow(unsafe_code, reason = "messages hold pointers, and addresses are unions")]

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::{self, NonNull};

use libc::{c_int, socklen_t};

use super::sys::{check_count, size};
use super::{REQUEST_MAX, Route, Socket};

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

    /// Who sent letter `index`, as the kernel says it.
    fn sender(&self, index: usize) -> (&Name, socklen_t) {
        (&self.letters[index].name, self.headers[index].0.msg_hdr.msg_namelen)
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
        let (name, len) = Name::of(route.peer);
        self.names[index] = name;
        let header = &mut self.headers[index].0.msg_hdr;
        (header.msg_name, header.msg_namelen) = (self.names.at(index).cast(), len);
        self.fill(index, socket, route, reply)
    }

    /// The same to whom `name` says, without turning that into an address and back; it, too, is to
    /// stay where it is.
    #[inline]
    fn write_back(
        &mut self,
        index: usize,
        socket: &Socket,
        (name, len): (&Name, socklen_t),
        route: &Route,
        reply: &[u8],
    ) {
        let header = &mut self.headers[index].0.msg_hdr;
        (header.msg_name, header.msg_namelen) = (ptr::from_ref(name).cast_mut().cast(), len);
        self.fill(index, socket, route, reply);
    }

    /// All of letter `index` but whom it is for.
    #[inline]
    fn fill(
        &mut self,
        index: usize,
        socket: &Socket,
        route: &Route,
        reply: &[u8],
    ) -> *const libc::msghdr {
        let header = &mut self.headers[index].0.msg_hdr;
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

    /// Sends a reply along its route, if it can be sent at once. Never blocks.
    pub(super) fn send(&mut self, socket: &Socket, route: &Route, reply: &[u8]) -> Sent {
        self.write(0, socket, route, reply);
        self.send_first(socket, 1)
    }

    /// Sends each reply back to who sent that letter of `inbox`, along its route: those that can be
    /// sent at once. Never blocks.
    pub(super) fn send_back<'a>(
        &mut self,
        socket: &Socket,
        inbox: &Inbox,
        replies: impl IntoIterator<Item = (usize, &'a Route, &'a [u8])>,
    ) -> Sent {
        let mut count = 0;
        for (letter, route, reply) in replies {
            self.write_back(count, socket, inbox.sender(letter), route, reply);
            count += 1;
        }
        self.send_first(socket, count)
    }

    /// Sends the first `count` letters, which the caller just wrote from what it still borrows.
    fn send_first(&mut self, socket: &Socket, count: usize) -> Sent {
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
        // SAFETY: `headers` are `count` headers that were just pointed at stable memory of this
        // outbox, and at names and replies that the caller of `send` or `send_back` lends it.
        check_count(unsafe { libc::sendmmsg(fd, headers, count, flags) })
    }
}

#[expect(clippy::cast_possible_truncation, reason = "there are fewer than 64 families")]
const fn family(family: c_int) -> libc::sa_family_t {
    family.cast_unsigned() as libc::sa_family_t
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_way_through_the_kernels_form() {
        for addr in ["192.0.2.1:53", "[2001:db8::1]:5353", "[fe80::1%3]:65535"] {
            let addr: SocketAddr = addr.parse().unwrap();
            assert_eq!(Name::of(addr).0.addr(), Some(addr));
        }
        assert_eq!(Name::NONE.addr(), None, "a family that is not of the Internet");
    }

    #[test]
    fn control_data_tells_the_address_only_if_all_of_it_came() {
        for (ip, interface) in [("192.0.2.1", 0), ("fe80::1", 7)] {
            let ip: IpAddr = ip.parse().unwrap();
            let (control, len) = Control::of(ip, interface);
            assert_eq!(control.asked(len), Some((ip, interface)));
            for short in 0..if ip.is_ipv4() { 28 } else { 36 } {
                assert_eq!(control.asked(short), None);
            }
        }
        assert_eq!(Control::NONE.asked(Control::SPACE), None);
        assert_eq!((Control { space: [u64::MAX; 5] }).asked(Control::SPACE), None);
    }
}
