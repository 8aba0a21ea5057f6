//! Ports on loopback that nobody else takes: free for UDP and TCP when handed out, claimed
//! against every other test process, and outside the range the kernel gives to clients.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as UnixAddr, UnixListener},
    },
    sync::Mutex,
};

/// Below Linux's default range for clients (32768-60999): no outgoing connection lands here.
const FIRST: u16 = 10_240;
const COUNT: u16 = 22_000;

/// An abstract socket a port, held until the process ends: how other test processes, which may
/// look between a server's stop and its restart, see that the port is spoken for.
static CLAIMS: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// A port on 127.0.0.1, free for UDP and TCP, ours until the process ends.
pub fn free() -> SocketAddr {
    free_on(Ipv4Addr::LOCALHOST.into())
}

/// A port on `ip`, free for UDP and TCP, ours until the process ends.
pub fn free_on(ip: IpAddr) -> SocketAddr {
    let start = RandomState::new().hash_one(ip) % u64::from(COUNT);
    let start = u16::try_from(start).expect("less than COUNT");
    (0..COUNT)
        .map(|step| SocketAddr::new(ip, FIRST + (start + step) % COUNT))
        .find(|&addr| claim(addr))
        .expect("22,000 ports are not all taken")
}

/// Whether the port was free and is now ours.
pub fn claim(addr: SocketAddr) -> bool {
    let name = format!("backstop-test-port-{}", addr.port());
    let name = UnixAddr::from_abstract_name(name).expect("a short name");
    let Ok(held) = UnixListener::bind_addr(&name) else { return false };
    if TcpListener::bind(addr).is_err() || UdpSocket::bind(addr).is_err() {
        return false;
    }
    CLAIMS.lock().expect("no claim panics").push(held);
    true
}
