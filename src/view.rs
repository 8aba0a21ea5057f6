//! What the workers see: the zones served, who may ask what, keys and identity; published as one.
//!
//! **How it fits.** The replica and the server make the next [`View`] from the last with
//! [`Views::publish`]; every worker holds a [`Reader`] and takes the newest view once a turn,
//! with one atomic load. TCP tasks take one for a message, outgoing transfers hold the versions
//! they need.
//!
//! **Invariants.**
//! - *one pointer*: all that a batch is answered from hangs on one view; what was published
//!   together is seen together.
//! - *cost of the change*: the next view shares all but a path of the zones' tree with the last.
//! - *freed elsewhere*: a retired view is kept by the [reaper](reap) until no one else has it, so
//!   that no worker ever frees a zone.
//! - *longest match*: the zone that answers for a name is the configured one with the longest
//!   apex, also while it has no data.

use crate::acl::Acl;
use crate::edns::Obstacle;
use crate::name::{Key, Name, NameBuf};
use crate::tree::Tree;
use crate::tsig::Keys;
use crate::wire::Serial;
use crate::zone::{Diff, Zone};
use arc_swap::{ArcSwap, Cache};
use crossbeam::channel::{Receiver, Sender};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Everything that answers come from.
#[derive(Clone, Default)]
pub struct View {
    zones: Tree<Arc<Served>>,
    version: u64,
    /// The keys that messages may be signed with.
    pub keys: Arc<Keys>,
    /// What the server says of itself.
    pub identity: Arc<Identity>,
}

/// What the server says of itself, and how much it says at once.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The answer to CH TXT id.server and hostname.bind, and NSID. `None`: not told.
    pub id: Option<Box<str>>,
    /// The answer to CH TXT version.server and version.bind. `None`: not told.
    pub version: Option<Box<str>>,
    /// The largest UDP reply over IPv4, octets.
    pub udp_size_v4: u16,
    /// The largest UDP reply over IPv6, octets.
    pub udp_size_v6: u16,
    /// The secrets of DNS cookies (RFC 9018): the first makes them, all are accepted. Servers of
    /// one address share them. None: no cookies.
    pub cookie_secrets: Box<[[u8; 16]]>,
    /// Is a query over UDP that has a client's cookie refused while it lacks a good one of ours
    /// (RFC 7873 section 5.2.3)?
    pub require_cookie: bool,
    /// How many alike UDP replies one network gets. `None`: all.
    pub rate_limit: Option<Arc<RateLimit>>,
}

/// The limit on UDP replies that are alike: to one network, from one zone, of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Replies a second, from each worker; 1 to 100,000.
    pub per_second: u32,
    /// The time over which they are averaged: what that brings can be had at once. A minute at
    /// the most.
    pub window: Duration,
    /// Of so many replies over the limit, one is sent, empty and truncated; 0: none.
    pub slip: u8,
    /// How many leading bits of an IPv4 address make a network.
    pub ipv4_prefix: u8,
    /// How many leading bits of an IPv6 address make a network.
    pub ipv6_prefix: u8,
    /// How many buckets a worker keeps; rounded up to a power of two.
    pub entries: usize,
    /// Whom no limit holds for.
    pub exempt: Acl,
    /// Is what is over the limit counted, and sent all the same?
    pub dry_run: bool,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            id: None,
            version: None,
            udp_size_v4: 1232,
            udp_size_v6: 1232,
            cookie_secrets: Box::default(),
            require_cookie: false,
            rate_limit: None,
        }
    }
}

/// A zone that is served, or would be if it had data.
#[derive(Clone)]
pub struct Served {
    /// Its apex.
    pub apex: NameBuf,
    /// Who may do what with it.
    pub access: Arc<Access>,
    /// The newest version; `None` while there is none.
    pub zone: Option<Arc<Zone>>,
    /// When it expires: shared by all versions.
    pub expiry: Arc<Expiry>,
    /// How it came to be what it is, oldest first: each diff begins where the last ended, and
    /// the last one ends at the zone's serial.
    pub history: Arc<[Arc<Diff>]>,
}

/// Who may do what with a zone, and for how long.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Who may query; `None`: everybody.
    pub query: Option<Acl>,
    /// Who may transfer it.
    pub transfer: Acl,
    /// Who may say that it has changed: its primaries, and whom `allow-notify` adds.
    pub notify: Acl,
    /// Whose changes are forwarded to its primaries (RFC 2136 section 6).
    pub update: Acl,
    /// Is it answered for also after it has expired?
    pub serve_stale: bool,
}

impl Access {
    /// May this client query, signed by this key or by none?
    pub fn may_query(&self, peer: IpAddr, key: Option<Name<'_>>) -> bool {
        self.query.as_ref().is_none_or(|acl| acl.allows(peer, key))
    }
}

/// When a zone expires, in milliseconds of the server's clock, and what keeps its primaries from
/// renewing it. Both change without a new version.
#[derive(Debug)]
pub struct Expiry {
    at_ms: AtomicU64,
    obstacle: AtomicU16,
}

impl Expiry {
    /// The deadline of a zone that never expires.
    pub const NEVER: u64 = u64::MAX;

    /// Expires at `at_ms`.
    pub fn at(at_ms: u64) -> Self {
        Self { at_ms: AtomicU64::new(at_ms), obstacle: AtomicU16::default() }
    }

    /// Moves the deadline.
    pub fn set(&self, at_ms: u64) {
        self.at_ms.store(at_ms, Ordering::Relaxed);
    }

    /// The deadline.
    pub fn get(&self) -> u64 {
        self.at_ms.load(Ordering::Relaxed)
    }

    /// Notes what keeps the primaries from giving or renewing the zone.
    pub fn note(&self, obstacle: Obstacle) {
        self.obstacle.store(obstacle.code(), Ordering::Relaxed);
    }

    /// What was noted.
    pub fn obstacle(&self) -> Obstacle {
        Obstacle::of_code(self.obstacle.load(Ordering::Relaxed))
    }

    /// Has it passed?
    pub fn is_over(&self, now_ms: u64) -> bool {
        self.get() <= now_ms
    }
}

/// Tells the zones that are served from each other; all versions of one have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneId(usize);

impl ZoneId {
    /// As a number, never 0.
    pub fn number(self) -> u64 {
        self.0 as u64
    }
}

impl Served {
    /// Which zone this is, among those served at the time.
    pub fn id(&self) -> ZoneId {
        // What all versions share has one address for as long as any of them is served.
        ZoneId(Arc::as_ptr(&self.expiry).addr())
    }

    /// Seconds until it expires, or would: the SOA's own number if we are its primary (RFC 7314
    /// section 3).
    pub fn expires_in_s(&self, now_ms: u64) -> u32 {
        match self.expiry.get() {
            Expiry::NEVER => self.zone.as_ref().map_or(0, |zone| zone.soa().expire),
            at_ms => u32::try_from(at_ms.saturating_sub(now_ms) / 1000).unwrap_or(u32::MAX),
        }
    }

    /// The data to answer from, and whether they are stale: `None` if there are none, or they have
    /// expired and are not served any longer.
    pub fn answerable(&self, now_ms: u64) -> Option<(&Arc<Zone>, bool)> {
        let stale = self.expiry.is_over(now_ms);
        let zone = self.zone.as_ref().filter(|_| !stale || self.access.serve_stale);
        zone.map(|zone| (zone, stale))
    }

    /// The data that are good: `None` if there are none, or they have expired.
    pub fn fresh(&self, now_ms: u64) -> Option<&Arc<Zone>> {
        self.zone.as_ref().filter(|_| !self.expiry.is_over(now_ms))
    }

    /// The diffs that lead from `serial` to the newest version, if they are held.
    pub fn since(&self, serial: Serial) -> Option<&[Arc<Diff>]> {
        let first = self.history.iter().rposition(|diff| diff.from == serial)?;
        Some(&self.history[first..])
    }
}

impl View {
    /// A view without zones.
    pub fn new(keys: Arc<Keys>, identity: Arc<Identity>) -> Self {
        Self { zones: Tree::new(), version: 0, keys, identity }
    }

    /// The same with these zones instead, each there once: faster than [`put`](Self::put) for many.
    #[must_use]
    pub fn with(self, zones: impl Iterator<Item = Arc<Served>>) -> Self {
        let key = |served: &Served| Key::of(served.apex.as_name(), 0).as_bytes().into();
        let mut sorted: Vec<(Box<[u8]>, _)> = zones.map(|it| (key(&it), it)).collect();
        sorted.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let zones = Tree::build(sorted.into_iter().map(|(key, it)| (key, [], it)));
        Self { zones, ..self }
    }

    /// How many views were published before: each has a number of its own.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The zone with the longest apex at or above the name with this absolute key.
    #[inline(always)]
    pub fn find(&self, key: &Key) -> Option<&Arc<Served>> {
        let mut above = None;
        loop {
            let place = self.zones.seek(above.as_ref().unwrap_or(key));
            if let Some(served) = place.at_or_above() {
                return Some(served);
            }
            // What is between that apex and the name has no apex; go on above where they part.
            above = Some(key.ancestor(place.at_or_before()?.key.common_labels(key)));
        }
    }

    /// The zone with exactly this apex.
    pub fn zone(&self, apex: Name<'_>) -> Option<&Arc<Served>> {
        self.zones.get(&Key::of(apex, 0)).map(|(_, served)| served)
    }

    /// All zones in canonical order.
    pub fn zones(&self) -> impl Iterator<Item = &Arc<Served>> {
        self.zones.iter().map(|entry| entry.value)
    }

    /// How many zones.
    pub fn len(&self) -> usize {
        self.zones.len()
    }

    /// No zone at all?
    pub fn is_empty(&self) -> bool {
        self.zones.is_empty()
    }

    /// Puts a zone in, or its next version.
    pub fn put(&mut self, served: Arc<Served>) {
        self.zones.insert(&Key::of(served.apex.as_name(), 0), &[], served);
    }

    /// Takes a zone out.
    pub fn remove(&mut self, apex: Name<'_>) {
        self.zones.remove(&Key::of(apex, 0));
    }
}

/// The published view, and those who wait for the next.
pub struct Views {
    current: Arc<ArcSwap<View>>,
    /// Held while the next view is made, so that no change is lost.
    making: Mutex<()>,
    wake: Mutex<Vec<Wake>>,
    retired: Sender<Arc<View>>,
}

/// Tells an idle worker that there is a new view.
pub type Wake = Box<dyn Fn() + Send + Sync>;

impl Views {
    /// Publishes a first view. What is retired goes to the receiver: give it to [`reap`].
    pub fn new(first: View) -> (Arc<Self>, Receiver<Arc<View>>) {
        let (retired, reaper) = crossbeam::channel::unbounded();
        let views = Self {
            current: Arc::new(ArcSwap::from_pointee(first)),
            making: Mutex::new(()),
            wake: Mutex::new(Vec::new()),
            retired,
        };
        (Arc::new(views), reaper)
    }

    /// The newest view, to keep while it is needed. Not for workers: see [`reader`](Self::reader).
    pub fn load(&self) -> Arc<View> {
        self.current.load_full()
    }

    /// A worker's access to the newest view.
    pub fn reader(&self) -> Reader {
        Reader(Cache::new(Arc::clone(&self.current)))
    }

    /// Makes the next view from the last and publishes it.
    pub fn publish(&self, change: impl FnOnce(&mut View)) {
        let _alone = self.making.lock().expect("no change panics half way");
        let mut next = View::clone(&self.current.load());
        change(&mut next);
        next.version += 1;
        let old = self.current.swap(Arc::new(next));
        // The reaper outlives all publishers but at shutdown, when freeing here does no harm.
        let _ = self.retired.send(old);
        for wake in self.wake.lock().expect("waking does not panic").iter() {
            wake();
        }
    }

    /// Has `wake` called after each publication.
    pub fn on_publish(&self, wake: Wake) {
        self.wake.lock().expect("waking does not panic").push(wake);
    }
}

/// One worker's view of the zones.
pub struct Reader(Cache<Arc<ArcSwap<View>>, Arc<View>>);

impl Reader {
    /// The newest view, kept until the next call: one atomic load if nothing was published.
    pub fn refresh(&mut self) -> &View {
        self.0.load()
    }
}

/// How soon the reaper looks again for views that are still in use.
const REAP_AGAIN: Duration = Duration::from_millis(20);

/// Frees retired views once no one else holds them, until the publisher is gone.
pub fn reap(retired: &Receiver<Arc<View>>) {
    let mut waiting: Vec<Arc<View>> = Vec::new();
    loop {
        let next = if waiting.is_empty() {
            retired.recv().map_err(|_| true)
        } else {
            retired.recv_timeout(REAP_AGAIN).map_err(|error| error.is_disconnected())
        };
        match next {
            Ok(view) => waiting.push(view),
            Err(true) => return,
            Err(false) => {}
        }
        waiting.retain(|view| Arc::strong_count(view) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(apex: &str) -> Arc<Served> {
        Arc::new(Served {
            apex: apex.parse().unwrap(),
            access: Arc::default(),
            zone: None,
            expiry: Arc::new(Expiry::at(Expiry::NEVER)),
            history: Arc::new([]),
        })
    }

    fn find(view: &View, name: &str) -> Option<String> {
        let name: NameBuf = name.parse().unwrap();
        view.find(&Key::of(name.as_name(), 0)).map(|served| served.apex.to_string())
    }

    #[test]
    fn the_longest_apex_decides() {
        let mut view = View::default();
        for apex in ["example.", "a.b.example.", "aa.example.", "org."] {
            view.put(served(apex));
        }
        assert_eq!(find(&view, "x.example.").unwrap(), "example.");
        assert_eq!(find(&view, "b.example.").unwrap(), "example.");
        assert_eq!(find(&view, "zz.b.example.").unwrap(), "example.");
        assert_eq!(find(&view, "x.a.b.EXAMPLE.").unwrap(), "a.b.example.");
        assert_eq!(find(&view, "ab.example.").unwrap(), "example.");
        assert_eq!(find(&view, "net."), None);
        assert_eq!(find(&view, "."), None);
        view.put(served("."));
        assert_eq!(find(&view, "net.").unwrap(), ".");
    }

    #[test]
    fn publishing_costs_the_same_with_few_zones_and_many_and_less_together() {
        let publish = |zones: usize, changed: &[usize]| {
            let zone = |at: &usize| served(&format!("z{at}.example."));
            let mut view = View::default();
            (0..zones).for_each(|at| view.put(zone(&at)));
            let (views, _retired) = Views::new(view);
            let before = views.load();
            views.publish(|view| changed.iter().for_each(|at| view.put(zone(at))));
            views.load().zones.not_shared_with(&before.zones)
        };
        let (few, many) = (publish(10, &[7]), publish(100_000, &[7]));
        assert_eq!((few.pages, many.pages), (1, 1));
        assert!(many.inner <= 4 && many.bytes < 8192, "{many:?}, and {few:?}");
        let changed: Vec<_> = (1000..1100).collect();
        let together = publish(100_000, &changed);
        assert!(together.bytes < 50 * many.bytes, "{together:?}, and {many:?} for one");
    }

    #[test]
    fn a_reader_sees_each_publication_once_it_asks_and_retired_views_are_freed_by_the_reaper() {
        let (views, retired) = Views::new(View::default());
        let mut reader = views.reader();
        let woken = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&woken);
        views.on_publish(Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        }));
        let zone = served("example.");
        let weak = Arc::downgrade(&zone);
        views.publish(|view| view.put(zone));
        assert_eq!(reader.refresh().len(), 1);
        views.publish(|view| view.remove("example.".parse::<NameBuf>().unwrap().as_name()));
        assert_eq!(woken.load(Ordering::Relaxed), 2);
        assert!(weak.upgrade().is_some(), "the reader still has the version with the zone");
        assert_eq!(reader.refresh().len(), 0);
        drop((views, reader));
        reap(&retired);
        assert!(weak.upgrade().is_none());
    }
}
