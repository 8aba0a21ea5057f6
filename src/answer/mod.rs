//! Answering: the pure function from a request and a view to a reply.
//!
//! **How it fits.** `worker` and `stream` call [`respond`] with what they received; what it does
//! not decide (signatures, transfers, NOTIFY) goes on to the scheduler as [`Outcome::Defer`].
//!
//! **The stages**, as functions: [`respond`] reads the request - `dispatch` by opcode, class and
//! type - `answer` finds the zone - `pursue` looks the name up there and hands on to one of `give`
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
//! **Sections.** RFC 1034 4.3.2, RFC 2181, RFC 2308, RFC 3597, RFC 4592, RFC 6672, RFC 6891,
//! RFC 8482, RFC 9471; RFC 1995 section 2 and RFC 1996 as far as a question can tell.

mod additional;
mod special;
#[cfg(test)]
mod tests;

use crate::edns::{Opt, UDP_SIZE_MIN};
use crate::name::{Key, NAME_MAX, Name};
use crate::query::{Header, Query, Question, Unfit};
use crate::view::{Served, View};
use crate::wire::{Class, Full, HEADER_LEN, Mark, Opcode, Rcode, Rtype, Section, Writer, flag};
use crate::zone::{Found, RecordSet, Zone};
use std::net::IpAddr;
use std::sync::Arc;

/// How a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram.
    Udp,
    /// Over a connection.
    Tcp,
}

/// What is known of a request beside its octets.
#[derive(Clone, Copy)]
pub struct Via<'a> {
    /// How it came.
    pub transport: Transport,
    /// Who sent it.
    pub peer: IpAddr,
    /// Milliseconds of the server's clock, which zones expire by.
    pub now_ms: u64,
    /// The key that it was verified to be signed with. The request is then without its TSIG.
    pub key: Option<Name<'a>>,
    /// Octets that the reply must leave free: for the TSIG that the caller adds.
    pub reserved: usize,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is sent.
    Silent(Silence),
    /// A reply of so many octets.
    Reply {
        /// Octets.
        len: usize,
        /// How the query ended, the bits in OPT included.
        rcode: Rcode,
        /// What it says.
        kind: Kind,
    },
    /// Not decided here.
    Defer(Deferred),
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// It is shorter than a header.
    Runt,
    /// It is a response.
    Response,
    /// The buffer is smaller than the smallest limit on replies, 512 octets.
    NoRoom,
}

/// What a reply says: what statistics and rate limits tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Records; also aliases that lead out of what is served.
    Records,
    /// The name exists, the type does not.
    NoData,
    /// There is no such name.
    NoName,
    /// A delegation.
    Referral,
    /// Nothing of a zone: errors, the server's identity, requests for cookies.
    Other,
}

/// What the workers do not decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deferred {
    /// Its TSIG is to be verified and taken off; then the request comes back with [`Via::key`].
    Signed,
    /// A NOTIFY of a zone that is configured, from an address that may send one.
    Notify,
    /// An AXFR or IXFR question over a connection. Nothing about it is checked yet.
    Transfer,
}

/// How many aliases, CNAME or DNAME, are followed.
const LINKS_MAX: usize = 16;

/// Answers one request into `reply`, which should have room for the largest reply that `via`
/// allows: 65535 octets over a connection.
pub fn respond(request: &[u8], via: &Via<'_>, view: &View, reply: &mut [u8]) -> Outcome {
    if reply.len() < usize::from(UDP_SIZE_MIN) {
        return Outcome::Silent(Silence::NoRoom);
    }
    match Query::read(request) {
        Ok(query) => {
            let mut answer = Answer::begin(&query, via, view, reply);
            match answer.dispatch() {
                Some(deferred) => Outcome::Defer(deferred),
                None => answer.finish(),
            }
        }
        Err(Unfit::Runt) => Outcome::Silent(Silence::Runt),
        Err(Unfit::Response) => Outcome::Silent(Silence::Response),
        Err(Unfit::Malformed { header, question }) => {
            let query = Query { header, question, edns: None, signed: false };
            let mut answer = Answer::begin(&query, via, view, reply);
            answer.rcode = if is_known(header) { Rcode::FORMERR } else { Rcode::NOTIMP };
            answer.finish()
        }
    }
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
    let query = Query::read(request).ok().filter(|_| reply.len() >= usize::from(UDP_SIZE_MIN))?;
    let mut answer = Answer::begin(&query, via, view, reply);
    answer.rcode = rcode;
    match answer.finish() {
        Outcome::Reply { len, .. } => Some(len),
        _ => None,
    }
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
    /// Behind the question: what a truncated reply goes back to.
    bare: Mark,
    /// What is kept free for OPT and TSIG.
    reserved: usize,
    aa: bool,
    tc: bool,
    rcode: Rcode,
    kind: Kind,
    links: Links,
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

/// Where in the message the owners of the aliases written so far lie.
#[derive(Default)]
struct Links {
    at: [usize; 2 * LINKS_MAX],
    len: usize,
    followed: usize,
}

impl Links {
    fn holds(&self, writer: &Writer<'_>, name: Name<'_>) -> bool {
        self.at[..self.len].iter().any(|&at| writer.has_name_at(at, name))
    }

    fn push(&mut self, at: Option<usize>) {
        if let (Some(at), Some(slot)) = (at, self.at.get_mut(self.len)) {
            *slot = at;
            self.len += 1;
        }
    }
}

impl<'a, 'b> Answer<'a, 'b> {
    fn begin(query: &'a Query<'a>, via: &'a Via<'a>, view: &'a View, reply: &'b mut [u8]) -> Self {
        let mut writer = Writer::new(reply, limit(query, via, view));
        if let Some(Question { name, rtype, class }) = query.question {
            writer.question(name, rtype, class).expect("512 octets hold any question");
        }
        let opt = if query.edns.is_some() { Opt::LEN } else { 0 };
        let reserved = if writer.reserve(opt + via.reserved) { opt + via.reserved } else { 0 };
        Self {
            query,
            via,
            view,
            bare: writer.mark(),
            writer,
            reserved,
            aa: false,
            tc: false,
            rcode: Rcode::NOERROR,
            kind: Kind::Other,
            links: Links::default(),
        }
    }

    /// What kind of request is this?
    fn dispatch(&mut self) -> Option<Deferred> {
        let Query { header, question, edns, signed } = *self.query;
        let opcode = header.opcode();
        if signed && self.via.key.is_some() {
            self.rcode = Rcode::FORMERR; // One of them was taken off already.
        } else if signed && opcode != Opcode::NOTIFY {
            return Some(Deferred::Signed);
        } else if edns.is_some_and(|edns| edns.version > 0) {
            self.rcode = Rcode::BADVERS;
        } else if let Some(question) = question {
            match opcode {
                Opcode::QUERY => return self.asked(question),
                Opcode::NOTIFY => return self.notified(question),
                _ => self.rcode = Rcode::NOTIMP,
            }
        }
        None
    }

    /// Is this a question of the kind that zones answer?
    fn asked(&mut self, question: Question<'a>) -> Option<Deferred> {
        match (question.class, question.rtype) {
            (Class::IN, Rtype::AXFR | Rtype::IXFR) => return self.transfer(question),
            (Class::IN, Rtype::MAILA | Rtype::MAILB) => self.rcode = Rcode::NOTIMP,
            (Class::IN, rtype) if rtype.is_meta() && rtype != Rtype::ANY => {
                self.rcode = Rcode::FORMERR;
            }
            (Class::IN, _) => self.answer(question),
            (Class::CH, _) => self.identify(question),
            _ => self.rcode = Rcode::REFUSED,
        }
        None
    }

    /// RFC 1034 section 4.3.2, step 2: the zone that is the nearest ancestor to the name.
    fn answer(&mut self, question: Question<'a>) {
        match self.enter(question.name, question.rtype) {
            Ok(zone) => {
                if self.pursue(zone, Sought::first(question.name), question.rtype).is_err() {
                    self.tc = true;
                    self.writer.rewind(self.bare);
                }
            }
            Err(rcode) => self.rcode = rcode,
        }
    }

    /// The data to answer from about `name`, if it is served, and to this client.
    fn enter(&self, name: Name<'_>, rtype: Rtype) -> Result<&'a Zone, Rcode> {
        let served = served_for(self.view, name, rtype).ok_or(Rcode::REFUSED)?;
        if !served.access.may_query(self.via.peer, self.via.key) {
            return Err(Rcode::REFUSED);
        }
        served.fresh(self.via.now_ms).map(|zone| &**zone).ok_or(Rcode::SERVFAIL)
    }

    /// Step 3: what the zone says about the name.
    fn pursue(&mut self, zone: &'a Zone, sought: Sought<'_>, rtype: Rtype) -> Result<(), Full> {
        match zone.lookup(&zone.key(sought.name), rtype) {
            Found::Records { set, .. } => self.give(zone, sought, &set),
            Found::Alias { set, .. } => self.alias(sought, rtype, &set),
            Found::Rename { set, owner, .. } => {
                self.rename(sought, sought.ancestor(owner + zone.apex().len()), rtype, &set)
            }
            Found::Delegation { set, cut, .. } => {
                self.refer(zone, sought.ancestor(cut + zone.apex().len()), &set)
            }
            Found::NoData { .. } => self.deny(zone, sought, Kind::NoData),
            Found::NoName { .. } => self.deny(zone, sought, Kind::NoName),
        }
    }

    /// Step 3a: the records asked for.
    fn give(&mut self, zone: &Zone, sought: Sought<'_>, set: &RecordSet<'_>) -> Result<(), Full> {
        (self.aa, self.kind) = (true, Kind::Records);
        self.put(Section::Answer, sought.owner(), set)?;
        additional::of_answer(self, zone, set);
        Ok(())
    }

    /// Step 3a: a CNAME. The question goes on with its target, unless that closes a loop.
    fn alias(&mut self, from: Sought<'_>, rtype: Rtype, set: &RecordSet<'_>) -> Result<(), Full> {
        (self.aa, self.kind) = (true, Kind::Records);
        if self.links.holds(&self.writer, from.name) {
            return Ok(());
        }
        let at = self.put(Section::Answer, from.owner(), set)?;
        self.links.push(at);
        match Name::from_wire(set.first()) {
            Some(target) => self.follow(target, rtype),
            None => Ok(()),
        }
    }

    /// Step 3c of RFC 6672 section 3.2: a DNAME, and the CNAME that it makes of the name.
    fn rename(
        &mut self,
        from: Sought<'_>,
        owner: Owner<'_>,
        rtype: Rtype,
        set: &RecordSet<'_>,
    ) -> Result<(), Full> {
        (self.aa, self.kind) = (true, Kind::Records);
        if !self.links.holds(&self.writer, owner.name) {
            let at = self.put(Section::Answer, owner, set)?;
            self.links.push(at);
        }
        let mut buffer = [0; NAME_MAX];
        let Some(target) = substitute(from.name, owner.name, set.first(), &mut buffer) else {
            self.rcode = Rcode::YXDOMAIN;
            return Ok(());
        };
        if self.links.holds(&self.writer, from.name) {
            return Ok(());
        }
        let at = self.begin_record(Section::Answer, from.owner(), Rtype::CNAME, set.ttl())?;
        self.writer.data(Rtype::CNAME, target.as_wire())?;
        self.links.push(at);
        self.follow(target, rtype)
    }

    /// Goes on with the target of an alias, if it is served: else what there is is the answer.
    fn follow(&mut self, target: Name<'_>, rtype: Rtype) -> Result<(), Full> {
        if self.links.followed == LINKS_MAX {
            return Ok(());
        }
        self.links.followed += 1;
        match self.enter(target, rtype) {
            Ok(zone) => self.pursue(zone, Sought { name: target, at: None }, rtype),
            Err(_) => Ok(()),
        }
    }

    /// Step 3b: a referral.
    fn refer(&mut self, zone: &Zone, cut: Owner<'_>, set: &RecordSet<'_>) -> Result<(), Full> {
        self.kind = Kind::Referral;
        self.put(Section::Authority, cut, set)?;
        additional::of_referral(self, zone, cut.name, set);
        Ok(())
    }

    /// No such type, or no such name (RFC 2308 sections 2 and 3).
    fn deny(&mut self, zone: &Zone, sought: Sought<'_>, kind: Kind) -> Result<(), Full> {
        (self.aa, self.kind) = (true, kind);
        if kind == Kind::NoName {
            self.rcode = Rcode::NXDOMAIN;
        }
        let apex = sought.ancestor(zone.apex().len());
        self.begin_record(Section::Authority, apex, Rtype::SOA, zone.soa().negative_ttl())?;
        self.writer.data(Rtype::SOA, zone.soa_data())
    }

    /// Writes a record set, whole. Returns where its owner lies.
    fn put(
        &mut self,
        section: Section,
        mut owner: Owner<'_>,
        set: &RecordSet<'_>,
    ) -> Result<Option<usize>, Full> {
        let rtype = set.data_type();
        for data in set.iter() {
            owner.at = self.begin_record(section, owner, rtype, set.ttl())?;
            self.writer.data(rtype, data)?;
        }
        Ok(owner.at)
    }

    /// As [`put`](Self::put), or nothing if it does not fit.
    fn try_put(
        &mut self,
        section: Section,
        owner: Owner<'_>,
        set: &RecordSet<'_>,
    ) -> Result<Option<usize>, Full> {
        let mark = self.writer.mark();
        self.put(section, owner, set).inspect_err(|&Full| self.writer.rewind(mark))
    }

    fn begin_record(
        &mut self,
        section: Section,
        owner: Owner<'_>,
        rtype: Rtype,
        ttl: u32,
    ) -> Result<Option<usize>, Full> {
        match owner.at {
            Some(at) => {
                self.writer.record_at(section, at, rtype, Class::IN, ttl).map(|()| Some(at))
            }
            None => self.writer.record(section, owner.name, rtype, Class::IN, ttl),
        }
    }

    /// OPT, the header, and what is to be said of the reply.
    fn finish(mut self) -> Outcome {
        if let Some(edns) = self.query.edns {
            self.writer.release(self.reserved - self.via.reserved.min(self.reserved));
            let opt = Opt {
                udp_size: udp_size(self.via, self.view),
                rcode: self.rcode,
                dnssec_ok: edns.dnssec_ok,
            };
            // Reserved at the beginning, unless the caller left no room at all.
            let _ = opt.write(&mut self.writer);
        }
        let header = self.query.header;
        let flags = header.reply_flags()
            | if self.aa { flag::AA } else { 0 }
            | if self.tc { flag::TC } else { 0 }
            | self.rcode.0 & 0xf;
        let len = self.writer.finish(header.id, flags);
        Outcome::Reply { len, rcode: self.rcode, kind: self.kind }
    }
}

/// The largest datagram that we send and take, octets.
fn udp_size(via: &Via<'_>, view: &View) -> u16 {
    let is_v4 = via.peer.to_canonical().is_ipv4();
    let size = if is_v4 { view.identity.udp_size_v4 } else { view.identity.udp_size_v6 };
    size.max(UDP_SIZE_MIN)
}

/// The largest reply that may be sent, octets.
fn limit(query: &Query<'_>, via: &Via<'_>, view: &View) -> usize {
    match (via.transport, query.edns) {
        (Transport::Tcp, _) => usize::from(u16::MAX),
        (Transport::Udp, None) => usize::from(UDP_SIZE_MIN),
        (Transport::Udp, Some(edns)) => {
            usize::from(edns.udp_size.max(UDP_SIZE_MIN).min(udp_size(via, view)))
        }
    }
}

/// The zone that answers about `name`, whether it has data or not. DS records are the parent's:
/// at the apex of one served zone they come from the one above, if that is served too (RFC 4035
/// section 3.1.4.1).
fn served_for<'v>(view: &'v View, name: Name<'_>, rtype: Rtype) -> Option<&'v Arc<Served>> {
    let served = view.find(&Key::of(name, 0))?;
    if rtype == Rtype::DS
        && served.apex.as_name().len() == name.len()
        && let Some(above) = name.parent()
        && let Some(parent) = view.find(&Key::of(above, 0))
    {
        return Some(parent);
    }
    Some(served)
}

/// `name` with its ancestor `owner` replaced by `target`, written to `buffer`. `None`: it would
/// be too long (RFC 6672 section 2.2).
fn substitute<'t>(
    name: Name<'_>,
    owner: Name<'_>,
    target: &[u8],
    buffer: &'t mut [u8; NAME_MAX],
) -> Option<Name<'t>> {
    let prefix = &name.as_wire()[..name.len() - owner.len()];
    let whole = buffer.get_mut(..prefix.len() + target.len())?;
    whole[..prefix.len()].copy_from_slice(prefix);
    whole[prefix.len()..].copy_from_slice(target);
    Name::from_wire(whole)
}
