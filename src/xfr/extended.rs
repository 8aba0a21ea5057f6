//! What EDNS adds to the conversation with a primary: how long its data are still good (EXPIRE,
//! RFC 7314) and why it does not give them (extended errors, RFC 8914).

use super::reader::Reader;
use crate::edns::{code, options};
use crate::wire::{HEADER_LEN, Rtype, Section, read_u16, read_u32};

/// The payload size that we announce, octets.
const UDP_SIZE: u16 = 1232;
/// More of an extended error's text is not told.
const TEXT_MAX: usize = 200;

/// What the OPT record of a reply says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extended {
    /// Seconds until the zone expires at the primary.
    pub expire_s: Option<u32>,
    /// The extended error, for a person.
    pub error: Option<String>,
}

/// Adds an OPT record to a request that has none and is not signed yet: it asks for EXPIRE, and
/// for signatures if they are wanted.
pub fn extend(request: &mut Vec<u8>, dnssec_ok: bool) {
    assert!(request.len() >= HEADER_LEN, "a request has a header");
    let flags = if dnssec_ok { 0x80 } else { 0 };
    request.extend_from_slice(&[0]);
    request.extend_from_slice(&Rtype::OPT.0.to_be_bytes());
    request.extend_from_slice(&UDP_SIZE.to_be_bytes());
    request.extend_from_slice(&[0, 0, flags, 0]);
    request.extend_from_slice(&[0, 4]);
    request.extend_from_slice(&code::EXPIRE.to_be_bytes());
    request.extend_from_slice(&[0, 0]);
    let count = read_u16(request, 10).expect("it has a header") + 1;
    request[10..HEADER_LEN].copy_from_slice(&count.to_be_bytes());
}

/// What the OPT record of a reply says; nothing if there is none, or it is malformed.
pub fn read_extended(reply: &[u8]) -> Extended {
    read(reply).unwrap_or_default()
}

fn read(reply: &[u8]) -> Option<Extended> {
    let mut reader = Reader::new(reply)?;
    let mut scratch = Vec::new();
    for _ in 0..reader.count(Section::Question) {
        reader.question(&mut scratch)?;
    }
    let count = |section| u32::from(reader.count(section));
    let all = count(Section::Answer) + count(Section::Authority) + count(Section::Additional);
    for _ in 0..all {
        let found = reader.record(&mut scratch)?;
        if found.record.rtype == Rtype::OPT {
            return read_options(found.record.data);
        }
    }
    None
}

fn read_options(data: &[u8]) -> Option<Extended> {
    let mut extended = Extended::default();
    let mut options = options(data);
    for (code, value) in &mut options {
        match code {
            code::EXPIRE if value.len() == 4 => extended.expire_s = read_u32(value, 0),
            code::ERROR if extended.error.is_none() => extended.error = error(value),
            _ => {}
        }
    }
    options.is_whole().then_some(extended)
}

fn error(value: &[u8]) -> Option<String> {
    let code = read_u16(value, 0)?;
    let text = &value[2..];
    let text = String::from_utf8_lossy(&text[..text.len().min(TEXT_MAX)]);
    let text = text.trim_end_matches('\0');
    let known = known(code).map_or_else(|| format!("extended error {code}"), ToOwned::to_owned);
    Some(if text.is_empty() { known } else { format!("{known}: {text}") })
}

/// The registered words for the errors that a primary may give (RFC 8914 section 4, IANA).
fn known(code: u16) -> Option<&'static str> {
    Some(match code {
        0 => "Other Error",
        14 => "Not Ready",
        15 => "Blocked",
        18 => "Prohibited",
        20 => "Not Authoritative",
        21 => "Not Supported",
        22 => "No Reachable Authority",
        23 => "Network Error",
        24 => "Invalid Data",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::{Name, NameBuf};
    use crate::wire::Serial;
    use crate::xfr::{axfr_query, ixfr_query};

    fn apex() -> NameBuf {
        "example.".parse().unwrap()
    }

    #[test]
    fn an_extended_request_asks_for_expire_and_nothing_else() {
        for dnssec_ok in [false, true] {
            let mut request = ixfr_query(7, apex().as_name(), Serial(5));
            let bare = request.len();
            extend(&mut request, dnssec_ok);
            assert_eq!(request.len(), bare + 15);
            assert_eq!(request[10..12], [0, 1]);
            let flags = if dnssec_ok { 0x80 } else { 0 };
            let opt = [0, 0, 41, 4, 208, 0, 0, flags, 0, 0, 4, 0, 9, 0, 0];
            assert_eq!(request[bare..], opt);
            assert_eq!(read_extended(&request), Extended::default());
        }
    }

    /// A message with an OPT record of these options.
    fn reply(options: &[u8]) -> Vec<u8> {
        let mut reply = axfr_query(7, Name::ROOT);
        extend(&mut reply, false);
        let len = reply.len() - 6;
        reply.truncate(len);
        reply.extend(u16::try_from(options.len()).unwrap().to_be_bytes());
        reply.extend(options);
        reply
    }

    #[test]
    fn expire_and_errors_are_read_and_what_is_malformed_says_nothing() {
        let both = reply(b"\0\x09\0\x04\0\0\x0e\x10\0\x0f\0\x06\0\x18late\0\x03\0\0");
        let read = read_extended(&both);
        assert_eq!(read.expire_s, Some(3600));
        assert_eq!(read.error.as_deref(), Some("Invalid Data: late"));
        let unknown = read_extended(&reply(b"\0\x0f\0\x02\x03\xe7"));
        assert_eq!(unknown.error.as_deref(), Some("extended error 999"));
        for bad in [&b"\0\x09\0\x04\0\0"[..], b"\0\x09\0", b"\0\x0f\0\x01\0"] {
            assert_eq!(read_extended(&reply(bad)), Extended::default());
        }
        for end in 0..both.len() {
            let _ = read_extended(&both[..end]);
        }
    }
}
