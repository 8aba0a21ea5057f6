//! Signing and verifying messages with keys that both sides share.
//!
//! **How it fits.** `replica` signs its requests with [`Key::sign_request`] and lets the
//! [`Verifier`] it gets judge the reply, or each reply of a transfer; whoever answers asks
//! [`verify_request`], and signs with the [`Signer`] it gets. All of it works on whole messages
//! in wire form; the time is an argument, in seconds since 1970.
//!
//! **Invariants.**
//! - *stripped*: a message that was verified is handed on without its TSIG record, the count of
//!   additional records being one less.
//! - *every reply signed*: of a sequence we sign every message; of others' we accept up to 99
//!   unsigned ones in a row, never the first nor the last.
//! - *constant time*: MACs are compared by the `hmac` crate only. Nothing prints a secret.
//!
//! **Sections.** RFC 8945: 4.2 (the record), 4.3 (what is digested), 5.2 (order of the checks),
//! 5.2.2.1 (truncated MACs: accepted from the minimum on), 5.3.1 (sequences), 5.3.2 (errors).
//!
//! It has no GSS-TSIG, no SIG(0) and no HMAC-MD5, and does not truncate the MACs it makes.

mod record;

use crate::name::{Name, NameBuf};
use crate::wire::{Full, HEADER_LEN, Rcode};
use hmac::{Hmac, KeyInit, Mac};
use record::{Signature, count_additional, len_of};
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// The keys by name.
pub type Keys = HashMap<NameBuf, Arc<Key>>;

/// How many messages of a sequence may be unsigned in a row (RFC 8945 section 5.3.1).
const UNSIGNED_MAX: u32 = 99;

/// What a key signs with (RFC 8945 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// hmac-sha1.
    Sha1,
    /// hmac-sha224.
    Sha224,
    /// hmac-sha256.
    Sha256,
    /// hmac-sha384.
    Sha384,
    /// hmac-sha512.
    Sha512,
}

impl Algorithm {
    /// Its name, as a TSIG record has it.
    pub fn name(self) -> Name<'static> {
        let wire: &[u8] = match self {
            Self::Sha1 => b"\x09hmac-sha1\0",
            Self::Sha224 => b"\x0bhmac-sha224\0",
            Self::Sha256 => b"\x0bhmac-sha256\0",
            Self::Sha384 => b"\x0bhmac-sha384\0",
            Self::Sha512 => b"\x0bhmac-sha512\0",
        };
        Name::from_wire(wire).expect("written so")
    }

    /// Octets of a whole MAC.
    pub fn mac_len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// A key that messages are signed with.
pub struct Key {
    name: NameBuf,
    algorithm: Algorithm,
    fresh: Digest,
}

impl Key {
    /// A key; both sides must agree on all three.
    pub fn new(name: Name<'_>, algorithm: Algorithm, secret: &[u8]) -> Self {
        let lower = name.as_wire().to_ascii_lowercase();
        let name = Name::from_wire(&lower).expect("length octets are no letters").to_owned();
        Self { name, algorithm, fresh: Digest::new(algorithm, secret) }
    }

    /// Its name, in lower case.
    pub fn name(&self) -> Name<'_> {
        self.name.as_name()
    }

    /// Its algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// How many octets a signature takes: to be kept free behind the message.
    pub fn signature_len(&self) -> usize {
        self.name().len() + 10 + self.algorithm.name().len() + 16 + self.algorithm.mac_len()
    }

    /// Signs a request, and returns what verifies its reply or replies.
    ///
    /// # Panics
    /// If the message has no header.
    pub fn sign_request(self: &Arc<Self>, message: &mut Vec<u8>, now_s: u64) -> Verifier {
        let mut digest = self.fresh.clone();
        digest.update(message);
        let mut record = Signature::by(self, message, now_s);
        record.digest_variables(&mut digest);
        record.mac = digest.finish();
        record.append(message);
        count_additional(message, 1);
        Verifier { chain: Chain::behind(self, &record.mac), unsigned: 0 }
    }

    /// May a MAC of this key have `len` octets? Shortened ones down to half, but never fewer
    /// than 10 (RFC 8945 section 5.2.2.1).
    fn takes_mac_of(&self, len: usize) -> bool {
        let whole = self.algorithm.mac_len();
        (10.max(whole / 2)..=whole).contains(&len)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} {:?})", self.name, self.algorithm)
    }
}

/// Why a reply to a signed request is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TsigError {
    /// No signature where there must be one. What the reply claims is told for the operator.
    #[error("the reply is not signed (it says {0})")]
    Missing(Rcode),
    /// Not parsable, or the record is not the last one.
    #[error("the reply's TSIG record is malformed or misplaced")]
    Malformed,
    /// Signed by another key or algorithm than the request.
    #[error("the reply is signed by another key than the request")]
    WrongKey,
    /// The signature is wrong: other secrets, or the message was changed on its way.
    #[error("the reply's signature is wrong")]
    BadSignature,
    /// The clocks differ too much.
    #[error("the other side's clock is {ahead_s} seconds ahead of ours")]
    Clock {
        /// Seconds; negative: behind.
        ahead_s: i64,
    },
    /// The other side did not believe our request: BADKEY or BADSIG.
    #[error("the other side rejects our signature: {}", rejection(*.0))]
    Rejected(Rcode),
    /// More than 99 unsigned messages in a row.
    #[error("too many messages without a signature")]
    LongUnsigned,
    /// The last message of the sequence had no signature.
    #[error("the last message is not signed")]
    EndUnsigned,
}

/// What a TSIG error is called: 16 is BADVERS elsewhere.
pub fn error_name(error: Rcode) -> String {
    if error == Rcode::BADSIG { "BADSIG".into() } else { error.to_string() }
}

fn rejection(error: Rcode) -> String {
    match error {
        Rcode::BADSIG => "BADSIG (another secret?)".into(),
        Rcode::BADKEY => "BADKEY (it does not know the key or its algorithm)".into(),
        other => other.to_string(),
    }
}

/// Verifies the reply to a signed request, or the sequence of replies to a transfer.
pub struct Verifier {
    chain: Chain,
    /// Messages since the last signed one.
    unsigned: u32,
}

impl Verifier {
    /// Verifies the next message and returns it without its TSIG record.
    ///
    /// # Errors
    /// After one, nothing of the sequence may be used.
    pub fn verify<'m>(&mut self, message: &'m mut [u8], now_s: u64) -> Result<&'m [u8], TsigError> {
        let found = Signature::find(message).ok_or(TsigError::Malformed)?;
        let Some((start, record)) = found else {
            return self.verify_unsigned(message);
        };
        let error = Rcode(record.error);
        if record.mac.is_empty() && matches!(error, Rcode::BADKEY | Rcode::BADSIG) {
            return Err(TsigError::Rejected(error));
        }
        let key = &self.chain.key;
        if !record.is_of(key) {
            return Err(TsigError::WrongKey);
        }
        if !key.takes_mac_of(record.mac.len()) {
            return Err(TsigError::Malformed);
        }
        count_additional(message, -1);
        if !self.chain.verify(&message[..start], &record) {
            return Err(TsigError::BadSignature);
        }
        let theirs = record.servers_time().unwrap_or(record.time_s);
        if error == Rcode::BADTIME || !record.is_timely(now_s) {
            return Err(TsigError::Clock { ahead_s: theirs.cast_signed() - now_s.cast_signed() });
        }
        if error != Rcode::NOERROR {
            return Err(TsigError::Rejected(error));
        }
        self.unsigned = 0;
        Ok(&message[..start])
    }

    fn verify_unsigned<'m>(&mut self, message: &'m [u8]) -> Result<&'m [u8], TsigError> {
        if self.chain.first {
            return Err(TsigError::Missing(Rcode(u16::from(message[3] & 0x0f))));
        }
        self.unsigned += 1;
        if self.unsigned > UNSIGNED_MAX {
            return Err(TsigError::LongUnsigned);
        }
        self.chain.digest.update(message);
        Ok(message)
    }

    /// To be asked behind the last message of a sequence: was it signed?
    pub fn finish(&self) -> Result<(), TsigError> {
        if self.unsigned > 0 || self.chain.first { Err(TsigError::EndUnsigned) } else { Ok(()) }
    }
}

/// What a request's signature says.
pub enum Request<'m> {
    /// There is none.
    Unsigned(&'m [u8]),
    /// It is right.
    Signed {
        /// The request without its TSIG record.
        message: &'m [u8],
        /// Tells the key, and signs the reply or replies.
        signer: Box<Signer>,
    },
    /// It is wrong: send an error, and do nothing.
    Refused {
        /// The request; once its key was found, without its TSIG record.
        message: &'m [u8],
        /// What to say.
        refusal: Box<Refusal>,
    },
}

/// Verifies a request. What has no header counts as unsigned; that is for others to judge.
pub fn verify_request<'m>(message: &'m mut [u8], keys: &Keys, now_s: u64) -> Request<'m> {
    if message.len() < HEADER_LEN {
        return Request::Unsigned(message);
    }
    fn refused(message: &[u8], error: Rcode, told: Told) -> Request<'_> {
        Request::Refused { message, refusal: Box::new(Refusal { error, told }) }
    }
    let Some(found) = Signature::find(message) else {
        return refused(message, Rcode::FORMERR, Told::Nothing);
    };
    let Some((start, record)) = found else {
        return Request::Unsigned(message);
    };
    let Some(key) = keys.get(&record.owner).filter(|key| record.is_of(key)) else {
        return refused(message, Rcode::BADKEY, Told::Why(record));
    };
    if !key.takes_mac_of(record.mac.len()) {
        return refused(message, Rcode::FORMERR, Told::Nothing);
    }
    count_additional(message, -1);
    let mut request = Chain { key: Arc::clone(key), digest: key.fresh.clone(), first: true };
    let message = &message[..start];
    if !request.verify(message, &record) {
        return refused(message, Rcode::BADSIG, Told::Why(record));
    }
    let signer = Box::new(Signer { chain: Chain::behind(key, &record.mac) });
    if !record.is_timely(now_s) {
        return refused(message, Rcode::BADTIME, Told::Late(signer, record.time_s));
    }
    Request::Signed { message, signer }
}

/// What is said to a request whose signature is wrong.
pub struct Refusal {
    error: Rcode,
    told: Told,
}

/// In the TSIG record of the reply (RFC 8945 section 5.3.2).
enum Told {
    /// There is none: the request's made no sense.
    Nothing,
    /// The request's without its MAC, the error in it: nothing is signed.
    Why(Signature),
    /// Signed, the time of the request being this.
    Late(Box<Signer>, u64),
}

impl Refusal {
    /// FORMERR, BADKEY, BADSIG or BADTIME.
    pub fn error(&self) -> Rcode {
        self.error
    }

    /// That of the reply.
    pub fn rcode(&self) -> Rcode {
        if self.error == Rcode::FORMERR { self.error } else { Rcode::NOTAUTH }
    }

    /// Adds the record to the reply, `buffer[..len]`, in place. Its new length.
    ///
    /// # Errors
    /// If the record does not fit into the buffer.
    ///
    /// # Panics
    /// If the reply has no header.
    pub fn add(self, buffer: &mut [u8], len: usize, now_s: u64) -> Result<usize, Full> {
        let record = match self.told {
            Told::Nothing => return Ok(len),
            Told::Why(record) => {
                Signature { mac: Vec::new(), other: Vec::new(), error: self.error.0, ..record }
            }
            Told::Late(mut signer, time_s) => signer.late(&buffer[..len], time_s, now_s),
        };
        let mut octets = Vec::new();
        record.append(&mut octets);
        let end = len + octets.len();
        buffer.get_mut(len..end).ok_or(Full)?.copy_from_slice(&octets);
        count_additional(buffer, 1);
        Ok(end)
    }
}

/// Signs the reply, or the sequence of replies, to a request that was verified.
pub struct Signer {
    chain: Chain,
}

impl Signer {
    /// The key that signed the request.
    pub fn key(&self) -> &Arc<Key> {
        &self.chain.key
    }

    /// How many octets a signature takes: to be kept free behind each message.
    pub fn signature_len(&self) -> usize {
        self.chain.key.signature_len()
    }

    /// Signs the next message, `buffer[..len]`, in place. Its new length.
    ///
    /// # Errors
    /// If the signature does not fit into the buffer; the message may still be signed in a
    /// larger one.
    ///
    /// # Panics
    /// If the message has no header.
    pub fn sign(&mut self, buffer: &mut [u8], len: usize, now_s: u64) -> Result<usize, Full> {
        let end = len + self.signature_len();
        let Some(space) = buffer.get_mut(..end) else { return Err(Full) };
        let (message, signature) = space.split_at_mut(len);
        let mut record = Signature::by(&self.chain.key, message, now_s);
        self.chain.sign(message, &mut record);
        let mut octets = Vec::with_capacity(signature.len());
        record.append(&mut octets);
        signature.copy_from_slice(&octets);
        count_additional(message, 1);
        Ok(end)
    }

    /// The record for the reply to a request whose time was wrong: with that time, and ours beside
    /// it (RFC 8945 section 5.2.3).
    fn late(&mut self, reply: &[u8], time_s: u64, now_s: u64) -> Signature {
        let mut record = Signature::by(&self.chain.key, reply, time_s);
        record.error = Rcode::BADTIME.0;
        record.other = now_s.to_be_bytes()[2..].to_vec();
        self.chain.sign(reply, &mut record);
        record
    }

    /// Leaves the next message unsigned, as other servers do.
    #[cfg(test)]
    fn pass(&mut self, message: &[u8]) {
        self.chain.digest.update(message);
    }
}

/// The state between the messages of a conversation: each MAC covers the one before it.
struct Chain {
    key: Arc<Key>,
    /// What the next MAC covers, as far as it is known.
    digest: Digest,
    /// The first message's MAC covers the key's name and algorithm, those of later ones only the
    /// times.
    first: bool,
}

impl Chain {
    /// What follows a request with this MAC.
    fn behind(key: &Arc<Key>, mac: &[u8]) -> Self {
        Self { key: Arc::clone(key), digest: Digest::after(key, mac), first: true }
    }

    fn cover(&mut self, record: &Signature) -> Digest {
        let mut digest = std::mem::replace(&mut self.digest, self.key.fresh.clone());
        if self.first {
            record.digest_variables(&mut digest);
        } else {
            record.digest_times(&mut digest);
        }
        digest
    }

    fn advance(&mut self, mac: &[u8]) {
        self.digest = Digest::after(&self.key, mac);
        self.first = false;
    }

    fn sign(&mut self, message: &[u8], record: &mut Signature) {
        self.digest.update(message);
        record.mac = self.cover(record).finish();
        self.advance(&record.mac);
    }

    /// Is this the right signature of `message`, which it is taken off from already?
    fn verify(&mut self, message: &[u8], record: &Signature) -> bool {
        self.digest.update(&record.original_id.to_be_bytes());
        self.digest.update(&message[2..]);
        let right = self.cover(record).matches(&record.mac);
        self.advance(&record.mac);
        right
    }
}

/// A MAC under way.
#[derive(Clone)]
enum Digest {
    Sha1(Hmac<Sha1>),
    Sha224(Hmac<Sha224>),
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
    Sha512(Hmac<Sha512>),
}

/// The same for whichever algorithm.
macro_rules! with {
    ($digest:expr, $hmac:ident => $result:expr) => {
        match $digest {
            Digest::Sha1($hmac) => $result,
            Digest::Sha224($hmac) => $result,
            Digest::Sha256($hmac) => $result,
            Digest::Sha384($hmac) => $result,
            Digest::Sha512($hmac) => $result,
        }
    };
}

impl Digest {
    fn new(algorithm: Algorithm, secret: &[u8]) -> Self {
        fn keyed<H: KeyInit>(secret: &[u8]) -> H {
            H::new_from_slice(secret).expect("HMAC takes a secret of any length")
        }
        match algorithm {
            Algorithm::Sha1 => Self::Sha1(keyed(secret)),
            Algorithm::Sha224 => Self::Sha224(keyed(secret)),
            Algorithm::Sha256 => Self::Sha256(keyed(secret)),
            Algorithm::Sha384 => Self::Sha384(keyed(secret)),
            Algorithm::Sha512 => Self::Sha512(keyed(secret)),
        }
    }

    /// Begun with the MAC of the message before.
    fn after(key: &Key, mac: &[u8]) -> Self {
        let mut digest = key.fresh.clone();
        digest.update(&len_of(mac).to_be_bytes());
        digest.update(mac);
        digest
    }

    fn update(&mut self, octets: &[u8]) {
        with!(self, hmac => hmac.update(octets));
    }

    fn finish(self) -> Vec<u8> {
        with!(self, hmac => hmac.finalize().into_bytes().to_vec())
    }

    /// Is `mac` this one, or its beginning?
    fn matches(self, mac: &[u8]) -> bool {
        with!(self, hmac => hmac.verify_truncated_left(mac).is_ok())
    }
}

#[cfg(test)]
mod tests;
