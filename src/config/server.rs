//! `[server]`, `[tcp]`, `[transfer]`, `[xdp]`: what holds for the whole server.

use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use toml::de::DeValue;

use crate::io::xdp::aim;

use super::document::{Kind, Section, Wrong};
use super::units::{
    LONGEST, address, choice, duration, integer, off_or, rate, short_text, some_text, text,
};
use super::{Durability, Io, LogFormat, LogLevel, Server, Tcp, Transfer, Xdp, XdpMode, ZeroCopy};

pub(super) static SERVER: Kind = Kind {
    title: "[server]",
    own: &[
        "listen",
        "workers",
        "io",
        "state-dir",
        "control",
        "metrics",
        "metrics-zones",
        "identity",
        "version",
        "udp-size-v4",
        "udp-size-v6",
        "durability",
        "keep-removed",
        "log-level",
        "log-format",
    ],
    shared: &[],
};

pub(super) static TCP: Kind = Kind {
    title: "[tcp]",
    own: &["max-connections", "max-per-client", "idle-timeout"],
    shared: &[],
};

pub(super) static TRANSFER: Kind = Kind {
    title: "[transfer]",
    own: &[
        "concurrent",
        "per-primary",
        "probes-per-second",
        "connect-timeout",
        "stall-timeout",
        "min-rate",
    ],
    shared: &[],
};

pub(super) static XDP: Kind = Kind {
    title: "[xdp]",
    own: &["interfaces", "mode", "zero-copy", "ring", "busy-poll"],
    shared: &[],
};

/// How long the kernel may poll.
const BUSY_POLL: std::ops::RangeInclusive<Duration> =
    Duration::from_micros(1)..=Duration::from_millis(10);

/// What the path of a Unix socket may have, in octets (`sun_path` less its final zero).
const SOCKET_PATH_MAX: usize = 107;

/// The smallest and the largest UDP reply that can be asked for: RFC 1035's 512 octets, and
/// beyond 4096 nothing but fragments is won.
const UDP_SIZES: std::ops::RangeInclusive<u16> = 512..=4096;

/// More than Prometheus should be made to keep series of.
const METRICS_ZONES_MAX: usize = 100_000;

/// What reaches every path unfragmented (RFC 9715).
const UDP_SIZE: u16 = 1232;

pub(super) fn server(top: &Section<'_>) -> Server {
    let Some(server) = top.table("server", &SERVER) else {
        if !top.has("server") {
            let advice = "write [server] with listen = [\"ADDRESS:PORT\"]";
            top.doc.error(0, Wrong::new("there is no [server]", advice));
        }
        return defaults();
    };
    let listen = listen(&server);
    let given = defaults();
    let path = |value| Ok(server.doc.path(some_text(value)?));
    let state_dir = server.get("state-dir", path).unwrap_or(given.state_dir);
    let hidden = |text: String| if text.is_empty() { None } else { Some(text) };
    let udp_size = |key| server.get(key, integer(UDP_SIZES)).unwrap_or(UDP_SIZE);
    Server {
        workers: server.get("workers", integer(1..=1024)).unwrap_or(given.workers),
        io: server.get("io", choice(IO)).unwrap_or(given.io),
        control: control(&server, &state_dir),
        metrics: metrics(&server, &listen),
        metrics_zones: server
            .get("metrics-zones", integer(0..=METRICS_ZONES_MAX))
            .unwrap_or(given.metrics_zones),
        identity: server.get("identity", short_text).map_or(given.identity, hidden),
        version: server.get("version", short_text).map_or(given.version, hidden),
        udp_size_v4: udp_size("udp-size-v4"),
        udp_size_v6: udp_size("udp-size-v6"),
        durability: server.get("durability", choice(DURABILITY)).unwrap_or(given.durability),
        keep_removed: server
            .get("keep-removed", duration(Duration::ZERO..=LONGEST))
            .unwrap_or(given.keep_removed),
        log_level: server.get("log-level", choice(LOG_LEVEL)).unwrap_or(given.log_level),
        log_format: server.get("log-format", choice(LOG_FORMAT)).unwrap_or(given.log_format),
        state_dir,
        listen,
    }
}

/// What holds where nothing is written; `listen` must be.
pub(super) fn defaults() -> Server {
    let state_dir = PathBuf::from("/var/lib/backstop");
    Server {
        listen: Vec::new(),
        workers: thread::available_parallelism().map_or(1, |cores| cores.get() - 1).max(1),
        io: Io::Auto,
        control: state_dir.join("control.sock"),
        state_dir,
        metrics: None,
        metrics_zones: 0,
        identity: hostname(),
        version: Some(concat!("Backstop ", env!("CARGO_PKG_VERSION")).into()),
        udp_size_v4: UDP_SIZE,
        udp_size_v6: UDP_SIZE,
        durability: Durability::Commit,
        keep_removed: Duration::from_hours(7 * 24),
        log_level: LogLevel::Info,
        log_format: LogFormat::Text,
    }
}

fn hostname() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

fn listen(server: &Section<'_>) -> Vec<SocketAddr> {
    let mut seen = HashSet::new();
    let Some(listen) = server.list("listen", address(53)) else {
        if !server.has("listen") {
            let advice = "write listen = [\"ADDRESS:PORT\"]";
            server.doc.error(server.at, Wrong::new("[server] has no listen", advice));
        }
        return Vec::new();
    };
    if server.has_empty("listen") {
        let wrong = Wrong::new("listen is empty", "write at least one \"ADDRESS:PORT\"");
        server.doc.error(server.place_of("listen"), wrong);
    }
    for item in &listen {
        if !seen.insert(item.value) && item.value.port() != 0 {
            let message = format!("listen \"{}\" is here twice", item.value);
            server.doc.error(item.at, Wrong::new(message, "remove one of them"));
        }
    }
    listen.into_iter().map(|item| item.value).collect()
}

fn control(server: &Section<'_>, state_dir: &Path) -> PathBuf {
    let path = server.get("control", |value| Ok(server.doc.path(some_text(value)?)));
    let path = path.unwrap_or_else(|| state_dir.join("control.sock"));
    let len = path.as_os_str().len();
    if len > SOCKET_PATH_MAX {
        let message = format!("control \"{}\" has {len} octets", path.display());
        let advice = format!("write a path of {SOCKET_PATH_MAX} at the most: a socket has no more");
        let key = if server.has("control") { "control" } else { "state-dir" };
        server.doc.error(server.place_of(key), Wrong::new(message, advice));
    }
    path
}

fn metrics(server: &Section<'_>, listen: &[SocketAddr]) -> Option<SocketAddr> {
    server.get("metrics", |value| {
        let address = address(9153)(value)?;
        if listen.contains(&address) && address.port() != 0 {
            let message = format!("\"{address}\" is a listen address too");
            return Err(Wrong::new(message, "write another port, as \"127.0.0.1:9153\""));
        }
        Ok(address)
    })
}

const IO: &[(&str, Io)] =
    &[("auto", Io::Auto), ("uring", Io::Uring), ("mmsg", Io::Mmsg), ("xdp", Io::Xdp)];

const DURABILITY: &[(&str, Durability)] =
    &[("commit", Durability::Commit), ("relaxed", Durability::Relaxed)];

const LOG_LEVEL: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

const LOG_FORMAT: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];

/// The shortest time-out that is not a mistake.
const SHORTEST: Duration = Duration::from_millis(100);

pub(super) fn tcp(top: &Section<'_>) -> Tcp {
    let section = top.table("tcp", &TCP);
    let number = |key| section.and_then(|tcp| tcp.get(key, integer(1..=10_000_000)));
    let max_connections = number("max-connections").unwrap_or_else(|| (open_files() / 2).max(1));
    let idle = section.and_then(|tcp| tcp.get("idle-timeout", duration(SHORTEST..=LONGEST)));
    Tcp {
        max_connections,
        max_per_client: number("max-per-client").unwrap_or_else(|| (max_connections / 8).max(1)),
        idle_timeout: idle.unwrap_or(Duration::from_secs(10)),
    }
}

/// How many files this process may have open: 1024 where that cannot be read.
fn open_files() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(1024)
}

pub(super) fn transfer(top: &Section<'_>) -> Transfer {
    let section = top.table("transfer", &TRANSFER);
    let number = |key| section.and_then(|transfer| transfer.get(key, integer(1..=100_000)));
    let time = |key| section.and_then(|transfer| transfer.get(key, duration(SHORTEST..=LONGEST)));
    Transfer {
        concurrent: number("concurrent").unwrap_or(256),
        per_primary: number("per-primary").unwrap_or(8),
        probes_per_second: section
            .and_then(|transfer| transfer.get("probes-per-second", integer(1..=100_000)))
            .unwrap_or(1000),
        connect_timeout: time("connect-timeout").unwrap_or(Duration::from_secs(5)),
        stall_timeout: time("stall-timeout").unwrap_or(Duration::from_secs(30)),
        min_rate: section.and_then(|section| section.get("min-rate", rate)).unwrap_or(1024),
    }
}

const MODE: &[(&str, XdpMode)] =
    &[("auto", XdpMode::Auto), ("native", XdpMode::Native), ("generic", XdpMode::Generic)];

const ZERO_COPY: &[(&str, ZeroCopy)] =
    &[("auto", ZeroCopy::Auto), ("on", ZeroCopy::On), ("off", ZeroCopy::Off)];

pub(super) fn xdp(top: &Section<'_>, server: &Server) -> Xdp {
    let xdp = xdp_section(top, server.io);
    if server.io == Io::Xdp
        && !server.listen.is_empty()
        && let Err(aimless) = aim(&xdp.interfaces, &server.listen)
    {
        let wrong = Wrong::new(aimless.to_string(), aimless.advice());
        top.doc.error(top.place_of("server"), wrong);
    }
    xdp
}

fn xdp_section(top: &Section<'_>, io: Io) -> Xdp {
    let defaults = Xdp {
        interfaces: Vec::new(),
        mode: XdpMode::Auto,
        zero_copy: ZeroCopy::Auto,
        ring: 4096,
        busy_poll: None,
    };
    let Some(xdp) = top.table("xdp", &XDP) else { return defaults };
    if io != Io::Xdp {
        let advice = "write io = \"xdp\" in [server], or remove it";
        xdp.doc.warn(xdp.at, Wrong::new("[xdp] is not used", advice));
    }
    let interfaces = xdp.list("interfaces", interface).unwrap_or_default();
    Xdp {
        interfaces: interfaces.into_iter().map(|item| item.value).collect(),
        mode: xdp.get("mode", choice(MODE)).unwrap_or(defaults.mode),
        zero_copy: xdp.get("zero-copy", choice(ZERO_COPY)).unwrap_or(defaults.zero_copy),
        ring: xdp.get("ring", ring).unwrap_or(defaults.ring),
        busy_poll: xdp.get("busy-poll", off_or(BUSY_POLL)).flatten(),
    }
}

fn interface(value: &DeValue<'_>) -> Result<String, Wrong> {
    let text = text(value)?;
    let odd = |c: char| c.is_whitespace() || c == '/';
    if text.is_empty() || text.len() > 15 || text.contains(odd) {
        let message = format!("\"{text}\" is no interface's name");
        return Err(Wrong::new(message, "write one as `ip link` shows it, like \"eth0\""));
    }
    Ok(text.to_owned())
}

fn ring(value: &DeValue<'_>) -> Result<u32, Wrong> {
    let ring = integer(64_u32..=65_536)(value)?;
    if ring.is_power_of_two() {
        return Ok(ring);
    }
    let advice = format!("write a power of two, as {}", ring.next_power_of_two());
    Err(Wrong::new(format!("is {ring}"), advice))
}
