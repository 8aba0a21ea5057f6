//! What each change does to the tables, within a transaction of the keeper's.
//!
//! **How it fits.** The second half of [`Keeper`]: `keeper` decides when, this says what. Nothing
//! here commits, and what is to be remembered after the commit goes into an [`Outcome`].
//!
//! **Invariants.**
//! - *in step* and *in order*: see `keeper`.
//! - *owned*: every id in `base` and `journal` is in one row, of `zones` or of `before`, or in
//!   `doomed`, after every transaction.

use super::format::{CHUNK, Id, META_NEXT_ID, META_USER, NO_BASE, Row, ZoneKey};
use super::format::{base_key, encode_diff, journal_key, seal};
use super::keeper::{Failed, Keeper, Outcome, SLICE};
use super::request::{Append, Request};
use super::stage::{Base, Goal, Stage};
use super::tables::Tables;
use super::{History, State, StoreError, lock};
use heed::RwTxn;
use std::ops::Bound;
use std::sync::Arc;
use tracing::error;

/// A larger diff is not kept: its version is written as a whole zone.
pub const DIFF_MAX: usize = 4 * 1024 * 1024;
/// A journal up to this size is never folded, and a history up to it never trimmed for its size.
pub(super) const FOLD_MIN: u64 = 16 * 1024;
/// The most keys that are deleted in one transaction.
const DELETE_STEP: usize = 256;
/// What is deleted at once rather than later: a base of at most so many chunks ...
const CHUNKS_AT_ONCE: u32 = 16;
/// ... and a journal of at most so many octets, or so many diffs trimmed from one.
const JOURNAL_AT_ONCE: u64 = 64 * 1024;
const DIFFS_AT_ONCE: u64 = 64;
/// The most retired zones that are forgotten in one transaction.
const SWEEP_STEP: usize = 256;

impl Keeper {
    /// Writes a group of changes. A change that is refused fails alone; an error of LMDB's fails
    /// the transaction, and with it all of them.
    pub(super) fn write_group(
        &mut self,
        tables: Tables<'_>,
        txn: &mut RwTxn<'_>,
        group: Vec<Request>,
        outcome: &mut Outcome,
    ) -> heed::Result<()> {
        let mut budget = SLICE;
        let mut written = Ok(());
        for mut request in group {
            if let Request::Logged(logged) = request {
                if written.is_ok() {
                    written = self.write_logged(tables, txn, &logged.append, outcome);
                }
                outcome.logged.push(logged);
                continue;
            }
            if written.is_err() {
                outcome.acks.extend(request.take_done().map(|done| (done, Ok(()))));
                continue;
            }
            let busy = |key: &&ZoneKey| {
                self.waiting.contains_key(*key)
                    || outcome.stages.iter().any(|stage| stage.key == **key)
            };
            if let Some(key) = request.zone().filter(busy).cloned() {
                self.waiting.entry(key).or_default().push_back(request);
                continue;
            }
            written = self.write(tables, txn, request, &mut budget, outcome);
        }
        written
    }

    fn write(
        &mut self,
        tables: Tables<'_>,
        txn: &mut RwTxn<'_>,
        request: Request,
        budget: &mut usize,
        outcome: &mut Outcome,
    ) -> heed::Result<()> {
        let mut small_fold = None;
        let (done, result) = match request {
            Request::Replace { key, state, history, snapshot, ahead, done } => {
                let goal = Goal::Replace { state, history, done };
                let begun = ahead.and_then(|sent| self.take_ahead(sent, outcome));
                let base = begun.unwrap_or_else(|| Base::new(self.new_id()));
                let stage = Stage::new(key, base, goal, snapshot);
                return self.advance(tables, txn, stage, budget, outcome);
            }
            Request::Append { append, done } if append.diff.len() > DIFF_MAX => {
                let Append { key, state, snapshot, .. } = append;
                let goal = Goal::Replace { state, history: History::Drop, done };
                let stage = Stage::new(key, Base::new(self.new_id()), goal, snapshot);
                return self.advance(tables, txn, stage, budget, outcome);
            }
            Request::Append { append, done } => {
                let kept = self.append_and_fold(tables, txn, &append, outcome);
                (done, kept.map(|fold| small_fold = fold))
            }
            Request::Retire { key, at_ms, done } => {
                (done, self.retire(tables, txn, &key, at_ms, outcome))
            }
            Request::Forget { key, done } => (done, self.forget(tables, txn, &key, outcome)),
            Request::PutMeta { key, value, done } => {
                let table_key = [&[META_USER], key.as_bytes()].concat();
                let put = tables.put_meta(txn, &table_key, value.clone());
                outcome.meta.push((key, value));
                (done, put.map_err(Failed::from))
            }
            Request::Read(read) => {
                outcome.reads.push(read);
                return Ok(());
            }
            Request::Piece(piece) => return self.write_piece(tables, txn, &piece, outcome),
            Request::Abandon { number } => {
                self.abandon_ahead(number, outcome);
                return Ok(());
            }
            Request::Sweep { now_ms } => return self.sweep(tables, txn, now_ms, outcome),
            // Both are taken care of before.
            Request::Logged(_) | Request::Wake => return Ok(()),
        };
        let (ack, written) = match result {
            Ok(()) => (Ok(()), Ok(())),
            Err(Failed::Change(failed)) => (Err(failed), Ok(())),
            Err(Failed::Transaction(failed)) => (Ok(()), Err(failed)),
        };
        outcome.acks.push((done, ack));
        match small_fold {
            Some(stage) if written.is_ok() => self.advance(tables, txn, stage, budget, outcome),
            _ => written,
        }
    }

    /// Writes a diff that the log has and its ticket has promised.
    fn write_logged(
        &mut self,
        tables: Tables<'_>,
        txn: &mut RwTxn<'_>,
        append: &Append,
        outcome: &mut Outcome,
    ) -> heed::Result<()> {
        match self.append_and_fold(tables, txn, append, outcome) {
            Ok(None) => Ok(()),
            Ok(Some(fold)) => {
                let mut budget = SLICE;
                self.advance(tables, txn, fold, &mut budget, outcome)
            }
            Err(Failed::Transaction(failed)) => Err(failed),
            Err(Failed::Change(failed)) => {
                // It led on when it was logged: its row must have been damaged since.
                let zone = ZoneKey::apex(append.key.as_bytes());
                error!(?zone, %failed, "a diff that was kept in the log cannot be kept any longer");
                Ok(())
            }
        }
    }

    /// Keeps a diff. What is small is then folded in the same transaction, as one of its own would
    /// cost more: that is returned.
    fn append_and_fold(
        &mut self,
        tables: Tables<'_>,
        txn: &mut RwTxn<'_>,
        append: &Append,
        outcome: &mut Outcome,
    ) -> Result<Option<Stage>, Failed> {
        let Append { key, state, from, diff, snapshot } = append;
        let fold = self.append(tables, txn, (key, state), (*from, diff), outcome)?;
        let Some((goal, base_len)) = fold else { return Ok(None) };
        let base = Base::new(self.new_id());
        let stage = Stage::new(key.clone(), base, goal, Arc::clone(snapshot));
        if base_len <= FOLD_MIN {
            return Ok(Some(stage));
        }
        outcome.folds.push(stage);
        Ok(None)
    }

    /// Writes a slice of a stage; finishes it if that was the last.
    pub(super) fn advance(
        &mut self,
        tables: Tables<'_>,
        txn: &mut RwTxn<'_>,
        mut stage: Stage,
        budget: &mut usize,
        outcome: &mut Outcome,
    ) -> heed::Result<()> {
        let filled = stage.fill(tables, txn, budget);
        if let Ok(true) = filled {
            return self.finish(tables, txn, stage, outcome);
        }
        match stage.goal {
            Goal::Replace { .. } => outcome.stages.push(stage),
            Goal::Fold { .. } => outcome.folds.push(stage),
        }
        filled.map(|_| ())
    }

    fn finish(
        &mut self,
        tables: Tables<'_>,
        txn: &mut RwTxn<'_>,
        mut stage: Stage,
        outcome: &mut Outcome,
    ) -> heed::Result<()> {
        outcome.begun.extend(stage.started().then_some(stage.base.id));
        match stage.goal.take() {
            Goal::Replace { state, history, done } => {
                outcome.finished.push(stage.key.clone());
                outcome.acks.push((done, Ok(())));
                self.finish_replace(tables, txn, &stage, (state, history), outcome)
            }
            Goal::Fold { journal, seq, serial, mark } => {
                let row = known(tables.row(txn, &stage.key))?
                    .filter(|row| row.journal == journal && row.base_seq < seq);
                let Some(mut row) = row else {
                    // The zone was replaced or forgotten meanwhile. What replaced it may go on with
                    // the same journal: from where that was.
                    outcome.doomed.push(stage.base.id);
                    return tables.doom(txn, stage.base.id);
                };
                discard_base(tables, txn, &row, outcome)?;
                stage.become_base(tables, txn, &mut row)?;
                (row.base_serial, row.base_seq, row.base_mark) = (serial, seq, mark);
                self.trim(tables, txn, &mut row)?;
                tables.put_row(txn, &stage.key, &row)
            }
        }
    }

    fn finish_replace(
        &mut self,
        tables: Tables<'_>,
        txn: &mut RwTxn<'_>,
        stage: &Stage,
        (state, history): (State, History),
        outcome: &mut Outcome,
    ) -> heed::Result<()> {
        let state = State { has_data: true, ..state };
        let old = known(tables.row(txn, &stage.key))?;
        if history != History::Keep {
            discard_before(tables, txn, &stage.key, outcome)?;
        }
        let before = old.as_ref().filter(|old| history == History::Before && old.base != NO_BASE);
        match (before, &old) {
            (Some(before), _) => tables.put_row_before(txn, &stage.key, before)?,
            (None, Some(old)) => discard_base(tables, txn, old, outcome)?,
            (None, None) => {}
        }
        let is_before = before.is_some();
        let mut row = match old {
            Some(old) if history == History::Keep => Row { state, ..old },
            Some(old) if !is_before => match discard_journal(tables, txn, &old, outcome)? {
                Some(journal) => Row::new(state, journal, old.next_seq),
                None => Row::new(state, self.new_id(), 0),
            },
            _ => Row::new(state, self.new_id(), 0),
        };
        stage.become_base(tables, txn, &mut row)?;
        row.base_serial = row.state.serial;
        (row.base_seq, row.base_mark) = (row.next_seq, row.next_mark);
        self.trim(tables, txn, &mut row)?;
        put(tables, txn, &stage.key, &row, outcome)
    }

    /// Keeps a diff; if the journal is to be folded now, how, and the octets of the base so far.
    pub(super) fn append(
        &self,
        tables: Tables<'_>,
        txn: &mut RwTxn<'_>,
        (key, state): (&ZoneKey, &State),
        (from, diff): (u32, &[u8]),
        outcome: &mut Outcome,
    ) -> Result<Option<(Goal, u64)>, Failed> {
        let kept = tables.row(txn, key)?.filter(|row| row.base != NO_BASE);
        let serial = kept.as_ref().map(|row| row.state.serial);
        let Some(mut row) = kept.filter(|row| row.state.serial == from) else {
            return Err(StoreError::OutOfStep { kept: serial, from }.into());
        };
        let stream = encode_diff(from, state.serial, diff);
        for (chunk, bytes) in (0..).zip(stream.chunks(CHUNK)) {
            let key = journal_key(row.journal, row.next_seq, chunk);
            tables.journal.put(txn, &key, &seal(&key, bytes.to_vec()))?;
        }
        row.next_seq += 1;
        row.next_mark += stream.len() as u64;
        row.state = State { has_data: true, ..state.clone() };
        self.trim(tables, txn, &mut row)?;
        put(tables, txn, key, &row, outcome)?;
        let fold = row.next_mark - row.base_mark > FOLD_MIN.max(row.base_len / 10);
        let goal = Goal::Fold {
            journal: row.journal,
            seq: row.next_seq,
            serial: row.state.serial,
            mark: row.next_mark,
        };
        Ok(fold.then_some((goal, row.base_len)))
    }

    /// Drops the oldest diffs beyond what is kept for outgoing IXFR, never one after the base.
    fn trim(&self, tables: Tables<'_>, txn: &mut RwTxn<'_>, row: &mut Row) -> heed::Result<()> {
        let len_max = row.base_len.max(FOLD_MIN);
        for _ in 0..DIFFS_AT_ONCE {
            let versions = row.next_seq - row.first_seq;
            let within = versions <= self.options.history_versions
                && row.next_mark - row.first_mark <= len_max;
            if within || row.first_seq == row.base_seq {
                break;
            }
            let len = delete_diff(tables, txn, row.journal, row.first_seq)?;
            row.first_seq += 1;
            row.first_mark = (row.first_mark + len).min(row.base_mark);
        }
        Ok(())
    }

    fn retire(
        &mut self,
        tables: Tables<'_>,
        txn: &mut RwTxn<'_>,
        key: &ZoneKey,
        at_ms: u64,
        outcome: &mut Outcome,
    ) -> Result<(), Failed> {
        if let Some(mut row) = tables.row(txn, key)? {
            row.state.retired_at_ms = Some(at_ms);
            put(tables, txn, key, &row, outcome)?;
        }
        Ok(())
    }

    fn forget(
        &mut self,
        tables: Tables<'_>,
        txn: &mut RwTxn<'_>,
        key: &ZoneKey,
        outcome: &mut Outcome,
    ) -> Result<(), Failed> {
        if let Some(row) = known(tables.row(txn, key))? {
            discard_base(tables, txn, &row, outcome)?;
            discard_journal(tables, txn, &row, outcome)?;
        }
        discard_before(tables, txn, key, outcome)?;
        tables.zones.delete(txn, key.as_bytes())?;
        outcome.retired.push((key.clone(), None));
        Ok(())
    }

    fn sweep(
        &mut self,
        tables: Tables<'_>,
        txn: &mut RwTxn<'_>,
        now_ms: u64,
        outcome: &mut Outcome,
    ) -> heed::Result<()> {
        let keep_ms = u64::try_from(self.options.keep_removed.as_millis()).unwrap_or(u64::MAX);
        let due = |at: u64| at.saturating_add(keep_ms) <= now_ms;
        let forgotten = |key: &ZoneKey| outcome.retired.iter().any(|(other, _)| other == key);
        let touches = lock(&self.shared.touches);
        // A zone with new timers has just been configured again.
        let step: Vec<ZoneKey> = (self.retired.iter())
            .filter(|(key, at)| {
                due(**at)
                    && !touches.contains_key(*key)
                    && !self.waiting.contains_key(key)
                    && !forgotten(key)
            })
            .map(|(key, _)| key.clone())
            .take(SWEEP_STEP)
            .collect();
        drop(touches);
        if step.len() == SWEEP_STEP {
            self.ready.push_back(Request::Sweep { now_ms });
        }
        for key in step {
            match self.forget(tables, txn, &key, outcome) {
                Err(Failed::Transaction(error)) => return Err(error),
                Ok(()) | Err(Failed::Change(_)) => {}
            }
        }
        Ok(())
    }

    /// Keeps timers, unless they belong to another version than the one kept.
    pub(super) fn touch(
        &mut self,
        tables: Tables<'_>,
        txn: &mut RwTxn<'_>,
        key: &ZoneKey,
        state: &State,
        outcome: &mut Outcome,
    ) -> heed::Result<()> {
        let state = state.clone();
        let row = match tables.row(txn, key) {
            Ok(None) if !state.has_data => Row::new(state, self.new_id(), 0),
            Ok(Some(row))
                if (row.state.serial, row.state.has_data) == (state.serial, state.has_data) =>
            {
                Row { state, ..row }
            }
            Ok(_) | Err(Failed::Change(_)) => {
                if self.shared.under_way.has(key) {
                    outcome.early.push((key.clone(), state));
                }
                return Ok(());
            }
            Err(Failed::Transaction(error)) => return Err(error),
        };
        put(tables, txn, key, &row, outcome)
    }

    /// Deletes some of what is doomed. `Some` if an id has nothing left.
    pub(super) fn delete_step(
        &self,
        tables: Tables<'_>,
        txn: &mut RwTxn<'_>,
    ) -> heed::Result<Option<Id>> {
        let Some(&id) = self.doomed.front() else { return Ok(None) };
        let (from, to) = (id.to_be_bytes(), (id + 1).to_be_bytes());
        let range = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
        let mut left = DELETE_STEP;
        for table in [tables.base, tables.journal] {
            let keys: Vec<Box<[u8]>> = table
                .range(txn, &range)?
                .take(left)
                .map(|entry| entry.map(|(key, _)| key.into()))
                .collect::<heed::Result<_>>()?;
            left -= keys.len();
            for key in keys {
                table.delete(txn, &key)?;
            }
        }
        if left == 0 {
            return Ok(None);
        }
        tables.doomed.delete(txn, &from)?;
        Ok(Some(id))
    }

    pub(super) fn new_id(&mut self) -> Id {
        self.next_id += 1;
        self.next_id - 1
    }

    /// Keeps the next id, if this transaction used any.
    pub(super) fn save_next_id(&self, tables: Tables<'_>, txn: &mut RwTxn<'_>) -> heed::Result<()> {
        if self.next_id == self.saved_id {
            return Ok(());
        }
        tables.put_meta(txn, META_NEXT_ID, self.next_id.to_be_bytes().to_vec())
    }
}

/// A damaged row is as good as none to what replaces or removes it.
fn known(row: Result<Option<Row>, Failed>) -> heed::Result<Option<Row>> {
    match row {
        Ok(row) => Ok(row),
        Err(Failed::Change(_)) => Ok(None),
        Err(Failed::Transaction(error)) => Err(error),
    }
}

fn put(
    tables: Tables<'_>,
    txn: &mut RwTxn<'_>,
    key: &ZoneKey,
    row: &Row,
    outcome: &mut Outcome,
) -> heed::Result<()> {
    outcome.retired.push((key.clone(), row.state.retired_at_ms));
    tables.put_row(txn, key, row)
}

fn discard_base(
    tables: Tables<'_>,
    txn: &mut RwTxn<'_>,
    row: &Row,
    outcome: &mut Outcome,
) -> heed::Result<()> {
    if row.base == NO_BASE {
        return Ok(());
    }
    if row.base_chunks > CHUNKS_AT_ONCE {
        outcome.doomed.push(row.base);
        return tables.doom(txn, row.base);
    }
    for chunk in 0..row.base_chunks {
        tables.base.delete(txn, &base_key(row.base, chunk))?;
    }
    Ok(())
}

/// Forgets the version that is kept beside the newest of a zone, if one is.
fn discard_before(
    tables: Tables<'_>,
    txn: &mut RwTxn<'_>,
    key: &ZoneKey,
    outcome: &mut Outcome,
) -> heed::Result<()> {
    if let Some(row) = known(tables.row_before(txn, key))? {
        discard_base(tables, txn, &row, outcome)?;
        discard_journal(tables, txn, &row, outcome)?;
    }
    tables.before.delete(txn, &key.before()).map(|_| ())
}

/// `Some` journal if it is empty now and may be used further.
fn discard_journal(
    tables: Tables<'_>,
    txn: &mut RwTxn<'_>,
    row: &Row,
    outcome: &mut Outcome,
) -> heed::Result<Option<Id>> {
    let (diffs, len) = (row.next_seq - row.first_seq, row.next_mark - row.first_mark);
    if diffs > DIFFS_AT_ONCE || len > JOURNAL_AT_ONCE {
        outcome.doomed.push(row.journal);
        tables.doom(txn, row.journal)?;
        return Ok(None);
    }
    for seq in row.first_seq..row.next_seq {
        delete_diff(tables, txn, row.journal, seq)?;
    }
    Ok(Some(row.journal))
}

/// Deletes a diff. Returns how long its stream was.
fn delete_diff(
    tables: Tables<'_>,
    txn: &mut RwTxn<'_>,
    journal: Id,
    seq: u64,
) -> heed::Result<u64> {
    let (from, to) = (journal_key(journal, seq, 0), journal_key(journal, seq, u32::MAX));
    let range = (Bound::Included(&from[..]), Bound::Included(&to[..]));
    let mut len = 0;
    let mut keys: Vec<Box<[u8]>> = Vec::new();
    for entry in tables.journal.range(txn, &range)? {
        let (key, value) = entry?;
        len += value.len().saturating_sub(4) as u64;
        keys.push(key.into());
    }
    for key in keys {
        tables.journal.delete(txn, &key)?;
    }
    Ok(len)
}
