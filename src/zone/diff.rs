//! What one version of a zone removes and adds: what an IXFR carries, what the store appends.

use super::builder::belongs_to_hashes;
use super::{Node, Record, Zone};
use crate::name::{Key, Name};
use crate::tree::Tree;
use crate::wire::{Rtype, Serial, TTL_MAX, data_fields, fold_data, read_u16, read_u32, same_data};
use std::collections::{BTreeSet, HashSet};

/// Records with their owners, one behind the other in wire form without class:
/// owner, type, TTL, length, data.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Records(Vec<u8>);

/// What a record takes besides owner and data.
const FIXED: usize = 8;

impl Records {
    /// Adds a record.
    pub fn push(&mut self, owner: Name<'_>, record: Record<'_>) {
        self.0.extend_from_slice(owner.as_wire());
        self.0.extend_from_slice(&record.rtype.0.to_be_bytes());
        self.0.extend_from_slice(&record.ttl.to_be_bytes());
        let len = u16::try_from(record.data.len()).expect("data came with a 16-bit length");
        self.0.extend_from_slice(&len.to_be_bytes());
        self.0.extend_from_slice(record.data);
    }

    /// The records in the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = (Name<'_>, Record<'_>)> {
        self.iter_from(0).map(|(owner, record, _)| (owner, record))
    }

    /// The records from the place `at` on, each with the place behind it: for going on later.
    /// The first is at 0, the end at [`octets`](Self::octets).
    pub fn iter_from(&self, at: usize) -> impl Iterator<Item = (Name<'_>, Record<'_>, usize)> {
        let mut rest = self.0.get(at..).unwrap_or(&[]);
        std::iter::from_fn(move || {
            let (owner, record, after) = split(rest)?;
            rest = after;
            Some((owner, record, self.0.len() - after.len()))
        })
    }

    /// None?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many octets they take.
    pub fn octets(&self) -> usize {
        self.0.len()
    }
}

fn split(bytes: &[u8]) -> Option<(Name<'_>, Record<'_>, &[u8])> {
    let (owner, rest) = Name::split(bytes)?;
    let rtype = Rtype(read_u16(rest, 0)?);
    let ttl = read_u32(rest, 2)?;
    let len = usize::from(read_u16(rest, 6)?);
    let data = rest.get(FIXED..FIXED + len)?;
    Some((owner, Record { rtype, ttl, data }, &rest[FIXED + len..]))
}

/// The difference between two versions of a zone. The SOA records of both are part of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Diff {
    /// The version it applies to.
    pub from: Serial,
    /// The version it makes.
    pub to: Serial,
    /// What the old version has and the new one has not.
    pub removed: Records,
    /// What the new version has and the old one has not.
    pub added: Records,
}

impl Diff {
    /// What leads back: from the version that this makes, if it was made exactly so
    /// ([`Zone::apply_exactly`]), to the one that it applies to.
    pub fn reversed(&self) -> Self {
        let (removed, added) = (self.added.clone(), self.removed.clone());
        Self { from: self.to, to: self.from, removed, added }
    }

    /// How many octets the records take.
    pub fn octets(&self) -> usize {
        self.removed.octets() + self.added.octets()
    }

    /// How many records are removed and added.
    pub fn records(&self) -> usize {
        self.removed.iter().count() + self.added.iter().count()
    }

    /// For the store: two serials, the length of what is removed, both lists.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(12 + self.octets());
        out.extend_from_slice(&self.from.0.to_be_bytes());
        out.extend_from_slice(&self.to.0.to_be_bytes());
        let len = u32::try_from(self.removed.0.len()).expect("a transfer is limited to 4 GiB");
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(&self.removed.0);
        out.extend_from_slice(&self.added.0);
        out
    }

    /// What [`encode`](Self::encode) made, every record checked.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let len = usize::try_from(read_u32(bytes, 8)?).ok()?;
        let (removed, added) = bytes.get(12..)?.split_at_checked(len)?;
        for mut rest in [removed, added] {
            while !rest.is_empty() {
                let (_, record, after) = split(rest)?;
                data_fields(record.rtype, record.data, |_, _| ())?;
                if record.ttl > TTL_MAX || !record.rtype.is_data() {
                    return None;
                }
                rest = after;
            }
        }
        Some(Self {
            from: Serial(read_u32(bytes, 0)?),
            to: Serial(read_u32(bytes, 4)?),
            removed: Records(removed.into()),
            added: Records(added.into()),
        })
    }

    /// What changed from `old` to `new`, two versions of one zone. This walks both: it is for
    /// zone files read anew and for whole transfers, never for an IXFR.
    pub fn between(old: &Zone, new: &Zone) -> Self {
        Self::within(old, new, u64::MAX).expect("there is no limit")
    }

    /// As [`between`](Self::between), where nothing but owners in `touched` has changed: this
    /// costs no more than those.
    pub fn among<'d>(old: &Zone, new: &Zone, touched: impl IntoIterator<Item = &'d Self>) -> Self {
        let mut owners = BTreeSet::new();
        for diff in touched {
            for (owner, record) in diff.removed.iter().chain(diff.added.iter()) {
                if owner.is_at_or_below(new.apex()) {
                    owners.insert((belongs_to_hashes(record), new.key(owner).as_bytes().to_vec()));
                }
            }
        }
        let mut diff = Self::of_soas(old, new);
        for (hashes, key) in owners {
            let key = Key::from_bytes(&key).expect("made from a key");
            let node = |zone: &'_ Zone| {
                let tree = if hashes { zone.hashes() } else { zone.names() };
                tree.get(&key).map(|(blob, ())| blob.to_vec())
            };
            let (before, after) = (node(old), node(new));
            let (before, after) = (before.as_deref().map(Node::of), after.as_deref().map(Node::of));
            diff.compare(new, &key, before, after);
        }
        diff
    }

    /// As [`between`](Self::between), if that are at most so many records, the SOA not counted.
    /// They are counted first, so that no memory is taken for more than these.
    pub fn within(old: &Zone, new: &Zone, records_max: u64) -> Option<Self> {
        let (mut room, mut removed, mut added) = (records_max, 0, 0);
        each_changed(old, new, &mut |key, before, after| {
            let mut count = |octets: &mut usize, record: Record<'_>| {
                *octets += key.as_bytes().len() + new.apex().len() + FIXED + record.data.len();
                room = room.checked_sub(1)?;
                Some(())
            };
            missing(before, after, &mut |record| count(&mut removed, record))?;
            missing(after, before, &mut |record| count(&mut added, record))
        })?;
        let mut diff = Self::of_soas(old, new);
        diff.removed.0.reserve_exact(removed);
        diff.added.0.reserve_exact(added);
        each_changed(old, new, &mut |key, before, after| {
            diff.compare(new, key, before, after);
            Some(())
        })?;
        Some(diff)
    }

    /// The SOA records of both, and nothing else yet.
    fn of_soas(old: &Zone, new: &Zone) -> Self {
        let mut diff = Self {
            from: old.serial(),
            to: new.serial(),
            removed: Records::default(),
            added: Records::default(),
        };
        // An IXFR's lists begin with the SOA records (RFC 1995 section 4).
        for (zone, list) in [(old, &mut diff.removed), (new, &mut diff.added)] {
            let soa = Record { rtype: Rtype::SOA, ttl: zone.soa().ttl, data: zone.soa_data() };
            list.push(zone.apex(), soa);
        }
        diff
    }

    /// Adds what differs between two nodes of an owner.
    fn compare(
        &mut self,
        zone: &Zone,
        key: &Key,
        before: Option<Node<'_>>,
        after: Option<Node<'_>>,
    ) {
        let owner = key.name(zone.apex()).expect("a key of this zone");
        let Self { removed, added, .. } = self;
        for (these, those, list) in [(before, after, removed), (after, before, added)] {
            missing(these, those, &mut |record| {
                list.push(owner.as_name(), record);
                Some(())
            });
        }
    }
}

/// What is called with each owner that changed, and its nodes; `None` ends it.
type Changed<'f> = dyn FnMut(&Key, Option<Node<'_>>, Option<Node<'_>>) -> Option<()> + 'f;

/// Calls `found` for each owner that two versions of a zone do not share, until it gives `None`.
fn each_changed(old: &Zone, new: &Zone, found: &mut Changed<'_>) -> Option<()> {
    for (old, new) in [(old.names(), new.names()), (old.hashes(), new.hashes())] {
        walk(old, new, found)?;
    }
    Some(())
}

fn walk(old: &Tree, new: &Tree, found: &mut Changed<'_>) -> Option<()> {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return Some(()),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(old), Some(new)) => old.key.to_key().as_bytes().cmp(new.key.to_key().as_bytes()),
        };
        let before = if order.is_le() { old.next() } else { None };
        let after = if order.is_ge() { new.next() } else { None };
        let key = before.or(after).expect("one of them is there").key.to_key();
        let (before, after) = (before.map(|entry| entry.blob), after.map(|entry| entry.blob));
        if before != after {
            found(&key, before.map(Node::of), after.map(Node::of))?;
        }
    }
}

/// Sets of more records than this are compared by what their data fold to: each with each would
/// take too long.
const SET_MANY: usize = 16;

/// Calls `found` for each record that `these` has and `those` has not, but the SOA, until it gives
/// `None`.
fn missing(
    these: Option<Node<'_>>,
    those: Option<Node<'_>>,
    found: &mut impl FnMut(Record<'_>) -> Option<()>,
) -> Option<()> {
    for set in these.into_iter().flat_map(Node::sets) {
        if set.rtype() == Rtype::SOA && !set.is_signatures() {
            continue;
        }
        let other = those.and_then(|node| {
            node.sets().find(|other| {
                (other.rtype(), other.is_signatures()) == (set.rtype(), set.is_signatures())
            })
        });
        let other = other.filter(|other| other.ttl() == set.ttl());
        let rtype = set.data_type();
        if let Some(other) = other.filter(|other| other.count() > SET_MANY) {
            let fold = |data: &[u8]| {
                let mut folded = Vec::with_capacity(data.len());
                fold_data(rtype, data, &mut folded);
                folded
            };
            let theirs: HashSet<Vec<u8>> = other.iter().map(fold).collect();
            for data in set.iter().filter(|data| !theirs.contains(&fold(data))) {
                found(Record { rtype, ttl: set.ttl(), data })?;
            }
            continue;
        }
        for data in set.iter() {
            let same = |theirs: &[u8]| same_data(rtype, theirs, data);
            if !other.is_some_and(|other| other.iter().any(same)) {
                found(Record { rtype, ttl: set.ttl(), data })?;
            }
        }
    }
    Some(())
}
