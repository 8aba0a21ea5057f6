//! The sockets a port listens on: bound, with every option that a DNS server wants.
//!
//! **Invariants.** *exactly what was asked*: an IPv6 socket takes no IPv4 traffic; an address that
//! is not up yet binds all the same; a wildcard socket learns the address each request asked.
//!
//! **Sections.** RFC 9715 section 3.1: UDP replies leave without the don't-fragment flag and
//! without believing path MTUs that anyone can forge. RFC 3542 section 6 (packet information).

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use socket2::{Domain, Protocol, Type};

use super::Route;
use super::sys;

/// A bound UDP socket.
#[derive(Debug)]
pub struct Socket {
    udp: UdpSocket,
    id: ListenerId,
    local: SocketAddr,
}

/// Names a [`Socket`], for as long as the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(u32);

impl ListenerId {
    /// Names no socket.
    pub(super) const NONE: Self = Self(0);

    fn next() -> Self {
        static LAST: AtomicU32 = AtomicU32::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

impl Socket {
    /// Its name in a [`Route`].
    pub fn id(&self) -> ListenerId {
        self.id
    }

    /// The address it is bound to, with the port the kernel chose if 0 was asked for.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The route of a request that `peer` sent to `asked`, an address and the interface it came in
    /// by, where the kernel told; it does so where the socket is a wildcard.
    pub(super) fn route(&self, peer: SocketAddr, asked: Option<(IpAddr, u32)>) -> Route {
        let (local, interface) = match asked {
            Some((local, _)) if local.is_multicast() => (self.local.ip(), 0),
            Some((local @ IpAddr::V6(v6), interface)) if v6.is_unicast_link_local() => {
                (local, interface)
            }
            Some((local, _)) => (local, 0),
            None => (self.local.ip(), 0),
        };
        Route { peer, local, interface, listener: self.id }
    }

    /// Must a reply along `route` say which address it leaves from?
    pub(super) fn tells_source(&self, route: &Route) -> bool {
        self.local.ip().is_unspecified() && !route.local.is_unspecified()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.udp.as_fd()
    }
}

/// How to bind a UDP socket.
#[derive(Clone, Copy, Debug)]
pub struct Bind {
    /// The kernel's receive buffer, in octets: bursts wait there while the worker is busy.
    pub receive_buffer: usize,
    /// The kernel's send buffer, in octets.
    pub send_buffer: usize,
}

impl Default for Bind {
    fn default() -> Self {
        Self { receive_buffer: 4 << 20, send_buffer: 4 << 20 }
    }
}

/// Binds a UDP socket to `addr`. Several may share an address, one a worker; the kernel then
/// spreads the peers over them.
pub fn bind(addr: SocketAddr, options: Bind) -> io::Result<Arc<Socket>> {
    let socket = socket2::Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(true)?;
    prepare(&socket, addr)?;
    sys::set_mtu_omit(socket.as_fd(), addr.is_ipv6())?;
    if addr.ip().is_unspecified() {
        sys::set_packet_info(socket.as_fd(), addr.is_ipv6())?;
    }
    enlarge(&socket, options);
    socket.bind(&addr.into())?;
    let udp = UdpSocket::from(socket);
    Ok(Arc::new(Socket { local: udp.local_addr()?, udp, id: ListenerId::next() }))
}

/// Listens on TCP `addr`, non-blocking. The address is not shared: it is the lock that keeps a
/// second server from quietly taking half of the first one's UDP requests.
pub fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket =
        socket2::Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?; // connections of a former run may linger
    prepare(&socket, addr)?;
    socket.bind(&addr.into())?;
    socket.listen(sys::BACKLOG_MAX)?;
    Ok(socket.into())
}

/// Has the kernel give a packet to the socket whose place in `sockets` is the CPU it arrived on,
/// modulo their number. They must share an address and be given in the order they were bound.
///
/// This pays only where the NIC's interrupts are spread over the workers' CPUs: on loopback and
/// veth it sends everything to one.
pub fn steer_by_cpu(sockets: &[Arc<Socket>]) -> io::Result<()> {
    let count = u32::try_from(sockets.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    sockets.first().map_or(Ok(()), |first| sys::steer_by_cpu(first.as_fd(), count))
}

/// What UDP and TCP have in common.
fn prepare(socket: &socket2::Socket, addr: SocketAddr) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)
    } else {
        socket.set_freebind_v4(true)
    }
}

/// As large as asked where we have the privilege, else as large as the system allows. A smaller
/// buffer is no reason not to serve.
fn enlarge(socket: &socket2::Socket, options: Bind) {
    if sys::force_receive_buffer(socket.as_fd(), options.receive_buffer).is_err() {
        let _ = socket.set_recv_buffer_size(options.receive_buffer);
    }
    if sys::force_send_buffer(socket.as_fd(), options.send_buffer).is_err() {
        let _ = socket.set_send_buffer_size(options.send_buffer);
    }
}
