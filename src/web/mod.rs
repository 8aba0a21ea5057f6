//! `/metrics` for Prometheus and `/healthz`, over HTTP.
//!
//! **How it fits.** The server [binds](bind) what `metrics` in the configuration says and
//! [serves](serve) it on the threads for control. [`metrics`] gathers the numbers and writes them.
//!
//! - `GET /metrics`: the numbers of the server as a whole, in OpenMetrics text; how many there are
//!   does not depend on the number of zones. Those of single zones, the ones in trouble first, are
//!   added for as many as the configuration says; `/metrics?zones=1` has up to
//!   [`metrics::ZONES_MAX`].
//! - `GET /healthz`: 200 while the server answers, 503 before that and while it stops. It answers
//!   once all that was stored is served; that one zone expires changes nothing, or one customer's
//!   dead primary would take every node out of service.
//!
//! **Invariants.**
//! - *bounded*: no more than [`CONNECTIONS_MAX`] connections at a time, none for longer than
//!   [`CONNECTION_TIME`], no page made anew more often than each [`PAGE_TIME`], no more zones in
//!   it than were chosen.
//!
//! It neither encrypts nor asks who wants to know: it belongs on a local or private address.

mod listener;
mod metrics;

use crate::io::xdp::Reporter;
use crate::replica::Handle;
use crate::stats::Stats;
use crate::store::Disk;
use crate::view::Views;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::IntoResponse;
use axum::routing::get;
use listener::Limited;
use metrics::Snapshot;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Connections at a time; more wait.
pub const CONNECTIONS_MAX: usize = 64;

/// How long a connection may last; Prometheus makes a new one then.
pub const CONNECTION_TIME: Duration = Duration::from_secs(60);

/// How old a page may be; longer if it takes long to make, so that no more than a tenth of the
/// scheduler's time goes into pages however many zones there are and however often they are asked
/// for.
pub const PAGE_TIME: Duration = Duration::from_secs(1);

/// What is told of.
pub struct Parts {
    /// What is counted.
    pub stats: Arc<Stats>,
    /// What is served.
    pub views: Arc<Views>,
    /// Who keeps the zones.
    pub replica: Handle,
    /// How the store's disk is.
    pub disk: Box<dyn Fn() -> Disk + Send + Sync>,
    /// How AF_XDP is.
    pub xdp: Reporter,
    /// How many zones are told of one by one.
    pub zones_max: usize,
    /// Whether the server answers: not before it has loaded its zones, and not while it stops.
    pub ready: Arc<AtomicBool>,
}

/// Why there are no metrics.
#[derive(Debug, thiserror::Error)]
#[error("metrics cannot be served at {address}: {error}; set another address as `metrics`")]
pub struct BindError {
    /// Where they were to be.
    pub address: SocketAddr,
    /// What the system says.
    pub error: io::Error,
}

/// Listens at `address`.
///
/// # Errors
/// It is in use, not this host's, or not ours to use.
pub fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    let failed = |error| BindError { address, error };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// Serves until it is dropped. What [`bind`] gave is what it takes.
///
/// # Errors
/// There is no tokio runtime with I/O.
pub async fn serve(listener: TcpListener, parts: Parts) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let shared = Arc::new(Shared { parts, plain: Mutex::default(), with_zones: Mutex::default() });
    let router = Router::new()
        .route("/metrics", get(metrics_page))
        .route("/healthz", get(health_page))
        .with_state(shared);
    axum::serve(Limited::new(listener), router).await
}

struct Shared {
    parts: Parts,
    plain: Mutex<Option<Page>>,
    with_zones: Mutex<Option<Page>>,
}

/// A page and when it was made.
struct Page {
    text: String,
    made: Instant,
    took: Duration,
}

impl Page {
    fn is_new(&self) -> bool {
        self.made.elapsed() < PAGE_TIME.max(10 * self.took)
    }
}

async fn health_page(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    if shared.parts.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

async fn metrics_page(State(shared): State<Arc<Shared>>, uri: Uri) -> impl IntoResponse {
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let mut queries = uri.query().unwrap_or_default().split('&');
    let with_zones = queries.any(|query| query == "zones=1");
    ([(header::CONTENT_TYPE, TYPE)], page(&shared, with_zones).await)
}

/// The page, of now or of a moment ago: the lock is held while it is made, so that many who ask
/// cost no more than one.
async fn page(shared: &Shared, with_zones: bool) -> String {
    let mut kept = if with_zones { &shared.with_zones } else { &shared.plain }.lock().await;
    if let Some(page) = kept.as_ref().filter(|page| page.is_new()) {
        return page.text.clone();
    }
    let start = Instant::now();
    let chosen = shared.parts.zones_max;
    let zones_max = if with_zones { chosen.max(metrics::ZONES_MAX) } else { chosen };
    let text = Snapshot::take(&shared.parts, zones_max).await.text();
    *kept = Some(Page { text: text.clone(), made: Instant::now(), took: start.elapsed() });
    text
}
