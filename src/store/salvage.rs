//! What can be had of a damaged file, in a store of its own.
//!
//! **How it fits.** `load` calls it for a file that `inspect` refuses. It reads all pages with
//! ordinary reads, whatever the trees say, and copies each record whose crc is right into a new
//! store; zones of which something is missing there are then found by the load itself. The damaged
//! file is kept as `damaged/data.mdb.N`.
//!
//! **Invariants.**
//! - *nothing is overwritten*: the damaged file gets its second name before the new store gets its
//!   first one; a file in which there is nothing of ours is left where it is.
//! - *the last version*: the free pages, which hold older versions, are left out. If the meta pages
//!   or the tree of free pages are damaged too, they cannot be known. Then the newest row of a
//!   zone is taken (ids and sequence numbers only grow), and nothing of what was doomed, kept beside
//!   a newer version, or the caller's own; chunks need no care, as none is ever written twice under
//!   the same key.
//! - *whole*: a row whose journal goes on after it is an older one, and the zone is lost.
//! - *the log*: what of it was contained is known if the free pages are; if not, `replay` finds out.

use super::format::{FORMAT, Id, META_FORMAT, META_LOG, META_USER, Row, ZoneKey};
use super::format::{base_key, journal_key, take, unseal};
use super::inspect::{PageSet, free_pages};
use super::layout::{HEADER, NODE_BIG, PAGE_BRANCH, PAGE_LEAF, PAGE_META, PAGE_OVERFLOW};
use super::layout::{nodes, possible_records, word16, word64};
use super::load::{Begin, DATA_FILE, at, build, install, ownerless_ids, sync_dir};
use super::log::Position;
use super::tables::{Environment, Tables, error};
use super::{Damage, StoreError};
use heed::RwTxn;
use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tracing::{error, warn};

/// How many pages are read at once.
const READ: usize = 256;
/// What is written in one transaction.
const STEP: usize = 8 * 1024 * 1024;

/// Puts a new store, with all that can be read of the damaged one, in its place. Returns the zones
/// of which not even a row was found.
///
/// # Errors
/// `damage`, if there is nothing to be had and it may be a foreign file; another format; the disk.
pub(super) fn salvage(dir: &Path, damage: StoreError) -> Result<Vec<Damage>, StoreError> {
    let path = dir.join(DATA_FILE);
    let mut finds = Finds::default();
    let built = build(dir, |env, tables| {
        let reader = Reader::open(&path).map_err(|failed| at(&path, &failed))?;
        finds = Copy::all(reader, env, tables)?;
        if finds.format > FORMAT {
            return Err(StoreError::Format { path: path.clone(), found: finds.format });
        }
        let position = finds.position.filter(|_| finds.exact).unwrap_or(Position::UNKNOWN);
        Ok(finds.ours().then_some(Begin { next_id: finds.next_id, position }))
    });
    if !built? {
        return Err(damage);
    }
    let aside = keep_aside(dir).map_err(|failed| at(&path, &failed))?;
    install(dir)?;
    let cut = matches!(damage, StoreError::Cut { .. });
    if (finds.unsound || cut) && finds.lost.is_empty() {
        // Who was in there cannot be known; that something was must not pass unsaid.
        finds.nameless = finds.nameless.max(1);
    }
    error!(%damage, kept = %aside.display(), zones = finds.zones, lost = finds.lost.len() +
        finds.nameless, exact = finds.exact, "the store was damaged: what could be read of it is \
        in a new one");
    if !finds.exact {
        warn!("what was free in the damaged store is not known: zones may be older than they were");
    }
    let row_lost = |apex| Damage {
        apex,
        what: "its row was lost with a damaged part of the store".into(),
        aside: Some(aside.clone()),
    };
    let named = finds.lost.iter().map(|key| row_lost(ZoneKey::apex(key.as_bytes())));
    Ok(named.chain((0..finds.nameless).map(|_| row_lost(None))).collect())
}

/// Gives the damaged file a second name, where it stays.
fn keep_aside(dir: &Path) -> io::Result<PathBuf> {
    let damaged = dir.join("damaged");
    fs::create_dir_all(&damaged)?;
    for number in 1_u32.. {
        let path = damaged.join(format!("{DATA_FILE}.{number}"));
        match fs::hard_link(dir.join(DATA_FILE), &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            linked => {
                linked?;
                sync_dir(&damaged)?;
                sync_dir(dir)?;
                return Ok(path);
            }
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// What was found in a file.
#[derive(Default)]
struct Finds {
    /// Were the free pages known?
    exact: bool,
    /// Were there pages that are not what LMDB writes?
    unsound: bool,
    /// The highest number of a format.
    format: u32,
    next_id: Id,
    /// What of the log was contained.
    position: Option<Position>,
    zones: usize,
    chunks: usize,
    /// Zones of which there is no good row.
    lost: BTreeSet<ZoneKey>,
    /// Bases that belong to no zone, beyond those of zones that are lost by name.
    nameless: usize,
}

impl Finds {
    /// Is there anything of a store in the file?
    fn ours(&self) -> bool {
        self.format != 0 || self.zones > 0 || self.chunks > 0
    }
}

/// A key and its sealed value.
type Record = (Box<[u8]>, Box<[u8]>);

/// Copies records into the new store, in transactions of some size.
struct Copy<'e> {
    env: &'e Environment,
    tables: Tables<'e>,
    /// Keys and values for the next transaction, and their octets.
    pending: Vec<Record>,
    octets: usize,
    finds: Finds,
}

impl<'e> Copy<'e> {
    fn all(
        mut reader: Reader,
        env: &'e Environment,
        tables: Tables<'e>,
    ) -> Result<Finds, StoreError> {
        let finds = Finds { exact: reader.free.is_some(), next_id: 1, ..Finds::default() };
        let mut copy = Self { env, tables, pending: Vec::new(), octets: 0, finds };
        let copied = reader.each(&mut |key, value| copy.record(key, value));
        let copied = copied.and_then(|()| copy.flush()).and_then(|()| copy.judge());
        copy.finds.unsound = reader.unsound;
        copied.map(|()| copy.finds).map_err(|failed| error(&failed))
    }

    /// Takes what may be a record.
    fn record(&mut self, key: &[u8], value: &[u8]) -> heed::Result<()> {
        let Some(mut payload) = unseal(key, value) else {
            self.finds.lost.extend(ZoneKey::from_bytes(key));
            return Ok(());
        };
        let wanted = match Kind::of(key) {
            Some(Kind::Format) => {
                let found = take(&mut payload).map_or(0, u32::from_be_bytes);
                self.finds.format = self.finds.format.max(found);
                false
            }
            Some(Kind::Log) => {
                self.finds.position = Position::decode(payload);
                false
            }
            Some(Kind::Base | Kind::Journal) => {
                self.use_id(key.first_chunk().map_or(0, |id| Id::from_be_bytes(*id)));
                self.finds.chunks += 1;
                true
            }
            Some(Kind::User | Kind::Doomed | Kind::Before) => self.finds.exact,
            Some(Kind::Zone) => Row::decode(payload).is_some(),
            None => false,
        };
        if wanted {
            self.octets += key.len() + value.len();
            self.pending.push((key.into(), value.into()));
        }
        if self.octets >= STEP { self.flush() } else { Ok(()) }
    }

    fn use_id(&mut self, id: Id) {
        self.finds.next_id = self.finds.next_id.max(id.saturating_add(1));
    }

    fn flush(&mut self) -> heed::Result<()> {
        let mut pending = std::mem::take(&mut self.pending);
        self.octets = 0;
        pending.sort_unstable();
        let mut txn = self.env.write_txn()?;
        for (key, value) in &pending {
            match Kind::of(key) {
                Some(Kind::Base) => self.tables.base.put(&mut txn, key, value)?,
                Some(Kind::Journal) => self.tables.journal.put(&mut txn, key, value)?,
                Some(Kind::Doomed) => self.tables.doomed.put(&mut txn, key, value)?,
                Some(Kind::Before) => self.tables.before.put(&mut txn, key, value)?,
                Some(Kind::Zone) => self.row(&mut txn, key, value)?,
                _ => self.tables.meta.put(&mut txn, key, value)?,
            }
        }
        txn.commit()
    }

    /// Takes a row, unless there is a newer one of the zone.
    fn row(&mut self, txn: &mut RwTxn<'_>, key: &[u8], value: &[u8]) -> heed::Result<()> {
        let row = |value| unseal(key, value).and_then(Row::decode);
        let Some(new) = row(value) else { return Ok(()) };
        self.use_id(new.base.max(new.journal));
        let age = |row: &Row| (row.journal, row.next_seq, row.base, row.state.contact_ms);
        let known = self.tables.zones.get(txn, key)?.and_then(row);
        if known.is_some_and(|known| age(&known) >= age(&new)) {
            return Ok(());
        }
        self.tables.zones.put(txn, key, value)
    }

    /// Finds out which zones are lost, and dooms what no row has.
    fn judge(&mut self) -> heed::Result<()> {
        let Self { tables, finds, .. } = self;
        let mut txn = self.env.write_txn()?;
        let mut older = Vec::new();
        for entry in tables.zones.iter(&txn)? {
            let (key, value) = entry?;
            let Some(zone) = ZoneKey::from_bytes(key) else { continue };
            let Some(row) = unseal(key, value).and_then(Row::decode) else { continue };
            let next = journal_key(row.journal, row.next_seq, 0);
            let later = tables.journal.get_greater_than_or_equal_to(&txn, &next)?;
            if later.is_some_and(|(key, _)| key.starts_with(&row.journal.to_be_bytes())) {
                older.push(zone);
            } else {
                finds.lost.remove(&zone);
                finds.zones += 1;
            }
        }
        for zone in older {
            tables.zones.delete(&mut txn, zone.as_bytes())?;
            finds.lost.insert(zone);
        }
        let mut doomed = HashSet::new();
        for entry in tables.doomed.iter(&txn)? {
            doomed.extend(entry?.0.try_into().map(Id::from_be_bytes));
        }
        let mut bases = 0;
        for id in ownerless_ids(*tables, &txn, doomed)? {
            bases += usize::from(tables.base.get(&txn, &base_key(id, 0))?.is_some());
            tables.doom(&mut txn, id)?;
        }
        if finds.exact {
            finds.nameless = bases.saturating_sub(finds.lost.len());
        }
        txn.commit()
    }
}

/// What a key is of, as can be told by its look: ids begin with a zero.
enum Kind {
    Base,
    Journal,
    Doomed,
    Zone,
    Before,
    User,
    Format,
    Log,
}

impl Kind {
    fn of(key: &[u8]) -> Option<Self> {
        match (key.first()?, key.len()) {
            (0, 12) => Some(Self::Base),
            (0, 20) => Some(Self::Journal),
            (0, 8) => Some(Self::Doomed),
            (&META_USER, _) => Some(Self::User),
            _ if key == META_FORMAT => Some(Self::Format),
            _ if key == META_LOG => Some(Self::Log),
            _ if ZoneKey::is_before(key) => Some(Self::Before),
            _ => ZoneKey::apex(key).map(|_| Self::Zone),
        }
    }
}

/// Reads the pages of a file, in their order.
struct Reader {
    file: File,
    len: u64,
    page_size: usize,
    /// `None` if they are not known.
    free: Option<PageSet>,
    /// A value in pages of its own.
    large: Vec<u8>,
    /// Was any page not what LMDB writes?
    unsound: bool,
}

/// What is done with key and value of what may be a record.
type Each<'e> = dyn FnMut(&[u8], &[u8]) -> heed::Result<()> + 'e;

impl Reader {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let free = free_pages(path);
        Ok(Self { file, len, page_size: page_size::get(), free, large: Vec::new(), unsound: false })
    }

    fn each(&mut self, each: &mut Each<'_>) -> heed::Result<()> {
        let mut block = vec![0; READ * self.page_size];
        for first in (0..self.len.div_ceil(self.page_size as u64)).step_by(READ) {
            self.read(first, &mut block);
            for (number, page) in (first..).zip(block.chunks_exact(self.page_size)) {
                if self.may_be_leaf(number, page) {
                    self.unsound |= word16(page, 10) != PAGE_LEAF
                        || word64(page, 0) != number
                        || nodes(page, PAGE_LEAF).is_none();
                    self.leaf(page, each)?;
                }
            }
        }
        Ok(())
    }

    /// Reads pages from `first` on; what cannot be read is zeros.
    fn read(&self, first: u64, block: &mut [u8]) {
        let at = first * self.page_size as u64;
        block.fill(0);
        let there = usize::try_from(self.len - at).unwrap_or(usize::MAX).min(block.len());
        if self.file.read_exact_at(&mut block[..there], at).is_ok() {
            return;
        }
        for (page, at) in
            block[..there].chunks_mut(self.page_size).zip((at..).step_by(self.page_size))
        {
            if self.file.read_exact_at(page, at).is_err() {
                page.fill(0);
            }
        }
    }

    /// Is it neither free nor plainly something else? A damaged header must not hide its records.
    fn may_be_leaf(&self, number: u64, page: &[u8]) -> bool {
        let kind = word16(page, 10);
        let other = matches!(kind, PAGE_BRANCH | PAGE_OVERFLOW | PAGE_META);
        let free = self.free.as_ref().is_some_and(|free| free.has(number));
        number >= 2 && !free && (kind == PAGE_LEAF || !other)
    }

    fn leaf(&mut self, page: &[u8], each: &mut Each<'_>) -> heed::Result<()> {
        for (key, flags, len, value) in possible_records(page) {
            if flags & NODE_BIG == 0 {
                each(key, value)?;
            } else if len <= self.page_size - HEADER {
                self.large.resize(len, 0);
                let at = word64(value, 0).saturating_mul(self.page_size as u64);
                let at = at.saturating_add(HEADER as u64);
                if self.file.read_exact_at(&mut self.large, at).is_ok() {
                    each(key, &self.large)?;
                }
            }
        }
        Ok(())
    }
}
