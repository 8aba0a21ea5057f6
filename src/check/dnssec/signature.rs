//! Keys and signatures: RFC 4034 sections 2, 3 and 5, RFC 3110, 5702, 6605 and 8080; the arithmetic
//! is `ring`'s.

use super::Fault;
use crate::check::canonical::Records;
use crate::name::Name;
use crate::wire::{Rtype, Serial, read_u16, read_u32};
use crate::zone::RecordSet;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519,
    RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
    RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};
use sha1::{Digest as _, Sha1};
use sha2::{Sha256, Sha384};

/// What a trust anchor says of a zone's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// A DS record's data: the digest of a key.
    Ds(Box<[u8]>),
    /// A DNSKEY record's data: the key itself.
    Key(Box<[u8]>),
}

impl Anchor {
    /// Of a record's type and data; `None`: no anchor can be made of it.
    pub fn of(rtype: Rtype, data: &[u8]) -> Option<Self> {
        match rtype {
            Rtype::DS if matches!(data.get(3), Some(1 | 2 | 4)) => Some(Self::Ds(data.into())),
            Rtype::DNSKEY => Key::parse(data).map(|_| Self::Key(data.into())),
            _ => None,
        }
    }

    /// Is this the anchor of the key in a DNSKEY record of `apex`?
    pub(super) fn vouches_for(&self, apex: Name<'_>, data: &[u8]) -> bool {
        match self {
            Self::Key(key) => **key == *data,
            Self::Ds(ds) => {
                let owner = apex.as_wire().to_ascii_lowercase();
                let digest = match ds[3] {
                    1 => Sha1::new().chain_update(&owner).chain_update(data).finalize().to_vec(),
                    2 => Sha256::new().chain_update(&owner).chain_update(data).finalize().to_vec(),
                    _ => Sha384::new().chain_update(&owner).chain_update(data).finalize().to_vec(),
                };
                let same_key = read_u16(ds, 0) == Some(tag(data)) && Some(&ds[2]) == data.get(3);
                same_key && ds[4..] == digest
            }
        }
    }
}

/// A key that signs a zone.
pub(super) struct Key {
    tag: u16,
    algorithm: u8,
    public: Public,
}

enum Public {
    Rsa(&'static RsaParameters, RsaPublicKeyComponents<Box<[u8]>>),
    Other(&'static dyn VerificationAlgorithm, Box<[u8]>),
    /// Of an algorithm that is not known here: it verifies nothing.
    Unknown,
}

impl Key {
    /// The key in a DNSKEY record's data; `None` if it is no zone key, or was revoked (RFC 4034
    /// section 2.1.1, RFC 5011 section 2.1).
    pub(super) fn parse(data: &[u8]) -> Option<Self> {
        let (&[flags_high, flags_low, protocol, algorithm], public) = data.split_first_chunk()?;
        let is_zone_key = flags_high & 1 != 0 && flags_low & 0x80 == 0 && protocol == 3;
        let public = match algorithm {
            5 | 7 => rsa(&RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, public)?,
            8 => rsa(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, public)?,
            10 => rsa(&RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY, public)?,
            // A point that is not compressed (SEC 1 section 2.3.3).
            13 => Public::Other(&ECDSA_P256_SHA256_FIXED, [&[4], public].concat().into()),
            14 => Public::Other(&ECDSA_P384_SHA384_FIXED, [&[4], public].concat().into()),
            15 => Public::Other(&ED25519, public.into()),
            _ => Public::Unknown,
        };
        is_zone_key.then(|| Self { tag: tag(data), algorithm, public })
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.public {
            Public::Rsa(parameters, key) => key.verify(parameters, message, signature).is_ok(),
            Public::Other(algorithm, key) => {
                UnparsedPublicKey::new(*algorithm, key).verify(message, signature).is_ok()
            }
            Public::Unknown => false,
        }
    }
}

/// RFC 3110 section 2: the exponent's length in one octet or three, the exponent, the modulus.
fn rsa(parameters: &'static RsaParameters, public: &[u8]) -> Option<Public> {
    let (len, rest) = match public {
        [0, high, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        [len, rest @ ..] => (usize::from(*len), rest),
        [] => return None,
    };
    let (e, n) = rest.split_at_checked(len)?;
    Some(Public::Rsa(parameters, RsaPublicKeyComponents { n: n.into(), e: e.into() }))
}

/// RFC 4034 appendix B.
fn tag(data: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in data.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    }
    #[expect(clippy::cast_possible_truncation, reason = "the tag is the low 16 bits")]
    {
        (sum + (sum >> 16)) as u16
    }
}

/// Does one of the signatures over `set` hold at `now_s`? If none does, what is wrong with the one
/// that came nearest.
pub(super) fn verify(
    keys: &[Key],
    apex: Name<'_>,
    owner: Name<'_>,
    set: RecordSet<'_>,
    signatures: RecordSet<'_>,
    now_s: u32,
) -> Result<(), Fault> {
    let mut records = Records::default();
    records.fill([set].into_iter());
    let mut nearest = Fault::Malformed;
    for data in signatures.iter() {
        match verify_one(keys, apex, owner, &records, data, now_s) {
            Ok(()) => return Ok(()),
            Err(fault) => nearest = nearest.max(fault),
        }
    }
    Err(nearest)
}

/// RFC 4034 section 3.1: octets before the signer's name.
const FIXED: usize = 18;

fn verify_one(
    keys: &[Key],
    apex: Name<'_>,
    owner: Name<'_>,
    records: &Records,
    data: &[u8],
    now_s: u32,
) -> Result<(), Fault> {
    let (signer, signature) = data.get(FIXED..).and_then(Name::split).ok_or(Fault::Malformed)?;
    let number = |at| read_u32(data, at).ok_or(Fault::Malformed);
    let (ttl, expiration, inception) = (number(4)?, Serial(number(8)?), Serial(number(12)?));
    let tag = read_u16(data, 16).ok_or(Fault::Malformed)?;
    // Nothing in a zone was expanded from a wildcard: its own asterisk does not count.
    let labels = owner.label_count() - usize::from(owner.is_wildcard());
    if signer != apex || usize::from(data[3]) != labels {
        return Err(Fault::Malformed);
    }
    let now = Serial(now_s);
    if now.is_after(expiration) {
        return Err(Fault::Expired);
    }
    if inception.is_after(now) {
        return Err(Fault::NotYet);
    }
    let mut message = data[..FIXED].to_vec();
    message.extend(signer.as_wire().to_ascii_lowercase());
    records.write(&owner.as_wire().to_ascii_lowercase(), Some(ttl), &mut message);
    let fits = |key: &&Key| (key.tag, key.algorithm) == (tag, data[2]);
    let mut keys = keys.iter().filter(fits).peekable();
    keys.peek().ok_or(Fault::UnknownKey)?;
    if keys.any(|key| key.verifies(&message, signature)) { Ok(()) } else { Err(Fault::Wrong) }
}
