//! Answering: the pure function from a request and a view to a reply.
//!
//! **How it fits.** `stream` calls [`respond`] with what it received; `worker` has the two halves of
//! that apart ([`Asked`]), for several requests at a time, and before them [`Recent`], which gives
//! what was asked a moment ago the same reply again. What is not decided here (signatures,
//! transfers, NOTIFY, UPDATE) is an [`Outcome::Defer`].
//!
//! **The stages**, as functions: [`Asked::read`] reads the request, finds the zone and begins to
//! look the name up - [`Asked::respond`] does the rest: `dispatch` by opcode, class and type -
//! `answer` enters the zone - `pursue` takes what it has of the name and hands on to one of `give`
//! (records), `alias` and `rename` (which pursue the next name), `refer` and `deny`, each of which
//! writes the sections it calls for - `finish` adds OPT and the header.
//!
//! **Invariants.**
//! - *pure*: no I/O, no clock, no allocation, no panic on any input.
//! - *longest match*: the configured zone with the longest apex decides, also while it has no data.
//! - *whole sets*: a record set is in the reply whole or not at all; TC says that one is missing
//!   that the client needs. Additional data that it can do without is left out silently.
//! - *bounded*: at most [`LINKS_MAX`] aliases are followed.
//!
//! **Sections.** RFC 1034 4.3.2, RFC 2181, RFC 2308, RFC 3597, RFC 4035 3.1, RFC 4592, RFC 6672,
//! RFC 6891, RFC 8482, RFC 9471; RFC 1995 section 2 and RFC 1996 as far as a question can tell.
//!
//! Nothing is signed here: signatures and proofs are the primary's.

mod additional;
mod alias;
mod asked;
mod denial;
mod outcome;
mod recent;
mod records;
mod special;
#[cfg(test)]
mod tests;

use crate::edns::{Ede, Edns, Opt, UDP_SIZE_MIN};
use crate::name::{Key, Name};
use crate::query::{Header, Query, Question};
use crate::tree::Place;
use crate::view::{Served, View};
use crate::wire::{Class, Full, HEADER_LEN, Mark, Opcode, Rcode, Rtype, Section, Writer, flag};
use crate::zone::{At, Found, Node, RecordSet, Zone};
use arrayvec::ArrayVec;
use asked::Start;
pub use asked::{AT_ONCE, Asked};
pub use outcome::{Deferred, Kind, Outcome, Silence, Transport, Via};
pub use recent::{Recent, Vacancy};

use denial::{Claim, PROOFS_MAX, Proof};

/// How many aliases, CNAME or DNAME, are followed.
const LINKS_MAX: usize = 16;

/// Answers one request into `reply`, which should have room for the largest reply that `via`
/// allows: 65535 octets over a connection.
pub fn respond(request: &[u8], via: &Via<'_>, view: &View, reply: &mut [u8]) -> Outcome {
    let mut asked = Asked::new();
    asked.read(request, view);
    asked.respond(via, reply)
}

/// An error reply to a request that is deferred, or that cannot be served for want of resources.
/// `None`: such a request gets no reply.
pub fn refuse(
    request: &[u8],
    rcode: Rcode,
    via: &Via<'_>,
    view: &View,
    reply: &mut [u8],
) -> Option<usize> {
    empty(request, via, view, reply, |answer| answer.rcode = rcode)
}

/// The reply to a NOTIFY that is heeded (RFC 1996 section 3.7). `None`: there is none.
pub fn acknowledge(request: &[u8], via: &Via<'_>, view: &View, reply: &mut [u8]) -> Option<usize> {
    empty(request, via, view, reply, |answer| answer.aa = true)
}

/// The reply to an UPDATE that no primary has answered. `None`: there is none.
pub fn unforwarded(request: &[u8], via: &Via<'_>, view: &View, reply: &mut [u8]) -> Option<usize> {
    let fail = |answer: &mut Answer<'_, '_>| answer.fail(Rcode::SERVFAIL, Some(Ede::NoPrimary));
    empty(request, via, view, reply, fail)
}

/// The largest reply to this request that its client may be sent, octets.
pub fn reply_max(request: &[u8], via: &Via<'_>, view: &View) -> usize {
    match Query::read(request) {
        Ok(query) => limit(&query, via, udp_size(via, view)),
        Err(_) => usize::from(UDP_SIZE_MIN),
    }
}

/// A reply that says only that the client should ask again over a connection. `None`: such a
/// request gets no reply.
pub fn truncate(request: &[u8], via: &Via<'_>, view: &View, reply: &mut [u8]) -> Option<usize> {
    empty(request, via, view, reply, |answer| answer.tc = true)
}

fn empty(
    request: &[u8],
    via: &Via<'_>,
    view: &View,
    reply: &mut [u8],
    fail: impl FnOnce(&mut Answer<'_, '_>),
) -> Option<usize> {
    let query = Query::read(request).ok().filter(|_| reply.len() >= usize::from(UDP_SIZE_MIN))?;
    let mut answer = Answer::new(&query, via, view, reply);
    answer.begin();
    fail(&mut answer);
    match answer.finish() {
        Outcome::Reply { len, .. } => Some(len),
        _ => None,
    }
}

/// Is there a chain of trust to hand on? A zone that could not prove that DS is missing has none.
fn is_signed(zone: &Zone) -> bool {
    zone.nsec3().is_some() || has_nsec(zone)
}

/// Is there a chain of NSEC to prove things with? Without signatures it proves nothing.
fn has_nsec(zone: &Zone) -> bool {
    zone.apex_node().signatures(Rtype::NSEC).is_some()
}

/// Is this an opcode whose messages have the form that [`Query::read`] expects?
fn is_known(header: Header) -> bool {
    matches!(header.opcode(), Opcode::QUERY | Opcode::NOTIFY | Opcode::UPDATE)
}

/// A reply in the making.
struct Answer<'a, 'b> {
    query: &'a Query<'a>,
    via: &'a Via<'a>,
    view: &'a View,
    writer: Writer<'b>,
    /// The largest datagram that we send and take, octets.
    udp_size: u16,
    /// Behind the question: what a truncated reply goes back to.
    bare: Mark,
    /// What is kept free for OPT and TSIG.
    reserved: usize,
    /// Are signatures and proofs wanted?
    dnssec_ok: bool,
    aa: bool,
    tc: bool,
    rcode: Rcode,
    kind: Kind,
    error: Option<Ede>,
    /// The zone that the question's name is in, if it has data and this client may see them.
    entered: Option<(&'a Served, &'a Zone)>,
    /// Does it depend on who asks, or on how the name is written?
    personal: bool,
    /// Where in the message the owners of the aliases written so far lie.
    links: ArrayVec<(u16, Rtype), { 2 * LINKS_MAX }>,
    followed: usize,
    /// What is still to be written to the authority section.
    proofs: ArrayVec<Proof<'a>, PROOFS_MAX>,
}

/// A name that records belong to, and where it lies in the message, if that is known.
#[derive(Clone, Copy)]
struct Owner<'n> {
    name: Name<'n>,
    at: Option<usize>,
}

/// The name that is looked up: the question's, then the target of each alias.
#[derive(Clone, Copy)]
struct Sought<'n> {
    name: Name<'n>,
    /// Where it lies in the message without any compression: only the question's name.
    at: Option<usize>,
}

impl<'n> Sought<'n> {
    /// The question's name. No pointer makes the root shorter.
    fn first(name: Name<'n>) -> Self {
        Self { name, at: Some(HEADER_LEN).filter(|_| !name.is_root()) }
    }

    fn owner(self) -> Owner<'n> {
        Owner { name: self.name, at: self.at }
    }

    /// The ancestor whose wire form has `len` octets.
    fn ancestor(self, len: usize) -> Owner<'n> {
        let mut name = self.name;
        while name.len() > len {
            name = name.parent().expect("an ancestor is shorter, and the root shortest");
        }
        Owner { name, at: self.at.map(|at| at + self.name.len() - len).filter(|_| len > 1) }
    }
}

impl<'a, 'b> Answer<'a, 'b> {
    #[inline(always)]
    fn new(query: &'a Query<'a>, via: &'a Via<'a>, view: &'a View, reply: &'b mut [u8]) -> Self {
        let udp_size = udp_size(via, view);
        Self {
            query,
            via,
            view,
            writer: Writer::new(reply, limit(query, via, udp_size)),
            udp_size,
            bare: Mark::default(),
            reserved: 0,
            dnssec_ok: query.edns.as_ref().is_some_and(|edns| edns.dnssec_ok),
            aa: false,
            tc: false,
            rcode: Rcode::NOERROR,
            kind: Kind::Other,
            error: None,
            entered: None,
            personal: false,
            links: ArrayVec::new(),
            followed: 0,
            proofs: ArrayVec::new(),
        }
    }

    /// Writes the question. Apart from [`new`](Self::new), so that no reply in the making is moved.
    #[inline(always)]
    fn begin(&mut self) {
        if let Some(Question { name, rtype, class }) = &self.query.question {
            let written = self.writer.question(*name, *rtype, *class);
            written.expect("512 octets hold any question");
        }
        self.bare = self.writer.mark();
        // OPT, and what the caller adds.
        let reserved = self.via.reserved + self.query.edns.as_ref().map_or(0, Opt::len_min);
        self.reserved = if self.writer.reserve(reserved) { reserved } else { 0 };
    }

    /// What kind of request is this?
    #[inline(always)]
    fn dispatch(&mut self, start: &'a Start<'a>) -> Option<Deferred> {
        let Query { header, ref question, ref edns, signed, .. } = *self.query;
        let opcode = header.opcode();
        if signed && self.via.key.is_some() {
            self.rcode = Rcode::FORMERR; // One of them was taken off already.
        } else if signed && !matches!(opcode, Opcode::NOTIFY | Opcode::UPDATE) {
            return Some(Deferred::Signed);
        } else if let Some(error) = edns.as_ref().and_then(Edns::error) {
            self.rcode = error;
        } else if opcode == Opcode::QUERY && self.lacks_cookie() {
            self.rcode = Rcode::BADCOOKIE;
        } else {
            match (opcode, question) {
                (Opcode::QUERY, Some(question)) => return self.asked(question, start),
                (Opcode::NOTIFY, Some(question)) => {
                    return self.told_of(*question, Deferred::Notify);
                }
                (Opcode::UPDATE, Some(question)) => {
                    return self.told_of(*question, Deferred::Update);
                }
                (Opcode::QUERY, None) => self.cookie_asked(),
                (Opcode::NOTIFY | Opcode::UPDATE, None) => self.rcode = Rcode::FORMERR,
                _ => self.fail(Rcode::NOTIMP, Some(Ede::NotSupported)),
            }
        }
        None
    }

    /// Is this a question of the kind that zones answer?
    #[inline(always)]
    fn asked(&mut self, question: &Question<'a>, start: &'a Start<'a>) -> Option<Deferred> {
        match (question.class, question.rtype) {
            (Class::IN, Rtype::AXFR | Rtype::IXFR) => return self.transfer(*question),
            (Class::IN | Class::ANY, rtype) if rtype.is_meta() && !rtype.asks_for_several() => {
                self.fail(Rcode::FORMERR, Some(Ede::InvalidType));
            }
            (Class::IN, _) => self.answer(question, start),
            (Class::ANY, _) => {
                self.answer(question, start);
                // Who could know all classes there are (RFC 1034 section 3.7.1)?
                self.aa = false;
            }
            (Class::CH, _) => self.identify(*question),
            _ => self.rcode = Rcode::REFUSED,
        }
        None
    }

    /// RFC 1034 section 4.3.2, step 2: the zone that is the nearest ancestor to the name.
    fn answer(&mut self, question: &Question<'a>, start: &'a Start<'a>) {
        match self.enter(start.served) {
            Ok((zone, stale)) => {
                self.entered = start.served.map(|served| (served, zone));
                let obstacle = |served: &Served| Ede::Stale(served.expiry.obstacle());
                self.error = start.served.filter(|_| stale).map(obstacle);
                let sought = Sought::first(question.name);
                let way = start.way.unwrap_or_else(|| zone.names().way(&start.key));
                let place = way.place(&start.key);
                let pursued = self.pursue(zone, sought, &place, &start.key, question.rtype);
                // What no additional data had to come after.
                if pursued.and_then(|()| self.write_proofs()).is_err() {
                    self.truncate();
                }
            }
            Err((rcode, error)) => self.fail(rcode, error),
        }
    }

    /// The data of a zone, if it is served, and to this client; and whether they are stale.
    #[inline(always)]
    fn enter(
        &mut self,
        served: Option<&'a Served>,
    ) -> Result<(&'a Zone, bool), (Rcode, Option<Ede>)> {
        let Some(served) = served else {
            return Err((Rcode::REFUSED, Some(Ede::NotAuthoritative)));
        };
        self.personal |= served.access.query.is_some();
        if !served.access.may_query(self.via.peer, self.via.key) && !self.follows(served) {
            return Err((Rcode::REFUSED, Some(Ede::Prohibited)));
        }
        let now_ms = self.via.now_ms;
        let data = served.answerable(now_ms).ok_or_else(|| without_data(served, now_ms))?;
        Ok((data.0, data.1))
    }

    /// Is this a secondary that looks whether the zone has changed? Who may transfer a zone may ask
    /// for its SOA.
    #[cold]
    fn follows(&self, served: &Served) -> bool {
        let asks = |question: Question<'_>| {
            question.rtype == Rtype::SOA && question.name == served.apex.as_name()
        };
        self.query.question.is_some_and(asks)
            && served.access.transfer.allows(self.via.peer, self.via.key)
    }

    /// Step 3: what the zone says about the name, whose key in it is `key`, and this the place of.
    fn pursue(
        &mut self,
        zone: &'a Zone,
        sought: Sought<'_>,
        place: &Place<'a, '_, ()>,
        key: &Key,
        rtype: Rtype,
    ) -> Result<(), Full> {
        if let Some((node, set)) = zone.direct(place, rtype) {
            return self.give(zone, sought, node, &set);
        }
        match zone.lookup_at(place, key, rtype) {
            Found::Records { node, set, at } => {
                self.prove_expansion(zone, sought.name, key, at);
                self.give(zone, sought, node, &set)
            }
            Found::Alias { node, set, at } => {
                self.prove_expansion(zone, sought.name, key, at);
                self.alias(sought, rtype, node, &set)
            }
            Found::Rename { node, set, owner } => {
                let owner = sought.ancestor(owner + zone.apex().len());
                self.rename(sought, owner, rtype, node, &set)
            }
            Found::Delegation { node, set, cut } => {
                let owner = sought.ancestor(cut + zone.apex().len());
                self.refer(zone, place, owner, node, &set)
            }
            Found::NoData { at: At::Owner, .. } => {
                self.prove(zone, sought.name, key, Claim::NoType);
                self.deny(zone, sought, Kind::NoData)
            }
            Found::NoData { at: At::Wildcard(encloser), .. } => {
                self.prove(zone, sought.name, key, Claim::NoTypeAtWildcard { encloser });
                self.deny(zone, sought, Kind::NoData)
            }
            Found::NoName { encloser } => {
                self.prove(zone, sought.name, key, Claim::NoName { encloser });
                self.deny(zone, sought, Kind::NoName)
            }
        }
    }

    /// Records of a wildcard need the proof that the name itself does not exist.
    fn prove_expansion(&mut self, zone: &'a Zone, name: Name<'_>, key: &Key, at: At) {
        if let At::Wildcard(encloser) = at {
            self.prove(zone, name, key, Claim::Expanded { encloser });
        }
    }

    /// Step 3a: the records asked for.
    #[inline(always)]
    fn give(
        &mut self,
        zone: &'a Zone,
        sought: Sought<'_>,
        node: Node<'_>,
        set: &RecordSet<'_>,
    ) -> Result<(), Full> {
        (self.aa, self.kind) = (true, Kind::Records);
        if set.rtype() == Rtype::DNAME && self.is_linked(sought.name, Rtype::DNAME) {
            return Ok(()); // It renamed a name on the way here.
        }
        let is_alias = matches!(set.data_type(), Rtype::CNAME | Rtype::DNAME);
        let set = if is_alias { &set.sole() } else { set };
        self.put(Section::Answer, sought.owner(), node, set)?;
        self.write_proofs()?;
        let asks_any = || self.query.question.as_ref().is_some_and(|q| q.rtype == Rtype::ANY);
        if additional::points_at_hosts(set.data_type()) && !asks_any() {
            additional::of_answer(self, zone, sought.owner(), set);
        }
        Ok(())
    }

    /// Step 3b: a referral, with the DS records that make it a secure one or the proof that there
    /// are none (RFC 4035 section 3.1.4).
    fn refer(
        &mut self,
        zone: &'a Zone,
        place: &Place<'a, '_, ()>,
        cut: Owner<'_>,
        node: Node<'_>,
        set: &RecordSet<'_>,
    ) -> Result<(), Full> {
        self.kind = Kind::Referral;
        let at = self.put(Section::Authority, cut, node, set)?;
        if self.dnssec_ok {
            match node.find(Rtype::DS) {
                Some(ds) => {
                    // From an unsigned zone they would prove nothing.
                    if node.signatures(Rtype::DS).is_some() || is_signed(zone) {
                        self.put(Section::Authority, Owner { at, ..cut }, node, &ds)?;
                    }
                }
                None => self.prove(zone, cut.name, &zone.key(cut.name), Claim::NoType),
            }
        }
        self.write_proofs()?;
        additional::of_referral(self, zone, place, cut.name, set);
        Ok(())
    }

    /// No such type, or no such name (RFC 2308 sections 2 and 3).
    fn deny(&mut self, zone: &'a Zone, sought: Sought<'_>, kind: Kind) -> Result<(), Full> {
        (self.aa, self.kind) = (true, kind);
        if kind == Kind::NoName {
            self.rcode = Rcode::NXDOMAIN;
            if let Some(Ede::Stale(obstacle)) = self.error {
                self.error = Some(Ede::StaleNoName(obstacle));
            }
        }
        let owner = sought.ancestor(zone.apex().len());
        let ttl = zone.soa().negative_ttl();
        let node = zone.apex_node();
        let soa = node.find(Rtype::SOA).expect("a zone has one");
        let at = self.put_soa(zone, owner, &soa, ttl)?;
        if self.dnssec_ok
            && let Some(signatures) = node.signatures(Rtype::SOA)
        {
            self.put_data(Section::Authority, Owner { at, ..owner }, &signatures, ttl)?;
        }
        Ok(())
    }

    /// From here on records give way to options: all that the client needs is written.
    fn reserve_options(&mut self) {
        let id = self.view.identity.id.as_deref();
        let octets = self.query.edns.map_or(0, |edns| Opt::options_len_max(&edns, id));
        if self.writer.reserve(octets) {
            self.reserved += octets;
        }
    }

    /// The client needs what does not fit: it is told to ask again over a connection.
    fn truncate(&mut self) {
        self.tc = true;
        self.writer.rewind(self.bare);
    }

    fn fail(&mut self, rcode: Rcode, error: Option<Ede>) {
        (self.rcode, self.error) = (rcode, error);
    }

    /// OPT, the header, and what is to be said of the reply.
    #[inline(always)]
    fn finish(&mut self) -> Outcome {
        if let Some(edns) = &self.query.edns {
            self.writer.release(self.reserved - self.via.reserved.min(self.reserved));
            // Reserved at the beginning, unless the caller left no room at all.
            let _ = if edns.is_bare() && self.error.is_none() {
                Opt::new(self.udp_size, self.rcode, edns.dnssec_ok).write_bare(&mut self.writer)
            } else {
                self.opt(edns).write(&mut self.writer)
            };
        }
        let header = self.query.header;
        let flags = header.reply_flags(self.dnssec_ok)
            | if self.aa { flag::AA } else { 0 }
            | if self.tc { flag::TC } else { 0 }
            | self.rcode.0 & 0xf;
        let known_client = self.is_known_client();
        let len = self.writer.finish(header.id, flags);
        let zone = self.entered.map(|(served, _)| served.id());
        let for_anyone = zone.is_some()
            && self.kind != Kind::Other
            && !self.personal
            && self.via.key.is_none()
            && self.error.is_none()
            && self.query.edns.is_none_or(|edns| edns.is_bare());
        Outcome::Reply { len, rcode: self.rcode, kind: self.kind, zone, known_client, for_anyone }
    }
}

/// The largest datagram that we send and take, octets.
fn udp_size(via: &Via<'_>, view: &View) -> u16 {
    let is_v4 = via.peer.to_canonical().is_ipv4();
    let size = if is_v4 { view.identity.udp_size_v4 } else { view.identity.udp_size_v6 };
    size.max(UDP_SIZE_MIN)
}

/// The largest reply that may be sent, octets.
fn limit(query: &Query<'_>, via: &Via<'_>, udp_size: u16) -> usize {
    match (via.transport, &query.edns) {
        (Transport::Tcp, _) => usize::from(u16::MAX),
        (Transport::Udp, None) => usize::from(UDP_SIZE_MIN),
        (Transport::Udp, Some(edns)) => usize::from(edns.udp_size.max(UDP_SIZE_MIN).min(udp_size)),
    }
}

/// Why a zone that is configured has nothing to answer from.
fn without_data(served: &Served, now_ms: u64) -> (Rcode, Option<Ede>) {
    let obstacle = served.expiry.obstacle();
    let ago_s = now_ms.saturating_sub(served.expiry.get()) / 1000;
    let ago_s = u32::try_from(ago_s).unwrap_or(u32::MAX);
    let error = match served.zone {
        Some(_) => Ede::Expired { ago_s, obstacle },
        None => Ede::NotReady(obstacle),
    };
    (Rcode::SERVFAIL, Some(error))
}

/// The zone that answers about `name`, whether it has data or not. DS records are the parent's:
/// at the apex of one served zone they come from the one above, if that is served too (RFC 4035
/// section 3.1.4.1).
#[inline(always)]
fn served_for<'v>(view: &'v View, name: Name<'_>, key: &Key, rtype: Rtype) -> Option<&'v Served> {
    let served = view.find(key)?;
    if rtype == Rtype::DS
        && served.apex.as_name().len() == name.len()
        && let Some(above) = name.parent()
        && let Some(parent) = view.find(&Key::of(above, 0))
    {
        return Some(parent);
    }
    Some(served)
}
