//! DNS over TCP, and what the workers hand on.
//!
//! **How it fits.** `server` starts [`Streams`] with the listening sockets and gives its
//! [`deferred_sender`](Streams::deferred_sender) to the workers. `connection` talks with a client,
//! `places` says how many there may be and who is idle for too long, `service` turns a message into
//! a reply (the same for both ways in), `transfer` sends zones, `forward` waits for what a primary
//! says to an UPDATE, `deferred` serves the workers.
//!
//! **Invariants.**
//! - *no one waits for another*: a connection is a task; what it does at a time is bounded by some
//!   messages, whoever does not read its replies waits alone, and not for long.
//! - *small when idle*: an idle connection has no buffer; all that are served by a thread share one.
//! - *bounded*: connections in all and of one client, transfers, and what waits to be decided.
//! - *idle since the last message*: a client that sends an octet a second is idle.
//!
//! **Sections.** RFC 1035 section 4.2.2, RFC 7766 (6.2.1 pipelining: replies come in the order of
//! the requests; 6.2.3 idle time-outs), RFC 7828 (telling them), RFC 5936 and RFC 1995
//! (transfers), RFC 1996, RFC 2136 section 6 (forwarding), RFC 8945.
//!
//! It has no TLS.

mod connection;
mod deferred;
mod forward;
mod places;
mod service;
#[cfg(test)]
mod tests;
mod transfer;

use crate::clock::Clock;
use crate::replica::Passed;
use crate::seldom::Seldom;
use crate::stats::Stats;
use crate::view::Views;
use crate::worker::{Deferred, panics};
use arc_swap::ArcSwap;
use connection::Connection;
use places::Places;
use service::Service;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{debug, warn};

/// How many requests of the workers may wait. More are dropped, and counted by the worker.
pub const DEFERRED_MAX: usize = 1024;

/// How long nothing is accepted after that failed, for want of file descriptors perhaps.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// How long a transfer waits for others to end, before it is answered with SERVFAIL.
const TRANSFER_WAIT: Duration = Duration::from_secs(10);

/// How streams are served.
pub struct Options {
    /// Threads; at least one.
    pub threads: usize,
    /// Where connections are accepted.
    pub listeners: Vec<std::net::TcpListener>,
    /// What clients may take.
    pub limits: Limits,
}

/// What clients may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time. When there are as many, the longest idle one is closed for the next.
    pub connections: usize,
    /// Of those, from one client: an IPv4 address or an IPv6 /64.
    pub per_client: usize,
    /// How long a connection may be without a complete message, while half of the places are
    /// free. It shrinks down to a twentieth as the others are taken.
    pub idle: Duration,
    /// How long a client may take to take its replies in.
    pub write: Duration,
    /// Transfers at a time.
    pub transfers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            per_client: 1_000,
            idle: Duration::from_secs(10),
            write: Duration::from_secs(10),
            transfers: 64,
        }
    }
}

/// The stream threads.
pub struct Streams {
    /// Until it is stopped.
    runtime: Option<Runtime>,
    shared: Arc<Shared>,
    accepting: Mutex<Vec<AbortHandle>>,
    deferred: mpsc::Sender<Deferred>,
}

/// What all connections share.
struct Shared {
    service: Service,
    places: Arc<Places>,
    settings: ArcSwap<Settings>,
}

struct Settings {
    write: Duration,
    transfers: Semaphore,
    /// How long a transfer waits for others to end.
    transfer_wait: Duration,
}

impl Settings {
    fn new(limits: Limits) -> Self {
        let transfers = limits.transfers.min(Semaphore::MAX_PERMITS);
        Self {
            write: limits.write,
            transfers: Semaphore::new(transfers),
            transfer_wait: TRANSFER_WAIT,
        }
    }
}

impl Streams {
    /// Starts the threads. `pass` is called with each NOTIFY and UPDATE that came from one who may
    /// send it, on one of them: it must not block.
    ///
    /// # Errors
    /// If no thread can be started or a listener cannot be used.
    pub fn start(
        options: Options,
        views: Arc<Views>,
        clock: Clock,
        stats: Arc<Stats>,
        pass: impl Fn(Passed) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        panics::tell_seldom();
        let runtime = Builder::new_multi_thread()
            .worker_threads(options.threads.max(1))
            .thread_name("stream")
            .on_thread_start(crate::io::wake_soon)
            .enable_all()
            .build()?;
        let counters = stats.worker("stream");
        let service = Service { views, clock, stats, counters, pass: Box::new(pass) };
        let shared = Arc::new(Shared {
            service,
            places: Places::new(options.limits),
            settings: ArcSwap::from_pointee(Settings::new(options.limits)),
        });
        let (deferred, queue) = mpsc::channel(DEFERRED_MAX);
        let places = Arc::clone(&shared.places);
        runtime.spawn(async move { places.keep_swept().await });
        runtime.spawn(deferred::serve(Arc::clone(&shared), queue));
        let accepting = Mutex::default();
        let streams = Self { runtime: Some(runtime), shared, accepting, deferred };
        streams.set_listeners(options.listeners)?;
        Ok(streams)
    }

    /// Where workers send what they do not decide.
    pub fn deferred_sender(&self) -> mpsc::Sender<Deferred> {
        self.deferred.clone()
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.shared.places.taken()
    }

    /// Accepts on these from now on, and no more on those before; connections stay. A listener
    /// that is to stay is given again as a clone of its socket: what is queued there is kept.
    ///
    /// # Errors
    /// If one of them cannot be used; nothing has changed then.
    pub fn set_listeners(&self, listeners: Vec<std::net::TcpListener>) -> io::Result<()> {
        let runtime = self.runtime.as_ref().expect("it runs until it is stopped");
        let _entered = runtime.enter();
        let usable = listeners.into_iter().map(|listener| {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        });
        let usable: Vec<_> = usable.collect::<io::Result<_>>()?;
        let next = usable.into_iter().map(|listener| {
            runtime.spawn(accept(Arc::clone(&self.shared), listener)).abort_handle()
        });
        let mut accepting = self.accepting.lock().expect("no panic while it is held");
        for before in std::mem::replace(&mut *accepting, next.collect()) {
            before.abort();
        }
        Ok(())
    }

    /// Other limits from now on. What is above them stays until it ends; transfers that run do not
    /// count under the new limit.
    pub fn set_limits(&self, limits: Limits) {
        self.shared.places.set_limits(limits);
        self.shared.settings.store(Arc::new(Settings::new(limits)));
    }

    /// Accepts no more, closes the connections that are idle, and each of the others once its
    /// work is done or `grace` is over. Blocks for as long.
    pub fn stop(mut self, grace: Duration) {
        for accepting in self.accepting.lock().expect("no panic while it is held").drain(..) {
            accepting.abort();
        }
        self.shared.places.close();
        if !self.shared.places.wait_until_empty(grace) {
            warn!(connections = self.connections(), "cut off: they were still at work");
        }
        self.shut_down();
    }

    fn shut_down(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// Accepts connections for ever.
async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    static TOLD: Seldom = Seldom::new();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => admit(&shared, stream, peer),
            Err(error) => {
                if TOLD.is_due() {
                    warn!(%error, "a connection cannot be accepted (told once a second at most)");
                }
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// Serves a connection, if there is a place for it.
fn admit(shared: &Arc<Shared>, stream: TcpStream, peer: SocketAddr) {
    let served = &shared.service.counters.served;
    served.connections.add_shared(1);
    let Some(place) = shared.places.enter(peer.ip(), Instant::now()) else {
        served.connections_refused.add_shared(1);
        return;
    };
    // Replies are written whole: nothing is gained by waiting for more.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%peer, %error, "the connection is gone already");
        return;
    }
    let connection = Connection::new(Arc::clone(shared), stream, peer);
    tokio::spawn(connection.run(place));
}
