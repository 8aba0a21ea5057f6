//! A zone from its records, in any order, or from the nodes that the store kept.
//!
//! Records are collected in one stretch of memory, sorted by owner, type and data (input that is
//! sorted already, as most primaries send it, costs one pass), and become pages bottom-up.

use super::node::{pack_set, split_type};
use super::nsec3::{ITERATIONS_MAX, Nsec3, excessive};
use super::{Node, Record, Soa, Zone};
use crate::name::{Key, NAME_MAX, Name, NameBuf};
use crate::tree::Tree;
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
    names: Heap,
    hashes: Heap,
    outside: u64,
    excessive: Option<u16>,
}

impl Builder {
    /// An empty zone.
    pub fn new(apex: Name<'_>) -> Self {
        Self {
            apex: apex.to_owned(),
            labels: apex.label_count(),
            names: Heap::default(),
            hashes: Heap::default(),
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
        let heap = if of_hashes { &mut self.hashes } else { &mut self.names };
        heap.push(key.as_bytes(), record);
        true
    }

    /// How many records were dropped because they are not in the zone.
    pub fn outside(&self) -> u64 {
        self.outside
    }

    /// How many octets are held: what a limit on a transfer's size counts.
    pub fn octets(&self) -> usize {
        self.names.octets.len() + self.hashes.octets.len()
    }

    /// The zone.
    pub fn build(self) -> Result<Zone, BuildError> {
        if let Some(iterations) = self.excessive {
            return Err(BuildError::Iterations(iterations));
        }
        let mut records = 0;
        let names = self.names.into_tree(true, &mut records);
        let hashes = self.hashes.into_tree(false, &mut records);
        Zone::settled(self.apex, names, hashes, records)
    }
}

impl Zone {
    fn settled(apex: NameBuf, names: Tree, hashes: Tree, records: u64) -> Result<Self, BuildError> {
        let labels = apex.as_name().label_count();
        let soa = Soa { serial: Serial(0), refresh: 0, retry: 0, expire: 0, minimum: 0, ttl: 0 };
        let (nsec3, empties) = (None, Tree::default());
        let apex_renames = false;
        let mut zone =
            Self { apex, labels, names, hashes, nsec3, empties, soa, records, apex_renames };
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

    /// The zone that these entries are: what [`Zone::kept`] gave, in that order. Every one is
    /// checked.
    pub fn restore<K: AsRef<[u8]>, B: AsRef<[u8]>>(
        apex: Name<'_>,
        entries: impl IntoIterator<Item = (K, B)>,
    ) -> Result<Self, BuildError> {
        let mut entries = entries.into_iter().peekable();
        let mut check = Check::new(apex);
        let first = entries.next_if(|(key, _)| key.as_ref().is_empty());
        let hashes = Tree::build(std::iter::from_fn(|| {
            let (key, blob) = entries.next_if(|(key, _)| key.as_ref().first() == Some(&HASHES))?;
            let key = key.as_ref()[1..].to_vec();
            check.hash(&key, blob.as_ref()).then_some((key, blob, ()))
        }));
        check.last = None;
        let mut rest = first.into_iter().chain(entries);
        let names = Tree::build(std::iter::from_fn(|| {
            let (key, blob) = rest.next()?;
            check.name(key.as_ref(), blob.as_ref()).then_some((key, blob, ()))
        }));
        if check.damaged {
            return Err(BuildError::Damaged);
        }
        Self::settled(apex.to_owned(), names, hashes, check.records)
    }
}

/// What goes before the key of an entry of [`Zone::hashes`] when it is kept: no other key begins
/// with it, and they all come behind the apex and before the other names.
pub(super) const HASHES: u8 = 0;

/// Entries that come from outside.
struct Check<'a> {
    apex: Name<'a>,
    last: Option<Vec<u8>>,
    /// The topmost cut or DNAME at or above the last name.
    top: Vec<u8>,
    records: u64,
    damaged: bool,
}

impl<'a> Check<'a> {
    fn new(apex: Name<'a>) -> Self {
        Self { apex, last: None, top: Vec::new(), records: 0, damaged: false }
    }

    /// Is this the next entry of [`Zone::hashes`]?
    fn hash(&mut self, key: &[u8], blob: &[u8]) -> bool {
        let place = self.follows(key, blob);
        let sound = place.is_some_and(|key| is_one_label(&key)) && Node::of(blob).cut() == 0;
        self.note(key, blob, sound)
    }

    /// Is this the next entry of [`Zone::names`], and marked with the cut that is above it?
    fn name(&mut self, key: &[u8], blob: &[u8]) -> bool {
        let sound = self.follows(key, blob).is_some() && {
            let node = Node::of(blob);
            if self.top.is_empty() || !key.starts_with(&self.top) {
                self.top.clear();
                if node.sets().any(|set| is_barrier(set.rtype()) && !set.is_signatures()) {
                    self.top.extend_from_slice(key);
                }
            }
            node.cut() == self.top.len()
        };
        self.note(key, blob, sound)
    }

    /// The key, if there is a node for it, it is behind the last, and the whole name fits.
    fn follows(&self, key: &[u8], blob: &[u8]) -> Option<Key> {
        let ascends = self.last.as_deref().is_none_or(|last| last < key);
        let fits = key.len() + self.apex.len() <= NAME_MAX;
        Key::from_bytes(key).filter(|_| ascends && fits && Node::check(blob))
    }

    fn note(&mut self, key: &[u8], blob: &[u8], sound: bool) -> bool {
        if sound {
            self.records += Node::of(blob).records() as u64;
            let last = self.last.get_or_insert_default();
            last.clear();
            last.extend_from_slice(key);
        }
        self.damaged |= !sound;
        sound
    }
}

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

/// Records one behind the other: key length, key, type, TTL, data length, data.
#[derive(Default)]
struct Heap {
    octets: Vec<u8>,
    starts: Vec<usize>,
}

#[derive(Clone, Copy)]
struct Item<'h> {
    key: &'h [u8],
    record: Record<'h>,
    rtype: Rtype,
    signature: bool,
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

    fn into_tree(mut self, with_cuts: bool, records: &mut u64) -> Tree {
        let mut starts = std::mem::take(&mut self.starts);
        starts.sort_by(|&a, &b| in_order(self.item(a), self.item(b)));
        let mut rest = &starts[..];
        let mut top: Vec<u8> = Vec::new();
        let mut set = Vec::new();
        Tree::build(std::iter::from_fn(|| {
            let key = self.item(*rest.first()?).key;
            let mut blob = vec![0];
            let mut hides = false;
            while let Some(item) = rest.first().map(|&start| self.item(start))
                && item.key == key
            {
                let ttl;
                (ttl, rest) = self.take_set(rest, &mut set);
                hides |= is_barrier(item.rtype) && !item.signature;
                *records += set.len() as u64;
                let data = set.iter().map(|record| record.data);
                pack_set(&mut blob, item.rtype, item.signature, ttl, data);
            }
            let hidden = !top.is_empty() && key.starts_with(&top);
            if with_cuts && !hidden {
                top.clear();
                if hides {
                    top.extend_from_slice(key);
                }
            }
            #[expect(clippy::cast_possible_truncation, reason = "a key has 254 octets at most")]
            {
                blob[0] = top.len() as u8;
            }
            Some((key, blob, ()))
        }))
    }

    /// Moves the records of the first set of `rest` into `set`, duplicates dropped. Gives the
    /// set's TTL, all of its records have one: that of the record sent last; and what follows.
    fn take_set<'h, 'r>(
        &'h self,
        rest: &'r [usize],
        set: &mut Vec<Record<'h>>,
    ) -> (u32, &'r [usize]) {
        set.clear();
        let first = self.item(rest[0]);
        let is_of_set = |item: Item<'_>| {
            (item.key, item.rtype, item.signature) == (first.key, first.rtype, first.signature)
        };
        let (mut taken, mut latest) = (0, (0, 0));
        for &start in rest {
            let item = self.item(start);
            if !is_of_set(item) {
                break;
            }
            taken += 1;
            latest = latest.max((start, item.record.ttl));
            let same = |record: &Record<'_>| same_data(record.rtype, record.data, item.record.data);
            // Equal but for case means neighbours in the order of sorting.
            let near = set
                .iter()
                .rev()
                .take_while(|record| record.data.eq_ignore_ascii_case(item.record.data));
            if !near.into_iter().any(same) {
                set.push(item.record);
            }
        }
        (latest.1, &rest[taken..])
    }
}

fn in_order(a: Item<'_>, b: Item<'_>) -> Ordering {
    let by_set = || (a.rtype, a.signature).cmp(&(b.rtype, b.signature));
    let by_data = || {
        if layout(a.record.rtype).is_empty() {
            return a.record.data.cmp(b.record.data);
        }
        let folded = |data: &'_ [u8]| data.iter().map(u8::to_ascii_lowercase).collect::<Vec<_>>();
        folded(a.record.data).cmp(&folded(b.record.data))
    };
    a.key.cmp(b.key).then_with(by_set).then_with(by_data)
}
