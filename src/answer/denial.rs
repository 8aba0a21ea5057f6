//! Proofs that something does not exist, from what the primary signed: NSEC and NSEC3.
//!
//! **How it fits.** While `answer` follows a name it says with [`Answer::prove`] what the client
//! must be able to verify; the records that show it are noted, each once, and written by
//! [`Answer::write_proofs`] when the authority section is due.
//!
//! **Invariants.**
//! - *found, not linked*: the record for a name or a hash is the one at it or the last before it
//!   in the tree. Names without NSEC (glue, what a cut occludes) are skipped by one more look-up.
//! - *hashed once*: the hashes of names that are there are known to the zone. Here only those are
//!   hashed that are not: the next closer name, and wildcards below other names than the apex.
//! - *bounded*: a name has at most 127 ancestors, a hash at most 151 rounds; of another chain at
//!   most [`OTHERS_MAX`] records are passed over.
//!
//! **Sections.** RFC 4035 3.1.3, RFC 5155 7.2, RFC 9276.
//!
//! A zone whose chain has gaps is answered without the proof that is missing.

use super::Answer;
use crate::name::{Key, LABEL_MAX, NAME_MAX, Name, unfold};
use crate::tree::Entry;
use crate::wire::{Class, Full, HEADER_LEN, Rtype, Section};
use crate::zone::{Hash, Node, Nsec3, Zone, hash_key};

/// While one chain of NSEC3 takes the place of another, their records lie among each other as the
/// hashes fall. So many in a row are not of the chain that denies only if there is hardly any of
/// it.
const OTHERS_MAX: usize = 256;

/// How many records the proofs of one reply may need: one for each wildcard that a chain of
/// aliases leads through, and three for its end.
pub(super) const PROOFS_MAX: usize = super::LINKS_MAX + 4;

/// What a reply claims of a name. Enclosers are lengths of keys.
#[derive(Clone, Copy)]
pub(super) enum Claim {
    /// It exists (or is an empty non-terminal), the type asked for does not.
    NoType,
    /// It does not exist, nor does a wildcard for it.
    NoName { encloser: usize },
    /// It does not exist; a wildcard answered.
    Expanded { encloser: usize },
    /// It does not exist; a wildcard for it does, but not with the type asked for.
    NoTypeAtWildcard { encloser: usize },
}

/// A record set to send: an NSEC or NSEC3 with its owner.
#[derive(Clone, Copy)]
pub(super) struct Proof<'a> {
    zone: &'a Zone,
    entry: Entry<'a, ()>,
    rtype: Rtype,
}

impl<'a> Answer<'a, '_> {
    /// Notes what proves `claim` about `name`, whose key is `key`, if the client wants proofs and
    /// the zone has them.
    pub(super) fn prove(&mut self, zone: &'a Zone, name: Name<'_>, key: &Key, claim: Claim) {
        if !self.dnssec_ok {
            return;
        }
        if let Some(nsec3) = zone.nsec3() {
            self.prove_hashed(Chain { zone, nsec3 }, name, key, claim);
        } else if super::has_nsec(zone) {
            self.prove_plain(zone, key, claim);
        }
    }

    /// With NSEC (RFC 4035 section 3.1.3): the record at or before the name, which either denies
    /// the type or spans the name; and likewise for the wildcard.
    fn prove_plain(&mut self, zone: &'a Zone, key: &Key, claim: Claim) {
        self.note(zone, nsec(zone, key), Rtype::NSEC);
        if let Claim::NoName { encloser } | Claim::NoTypeAtWildcard { encloser } = claim
            && let Some(wildcard) = key.wildcard(encloser)
        {
            self.note(zone, nsec(zone, &wildcard), Rtype::NSEC);
        }
    }

    /// With NSEC3 (RFC 5155 section 7.2).
    fn prove_hashed(&mut self, chain: Chain<'a>, name: Name<'_>, key: &Key, claim: Claim) {
        let Chain { zone, nsec3 } = chain;
        match claim {
            Claim::NoType => {
                let hash = zone.hash_of(nsec3, key, name);
                let exact = chain.matching(&hash);
                self.note(zone, exact, Rtype::NSEC3);
                if exact.is_none() {
                    // Of an unsigned delegation within an opt-out span (section 7.2.7).
                    self.prove_encloser(chain, name, key, parent(key.as_bytes()), hash);
                }
            }
            Claim::Expanded { encloser } => {
                let next = next_closer(name, encloser + zone.apex().len());
                self.note(zone, chain.covering(&nsec3.hash(next)), Rtype::NSEC3);
            }
            Claim::NoName { encloser } | Claim::NoTypeAtWildcard { encloser } => {
                let next = next_closer(name, encloser + zone.apex().len());
                let closest = self.prove_encloser(chain, name, key, encloser, nsec3.hash(next));
                // At the wildcard if it exists, else spanning it.
                let encloser = above(name, closest + zone.apex().len());
                let hash = zone.hash_of_wildcard(nsec3, &key.ancestor(closest), encloser);
                if let Some(hash) = hash {
                    self.note(zone, chain.covering(&hash), Rtype::NSEC3);
                }
            }
        }
    }

    /// The closest encloser proof (section 7.2.1): the longest ancestor, its key of at most `len`
    /// octets, that has a record, and the span that its child towards `name` is in; `next` is the
    /// hash of the child of the one of `len` octets. Returns the octets of that ancestor's key.
    fn prove_encloser(
        &mut self,
        chain: Chain<'a>,
        name: Name<'_>,
        key: &Key,
        mut len: usize,
        mut next: Hash,
    ) -> usize {
        let Chain { zone, nsec3 } = chain;
        loop {
            let closest = above(name, len + zone.apex().len());
            let hash = zone.hash_of(nsec3, &key.ancestor(len), closest);
            let entry = chain.matching(&hash);
            self.note(zone, entry, Rtype::NSEC3);
            if entry.is_some() || len == 0 {
                break;
            }
            (len, next) = (parent(&key.as_bytes()[..len]), hash);
        }
        self.note(zone, chain.covering(&next), Rtype::NSEC3);
        len
    }

    /// Notes a record, unless it is noted already.
    fn note(&mut self, zone: &'a Zone, entry: Option<Entry<'a, ()>>, rtype: Rtype) {
        let Some(entry) = entry else { return };
        if !self.proofs.iter().any(|known| std::ptr::eq(known.entry.blob, entry.blob)) {
            // There is room for what any reply needs.
            let _ = self.proofs.try_push(Proof { zone, entry, rtype });
        }
    }

    /// Writes what was noted to the authority section.
    #[inline]
    pub(super) fn write_proofs(&mut self) -> Result<(), Full> {
        if self.proofs.is_empty() { Ok(()) } else { self.write_noted() }
    }

    fn write_noted(&mut self) -> Result<(), Full> {
        for at in 0..self.proofs.len() {
            let Proof { zone, entry, rtype } = self.proofs[at];
            if rtype == Rtype::NSEC3
                && let Some(apex_at) = self.apex_at(zone)
            {
                self.put_hashed(entry, apex_at)?;
                continue;
            }
            let node = Node::of(entry.blob);
            let mut buffer = [0; NAME_MAX];
            let owner = entry.key.to_key();
            if let Some(name) = owner.write_name(zone.apex(), &mut buffer)
                && let Some(set) = node.find(rtype)
            {
                self.put(Section::Authority, super::Owner { name, at: None }, node, &set)?;
            }
        }
        self.proofs.clear();
        Ok(())
    }

    /// Where the zone's apex lies in the message: in the question, if that is for this zone.
    fn apex_at(&self, zone: &Zone) -> Option<usize> {
        let (_, entered) = self.entered?;
        let name = self.query.question.as_ref()?.name;
        let len = zone.apex().len();
        (std::ptr::eq(zone, entered) && len > 1).then(|| HEADER_LEN + name.len() - len)
    }

    /// Writes an NSEC3 record and its signatures. No other name can share the first label of its
    /// owner, so there is nothing to look for and nothing to remember.
    fn put_hashed(&mut self, entry: Entry<'a, ()>, apex_at: usize) -> Result<(), Full> {
        let mut label = [0; LABEL_MAX + 1];
        let label = &mut label[..entry.key.len()];
        entry.key.copy_octets(label);
        unfold(label);
        // Behind it is the zero that ends it in a key.
        let (_, label) = label.split_last().expect("the owner is below the apex");
        let node = Node::of(entry.blob);
        let mut at = None;
        let sets = [node.find(Rtype::NSEC3), node.signatures(Rtype::NSEC3)];
        for set in sets.into_iter().flatten() {
            let (rtype, ttl) = (set.data_type(), set.ttl());
            for data in set.iter() {
                if let Some(at) = at {
                    let kind = (rtype, Class::IN, ttl);
                    self.writer.plain_record_at(Section::Authority, at, kind, data)?;
                } else {
                    at = self.writer.child(label, apex_at)?;
                    self.writer.fixed(Section::Authority, rtype, Class::IN, ttl)?;
                    self.writer.plain_data(data)?;
                }
            }
        }
        Ok(())
    }
}

/// The entry with the NSEC record at `key`, or the last before it.
fn nsec<'a>(zone: &'a Zone, key: &Key) -> Option<Entry<'a, ()>> {
    let has_nsec = |entry: &Entry<'a, ()>| Node::of(entry.blob).find(Rtype::NSEC).is_some();
    let before = zone.names().seek(key).at_or_before()?;
    if has_nsec(&before) {
        return Some(before);
    }
    // Glue, or occluded: the cut above it has one.
    let cut = before.key.to_key().ancestor(Node::of(before.blob).cut());
    zone.names().seek(&cut).at_or_before().filter(has_nsec)
}

/// The records of a zone's chain of NSEC3.
#[derive(Clone, Copy)]
struct Chain<'a> {
    zone: &'a Zone,
    nsec3: &'a Nsec3,
}

impl<'a> Chain<'a> {
    /// The record of a name with this hash.
    fn matching(self, hash: &Hash) -> Option<Entry<'a, ()>> {
        let key = hash_key(hash);
        let entry = self.zone.hashes().seek(&key).at_or_before()?;
        (entry.key == key && self.has(&entry)).then_some(entry)
    }

    /// The record of a name with this hash, or the one whose span it is in.
    fn covering(self, hash: &Hash) -> Option<Entry<'a, ()>> {
        let hashes = self.zone.hashes();
        let mut entry = hashes.seek(&hash_key(hash)).at_or_before().or_else(|| hashes.last())?;
        for _ in 0..OTHERS_MAX {
            if self.has(&entry) {
                return Some(entry);
            }
            let key = entry.key.to_key();
            entry = hashes.seek(&key).before().or_else(|| hashes.last())?;
        }
        None
    }

    /// Is this a record of the chain, not of one that it replaces or that will replace it?
    fn has(self, entry: &Entry<'a, ()>) -> bool {
        let set = Node::of(entry.blob).find(Rtype::NSEC3);
        set.is_some_and(|set| set.iter().any(|data| self.nsec3.owns(data)))
    }
}

/// The ancestor of `name` that has `len` octets.
fn above(mut name: Name<'_>, len: usize) -> Name<'_> {
    while let Some(parent) = name.parent()
        && name.len() > len
    {
        name = parent;
    }
    name
}

/// The ancestor of `name` that is a child of the one of `encloser` octets.
fn next_closer(mut name: Name<'_>, encloser: usize) -> Name<'_> {
    while let Some(parent) = name.parent()
        && parent.len() > encloser
    {
        name = parent;
    }
    name
}

/// How many octets the key has of the parent of the name with this key.
fn parent(key: &[u8]) -> usize {
    let own = key.len().saturating_sub(1);
    key[..own].iter().rposition(|&octet| octet == 0).map_or(0, |end| end + 1)
}
