//! One zone as it is kept: checked, then read.
//!
//! **How it fits.** `load` gives one to its caller for every zone at the start, the keeper's reader
//! for one that is asked for later; both within a read transaction.
//!
//! **Invariants.**
//! - *checked*: it exists only after every value of the zone was compared with its crc, and reads
//!   the same transaction ever after.
//!
//! A large base is checked by several threads, and can be read by as many, each a part of it.

use super::State;
use super::format::{DIFF_HEADER, Id, NO_BASE, Place, Row, Stream, ZoneKey};
use super::format::{base_key, decode_diff_header, journal_key, unseal};
use super::tables::Tables;
use crate::name::NameBuf;
use heed::{RoTxn, WithoutTls};
use std::borrow::Cow;
use std::ops::{Bound, Range};
use std::thread;

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
    /// The base's chunks without their crc.
    chunks: Vec<&'t [u8]>,
    parts: Vec<Part>,
}

/// Entries of a base that follow each other: where they begin, and how many there are.
struct Part {
    place: Place,
    count: usize,
}

/// A part of a base that is worth a thread of its own has at least so many octets.
const PART_LEN: u64 = 4 << 20;

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
        let Some(key) = ZoneKey::from_bytes(key) else {
            return Err(unknown("its name is damaged"));
        };
        Self::of_row(tables, txn, &key, row).map(|stored| (key, stored))
    }

    /// Checks all that a row of a zone says is kept.
    pub(super) fn of_row(
        tables: Tables<'t>,
        txn: &'t RoTxn<'t, WithoutTls>,
        key: &ZoneKey,
        row: Row,
    ) -> Result<Self, Unusable> {
        let apex = ZoneKey::apex(key.as_bytes()).expect("the key of a zone");
        let state = row.state.clone();
        let base_serial = row.base_serial;
        let history_from = row.base_seq;
        let (chunks, parts) = (Vec::new(), Vec::new());
        let mut stored =
            Self { apex, state, base_serial, row, history_from, tables, txn, chunks, parts };
        match stored.check() {
            Ok(()) => Ok(stored),
            Err(what) => Err(Unusable { row: Some(Box::new(stored.row)), what }),
        }
    }

    /// The serial of the version that is kept beside this one, if one is: see
    /// [`Store::read_before`](super::Store::read_before).
    pub fn before(&self) -> Option<u32> {
        let row = self.tables.row_before(self.txn, &ZoneKey::of(self.apex.as_name()));
        row.ok().flatten().map(|row| row.state.serial)
    }

    fn check(&mut self) -> Result<(), String> {
        if (self.row.base != NO_BASE) != self.row.state.has_data {
            return Err("it should have data and has not, or the other way round".into());
        }
        self.check_base()?;
        let row = &self.row;
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

    fn check_base(&mut self) -> Result<(), String> {
        let threads = match self.row.base_len / PART_LEN {
            // To ask the system for each of a million small zones would take seconds.
            0 | 1 => 1,
            parts => parts.min(thread::available_parallelism().map_or(1, usize::from) as u64),
        };
        self.chunks =
            self.sound_chunks(threads).ok_or("a chunk of its base is damaged or missing")?;
        let mut stream = Stream::new(&self.chunks, (0, 0));
        let mut len = 0;
        loop {
            // The first entry, and the first behind each of the places where a part should end.
            let begun = self.parts.len() as u64;
            if begun < threads && len * threads >= begun * self.row.base_len {
                self.parts.push(Part { place: stream.place(self.chunks.len()), count: 0 });
            }
            let entry = stream.entry().ok_or("an entry of its base is cut off")?;
            let Some((key, blob)) = entry else { break };
            len += (5 + key.len() + blob.len()) as u64;
            self.parts.last_mut().expect("the first entry begins one").count += 1;
        }
        match len == self.row.base_len {
            true => Ok(()),
            false => Err("its base has not the length that was written".into()),
        }
    }

    /// The chunks of the base without their crc, if they are all there and as they were written.
    fn sound_chunks(&self, threads: u64) -> Option<Vec<&'t [u8]>> {
        let count = self.row.base_chunks;
        let (from, to) = (base_key(self.row.base, 0), base_key(self.row.base, count));
        let range = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
        let found = self.tables.base.range(self.txn, &range).ok()?;
        let sealed = found.collect::<Result<Vec<_>, _>>().ok()?;
        if sealed.len() != usize::try_from(count).ok()? {
            return None;
        }
        let open = |sealed: &[(&[u8], &'t [u8])]| {
            sealed.iter().map(|(key, value)| unseal(key, value)).collect::<Option<Vec<_>>>()
        };
        let step = sealed.len().div_ceil(usize::try_from(threads).ok()?).max(1);
        thread::scope(|scope| {
            let mut parts = sealed.chunks(step);
            let first = parts.next();
            let others: Vec<_> = parts.map(|part| scope.spawn(|| open(part))).collect();
            let mut chunks = first.map_or_else(|| Some(Vec::new()), open)?;
            for other in others {
                chunks.extend(other.join().ok()??);
            }
            Some(chunks)
        })
    }

    /// The base: keys and blobs, in order.
    pub fn entries(&self) -> impl Iterator<Item = (Cow<'_, [u8]>, Cow<'_, [u8]>)> {
        self.parts().flatten()
    }

    /// The base in as many parts as there are threads that it is worth, one behind the other.
    pub fn parts(&self) -> impl ExactSizeIterator<Item = Entries<'_>> {
        self.parts.iter().map(|part| {
            let stream = Stream::new(&self.chunks, part.place);
            Entries { stream, count: part.count }
        })
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

/// Entries of a base that follow each other: keys and blobs, in order.
pub struct Entries<'s> {
    stream: Stream<'s>,
    count: usize,
}

impl<'s> Iterator for Entries<'s> {
    type Item = (Cow<'s, [u8]>, Cow<'s, [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        self.stream.entry().expect("checked before in the same transaction")
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
