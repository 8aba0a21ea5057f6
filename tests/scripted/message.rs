//! DNS messages written and read by hand (RFC 1035 section 4).

use std::net::SocketAddr;
use std::time::Instant;

pub mod rtype {
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const SOA: u16 = 6;
    pub const TXT: u16 = 16;
    pub const OPT: u16 = 41;
    pub const RRSIG: u16 = 46;
    pub const NSEC3PARAM: u16 = 51;
    pub const ZONEMD: u16 = 63;
    pub const TSIG: u16 = 250;
    pub const IXFR: u16 = 251;
    pub const AXFR: u16 = 252;
}

pub mod rcode {
    pub const NOERROR: u8 = 0;
    pub const NXDOMAIN: u8 = 3;
    pub const FORMERR: u8 = 1;
    pub const SERVFAIL: u8 = 2;
    pub const NOTIMP: u8 = 4;
    pub const REFUSED: u8 = 5;
    pub const NOTAUTH: u8 = 9;
}

pub const QR: u8 = 0x80;
pub const AA: u8 = 0x04;
pub const TC: u8 = 0x02;

/// A record, uncompressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rr {
    pub owner: Vec<u8>,
    pub rtype: u16,
    pub ttl: u32,
    pub data: Vec<u8>,
}

impl Rr {
    pub fn new(owner: &str, rtype: u16, data: Vec<u8>) -> Self {
        Self { owner: name(owner), rtype, ttl: 60, data }
    }

    pub fn a(owner: &str, address: [u8; 4]) -> Self {
        Self::new(owner, rtype::A, address.to_vec())
    }

    pub fn txt(owner: &str, text: &str) -> Self {
        let len = u8::try_from(text.len()).unwrap();
        Self::new(owner, rtype::TXT, [&[len], text.as_bytes()].concat())
    }

    /// `times`: refresh, retry, expire.
    pub fn soa(apex: &str, serial: u32, times: [u32; 3]) -> Self {
        let mut data = [name(&format!("ns.{apex}")), name(&format!("admin.{apex}"))].concat();
        for number in [serial, times[0], times[1], times[2], 30] {
            data.extend(number.to_be_bytes());
        }
        Self::new(apex, rtype::SOA, data)
    }

    pub fn octets(&self) -> Vec<u8> {
        let mut octets = self.owner.clone();
        octets.extend(self.rtype.to_be_bytes());
        octets.extend(1_u16.to_be_bytes());
        octets.extend(self.ttl.to_be_bytes());
        octets.extend(u16::try_from(self.data.len()).unwrap().to_be_bytes());
        octets.extend(&self.data);
        octets
    }
}

/// A name in wire form.
pub fn name(text: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in text.split('.').filter(|label| !label.is_empty()) {
        wire.push(u8::try_from(label.len()).unwrap());
        wire.extend(label.as_bytes());
    }
    wire.push(0);
    wire
}

/// A request as the primary sees it.
#[derive(Clone, Debug)]
pub struct Asked {
    pub id: u16,
    /// In lower case, with its final dot.
    pub zone: String,
    pub rtype: u16,
    /// The serial that an IXFR request goes from.
    pub since: Option<u32>,
    /// The MAC of a signed request.
    pub mac: Option<Vec<u8>>,
    /// The options of its OPT record, if it has one.
    pub options: Option<Vec<u8>>,
    /// It asks for signatures.
    pub dnssec_ok: bool,
    pub tcp: bool,
    pub from: SocketAddr,
    pub at: Instant,
    /// The question section.
    pub question: Vec<u8>,
}

impl Asked {
    /// # Panics
    /// If it is no request that a secondary should send.
    pub fn parse(octets: &[u8], tcp: bool, from: SocketAddr) -> Self {
        let word = |at: usize| u16::from_be_bytes([octets[at], octets[at + 1]]);
        assert_eq!((octets[2] & 0xf8, word(4)), (0, 1), "a query with one question");
        let (zone, after) = read_name(octets, 12);
        let mut asked = Self {
            id: word(0),
            zone,
            rtype: word(after),
            since: None,
            mac: None,
            options: None,
            dnssec_ok: false,
            tcp,
            from,
            at: Instant::now(),
            question: octets[12..after + 4].to_vec(),
        };
        let mut at = after + 4;
        for _ in 0..word(6) + word(8) + word(10) {
            let fixed = read_name(octets, at).1;
            let (rtype, len) = (word(fixed), usize::from(word(fixed + 8)));
            let data = fixed + 10;
            if rtype == rtype::SOA {
                let serial = read_name(octets, read_name(octets, data).1).1;
                asked.since =
                    Some(u32::from_be_bytes(octets[serial..serial + 4].try_into().unwrap()));
            } else if rtype == rtype::OPT {
                asked.options = Some(octets[data..data + len].to_vec());
                asked.dnssec_ok = octets[fixed + 6] & 0x80 != 0;
            } else if rtype == rtype::TSIG {
                let times = read_name(octets, data).1;
                let mac = times + 10;
                let mac_len = usize::from(word(times + 8));
                asked.mac = Some(octets[mac..mac + mac_len].to_vec());
            }
            at = data + len;
        }
        assert_eq!(at, octets.len(), "nothing behind the last record");
        asked
    }

    pub fn is(&self, zone: &str, rtype: u16) -> bool {
        self.zone == zone && self.rtype == rtype
    }

    /// The reply with these records in its answer section.
    pub fn reply(&self, rcode: u8, answers: &[Rr]) -> Vec<u8> {
        let octets: Vec<u8> = answers.iter().flat_map(Rr::octets).collect();
        self.reply_of(rcode, u16::try_from(answers.len()).unwrap(), &octets)
    }

    /// As [`reply`](Self::reply), with an OPT record of these options: code and value.
    pub fn extended(&self, rcode: u8, answers: &[Rr], options: &[(u16, &[u8])]) -> Vec<u8> {
        let mut data = Vec::new();
        for (code, value) in options {
            data.extend(code.to_be_bytes());
            data.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
            data.extend(*value);
        }
        let mut octets = self.reply(rcode, answers);
        octets.extend([0, 0, 41, 4, 208, 0, 0, 0, 0]);
        octets.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        octets.extend(data);
        octets[11] += 1;
        octets
    }

    /// The reply with these octets as its answer section, said to be `count` records.
    pub fn reply_of(&self, rcode: u8, count: u16, answers: &[u8]) -> Vec<u8> {
        let mut octets = self.id.to_be_bytes().to_vec();
        octets.extend([QR | AA, rcode, 0, 1]);
        octets.extend(count.to_be_bytes());
        octets.extend([0; 4]);
        octets.extend(&self.question);
        octets.extend(answers);
        octets
    }
}

/// The name at `at`, and where what follows it begins.
fn read_name(octets: &[u8], mut at: usize) -> (String, usize) {
    let (mut text, mut end) = (String::new(), None);
    loop {
        match octets[at] {
            0 => break,
            len @ 0xc0.. => {
                end = end.or(Some(at + 2));
                at = usize::from(u16::from_be_bytes([len & 0x3f, octets[at + 1]]));
            }
            len => {
                let label = &octets[at + 1..=at + usize::from(len)];
                text.push_str(&String::from_utf8_lossy(label).to_ascii_lowercase());
                text.push('.');
                at += 1 + usize::from(len);
            }
        }
    }
    (text, end.unwrap_or(at + 1))
}

/// A NOTIFY (RFC 1996), with the new SOA if there is one.
pub fn notify(id: u16, zone: &str, soa: Option<&Rr>) -> Vec<u8> {
    let mut octets = id.to_be_bytes().to_vec();
    octets.extend([0x20 | AA, 0, 0, 1, 0, u8::from(soa.is_some()), 0, 0, 0, 0]);
    octets.extend(name(zone));
    octets.extend([0, 6, 0, 1]);
    octets.extend(soa.map(Rr::octets).unwrap_or_default());
    octets
}
