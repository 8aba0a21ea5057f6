//! Replies, read back by an independent parser.

mod cookies;
mod options;
mod plain;
mod recent;
mod signed;

use super::*;
use crate::acl::Acl;
use crate::name::NameBuf;
use crate::view::{Access, Expiry, Identity};
use crate::wire::HEADER_LEN;
use crate::zone::{Builder, Record};
use domain::base::{Message, ParsedName, Record as ParsedRecord, ToName};
use domain::rdata::AllRecordData;
use domain::zonefile::inplace::{Entry, Zonefile};
use std::fmt::Write as _;
use std::sync::Arc;

fn name(text: &str) -> NameBuf {
    text.parse().unwrap()
}

/// A zone from the text of a zone file.
fn zone(apex: &str, text: &str) -> Zone {
    use domain::base::rdata::ComposeRecordData;
    let mut file = Zonefile::new();
    file.set_origin(apex.parse().unwrap());
    file.set_default_class(domain::base::iana::Class::IN);
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    file.extend_from_slice(format!("$TTL 3600\n{}\n", lines.join("\n")).as_bytes());
    let mut builder = Builder::new(name(apex).as_name());
    while let Some(Entry::Record(record)) = file.next_entry().unwrap() {
        let owner: Vec<u8> = record.owner().to_vec().as_slice().to_vec();
        let mut data = Vec::new();
        record.data().compose_rdata(&mut data).unwrap();
        let record = Record {
            rtype: Rtype(record.rtype().to_int()),
            ttl: record.ttl().as_secs(),
            data: &data,
        };
        builder.add(Name::from_wire(&owner).unwrap(), record);
    }
    builder.build().unwrap()
}

fn served(apex: &str, zone: Option<Zone>, access: Access) -> Arc<Served> {
    Arc::new(Served {
        apex: name(apex),
        access: Arc::new(access),
        zone: zone.map(Arc::new),
        expiry: Arc::new(Expiry::at(1_000_000)),
        history: Arc::new([]),
    })
}

fn acl(from: &str) -> Acl {
    Acl::new(vec![crate::acl::Rule { from: from.parse().unwrap(), key: None }])
}

/// A question and how it is asked.
#[derive(Clone)]
struct Ask {
    name: &'static str,
    rtype: Rtype,
    class: Class,
    /// The datagram size and DO of an OPT record.
    edns: Option<(u16, bool)>,
    options: Vec<u8>,
    transport: Transport,
    peer: &'static str,
    now_ms: u64,
}

fn ask(name: &'static str, rtype: Rtype) -> Ask {
    Ask {
        name,
        rtype,
        class: Class::IN,
        edns: None,
        options: Vec::new(),
        transport: Transport::Udp,
        peer: "192.0.2.77",
        now_ms: 0,
    }
}

impl Ask {
    fn edns(mut self, size: u16) -> Self {
        self.edns = Some((size, false));
        self
    }

    fn signed(mut self) -> Self {
        self.edns = Some((1232, true));
        self
    }

    fn tcp(mut self) -> Self {
        self.transport = Transport::Tcp;
        self
    }

    fn from(mut self, peer: &'static str) -> Self {
        self.peer = peer;
        self
    }

    fn message(&self) -> Vec<u8> {
        let mut message = b"\xab\xcd\x01\0\0\x01\0\0\0\0\0\0".to_vec();
        message.extend_from_slice(name(self.name).as_name().as_wire());
        message.extend_from_slice(&self.rtype.0.to_be_bytes());
        message.extend_from_slice(&self.class.0.to_be_bytes());
        if self.rtype == Rtype::IXFR {
            // An SOA with serial 0, of the question's name.
            message[9] = 1;
            message.extend_from_slice(b"\xc0\x0c\0\x06\0\x01\0\0\0\0\0\x16");
            message.extend_from_slice(&[0; 22]);
        }
        if let Some((size, dnssec_ok)) = self.edns {
            message[11] = 1;
            message.extend_from_slice(b"\0\0\x29");
            message.extend_from_slice(&size.to_be_bytes());
            message.extend_from_slice(&[0, 0, if dnssec_ok { 0x80 } else { 0 }, 0]);
            message.extend_from_slice(&u16::try_from(self.options.len()).unwrap().to_be_bytes());
            message.extend_from_slice(&self.options);
        }
        message
    }

    fn via(&self) -> Via<'static> {
        Via {
            transport: self.transport,
            peer: self.peer.parse().unwrap(),
            now_ms: self.now_ms,
            key: None,
            reserved: 0,
            unix_s: 0,
            keepalive: None,
        }
    }

    /// The reply's octets.
    fn of(&self, view: &View) -> Vec<u8> {
        let mut reply = vec![0xee; 65535];
        match respond(&self.message(), &self.via(), view, &mut reply) {
            Outcome::Reply { len, .. } => reply[..len].to_vec(),
            other => panic!("{other:?}"),
        }
    }
}

/// A reply in words: rcode and flags, then a line for each record, its section's letter first.
fn show(reply: &[u8]) -> String {
    let message = Message::from_octets(reply).unwrap();
    let header = message.header();
    let mut out = message.opt_rcode().to_string();
    for (set, flag) in [(header.aa(), " AA"), (header.tc(), " TC")] {
        out.push_str(if set { flag } else { "" });
    }
    assert!(header.qr() && !header.ra() && !header.ad());
    let (_, answer, authority, additional) = message.sections().unwrap();
    for (letter, section) in [("an", answer), ("au", authority), ("ad", additional)] {
        for record in section {
            let record: ParsedRecord<ParsedName<_>, AllRecordData<_, _>> =
                record.unwrap().into_record().unwrap().unwrap();
            let (rtype, data) = (record.rtype(), record.data());
            if let AllRecordData::Opt(_) = data {
                write!(out, "\n{letter} OPT").unwrap();
            } else {
                let (owner, ttl) = (record.owner().fmt_with_dot(), record.ttl().as_secs());
                let line = format!("{letter} {owner} {ttl} {rtype} {data}");
                write!(out, "\n{}", line.trim_end()).unwrap();
            }
        }
    }
    out
}

#[track_caller]
fn expect(view: &View, ask: &Ask, expected: &str) {
    let expected: Vec<&str> = expected.trim().lines().map(str::trim).collect();
    assert_eq!(show(&ask.of(view)), expected.join("\n"), "{} {}", ask.name, ask.rtype);
}
