//! LMDB's environment and the six tables in it.
//!
//! **How it fits.** The one place that opens LMDB, for `load` and then for `keeper`.
//!
//! **Invariants.**
//! - *inspected*: see [`open`].
//! - *plain*: default flags, so that a commit is two flushes and no power loss can harm it; no
//!   transaction-local storage, as a load may be moved between threads.

use super::StoreError;
use super::format::{self, Id, META_LOG, META_NEXT_ID, Row, TABLES, ZoneKey, seal, unseal};
use super::keeper::Failed;
use super::log::Position;
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions, RoTxn, RwTxn, WithoutTls};
use std::path::Path;

/// The most the store may grow to: address space, not memory.
const MAP_SIZE: usize = 1 << 40;

pub(super) type Environment = Env<WithoutTls>;
/// How many threads may read at a time, beside the keeper, its reader and a load.
pub(super) const READERS_MAX: usize = 64;

type Table<'e> = Database<'e, Bytes, Bytes>;

/// Opens the environment in `dir`. The caller has inspected the file, or it is about to be created.
pub(super) fn open(dir: &Path) -> Result<Environment, heed::Error> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    #[expect(clippy::cast_possible_truncation, reason = "six, and 64")]
    options.map_size(MAP_SIZE).max_dbs(TABLES.len() as u32).max_readers(READERS_MAX as u32 + 8);
    #[expect(unsafe_code, reason = "the only way to open LMDB: a mapped file")]
    // SAFETY: nobody else changes the mapped file: the caller holds the lock file of the state
    // directory (*locked* in `load`), and whatever came before was *inspected*.
    unsafe {
        options.open(dir)
    }
}

/// The tables of an environment.
#[derive(Clone, Copy)]
pub(super) struct Tables<'e> {
    /// `.key` -> the caller's values; the format, the next id.
    pub(super) meta: Table<'e>,
    /// Zone key -> row, in canonical order.
    pub(super) zones: Table<'e>,
    /// Id, chunk number -> a chunk of the stream of entries.
    pub(super) base: Table<'e>,
    /// Id, sequence number, chunk number -> a chunk of a diff.
    pub(super) journal: Table<'e>,
    /// Id -> nothing: what is in `base` or `journal` under it is to be deleted.
    pub(super) doomed: Table<'e>,
    /// Key of a zone -> row of the version that a whole zone came in the place of.
    pub(super) before: Table<'e>,
}

impl<'e> Tables<'e> {
    /// The tables, created where they are missing.
    pub(super) fn of(env: &'e Environment) -> Result<Self, heed::Error> {
        let tables = env
            .create_databases_and_commit(env.write_txn()?, |opener, txn| {
                let mut create = |name| opener.create_database::<Bytes, Bytes>(txn, Some(name));
                let [meta, zones, base, journal, doomed, before] = TABLES;
                Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit([
                    create(meta)?,
                    create(zones)?,
                    create(base)?,
                    create(journal)?,
                    create(doomed)?,
                    create(before)?,
                ]))
            })?
            .unwrap_commit();
        let [meta, zones, base, journal, doomed, before] = tables;
        Ok(Self { meta, zones, base, journal, doomed, before })
    }

    /// The table of zones, which others have opened before; writes nothing.
    pub(super) fn zones(env: &'e Environment) -> Result<Option<Table<'e>>, heed::Error> {
        let opened = env.open_databases_and_commit(env.read_txn()?, |opener, txn| {
            let [_, zones, ..] = TABLES;
            let table = opener.open_database::<Bytes, Bytes>(txn, Some(zones))?;
            Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(table))
        });
        Ok(opened?.unwrap_commit())
    }

    /// The value sealed under `key` in `meta`; damaged is the same as missing.
    pub(super) fn meta<'t>(self, txn: &'t RoTxn<'_>, key: &[u8]) -> heed::Result<Option<&'t [u8]>> {
        Ok(self.meta.get(txn, key)?.and_then(|value| unseal(key, value)))
    }

    pub(super) fn put_meta(
        self,
        txn: &mut RwTxn<'_>,
        key: &[u8],
        value: Vec<u8>,
    ) -> heed::Result<()> {
        self.meta.put(txn, key, &seal(key, value))
    }

    /// The row of a zone.
    pub(super) fn row(self, txn: &RoTxn<'_>, key: &ZoneKey) -> Result<Option<Row>, Failed> {
        let value = self.zones.get(txn, key.as_bytes())?;
        Ok(value.map(|value| Row::read(key.as_bytes(), value)).transpose()?)
    }

    /// The row of the version that is kept beside the newest of a zone, if one is.
    pub(super) fn row_before(self, txn: &RoTxn<'_>, key: &ZoneKey) -> Result<Option<Row>, Failed> {
        let key = key.before();
        let value = self.before.get(txn, &key)?;
        Ok(value.map(|value| Row::read(&key, value)).transpose()?)
    }

    pub(super) fn put_row_before(
        self,
        txn: &mut RwTxn<'_>,
        key: &ZoneKey,
        row: &Row,
    ) -> heed::Result<()> {
        let key = key.before();
        self.before.put(txn, &key, &seal(&key, row.encode()))
    }

    pub(super) fn put_row(self, txn: &mut RwTxn<'_>, key: &ZoneKey, row: &Row) -> heed::Result<()> {
        self.zones.put(txn, key.as_bytes(), &seal(key.as_bytes(), row.encode()))
    }

    /// The least id that was never used.
    pub(super) fn next_id(self, txn: &RoTxn<'_>) -> heed::Result<Option<Id>> {
        let value = self.meta(txn, META_NEXT_ID)?;
        Ok(value.and_then(|mut value| format::take(&mut value)).map(Id::from_be_bytes))
    }

    /// How far the log is contained; `None` in a store that had none.
    pub(super) fn position(self, txn: &RoTxn<'_>) -> heed::Result<Option<Position>> {
        Ok(self.meta(txn, META_LOG)?.and_then(Position::decode))
    }

    pub(super) fn put_position(self, txn: &mut RwTxn<'_>, position: Position) -> heed::Result<()> {
        self.put_meta(txn, META_LOG, position.encode())
    }

    /// Enters `id` among what is to be deleted.
    pub(super) fn doom(self, txn: &mut RwTxn<'_>, id: Id) -> heed::Result<()> {
        let key = id.to_be_bytes();
        self.doomed.put(txn, &key, &seal(&key, Vec::new()))
    }
}

/// LMDB's error in our words.
pub(super) fn error(error: &heed::Error) -> StoreError {
    match error {
        heed::Error::Io(io) if io.kind() == std::io::ErrorKind::StorageFull => {
            StoreError::Full(error.to_string())
        }
        heed::Error::Mdb(heed::MdbError::MapFull) => StoreError::Full(error.to_string()),
        _ => StoreError::Disk(error.to_string()),
    }
}
