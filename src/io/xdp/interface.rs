//! One interface as it is set up: its program, its map, and what is known of its sockets.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::bpf::{Link, Map, Program};
use super::device::Device;
use super::error::SetUpError;
use super::filter::{Filter, XDP_PASS};
use super::report::{Known, KnownQueue};
use super::socket::{self, Refusal, Xsk, ZeroCopy, frame_size, packet_max};
use super::{MTU_MIN, Mode};

/// How long a queue is waited for with the program in place: taking that off and putting it back
/// resets some cards.
const QUEUE_PATIENCE: Duration = Duration::from_secs(1);

/// What is set up. Dropped, it is detached; the sockets are with the workers.
pub(super) struct Interface {
    // Dropped first.
    link: Link,
    map: Map,
    set: u64,
    device: Device,
    mode: Mode,
    zero_copy: bool,
    /// What the filter takes.
    addresses: Vec<SocketAddr>,
    frame_size: usize,
    queues: Vec<KnownQueue>,
}

/// How an interface differs from what was set up.
pub(super) enum Change {
    /// Not at all.
    None,
    /// In what the filter is made of.
    Filter(Device),
    /// It is down: to be waited for.
    Down,
    /// So much that it must be set up anew, for this reason.
    Over(String),
}

/// What a set-up is made of.
#[derive(Clone)]
pub(super) struct SetUp<'a, W> {
    pub(super) name: &'a str,
    /// The number of this set of sockets.
    pub(super) set: u64,
    pub(super) addresses: &'a [SocketAddr],
    pub(super) sockets: socket::Options,
    /// The worker of each queue.
    pub(super) workers: W,
}

impl<W: Iterator<Item = usize>> SetUp<'_, W> {
    /// Sets an interface up: a program that takes nothing, which shows that the driver takes ours
    /// (and which some want to be there before sockets), the sockets of its queues, their map, and
    /// at last the filter in that program's place.
    pub(super) fn run(mut self, mode: Mode) -> Result<(Interface, Vec<Xsk>), SetUpError> {
        let name = self.name;
        let failed = |what| move |error| SetUpError::system(name, what, error);
        let device = Device::find(name).map_err(|unfit| SetUpError::unfit(name, unfit))?;
        if !device.is_up {
            return Err(SetUpError::Down(name.to_owned()));
        }
        if device.mtu < MTU_MIN {
            return Err(SetUpError::SmallMtu { name: name.to_owned(), mtu: device.mtu });
        }
        if mode == Mode::Generic {
            self.sockets.zero_copy = match self.sockets.zero_copy {
                ZeroCopy::On => return Err(SetUpError::NoZeroCopy(name.to_owned())),
                ZeroCopy::Auto | ZeroCopy::Off => ZeroCopy::Off,
            };
        }
        let frame_size = frame_size(device.mtu).unwrap_or(4096);
        let map = Map::new(device.queues).map_err(failed("a map"))?;
        let program = |addresses: &[SocketAddr]| {
            program(&device, frame_size, addresses, &map).map_err(failed("the filter"))
        };
        let (nothing, filter) = (program(&[])?, program(self.addresses)?);
        let link = Link::attach(&nothing, device.index, mode)
            .map_err(|error| not_attached(name, mode, error))?;
        let (mut sockets, mut queues) = (Vec::new(), Vec::new());
        for number in 0..device.queues {
            let socket = open(&device, number, self.set, &self.sockets)
                .map_err(|refusal| SetUpError::refused(name, number, device.queues, refusal))?;
            map.put(number, &socket).map_err(failed("the map of sockets"))?;
            let worker = self.workers.next().expect("workers are counted without end");
            let tally = socket.tally().clone();
            queues.push(KnownQueue { worker, tally, socket: socket.weak() });
            sockets.push(socket);
        }
        link.replace(&filter).map_err(failed("putting the filter in place"))?;
        let zero_copy = sockets.iter().all(Xsk::is_zero_copy);
        let (set, addresses) = (self.set, self.addresses.to_vec());
        let interface =
            Interface { link, map, set, device, mode, zero_copy, addresses, frame_size, queues };
        Ok((interface, sockets))
    }
}

impl Interface {
    /// How the device as it is now differs from this.
    pub(super) fn compare(&self, now: &Device, addresses: &[SocketAddr]) -> Change {
        let was = &self.device;
        if now.index != was.index {
            return Change::Over("it was made anew".into());
        }
        if now.queues != was.queues {
            return Change::Over(format!("it has {} queues now, not {}", now.queues, was.queues));
        }
        if frame_size(now.mtu).unwrap_or(4096) > self.frame_size || now.mtu < MTU_MIN {
            return Change::Over(format!("its MTU is {} now", now.mtu));
        }
        if self.queues.iter().any(|queue| queue.tally.is_closed()) {
            return Change::Over("a worker lost its socket".into());
        }
        if !self.link.is_attached() {
            return Change::Over("someone took our program off it".into());
        }
        for queue in &self.queues {
            queue.tally.mtu.store(now.mtu, Ordering::Relaxed);
        }
        if now.mac != was.mac || addresses != self.addresses {
            return Change::Filter(now.clone());
        }
        if now.is_up { Change::None } else { Change::Down }
    }

    /// Puts another filter in the place of this one, without a gap.
    pub(super) fn refilter(&mut self, device: Device, addresses: &[SocketAddr]) -> io::Result<()> {
        let program = program(&device, self.frame_size, addresses, &self.map)?;
        self.link.replace(&program)?;
        self.device = device;
        self.addresses = addresses.to_vec();
        Ok(())
    }

    pub(super) fn set(&self) -> u64 {
        self.set
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    pub(super) fn is_zero_copy(&self) -> bool {
        self.zero_copy
    }

    pub(super) fn queues(&self) -> &[KnownQueue] {
        &self.queues
    }

    /// What is to be told of an interface, set up or not.
    pub(super) fn known(set_up: Option<&Self>, name: &str, trouble: Option<String>) -> Known {
        Known {
            interface: name.to_owned(),
            mode: set_up.map(Self::mode),
            zero_copy: set_up.is_some_and(Self::is_zero_copy),
            queues: set_up.map(|set_up| set_up.queues.clone()).unwrap_or_default(),
            trouble,
        }
    }
}

/// Opens the socket of a queue, once a process that has just ended has let go of it: the kernel
/// takes its time for that.
fn open(device: &Device, queue: u32, set: u64, options: &socket::Options) -> Result<Xsk, Refusal> {
    let end = Instant::now() + QUEUE_PATIENCE;
    loop {
        match Xsk::open(device, queue, set, options) {
            Err(Refusal::Busy) if Instant::now() < end => thread::sleep(QUEUE_PATIENCE / 20),
            result => return result,
        }
    }
}

fn program(
    device: &Device,
    frame_size: usize,
    addresses: &[SocketAddr],
    map: &Map,
) -> io::Result<Program> {
    let filter = Filter {
        mac: device.mac,
        frame_max: packet_max(frame_size),
        addresses,
        map: map.raw(),
        miss: XDP_PASS,
    };
    Program::load(&filter.assemble())
}

fn not_attached(name: &str, mode: Mode, error: io::Error) -> SetUpError {
    let owned = || name.to_owned();
    match error.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => SetUpError::Occupied(owned()),
        Some(libc::EPERM | libc::EACCES | libc::ENODEV | libc::ENETDOWN) => {
            SetUpError::system(name, "attaching the filter", error)
        }
        _ if mode == Mode::Native => SetUpError::NoNative { name: owned(), error },
        _ => SetUpError::system(name, "attaching the filter", error),
    }
}
