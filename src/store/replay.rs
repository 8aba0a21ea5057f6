//! What a crash left in the log is brought into LMDB, before anything is loaded.
//!
//! **How it fits.** `load` calls it once. The same steps as the keeper's: some diffs and the
//! position in one transaction, so that a crash in the middle costs nothing.
//!
//! **Invariants.**
//! - *nothing older without a word*: a zone whose last diff in the log is newer than what could be
//!   made of it is set aside, like any zone that is damaged.

use super::format::ZoneKey;
use super::keeper::{Failed, Keeper, Outcome};
use super::log::{self, FILES, Found, Position, Record};
use super::stored::{Stored, Unusable};
use super::tables::{Environment, Tables, error};
use super::{Damage, StoreError};
use crate::wire::Serial;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::{fs, io};
use tracing::info;

/// The diffs of one transaction.
const STEP: usize = 256;

/// What is wrong after a replay.
#[derive(Default)]
pub(super) struct Replayed {
    /// Zones that lack something.
    pub(super) behind: HashMap<ZoneKey, String>,
    /// Part of the log that is lost: whose it was is not known.
    pub(super) lost: Option<Damage>,
}

impl Replayed {
    /// Lets a zone pass that lacks nothing.
    pub(super) fn accept<'t>(
        &self,
        (key, stored): (ZoneKey, Stored<'t>),
    ) -> Result<(ZoneKey, Stored<'t>), Unusable> {
        match self.behind.get(&key) {
            Some(what) => Err(stored.unusable(what.clone())),
            None => Ok((key, stored)),
        }
    }
}

/// Brings the log's records into LMDB, and the keeper's position behind them.
///
/// # Errors
/// LMDB failed.
pub(super) fn replay(
    env: &Environment,
    tables: Tables<'_>,
    keeper: &mut Keeper,
) -> Result<Replayed, StoreError> {
    let dir = keeper.dir.clone();
    let found = log::read(&dir, keeper.position);
    let mut replayed = Replayed::default();
    if found.gap || found.is_end_damaged {
        replayed.lost = Some(lost(&dir));
    }
    if found.is_cut_off {
        info!("the log's last part was cut off while it was written: none of it was ever served");
    }
    let mut newest = HashMap::new();
    let written = write(env, tables, keeper, &found, &mut newest);
    written.and_then(|()| judge(env, tables, newest, &mut replayed)).map_err(|e| error(&e))?;
    if !found.records.is_empty() {
        info!(
            diffs = found.records.len(),
            behind = replayed.behind.len(),
            "what the log held \
            since the last crash is in the store"
        );
    }
    Ok(replayed)
}

/// Writes the diffs that lead on from what is kept; notes the serials that zones should be at.
fn write(
    env: &Environment,
    tables: Tables<'_>,
    keeper: &mut Keeper,
    found: &Found,
    newest: &mut HashMap<ZoneKey, Serial>,
) -> heed::Result<()> {
    let unknown = keeper.position.id == Position::UNKNOWN.id;
    for step in found.records.chunks(STEP) {
        let mut txn = env.write_txn()?;
        for Record { key, state, from, diff, .. } in step {
            let kept = tables.row(&txn, key).ok().flatten().map(|row| row.state.contact_ms);
            if unknown && kept.is_some_and(|contact_ms| contact_ms > state.contact_ms) {
                // It is from before what is kept.
                continue;
            }
            newest.insert(key.clone(), Serial(state.serial));
            let outcome = &mut Outcome::default();
            match keeper.append(tables, &mut txn, (key, state), (*from, diff), outcome) {
                // If it is to be folded, the next diff will say so again. What does not lead on is
                // in LMDB already, or is missed below.
                Ok(_) | Err(Failed::Change(_)) => {}
                Err(Failed::Transaction(failed)) => return Err(failed),
            }
        }
        keeper.position.applied = step.last().map_or(0, |record| record.number);
        tables.put_position(&mut txn, keeper.position)?;
        txn.commit()?;
    }
    if unknown || found.is_end_damaged {
        // From here on it is known again, and what is damaged is of a log that is no more.
        keeper.position = Position::begin(keeper.position.applied);
        let mut txn = env.write_txn()?;
        tables.put_position(&mut txn, keeper.position)?;
        txn.commit()?;
    }
    Ok(())
}

fn judge(
    env: &Environment,
    tables: Tables<'_>,
    newest: HashMap<ZoneKey, Serial>,
    replayed: &mut Replayed,
) -> heed::Result<()> {
    let txn = env.read_txn()?;
    for (key, serial) in newest {
        // What is wrong with a row itself is found when it is loaded.
        let Ok(Some(row)) = tables.row(&txn, &key) else { continue };
        let kept = Serial(row.state.serial);
        if serial.is_after(kept) {
            let what =
                format!("it is at serial {kept}, and what led from there to {serial} is lost");
            replayed.behind.insert(key, what);
        }
    }
    Ok(())
}

/// The damage of a log with a gap, which is kept to be looked at.
fn lost(dir: &Path) -> Damage {
    let kept = set_aside(dir).inspect_err(|error| tracing::error!(%error, "not set aside")).ok();
    let what = "a part of the log is damaged: zones may be older than they were";
    Damage { apex: None, what: what.into(), aside: kept }
}

fn set_aside(dir: &Path) -> io::Result<PathBuf> {
    let damaged = dir.join("damaged");
    fs::create_dir_all(&damaged)?;
    for name in FILES {
        match fs::copy(dir.join(name), damaged.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            copied => drop(copied?),
        }
    }
    Ok(damaged.join(FILES[0]))
}
