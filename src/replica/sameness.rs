//! Does a primary have other data under the serial that we have? Signs of it that cost no
//! transfer: newer signatures over the SOA, another ZONEMD.
//!
//! Only the primary that the version came from is judged so: primaries that sign by themselves
//! have other signatures each, and none of them is wrong.

use crate::wire::{Rtype, Serial, read_u32};
use crate::zone::Zone;

/// A sign that a primary has other data under our serial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Difference {
    /// Its SOA was signed after ours.
    Signatures,
    /// Its digest of the zone is not ours.
    Digest,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Signatures => "its SOA has newer signatures",
            Self::Digest => "its ZONEMD is another",
        })
    }
}

/// Is the SOA signed?
pub(super) fn is_signed(zone: &Zone) -> bool {
    zone.apex_node().signatures(Rtype::SOA).is_some()
}

/// Has the zone a digest of itself (RFC 8976)?
pub(super) fn has_digest(zone: &Zone) -> bool {
    zone.apex_node().find(Rtype::ZONEMD).is_some()
}

/// Was the primary's SOA, with these signatures, signed after ours? The times wrap, as serials do
/// (RFC 4034 section 3.1.5).
pub(super) fn has_newer_signatures(zone: &Zone, theirs: &[Vec<u8>]) -> bool {
    let inception = |data: &[u8]| read_u32(data, 12).map(Serial);
    let Some(ours) = zone.apex_node().signatures(Rtype::SOA) else { return false };
    let is_newer = |their: &Vec<u8>| {
        inception(their).is_some_and(|their| {
            ours.iter().all(|our| inception(our).is_some_and(|our| their.is_after(our)))
        })
    };
    theirs.iter().any(is_newer)
}

/// Does the primary, with these ZONEMD records, have another digest for our serial?
pub(super) fn has_other_digest(zone: &Zone, theirs: &[Vec<u8>]) -> bool {
    let Some(ours) = zone.apex_node().find(Rtype::ZONEMD) else { return false };
    // Serial, scheme and hash algorithm, then the digest.
    let is_other = |their: &Vec<u8>| {
        read_u32(their, 0) == Some(zone.serial().0)
            && ours.iter().any(|our| our.get(..6) == their.get(..6) && our != their.as_slice())
    };
    theirs.iter().any(is_other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::NameBuf;
    use crate::zone::{Builder, Record};

    fn signature(covered: u16, inception: u32) -> Vec<u8> {
        let mut data = covered.to_be_bytes().to_vec();
        data.extend([8, 1, 0, 0, 0, 60, 0, 0, 0, 0]);
        data.extend(inception.to_be_bytes());
        data.extend(b"\0\x01\0sig");
        data
    }

    fn digest(serial: u32, hash: u8, octet: u8) -> Vec<u8> {
        [&serial.to_be_bytes()[..], &[1, hash], &[octet; 48]].concat()
    }

    fn zone(records: &[(Rtype, Vec<u8>)]) -> Zone {
        let apex: NameBuf = "example.".parse().unwrap();
        let mut builder = Builder::new(apex.as_name());
        let numbers = [5_u32, 3600, 600, 86400, 300].map(u32::to_be_bytes).concat();
        let soa = [&[0, 0][..], &numbers].concat();
        for (rtype, data) in [(Rtype::SOA, soa)].iter().chain(records) {
            let record = Record { rtype: *rtype, ttl: 60, data };
            assert!(builder.add(apex.as_name(), record));
        }
        builder.build().unwrap()
    }

    #[test]
    fn signatures_are_newer_if_they_were_made_after_all_of_ours() {
        let signed = |times: &[u32]| {
            let all: Vec<_> = times.iter().map(|&at| (Rtype::RRSIG, signature(6, at))).collect();
            zone(&all)
        };
        let newer = |zone: &Zone, times: &[u32]| {
            let theirs: Vec<_> = times.iter().map(|&at| signature(6, at)).collect();
            has_newer_signatures(zone, &theirs)
        };
        let ours = signed(&[1000, 2000]);
        assert!(is_signed(&ours) && !is_signed(&zone(&[])));
        assert!(!newer(&ours, &[1000, 2000]) && !newer(&ours, &[1500]) && !newer(&ours, &[]));
        assert!(newer(&ours, &[1000, 2001]));
        assert!(newer(&signed(&[u32::MAX]), &[3]), "the times wrap");
        assert!(!newer(&zone(&[]), &[3]), "a zone that is not signed has none to compare");
    }

    #[test]
    fn a_digest_is_another_if_it_is_of_our_serial_and_kind() {
        let ours = zone(&[(Rtype::ZONEMD, digest(5, 1, 7))]);
        assert!(has_digest(&ours) && !has_digest(&zone(&[])));
        assert!(!has_other_digest(&ours, &[digest(5, 1, 7)]));
        assert!(has_other_digest(&ours, &[digest(5, 1, 8)]));
        assert!(!has_other_digest(&ours, &[digest(6, 1, 8)]), "of another version");
        assert!(!has_other_digest(&ours, &[digest(5, 2, 8)]), "by another algorithm");
        assert!(!has_other_digest(&ours, &[]) && !has_other_digest(&ours, &[vec![1]]));
    }
}
