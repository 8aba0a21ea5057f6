//! A zone's records in one number, whatever their order: two that differ have other records.
//!
//! It compares a transfer with the version held without building a zone of it. It is no
//! signature: who sends the records can make two zones have the same.

use super::{Record, Zone};
use crate::name::Name;
use crate::wire::{Field, data_fields};
use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

/// The sum of the records' hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u128);

impl Sum {
    /// Adds a record. Names count without case.
    pub fn add(&mut self, owner: Name<'_>, record: Record<'_>) {
        let mut hasher = SipHasher24::new();
        write_folded(&mut hasher, owner.as_wire());
        hasher.write(&record.rtype.0.to_be_bytes());
        hasher.write(&record.ttl.to_be_bytes());
        let whole = data_fields(record.rtype, record.data, |field, octets| match field {
            Some(Field::Name | Field::PlainName) => write_folded(&mut hasher, octets),
            _ => hasher.write(octets),
        });
        if whole.is_none() {
            hasher.write(record.data);
        }
        let hash = hasher.finish128();
        self.0 = self.0.wrapping_add(u128::from(hash.h1) << 64 | u128::from(hash.h2));
    }
}

fn write_folded(hasher: &mut SipHasher24, octets: &[u8]) {
    let mut lower = [0; crate::name::NAME_MAX];
    let lower = &mut lower[..octets.len()];
    lower.copy_from_slice(octets);
    lower.make_ascii_lowercase();
    hasher.write(lower);
}

impl Zone {
    /// The sum of all records. It walks all of the zone.
    pub fn sum(&self) -> Sum {
        let mut sum = Sum::default();
        for (key, node) in self.entries() {
            let owner = key.name(self.apex()).expect("a key of this zone");
            for set in node.sets() {
                let (rtype, ttl) = (set.data_type(), set.ttl());
                for data in set.iter() {
                    sum.add(owner.as_name(), Record { rtype, ttl, data });
                }
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::NameBuf;
    use crate::wire::Rtype;

    fn sum(records: &[(&str, Rtype, u32, &[u8])]) -> Sum {
        let mut sum = Sum::default();
        for &(owner, rtype, ttl, data) in records {
            let owner: NameBuf = owner.parse().unwrap();
            sum.add(owner.as_name(), Record { rtype, ttl, data });
        }
        sum
    }

    #[test]
    fn order_and_case_of_names_do_not_count_and_all_else_does() {
        let one = ("a.example.", Rtype::A, 60, &[192, 0, 2, 1][..]);
        let other = ("b.example.", Rtype::NS, 60, &b"\x02ns\x07example\0"[..]);
        assert_eq!(sum(&[one, other]), sum(&[other, one]));
        let upper = ("B.EXAMPLE.", Rtype::NS, 60, &b"\x02NS\x07Example\0"[..]);
        assert_eq!(sum(&[one, other]), sum(&[one, upper]));
        let text = |data: &'static [u8]| sum(&[("t.", Rtype::TXT, 60, data)]);
        assert_ne!(text(b"\x01a"), text(b"\x01A"), "text is no name");
        let others = [
            ("c.example.", one.1, one.2, one.3),
            (one.0, Rtype::TXT, one.2, one.3),
            (one.0, one.1, 61, one.3),
            (one.0, one.1, one.2, &[192, 0, 2, 2][..]),
        ];
        for changed in others {
            assert_ne!(sum(&[one, other]), sum(&[changed, other]));
        }
        assert_ne!(sum(&[one]), sum(&[one, other]));
    }
}
