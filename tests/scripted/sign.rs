//! Signing replies by hand (RFC 8945), so that it can be done wrong.

use super::message::{Asked, name, rtype};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::time::SystemTime;

pub const KEY: &str = "xfr.key.";
pub const SECRET: &[u8; 32] = b"a secret of the tests, not more.";
/// The secret in the configuration.
pub const SECRET_BASE64: &str = "YSBzZWNyZXQgb2YgdGhlIHRlc3RzLCBub3QgbW9yZS4=";

/// Signs the replies to one request.
pub struct Signer {
    /// The MAC that the next one hangs on.
    last: Vec<u8>,
    /// What was sent unsigned since then.
    unsigned: Vec<u8>,
    first: bool,
    /// The time that is claimed.
    pub time_s: u64,
    /// The key that is claimed.
    pub key: &'static str,
}

impl Signer {
    pub fn new(asked: &Asked) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let last = asked.mac.clone().expect("the request is signed");
        Self { last, unsigned: Vec::new(), first: true, time_s: now, key: KEY }
    }

    /// A message of a sequence that is sent as it is.
    pub fn skip(&mut self, message: Vec<u8>) -> Vec<u8> {
        self.unsigned.extend(&message);
        message
    }

    pub fn sign(&mut self, mut message: Vec<u8>) -> Vec<u8> {
        let times = [&self.time_s.to_be_bytes()[2..], &300_u16.to_be_bytes()].concat();
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET).unwrap();
        mac.update(&u16::try_from(self.last.len()).unwrap().to_be_bytes());
        mac.update(&self.last);
        mac.update(&std::mem::take(&mut self.unsigned));
        mac.update(&message);
        if std::mem::take(&mut self.first) {
            mac.update(&name(self.key));
            mac.update(&[0, 255, 0, 0, 0, 0]);
            mac.update(&name("hmac-sha256."));
            mac.update(&times);
            mac.update(&[0; 4]);
        } else {
            mac.update(&times);
        }
        self.last = mac.finalize().into_bytes().to_vec();
        let mut data = name("hmac-sha256.");
        data.extend(times);
        data.extend([0, 32]);
        data.extend(&self.last);
        data.extend(&message[..2]);
        data.extend([0; 4]);
        message[11] += 1;
        message.extend(name(self.key));
        message.extend(rtype::TSIG.to_be_bytes());
        message.extend([0, 255, 0, 0, 0, 0]);
        message.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        message.extend(data);
        message
    }
}
