//! What workers hand on: signed requests, NOTIFYs and UPDATEs that came in datagrams.
//!
//! One task takes them in turn, so that a flood of them costs one thread's share at most. What a
//! primary is to say to an UPDATE is waited for beside it; a client that sends the same again
//! meanwhile, as it should, has it forwarded once.

use super::Shared;
use super::forward::Forward;
use super::service::{From, Reaction, is_update};
use crate::answer::Transport;
use crate::io::REPLY_MAX;
use crate::wire::read_u16;
use crate::worker::Deferred;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::mpsc::Receiver;

/// The UPDATEs that a primary has not answered, by client and ID.
type UnderWay = Arc<Mutex<HashSet<Which>>>;
type Which = (SocketAddr, Option<u16>);

/// One of them, for as long as this lives.
struct Flight {
    which: Which,
    under_way: UnderWay,
}

impl Flight {
    fn begin(which: Which, under_way: &UnderWay) -> Self {
        locked(under_way).insert(which);
        Self { which, under_way: Arc::clone(under_way) }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        locked(&self.under_way).remove(&self.which);
    }
}

fn locked(under_way: &UnderWay) -> MutexGuard<'_, HashSet<Which>> {
    under_way.lock().expect("no panic while it is held")
}

/// Serves the workers until there is none.
pub(super) async fn serve(shared: Arc<Shared>, mut queue: Receiver<Deferred>) {
    let service = &shared.service;
    let mut reply = vec![0; REPLY_MAX];
    let under_way = UnderWay::default();
    while let Some(mut deferred) = queue.recv().await {
        let from = From { transport: Transport::Udp, peer: deferred.route.peer, idle_max: None };
        let which = (from.peer, read_u16(&deferred.request, 0));
        if is_update(&deferred.request) && locked(&under_way).contains(&which) {
            continue;
        }
        let view = service.views.load();
        match service.react(&mut deferred.request, from, &view, &mut reply) {
            Reaction::Reply(len) => send(&shared, &deferred, &reply[..len]),
            Reaction::Forward(forward) => {
                let flight = Flight::begin(which, &under_way);
                tokio::spawn(finish(Arc::clone(&shared), *forward, deferred, flight));
            }
            // No transfer goes over UDP, and silence is silence.
            Reaction::Silent(_) | Reaction::Transfer(_) => {}
        }
    }
}

/// Waits for what a primary says.
async fn finish(shared: Arc<Shared>, forward: Forward, deferred: Deferred, flight: Flight) {
    let reply = forward.reply(&shared.service).await;
    // The next with this ID is another one.
    drop(flight);
    if let Some(reply) = reply {
        send(&shared, &deferred, &reply);
    }
}

fn send(shared: &Shared, deferred: &Deferred, reply: &[u8]) {
    if deferred.courier.send(&deferred.route, reply).is_err() {
        shared.service.counters.served.io_dropped.add_shared(1);
    }
}
