//! One request, read once into a form that cannot be wrong: header, question, EDNS.
//!
//! **How it fits.** [`Query::read`] is the first thing that `answer` does with what `worker` or
//! `stream` received; what is not a [`Query`] is answered with its [`Unfit`] or not at all.
//!
//! **Invariants.**
//! - *whole*: every record that the header counts is there and nothing follows the last; names in
//!   the request are well-formed and their compression pointers lead backwards.
//! - *at most one question*: RFC 9619. Only a request for a cookie has none (RFC 7873 section 5.4);
//!   what else may lack it is for `answer` to say.
//! - *bounded*: reading costs at most some steps an octet.
//!
//! **Sections.** RFC 1035 section 4.1, RFC 6891 section 6.1, RFC 8945 section 5.1.
//!
//! Records are stepped over, not looked into, but for OPT. Signatures are not verified here.

use crate::edns::Edns;
use crate::name::Name;
use crate::wire::{Class, HEADER_LEN, Opcode, Rtype, Section, flag, read_u16};

/// The part of a header that a reply takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the client knows its request by.
    pub id: u16,
    /// The second word, as it came.
    pub flags: u16,
}

impl Header {
    /// What the request asks for.
    pub fn opcode(self) -> Opcode {
        Opcode((self.flags >> flag::OPCODE_SHIFT & 0xf) as u8)
    }

    /// The flags of a reply: QR, the opcode, and of a question RD. CD is cleared (RFC 4035 section
    /// 3.1.6), but for those who want signatures: ISC's compliance tests wait for it there.
    pub fn reply_flags(self, dnssec_ok: bool) -> u16 {
        let opcode = 0xf << flag::OPCODE_SHIFT;
        let kept = match self.opcode() {
            Opcode::QUERY if dnssec_ok => opcode | flag::RD | flag::CD,
            Opcode::QUERY => opcode | flag::RD,
            _ => opcode,
        };
        flag::QR | self.flags & kept
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'q> {
    /// The name, its case as it came.
    pub name: Name<'q>,
    /// The type.
    pub rtype: Rtype,
    /// The class.
    pub class: Class,
}

/// A well-formed request.
#[derive(Clone, Copy, Debug)]
pub struct Query<'q> {
    /// Its header.
    pub header: Header,
    /// What is asked.
    pub question: Option<Question<'q>>,
    /// Is there an SOA record in its authority section, as an IXFR request needs?
    pub has_soa: bool,
    /// Its OPT record.
    pub edns: Option<Edns<'q>>,
    /// Its last record is a TSIG.
    pub signed: bool,
}

/// Why a message is no [`Query`].
#[derive(Clone, Copy, Debug)]
pub enum Unfit<'q> {
    /// Shorter than a header: not answered.
    Runt,
    /// A response: never answered.
    Response,
    /// Malformed: FORMERR, with as much of the question as could be read.
    Malformed {
        /// Its header.
        header: Header,
        /// Its question, if that could be read.
        question: Option<Question<'q>>,
    },
}

impl<'q> Query<'q> {
    /// Reads a request.
    #[inline(always)]
    pub fn read(message: &'q [u8]) -> Result<Self, Unfit<'q>> {
        let Some(head) = message.first_chunk::<HEADER_LEN>() else { return Err(Unfit::Runt) };
        let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let header = Header { id: word(0), flags: word(2) };
        if header.flags & flag::QR != 0 {
            return Err(Unfit::Response);
        }
        let mut reader =
            Reader { message, at: HEADER_LEN, edns: None, has_soa: false, signed: false };
        let question = match word(4) {
            0 => None,
            1 => reader.question(),
            _ => return Err(Unfit::Malformed { header, question: None }),
        };
        let malformed = Unfit::Malformed { header, question };
        if question.is_none() && word(4) == 1 {
            return Err(malformed);
        }
        reader.records([word(6), word(8), word(10)]).ok_or(malformed)?;
        let Reader { edns, has_soa, signed, .. } = reader;
        Ok(Self { header, question, has_soa, edns, signed })
    }
}

struct Reader<'q> {
    message: &'q [u8],
    at: usize,
    edns: Option<Edns<'q>>,
    has_soa: bool,
    signed: bool,
}

impl<'q> Reader<'q> {
    #[inline(always)]
    fn question(&mut self) -> Option<Question<'q>> {
        // Before the first name there is nothing that a pointer could lead to.
        let (name, rest) = Name::split(&self.message[self.at..])?;
        let fixed = rest.first_chunk::<4>()?;
        self.at += name.len() + fixed.len();
        Some(Question {
            name,
            rtype: Rtype(u16::from_be_bytes([fixed[0], fixed[1]])),
            class: Class(u16::from_be_bytes([fixed[2], fixed[3]])),
        })
    }

    /// Steps over the records of the three sections, to the end of the message.
    #[inline]
    fn records(&mut self, counts: [u16; 3]) -> Option<()> {
        match (self.message.get(self.at..)?, counts) {
            ([], [0, 0, 0]) => Some(()),
            // What nearly all requests end with: an OPT record without options.
            (&[0, 0, 41, a, b, c, d, e, f, 0, 0], [0, 0, 1]) => {
                let word = |high, low| u16::from_be_bytes([high, low]);
                self.edns = Edns::read(word(a, b), [word(c, d), word(e, f)], &[]);
                Some(())
            }
            _ => self.any_records(counts),
        }
    }

    fn any_records(&mut self, counts: [u16; 3]) -> Option<()> {
        let sections = [Section::Answer, Section::Authority, Section::Additional];
        for (section, count) in sections.into_iter().zip(counts) {
            for _ in 0..count {
                self.record(section)?;
            }
        }
        (self.at == self.message.len()).then_some(())
    }

    fn record(&mut self, section: Section) -> Option<()> {
        if self.signed {
            return None; // A TSIG is the last record.
        }
        let owner = self.at;
        let at_root = *self.message.get(owner)? == 0;
        let fixed_at = if at_root { owner + 1 } else { skip_name(self.message, owner)? };
        let fixed = self.message.get(fixed_at..)?.first_chunk::<10>()?;
        let word = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
        let data_at = fixed_at + fixed.len();
        let data = self.message.get(data_at..)?.get(..usize::from(word(8)))?;
        self.at = data_at + data.len();
        match Rtype(word(0)) {
            Rtype::OPT => {
                if section != Section::Additional || !at_root || self.edns.is_some() {
                    return None;
                }
                self.edns = Some(Edns::read(word(2), [word(4), word(6)], data)?);
            }
            Rtype::TSIG if section == Section::Additional => self.signed = true,
            Rtype::TSIG => return None,
            Rtype::SOA => self.has_soa |= section == Section::Authority,
            _ => {}
        }
        Some(())
    }
}

/// How many compression pointers a name may have: more than any sender needs.
const POINTERS_MAX: usize = 16;

/// Where what follows the name at `at` begins; `None` if the name is malformed.
fn skip_name(message: &[u8], at: usize) -> Option<usize> {
    let (mut from, mut lowest, mut next) = (at, at, None);
    let (mut len, mut pointers) = (0, 0);
    loop {
        match *message.get(from)? {
            0 => return Some(next.unwrap_or(from + 1)),
            label @ 1..=63 => {
                len += 1 + usize::from(label);
                if len >= crate::name::NAME_MAX {
                    return None;
                }
                from += 1 + usize::from(label);
            }
            0xc0.. => {
                let to = usize::from(read_u16(message, from)? & 0x3fff);
                pointers += 1;
                if to >= lowest || pointers > POINTERS_MAX {
                    return None;
                }
                next.get_or_insert(from + 2);
                (from, lowest) = (to, to);
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &[u8] = b"\x12\x34\x01\x10\0\x01\0\0\0\0\0\0\x03wWw\x07example\0\0\x01\0\x01";
    const OPT: &[u8] = b"\0\0\x29\x04\xd0\0\0\x80\0\0\0";
    const TSIG: &[u8] = b"\x01k\0\0\xfa\0\xff\0\0\0\0\0\0";

    /// PLAIN with more records in the additional section.
    fn with(records: &[&[u8]]) -> Vec<u8> {
        let mut message = PLAIN.to_vec();
        message[11] = u8::try_from(records.len()).unwrap();
        message.extend(records.concat());
        message
    }

    fn is_malformed(message: &[u8]) -> bool {
        matches!(Query::read(message), Err(Unfit::Malformed { .. }))
    }

    #[test]
    fn a_request_is_read_with_its_case_and_flags() {
        let query = Query::read(PLAIN).unwrap();
        let question = query.question.unwrap();
        assert_eq!(question.name.as_wire(), b"\x03wWw\x07example\0");
        assert_eq!((question.rtype, question.class), (Rtype::A, Class::IN));
        assert_eq!(query.header.reply_flags(false), flag::QR | flag::RD);
        assert_eq!(query.header.reply_flags(true), flag::QR | flag::RD | flag::CD);
        assert!(query.edns.is_none() && !query.signed);
    }

    #[test]
    fn opt_and_a_last_tsig_are_found() {
        let message = with(&[OPT, TSIG]);
        let query = Query::read(&message).unwrap();
        assert_eq!(query.edns.unwrap().udp_size, 1232);
        assert!(query.edns.unwrap().dnssec_ok && query.signed);
        assert!(is_malformed(&with(&[TSIG, OPT])), "TSIG is not the last");
        assert!(is_malformed(&with(&[OPT, OPT])), "two of them");
        assert!(is_malformed(&with(&[b"\x01a\0\0\x29\x04\xd0\0\0\0\0\0\0"])), "not the root's");
    }

    #[test]
    fn what_is_cut_short_or_too_long_is_malformed() {
        let whole = with(&[OPT]);
        for len in HEADER_LEN..whole.len() {
            assert!(is_malformed(&whole[..len]), "{len}");
        }
        assert!(is_malformed(&[&whole[..], b"x"].concat()));
        assert!(matches!(Query::read(&whole[..11]), Err(Unfit::Runt)));
    }

    #[test]
    fn responses_are_told_apart_before_anything_else() {
        let mut message = PLAIN[..14].to_vec();
        message[2] |= 0x80;
        assert!(matches!(Query::read(&message), Err(Unfit::Response)));
    }

    #[test]
    fn pointers_in_owners_lead_backwards_and_are_few() {
        let record = |owner: &[u8]| [owner, b"\0\x01\0\x01\0\0\0\0\0\0"].concat();
        assert!(!is_malformed(&with(&[&record(b"\xc0\x0c")])));
        assert!(is_malformed(&with(&[&record(b"\xc0\x1d")])), "to itself");
        assert!(is_malformed(&with(&[&record(b"\xc0\x50")])), "forward");
        assert!(is_malformed(&with(&[&record(b"\x80")])));
        let mut question = PLAIN.to_vec();
        question[12] = 0xc0;
        assert!(is_malformed(&question));
    }

    #[test]
    fn a_request_asks_one_question() {
        let mut two = PLAIN.to_vec();
        two[5] = 2;
        two.extend_from_slice(&PLAIN[12..]);
        assert!(is_malformed(&two));
        assert!(Query::read(&[0; 12]).unwrap().question.is_none());
    }
}
