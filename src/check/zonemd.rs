//! The zone's own digest (RFC 8976), scheme SIMPLE, SHA-384 and SHA-512.
//!
//! It costs reading all of the zone, whatever has changed, so it is only made when it is asked for,
//! and never where anything waits for it but the candidate itself. Without DNSSEC it shows what
//! went wrong, not who did it.

use super::Zonemd;
use super::canonical::{Owners, Records};
use crate::name::NAME_MAX;
use crate::wire::{Rtype, Serial, read_u32};
use crate::zone::Zone;
use sha2::{Digest, Sha384, Sha512};

/// Why the digest does not vouch for the zone. Of several records, what came nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum ZonemdError {
    /// There is none.
    #[error("there is no record, and `zonemd = \"required\"` asks for one")]
    Missing,
    /// None that could be verified.
    #[error("no record has a scheme and a hash algorithm that are known here")]
    Unsupported,
    /// The record is too short.
    #[error("a record is malformed")]
    Malformed,
    /// Section 4 step 4.
    #[error("several records have the same scheme and hash algorithm")]
    Duplicate,
    /// The digest's length is not that of its algorithm.
    #[error("the digest has not the length of its hash algorithm")]
    Length,
    /// Section 4 step 5a.
    #[error("the record is of another serial than the zone")]
    Serial,
    /// Section 4 step 5f.
    #[error("the digest is not that of the zone")]
    Mismatch,
}

const SIMPLE: u8 = 1;
/// The hash algorithms that are known, by their numbers.
const SHA384: u8 = 1;
const SHA512: u8 = 2;

/// A ZONEMD record's data (section 2.2).
struct Given<'z> {
    serial: Serial,
    scheme: u8,
    algorithm: u8,
    digest: &'z [u8],
}

impl<'z> Given<'z> {
    fn parse(data: &'z [u8]) -> Option<Self> {
        let (&[scheme, algorithm], digest) = data.get(4..)?.split_first_chunk()?;
        Some(Self { serial: Serial(read_u32(data, 0)?), scheme, algorithm, digest })
    }

    fn is_known(&self) -> bool {
        self.scheme == SIMPLE && matches!(self.algorithm, SHA384 | SHA512)
    }

    /// Section 4 step 5, for this record.
    fn verify(&self, zone: &Zone) -> Result<(), ZonemdError> {
        if self.serial != zone.serial() {
            return Err(ZonemdError::Serial);
        }
        let digest = match self.algorithm {
            _ if !self.is_known() => return Err(ZonemdError::Unsupported),
            SHA384 if self.digest.len() == 48 => digest::<Sha384>(zone),
            SHA512 if self.digest.len() == 64 => digest::<Sha512>(zone),
            _ => return Err(ZonemdError::Length),
        };
        if digest == self.digest { Ok(()) } else { Err(ZonemdError::Mismatch) }
    }
}

/// Does the zone have what `wanted` asks for?
pub(super) fn check(zone: &Zone, wanted: Zonemd) -> Result<(), ZonemdError> {
    let verified = match wanted {
        Zonemd::Off => return Ok(()),
        Zonemd::IfPresent | Zonemd::Required => verify(zone),
    };
    match verified {
        // A primary may be ahead of us: that is no reason to stay behind it for ever.
        Err(ZonemdError::Missing | ZonemdError::Unsupported) if wanted == Zonemd::IfPresent => {
            Ok(())
        }
        verified => verified,
    }
}

/// Section 4: one record that is right is enough.
fn verify(zone: &Zone) -> Result<(), ZonemdError> {
    let set = zone.apex_node().find(Rtype::ZONEMD).ok_or(ZonemdError::Missing)?;
    let given: Vec<_> = set.iter().map(Given::parse).collect();
    let mut nearest = ZonemdError::Missing;
    for record in &given {
        let Some(record) = record else {
            nearest = nearest.max(ZonemdError::Malformed);
            continue;
        };
        let same = |other: &&Given<'_>| {
            (other.scheme, other.algorithm) == (record.scheme, record.algorithm)
        };
        let verified = match given.iter().flatten().filter(same).count() {
            1 => record.verify(zone),
            _ if record.is_known() => Err(ZonemdError::Duplicate),
            _ => Err(ZonemdError::Unsupported),
        };
        match verified {
            Ok(()) => return Ok(()),
            // What is not known here cannot be wrong either.
            Err(_) if !record.is_known() => nearest = nearest.max(ZonemdError::Unsupported),
            Err(error) => nearest = nearest.max(error),
        }
    }
    Err(nearest)
}

/// How much is hashed at once.
const STRETCH: usize = 32 * 1024;

/// The digest of all records but the apex's ZONEMD and the signatures over it (section 3.3).
fn digest<D: Digest>(zone: &Zone) -> Vec<u8> {
    let mut hash = D::new();
    let mut records = Records::default();
    let mut waiting = Vec::with_capacity(2 * STRETCH);
    let mut owner_octets = [0; NAME_MAX];
    for owner in Owners::of(zone) {
        let is_apex = owner.key.as_bytes().is_empty();
        records.fill(owner.sets().filter(|set| !(is_apex && set.rtype() == Rtype::ZONEMD)));
        let name = owner.key.write_name(zone.apex(), &mut owner_octets);
        records.write(name.expect("a key of this zone").as_wire(), None, &mut waiting);
        if waiting.len() >= STRETCH {
            hash.update(&waiting);
            waiting.clear();
        }
    }
    hash.update(&waiting);
    hash.finalize().to_vec()
}

#[cfg(test)]
mod tests;
