//! Everything goes away and comes back: interfaces, addresses, queues, processes. None of it is
//! the end, each has its line in the log.

use super::common::dns::{read_message, wait_until, write_message};
use super::common::netns::{End, Pair};
use super::common::skip;
use super::server::{
    PATIENCE, Server, client, is_answered, is_answered_over_tcp, pair, wait_answer,
};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const V4: &str = "198.18.0.1:53";
const V6: &str = "[fd18::1]:53";
const SERVES: &str = "cable: AF_XDP, native, copied, 1 queue on worker 0";

#[test]
fn an_interface_that_goes_down_serves_again_when_it_is_up() {
    let Some(pair) = pair() else { return };
    let mut server = Server::new(&[V4, V6], "");
    server.start(&pair);
    server.wait_status(SERVES);
    let clients = [client(&pair, V4), client(&pair, V6)];
    clients.iter().for_each(|client| wait_answer(client, &server));
    for round in 1..=2 {
        pair.ip(End::Server, &["link", "set", "cable", "down"]);
        let told = wait_until(PATIENCE, || server.count("why=\"it is down\"") == round);
        assert!(told, "{}", server.log());
        server.wait_status("(it is down)");
        pair.ip(End::Server, &["link", "set", "cable", "up"]);
        // The system takes addresses of this family away with the link.
        pair.ip(End::Server, &["address", "replace", "fd18::1/64", "dev", "cable", "nodad"]);
        let again = wait_until(PATIENCE, || server.count("AF_XDP serves again") == round);
        assert!(again, "{}", server.log());
        clients.iter().for_each(|client| wait_answer(client, &server));
        server.wait_status(SERVES);
    }
    assert_eq!(server.count("AF_XDP serves interface"), 1, "it was never set up anew");
}

#[test]
fn an_interface_that_is_deleted_is_waited_for() {
    let Some(pair) = pair() else { return };
    // Once by name, once found by the address, which is gone with it.
    for more in ["interfaces = [\"cable\"]", ""] {
        let mut server = Server::new(&[V4], more);
        server.start(&pair);
        wait_answer(&client(&pair, V4), &server);
        pair.ip(End::Server, &["link", "delete", "cable"]);
        server.wait_for("there is no interface cable");
        server.wait_status("cable: ordinary sockets (there is no interface cable");
        let there = pair.namespace(End::Client);
        pair.ip(
            End::Server,
            &["link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", &there],
        );
        for (end, address) in [(End::Server, "198.18.0.1/24"), (End::Client, "198.18.0.2/24")] {
            pair.ip(end, &["address", "add", address, "dev", "cable"]);
            pair.ip(end, &["link", "set", "cable", "up"]);
        }
        let again = wait_until(PATIENCE, || server.count("AF_XDP serves interface") == 2);
        assert!(again, "{}", server.log());
        wait_answer(&client(&pair, V4), &server);
        server.wait_status(SERVES);
        server.stop();
    }
}

#[test]
fn a_server_that_ends_is_started_again_at_once() {
    let Some(pair) = pair() else { return };
    let mut server = Server::new(&[V4], "");
    server.start(&pair);
    let client = client(&pair, V4);
    for round in 0..6 {
        wait_answer(&client, &server);
        if round % 2 == 0 {
            server.stop()
        } else {
            server.kill()
        }
        server.start(&pair);
    }
    wait_answer(&client, &server);
    server.stop();
    let link = pair.command(End::Server, "ip").args(["link", "show", "cable"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&link.stdout).contains("xdp"), "the program is gone");
}

#[test]
fn listen_addresses_change_without_a_gap() {
    let Some(pair) = pair() else { return };
    let other = "198.18.0.3:53";
    pair.ip(End::Server, &["address", "add", "198.18.0.3/24", "dev", "cable"]);
    let mut server = Server::new(&[V4], "");
    server.start(&pair);
    let (stays, comes) = (client(&pair, V4), client(&pair, other));
    wait_answer(&stays, &server);
    assert!(!is_answered(&comes, Duration::from_millis(300)));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asked = 0;
            while !over.load(Ordering::Relaxed) {
                assert!(is_answered(&stays, PATIENCE), "query {asked} was lost");
                asked += 1;
            }
            asked
        });
        for round in 1..=6 {
            let listen: &[&str] = if round % 2 == 1 { &[V4, other] } else { &[V4] };
            server.configure(listen, "");
            server.signal("HUP");
            let told = wait_until(PATIENCE, || {
                server.count("configuration applied") == round
                    && server.count("the filter is replaced") == round
            });
            assert!(told, "round {round}:\n{}", server.log());
            let answered = || is_answered(&comes, Duration::from_millis(300));
            assert!(wait_until(PATIENCE, || answered() == (round % 2 == 1)), "{}", server.log());
        }
        over.store(true, Ordering::Relaxed);
        assert!(asking.join().unwrap() > 100);
    });
    assert_eq!(server.count("AF_XDP serves"), 1, "it was set up once");
}

#[test]
fn a_second_process_serves_by_the_stack_until_the_first_ends() {
    let Some(pair) = pair() else { return };
    let mut first = Server::new(&[V4], "");
    first.start(&pair);
    let mut second = Server::new(&["198.18.0.1:5300"], "");
    second.launch(&pair);
    second.wait_for("INFO serving");
    second.wait_for("has an XDP program of someone else's");
    second.wait_status("cable: ordinary sockets");
    let clients = [client(&pair, V4), client(&pair, "198.18.0.1:5300")];
    wait_answer(&clients[0], &first);
    wait_answer(&clients[1], &second);
    first.stop();
    second.wait_for("AF_XDP serves interface");
    second.wait_status(SERVES);
    wait_answer(&clients[1], &second);
}

/// A cable with so many queues at the server's and the client's end takes the other's place.
fn lay_cable(pair: &Pair, ours: &str, theirs: &str) {
    let there = pair.namespace(End::Client);
    pair.ip(End::Server, &["link", "delete", "cable"]);
    let mut make = vec!["link", "add", "cable", "numrxqueues", ours, "numtxqueues", ours];
    make.extend(["type", "veth", "peer", "name", "cable"]);
    make.extend(["numrxqueues", theirs, "numtxqueues", theirs, "netns", &there]);
    pair.ip(End::Server, &make);
    for (end, address) in [(End::Server, "198.18.0.1/24"), (End::Client, "198.18.0.2/24")] {
        pair.ip(end, &["address", "add", address, "dev", "cable"]);
        pair.ip(end, &["link", "set", "cable", "up"]);
    }
}

#[test]
fn two_workers_each_answer_what_comes_to_their_queue() {
    let Some(pair) = pair() else { return };
    lay_cable(&pair, "2", "2");
    let mut server = Server::new(&[V4], "");
    server.own = "workers = 2\nmetrics = \"198.18.0.1:9153\"".into();
    server.configure(&[V4], "");
    server.start(&pair);
    server.wait_status("cable: AF_XDP, native, copied, 2 queues on workers 0, 1");
    let sent = |queue: &str| {
        let page = pair.inside(End::Server, || page("198.18.0.1:9153"));
        let label = format!("queue=\"{queue}\"");
        let of_queue = |line: &&str| line.starts_with("backstop_xdp_sent") && line.contains(&label);
        let line = page.lines().find(of_queue).unwrap_or_else(|| panic!("no {label} in {page}"));
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    // The ports decide which queue a client's questions come to.
    let both = wait_until(PATIENCE, || {
        wait_answer(&client(&pair, V4), &server);
        sent("0") > 0 && sent("1") > 0
    });
    assert!(both, "{} and {}", sent("0"), sent("1"));
}

/// A page of metrics.
fn page(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}

#[test]
fn a_program_that_someone_left_on_the_interface_is_left_alone_until_it_is_taken_off() {
    let Some(pair) = pair() else { return };
    if skip::program("kxdpgun").is_none() {
        skip::say("kxdpgun is not installed");
        return;
    }
    let queries = tempfile::NamedTempFile::new().unwrap();
    fs::write(queries.path(), "example. SOA\n").unwrap();
    let mac = pair.command(End::Client, "cat").arg("/sys/class/net/cable/address").output();
    let mac = String::from_utf8(mac.unwrap().stdout).unwrap();
    // It attaches by netlink, so that its program stays when it is gone.
    let mut gun = pair.command(End::Server, "kxdpgun");
    gun.args(["-t", "0.1", "-Q", "100", "-I", "cable", "-R", mac.trim(), "-l", "198.18.0.1", "-i"]);
    let gun = gun.arg(queries.path()).arg("198.18.0.2").output().unwrap();
    assert!(gun.status.success(), "{gun:?}");
    let link = || pair.command(End::Server, "ip").args(["link", "show", "cable"]).output().unwrap();
    let left = String::from_utf8_lossy(&link().stdout).into_owned();
    assert!(left.contains("prog/xdp"), "it is there: {left}");
    let mut server = Server::new(&[V4], "");
    server.launch(&pair);
    server.wait_for("cable has an XDP program of someone else's, which is left alone");
    server.wait_for("`ip link set cable xdp off`");
    server.wait_for("INFO serving");
    server.wait_status("cable: ordinary sockets (cable has an XDP program of someone else's");
    assert_eq!(String::from_utf8_lossy(&link().stdout), left, "nothing was touched");
    pair.ip(End::Server, &["link", "set", "cable", "xdp", "off"]);
    server.wait_for("AF_XDP serves interface");
    wait_answer(&client(&pair, V4), &server);
    server.wait_status(SERVES);
}

#[test]
fn queues_that_come_are_served() {
    let Some(pair) = pair() else { return };
    if skip::program("ethtool").is_none() {
        skip::say("ethtool is not installed");
        return;
    }
    lay_cable(&pair, "4", "1");
    let set = |count: &str| {
        let mut ethtool = pair.command(End::Server, "ethtool");
        ethtool.args(["-L", "cable", "rx", count]).status().unwrap().success()
    };
    assert!(set("1"), "one queue to begin with");
    let mut server = Server::new(&[V4], "");
    server.start(&pair);
    wait_answer(&client(&pair, V4), &server);
    assert!(set("3"));
    server.wait_status("3 queues on worker 0");
    server.wait_for("it has 3 queues now, not 1");
    wait_answer(&client(&pair, V4), &server);
}

#[test]
fn packets_that_outgrow_their_frames_get_larger_ones() {
    let Some(pair) = pair() else { return };
    let mut server = Server::new(&[V4], "");
    server.start(&pair);
    wait_answer(&client(&pair, V4), &server);
    pair.ip(End::Server, &["link", "set", "cable", "mtu", "3000"]);
    server.wait_for("its MTU is 3000 now");
    let again = wait_until(PATIENCE, || server.count("AF_XDP serves interface") == 2);
    assert!(again, "{}", server.log());
    wait_answer(&client(&pair, V4), &server);
    server.wait_status(SERVES);
}

#[test]
fn more_workers_than_queues_are_told_of_and_serve() {
    let Some(pair) = pair() else { return };
    let mut server = Server::new(&[V4], "");
    server.own = "workers = 2".into();
    server.configure(&[V4], "");
    server.start(&pair);
    server.wait_for("there are more workers than receive queues");
    server.wait_for("`ethtool -L NAME combined N`");
    wait_answer(&client(&pair, V4), &server);
    server.wait_status(SERVES);
}

#[test]
fn what_the_driver_has_not_is_refused_with_advice_and_what_it_may_do_without_is_not() {
    let Some(pair) = pair() else { return };
    let mut server = Server::new(&[V4], "zero-copy = \"on\"");
    server.launch(&pair);
    assert!(wait_until(PATIENCE, || !server.is_running()), "{}", server.log());
    server.wait_for("cable has no zero-copy; write zero-copy = \"auto\" in [xdp]");
    for (more, mode) in [
        ("mode = \"generic\"", "cable: AF_XDP, generic, copied, 1 queue"),
        ("zero-copy = \"off\"\nbusy-poll = \"20us\"", SERVES),
    ] {
        let mut server = Server::new(&[V4], more);
        server.start(&pair);
        wait_answer(&client(&pair, V4), &server);
        server.wait_status(mode);
        server.stop();
    }
}

#[test]
fn addresses_that_the_host_gets_are_taken_and_what_is_not_ours_is_left_to_the_stack() {
    let Some(pair) = pair() else { return };
    let mut server = Server::new(&["0.0.0.0:53"], "interfaces = [\"cable\"]");
    server.start(&pair);
    let late = client(&pair, "198.18.0.9:53");
    pair.ip(End::Server, &["address", "add", "198.18.0.9/24", "dev", "cable"]);
    server.wait_for("198.18.0.9:53]");
    wait_answer(&late, &server);
    pair.ip(End::Server, &["address", "delete", "198.18.0.9/24", "dev", "cable"]);
    let gone = wait_until(PATIENCE, || server.count("the filter is replaced") == 2);
    assert!(gone, "{}", server.log());
    assert!(!is_answered(&late, Duration::from_millis(300)), "not our address any more");
    assert!(is_answered_over_tcp(&pair, V4), "TCP goes by the stack");
}

#[test]
fn a_wildcard_without_interfaces_is_refused_with_advice() {
    let Some(pair) = pair() else { return };
    let mut server = Server::new(&["0.0.0.0:53"], "");
    server.launch(&pair);
    assert!(wait_until(PATIENCE, || !server.is_running()), "{}", server.log());
    server.wait_for("write interfaces = [\"NAME\"] in [xdp]");
}

#[test]
fn notify_by_this_way_reaches_the_replica() {
    let Some(pair) = pair() else { return };
    let mut server = Server::new(&[V4], "");
    server.start(&pair);
    let client = client(&pair, V4);
    wait_answer(&client, &server);
    let notify = b"\x56\x78\x24\0\0\x01\0\0\0\0\0\0\x07example\0\0\x06\0\x01";
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send(notify).unwrap();
    let mut reply = [0; 512];
    let len = client.recv(&mut reply).expect("an acknowledgement");
    // Opcode NOTIFY, a response, of this id; what the server makes of it is told elsewhere.
    assert_eq!((&reply[..2], reply[2] & 0xf8), (&b"\x56\x78"[..], 0xa0));
    assert!(len >= 12);
}

/// A primary at the client's end that agrees to the first UPDATE that it is sent, and its address.
fn agreeing_primary(pair: &Pair) -> (SocketAddr, JoinHandle<Vec<u8>>) {
    let listener =
        pair.inside(End::Client, || TcpListener::bind((End::Client.v4(), 0)).expect("a port"));
    let address = listener.local_addr().unwrap();
    let primary = thread::spawn(move || {
        loop {
            let (mut stream, _) = listener.accept().unwrap();
            let Ok(request) = read_message(&mut stream) else { continue };
            // Whatever else it is asked, it has no answer to.
            if request[2] >> 3 == 5 {
                let reply = [&request[..2], b"\xa8\0", &request[4..]].concat();
                write_message(&mut stream, &reply).unwrap();
                return request;
            }
        }
    });
    (address, primary)
}

#[test]
fn updates_by_this_way_reach_a_primary_and_their_reply_the_client() {
    let Some(pair) = pair() else { return };
    let (address, primary) = agreeing_primary(&pair);
    let zone = format!(
        "[[zone]]\nname = \"moving\"\nprimaries = [{{ address = \"{address}\" }}]\n\
         allow-update = [{{ from = \"198.18.0.0/15\" }}]"
    );
    let mut server = Server::new(&[V4], &zone);
    server.start(&pair);
    let client = client(&pair, V4);
    wait_answer(&client, &server);
    // What came before is not what is waited for.
    client.set_nonblocking(true).unwrap();
    while client.recv(&mut [0; 512]).is_ok() {}
    client.set_nonblocking(false).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let update = b"\x56\x79\x28\0\0\x01\0\0\0\0\0\0\x06moving\0\0\x06\0\x01";
    client.send(update).unwrap();
    let mut reply = [0; 512];
    let len = client.recv(&mut reply).unwrap_or_else(|_| panic!("{}", server.log()));
    assert_eq!(reply[..len], [b"\x56\x79\xa8\0", &update[4..]].concat());
    assert_eq!(primary.join().unwrap()[2..], update[2..]);
    server.wait_for("UPDATE forwarded zone=moving. client=198.18.0.2:");
}
