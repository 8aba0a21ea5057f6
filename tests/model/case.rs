//! The cases in `tests/cases/`, read: zones, and the questions to them. Their form is told in
//! `cases/README.md`.

use super::message::{ID, Question};
use backstop::acl::{Acl, Rule};
use backstop::name::NameBuf;
use backstop::view::{Access, Expiry, Identity, RateLimit, Served, View};
use backstop::zone::file;
use domain::base::Name;
use domain::utils::base16::decode_vec;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

pub const FLAGS: [(&str, u16); 5] =
    [("aa", 0x0400), ("tc", 0x0200), ("rd", 0x0100), ("ad", 0x0020), ("cd", 0x0010)];

pub const SECTIONS: [&str; 3] = ["answer", "authority", "additional"];

/// The files, or the one that `BACKSTOP_CASE` names.
pub fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let only = std::env::var("BACKSTOP_CASE").ok();
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "case"));
    files.retain(|path| {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        only.as_deref().is_none_or(|only| only == stem)
    });
    files.sort();
    files
}

/// What should come of a question.
#[derive(Default)]
pub struct Wanted {
    pub line: usize,
    pub asked: String,
    pub message: Vec<u8>,
    pub tcp: bool,
    /// How long the connection may be idle, in units of 100 ms.
    pub idle: Option<u16>,
    pub peer: Option<IpAddr>,
    /// The key that it is signed with.
    pub key: Option<NameBuf>,
    /// Seconds since the server's clocks began.
    pub at_s: Option<u32>,
    /// The rest: as the lines say it.
    pub outcome: Option<String>,
    pub options: Vec<String>,
    pub sections: [Option<Vec<String>>; 3],
    pub has: Vec<String>,
}

/// Hands over each question of a file with what it is asked of.
pub fn read(path: &Path, mut each: impl FnMut(&View, Wanted)) {
    let text = std::fs::read_to_string(path).unwrap();
    Case { path, view: View::default(), each: &mut each }.read(&text);
}

/// One file.
struct Case<'p> {
    path: &'p Path,
    view: View,
    each: &'p mut dyn FnMut(&View, Wanted),
}

impl Case<'_> {
    fn read(&mut self, text: &str) {
        let mut wanted: Option<Wanted> = None;
        let mut section = None;
        let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
        while let Some((number, line)) = lines.next() {
            let mut words = line.split_whitespace();
            let first = words.next().unwrap_or("#");
            if first.starts_with('#') {
                continue;
            }
            if ["zone", "server", "ask", "send"].contains(&first) {
                self.settle(wanted.take());
            }
            match (first, &mut wanted) {
                ("zone", _) => {
                    let (apex, words) = (words.next().unwrap(), words.collect::<Vec<_>>());
                    let zone: Vec<&str> = match words.iter().any(|word| WITHOUT_TEXT.contains(word))
                    {
                        true => Vec::new(),
                        false => lines.by_ref().map(|l| l.1).take_while(|&l| l != "end").collect(),
                    };
                    self.zone(apex, &words, &zone.join("\n"));
                }
                ("server", _) => self.server(words),
                ("ask" | "send", _) => {
                    wanted = Some(question(number, line));
                    section = None;
                }
                ("reply" | "silence" | "defer", Some(wanted)) => {
                    wanted.outcome = Some(line.into());
                }
                ("has", Some(wanted)) => wanted.has.push(line[4..].into()),
                ("option", Some(wanted)) => wanted.options.push(line[7..].into()),
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
        self.settle(wanted);
    }

    fn zone(&mut self, apex: &str, words: &[&str], text: &str) {
        let apex: NameBuf = apex.parse().unwrap();
        let limits = file::Limits::default();
        let is = |word| words.contains(&word);
        let text = if is("expired") { "@ 60 SOA ns root 1 2 3 4 5\n" } else { text };
        let zone = (!is("empty")).then(|| {
            let builder = file::read_text(text.as_bytes(), self.path, apex.as_name(), limits);
            Arc::new(builder.unwrap_or_else(|error| panic!("{error}")).build().unwrap())
        });
        let mut access = Access { serve_stale: is("stale"), ..Access::default() };
        let mut at_ms = if is("expired") || is("stale") { 0 } else { Expiry::NEVER };
        for word in words {
            match word.split_once('=') {
                Some(("query", who)) => access.query = Some(acl(who)),
                Some(("transfer", who)) => access.transfer = acl(who),
                Some(("notify", who)) => access.notify = acl(who),
                Some(("update", who)) => access.update = acl(who),
                Some(("expires", s)) => at_ms = s.parse::<u64>().unwrap() * 1000,
                _ => assert!(["expired", "empty", "stale"].contains(word), "{word}"),
            }
        }
        self.view.put(Arc::new(Served {
            apex,
            access: Arc::new(access),
            zone,
            expiry: Arc::new(Expiry::at(at_ms)),
            history: Arc::new([]),
        }));
    }

    fn server<'w>(&mut self, words: impl Iterator<Item = &'w str>) {
        let mut identity = Identity::default();
        for word in words {
            match word.split_once('=') {
                Some(("id", id)) => identity.id = Some(id.into()),
                Some(("version", version)) => identity.version = Some(version.into()),
                Some(("cookies", secrets)) => {
                    let secret = |hex: &str| decode_vec(hex).unwrap().try_into().unwrap();
                    identity.cookie_secrets = secrets.split(',').map(secret).collect();
                }
                Some(("udp-size-v4", octets)) => identity.udp_size_v4 = octets.parse().unwrap(),
                Some(("udp-size-v6", octets)) => identity.udp_size_v6 = octets.parse().unwrap(),
                Some(("slip", slip)) => identity.rate_limit = Some(limit(slip.parse().unwrap())),
                None if word == "require-cookie" => identity.require_cookie = true,
                _ => panic!("{word}"),
            }
        }
        self.view.identity = Arc::new(identity);
    }

    fn settle(&mut self, wanted: Option<Wanted>) {
        if let Some(wanted) = wanted {
            (self.each)(&self.view, wanted);
        }
    }
}

/// Zones that need no text.
const WITHOUT_TEXT: [&str; 2] = ["empty", "expired"];

/// `PREFIX` or `PREFIX,KEY`.
fn acl(who: &str) -> Acl {
    let (from, key) = who.split_once(',').map_or((who, None), |(from, key)| (from, Some(key)));
    let key = key.map(|key| key.parse().unwrap());
    Acl::new(vec![Rule { from: from.parse().unwrap(), key }])
}

/// One reply a second; of those over it, one of so many slips.
fn limit(slip: u8) -> Arc<RateLimit> {
    Arc::new(RateLimit {
        per_second: 1,
        window: Duration::from_secs(1),
        slip,
        ipv4_prefix: 24,
        ipv6_prefix: 56,
        entries: 1024,
        exempt: Acl::default(),
        dry_run: false,
    })
}

/// `ask NAME TYPE ...` or `send HEX`.
fn question(line: usize, text: &str) -> Wanted {
    let mut wanted = Wanted { line, asked: text.into(), ..Wanted::default() };
    let mut words = text.split_whitespace();
    if words.next() == Some("send") {
        let hex: String = words.collect();
        wanted.message = decode_vec(&hex).unwrap();
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
    let mut options = Vec::new();
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
            (Some(("option", option)), _) => {
                let (code, hex) = option.split_once(':').unwrap_or((option, ""));
                let value: Vec<u8> = decode_vec(hex).unwrap();
                options.extend_from_slice(&code.parse::<u16>().unwrap().to_be_bytes());
                options.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
                options.extend_from_slice(&value);
                question.edns = Some(edns);
            }
            (Some(("idle", tenths)), _) => wanted.idle = Some(tenths.parse().unwrap()),
            (Some(("from", peer)), _) => wanted.peer = Some(peer.parse().unwrap()),
            (Some(("key", name)), _) => wanted.key = Some(name.parse().unwrap()),
            (Some(("at", s)), _) => wanted.at_s = Some(s.parse().unwrap()),
            _ => panic!("line {line}: {word}"),
        }
    }
    wanted.tcp = question.tcp;
    wanted.message = question.message();
    if !options.is_empty() {
        // OPT is the last record, and its length that of its options.
        wanted.message.truncate(wanted.message.len() - 2);
        let len = u16::try_from(options.len()).unwrap();
        wanted.message.extend([&len.to_be_bytes()[..], &options].concat());
    }
    assert_eq!(wanted.message[..2], ID.to_be_bytes());
    wanted
}
