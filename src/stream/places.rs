//! The places for connections: how many there are, whose, and who is idle for how long.
//!
//! **Invariants.**
//! - *bounded*: no more connections than [`Limits`] says have a place, in all and of one client.
//! - *the idle make room*: when all places are taken, the connection that has been idle longest
//!   loses its own; one with work under way never does.
//! - *idle since the last message*: octets that complete no message count for nothing.
//!
//! One lock, held for some map operations, twice a message at most. There is no timer a connection:
//! the idle stand in order, and [`Places::sweep`] looks at the first ones.

use super::Limits;
use crate::acl::Prefix;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How much shorter than when there is plenty of room the idle are borne at the end.
const SHRINK_MAX: u32 = 20;

pub(super) struct Places {
    state: Mutex<State>,
    /// There is a connection where there was none.
    first: Notify,
    /// There is none where there was one.
    empty: Condvar,
}

struct State {
    limits: Limits,
    open: HashMap<u64, Open>,
    clients: HashMap<Prefix, usize>,
    /// Since when, and which: the longest idle first.
    idle: BTreeSet<(Instant, u64)>,
    next: u64,
    is_closing: bool,
}

struct Open {
    client: Prefix,
    idle_since: Option<Instant>,
    close: Arc<Notify>,
}

/// A connection's place, until it is dropped or taken away.
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    close: Arc<Notify>,
}

impl Places {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        let state = State {
            limits,
            open: HashMap::new(),
            clients: HashMap::new(),
            idle: BTreeSet::new(),
            next: 0,
            is_closing: false,
        };
        Arc::new(Self { state: Mutex::new(state), first: Notify::new(), empty: Condvar::new() })
    }

    /// A place for a connection from `peer`, which counts as idle from now on. `None`: there are
    /// too many of this client's, or too many in all and none of them idle.
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr, now: Instant) -> Option<Place> {
        let mut state = self.lock();
        let client = client(peer);
        let own = state.clients.get(&client).copied().unwrap_or(0);
        if state.is_closing || own >= state.limits.per_client {
            return None;
        }
        while state.open.len() >= state.limits.connections {
            let &(_, longest) = state.idle.first()?;
            state.close(longest);
        }
        let number = state.next;
        let close = Arc::new(Notify::new());
        state.next += 1;
        *state.clients.entry(client).or_insert(0) += 1;
        let open = Open { client, idle_since: Some(now), close: Arc::clone(&close) };
        state.open.insert(number, open);
        state.idle.insert((now, number));
        if state.open.len() == 1 {
            self.first.notify_one();
        }
        Some(Place { places: Arc::clone(self), number, close })
    }

    /// Other limits from now on. Who is above them stays.
    pub(super) fn set_limits(&self, limits: Limits) {
        self.lock().limits = limits;
    }

    /// Closes the connections that have been idle for too long. `false`: there is none open.
    pub(super) fn sweep(&self, now: Instant) -> bool {
        let mut state = self.lock();
        while let Some(&(since, number)) = state.idle.first()
            && now.saturating_duration_since(since) >= state.idle_max()
        {
            state.close(number);
        }
        !state.open.is_empty()
    }

    /// Sweeps for ever, at rest while nothing is open.
    pub(super) async fn keep_swept(&self) {
        loop {
            let pause = self.lock().limits.idle / (2 * SHRINK_MAX);
            tokio::time::sleep(pause.max(Duration::from_millis(1))).await;
            if !self.sweep(Instant::now()) {
                self.first.notified().await;
            }
        }
    }

    /// Closes the idle connections, and each of the others once its work is done; no more enter.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_closing = true;
        while let Some(&(_, number)) = state.idle.first() {
            state.close(number);
        }
    }

    /// Waits until no connection has a place; `false`: not within `grace`.
    pub(super) fn wait_until_empty(&self, grace: Duration) -> bool {
        let is_open = |state: &mut State| !state.open.is_empty();
        let waited = self.empty.wait_timeout_while(self.lock(), grace, is_open);
        waited.expect(UNBROKEN).0.open.is_empty()
    }

    /// How long a connection may be idle now.
    pub(super) fn idle_max(&self) -> Duration {
        self.lock().idle_max()
    }

    /// How many connections have a place.
    pub(super) fn taken(&self) -> usize {
        self.lock().open.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(UNBROKEN)
    }
}

const UNBROKEN: &str = "nothing panics while it holds the places";

impl State {
    /// How long a connection may be idle now: what is configured while half of the places are
    /// free, then ever less, in proportion.
    fn idle_max(&self) -> Duration {
        let (open, all) = (self.open.len(), self.limits.connections.max(1));
        let free = all.saturating_sub(open);
        if open <= all / 2 {
            return self.limits.idle;
        }
        let share = |of: usize| u32::try_from(of).unwrap_or(u32::MAX);
        let shrunk = self.limits.idle.mul_f64(f64::from(share(free)) * 2.0 / f64::from(share(all)));
        shrunk.max(self.limits.idle / SHRINK_MAX)
    }

    /// Takes a connection's place away, and tells it.
    fn close(&mut self, number: u64) {
        if let Some(open) = self.remove(number) {
            open.close.notify_one();
        }
    }

    fn remove(&mut self, number: u64) -> Option<Open> {
        let open = self.open.remove(&number)?;
        if let Some(since) = open.idle_since {
            self.idle.remove(&(since, number));
        }
        if let Some(count) = self.clients.get_mut(&open.client) {
            *count -= 1;
            if *count == 0 {
                self.clients.remove(&open.client);
            }
        }
        Some(open)
    }

    /// Notes since when a connection is idle. `false`: it has no place any more.
    fn set_idle(&mut self, number: u64, since: Option<Instant>) -> bool {
        let Some(open) = self.open.get_mut(&number) else { return false };
        if let Some(before) = std::mem::replace(&mut open.idle_since, since) {
            self.idle.remove(&(before, number));
        }
        if let Some(since) = since {
            self.idle.insert((since, number));
        }
        true
    }
}

impl Place {
    /// There is work for this connection: its place is not taken away until it is idle again.
    /// `false`: it was.
    #[must_use]
    pub(super) fn work(&self) -> bool {
        self.places.lock().set_idle(self.number, None)
    }

    /// All messages that came are dealt with. `false`: the connection is to close.
    #[must_use]
    pub(super) fn rest(&self, now: Instant) -> bool {
        let mut state = self.places.lock();
        !state.is_closing && state.set_idle(self.number, Some(now))
    }

    /// Returns when the place is taken away.
    pub(super) async fn closed(&self) {
        self.close.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.lock();
        state.remove(self.number);
        if state.open.is_empty() {
            self.places.empty.notify_all();
        }
    }
}

/// Whom an address counts for: itself, or the IPv6 network that one client is usually given.
fn client(peer: IpAddr) -> Prefix {
    let peer = peer.to_canonical();
    let len = if peer.is_ipv4() { 32 } else { 64 };
    Prefix::new(peer, len).expect("an address has so many bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(10);

    fn places(connections: usize, per_client: usize) -> Arc<Places> {
        let limits = Limits { connections, per_client, idle: IDLE, ..Limits::default() };
        Places::new(limits)
    }

    fn peer(n: u8) -> IpAddr {
        [192, 0, 2, n].into()
    }

    fn is_closed(place: &Place) -> bool {
        !place.work()
    }

    #[test]
    fn a_client_has_so_many_places_and_no_more() {
        let places = places(10, 2);
        let now = Instant::now();
        let held = [places.enter(peer(1), now), places.enter(peer(1), now)];
        assert!(held.iter().all(Option::is_some));
        assert!(places.enter(peer(1), now).is_none());
        assert!(places.enter(peer(2), now).is_some());
        drop(held);
        assert!(places.enter(peer(1), now).is_some());
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        let places = places(10, 1);
        let now = Instant::now();
        let enter = |text: &str| places.enter(text.parse().unwrap(), now);
        let held = enter("2001:db8::1");
        assert!(held.is_some());
        assert!(enter("2001:db8::2").is_none());
        assert!(enter("2001:db8:0:1::1").is_some());
        let mapped = enter("::ffff:192.0.2.1");
        assert!(mapped.is_some() && enter("192.0.2.1").is_none());
    }

    #[test]
    fn the_longest_idle_makes_room_and_who_works_never_does() {
        let places = places(2, 2);
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let first = places.enter(peer(1), at(0)).unwrap();
        let second = places.enter(peer(2), at(1)).unwrap();
        assert!(first.rest(at(2)));
        let third = places.enter(peer(3), at(3)).unwrap();
        assert!(is_closed(&second));
        assert!(first.work() && third.work());
        assert!(places.enter(peer(4), at(4)).is_none());
        assert!(third.rest(at(5)));
        assert!(places.enter(peer(4), at(6)).is_some());
        assert!(is_closed(&third) && !is_closed(&first));
    }

    #[test]
    fn the_idle_are_borne_for_less_the_fewer_places_are_free() {
        let places = places(100, 100);
        let start = Instant::now();
        let mut held: Vec<_> = (0..50).map(|_| places.enter(peer(1), start).unwrap()).collect();
        assert!(places.sweep(start + IDLE - Duration::from_millis(1)));
        assert_eq!(places.taken(), 50);
        held.extend((0..25).map(|_| places.enter(peer(2), start).unwrap()));
        assert!(places.sweep(start + IDLE / 2 - Duration::from_millis(1)));
        assert_eq!(places.taken(), 75);
        // As soon as enough are closed, the others may stay for as long as ever.
        places.sweep(start + IDLE / 2);
        assert_eq!(places.taken(), 74);
        assert!(!places.sweep(start + IDLE));
        assert_eq!(held.iter().filter(|place| is_closed(place)).count(), 75);
    }

    #[test]
    fn when_it_closes_the_idle_go_at_once_and_who_works_when_done() {
        let places = places(2, 2);
        let now = Instant::now();
        let (idle, works) = (places.enter(peer(1), now), places.enter(peer(1), now));
        let works = works.unwrap();
        assert!(works.work());
        places.close();
        assert!(is_closed(&idle.unwrap()));
        assert!(places.enter(peer(2), now).is_none());
        assert!(!places.wait_until_empty(Duration::ZERO));
        assert!(!works.rest(now));
        drop(works);
        assert!(places.wait_until_empty(Duration::ZERO));
    }
}
