//! The cases in `cases/`: what the server says, one file a rule. Their form is told in
//! `cases/README.md`; `BACKSTOP_CASE=name` runs one file.
//!
//! Replies and what is expected of them are read with the `domain` crate, zones by Backstop.
#![allow(clippy::unwrap_used, reason = "a test")]

mod model;

use backstop::answer::{Outcome, Transport, Via, respond};
use backstop::view::View;
use domain::zonefile::inplace::{Entry, Zonefile};
use model::case::{self, FLAGS, SECTIONS, Wanted};
use model::message::{Record, Reply, canonical};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

const RCODES: [(&str, u16); 8] = [
    ("NOERROR", 0),
    ("FORMERR", 1),
    ("SERVFAIL", 2),
    ("NXDOMAIN", 3),
    ("NOTIMP", 4),
    ("REFUSED", 5),
    ("YXDOMAIN", 6),
    ("BADVERS", 16),
];

#[test]
fn every_case_is_answered_as_it_says() {
    let (mut asked, mut wrong) = (0, String::new());
    for path in case::files() {
        case::read(&path, |view, wanted| {
            wrong.push_str(&settle(&path, view, &wanted));
            asked += 1;
        });
    }
    eprintln!("{asked} questions asked");
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(asked > 0, "there is no such case");
}

/// Asks, and tells what differs.
fn settle(path: &Path, view: &View, wanted: &Wanted) -> String {
    let transport = if wanted.tcp { Transport::Tcp } else { Transport::Udp };
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let via =
        Via { transport, peer, now_ms: 1, key: None, reserved: 0, keepalive: None, unix_s: 1 };
    let mut buffer = vec![0xee; 65535];
    let outcome = respond(&wanted.message, &via, view, &mut buffer);
    let differs = match outcome {
        Outcome::Reply { len, .. } => differs(wanted, &buffer[..len]),
        Outcome::Silent(_) => is_not(wanted, "silence"),
        Outcome::Defer(_) => is_not(wanted, "defer"),
    };
    if differs.is_empty() {
        return differs;
    }
    format!("{}:{}: {}\n{differs}\n", path.display(), wanted.line, wanted.asked)
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
    if !question.starts_with(&reply.question) || reply.question.is_empty() {
        let _ = writeln!(text, "  + question {:02x?}", reply.question);
    }
    let with_opt = wanted.message[11] > 0;
    if with_opt != reply.edns.is_some() {
        let _ = writeln!(text, "  + OPT: {:?}", reply.edns);
    }
    text
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
