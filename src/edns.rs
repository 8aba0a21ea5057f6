//! EDNS: the OPT record as it comes and as it goes, and the options that we know.
//!
//! **How it fits.** `query` reads the client's OPT with [`Edns::read`]; `answer` writes ours with
//! [`Opt::write`]; who asks other servers reads their replies' [`options`]. What an option's value
//! is, `answer` says; how it is written, this module.
//!
//! **Invariants.**
//! - *asked for*: but for errors (RFC 8914), the reply has only options that the request had.
//! - *no TC for options*: an option that does not fit beside the records that the client needs is
//!   left out. There is always room for a cookie.
//!
//! **Sections.** RFC 6891; NSID RFC 5001, EXPIRE RFC 7314, keepalive RFC 7828, cookies RFC 7873
//! and RFC 9018, extended errors RFC 8914, ZONEVERSION RFC 9660. Options that we do not know are
//! ignored (RFC 6891 section 6.1.2).

use crate::wire::{Class, Full, Rcode, Rtype, Section, Serial, Writer};
use arrayvec::ArrayString;
use siphasher::sip::SipHasher24;
use std::fmt::{self, Write as _};
use std::net::IpAddr;

/// The bit of OPT's flags that asks for DNSSEC records (RFC 3225).
const DNSSEC_OK: u16 = 0x8000;

/// The least size of datagrams that every client takes (RFC 6891 section 6.2.3).
pub const UDP_SIZE_MIN: u16 = 512;

/// The codes of options.
pub mod code {
    /// Who the server is (RFC 5001).
    pub const NSID: u16 = 3;
    /// When the zone expires (RFC 7314).
    pub const EXPIRE: u16 = 9;
    /// Who the client is (RFC 7873).
    pub const COOKIE: u16 = 10;
    /// How long a connection may be idle (RFC 7828).
    pub const KEEPALIVE: u16 = 11;
    /// Why there is no answer (RFC 8914).
    pub const ERROR: u16 = 15;
    /// The zone's serial (RFC 9660).
    pub const ZONE_VERSION: u16 = 19;
}

/// The options in an OPT record's data: code and value.
#[derive(Clone, Debug)]
pub struct Options<'m>(&'m [u8]);

/// The options in an OPT record's data, as far as they are whole.
#[inline]
pub fn options(data: &[u8]) -> Options<'_> {
    Options(data)
}

impl Options<'_> {
    /// Are there no octets left that are no option?
    #[inline]
    pub fn is_whole(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'m> Iterator for Options<'m> {
    type Item = (u16, &'m [u8]);

    #[inline]
    fn next(&mut self) -> Option<(u16, &'m [u8])> {
        let (&[a, b, c, d], rest) = self.0.split_first_chunk()?;
        let (value, rest) = rest.split_at_checked(u16::from_be_bytes([c, d]).into())?;
        self.0 = rest;
        Some((u16::from_be_bytes([a, b]), value))
    }
}

/// What a client's OPT record says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Edns<'q> {
    /// The largest datagram that it takes, as it said; octets.
    pub udp_size: u16,
    /// The version; we know 0.
    pub version: u8,
    /// Does it want DNSSEC records?
    pub dnssec_ok: bool,
    /// Does it ask who we are?
    pub nsid: bool,
    /// Does it ask when the zone expires?
    pub expire: bool,
    /// Does it ask how long the connection may be idle?
    pub keepalive: bool,
    /// Does it ask for the zone's serial?
    pub zone_version: bool,
    /// Its cookie.
    pub cookie: Option<Cookie<'q>>,
    /// Is an option's value not what its RFC says?
    pub malformed: bool,
}

impl<'q> Edns<'q> {
    /// Reads an OPT record's class, the two halves of its TTL, and its data. `None`: malformed.
    pub fn read(class: u16, ttl: [u16; 2], data: &'q [u8]) -> Option<Self> {
        let mut edns = Self {
            udp_size: class,
            version: (ttl[0] & 0xff) as u8,
            dnssec_ok: ttl[1] & DNSSEC_OK != 0,
            ..Self::default()
        };
        let mut options = options(data);
        for (code, value) in &mut options {
            edns.option(code, value);
        }
        options.is_whole().then_some(edns)
    }

    /// The error that a request with this record is answered with, whatever it asks: options may
    /// mean something else in another version.
    #[inline]
    pub fn error(&self) -> Option<Rcode> {
        match (self.version, self.malformed) {
            (0, false) => None,
            (0, true) => Some(Rcode::FORMERR),
            _ => Some(Rcode::BADVERS),
        }
    }

    /// Were no options sent that we answer?
    #[inline]
    pub fn is_bare(&self) -> bool {
        let asks = self.nsid | self.expire | self.keepalive | self.zone_version;
        !asks && self.cookie.is_none()
    }

    fn option(&mut self, code: u16, value: &'q [u8]) {
        match code {
            code::NSID => self.nsid = true,
            code::EXPIRE => self.expire = true,
            code::KEEPALIVE => self.keepalive = true,
            code::ZONE_VERSION => {
                self.zone_version = true;
                self.malformed |= !value.is_empty();
            }
            // Only the first counts (RFC 7873 section 5.2).
            code::COOKIE if self.cookie.is_none() => {
                self.cookie = Cookie::read(value);
                self.malformed |= self.cookie.is_none();
            }
            _ => {}
        }
    }
}

/// A cookie: the client's 8 octets, and what a server gave it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie<'q> {
    client: [u8; 8],
    server: &'q [u8],
}

/// Seconds that a server cookie is good for, and that it may be from the future (RFC 9018
/// section 4.3).
const COOKIE_AGE_MAX: u32 = 3600;
const COOKIE_AHEAD_MAX: u32 = 300;

impl<'q> Cookie<'q> {
    fn read(value: &'q [u8]) -> Option<Self> {
        let (client, server) = value.split_first_chunk()?;
        matches!(server.len(), 0 | 8..=32).then_some(Self { client: *client, server })
    }

    /// Did the client send a server's cookie at all?
    pub fn has_server_part(&self) -> bool {
        !self.server.is_empty()
    }

    /// Did we, or a server that shares one of our secrets, make this for `peer` lately?
    pub fn is_ours(&self, secrets: &[[u8; 16]], peer: IpAddr, unix_s: u32) -> bool {
        // What is reserved need not be 0 (RFC 9018 section 4.2).
        let Some(head @ &[1, _, _, _, a, b, c, d]) = self.server.first_chunk() else {
            return false;
        };
        let stamp = u32::from_be_bytes([a, b, c, d]);
        // Serial arithmetic: the time wraps in 2106.
        let age = unix_s.wrapping_sub(stamp);
        let is_timely = age <= COOKIE_AGE_MAX || age.wrapping_neg() <= COOKIE_AHEAD_MAX;
        is_timely
            && secrets.iter().any(|secret| self.seal(secret, peer, *head)[8..] == *self.server)
    }

    /// The cookie to send: the client's octets, and ours made at `unix_s` (RFC 9018 section 4).
    pub fn make(&self, secret: &[u8; 16], peer: IpAddr, unix_s: u32) -> [u8; 24] {
        let [a, b, c, d] = unix_s.to_be_bytes();
        self.seal(secret, peer, [1, 0, 0, 0, a, b, c, d])
    }

    /// The cookie whose server part begins so: version, what is reserved, time.
    fn seal(&self, secret: &[u8; 16], peer: IpAddr, head: [u8; 8]) -> [u8; 24] {
        let mut hashed = [0; 32];
        hashed[..8].copy_from_slice(&self.client);
        hashed[8..16].copy_from_slice(&head);
        let len = match peer.to_canonical() {
            IpAddr::V4(v4) => {
                hashed[16..20].copy_from_slice(&v4.octets());
                20
            }
            IpAddr::V6(v6) => {
                hashed[16..].copy_from_slice(&v6.octets());
                32
            }
        };
        let hash = SipHasher24::new_with_key(secret).hash(&hashed[..len]);
        let mut cookie = [0; 24];
        cookie[..16].copy_from_slice(&hashed[..16]);
        // The hash is sent in SipHash's own byte order (RFC 9018 appendix A).
        cookie[16..].copy_from_slice(&hash.to_le_bytes());
        cookie
    }
}

/// Why there is no answer (RFC 8914 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ede {
    /// The zone is configured and has no data yet.
    NotReady(Obstacle),
    /// This client may not ask.
    Prohibited,
    /// No zone served here holds the name.
    NotAuthoritative,
    /// We do not do that.
    NotSupported,
    /// The question's type is not one to ask for.
    InvalidType,
    /// No primary has answered what was forwarded.
    NoPrimary,
    /// The zone has expired, so many seconds ago.
    Expired {
        /// Seconds.
        ago_s: u32,
        /// Why nobody renews it.
        obstacle: Obstacle,
    },
    /// The zone has expired, and is answered for all the same.
    Stale(Obstacle),
    /// Likewise, and the answer is that there is no such name.
    StaleNoName(Obstacle),
}

/// What keeps a zone's primaries from giving or renewing it, as far as is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Obstacle {
    /// Nothing that is known.
    #[default]
    Unknown,
    /// None of them answers.
    Silence,
    /// One answers, and not with anything that can be used.
    Useless,
    /// One answers with an error.
    Error(Rcode),
    /// They have a lower serial.
    LowerSerial,
    /// What they have does not pass a check.
    Check,
}

impl Obstacle {
    /// As a number: the higher, the more is known.
    pub fn code(self) -> u16 {
        match self {
            Self::Unknown => 0,
            Self::Silence => 1 << 12,
            Self::Useless => 2 << 12,
            Self::Error(rcode) => 3 << 12 | rcode.0 & 0xfff,
            Self::LowerSerial => 4 << 12,
            Self::Check => 5 << 12,
        }
    }

    /// What has this [`code`](Self::code).
    pub fn of_code(code: u16) -> Self {
        match code >> 12 {
            1 => Self::Silence,
            2 => Self::Useless,
            3 => Self::Error(Rcode(code & 0xfff)),
            4 => Self::LowerSerial,
            5 => Self::Check,
            _ => Self::Unknown,
        }
    }
}

/// Behind other words, with a colon; nothing if nothing is known.
impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "",
            Self::Silence => ": no primary answers",
            Self::Useless => ": what its primaries answer is of no use",
            Self::Error(rcode) => return write!(f, ": a primary answers {rcode}"),
            Self::LowerSerial => ": its primaries have a lower serial",
            Self::Check => ": a check holds what its primaries have",
        })
    }
}

impl Ede {
    /// The code, and what a person is told beside it.
    fn code_and_text(self) -> (u16, ArrayString<96>) {
        let mut text = ArrayString::new();
        let (code, written) = match self {
            Self::NotReady(obstacle) => (14, write!(text, "zone not loaded yet{obstacle}")),
            Self::Prohibited => (18, Ok(())),
            Self::NotAuthoritative => (20, Ok(())),
            Self::NotSupported => (21, Ok(())),
            Self::InvalidType => (30, Ok(())),
            Self::NoPrimary => (22, write!(text, "no primary answered")),
            Self::Stale(obstacle) => (3, write!(text, "zone expired{obstacle}")),
            Self::StaleNoName(obstacle) => (19, write!(text, "zone expired{obstacle}")),
            Self::Expired { ago_s, obstacle } => {
                (24, write!(text, "zone expired {ago_s} s ago{obstacle}"))
            }
        };
        written.expect("all are short");
        (code, text)
    }
}

/// Our OPT record.
#[derive(Clone, Copy, Debug)]
pub struct Opt<'a> {
    /// The largest datagram that we take.
    pub udp_size: u16,
    /// Its upper 8 bits are sent here.
    pub rcode: Rcode,
    /// The client's bit, sent back.
    pub dnssec_ok: bool,
    /// Who we are.
    pub nsid: Option<&'a [u8]>,
    /// Seconds until the zone expires.
    pub expire: Option<u32>,
    /// The client's cookie and ours.
    pub cookie: Option<[u8; 24]>,
    /// How long the connection may be idle, in units of 100 ms.
    pub keepalive: Option<u16>,
    /// How many labels the zone's name has, and its serial.
    pub zone_version: Option<(u8, Serial)>,
    /// Why there is no answer.
    pub error: Option<Ede>,
}

impl<'a> Opt<'a> {
    /// Octets of the record without options.
    pub const LEN: usize = 11;

    /// A record without options.
    #[inline]
    pub fn new(udp_size: u16, rcode: Rcode, dnssec_ok: bool) -> Self {
        Self {
            udp_size,
            rcode,
            dnssec_ok,
            nsid: None,
            expire: None,
            cookie: None,
            keepalive: None,
            zone_version: None,
            error: None,
        }
    }

    /// Octets of the record with a cookie in it, if the client sent one: what every reply has
    /// room for.
    pub fn len_min(edns: &Edns<'_>) -> usize {
        Self::LEN + if edns.cookie.is_some() { 4 + 24 } else { 0 }
    }

    /// Octets that the other options may take in the reply to a client that asked for these, whose
    /// server calls itself `id`.
    pub fn options_len_max(edns: &Edns<'_>, id: Option<&str>) -> usize {
        let of = |asked: bool, len: usize| if asked { 4 + len } else { 0 };
        of(edns.nsid, id.map_or(0, str::len))
            + of(edns.expire, 4)
            + of(edns.keepalive, 2)
            + of(edns.zone_version, 6)
    }

    /// Writes the record, with the options that fit.
    pub fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        writer.put(&[0])?;
        writer.fixed(Section::Additional, Rtype::OPT, Class(self.udp_size), self.ttl())?;
        let data = writer.begin_data()?;
        self.options(writer);
        writer.end_data(data)
    }

    /// Writes the record without options.
    #[inline]
    pub fn write_bare(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        writer.bare_root_record(Section::Additional, Rtype::OPT, Class(self.udp_size), self.ttl())
    }

    /// What stands in the place of a TTL (RFC 6891 section 6.1.3).
    #[inline]
    fn ttl(&self) -> u32 {
        let flags = if self.dnssec_ok { u32::from(DNSSEC_OK) } else { 0 };
        u32::from(self.rcode.0 >> 4) << 24 | flags
    }

    fn options(&self, writer: &mut Writer<'_>) {
        if let Some(cookie) = &self.cookie {
            option(writer, code::COOKIE, &[cookie]);
        }
        if let Some(id) = self.nsid {
            option(writer, code::NSID, &[id]);
        }
        if let Some(seconds) = self.expire {
            option(writer, code::EXPIRE, &[&seconds.to_be_bytes()]);
        }
        if let Some(idle) = self.keepalive {
            option(writer, code::KEEPALIVE, &[&idle.to_be_bytes()]);
        }
        if let Some((labels, serial)) = self.zone_version {
            // Type 0: SOA-SERIAL.
            option(writer, code::ZONE_VERSION, &[&[labels, 0], &serial.0.to_be_bytes()]);
        }
        if let Some((code, text)) = self.error.map(Ede::code_and_text) {
            option(writer, code::ERROR, &[&code.to_be_bytes(), text.as_bytes()]);
        }
    }
}

/// Writes an option of these parts, if it fits.
fn option(writer: &mut Writer<'_>, code: u16, parts: &[&[u8]]) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let Ok(len_word) = u16::try_from(len) else { return };
    if writer.room() >= 4 + len {
        let _ = writer.put_u16(code);
        let _ = writer.put_u16(len_word);
        for part in parts {
            let _ = writer.put(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 9018 appendix A.1, and the renewal of A.2.
    #[test]
    fn cookies_are_those_that_rfc_9018_shows() {
        let secret = *b"\xe5\xe9\x73\xe5\xa6\xb2\xa4\x3f\x48\xe7\xdc\x84\x9e\x37\xbf\xcf";
        let peer: IpAddr = "198.51.100.100".parse().unwrap();
        let client = b"\x24\x64\xc4\xab\xcf\x10\xc9\x57";
        let made = Cookie::read(client).unwrap().make(&secret, peer, 1_559_731_985);
        assert_eq!(made[..8], *client);
        assert_eq!(made[8..], *b"\x01\0\0\0\x5c\xf7\x9f\x11\x1f\x81\x30\xc3\xee\xe2\x94\x80");
        let cookie = Cookie::read(&made).unwrap();
        let secrets = [[7; 16], secret];
        assert!(cookie.is_ours(&secrets, peer, 1_559_731_985 + 3600));
        assert!(cookie.is_ours(&secrets, peer, 1_559_731_985 - 300));
        assert!(!cookie.is_ours(&secrets, peer, 1_559_731_985 + 3601));
        assert!(!cookie.is_ours(&secrets, peer, 1_559_731_985 - 301));
        assert!(!cookie.is_ours(&secrets, "198.51.100.101".parse().unwrap(), 1_559_731_985));
        assert!(!cookie.is_ours(&[[7; 16]], peer, 1_559_731_985));
    }

    #[test]
    fn a_cookie_of_another_length_is_malformed() {
        for (len, is_good) in [(0, false), (7, false), (8, true), (9, false), (15, false)]
            .into_iter()
            .chain([(16, true), (40, true), (41, false)])
        {
            assert_eq!(Cookie::read(&[0; 41][..len]).is_some(), is_good, "{len}");
        }
    }

    #[test]
    fn options_are_read_whole_or_not_at_all() {
        let read = |data: &[u8]| Edns::read(512, [0, 0], data).is_some();
        assert!(read(b"\0\x03\0\0\xff\xff\0\x01x"), "also one that we do not know");
        assert!(!read(b"\0\x03\0") && !read(b"\0\x03\0\x01"));
    }
}
