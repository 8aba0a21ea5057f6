//! Real servers beside ours: Knot, NSD, BIND, PowerDNS and Unbound from Debian's packages, each
//! as a child process in a directory of its own, as primary or secondary of some zones.
//!
//! What each can: Knot, BIND and NSD answer IXFR after [`Peer::update_zone`] (by journal,
//! `ixfr-from-differences`, `create-ixfr`); PowerDNS always sends the whole zone. All four send
//! and take NOTIFY and use TSIG; Unbound only resolves.
//!
//! A peer dies with its `Peer`, and also when the test process is killed (see [`Guarded`]).
//! When a test panics, the end of every living peer's log is printed.

mod bind;
pub mod guarded;
mod knot;
mod nsd;
mod pdns;
pub mod unbound;

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use tempfile::TempDir;

use self::guarded::Guarded;
use super::{
    dns::{self, Ask, TsigKey, wait_until},
    ports, skip,
};

/// How long a peer may take to start, to stop, or to load a zone.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Knot,
    Nsd,
    Bind,
    Pdns,
    Unbound,
}

impl Kind {
    /// Those that serve zones.
    pub const AUTHORITATIVE: [Self; 4] = [Self::Knot, Self::Nsd, Self::Bind, Self::Pdns];

    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Knot => &["knotd", "knotc"],
            Self::Nsd => &["nsd", "nsd-control"],
            Self::Bind => &["named", "rndc", "dnssec-signzone"],
            Self::Pdns => &["pdns_server", "pdns_control", "pdnsutil"],
            Self::Unbound => &["unbound"],
        }
    }

    /// Why this peer cannot be started here, if so.
    pub fn missing(self) -> Option<String> {
        let absent = self.programs().iter().find(|name| skip::program(name).is_none())?;
        Some(format!("{absent} is not installed (scripts/test installs it as root)"))
    }

    /// Whether it answers IXFR with differences after [`Peer::update_zone`].
    pub fn sends_differences(self) -> bool {
        matches!(self, Self::Knot | Self::Nsd | Self::Bind)
    }
}

/// What a peer shall serve.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Default: a free port on 127.0.0.1. Give one (from [`ports::free`]) where another peer's
    /// set-up has to name it before this one runs.
    pub listen: Option<SocketAddr>,
    pub zones: Vec<ZoneSetup>,
}

impl Setup {
    pub fn of(zones: impl Into<Vec<ZoneSetup>>) -> Self {
        Self { listen: None, zones: zones.into() }
    }

    pub fn at(self, listen: SocketAddr) -> Self {
        Self { listen: Some(listen), ..self }
    }

    /// Each key once.
    pub(super) fn keys(&self) -> Vec<&TsigKey> {
        let of_updates = self.zones.iter().flat_map(|zone| zone.updates.iter().flatten());
        let of_zones = self.zones.iter().filter_map(|zone| zone.key.as_ref());
        let mut keys: Vec<_> = of_zones.chain(of_updates).collect();
        keys.sort_unstable_by_key(|key| &key.name);
        keys.dedup_by_key(|key| &key.name);
        keys
    }
}

/// One zone at a peer.
#[derive(Clone, Debug)]
pub struct ZoneSetup {
    /// With its final dot.
    pub name: String,
    pub role: Role,
    /// Needed by whoever transfers from here, used to transfer to here.
    pub key: Option<TsigKey>,
    /// Whom to tell about new versions.
    pub notify: Vec<SocketAddr>,
    /// Whether loopback may transfer the zone from here (with `key`, if there is one).
    pub allow_transfer: bool,
    /// By which keys loopback may change the zone (UPDATE); `None`: by none. BIND and Knot only.
    pub updates: Vec<Option<TsigKey>>,
}

/// Where a zone's records come from.
#[derive(Clone, Debug)]
pub enum Role {
    /// This zone file.
    Primary(String),
    /// This server.
    Secondary(SocketAddr),
}

impl ZoneSetup {
    pub fn primary(name: &str, text: &str) -> Self {
        Self::new(name, Role::Primary(text.to_owned()))
    }

    pub fn secondary(name: &str, of: SocketAddr) -> Self {
        Self::new(name, Role::Secondary(of))
    }

    fn new(name: &str, role: Role) -> Self {
        assert!(name.ends_with('.'), "{name} without its final dot");
        let name = name.to_owned();
        let (notify, updates) = (Vec::new(), Vec::new());
        Self { name, role, key: None, notify, allow_transfer: true, updates }
    }

    pub fn key(self, key: &TsigKey) -> Self {
        Self { key: Some(key.clone()), ..self }
    }

    pub fn notify(mut self, whom: SocketAddr) -> Self {
        self.notify.push(whom);
        self
    }

    pub fn update(mut self, key: Option<&TsigKey>) -> Self {
        self.updates.push(key.cloned());
        self
    }

    pub fn no_transfer(self) -> Self {
        Self { allow_transfer: false, ..self }
    }

    /// The zone file's name within the peer's directory.
    pub(super) fn file(&self) -> String {
        file_of(&self.name)
    }
}

pub(super) fn file_of(zone: &str) -> String {
    let stem = if zone == "." { "root" } else { zone.trim_end_matches('.') };
    format!("{}.zone", stem.replace('/', "_"))
}

/// Replaces a file as a whole.
pub(super) fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).expect("a new zone file");
    fs::rename(&new, file).expect("in the same folder");
}

/// A running server.
pub struct Peer {
    kind: Kind,
    addr: SocketAddr,
    setup: Setup,
    // Before `dir`: a living server would write into a folder that is being removed.
    process: Option<Guarded>,
    dir: TempDir,
}

impl Peer {
    pub fn knot(setup: &Setup) -> Self {
        Self::start(Kind::Knot, setup)
    }

    pub fn nsd(setup: &Setup) -> Self {
        Self::start(Kind::Nsd, setup)
    }

    pub fn bind(setup: &Setup) -> Self {
        Self::start(Kind::Bind, setup)
    }

    pub fn pdns(setup: &Setup) -> Self {
        Self::start(Kind::Pdns, setup)
    }

    /// Starts a server that serves zones and waits until it answers, for the zones it is
    /// primary of with authority.
    #[track_caller]
    pub fn start(kind: Kind, setup: &Setup) -> Self {
        let addr = setup.listen.unwrap_or_else(ports::free);
        let dir = tempfile::Builder::new().prefix("backstop-peer-").tempdir().expect("a folder");
        for zone in &setup.zones {
            if let Role::Primary(text) = &zone.role {
                fs::write(dir.path().join(zone.file()), text).expect("a zone file");
            }
        }
        let mut peer = Self { kind, addr, setup: setup.clone(), dir, process: None };
        match kind {
            Kind::Knot => knot::configure(&peer),
            Kind::Nsd => nsd::configure(&peer),
            Kind::Bind => bind::configure(&peer),
            Kind::Pdns => pdns::configure(&peer),
            Kind::Unbound => panic!("unbound serves no zones: Unbound::start"),
        }
        peer.launch();
        peer
    }

    fn launch(&mut self) {
        let command = match self.kind {
            Kind::Knot => knot::command(self),
            Kind::Nsd => nsd::command(self),
            Kind::Bind => bind::command(self),
            Kind::Pdns => pdns::command(self),
            Kind::Unbound => unreachable!("refused by start"),
        };
        self.process = Some(Guarded::spawn(command, &self.log_file()));
        let zones = self.setup.zones.clone();
        let ready = wait_until(PATIENCE, || {
            self.assert_running();
            zones.iter().all(|zone| match zone.role {
                Role::Primary(_) => dns::serial(self.addr, &zone.name).is_some(),
                Role::Secondary(_) => dns::udp(self.addr, &Ask::new(&zone.name, "SOA")).is_ok(),
            })
        });
        assert!(ready, "{:?} does not answer on {}", self.kind, self.addr);
    }

    fn assert_running(&mut self) {
        let process = self.process.as_mut().expect("it was started");
        assert!(process.is_running(), "{:?} ended at once:\n{}", self.kind, self.log());
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// UDP and TCP.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Process id of the server's first process.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Guarded::pid)
    }

    /// Where its configuration, zone files and log are.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Replaces the zone file of a zone it is primary of and makes it load the new one; returns
    /// when the new serial is served.
    #[track_caller]
    pub fn update_zone(&self, name: &str, text: &str) {
        let before = dns::serial(self.addr, name);
        self.write_zone(name, text);
        match self.kind {
            Kind::Knot => knot::reload(self, name),
            Kind::Nsd => nsd::reload(self, name),
            Kind::Bind => bind::reload(self, name),
            Kind::Pdns => pdns::reload(self, name),
            Kind::Unbound => unreachable!("refused by start"),
        }
        let served = wait_until(PATIENCE, || dns::serial(self.addr, name) != before);
        assert!(served, "{:?} serves no new version of {name} after {before:?}", self.kind);
    }

    /// Replaces the zone file of a zone it is primary of; it is read at the next start.
    pub fn write_zone(&self, name: &str, text: &str) {
        replace(&self.dir.path().join(file_of(name)), text);
    }

    /// Makes a secondary ask its primary for the SOA now.
    pub fn refresh(&self, zone: &str) {
        match self.kind {
            Kind::Knot => knot::refresh(self, zone),
            Kind::Nsd => nsd::refresh(self, zone),
            Kind::Bind => bind::refresh(self, zone),
            Kind::Pdns => pdns::retransfer(self, zone),
            Kind::Unbound => unreachable!("refused by start"),
        }
    }

    /// Makes a secondary take the whole zone again.
    pub fn retransfer(&self, zone: &str) {
        match self.kind {
            Kind::Knot => knot::retransfer(self, zone),
            Kind::Nsd => nsd::retransfer(self, zone),
            Kind::Bind => bind::retransfer(self, zone),
            Kind::Pdns => pdns::retransfer(self, zone),
            Kind::Unbound => unreachable!("refused by start"),
        }
    }

    /// Makes a primary tell those it notifies, now.
    pub fn notify(&self, zone: &str) {
        match self.kind {
            Kind::Knot => knot::notify(self, zone),
            Kind::Nsd => nsd::notify(self, zone),
            Kind::Bind => bind::notify(self, zone),
            Kind::Pdns => pdns::notify(self, zone),
            Kind::Unbound => unreachable!("refused by start"),
        }
    }

    /// All it has logged so far, over restarts.
    pub fn log(&self) -> String {
        fs::read(self.log_file())
            .map_or_else(|error| error.to_string(), |log| String::from_utf8_lossy(&log).into())
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Ends it as an administrator would; what it has on disk stays.
    pub fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.stop(PATIENCE);
        }
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Leaves it alive but deaf: its sockets stay open, nobody reads them.
    pub fn pause(&self) {
        self.process.as_ref().expect("it runs").pause();
    }

    pub fn resume(&self) {
        assert!(self.process.as_ref().expect("it runs").signal("CONT"), "it is gone");
    }

    /// Stops it, if it runs, and starts it with the same state on the same port.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        self.launch();
    }

    /// Runs one of the peer's own tools and panics with what it said if it fails.
    #[track_caller]
    fn control(&self, program: &str, arguments: &[&str]) {
        // A control socket may come a moment after the first answer.
        let mut said = String::new();
        let done = wait_until(Duration::from_secs(3), || match output(program, arguments) {
            Ok(()) => true,
            Err(error) => {
                said = error;
                thread::sleep(Duration::from_millis(100));
                false
            }
        });
        assert!(done, "{program} {}: {said}", arguments.join(" "));
    }

    fn write(&self, file: &str, text: &str) -> String {
        let path = self.dir.path().join(file);
        fs::write(&path, text).expect("a configuration file");
        path.to_str().expect("ASCII").to_owned()
    }

    fn path(&self, file: &str) -> String {
        self.dir.path().join(file).to_str().expect("ASCII").to_owned()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let start = log.len().saturating_sub(8192);
            let tail: String = log.chars().skip(start).collect();
            eprintln!("--- log of {:?} on {} ---\n{tail}---", self.kind, self.addr);
        }
    }
}

fn output(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = tool(program).args(arguments).output().map_err(|e: io::Error| e.to_string())?;
    let said = [output.stdout, output.stderr].concat();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&said).into()) }
}

fn tool(program: &str) -> Command {
    Command::new(skip::program(program).expect("checked by require!"))
}
