//! The data of a zone: immutable once published, shared structurally between its versions.
//!
//! **How it fits.** [`Builder`] makes a [`Zone`] from a transfer, a zone file, the store, or an
//! older version and a [`Diff`]; `answer` asks it with [`Zone::lookup`] what the data can say;
//! `xfr` and the store walk it with [`Zone::entries`].
//!
//! **Invariants.**
//! - *apex*: there is exactly one SOA, at the apex.
//! - *inside*: every owner is the apex or below it.
//! - *no distant flags*: a node tells of itself, and of the topmost cut or DNAME above it; what
//!   a new or removed cut occludes is the only thing that a change touches elsewhere.
//! - *hashes apart*: NSEC3 records and their signatures are in a tree of their own: their owners
//!   are no names that a query could find (RFC 5155 section 7.2.8).
//! - *hashed once*: see `nsec3`.
//!
//! **Sections.** RFC 1034 section 4.3.2, RFC 4592, RFC 6672.

mod builder;
mod diff;
pub mod file;
mod lookup;
mod node;
mod nsec3;
mod restore;
mod sum;
mod update;

pub use builder::{BuildError, Builder};
pub use diff::{Diff, Records};
pub use lookup::{At, Found};
pub use node::{Data, Node, NodeBuf, Record, RecordSet, Sets};
pub use nsec3::{Hash, Nsec3, hash_key};
pub use restore::Part;
pub use sum::Sum;
pub use update::OutOfSync;

use crate::name::{Key, Name, NameBuf};
use crate::tree::{Place, Tree};
use crate::wire::{Rtype, Serial, read_u32};
use builder::HASHES;
use std::ops::ControlFlow;
use std::sync::Arc;

/// One version of a zone.
#[derive(Clone)]
pub struct Zone {
    apex: NameBuf,
    labels: usize,
    names: Tree,
    hashes: Tree,
    nsec3: Option<Arc<Nsec3>>,
    /// The hashes of empty non-terminals, if there is `nsec3`.
    empties: Tree,
    soa: Soa,
    /// See [`Zone::soa_names`].
    soa_names: Option<[u8; 2]>,
    records: u64,
    /// The apex has a DNAME, which all other names are below.
    apex_renames: bool,
}

/// What [`Zone::kept`] calls with key and blob of each entry, until it breaks.
pub type Each<'e> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'e;

/// What the SOA record says (RFC 1035 section 3.3.13), times in seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Soa {
    /// The zone's version.
    pub serial: Serial,
    /// How often a secondary asks for the serial.
    pub refresh: u32,
    /// How soon it asks again after a failure.
    pub retry: u32,
    /// After how long without contact it stops answering.
    pub expire: u32,
    /// The TTL of negative answers is at most this (RFC 2308).
    pub minimum: u32,
    /// The record's own TTL.
    pub ttl: u32,
}

impl Soa {
    /// The numbers in an SOA record's uncompressed data.
    pub fn parse(ttl: u32, data: &[u8]) -> Option<Self> {
        let (_, rest) = Name::split(data)?;
        let (_, rest) = Name::split(rest)?;
        if rest.len() != 20 {
            return None;
        }
        Some(Self {
            serial: Serial(read_u32(rest, 0)?),
            refresh: read_u32(rest, 4)?,
            retry: read_u32(rest, 8)?,
            expire: read_u32(rest, 12)?,
            minimum: read_u32(rest, 16)?,
            ttl,
        })
    }

    /// The TTL of negative answers, seconds (RFC 2308 section 5).
    pub fn negative_ttl(&self) -> u32 {
        self.ttl.min(self.minimum)
    }
}

impl Zone {
    /// The zone's name.
    pub fn apex(&self) -> Name<'_> {
        self.apex.as_name()
    }

    /// How many labels the zone's name has.
    pub fn apex_labels(&self) -> usize {
        self.labels
    }

    /// What the SOA record says.
    pub fn soa(&self) -> &Soa {
        &self.soa
    }

    /// The zone's version.
    pub fn serial(&self) -> Serial {
        self.soa.serial
    }

    /// How many records.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// How many owner names, owners of NSEC3 records included.
    pub fn owners(&self) -> usize {
        self.names.len() + self.hashes.len()
    }

    /// The key of `name` in this zone. The name must be at or below the apex.
    pub fn key(&self, name: Name<'_>) -> Key {
        Key::below(name, self.apex.as_name())
    }

    /// The apex's records.
    pub fn apex_node(&self) -> Node<'_> {
        // No key is before the empty one.
        Node::of(self.names.first().expect("a zone has an apex").blob)
    }

    /// The records of exactly this owner.
    pub fn node(&self, key: &Key) -> Option<Node<'_>> {
        self.names.get(key).map(|(blob, ())| Node::of(blob))
    }

    /// As [`node`](Self::node), if the name is likely to lie beside a place found already.
    pub fn node_near<'z>(&'z self, place: &Place<'z, '_, ()>, key: &Key) -> Option<Node<'z>> {
        self.names.get_near(place, key).map(|(blob, ())| Node::of(blob))
    }

    /// The ordinary names.
    pub fn names(&self) -> &Tree {
        &self.names
    }

    /// The owners of NSEC3 records, in order of their hashes.
    pub fn hashes(&self) -> &Tree {
        &self.hashes
    }

    /// Every owner with its node: the ordinary names in canonical order, then those of NSEC3.
    pub fn entries(&self) -> impl Iterator<Item = (Key, Node<'_>)> {
        let both = self.names.iter().chain(self.hashes.iter());
        both.map(|entry| (entry.key.to_key(), Node::of(entry.blob)))
    }

    /// The entries to keep, after the one kept under `after`: all of them, for
    /// [`Zone::restore`], under keys that ascend. Stops when `each` breaks.
    pub fn kept(&self, after: Option<&[u8]>, each: &mut Each<'_>) -> ControlFlow<()> {
        let key = |bytes: &[u8]| Key::from_bytes(bytes).expect("the key of an entry of this zone");
        let mut without_hash = Vec::new();
        let mut each_name = |key: &[u8], blob| {
            if Node::of(blob).hash().is_none() {
                return each(key, blob);
            }
            Node::of(blob).with_hash(None, &mut without_hash);
            each(key, &without_hash)
        };
        if after.is_none() {
            let (blob, ()) = self.names.get(&Key::empty()).expect("a zone has an apex");
            each_name(&[], blob)?;
        }
        if after.is_none_or(|after| after.is_empty() || after[0] == HASHES) {
            let from = after
                .filter(|after| !after.is_empty())
                .map_or_else(Key::empty, |after| key(&after[1..]));
            let mut kept = [HASHES; 1 + Key::MAX];
            for entry in self.hashes.after(&from) {
                entry.key.copy_octets(&mut kept[1..]);
                // These have no hashes of their own.
                each_name(&kept[..=entry.key.len()], entry.blob)?;
            }
        }
        let of_names = after.filter(|after| !after.is_empty() && after[0] != HASHES);
        let mut kept = [0; Key::MAX];
        for entry in self.names.after(&of_names.map_or_else(Key::empty, key)) {
            entry.key.copy_octets(&mut kept);
            each_name(&kept[..entry.key.len()], entry.blob)?;
        }
        ControlFlow::Continue(())
    }

    /// The owners from `key` on, of the ordinary names or of NSEC3's: for a walk in parts.
    pub fn entries_from<'z>(
        &'z self,
        hashes: bool,
        key: &Key,
    ) -> impl Iterator<Item = (Key, Node<'z>)> + use<'z> {
        let tree = if hashes { &self.hashes } else { &self.names };
        let first = tree.get(key).map(|(blob, ())| (key.clone(), Node::of(blob)));
        let rest = tree.after(key).map(|entry| (entry.key.to_key(), Node::of(entry.blob)));
        first.into_iter().chain(rest)
    }

    /// Takes the SOA and what else is kept beside the trees from the apex's records.
    fn settle(&mut self) -> Result<(), BuildError> {
        let (blob, ()) = self.names.get(&Key::empty()).ok_or(BuildError::NoSoa)?;
        let apex = Node::of(blob);
        let set = apex.find(Rtype::SOA).ok_or(BuildError::NoSoa)?;
        if set.count() > 1 {
            return Err(BuildError::ManySoas);
        }
        self.soa = Soa::parse(set.ttl(), set.first()).ok_or(BuildError::NoSoa)?;
        self.soa_names = own_names(set.first(), self.apex.as_name());
        self.apex_renames = apex.find(Rtype::DNAME).is_some();
        Ok(())
    }

    /// Of the SOA's two names the octets before the apex, if both are below it and share no more:
    /// then a reply that has the apex needs no search for what it could point at.
    #[inline]
    pub fn soa_names(&self) -> Option<[u8; 2]> {
        self.soa_names
    }

    /// The SOA record's data.
    pub fn soa_data(&self) -> &[u8] {
        self.apex_node().find(Rtype::SOA).expect("a zone has an SOA").first()
    }
}

/// See [`Zone::soa_names`].
fn own_names(soa_data: &[u8], apex: Name<'_>) -> Option<[u8; 2]> {
    let (primary, rest) = Name::split(soa_data)?;
    let (mailbox, _) = Name::split(rest)?;
    let own = |name: Name<'_>| {
        let is_below = !apex.is_root() && name.is_at_or_below(apex);
        is_below.then(|| u8::try_from(name.len() - apex.len()).ok())?
    };
    let [first, second] = [own(primary)?, own(mailbox)?];
    let end = |name: Name<'_>, own: u8| {
        name.as_wire()[..usize::from(own)].last().map(u8::to_ascii_lowercase)
    };
    let may_share = first > 0 && end(primary, first) == end(mailbox, second);
    (!may_share).then_some([first, second])
}

#[cfg(test)]
mod tests;
