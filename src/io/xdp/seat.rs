//! Where the keeper and a worker meet: sockets are handed over, and what is listened on is told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use super::super::sys::Bell;
use super::socket::Xsk;

/// A worker's place at the keeper's table. The worker's port sits down on it; a port that is
/// opened again does so again.
pub struct Seat {
    state: Mutex<State>,
    /// Calls the keeper.
    keeper: Arc<Bell>,
}

/// What a worker is to do.
pub(super) enum Order {
    /// Turn this socket.
    Turn(Box<Xsk>),
    /// Close those of this set.
    Close(u64),
}

struct State {
    orders: Vec<Order>,
    /// Calls the worker, once it sits.
    worker: Option<Arc<Bell>>,
    listening: Vec<SocketAddr>,
}

impl Seat {
    pub(super) fn new(keeper: Arc<Bell>, listening: Vec<SocketAddr>) -> Arc<Self> {
        let state = State { orders: Vec::new(), worker: None, listening };
        Arc::new(Self { state: Mutex::new(state), keeper })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics with the lock")
    }

    /// The worker's: from now on it is called by `bell`.
    pub(super) fn sit(&self, bell: Arc<Bell>, listening: Vec<SocketAddr>) {
        self.state().worker = Some(bell);
        self.know(listening);
    }

    /// The worker's: it listens on these from now on.
    pub(super) fn know(&self, listening: Vec<SocketAddr>) {
        let before = std::mem::replace(&mut self.state().listening, listening.clone());
        if before != listening {
            self.keeper.ring();
        }
    }

    /// The worker's: what to do, in order.
    pub(super) fn orders(&self) -> Vec<Order> {
        std::mem::take(&mut self.state().orders)
    }

    /// The keeper's: what the worker listens on.
    pub(super) fn listening(&self) -> Vec<SocketAddr> {
        self.state().listening.clone()
    }

    /// The keeper's: something to do. Sockets that are to be closed and were not taken yet are.
    pub(super) fn order(&self, order: Order) {
        let mut state = self.state();
        if let Order::Close(set) = order {
            state.orders.retain(|o| !matches!(o, Order::Turn(socket) if socket.set == set));
        }
        state.orders.push(order);
        if let Some(worker) = &state.worker {
            worker.ring();
        }
    }
}
