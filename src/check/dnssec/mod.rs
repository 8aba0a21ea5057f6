//! Is the zone signed from a trust anchor on, all of it, and now? And does its chain of NSEC or NSEC3
//! records deny what is not there, and nothing that is?
//!
//! **How it fits.** A whole zone is checked name by name, on several threads; after a difference,
//! only what it touches, and its neighbours: [`Check`] knows what is right of one name or one
//! hash, and both ways use it.
//!
//! **Invariants.**
//! - *as a validator sees it*: a set is good if one signature over it by a key of the zone holds.
//! - *local*: what a change can make wrong is at the names it touches, at the names above and
//!   before those, and below those whose cut came or went. Other keys, or another way to deny, make
//!   it the whole zone.
//!
//! **Sections.** RFC 4034, RFC 4035 section 5, RFC 5155, RFC 6840.
//!
//! Of what did not change, signatures that run out are not noticed by a check: [`Ending`] tells
//! when to look. Algorithms that are not known (Ed448, GOST) verify nothing.

mod denial;
mod ending;
mod signature;

pub use ending::Ending;
pub use signature::Anchor;

use crate::name::Key as NameKey;
use crate::wire::Rtype;
use crate::zone::{Diff, Node, Zone};
use denial::Denial;
use signature::Key;
use std::collections::{BTreeMap, BTreeSet};
use std::thread;

/// Why a zone is not signed as it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnssecError {
    /// There is no beginning.
    #[error("no DNSKEY record at the apex is what `trust-anchor` says")]
    NoAnchor,
    /// A set has no signature.
    #[error("{0} {1} is not signed")]
    Unsigned(String, Rtype),
    /// No signature over a set holds.
    #[error("{0} {1}: {2}")]
    Signature(String, Rtype, Fault),
    /// Nothing is denied.
    #[error("the apex has neither NSEC nor NSEC3PARAM with a signature")]
    NoDenial,
    /// A name has no record that denies.
    #[error("{0} has no NSEC or NSEC3 record")]
    NoRecord(String),
    /// It tells other types.
    #[error("the NSEC or NSEC3 record of {0} tells other types than are there")]
    Types(String),
    /// It leads elsewhere.
    #[error("the NSEC or NSEC3 record of {0} does not lead to the next one")]
    Next(String),
    /// A name has one that is not there.
    #[error("there is an NSEC3 record that no name has")]
    TooMany,
}

/// What is wrong with a signature; the later, the nearer it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Fault {
    /// It is no signature of this set.
    #[error("its signature is malformed, or of another name or signer")]
    Malformed,
    /// None of the zone's keys made it.
    #[error("no DNSKEY record has the key of its signature")]
    UnknownKey,
    /// It is of something else.
    #[error("its signature is wrong")]
    Wrong,
    /// It has ended.
    #[error("its signature has expired")]
    Expired,
    /// It has not begun.
    #[error("its signature is not valid yet")]
    NotYet,
}

/// How a name stands to the zone's cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// All of it is the zone's.
    Inside,
    /// A delegation: DS and NSEC are the zone's.
    Cut,
    /// Below a delegation or a DNAME: none of it is.
    Occluded,
}

impl Standing {
    fn of(key: &NameKey, node: Node<'_>) -> Self {
        match node.cut() {
            0 => Self::Inside,
            cut if cut < key.as_bytes().len() => Self::Occluded,
            _ if node.find(Rtype::NS).is_some() => Self::Cut,
            _ => Self::Inside,
        }
    }

    /// Are sets of this type to be signed?
    fn signs(self, rtype: Rtype) -> bool {
        match self {
            Self::Inside => true,
            Self::Cut => matches!(rtype, Rtype::DS | Rtype::NSEC),
            Self::Occluded => false,
        }
    }

    /// Are sets of this type told by the record that denies?
    fn tells(self, rtype: Rtype) -> bool {
        self.signs(rtype) || self == Self::Cut && rtype == Rtype::NS
    }
}

/// A zone being checked, its keys found to be good.
struct Check<'z> {
    zone: &'z Zone,
    keys: Vec<Key>,
    denial: Denial,
    now_s: u32,
}

/// Checks a version: all of it, or, if `since` is given, what may have become wrong since that
/// version, which was good, by these diffs. `now_s` is seconds since 1970, as far as 32 bits.
pub(super) fn check(
    zone: &Zone,
    anchors: &[Anchor],
    since: Option<(&Zone, &[&Diff])>,
    now_s: u32,
) -> Result<(), DnssecError> {
    let check = Check::new(zone, anchors, now_s)?;
    match since {
        Some((old, diffs)) if !changes_everything(zone, old, diffs) => {
            match check.touched(old, diffs) {
                // A hash tells nothing of its name: look at all of them.
                Err(DnssecError::TooMany) => check.all(),
                checked => checked,
            }
        }
        _ => check.all(),
    }
}

/// Other keys, or another way to deny?
fn changes_everything(zone: &Zone, old: &Zone, diffs: &[&Diff]) -> bool {
    let has_nsec = |zone: &Zone| zone.apex_node().find(Rtype::NSEC).is_some();
    let records = diffs.iter().flat_map(|diff| diff.removed.iter().chain(diff.added.iter()));
    let mut decisive = records.filter(|(owner, record)| {
        matches!(record.rtype, Rtype::DNSKEY | Rtype::NSEC3PARAM) && *owner == zone.apex()
    });
    has_nsec(zone) != has_nsec(old) || decisive.next().is_some()
}

impl<'z> Check<'z> {
    /// Finds the keys that the anchors vouch for, and with them those that sign the zone.
    fn new(zone: &'z Zone, anchors: &[Anchor], now_s: u32) -> Result<Self, DnssecError> {
        let apex = zone.apex();
        let set = zone.apex_node().find(Rtype::DNSKEY).ok_or(DnssecError::NoAnchor)?;
        let vouched = |data: &&[u8]| anchors.iter().any(|anchor| anchor.vouches_for(apex, data));
        let trusted: Vec<_> = set.iter().filter(vouched).filter_map(Key::parse).collect();
        if trusted.is_empty() {
            return Err(DnssecError::NoAnchor);
        }
        let signatures = zone.apex_node().signatures(Rtype::DNSKEY);
        let signatures =
            signatures.ok_or_else(|| DnssecError::Unsigned(apex.to_string(), Rtype::DNSKEY))?;
        signature::verify(&trusted, apex, apex, set, signatures, now_s)
            .map_err(|fault| DnssecError::Signature(apex.to_string(), Rtype::DNSKEY, fault))?;
        let keys = set.iter().filter_map(Key::parse).collect();
        Ok(Self { zone, keys, denial: Denial::of(zone)?, now_s })
    }

    fn text(&self, key: &NameKey) -> String {
        let name = key.name(self.zone.apex()).expect("a key of this zone");
        name.to_string()
    }

    /// Is each set of an owner signed that must be?
    fn signatures(&self, key: &NameKey, node: Node<'_>, all: Standing) -> Result<(), DnssecError> {
        let owner = key.name(self.zone.apex()).expect("a key of this zone");
        for set in node.sets().filter(|set| !set.is_signatures() && all.signs(set.rtype())) {
            let signatures = node.signatures(set.rtype());
            let signatures =
                signatures.ok_or_else(|| DnssecError::Unsigned(owner.to_string(), set.rtype()))?;
            let (apex, name) = (self.zone.apex(), owner.as_name());
            signature::verify(&self.keys, apex, name, set, signatures, self.now_s)
                .map_err(|fault| DnssecError::Signature(owner.to_string(), set.rtype(), fault))?;
        }
        Ok(())
    }

    /// All that must be right of a name that has records. The hash that denies it, if any does.
    fn name(&self, key: &NameKey, node: Node<'_>) -> Result<Option<NameKey>, DnssecError> {
        let standing = Standing::of(key, node);
        if standing == Standing::Occluded {
            return Ok(None);
        }
        self.signatures(key, node, standing)?;
        match self.denial {
            Denial::Nsec => self.nsec(key, node, standing).map(|()| None),
            Denial::Nsec3(_) => self.nsec3(key, Some(node), standing),
        }
    }

    /// All that must be right of an owner of NSEC3 records. Is it one of the chain?
    fn hash(&self, hash: &NameKey, node: Node<'_>) -> Result<bool, DnssecError> {
        self.signatures(hash, node, Standing::Inside)?;
        self.link(hash, node)
    }

    /// The whole zone, on as many threads as leave half of the processors to others.
    fn all(&self) -> Result<(), DnssecError> {
        let threads = thread::available_parallelism().map_or(1, |count| count.get().div_ceil(2));
        let counts = thread::scope(|scope| {
            let parts: Vec<_> =
                (0..threads).map(|part| scope.spawn(move || self.part(part, threads))).collect();
            let joined = parts.into_iter().map(|part| part.join().expect("a check does not panic"));
            joined.collect::<Result<Vec<_>, _>>()
        })?;
        let (denied, hashes) =
            counts.into_iter().fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
        if denied == hashes { Ok(()) } else { Err(DnssecError::TooMany) }
    }

    /// Every `of`th name, and every `of`th hash. How many hashes deny those names, and how many
    /// there are.
    fn part(&self, part: usize, of: usize) -> Result<(usize, usize), DnssecError> {
        let (mut denied, mut hashes) = (0, 0);
        let mut before = NameKey::empty();
        for (at, entry) in self.zone.names().iter().enumerate() {
            let (key, node) = (entry.key.to_key(), Node::of(entry.blob));
            if Standing::of(&key, node) == Standing::Occluded {
                continue;
            }
            if at % of == part {
                denied += usize::from(self.name(&key, node)?.is_some());
                for above in empty_above(&key, before.as_bytes()) {
                    denied += usize::from(self.empty(&above)?.is_some());
                }
            }
            before = key;
        }
        for entry in self.zone.hashes().iter().skip(part).step_by(of) {
            hashes += usize::from(self.hash(&entry.key.to_key(), Node::of(entry.blob))?);
        }
        Ok((denied, hashes))
    }

    /// An empty non-terminal: denied by NSEC3 only.
    fn empty(&self, key: &NameKey) -> Result<Option<NameKey>, DnssecError> {
        match self.denial {
            Denial::Nsec => Ok(None),
            Denial::Nsec3(_) => self.nsec3(key, None, Standing::Inside),
        }
    }

    /// What the diffs, which lead here from `old`, may have made wrong.
    fn touched(&self, old: &Zone, diffs: &[&Diff]) -> Result<(), DnssecError> {
        let mut names = BTreeSet::new();
        let mut hashes: BTreeMap<Vec<u8>, bool> = BTreeMap::new();
        for (owner, _) in diffs.iter().flat_map(|diff| diff.removed.iter().chain(diff.added.iter()))
        {
            if !owner.is_at_or_below(self.zone.apex()) {
                continue;
            }
            let key = self.zone.key(owner);
            if self.zone.hashes().get(&key).is_some() || old.hashes().get(&key).is_some() {
                let is_new = old.hashes().get(&key).is_none();
                hashes.insert(key.as_bytes().to_vec(), is_new);
            }
            names.insert(key.as_bytes().to_vec());
        }
        let mut denied = BTreeSet::new();
        for bytes in &names {
            let key = NameKey::from_bytes(bytes).expect("made from a key");
            self.around(old, &key, &mut denied)?;
        }
        for (bytes, is_new) in &hashes {
            let key = NameKey::from_bytes(bytes).expect("made from a key");
            let place = self.zone.hashes().seek(&key);
            if let Some((blob, ())) = place.exact()
                && self.hash(&key, Node::of(blob))?
                && *is_new
                && !denied.contains(bytes)
            {
                return Err(DnssecError::TooMany);
            }
            if let Some((before, node)) = self.hash_before(&key) {
                self.hash(&before, node)?;
            }
        }
        Ok(())
    }

    /// A name that a diff touched, and those that it has made right or wrong. Notes the hashes that
    /// deny them.
    fn around(
        &self,
        old: &Zone,
        key: &NameKey,
        denied: &mut BTreeSet<Vec<u8>>,
    ) -> Result<(), DnssecError> {
        let names = self.zone.names();
        let place = names.seek(key);
        let mut note = |hash: Option<NameKey>| denied.extend(hash.map(|h| h.as_bytes().to_vec()));
        let hides = |zone: &Zone| {
            let node = zone.node(key)?;
            (node.cut() == key.as_bytes().len()).then_some(())
        };
        if hides(old) != hides(self.zone) {
            for entry in names.range(key.as_bytes()) {
                let below = entry.key.to_key();
                note(self.name(&below, Node::of(entry.blob))?);
                self.gone_if_hidden(&below, Node::of(entry.blob))?;
                for empty in empty_above(&below, key.as_bytes()) {
                    if names.get(&empty).is_none() {
                        note(self.empty_or_gone(&empty)?);
                    }
                }
            }
        }
        match place.exact() {
            Some((blob, ())) => {
                note(self.name(key, Node::of(blob))?);
                self.gone_if_hidden(key, Node::of(blob))?;
            }
            None => note(self.empty_or_gone(key)?),
        }
        for above in empty_above(key, &[]) {
            if names.get(&above).is_none() {
                note(self.empty_or_gone(&above)?);
            }
        }
        // The one before leads here, or past here.
        if let Denial::Nsec = self.denial
            && let Some(before) = place.before()
        {
            let (before, node) = (before.key.to_key(), Node::of(before.blob));
            let top = match Standing::of(&before, node) {
                Standing::Occluded => before.ancestor(node.cut()),
                _ => before,
            };
            let node = self.zone.node(&top).expect("a cut has records");
            self.nsec(&top, node, Standing::of(&top, node))?;
        }
        Ok(())
    }

    /// A name without records: an empty non-terminal is denied as such; one that encloses nothing
    /// is not.
    fn empty_or_gone(&self, key: &NameKey) -> Result<Option<NameKey>, DnssecError> {
        let encloses = self.zone.names().range(key.as_bytes()).any(|entry| {
            Standing::of(&entry.key.to_key(), Node::of(entry.blob)) != Standing::Occluded
        });
        if encloses { self.empty(key) } else { self.gone(key).map(|()| None) }
    }

    fn gone_if_hidden(&self, key: &NameKey, node: Node<'_>) -> Result<(), DnssecError> {
        match Standing::of(key, node) {
            Standing::Occluded => self.gone(key),
            _ => Ok(()),
        }
    }

    /// What is not there must have no record that says it is.
    fn gone(&self, key: &NameKey) -> Result<(), DnssecError> {
        let name = key.name(self.zone.apex()).expect("a key of this zone");
        let hash = self.denial.hash(name.as_name());
        let record = hash.and_then(|hash| self.zone.hashes().get(&hash));
        if record.is_some() { Err(DnssecError::TooMany) } else { Ok(()) }
    }
}

/// The names above `key`, not as far as the apex, that are not above `before` as well, nor it:
/// with `before` the last name before it, those that have no records.
fn empty_above(key: &NameKey, before: &[u8]) -> Vec<NameKey> {
    let bytes = key.as_bytes();
    let shared = crate::name::common_labels(bytes, before);
    let ends = (0..bytes.len().saturating_sub(1)).filter(|&at| bytes[at] == 0 && at >= shared);
    ends.map(|at| key.ancestor(at + 1)).collect()
}

#[cfg(test)]
mod tests;
