//! A zone from its records, in any order.
//!
//! Records whose owners come in order, as most primaries send them, become pages of the tree while
//! the rest is still on its way: there is never a second copy of them. Others are collected, sorted,
//! and put in between at the end, at the cost of a second tree.

use super::node::{pack_set, split_type};
use super::nsec3::{ITERATIONS_MAX, Nsec3, excessive};
use super::{Node, Record, Soa, Zone};
use crate::name::{Key, Name, NameBuf};
use crate::tree::{Draft, Tree};
use crate::wire::{Rtype, Serial, layout, read_u16, read_u32, same_data};
use std::cmp::Ordering;
use std::sync::Arc;

/// Why records make no zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// No SOA at the apex.
    #[error("there is no SOA record at the zone's apex")]
    NoSoa,
    /// More than one.
    #[error("there is more than one SOA record at the zone's apex")]
    ManySoas,
    /// Hashing names for it would take too long.
    #[error(
        "there is NSEC3 with {0} iterations; more than {max} are refused (RFC 9276)",
        max = ITERATIONS_MAX
    )]
    Iterations(u16),
    /// What the store kept is not in the form that it must have.
    #[error("the stored records are damaged")]
    Damaged,
}

/// The only mutable zone: records come in, a [`Zone`] comes out.
pub struct Builder {
    apex: NameBuf,
    labels: usize,
    names: Run,
    hashes: Run,
    outside: u64,
    excessive: Option<u16>,
}

impl Builder {
    /// An empty zone.
    pub fn new(apex: Name<'_>) -> Self {
        Self {
            apex: apex.to_owned(),
            labels: apex.label_count(),
            names: Run::new(Cuts::of_names()),
            hashes: Run::new(Cuts::of_hashes()),
            outside: 0,
            excessive: None,
        }
    }

    /// Adds a record; its data are uncompressed and of the type's form. `false`: its owner is
    /// not in the zone (or, for NSEC3, not where RFC 5155 section 3 puts it), and it is dropped
    /// and counted.
    pub fn add(&mut self, owner: Name<'_>, record: Record<'_>) -> bool {
        let key = Key::of(owner, self.labels);
        let of_hashes = belongs_to_hashes(record);
        let inside = owner.is_at_or_below(self.apex.as_name());
        if !inside || (of_hashes && !is_one_label(&key)) {
            self.outside += 1;
            return false;
        }
        self.excessive = self.excessive.or_else(|| excessive(record));
        let run = if of_hashes { &mut self.hashes } else { &mut self.names };
        run.push(key.as_bytes(), record);
        true
    }

    /// How many records were dropped because they are not in the zone.
    pub fn outside(&self) -> u64 {
        self.outside
    }

    /// How many octets the records had that are held: what a limit on a transfer's size counts.
    pub fn octets(&self) -> usize {
        self.names.octets + self.hashes.octets
    }

    /// The zone.
    pub fn build(self) -> Result<Zone, BuildError> {
        if let Some(iterations) = self.excessive {
            return Err(BuildError::Iterations(iterations));
        }
        let (names, in_names) = self.names.finish();
        let (hashes, in_hashes) = self.hashes.finish();
        Zone::settled(self.apex, names, hashes, in_names + in_hashes)
    }
}

impl Zone {
    /// The zone of these trees, if there is an SOA.
    pub(super) fn settled(
        apex: NameBuf,
        names: Tree,
        hashes: Tree,
        records: u64,
    ) -> Result<Self, BuildError> {
        let labels = apex.as_name().label_count();
        let soa = Soa { serial: Serial(0), refresh: 0, retry: 0, expire: 0, minimum: 0, ttl: 0 };
        let (nsec3, empties) = (None, Tree::default());
        let (apex_renames, soa_names) = (false, None);
        let mut zone = Self {
            apex,
            labels,
            names,
            hashes,
            nsec3,
            empties,
            soa,
            soa_names,
            records,
            apex_renames,
        };
        zone.settle()?;
        if let Some(nsec3) = Nsec3::of(zone.apex(), zone.apex_node()) {
            // Also what was stored before there was a limit.
            zone.nsec3 = Some(Arc::new(nsec3));
            if zone.nsec3_iterations() > ITERATIONS_MAX {
                return Err(BuildError::Iterations(zone.nsec3_iterations()));
            }
            zone.hash_all();
        }
        Ok(zone)
    }
}

/// What goes before the key of an entry of [`Zone::hashes`] when it is kept: no other key begins
/// with it, and they all come behind the apex and before the other names.
pub(super) const HASHES: u8 = 0;

/// Is the owner a child of the apex?
pub(super) fn is_one_label(key: &Key) -> bool {
    key.as_bytes()
        .iter()
        .position(|&byte| byte == 0)
        .is_some_and(|end| end + 1 == key.as_bytes().len())
}

/// Is this an NSEC3 record or the signature of one?
pub(super) fn belongs_to_hashes(record: Record<'_>) -> bool {
    split_type(record).0 == Rtype::NSEC3
}

/// Does a node with this set, below the apex, hide what is below it?
pub(super) fn is_barrier(rtype: Rtype) -> bool {
    rtype == Rtype::NS || rtype == Rtype::DNAME
}

/// The topmost cut or DNAME at or above each of the names that come, in order.
pub(super) struct Cuts {
    /// The key of the one at or above the last name; empty: there is none.
    top: Vec<u8>,
    /// Can there be any?
    any: bool,
}

impl Cuts {
    /// Of ordinary names.
    pub(super) fn of_names() -> Self {
        Self { top: Vec::new(), any: true }
    }

    /// Of owners of NSEC3 records, which are below none.
    pub(super) fn of_hashes() -> Self {
        Self { top: Vec::new(), any: false }
    }

    /// The same from the first name on.
    fn anew(&self) -> Self {
        Self { top: Vec::new(), any: self.any }
    }

    /// What comes next is below the name with this key, which is such a cut: the first name that
    /// comes need not be the first of the zone.
    pub(super) fn begin_below(&mut self, key: &[u8]) {
        if self.any {
            self.top.extend_from_slice(key);
        }
    }

    /// The length of the key of the one above `key`, which comes next, or 0.
    pub(super) fn before(&self, key: &[u8]) -> usize {
        if key.starts_with(&self.top) { self.top.len() } else { 0 }
    }

    /// The length of its key, for the name that comes next and has this node.
    pub(super) fn above(&mut self, key: &[u8], node: Node<'_>) -> usize {
        if self.any && (self.top.is_empty() || !key.starts_with(&self.top)) {
            self.top.clear();
            if node.sets().any(|set| is_barrier(set.rtype()) && !set.is_signatures()) {
                self.top.extend_from_slice(key);
            }
        }
        self.top.len()
    }
}

/// The records of one of the zone's trees. Those that come in the order of their owners, as most
/// primaries send them, become pages at once; the others wait for the end.
struct Run {
    laid: Laid,
    /// Records of one owner, which is behind all those that are laid.
    owner: Heap,
    /// Records of owners that should have come before.
    late: Heap,
    octets: usize,
}

impl Run {
    fn new(cuts: Cuts) -> Self {
        Self { laid: Laid::new(cuts), owner: Heap::default(), late: Heap::default(), octets: 0 }
    }

    fn push(&mut self, key: &[u8], record: Record<'_>) {
        self.octets += HEAP_FIXED + key.len() + record.data.len();
        match self.owner.key(0).map_or(Ordering::Equal, |owner| key.cmp(owner)) {
            Ordering::Less => return self.late.push(key, record),
            Ordering::Equal => {}
            Ordering::Greater => self.turn(),
        }
        self.owner.push(key, record);
    }

    /// Lays the owner whose records are complete.
    fn turn(&mut self) {
        self.owner.sort();
        self.laid.lay(&self.owner, 0);
        self.owner.clear();
    }

    /// The tree, and how many records are in it.
    fn finish(mut self) -> (Tree, u64) {
        if self.owner.key(0).is_some() {
            self.turn();
        }
        if self.late.key(0).is_none() {
            return (self.laid.draft.finish(), self.laid.records);
        }
        let Self { laid, mut owner, mut late, .. } = self;
        late.sort();
        let mut all = Laid::new(laid.cuts.anew());
        let early = laid.draft.finish();
        let mut at = 0;
        for entry in early.iter() {
            let key = entry.key.to_key();
            let key = key.as_bytes();
            while late.key(at).is_some_and(|late| late < key) {
                at = all.lay(&late, at);
            }
            if late.key(at) == Some(key) {
                owner.clear();
                owner.push_node(key, Node::of(entry.blob));
                at = owner.push_owner(&late, at);
                owner.sort();
                all.lay(&owner, 0);
            } else {
                all.lay_node(key, entry.blob);
            }
        }
        while late.key(at).is_some() {
            at = all.lay(&late, at);
        }
        (all.draft.finish(), all.records)
    }
}

/// Nodes in the order of their keys, each marked with the cut above it.
struct Laid {
    draft: Draft,
    cuts: Cuts,
    records: u64,
    /// The node being packed, and where its records are in their heap.
    blob: Vec<u8>,
    set: Vec<usize>,
}

impl Laid {
    fn new(cuts: Cuts) -> Self {
        let (draft, blob, set) = (Draft::default(), Vec::new(), Vec::new());
        Self { draft, cuts, records: 0, blob, set }
    }

    /// Lays the owner that the sorted records from `at` on begin with. Where the next one's begin.
    fn lay(&mut self, heap: &Heap, at: usize) -> usize {
        let key = heap.key(at).expect("there is an owner");
        let (mut blob, mut next) = (std::mem::take(&mut self.blob), at);
        blob.clear();
        blob.push(0);
        while heap.key(next) == Some(key) {
            next = heap.pack_set(next, &mut self.set, &mut blob);
        }
        self.blob = blob;
        self.mark(key);
        next
    }

    /// Lays an owner that has this node.
    fn lay_node(&mut self, key: &[u8], node: &[u8]) {
        self.blob.clear();
        self.blob.extend_from_slice(node);
        self.mark(key);
    }

    fn mark(&mut self, key: &[u8]) {
        let node = Node::of(&self.blob);
        self.records += node.records() as u64;
        #[expect(clippy::cast_possible_truncation, reason = "a key has 254 octets at most")]
        let cut = self.cuts.above(key, node) as u8;
        self.blob[0] = cut;
        self.draft.push(key, &self.blob, ());
    }
}

/// Records one behind the other: key length, key, type, TTL, data length, data.
#[derive(Default)]
struct Heap {
    octets: Vec<u8>,
    starts: Vec<usize>,
}

/// What a record takes besides key and data.
const HEAP_FIXED: usize = 9;

#[derive(Clone, Copy)]
struct Item<'h> {
    key: &'h [u8],
    record: Record<'h>,
    rtype: Rtype,
    signature: bool,
}

impl Item<'_> {
    /// Are the two of one set?
    fn is_with(self, other: Self) -> bool {
        (self.rtype, self.signature) == (other.rtype, other.signature) && self.key == other.key
    }
}

impl Heap {
    fn push(&mut self, key: &[u8], record: Record<'_>) {
        self.starts.push(self.octets.len());
        #[expect(clippy::cast_possible_truncation, reason = "a key has 254 octets at most")]
        self.octets.push(key.len() as u8);
        self.octets.extend_from_slice(key);
        self.octets.extend_from_slice(&record.rtype.0.to_be_bytes());
        self.octets.extend_from_slice(&record.ttl.to_be_bytes());
        #[expect(clippy::cast_possible_truncation, reason = "it came with a 16-bit length")]
        self.octets.extend_from_slice(&(record.data.len() as u16).to_be_bytes());
        self.octets.extend_from_slice(record.data);
    }

    /// Adds the records of a node.
    fn push_node(&mut self, key: &[u8], node: Node<'_>) {
        for set in node.sets() {
            let (rtype, ttl) = (set.data_type(), set.ttl());
            set.iter().for_each(|data| self.push(key, Record { rtype, ttl, data }));
        }
    }

    /// Adds the records of the owner that those of `from` at `at` begin with, in the order in
    /// which they came. Where the next one's begin.
    fn push_owner(&mut self, from: &Self, at: usize) -> usize {
        let key = from.key(at).expect("there is an owner");
        let count = (at..).take_while(|&at| from.key(at) == Some(key)).count();
        let mut starts = from.starts[at..at + count].to_vec();
        starts.sort_unstable();
        for start in starts {
            self.push(key, from.item(start).record);
        }
        at + count
    }

    fn clear(&mut self) {
        self.octets.clear();
        self.starts.clear();
    }

    /// The key of record `at`, if there are that many.
    fn key(&self, at: usize) -> Option<&[u8]> {
        let &start = self.starts.get(at)?;
        Some(&self.octets[start + 1..][..usize::from(self.octets[start])])
    }

    fn item(&self, start: usize) -> Item<'_> {
        let key = &self.octets[start + 1..][..usize::from(self.octets[start])];
        let rest = &self.octets[start + 1 + key.len()..];
        let len = usize::from(read_u16(rest, 6).expect("pushed whole"));
        let record = Record {
            rtype: Rtype(read_u16(rest, 0).expect("pushed whole")),
            ttl: read_u32(rest, 2).expect("pushed whole"),
            data: &rest[8..8 + len],
        };
        let (rtype, signature) = split_type(record);
        Item { key, record, rtype, signature }
    }

    /// By owner, set and data.
    fn sort(&mut self) {
        if self.starts.len() > 1 {
            let mut starts = std::mem::take(&mut self.starts);
            starts.sort_by(|&a, &b| in_order(self.item(a), self.item(b)));
            self.starts = starts;
        }
    }

    /// Packs the set that the sorted records from `at` on begin with, duplicates dropped. All of
    /// its records have one TTL: that of the record sent last. Where the next set begins. `set`
    /// is room to work in.
    fn pack_set(&self, at: usize, set: &mut Vec<usize>, blob: &mut Vec<u8>) -> usize {
        set.clear();
        let first = self.item(self.starts[at]);
        let (mut next, mut latest) = (at, (0, 0));
        while let Some(&start) = self.starts.get(next) {
            let item = self.item(start);
            if !item.is_with(first) {
                break;
            }
            next += 1;
            latest = latest.max((start, item.record.ttl));
            // Equal but for case means neighbours in the order of sorting.
            let data = |&start: &usize| self.item(start).record.data;
            let near = set.iter().rev().map(data);
            let mut near = near.take_while(|data| data.eq_ignore_ascii_case(item.record.data));
            if !near.any(|data| same_data(item.record.rtype, data, item.record.data)) {
                set.push(start);
            }
        }
        let data = set.iter().map(|&start| self.item(start).record.data);
        pack_set(blob, first.rtype, first.signature, latest.1, data);
        next
    }
}

fn in_order(a: Item<'_>, b: Item<'_>) -> Ordering {
    let by_set = || (a.rtype, a.signature).cmp(&(b.rtype, b.signature));
    let by_data = || {
        if layout(a.record.rtype).is_empty() {
            return a.record.data.cmp(b.record.data);
        }
        let (a, b) = (a.record.data.iter(), b.record.data.iter());
        a.map(u8::to_ascii_lowercase).cmp(b.map(u8::to_ascii_lowercase))
    };
    a.key.cmp(b.key).then_with(by_set).then_with(by_data)
}
