//! What workers hand on: signed requests and NOTIFYs that came in datagrams.
//!
//! One task takes them in turn, so that a flood of them costs one thread's share at most.

use super::Shared;
use super::service::{From, Reaction};
use crate::answer::Transport;
use crate::io::REPLY_MAX;
use crate::worker::Deferred;
use std::sync::Arc;
use tokio::sync::mpsc::Receiver;

/// Serves the workers until there is none.
pub(super) async fn serve(shared: Arc<Shared>, mut queue: Receiver<Deferred>) {
    let service = &shared.service;
    let mut reply = vec![0; REPLY_MAX];
    while let Some(mut deferred) = queue.recv().await {
        let from = From { transport: Transport::Udp, peer: deferred.route.peer, idle_max: None };
        let view = service.views.load();
        // No transfer goes over UDP, and silence is silence.
        if let Reaction::Reply(len) = service.react(&mut deferred.request, from, &view, &mut reply)
            && deferred.courier.send(&deferred.route, &reply[..len]).is_err()
        {
            service.counters.served.io_dropped.add_shared(1);
        }
    }
}
