//! A primary that does as its script says, for every request.

use super::message::{Asked, Rr, notify, rcode, rtype};
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// What to do to whoever asked. When the acts are done, the connection is closed.
#[derive(Clone)]
pub enum Act {
    /// A message, with its length before it over TCP.
    Message(Vec<u8>),
    /// Octets as they are.
    Raw(Vec<u8>),
    /// An octet at a time, so far apart.
    Trickle(Vec<u8>, Duration),
    Wait(Duration),
    /// Nothing, until the other side gives up.
    Silence,
    /// A message again and again, until the other side has enough.
    Endless(Vec<u8>),
    /// The connection is torn down.
    Reset,
    /// Goes on when the gate is opened.
    Gate(Arc<Gate>),
}

/// Holds back until it is opened.
#[derive(Default)]
pub struct Gate(Mutex<bool>, Condvar);

impl Gate {
    pub fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }

    fn wait(&self) {
        let closed = self.0.lock().unwrap();
        drop(self.1.wait_timeout_while(closed, super::DEADLINE, |open| !*open).unwrap());
    }
}

pub type Script = Arc<dyn Fn(&Asked) -> Vec<Act> + Send + Sync>;

/// Listens on UDP and TCP until it is dropped.
pub struct Primary {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    script: Mutex<Script>,
    asked: Mutex<Vec<Asked>>,
    more: Condvar,
    stop: AtomicBool,
}

impl Primary {
    /// On a port of `ip` that the system chooses.
    pub fn on(
        ip: impl Into<IpAddr>,
        script: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        Self::listen(ip.into(), true, script)
    }

    /// One whose host says of its UDP port that nobody is there.
    pub fn on_tcp_alone(
        ip: impl Into<IpAddr>,
        script: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        Self::listen(ip.into(), false, script)
    }

    fn listen(
        ip: IpAddr,
        with_udp: bool,
        script: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        let (tcp, udp) = (0..50)
            .find_map(|_| {
                let tcp = TcpListener::bind((ip, 0)).unwrap();
                let udp = UdpSocket::bind(tcp.local_addr().unwrap()).ok()?;
                Some((tcp, udp))
            })
            .expect("a port that is free for both");
        let shared = Arc::new(Shared {
            script: Mutex::new(Arc::new(script)),
            asked: Mutex::default(),
            more: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        let address = tcp.local_addr().unwrap();
        let of_udp = Arc::clone(&shared);
        udp.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        if with_udp {
            thread::spawn(move || of_udp.datagrams(&udp));
        }
        let of_tcp = Arc::clone(&shared);
        thread::spawn(move || of_tcp.connections(&tcp));
        Self { address, shared }
    }

    /// A primary that serves this zone as it should.
    pub fn of(ip: impl Into<IpAddr>, zone: &Arc<Zone>) -> Self {
        let zone = Arc::clone(zone);
        Self::on(ip, move |asked| zone.answer(asked))
    }

    /// From now on it does this.
    pub fn script(&self, script: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static) {
        *self.shared.script.lock().unwrap() = Arc::new(script);
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// Waits until it was asked so that `enough` holds; `None` when that never comes.
    pub fn wait_asked(&self, enough: impl Fn(&[Asked]) -> bool) -> Option<Vec<Asked>> {
        let asked = self.shared.asked.lock().unwrap();
        let waited = self.shared.more.wait_timeout_while(asked, super::DEADLINE, |a| !enough(a));
        let (asked, time_out) = waited.unwrap();
        (!time_out.timed_out()).then(|| asked.clone())
    }

    /// The configuration's line for it.
    pub fn config(&self) -> String {
        format!("primaries = [{{ address = \"{}\" }}]", self.address)
    }

    /// Tells `server` that a zone has changed, from this primary's address.
    pub fn notify(&self, server: SocketAddr, zone: &str) {
        let socket = UdpSocket::bind((self.address.ip(), 0)).unwrap();
        let reply = notify_from(&socket, server, &notify(77, zone, None));
        assert_eq!(reply[3] & 0x0f, rcode::NOERROR, "{zone}: the NOTIFY is accepted");
    }
}

/// Sends a NOTIFY until it is acknowledged.
pub fn notify_from(socket: &UdpSocket, server: SocketAddr, request: &[u8]) -> Vec<u8> {
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut reply = [0; 512];
    for _ in 0..20 {
        socket.send_to(request, server).unwrap();
        if let Ok((len, _)) = socket.recv_from(&mut reply) {
            return reply[..len].to_vec();
        }
    }
    panic!("{server} does not answer a NOTIFY");
}

impl Drop for Primary {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    fn ask(&self, octets: &[u8], tcp: bool, from: SocketAddr) -> Vec<Act> {
        let asked = Asked::parse(octets, tcp, from);
        let script = Arc::clone(&self.script.lock().unwrap());
        let acts = script(&asked);
        self.asked.lock().unwrap().push(asked);
        self.more.notify_all();
        acts
    }

    fn datagrams(&self, socket: &UdpSocket) {
        let mut request = [0; 4096];
        while !self.stop.load(Ordering::Relaxed) {
            let Ok((len, from)) = socket.recv_from(&mut request) else { continue };
            for act in self.ask(&request[..len], false, from) {
                if let Act::Message(octets) | Act::Raw(octets) = act {
                    let _ = socket.send_to(&octets, from);
                }
            }
        }
    }

    fn connections(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming() {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let (Ok(stream), shared) = (stream, Arc::clone(self)) else { continue };
            thread::spawn(move || {
                // The other side may go at any time.
                let _ = shared.connection(stream);
            });
        }
    }

    fn connection(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(super::DEADLINE))?;
        stream.set_nodelay(true)?;
        let mut len = [0; 2];
        stream.read_exact(&mut len)?;
        let mut request = vec![0; usize::from(u16::from_be_bytes(len))];
        stream.read_exact(&mut request)?;
        let from = stream.peer_addr()?;
        for act in self.ask(&request, true, from) {
            match act {
                Act::Message(octets) => stream.write_all(&framed(&octets))?,
                Act::Raw(octets) => stream.write_all(&octets)?,
                Act::Trickle(octets, apart) => {
                    for octet in octets {
                        stream.write_all(&[octet])?;
                        thread::sleep(apart);
                    }
                }
                Act::Wait(time) => thread::sleep(time),
                Act::Silence => {
                    let _ = stream.read(&mut [0; 16])?;
                }
                Act::Endless(octets) => loop {
                    stream.write_all(&framed(&octets))?;
                },
                Act::Reset => {
                    return socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                }
                Act::Gate(gate) => gate.wait(),
            }
        }
        stream.shutdown(Shutdown::Write)?;
        // Closed by us before the other side has read all, it would be torn down.
        let _ = stream.read(&mut [0; 16])?;
        Ok(())
    }
}

pub fn framed(octets: &[u8]) -> Vec<u8> {
    [&u16::try_from(octets.len()).unwrap().to_be_bytes()[..], octets].concat()
}

/// A zone whose content follows from its serial, so that any mixture shows.
pub struct Zone {
    pub apex: String,
    /// Refresh, retry, expire.
    pub times: [u32; 3],
    serials: Mutex<Vec<u32>>,
}

impl Zone {
    pub fn new(apex: &str, times: [u32; 3], serial: u32) -> Arc<Self> {
        Arc::new(Self { apex: apex.to_owned(), times, serials: Mutex::new(vec![serial]) })
    }

    /// The next version.
    pub fn add(&self, serial: u32) {
        self.serials.lock().unwrap().push(serial);
    }

    pub fn serial(&self) -> u32 {
        *self.serials.lock().unwrap().last().unwrap()
    }

    pub fn soa(&self, serial: u32) -> Rr {
        Rr::soa(&self.apex, serial, self.times)
    }

    /// The records of a version that the next one does not have, without the SOA.
    pub fn changing(&self, serial: u32) -> Vec<Rr> {
        let www = Rr::a(&format!("www.{}", self.apex), serial.to_be_bytes());
        vec![www, Rr::txt(&format!("serial.{}", self.apex), &serial.to_string())]
    }

    /// All records of a version, the SOA at both ends.
    pub fn whole(&self, serial: u32) -> Vec<Rr> {
        let ns = format!("ns.{}", self.apex);
        let mut records = vec![self.soa(serial)];
        records.push(Rr::new(&self.apex, rtype::NS, super::message::name(&ns)));
        records.push(Rr::a(&ns, [127, 0, 0, 1]));
        records.extend(self.changing(serial));
        records.push(self.soa(serial));
        records
    }

    /// The records of an IXFR, if that version is known.
    pub fn changes(&self, since: u32) -> Option<Vec<Rr>> {
        let serials = self.serials.lock().unwrap();
        let first = serials.iter().position(|&serial| serial == since)?;
        let newest = *serials.last().unwrap();
        let mut records = vec![self.soa(newest)];
        for step in serials[first..].windows(2) {
            for &serial in step {
                records.push(self.soa(serial));
                records.extend(self.changing(serial));
            }
        }
        if newest != since {
            records.push(self.soa(newest));
        }
        Some(records)
    }

    /// The records of the right answer.
    pub fn records(&self, asked: &Asked) -> Vec<Rr> {
        let newest = self.serial();
        match asked.rtype {
            rtype::IXFR => self.changes(asked.since.unwrap()).unwrap_or_else(|| self.whole(newest)),
            rtype::AXFR => self.whole(newest),
            _ => vec![self.soa(newest)],
        }
    }

    /// The right answer.
    pub fn answer(&self, asked: &Asked) -> Vec<Act> {
        if asked.zone != self.apex {
            return vec![Act::Message(asked.reply(rcode::REFUSED, &[]))];
        }
        let records = self.records(asked);
        let messages = records.chunks(500).map(|some| asked.reply(rcode::NOERROR, some));
        messages.map(Act::Message).collect()
    }
}
