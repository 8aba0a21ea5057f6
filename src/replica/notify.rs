//! Telling our own secondaries that a zone has changed (RFC 1996): at once, then not more often
//! than once a second a zone and target, repeated until it is acknowledged.

use super::ask::Primary;
use super::dial;
use crate::clock::now_s;
use crate::config::Target;
use crate::name::NameBuf;
use crate::seldom::is_loud;
use crate::stats::Stats;
use crate::tsig::Keys;
use crate::xfr::{self, XfrError};
use crate::zone::Zone;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout_at};
use tracing::{debug, info, warn};

/// How long an acknowledgement is waited for, attempt by attempt.
const WAITS: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
];
/// The least time between two about one zone to one target.
const APART: Duration = Duration::from_secs(1);
/// How many are under way at once.
const CONCURRENT: usize = 256;

/// Who does not acknowledge, or does not for a zone: told when it begins, and when it is over.
#[derive(Clone, Default)]
struct Deaf(Arc<Mutex<InARow>>);

/// How often in a row.
type InARow = HashMap<(SocketAddr, Option<NameBuf>), u32>;

impl Deaf {
    /// Another failure. Returns how many there are.
    fn add(&self, target: SocketAddr, zone: Option<NameBuf>) -> u32 {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let times = all.entry((target, zone)).or_default();
        *times = times.saturating_add(1);
        *times
    }

    /// It was acknowledged. Returns how often it was not before, if that is so.
    fn end(&self, target: SocketAddr, zone: NameBuf) -> Option<u32> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_all = all.remove(&(target, None));
        all.remove(&(target, Some(zone))).or(of_all)
    }
}

/// What is being told to whom.
pub(super) struct Notifier {
    deaf: Deaf,
    stats: Arc<Stats>,
    places: Arc<Semaphore>,
    told: HashMap<(NameBuf, SocketAddr), (Instant, AbortHandle)>,
}

impl Notifier {
    pub(super) fn new(stats: Arc<Stats>) -> Self {
        let places = Arc::new(Semaphore::new(CONCURRENT));
        Self { deaf: Deaf::default(), stats, places, told: HashMap::new() }
    }

    /// Could another NOTIFY be sent at once?
    pub(super) fn has_room(&self) -> bool {
        self.places.available_permits() > 0
    }

    /// Tells all `targets` of this version; what was being told of an older one ends.
    pub(super) fn tell(&mut self, zone: &Arc<Zone>, targets: &[Target], keys: &Keys) {
        if self.told.len() > 4 * CONCURRENT {
            self.told.retain(|_, (at, task)| !task.is_finished() || at.elapsed() < APART);
        }
        for target in targets {
            let to = Primary {
                address: target.address,
                source: target.source,
                key: target.key.as_ref().and_then(|key| keys.get(&key.name).cloned()),
            };
            let whom = (zone.apex().to_owned(), target.address);
            let mut wait = Duration::ZERO;
            if let Some((last, task)) = self.told.remove(&whom) {
                task.abort();
                wait = APART.saturating_sub(last.elapsed());
            }
            let (zone, stats) = (Arc::clone(zone), Arc::clone(&self.stats));
            let (deaf, places) = (self.deaf.clone(), Arc::clone(&self.places));
            let task = tokio::spawn(async move {
                sleep(wait).await;
                let _place = places.acquire().await;
                until_acknowledged(&zone, &to, &deaf, &stats).await;
            });
            self.told.insert(whom, (Instant::now() + wait, task.abort_handle()));
        }
    }
}

async fn until_acknowledged(zone: &Zone, to: &Primary, deaf: &Deaf, stats: &Stats) {
    let (apex, serial) = (zone.apex(), zone.serial().0);
    let mut last = None;
    for wait in WAITS {
        stats.replicated.notifies_sent.add_shared(1);
        match attempt(zone, to, wait).await {
            Ok(Ok(())) => {
                debug!(zone = %apex, serial, target = %to.address, "NOTIFY acknowledged");
                if let Some(times) = deaf.end(to.address, apex.to_owned()) {
                    info!(zone = %apex, target = %to.address, times, "it acknowledges NOTIFYs again");
                }
                return;
            }
            Ok(Err(refusal)) => {
                stats.replicated.notifies_unanswered.add_shared(1);
                let times = deaf.add(to.address, Some(apex.to_owned()));
                let (zone, target) = (apex, to.address);
                // It speaks of whom is asked as of a primary.
                let why = match refusal {
                    XfrError::Rcode(rcode) => format!("it answered {rcode}"),
                    other => other.to_string(),
                };
                if is_loud(times) {
                    warn!(%zone, serial, %target, why, times, "NOTIFY refused");
                } else {
                    debug!(%zone, serial, %target, why, times, "NOTIFY refused again");
                }
                return;
            }
            Err(error) => last = Some(error),
        }
    }
    stats.replicated.notifies_unanswered.add_shared(1);
    let why = last.map_or_else(String::new, |error| error.to_string());
    let times = deaf.add(to.address, None);
    let (zone, target) = (apex, to.address);
    if is_loud(times) {
        warn!(%zone, serial, %target, why, times, "NOTIFY was not acknowledged; the secondary \
            will find out by its refresh timer");
    } else {
        debug!(%zone, serial, %target, why, times, "NOTIFY was not acknowledged either");
    }
}

/// One NOTIFY: acknowledged, refused, or no answer.
async fn attempt(zone: &Zone, to: &Primary, wait: Duration) -> io::Result<Result<(), XfrError>> {
    let until = tokio::time::Instant::now() + wait;
    let sent = async {
        let socket = dial::udp(to.address, to.source).await?;
        let id = dial::random_id();
        let soa = Some((zone.soa().ttl, zone.soa_data()));
        let mut request = xfr::notify(id, zone.apex(), soa);
        let mut verifier = to.key.as_ref().map(|key| key.sign_request(&mut request, now_s()));
        socket.send(&request).await?;
        let mut reply = [0; 1232];
        loop {
            let len = socket.recv(&mut reply).await?;
            let reply = match &mut verifier {
                None => &reply[..len],
                Some(verifier) => {
                    match verifier.verify(&mut reply[..len], now_s()) {
                        Ok(reply) => reply,
                        // Forged, or a refusal that is not signed: what counts is a signed reply.
                        Err(_) => continue,
                    }
                }
            };
            match xfr::parse_notify_reply(reply, id, zone.apex()) {
                Err(XfrError::NotOurs) => {}
                result => return Ok(result),
            }
        }
    };
    match timeout_at(until, sent).await {
        Ok(Err(error)) => {
            // Nothing listens there: wait as long as for an answer before the next attempt.
            tokio::time::sleep_until(until).await;
            Err(error)
        }
        Ok(result) => result,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
