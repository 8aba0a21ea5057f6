//! The zones of the configuration, with what the store kept of them.

use super::dial::random;
use super::history::{History, Note};
use super::rollback::Pin;
use super::terms::AllTerms;
use super::zone::Entry;
use crate::clock::Clock;
use crate::config::ZoneConfig;
use crate::name::NameBuf;
use crate::store::{Opened, Store, StoreError, Stored};
use crate::tsig::Keys;
use crate::view::View;
use crate::zone::{BuildError, Part, Zone};
use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use tracing::{error, info, warn};

/// The zones as they were loaded.
pub struct Loaded {
    pub(super) entries: Vec<Entry>,
    pub(super) keys: Arc<Keys>,
    /// How many have data.
    pub with_data: usize,
    /// How many of those were damaged, and will be transferred again.
    pub damaged: usize,
}

impl Loaded {
    /// Puts all zones into a view.
    pub fn fill(&self, view: &mut View) {
        for entry in &self.entries {
            view.put(entry.served());
        }
    }
}

/// After a start, a NOTIFY may have been missed: all zones are looked at soon, but no more of them
/// than this a second, and none later than its stored timer says.
const LOOKS_A_SECOND: u64 = 100;

/// Loads what is kept of the configured zones; what is kept of others is marked as no longer
/// wanted.
///
/// # Errors
/// The store cannot be read.
pub fn load(
    opened: Opened,
    zones: &[ZoneConfig],
    keys: Arc<Keys>,
    clock: Clock,
) -> Result<(Store, Loaded), StoreError> {
    let now_ms = clock.now_ms();
    let spread_ms = zones.len() as u64 * 1000 / LOOKS_A_SECOND;
    let due = |at_ms: u64| at_ms.min(now_ms + ((spread_ms * u64::from(random())) >> 32));
    let mut terms = AllTerms::new(&keys);
    let new = |zone: &ZoneConfig| Entry::new(zone, terms.of(&zone.settings), now_ms, 0);
    let entries: Vec<Entry> = zones.iter().map(new).collect();
    let index: HashMap<NameBuf, usize> =
        zones.iter().enumerate().map(|(at, zone)| (zone.name.clone(), at)).collect();
    let mut loaded = Loaded { entries, keys, with_data: 0, damaged: 0 };
    let mut unwanted = Vec::new();
    let store = opened.load(|stored| match stored {
        Err(damage) => {
            error!(%damage, "stored data is damaged; the zone will be transferred again");
            loaded.damaged += 1;
            if let Some(&at) = damage.apex.as_ref().and_then(|apex| index.get(apex)) {
                loaded.entries[at].damaged = Some(damage.to_string());
            }
        }
        Ok(stored) => match index.get(&stored.apex) {
            None if stored.state.retired_at_ms.is_none() => unwanted.push(stored.apex),
            None => {}
            Some(_) if !stored.state.has_data => {}
            Some(&at) => match restore(&stored) {
                Ok((zone, history)) => {
                    let due_ms = due(stored.state.refresh_at_ms);
                    loaded.entries[at].restore(zone, history, &stored.state, due_ms, now_ms);
                    loaded.with_data += 1;
                }
                Err(what) => {
                    error!(zone = %stored.apex, what, "stored data makes no zone; it will be transferred again");
                    loaded.damaged += 1;
                    loaded.entries[at].damaged = Some(what);
                }
            },
        },
    })?;
    for entry in &mut loaded.entries {
        entry.pin = entry.zone.as_ref().and_then(|zone| Pin::kept(&store, zone));
        if entry.pin.is_some() {
            // What is not taken is to be held again.
            entry.begin_anew(now_ms);
        }
    }
    for apex in unwanted {
        info!(zone = %apex, "no longer configured; its data is kept for a while");
        // If that is lost, the next start finds it again.
        drop(store.retire(apex.as_name(), now_ms));
    }
    if loaded.damaged > 0 {
        warn!(zones = loaded.damaged, "zones with damaged data were found");
    }
    Ok((store, loaded))
}

pub(super) type Restored = (Arc<Zone>, History);

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
    history.extend(steps);
    Ok((Arc::new(zone), history))
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
