//! A question as an audit puts it, and the reply, taken apart.

use crate::edns::{code, options};
use crate::name::{Name, NameBuf};
use crate::tsig::TsigError;
use crate::wire::{Class, Full, Opcode, Rcode, Rtype, Section, Writer, flag};
use crate::xfr::{Reader, XfrError};
use crate::zone::BuildError;
use std::io;
use std::time::Duration;

/// The UDP size that we offer: what reaches every path unfragmented (RFC 9715).
pub(super) const UDP_SIZE: u16 = 1232;

/// Octets of the longest question: a name of 255, what is around it, and an OPT record.
const QUESTION_MAX: usize = 512;

/// How much of EDNS a question has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// No OPT record.
    Plain,
    /// One without options.
    Edns,
    /// One that asks who answers, and when its copy expires.
    Options,
}

/// A question to one server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'n> {
    pub(super) name: Name<'n>,
    pub(super) rtype: Rtype,
    pub(super) form: Form,
    /// To a resolver.
    pub(super) recursive: bool,
}

impl<'n> Question<'n> {
    /// To a server of the zone.
    pub(super) fn new(name: Name<'n>, rtype: Rtype) -> Self {
        Self { name, rtype, form: Form::Edns, recursive: false }
    }

    /// The message.
    pub(super) fn write(&self, id: u16) -> Vec<u8> {
        let mut message = vec![0; QUESTION_MAX];
        let mut writer = Writer::new(&mut message, QUESTION_MAX);
        let written = writer.question(self.name, self.rtype, Class::IN);
        written.and_then(|()| self.write_opt(&mut writer)).expect("short parts");
        let len = writer.finish(id, if self.recursive { flag::RD } else { 0 });
        message.truncate(len);
        message
    }

    fn write_opt(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        let options: &[u16] = match self.form {
            Form::Plain => return Ok(()),
            Form::Edns => &[],
            Form::Options => &[code::NSID, code::EXPIRE],
        };
        let empty = options.iter().flat_map(|code| [code.to_be_bytes(), [0, 0]]).flatten();
        writer.record(Section::Additional, Name::ROOT, Rtype::OPT, Class(UDP_SIZE), 0)?;
        writer.plain_data(&empty.collect::<Vec<u8>>())
    }
}

/// A record of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rr {
    pub(super) owner: NameBuf,
    pub(super) rtype: Rtype,
    pub(super) ttl: u32,
    pub(super) data: Box<[u8]>,
}

/// A reply to one of our questions.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    flags: u16,
    pub(super) rcode: Rcode,
    /// It has an OPT record.
    pub(super) edns: bool,
    /// Who answers, as it says.
    pub(super) nsid: Option<String>,
    /// Seconds until its copy of the zone expires.
    pub(super) expire_s: Option<u32>,
    pub(super) answer: Vec<Rr>,
    pub(super) authority: Vec<Rr>,
    pub(super) additional: Vec<Rr>,
}

impl Reply {
    /// One without records.
    pub(super) fn new(flags: u16, rcode: Rcode) -> Self {
        Self {
            flags,
            rcode,
            edns: false,
            nsid: None,
            expire_s: None,
            answer: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
        }
    }

    /// Reads a message. `Ok(None)`: it is not the reply to this question.
    pub(super) fn read(
        message: &[u8],
        id: u16,
        question: &Question<'_>,
    ) -> Result<Option<Self>, Fault> {
        let Some(mut reader) = Reader::new(message) else { return Ok(None) };
        if !reader.is_reply() || reader.id() != id || reader.opcode() != Opcode::QUERY {
            return Ok(None);
        }
        let mut scratch = Vec::new();
        // Servers that do not understand a question may leave it out.
        for _ in 0..reader.count(Section::Question) {
            let asked = reader.question(&mut scratch).ok_or(Fault::Malformed)?;
            if asked != (question.name, question.rtype, Class::IN) {
                return Ok(None);
            }
        }
        let mut reply = Self::new(reader.flags(), reader.rcode());
        for section in [Section::Answer, Section::Authority, Section::Additional] {
            for _ in 0..reader.count(section) {
                match reader.record(&mut scratch) {
                    Some(found) => reply.take(section, &found),
                    None if reply.is_truncated() => return Ok(Some(reply)),
                    None => return Err(Fault::Malformed),
                }
            }
        }
        Ok(Some(reply))
    }

    fn take(&mut self, section: Section, found: &crate::xfr::Found<'_>) {
        let record = found.record;
        match (section, record.rtype) {
            (Section::Additional, Rtype::OPT) => {
                self.edns = true;
                self.rcode.0 |= u16::from(record.ttl.to_be_bytes()[0]) << 4;
                self.options(record.data);
            }
            (Section::Answer, _) if found.class == Class::IN => self.answer.push(rr(found)),
            (Section::Authority, _) if found.class == Class::IN => self.authority.push(rr(found)),
            (_, _) if found.class == Class::IN => self.additional.push(rr(found)),
            _ => {}
        }
    }

    fn options(&mut self, data: &[u8]) {
        for (code, value) in options(data) {
            match code {
                code::NSID => self.nsid = Some(String::from_utf8_lossy(value).into_owned()),
                code::EXPIRE => self.expire_s = value.try_into().ok().map(u32::from_be_bytes),
                _ => {}
            }
        }
    }

    pub(super) fn is_truncated(&self) -> bool {
        self.flags & flag::TC != 0
    }

    pub(super) fn is_authoritative(&self) -> bool {
        self.flags & flag::AA != 0
    }

    /// Does it offer to resolve for us?
    pub(super) fn offers_recursion(&self) -> bool {
        self.flags & flag::RA != 0
    }
}

fn rr(found: &crate::xfr::Found<'_>) -> Rr {
    let record = found.record;
    Rr {
        owner: found.owner.to_owned(),
        rtype: record.rtype,
        ttl: record.ttl,
        data: record.data.into(),
    }
}

/// Why there is no answer from a server, or none that is of use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nothing came.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// This host cannot send there: it has no IPv6, for example.
    #[error("this host has no way there")]
    NoWay,
    /// The connection or the datagram was lost.
    #[error("{0}")]
    Lost(String),
    /// An error is all it says.
    #[error("it answers {0}")]
    Rcode(Rcode),
    /// AA is not set.
    #[error("it answers without authority (lame): it does not serve the zone")]
    Lame,
    /// There is authority, but no SOA.
    #[error("its answer has no SOA record")]
    NoSoa,
    /// It is no message.
    #[error("its answer is malformed")]
    Malformed,
    /// Its signature, or what it says of ours.
    #[error("{0}")]
    Tsig(#[from] TsigError),
    /// It gives no transfer, or none that can be used.
    #[error("{0}")]
    Transfer(#[from] XfrError),
    /// What it transfers is no zone.
    #[error("{0}")]
    Build(#[from] BuildError),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::NetworkUnreachable | Kind::AddrNotAvailable => Self::NoWay,
            _ => Self::Lost(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> NameBuf {
        text.parse().unwrap()
    }

    #[test]
    fn a_question_is_read_back_as_no_reply() {
        let apex = name("example.");
        let question = Question::new(apex.as_name(), Rtype::SOA);
        let message = question.write(7);
        assert!(Reply::read(&message, 7, &question).unwrap().is_none());
    }

    #[test]
    fn a_reply_is_ours_by_id_and_question_only() {
        let apex = name("example.");
        let question =
            Question { form: Form::Options, ..Question::new(apex.as_name(), Rtype::SOA) };
        let mut message = question.write(7);
        message[2] |= 0x84;
        message[3] |= 0x85;
        let reply = Reply::read(&message, 7, &question).unwrap().unwrap();
        assert!(reply.is_authoritative() && reply.offers_recursion() && reply.edns);
        assert_eq!((reply.rcode, reply.nsid), (Rcode::REFUSED, Some(String::new())));
        assert!(Reply::read(&message, 8, &question).unwrap().is_none());
        let other = Question::new(apex.as_name(), Rtype::NS);
        assert!(Reply::read(&message, 7, &other).unwrap().is_none());
        let cut = &message[..message.len() - 1];
        assert_eq!(Reply::read(cut, 7, &question).unwrap_err(), Fault::Malformed);
        message[2] |= 0x02;
        let cut = &message[..message.len() - 1];
        assert!(Reply::read(cut, 7, &question).unwrap().unwrap().is_truncated());
    }
}
