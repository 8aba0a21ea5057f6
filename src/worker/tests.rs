//! Workers over loopback, and a batch by hand. What is served here, `stream` serves as well.

mod limited;

use super::*;
use crate::answer::{Asked, Deferred as Why, Outcome, Silence, Via};
use crate::io::{Bind, Packet, bind};
use crate::name::NameBuf;
use crate::view::{Access, Expiry, Served, View, reap};
use crate::wire::Rtype;
use crate::zone::{Builder, Record};
use desk::{Answering, AsEver};
use std::cell::Cell;
use std::net::{SocketAddr, UdpSocket};

/// How long an event may take that happens at once.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Waits for an event.
pub(crate) fn until(otherwise: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < end, "{otherwise}");
        thread::yield_now();
    }
}

pub(crate) fn name(text: &str) -> NameBuf {
    text.parse().unwrap()
}

/// `example.` with so many hosts of one address each, `big.example.` with 60 kB of text.
pub(crate) fn sample(access: Access, hosts: u32) -> Arc<Served> {
    let apex = name("example.");
    let mut builder = Builder::new(apex.as_name());
    let mut add = |owner: &str, rtype, data: &[u8]| {
        builder.add(name(owner).as_name(), Record { rtype, ttl: 60, data });
    };
    let mut soa = b"\x02ns\x07example\0\x01h\x07example\0".to_vec();
    soa.extend([7_u32, 3600, 600, 86400, 300].iter().flat_map(|number| number.to_be_bytes()));
    add("example.", Rtype::SOA, &soa);
    add("example.", Rtype::NS, b"\x02ns\x07example\0");
    for host in 0..hosts {
        add(&format!("h{host}.example."), Rtype::A, &host.to_be_bytes());
    }
    for text in 0..240_u8 {
        add("big.example.", Rtype::TXT, &[&[250][..], &[text; 250]].concat());
    }
    Arc::new(Served {
        apex,
        access: Arc::new(access),
        zone: Some(Arc::new(builder.build().unwrap())),
        expiry: Arc::new(Expiry::at(Expiry::NEVER)),
        history: Arc::new([]),
    })
}

pub(crate) fn query(id: u16, owner: &str, rtype: Rtype) -> Vec<u8> {
    let mut message = [&id.to_be_bytes()[..], b"\x01\0\0\x01\0\0\0\0\0\0"].concat();
    message.extend(name(owner).as_name().as_wire());
    message.extend([rtype.0.to_be_bytes(), [0, 1]].concat());
    message
}

/// ID, rcode and number of answers of a reply.
pub(crate) fn gist(reply: &[u8]) -> (u16, u8, u16) {
    assert!(reply[2] & 0x80 != 0, "a reply");
    let word = |at: usize| u16::from_be_bytes([reply[at], reply[at + 1]]);
    (word(0), reply[3] & 0xf, word(6))
}

pub(crate) fn loopback() -> Arc<Socket> {
    bind("127.0.0.1:0".parse().unwrap(), Bind::default()).unwrap()
}

pub(crate) fn client(server: SocketAddr) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(server).unwrap();
    client.set_read_timeout(Some(SOON)).unwrap();
    client
}

pub(crate) fn ask(client: &UdpSocket, message: &[u8]) -> Vec<u8> {
    client.send(message).unwrap();
    receive(client)
}

fn receive(client: &UdpSocket) -> Vec<u8> {
    let mut reply = vec![0; 4096];
    let len = client.recv(&mut reply).expect("a reply");
    reply.truncate(len);
    reply
}

fn shared(served: Arc<Served>) -> (Shared, mpsc::Receiver<Deferred>) {
    let mut view = View::default();
    view.put(served);
    let (views, retired) = Views::new(view);
    thread::spawn(move || reap(&retired));
    let (deferred, queue) = mpsc::channel(2);
    let (clock, _) = Clock::start(None);
    (Shared { views, clock, stats: Arc::default(), deferred }, queue)
}

fn options(sockets: Vec<Arc<Socket>>, backend: Backend) -> Options {
    Options { index: 0, cpu: None, sockets, backend, seat: None }
}

fn counter(shared: &Shared, name: &str) -> u64 {
    let all = shared.stats.served();
    all.into_iter().find(|(each, ..)| *each == name).expect("there is such a counter").2
}

#[test]
fn a_worker_answers_from_the_newest_view_and_counts() {
    for backend in [Backend::Mmsg, Backend::Auto] {
        let (shared, _queue) = shared(sample(Access::default(), 3));
        let socket = loopback();
        let worker = start(options(vec![Arc::clone(&socket)], backend), &shared).unwrap();
        assert_ne!(worker.backend(), Backend::Auto);
        let client = client(socket.local());
        assert_eq!(gist(&ask(&client, &query(1, "h1.example.", Rtype::A))), (1, 0, 1));
        assert_eq!(gist(&ask(&client, &query(2, "h9.example.", Rtype::A))), (2, 3, 0));
        assert_eq!(gist(&ask(&client, &query(3, "big.example.", Rtype::TXT))).0, 3);
        shared.views.publish(|view| view.remove(name("example.").as_name()));
        assert_eq!(gist(&ask(&client, &query(4, "h1.example.", Rtype::A))), (4, 5, 0));
        worker.stop();
        worker.join();
        assert_eq!((counter(&shared, "requests"), counter(&shared, "replies")), (4, 4));
        assert_eq!(counter(&shared, "truncated"), 1);
        let rcodes = shared.stats.rcodes();
        assert_eq!((rcodes[0], rcodes[3], rcodes[5]), (2, 1, 1));
    }
}

#[test]
fn what_is_asked_again_is_said_again_until_something_is_published() {
    let (shared, _queue) = shared(sample(Access::default(), 2));
    let socket = loopback();
    let worker = start(options(vec![Arc::clone(&socket)], Backend::Mmsg), &shared).unwrap();
    let client = client(socket.local());
    let mut id = 0;
    let mut say = |owner: &str| {
        id += 1;
        let reply = ask(&client, &query(id, owner, Rtype::A));
        assert_eq!(gist(&reply), (id, 0, 1));
        reply[2..].to_vec()
    };
    let first = say("h1.example.");
    until("nothing is repeated", || {
        assert_eq!(say("h1.example."), first);
        counter(&shared, "repeated") > 5
    });
    assert_ne!(say("H1.example."), first, "it has the client's spelling");
    shared.views.publish(|view| view.put(sample(Access::default(), 1)));
    assert_eq!(gist(&ask(&client, &query(0, "h1.example.", Rtype::A))), (0, 3, 0));
    worker.stop();
    worker.join();
    assert_eq!(counter(&shared, "replies"), counter(&shared, "requests"));
    assert!(counter(&shared, "repeated") < counter(&shared, "replies"));
}

#[test]
fn an_idle_worker_keeps_no_old_version_alive() {
    for backend in [Backend::Mmsg, Backend::Auto] {
        let served = sample(Access::default(), 1);
        let weak = Arc::downgrade(&served);
        let (shared, _queue) = shared(served);
        let worker = start(options(vec![loopback()], backend), &shared).unwrap();
        shared.views.publish(|view| view.remove(name("example.").as_name()));
        until("the idle worker still has the version", || weak.upgrade().is_none());
        worker.stop();
        worker.join();
    }
}

#[test]
fn what_is_queued_when_a_worker_is_stopped_is_answered() {
    let (shared, _queue) = shared(sample(Access::default(), 1));
    let socket = loopback();
    let client = client(socket.local());
    for id in 0..200 {
        client.send(&query(id, "h0.example.", Rtype::A)).unwrap();
    }
    let worker = start(options(vec![socket], Backend::Auto), &shared).unwrap();
    worker.stop();
    worker.join();
    let mut ids: Vec<_> = (0..200).map(|_| gist(&receive(&client)).0).collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..200));
}

#[test]
fn sockets_are_replaced_while_it_runs() {
    let (shared, _queue) = shared(sample(Access::default(), 1));
    let (stays, goes, comes) = (loopback(), loopback(), loopback());
    let [stays_at, goes_at, comes_at] = [&stays, &goes, &comes].map(|socket| socket.local());
    let sockets = vec![Arc::clone(&stays), goes];
    let worker = start(options(sockets, Backend::Auto), &shared).unwrap();
    let is_answered = |at| gist(&ask(&client(at), &query(1, "h0.example.", Rtype::A))).1 == 0;
    assert!(is_answered(stays_at) && is_answered(goes_at));
    worker.replace(vec![stays, comes]);
    assert!(is_answered(stays_at) && is_answered(comes_at));
    until("the socket that was replaced is still open", || UdpSocket::bind(goes_at).is_ok());
    worker.stop();
    worker.join();
}

#[test]
fn a_port_that_failed_is_opened_again_and_obeys() {
    let (shared, _queue) = shared(sample(Access::default(), 1));
    let socket = loopback();
    let client = client(socket.local());
    let options = options(vec![socket], Backend::Mmsg);
    let port = Port::open(options.backend, options.sockets.clone()).unwrap();
    let bell = Arc::new(DoorBell(Mutex::new(port.waker())));
    let (commands, receiver) = channel::unbounded();
    let (desk, _) = desk(&shared);
    let mut worker = Worker { port, desk, options, commands: receiver, bell: Arc::clone(&bell) };
    assert!(worker.reopen());
    let thread = thread::spawn(move || worker.run());
    assert_eq!(gist(&ask(&client, &query(1, "h0.example.", Rtype::A))), (1, 0, 1));
    commands.send(Command::Stop).unwrap();
    bell.ring();
    thread.join().unwrap();
}

/// A worker's desk, with a view of `example.`, and the way of a request to it.
fn desk(shared: &Shared) -> (Desk, Route) {
    let socket = loopback();
    let route = Route {
        peer: "192.0.2.1:53".parse().unwrap(),
        local: socket.local().ip(),
        interface: 0,
        listener: socket.id(),
    };
    let port = Port::open(Backend::Mmsg, vec![socket]).unwrap();
    (Desk::new(shared, "0".into(), port.courier()), route)
}

/// Has the desk answer these requests; the replies.
fn serve(desk: &mut Desk, route: &Route, requests: &[Vec<u8>]) -> Vec<Vec<u8>> {
    serve_with(desk, route, requests, AsEver)
}

/// Likewise, in this way.
fn serve_with(
    desk: &mut Desk,
    route: &Route,
    requests: &[Vec<u8>],
    answering: impl Answering,
) -> Vec<Vec<u8>> {
    let mut replies = vec![vec![0; 1232]; requests.len()];
    let mut packets: Vec<_> = requests
        .iter()
        .zip(&mut replies)
        .map(|(request, reply)| Packet { request, route, reply, reply_len: 0 })
        .collect();
    desk.serve_with(&mut packets, answering);
    let lens: Vec<_> = packets.iter().map(|packet| packet.reply_len).collect();
    replies.iter().zip(lens).map(|(reply, len)| reply[..len].to_vec()).collect()
}

/// Panics when it reads what has "bug" in it.
struct BugInReading;

impl Answering for BugInReading {
    fn read<'a>(&self, asked: &mut Asked<'a>, request: &'a [u8], view: &'a View) {
        assert!(!request.windows(3).any(|three| three == b"bug"), "the bug of this test");
        asked.read(request, view);
    }
}

/// Panics when it answers these, counted from one.
struct BugInAnswering<'t>(Cell<usize>, &'t [usize]);

impl Answering for BugInAnswering<'_> {
    fn respond(&self, asked: &Asked<'_>, via: &Via<'_>, reply: &mut [u8]) -> Outcome {
        self.0.set(self.0.get() + 1);
        assert!(!self.1.contains(&self.0.get()), "the bug of this test");
        asked.respond(via, reply)
    }
}

/// Says this of all.
struct Says(Outcome);

impl Answering for Says {
    fn respond(&self, _: &Asked<'_>, _: &Via<'_>, _: &mut [u8]) -> Outcome {
        self.0
    }
}

#[test]
fn a_panic_costs_one_request_its_answer_and_nothing_else() {
    panics::tell_seldom();
    let mut response = query(4, "bug.example.", Rtype::A);
    response[2] |= 0x80;
    let requests = [
        query(1, "h1.example.", Rtype::A),
        query(2, "bug.example.", Rtype::A),
        query(3, "h2.example.", Rtype::A),
        response,
        b"\x01bug".to_vec(),
    ];
    for in_reading in [true, false] {
        let (shared, _queue) = shared(sample(Access::default(), 3));
        let (mut desk, route) = desk(&shared);
        let replies = if in_reading {
            serve_with(&mut desk, &route, &requests, BugInReading)
        } else {
            let bug = BugInAnswering(Cell::new(0), &[2, 4, 5]);
            serve_with(&mut desk, &route, &requests, bug)
        };
        assert_eq!(gist(&replies[0]), (1, 0, 1));
        assert_eq!(replies[1], b"\0\x02\x81\x02\0\0\0\0\0\0\0\0", "a SERVFAIL");
        assert_eq!(gist(&replies[2]), (3, 0, 1));
        assert!(replies[3].is_empty() && replies[4].is_empty());
        assert_eq!((counter(&shared, "panics"), counter(&shared, "replies")), (3, 3));
        assert_eq!(shared.stats.rcodes()[2], 1);
    }
}

#[test]
fn batches_of_any_size_are_answered_whole() {
    let (shared, _queue) = shared(sample(Access::default(), 3));
    let (mut desk, route) = desk(&shared);
    for len in 0..40 {
        let ask = |id: u16| query(id, &format!("h{}.example.", id % 3), Rtype::A);
        let requests: Vec<_> = (0..len).map(ask).collect();
        let replies = serve(&mut desk, &route, &requests);
        assert!(replies.iter().zip(0..).all(|(reply, id)| gist(reply) == (id, 0, 1)), "{len}");
    }
}

#[test]
fn what_is_not_decided_here_is_handed_on_until_the_queue_is_full() {
    let (shared, mut queue) = shared(sample(Access::default(), 1));
    let (mut desk, route) = desk(&shared);
    let requests: Vec<_> = (0..5).map(|id| query(id, "example.", Rtype::SOA)).collect();
    let replies = serve_with(&mut desk, &route, &requests, Says(Outcome::Defer(Why::Signed)));
    assert!(replies.iter().all(Vec::is_empty));
    assert_eq!((counter(&shared, "deferred"), counter(&shared, "deferred_dropped")), (5, 3));
    let first = queue.try_recv().unwrap();
    assert_eq!((first.request, first.route), (requests[0].clone(), route));
    serve_with(&mut desk, &route, &requests, Says(Outcome::Silent(Silence::Runt)));
    assert_eq!(counter(&shared, "silent"), 5);
}
