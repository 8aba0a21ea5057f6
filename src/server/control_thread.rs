//! The thread of the control socket, of metrics and of health.

use super::{ServeError, start};
use crate::clock::Clock;
use crate::config::Config;
use crate::io::xdp::Reporter;
use crate::replica::Handle;
use crate::stats::Stats;
use crate::store::Store;
use crate::view::Views;
use crate::{control, web};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::{self, JoinHandle};
use tokio::sync::oneshot;
use tracing::error;

/// Has the configuration read anew: what to tell who asked, or why nothing has changed. It may
/// block.
pub type Reload = Box<dyn Fn() -> Result<String, String> + Send + Sync>;

/// What is bound and not served yet.
pub(super) struct Bound {
    pub(super) control: control::Listener,
    web: Option<TcpListener>,
    /// How many zones `/metrics` tells of one by one.
    zones_max: usize,
}

impl Bound {
    pub(super) fn bind(config: &Config) -> Result<Self, ServeError> {
        let control = control::Listener::bind(&config.server.control)?;
        let web = config.server.metrics.map(web::bind).transpose()?;
        Ok(Self { control, web, zones_max: config.server.metrics_zones })
    }
}

/// What is told about and commanded.
pub(super) struct Parts {
    pub(super) replica: Handle,
    pub(super) views: Arc<Views>,
    pub(super) clock: Clock,
    pub(super) stats: Arc<Stats>,
    pub(super) store: Arc<Store>,
    pub(super) ready: Arc<AtomicBool>,
    pub(super) xdp: Reporter,
    pub(super) reload: Reload,
}

/// The thread; dropped without [`stop`](Self::stop), it goes on.
pub(super) struct ControlThread {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl ControlThread {
    pub(super) fn start(bound: Bound, parts: Parts) -> Result<Self, ServeError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| start("control thread", error))?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("control".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(bound, parts) => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        let thread = thread.map_err(|error| start("control thread", error))?;
        Ok(Self { stop, thread })
    }

    pub(super) fn stop(self) {
        // If it has ended by itself, it has said why.
        let _ = self.stop.send(());
        if self.thread.join().is_err() {
            error!("the control thread ended in a panic");
        }
    }
}

async fn serve(bound: Bound, parts: Parts) {
    let disk = |store: &Arc<Store>| {
        let store = Arc::clone(store);
        Box::new(move || store.disk())
    };
    let of_web = web::Parts {
        stats: Arc::clone(&parts.stats),
        views: Arc::clone(&parts.views),
        replica: parts.replica.clone(),
        disk: disk(&parts.store),
        zones_max: bound.zones_max,
        ready: parts.ready,
        xdp: parts.xdp.clone(),
    };
    let of_control = control::Parts {
        disk: disk(&parts.store),
        stats: parts.stats,
        replica: parts.replica,
        views: parts.views,
        clock: parts.clock,
        xdp: parts.xdp,
        reload: parts.reload,
    };
    let web = async {
        match bound.web {
            Some(listener) => web::serve(listener, of_web).await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::join!(control::serve(bound.control, of_control), web);
    error!(control = ?ended.0, web = ?ended.1, "the control thread has ended");
}
