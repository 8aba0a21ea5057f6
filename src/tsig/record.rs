//! The TSIG record (RFC 8945 section 4.2): found, read, digested, written.

use super::{Digest, Key};
use crate::name::{Name, NameBuf};
use crate::wire::{Class, HEADER_LEN, Rtype, expand_name, read_u16, read_u32};

/// How far two clocks may be apart, seconds (RFC 8945 section 10).
const FUDGE: u16 = 300;

/// A TSIG record.
pub(super) struct Signature {
    pub(super) owner: NameBuf,
    pub(super) algorithm: NameBuf,
    pub(super) time_s: u64,
    pub(super) fudge: u16,
    pub(super) mac: Vec<u8>,
    pub(super) original_id: u16,
    pub(super) error: u16,
    pub(super) other: Vec<u8>,
}

impl Signature {
    pub(super) fn by(key: &Key, message: &[u8], time_s: u64) -> Self {
        Self {
            owner: key.name.clone(),
            algorithm: key.algorithm.name().to_owned(),
            time_s,
            fudge: FUDGE,
            mac: Vec::new(),
            original_id: read_u16(message, 0).expect("a message has a header"),
            error: 0,
            other: Vec::new(),
        }
    }

    /// The record of a message and where it begins. `Some(None)`: there is none; `None`: the
    /// message is malformed, or the record is not the very last thing in it.
    #[expect(clippy::option_option, reason = "malformed, none, or one")]
    pub(super) fn find(message: &[u8]) -> Option<Option<(usize, Self)>> {
        let additional = read_u16(message, 10)?;
        let mut at = HEADER_LEN;
        for _ in 0..read_u16(message, 4)? {
            at = skip_name(message, at)? + 4;
        }
        let records = [6, 8, 10].iter().filter_map(|&at| read_u16(message, at)).map(u32::from);
        let mut left: u32 = records.sum();
        while left > 0 {
            left -= 1;
            let start = at;
            let fixed = skip_name(message, at)?;
            let end = fixed + 10 + usize::from(read_u16(message, fixed + 8)?);
            let rest = message.get(fixed..end)?;
            if Rtype(read_u16(rest, 0)?) == Rtype::TSIG {
                let last = left == 0 && additional > 0 && end == message.len();
                let plain = read_u16(rest, 2)? == Class::ANY.0 && read_u32(rest, 4)? == 0;
                let mut owner = Vec::new();
                expand_name(message, start, &mut owner)?;
                let owner = Name::from_wire(&owner)?.to_owned();
                let record = Self::parse(owner, &rest[10..])?;
                return (last && plain).then_some(Some((start, record)));
            }
            at = end;
        }
        Some(None)
    }

    fn parse(owner: NameBuf, data: &[u8]) -> Option<Self> {
        let (algorithm, rest) = Name::split(data)?;
        let time_s = u64::from(read_u16(rest, 0)?) << 32 | u64::from(read_u32(rest, 2)?);
        let mac_len = usize::from(read_u16(rest, 8)?);
        let (mac, tail) = rest.get(10..)?.split_at_checked(mac_len)?;
        let other = tail.get(6..)?;
        (other.len() == usize::from(read_u16(tail, 4)?)).then(|| Self {
            owner,
            algorithm: algorithm.to_owned(),
            time_s,
            fudge: read_u16(rest, 6).unwrap_or(0),
            mac: mac.to_vec(),
            original_id: read_u16(tail, 0).unwrap_or(0),
            error: read_u16(tail, 2).unwrap_or(0),
            other: other.to_vec(),
        })
    }

    pub(super) fn is_of(&self, key: &Key) -> bool {
        self.owner == key.name && self.algorithm.as_name() == key.algorithm.name()
    }

    pub(super) fn is_timely(&self, now_s: u64) -> bool {
        now_s.abs_diff(self.time_s) <= u64::from(self.fudge)
    }

    /// With BADTIME: what time it is on the server.
    pub(super) fn servers_time(&self) -> Option<u64> {
        let other: [u8; 6] = self.other.as_slice().try_into().ok()?;
        Some(other.iter().fold(0, |time, &octet| time << 8 | u64::from(octet)))
    }

    fn times(&self) -> [u8; 8] {
        (self.time_s << 16 | u64::from(self.fudge)).to_be_bytes()
    }

    pub(super) fn digest_times(&self, digest: &mut Digest) {
        digest.update(&self.times());
    }

    /// RFC 8945 section 4.3.3.
    pub(super) fn digest_variables(&self, digest: &mut Digest) {
        digest.update(&self.owner.as_name().as_wire().to_ascii_lowercase());
        digest.update(&Class::ANY.0.to_be_bytes());
        digest.update(&[0; 4]);
        digest.update(&self.algorithm.as_name().as_wire().to_ascii_lowercase());
        digest.update(&self.times());
        digest.update(&self.error.to_be_bytes());
        digest.update(&len_of(&self.other).to_be_bytes());
        digest.update(&self.other);
    }

    pub(super) fn append(&self, out: &mut Vec<u8>) {
        let algorithm = self.algorithm.as_name().as_wire();
        let octets = algorithm.len() + 16 + self.mac.len() + self.other.len();
        out.extend_from_slice(self.owner.as_name().as_wire());
        out.extend_from_slice(&Rtype::TSIG.0.to_be_bytes());
        out.extend_from_slice(&Class::ANY.0.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&u16::try_from(octets).expect("small parts").to_be_bytes());
        out.extend_from_slice(algorithm);
        out.extend_from_slice(&self.times());
        out.extend_from_slice(&len_of(&self.mac).to_be_bytes());
        out.extend_from_slice(&self.mac);
        out.extend_from_slice(&self.original_id.to_be_bytes());
        out.extend_from_slice(&self.error.to_be_bytes());
        out.extend_from_slice(&len_of(&self.other).to_be_bytes());
        out.extend_from_slice(&self.other);
    }
}

pub(super) fn len_of(octets: &[u8]) -> u16 {
    u16::try_from(octets.len()).expect("it came with a 16-bit length, or is a MAC")
}

/// Where the name at `at` ends.
pub(super) fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            len @ 1..=63 => at += 1 + usize::from(len),
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

pub(super) fn count_additional(message: &mut [u8], more: i16) {
    let count = read_u16(message, 10).expect("a message has a header");
    message[10..12].copy_from_slice(&count.wrapping_add_signed(more).to_be_bytes());
}
