//! The cases in `cases/`: what the server says, one file a rule. Their form is told in
//! `cases/README.md`; `BACKSTOP_CASE=name` runs one file.
//!
//! Replies and what is expected of them are read with the `domain` crate, zones by Backstop.
#![allow(clippy::unwrap_used, reason = "a test")]

mod model;

use backstop::answer::{Outcome, Transport, Via, respond, truncate};
use backstop::limit::{Limiter, Subject, Verdict};
use backstop::view::View;
use domain::zonefile::inplace::{Entry, Zonefile};
use model::case::{self, FLAGS, SECTIONS, Wanted};
use model::message::{Record, Reply, canonical};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

const RCODES: [(&str, u16); 10] = [
    ("NOERROR", 0),
    ("FORMERR", 1),
    ("SERVFAIL", 2),
    ("NXDOMAIN", 3),
    ("NOTIMP", 4),
    ("REFUSED", 5),
    ("YXDOMAIN", 6),
    ("NOTAUTH", 9),
    ("BADVERS", 16),
    ("BADCOOKIE", 23),
];

#[test]
fn every_case_is_answered_as_it_says() {
    let (mut asked, mut wrong) = (0, String::new());
    for path in case::files() {
        let mut limiter = None;
        case::read(&path, |view, wanted| {
            wrong.push_str(&settle(&path, view, &wanted, &mut limiter));
            asked += 1;
        });
    }
    eprintln!("{asked} questions asked");
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(asked > 0, "there is no such case");
}

/// Asks, and tells what differs.
fn settle(path: &Path, view: &View, wanted: &Wanted, limiter: &mut Option<Limiter>) -> String {
    let transport = if wanted.tcp { Transport::Tcp } else { Transport::Udp };
    let at_s = wanted.at_s.unwrap_or(0);
    let via = Via {
        transport,
        peer: wanted.peer.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        now_ms: u64::from(at_s) * 1000 + 1,
        key: wanted.key.as_ref().map(|key| key.as_name()),
        reserved: 0,
        keepalive: wanted.idle,
        unix_s: at_s,
    };
    let mut buffer = vec![0xee; 65535];
    let outcome = respond(&wanted.message, &via, view, &mut buffer);
    let differs = match limited(outcome, wanted, &via, view, &mut buffer, limiter) {
        Some(Outcome::Reply { len, .. }) => differs(wanted, &buffer[..len]),
        Some(Outcome::Defer(_)) => is_not(wanted, "defer"),
        Some(Outcome::Silent(_)) | None => is_not(wanted, "silence"),
    };
    if differs.is_empty() {
        return differs;
    }
    format!("{}:{}: {}\n{differs}\n", path.display(), wanted.line, wanted.asked)
}

/// What a limit leaves of a reply, if there is one: as a worker does it.
fn limited(
    mut outcome: Outcome,
    wanted: &Wanted,
    via: &Via<'_>,
    view: &View,
    buffer: &mut [u8],
    limiter: &mut Option<Limiter>,
) -> Option<Outcome> {
    let Some(settings) = &view.identity.rate_limit else { return Some(outcome) };
    if !limiter.as_mut().is_some_and(|limiter| limiter.follows(settings)) {
        *limiter = Some(Limiter::new(settings.clone(), &[7; 16]));
    }
    if let (Some(limiter), Outcome::Reply { len, kind, zone, known_client: false, .. }) =
        (limiter, &mut outcome)
        && via.transport == Transport::Udp
    {
        match limiter.judge(&Subject { peer: via.peer, zone: *zone, kind: *kind }, via.now_ms) {
            Verdict::Send | Verdict::SendOver => {}
            Verdict::Slip => *len = truncate(&wanted.message, via, view, buffer).unwrap(),
            Verdict::Drop => return None,
        }
    }
    Some(outcome)
}

fn is_not(wanted: &Wanted, outcome: &str) -> String {
    match wanted.outcome.as_deref() {
        Some(said) if said == outcome => String::new(),
        Some(said) => format!("  - {said}\n  + {outcome}\n"),
        None => panic!("line {}: nothing is said of what should come", wanted.line),
    }
}

/// How this reply differs from the wanted one.
fn differs(wanted: &Wanted, octets: &[u8]) -> String {
    let reply = match Reply::read(octets) {
        Ok(reply) => reply,
        Err(problem) => return format!("  + {problem}\n"),
    };
    let mut text = is_not(wanted, &header(&reply));
    let truncated = reply.has(0x0200);
    for (at, name) in SECTIONS.iter().enumerate() {
        match &wanted.sections[at] {
            None if truncated => {}
            records => {
                let records = records.as_deref().unwrap_or_default();
                text.push_str(&section_differs(name, records, &reply.sections[at]));
            }
        }
    }
    text.push_str(&echo_differs(wanted, &reply));
    text.push_str(&options_differ(&wanted.options, &reply));
    for part in &wanted.has {
        if !octets.windows(part.len()).any(|window| window == part.as_bytes()) {
            let _ = writeln!(text, "  - has {part}");
        }
    }
    text
}

/// The question comes back as it was, and OPT for OPT. A malformed message may have neither.
fn echo_differs(wanted: &Wanted, reply: &Reply) -> String {
    if reply.rcode == 1 {
        return String::new();
    }
    let mut text = String::new();
    let question = &wanted.message[12..];
    let has_none = reply.question.is_empty() && wanted.message[5] > 0;
    if !question.starts_with(&reply.question) || has_none {
        let _ = writeln!(text, "  + question {:02x?}", reply.question);
    }
    let with_opt = wanted.message[11] > 0;
    if with_opt != reply.edns.is_some() {
        let _ = writeln!(text, "  + OPT: {:?}", reply.edns);
    }
    text
}

fn options_differ(wanted: &[String], reply: &Reply) -> String {
    let got: Vec<String> = reply.options.iter().map(|(code, value)| option(*code, value)).collect();
    match got == wanted {
        true => String::new(),
        false => format!("  - options {wanted:?}\n  + options {got:?}\n"),
    }
}

/// An option in words.
fn option(code: u16, value: &[u8]) -> String {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    match (code, value) {
        (3, id) => format!("nsid {}", text(id)),
        (9, &[a, b, c, d]) => format!("expire {}", u32::from_be_bytes([a, b, c, d])),
        (10, cookie) => {
            format!("cookie {}", domain::utils::base16::encode_string(cookie).to_lowercase())
        }
        (11, &[a, b]) => format!("keepalive {}", u16::from_be_bytes([a, b])),
        (15, &[a, b, ref rest @ ..]) => {
            format!("error {} {}", u16::from_be_bytes([a, b]), text(rest)).trim_end().into()
        }
        (19, &[labels, 0, a, b, c, d]) => {
            format!("zoneversion {labels} {}", u32::from_be_bytes([a, b, c, d]))
        }
        _ => format!("{code} {value:02x?}"),
    }
}

fn header(reply: &Reply) -> String {
    let rcode = RCODES.iter().find(|(_, value)| *value == reply.rcode);
    let mut text = match rcode {
        Some((name, _)) => format!("reply {name}"),
        None => format!("reply RCODE{}", reply.rcode),
    };
    for (name, bit) in FLAGS {
        if reply.has(bit) {
            let _ = write!(text, " {name}");
        }
    }
    if reply.rcode == 1 && reply.edns.is_some() {
        text.push_str(" opt");
    }
    if reply.flags & 0x8000 == 0 || reply.has(0x0080) {
        text.push_str(" (no reply by its flags)");
    }
    text
}

fn section_differs(name: &str, wanted: &[String], got: &[Record]) -> String {
    if let [count] = wanted
        && let Some(count) = count.strip_suffix(" records")
    {
        return match count == "?" || count == got.len().to_string() {
            true => String::new(),
            false => format!("  {name}\n  - {count} records\n  + {} records\n", got.len()),
        };
    }
    let wanted: Vec<Record> = wanted.iter().map(|line| record(line)).collect();
    let (mut left, mut right) = (wanted.clone(), got.to_vec());
    left.sort();
    right.sort();
    let order = |records: &[Record]| {
        let mut sets: Vec<_> = records.iter().map(|r| (r.owner.clone(), r.rtype)).collect();
        sets.dedup();
        sets
    };
    if left == right && (name == "additional" || order(&wanted) == order(got)) {
        return String::new();
    }
    let mut text = format!("  {name}\n");
    for record in &wanted {
        let sign = if got.contains(record) { ' ' } else { '-' };
        let _ = writeln!(text, "  {sign} {record}");
    }
    for record in got.iter().filter(|&record| !wanted.contains(record)) {
        let _ = writeln!(text, "  + {record}");
    }
    if left == right {
        let _ = writeln!(text, "  the sets are in another order: {got:?}");
    } else if got.len() != wanted.len() {
        let _ = writeln!(text, "  {} records, {} are wanted", got.len(), wanted.len());
    }
    text
}

fn record(line: &str) -> Record {
    let mut file = Zonefile::from(format!("{line}\n").as_str()).allow_invalid();
    match file.next_entry() {
        Ok(Some(Entry::Record(record))) => canonical(&record),
        other => panic!("{line}: {other:?}"),
    }
}
