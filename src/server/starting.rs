//! What is told while a server with much to read starts: how far it is.
//!
//! A thread beside the start says it once a second, in the log and to the service manager, and to
//! who asks over the control socket, for whom there is nothing else yet. A start that takes less
//! than a second has nothing to tell, and leaves who asks to the server.

use super::tell_systemd;
use crate::control::Listener;
use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tracing::info;

/// How often it is told.
const TOLD_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether someone asks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Loads so many zones, and tells of it meanwhile. `load` counts those that are read.
pub(super) fn tell<T>(
    listener: &Listener,
    zones: usize,
    load: impl FnOnce(&AtomicUsize) -> T,
) -> T {
    let read = AtomicUsize::new(0);
    thread::scope(|scope| {
        let (running, ended) = bounded(0);
        scope.spawn(|| watch(listener, zones, &read, ended));
        let loaded = load(&read);
        drop::<crossbeam::channel::Sender<()>>(running);
        loaded
    })
}

fn watch(listener: &Listener, zones: usize, read: &AtomicUsize, ended: Receiver<()>) {
    let mut told = Instant::now();
    let mut is_long = false;
    while ended.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
        let is_due = told.elapsed() >= TOLD_EVERY;
        is_long |= is_due;
        if !is_long {
            continue;
        }
        let read = read.load(Ordering::Relaxed);
        let progress = format!("loaded {read} of {zones} zones");
        if is_due {
            told = Instant::now();
            info!("starting: {progress}");
            tell_systemd(&format!("STATUS={progress}"));
        }
        listener.refuse(&format!("the server is starting: {progress}"));
    }
}
