//! NOTIFY (RFC 1996): who may send one, over what, and what a flood of them costs.

use super::scripted::message::notify;
use super::scripted::primary::{Gate, framed, notify_from};
use super::scripted::watch::Watch;
use super::scripted::*;
use backstop::control::Request;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

const TIMES: [u32; 3] = [3600, 1, 86_400];

fn loaded(ip: [u8; 4], zone: &str) -> (Arc<Zone>, Primary, Secondary) {
    let zone = Zone::new(zone, TIMES, 1);
    let primary = Primary::of(ip, &zone);
    let config = format!("[[zone]]\nname = \"{}\"\n{}\n", zone.apex, primary.config());
    let secondary = Secondary::start(&config);
    secondary.wait_serial(&zone.apex, 1);
    (zone, primary, secondary)
}

#[test]
fn a_notify_from_an_address_that_is_not_listed_is_refused_and_nobody_is_asked() {
    let (zone, primary, secondary) = loaded([127, 6, 0, 1], "listed.test.");
    let before = primary.asked().len();
    zone.add(2);
    let stranger = UdpSocket::bind("127.6.0.99:0").unwrap();
    let reply = notify_from(&stranger, secondary.address, &notify(1, &zone.apex, None));
    assert_eq!(reply[3] & 0x0f, rcode::REFUSED);
    let reply = notify_from(&stranger, secondary.address, &notify(2, "unknown.test.", None));
    assert_eq!(reply[3] & 0x0f, rcode::NOTAUTH);
    // Had the first been followed up, it would have been asked before this one.
    primary.notify(secondary.address, &zone.apex);
    secondary.wait_serial(&zone.apex, 2);
    assert_eq!(primary.asked().len(), before + 1);
    assert_eq!(secondary.counted("notifies"), 1, "those that were accepted");
}

#[test]
fn a_notify_that_tells_a_serial_that_we_have_asks_nobody() {
    let (zone, primary, secondary) = loaded([127, 6, 0, 2], "known.test.");
    let before = primary.asked().len();
    let socket = UdpSocket::bind((primary.address.ip(), 0)).unwrap();
    let told = |serial| notify(3, &zone.apex, Some(&zone.soa(serial)));
    notify_from(&socket, secondary.address, &told(1));
    notify_from(&socket, secondary.address, &told(0));
    zone.add(2);
    notify_from(&socket, secondary.address, &told(2));
    secondary.wait_serial(&zone.apex, 2);
    assert_eq!(primary.asked().len(), before + 1);
}

#[test]
fn a_notify_comes_over_tcp_as_well() {
    let (zone, primary, secondary) = loaded([127, 6, 0, 3], "tcp.test.");
    zone.add(2);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(primary.address.ip(), 0).into()).unwrap();
    socket.connect(&secondary.address.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.write_all(&framed(&notify(4, &zone.apex, None))).unwrap();
    let mut reply = [0; 6];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!((reply[3], reply[5] & 0x0f), (4, rcode::NOERROR));
    secondary.wait_serial(&zone.apex, 2);
}

#[test]
fn notifies_during_a_transfer_lead_to_one_more_look() {
    let (zone, primary, secondary) = loaded([127, 6, 0, 4], "during.test.");
    let before = primary.asked().len();
    let gate = Arc::new(Gate::default());
    let (of_script, held) = (Arc::clone(&zone), Arc::clone(&gate));
    primary.script(move |asked| {
        let answer = of_script.answer(asked);
        [vec![Act::Gate(Arc::clone(&held))], answer].concat()
    });
    zone.add(2);
    primary.notify(secondary.address, &zone.apex);
    primary.wait_asked(|asked| asked.len() == before + 1).expect("it asks");
    // The answer to the transfer under way is made already: this version is not in it.
    zone.add(3);
    for _ in 0..20 {
        primary.notify(secondary.address, &zone.apex);
    }
    gate.open();
    secondary.wait_serial(&zone.apex, 3);
    secondary.wait_log(&["transferred", "during.test.", "to=2"]);
    secondary.wait_log(&["transferred", "during.test.", "to=3"]);
    assert_eq!(primary.asked().len(), before + 2, "twenty were one");
}

#[test]
fn a_flood_of_forged_notifies_costs_next_to_nothing() {
    let (zone, primary, secondary) = loaded([127, 6, 0, 5], "flood.test.");
    let before = primary.asked().len();
    let watch =
        Watch::start(secondary.address, std::slice::from_ref(&zone.apex), Duration::from_millis(5));
    let began = Instant::now();
    // Forged: nobody reads the replies.
    let forger = UdpSocket::bind((primary.address.ip(), 0)).unwrap();
    for id in 0..100_000_u32 {
        let request = notify(id as u16, &zone.apex, Some(&zone.soa(2 + id)));
        // What does not fit into the server's queue is lost, as it would be.
        let _ = forger.send_to(&request, secondary.address);
    }
    // The flood is over when a NOTIFY from elsewhere is answered.
    let stranger = UdpSocket::bind("127.6.0.98:0").unwrap();
    notify_from(&stranger, secondary.address, &notify(1, &zone.apex, None));
    secondary.status(&zone.apex);
    let asked = primary.asked().len() - before;
    let most = 2 + 2 * began.elapsed().as_secs();
    assert!(asked as u64 <= most, "{asked} questions in {:?}", began.elapsed());
    // Still it follows up what is true.
    zone.add(2);
    primary.notify(secondary.address, &zone.apex);
    secondary.wait_serial(&zone.apex, 2);
    let watched = watch.stop();
    assert!(watched.wrong.is_empty(), "{:?}", watched.wrong);
    // The flood fills the same socket's queue; who is lost asks again.
    assert!(watched.lost <= watched.asked / 4, "{watched:?}");
}

/// A server that is told by NOTIFY, and does not ask about it.
struct Told(UdpSocket);

impl Told {
    fn at(ip: &str) -> Self {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(socket)
    }

    fn config(&self) -> String {
        format!("notify = [{{ address = \"{}\" }}]\n", self.0.local_addr().unwrap())
    }

    /// Waits until it is told of this serial, and acknowledges what it is told.
    fn wait(&self, serial: u32) {
        let mut octets = [0; 512];
        loop {
            let (len, from) = self.0.recv_from(&mut octets).expect("a NOTIFY");
            assert_eq!(octets[2] & 0xf8, 0x20, "a request with the opcode NOTIFY");
            octets[2] |= 0x80;
            self.0.send_to(&octets[..len], from).unwrap();
            // The last record is the SOA, which ends with its serial and four intervals.
            if octets[len - 20..len - 16] == serial.to_be_bytes() {
                return;
            }
        }
    }
}

#[test]
fn after_a_restart_our_secondaries_are_told_even_while_the_primary_is_down() {
    // What it fetched while they were down, they would else learn by their refresh timers alone
    // when it was restarted before it could tell them.
    let told = Told::at("127.6.0.97");
    let zone = Zone::new("again.test.", TIMES, 1);
    let primary = Primary::of([127, 6, 0, 6], &zone);
    let one = format!("[[zone]]\nname = \"again.test\"\n{}\n", primary.config());
    let mut secondary = Secondary::start(&(one.clone() + &told.config()));
    told.wait(1);
    primary.script(|_| vec![Act::Reset]);
    secondary.signal("-TERM");
    secondary.ended();
    secondary.run();
    told.wait(1);
    // Neither does a server wait that is listed from now on.
    let other = Told::at("127.6.0.96");
    secondary.configure(&(one + &other.config()));
    secondary.signal("-HUP");
    other.wait(1);
}

#[test]
fn after_a_restart_the_secondaries_of_a_zone_file_are_told() {
    let told = Told::at("127.6.0.95");
    let mut secondary = Secondary::stopped(crate::common::ports::free(), &[]);
    secondary.listen_on(&[secondary.address]);
    let file = secondary.config().with_file_name("file.zone");
    fs::write(file, "@ 9 SOA ns.test. h.test. 7 9 9 9 9\n@ 9 NS ns.test.\n").unwrap();
    let zone = "[[zone]]\nname = \"file.test\"\nfile = \"file.zone\"\n";
    secondary.configure(&(zone.to_owned() + &told.config()));
    secondary.run();
    told.wait(7);
    secondary.signal("-TERM");
    secondary.ended();
    secondary.run();
    told.wait(7);
    // And whenever the operator wants it.
    let reply = secondary.client().command(&Request::Notify { zone: "file.test".into() }).unwrap();
    assert_eq!(reply, "file.test.: one server is being told");
    told.wait(7);
}
