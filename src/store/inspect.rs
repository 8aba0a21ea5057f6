//! Is the data file whole? Asked with ordinary reads, before LMDB maps it.
//!
//! **How it fits.** LMDB trusts its file: a page number beyond the end is a SIGBUS, a bad length a
//! crash or worse. So `load` has the file inspected first, and refuses it by name. What the crc of
//! a value can find is not looked for here: contents of chunks are not read.
//!
//! **Invariants**, all of a file that passes:
//! - *complete*: every page in use lies within the file.
//! - *once*: no page is used twice, nor both used and free.
//! - *sound*: every page is what its parent says, its nodes tile it exactly, its keys ascend and
//!   lie between the separators above it.
//!
//! The layout is LMDB's data version 1 on a 64-bit machine (`MDB_meta`, `MDB_page`, `MDB_node` in
//! its mdb.c), integers in the machine's order.

use super::StoreError;
use super::format::{self, FORMAT, META_FORMAT, TABLES, unseal};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: u32 = 0xbeef_c0de;
const DATA_VERSION: u32 = 1;
const META_LEN: usize = 152;
const HEADER: usize = 16;
const NODE_HEADER: usize = 8;
const DB_LEN: usize = 48;
const DEPTH_MAX: u16 = 32;
const NO_PAGE: u64 = u64::MAX;

const PAGE_BRANCH: u16 = 0x01;
const PAGE_LEAF: u16 = 0x02;
const PAGE_OVERFLOW: u16 = 0x04;
const PAGE_META: u16 = 0x08;
const NODE_BIG: u16 = 0x01;
const NODE_SUBDATA: u16 = 0x02;

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
    /// One bit a page: is it known to be used, or free?
    seen: Vec<u64>,
}

#[derive(Clone, Copy)]
struct Meta {
    free: Db,
    main: Db,
    last_page: u64,
    txn: u64,
}

/// What LMDB keeps of a tree.
#[derive(Clone, Copy)]
struct Db {
    flags: u16,
    depth: u16,
    root: u64,
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
        let mut head = [0; META_LEN];
        if len < META_LEN as u64 {
            return Err(Fault::Foreign(format!("it has only {len} octets")));
        }
        file.read_exact_at(&mut head, 0)?;
        if word16(&head, 10) & PAGE_META == 0 || word32(&head, 16) != MAGIC {
            return Err(Fault::Foreign("it is not an LMDB file".into()));
        }
        if word32(&head, 20) != DATA_VERSION {
            let version = word32(&head, 20);
            return Err(Fault::Foreign(format!("its LMDB data version is {version}")));
        }
        let (found, here) = (u64::from(word32(&head, 40)), page_size::get());
        if found != here as u64 {
            return Err(Fault::PageSize(found, here as u64));
        }
        if len < 2 * found {
            return Err(Fault::Cut(len, 2 * found));
        }
        let mut other = [0; META_LEN];
        file.read_exact_at(&mut other, found)?;
        let same = word32(&other, 16) == MAGIC && word32(&other, 20) == DATA_VERSION;
        if !same || word16(&other, 10) & PAGE_META == 0 || word32(&other, 40) != word32(&head, 40) {
            return damaged(1, "not a meta page like the first");
        }
        let (first, second) = (Meta::read(&head), Meta::read(&other));
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
        let pages = usize::try_from(len / found).unwrap_or(usize::MAX);
        let seen = vec![0; pages / 64 + 1];
        Ok(Self { file, len, page_size: here, meta: newer, seen })
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
        for (root, found) in roots.iter_mut().zip(found) {
            *root = found.ok_or_else(missing)?;
        }
        if others > 0 { Err(missing()) } else { Ok(roots) }
    }

    fn format(&mut self, meta: Db) -> Result<(), Fault> {
        let mut format = None;
        let mut visit = |key: &[u8], value: Vec<u8>, _: u16| {
            if key == META_FORMAT {
                let value = unseal(key, &value).and_then(|mut value| format::take(&mut value));
                format = Some(value.map(u32::from_be_bytes));
            }
            Ok(())
        };
        self.walk(meta, Walk { visit: Some(&mut visit), ..Walk::unread() })?;
        match format {
            Some(Some(FORMAT)) => Ok(()),
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
            if count > list.len() / 8 - 1 {
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
            let word = usize::try_from(page / 64).unwrap_or(usize::MAX);
            // Free pages may lie behind the end of the file, used ones are found missing by `read`.
            if word >= self.seen.len() {
                continue;
            }
            let bit = 1 << (page % 64);
            if self.seen[word] & bit != 0 {
                return damaged(page, "used twice");
            }
            self.seen[word] |= bit;
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
        self.file.read_exact_at(&mut bytes, start)?;
        Ok(bytes)
    }
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

impl Meta {
    fn read(page: &[u8; META_LEN]) -> Self {
        Self {
            free: Db::read(&page[40..88]),
            main: Db::read(&page[88..136]),
            last_page: word64(page, 136),
            txn: word64(page, 144),
        }
    }
}

impl Db {
    fn read(bytes: &[u8]) -> Self {
        Self { flags: word16(bytes, 4), depth: word16(bytes, 6), root: word64(bytes, 40) }
    }
}

/// A node of a page whose parts lie within it.
struct Node {
    key: Range<usize>,
    /// A leaf's value, or the number of the page it begins in.
    data: Range<usize>,
    flags: u16,
    len: usize,
    /// A branch's child.
    child: u64,
}

/// The nodes of a page; `None` unless they fill it exactly.
fn nodes(page: &[u8], kind: u16) -> Option<Vec<Node>> {
    let (lower, upper) = (usize::from(word16(page, 12)), usize::from(word16(page, 14)));
    if lower <= HEADER || lower % 2 != 0 || lower > upper || upper > page.len() {
        return None;
    }
    let mut nodes = Vec::with_capacity((lower - HEADER) / 2);
    let mut places = Vec::with_capacity(nodes.capacity());
    for slot in (HEADER..lower).step_by(2) {
        let start = usize::from(word16(page, slot));
        if start < upper || start % 2 != 0 || start + NODE_HEADER > page.len() {
            return None;
        }
        let (low, high) = (word16(page, start), word16(page, start + 2));
        let (flags, key_len) = (word16(page, start + 4), usize::from(word16(page, start + 6)));
        let key = start + NODE_HEADER..start + NODE_HEADER + key_len;
        let len = usize::from(low) | usize::from(high) << 16;
        let inline = match (kind, flags) {
            (PAGE_BRANCH, _) => 0,
            (_, NODE_BIG) => 8,
            _ => len,
        };
        let data = key.end..key.end + inline;
        if data.end > page.len() {
            return None;
        }
        let child = u64::from(low) | u64::from(high) << 16 | u64::from(flags) << 32;
        places.push((start, data.end.next_multiple_of(2)));
        nodes.push(Node { key, data, flags, len, child });
    }
    places.sort_unstable();
    let mut end = upper;
    for (start, next) in places {
        if start != end {
            return None;
        }
        end = next;
    }
    (end == page.len()).then_some(nodes)
}

fn word16(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes(bytes[at..at + 2].try_into().expect("two octets"))
}

fn word32(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four octets"))
}

fn word64(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight octets"))
}
