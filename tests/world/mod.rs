//! A view with every kind of zone and name in it, and questions for all of them.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "shared by tests and benches")]

use backstop::acl::{Acl, Rule};
use backstop::answer::{Transport, Via};
use backstop::name::{Name, NameBuf};
use backstop::view::{Access, Expiry, Identity, Served, View};
use backstop::wire::Rtype;
use backstop::zone::{Builder, Record, Zone};
use domain::base::rdata::ComposeRecordData;
use domain::base::{Rtype as DomainRtype, ToName};
use domain::zonefile::inplace::{Entry, Zonefile};
use std::sync::Arc;

pub fn name(text: &str) -> NameBuf {
    text.parse().unwrap()
}

/// A zone from the text of a zone file.
pub fn zone(apex: &str, text: &str) -> Zone {
    let mut file = Zonefile::new();
    file.set_origin(apex.parse().unwrap());
    file.set_default_class(domain::base::iana::Class::IN);
    file.extend_from_slice(format!("$TTL 3600\n{text}\n").as_bytes());
    let mut builder = Builder::new(name(apex).as_name());
    while let Some(Entry::Record(record)) = file.next_entry().unwrap() {
        let owner = record.owner().to_vec();
        let mut data = Vec::new();
        record.data().compose_rdata(&mut data).unwrap();
        let rtype: DomainRtype = record.rtype();
        let record =
            Record { rtype: Rtype(rtype.to_int()), ttl: record.ttl().as_secs(), data: &data };
        builder.add(Name::from_wire(owner.as_slice()).unwrap(), record);
    }
    builder.build().unwrap()
}

pub fn served(apex: &str, zone: Option<Zone>, access: Access) -> Arc<Served> {
    Arc::new(Served {
        apex: name(apex),
        access: Arc::new(access),
        zone: zone.map(Arc::new),
        expiry: Arc::new(Expiry::at(Expiry::NEVER)),
        history: Arc::new([]),
    })
}

const PLAIN: &str = "
@ SOA ns1 hostmaster 7 3600 600 86400 300
@ NS ns1
@ NS ns.other.
@ MX 10 mail
@ MX 20 x.wild
ns1 A 192.0.2.1
ns1 AAAA 2001:db8::1
mail A 192.0.2.2
www A 192.0.2.4
alias CNAME www
over CNAME www.other.
secret CNAME a.private.
loop1 CNAME loop2
loop2 CNAME loop1
tosub CNAME x.sub
a.b.c TXT deep
*.wild A 192.0.2.5
*.walias CNAME www
old DNAME new
www.new A 192.0.2.6
turn DNAME turn2
turn2 DNAME turn
long DNAME aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.cccccccc.new
sub NS ns.sub
sub NS ns1
sub DS 1 8 2 00000000000000000000000000000000000000000000000000000000000000ff
ns.sub A 192.0.2.7
ns.sub AAAA 2001:db8::7
child NS ns.child
ns.child A 192.0.2.9
_s._tcp SRV 1 2 53 mail
many NS ns.many
any TXT any
any A 192.0.2.10
odd TYPE65280 \\# 3 010203
";

/// A set of 40 records and a delegation with more glue than 512 octets hold.
fn big() -> String {
    let texts = (0..40).map(|i| format!("big TXT number-{i:020}\n"));
    let servers = (0..12).map(|i| format!("many NS ns{i}.many\nns{i}.many AAAA 2001:db8::{i:x}\n"));
    texts.chain(servers).collect()
}

fn acl(from: &str) -> Acl {
    Acl::new(vec![Rule { from: from.parse().unwrap(), key: None }])
}

/// Zones of every kind: in each view one that is signed in another way.
pub fn views() -> [View; 3] {
    let signed = [
        include_str!("../zones/nsec.zone"),
        include_str!("../zones/nsec3.zone"),
        include_str!("../zones/optout.zone"),
    ];
    signed.map(|text| {
        let mut view = plain_view();
        view.put(served("signed.", Some(zone("signed.", text)), Access::default()));
        view
    })
}

fn plain_view() -> View {
    let mut view = View::default();
    let small = "@ SOA ns h 1 3600 600 86400 60\n@ NS ns\nns A 192.0.2.9\nwww A 192.0.2.11";
    let [transfer, notify, update] = [(); 3].map(|()| acl("0.0.0.0/0"));
    let open = Access { transfer, notify, update, ..Access::default() };
    let closed = Access { query: Some(acl("10.0.0.0/8")), ..Access::default() };
    let plain = zone("example.", &(PLAIN.to_owned() + &big()));
    view.put(served("example.", Some(plain), open));
    for apex in ["child.example.", "other."] {
        view.put(served(apex, Some(zone(apex, small)), Access::default()));
    }
    view.put(served("private.", Some(zone("private.", small)), closed));
    view.put(served("empty.example.", None, Access::default()));
    view.identity = Arc::new(Identity {
        id: Some("here".into()),
        version: Some("1".into()),
        cookie_secrets: [[7; 16]].into(),
        ..Identity::default()
    });
    view
}

/// Names that lead to every kind of answer from [`views`].
pub const NAMES: &[&str] = &[
    ".",
    "example",
    "www.example",
    "alias.example",
    "over.example",
    "secret.example",
    "loop1.example",
    "tosub.example",
    "b.c.example",
    "none.example",
    "x.wild.example",
    "x.walias.example",
    "www.old.example",
    "x.turn.example",
    "old.example",
    "1234567890123456789012345678901234567890123456789012345678901.\
     1234567890123456789012345678901234567890123456789012345678901.\
     1234567890123456789012345678901234567890123456789012345678901.long.example",
    "sub.example",
    "x.sub.example",
    "child.example",
    "www.child.example",
    "_s._tcp.example",
    "many.example",
    "any.example",
    "odd.example",
    "big.example",
    "www.private",
    "www.empty.example",
    "www.nowhere",
    "signed",
    "www.signed",
    "none.signed",
    "x.c.signed",
    "c.signed",
    "q.wild.signed",
    "q.wtow.signed",
    "q.wnone.signed",
    "x.old.signed",
    "x.sub.signed",
    "sub.signed",
    "x.secure.signed",
    "x.n.t.signed",
    "id.server",
    "version.bind",
];

/// Types that are asked for.
pub const TYPES: &[Rtype] = &[
    Rtype::A,
    Rtype::NS,
    Rtype::CNAME,
    Rtype::SOA,
    Rtype::MX,
    Rtype::TXT,
    Rtype::AAAA,
    Rtype::SRV,
    Rtype::DNAME,
    Rtype::DS,
    Rtype::RRSIG,
    Rtype::NSEC,
    Rtype::NSEC3,
    Rtype::DNSKEY,
    Rtype(65280),
    Rtype::ANY,
    Rtype::AXFR,
    Rtype::IXFR,
    Rtype::MAILB,
    Rtype::OPT,
];

/// A request: class IN, or CH for what is asked of the server itself.
pub fn request(name_text: &str, rtype: Rtype, edns: Option<(u16, bool)>) -> Vec<u8> {
    let mut message = b"\xab\xcd\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    message.extend_from_slice(name(name_text).as_name().as_wire());
    message.extend_from_slice(&rtype.0.to_be_bytes());
    let is_ch = name_text.ends_with(".server") || name_text.ends_with(".bind");
    message.extend_from_slice(if is_ch { b"\0\x03" } else { b"\0\x01" });
    if let Some((size, dnssec_ok)) = edns {
        message[11] = 1;
        message.extend_from_slice(b"\0\0\x29");
        message.extend_from_slice(&size.to_be_bytes());
        message.extend_from_slice(&[0, 0, if dnssec_ok { 0x80 } else { 0 }, 0, 0, 28]);
        // NSID, EXPIRE, ZONEVERSION, keepalive, and a cookie.
        message.extend_from_slice(b"\0\x03\0\0\0\x09\0\0\0\x13\0\0\0\x0b\0\0\0\x0a\0\x08cccccccc");
    }
    message
}

/// Every name with every type, without and with EDNS and DO.
pub fn requests() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for name in NAMES {
        for &rtype in TYPES {
            for edns in [None, Some((1232, false)), Some((4096, true))] {
                all.push(request(name, rtype, edns));
            }
        }
    }
    all
}

/// From a client that may ask everything.
pub fn via(transport: Transport) -> Via<'static> {
    Via { transport, ..Via::datagram("10.1.2.3".parse().unwrap()) }
}
