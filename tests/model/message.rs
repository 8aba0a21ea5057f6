//! Questions made octet by octet, replies read with the `domain` crate: nothing here is shared
//! with the code under test.

use domain::base::iana::Rtype;
use domain::base::name::ToName;
use domain::base::rdata::UnknownRecordData;
use domain::base::rdata::{ComposeRecordData, ParseAnyRecordData as _};
use domain::base::zonefile_fmt::{DisplayKind, ZonefileFmt as _};
use domain::base::{Message, Name, ParsedName, ParsedRecord};
use domain::dep::octseq::Parser;
use domain::rdata::AllRecordData;
use std::fmt;

/// A question to ask.
#[derive(Clone, Debug)]
pub struct Question {
    /// The name in wire form.
    pub name: Vec<u8>,
    /// The type.
    pub rtype: u16,
    /// The class.
    pub class: u16,
    /// The header's second word.
    pub flags: u16,
    /// EDNS: the size told, version, DO.
    pub edns: Option<(u16, u8, bool)>,
    /// Over TCP?
    pub tcp: bool,
}

/// The ID of every question.
pub const ID: u16 = 0x4c1d;

impl Question {
    /// The message.
    pub fn message(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for word in [ID, self.flags, 1, 0, 0, u16::from(self.edns.is_some())] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.extend_from_slice(&self.name);
        out.extend_from_slice(&self.rtype.to_be_bytes());
        out.extend_from_slice(&self.class.to_be_bytes());
        if let Some((size, version, dnssec)) = self.edns {
            out.extend_from_slice(&[0, 0, 41]);
            out.extend_from_slice(&size.to_be_bytes());
            out.extend_from_slice(&[0, version, if dnssec { 0x80 } else { 0 }, 0, 0, 0]);
        }
        out
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", name_text(&self.name), type_text(self.rtype))?;
        if let Some((size, version, dnssec)) = self.edns {
            write!(f, " edns={size}/{version}{}", if dnssec { " do" } else { "" })?;
        }
        f.write_str(if self.tcp { " tcp" } else { "" })
    }
}

/// A record of a reply.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// The owner in wire form, lower case.
    pub owner: Vec<u8>,
    /// The type.
    pub rtype: u16,
    /// The TTL, seconds.
    pub ttl: u32,
    /// The data in canonical form (RFC 4034 section 6.2).
    pub data: Vec<u8>,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (owner, rtype) = (name_text(&self.owner), type_text(self.rtype));
        write!(f, "{owner} {} IN {rtype} {}", self.ttl, data_text(self.rtype, &self.data))
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A reply.
#[derive(Clone)]
pub struct Reply {
    /// The header's second word.
    pub flags: u16,
    /// The extended rcode.
    pub rcode: u16,
    /// The question's octets as they came back; empty if there was none.
    pub question: Vec<u8>,
    /// Answer, authority, additional without OPT.
    pub sections: [Vec<Record>; 3],
    /// EDNS: the size told, version, DO.
    pub edns: Option<(u16, u8, bool)>,
    /// Its options: code and value.
    pub options: Vec<(u16, Vec<u8>)>,
    /// Octets of the message.
    pub len: usize,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flags, rcode, edns, len, sections, .. } = self;
        write!(f, "flags {flags:04x} rcode {rcode} edns {edns:?} len {len} {sections:?}")
    }
}

impl Reply {
    /// Reads a message, all of it.
    pub fn read(octets: &[u8]) -> Result<Self, String> {
        let problem = |error: &dyn fmt::Display| format!("not readable: {error}");
        let message = Message::from_slice(octets).map_err(|error| problem(&error))?;
        let word = |at| u16::from_be_bytes([octets[at], octets[at + 1]]);
        if word(0) != ID {
            return Err(format!("the ID is {:04x}", word(0)));
        }
        let mut questions = message.question();
        if let Some(question) = questions.next() {
            question.map_err(|error| problem(&error))?;
        }
        let question = octets[12..questions.pos()].to_vec();
        let mut reply = Self {
            flags: word(2),
            rcode: word(2) & 15,
            question,
            sections: Default::default(),
            edns: None,
            options: Vec::new(),
            len: octets.len(),
        };
        let mut section = Some(message.answer().map_err(|error| problem(&error))?);
        let mut at = 0;
        while let Some(mut records) = section {
            while let Some(record) = records.next() {
                let record = record.map_err(|error| problem(&error))?;
                if record.rtype().to_int() == OPT {
                    reply.take_opt(&record, at)?;
                } else {
                    let record = read_record(&record)?;
                    check_plain(&record, &octets[..records.pos()])?;
                    reply.sections[at].push(record);
                }
            }
            if at == 2 && records.pos() != octets.len() {
                return Err(format!("{} octets too many", octets.len() - records.pos()));
            }
            section = records.next_section().map_err(|error| problem(&error))?;
            at += 1;
        }
        Ok(reply)
    }

    fn take_opt(&mut self, opt: &ParsedRecord<'_, [u8]>, section: usize) -> Result<(), String> {
        if section != 2 || self.edns.is_some() || !opt.owner().is_root() {
            return Err("an OPT record too many, or in the wrong place".into());
        }
        let ttl = opt.ttl().as_secs();
        let [extended, version, flags, _] = ttl.to_be_bytes();
        self.edns = Some((opt.class().to_int(), version, flags & 0x80 != 0));
        self.rcode |= u16::from(extended) << 4;
        let record = opt.to_record::<UnknownRecordData<&[u8]>>().map_err(|e| e.to_string())?;
        let mut rest: &[u8] = record.as_ref().map_or(&[], |record| *record.data().data());
        while let Some((&[a, b, c, d], behind)) = rest.split_first_chunk() {
            let len = u16::from_be_bytes([c, d]).into();
            let (value, behind) = behind.split_at_checked(len).ok_or("an option that is cut")?;
            self.options.push((u16::from_be_bytes([a, b]), value.to_vec()));
            rest = behind;
        }
        if rest.is_empty() { Ok(()) } else { Err("octets behind the last option".into()) }
    }

    /// Is this bit set?
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

const OPT: u16 = 41;

/// The types whose names must not be compressed (RFC 3597 section 4), of those used in tests.
const PLAIN: [u16; 6] = [33, 39, 35, 46, 47, 64];

fn read_record(record: &ParsedRecord<'_, [u8]>) -> Result<Record, String> {
    type Data<'d> = AllRecordData<&'d [u8], ParsedName<&'d [u8]>>;
    let explain = |error: &dyn fmt::Display| format!("a bad {} record: {error}", record.rtype());
    let parsed = record.to_any_record::<Data<'_>>().map_err(|error| explain(&error))?;
    let made = canonical(&parsed);
    match record.class().to_int() {
        1 | 3 => Ok(made),
        class => Err(format!("a record of class {class}")),
    }
}

/// Are the data at the end of `octets` as long as they are without compression?
fn check_plain(record: &Record, octets: &[u8]) -> Result<(), String> {
    let len = octets.len().checked_sub(record.data.len() + 2);
    let told = len.map(|at| usize::from(u16::from_be_bytes([octets[at], octets[at + 1]])));
    if PLAIN.contains(&record.rtype) && told != Some(record.data.len()) {
        return Err(format!("a name in the data is compressed: {record}"));
    }
    Ok(())
}

/// A record with its names lower case.
pub fn canonical<N: ToName, D: ComposeRecordData>(record: &domain::base::Record<N, D>) -> Record {
    let mut data = Vec::new();
    record.data().compose_canonical_rdata(&mut data).expect("a Vec takes all");
    Record {
        owner: record.owner().to_canonical_name::<Vec<u8>>().as_slice().to_vec(),
        rtype: record.rtype().to_int(),
        ttl: record.ttl().as_secs(),
        data,
    }
}

/// Presentation form of a name in wire form.
pub fn name_text(wire: &[u8]) -> String {
    match Name::from_octets(wire) {
        Ok(name) if wire.len() > 1 => format!("{name}."),
        Ok(_) => ".".into(),
        Err(_) => format!("{wire:?}"),
    }
}

/// The mnemonic of a type.
pub fn type_text(rtype: u16) -> String {
    Rtype::from_int(rtype).to_string()
}

fn data_text(rtype: u16, data: &[u8]) -> String {
    type Data<'d> = AllRecordData<&'d [u8], ParsedName<&'d [u8]>>;
    match Data::parse_any_rdata(Rtype::from_int(rtype), &mut Parser::from_ref(data)) {
        Ok(data) => data.display_zonefile(DisplayKind::Simple).to_string(),
        Err(_) => format!("{data:02x?}"),
    }
}
