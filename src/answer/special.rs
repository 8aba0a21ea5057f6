//! What no zone's data answer: who the server is, transfers, NOTIFY, UPDATE, the options of OPT.

use super::{Answer, Deferred, Kind, Sought, Transport, Via};
use crate::edns::{Ede, Edns, Opt};
use crate::name::Name;
use crate::query::Question;
use crate::view::{Access, Served};
use crate::wire::{Class, HEADER_LEN, Rcode, Rtype, Section};
use crate::zone::Zone;

impl<'a> Answer<'a, '_> {
    /// Class CH: who the server is, as far as it says so (RFC 4892).
    pub(super) fn identify(&mut self, question: Question<'a>) {
        let text = match self.told(question) {
            Ok(text) => text,
            Err(why) => return self.fail(Rcode::REFUSED, Some(why)),
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
            self.truncate();
        }
    }

    /// The text that answers this question, or why there is none.
    fn told(&self, question: Question<'_>) -> Result<&'a str, Ede> {
        let identity = &*self.view.identity;
        let is = |wire: &[u8]| Name::from_wire(wire) == Some(question.name);
        let text = if !matches!(question.rtype, Rtype::TXT | Rtype::ANY) {
            return Err(Ede::NotSupported);
        } else if is(b"\x02id\x06server\0") || is(b"\x08hostname\x04bind\0") {
            &identity.id
        } else if is(b"\x07version\x06server\0") || is(b"\x07version\x04bind\0") {
            &identity.version
        } else {
            return Err(Ede::NotSupported);
        };
        text.as_deref().ok_or(Ede::Prohibited)
    }

    /// AXFR and IXFR. Over a connection they are not for us; in a datagram AXFR is not possible
    /// (RFC 5936 section 4.2) and IXFR, which tells the client's SOA, is answered with the newest
    /// one alone, which sends the client to a connection if it is behind (RFC 1995 sections 2, 3).
    pub(super) fn transfer(&mut self, question: Question<'a>) -> Option<Deferred> {
        if self.via.transport == Transport::Tcp {
            return Some(Deferred::Transfer);
        }
        if question.rtype == Rtype::AXFR || !self.query.has_soa {
            self.rcode = Rcode::FORMERR;
            return None;
        }
        match self.may_transfer(question.name) {
            Ok((served, zone)) => {
                (self.aa, self.kind) = (true, Kind::Records);
                self.entered = Some((served, zone));
                let owner = Sought::first(question.name).owner();
                let node = zone.apex_node();
                let soa = node.find(Rtype::SOA).expect("a zone has an SOA");
                if self.put_data(Section::Answer, owner, &soa, soa.ttl()).is_err() {
                    self.truncate();
                }
            }
            Err((rcode, error)) => self.fail(rcode, error),
        }
        None
    }

    /// The zone with this apex and its data, if this client may transfer it.
    fn may_transfer(&self, apex: Name<'_>) -> Result<(&'a Served, &'a Zone), (Rcode, Option<Ede>)> {
        let served = self.view.zone(apex).ok_or((Rcode::NOTAUTH, Some(Ede::NotAuthoritative)))?;
        if !served.access.transfer.allows(self.via.peer, self.via.key) {
            return Err((Rcode::REFUSED, Some(Ede::Prohibited)));
        }
        let zone = served
            .fresh(self.via.now_ms)
            .ok_or_else(|| super::without_data(served, self.via.now_ms))?;
        Ok((served, zone))
    }

    /// NOTIFY (RFC 1996) and UPDATE (RFC 2136 section 3.1), `what` says which: passed on if they can
    /// concern us. Who signed them is judged there.
    pub(super) fn told_of(&mut self, zone: Question<'a>, what: Deferred) -> Option<Deferred> {
        if zone.rtype != Rtype::SOA {
            self.rcode = Rcode::FORMERR;
            return None;
        }
        let Some(served) = self.view.zone(zone.name).filter(|_| zone.class == Class::IN) else {
            self.fail(Rcode::NOTAUTH, Some(Ede::NotAuthoritative));
            return None;
        };
        let Access { notify, update, .. } = &*served.access;
        let list = if what == Deferred::Update { update } else { notify };
        if !list.allows_address(self.via.peer) {
            self.fail(Rcode::REFUSED, Some(Ede::Prohibited));
            return None;
        }
        Some(if self.query.signed { Deferred::Signed } else { what })
    }

    /// No question: a client wants a cookie, or to know that its own is still good (RFC 7873
    /// section 5.4).
    pub(super) fn cookie_asked(&mut self) {
        let cookie = self.query.edns.and_then(|edns| edns.cookie);
        if cookie.is_none() || self.view.identity.cookie_secrets.is_empty() {
            self.rcode = Rcode::FORMERR;
        } else if cookie.is_some_and(|cookie| cookie.has_server_part()) && !self.is_known_client() {
            self.rcode = Rcode::BADCOOKIE;
        }
    }

    /// Must the client show a cookie of ours first, as it says that it knows cookies (RFC 7873
    /// section 5.2.3)? Over a connection, or signed, its address is not forged.
    pub(super) fn lacks_cookie(&self) -> bool {
        self.view.identity.require_cookie
            && self.via.transport == Transport::Udp
            && self.via.key.is_none()
            && self.query.question.is_some()
            && self.query.edns.as_ref().is_some_and(|edns| edns.cookie.is_some())
            && !self.is_known_client()
    }

    /// Did the client send a cookie that we made for its address?
    pub(super) fn is_known_client(&self) -> bool {
        let Some(cookie) = self.query.edns.as_ref().and_then(|edns| edns.cookie.as_ref()) else {
            return false;
        };
        let Via { peer, unix_s, .. } = *self.via;
        cookie.is_ours(&self.view.identity.cookie_secrets, peer, unix_s)
    }

    /// Our OPT record, with the options that the client asked for.
    pub(super) fn opt(&self, edns: &Edns<'_>) -> Opt<'a> {
        let mut opt = Opt::new(self.udp_size, self.rcode, edns.dnssec_ok);
        if self.rcode == Rcode::BADVERS {
            return opt;
        }
        let (identity, via) = (&*self.view.identity, self.via);
        opt.error = self.error;
        opt.nsid = identity.id.as_deref().filter(|_| edns.nsid).map(str::as_bytes);
        opt.keepalive = via.keepalive.filter(|_| edns.keepalive);
        if let (Some(cookie), Some(secret)) = (edns.cookie, identity.cookie_secrets.first()) {
            opt.cookie = Some(cookie.make(secret, via.peer, via.unix_s));
        }
        if let Some((served, zone)) = self.entered {
            if edns.expire && self.asks_for_soa(zone) {
                opt.expire = Some(served.expires_in_s(via.now_ms));
            }
            if edns.zone_version {
                let labels = u8::try_from(zone.apex_labels()).expect("127 at most");
                opt.zone_version = Some((labels, zone.serial()));
            }
        }
        opt
    }

    /// Is this a question that EXPIRE may come with (RFC 7314 section 2)?
    fn asks_for_soa(&self, zone: &Zone) -> bool {
        self.query.question.is_some_and(|question| {
            matches!(question.rtype, Rtype::SOA | Rtype::IXFR) && question.name == zone.apex()
        })
    }
}
