//! Reads a message from front to back, names expanded.

use super::XfrError;
use crate::name::Name;
use crate::wire::{
    Class, HEADER_LEN, Opcode, Rcode, Rtype, Section, TTL_MAX, expand_data, expand_name, flag,
    read_u16, read_u32,
};
use crate::zone::Record;

/// A message, and how far it is read.
pub(crate) struct Reader<'m> {
    message: &'m [u8],
    at: usize,
}

/// A record of a message, expanded.
pub(crate) struct Found<'s> {
    pub(crate) owner: Name<'s>,
    pub(crate) class: Class,
    pub(crate) record: Record<'s>,
}

impl<'m> Reader<'m> {
    /// `None` if there is no header.
    pub(crate) fn new(message: &'m [u8]) -> Option<Self> {
        (message.len() >= HEADER_LEN).then_some(Self { message, at: HEADER_LEN })
    }

    pub(crate) fn id(&self) -> u16 {
        self.word(0)
    }

    pub(crate) fn flags(&self) -> u16 {
        self.word(2)
    }

    pub(crate) fn is_reply(&self) -> bool {
        self.flags() & flag::QR != 0
    }

    pub(crate) fn opcode(&self) -> Opcode {
        Opcode((self.flags() >> flag::OPCODE_SHIFT & 0x0f) as u8)
    }

    pub(crate) fn rcode(&self) -> Rcode {
        Rcode(self.flags() & 0x0f)
    }

    pub(crate) fn count(&self, section: Section) -> u16 {
        self.word(4 + 2 * section as usize)
    }

    fn word(&self, at: usize) -> u16 {
        read_u16(self.message, at).expect("a reader's message has a header")
    }

    /// The next question; its name is written to `scratch`.
    pub(crate) fn question<'s>(
        &mut self,
        scratch: &'s mut Vec<u8>,
    ) -> Option<(Name<'s>, Rtype, Class)> {
        scratch.clear();
        let end = expand_name(self.message, self.at, scratch)?;
        let rtype = Rtype(read_u16(self.message, end)?);
        let class = Class(read_u16(self.message, end + 2)?);
        self.at = end + 4;
        Some((Name::from_wire(scratch)?, rtype, class))
    }

    /// The next record; owner and data are written to `scratch`. `None` if it is malformed.
    pub(crate) fn record<'s>(&mut self, scratch: &'s mut Vec<u8>) -> Option<Found<'s>> {
        scratch.clear();
        let fixed = expand_name(self.message, self.at, scratch)?;
        let owner_len = scratch.len();
        let rtype = Rtype(read_u16(self.message, fixed)?);
        let class = Class(read_u16(self.message, fixed + 2)?);
        // More than 31 bits mean zero (RFC 2181 section 8).
        let ttl = Some(read_u32(self.message, fixed + 4)?).filter(|&ttl| ttl <= TTL_MAX);
        let ttl = ttl.unwrap_or(0);
        let len = usize::from(read_u16(self.message, fixed + 8)?);
        expand_data(rtype, self.message, fixed + 10, len, scratch)?;
        self.at = fixed + 10 + len;
        let (owner, data) = scratch.split_at(owner_len);
        Some(Found { owner: Name::from_wire(owner)?, class, record: Record { rtype, ttl, data } })
    }

    /// Reads the question of a reply and tells whether it is the reply to a request with this ID
    /// and question, and a good one. The question may be left out if `may_lack_question`, or if
    /// the reply is an error.
    pub(crate) fn check_reply(
        &mut self,
        id: u16,
        opcode: Opcode,
        apex: Name<'_>,
        rtype: Rtype,
        may_lack_question: bool,
    ) -> Result<(), XfrError> {
        if !self.is_reply() || self.id() != id || self.opcode() != opcode {
            return Err(XfrError::NotOurs);
        }
        let questions = self.count(Section::Question);
        if questions == 1 {
            let mut scratch = Vec::new();
            let asked = self.question(&mut scratch).ok_or(XfrError::Malformed("the question"))?;
            if asked != (apex, rtype, Class::IN) {
                return Err(XfrError::NotOurs);
            }
        }
        if self.rcode() != Rcode::NOERROR {
            return Err(XfrError::Rcode(self.rcode()));
        }
        if questions > 1 || (questions == 0 && !may_lack_question) {
            return Err(XfrError::Malformed("it must have one question"));
        }
        if self.flags() & flag::TC != 0 {
            return Err(XfrError::Truncated);
        }
        Ok(())
    }
}
