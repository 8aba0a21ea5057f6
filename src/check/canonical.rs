//! The canonical form and order of records (RFC 4034 section 6, RFC 6840 section 5.1).

use crate::name::Key;
use crate::tree::Range;
use crate::wire::{Class, Rtype, fold_data};
use crate::zone::{Node, RecordSet, Zone};
use std::cmp::Ordering;
use std::iter::Peekable;
use std::ops::Range as Place;

const A6: Rtype = Rtype(38);

/// Appends the canonical form of a record's data: the names in it in lower case, in those types
/// that are older than the rule that unknown types are opaque.
pub(super) fn write_data(rtype: Rtype, data: &[u8], out: &mut Vec<u8>) {
    let begin = out.len();
    match rtype {
        // Names in these stay as they are: later types, and NSEC by RFC 6840 section 5.1.
        Rtype::NSEC | Rtype::LP | Rtype::SVCB | Rtype::HTTPS => out.extend_from_slice(data),
        A6 => {
            out.extend_from_slice(data);
            // RFC 2874 section 3.1: a prefix length, what is left of an address, and a name.
            let suffix = data.first().map_or(0, |&bits| (135 - usize::from(bits.min(128))) / 8);
            out[begin..].get_mut(1 + suffix..).unwrap_or_default().make_ascii_lowercase();
        }
        _ => fold_data(rtype, data, out),
    }
}

/// The records of an owner in canonical form and order, without duplicates.
#[derive(Default)]
pub(super) struct Records {
    octets: Vec<u8>,
    records: Vec<Canonical>,
}

struct Canonical {
    rtype: Rtype,
    ttl: u32,
    /// Where its data lie.
    data: Place<usize>,
}

impl Records {
    /// Takes these sets in the place of what it has.
    pub(super) fn fill<'z>(&mut self, sets: impl Iterator<Item = RecordSet<'z>>) {
        self.octets.clear();
        self.records.clear();
        for set in sets {
            for given in set.iter() {
                let begin = self.octets.len();
                write_data(set.data_type(), given, &mut self.octets);
                let data = begin..self.octets.len();
                self.records.push(Canonical { rtype: set.data_type(), ttl: set.ttl(), data });
            }
        }
        let octets = &self.octets;
        let order = |a: &Canonical, b: &Canonical| {
            let data = || octets[a.data.clone()].cmp(&octets[b.data.clone()]);
            a.rtype.cmp(&b.rtype).then_with(data)
        };
        self.records.sort_unstable_by(order);
        self.records.dedup_by(|a, b| order(a, b) == Ordering::Equal);
    }

    /// Appends each record as it would be sent, with its owner, a name in lower case, and with its
    /// own TTL or this one.
    pub(super) fn write(&self, owner: &[u8], ttl: Option<u32>, out: &mut Vec<u8>) {
        for Canonical { rtype, ttl: own, data } in &self.records {
            let data = &self.octets[data.clone()];
            let len = u16::try_from(data.len()).expect("data came with a 16-bit length");
            out.extend_from_slice(owner);
            out.extend_from_slice(&rtype.0.to_be_bytes());
            out.extend_from_slice(&Class::IN.0.to_be_bytes());
            out.extend_from_slice(&ttl.unwrap_or(*own).to_be_bytes());
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(data);
        }
    }
}

/// All owners of a zone in canonical order, those of NSEC3 records among the others.
pub(super) struct Owners<'z> {
    names: Peekable<Range<'z, ()>>,
    hashes: Peekable<Range<'z, ()>>,
}

/// An owner with its ordinary records, its NSEC3 records, or both.
pub(super) struct Owner<'z> {
    pub(super) key: Key,
    nodes: [Option<Node<'z>>; 2],
}

impl<'z> Owner<'z> {
    /// All its sets, in no order.
    pub(super) fn sets(&self) -> impl Iterator<Item = RecordSet<'z>> + use<'z> {
        self.nodes.into_iter().flatten().flat_map(Node::sets)
    }
}

impl<'z> Owners<'z> {
    pub(super) fn of(zone: &'z Zone) -> Self {
        Self { names: zone.names().iter().peekable(), hashes: zone.hashes().iter().peekable() }
    }
}

impl<'z> Iterator for Owners<'z> {
    type Item = Owner<'z>;

    fn next(&mut self) -> Option<Owner<'z>> {
        let first = match (self.names.peek(), self.hashes.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(name), Some(hash)) => {
                name.key.to_key().as_bytes().cmp(hash.key.to_key().as_bytes())
            }
        };
        let name = if first.is_le() { self.names.next() } else { None };
        let hash = if first.is_ge() { self.hashes.next() } else { None };
        let key = name.or(hash)?.key.to_key();
        Some(Owner { key, nodes: [name, hash].map(|found| Some(Node::of(found?.blob))) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(rtype: Rtype, data: &[u8]) -> Vec<u8> {
        let mut out = b"before".to_vec();
        write_data(rtype, data, &mut out);
        out.split_off(6)
    }

    #[test]
    fn names_in_old_types_are_lower_case_and_all_else_is_as_it_was() {
        assert_eq!(canonical(Rtype::MX, b"\0A\x01A\0"), b"\0A\x01a\0");
        assert_eq!(canonical(Rtype::SRV, b"ABCDEF\x01A\0"), b"ABCDEF\x01a\0");
        assert_eq!(canonical(Rtype::NAPTR, b"ABCD\x01A\0\0\x01B\0"), b"ABCD\x01A\0\0\x01b\0");
        assert_eq!(canonical(Rtype::RP, b"\x01A\0\x01B\0"), b"\x01a\0\x01b\0");
        let signature = [&b"ABCDEFGHIJKLMNOPQR"[..], b"\x01A\0", b"SIGNATURE"].concat();
        let lower = [&b"ABCDEFGHIJKLMNOPQR"[..], b"\x01a\0", b"SIGNATURE"].concat();
        assert_eq!(canonical(Rtype::RRSIG, &signature), lower);
        for (rtype, data) in [
            (Rtype::TXT, &b"\x01A"[..]),
            (Rtype::NSEC, b"\x01A\0\0\x01\x40"),
            (Rtype::SVCB, b"\0\x01\x01A\0"),
            (Rtype::HTTPS, b"\0\x01\x01A\0"),
            (Rtype::LP, b"\0A\x01A\0"),
            (Rtype(65280), b"\x01A\0"),
        ] {
            assert_eq!(canonical(rtype, data), data, "{rtype}");
        }
    }

    #[test]
    fn the_prefix_name_of_a6_is_behind_what_is_left_of_the_address() {
        assert_eq!(canonical(A6, b"\x80\x01A\0"), b"\x80\x01a\0", "128 bits are in the name");
        assert_eq!(canonical(A6, b"\x79A\x01A\0"), b"\x79A\x01a\0", "7 bits fill an octet");
        assert_eq!(canonical(A6, b"\x00ABCDEFGHIJKLMNOP"), b"\x00ABCDEFGHIJKLMNOP", "no name");
        assert_eq!(canonical(A6, b""), b"");
    }
}
