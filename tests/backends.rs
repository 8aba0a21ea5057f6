//! Every backend carries the same bytes, over real sockets on the loopback interface. AF_XDP, which
//! is not for loopback, is compared with the others in `xdp/same_bytes.rs`.
#![expect(clippy::unwrap_used, reason = "a test may fail where it likes")]

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use backstop::io::{Backend, Bind, Courier, Packet, Port, REQUEST_MAX, Route, Socket, Turn, Waker};
use backstop::io::{bind, listen, steer_by_cpu};
use socket2::{Domain, Protocol, Type};

const PATIENCE: Duration = Duration::from_secs(10);

/// The backends that this machine permits.
fn backends() -> Vec<Backend> {
    let socket = bound("127.0.0.1:0");
    let mut backends = vec![Backend::Mmsg];
    match Port::open(Backend::Uring, vec![socket]) {
        Ok(_) => backends.push(Backend::Uring),
        Err(error) => eprintln!("SKIP SKIP SKIP: the uring backend is not tested: {error}"),
    }
    backends
}

fn bound(addr: &str) -> Arc<Socket> {
    bind(addr.parse().unwrap(), Bind::default()).unwrap()
}

/// A client whose receives end in an error rather than never.
fn client(local: &str) -> UdpSocket {
    let client = UdpSocket::bind(local).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

/// The next reply and where it came from. Closing a ring interrupts the thread that opened it.
fn next(client: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut reply = vec![0; 8192];
    let (len, from) = loop {
        match client.recv_from(&mut reply) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => break result.expect("a reply"),
        }
    };
    reply.truncate(len);
    (reply, from)
}

/// What is sent back: the request backwards, so that an echo of buffers is not taken for a reply.
fn reversed(request: &[u8]) -> Vec<u8> {
    request.iter().rev().copied().collect()
}

fn reverse(batch: &mut [Packet<'_>]) {
    for packet in batch {
        packet.reply_len = packet.request.len();
        packet.reply[..packet.reply_len].copy_from_slice(&reversed(packet.request));
    }
}

/// A port on a thread of its own that serves `reverse` until dropped.
struct Server {
    waker: Waker,
    courier: Courier,
    routes: Receiver<Route>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Turn>>,
}

impl Server {
    /// `answers`: else every request is left to others, who learn its route.
    fn start(backend: Backend, sockets: Vec<Arc<Socket>>, answers: bool) -> Self {
        let mut port = Port::open(backend, sockets).unwrap();
        assert_eq!(port.backend(), backend);
        let (waker, courier) = (port.waker(), port.courier());
        let (told, routes) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut total = Turn::default();
            let mut serve = |batch: &mut [Packet<'_>]| {
                batch.iter().for_each(|packet| told.send(*packet.route).unwrap_or(()));
                if answers {
                    reverse(batch);
                }
            };
            loop {
                let turn = port.turn(None, &mut serve).unwrap();
                total.received += turn.received;
                total.sent += turn.sent;
                total.dropped += turn.dropped;
                if stopped.load(Ordering::Acquire) {
                    return total;
                }
            }
        });
        Self { waker, courier, routes, stop, thread: Some(thread) }
    }

    fn stop(mut self) -> Turn {
        self.end()
    }

    fn end(&mut self) -> Turn {
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
        self.thread.take().map_or_else(Turn::default, |thread| thread.join().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// Asks `to` and returns the reply and where it came from.
fn ask(client: &UdpSocket, to: SocketAddr, request: &[u8]) -> (Vec<u8>, SocketAddr) {
    client.send_to(request, to).unwrap();
    next(client)
}

#[test]
fn both_families_are_answered_by_every_listener_of_a_port() {
    for backend in backends() {
        let sockets: Vec<_> =
            ["127.0.0.1:0", "127.0.0.3:0", "[::1]:0"].into_iter().map(bound).collect();
        let at: Vec<_> = sockets.iter().map(|socket| (socket.local(), socket.id())).collect();
        let server = Server::start(backend, sockets, true);
        for (local, id) in at {
            let client = client(if local.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" });
            let request = local.to_string();
            let (reply, from) = ask(&client, local, request.as_bytes());
            assert_eq!((reply, from), (reversed(request.as_bytes()), local), "{backend:?}");
            let route = server.routes.recv_timeout(PATIENCE).unwrap();
            assert_eq!(route.peer, client.local_addr().unwrap());
            assert_eq!((route.local, route.listener), (local.ip(), id));
        }
    }
}

#[test]
fn a_wildcard_listener_replies_from_the_address_that_was_asked() {
    for backend in backends() {
        let sockets = vec![bound("0.0.0.0:0"), bound("[::]:0")];
        let (v4, v6) = (sockets[0].local().port(), sockets[1].local().port());
        let server = Server::start(backend, sockets, true);
        for (asked, by) in [("127.0.0.2", "127.0.0.1:0"), ("127.1.2.3", "127.0.0.5:0")] {
            let to = SocketAddr::new(asked.parse().unwrap(), v4);
            let (reply, from) = ask(&client(by), to, b"which address?");
            assert_eq!((reply, from), (reversed(b"which address?"), to), "{backend:?}");
            let route = server.routes.recv_timeout(PATIENCE).unwrap();
            assert_eq!(route.local, asked.parse::<IpAddr>().unwrap());
        }
        let to = SocketAddr::new("::1".parse().unwrap(), v6);
        assert_eq!(ask(&client("[::1]:0"), to, b"six").1, to, "{backend:?}");
    }
}

#[test]
fn a_late_reply_leaves_from_the_address_that_was_asked() {
    for backend in backends() {
        let socket = bound("0.0.0.0:0");
        let to = SocketAddr::new("127.0.0.2".parse().unwrap(), socket.local().port());
        let server = Server::start(backend, vec![socket], false);
        let client = client("127.0.0.1:0");
        client.send_to(b"take your time", to).unwrap();
        let route = server.routes.recv_timeout(PATIENCE).unwrap();
        server.courier.send(&route, b"late").unwrap();
        assert_eq!(next(&client), (b"late".to_vec(), to), "{backend:?}");
        let sent_before = server.stop().sent;
        assert_eq!(sent_before, 0, "silence sends nothing");
    }
}

#[test]
fn a_courier_does_not_send_by_another_socket_than_the_one_asked() {
    let socket = bound("127.0.0.1:0");
    let to = socket.local();
    let server = Server::start(Backend::Mmsg, vec![socket], false);
    client("127.0.0.1:0").send_to(b"?", to).unwrap();
    let route = server.routes.recv_timeout(PATIENCE).unwrap();
    let other = Port::open(Backend::Mmsg, vec![bound("127.0.0.1:0")]).unwrap();
    let error = other.courier().send(&route, b"!").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotConnected);
}

#[test]
fn a_wake_ends_an_idle_turn_and_is_told_once() {
    for backend in backends() {
        let mut port = Port::open(backend, vec![bound("127.0.0.1:0")]).unwrap();
        let waker = port.waker();
        waker.wake();
        waker.clone().wake();
        let turn = until(&mut port, |turn| turn.woken);
        assert_eq!(turn, Turn { woken: true, ..Turn::default() }, "{backend:?}");
        let mut nobody = |_: &mut [Packet<'_>]| unreachable!("nobody asked");
        let turn = port.turn(Some(Duration::from_millis(20)), &mut nobody).unwrap();
        assert_eq!(turn, Turn::default(), "{backend:?}: two wakes before a turn are one");
        let other = thread::spawn(move || waker.wake());
        until(&mut port, |turn| turn.woken);
        other.join().unwrap();
    }
}

/// Turns until `done` of the sum of what the turns did.
fn until(port: &mut Port, done: impl Fn(&Turn) -> bool) -> Turn {
    let (mut total, start) = (Turn::default(), Instant::now());
    while !done(&total) {
        assert!(start.elapsed() < PATIENCE, "still waiting: {total:?}");
        let turn = port.turn(Some(PATIENCE), &mut reverse).unwrap();
        total.received += turn.received;
        total.sent += turn.sent;
        total.dropped += turn.dropped;
        total.woken |= turn.woken;
    }
    total
}

#[test]
fn many_packets_are_answered_alike_by_every_backend() {
    const PACKETS: u32 = 8_000;
    const WINDOW: u32 = 40; // that many replies fit a client's default receive buffer
    let mut answers = Vec::new();
    for backend in backends() {
        let sockets = vec![bound("127.0.0.1:0"), bound("127.0.0.4:0")];
        let to: Vec<_> = sockets.iter().map(|socket| socket.local()).collect();
        let server = Server::start(backend, sockets, true);
        let client = client("127.0.0.1:0");
        let mut replies = HashSet::new();
        for window in 0..PACKETS / WINDOW {
            for number in window * WINDOW..(window + 1) * WINDOW {
                let mut request = number.to_be_bytes().repeat(1 + number as usize % 300);
                request.extend_from_slice(b"end");
                client.send_to(&request, to[number as usize % 2]).unwrap();
            }
            for _ in 0..WINDOW {
                let (reply, from) = next(&client);
                let number = u32::from_le_bytes(reply[3..7].try_into().unwrap());
                assert_eq!(from, to[number as usize % 2]);
                assert!(replies.insert(reply), "no reply twice");
            }
        }
        let total = server.stop();
        assert_eq!((total.received, total.dropped), (PACKETS as usize, 0), "{backend:?}");
        answers.push(replies);
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn requests_of_every_size_are_whole_or_dropped_and_counted() {
    let sizes = [0, 1, 2, 11, 12, 511, 512, 1232, 4095, 4096, 4097, 5000, 9000, 65507];
    for backend in backends() {
        for (addr, by) in [("127.0.0.1:0", "127.0.0.1:0"), ("[::]:0", "[::1]:0")] {
            let socket = bound(addr);
            let mut to = socket.local();
            if to.ip().is_unspecified() {
                to.set_ip("::1".parse().unwrap());
            }
            let server = Server::start(backend, vec![socket], true);
            let client = client(by);
            for size in sizes {
                let request: Vec<u8> = (0..=250_u8).cycle().take(size).collect();
                client.send_to(&request, to).unwrap();
                // An empty reply is silence, so is an oversized request: the next one tells.
                let (reply, _) = ask(&client, to, b"ping");
                if (1..=REQUEST_MAX).contains(&size) {
                    assert_eq!(reply, reversed(&request), "{backend:?} {size}");
                    assert_eq!(next(&client).0, b"gnip");
                } else {
                    assert_eq!(reply, b"gnip", "{backend:?} {size}");
                }
            }
            let total = server.stop();
            let oversized = sizes.iter().filter(|&&size| size > REQUEST_MAX).count();
            assert_eq!(total.dropped, oversized, "{backend:?}");
            assert_eq!(total.received, 2 * sizes.len() - oversized, "{backend:?}");
        }
    }
}

#[test]
fn what_is_queued_on_a_socket_that_stays_survives_replace() {
    for backend in backends() {
        let (stays, goes, comes) =
            (bound("127.0.0.1:0"), bound("127.0.0.1:0"), bound("127.0.0.1:0"));
        let mut port = Port::open(backend, vec![Arc::clone(&goes), Arc::clone(&stays)]).unwrap();
        port.turn(Some(Duration::ZERO), &mut reverse).unwrap();
        let (old, new) = (client("127.0.0.1:0"), client("127.0.0.1:0"));
        for i in 0..100_u8 {
            old.send_to(&[i, b'.'], stays.local()).unwrap();
            new.send_to(&[i, b'.'], comes.local()).unwrap();
        }
        let gone = goes.local();
        drop(goes);
        port.replace(vec![Arc::clone(&stays), Arc::clone(&comes)]).unwrap();
        until(&mut port, |turn| turn.received == 200);
        port.turn(Some(Duration::ZERO), &mut reverse).unwrap();
        for client in [old, new] {
            let mut seen: Vec<u8> = (0..100).map(|_| next(&client).0[1]).collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..100), "{backend:?}");
        }
        let again = UdpSocket::bind(gone).expect("the socket that went is closed");
        drop(again);
        port.replace(vec![]).unwrap();
        assert_eq!(port.turn(Some(Duration::ZERO), &mut reverse).unwrap(), Turn::default());
    }
}

#[test]
fn a_flooded_socket_does_not_starve_its_neighbours() {
    for backend in backends() {
        let (flooded, quiet) = (bound("127.0.0.1:0"), bound("127.0.0.1:0"));
        let mut port = Port::open(backend, vec![Arc::clone(&flooded), Arc::clone(&quiet)]).unwrap();
        let (flood, patient) = (client("127.0.0.1:0"), client("127.0.0.1:0"));
        let (mut turns, mut heard) = (0, false);
        // The flood is always ahead: each turn finds more there than it can take.
        for _ in 0..1000 {
            flood.send_to(b"flood", flooded.local()).unwrap();
        }
        port.turn(Some(PATIENCE), &mut |_: &mut [Packet<'_>]| ()).unwrap();
        patient.send_to(b"hello", quiet.local()).unwrap();
        while !heard {
            turns += 1;
            assert!(turns < 100, "{backend:?}: unheard while the other socket was busy");
            for _ in 0..100 {
                flood.send_to(b"flood", flooded.local()).unwrap();
            }
            let mut listen = |batch: &mut [Packet<'_>]| {
                heard |= batch.iter().any(|packet| packet.route.listener == quiet.id());
            };
            port.turn(Some(PATIENCE), &mut listen).unwrap();
        }
    }
}

#[test]
fn a_peer_that_is_gone_by_the_time_of_its_reply_harms_nobody() {
    for backend in backends() {
        let socket = bound("127.0.0.1:0");
        let to = socket.local();
        let mut port = Port::open(backend, vec![socket]).unwrap();
        let client = client("127.0.0.1:0");
        // The ICMP error must not end the port.
        let gone = UdpSocket::bind("127.0.0.1:0").unwrap();
        gone.send_to(b"gone", to).unwrap();
        drop(gone);
        client.send_to(b"here", to).unwrap();
        until(&mut port, |turn| turn.received == 2);
        port.turn(Some(Duration::ZERO), &mut reverse).unwrap();
        client.send_to(b"more", to).unwrap();
        until(&mut port, |turn| turn.received == 1);
        port.turn(Some(Duration::ZERO), &mut reverse).unwrap();
        for expected in [b"ereh", b"erom"] {
            assert_eq!(next(&client).0, expected, "{backend:?}");
        }
    }
}

#[test]
fn replies_that_the_kernel_refuses_are_counted_and_the_others_of_the_batch_leave() {
    for backend in backends() {
        let socket = bound("127.0.0.1:0");
        let to = socket.local();
        let mut port = Port::open(backend, vec![socket]).unwrap();
        let client = client("127.0.0.1:0");
        let raw = socket2::Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP));
        let Ok(raw) = raw else {
            eprintln!("SKIP SKIP SKIP: no raw socket to ask from port 0 with");
            return;
        };
        // A UDP header: from port 0, where nothing can be sent to; without a checksum.
        let mut forged = [0, 0, 0, 0, 0, 9, 0, 0, b'?'];
        forged[2..4].copy_from_slice(&to.port().to_be_bytes());
        for _ in 0..10 {
            client.send_to(b"before", to).unwrap();
            raw.send_to(&forged, &to.into()).unwrap();
            client.send_to(b"after", to).unwrap();
        }
        let mut total = until(&mut port, |turn| turn.received == 30);
        total.dropped += port.turn(Some(Duration::ZERO), &mut reverse).unwrap().dropped;
        assert_eq!(total.dropped, 10, "{backend:?}");
        for _ in 0..10 {
            assert_eq!(next(&client).0, b"erofeb", "{backend:?}");
            assert_eq!(next(&client).0, b"retfa", "{backend:?}");
        }
    }
}

#[test]
fn a_panic_costs_its_batch_and_nothing_else() {
    for backend in backends() {
        let socket = bound("127.0.0.1:0");
        let to = socket.local();
        let mut port = Port::open(backend, vec![socket]).unwrap();
        let client = client("127.0.0.1:0");
        for _ in 0..300 {
            client.send_to(b"bad", to).unwrap();
            let mut panics = false;
            while !panics {
                let turn = || {
                    let mut serve = |_: &mut [Packet<'_>]| std::panic::resume_unwind(Box::new(()));
                    port.turn(Some(PATIENCE), &mut serve).unwrap();
                };
                panics = std::panic::catch_unwind(AssertUnwindSafe(turn)).is_err();
            }
        }
        client.send_to(b"good", to).unwrap();
        assert_eq!(until(&mut port, |turn| turn.received > 0).received, 1, "{backend:?}");
        port.turn(Some(Duration::ZERO), &mut reverse).unwrap();
        assert_eq!(next(&client).0, b"doog", "{backend:?}");
    }
}

#[test]
fn an_idle_port_uses_no_processor_time() {
    for backend in backends() {
        let mut port = Port::open(backend, vec![bound("127.0.0.1:0"), bound("[::1]:0")]).unwrap();
        let mut turns = 0;
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(300) {
            port.turn(Some(Duration::from_millis(100)), &mut reverse).unwrap();
            turns += 1;
        }
        assert!(turns <= 10, "{backend:?}: {turns} turns where 3 or 4 sleep it through");
    }
}

#[test]
fn an_address_that_is_not_up_yet_binds_all_the_same() {
    for addr in ["192.0.2.77:0", "[2001:db8::77]:0"] {
        let socket = bound(addr);
        assert_eq!(socket.local().ip(), addr.parse::<SocketAddr>().unwrap().ip());
        listen(addr.parse().unwrap()).unwrap();
    }
}

/// A whole number that the kernel says of a socket.
#[expect(unsafe_code, reason = "std has no word for it")]
fn option(socket: &Socket, level: libc::c_int, name: libc::c_int) -> libc::c_int {
    let (mut value, mut len) = (-1, 4);
    let (value_at, len_at) = ((&raw mut value).cast(), &raw mut len);
    // SAFETY: both are of this function, and `len` is what `value` has.
    let result =
        unsafe { libc::getsockopt(socket.as_fd().as_raw_fd(), level, name, value_at, len_at) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    value
}

#[test]
fn no_datagram_is_marked_not_to_be_fragmented_and_no_path_mtu_is_believed() {
    let (v4, v6) = (bound("127.0.0.1:0"), bound("[::1]:0"));
    assert_eq!(option(&v4, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER), libc::IP_PMTUDISC_OMIT);
    let of_v6 = option(&v6, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER);
    assert_eq!(of_v6, libc::IPV6_PMTUDISC_OMIT);
}

#[test]
fn workers_share_a_udp_address_but_servers_no_tcp_address() {
    let first = bound("127.0.0.1:0");
    let second = bind(first.local(), Bind::default()).unwrap();
    assert_ne!(first.id(), second.id());
    steer_by_cpu(&[first, second]).unwrap();
    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let error = listen(listener.local_addr().unwrap()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    let error = listener.accept().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn a_thread_is_pinned_to_one_of_its_cpus() {
    thread::spawn(|| {
        let last = *backstop::io::cpus().last().expect("some CPU");
        backstop::io::pin(last).unwrap();
        assert_eq!(backstop::io::cpus(), [last]);
        assert!(backstop::io::pin(usize::MAX).is_err());
    })
    .join()
    .unwrap();
}

#[test]
fn auto_opens_something_that_works() {
    let socket = bound("127.0.0.1:0");
    let to = socket.local();
    let mut port = Port::open(Backend::Auto, vec![socket]).unwrap();
    assert_ne!(port.backend(), Backend::Auto);
    assert!(Port::open(Backend::Xdp, vec![]).is_err());
    let client = client("127.0.0.1:0");
    client.send_to(b"auto", to).unwrap();
    until(&mut port, |turn| turn.received == 1);
    port.turn(Some(Duration::ZERO), &mut reverse).unwrap();
    assert_eq!(next(&client).0, b"otua");
}
