//! Queries all the while: every answer must be a whole version, none older than the last.

use super::message::{name, rtype};
use crate::common::dns::wait_until;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What one query brought: the RCODE, and the number that `www` has for its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    pub rcode: u8,
    pub version: Option<u32>,
}

/// Asks for the address of `www` in the zone; `None` if no reply came in a second.
pub fn www(socket: &UdpSocket, server: SocketAddr, zone: &str, id: u16) -> Option<Said> {
    let mut request = id.to_be_bytes().to_vec();
    request.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    request.extend(name(&format!("www.{zone}")));
    request.extend([0, 1, 0, 1]);
    socket.send_to(&request, server).ok()?;
    let mut reply = [0; 512];
    loop {
        let (len, from) = socket.recv_from(&mut reply).ok()?;
        if reply[..2] != request[..2] {
            continue;
        }
        assert_eq!(from, server, "the reply is from the address that was asked");
        assert_eq!(reply[12..request.len()], request[12..], "the question comes back");
        let at = request.len();
        let version = (reply[7] > 0).then(|| {
            assert_eq!(u16::from_be_bytes([reply[at + 2], reply[at + 3]]), rtype::A);
            u32::from_be_bytes(reply[len - 4..len].try_into().unwrap())
        });
        return Some(Said { rcode: reply[3] & 0x0f, version: version.filter(|_| reply[7] == 1) });
    }
}

/// The same, asked again while nothing comes: on a busy machine a second may not be enough.
#[track_caller]
pub fn said(server: SocketAddr, zone: &str) -> Said {
    let socket = socket(server);
    (0..20).find_map(|id| www(&socket, server, zone, id)).expect("a reply")
}

pub fn socket(server: SocketAddr) -> UdpSocket {
    let local: IpAddr =
        if server.is_ipv4() { [127, 0, 0, 1].into() } else { [0, 0, 0, 0, 0, 0, 0, 1].into() };
    let socket = UdpSocket::bind((local, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    socket
}

/// Asks the zones in turn until it is stopped.
pub struct Watch {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<HashMap<String, u32>>>,
    asked: Arc<AtomicU64>,
    thread: Option<JoinHandle<Watched>>,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Watched {
    pub asked: u64,
    pub lost: u64,
    pub wrong: Vec<String>,
}

impl Watch {
    /// Zones that are loaded already.
    pub fn start(server: SocketAddr, zones: &[String], apart: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(HashMap::new()));
        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        let (stopped, of_seen, zones) = (Arc::clone(&stop), Arc::clone(&seen), zones.to_vec());
        let thread = thread::spawn(move || {
            let (socket, mut watched) = (socket(server), Watched::default());
            for (id, zone) in (0..=u16::MAX).cycle().zip(zones.iter().cycle()) {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                watched.asked = 1 + count.fetch_add(1, Ordering::Relaxed);
                let said = www(&socket, server, zone, id);
                let mut seen: std::sync::MutexGuard<'_, HashMap<String, u32>> =
                    of_seen.lock().unwrap();
                let last = seen.get(zone).copied();
                match said {
                    None => watched.lost += 1,
                    Some(Said { rcode: 0, version: Some(now) })
                        if last.is_none_or(|last| now == last || is_after(now, last)) =>
                    {
                        seen.insert(zone.clone(), now);
                    }
                    Some(other) => watched.wrong.push(format!("{zone}: {other:?} after {last:?}")),
                }
                drop(seen);
                thread::sleep(apart);
            }
            watched
        });
        Self { stop, seen, asked, thread: Some(thread) }
    }

    /// The newest version of this zone that was answered from.
    pub fn newest(&self, zone: &str) -> Option<u32> {
        self.seen.lock().unwrap().get(zone).copied()
    }

    pub fn stop(mut self) -> Watched {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }

    /// Stops, and panics unless every answer came and was right.
    #[track_caller]
    pub fn all_was_well(self) {
        let enough = || self.asked.load(Ordering::Relaxed) > 10;
        assert!(wait_until(super::DEADLINE, enough), "it did ask");
        let watched = self.stop();
        assert!(watched.wrong.is_empty(), "{:#?}", &watched.wrong[..watched.wrong.len().min(10)]);
        assert_eq!(watched.lost, 0, "of {}", watched.asked);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Serial arithmetic (RFC 1982).
pub fn is_after(a: u32, b: u32) -> bool {
    a != b && a.wrapping_sub(b) < 1 << 31
}
