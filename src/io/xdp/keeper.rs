//! Who sets interfaces up and keeps them so: a thread that wakes on news, and every [`LOOK_EVERY`].
//!
//! **How it fits.** `server` starts it before the workers, and gives each a [`Seat`]. It owns the
//! programs and their links; the sockets it opens are handed to the workers for good. A set of
//! sockets, a map and a link belong together: when any part of an interface is not as it was, the
//! set is taken down and another is set up.
//!
//! **Invariants.** *filtered last, detached first*: the filter takes
//! something only while each queue has a socket with frames to receive into. *told once*: a state is logged when it begins.
//! *nobody else's*: a program that is there is left alone.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::super::sys::{Bell, PollSet};
use super::Mode;
use super::device::{Device, Local, News, Unfit, local_addresses};
use super::error::{SetUpError, aim};
use super::filter::ADDRESSES_MAX;
use super::interface::{Change, Interface, SetUp};
use super::report::Reporter;
use super::seat::{Order, Seat};
use super::socket::{self, ZeroCopy};

/// How often interfaces are looked at without news: of queues there are none.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long a start waits for what a process that just ended still has.
const START_PATIENCE: Duration = Duration::from_secs(2);
/// The pause before a set-up is tried again; it doubles up to [`LOOK_EVERY`].
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// How AF_XDP is to be used.
#[derive(Clone, Debug)]
pub struct Options {
    /// The interfaces; none: those that have the listen addresses.
    pub interfaces: Vec<String>,
    /// Where the program is to run; `None`: in the driver if it can.
    pub mode: Option<Mode>,
    /// May the card write into our memory?
    pub zero_copy: ZeroCopy,
    /// Entries a ring: a power of two.
    pub ring: u32,
    /// How long the kernel polls the card for us.
    pub busy_poll: Option<Duration>,
}

/// The thread that keeps AF_XDP going. Dropped without [`stop`](Self::stop), it goes on.
pub struct Keeper {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    bell: Arc<Bell>,
    seats: Vec<Arc<Seat>>,
    reporter: Reporter,
}

impl Keeper {
    /// Sets up what can be, for so many workers that all listen on `listening`, and goes on from
    /// there. What is not there or in use is logged and tried again.
    ///
    /// # Errors
    /// What time will not cure.
    pub fn start(
        options: Options,
        listening: &[SocketAddr],
        workers: usize,
    ) -> Result<Self, SetUpError> {
        let what = |what| move |error| SetUpError::system("the interfaces", what, error);
        let bell = Arc::new(Bell::new().map_err(what("a bell"))?);
        let news = News::listen().map_err(what("listening to news"))?;
        let seat = |_| Seat::new(Arc::clone(&bell), listening.to_vec());
        let seats: Vec<_> = (0..workers).map(seat).collect();
        let reporter = Reporter::default();
        let mut table = Table {
            options,
            seats: seats.clone(),
            places: Vec::new(),
            sets: 0,
            reporter: reporter.clone(),
        };
        table.begin(listening)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, rung) = (Arc::clone(&stop), Arc::clone(&bell));
        let run = move || table.run(&stopped, &rung, &news);
        let thread = thread::Builder::new().name("xdp".into()).spawn(run);
        let thread = thread.map_err(what("a thread"))?;
        Ok(Self { thread, stop, bell, seats, reporter })
    }

    /// The place of a worker.
    pub fn seat(&self, worker: usize) -> Arc<Seat> {
        Arc::clone(&self.seats[worker])
    }

    /// Tells how all is.
    pub fn reporter(&self) -> Reporter {
        self.reporter.clone()
    }

    /// Takes the programs off the interfaces. What came before is still with the workers.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.bell.ring();
        if self.thread.join().is_err() {
            error!("the thread of AF_XDP ended in a panic");
        }
    }
}

/// The thread's own.
struct Table {
    options: Options,
    seats: Vec<Arc<Seat>>,
    places: Vec<Place>,
    /// Sets of sockets so far.
    sets: u64,
    reporter: Reporter,
}

/// An interface that is to be served.
struct Place {
    name: String,
    /// As it is set up, if it is.
    interface: Option<Interface>,
    /// What its filter took last.
    addresses: Vec<SocketAddr>,
    /// Why it is not served as it should be; logged already.
    trouble: Option<String>,
    failures: u32,
    next_try: Instant,
}

impl Place {
    fn new(name: String) -> Self {
        Self {
            name,
            interface: None,
            addresses: Vec::new(),
            trouble: None,
            failures: 0,
            next_try: Instant::now(),
        }
    }

    /// Logs a trouble when it begins.
    fn is_in(&mut self, trouble: &str) {
        if self.trouble.as_deref() != Some(trouble) {
            warn!(
                interface = self.name,
                why = trouble,
                "AF_XDP does not serve; the ordinary sockets do"
            );
            self.trouble = Some(trouble.to_owned());
        }
    }

    fn failed(&mut self, error: &SetUpError) {
        self.is_in(&error.to_string());
        let pause = RETRY_AFTER.saturating_mul(1 << self.failures.min(10));
        self.next_try = Instant::now() + pause.min(LOOK_EVERY);
        self.failures += 1;
    }
}

impl Table {
    /// The first look, from which what cannot be cured is told.
    fn begin(&mut self, listening: &[SocketAddr]) -> Result<(), SetUpError> {
        aim(&self.options.interfaces, listening)?;
        let end = Instant::now() + START_PATIENCE;
        loop {
            let errors = self.look();
            let is_busy = errors.iter().any(SetUpError::is_busy);
            if let Some(fatal) = errors.into_iter().find(|error| !error.may_pass()) {
                return Err(fatal);
            }
            if !is_busy || Instant::now() > end {
                break;
            }
            thread::sleep(RETRY_AFTER);
        }
        if self.places.is_empty() {
            warn!(addresses = ?listening, "no interface has a listen address; \
                the ordinary sockets serve until one has");
        }
        let queues: usize = self.places.iter().map(Place::queues).sum();
        if queues > 0 && queues < self.seats.len() {
            warn!(
                queues,
                workers = self.seats.len(),
                "there are more workers than receive queues: \
                give the interface more (`ethtool -L NAME combined N`), or write fewer workers"
            );
        }
        Ok(())
    }

    fn run(mut self, stop: &AtomicBool, bell: &Bell, news: &News) {
        let mut poll = PollSet::new([bell.as_fd(), news.as_fd()].into_iter());
        loop {
            let now = Instant::now();
            let waits = self.places.iter().filter(|place| place.interface.is_none());
            let wait = waits.map(|place| place.next_try.saturating_duration_since(now)).min();
            if let Err(error) = poll.wait(Some(wait.unwrap_or(LOOK_EVERY).min(LOOK_EVERY))) {
                error!(%error, "AF_XDP: waiting for news failed");
                thread::sleep(LOOK_EVERY);
            }
            bell.hush();
            news.hush();
            if stop.load(Ordering::Acquire) {
                // Programs first: what they have given is still with the workers.
                self.places.clear();
                self.report();
                return;
            }
            self.look();
        }
    }

    /// Makes everything as it should be, as far as that can be done now. What could not.
    fn look(&mut self) -> Vec<SetUpError> {
        let listening = self.listening();
        let locals = match local_addresses() {
            Ok(locals) => locals,
            Err(error) => return vec![SetUpError::system("all", "addresses", error)],
        };
        self.choose(&listening, &locals);
        let mut errors = Vec::new();
        let mut first_worker = 0;
        for mut place in std::mem::take(&mut self.places) {
            let addresses = taken(&listening, &locals, &place.name);
            self.keep(&mut place, &addresses);
            if place.interface.is_none()
                && place.next_try <= Instant::now()
                && let Err(error) = self.set_up(&mut place, &addresses, first_worker)
            {
                place.failed(&error);
                errors.push(error);
            }
            if place.interface.is_some() {
                place.addresses = addresses;
            }
            first_worker += place.queues();
            self.places.push(place);
        }
        self.report();
        errors
    }

    /// What every worker listens on.
    fn listening(&self) -> BTreeSet<SocketAddr> {
        let mut all = self.seats.iter().map(|seat| BTreeSet::from_iter(seat.listening()));
        let first = all.next().unwrap_or_default();
        all.fold(first, |common, next| &common & &next)
    }

    /// Which interfaces there should be: those configured, or those that have an address. One that
    /// is gone has none: it is waited for while what it had is listened on.
    fn choose(&mut self, listening: &BTreeSet<SocketAddr>, locals: &[Local]) {
        let mut names = self.options.interfaces.clone();
        if names.is_empty() {
            let has = |local: &&Local| listening.iter().any(|address| address.ip() == local.ip);
            names.extend(locals.iter().filter(has).map(|local| local.interface.clone()));
            let had = |place: &&Place| place.addresses.iter().any(|a| listening.contains(a));
            let gone = |place: &&Place| matches!(Device::find(&place.name), Err(Unfit::Absent));
            let waited = self.places.iter().filter(had).filter(gone);
            names.extend(waited.map(|place| place.name.clone()));
        }
        let wanted: BTreeSet<_> = names.into_iter().collect();
        for place in std::mem::take(&mut self.places) {
            if wanted.contains(&place.name) {
                self.places.push(place);
            } else {
                info!(interface = place.name, "AF_XDP serves it no longer: nothing listens there");
                self.close(place.interface);
            }
        }
        for name in wanted {
            if !self.places.iter().any(|place| place.name == name) {
                self.places.push(Place::new(name));
            }
        }
    }

    /// Looks at what is set up, and takes down what is not as it was.
    fn keep(&mut self, place: &mut Place, addresses: &[SocketAddr]) {
        let Some(interface) = &mut place.interface else { return };
        let change = match Device::find(&place.name) {
            Ok(device) => interface.compare(&device, addresses),
            Err(unfit) => Change::Over(SetUpError::unfit(&place.name, unfit).to_string()),
        };
        match change {
            Change::None => {
                if place.trouble.take().is_some() {
                    info!(interface = place.name, "AF_XDP serves again");
                }
            }
            Change::Filter(device) => match interface.refilter(device, addresses) {
                Ok(()) => {
                    info!(interface = place.name, ?addresses, "AF_XDP: the filter is replaced")
                }
                Err(error) => place.is_in(&format!("the filter cannot be replaced: {error}")),
            },
            Change::Down => place.is_in("it is down"),
            Change::Over(why) => {
                place.is_in(&why);
                self.close(place.interface.take());
                place.failures = 0;
                place.next_try = Instant::now() + RETRY_AFTER;
            }
        }
    }

    /// Sets an interface up, in the first mode that it takes.
    fn set_up(
        &mut self,
        place: &mut Place,
        addresses: &[SocketAddr],
        first_worker: usize,
    ) -> Result<(), SetUpError> {
        let Options { mode, zero_copy, ring, busy_poll, .. } = self.options;
        self.sets += 1;
        let with = SetUp {
            name: &place.name,
            set: self.sets,
            addresses,
            sockets: socket::Options { ring, zero_copy, busy_poll },
            workers: (first_worker..).map(|worker| worker % self.seats.len()),
        };
        let (interface, sockets) = match mode {
            Some(mode) => with.run(mode)?,
            None => match with.clone().run(Mode::Native) {
                Err(error @ SetUpError::NoNative { .. }) if zero_copy != ZeroCopy::On => {
                    info!(interface = place.name, %error, "AF_XDP is used in generic mode");
                    with.run(Mode::Generic)?
                }
                result => result?,
            },
        };
        for (socket, queue) in sockets.into_iter().zip(interface.queues()) {
            self.seats[queue.worker].order(Order::Turn(Box::new(socket)));
        }
        info!(interface = place.name, mode = ?interface.mode(), zero_copy = interface.is_zero_copy(),
            queues = interface.queues().len(), ?addresses, "AF_XDP serves");
        place.interface = Some(interface);
        place.trouble = None;
        place.failures = 0;
        Ok(())
    }

    /// The program goes, then the sockets.
    fn close(&self, interface: Option<Interface>) {
        let Some(interface) = interface else { return };
        let set = interface.set();
        drop(interface);
        self.seats.iter().for_each(|seat| seat.order(Order::Close(set)));
    }

    fn report(&self) {
        let known = self.places.iter().map(|place| {
            Interface::known(place.interface.as_ref(), &place.name, place.trouble.clone())
        });
        self.reporter.set(known.collect());
    }
}

impl Place {
    fn queues(&self) -> usize {
        self.interface.as_ref().map_or(0, |interface| interface.queues().len())
    }
}

/// What the filter of an interface is to take: what is listened on, as far as this host has it. A
/// link-local address is its interface's alone.
fn taken(listening: &BTreeSet<SocketAddr>, locals: &[Local], interface: &str) -> Vec<SocketAddr> {
    let here = |local: &&Local| match local.ip {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => local.interface == interface,
        ip => !ip.is_multicast(),
    };
    let locals: BTreeSet<_> = locals.iter().filter(here).map(|local| local.ip).collect();
    let mut taken = BTreeSet::new();
    for address in listening {
        let ip = address.ip();
        let any = ip.is_unspecified();
        let same =
            |local: &&IpAddr| if any { local.is_ipv4() == ip.is_ipv4() } else { **local == ip };
        taken.extend(locals.iter().filter(same).map(|&ip| SocketAddr::new(ip, address.port())));
    }
    if taken.len() > ADDRESSES_MAX {
        warn!(
            interface,
            addresses = taken.len(),
            taken = ADDRESSES_MAX,
            "more addresses than AF_XDP's filter holds; the ordinary sockets serve the others"
        );
    }
    taken.into_iter().take(ADDRESSES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::xdp::Aimless;

    fn local(ip: &str, interface: &str) -> Local {
        Local { ip: ip.parse().unwrap(), interface: interface.into() }
    }

    fn listening(addresses: &[&str]) -> BTreeSet<SocketAddr> {
        addresses.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn the_filter_takes_what_is_listened_on_as_far_as_this_host_has_it() {
        let locals = [
            local("192.0.2.1", "eth0"),
            local("192.0.2.2", "lo"),
            local("fe80::1", "eth0"),
            local("fe80::2", "eth1"),
            local("2001:db8::1", "eth1"),
        ];
        let taken = |addresses: &[&str]| {
            let all = taken(&listening(addresses), &locals, "eth0");
            all.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(taken(&["192.0.2.1:53", "192.0.2.9:53"]), ["192.0.2.1:53"]);
        assert_eq!(taken(&["0.0.0.0:53"]), ["192.0.2.1:53", "192.0.2.2:53"]);
        assert_eq!(taken(&["[::]:5300"]), ["[2001:db8::1]:5300", "[fe80::1]:5300"]);
        assert_eq!(taken(&["[fe80::2]:53"]), [""; 0], "another interface's");
        assert_eq!(taken(&["0.0.0.0:53", "192.0.2.1:53"]).len(), 2, "none twice");
    }

    #[test]
    fn what_names_no_interface_is_a_mistake_that_is_told() {
        let options = Options {
            interfaces: vec![],
            mode: None,
            zero_copy: ZeroCopy::Auto,
            ring: 64,
            busy_poll: None,
        };
        let start = |address: &str| {
            Keeper::start(options.clone(), &[address.parse().unwrap()], 1).map(|_| ()).unwrap_err()
        };
        assert!(matches!(start("0.0.0.0:53"), SetUpError::Aimless(Aimless::Wildcard)));
        assert!(matches!(start("[::1]:53"), SetUpError::Aimless(Aimless::Loopback)));
    }
}
