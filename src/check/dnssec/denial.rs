//! What denies names: is each one's NSEC or NSEC3 record there, with its types, and does it lead to
//! the next? RFC 4034 section 4, RFC 5155 sections 3 and 7.1.

use super::{Check, DnssecError, Standing};
use crate::name::{Key, Name};
use crate::wire::Rtype;
use crate::zone::{Node, Nsec3, Zone, hash_key};

const OPT_OUT: u8 = 1;

/// How the zone denies.
pub(super) enum Denial {
    Nsec,
    Nsec3(Nsec3),
}

impl Denial {
    /// What the apex says.
    pub(super) fn of(zone: &Zone) -> Result<Self, DnssecError> {
        let apex = zone.apex_node();
        if apex.find(Rtype::NSEC).is_some() {
            return Ok(Self::Nsec);
        }
        zone.nsec3().cloned().map(Self::Nsec3).ok_or(DnssecError::NoDenial)
    }

    /// The key in [`Zone::hashes`] of a name's hash.
    pub(super) fn hash(&self, owner: Name<'_>) -> Option<Key> {
        let Self::Nsec3(nsec3) = self else { return None };
        Some(hash_key(&nsec3.hash(owner)))
    }

    /// Is this record of the chain that the apex names?
    fn is_own(&self, data: &[u8]) -> bool {
        matches!(self, Self::Nsec3(nsec3) if nsec3.owns(data))
    }

    /// Flags, next hash and types of the record in this node.
    fn read<'z>(&self, node: Node<'z>) -> Option<(u8, &'z [u8], &'z [u8])> {
        let mut own = node.find(Rtype::NSEC3)?.iter().filter(|data| self.is_own(data));
        let data = own.next().filter(|_| own.next().is_none())?;
        let rest = &data[5 + usize::from(data[4])..];
        let (&len, rest) = rest.split_first()?;
        let (next, types) = rest.split_at_checked(len.into())?;
        Some((data[1], next, types))
    }
}

/// Are these the types in a type bit map (RFC 4034 section 4.1.2)?
fn same_types(mut map: &[u8], types: &[Rtype]) -> bool {
    let mut found = Vec::with_capacity(types.len());
    while let [window, len, rest @ ..] = map {
        let Some((bits, after)) = rest.split_at_checked((*len).into()) else { return false };
        for (at, octet) in (0_u16..).zip(bits) {
            let set = (0..8).filter(|bit| octet & (0x80 >> bit) != 0);
            found.extend(set.map(|bit| Rtype((u16::from(*window) << 8) | (at * 8 + bit))));
        }
        map = after;
    }
    map.is_empty() && found == types
}

impl Check<'_> {
    /// The types that the record of a name must tell, in order.
    fn types(&self, node: Node<'_>, standing: Standing) -> Vec<Rtype> {
        let mut types = Vec::new();
        let mut signed = false;
        for set in node.sets() {
            if set.is_signatures() {
                signed |= standing.signs(set.rtype());
            } else if standing.tells(set.rtype()) {
                types.push(set.rtype());
            }
        }
        if signed {
            types.push(Rtype::RRSIG);
        }
        types.sort_unstable();
        types
    }

    /// Is the name denied by NSEC as it must be: with its types, up to the next name?
    pub(super) fn nsec(
        &self,
        key: &Key,
        node: Node<'_>,
        standing: Standing,
    ) -> Result<(), DnssecError> {
        let owner = || self.text(key);
        let set = node.find(Rtype::NSEC).ok_or_else(|| DnssecError::NoRecord(owner()))?;
        let (next, types) = Name::split(set.first()).ok_or_else(|| DnssecError::Next(owner()))?;
        let leads =
            next.is_at_or_below(self.zone.apex()) && self.zone.key(next) == self.next_name(key);
        if set.count() != 1 || !leads {
            return Err(DnssecError::Next(owner()));
        }
        match same_types(types, &self.types(node, standing)) {
            true => Ok(()),
            false => Err(DnssecError::Types(owner())),
        }
    }

    /// The next name that is not occluded; after the last one, the apex.
    fn next_name(&self, key: &Key) -> Key {
        let mut after = self.zone.names().after(key);
        let next = after.find(|entry| {
            let cut = Node::of(entry.blob).cut();
            cut == 0 || cut == entry.key.len()
        });
        next.map_or_else(Key::empty, |entry| entry.key.to_key())
    }

    /// Is the name denied by NSEC3 as it must be? `node` is `None` for an empty non-terminal. The
    /// hash, if it has a record; without one it must be in a span that opts out.
    pub(super) fn nsec3(
        &self,
        key: &Key,
        node: Option<Node<'_>>,
        standing: Standing,
    ) -> Result<Option<Key>, DnssecError> {
        let name = key.name(self.zone.apex()).expect("a key of this zone");
        let hash = self.denial.hash(name.as_name()).expect("it denies by NSEC3");
        let owner = || self.text(key);
        let at = self.zone.hashes().get(&hash);
        let at = at.and_then(|(blob, ())| self.denial.read(Node::of(blob)));
        let Some((_, _, types)) = at else {
            let unsigned = standing == Standing::Cut
                && node.is_some_and(|node| node.find(Rtype::DS).is_none());
            let span = self.hash_before(&hash).and_then(|(_, node)| self.denial.read(node));
            let opted_out = span.is_some_and(|(flags, ..)| flags & OPT_OUT != 0);
            return match opted_out && (unsigned || node.is_none()) {
                true => Ok(None),
                false => Err(DnssecError::NoRecord(owner())),
            };
        };
        let expected = node.map_or_else(Vec::new, |node| self.types(node, standing));
        match same_types(types, &expected) {
            true => Ok(Some(hash)),
            false => Err(DnssecError::Types(owner())),
        }
    }

    /// The record of the chain before this hash: of the last one, before the first.
    pub(super) fn hash_before(&self, hash: &Key) -> Option<(Key, Node<'_>)> {
        let hashes = self.zone.hashes();
        let mut before = hash.clone();
        // While one chain takes the place of another, records of both are among each other.
        for _ in 0..hashes.len() {
            let entry = hashes.seek(&before).before().or_else(|| hashes.last())?;
            let node = Node::of(entry.blob);
            before = entry.key.to_key();
            if self.denial.read(node).is_some() {
                return Some((before, node));
            }
        }
        None
    }

    /// Does the NSEC3 record at this hash lead to the next one? `false`: it is of another chain.
    pub(super) fn link(&self, hash: &Key, node: Node<'_>) -> Result<bool, DnssecError> {
        let Some((_, next, _)) = self.denial.read(node) else { return Ok(false) };
        let own = |blob| self.denial.read(Node::of(blob)).is_some();
        let hashes = self.zone.hashes();
        let mut after = hashes.after(hash).chain(hashes.iter());
        let follows = after.find(|entry| own(entry.blob)).expect("this one, at the latest");
        match next.try_into().is_ok_and(|next| follows.key == hash_key(next)) {
            true => Ok(true),
            false => Err(DnssecError::Next(self.text(hash))),
        }
    }
}
