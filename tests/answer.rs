//! The cases in `cases/`: what the server says, one file a rule. Their form is told in
//! `cases/README.md`; `BACKSTOP_CASE=name` runs one file.
//!
//! Replies and what is expected of them are read with the `domain` crate, zones by Backstop.
#![allow(clippy::unwrap_used, reason = "a test")]

mod model;

use backstop::acl::{Acl, Rule};
use backstop::answer::{Outcome, Transport, Via, respond};
use backstop::view::{Access, Expiry, Identity, Served, View};
use backstop::zone::file;
use domain::base::Name;
use domain::zonefile::inplace::{Entry, Zonefile};
use model::message::{ID, Question, Record, Reply, canonical};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;

const FLAGS: [(&str, u16); 5] =
    [("aa", 0x0400), ("tc", 0x0200), ("rd", 0x0100), ("ad", 0x0020), ("cd", 0x0010)];

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

const SECTIONS: [&str; 3] = ["answer", "authority", "additional"];

#[test]
fn every_case_is_answered_as_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let only = std::env::var("BACKSTOP_CASE").ok();
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "case"));
    files.sort();
    let (mut asked, mut wrong) = (0, String::new());
    for path in files {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if only.as_deref().is_none_or(|only| only == stem) {
            let text = std::fs::read_to_string(&path).unwrap();
            let mut case = Case { path: &path, view: View::default(), asked: 0 };
            wrong.push_str(&case.run(&text));
            asked += case.asked;
        }
    }
    eprintln!("{asked} questions asked");
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(asked > 0, "there is no such case");
}

/// One file.
struct Case<'p> {
    path: &'p Path,
    view: View,
    asked: usize,
}

/// What should come of a question.
#[derive(Default)]
struct Wanted {
    line: usize,
    asked: String,
    message: Vec<u8>,
    tcp: bool,
    /// The rest: as the lines say it.
    outcome: Option<String>,
    sections: [Option<Vec<String>>; 3],
    has: Vec<String>,
}

impl Case<'_> {
    /// Runs it; what is wrong, as text.
    fn run(&mut self, text: &str) -> String {
        let mut wrong = String::new();
        let mut wanted: Option<Wanted> = None;
        let mut section = None;
        let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
        while let Some((number, line)) = lines.next() {
            let mut words = line.split_whitespace();
            let first = words.next().unwrap_or("#");
            if first.starts_with('#') {
                continue;
            }
            if ["zone", "identity", "ask", "send"].contains(&first) {
                wrong.push_str(&self.settle(wanted.take()));
            }
            match (first, &mut wanted) {
                ("zone", _) => {
                    let whole = line.ends_with(" empty") || line.ends_with(" expired");
                    let zone: Vec<&str> = match whole {
                        true => Vec::new(),
                        false => lines.by_ref().map(|l| l.1).take_while(|&l| l != "end").collect(),
                    };
                    self.zone(words.next().unwrap(), words.next(), &zone.join("\n"));
                }
                ("identity", _) => self.identify(words),
                ("ask" | "send", _) => {
                    wanted = Some(question(number, line));
                    section = None;
                }
                ("reply" | "silence" | "defer", Some(wanted)) => {
                    wanted.outcome = Some(line.into());
                }
                ("has", Some(wanted)) => wanted.has.push(line[4..].into()),
                (name, Some(wanted)) => {
                    match SECTIONS.iter().position(|&section| section == name) {
                        Some(at) => {
                            section = Some(at);
                            wanted.sections[at] = Some(Vec::new());
                        }
                        None => {
                            let at = section.unwrap_or_else(|| panic!("{number}: {line}"));
                            let records = wanted.sections[at].as_mut().expect("it was named");
                            records.push(line.trim().into());
                        }
                    }
                }
                _ => panic!("{}:{number}: {line}", self.path.display()),
            }
        }
        wrong + &self.settle(wanted)
    }

    fn zone(&mut self, apex: &str, state: Option<&str>, text: &str) {
        let apex: backstop::name::NameBuf = apex.parse().unwrap();
        let limits = file::Limits::default();
        let soa = "@ 60 SOA ns root 1 2 3 4 5\n";
        let text = if state == Some("expired") { soa } else { text };
        let zone = (state != Some("empty")).then(|| {
            let builder = file::read_text(text.as_bytes(), self.path, apex.as_name(), limits);
            Arc::new(builder.unwrap_or_else(|error| panic!("{error}")).build().unwrap())
        });
        let at = if state == Some("expired") { 0 } else { Expiry::NEVER };
        let mut access = Access::default();
        if state == Some("notify") {
            access.notify = Acl::new(vec![Rule { from: "0.0.0.0/0".parse().unwrap(), key: None }]);
        }
        self.view.put(Arc::new(Served {
            apex,
            access: Arc::new(access),
            zone,
            expiry: Arc::new(Expiry::at(at)),
            history: Arc::new([]),
        }));
    }

    fn identify<'w>(&mut self, words: impl Iterator<Item = &'w str>) {
        let mut identity = Identity::default();
        for word in words {
            match word.split_once('=') {
                Some(("id", id)) => identity.id = Some(id.into()),
                Some(("version", version)) => identity.version = Some(version.into()),
                _ => panic!("{word}"),
            }
        }
        self.view.identity = Arc::new(identity);
    }

    /// Asks, and tells what differs.
    fn settle(&mut self, wanted: Option<Wanted>) -> String {
        let Some(wanted) = wanted else { return String::new() };
        self.asked += 1;
        let transport = if wanted.tcp { Transport::Tcp } else { Transport::Udp };
        let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let via =
            Via { transport, peer, now_ms: 1, key: None, reserved: 0, keepalive: None, unix_s: 1 };
        let mut buffer = vec![0xee; 65535];
        let outcome = respond(&wanted.message, &via, &self.view, &mut buffer);
        let differs = match outcome {
            Outcome::Reply { len, .. } => wanted.differs(&buffer[..len]),
            Outcome::Silent(_) => wanted.is_not("silence"),
            Outcome::Defer(_) => wanted.is_not("defer"),
        };
        if differs.is_empty() {
            return differs;
        }
        format!("{}:{}: {}\n{differs}\n", self.path.display(), wanted.line, wanted.asked)
    }
}

impl Wanted {
    fn is_not(&self, outcome: &str) -> String {
        match self.outcome.as_deref() {
            Some(wanted) if wanted == outcome => String::new(),
            Some(wanted) => format!("  - {wanted}\n  + {outcome}\n"),
            None => panic!("line {}: nothing is said of what should come", self.line),
        }
    }

    /// How this reply differs from the wanted one.
    fn differs(&self, octets: &[u8]) -> String {
        let reply = match Reply::read(octets) {
            Ok(reply) => reply,
            Err(problem) => return format!("  + {problem}\n"),
        };
        let mut text = self.is_not(&header(&reply));
        let truncated = reply.has(0x0200);
        for (at, name) in SECTIONS.iter().enumerate() {
            match &self.sections[at] {
                None if truncated => {}
                wanted => {
                    let wanted = wanted.as_deref().unwrap_or_default();
                    text.push_str(&section_differs(name, wanted, &reply.sections[at]));
                }
            }
        }
        text.push_str(&self.echo_differs(&reply));
        for part in &self.has {
            if !octets.windows(part.len()).any(|window| window == part.as_bytes()) {
                let _ = writeln!(text, "  - has {part}");
            }
        }
        text
    }

    /// The question comes back as it was, and OPT for OPT. A malformed message may have neither.
    fn echo_differs(&self, reply: &Reply) -> String {
        if reply.rcode == 1 {
            return String::new();
        }
        let mut text = String::new();
        let question = &self.message[12..];
        if !question.starts_with(&reply.question) || reply.question.is_empty() {
            let _ = writeln!(text, "  + question {:02x?}", reply.question);
        }
        let with_opt = self.message[11] > 0;
        if with_opt != reply.edns.is_some() {
            let _ = writeln!(text, "  + OPT: {:?}", reply.edns);
        }
        text
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

/// `ask NAME TYPE ...` or `send HEX`.
fn question(line: usize, text: &str) -> Wanted {
    let mut wanted = Wanted { line, asked: text.into(), ..Wanted::default() };
    let mut words = text.split_whitespace();
    if words.next() == Some("send") {
        let hex: String = words.collect();
        wanted.message = domain::utils::base16::decode_vec(&hex).unwrap();
        return wanted;
    }
    let name = Name::<Vec<u8>>::from_str(words.next().unwrap()).unwrap();
    let rtype = domain::base::iana::Rtype::from_str(words.next().unwrap()).unwrap();
    let mut question = Question {
        name: name.as_slice().to_vec(),
        rtype: rtype.to_int(),
        class: 1,
        flags: 0,
        edns: None,
        tcp: false,
    };
    for word in words {
        let flag = FLAGS.iter().find(|(name, _)| *name == word);
        let edns = question.edns.unwrap_or((1232, 0, false));
        match (word.split_once('='), flag) {
            (_, Some((_, bit))) => question.flags |= bit,
            (None, _) if word == "tcp" => question.tcp = true,
            (None, _) if word == "do" => question.edns = Some((edns.0, edns.1, true)),
            (Some(("edns", size)), _) => question.edns = Some((size.parse().unwrap(), 0, edns.2)),
            (Some(("version", number)), _) => {
                question.edns = Some((edns.0, number.parse().unwrap(), edns.2));
            }
            (Some(("class", class)), _) => {
                question.class = class.parse::<domain::base::iana::Class>().unwrap().to_int();
            }
            (Some(("opcode", number)), _) => {
                question.flags |= number.parse::<u16>().unwrap() << 11;
            }
            _ => panic!("line {line}: {word}"),
        }
    }
    wanted.tcp = question.tcp;
    wanted.message = question.message();
    assert_eq!(wanted.message[..2], ID.to_be_bytes());
    wanted
}
