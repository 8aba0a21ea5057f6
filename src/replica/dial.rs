//! Reaching another server: sockets towards an address, from another one if that is wanted, and
//! numbers that cannot be guessed.

use arrayvec::ArrayVec;
use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

/// A socket that sends to `address` and receives from nowhere else.
pub(crate) async fn udp(address: SocketAddr, source: Option<SocketAddr>) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(source.unwrap_or_else(|| any(address))).await?;
    socket.connect(address).await?;
    Ok(socket)
}

/// A connection to `address`.
pub(crate) async fn tcp(address: SocketAddr, source: Option<SocketAddr>) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(source) = source {
        socket.set_reuseaddr(true)?;
        socket.bind(source)?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends a request with its length before it (RFC 1035 section 4.2.2), in one go.
pub(crate) async fn send(stream: &mut TcpStream, request: &[u8]) -> io::Result<()> {
    let len = u16::try_from(request.len()).expect("requests are short");
    stream.write_all(&[&len.to_be_bytes()[..], request].concat()).await
}

/// An address of `peer`'s family that leaves the choice to the kernel.
fn any(peer: SocketAddr) -> SocketAddr {
    let ip = match peer {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(ip, 0)
}

/// An id for a message.
pub(crate) fn random_id() -> u16 {
    (random() >> 16) as u16
}

/// A random number. The kernel is asked for some at once: a fleet's start needs a million.
pub(crate) fn random() -> u32 {
    thread_local! {
        static DRAWN: RefCell<ArrayVec<u32, 64>> = const { RefCell::new(ArrayVec::new_const()) };
    }
    DRAWN.with_borrow_mut(|drawn| {
        if drawn.is_empty() {
            let mut octets = [0; 64 * size_of::<u32>()];
            getrandom::fill(&mut octets).expect("the kernel gives random numbers");
            drawn.extend(octets.as_chunks().0.iter().map(|&number| u32::from_be_bytes(number)));
        }
        drawn.pop().expect("some were drawn")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_socket_is_bound_to_the_address_that_is_wanted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = listener.local_addr().unwrap();
        let source: SocketAddr = "127.0.0.9:0".parse().unwrap();
        for (wanted, ip) in [(None, "127.0.0.1"), (Some(source), "127.0.0.9")] {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(tcp(there, wanted).await.unwrap().local_addr().unwrap().ip(), ip);
            assert_eq!(udp(there, wanted).await.unwrap().local_addr().unwrap().ip(), ip);
        }
    }
}
