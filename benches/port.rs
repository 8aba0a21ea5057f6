//! What a port costs: a bare echo over loopback, by every backend.
//!
//! `cargo bench --bench port` reports two things. First, with batches of a given size already
//! queued, the time a reply takes, as the median of many rounds: this compares backends even on a
//! busy machine; `rig` is what AF_XDP costs beside the kernel: its queue, turned by hand. Second,
//! with a worker on the last CPU and a client on the first, the processor time of the worker's
//! thread per reply (the kernel samples how it splits), and packets per turn.
//! On loopback the system's part includes the client's receive path, which runs within our send.
//!
//! Instructions a turn, where the clock is too noisy: build, then count what `turned` executes of
//! [`COUNTED`] turns (the kernel's are not seen):
//!
//! ```text
//! COUNT=rig BATCH=64 valgrind --tool=callgrind --toggle-collect='port::turned*' \
//!     --callgrind-out-file=/dev/null target/release/deps/port-HASH
//! ```
#![expect(clippy::print_stdout, reason = "it reports")]

use std::fs;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use backstop::io::xdp::{Datagram, Rig};
use backstop::io::{Backend, Bind, Packet, Port, Turn, bind, cpus, pin};

const RUNS: usize = 2;
const TIME: Duration = Duration::from_secs(2);
/// A typical query.
const REQUEST: [u8; 40] = [7; 40];
/// A typical reply.
const REPLY_LEN: usize = 120;

/// Turns whose instructions are counted.
const COUNTED: usize = 200;

fn main() {
    if let Ok(what) = std::env::var("COUNT") {
        let batch = std::env::var("BATCH").map_or(64, |batch| batch.parse().expect("a number"));
        let counted = contestant(&what).and_then(|mut it| rounds(&mut *it, batch, COUNTED));
        return println!("{what}: {:?} in {COUNTED} turns of {batch}", counted.map(|_| ()));
    }
    println!("backend  batch  median us  (per reply)");
    for batch in [1, 8, 32, 64] {
        for what in ["mmsg", "uring", "rig"] {
            match contestant(what).and_then(|mut it| rounds(&mut *it, batch, 4000)) {
                Ok(median) => println!("{what:<7}  {batch:>5}  {median:>9.2}"),
                Err(error) => println!("{what}: {error}"),
            }
        }
    }
    println!("\nbackend  in flight  replies/s  packets/turn  user us  system us  (per reply)");
    for window in [1, 8, 64] {
        for _ in 0..RUNS {
            for backend in [Backend::Mmsg, Backend::Uring] {
                match measure(backend, window) {
                    Ok(cost) => println!("{cost}"),
                    Err(error) => println!("{backend:?}: {error}"),
                }
            }
        }
    }
}

type Failure = Box<dyn std::error::Error>;

/// What is asked, and turned to have it reply.
trait Contestant {
    /// Queues a request.
    fn ask(&mut self) -> io::Result<()>;
    fn turn(&mut self) -> io::Result<Turn>;
    /// Takes the replies away.
    fn drain(&mut self);
}

fn contestant(name: &str) -> Result<Box<dyn Contestant>, Failure> {
    let backend = match name {
        "rig" => return Ok(Box::new(Rig::new(4096, 1500)?)),
        "uring" => Backend::Uring,
        _ => Backend::Mmsg,
    };
    let socket = bind("127.0.0.1:0".parse()?, Bind::default())?;
    let client = UdpSocket::bind("127.0.0.1:0")?;
    client.connect(socket.local())?;
    client.set_nonblocking(true)?;
    Ok(Box::new((Port::open(backend, vec![socket])?, client)))
}

impl Contestant for (Port, UdpSocket) {
    fn ask(&mut self) -> io::Result<()> {
        self.1.send(&REQUEST).map(drop)
    }

    fn turn(&mut self) -> io::Result<Turn> {
        self.0.turn(Some(TIME), &mut echo)
    }

    fn drain(&mut self) {
        while self.1.recv(&mut [0; 512]).is_ok() {}
    }
}

impl Contestant for Rig {
    fn ask(&mut self) -> io::Result<()> {
        let (from, to) = (SocketAddr::from(([198, 18, 0, 2], 4000)), ([198, 18, 0, 1], 53).into());
        let macs = [[2; 6], [4; 6]];
        let asked = Datagram { macs, tag: None, from, to, payload: &REQUEST };
        assert!(self.deliver(&asked.frame()), "there is room");
        Ok(())
    }

    fn turn(&mut self) -> io::Result<Turn> {
        Ok(Self::turn(self, &mut echo))
    }

    fn drain(&mut self) {
        while self.send().is_some() {}
    }
}

/// The median time per reply, in microseconds, where `batch` requests are queued before a turn.
fn rounds(it: &mut dyn Contestant, batch: usize, rounds: usize) -> Result<f64, Failure> {
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        for _ in 0..batch {
            it.ask()?;
        }
        let (start, mut received) = (Instant::now(), 0);
        while received < batch {
            received += turned(it)?;
        }
        times.push(start.elapsed());
        it.drain();
    }
    times.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "at most 64")]
    Ok(times[rounds / 2].as_secs_f64() * 1e6 / batch as f64)
}

/// How many requests a turn received.
#[inline(never)]
fn turned(it: &mut dyn Contestant) -> io::Result<usize> {
    it.turn().map(|turn| turn.received)
}

fn measure(backend: Backend, window: usize) -> Result<String, Box<dyn std::error::Error>> {
    let cpus = cpus();
    let (Some(&first), Some(&last)) = (cpus.first(), cpus.last()) else {
        return Err("no CPU".into());
    };
    let socket = bind("127.0.0.1:0".parse()?, Bind::default())?;
    let addr = socket.local();
    let mut port = Port::open(backend, vec![socket])?;
    let waker = port.waker();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let client = thread::spawn(move || pin(first).and_then(|()| load(addr, window, &stopped)));
    let worker = thread::spawn(move || -> io::Result<_> {
        pin(last)?;
        let (mut replies, mut turns) = (0_u64, 0_u64);
        let (start, (user, system)) = (Instant::now(), times());
        while start.elapsed() < TIME {
            let turn = port.turn(Some(TIME), &mut echo)?;
            replies += turn.sent as u64;
            turns += 1;
        }
        let (user_end, system_end) = times();
        Ok((replies, turns, start.elapsed(), user_end - user, system_end - system))
    });
    let (replies, turns, time, user, system) = worker.join().expect("no panic")?;
    stop.store(true, Ordering::Relaxed);
    waker.wake();
    client.join().expect("no panic")?;
    #[expect(clippy::cast_precision_loss, reason = "counts of some seconds")]
    let (replies, turns) = (replies as f64, turns as f64);
    Ok(format!(
        "{:<7}  {window:>9}  {:>9.0}  {:>12.1}  {:>7.2}  {:>9.2}",
        format!("{backend:?}"),
        replies / time.as_secs_f64(),
        replies / turns,
        user * 1e6 / replies,
        system * 1e6 / replies
    ))
}

fn echo(batch: &mut [Packet<'_>]) {
    for packet in batch {
        packet.reply[..packet.request.len()].copy_from_slice(packet.request);
        packet.reply_len = REPLY_LEN;
    }
}

/// Keeps `window` requests in flight.
fn load(addr: SocketAddr, window: usize, stop: &AtomicBool) -> io::Result<()> {
    let client = UdpSocket::bind("127.0.0.1:0")?;
    client.connect(addr)?;
    client.set_read_timeout(Some(Duration::from_millis(20)))?;
    let mut reply = [0; 512];
    for _ in 0..window {
        client.send(&REQUEST)?;
    }
    while !stop.load(Ordering::Relaxed) {
        // What was lost, if anything, is replaced.
        let _ = client.recv(&mut reply);
        client.send(&REQUEST)?;
    }
    Ok(())
}

/// The processor time of this thread, user and system, in seconds (proc(5), fields 14 and 15).
fn times() -> (f64, f64) {
    const TICKS_PER_S: f64 = 100.0;
    let stat = fs::read_to_string("/proc/thread-self/stat").expect("/proc is mounted");
    let fields = stat.rsplit_once(')').expect("the name is in brackets").1;
    let mut ticks = fields.split_whitespace().skip(11).map(|field| field.parse::<f64>());
    let mut next = || ticks.next().and_then(Result::ok).expect("a number") / TICKS_PER_S;
    (next(), next())
}
