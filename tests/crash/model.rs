//! Zones whose every version follows from its number, and what may be found of them.

use super::random::Random;
use backstop::name::NameBuf;
use backstop::store::{Ahead, Damage, Each, History, Options, Snapshot, State, Store, StoreError};
use backstop::store::{Stored, Ticket};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

/// The content of `zone` at `serial`: some are one chunk, some many, one takes several slices.
#[derive(Clone, Copy)]
pub(crate) struct Version {
    pub(crate) zone: u32,
    pub(crate) serial: u32,
}

impl Version {
    pub(crate) fn count(self) -> u32 {
        match self.zone {
            0 => 9000,
            zone if zone % 5 == 0 => 300,
            _ => 4,
        }
    }

    fn entry(self, n: u32) -> (Vec<u8>, Vec<u8>) {
        let key = format!("host-{n:06}\0").into_bytes();
        let word = [self.zone, self.serial, n].map(u32::to_be_bytes).concat();
        (key, word.repeat(8))
    }

    /// The diff that leads to this version.
    pub(crate) fn diff(self) -> Vec<u8> {
        let words = 10 + (self.serial * 7919 + self.zone) % 400;
        let large = if self.serial.is_multiple_of(13) { 20 } else { 1 };
        self.zone.to_be_bytes().repeat(usize::try_from(words * large).unwrap())
    }
}

impl Snapshot for Version {
    fn entries_after(&self, after: Option<&[u8]>, each: &mut Each<'_>) {
        let first = after.map_or(0, |key| {
            let digits = str::from_utf8(&key[5..11]).unwrap();
            digits.parse::<u32>().unwrap() + 1
        });
        for n in first..self.count() {
            let (key, blob) = self.entry(n);
            if each(&key, &blob).is_break() {
                return;
            }
        }
    }
}

pub(crate) fn apex(zone: u32) -> NameBuf {
    format!("zone-{zone:03}.example.").parse().unwrap()
}

pub(crate) fn state(serial: u32) -> State {
    State { serial, has_data: true, contact_ms: u64::from(serial), ..State::default() }
}

/// Brings a zone from `serial` to the next: by a diff as a rule, or as a whole.
pub(crate) fn advance(store: &Store, zone: u32, serial: u32, random: &mut Random) -> Ticket {
    let next = Version { zone, serial: serial + 1 };
    let apex = apex(zone);
    if serial == 0 || random.below(5) == 0 {
        let history = if random.below(2) == 0 { History::Drop } else { History::Before };
        let ahead = (random.below(2) == 0).then(|| ahead(store, next, random));
        store.replace_ahead(apex.as_name(), state(next.serial), history, next, ahead)
    } else {
        append(store, zone, serial)
    }
}

/// Some of a version, written before it is known as a whole; now and then another one that does not
/// come.
fn ahead(store: &Store, version: Version, random: &mut Random) -> Ahead {
    let given_up = random.below(4) == 0;
    let count = version.count();
    let mut ahead = store.ahead();
    for n in 0..random.index(1 + count as usize) {
        let (key, blob) = version.entry(u32::try_from(n).unwrap());
        ahead.push(&key, &blob);
        if random.below(u64::from(count) / 8 + 1) == 0 {
            ahead.send();
        }
    }
    if given_up { self::ahead(store, version, random) } else { ahead }
}

/// Brings a zone from `serial` to the next by a diff.
pub(crate) fn append(store: &Store, zone: u32, serial: u32) -> Ticket {
    let next = Version { zone, serial: serial + 1 };
    store.append(apex(zone).as_name(), state(next.serial), serial, next.diff(), next)
}

/// What a load gave: serials by zone, and the damage in words.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) serials: BTreeMap<u32, u32>,
    /// The serials of the versions kept beside these.
    pub(crate) before: BTreeMap<u32, u32>,
    /// What is damaged of those: only who goes back to one is told.
    pub(crate) unreadable: Vec<String>,
    pub(crate) damaged: Vec<(Option<u32>, String)>,
    pub(crate) wrong: Vec<String>,
}

/// Logs so short that they are written over again and again.
pub(crate) const LOG_LEN: u64 = 64 * 1024;

pub(crate) fn options() -> Options {
    Options { log_len: LOG_LEN, ..Options::default() }
}

/// Opens the store in `dir` and compares every zone with the version that it says it is.
pub(crate) fn load(dir: &Path) -> Result<(Store, Found), StoreError> {
    let mut found = Found::default();
    let store = Store::open(dir, options())?.load(compare, |zone| match zone {
        Err(damage) => {
            let zone = damage.apex.as_ref().and_then(zone_of);
            found.damaged.push((zone, damage.to_string()));
        }
        Ok((kept, before, wrong)) => {
            found.serials.extend(kept);
            found.before.extend(kept.map(|(zone, _)| zone).zip(before));
            found.wrong.extend(wrong);
        }
    })?;
    for (&zone, &before) in &found.before {
        let newest = found.serials[&zone];
        match read_before(&store, zone) {
            Some(Ok((kept, _, wrong))) if kept == Some((zone, before)) && before < newest => {
                found.wrong.extend(wrong);
            }
            Some(Err(what)) => found.unreadable.push(what),
            other => found.wrong.push(format!("zone {zone}: {before} before it is {other:?}")),
        }
    }
    Ok((store, found))
}

/// The version that is kept beside the newest of a zone, as [`compare`] finds it.
fn read_before(store: &Store, zone: u32) -> Option<Result<Compared, String>> {
    let read = |stored: Result<Stored<'_>, Damage>| {
        stored.map(compare).map_err(|damage| damage.to_string())
    };
    let made = store.read_before(apex(zone).as_name(), read);
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(made)
}

/// Zone and serial of what was kept, the serial kept beside it, and what is not as it was written.
type Compared = (Option<(u32, u32)>, Option<u32>, Vec<String>);

fn compare(stored: Stored<'_>) -> Compared {
    let Some(zone) = zone_of(&stored.apex) else {
        return (None, None, vec![format!("a zone {} that never was", stored.apex)]);
    };
    let mut wrong = Vec::new();
    let serial = stored.state.serial;
    let base = Version { zone, serial: stored.base_serial };
    let expected = (0..base.count()).map(|n| base.entry(n));
    let entries = stored.entries().map(|(key, blob)| (key.into_owned(), blob.into_owned()));
    if !entries.eq(expected) {
        wrong.push(format!("zone {zone}: the base is not version {}", base.serial));
    }
    let (diffs, history): (Vec<_>, Vec<_>) = (stored.diffs().collect(), stored.history().collect());
    let as_written = history.iter().chain(&diffs).all(|diff| {
        diff.to == diff.from + 1 && diff.bytes == Version { zone, serial: diff.to }.diff()
    });
    if !as_written || stored.state != state(serial) {
        wrong.push(format!("zone {zone}: a diff or the state is another's"));
    }
    (Some((zone, serial)), stored.before(), wrong)
}

/// Which zone this is; `None` for a name that damage made.
fn zone_of(apex: &NameBuf) -> Option<u32> {
    apex.to_string().get(5..8)?.parse().ok()
}

/// What is wrong with a state after a crash: every zone must be at a version within its range.
pub(crate) fn judge(found: &Found, within: &BTreeMap<u32, RangeInclusive<u32>>) -> Vec<String> {
    let mut wrong = found.wrong.clone();
    wrong.extend(found.damaged.iter().map(|(_, what)| what.clone()));
    wrong.extend(found.unreadable.clone());
    for (zone, range) in within {
        let serial = found.serials.get(zone).copied().unwrap_or(0);
        if !range.contains(&serial) {
            wrong.push(format!("zone {zone} is at {serial}, not within {range:?}"));
        }
    }
    wrong
}
