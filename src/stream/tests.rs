//! Streams over loopback, with the zone that the tests of workers have.

use super::*;
use crate::acl::{Acl, Rule};
use crate::clock::now_s;
use crate::io::{Backend, listen};
use crate::name::NameBuf;
use crate::tsig::{self, Algorithm, Key, TsigError, Verifier};
use crate::view::{Access, Expiry, Served, View};
use crate::wire::{Rcode, Rtype, Serial};
use crate::worker::tests::{SOON, ask, client, gist, loopback, name, query, sample, until};
use crate::worker::{self, Shared as Workers};
use crate::xfr::{self, Incoming, Outgoing, Progress};
use crate::zone::Zone;
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::mpsc as std_mpsc;
use std::thread;
use tokio::io::AsyncReadExt;

const HOSTS: u32 = 3000;

/// A server of `example.`, and of `empty.`, which has no data.
struct Server {
    streams: Option<Streams>,
    addr: SocketAddr,
    views: Arc<Views>,
    clock: Clock,
    stats: Arc<Stats>,
    passed: std_mpsc::Receiver<Passed>,
}

impl Server {
    fn start(access: Access, limits: Limits) -> Self {
        let mut view = View::default();
        let empty =
            Served { apex: name("empty."), zone: None, ..Served::clone(&sample_of(&access)) };
        view.put(Arc::new(empty));
        view.put(sample_of(&access));
        view.keys = Arc::new([key(b"right")].map(|key| (key.name().to_owned(), key)).into());
        let (views, _) = Views::new(view);
        let (clock, _) = Clock::start(None);
        let stats = Arc::new(Stats::default());
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = listener.local_addr().unwrap();
        let options = Options { threads: 1, listeners: vec![listener], limits };
        let (send, passed) = std_mpsc::channel();
        let pass = move |passed| send.send(passed).unwrap();
        let streams =
            Streams::start(options, Arc::clone(&views), clock, Arc::clone(&stats), pass).unwrap();
        Self { streams: Some(streams), addr, views, clock, stats, passed }
    }

    fn streams(&self) -> &Streams {
        self.streams.as_ref().unwrap()
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
        stream
    }

    fn counter(&self, name: &str) -> u64 {
        let all = self.stats.served().into_iter().chain(self.stats.replicated.each());
        let mut all = all.filter(|(each, ..)| *each == name);
        all.next().expect("there is such a counter").2
    }

    /// A worker that hands on to these streams, and where it listens.
    fn worker(&self) -> (worker::Handle, UdpSocket) {
        let shared = Workers {
            views: Arc::clone(&self.views),
            clock: self.clock,
            stats: Arc::clone(&self.stats),
            deferred: self.streams().deferred_sender(),
        };
        let socket = loopback();
        let client = client(socket.local());
        let sockets = vec![socket];
        let options =
            worker::Options { index: 0, cpu: None, sockets, backend: Backend::Mmsg, seat: None };
        (worker::start(options, &shared).unwrap(), client)
    }
}

fn sample_of(access: &Access) -> Arc<Served> {
    sample(access.clone(), HOSTS)
}

fn open() -> Server {
    Server::start(Access::default(), Limits::default())
}

fn key(secret: &[u8]) -> Arc<Key> {
    Arc::new(Key::new(name("k.").as_name(), Algorithm::Sha256, secret))
}

/// Allows all of loopback, signed by `k.` if `is_signed`.
fn local(is_signed: bool) -> Acl {
    let key = is_signed.then(|| name("k."));
    Acl::new(vec![Rule { from: "127.0.0.0/8".parse().unwrap(), key }])
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

fn next(stream: &mut impl Read) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("a reply");
    let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut reply).unwrap();
    reply
}

fn asked(stream: &mut TcpStream, message: &[u8]) -> Vec<u8> {
    stream.write_all(&framed(message)).unwrap();
    next(stream)
}

/// Waits until the server has closed.
fn expect_end(stream: &mut TcpStream) {
    match stream.read_to_end(&mut Vec::new()) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

fn soa(id: u16) -> Vec<u8> {
    query(id, "example.", Rtype::SOA)
}

#[test]
fn a_query_that_comes_an_octet_at_a_time_is_answered() {
    let server = open();
    let mut stream = server.connect();
    stream.set_nodelay(true).unwrap();
    for id in [1, 2] {
        for octet in framed(&soa(id)) {
            stream.write_all(&[octet]).unwrap();
        }
        assert_eq!(gist(&next(&mut stream)), (id, 0, 1));
    }
}

#[test]
fn queries_back_to_back_are_answered_in_order_and_written_at_once() {
    let server = open();
    let mut stream = server.connect();
    let queries: Vec<_> = (0..20).flat_map(|id| framed(&soa(id))).collect();
    stream.write_all(&queries).unwrap();
    let mut replies = vec![0; 4096];
    let len = stream.read(&mut replies).unwrap();
    let mut replies = &replies[..len];
    for id in 0..20 {
        assert_eq!(gist(&next(&mut replies)), (id, 0, 1));
    }
}

#[test]
fn a_whole_query_does_not_wait_for_the_rest_of_the_next() {
    let server = open();
    let mut stream = server.connect();
    let both = [framed(&soa(1)), framed(&soa(2))].concat();
    let (first, rest) = both.split_at(both.len() - 5);
    stream.write_all(first).unwrap();
    assert_eq!(gist(&next(&mut stream)).0, 1);
    stream.write_all(rest).unwrap();
    assert_eq!(gist(&next(&mut stream)).0, 2);
}

#[test]
fn replies_may_be_as_long_as_the_length_can_tell_and_many() {
    let server = open();
    let mut stream = server.connect();
    let queries = (0..100).flat_map(|id| framed(&query(id, "big.example.", Rtype::TXT)));
    stream.write_all(&queries.collect::<Vec<_>>()).unwrap();
    for id in 0..100 {
        let reply = next(&mut stream);
        assert_eq!(gist(&reply), (id, 0, 240));
        assert!(reply.len() > 60_000);
    }
}

#[test]
fn a_client_that_has_closed_its_side_gets_its_replies() {
    let server = open();
    let mut stream = server.connect();
    stream.write_all(&framed(&soa(1))).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(gist(&next(&mut stream)), (1, 0, 1));
    expect_end(&mut stream);
}

#[test]
fn an_empty_message_or_one_without_a_header_ends_the_connection() {
    let server = open();
    for bad in [&framed(b"")[..], &framed(b"short")] {
        let mut stream = server.connect();
        stream.write_all(&[&framed(&soa(1)), bad].concat()).unwrap();
        assert_eq!(gist(&next(&mut stream)), (1, 0, 1));
        expect_end(&mut stream);
    }
}

#[test]
fn who_completes_no_message_is_idle_and_closed() {
    let limits = Limits { idle: Duration::from_millis(100), ..Limits::default() };
    let server = Server::start(Access::default(), limits);
    let mut silent = server.connect();
    let mut trickling = server.connect();
    until("it may trickle for ever", || {
        thread::sleep(Duration::from_millis(1));
        trickling.write_all(&[0xff]).is_err()
    });
    expect_end(&mut silent);
    assert_eq!(server.streams().connections(), 0);
}

#[test]
fn who_asks_is_told_how_long_it_may_be_idle() {
    let server = open();
    let mut request = soa(1);
    request[11] = 1;
    request.extend(b"\0\0\x29\x04\xd0\0\0\0\0\0\x04\0\x0b\0\0");
    let reply = asked(&mut server.connect(), &request);
    let (ten_seconds, option) = ([0, 100], b"\0\x0b\0\x02");
    assert!(reply.ends_with(&[&option[..], &ten_seconds].concat()), "{reply:?}");
}

#[test]
fn one_client_may_have_so_many_connections() {
    let server = Server::start(Access::default(), Limits { per_client: 2, ..Limits::default() });
    let mut held = [server.connect(), server.connect()];
    for (id, stream) in (0..).zip(&mut held) {
        assert_eq!(gist(&asked(stream, &soa(id))).0, id);
    }
    expect_end(&mut server.connect());
    assert_eq!(server.counter("connections_refused"), 1);
    let [first, mut second] = held;
    drop(first);
    until("a closed connection keeps its place", || server.streams().connections() == 1);
    assert_eq!(gist(&asked(&mut server.connect(), &soa(3))).0, 3);
    assert_eq!(gist(&asked(&mut second, &soa(4))).0, 4);
}

#[test]
fn when_all_places_are_taken_the_longest_idle_makes_room() {
    let server = Server::start(Access::default(), Limits { connections: 2, ..Limits::default() });
    let (mut first, mut second) = (server.connect(), server.connect());
    asked(&mut second, &soa(1));
    asked(&mut first, &soa(2));
    let mut third = server.connect();
    assert_eq!(gist(&asked(&mut third, &soa(3))).0, 3);
    expect_end(&mut second);
    assert_eq!(gist(&asked(&mut first, &soa(4))).0, 4);
    assert_eq!(server.counter("connections_refused"), 0);
}

#[test]
fn who_does_not_read_delays_nobody_and_is_cut_off() {
    let limits = Limits { write: Duration::from_millis(200), ..Limits::default() };
    let server = Server::start(Access::default(), limits);
    let mut slow = server.connect();
    let queries = (0..400).flat_map(|id| framed(&query(id, "big.example.", Rtype::TXT)));
    slow.write_all(&queries.collect::<Vec<_>>()).unwrap();
    assert_eq!(gist(&next(&mut slow)).0, 0);
    let mut other = server.connect();
    assert_eq!(gist(&asked(&mut other, &soa(1))).0, 1);
    until("it is not cut off", || {
        assert_eq!(gist(&asked(&mut other, &soa(1))).0, 1);
        server.streams().connections() == 1
    });
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest);
    assert!(rest.len() < 399 * 60_000, "{} octets", rest.len());
}

/// All records, in a form that compares.
fn contents(zone: &Zone) -> BTreeSet<(NameBuf, u16, u32, Vec<u8>)> {
    let mut all = BTreeSet::new();
    for (key, node) in zone.entries() {
        let owner = key.name(zone.apex()).unwrap();
        for set in node.sets() {
            all.extend(
                set.iter().map(|data| (owner.clone(), set.data_type().0, set.ttl(), data.to_vec())),
            );
        }
    }
    all
}

/// What comes in reply to an AXFR request.
fn transfer(stream: &mut TcpStream, mut verifier: Option<Verifier>) -> (Zone, u64) {
    let mut incoming = Incoming::axfr(name("example.").as_name(), 1, 1 << 24);
    loop {
        let mut message = next(stream);
        let message = match &mut verifier {
            Some(verifier) => verifier.verify(&mut message, now_s()).unwrap(),
            None => &message,
        };
        match incoming.message(message).unwrap() {
            Progress::More => {}
            Progress::Whole(builder, _) => {
                verifier.iter().for_each(|verifier| verifier.finish().unwrap());
                return (builder.build().unwrap(), incoming.statistics().messages);
            }
            _ => panic!("the whole zone was asked for"),
        }
    }
}

#[test]
fn what_is_transferred_is_the_zone_and_the_connection_goes_on() {
    for signs in [false, true] {
        let access = Access { transfer: local(signs), ..Access::default() };
        let server = Server::start(access, Limits::default());
        let mut stream = server.connect();
        let mut request = xfr::axfr_query(1, name("example.").as_name());
        let verifier = signs.then(|| key(b"right").sign_request(&mut request, now_s()));
        stream.write_all(&[framed(&soa(8)), framed(&request), framed(&soa(9))].concat()).unwrap();
        assert_eq!(gist(&next(&mut stream)).0, 8);
        let (zone, messages) = transfer(&mut stream, verifier);
        let served = server.views.load().zone(name("example.").as_name()).unwrap().clone();
        assert!(contents(&zone) == contents(served.zone.as_ref().unwrap()));
        assert!(messages > 3, "{messages}");
        assert_eq!(gist(&next(&mut stream)).0, 9);
        assert_eq!(server.counter("transfers_out"), 1);
        assert!(server.counter("transfer_out_octets") > 100_000);
    }
}

#[test]
fn a_client_that_has_the_newest_version_gets_the_soa_alone() {
    let access = Access { transfer: local(false), ..Access::default() };
    let server = Server::start(access, Limits::default());
    let request = xfr::ixfr_query(5, name("example.").as_name(), Serial(7));
    assert_eq!(gist(&asked(&mut server.connect(), &request)), (5, 0, 1));
}

#[test]
fn after_a_transfer_a_client_is_idle_again() {
    let access = Access { transfer: local(false), ..Access::default() };
    let idle = Duration::from_millis(300);
    let server = Server::start(access, Limits { idle, ..Limits::default() });
    let mut stream = server.connect();
    let request = xfr::axfr_query(1, name("example.").as_name());
    stream.write_all(&framed(&request)).unwrap();
    transfer(&mut stream, None);
    expect_end(&mut stream);
}

#[test]
fn of_a_transfer_little_waits_in_the_kernel() {
    let access = Access { transfer: local(false), ..Access::default() };
    let limits = Limits { write: Duration::from_millis(500), ..Limits::default() };
    let server = Server::start(access, limits);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    socket.connect(&server.addr.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    let requests = (0..100).flat_map(|id| framed(&xfr::axfr_query(id, name("example.").as_name())));
    stream.write_all(&requests.collect::<Vec<_>>()).unwrap();
    next(&mut stream);
    until("it is not cut off", || server.streams().connections() == 0);
    let mut taken = Vec::new();
    let _ = stream.read_to_end(&mut taken);
    assert!((1..1 << 20).contains(&taken.len()), "{} octets", taken.len());
}

#[test]
fn transfers_are_for_those_who_may_of_zones_that_are_there() {
    let access = Access { transfer: local(true), ..Access::default() };
    let server = Server::start(access, Limits::default());
    let mut stream = server.connect();
    let mut rcode = |apex: &str, signs: bool| {
        let mut request = xfr::axfr_query(1, name(apex).as_name());
        let verifier = signs.then(|| key(b"right").sign_request(&mut request, now_s()));
        let mut reply = asked(&mut stream, &request);
        if let Some(mut verifier) = verifier {
            verifier.verify(&mut reply, now_s()).unwrap();
        }
        Rcode(u16::from(gist(&reply).1))
    };
    assert_eq!(rcode("example.", false), Rcode::REFUSED);
    assert_eq!(rcode("h1.example.", true), Rcode::NOTAUTH);
    assert_eq!(rcode("empty.", true), Rcode::SERVFAIL);
    assert_eq!(server.counter("transfers_out"), 0);
}

#[test]
fn an_expired_zone_is_not_transferred() {
    let access = Access { transfer: local(false), ..Access::default() };
    let server = Server::start(access, Limits::default());
    server.views.publish(|view| {
        let mut served = Served::clone(view.zone(name("example.").as_name()).unwrap());
        served.expiry = Arc::new(Expiry::at(server.clock.now_ms()));
        view.put(Arc::new(served));
    });
    let request = xfr::axfr_query(1, name("example.").as_name());
    assert_eq!(gist(&asked(&mut server.connect(), &request)), (1, 2, 0));
}

#[test]
fn a_transfer_that_gets_no_turn_ends_in_servfail() {
    let server = open();
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let request = xfr::axfr_query(6, name("example.").as_name());
    let asked = xfr::parse_transfer(&request).unwrap();
    let zone = sample_of(&Access::default()).zone.clone().unwrap();
    let transfer = transfer::Transfer {
        outgoing: Outgoing::axfr(&asked, zone),
        asked,
        request,
        client: server.addr,
        key: "none".into(),
        signer: None,
        serial: Serial(7),
    };
    let settings = Settings {
        write: SOON,
        transfers: Semaphore::new(0),
        transfer_wait: Duration::from_millis(1),
    };
    let reply = runtime.block_on(async {
        let (mut near, mut far) = tokio::io::duplex(4096);
        let service = &server.streams().shared.service;
        transfer.run(service, &settings, &mut near).await.unwrap();
        drop(near);
        let mut reply = Vec::new();
        far.read_to_end(&mut reply).await.unwrap();
        reply
    });
    assert_eq!(gist(&reply[2..]), (6, 2, 0));
}

/// Asks over TCP if there is a stream, else over UDP.
fn either(stream: Option<&mut TcpStream>, udp: &UdpSocket, message: &[u8]) -> Vec<u8> {
    match stream {
        Some(stream) => asked(stream, message),
        None => ask(udp, message),
    }
}

#[test]
fn signed_queries_are_answered_signed_or_told_what_is_wrong() {
    let server = open();
    let (worker, udp) = server.worker();
    let mut stream = server.connect();
    for over_tcp in [true, false] {
        let mut verdict = |key: &Arc<Key>, skew_s: u64| {
            let mut request = soa(3);
            let mut verifier = key.sign_request(&mut request, now_s() - skew_s);
            let mut reply = either(over_tcp.then_some(&mut stream), &udp, &request);
            let rcode = gist(&reply).1;
            (verifier.verify(&mut reply, now_s()).map(gist), rcode)
        };
        assert_eq!(verdict(&key(b"right"), 0), (Ok((3, 0, 1)), 0));
        assert_eq!(verdict(&key(b"wrong"), 0), (Err(TsigError::Rejected(Rcode::BADSIG)), 9));
        let unknown = Key::new(name("unknown.").as_name(), Algorithm::Sha256, b"right");
        let unknown = verdict(&Arc::new(unknown), 0);
        assert_eq!(unknown, (Err(TsigError::Rejected(Rcode::BADKEY)), 9));
        let (late, rcode) = verdict(&key(b"right"), 1000);
        assert!(matches!(late, Err(TsigError::Clock { .. })) && rcode == 9, "{late:?}");
        // OPT is answered with OPT (RFC 6891 section 6.1.1), before the TSIG record.
        let mut request = xfr::soa_query(4, name("example.").as_name(), Some(1232));
        key(b"wrong").sign_request(&mut request, now_s());
        let reply = either(over_tcp.then_some(&mut stream), &udp, &request);
        let opt = [&[0, 0, 41][..], &1232_u16.to_be_bytes(), &[0; 4]].concat();
        assert_eq!((gist(&reply).1, &reply[10..12]), (9, &[0, 2][..]));
        assert_eq!(reply[25..][..opt.len()], opt, "behind the question of 13 octets");
    }
    worker.stop();
    worker.join();
    assert_eq!(server.stats.rcodes()[9], 8);
}

#[test]
fn access_by_key_is_given_over_udp_too() {
    let server =
        Server::start(Access { query: Some(local(true)), ..Access::default() }, Limits::default());
    let (worker, udp) = server.worker();
    assert_eq!(gist(&ask(&udp, &soa(1))), (1, 5, 0));
    let mut request = soa(2);
    let mut verifier = key(b"right").sign_request(&mut request, now_s());
    let mut reply = ask(&udp, &request);
    assert_eq!(gist(verifier.verify(&mut reply, now_s()).unwrap()), (2, 0, 1));
    let mut large = query(3, "big.example.", Rtype::TXT);
    let mut verifier = key(b"right").sign_request(&mut large, now_s());
    let mut reply = ask(&udp, &large);
    assert!(reply.len() <= 512 && worker::is_truncated(&reply));
    assert_eq!(gist(verifier.verify(&mut reply, now_s()).unwrap()).0, 3);
    worker.stop();
    worker.join();
}

#[test]
fn notify_is_heeded_if_it_comes_from_one_who_may_send_it() {
    let access = Access { notify: local(true), ..Access::default() };
    let server = Server::start(access, Limits::default());
    let (worker, udp) = server.worker();
    let mut stream = server.connect();
    for over_tcp in [true, false] {
        let mut told = |apex: &str, signs: bool| {
            let mut request = xfr::notify(4, name(apex).as_name(), None);
            let verifier = signs.then(|| key(b"right").sign_request(&mut request, now_s()));
            let mut reply = either(over_tcp.then_some(&mut stream), &udp, &request);
            if let Some(mut verifier) = verifier {
                verifier.verify(&mut reply, now_s()).unwrap();
            }
            (reply[2], Rcode(u16::from(gist(&reply).1)))
        };
        assert_eq!(told("example.", true), (0xa4, Rcode::NOERROR), "QR, NOTIFY, AA");
        let Passed::Notify(notified) = server.passed.recv_timeout(SOON).unwrap() else { panic!() };
        assert_eq!((notified.apex, notified.serial), (name("example."), None));
        assert_eq!(told("example.", false).1, Rcode::REFUSED);
        assert_eq!(told("other.", false).1, Rcode::NOTAUTH);
        assert!(server.passed.try_recv().is_err());
        // RFC 6891 section 6.1.1: OPT is answered with OPT.
        let mut request = xfr::notify(5, name("example.").as_name(), None);
        request[11] = 1;
        request.extend_from_slice(b"\0\0\x29\x04\xd0\0\0\0\0\0\0");
        key(b"right").sign_request(&mut request, now_s());
        let reply = either(over_tcp.then_some(&mut stream), &udp, &request);
        assert!(reply[11] == 2 && reply[25..].starts_with(b"\0\0\x29\x04\xd0"), "{reply:?}");
        assert!(server.passed.recv_timeout(SOON).is_ok());
    }
    worker.stop();
    worker.join();
    assert_eq!((server.counter("notifies"), server.counter("notifies_refused")), (4, 2));
}

/// An UPDATE of `apex` that changes nothing.
fn update(id: u16, apex: &str) -> Vec<u8> {
    let mut message = query(id, apex, Rtype::SOA);
    message[2] = 5 << 3;
    message
}

impl Server {
    /// Answers the next UPDATE that is passed on as a primary does that signs by `key`, with
    /// `more` octets behind the header. What was passed on.
    fn as_primary(&self, key: Option<&Arc<Key>>, more: usize) -> Vec<u8> {
        let Passed::Update(mut update) = self.passed.recv_timeout(SOON).unwrap() else { panic!() };
        let passed = update.message.clone();
        let keys = key.iter().map(|&key| (key.name().to_owned(), Arc::clone(key))).collect();
        let signer = match tsig::verify_request(&mut update.message, &keys, now_s()) {
            tsig::Request::Signed { signer, .. } => Some(signer),
            _ => None,
        };
        let mut reply = [&passed[..2], b"\xa8\0", &[0; 8], &vec![7; more]].concat();
        if let Some(mut signer) = signer {
            let len = reply.len();
            reply.resize(len + signer.signature_len(), 0);
            signer.sign(&mut reply, len, now_s()).unwrap();
        }
        update.reply.send(reply).unwrap();
        passed
    }
}

#[test]
fn an_update_is_forwarded_as_it_came_and_answered_as_the_primary_answers() {
    let access = Access { update: local(false), ..Access::default() };
    let server = Server::start(access, Limits::default());
    let (worker, udp) = server.worker();
    let unknown = Key::new(name("elsewhere.").as_name(), Algorithm::Sha512, b"unknown here");
    for signs in [None, Some(key(b"right")), Some(Arc::new(unknown))] {
        for over_tcp in [true, false] {
            let mut request = update(21, "example.");
            let sign = |key: &Arc<Key>| key.sign_request(&mut request, now_s());
            let verifier = signs.as_ref().map(sign);
            let mut stream = over_tcp.then(|| server.connect());
            let mut reply = thread::scope(|scope| {
                let waiting = scope.spawn(|| either(stream.as_mut(), &udp, &request));
                assert_eq!(server.as_primary(signs.as_ref(), 0), request);
                waiting.join().unwrap()
            });
            let reply = match verifier {
                Some(mut verifier) => verifier.verify(&mut reply, now_s()).unwrap(),
                None => &reply,
            };
            assert_eq!((gist(reply), reply[2]), ((21, 0, 0), 0xa8));
            if let Some(stream) = &mut stream {
                assert_eq!(gist(&asked(stream, &soa(22))).0, 22, "the connection goes on");
            }
        }
    }
    let unknown = Key::new(name("elsewhere.").as_name(), Algorithm::Sha256, b"unknown here");
    let mut question = soa(23);
    Arc::new(unknown).sign_request(&mut question, now_s());
    assert_eq!(gist(&either(None, &udp, &question)), (23, 9, 0), "a query is not an UPDATE");
    worker.stop();
    worker.join();
    assert_eq!((server.counter("updates"), server.counter("updates_forwarded")), (6, 6));
}

#[test]
fn an_update_is_refused_to_those_who_have_not_signed_as_they_must() {
    let access = Access { update: local(true), ..Access::default() };
    let server = Server::start(access, Limits::default());
    let (worker, udp) = server.worker();
    let mut stream = server.connect();
    for over_tcp in [true, false] {
        let mut told = |apex: &str, signer: Option<Arc<Key>>| {
            let mut request = update(23, apex);
            let verifier = signer.map(|key| key.sign_request(&mut request, now_s()));
            let mut reply = either(over_tcp.then_some(&mut stream), &udp, &request);
            let rcode = gist(&reply).1;
            (rcode, verifier.map(|mut verifier| verifier.verify(&mut reply, now_s()).map(|_| ())))
        };
        assert_eq!(told("example.", None), (5, None));
        assert_eq!(told("nowhere.", None), (9, None));
        let rejected = |error| (9, Some(Err(TsigError::Rejected(error))));
        assert_eq!(told("example.", Some(key(b"wrong"))), rejected(Rcode::BADSIG));
        let unknown = Key::new(name("elsewhere.").as_name(), Algorithm::Sha256, b"unknown here");
        assert_eq!(told("example.", Some(Arc::new(unknown))), rejected(Rcode::BADKEY));
    }
    worker.stop();
    worker.join();
    assert!(server.passed.try_recv().is_err());
    assert_eq!((server.counter("updates"), server.counter("updates_refused")), (0, 2));
}

#[test]
fn an_update_that_no_primary_answers_ends_in_a_signed_servfail() {
    let access = Access { update: local(true), ..Access::default() };
    let server = Server::start(access, Limits::default());
    let (worker, udp) = server.worker();
    for over_tcp in [true, false] {
        let mut request = update(24, "example.");
        request[11] = 1;
        request.extend_from_slice(b"\0\0\x29\x04\xd0\0\0\0\0\0\0");
        let mut verifier = key(b"right").sign_request(&mut request, now_s());
        let mut stream = over_tcp.then(|| server.connect());
        let mut reply = thread::scope(|scope| {
            let waiting = scope.spawn(|| either(stream.as_mut(), &udp, &request));
            drop(server.passed.recv_timeout(SOON).unwrap());
            waiting.join().unwrap()
        });
        let reply = verifier.verify(&mut reply, now_s()).unwrap();
        assert_eq!(gist(reply), (24, 2, 0));
        assert!(reply.ends_with(b"\0\x16no primary answered"), "error 22: {reply:?}");
    }
    worker.stop();
    worker.join();
    assert_eq!((server.counter("updates"), server.counter("updates_failed")), (2, 2));
}

#[test]
fn an_update_that_a_client_repeats_over_udp_is_forwarded_once_and_a_long_reply_is_truncated() {
    let access = Access { update: local(false), ..Access::default() };
    let server = Server::start(access, Limits::default());
    let (worker, udp) = server.worker();
    let request = update(25, "example.");
    for _ in 0..5 {
        udp.send(&request).unwrap();
    }
    until("they arrive", || server.counter("deferred") == 5);
    // Behind them in the queue: once it is answered, they were seen to.
    let mut signed = soa(26);
    let mut verifier = key(b"right").sign_request(&mut signed, now_s());
    assert!(verifier.verify(&mut ask(&udp, &signed), now_s()).is_ok());
    server.as_primary(None, 600);
    let mut reply = [0; 512];
    let len = udp.recv(&mut reply).unwrap();
    assert_eq!((gist(&reply[..len]), worker::is_truncated(&reply)), ((25, 0, 0), true));
    assert!(server.passed.try_recv().is_err());
    assert_eq!(server.counter("updates"), 1);
    // Another time it is another one.
    udp.send(&request).unwrap();
    server.as_primary(None, 0);
    assert_eq!(udp.recv(&mut reply).unwrap(), 12);
    worker.stop();
    worker.join();
}

#[test]
fn a_flood_of_signed_requests_is_bounded_and_over_when_it_is_over() {
    let server = open();
    let (worker, udp) = server.worker();
    let mut request = soa(1);
    key(b"wrong").sign_request(&mut request, now_s());
    udp.set_nonblocking(true).unwrap();
    for _ in 0..20_000 {
        let _ = udp.send(&request);
    }
    let mut stream = server.connect();
    assert_eq!(gist(&asked(&mut stream, &soa(2))).0, 2);
    let mut signed = soa(3);
    let mut verifier = key(b"right").sign_request(&mut signed, now_s());
    let mut reply = [0; 512];
    until("the flood never ends", || {
        // What was lost in the flood is asked again.
        let _ = udp.send(&signed);
        let len = udp.recv(&mut reply).unwrap_or(0);
        len > 0 && gist(&reply[..len]).0 == 3 && {
            assert!(verifier.verify(&mut reply[..len], now_s()).is_ok());
            true
        }
    });
    worker.stop();
    worker.join();
}

#[test]
fn an_idle_connection_takes_little_memory() {
    let server = open();
    let shared = Arc::clone(&server.streams().shared);
    let _entered = server.streams().runtime.as_ref().unwrap().enter();
    let near = server.connect();
    near.set_nonblocking(true).unwrap();
    let near = tokio::net::TcpStream::from_std(near).unwrap();
    let place = shared.places.enter(server.addr.ip(), Instant::now()).unwrap();
    let task = Connection::new(Arc::clone(&shared), near, server.addr).run(place);
    let octets = size_of_val(&task);
    assert!(octets <= 1024, "{octets}");
}

#[test]
fn listeners_are_replaced_and_connections_stay() {
    let server = open();
    let mut stream = server.connect();
    asked(&mut stream, &soa(1));
    let other = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let other_addr = other.local_addr().unwrap();
    let kept = other.try_clone().unwrap();
    server.streams().set_listeners(vec![other]).unwrap();
    let mut second = TcpStream::connect(other_addr).unwrap();
    assert_eq!(gist(&asked(&mut second, &soa(2))).0, 2);
    assert_eq!(gist(&asked(&mut stream, &soa(3))).0, 3);
    until("the listener that was replaced is still open", || listen(server.addr).is_ok());
    server.streams().set_listeners(vec![kept]).unwrap();
    let mut third = TcpStream::connect(other_addr).unwrap();
    assert_eq!(gist(&asked(&mut third, &soa(4))).0, 4);
}

#[test]
fn when_it_stops_the_idle_are_closed_at_once() {
    let mut server = open();
    let mut stream = server.connect();
    asked(&mut stream, &soa(1));
    server.streams.take().unwrap().stop(SOON);
    expect_end(&mut stream);
    until("it still listens", || TcpStream::connect(server.addr).is_err());
}
