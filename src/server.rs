//! Starts everything in order, stops it in reverse, owns the signals.
//!
//! **The order.** The store first (its lock keeps a second server out), then the addresses, then
//! what the store kept becomes the first view, then the scheduler, the stream threads, the
//! workers, the control thread; then the server is ready. A new configuration (SIGHUP) is read
//! and its addresses are bound before anything changes: a broken one changes nothing.
//!
//! What takes a restart: `workers`, `io`, `state-dir`, `control`, `metrics`, `durability`,
//! `[transfer]` and `[xdp]`.

mod control_thread;
mod listeners;
mod starting;
mod xdp;

pub use control_thread::Reload;

use crate::clock::{Clock, Kept, millis};
use crate::config::{self, Config, Durability, Io, LogFormat, LogLevel, Problem};
use crate::io::xdp::{Keeper, SetUpError};
use crate::io::{Backend, OpenError};
use crate::replica::{self, Limits, Settings};
use crate::stats::Stats;
use crate::store::{self, Store, StoreError};
use crate::stream::{self, Streams};
use crate::systemd::notify_systemd;
use crate::tsig::Keys;
use crate::view::{self, Identity, View, Views};
use crate::{control, web, worker};
use control_thread::{Bound, ControlThread, Parts};
use listeners::Listeners;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tracing::{Level, error, info, warn};

/// Why the server does not start or a configuration is not applied.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration has mistakes.
    #[error("{0}")]
    Config(String),
    /// The store cannot be used.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// An address cannot be bound.
    #[error("cannot listen on {address} ({protocol}): {error}{advice}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// UDP or TCP.
        protocol: &'static str,
        /// What the system says.
        error: io::Error,
        /// What to do.
        advice: &'static str,
    },
    /// The control socket cannot be had.
    #[error("{0}")]
    Control(#[from] control::ListenError),
    /// Metrics cannot be served.
    #[error("{0}")]
    Web(#[from] web::BindError),
    /// AF_XDP cannot be set up.
    #[error("{0}")]
    Xdp(#[from] SetUpError),
    /// A worker cannot be started.
    #[error("cannot start a worker: {0}")]
    Worker(#[from] OpenError),
    /// A thread, a runtime or a socket cannot be had.
    #[error("cannot start the {what}: {error}")]
    Start {
        /// What.
        what: &'static str,
        /// What the system says.
        error: io::Error,
    },
}

/// How long connections and transfers that are at work are waited for when stopping.
const GRACE: Duration = Duration::from_secs(5);

/// A server that runs.
pub struct Server {
    /// As it was read, but for the zones, which the scheduler has.
    config: Config,
    listeners: Listeners,
    views: Arc<Views>,
    replica: replica::Handle,
    scheduler: JoinHandle<()>,
    reaper: JoinHandle<()>,
    streams: Streams,
    workers: Vec<worker::Handle>,
    keeper: Option<Keeper>,
    control: ControlThread,
    ready: Arc<AtomicBool>,
    /// What cookies are made with where the configuration names no secret.
    cookie_secret: [u8; 16],
}

impl Server {
    /// Starts a server as configured. It serves what its store holds when this returns. `reload`
    /// is what a client of the control socket can have done.
    ///
    /// # Errors
    /// The store, an address, or a resource of the system cannot be had.
    pub fn start(mut config: Config, reload: Reload) -> Result<Self, ServeError> {
        let began = Instant::now();
        let opened = Store::open(&config.server.state_dir, store_options(&config))?;
        let bound = Bound::bind(&config)?;
        let listeners = Listeners::bind(&config.server.listen, config.server.workers, None)?;
        let kept = opened.meta(replica::CLOCK);
        let kept: Option<Kept> = kept.and_then(|kept| serde_json::from_slice(&kept).ok());
        let (clock, continued) = Clock::start(kept.as_ref());
        let keys = Arc::new(keys(&config));
        // The scheduler has them from here on.
        let configured = std::mem::take(&mut config.zones);
        let zones = configured.len();
        let (store, loaded) = starting::tell(&bound.control, zones, |read| {
            replica::load(opened, configured, Arc::clone(&keys), clock, read)
        })?;
        info!(zones, with_data = loaded.with_data, damaged = loaded.damaged,
            clock = %continued, ms = millis(began.elapsed()), "loaded");
        let mut cookie_secret = [0; 16];
        getrandom::fill(&mut cookie_secret)
            .map_err(|error| start("cookies", io::Error::other(error)))?;
        let view = View::new(keys, identity(&config, cookie_secret));
        let (views, retired) = Views::new(view.with(loaded.served()));
        let stats = Arc::new(Stats::default());
        let reaper = spawn("reaper", move || view::reap(&retired))?;
        let store = Arc::new(store);
        let (replica, scheduler) = start_replica(&config, &store, clock, &views, &stats, loaded)?;
        let streams = start_streams(&config, &listeners, clock, &views, &stats, &replica)?;
        let shared = worker::Shared {
            views: Arc::clone(&views),
            clock,
            stats: Arc::clone(&stats),
            deferred: streams.deferred_sender(),
        };
        let keeper = xdp::start(&config, &listeners)?;
        let workers = start_workers(&config, &listeners, &shared, keeper.as_ref())?;
        let ready = Arc::new(AtomicBool::new(true));
        let parts = Parts {
            replica: replica.clone(),
            views: Arc::clone(&views),
            clock,
            stats,
            store,
            ready: Arc::clone(&ready),
            xdp: keeper.as_ref().map(Keeper::reporter).unwrap_or_default(),
            reload,
        };
        let control = ControlThread::start(bound, parts)?;
        info!(addresses = ?listeners.addresses(), workers = workers.len(),
            io = ?workers[0].backend(), ms = millis(began.elapsed()), "serving");
        Ok(Self {
            config,
            listeners,
            views,
            replica,
            scheduler,
            reaper,
            streams,
            workers,
            keeper,
            control,
            ready,
            cookie_secret,
        })
    }

    /// The addresses that are listened on: with the ports that the system chose for port 0.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.addresses()
    }

    /// Access to the scheduler.
    pub fn replica(&self) -> &replica::Handle {
        &self.replica
    }

    /// What is published.
    pub fn views(&self) -> &Arc<Views> {
        &self.views
    }

    /// Applies another configuration, all of it that can be without a restart, as one step.
    ///
    /// # Errors
    /// An address cannot be bound; then nothing has changed.
    pub fn configure(&mut self, mut config: Config) -> Result<(), ServeError> {
        for key in needs_restart(&self.config, &config) {
            warn!(key, "changed, and takes effect with the next start only");
        }
        let workers = self.config.server.workers;
        let listeners = Listeners::bind(&config.server.listen, workers, Some(&self.listeners))?;
        let same_keys = self.config.keys == config.keys;
        let keys =
            if same_keys { Arc::clone(&self.views.load().keys) } else { Arc::new(keys(&config)) };
        let tcp = listeners.tcp().map_err(|error| start("TCP listeners", error))?;
        self.streams.set_listeners(tcp).map_err(|error| start("TCP listeners", error))?;
        self.streams.set_limits(limits(&config));
        for (index, worker) in self.workers.iter().enumerate() {
            worker.replace(listeners.udp(index));
        }
        let zones = std::mem::take(&mut config.zones);
        let count = zones.len();
        self.replica.configure(Settings {
            zones,
            keys,
            identity: identity(&config, self.cookie_secret),
        });
        self.listeners = listeners;
        info!(zones = count, addresses = ?self.addresses(), "configuration applied");
        self.config = config;
        Ok(())
    }

    /// Answers what has come, ends what is under way, and stops.
    pub fn stop(self) {
        self.ready.store(false, Ordering::Relaxed);
        // What comes from now on finds the ordinary sockets.
        if let Some(keeper) = self.keeper {
            keeper.stop();
        }
        for worker in &self.workers {
            worker.stop();
        }
        for worker in self.workers {
            worker.join();
        }
        self.streams.stop(GRACE);
        self.control.stop();
        self.replica.stop();
        let ended = self.scheduler.join();
        drop((self.replica, self.views));
        if ended.is_err() || self.reaper.join().is_err() {
            error!("a thread ended in a panic");
        }
        info!("stopped");
    }
}

fn start(what: &'static str, error: io::Error) -> ServeError {
    ServeError::Start { what, error }
}

fn spawn(
    name: &'static str,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, ServeError> {
    let thread = thread::Builder::new().name(name.into()).spawn(run);
    thread.map_err(|error| start(name, error))
}

fn start_replica(
    config: &Config,
    store: &Arc<Store>,
    clock: Clock,
    views: &Arc<Views>,
    stats: &Arc<Stats>,
    loaded: replica::Loaded,
) -> Result<(replica::Handle, JoinHandle<()>), ServeError> {
    let transfer = &config.transfer;
    let parts = replica::Parts {
        views: Arc::clone(views),
        store: Arc::clone(store),
        clock,
        stats: Arc::clone(stats),
        limits: Limits {
            concurrent: transfer.concurrent,
            per_primary: transfer.per_primary,
            probes_a_second: transfer.probes_per_second,
            connect_timeout: transfer.connect_timeout,
            stall_timeout: transfer.stall_timeout,
            min_rate: transfer.min_rate,
        },
        builders: thread::available_parallelism().map_or(1, Into::into),
        scratch: config.server.state_dir.join("check"),
    };
    replica::start(parts, loaded).map_err(|error| start("scheduler", error))
}

fn start_streams(
    config: &Config,
    listeners: &Listeners,
    clock: Clock,
    views: &Arc<Views>,
    stats: &Arc<Stats>,
    replica: &replica::Handle,
) -> Result<Streams, ServeError> {
    let options = stream::Options {
        threads: thread::available_parallelism().map_or(1, Into::into),
        listeners: listeners.tcp().map_err(|error| start("TCP listeners", error))?,
        limits: limits(config),
    };
    let replica = replica.clone();
    let pass = move |passed| replica.pass(passed);
    let streams = Streams::start(options, Arc::clone(views), clock, Arc::clone(stats), pass);
    streams.map_err(|error| start("stream threads", error))
}

fn start_workers(
    config: &Config,
    listeners: &Listeners,
    shared: &worker::Shared,
    keeper: Option<&Keeper>,
) -> Result<Vec<worker::Handle>, ServeError> {
    let cpus = crate::io::cpus();
    let mut workers = Vec::with_capacity(config.server.workers);
    for index in 0..config.server.workers {
        let options = worker::Options {
            index,
            // With as many workers as CPUs or fewer, each has one of its own.
            cpu: cpus.get(index).copied().filter(|_| config.server.workers <= cpus.len()),
            sockets: listeners.udp(index),
            backend: backend(config.server.io),
            seat: keeper.map(|keeper| keeper.seat(index)),
        };
        workers.push(worker::start(options, shared)?);
    }
    if let Some(why) = workers.first().and_then(worker::Handle::fell_back) {
        warn!(why, "io_uring cannot be used here; recvmmsg and sendmmsg are");
    }
    Ok(workers)
}

fn backend(io: Io) -> Backend {
    match io {
        Io::Auto => Backend::Auto,
        Io::Uring => Backend::Uring,
        Io::Mmsg => Backend::Mmsg,
        Io::Xdp => Backend::Xdp,
    }
}

fn limits(config: &Config) -> stream::Limits {
    stream::Limits {
        connections: config.tcp.max_connections,
        per_client: config.tcp.max_per_client,
        idle: config.tcp.idle_timeout,
        ..stream::Limits::default()
    }
}

/// `drawn` is the secret of cookies where none is given.
fn identity(config: &Config, drawn: [u8; 16]) -> Arc<Identity> {
    let text = |text: &Option<String>| text.as_deref().map(Into::into);
    let cookies = &config.cookies;
    let cookie_secrets = match &cookies.secrets[..] {
        _ if !cookies.enabled => Box::default(),
        [] => [drawn].into(),
        given => given.iter().map(|secret| secret.octets()).collect(),
    };
    Arc::new(Identity {
        id: text(&config.server.identity),
        version: text(&config.server.version),
        udp_size_v4: config.server.udp_size_v4,
        udp_size_v6: config.server.udp_size_v6,
        cookie_secrets,
        require_cookie: cookies.require,
        rate_limit: config.rate_limit.clone(),
    })
}

fn keys(config: &Config) -> Keys {
    config.keys.values().map(|key| (key.name.clone(), Arc::new(key.key()))).collect()
}

fn store_options(config: &Config) -> store::Options {
    store::Options {
        durability: match config.server.durability {
            Durability::Commit => store::Durability::Commit,
            Durability::Relaxed => store::Durability::Relaxed,
        },
        keep_removed: config.server.keep_removed,
        ..store::Options::default()
    }
}

/// The settings that differ and cannot be changed while the server runs.
fn needs_restart(old: &Config, new: &Config) -> impl Iterator<Item = &'static str> + use<> {
    let (a, b) = (&old.server, &new.server);
    [
        ("workers", a.workers != b.workers),
        ("io", a.io != b.io),
        ("state-dir", a.state_dir != b.state_dir),
        ("control", a.control != b.control),
        ("metrics", a.metrics != b.metrics),
        ("durability", a.durability != b.durability),
        ("keep-removed", a.keep_removed != b.keep_removed),
        ("metrics-zones", a.metrics_zones != b.metrics_zones),
        ("log-level", a.log_level != b.log_level),
        ("log-format", a.log_format != b.log_format),
        ("[transfer]", old.transfer != new.transfer),
        ("[xdp]", old.xdp != new.xdp),
    ]
    .into_iter()
    .filter_map(|(key, differs)| differs.then_some(key))
}

/// Runs a server until SIGTERM or SIGINT; SIGHUP has it read its configuration anew.
///
/// # Errors
/// It cannot be started.
pub fn serve(path: &Path) -> Result<(), ServeError> {
    let (config, warnings) = read(path)?;
    log_to_stderr(config.server.log_level, config.server.log_format);
    tell(&warnings);
    xdp::limit_rights(&config);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| start("signal handling", error))?;
    // Before anything else, so that no signal ends the process half way.
    let signals = runtime.block_on(async { Signals::new() });
    let mut signals = signals.map_err(|error| start("signal handling", error))?;
    let (reload, mut reloads) = mpsc::channel::<Asked>(1);
    let ask = move || {
        let (reply, replied) = oneshot::channel();
        let stopping = |_| "the server is being stopped".to_owned();
        reload.blocking_send(reply).map_err(|_| stopping(()))?;
        replied.blocking_recv().map_err(|_| stopping(()))?
    };
    let mut server = Server::start(config, Box::new(ask))?;
    tell_systemd("READY=1");
    loop {
        let told = runtime.block_on(async {
            tokio::select! {
                told = signals.next() => told,
                Some(reply) = reloads.recv() => Told::Reload(Some(reply)),
            }
        });
        let Told::Reload(asked) = told else { break };
        tell_systemd("RELOADING=1");
        let applied = reload_from(path, &mut server);
        tell_systemd("READY=1");
        if let Some(asked) = asked {
            // Who asked may have gone.
            let _ = asked.send(applied);
        }
    }
    tell_systemd("STOPPING=1");
    server.stop();
    Ok(())
}

/// Where to reply to who asked for the configuration to be read anew.
type Asked = oneshot::Sender<Result<String, String>>;

fn reload_from(path: &Path, server: &mut Server) -> Result<String, String> {
    info!(file = %path.display(), "reading the configuration anew");
    let zones = load(path).and_then(|config| {
        let zones = config.zones.len();
        server.configure(config).map(|()| zones)
    });
    match zones {
        Ok(zones) => Ok(format!("the configuration is applied: {zones} zones")),
        Err(error) => {
            error!("the configuration is not applied, nothing is changed: {error}");
            Err(format!("nothing is changed: {error}"))
        }
    }
}

fn tell_systemd(state: &str) {
    if let Err(error) = notify_systemd(state) {
        warn!(%error, state, "systemd could not be told");
    }
}

/// What a signal tells.
enum Told {
    Reload(Option<Asked>),
    Stop,
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.hangup.recv() => Told::Reload(None),
        }
    }
}

fn load(path: &Path) -> Result<Config, ServeError> {
    let (config, warnings) = read(path)?;
    tell(&warnings);
    Ok(config)
}

fn read(path: &Path) -> Result<(Config, Vec<Problem>), ServeError> {
    Config::load(path).map_err(|mistakes| ServeError::Config(config::report(&Err(mistakes))))
}

fn tell(warnings: &[Problem]) {
    for problem in warnings {
        warn!("{problem}");
    }
}

/// Logs to the standard error; text in colours if that is a terminal.
pub fn log_to_stderr(level: LogLevel, format: LogFormat) {
    let level = match level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    };
    let ansi = io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(ansi);
    let log = log.with_target(false).with_max_level(level);
    // Only a second logger in the process is refused: the first one goes on.
    let _ = match format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
}
