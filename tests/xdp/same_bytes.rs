//! The same bytes from recvmmsg, io_uring and AF_XDP.

use super::common::netns::{End, Pair};
use super::common::skip;
use super::model::case;
use super::raw::{Raw, mac};
use backstop::answer::{Outcome, Transport, Via, respond};
use backstop::io::xdp::{Datagram, Keeper, Mode, Options, ZeroCopy};
use backstop::io::{Backend, Bind, Packet, Port, Waker, bind};
use backstop::view::View;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);
const LISTENING: [&str; 2] = ["198.18.0.1:53", "[fd18::1]:53"];
const CLIENTS: [&str; 2] = ["198.18.0.2:0", "[fd18::2]:0"];

/// A port of some backend at the server's end, on a thread.
struct Served {
    keeper: Option<Keeper>,
    waker: Waker,
    stop: Arc<AtomicBool>,
    /// What was replied, in octets; empty: silence.
    replies: Receiver<Vec<u8>>,
    thread: Option<JoinHandle<()>>,
}

fn options(mode: Mode) -> Options {
    Options {
        interfaces: vec!["cable".into()],
        mode: Some(mode),
        zero_copy: ZeroCopy::Auto,
        ring: 256,
        busy_poll: None,
    }
}

/// A port of a backend at the server's end; `None`, loudly, where it is not permitted.
fn open(pair: &Pair, backend: Backend, mode: Mode) -> Option<(Port, Option<Keeper>)> {
    let opened = pair.inside(End::Server, || {
        let listening = LISTENING.map(|address| address.parse::<SocketAddr>().unwrap());
        let sockets = listening.map(|address| bind(address, Bind::default()).unwrap()).to_vec();
        if backend != Backend::Xdp {
            let port = Port::open(backend, sockets).map_err(|error| error.to_string())?;
            return Ok::<_, String>((port, None));
        }
        let keeper = Keeper::start(options(mode), &listening, 1);
        let keeper = keeper.map_err(|error| error.to_string())?;
        let port = Port::open_xdp(sockets, keeper.seat(0)).unwrap();
        Ok((port, Some(keeper)))
    });
    opened.map_err(|why| skip::say(&format!("{backend:?}: {why}"))).ok()
}

impl Served {
    /// `None`, loudly, where this backend is not permitted.
    fn start(
        pair: &Pair,
        backend: Backend,
        mode: Mode,
        answer: impl Fn(&mut Packet<'_>) + Send + 'static,
    ) -> Option<Self> {
        let (mut port, keeper) = open(pair, backend, mode)?;
        let (waker, stop) = (port.waker(), Arc::new(AtomicBool::new(false)));
        let (told, replies) = mpsc::channel();
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut serve = |batch: &mut [Packet<'_>]| {
                for packet in batch {
                    answer(packet);
                    told.send(packet.reply[..packet.reply_len].to_vec()).unwrap_or(());
                }
            };
            while !stopped.load(Ordering::Acquire) {
                port.turn(None, &mut serve).unwrap();
            }
        });
        Some(Self { keeper, waker, stop, replies, thread: Some(thread) })
    }

    /// What came past the network stack.
    fn received(&self) -> u64 {
        let told = self.keeper.as_ref().unwrap().reporter().report();
        told[0].queues.iter().map(|queue| queue.received).sum()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.stop();
        }
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// Sockets at the client's end, of both families, connected to what is listened on.
fn clients(pair: &Pair) -> [UdpSocket; 2] {
    pair.inside(End::Client, || {
        std::array::from_fn(|at| {
            let client = UdpSocket::bind(CLIENTS[at]).unwrap();
            client.connect(LISTENING[at]).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client
        })
    })
}

fn receive(client: &UdpSocket) -> Vec<u8> {
    let mut reply = vec![0; 65536];
    let len = client.recv(&mut reply).expect("a reply");
    reply.truncate(len);
    reply
}

/// Without rights for AF_XDP there is nothing to compare; that is told where it is missed.
const WAYS: [(Backend, Mode); 4] = [
    (Backend::Mmsg, Mode::Native),
    (Backend::Uring, Mode::Native),
    (Backend::Xdp, Mode::Native),
    (Backend::Xdp, Mode::Generic),
];

#[test]
fn every_case_is_answered_with_the_same_octets() {
    let Some(pair) = Pair::up() else { return };
    let mut questions = Vec::new();
    for path in case::files() {
        case::read(&path, |view, wanted| {
            if !wanted.tcp {
                questions.push((Arc::new(view.clone()), wanted.message));
            }
        });
    }
    assert!(questions.len() > 100, "the collection is large");
    let clients = clients(&pair);
    let mut first: Option<Vec<Vec<u8>>> = None;
    for (backend, mode) in WAYS {
        let view = Arc::new(Mutex::new(Arc::new(View::default())));
        let shown = Arc::clone(&view);
        let answer = move |packet: &mut Packet<'_>| {
            let view = Arc::clone(&shown.lock().unwrap());
            packet.reply_len = reply(packet.request, &view, packet.reply);
        };
        let Some(served) = Served::start(&pair, backend, mode, answer) else { continue };
        let mut all = Vec::new();
        for client in &clients {
            for (of, question) in &questions {
                *view.lock().unwrap() = Arc::clone(of);
                client.send(question).unwrap();
                let replied = served.replies.recv_timeout(PATIENCE).expect("it was asked");
                if !replied.is_empty() {
                    assert_eq!(receive(client), replied, "{backend:?}: what was written is sent");
                }
                all.push(replied);
            }
        }
        if backend == Backend::Xdp {
            assert_eq!(served.received(), 2 * questions.len() as u64, "none by the stack");
        }
        match &first {
            None => first = Some(all),
            Some(first) => assert!(*first == all, "{backend:?} says something else"),
        }
    }
}

fn reply(request: &[u8], view: &View, reply: &mut [u8]) -> usize {
    let via = Via {
        transport: Transport::Udp,
        peer: "192.0.2.7".parse::<IpAddr>().unwrap(),
        now_ms: 1,
        key: None,
        reserved: 0,
        keepalive: None,
        unix_s: 1,
    };
    match respond(request, &via, view, reply) {
        Outcome::Reply { len, .. } => len,
        Outcome::Silent(_) | Outcome::Defer(_) => 0,
    }
}

fn reverse(packet: &mut Packet<'_>) {
    packet.reply_len = packet.request.len().min(packet.reply.len());
    for (to, from) in packet.reply[..packet.reply_len].iter_mut().zip(packet.request.iter().rev()) {
        *to = *from;
    }
}

#[test]
fn requests_of_every_size_up_to_the_mtu_go_past_the_stack_and_longer_ones_through_it() {
    let Some(pair) = Pair::up() else { return };
    let clients = clients(&pair);
    for (backend, mode) in WAYS {
        let Some(served) = Served::start(&pair, backend, mode, reverse) else { continue };
        let mut asked = 0;
        for (client, most) in clients.iter().zip([1472, 1452]) {
            for size in (1..=most).chain([most + 1, 2000, 4096]) {
                let request: Vec<u8> = (0..=250_u8).cycle().take(size).collect();
                client.send(&request).unwrap();
                let backwards: Vec<u8> = request.into_iter().rev().collect();
                assert_eq!(receive(client), backwards, "{backend:?} {size}");
                asked += u64::from(size <= most);
            }
        }
        if backend == Backend::Xdp {
            assert_eq!(served.received(), asked);
        }
    }
}

#[test]
fn the_room_for_a_reply_follows_the_mtu() {
    let Some(pair) = Pair::up() else { return };
    let clients = clients(&pair);
    let full = |packet: &mut Packet<'_>| {
        packet.reply.fill(b'.');
        packet.reply_len = packet.reply.len();
    };
    let Some(served) = Served::start(&pair, Backend::Xdp, Mode::Native, full) else { return };
    let room = |client: &UdpSocket| {
        client.send(b"how much?").unwrap();
        receive(client).len()
    };
    assert_eq!(clients.each_ref().map(room), [1472, 1452]);
    pair.ip(End::Server, &["link", "set", "cable", "mtu", "1300"]);
    let told = super::common::dns::wait_until(PATIENCE, || room(&clients[0]) == 1272);
    assert!(told, "the change is noticed");
    assert_eq!(room(&clients[1]), 1252);
    drop(served);
}

#[test]
fn a_tag_comes_back_as_it_was() {
    let Some(pair) = Pair::up() else { return };
    let address = |end| {
        let show = pair.command(end, "cat").arg("/sys/class/net/cable/address").output().unwrap();
        mac(&String::from_utf8(show.stdout).unwrap())
    };
    let (ours, theirs) = (address(End::Server), address(End::Client));
    for mode in [Mode::Native, Mode::Generic] {
        let Some(served) = Served::start(&pair, Backend::Xdp, mode, reverse) else { return };
        let raw = pair.inside(End::Client, Raw::open);
        for (to, from) in [(LISTENING[0], "198.18.0.2:4000"), (LISTENING[1], "[fd18::2]:4000")] {
            let (to, from) = (to.parse().unwrap(), from.parse().unwrap());
            for (tag, payload) in [(0x2007, &b"tagged"[..]), (1, &[7; 1400]), (0x0fff, b"!")] {
                let asked = Datagram { macs: [ours, theirs], tag: Some(tag), from, to, payload };
                raw.send(&asked.frame());
                let backwards: Vec<u8> = payload.iter().rev().copied().collect();
                let (frame, got) = loop {
                    let (frame, tag) = raw.receive();
                    // Neighbours are looked for all the time.
                    if frame.windows(backwards.len()).any(|part| part == backwards) {
                        break (frame, tag);
                    }
                };
                assert_eq!(got, Some(tag), "{to}");
                assert_eq!((&frame[..6], &frame[6..12]), (&theirs[..], &ours[..]));
                // What came back is a datagram to who asked, but for checksums and such.
                let back = Datagram {
                    macs: [theirs, ours],
                    tag: None,
                    from: to,
                    to: from,
                    payload: &backwards,
                };
                let end = back.frame().len();
                assert_eq!(frame[end - backwards.len()..end], backwards);
                assert_eq!(frame.len(), end.max(56), "filled up to 60 with its tag");
            }
        }
        drop(served);
    }
}

#[test]
fn an_idle_port_uses_no_processor_time() {
    let Some(pair) = Pair::up() else { return };
    let Some((mut port, keeper)) = open(&pair, Backend::Xdp, Mode::Native) else { return };
    let start = Instant::now();
    let mut turns = 0;
    while start.elapsed() < Duration::from_millis(300) {
        port.turn(Some(Duration::from_millis(100)), &mut |_: &mut [Packet<'_>]| {}).unwrap();
        turns += 1;
    }
    assert!(turns <= 20, "{turns} turns where a few sleep it through");
    drop(keeper);
}
