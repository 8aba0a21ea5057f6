//! Opening a store and reading back what it keeps.
//!
//! **How it fits.** [`Opened`] holds the lock and has no writer yet; [`Opened::load`] reads every
//! zone on all cores, closes LMDB and opens it again in the keeper, so that the pages that were
//! read do not count as this process's memory.
//!
//! **Invariants.**
//! - *locked*: the lock file is held from before the first read to the end of the store. LMDB
//!   itself would let a second process write.
//! - *created whole*: a new store is written beside its place and renamed into it.
//! - *all or aside*: a zone is given only after every value of it was checked; any other is moved
//!   to a file in `damaged/`, neither served nor lost, and the rest load.

use super::format::{FORMAT, Id, META_FORMAT, META_NEXT_ID, META_USER, NO_BASE};
use super::format::{Row, ZoneKey, unseal};
use super::inspect::inspect;
use super::intake::Intake;
use super::keeper::Keeper;
use super::log::Position;
use super::replay::{Replayed, replay};
use super::salvage::salvage;
use super::stored::{Stored, Unusable};
use super::tables::{self, Environment, Tables, error};
use super::{Damage, Durability, Options, Shared, Store, StoreError, lock};
use crossbeam::channel;
use heed::{RoTxn, RwTxn, WithoutTls};
use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Write};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

pub(super) const DATA_FILE: &str = "data.mdb";
/// How many zones that were set aside are removed in one transaction.
const REMOVE_STEP: usize = 256;
/// How many zones each thread reads before what they made of them is taken: small ones are some
/// milliseconds of work.
const READ_STEP: usize = 1024;

/// A store that is open, locked and inspected, but not loaded yet.
pub struct Opened {
    dir: PathBuf,
    options: Options,
    lock: Lock,
    env: Environment,
    shared: Arc<Shared>,
    next_id: Id,
    position: Position,
    /// What a salvage did not find.
    lost: Vec<Damage>,
}

impl Opened {
    pub(super) fn new(dir: &Path, options: Options) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).map_err(|error| at(dir, &error))?;
        let lock = lock_dir(dir)?;
        let path = dir.join(DATA_FILE);
        let mut lost = Vec::new();
        if fs::exists(&path).map_err(|error| at(&path, &error))? {
            match inspect(&path) {
                Err(
                    damage @ (StoreError::Cut { .. }
                    | StoreError::Structure { .. }
                    | StoreError::Foreign { .. }),
                ) => lost = salvage(dir, damage)?,
                inspected => inspected?,
            }
        } else {
            create(dir)?;
        }
        let env = tables::open(dir).map_err(|failed| error(&failed))?;
        let shared = Arc::new(Shared::default());
        let position = upgrade(&env).map_err(|failed| error(&failed))?;
        let next_id = {
            let tables = Tables::of(&env).map_err(|failed| error(&failed))?;
            let txn = env.read_txn().map_err(|failed| error(&failed))?;
            let structure = |what: &str| StoreError::Structure { path, what: what.into() };
            for entry in tables.meta.iter(&txn).map_err(|failed| error(&failed))? {
                let (key, value) = entry.map_err(|failed| error(&failed))?;
                let Some((&META_USER, name)) = key.split_first() else { continue };
                if let (Ok(name), Some(value)) = (str::from_utf8(name), unseal(key, value)) {
                    super::lock(&shared.meta).insert(name.to_owned(), value.to_vec());
                }
            }
            let next_id = tables.next_id(&txn).map_err(|failed| error(&failed))?;
            next_id.ok_or_else(|| structure("the next id is damaged"))?
        };
        Ok(Self { dir: dir.into(), options, lock, env, shared, next_id, position, lost })
    }

    /// A small value of the caller's own; one that is damaged is missing.
    pub fn meta(&self, key: &str) -> Option<Vec<u8>> {
        lock(&self.shared.meta).get(key).cloned()
    }

    /// Reads every zone that is kept, on all cores, then starts the keeper. `read` makes what is
    /// wanted of a zone; `take` is given that, or what is wrong with the zone, in canonical order.
    ///
    /// # Errors
    /// LMDB failed.
    pub fn load<T: Send>(
        self,
        read: impl Fn(Stored<'_>) -> T + Sync,
        mut take: impl FnMut(Result<T, Damage>),
    ) -> Result<Store, StoreError> {
        let Self { dir, options, lock, env, shared, next_id, position, lost } = self;
        let (sender, requests) = channel::unbounded();
        let (passed_on, of_intake) = channel::unbounded();
        let mut intake = Intake::new(requests, passed_on, Arc::clone(&shared));
        let mut keeper =
            Keeper::new(dir, options, of_intake, Arc::clone(&shared), position, next_id);
        let tables = Tables::of(&env).map_err(|failed| error(&failed))?;
        let replayed = replay(&env, tables, &mut keeper)?;
        let all = AllRows { env: &env, tables, replayed: &replayed, read: &read };
        let removals = survey(&all, &mut keeper, &mut take).map_err(|failed| error(&failed))?;
        for damage in lost.into_iter().chain(replayed.lost) {
            take(Err(damage));
        }
        for step in removals.chunks(REMOVE_STEP) {
            remove(&env, tables, step).map_err(|failed| error(&failed))?;
            keeper.doomed.extend(step.iter().flat_map(|removal| &removal.ids));
        }
        super::lock(&shared.disk).file_len = env.real_disk_size().unwrap_or_default();
        drop(env);
        let (dir, options, position) = (keeper.dir.clone(), &keeper.options, keeper.position);
        let log_len = (options.durability == Durability::Commit).then_some(options.log_len);
        shared.applied.store(position.applied, Ordering::Release);
        let start = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let thread = thread::Builder::new().name(name.into()).spawn(run);
            thread.map_err(|error| StoreError::Disk(error.to_string()))
        };
        let keeper = start(
            "store",
            Box::new(|| {
                keeper.run();
                drop(lock);
            }),
        )?;
        let intake = start(
            "store-log",
            Box::new(move || {
                crate::io::wake_soon();
                if let Some(len) = log_len {
                    intake.open_log(&dir, position, len);
                }
                intake.run();
            }),
        )?;
        Ok(Store { requests: Arc::new(sender), shared, threads: vec![intake, keeper] })
    }
}

/// The lock of a state directory. Given back by name: a child being spawned elsewhere in this
/// process holds a copy of the descriptor for a moment, and with it the lock.
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.unlock().ok();
    }
}

fn lock_dir(dir: &Path) -> Result<Lock, StoreError> {
    let path = dir.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|error| at(&path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked(dir.into())),
        Err(TryLockError::Error(error)) => Err(at(&path, &error)),
    }
}

/// Brings a store of an older format to this one. Returns what it contains of the log.
fn upgrade(env: &Environment) -> heed::Result<Position> {
    let tables = Tables::of(env)?;
    let mut txn = env.write_txn()?;
    let position = tables.position(&txn)?;
    if let Some(position) = position
        && tables.meta(&txn, META_FORMAT)? == Some(&FORMAT.to_be_bytes())
    {
        return Ok(position);
    }
    let position = position.unwrap_or_else(|| Position::begin(0));
    tables.put_meta(&mut txn, META_FORMAT, FORMAT.to_be_bytes().to_vec())?;
    tables.put_position(&mut txn, position)?;
    txn.commit()?;
    Ok(position)
}

/// What a new store begins with.
pub(super) struct Begin {
    pub(super) next_id: Id,
    pub(super) position: Position,
}

/// Creates an empty store.
fn create(dir: &Path) -> Result<(), StoreError> {
    build(dir, |_, _| Ok(Some(Begin { next_id: NO_BASE + 1, position: Position::begin(0) })))?;
    install(dir)
}

/// Makes a store in `new/`, so that one in its place is always whole. `fill` gives `None` if there
/// is to be no store.
pub(super) fn build(
    dir: &Path,
    fill: impl FnOnce(&Environment, Tables<'_>) -> Result<Option<Begin>, StoreError>,
) -> Result<bool, StoreError> {
    let new = dir.join("new");
    let io = |error: io::Error| at(&new, &error);
    if fs::exists(&new).map_err(io)? {
        fs::remove_dir_all(&new).map_err(io)?;
    }
    fs::create_dir(&new).map_err(io)?;
    let env = tables::open(&new).map_err(|failed| error(&failed))?;
    let tables = Tables::of(&env).map_err(|failed| error(&failed))?;
    let Some(Begin { next_id, position }) = fill(&env, tables)? else {
        drop(env);
        fs::remove_dir_all(&new).map_err(io)?;
        return Ok(false);
    };
    let finish = || {
        let mut txn = env.write_txn()?;
        tables.put_meta(&mut txn, META_FORMAT, FORMAT.to_be_bytes().to_vec())?;
        tables.put_meta(&mut txn, META_NEXT_ID, next_id.to_be_bytes().to_vec())?;
        tables.put_position(&mut txn, position)?;
        txn.commit()
    };
    finish().map_err(|failed| error(&failed))?;
    let sync = File::open(new.join(DATA_FILE)).and_then(|file| file.sync_all());
    sync.map(|()| true).map_err(io)
}

/// Puts the store in `new/` in its place.
pub(super) fn install(dir: &Path) -> Result<(), StoreError> {
    let new = dir.join("new");
    let renamed = fs::rename(new.join(DATA_FILE), dir.join(DATA_FILE));
    renamed.and_then(|()| sync_dir(dir)).map_err(|error| at(dir, &error))?;
    fs::remove_dir_all(&new).map_err(|error| at(&new, &error))
}

pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

pub(super) fn at(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Disk(format!("{}: {error}", path.display()))
}

/// What was set aside and is to be removed from the tables.
struct Removal {
    key: Option<Vec<u8>>,
    ids: Vec<Id>,
}

/// Key and value of a zone.
type RowBytes<'t> = (&'t [u8], &'t [u8]);

/// What was made of a zone, and when it was retired, if it was.
type Examined<T> = Result<(T, Option<(ZoneKey, u64)>), Unusable>;

/// How the rows of zones are read.
struct AllRows<'e, R> {
    env: &'e Environment,
    tables: Tables<'e>,
    replayed: &'e Replayed,
    read: &'e R,
}

impl<R> AllRows<'_, R> {
    /// Reads these zones by so many threads, each in a transaction of its own: as nobody writes
    /// yet, all see the same.
    fn examine<T: Send>(
        &self,
        rows: &[RowBytes<'_>],
        threads: usize,
    ) -> heed::Result<Vec<Examined<T>>>
    where
        R: Fn(Stored<'_>) -> T + Sync,
    {
        let examine = |rows: &[RowBytes<'_>]| {
            let txn = self.env.read_txn()?;
            let one = |&(key, value): &RowBytes<'_>| {
                let found = Stored::examine(self.tables, &txn, key, value)?;
                let (zone, stored) = self.replayed.accept(found)?;
                let retired = stored.state.retired_at_ms.map(|at_ms| (zone, at_ms));
                Ok(((self.read)(stored), retired))
            };
            Ok::<_, heed::Error>(rows.iter().map(one).collect::<Vec<_>>())
        };
        thread::scope(|scope| {
            let mut parts = rows.chunks(rows.len().div_ceil(threads).max(1));
            let first = parts.next().unwrap_or_default();
            let others: Vec<_> = parts.map(|part| scope.spawn(move || examine(part))).collect();
            let mut examined = examine(first)?;
            for other in others {
                examined.extend(other.join().expect("reading does not panic")?);
            }
            Ok(examined)
        })
    }
}

/// Reads all zones, gives them to `take`, and tells the keeper what it must know.
fn survey<T: Send, R: Fn(Stored<'_>) -> T + Sync>(
    all: &AllRows<'_, R>,
    keeper: &mut Keeper,
    take: &mut impl FnMut(Result<T, Damage>),
) -> heed::Result<Vec<Removal>> {
    let tables = all.tables;
    let txn = all.env.read_txn()?;
    let threads = thread::available_parallelism().map_or(1, usize::from).min(tables::READERS_MAX);
    let mut removals = Vec::new();
    let mut ownerless = false;
    let mut rows = tables.zones.iter(&txn)?;
    loop {
        let step = rows.by_ref().take(threads * READ_STEP).collect::<heed::Result<Vec<_>>>()?;
        if step.is_empty() {
            break;
        }
        for (&(key, value), examined) in step.iter().zip(all.examine(&step, threads)?) {
            let Unusable { row, what } = match examined {
                Ok((made, retired)) => {
                    keeper.retired.extend(retired);
                    take(Ok(made));
                    continue;
                }
                Err(unusable) => unusable,
            };
            ownerless |= row.is_none();
            let ids: Vec<Id> = row.iter().flat_map(|row| [row.base, row.journal]).collect();
            let apex = ZoneKey::apex(key);
            let name = apex.as_ref().map_or_else(|| "unknown.".into(), ToString::to_string);
            let written = set_aside(&keeper.dir, &name, tables, &txn, Some((key, value)), &ids);
            let aside = written.inspect_err(|error| tracing::error!(%error, "not set aside")).ok();
            if aside.is_some() {
                removals.push(Removal { key: Some(key.into()), ids });
            }
            take(Err(Damage { apex, what, aside }));
        }
    }
    for entry in tables.before.iter(&txn)? {
        let (key, value) = entry?;
        if !ZoneKey::is_before(key) || unseal(key, value).and_then(Row::decode).is_none() {
            // What is served is not hurt.
            tracing::error!("the row of a version that could be gone back to is damaged");
            ownerless = true;
            removals.push(Removal { key: Some(key.into()), ids: Vec::new() });
        }
    }
    for entry in tables.doomed.iter(&txn)? {
        keeper.doomed.extend(entry?.0.try_into().map(Id::from_be_bytes));
    }
    if ownerless {
        for id in ownerless_ids(tables, &txn, keeper.doomed.iter().copied().collect())? {
            let name = "ownerless.";
            if set_aside(&keeper.dir, name, tables, &txn, None, &[id]).is_ok() {
                removals.push(Removal { key: None, ids: vec![id] });
            }
        }
    }
    Ok(removals)
}

fn remove(env: &Environment, tables: Tables<'_>, step: &[Removal]) -> heed::Result<()> {
    let mut txn: RwTxn<'_> = env.write_txn()?;
    for removal in step {
        if let Some(key) = &removal.key {
            tables.zones.delete(&mut txn, key)?;
            tables.before.delete(&mut txn, key)?;
        }
        for &id in &removal.ids {
            tables.doom(&mut txn, id)?;
        }
    }
    txn.commit()
}

/// The ids in `base` and `journal` that neither a row nor `owned` has: those of rows that could
/// not be read.
pub(super) fn ownerless_ids(
    tables: Tables<'_>,
    txn: &RoTxn<'_>,
    mut owned: HashSet<Id>,
) -> heed::Result<Vec<Id>> {
    for entry in tables.zones.iter(txn)? {
        let (key, value) = entry?;
        if let Some(row) = unseal(key, value).and_then(Row::decode) {
            owned.extend([row.base, row.journal]);
        }
    }
    for entry in tables.before.iter(txn)? {
        let (key, value) = entry?;
        if let Some(row) = unseal(key, value).and_then(Row::decode) {
            owned.extend([row.base, row.journal]);
        }
    }
    let mut found = Vec::new();
    for table in [tables.base, tables.journal] {
        let mut id: Id = 0;
        // From id to id, not from key to key.
        while let Some((key, _)) = table.get_greater_than_or_equal_to(txn, &id.to_be_bytes())? {
            let Some(head) = key.first_chunk() else { break };
            id = Id::from_be_bytes(*head);
            if !owned.contains(&id) {
                found.push(id);
            }
            let Some(next) = id.checked_add(1) else { break };
            id = next;
        }
    }
    Ok(found)
}

/// Writes what is kept of a zone to a file of its own: lengths, key, value; table by table.
fn set_aside(
    dir: &Path,
    name: &str,
    tables: Tables<'_>,
    txn: &RoTxn<'_, WithoutTls>,
    row: Option<(&[u8], &[u8])>,
    ids: &[Id],
) -> io::Result<PathBuf> {
    let dir = dir.join("damaged");
    fs::create_dir_all(&dir)?;
    let name: String = name.chars().map(|c| if c == '/' { '_' } else { c }).take(100).collect();
    let path = dir.join(format!("{name}{}", ids.first().copied().unwrap_or_default()));
    let mut file = BufWriter::new(File::create(&path)?);
    let mut write = |key: &[u8], value: &[u8]| {
        file.write_all(&(key.len() as u64).to_be_bytes())?;
        file.write_all(&(value.len() as u64).to_be_bytes())?;
        file.write_all(key)?;
        file.write_all(value)
    };
    if let Some((key, value)) = row {
        write(key, value)?;
    }
    for id in ids {
        let (from, to) = (id.to_be_bytes(), id.saturating_add(1).to_be_bytes());
        let range = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
        for table in [tables.base, tables.journal] {
            for entry in table.range(txn, &range).map_err(io::Error::other)? {
                let (key, value) = entry.map_err(io::Error::other)?;
                write(key, value)?;
            }
        }
    }
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    Ok(path)
}
