//! Signing and verifying messages (RFC 8945). Signatures first, bodies follow.
#![allow(unused_variables)]

use crate::name::{Name, NameBuf};
use crate::wire::{Full, Rcode};
use std::collections::HashMap;
use std::sync::Arc;

/// The keys by name.
pub type Keys = HashMap<NameBuf, Arc<Key>>;

/// What a key signs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

/// A key that messages are signed with. Debug shows name and algorithm only.
pub struct Key;
impl Key {
    pub fn new(name: NameBuf, algorithm: Algorithm, secret: &[u8]) -> Self {
        unimplemented!()
    }
    pub fn name(&self) -> Name<'_> {
        unimplemented!()
    }
    pub fn algorithm(&self) -> Algorithm {
        unimplemented!()
    }
    /// Octets of the TSIG record that a signature takes, at the most: reserve them.
    pub fn signature_len(&self) -> usize {
        unimplemented!()
    }
    /// Client: signs a request in place, and returns what verifies its reply or replies.
    pub fn sign_request(self: &Arc<Self>, message: &mut Vec<u8>, now_s: u64) -> Verifier {
        unimplemented!()
    }
}

/// Verifies the reply to a request that was signed, or the sequence of replies.
pub struct Verifier;
impl Verifier {
    /// The next message; returned without its TSIG record, ready to parse.
    pub fn verify<'m>(&mut self, message: &'m mut [u8], now_s: u64) -> Result<&'m [u8], TsigError> {
        unimplemented!()
    }
    /// Call after the last message of a sequence: it must have been signed.
    pub fn finish(&self) -> Result<(), TsigError> {
        unimplemented!()
    }
}

/// Why a reply is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TsigError {
    #[error("...")]
    Missing(Rcode),
    #[error("...")]
    BadSig,
    #[error("...")]
    Rejected(Rcode),
}

/// Server: what a request's signature says.
pub enum Request<'m> {
    /// It has none.
    Unsigned(&'m [u8]),
    /// It is good.
    Signed { key: Arc<Key>, message: &'m [u8], signer: Signer },
    /// It is not: send this as it is. With the TSIG error (or FORMERR) for the log.
    Refused { reply: Vec<u8>, error: Rcode },
}

/// Server: looks at a request.
pub fn verify_request<'m>(message: &'m mut [u8], keys: &Keys, now_s: u64) -> Request<'m> {
    unimplemented!()
}

/// Signs the reply or the sequence of replies to a verified request.
pub struct Signer;
impl Signer {
    pub fn key(&self) -> &Arc<Key> {
        unimplemented!()
    }
    pub fn signature_len(&self) -> usize {
        unimplemented!()
    }
    /// Signs the message that is `buffer[..len]` in place; the new length.
    pub fn sign(&mut self, buffer: &mut [u8], len: usize, now_s: u64) -> Result<usize, Full> {
        unimplemented!()
    }
}
