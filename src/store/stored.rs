//! One zone as it is kept: checked, then read.
//!
//! **How it fits.** `load` gives one to its caller for every zone at the start, the keeper's reader
//! for one that is asked for later; both within a read transaction.
//!
//! **Invariants.**
//! - *checked*: it exists only after every value of the zone was compared with its crc, and reads
//!   the same transaction ever after.

use super::State;
use super::format::{DIFF_HEADER, Id, NO_BASE, Row, Stream, ZoneKey};
use super::format::{base_key, decode_diff_header, journal_key, unseal};
use super::tables::Tables;
use crate::name::NameBuf;
use heed::{RoTxn, WithoutTls};
use std::borrow::Cow;
use std::ops::Range;

/// A zone that was not found as it was written.
pub(super) struct Unusable {
    pub(super) row: Option<Box<Row>>,
    pub(super) what: String,
}

/// A zone as it was kept, all of it checked.
pub struct Stored<'t> {
    /// The zone.
    pub apex: NameBuf,
    /// Its state; the version of `state.serial` is the base and all of [`diffs`](Self::diffs).
    pub state: State,
    /// The serial of the base.
    pub base_serial: u32,
    row: Row,
    history_from: u64,
    tables: Tables<'t>,
    txn: &'t RoTxn<'t, WithoutTls>,
}

impl<'t> Stored<'t> {
    /// A zone that is not to be used, although all that is kept of it is as it was written.
    pub(super) fn unusable(self, what: String) -> Unusable {
        Unusable { row: Some(Box::new(self.row)), what }
    }

    /// Checks all that is kept of a zone.
    pub(super) fn examine(
        tables: Tables<'t>,
        txn: &'t RoTxn<'t, WithoutTls>,
        key: &[u8],
        value: &[u8],
    ) -> Result<(ZoneKey, Self), Unusable> {
        let row = unseal(key, value).and_then(Row::decode);
        let unknown = |what: &str| Unusable { row: None, what: what.into() };
        let row = row.ok_or_else(|| unknown("its row is damaged"))?;
        let Some(apex) = ZoneKey::apex(key) else {
            return Err(unknown("its name is damaged"));
        };
        let state = row.state.clone();
        let base_serial = row.base_serial;
        let history_from = row.base_seq;
        let mut stored = Self { apex, state, base_serial, row, history_from, tables, txn };
        match stored.check() {
            Ok(()) => Ok((ZoneKey::of(stored.apex.as_name()), stored)),
            Err(what) => Err(Unusable { row: Some(Box::new(stored.row)), what }),
        }
    }

    fn check(&mut self) -> Result<(), String> {
        let row = &self.row;
        if (row.base != NO_BASE) != row.state.has_data {
            return Err("it should have data and has not, or the other way round".into());
        }
        self.check_base()?;
        let mut serial = row.base_serial;
        for seq in row.base_seq..row.next_seq {
            let diff = read_diff(self.tables, self.txn, row.journal, seq);
            let diff = diff.filter(|diff| diff.from == serial);
            let diff = diff.ok_or_else(|| format!("a diff from serial {serial} is damaged"))?;
            serial = diff.to;
        }
        if row.state.has_data && serial != row.state.serial {
            return Err(format!("it ends with serial {serial}, not {}", row.state.serial));
        }
        // History that does not lead to the base without a gap is of no use to anyone.
        let mut serial = row.base_serial;
        for seq in (row.first_seq..row.base_seq).rev() {
            let diff = read_diff(self.tables, self.txn, row.journal, seq);
            let Some(diff) = diff.filter(|diff| diff.to == serial) else { break };
            serial = diff.from;
            self.history_from = seq;
        }
        Ok(())
    }

    fn check_base(&self) -> Result<(), String> {
        let mut len = 0;
        let chunks = Chunks { checked: false, ..self.chunks() };
        let mut stream = Stream::new(chunks);
        loop {
            match stream.entry() {
                Some(Some((key, blob))) => len += (5 + key.len() + blob.len()) as u64,
                Some(None) if len == self.row.base_len => return Ok(()),
                Some(None) => return Err("its base has not the length that was written".into()),
                None => return Err("a chunk of its base is damaged or missing".into()),
            }
        }
    }

    fn chunks(&self) -> Chunks<'t> {
        let Self { row, tables, txn, .. } = self;
        Chunks { tables: *tables, txn, id: row.base, chunks: 0..row.base_chunks, checked: true }
    }

    /// The base: keys and blobs, in order.
    pub fn entries(&self) -> Entries<'t> {
        Entries(Stream::new(self.chunks()))
    }

    /// The diffs that lead on from the base, in order.
    pub fn diffs(&self) -> Diffs<'t> {
        self.diffs_in(self.row.base_seq..self.row.next_seq)
    }

    /// The diffs that lead to the base, in order, without a gap; kept for outgoing IXFR.
    pub fn history(&self) -> Diffs<'t> {
        self.diffs_in(self.history_from..self.row.base_seq)
    }

    fn diffs_in(&self, seqs: Range<u64>) -> Diffs<'t> {
        Diffs { tables: self.tables, txn: self.txn, journal: self.row.journal, seqs }
    }
}

/// The chunks of a base; `None` for one that is missing or damaged.
struct Chunks<'t> {
    tables: Tables<'t>,
    txn: &'t RoTxn<'t, WithoutTls>,
    id: Id,
    chunks: Range<u32>,
    /// Were they all found to be good before, in this transaction?
    checked: bool,
}

impl<'t> Iterator for Chunks<'t> {
    type Item = Option<&'t [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let key = base_key(self.id, self.chunks.next()?);
        let value = self.tables.base.get(self.txn, &key).ok().flatten();
        Some(value.and_then(|value| match self.checked {
            true => value.len().checked_sub(4).map(|len| &value[..len]),
            false => unseal(&key, value),
        }))
    }
}

/// The entries of a base: keys and blobs, in order.
pub struct Entries<'t>(Stream<'t, Chunks<'t>>);

impl<'t> Iterator for Entries<'t> {
    type Item = (Cow<'t, [u8]>, Cow<'t, [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.entry().expect("checked before in the same transaction")
    }
}

/// What leads from one version to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diff {
    /// The serial before.
    pub from: u32,
    /// The serial after.
    pub to: u32,
    /// The bytes that were given.
    pub bytes: Vec<u8>,
}

/// Diffs that follow each other.
pub struct Diffs<'t> {
    tables: Tables<'t>,
    txn: &'t RoTxn<'t, WithoutTls>,
    journal: Id,
    seqs: Range<u64>,
}

impl Iterator for Diffs<'_> {
    type Item = Diff;

    fn next(&mut self) -> Option<Diff> {
        let diff = read_diff(self.tables, self.txn, self.journal, self.seqs.next()?);
        Some(diff.expect("checked before in the same transaction"))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.seqs.size_hint()
    }
}

/// A diff, put together from its chunks; `None` if one of them is missing or damaged.
fn read_diff(
    tables: Tables<'_>,
    txn: &RoTxn<'_, WithoutTls>,
    journal: Id,
    seq: u64,
) -> Option<Diff> {
    let chunk = |number: u32| {
        let key = journal_key(journal, seq, number);
        unseal(&key, tables.journal.get(txn, &key).ok()??)
    };
    let (header, data) = chunk(0)?.split_at_checked(DIFF_HEADER)?;
    let (from, to, len) = decode_diff_header(header)?;
    let mut bytes = data.to_vec();
    for number in 1.. {
        if bytes.len() as u64 >= len {
            break;
        }
        bytes.extend_from_slice(chunk(number)?);
    }
    (bytes.len() as u64 == len).then_some(Diff { from, to, bytes })
}
