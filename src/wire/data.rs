//! Where names lie in record data: for compressing it, expanding it, and comparing it without
//! regard to the case of names.

use super::{Rtype, read_u16};
use crate::name::Name;

/// A part of record data. What follows the parts listed for a type is opaque.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// So many octets.
    Octets(usize),
    /// A length octet and as many more (a `<character-string>`).
    Text,
    /// A name of RFC 1035's own types, which may be compressed (RFC 3597 section 4).
    Name,
    /// A name that is never sent compressed, though old senders did compress some.
    PlainName,
}

/// The parts of `rtype`'s data up to its last name; empty for types without names.
pub fn layout(rtype: Rtype) -> &'static [Field] {
    use Field::{Name as N, Octets, PlainName as P, Text};
    match rtype {
        Rtype::NS
        | Rtype::MD
        | Rtype::MF
        | Rtype::CNAME
        | Rtype::MB
        | Rtype::MG
        | Rtype::MR
        | Rtype::PTR => &[N],
        Rtype::SOA | Rtype::MINFO => &[N, N],
        Rtype::MX => &[Octets(2), N],
        Rtype::DNAME | Rtype::NXT | Rtype::NSEC => &[P],
        Rtype::RP => &[P, P],
        Rtype::AFSDB | Rtype::RT | Rtype::KX | Rtype::LP | Rtype::SVCB | Rtype::HTTPS => {
            &[Octets(2), P]
        }
        Rtype::PX => &[Octets(2), P, P],
        Rtype::SRV => &[Octets(6), P],
        Rtype::NAPTR => &[Octets(4), Text, Text, Text, P],
        Rtype::SIG | Rtype::RRSIG => &[Octets(18), P],
        _ => &[],
    }
}

/// May names in the data of such records be compressed (RFC 3597 section 4)?
#[inline]
pub fn is_compressed(rtype: Rtype) -> bool {
    // The types of RFC 1035 alone.
    const OF_RFC_1035: u16 = 0b1101_0011_1111_1100;
    rtype.0 < 16 && OF_RFC_1035 >> rtype.0 & 1 == 1
}

/// Calls `part` for each field of uncompressed `data` in order, with its octets, and at the end
/// with the opaque rest. `None` if the data are malformed: too short, or not ended where the
/// type's fixed form ends.
pub fn data_fields<'d>(
    rtype: Rtype,
    data: &'d [u8],
    mut part: impl FnMut(Option<Field>, &'d [u8]),
) -> Option<()> {
    let mut rest = data;
    for &field in layout(rtype) {
        let len = match field {
            Field::Octets(len) => len,
            Field::Text => 1 + usize::from(*rest.first()?),
            Field::Name | Field::PlainName => Name::split(rest)?.0.len(),
        };
        let (octets, after) = rest.split_at_checked(len)?;
        part(Some(field), octets);
        rest = after;
    }
    part(None, rest);
    rest_is_right(rtype, rest, data.len()).then_some(())
}

/// Has the data of a type that we look into the length that it must have?
fn rest_is_right(rtype: Rtype, rest: &[u8], len: usize) -> bool {
    match rtype {
        Rtype::A => len == 4,
        Rtype::AAAA => len == 16,
        Rtype::SOA => rest.len() == 20,
        Rtype::RRSIG | Rtype::SIG | Rtype::NSEC => !rest.is_empty(),
        Rtype::DS | Rtype::DNSKEY | Rtype::CDS | Rtype::CDNSKEY => len >= 5,
        Rtype::NSEC3 => nsec3_is_right(rest),
        Rtype::NSEC3PARAM => len >= 5 && len == 5 + usize::from(rest[4]),
        Rtype::NXT | Rtype::SVCB | Rtype::HTTPS => true,
        // All others that have names end with the last of their parts.
        _ => rest.is_empty() || layout(rtype).is_empty(),
    }
}

fn nsec3_is_right(data: &[u8]) -> bool {
    let Some(&salt) = data.get(4) else { return false };
    let hash = 5 + usize::from(salt);
    data.get(hash).is_some_and(|&len| len > 0 && data.len() >= hash + 1 + usize::from(len))
}

/// Appends uncompressed `data` with the names in it in lower case: octets that are the same for
/// data that are (see [`same_data`]).
pub fn fold_data(rtype: Rtype, data: &[u8], out: &mut Vec<u8>) {
    let begin = out.len();
    let whole = data_fields(rtype, data, |field, part| {
        let at = out.len();
        out.extend_from_slice(part);
        if matches!(field, Some(Field::Name | Field::PlainName)) {
            // The length octets of labels are below the letters.
            out[at..].make_ascii_lowercase();
        }
    });
    if whole.is_none() {
        out.truncate(begin);
        out.extend_from_slice(data);
    }
}

/// The names in uncompressed `data`, in order; nothing if it is malformed.
pub fn data_names(rtype: Rtype, data: &[u8]) -> impl Iterator<Item = Name<'_>> {
    let mut rest = data;
    layout(rtype).iter().filter_map(move |&field| {
        let len = match field {
            Field::Octets(len) => len,
            Field::Text => 1 + usize::from(*rest.first()?),
            Field::Name | Field::PlainName => {
                let (name, after) = Name::split(rest)?;
                rest = after;
                return Some(name);
            }
        };
        rest = rest.get(len..)?;
        None
    })
}

/// Are these the data of one and the same record? Names in it compare without regard to case
/// (RFC 4034 section 6.2, and what RFC 1995 deletions need).
pub fn same_data(rtype: Rtype, a: &[u8], b: &[u8]) -> bool {
    a == b || (a.len() == b.len() && canonical_eq(rtype, a, b))
}

/// As [`same_data`], for two data of equal length that differ in some octet.
fn canonical_eq(rtype: Rtype, a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    for &field in layout(rtype) {
        let Some(rest) = a.get(at..) else { return false };
        let (len, is_name) = match field {
            Field::Octets(len) => (len, false),
            Field::Text => (1 + usize::from(rest.first().copied().unwrap_or(0)), false),
            Field::Name | Field::PlainName => match Name::split(rest) {
                Some((name, _)) => (name.len(), true),
                None => return false,
            },
        };
        let (Some(x), Some(y)) = (a.get(at..at + len), b.get(at..at + len)) else { return false };
        if !(x == y || (is_name && x.eq_ignore_ascii_case(y))) {
            return false;
        }
        at += len;
    }
    a.get(at..) == b.get(at..)
}

/// Expands the data of a record found in a message at `start..start + len`: names in types whose
/// names may be compressed are written out. Appends to `out`; `None` if malformed.
pub fn expand_data(
    rtype: Rtype,
    message: &[u8],
    start: usize,
    len: usize,
    out: &mut Vec<u8>,
) -> Option<()> {
    let end = start.checked_add(len)?;
    let whole = message.get(start..end)?;
    let begin = out.len();
    let mut at = start;
    for &field in layout(rtype) {
        let size = match field {
            Field::Octets(len) => len,
            Field::Text => 1 + usize::from(*message.get(at..end)?.first()?),
            Field::Name | Field::PlainName => {
                at = expand_name(message, at, out)?;
                if at > end {
                    return None;
                }
                continue;
            }
        };
        out.extend_from_slice(message.get(at..end)?.get(..size)?);
        at += size;
    }
    let rest = whole.get(at - start..)?;
    out.extend_from_slice(rest);
    rest_is_right(rtype, rest, out.len() - begin).then_some(())
}

/// Appends the name at `at` of `message`, compression undone, and returns where what follows it
/// begins. Pointers must lead backwards, so that every chain of them ends (RFC 1035 section
/// 4.1.4); `None` if the name is malformed or too long.
pub fn expand_name(message: &[u8], at: usize, out: &mut Vec<u8>) -> Option<usize> {
    let begin = out.len();
    // Labels are copied by the row: up to a pointer, or to the end.
    let (mut row, mut from, mut lowest, mut next) = (at, at, at, None);
    loop {
        let len = *message.get(from)?;
        match len {
            0 => {
                out.extend_from_slice(&message[row..=from]);
                return Some(next.unwrap_or(from + 1));
            }
            1..=63 => {
                from += 1 + usize::from(len);
                if out.len() - begin + from - row >= crate::name::NAME_MAX {
                    return None;
                }
            }
            0xc0.. => {
                let to = usize::from(read_u16(message, from)? & 0x3fff);
                if to >= lowest {
                    return None;
                }
                out.extend_from_slice(&message[row..from]);
                next.get_or_insert(from + 2);
                (row, from, lowest) = (to, to, to);
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_data_compare_without_case_and_the_rest_exactly() {
        assert!(same_data(Rtype::MX, b"\0\x0a\x01a\0", b"\0\x0a\x01A\0"));
        assert!(!same_data(Rtype::MX, b"\0a\x01a\0", b"\0A\x01a\0"));
        assert!(!same_data(Rtype::TXT, b"\x01a", b"\x01A"));
        assert!(same_data(Rtype::NAPTR, b"1234\x01a\0\0\x01b\0", b"1234\x01a\0\0\x01B\0"));
        assert!(!same_data(Rtype::NAPTR, b"1234\x01a\0\0\x01b\0", b"1234\x01A\0\0\x01b\0"));
    }

    #[test]
    fn the_types_whose_names_are_compressed_are_those_with_such_a_field() {
        for rtype in (0..=u16::MAX).map(Rtype) {
            assert_eq!(is_compressed(rtype), layout(rtype).contains(&Field::Name), "{rtype:?}");
        }
    }

    #[test]
    fn data_are_the_same_if_they_fold_to_the_same() {
        let folded = |rtype, data: &[u8]| {
            let mut out = b"x".to_vec();
            fold_data(rtype, data, &mut out);
            out.split_off(1)
        };
        assert_eq!(folded(Rtype::NAPTR, b"ABCD\x01A\0\0\x01B\0"), b"ABCD\x01A\0\0\x01b\0");
        assert_eq!(folded(Rtype::TXT, b"\x01A"), b"\x01A");
        assert_eq!(folded(Rtype::NS, b"\x05A"), b"\x05A", "malformed data stay as they are");
    }

    #[test]
    fn pointers_lead_backwards_or_nowhere() {
        let message = b"\x01a\xc0\x05\xc0\x01b\xc0\x00\x00";
        let mut out = Vec::new();
        assert_eq!(expand_name(message, 2, &mut out), None, "forward");
        assert_eq!(expand_name(b"\xc0\x00", 0, &mut out), None, "to itself");
        assert_eq!(expand_name(b"\x01a\x00\xc0\x00", 3, &mut out), Some(5));
        assert_eq!(out, b"\x01a\x00");
    }

    #[test]
    fn labels_before_a_pointer_and_behind_it_make_one_name_that_is_not_too_long() {
        let mut out = b"before".to_vec();
        assert_eq!(expand_name(b"\x01b\x00\x02aa\x01c\xc0\x00", 3, &mut out), Some(10));
        assert_eq!(out, b"before\x02aa\x01c\x01b\x00");
        // 252 octets without the root's; with two more it is the longest, with three too long.
        let long = [&[63; 64][..], &[63; 64], &[63; 64], &[59; 60]].concat();
        for (label, fits) in [(&b"\x01a"[..], true), (b"\x02aa", false)] {
            let message = [&long[..], b"\x00", label, b"\xc0\x00"].concat();
            let mut out = Vec::new();
            let end = expand_name(&message, long.len() + 1, &mut out);
            assert_eq!(end.is_some(), fits && out.len() == 255, "{}", out.len());
            assert_eq!(end.is_some(), fits);
        }
    }

    #[test]
    fn data_of_the_wrong_length_are_malformed() {
        let check = |rtype, data: &[u8]| data_fields(rtype, data, |_, _| ()).is_some();
        assert!(check(Rtype::A, b"1234") && !check(Rtype::A, b"123") && !check(Rtype::A, b"12345"));
        assert!(check(Rtype::NS, b"\x01a\0") && !check(Rtype::NS, b"\x01a\0x"));
        assert!(!check(Rtype::SOA, b"\0\0") && !check(Rtype::NSEC3PARAM, b"\x01\0\0\0\x01"));
        assert!(check(Rtype(65280), b"") && check(Rtype::NSEC3PARAM, b"\x01\0\0\0\0"));
    }

    #[test]
    fn the_names_in_data_are_found_behind_texts() {
        let names: Vec<String> =
            data_names(Rtype::NAPTR, b"1234\x01a\0\0\x01b\0").map(|n| n.to_string()).collect();
        assert_eq!(names, ["b."]);
    }
}
