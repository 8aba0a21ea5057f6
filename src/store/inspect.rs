//! Is the data file whole? Asked with ordinary reads, before LMDB maps it.
//!
//! **How it fits.** LMDB trusts its file: a page number beyond the end is a SIGBUS, a bad length a
//! crash or worse. So `load` has the file inspected first, and has it salvaged if it is damaged.
//! What the crc of a value can find is not looked for here: contents of chunks are not read.
//!
//! **Invariants**, all of a file that passes:
//! - *complete*: every page in use lies within the file.
//! - *once*: no page is used twice, nor both used and free.
//! - *sound*: every page is what its parent says, its nodes tile it exactly, its keys ascend and
//!   lie between the separators above it.

use super::StoreError;
use super::format::{self, BEFORE, FORMAT, FORMAT_WITHOUT_BEFORE, FORMAT_WITHOUT_LOG};
use super::format::{META_FORMAT, META_LOG, META_NEXT_ID, TABLES, unseal};
use super::layout::{DATA_VERSION, DB_LEN, DEPTH_MAX, Db, HEADER, MAGIC, META_LEN, Meta};
use super::layout::{NO_PAGE, NODE_BIG, NODE_SUBDATA, Node, nodes, word16, word32, word64};
use super::layout::{PAGE_BRANCH, PAGE_LEAF, PAGE_META, PAGE_OVERFLOW};
use super::log::Position;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Refuses the data file at `path` unless LMDB may map it and it is a store of this format.
pub(super) fn inspect(path: &Path) -> Result<(), StoreError> {
    let fail = |fault| match fault {
        Fault::Foreign(what) => StoreError::Foreign { path: path.into(), what },
        Fault::Format(found) => StoreError::Format { path: path.into(), found },
        Fault::PageSize(found, here) => StoreError::PageSize { path: path.into(), found, here },
        Fault::Cut(found, expected) => StoreError::Cut { path: path.into(), found, expected },
        Fault::Structure(what) => StoreError::Structure { path: path.into(), what },
        Fault::Io(error) => StoreError::Disk(format!("{}: {error}", path.display())),
    };
    Inspection::begin(path).and_then(Inspection::finish).map_err(fail)
}

/// The pages of a damaged file that hold nothing of its last version; `None` if they cannot be
/// known for certain.
pub(super) fn free_pages(path: &Path) -> Option<PageSet> {
    let mut inspection = Inspection::begin(path).ok()?;
    inspection.free_pages().ok()?;
    Some(inspection.seen)
}

/// A set of pages: a bit for each that the file has room for.
pub(super) struct PageSet(Vec<u64>);

impl PageSet {
    fn new(pages: u64) -> Self {
        Self(vec![0; usize::try_from(pages / 64).unwrap_or(usize::MAX) + 1])
    }

    pub(super) fn has(&self, page: u64) -> bool {
        let word = usize::try_from(page / 64).ok().and_then(|word| self.0.get(word));
        word.is_some_and(|word| word & 1 << (page % 64) != 0)
    }

    /// Was it missing? Pages that the file has no room for always are.
    fn insert(&mut self, page: u64) -> bool {
        let word = usize::try_from(page / 64).ok().and_then(|word| self.0.get_mut(word));
        let Some(word) = word else { return true };
        let bit = 1 << (page % 64);
        let missing = *word & bit == 0;
        *word |= bit;
        missing
    }
}

enum Fault {
    Foreign(String),
    Format(u32),
    PageSize(u64, u64),
    Cut(u64, u64),
    Structure(String),
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn damaged<T>(page: u64, what: &str) -> Result<T, Fault> {
    Err(Fault::Structure(format!("page {page} is damaged: {what}")))
}

struct Inspection {
    file: File,
    len: u64,
    page_size: usize,
    meta: Meta,
    /// Those known to be used, or free.
    seen: PageSet,
}

/// What is done with key, value and flags of a record.
type Visit<'v> = dyn FnMut(&[u8], Vec<u8>, u16) -> Result<(), Fault> + 'v;

/// A walk through one tree, in the order of its keys.
struct Walk<'v> {
    order: Order,
    /// The last key seen, and the separator that the next one must not precede.
    last: Option<Vec<u8>>,
    floor: Vec<u8>,
    /// May records be trees?
    subdata: bool,
    /// Are the values wanted, or only known to be there?
    visit: Option<&'v mut Visit<'v>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Octets,
    /// Keys are 64-bit integers in the machine's order.
    Integers,
}

impl Inspection {
    /// Reads the two meta pages and settles which one is in force.
    fn begin(path: &Path) -> Result<Self, Fault> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let page_size = page_size::get();
        let metas = (meta_page(&file, 0, page_size)?, meta_page(&file, page_size, page_size)?);
        let (first, second) = match metas {
            (Ok(first), Ok(second)) => (first, second),
            (Ok(_), Err(_)) if len < 2 * page_size as u64 => {
                return Err(Fault::Cut(len, 2 * page_size as u64));
            }
            (Ok(_), Err(_)) => return damaged(1, "not a meta page like the first"),
            (Err(_), Ok(_)) => return damaged(0, "not a meta page like the second"),
            (Err(fault), Err(_)) => return Err(fault),
        };
        // Transactions write the two in turn, so that their numbers follow each other: anything
        // else would make LMDB go back to an older state, without a word.
        let (older, newer) =
            if first.txn >= second.txn { (second, first) } else { (first, second) };
        let in_turn = match newer.txn - older.txn {
            0 => newer.txn == 0,
            1 => (newer.txn % 2 == 0) == (newer.txn == first.txn),
            _ => false,
        };
        if !in_turn {
            return damaged(0, "the transactions of the two meta pages do not follow each other");
        }
        // A hole may make the file longer than its pages, a free tail shorter; never by much.
        let seen = PageSet::new(len / page_size as u64);
        Ok(Self { file, len, page_size, meta: newer, seen })
    }

    fn finish(mut self) -> Result<(), Fault> {
        let roots = self.tables()?;
        let [meta, rest @ ..] = roots;
        self.format(meta)?;
        for root in rest {
            self.walk(root, Walk::unread())?;
        }
        self.free_pages()
    }

    /// The trees of our tables, from the main tree, which holds one record for each.
    fn tables(&mut self) -> Result<[Db; TABLES.len()], Fault> {
        let mut found = [None; TABLES.len()];
        let mut others = 0;
        let mut visit = |key: &[u8], value: Vec<u8>, flags: u16| {
            match TABLES.iter().position(|name| name.as_bytes() == key) {
                Some(table) if flags == NODE_SUBDATA && value.len() == DB_LEN => {
                    found[table] = Some(Db::read(&value));
                }
                _ => others += 1,
            }
            Ok(())
        };
        let main = self.meta.main;
        self.walk(main, Walk { subdata: true, visit: Some(&mut visit), ..Walk::unread() })?;
        let missing = || Fault::Foreign("an LMDB file of another program".into());
        if found[0].is_none() {
            return Err(missing());
        }
        let mut roots = [self.meta.main; TABLES.len()];
        for ((root, found), name) in roots.iter_mut().zip(found).zip(TABLES) {
            let none = (name == BEFORE).then_some(Db::NONE);
            *root = found.or(none).ok_or_else(missing)?;
        }
        if others > 0 { Err(missing()) } else { Ok(roots) }
    }

    fn format(&mut self, meta: Db) -> Result<(), Fault> {
        let (mut format, mut next_id, mut position) = (None, None, None);
        let mut visit = |key: &[u8], value: Vec<u8>, _: u16| {
            if key == META_FORMAT {
                let value = unseal(key, &value).and_then(|mut value| format::take(&mut value));
                format = Some(value.map(u32::from_be_bytes));
            }
            if key == META_NEXT_ID {
                next_id = unseal(key, &value).map(<[u8]>::len);
            }
            if key == META_LOG {
                position = unseal(key, &value).and_then(Position::decode);
            }
            Ok(())
        };
        self.walk(meta, Walk { visit: Some(&mut visit), ..Walk::unread() })?;
        match format {
            Some(Some(FORMAT_WITHOUT_LOG..=FORMAT)) if next_id != Some(size_of::<format::Id>()) => {
                Err(Fault::Structure("the next id is damaged".into()))
            }
            Some(Some(FORMAT_WITHOUT_BEFORE..=FORMAT)) if position.is_none() => {
                Err(Fault::Structure("what is contained of the log is not known".into()))
            }
            Some(Some(FORMAT_WITHOUT_LOG..=FORMAT)) => Ok(()),
            Some(Some(other)) => Err(Fault::Format(other)),
            Some(None) => Err(Fault::Structure("the number of the format is damaged".into())),
            None => Err(Fault::Foreign("an LMDB file of another program".into())),
        }
    }

    /// The free pages are in a tree too: lists by transaction, each its length and its pages in
    /// descending order.
    fn free_pages(&mut self) -> Result<(), Fault> {
        let mut lists = Vec::new();
        let mut visit = |_: &[u8], value: Vec<u8>, _: u16| {
            lists.push(value);
            Ok(())
        };
        let walk = Walk { order: Order::Integers, visit: Some(&mut visit), ..Walk::unread() };
        let free = self.meta.free;
        self.walk(free, walk)?;
        for list in lists {
            let mut words = list.chunks_exact(8).map(|word| word64(word, 0));
            let count = usize::try_from(words.next().unwrap_or(0)).unwrap_or(usize::MAX);
            if count >= list.len() / 8 {
                return damaged(self.meta.free.root, "a list of free pages is too long");
            }
            let mut above = NO_PAGE;
            for page in words.take(count) {
                if page >= above || page < 2 || page > self.meta.last_page {
                    return damaged(self.meta.free.root, "a list of free pages has no order");
                }
                above = page;
                self.see(page..page + 1)?;
            }
        }
        Ok(())
    }

    fn walk(&mut self, db: Db, mut walk: Walk<'_>) -> Result<(), Fault> {
        if db.flags != walk.order.flags() {
            return damaged(db.root, "the root of a tree of another kind");
        }
        match (db.root, db.depth) {
            (NO_PAGE, 0) => Ok(()),
            (root, 0) => damaged(root, "the root of a tree without depth"),
            (root, DEPTH_MAX..) => damaged(root, "the root of a tree that is too deep"),
            (root, depth) => self.page(root, depth, &mut walk),
        }
    }

    /// The page that is the root of a subtree of `depth` levels.
    fn page(&mut self, at: u64, depth: u16, walk: &mut Walk<'_>) -> Result<(), Fault> {
        self.see(at..at + 1)?;
        let page = self.read(at, self.page_size)?;
        let kind = if depth == 1 { PAGE_LEAF } else { PAGE_BRANCH };
        if word64(&page, 0) != at || word16(&page, 10) != kind {
            return damaged(at, "not the page that its parent says");
        }
        let nodes = nodes(&page, kind).ok_or(()).or_else(|()| damaged(at, "no sound nodes"))?;
        if depth > 1 && nodes.len() < 2 {
            return damaged(at, "a branch without branches");
        }
        for (n, node) in nodes.iter().enumerate() {
            let key = &page[node.key.clone()];
            if walk.order == Order::Integers && key.len() != 8 && (kind == PAGE_LEAF || n > 0) {
                return damaged(at, "a key of the wrong length");
            }
            if kind == PAGE_LEAF {
                self.leaf(at, &page, node, walk)?;
                continue;
            }
            if n > 0 {
                if !walk.last.as_ref().is_some_and(|last| walk.order.precedes(last, key)) {
                    return damaged(at, "a separator that does not separate");
                }
                walk.floor.clear();
                walk.floor.extend_from_slice(key);
            }
            self.page(node.child, depth - 1, walk)?;
        }
        Ok(())
    }

    /// One record.
    fn leaf(
        &mut self,
        at: u64,
        page: &[u8],
        node: &Node,
        walk: &mut Walk<'_>,
    ) -> Result<(), Fault> {
        let key = &page[node.key.clone()];
        let ascends = walk.last.as_ref().is_none_or(|last| walk.order.precedes(last, key));
        let within = walk.floor.is_empty() || !walk.order.precedes(key, &walk.floor);
        if key.is_empty() || !ascends || !within {
            return damaged(at, "a key out of order");
        }
        let last = walk.last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
        let value = match node.flags {
            NODE_BIG => {
                self.overflow(word64(&page[node.data.clone()], 0), node.len, walk.visit.is_some())?
            }
            NODE_SUBDATA if !walk.subdata => return damaged(at, "a tree within a table"),
            0 | NODE_SUBDATA if walk.visit.is_none() => Vec::new(),
            0 | NODE_SUBDATA => page[node.data.clone()].to_vec(),
            _ => return damaged(at, "a record of an unknown kind"),
        };
        walk.visit.as_mut().map_or(Ok(()), |visit| visit(key, value, node.flags))
    }

    /// A value in pages of its own; read only if it is wanted.
    fn overflow(&mut self, at: u64, len: usize, wanted: bool) -> Result<Vec<u8>, Fault> {
        let pages = (HEADER - 1 + len) / self.page_size + 1;
        self.see(at..at.saturating_add(pages as u64))?;
        let run = self.read(at, if wanted { HEADER + len } else { HEADER })?;
        let sound = word64(&run, 0) == at
            && word16(&run, 10) == PAGE_OVERFLOW
            && word32(&run, 12) as usize == pages;
        if sound { Ok(run[HEADER..].to_vec()) } else { damaged(at, "not a large value") }
    }

    /// Takes note of pages that are in use: each within the file, each once.
    fn see(&mut self, pages: Range<u64>) -> Result<(), Fault> {
        if pages.start < 2 || pages.end > self.meta.last_page.saturating_add(1) {
            return damaged(pages.start, "a page number out of bounds");
        }
        for page in pages {
            // Free pages may lie behind the end of the file, used ones are found missing by `read`.
            if !self.seen.insert(page) {
                return damaged(page, "used twice");
            }
        }
        Ok(())
    }

    fn read(&self, page: u64, len: usize) -> Result<Vec<u8>, Fault> {
        let start = page.saturating_mul(self.page_size as u64);
        let end = (start + len as u64).next_multiple_of(self.page_size as u64);
        if end > self.len {
            return Err(Fault::Cut(self.len, end));
        }
        let mut bytes = vec![0; len];
        match self.file.read_exact_at(&mut bytes, start) {
            Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                damaged(page, "it cannot be read")
            }
            read => Ok(read.map(|()| bytes)?),
        }
    }
}

/// The meta page at `at`, or why it is none of this machine's LMDB.
fn meta_page(file: &File, at: usize, page_size: usize) -> io::Result<Result<Meta, Fault>> {
    let mut page = [0; META_LEN];
    match file.read_exact_at(&mut page, at as u64) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Ok(Err(Fault::Foreign("it is too short".into())));
        }
        Err(error) if error.raw_os_error() == Some(libc::EIO) => {
            return Ok(Err(Fault::Foreign("its beginning cannot be read".into())));
        }
        Err(error) => return Err(error),
    }
    if word16(&page, 10) & PAGE_META == 0 || word32(&page, 16) != MAGIC {
        return Ok(Err(Fault::Foreign("it is not an LMDB file".into())));
    }
    let (version, found) = (word32(&page, 20), u64::from(word32(&page, 40)));
    if version != DATA_VERSION {
        return Ok(Err(Fault::Format(version)));
    }
    if found != page_size as u64 {
        return Ok(Err(Fault::PageSize(found, page_size as u64)));
    }
    Ok(Ok(Meta::read(&page)))
}

impl Walk<'_> {
    fn unread() -> Self {
        Self { order: Order::Octets, last: None, floor: Vec::new(), subdata: false, visit: None }
    }
}

impl Order {
    /// What LMDB calls the order.
    fn flags(self) -> u16 {
        match self {
            Self::Octets => 0,
            Self::Integers => 0x08,
        }
    }

    fn precedes(self, a: &[u8], b: &[u8]) -> bool {
        match self {
            Self::Octets => a < b,
            Self::Integers => word64(a, 0) < word64(b, 0),
        }
    }
}
