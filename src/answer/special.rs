//! What no zone's data answer: who the server is, transfers, NOTIFY.

use super::{Answer, Deferred, Kind, Sought, Transport};
use crate::name::Name;
use crate::query::Question;
use crate::wire::{Class, HEADER_LEN, Rcode, Rtype, Section};
use crate::zone::Zone;

impl<'a> Answer<'a, '_> {
    /// Class CH: who the server is, as far as it says so (RFC 4892).
    pub(super) fn identify(&mut self, question: Question<'a>) {
        let Some(text) = self.told(question) else {
            self.rcode = Rcode::REFUSED;
            return;
        };
        self.aa = true;
        let text = &text.as_bytes()[..text.len().min(255)];
        #[expect(clippy::cast_possible_truncation, reason = "cut to 255 octets above")]
        let len = text.len() as u8;
        let write = |answer: &mut Self| {
            let writer = &mut answer.writer;
            writer.record_at(Section::Answer, HEADER_LEN, Rtype::TXT, Class::CH, 0)?;
            writer.put_u16(u16::from(len) + 1)?;
            writer.put(&[len])?;
            writer.put(text)
        };
        if write(self).is_err() {
            self.tc = true;
            self.writer.rewind(self.bare);
        }
    }

    /// The text that answers this question, if we have one and tell it.
    fn told(&self, question: Question<'_>) -> Option<&'a str> {
        let identity = &*self.view.identity;
        let is = |wire: &[u8]| Name::from_wire(wire) == Some(question.name);
        if !matches!(question.rtype, Rtype::TXT | Rtype::ANY) {
            None
        } else if is(b"\x02id\x06server\0") || is(b"\x08hostname\x04bind\0") {
            identity.id.as_deref()
        } else if is(b"\x07version\x06server\0") || is(b"\x07version\x04bind\0") {
            identity.version.as_deref()
        } else {
            None
        }
    }

    /// AXFR and IXFR. Over a connection they are not for us; in a datagram AXFR is not possible
    /// (RFC 5936 section 4.2) and IXFR is answered with the newest SOA alone, which sends the
    /// client to a connection if it is behind (RFC 1995 section 2).
    pub(super) fn transfer(&mut self, question: Question<'a>) -> Option<Deferred> {
        if self.via.transport == Transport::Tcp {
            return Some(Deferred::Transfer);
        }
        if question.rtype == Rtype::AXFR {
            self.rcode = Rcode::FORMERR;
            return None;
        }
        let zone = match self.zone_to_transfer(question.name) {
            Ok(zone) => zone,
            Err(rcode) => {
                self.rcode = rcode;
                return None;
            }
        };
        (self.aa, self.kind) = (true, Kind::Records);
        let owner = Sought::first(question.name).owner();
        let soa = zone.apex_node().find(Rtype::SOA).expect("a zone has an SOA");
        if self.try_put(Section::Answer, owner, &soa).is_err() {
            self.tc = true;
        }
        None
    }

    /// The data of the zone with this apex, if this client may transfer it.
    fn zone_to_transfer(&self, apex: Name<'_>) -> Result<&'a Zone, Rcode> {
        let served = self.view.zone(apex).ok_or(Rcode::NOTAUTH)?;
        if !served.access.transfer.allows(self.via.peer, self.via.key) {
            return Err(Rcode::REFUSED);
        }
        served.fresh(self.via.now_ms).map(|zone| &**zone).ok_or(Rcode::SERVFAIL)
    }

    /// NOTIFY (RFC 1996): passed on if it can concern us. Who signed it is judged there.
    pub(super) fn notified(&mut self, question: Question<'a>) -> Option<Deferred> {
        if question.rtype != Rtype::SOA {
            self.rcode = Rcode::FORMERR;
            return None;
        }
        let served = self.view.zone(question.name).filter(|_| question.class == Class::IN);
        match served {
            None => self.rcode = Rcode::NOTAUTH,
            Some(served) if !served.access.notify.allows_address(self.via.peer) => {
                self.rcode = Rcode::REFUSED;
            }
            Some(_) if self.query.signed => return Some(Deferred::Signed),
            Some(_) => return Some(Deferred::Notify),
        }
        None
    }
}
