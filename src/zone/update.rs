//! The next version of a zone: an older one and a diff. The cost is that of the diff.

use super::builder::{belongs_to_hashes, is_barrier, is_one_label};
use super::nsec3::{Nsec3, excessive};
use super::{BuildError, Diff, Node, NodeBuf, Record, Zone};
use crate::name::{Key, Name};
use crate::tree::Tree;
use crate::wire::{Rtype, Serial};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why a diff does not apply: ours and the primary's histories differ, and a whole transfer is
/// needed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutOfSync {
    /// The diff is for another version than this one.
    #[error("the difference is from serial {from}, the zone has {ours}")]
    From {
        /// The diff's first serial.
        from: Serial,
        /// The zone's.
        ours: Serial,
    },
    /// It removes a record that is not there.
    #[error("it deletes a record that is not there: {0}")]
    Missing(String),
    /// It leaves no usable zone.
    #[error("after it {0}")]
    Broken(#[from] BuildError),
    /// The serial of its SOA record is not the one it was announced with.
    #[error("its SOA record has serial {0}, announced was {1}")]
    Serial(Serial, Serial),
}

/// So many records may differ in any zone, whatever its size, for the difference to be kept.
const FEW: u64 = 1000;

impl Zone {
    /// The version that `diff` makes of this one. Records outside the zone are passed over.
    pub fn apply(&self, diff: &Diff) -> Result<Self, OutOfSync> {
        self.apply_exactly(diff).map(|(next, _)| next)
    }

    /// As [`apply`](Self::apply), and whether the diff says just what it did: if so, it can be
    /// undone. One that adds what is there, or tells a record with another TTL, cannot.
    pub fn apply_exactly(&self, diff: &Diff) -> Result<(Self, bool), OutOfSync> {
        if diff.from != self.serial() {
            return Err(OutOfSync::From { from: diff.from, ours: self.serial() });
        }
        let mut next = self.clone();
        let mut touched = Touched::default();
        let mut exact = true;
        for (owner, record) in diff.removed.iter() {
            let Some(node) = touched.node(&next, owner, record) else {
                exact = false;
                continue;
            };
            exact &= node.has_exactly(record);
            // The SOA is matched by its serial, which was: servers differ in what else they put.
            let is_soa = record.rtype == Rtype::SOA;
            let removed = (is_soa && node.remove_all(Rtype::SOA)) || node.remove(record);
            if !removed {
                return Err(OutOfSync::Missing(describe(owner, record)));
            }
        }
        for (owner, record) in diff.added.iter() {
            let Some(node) = touched.node(&next, owner, record) else {
                exact = false;
                continue;
            };
            if let Some(iterations) = excessive(record) {
                return Err(BuildError::Iterations(iterations).into());
            }
            exact &= node.ttl(record).is_none_or(|ttl| ttl == record.ttl);
            // One that is there already does no harm, and some primaries send such.
            exact &= node.add(record);
        }
        next.put_back(touched);
        next.settle()?;
        let nsec3 = Nsec3::of(next.apex(), next.apex_node());
        if nsec3.as_ref() != next.nsec3() {
            next.nsec3 = nsec3.map(Arc::new);
            next.hash_all();
        }
        if next.serial() != diff.to {
            return Err(OutOfSync::Serial(next.serial(), diff.to));
        }
        Ok((next, exact))
    }

    /// This whole version as the next one of `have`, and how it came from there, if that is no more
    /// than an eighth of the zone or a thousand records: what is larger is of little use for an
    /// IXFR, and would take its memory beside both.
    ///
    /// Where it is a small part of the zone, the version is made anew to share the memory of
    /// `have`, once the one that came is gone: never is there more than these two.
    ///
    /// # Errors
    /// The difference does not apply to what it was made from: a bug.
    pub fn follow(self, have: &Self) -> Result<(Self, Option<Diff>), OutOfSync> {
        let records_max = FEW.max(have.records() / 8);
        let Some(diff) = Diff::within(have, &self, records_max) else { return Ok((self, None)) };
        if diff.records() as u64 > have.records() / 32 {
            return Ok((self, Some(diff)));
        }
        drop(self);
        Ok((have.apply(&diff)?, Some(diff)))
    }

    fn put_back(&mut self, touched: Touched) {
        let mut blob = Vec::new();
        for (key, node) in touched.names {
            let key = Key::from_bytes(&key).expect("made from a key");
            let came_or_went = (node.before == 0) != node.now.is_empty();
            self.put_name(&key, node, &mut blob);
            if came_or_went && self.nsec3.is_some() {
                self.tend_empties(&key);
            }
        }
        for (key, node) in touched.hashes {
            let key = Key::from_bytes(&key).expect("made from a key");
            self.records += put(&mut self.hashes, &key, &node, &mut blob);
            self.records -= node.before;
        }
    }

    /// Puts one changed owner back, and marks what it hides or no longer hides.
    fn put_name(&mut self, key: &Key, mut node: Changed, blob: &mut Vec<u8>) {
        let apex = key.as_bytes().is_empty();
        let hides = !apex && (node.now.has(Rtype::NS) || node.now.has(Rtype::DNAME));
        let above = if apex { 0 } else { self.cut_before(key) };
        let cut = if above > 0 || !hides { above } else { key.as_bytes().len() };
        node.now.set_cut(cut);
        node.now.set_hash(self.hash_to_hold(key, cut));
        self.records += put(&mut self.names, key, &node, blob);
        self.records -= node.before;
        if hides != node.hid && above == 0 {
            self.mark_below(key, cut, blob);
        }
    }

    /// The cut above a key whose own mark may be out of date; names before it are right already.
    fn cut_before(&self, key: &Key) -> usize {
        let parent = key.as_bytes();
        let end = parent[..parent.len() - 1].iter().rposition(|&byte| byte == 0);
        let end = end.map_or(0, |end| end + 1);
        // The topmost cut above is the shortest ancestor that hides: its own mark says so.
        let mut at = 0;
        while at < end {
            at += parent[at..].iter().position(|&byte| byte == 0).expect("labels end") + 1;
            if self.node(&key.ancestor(at)).is_some_and(|node| node.cut() == at) {
                return at;
            }
        }
        0
    }

    /// Sets the marks of all names below `key`, `cut` being the mark of `key` itself.
    fn mark_below(&mut self, key: &Key, cut: usize, blob: &mut Vec<u8>) {
        let mut top = key.as_bytes()[..cut].to_vec();
        let mut stale = Vec::new();
        for entry in self.names.range(key.as_bytes()).skip_while(|entry| entry.key == *key) {
            let node = Node::of(entry.blob);
            if top.is_empty() || !entry.key.starts_with(&top) {
                top.clear();
                if node.sets().any(|set| is_barrier(set.rtype()) && !set.is_signatures()) {
                    top.extend_from_slice(entry.key.to_key().as_bytes());
                }
            }
            if node.cut() != top.len() {
                stale.push((entry.key.to_key(), top.len()));
            }
        }
        for (key, cut) in stale {
            let node = self.node(&key).expect("just seen");
            let mut node = NodeBuf::from_node(node);
            node.set_cut(cut);
            node.set_hash(self.hash_to_hold(&key, cut));
            node.pack(blob);
            self.names.insert(&key, blob, ());
        }
    }
}

/// The owners that a diff changes.
#[derive(Default)]
struct Touched {
    names: BTreeMap<Box<[u8]>, Changed>,
    hashes: BTreeMap<Box<[u8]>, Changed>,
}

struct Changed {
    now: NodeBuf,
    before: u64,
    hid: bool,
}

impl Touched {
    /// The node of `owner` to change; `None` if it is not in the zone.
    fn node(&mut self, zone: &Zone, owner: Name<'_>, record: Record<'_>) -> Option<&mut NodeBuf> {
        if !owner.is_at_or_below(zone.apex()) {
            return None;
        }
        let key = zone.key(owner);
        let (nodes, tree) = if belongs_to_hashes(record) {
            if !is_one_label(key.as_bytes()) {
                return None;
            }
            (&mut self.hashes, &zone.hashes)
        } else {
            (&mut self.names, &zone.names)
        };
        let changed = nodes.entry(key.as_bytes().into()).or_insert_with(|| {
            let node = tree.get(&key).map(|(blob, ())| Node::of(blob));
            let now = node.map_or_else(NodeBuf::default, NodeBuf::from_node);
            let apex = key.as_bytes().is_empty();
            let hid = !apex && (now.has(Rtype::NS) || now.has(Rtype::DNAME));
            Changed { now, before: node.map_or(0, |node| node.records() as u64), hid }
        });
        Some(&mut changed.now)
    }
}

fn put(tree: &mut Tree, key: &Key, changed: &Changed, blob: &mut Vec<u8>) -> u64 {
    if changed.now.is_empty() {
        tree.remove(key);
        return 0;
    }
    changed.now.pack(blob);
    tree.insert(key, blob, ());
    Node::of(blob).records() as u64
}

fn describe(owner: Name<'_>, record: Record<'_>) -> String {
    format!("{owner} {}", record.rtype)
}
