//! `backstop audit` of NS sets made of real servers, in health and in every sickness.

use std::{
    io::{self, Read},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    process::Command,
    thread,
};

use serde_json::Value;

use super::{PATIENCE, zones};
use crate::common::{
    backstop::Backstop,
    dns::{TsigKey, wait_for_serial},
    peers::{Kind, Peer, Setup, ZoneSetup},
    ports,
    skip::require,
};

const ZONE: &str = "audit.test.";

/// What an audit says and exits with.
struct Audited {
    code: i32,
    said: String,
}

impl Audited {
    #[track_caller]
    fn assert(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{}", self.said);
        for words in words {
            assert!(self.said.contains(words), "{words:?} is not in\n{}", self.said);
        }
    }
}

fn audit(arguments: &[&str]) -> Audited {
    let output = Command::new(env!("CARGO_BIN_EXE_backstop"))
        .args(["audit", ZONE, "--timeout", "1"])
        .args(arguments)
        .output()
        .expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    let code = output.status.code().expect("it ends by itself");
    Audited { code, said: String::from_utf8(said).expect("UTF-8") }
}

/// `--server` for each of these.
fn audit_servers(servers: &[(&str, SocketAddr)], more: &[&str]) -> Audited {
    let servers: Vec<_> =
        servers.iter().map(|(name, address)| format!("--server={name}={address}")).collect();
    let servers = servers.iter().map(String::as_str);
    audit(&servers.chain(more.iter().copied()).collect::<Vec<_>>())
}

fn text(serial: u32) -> String {
    zones::plain(ZONE, serial, 3600)
}

fn primary(text: &str) -> Setup {
    Setup::of([ZoneSetup::primary(ZONE, text)])
}

const NS1: &str = "ns1.audit.test.";
const NS2: &str = "ns2.elsewhere.test.";

#[test]
fn servers_that_agree_are_found_to_with_one_digest_of_the_whole_zone() {
    require!(Knot, Nsd);
    let key = TsigKey::new("xfr.key.");
    let zone = ZoneSetup::primary(ZONE, &text(7)).key(&key);
    let knot = Peer::knot(&Setup::of([zone]));
    let copy = ZoneSetup::secondary(ZONE, knot.addr()).key(&key);
    let backstop = Backstop::start(&Setup::of([copy]));
    wait_for_serial(backstop.addr(), ZONE, 7, PATIENCE);
    let nsd = Peer::nsd(&primary(&text(7)));
    let config: PathBuf = backstop.dir().join("backstop.toml");
    let config = ["--config", config.to_str().expect("ASCII")];
    let audited = audit_servers(&[(NS1, backstop.addr()), (NS2, nsd.addr())], &config);
    audited
        .assert(0, &["audit.test.: 3 of 3 servers have serial 7; nothing is wrong", "(primary)"]);
    audited.assert(0, &["NS set: ns1.audit.test. ns2.elsewhere.test.", "ns1.audit.test. (own)"]);
    let json = audit_servers(&[(NS2, nsd.addr())], &[&config[..], &["--json"]].concat());
    let report: Value = serde_json::from_str(&json.said).expect("JSON");
    assert_eq!((&report["serial"], &report["exit-code"]), (&7.into(), &0.into()), "{report}");
    let servers = report["servers"].as_array().expect("servers");
    assert_eq!(servers.len(), 3);
    for server in servers {
        assert!(server["digest"].is_string(), "{server}");
        assert_eq!(server["digest"], servers[0]["digest"], "{report}");
        assert_eq!(server["records"], 72, "{server}");
        assert_eq!(server["edns"], "works", "{server}");
        assert!(server["udp"]["ms"].as_f64().expect("a number") > 0.0, "{server}");
    }
    let own = servers.iter().find(|server| server["role"] == "own").expect("our own");
    let left = own["expires-in-s"].as_u64().expect("it tells when its copy expires");
    assert!((604_000..=604_800).contains(&left), "{left}");
}

#[test]
fn servers_of_all_kinds_are_found_to_agree() {
    require!(Knot, Nsd, Bind, Pdns);
    let peers = Kind::AUTHORITATIVE.map(|kind| Peer::start(kind, &primary(&text(7))));
    let names = [NS1, NS2, NS1, NS2];
    let servers: Vec<_> = names.into_iter().zip(peers.iter().map(Peer::addr)).collect();
    audit_servers(&servers, &[]).assert(0, &["4 of 4 servers have serial 7; nothing is wrong"]);
}

#[test]
fn a_server_that_is_behind_is_told_with_its_lag() {
    require!(Nsd);
    let [one, two] = [7, 9].map(|serial| Peer::nsd(&primary(&text(serial))));
    let servers = [(NS1, one.addr()), (NS2, two.addr())];
    let audited = audit_servers(&servers, &[]);
    audited.assert(3, &["lag: ns1.audit.test. ", "serial 7 is 2 behind 9", "1 of 2 servers"]);
    // RFC 1982: 1 is after 4294967295.
    two.update_zone(ZONE, &text(1));
    one.update_zone(ZONE, &text(u32::MAX));
    audit_servers(&servers, &[]).assert(3, &["serial 4294967295 is 2 behind 1"]);
    one.update_zone(ZONE, &text(2_147_483_649));
    let words = "serials do not compare (RFC 1982): 1, 2147483649";
    audit_servers(&servers, &[]).assert(6, &[words]);
}

#[test]
fn a_primary_whose_serial_went_back_is_told() {
    require!(Knot);
    let mut knot = Peer::knot(&primary(&text(7)));
    let backstop = Backstop::start(&Setup::of([ZoneSetup::secondary(ZONE, knot.addr())]));
    wait_for_serial(backstop.addr(), ZONE, 7, PATIENCE);
    knot.stop();
    let knot = Peer::knot(&primary(&text(3)).at(knot.addr()));
    let config = backstop.dir().join("backstop.toml");
    let server = format!("--server={}", knot.addr());
    let audited = audit(&["--config", config.to_str().expect("ASCII"), &server]);
    audited.assert(6, &["the primary's serial is lower than 7", "serial 3 is 4 behind 7"]);
}

#[test]
fn other_data_under_one_serial_show_in_the_whole_zone() {
    require!(Knot, Nsd);
    let other = text(7).replace("host-31 A 198.51.100.31", "host-31 A 198.51.100.99");
    let (knot, nsd) = (Peer::knot(&primary(&text(7))), Peer::nsd(&primary(&other)));
    let servers = [(NS1, knot.addr()), (NS2, nsd.addr())];
    let audited = audit_servers(&servers, &[]);
    audited.assert(6, &["under the same serial 7: a digest of the whole zone differs"]);
}

#[test]
fn other_data_under_one_serial_show_in_samples_where_no_transfer_is_allowed() {
    require!(Knot, Nsd);
    let guarded = |text: &str| Setup::of([ZoneSetup::primary(ZONE, text).no_transfer()]);
    let other = text(7).replace("mail A 192.0.2.7", "mail A 192.0.2.8");
    let (knot, nsd) = (Peer::knot(&guarded(&text(7))), Peer::nsd(&guarded(&other)));
    let servers = [(NS1, knot.addr()), (NS2, nsd.addr())];
    let audited = audit_servers(&servers, &[]);
    audited.assert(6, &["it answers differently to mail.audit.test. A", "samples"]);
    nsd.update_zone(ZONE, &text(8));
    nsd.update_zone(ZONE, &text(7));
    audit_servers(&servers, &[]).assert(0, &["2 of 2 servers have serial 7"]);
}

/// Passes connections on to `server`; its UDP port is closed.
fn tcp_alone(server: SocketAddr) -> SocketAddr {
    let front = TcpListener::bind(("127.0.0.1", 0)).expect("a socket");
    let address = front.local_addr().expect("an address");
    thread::spawn(move || {
        for client in front.incoming() {
            let ends = [client.expect("one"), TcpStream::connect(server).expect("another")];
            let mut copies = ends.each_ref().map(|end| end.try_clone().expect("a descriptor"));
            copies.reverse();
            for (mut from, mut to) in ends.into_iter().zip(copies) {
                // Either side may go at any time.
                thread::spawn(move || io::copy(&mut from, &mut to));
            }
        }
    });
    address
}

#[test]
fn a_server_that_answers_over_tcp_alone_is_compared_as_the_others_are() {
    require!(Knot, Nsd);
    let guarded = |text: &str| Setup::of([ZoneSetup::primary(ZONE, text).no_transfer()]);
    let other = text(7).replace("mail A 192.0.2.7", "mail A 192.0.2.8");
    let (knot, nsd) = (Peer::knot(&guarded(&text(7))), Peer::nsd(&guarded(&other)));
    let servers = [(NS1, knot.addr()), (NS2, tcp_alone(nsd.addr()))];
    let audited = audit_servers(&servers, &[]);
    audited
        .assert(6, &["it answers differently to mail.audit.test. A", "over UDP: Connection ref"]);
    nsd.update_zone(ZONE, &text(8));
    nsd.update_zone(ZONE, &text(7));
    audit_servers(&servers, &[]).assert(5, &["2 of 2 servers have serial 7"]);
}

#[test]
fn servers_that_do_not_serve_the_zone_are_told_by_how_they_fail() {
    require!(Knot, Nsd);
    let knot = Peer::knot(&primary(&text(7)));
    // It has the parent, and refers to others.
    let parent = "$ORIGIN test.\n@ SOA ns h 1 2 3 4 5\n@ NS ns.other.\naudit NS ns1.audit\n";
    let lame = Peer::nsd(&Setup::of([ZoneSetup::primary("test.", parent)]));
    let other =
        Peer::nsd(&Setup::of([ZoneSetup::primary("other.", &zones::plain("other.", 1, 9))]));
    let servers =
        [(NS1, knot.addr()), (NS2, lame.addr()), ("ns3.", other.addr()), ("ns4.", ports::free())];
    let audited = audit_servers(&servers, &[]);
    audited.assert(5, &["1 of 4 servers have serial 7", "it answers without authority (lame)"]);
    audited.assert(5, &["it answers REFUSED", "Connection refused", "not in the NS set: ns3."]);
    let audited = audit_servers(&servers[1..], &[]);
    audited.assert(7, &["silence: no server answers for the zone"]);
}

/// Passes datagrams on to `server`, but for those with an OPT record; it listens on no TCP port.
fn middlebox(server: SocketAddr) -> SocketAddr {
    let front = UdpSocket::bind(("127.0.0.1", 0)).expect("a socket");
    let address = front.local_addr().expect("an address");
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((len, client)) = front.recv_from(&mut buffer) {
            if buffer[11] == 0 {
                let back = UdpSocket::bind(("127.0.0.1", 0)).expect("a socket");
                back.send_to(&buffer[..len], server).expect("sent");
                let len = back.recv(&mut buffer).expect("a reply");
                front.send_to(&buffer[..len], client).expect("sent");
            }
        }
    });
    address
}

#[test]
fn edns_that_is_dropped_and_tcp_that_is_closed_are_told() {
    require!(Knot);
    let knot = Peer::knot(&primary(&text(7)));
    let behind = middlebox(knot.addr());
    let audited = audit_servers(&[(NS1, knot.addr()), (NS2, behind)], &[]);
    audited.assert(5, &["it answers without EDNS only", "over TCP: Connection refused"]);
}

#[test]
fn tcp_that_accepts_and_says_nothing_is_told() {
    require!(Knot);
    let knot = Peer::knot(&primary(&text(7)));
    let silent = TcpListener::bind(("127.0.0.1", 0)).expect("a socket");
    let address = silent.local_addr().expect("an address");
    thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in silent.incoming() {
            let mut stream = stream.expect("a connection");
            let _ = stream.read(&mut [0; 512]);
            kept.push(stream);
        }
    });
    let audited = audit_servers(&[(NS1, knot.addr()), (NS2, address)], &[]);
    audited.assert(5, &["over TCP: no answer within 1s"]);
}

/// An NS set on addresses of loopback that all have the same port, its parent, and a server that
/// stands in for a resolver: it has the same data under the names that are asked for.
struct Delegated {
    port: u16,
    _servers: Vec<Peer>,
}

impl Delegated {
    fn start(delegation: &str) -> Self {
        let port = ports::free().port();
        let at = |last| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), port);
        let child = "$ORIGIN audit.test.\n$TTL 60\n@ SOA ns1 h 5 3600 60 604800 60\n@ NS ns1\n\
                     @ NS ns2\nns1 A 127.0.0.3\nns2 A 127.0.0.4\n";
        let parent = format!(
            "$ORIGIN test.\n$TTL 60\n@ SOA ns h 1 3600 60 604800 60\n@ NS ns\nns A 127.0.0.5\n{delegation}"
        );
        let child = ZoneSetup::primary(ZONE, child);
        let parent = ZoneSetup::primary("test.", &parent);
        let servers = vec![
            Peer::knot(&Setup::of([child.clone()]).at(at(3))),
            Peer::knot(&Setup::of([child.clone()]).at(at(4))),
            Peer::knot(&Setup::of([parent.clone()]).at(at(5))),
            Peer::knot(&Setup::of([child, parent]).at(at(6))),
        ];
        Self { port, _servers: servers }
    }

    fn audit(&self) -> Audited {
        let (port, resolver) = (self.port.to_string(), format!("127.0.0.6:{}", self.port));
        audit(&["--resolver", &resolver, "--port", &port])
    }
}

#[test]
fn the_ns_set_is_resolved_and_compared_with_the_parents() {
    require!(Knot);
    let delegation = "audit NS ns1.audit\naudit NS ns2.audit\nns1.audit A 127.0.0.3\n\
                      ns2.audit A 127.0.0.4\n";
    let audited = Delegated::start(delegation).audit();
    audited.assert(0, &["2 of 2 servers have serial 5; nothing is wrong"]);
    audited.assert(0, &["NS set: ns1.audit.test. ns2.audit.test. (the parent says the same)"]);
}

#[test]
fn a_parent_that_says_otherwise_is_told_name_by_name() {
    require!(Knot);
    let delegation = "audit NS ns1.audit\naudit NS gone.audit\nns1.audit A 127.0.0.9\n\
                      gone.audit A 127.0.0.8\n";
    let audited = Delegated::start(delegation).audit();
    audited.assert(
        4,
        &["the parent has another NS set than the zone: without ns2.audit.test.; with gone"],
    );
    audited.assert(4, &["glue for ns1.audit.test. is 127.0.0.9, the zone has 127.0.0.3"]);
    audited.assert(4, &["gone.audit.test. has no address"]);
}

#[test]
fn an_audit_that_has_nobody_to_ask_fails_with_advice() {
    let nobody = ports::free().to_string();
    let audited = audit(&["--resolver", &nobody]);
    audited.assert(1, &["no server to ask: the resolver: ", "name some by --server"]);
    audit(&["--server", "nowhere"]).assert(2, &["is no address: write 192.0.2.1"]);
    audit(&["--server", "192.0.2.1", "--key", "k."]).assert(2, &["--config"]);
}
