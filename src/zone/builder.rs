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
    /// The owner of the last record that was inside, and its key.
    owner: Vec<u8>,
    key: Vec<u8>,
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
            owner: apex.as_wire().to_vec(),
            key: Vec::new(),
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
        let of_hashes = belongs_to_hashes(record);
        if !self.enter(owner) || (of_hashes && !is_one_label(&self.key)) {
            self.outside += 1;
            return false;
        }
        self.excessive = self.excessive.or_else(|| excessive(record));
        let run = if of_hashes { &mut self.hashes } else { &mut self.names };
        run.push(&self.key, record);
        true
    }

    /// Makes this the owner, if it is in the zone.
    fn enter(&mut self, owner: Name<'_>) -> bool {
        if owner.as_wire() == self.owner {
            return true;
        }
        if !owner.is_at_or_below(self.apex.as_name()) {
            return false;
        }
        self.owner.clear();
        self.owner.extend_from_slice(owner.as_wire());
        self.key.clear();
        self.key.extend_from_slice(Key::below(owner, self.apex.as_name()).as_bytes());
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

    /// Have all records come in order so far, so that what is [`final_pages`](Self::final_pages)
    /// is what the zone's [`kept`](Zone::kept) entries begin with?
    pub fn is_in_order(&self) -> bool {
        let hashes = &self.hashes;
        let no_hashes = hashes.owner.records.is_empty() && hashes.laid.records == 0;
        no_hashes && self.names.late.key(0).is_none()
    }

    /// How many pages of entries are as they will be if all goes on to come in order.
    pub fn final_pages(&self) -> usize {
        self.names.laid.draft.pages()
    }

    /// Calls `each` with key and blob of the entries of one of them.
    pub fn final_page(&self, at: usize, mut each: impl FnMut(&[u8], &[u8])) {
        let mut key = [0; Key::MAX];
        for entry in self.names.laid.draft.page(at) {
            entry.key.copy_octets(&mut key);
            each(&key[..entry.key.len()], entry.blob);
        }
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
pub(super) fn is_one_label(key: &[u8]) -> bool {
    key.iter().position(|&byte| byte == 0).is_some_and(|end| end + 1 == key.len())
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
    /// Behind all those that are laid.
    owner: Owner,
    /// Records of owners that should have come before.
    late: Heap,
    octets: usize,
}

impl Run {
    fn new(cuts: Cuts) -> Self {
        Self { laid: Laid::new(cuts), owner: Owner::default(), late: Heap::default(), octets: 0 }
    }

    fn push(&mut self, key: &[u8], record: Record<'_>) {
        self.octets += HEAP_FIXED + key.len() + record.data.len();
        if !self.owner.records.is_empty() {
            match key.cmp(&self.owner.key) {
                Ordering::Less => return self.late.push(key, record),
                Ordering::Equal => return self.owner.push(record),
                Ordering::Greater => self.laid.lay(&mut self.owner),
            }
        }
        self.owner.begin(key);
        self.owner.push(record);
    }

    /// The tree, and how many records are in it.
    fn finish(self) -> (Tree, u64) {
        let Self { mut laid, mut owner, mut late, .. } = self;
        if !owner.records.is_empty() {
            laid.lay(&mut owner);
        }
        if late.key(0).is_none() {
            return (laid.draft.finish(), laid.records);
        }
        late.sort();
        let mut all = Laid::new(laid.cuts.anew());
        let early = laid.draft.finish();
        let mut at = 0;
        for entry in early.iter() {
            let key = entry.key.to_key();
            let key = key.as_bytes();
            while late.key(at).is_some_and(|late| late < key) {
                at = all.lay_late(&late, at, &mut owner);
            }
            if late.key(at) == Some(key) {
                owner.begin(key);
                owner.push_node(Node::of(entry.blob));
                at = late.give(at, &mut owner);
                all.lay(&mut owner);
            } else {
                all.lay_node(key, entry.blob);
            }
        }
        while late.key(at).is_some() {
            at = all.lay_late(&late, at, &mut owner);
        }
        (all.draft.finish(), all.records)
    }
}

/// Nodes in the order of their keys, each marked with the cut above it.
struct Laid {
    draft: Draft,
    cuts: Cuts,
    records: u64,
    /// The node being packed.
    blob: Vec<u8>,
}

impl Laid {
    fn new(cuts: Cuts) -> Self {
        Self { draft: Draft::default(), cuts, records: 0, blob: Vec::new() }
    }

    /// Lays an owner whose records are complete.
    fn lay(&mut self, owner: &mut Owner) {
        owner.settle();
        self.blob.clear();
        self.blob.push(0);
        owner.pack(&mut self.blob);
        self.mark(&owner.key, owner.records.len());
    }

    /// Lays the owner that the sorted records of `late` from `at` on begin with. Where the next
    /// one's begin. `owner` is room to work in.
    fn lay_late(&mut self, late: &Heap, at: usize, owner: &mut Owner) -> usize {
        owner.begin(late.key(at).expect("there is an owner"));
        let next = late.give(at, owner);
        self.lay(owner);
        next
    }

    /// Lays an owner that has this node.
    fn lay_node(&mut self, key: &[u8], node: &[u8]) {
        self.blob.clear();
        self.blob.extend_from_slice(node);
        self.mark(key, Node::of(node).records());
    }

    fn mark(&mut self, key: &[u8], records: usize) {
        self.records += records as u64;
        #[expect(clippy::cast_possible_truncation, reason = "a key has 254 octets at most")]
        let cut = self.cuts.above(key, Node::of(&self.blob)) as u8;
        self.blob[0] = cut;
        self.draft.push(key, &self.blob, ());
    }
}

/// The records of one owner.
#[derive(Default)]
struct Owner {
    key: Vec<u8>,
    /// In the order in which they came, or settled.
    records: Vec<Held>,
    /// The data of all of them.
    data: Vec<u8>,
}

/// A record of an owner.
#[derive(Clone, Copy)]
struct Held {
    rtype: Rtype,
    signature: bool,
    ttl: u32,
    /// Where its data begin and end: behind those of the records that came before.
    start: usize,
    end: usize,
}

impl Held {
    fn set(&self) -> (Rtype, bool) {
        (self.rtype, self.signature)
    }

    /// The type that the record itself has.
    fn data_type(&self) -> Rtype {
        if self.signature { Rtype::RRSIG } else { self.rtype }
    }

    fn data<'d>(&self, data: &'d [u8]) -> &'d [u8] {
        &data[self.start..self.end]
    }
}

impl Owner {
    /// From now on those of the owner with this key.
    fn begin(&mut self, key: &[u8]) {
        self.key.clear();
        self.key.extend_from_slice(key);
        self.records.clear();
        self.data.clear();
    }

    fn push(&mut self, record: Record<'_>) {
        let (rtype, signature) = split_type(record);
        let start = self.data.len();
        self.data.extend_from_slice(record.data);
        let end = self.data.len();
        self.records.push(Held { rtype, signature, ttl: record.ttl, start, end });
    }

    /// Adds the records of a node.
    fn push_node(&mut self, node: Node<'_>) {
        for set in node.sets() {
            let (rtype, ttl) = (set.data_type(), set.ttl());
            set.iter().for_each(|data| self.push(Record { rtype, ttl, data }));
        }
    }

    /// Sorts the records by set and data and drops duplicates. All of a set have one TTL: that
    /// of the record sent last, which then is the first one's.
    fn settle(&mut self) {
        let Self { records, data, .. } = self;
        if records.len() < 2 {
            return;
        }
        records.sort_by(|a, b| in_order(data, a, b));
        // Where the set begins, where what is kept of it ends, and where its latest record began.
        let (mut set, mut kept, mut latest) = (0, 0, 0);
        for at in 0..records.len() {
            let held = records[at];
            if kept == 0 || held.set() != records[set].set() {
                (set, latest) = (kept, 0);
            }
            // Equal but for case means neighbours in that order.
            let octets = held.data(data);
            let near = records[set..kept].iter().rev().map(|held| held.data(data));
            let mut near = near.take_while(|data| data.eq_ignore_ascii_case(octets));
            if !near.any(|data| same_data(held.data_type(), data, octets)) {
                records[kept] = held;
                kept += 1;
            }
            if held.start >= latest {
                (records[set].ttl, latest) = (held.ttl, held.start);
            }
        }
        records.truncate(kept);
    }

    /// Appends the sets of the settled records to a node.
    fn pack(&self, blob: &mut Vec<u8>) {
        for set in self.records.chunk_by(|a, b| a.set() == b.set()) {
            let data = set.iter().map(|held| held.data(&self.data));
            pack_set(blob, set[0].rtype, set[0].signature, set[0].ttl, data);
        }
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

    /// The key of record `at`, if there are that many.
    fn key(&self, at: usize) -> Option<&[u8]> {
        self.starts.get(at).map(|&start| self.item(start).0)
    }

    fn item(&self, start: usize) -> (&[u8], Record<'_>) {
        let key = &self.octets[start + 1..][..usize::from(self.octets[start])];
        let rest = &self.octets[start + 1 + key.len()..];
        let len = usize::from(read_u16(rest, 6).expect("pushed whole"));
        let record = Record {
            rtype: Rtype(read_u16(rest, 0).expect("pushed whole")),
            ttl: read_u32(rest, 2).expect("pushed whole"),
            data: &rest[8..8 + len],
        };
        (key, record)
    }

    /// By owner; the records of one as they came.
    fn sort(&mut self) {
        let mut starts = std::mem::take(&mut self.starts);
        starts.sort_by(|&a, &b| self.item(a).0.cmp(self.item(b).0));
        self.starts = starts;
    }

    /// Adds to `owner` the records of the one that the sorted records from `at` on begin with.
    /// Where the next one's begin.
    fn give(&self, at: usize, owner: &mut Owner) -> usize {
        let key = self.key(at);
        let mut next = at;
        while self.key(next) == key {
            owner.push(self.item(self.starts[next]).1);
            next += 1;
        }
        next
    }
}

/// By set and data, names in it without regard to case.
fn in_order(data: &[u8], a: &Held, b: &Held) -> Ordering {
    a.set().cmp(&b.set()).then_with(|| {
        let (x, y) = (a.data(data), b.data(data));
        if layout(a.data_type()).is_empty() {
            return x.cmp(y);
        }
        x.iter().map(u8::to_ascii_lowercase).cmp(y.iter().map(u8::to_ascii_lowercase))
    })
}
