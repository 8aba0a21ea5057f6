//! What a port costs: a bare echo over loopback, by every backend.
//!
//! `cargo bench --bench port` reports two things. First, with batches of a given size already
//! queued, the time a reply takes, as the median of many rounds: this compares backends even on a
//! busy machine. Second, with a worker on the last CPU and a client on the first, the processor
//! time of the worker's thread per reply (the kernel samples how it splits), and packets per turn.
//! On loopback the system's part includes the client's receive path, which runs within our send.
#![expect(clippy::print_stdout, reason = "it reports")]

use std::fs;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use backstop::io::{Backend, Bind, Packet, Port, bind, cpus, pin};

const RUNS: usize = 2;
const TIME: Duration = Duration::from_secs(2);
/// A typical query.
const REQUEST: [u8; 40] = [7; 40];
/// A typical reply.
const REPLY_LEN: usize = 120;

fn main() {
    println!("backend  batch  median us  (per reply)");
    for batch in [1, 8, 32, 64] {
        for backend in [Backend::Mmsg, Backend::Uring] {
            match rounds(backend, batch) {
                Ok(median) => println!("{:<7}  {batch:>5}  {median:>9.2}", format!("{backend:?}")),
                Err(error) => println!("{backend:?}: {error}"),
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

/// The median time per reply, in microseconds, where `batch` requests are queued before a turn.
fn rounds(backend: Backend, batch: usize) -> Result<f64, Box<dyn std::error::Error>> {
    const ROUNDS: usize = 4000;
    let socket = bind("127.0.0.1:0".parse()?, Bind::default())?;
    let client = UdpSocket::bind("127.0.0.1:0")?;
    client.connect(socket.local())?;
    client.set_nonblocking(true)?;
    let mut port = Port::open(backend, vec![socket])?;
    let mut times = Vec::with_capacity(ROUNDS);
    let mut reply = [0; 512];
    for _ in 0..ROUNDS {
        for _ in 0..batch {
            client.send(&REQUEST)?;
        }
        let (start, mut received) = (Instant::now(), 0);
        while received < batch {
            received += port.turn(Some(TIME), &mut echo)?.received;
        }
        times.push(start.elapsed());
        while client.recv(&mut reply).is_ok() {}
    }
    times.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "at most 64")]
    Ok(times[ROUNDS / 2].as_secs_f64() * 1e6 / batch as f64)
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
