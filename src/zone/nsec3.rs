//! NSEC3: which chain of hashes a zone denies by, and what the hashes of its names are.
//!
//! **How it fits.** The node of every name that may be denied holds the name's hash, set when the
//! zone is built or changed; those of empty non-terminals, which have no node, are in
//! [`Zone::empties`]. So `answer` hashes only names that are not there.
//!
//! **Invariants.**
//! - *one chain*: the first NSEC3PARAM record with an algorithm and flags that we know. While a
//!   chain takes the place of another, records of both are among [`Zone::hashes`]: only those
//!   that are [its own](Nsec3::owns) deny.
//! - *right by every change*: a hash is that of its name by the chain's parameters. Other
//!   parameters make all hashes anew.
//! - *not kept*: hashes are no part of what the store has.
//!
//! **Sections.** RFC 5155 sections 4, 5 and 7.3, RFC 9276.

use super::{Node, Record, Zone};
use crate::name::{Key, NAME_MAX, Name};
use crate::octets;
use crate::tree::Tree;
use crate::wire::Rtype;
use sha1::block_api::compress;
use sha1::{Digest, Sha1};

/// With more iterations than this a zone is refused (RFC 9276 section 3.2).
pub(super) const ITERATIONS_MAX: u16 = 150;

/// The only algorithm there is.
const SHA1: u8 = 1;

/// A hash of a name.
pub type Hash = [u8; 20];

/// The chain of NSEC3 records that a zone denies by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nsec3 {
    iterations: u16,
    salt: Box<[u8]>,
    /// The hash of the wildcard below the apex, whether it is there or not: most proofs need it.
    wildcard: Hash,
}

impl Nsec3 {
    /// What the apex's records say. `None`: the zone does not deny by NSEC3, or in a way that we
    /// do not know, or without signatures, which proves nothing.
    pub(super) fn of(apex: Name<'_>, node: Node<'_>) -> Option<Self> {
        node.signatures(Rtype::NSEC3PARAM)?;
        let fit = |data: &&[u8]| matches!(data, [SHA1, 0, ..]);
        let data = node.find(Rtype::NSEC3PARAM)?.iter().find(fit)?;
        let (&[_, _, high, low, len], rest) = data.split_first_chunk()?;
        let salt = rest.get(..usize::from(len))?.into();
        let iterations = u16::from_be_bytes([high, low]);
        let mut nsec3 = Self { iterations, salt, wildcard: Hash::default() };
        if let Some(wildcard) = wildcard(apex, &mut [0; NAME_MAX]) {
            nsec3.wildcard = nsec3.hash(wildcard);
        }
        Some(nsec3)
    }

    /// The hash of a name (RFC 5155 section 5).
    pub fn hash(&self, name: Name<'_>) -> Hash {
        let mut folded = [0; NAME_MAX];
        let folded = &mut folded[..name.len()];
        folded.copy_from_slice(name.as_wire());
        folded.make_ascii_lowercase();
        let mut hash = sha1(folded, &self.salt);
        for _ in 0..self.iterations {
            hash = sha1(&hash, &self.salt);
        }
        hash
    }

    /// Is this NSEC3 record, by its data, one of the chain?
    pub fn owns(&self, data: &[u8]) -> bool {
        let Some((&[algorithm, _, high, low, len], rest)) = data.split_first_chunk() else {
            return false;
        };
        algorithm == SHA1
            && u16::from_be_bytes([high, low]) == self.iterations
            && usize::from(len) == self.salt.len()
            && rest.starts_with(&self.salt)
    }
}

/// The hash of `octets` and what follows them: one block of SHA-1 for all but long names.
fn sha1(octets: &[u8], salt: &[u8]) -> Hash {
    let len = octets.len() + salt.len();
    let mut block = [0; 64];
    if len > block.len() - 9 {
        return Sha1::new().chain_update(octets).chain_update(salt).finalize().into();
    }
    block[..octets.len()].copy_from_slice(octets);
    block[octets.len()..len].copy_from_slice(salt);
    // RFC 3174 section 4: a one, zeros, and the number of bits.
    block[len] = 0x80;
    block[56..].copy_from_slice(&(len as u64 * 8).to_be_bytes());
    let mut state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    compress(&mut state, &[block]);
    let mut hash = Hash::default();
    for (octets, word) in hash.chunks_exact_mut(4).zip(state) {
        octets.copy_from_slice(&word.to_be_bytes());
    }
    hash
}

/// Under which key [`Zone::hashes`] has the record of a name with this hash.
pub fn hash_key(hash: &Hash) -> Key {
    // Behind the label is the zero that ends it.
    let mut label = [0; 33];
    // RFC 4648 section 7: its order is that of the hashes.
    for (five, digits) in hash.chunks_exact(5).zip(label.chunks_exact_mut(8)) {
        let bits = five.iter().fold(0_u64, |bits, &octet| bits << 8 | u64::from(octet));
        digits.copy_from_slice(&octets::base32_above_zero(bits).to_be_bytes());
    }
    Key::made(&label)
}

/// The wildcard below `encloser`.
fn wildcard<'b>(encloser: Name<'_>, buffer: &'b mut [u8; NAME_MAX]) -> Option<Name<'b>> {
    let wire = buffer.get_mut(..2 + encloser.len())?;
    wire[..2].copy_from_slice(b"\x01*");
    wire[2..].copy_from_slice(encloser.as_wire());
    Name::from_wire(wire)
}

/// With how many iterations this record asks for hashes, if that are too many.
pub(super) fn excessive(record: Record<'_>) -> Option<u16> {
    let decides = match record.rtype {
        Rtype::NSEC3 => true,
        // One with flags is of a chain that is being made (RFC 5155 section 4.1.2).
        Rtype::NSEC3PARAM => record.data.get(1) == Some(&0),
        _ => false,
    };
    let count = record.data.get(2..4).filter(|_| decides)?;
    let count = u16::from_be_bytes([count[0], count[1]]);
    (count > ITERATIONS_MAX).then_some(count)
}

/// The ends of the labels of a key that are its ancestors, the apex excepted; the topmost first.
fn ancestors(key: &[u8]) -> impl DoubleEndedIterator<Item = usize> + '_ {
    (1..key.len()).filter(|&end| key[end - 1] == 0)
}

impl Zone {
    /// The chain of NSEC3 records that the zone denies by.
    pub fn nsec3(&self) -> Option<&Nsec3> {
        self.nsec3.as_deref()
    }

    /// How often a hash is hashed again; 0 also for a zone that does not deny by NSEC3.
    pub fn nsec3_iterations(&self) -> u16 {
        self.nsec3().map_or(0, |nsec3| nsec3.iterations)
    }

    /// The hash of a name that is there, whose key is `key`. One that is not is hashed.
    pub fn hash_of(&self, nsec3: &Nsec3, key: &Key, name: Name<'_>) -> Hash {
        let node = if key.is_empty() { Some(self.apex_node()) } else { self.node(key) };
        let known = match node {
            Some(node) => node.hash().copied(),
            None => self.empties.get(key).and_then(|(blob, ())| blob.try_into().ok()),
        };
        known.unwrap_or_else(|| nsec3.hash(name))
    }

    /// The hash of the wildcard below `encloser`, which is in the zone and has the key `key`.
    /// `None` if it is too long a name.
    pub fn hash_of_wildcard(&self, nsec3: &Nsec3, key: &Key, encloser: Name<'_>) -> Option<Hash> {
        if key.is_empty() {
            return Some(nsec3.wildcard);
        }
        let mut buffer = [0; NAME_MAX];
        let wildcard = wildcard(encloser, &mut buffer)?;
        Some(self.hash_of(nsec3, &key.wildcard(key.len())?, wildcard))
    }

    /// The hash that the node of `key` is to hold, `cut` being its mark. What is below a cut is
    /// never denied.
    pub(super) fn hash_to_hold(&self, key: &Key, cut: usize) -> Option<Hash> {
        let nsec3 = self.nsec3()?;
        let occluded = (1..key.len()).contains(&cut);
        let name = || key.name(self.apex()).expect("a key of this zone");
        (!occluded).then(|| nsec3.hash(name().as_name()))
    }

    /// All hashes anew: there are other parameters, or none any more.
    pub(super) fn hash_all(&mut self) {
        self.names = Tree::build(self.names.iter().map(|entry| {
            let (key, node) = (entry.key.to_key(), Node::of(entry.blob));
            let mut blob = Vec::new();
            node.with_hash(self.hash_to_hold(&key, node.cut()), &mut blob);
            (key.as_bytes().to_vec(), blob, ())
        }));
        self.find_empties();
    }

    /// Finds all empty non-terminals, if hashes are wanted.
    fn find_empties(&mut self) {
        let Some(nsec3) = self.nsec3() else {
            self.empties = Tree::default();
            return;
        };
        let mut last = Key::empty();
        // An ancestor with records comes before what is below it, and shares all of itself.
        let found = self.names.iter().flat_map(|entry| {
            let key = entry.key.to_key();
            let shared = key.common(last.as_bytes());
            last = key.clone();
            let ends: Vec<_> = ancestors(key.as_bytes()).filter(|&end| end > shared).collect();
            ends.into_iter().map(move |end| key.ancestor(end))
        });
        let entries = found.map(|key| {
            let name = key.name(self.apex()).expect("above a name of this zone");
            (key.as_bytes().to_vec(), nsec3.hash(name.as_name()), ())
        });
        self.empties = Tree::build(entries);
    }

    /// The name with this key has come or gone: which names at and above it are empty now?
    pub(super) fn tend_empties(&mut self, key: &Key) {
        let whole = std::iter::once(key.len()).filter(|&len| len > 0);
        for end in ancestors(key.as_bytes()).chain(whole) {
            let at = key.ancestor(end);
            let mut within = self.names.range(at.as_bytes());
            let is_empty = within.next().is_some_and(|first| first.key != at);
            if !is_empty {
                self.empties.remove(&at);
            } else if self.empties.get(&at).is_none()
                && let Some(hash) = self.hash_to_hold(&at, 0)
            {
                self.empties.insert(&at, &hash, ());
            }
        }
    }
}

#[cfg(test)]
mod tests;
