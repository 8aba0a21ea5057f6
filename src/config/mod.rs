//! The configuration: one TOML file, parsed into types that cannot be wrong.
//!
//! **How it fits.** [`Config::load`] is all that `server` and the commands call. `server` copies
//! from it into the small option structs of the other modules, which do not know this one.
//!
//! **In it.** `document` walks the TOML and knows where everything stands; `units` reads the single
//! values; `server`, `guard`, `keys`, `access`, `settings`, `zones` and `list` read one part of the
//! file each, in an order in which all that a part refers to is known; `problem` is what the operator
//! is told.
//!
//! **Invariants.**
//! - *all mistakes*: reading goes on after a mistake; every one is reported with its place and with
//!   what to write instead.
//! - *resolved*: no name is left to look up. A primary holds its key, a zone its settings (with
//!   templates and defaults already applied), paths are relative to the file's folder no more.
//! - *shared*: zones of a list share their settings; a zone costs its name and a pointer.
//! - *documented*: `KEYS.md` lists every key that is read, and no other (a test compares them).
//!
//! It opens no socket and reads no zone file.

mod access;
mod document;
mod guard;
mod keys;
mod list;
#[cfg(test)]
mod mistakes;
mod problem;
mod server;
mod settings;
#[cfg(test)]
mod tests;
mod units;
mod zones;

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeTable;

use self::access::Known;
use self::document::{Document, Kind, Section, Wrong};
use crate::acl::Acl;
use crate::check;
use crate::name::NameBuf;
use crate::refresh::LowerSerial;
use crate::tsig;
use crate::view::RateLimit;

pub use problem::{Problem, Severity, report};

/// All that an operator can set. The parts compare, so that a new reading shows what changed.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[server]`: addresses, threads, places.
    pub server: Server,
    /// `[tcp]`: what clients over TCP may take.
    pub tcp: Tcp,
    /// `[transfer]`: bounds on transfers in.
    pub transfer: Transfer,
    /// `[rate-limit]`: how many alike UDP replies one network gets; `None`: all.
    pub rate_limit: Option<Arc<RateLimit>>,
    /// `[cookies]`: DNS cookies (RFC 7873).
    pub cookies: Cookies,
    /// `[xdp]`: used with [`Io::Xdp`] only.
    pub xdp: Xdp,
    /// `[[key]]`: the TSIG keys by name.
    pub keys: HashMap<NameBuf, Arc<TsigKey>>,
    /// `[[zone]]` and `[[zone-list]]`: in the order of the file, no name twice.
    pub zones: Vec<ZoneConfig>,
}

/// What [`Config::load`] returns: a configuration with its warnings, or everything that is wrong,
/// ordered by place.
pub type Loaded = Result<(Config, Vec<Problem>), Vec<Problem>>;

impl Config {
    /// Reads and checks the file at `path` and the files it names. Paths in it are relative to
    /// its folder.
    pub fn load(path: &Path) -> Loaded {
        let text = match text(path) {
            Ok(text) => text,
            Err(wrong) => return Err(alone(path, wrong)),
        };
        let doc = Document::new(path, &text);
        let (table, errors) = DeTable::parse_recoverable(&text);
        if !errors.is_empty() {
            // What was recovered of a broken file would only seem to have other mistakes.
            for error in errors {
                let at = error.span().map_or(0, |span| span.start);
                doc.error(at, Wrong::new(error.message(), syntax(error.message())));
            }
            return Err(doc.into_problems());
        }
        let config = read(&Section::top(&doc, table.get_ref(), &TOP));
        let problems = doc.into_problems();
        if problems.iter().any(|problem| problem.severity == Severity::Error) {
            return Err(problems);
        }
        Ok((config, problems))
    }

    /// Where the server that runs by the file at `path` has its control socket, whatever else may
    /// be wrong with the file by now.
    ///
    /// # Errors
    /// The file cannot be read, or is no TOML as far as `[server]`.
    pub fn control(path: &Path) -> Result<PathBuf, Vec<Problem>> {
        let text = text(path).map_err(|wrong| alone(path, wrong))?;
        let (table, errors) = DeTable::parse_recoverable(&text);
        if !errors.is_empty() && !table.get_ref().contains_key("server") {
            return Self::load(path).map(|(config, _)| config.server.control);
        }
        let doc = Document::new(path, &text);
        Ok(server::server(&Section::top(&doc, table.get_ref(), &TOP)).control)
    }

    /// Where it is if no configuration says otherwise.
    pub fn default_control() -> PathBuf {
        server::defaults().control
    }

    /// Every key with its default, unit and meaning, as a page of Markdown.
    pub fn reference() -> &'static str {
        include_str!("KEYS.md")
    }
}

static TOP: Kind = Kind {
    title: "the file",
    own: &[
        "server",
        "tcp",
        "transfer",
        "rate-limit",
        "cookies",
        "xdp",
        "key",
        "template",
        "zone",
        "zone-list",
    ],
    shared: &[],
};

/// No configuration is larger, in octets: a zone list holds millions of zones, this file need not.
const FILE_MAX: u64 = 256 << 20;

fn read(top: &Section<'_>) -> Config {
    let server = server::server(top);
    let keys = keys::read(top);
    let zones = zones::read(top, &Known { keys: &keys, listen: &server.listen });
    Config {
        tcp: server::tcp(top),
        transfer: server::transfer(top),
        rate_limit: guard::rate_limit(top),
        cookies: guard::cookies(top),
        xdp: server::xdp(top, &server),
        server,
        keys,
        zones,
    }
}

fn text(path: &Path) -> Result<String, Wrong> {
    let unreadable = |error: std::io::Error| {
        Wrong::new(format!("cannot be read ({error})"), "give the path of a configuration file")
    };
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > FILE_MAX {
        return Err(Wrong::new("is larger than 256MiB", "move the zones to a [[zone-list]]"));
    }
    Ok(text)
}

/// What to write instead of what is not TOML, for what its parser says most.
fn syntax(message: &str) -> &'static str {
    let advice = [
        ("duplicate key", "remove one of the two"),
        ("unclosed", "close it"),
        ("must be quoted", "write text in quotes: \"...\""),
        ("invalid", "write text in quotes: \"...\""),
        ("key with no value", "write key = value"),
    ];
    let found = advice.iter().find(|(part, _)| message.contains(part));
    found.map_or("write TOML: [table] or key = value", |(_, advice)| advice)
}

/// The one problem of a file that cannot be read.
fn alone(path: &Path, wrong: Wrong) -> Vec<Problem> {
    let doc = Document::new(path, "");
    doc.error(0, wrong);
    doc.into_problems()
}

/// `[server]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where queries are answered, over UDP and TCP; at least one.
    pub listen: Vec<SocketAddr>,
    /// UDP threads; at least one.
    pub workers: usize,
    /// How packets are received and sent.
    pub io: Io,
    /// Where zones are kept.
    pub state_dir: PathBuf,
    /// The control socket.
    pub control: PathBuf,
    /// Where `/metrics` and `/healthz` are served.
    pub metrics: Option<SocketAddr>,
    /// How many zones `/metrics` tells of one by one.
    pub metrics_zones: usize,
    /// What `id.server.` and NSID say; `None` hides it. At most 255 octets.
    pub identity: Option<String>,
    /// What `version.bind.` says; `None` hides it. At most 255 octets.
    pub version: Option<String>,
    /// The largest UDP reply over IPv4, in octets.
    pub udp_size_v4: u16,
    /// The largest UDP reply over IPv6, in octets.
    pub udp_size_v6: u16,
    /// When a new version may be served.
    pub durability: Durability,
    /// How long the data of a zone that left the configuration is kept.
    pub keep_removed: Duration,
    /// The least important events that are logged.
    pub log_level: LogLevel,
    /// How they are written.
    pub log_format: LogFormat,
}

/// `server.io`: the way to the network card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// The best of `uring` and `mmsg` that works here.
    Auto,
    /// io_uring.
    Uring,
    /// recvmmsg and sendmmsg.
    Mmsg,
    /// AF_XDP, set up by `[xdp]`.
    Xdp,
}

/// `server.durability`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A version is on disk before it is served.
    Commit,
    /// It may be served before; a power cut can bring back an older one.
    Relaxed,
}

/// `server.log-level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// What needs an operator.
    Error,
    /// What may come to need one.
    Warn,
    /// Changes of state.
    Info,
    /// Each step of a transfer.
    Debug,
    /// Everything.
    Trace,
}

/// `server.log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// An object a line, for programs.
    Json,
}

/// `[tcp]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Connections open at a time.
    pub max_connections: usize,
    /// Of those, from one client address.
    pub max_per_client: usize,
    /// How long a connection may say nothing (RFC 7766 section 6.2.3).
    pub idle_timeout: Duration,
}

/// `[transfer]`: transfers in. How large a zone may be is a zone's setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// At a time, in all.
    pub concurrent: usize,
    /// At a time, from one primary's address.
    pub per_primary: usize,
    /// How many zones one primary's address is asked for their SOA a second, as their timers say.
    pub probes_per_second: u32,
    /// For the connection to be made.
    pub connect_timeout: Duration,
    /// Without a single octet received.
    pub stall_timeout: Duration,
    /// Octets a second, below which a transfer is given up.
    pub min_rate: u64,
}

/// `[cookies]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookies {
    /// Are they made and accepted?
    pub enabled: bool,
    /// The first makes them, all are accepted; empty: the server draws one.
    pub secrets: Vec<CookieSecret>,
    /// Is a query over UDP with a client's cookie refused while it lacks a good one of ours?
    pub require: bool,
}

/// A secret that cookies are made with (RFC 9018). Nothing prints it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CookieSecret([u8; 16]);

impl CookieSecret {
    /// The octets, for hashing.
    pub fn octets(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Debug for CookieSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieSecret(hidden)")
    }
}

/// `[xdp]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xdp {
    /// Network interfaces by name; empty: those of the listen addresses.
    pub interfaces: Vec<String>,
    /// Where the program is attached.
    pub mode: XdpMode,
    /// Whether the card writes into our memory.
    pub zero_copy: ZeroCopy,
    /// Descriptors a ring: a power of two.
    pub ring: u32,
    /// How long the kernel may poll the card for us; `None`: not.
    pub busy_poll: Option<Duration>,
}

/// `xdp.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver if it can, else in the stack.
    Auto,
    /// In the driver.
    Native,
    /// In the stack.
    Generic,
}

/// `xdp.zero-copy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroCopy {
    /// If the driver can.
    Auto,
    /// Or fail.
    On,
    /// Never.
    Off,
}

/// `[[key]]`: a TSIG key (RFC 8945).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TsigKey {
    /// Its name, which both sides must agree on.
    pub name: NameBuf,
    /// Its algorithm, likewise.
    pub algorithm: Algorithm,
    /// What only the two sides know.
    pub secret: Secret,
}

impl TsigKey {
    /// What signs with it.
    pub fn key(&self) -> tsig::Key {
        let algorithm = match self.algorithm {
            Algorithm::Sha1 => tsig::Algorithm::Sha1,
            Algorithm::Sha256 => tsig::Algorithm::Sha256,
            Algorithm::Sha384 => tsig::Algorithm::Sha384,
            Algorithm::Sha512 => tsig::Algorithm::Sha512,
        };
        tsig::Key::new(self.name.as_name(), algorithm, self.secret.as_bytes())
    }
}

/// `key.algorithm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// hmac-sha1: for primaries that know nothing better.
    Sha1,
    /// hmac-sha256.
    Sha256,
    /// hmac-sha384.
    Sha384,
    /// hmac-sha512.
    Sha512,
}

/// The octets of a key's secret. Nothing prints them.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// The octets, for signing.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// A zone to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneConfig {
    /// Its apex.
    pub name: NameBuf,
    /// What holds for it; shared by the zones for which the same holds.
    pub settings: Arc<ZoneSettings>,
}

/// What can be set for a zone or in a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneSettings {
    /// Where its data comes from.
    pub source: Source,
    /// Who may ask; `None`: everybody.
    pub allow_query: Option<Acl>,
    /// Who may transfer it from us.
    pub allow_transfer: Acl,
    /// Whose NOTIFY is heeded: the primaries', signed where they have a key, and what
    /// `allow-notify` adds.
    pub allow_notify: Acl,
    /// Whose UPDATEs are forwarded to the primaries; nobody's, if there are none.
    pub allow_update: Acl,
    /// Whom we notify of a new version.
    pub notify: Vec<Target>,
    /// Bounds on the SOA's refresh interval.
    pub refresh: Clamp,
    /// Bounds on the SOA's retry interval.
    pub retry: Clamp,
    /// Bounds on the SOA's expire interval.
    pub expire: Clamp,
    /// What is answered once it has expired.
    pub after_expiry: AfterExpiry,
    /// What is done when all primaries have a lower serial than ours.
    pub on_lower_serial: LowerSerial,
    /// What is done when the primary that it came from has other data under our serial.
    pub on_same_serial: SameSerial,
    /// How often all of it is compared with that primary's; `None`: never.
    pub compare_every: Option<Duration>,
    /// How long the history that it came from is waited for before another's is taken.
    pub pin_tolerance: Duration,
    /// Whether differences are asked for (RFC 1995); else the whole zone each time.
    pub ixfr: bool,
    /// Octets of wire form that a version may have, and a transfer bring.
    pub max_size: u64,
    /// How many older versions are held.
    pub history: usize,
    /// What a version must pass before it is served.
    pub checks: check::Rules,
    /// The operator's own check, after those.
    pub check_program: Option<CheckProgram>,
}

/// A program that says whether a version may be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckProgram {
    /// The program and its arguments; at least the first.
    pub command: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
}

/// `after-expiry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterExpiry {
    /// SERVFAIL.
    Servfail,
    /// The old data, marked as stale for those who know extended errors.
    ServeStale,
}

/// `on-same-serial`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSerial {
    /// It is told, and nothing else.
    Report,
    /// The primary's data are taken.
    Retransfer,
}

/// Where a zone's data comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// From these by transfer, in order of preference; at least one.
    Primaries(Vec<Primary>),
    /// From a zone file: we are the primary.
    File(PathBuf),
}

/// A server to transfer a zone from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Primary {
    /// Its address.
    pub address: SocketAddr,
    /// What requests to it are signed by.
    pub key: Option<Arc<TsigKey>>,
    /// Where requests to it come from; port 0: any.
    pub source: Option<SocketAddr>,
    /// Its serials are its own: not comparable with those of the zone's other primaries.
    pub independent: bool,
}

/// A server to send NOTIFY to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its address.
    pub address: SocketAddr,
    /// What the NOTIFY is signed by.
    pub key: Option<Arc<TsigKey>>,
    /// Where the NOTIFY comes from; port 0: any.
    pub source: Option<SocketAddr>,
}

/// Bounds on one of the SOA's intervals; `min` is not above `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clamp {
    /// Never less than this.
    pub min: Duration,
    /// Never more than this, if it is given.
    pub max: Option<Duration>,
}

impl Clamp {
    /// `interval`, brought within the bounds.
    pub fn apply(self, interval: Duration) -> Duration {
        self.max.map_or(interval, |max| interval.min(max)).max(self.min)
    }
}
