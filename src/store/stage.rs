//! A base being written, slice by slice.
//!
//! **How it fits.** `keeper` makes one for a whole zone that came in and one for a fold, fills it
//! within its transactions, and makes it a zone's base when it has ended. A whole zone's may have
//! been begun while it still came in (`ahead`).
//!
//! **Invariants.**
//! - *doomed until it is a base*: a stage that outlives a transaction is entered among what is to
//!   be deleted in that very transaction, so that a crash leaves nothing that nobody owns.

use super::format::{CHUNK, Id, Row, ZoneKey, base_key, encode_entry, seal};
use super::request::Done;
use super::tables::Tables;
use super::{History, Snapshot, State};
use heed::RwTxn;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Whose base, what for, and how far.
pub(super) struct Stage {
    pub(super) key: ZoneKey,
    pub(super) goal: Goal,
    pub(super) base: Base,
    snapshot: Arc<dyn Snapshot>,
}

/// A base as far as it is written.
pub(super) struct Base {
    pub(super) id: Id,
    /// The key of the last entry that is.
    last: Option<Vec<u8>>,
    /// What of the stream is in no chunk yet.
    rest: Vec<u8>,
    chunks: u32,
    len: u64,
    /// Is it among what is to be deleted?
    doomed: bool,
}

/// What the stage is to become.
pub(super) enum Goal {
    /// A zone's content, as it came in.
    Replace { state: State, history: History, done: Done },
    /// The version after which the diffs from `seq` on follow, as long as the journal is this one.
    Fold { journal: Id, seq: u64, serial: u32, mark: u64 },
}

impl Goal {
    /// The goal itself, of a stage that has reached it.
    pub(super) fn take(&mut self) -> Self {
        let reached = Self::Fold { journal: 0, seq: 0, serial: 0, mark: 0 };
        std::mem::replace(self, reached)
    }
}

impl Base {
    pub(super) fn new(id: Id) -> Self {
        Self { id, last: None, rest: Vec::new(), chunks: 0, len: 0, doomed: false }
    }

    /// Was any of it written before?
    pub(super) fn started(&self) -> bool {
        self.doomed
    }

    /// Writes entries that came ahead of their zone: as many octets of the stream, up to the end of
    /// the entry with the key `last`.
    pub(super) fn extend(
        &mut self,
        tables: Tables<'_>,
        txn: &mut RwTxn<'_>,
        octets: &[u8],
        last: &[u8],
    ) -> heed::Result<()> {
        self.rest.extend_from_slice(octets);
        self.len += octets.len() as u64;
        self.last = Some(last.to_vec());
        self.put_chunks(tables, txn, CHUNK)?;
        self.doom(tables, txn)
    }

    fn doom(&mut self, tables: Tables<'_>, txn: &mut RwTxn<'_>) -> heed::Result<()> {
        if !self.doomed {
            tables.doom(txn, self.id)?;
            self.doomed = true;
        }
        Ok(())
    }

    /// Writes what `rest` holds in chunks, as long as it is at least `least` octets.
    fn put_chunks(
        &mut self,
        tables: Tables<'_>,
        txn: &mut RwTxn<'_>,
        least: usize,
    ) -> heed::Result<()> {
        let Self { id, rest, chunks, .. } = self;
        let mut written = 0;
        let mut result = Ok(());
        while result.is_ok() && rest.len() - written >= least.max(1) {
            let chunk = &rest[written..rest.len().min(written + CHUNK)];
            let key = base_key(*id, *chunks);
            let mut value = Vec::with_capacity(CHUNK + 4);
            value.extend_from_slice(chunk);
            result = tables.base.put(txn, &key, &seal(&key, value));
            written += chunk.len();
            *chunks += 1;
        }
        rest.drain(..written);
        result
    }
}

impl Stage {
    pub(super) fn new(key: ZoneKey, base: Base, goal: Goal, snapshot: Arc<dyn Snapshot>) -> Self {
        Self { key, goal, base, snapshot }
    }

    /// Was any of it written before?
    pub(super) fn started(&self) -> bool {
        self.base.started()
    }

    /// Writes chunks until `budget` octets are used up. Has it ended?
    pub(super) fn fill(
        &mut self,
        tables: Tables<'_>,
        txn: &mut RwTxn<'_>,
        budget: &mut usize,
    ) -> heed::Result<bool> {
        let Self { base, snapshot, .. } = self;
        let from = base.last.take();
        let mut failed = None;
        let mut broken = false;
        snapshot.entries_after(from.as_deref(), &mut |key, blob| {
            encode_entry(key, blob, &mut base.rest);
            let octets = 5 + key.len() + blob.len();
            *budget = budget.saturating_sub(octets);
            base.len += octets as u64;
            if base.rest.len() >= CHUNK {
                failed = base.put_chunks(tables, txn, CHUNK).err();
            }
            broken = failed.is_some() || *budget == 0;
            if !broken {
                return ControlFlow::Continue(());
            }
            base.last = Some(key.to_vec());
            ControlFlow::Break(())
        });
        if let Some(error) = failed {
            return Err(error);
        }
        if !broken {
            base.put_chunks(tables, txn, 1)?;
            return Ok(true);
        }
        base.doom(tables, txn)?;
        Ok(false)
    }

    /// Makes this base, which has ended, the one of `row`; its serial and place are the caller's.
    pub(super) fn become_base(
        &self,
        tables: Tables<'_>,
        txn: &mut RwTxn<'_>,
        row: &mut Row,
    ) -> heed::Result<()> {
        let Base { id, chunks, len, doomed, .. } = &self.base;
        (row.base, row.base_chunks, row.base_len) = (*id, *chunks, *len);
        if *doomed {
            tables.doomed.delete(txn, &id.to_be_bytes())?;
        }
        Ok(())
    }
}
