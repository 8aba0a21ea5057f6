//! A zone from the nodes that the store kept.
//!
//! **How it fits.** What [`Zone::kept`] gave comes back in the same order, in one piece or cut into
//! [`Part`]s, each of which may be read by a thread of its own.
//!
//! **Invariants.**
//! - *checked*: no entry is taken whose place, mark or records are not what a zone could have.

use super::builder::{Cuts, HASHES, is_one_label};
use super::{BuildError, Node, Zone};
use crate::name::{Key, NAME_MAX, Name};
use crate::tree::Draft;

impl Zone {
    /// The zone that these entries are: what [`Zone::kept`] gave, in that order. Every one is
    /// checked.
    ///
    /// # Errors
    /// One of them is not what a zone could have, or there is no SOA.
    pub fn restore<K: AsRef<[u8]>, B: AsRef<[u8]>>(
        apex: Name<'_>,
        entries: impl IntoIterator<Item = (K, B)>,
    ) -> Result<Self, BuildError> {
        Self::join(apex, [Part::read(apex, entries)?])
    }

    /// The zone whose entries these parts had, one behind the other.
    ///
    /// # Errors
    /// They do not follow each other, or there is no SOA.
    pub fn join(apex: Name<'_>, parts: impl IntoIterator<Item = Part>) -> Result<Self, BuildError> {
        let mut whole = Part::default();
        for part in parts {
            // The hashes come behind the apex and before all other names.
            let late = part.hashes.first.is_some() && !whole.names.last.is_empty();
            let early = whole.hashes.first.is_some() && part.names.begin_at_the_apex();
            if late || early {
                return Err(BuildError::Damaged);
            }
            whole.names.append(part.names)?;
            whole.hashes.append(part.hashes)?;
        }
        let Part { names, hashes } = whole;
        // Nothing is before the first name that a cut could be.
        if names.first.is_some_and(|first| first.cut > 0) {
            return Err(BuildError::Damaged);
        }
        let records = names.records + hashes.records;
        Self::settled(apex.to_owned(), names.draft.finish(), hashes.draft.finish(), records)
    }
}

/// Some of a zone's entries, which follow each other.
pub struct Part {
    names: Checked,
    hashes: Checked,
}

impl Default for Part {
    fn default() -> Self {
        let (names, hashes) = (Checked::new(Cuts::of_names()), Checked::new(Cuts::of_hashes()));
        Self { names, hashes }
    }
}

impl Part {
    /// The part that has these entries. Every one is checked.
    ///
    /// # Errors
    /// One of them is not what a zone could have.
    pub fn read<K: AsRef<[u8]>, B: AsRef<[u8]>>(
        apex: Name<'_>,
        entries: impl IntoIterator<Item = (K, B)>,
    ) -> Result<Self, BuildError> {
        let mut part = Self::default();
        for (key, blob) in entries {
            let sound = match key.as_ref() {
                [HASHES, key @ ..] => {
                    let is_hash = Key::from_bytes(key).is_some() && is_one_label(key);
                    is_hash
                        && part.names.last.is_empty()
                        && part.hashes.push(apex, key, blob.as_ref())
                }
                [] if part.hashes.first.is_some() => false,
                key => part.names.push(apex, key, blob.as_ref()),
            };
            if !sound {
                return Err(BuildError::Damaged);
            }
        }
        Ok(part)
    }
}

/// Entries of one of the zone's trees that came from outside and are in order.
struct Checked {
    draft: Draft,
    cuts: Cuts,
    first: Option<First>,
    last: Vec<u8>,
    records: u64,
}

/// The first entry of a part.
struct First {
    key: Box<[u8]>,
    /// The length of the key of the cut that it says is above it.
    cut: usize,
}

impl Checked {
    fn new(cuts: Cuts) -> Self {
        Self { draft: Draft::default(), cuts, first: None, last: Vec::new(), records: 0 }
    }

    fn begin_at_the_apex(&self) -> bool {
        self.first.as_ref().is_some_and(|first| first.key.is_empty())
    }

    /// Takes the next entry, if it is behind the last, its whole name fits, there is a node for
    /// it, and it is marked with the cut that is above it.
    fn push(&mut self, apex: Name<'_>, key: &[u8], blob: &[u8]) -> bool {
        let ascends = self.first.is_none() || self.last.as_slice() < key;
        let fits = key.len() + apex.len() <= NAME_MAX;
        if !(ascends && fits && Key::from_bytes(key).is_some() && Node::check(blob)) {
            return false;
        }
        let node = Node::of(blob);
        if self.first.is_none() {
            // What it says of the entries before it is held against them when they are joined.
            let cut = node.cut();
            let below = key.get(..cut).filter(|top| cut < key.len() && top.last() == Some(&0));
            self.cuts.begin_below(below.unwrap_or(&[]));
            self.first = Some(First { key: key.into(), cut: below.map_or(0, <[u8]>::len) });
        }
        if self.cuts.above(key, node) != node.cut() {
            return false;
        }
        self.records += node.records() as u64;
        self.last.clear();
        self.last.extend_from_slice(key);
        self.draft.push(key, blob, ());
        true
    }

    /// Puts what follows behind it.
    fn append(&mut self, next: Self) -> Result<(), BuildError> {
        let Some(first) = &next.first else { return Ok(()) };
        if self.first.is_none() {
            *self = next;
            return Ok(());
        }
        if self.last.as_slice() >= &*first.key || self.cuts.before(&first.key) != first.cut {
            return Err(BuildError::Damaged);
        }
        self.draft.append(next.draft);
        self.cuts = next.cuts;
        self.last = next.last;
        self.records += next.records;
        Ok(())
    }
}
