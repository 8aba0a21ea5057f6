//! Proofs that something does not exist, from what the primary signed: NSEC and NSEC3.
//!
//! **How it fits.** While `answer` follows a name it says with [`Answer::prove`] what the client
//! must be able to verify; the records that show it are noted, each once, and written by
//! [`Answer::write_proofs`] when the authority section is due.
//!
//! **Invariants.**
//! - *found, not linked*: the record for a name or a hash is the one at it or the last before it
//!   in the tree. Names without NSEC (glue, what a cut occludes) are skipped by one more look-up.
//! - *bounded*: a name has at most 127 ancestors, a hash at most [`ITERATIONS_MAX`] + 1 rounds.
//!
//! **Sections.** RFC 4035 3.1.3, RFC 5155 7.2, RFC 9276.
//!
//! A zone whose chain has gaps is answered without the proof that is missing.

use super::Answer;
use crate::name::{Key, NAME_MAX, Name};
use crate::tree::Entry;
use crate::wire::{Full, Rtype, Section};
use crate::zone::{Node, Zone};
use sha1::{Digest, Sha1};

/// More iterations than this are taken for an attack on us (RFC 9276 section 3.2): no proofs.
const ITERATIONS_MAX: u16 = 150;

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
        if !zone.hashes().is_empty() {
            if let Some(hasher) = Hasher::of(zone) {
                self.prove_hashed(&hasher, name, claim);
            }
        } else if zone.apex_node().find(Rtype::NSEC).is_some() {
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
    fn prove_hashed(&mut self, hasher: &Hasher<'a>, name: Name<'_>, claim: Claim) {
        let zone = hasher.zone;
        match claim {
            Claim::NoType => {
                let exact = hasher.matching(name);
                self.note(zone, exact, Rtype::NSEC3);
                if exact.is_none() {
                    // Of an unsigned delegation within an opt-out span (section 7.2.7).
                    self.prove_encloser(hasher, name, name.len() - 1);
                }
            }
            Claim::Expanded { encloser } => {
                let next = hasher.next_closer(name, encloser);
                self.note(zone, hasher.covering(next), Rtype::NSEC3);
            }
            Claim::NoName { encloser } | Claim::NoTypeAtWildcard { encloser } => {
                let closest = self.prove_encloser(hasher, name, encloser + zone.apex().len());
                let mut buffer = [0; NAME_MAX];
                if let Some(wildcard) = wildcard_of(closest, &mut buffer) {
                    // At the wildcard if it exists, else spanning it.
                    self.note(zone, hasher.covering(wildcard), Rtype::NSEC3);
                }
            }
        }
    }

    /// The closest encloser proof (section 7.2.1): the longest ancestor of at most `len` octets
    /// that has an NSEC3 record, and the span that its child towards `name` is in. Returns that
    /// ancestor.
    fn prove_encloser<'n>(&mut self, hasher: &Hasher<'a>, name: Name<'n>, len: usize) -> Name<'n> {
        let zone = hasher.zone;
        let (mut closest, mut child) = (name, None);
        loop {
            if closest.len() <= len
                && let Some(entry) = hasher.matching(closest)
            {
                self.note(zone, Some(entry), Rtype::NSEC3);
                break;
            }
            match closest.parent() {
                Some(parent) if closest.len() > zone.apex().len() => {
                    (child, closest) = (Some(closest), parent);
                }
                _ => break,
            }
        }
        if let Some(next) = child {
            self.note(zone, hasher.covering(next), Rtype::NSEC3);
        }
        closest
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

/// The wildcard below `encloser`.
fn wildcard_of<'b>(encloser: Name<'_>, buffer: &'b mut [u8; NAME_MAX]) -> Option<Name<'b>> {
    let wire = buffer.get_mut(..2 + encloser.len())?;
    wire[..2].copy_from_slice(b"\x01*");
    wire[2..].copy_from_slice(encloser.as_wire());
    Name::from_wire(wire)
}

/// Hashes names as a zone's NSEC3PARAM says, and finds the records of hashes.
struct Hasher<'a> {
    zone: &'a Zone,
    iterations: u16,
    salt: &'a [u8],
}

impl<'a> Hasher<'a> {
    /// `None` if the zone has no parameters that we support.
    fn of(zone: &'a Zone) -> Option<Self> {
        zone.apex_node().find(Rtype::NSEC3PARAM)?.iter().find_map(|data| {
            let (&[algorithm, flags, high, low, salt_len], salt) = data.split_first_chunk()?;
            let iterations = u16::from_be_bytes([high, low]);
            let usable = algorithm == 1 && flags == 0 && iterations <= ITERATIONS_MAX;
            let salt = salt.get(..usize::from(salt_len))?;
            usable.then_some(Self { zone, iterations, salt })
        })
    }

    /// The key of the NSEC3 record of `name` (RFC 5155 section 5).
    fn key(&self, name: Name<'_>) -> Key {
        let mut folded = [0; NAME_MAX];
        let folded = &mut folded[..name.len()];
        folded.copy_from_slice(name.as_wire());
        folded.make_ascii_lowercase();
        let mut hash = Sha1::new().chain_update(folded).chain_update(self.salt).finalize();
        for _ in 0..self.iterations {
            hash = Sha1::new().chain_update(hash).chain_update(self.salt).finalize();
        }
        let label = base32hex(&hash.into());
        Key::of(Name::from_wire(&label).expect("a label of 32 octets"), 0)
    }

    /// The record of this name.
    fn matching(&self, name: Name<'_>) -> Option<Entry<'a, ()>> {
        let key = self.key(name);
        self.zone.hashes().seek(&key).at_or_before().filter(|entry| entry.key == key)
    }

    /// The record of this name, or the one whose span it is in.
    fn covering(&self, name: Name<'_>) -> Option<Entry<'a, ()>> {
        let hashes = self.zone.hashes();
        hashes.seek(&self.key(name)).at_or_before().or_else(|| hashes.last())
    }

    /// The ancestor of `name` that is a child of the one whose key has `encloser` octets.
    fn next_closer<'n>(&self, name: Name<'n>, encloser: usize) -> Name<'n> {
        let mut next = name;
        while let Some(parent) = next.parent()
            && parent.len() > encloser + self.zone.apex().len()
        {
            next = parent;
        }
        next
    }
}

/// A name of one label: 20 octets in base32hex (RFC 4648 section 7), lower case.
fn base32hex(hash: &[u8; 20]) -> [u8; 34] {
    let mut name = [0; 34];
    name[0] = 32;
    for (octets, digits) in hash.chunks_exact(5).zip(name[1..33].chunks_exact_mut(8)) {
        let bits = octets.iter().fold(0_u64, |bits, &octet| bits << 8 | u64::from(octet));
        for (at, digit) in digits.iter_mut().enumerate() {
            let value = (bits >> (35 - 5 * at) & 31) as usize;
            *digit = b"0123456789abcdefghijklmnopqrstuv"[value];
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::NameBuf;
    use crate::zone::{Builder, Record};

    /// The hashes of RFC 5155 appendix A.
    #[test]
    fn names_are_hashed_as_rfc_5155_shows() {
        let apex: NameBuf = "example".parse().unwrap();
        let mut builder = Builder::new(apex.as_name());
        let mut add = |rtype, data: &[u8]| {
            builder.add(apex.as_name(), Record { rtype, ttl: 1, data });
        };
        add(Rtype::SOA, &[0; 22]);
        add(Rtype::NSEC3PARAM, &[1, 0, 0, 12, 4, 0xaa, 0xbb, 0xcc, 0xdd]);
        let zone = builder.build().unwrap();
        let hasher = Hasher::of(&zone).unwrap();
        for (name, hash) in [
            ("example", "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom"),
            ("*.w.Example", "r53bq7cc2uvmubfu5ocmm6pers9tk9en"),
            ("2t7b4g4vsa5smi47k61mv5bv1a22bojr.example", "kohar7mbb8dc2ce8a9qvl8hon4k53uhi"),
        ] {
            let name: NameBuf = name.parse().unwrap();
            let hash: NameBuf = hash.parse().unwrap();
            assert!(hasher.key(name.as_name()) == Key::of(hash.as_name(), 0), "{name}");
        }
    }
}
