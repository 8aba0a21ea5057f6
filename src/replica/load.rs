//! The zones of the configuration, with what the store kept of them.

use super::dial::random;
use super::history::{History, Note};
use super::rollback::Pin;
use super::terms::AllTerms;
use super::zone::Entry;
use super::zones::Zones;
use crate::clock::Clock;
use crate::config::ZoneConfig;
use crate::name::NameBuf;
use crate::store::{Opened, State, Store, StoreError, Stored};
use crate::tsig::Keys;
use crate::view::Served;
use crate::wire::Serial;
use crate::zone::{BuildError, Part, Zone};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::thread;
use tracing::{error, info, warn};

/// The zones as they were loaded.
pub struct Loaded {
    pub(super) zones: Zones,
    pub(super) keys: Arc<Keys>,
    /// How many have data.
    pub with_data: usize,
    /// How many of those were damaged, and will be transferred again.
    pub damaged: usize,
}

impl Loaded {
    /// All zones, to be put into a view.
    pub fn served(&self) -> impl Iterator<Item = Arc<Served>> {
        self.zones.iter().map(|(_, entry)| entry.served())
    }
}

/// After a start, a NOTIFY may have been missed: all zones are looked at soon, but no more of them
/// than this a second, and none later than its stored timer says.
const LOOKS_A_SECOND: u64 = 100;

/// What became of a zone that is kept.
enum Found {
    /// It is no longer configured.
    Unwanted(NameBuf),
    /// It has no data, or is known to be unwanted.
    Unused,
    /// It is built.
    Restored(usize, Restored, State),
    /// It cannot be built.
    Broken(usize, String),
}

/// Loads what is kept of the configured zones; what is kept of others is marked as no longer
/// wanted. `read` counts the zones that were read.
///
/// # Errors
/// The store cannot be read.
pub fn load(
    opened: Opened,
    configured: Vec<ZoneConfig>,
    keys: Arc<Keys>,
    clock: Clock,
    read: &AtomicUsize,
) -> Result<(Store, Loaded), StoreError> {
    let now_ms = clock.now_ms();
    let spread_ms = configured.len() as u64 * 1000 / LOOKS_A_SECOND;
    let due = |at_ms: u64| at_ms.min(now_ms + ((spread_ms * u64::from(random())) >> 32));
    let mut zones = Zones::with_capacity(configured.len());
    let mut terms = AllTerms::new(&keys);
    for ZoneConfig { name, settings } in configured {
        zones.insert(Entry::new(name, terms.of(&settings), now_ms, 0));
    }
    let (mut with_data, mut damaged, mut unwanted) = (0, 0, Vec::new());
    let mut all_in_doubt = false;
    // While some are read, none are taken: nobody waits for the other.
    let zones = RwLock::new(zones);
    let held = "no panic while it is held";
    let look = |stored: Stored<'_>| look(&stored, &zones.read().expect(held));
    let store = opened.load(look, |found| {
        read.fetch_add(1, Ordering::Relaxed);
        let mut zones = zones.write().expect(held);
        match found {
            Err(damage) => {
                damaged += 1;
                let Some(apex) = &damage.apex else {
                    error!(%damage, "stored data is damaged; all zones are asked for at once");
                    all_in_doubt = true;
                    return;
                };
                error!(%damage, "stored data is damaged; the zone will be transferred again");
                if let Some(id) = zones.id(apex) {
                    zones[id].rare_mut().damaged = Some(damage.to_string());
                }
            }
            Ok(Found::Unwanted(apex)) => unwanted.push(apex),
            Ok(Found::Unused) => {}
            Ok(Found::Restored(id, restored, state)) => {
                let due_ms = due(state.refresh_at_ms);
                zones[id].restore(restored, &state, due_ms, now_ms);
                with_data += 1;
            }
            Ok(Found::Broken(id, what)) => {
                error!(zone = %zones[id].apex, what,
                    "stored data makes no zone; it will be transferred again");
                damaged += 1;
                zones[id].rare_mut().damaged = Some(what);
            }
        }
    })?;
    let mut zones = zones.into_inner().expect(held);
    if Pin::is_any_kept(&store) {
        for (_, entry) in zones.iter_mut() {
            entry.recall_pin(&store);
            if entry.pin().is_some() {
                // What is not taken is to be held again.
                entry.begin_anew(now_ms);
            }
        }
    }
    if all_in_doubt {
        // As fast as their primaries allow: any of them may be older than it was.
        zones.iter_mut().for_each(|(_, entry)| entry.begin_anew(now_ms));
    }
    for apex in unwanted {
        info!(zone = %apex, "no longer configured; its data is kept for a while");
        // If that is lost, the next start finds it again.
        drop(store.retire(apex.as_name(), now_ms));
    }
    if damaged > 0 {
        warn!(zones = damaged, "zones with damaged data were found");
    }
    Ok((store, Loaded { zones, keys, with_data, damaged }))
}

/// Builds what is kept of a zone, if it is configured.
fn look(stored: &Stored<'_>, zones: &Zones) -> Found {
    let State { has_data, retired_at_ms, .. } = stored.state;
    match zones.id(&stored.apex) {
        None if retired_at_ms.is_none() => Found::Unwanted(stored.apex.clone()),
        Some(id) if has_data => match restore(stored) {
            Ok(restored) => Found::Restored(id, restored, stored.state.clone()),
            Err(what) => Found::Broken(id, what),
        },
        _ => Found::Unused,
    }
}

/// What was kept of a zone.
pub(super) struct Restored {
    pub(super) zone: Arc<Zone>,
    pub(super) history: History,
    /// The version that is kept beside it.
    pub(super) before: Option<Serial>,
}

/// Builds the version that was kept, and what led to it.
pub(super) fn restore(stored: &Stored<'_>) -> Result<Restored, String> {
    let mut zone = base(stored).map_err(|error| error.to_string())?;
    // History that does not decode is of no use, and no loss to what is served.
    let before = stored.history().map_while(|kept| Note::decode(&kept.bytes));
    let mut steps: Vec<_> = before.map(|(note, diff)| (Arc::new(diff), note)).collect();
    if steps.len() < stored.history().count() {
        steps.clear();
    }
    for kept in stored.diffs() {
        let (note, diff) = Note::decode(&kept.bytes).ok_or("a difference is damaged")?;
        zone = zone.apply(&diff).map_err(|error| error.to_string())?;
        steps.push((Arc::new(diff), note));
    }
    let mut history = History::default();
    if !steps.is_empty() {
        history.extend(steps);
    }
    Ok(Restored { zone: Arc::new(zone), history, before: stored.before().map(Serial) })
}

/// Builds the base, a large one by several threads.
fn base(stored: &Stored<'_>) -> Result<Zone, BuildError> {
    let apex = stored.apex.as_name();
    let mut parts = stored.parts();
    let first = parts.next();
    thread::scope(|scope| {
        let others: Vec<_> =
            parts.map(|entries| scope.spawn(move || Part::read(apex, entries))).collect();
        let first = first.map(|entries| Part::read(apex, entries));
        let others = others.into_iter().map(|other| other.join().expect("reading does not panic"));
        let parts: Result<Vec<_>, _> = first.into_iter().chain(others).collect();
        Zone::join(apex, parts?)
    })
}
