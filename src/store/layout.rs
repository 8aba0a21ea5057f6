//! Where things lie in LMDB's file: data version 1 on a 64-bit machine (`MDB_meta`, `MDB_page`,
//! `MDB_node` in its mdb.c), integers in the machine's order.
//!
//! **How it fits.** `inspect` and `salvage` read the file with it; LMDB itself is asked only about
//! files that passed.

use std::ops::Range;

pub(super) const MAGIC: u32 = 0xbeef_c0de;
pub(super) const DATA_VERSION: u32 = 1;
pub(super) const META_LEN: usize = 152;
pub(super) const HEADER: usize = 16;
pub(super) const NODE_HEADER: usize = 8;
pub(super) const DB_LEN: usize = 48;
pub(super) const DEPTH_MAX: u16 = 32;
pub(super) const NO_PAGE: u64 = u64::MAX;

pub(super) const PAGE_BRANCH: u16 = 0x01;
pub(super) const PAGE_LEAF: u16 = 0x02;
pub(super) const PAGE_OVERFLOW: u16 = 0x04;
pub(super) const PAGE_META: u16 = 0x08;
pub(super) const NODE_BIG: u16 = 0x01;
pub(super) const NODE_SUBDATA: u16 = 0x02;

#[derive(Clone, Copy)]
pub(super) struct Meta {
    pub(super) free: Db,
    pub(super) main: Db,
    pub(super) last_page: u64,
    pub(super) txn: u64,
}

/// What LMDB keeps of a tree.
#[derive(Clone, Copy)]
pub(super) struct Db {
    pub(super) flags: u16,
    pub(super) depth: u16,
    pub(super) root: u64,
}

impl Meta {
    pub(super) fn read(page: &[u8; META_LEN]) -> Self {
        Self {
            free: Db::read(&page[40..88]),
            main: Db::read(&page[88..136]),
            last_page: word64(page, 136),
            txn: word64(page, 144),
        }
    }
}

impl Db {
    /// A tree that does not exist: as good as one without records.
    pub(super) const NONE: Self = Self { flags: 0, depth: 0, root: NO_PAGE };

    pub(super) fn read(bytes: &[u8]) -> Self {
        Self { flags: word16(bytes, 4), depth: word16(bytes, 6), root: word64(bytes, 40) }
    }
}

/// A node of a page whose parts lie within it.
pub(super) struct Node {
    pub(super) key: Range<usize>,
    /// A leaf's value, or the number of the page it begins in.
    pub(super) data: Range<usize>,
    pub(super) flags: u16,
    pub(super) len: usize,
    /// A branch's child.
    pub(super) child: u64,
}

/// What may be records of a page that may be a leaf: key, flags, length of the value, and the
/// value or the number of the page it begins in. Only a crc can tell whether one is.
pub(super) fn possible_records(page: &[u8]) -> impl Iterator<Item = (&[u8], u16, usize, &[u8])> {
    let lower = usize::from(word16(page, 12)).min(page.len()) & !1;
    (HEADER..lower).step_by(2).filter_map(|slot| {
        let node = page.get(usize::from(word16(page, slot))..)?;
        let (header, rest) = node.split_at_checked(NODE_HEADER)?;
        let (key, rest) = rest.split_at_checked(usize::from(word16(header, 6)))?;
        let flags = word16(header, 4);
        let len = usize::from(word16(header, 0)) | usize::from(word16(header, 2)) << 16;
        let inline = if flags & NODE_BIG == 0 { len } else { 8 };
        Some((key, flags, len, rest.get(..inline)?))
    })
}

/// The nodes of a page; `None` unless they fill it exactly.
pub(super) fn nodes(page: &[u8], kind: u16) -> Option<Vec<Node>> {
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

pub(super) fn word16(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes(bytes[at..at + 2].try_into().expect("two octets"))
}

pub(super) fn word32(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four octets"))
}

pub(super) fn word64(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight octets"))
}
