//! A request in any state, to a server of every kind of zone: a reply is a sound message that the
//! `domain` crate reads too, within the client's limit, and has nothing that was not asked for.
//!
//! The first octet says how the request comes and to which view, and whether it comes several times;
//! the rest is the request.

use super::{Target, world};
use backstop::answer::{Outcome, Recent, Transport, Via, respond};
use backstop::name::{Name, NameBuf};
use backstop::view::{Access, View};
use backstop::wire::Rcode;
use domain::base::iana::{Class, Rtype};
use domain::base::{Message, ParsedName, Record};
use domain::rdata::AllRecordData;
use std::cell::RefCell;
use std::sync::LazyLock;

pub const TARGET: Target = Target { name: "respond", run, seeds };

const ROOT: &str = "
@ SOA a.servers root 1 2 3 4 5
@ NS a.servers
@ NS b.servers
a.servers A 192.0.2.1
b.servers A 192.0.2.2
*.wild MX 10 *.wild
org NS a.org
a.org A 192.0.2.3
";

/// The views of the tests, and one whose root is a zone.
static VIEWS: LazyLock<[View; 4]> = LazyLock::new(|| {
    let [nsec, nsec3, optout] = world::views();
    let mut root = nsec.clone();
    root.put(world::served(".", Some(world::zone(".", ROOT)), Access::default()));
    [nsec, nsec3, optout, root]
});

static KEY: LazyLock<NameBuf> = LazyLock::new(|| world::name("xfr.key"));

fn run(data: &[u8]) {
    if let Some((&how, request)) = data.split_first() {
        let view = &VIEWS[usize::from(how & 3)];
        let mut buffer = vec![0; 65535];
        if let Some(reply) = is_sound(request, &via(how >> 2), view, &mut buffer) {
            data_are_sound(reply);
        }
        if how >> 6 == 0 {
            is_repeated(request, &via(how >> 2), view, &mut buffer[..4096]);
        }
    }
}

thread_local! {
    /// What was said, and how many times something was asked.
    static RECENT: RefCell<(Recent, u64)> = RefCell::new((Recent::new(1), 0));
}

/// What a request gets as one that was asked before is what it gets alone, however its name is
/// spelt.
fn is_repeated(request: &[u8], via: &Via<'_>, view: &View, buffer: &mut [u8]) {
    RECENT.with_borrow_mut(|(recent, version)| {
        *version += 1;
        recent.begin(*version, via.now_ms);
        let mut again = [0; 4096];
        for mask in [0, 0, 0, 0x20] {
            let mut request = request.to_vec();
            if let Some(first) = request.get_mut(13).filter(|octet| octet.is_ascii_alphabetic()) {
                *first ^= mask;
            }
            let anew = respond(&request, via, view, buffer);
            match recent.repeat(&request, via, &mut again) {
                Err(Some(at)) => recent.keep(at, &request, via, buffer, anew),
                Err(None) => {}
                Ok(outcome) => {
                    assert_eq!(outcome, anew);
                    let Outcome::Reply { len, .. } = anew else { panic!("only replies are kept") };
                    assert_eq!(again[..len], buffer[..len]);
                }
            }
        }
    });
}

/// How a request comes, from bits: over TCP, from whom, signed, and that the connection stays.
fn via(bits: u8) -> Via<'static> {
    let mut via = world::via(if bits & 1 == 0 { Transport::Udp } else { Transport::Tcp });
    if bits & 2 != 0 {
        via.peer = "fd18::1".parse().unwrap();
    }
    if bits & 4 != 0 {
        (via.key, via.reserved) = (Some(KEY.as_name()), 100);
    }
    via.keepalive = (bits & 9 == 9).then_some(300);
    via
}

fn seeds() -> Vec<Vec<u8>> {
    let cases = (0..=u8::MAX).cycle().zip(world::requests());
    cases.map(|(how, request)| [&[how], &request[..]].concat()).collect()
}

/// All data in the reply are of their type's form: for zones whose data are.
fn data_are_sound(reply: &[u8]) {
    let message = Message::from_octets(reply).unwrap();
    let (_, answer, authority, additional) = message.sections().unwrap();
    for section in [answer, authority, additional] {
        for record in section {
            let _: Record<ParsedName<_>, AllRecordData<_, _>> =
                record.unwrap().into_record().unwrap().unwrap();
        }
    }
}

/// Asks, checks what is replied whatever the zone's data are, and returns the reply if there is
/// one.
pub fn is_sound<'b>(
    request: &[u8],
    via: &Via<'_>,
    view: &View,
    buffer: &'b mut [u8],
) -> Option<&'b [u8]> {
    let Outcome::Reply { len, rcode, .. } = respond(request, via, view, buffer) else {
        return None;
    };
    let reply = &buffer[..len];
    assert_eq!(request[2] & 0x80, 0, "never a reply to a response");
    assert_eq!(reply[..2], request[..2], "the id");
    assert_ne!(reply[2] & 0x80, 0, "QR");
    let is_question = request[2] & 0x78 == 0;
    let copied = if is_question { 0x79 } else { 0x78 };
    assert_eq!(reply[2] & 0x79, request[2] & copied, "opcode, and RD of questions");
    let cd = if is_question { request[3] & 0x10 } else { 0 };
    assert!([0, cd].contains(&(reply[3] & 0xf0)), "RA, Z, AD are clear, CD is at most copied");
    let asked = Asked::read(request);
    let limit = match via.transport {
        Transport::Tcp => 65535,
        Transport::Udp => asked.udp_size.clamp(512, 1232),
    };
    assert!(len + via.reserved <= limit, "{len} octets, the limit is {limit}");
    let message = Message::from_octets(reply).unwrap();
    let (question, answer, authority, additional) = message.sections().unwrap();
    // Of these nothing behind the header need have been read.
    if rcode != Rcode::FORMERR && rcode != Rcode::NOTIMP {
        let end = question.count() * reply_question_len(reply);
        assert!(request[12..].starts_with(&reply[12..12 + end]), "the question comes back");
        let edns = message.opt();
        assert_eq!(edns.is_some(), asked.edns, "OPT for OPT");
        assert_eq!(edns.is_some_and(|opt| opt.dnssec_ok()), asked.dnssec_ok, "DO is copied");
    }
    let mut records = 0;
    for section in [answer, authority, additional] {
        for record in section {
            let record = record.unwrap();
            let rtype = record.rtype();
            assert!(
                asked.dnssec_ok || !is_proof(rtype) || asked.is_for(rtype),
                "{rtype} without DO"
            );
            records += 1;
        }
    }
    let counts = message.header_counts();
    assert_eq!(records, counts.ancount() + counts.nscount() + counts.arcount());
    Some(reply)
}

fn reply_question_len(reply: &[u8]) -> usize {
    Name::split(&reply[12..]).map_or(0, |(name, _)| name.len() + 4)
}

fn is_proof(rtype: Rtype) -> bool {
    matches!(rtype, Rtype::RRSIG | Rtype::NSEC | Rtype::NSEC3)
}

/// What `domain` reads in a request.
struct Asked {
    rtype: Option<Rtype>,
    udp_size: usize,
    edns: bool,
    dnssec_ok: bool,
}

impl Asked {
    fn read(request: &[u8]) -> Self {
        let message = Message::from_octets(request).unwrap();
        let question = message.first_question();
        let opt = message.opt();
        Self {
            rtype: question.filter(|q| q.qclass() != Class::CH).map(|q| q.qtype()),
            udp_size: opt.as_ref().map_or(512, |opt| usize::from(opt.udp_payload_size())),
            edns: opt.is_some(),
            dnssec_ok: opt.is_some_and(|opt| opt.dnssec_ok()),
        }
    }

    fn is_for(&self, rtype: Rtype) -> bool {
        self.rtype.is_some_and(|asked| asked == rtype || asked == Rtype::ANY)
    }
}
