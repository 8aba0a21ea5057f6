//! What becomes of a message, wherever it came from: over a connection, or handed on by a worker.
//!
//! `respond` is asked first. What it defers is judged here in the order of RFC 8945 section 5.2:
//! the signature, then who may, then the work: a question is answered as any other and the reply
//! signed; a NOTIFY goes to the replica, an UPDATE through it to a primary; a transfer is begun.

use super::forward::Forward;
use super::transfer::Transfer;
use crate::answer::{self, Deferred, Outcome, Silence, Transport, Via};
use crate::clock::{self, Clock, now_s};
use crate::name::{Name, NameBuf};
use crate::query::Query;
use crate::replica::{Notified, Passed, Update};
use crate::seldom::Seldom;
use crate::stats;
use crate::tsig::{self, Signer};
use crate::view::{Served, View, Views};
use crate::wire::{Opcode, Rcode, Serial, flag, read_u16};
use crate::worker::{self, panics};
use crate::xfr::{self, Outgoing, TransferRequest};
use crossbeam::utils::CachePadded;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tracing::warn;

/// What all stream threads answer with.
pub(super) struct Service {
    pub(super) views: Arc<Views>,
    pub(super) clock: Clock,
    pub(super) stats: Arc<stats::Stats>,
    pub(super) counters: Arc<CachePadded<stats::Worker>>,
    pub(super) pass: Box<dyn Fn(Passed) + Send + Sync>,
}

/// How a message came.
#[derive(Clone, Copy)]
pub(super) struct From {
    pub(super) transport: Transport,
    pub(super) peer: SocketAddr,
    /// How long the connection may be idle now.
    pub(super) idle_max: Option<Duration>,
}

/// What becomes of a message.
pub(super) enum Reaction {
    /// Nothing is sent.
    Silent(Silence),
    /// A reply of so many octets, signed and counted.
    Reply(usize),
    /// A zone or its changes are to be sent. Only over a connection.
    Transfer(Box<Transfer>),
    /// The reply is what a primary says.
    Forward(Box<Forward>),
}

/// A message whose signature, if it has one, was verified and taken off.
pub(super) struct Verified<'m> {
    message: &'m [u8],
    from: From,
    now_ms: u64,
    pub(super) signer: Option<Box<Signer>>,
    /// An UPDATE as it came, if it had a signature.
    whole: Option<Vec<u8>>,
}

impl<'m> Verified<'m> {
    pub(super) fn unsigned(message: &'m [u8], from: From, now_ms: u64) -> Self {
        Self { message, from, now_ms, signer: None, whole: None }
    }

    fn key(&self) -> Option<Name<'_>> {
        self.signer.as_ref().map(|signer| signer.key().name())
    }

    fn reserved(&self) -> usize {
        self.signer.as_ref().map_or(0, |signer| signer.signature_len())
    }

    pub(super) fn via(&self) -> Via<'_> {
        Via {
            transport: self.from.transport,
            peer: self.from.peer.ip(),
            now_ms: self.now_ms,
            key: self.key(),
            reserved: self.reserved(),
            unix_s: clock::unix_s(),
            keepalive: self.from.idle_max.map(tenths),
        }
    }

    /// For the log.
    fn key_text(&self) -> String {
        self.key().map_or_else(|| "none".into(), |key| key.to_string())
    }
}

impl Service {
    /// Deals with a message. It may be changed: its signature is taken off.
    pub(super) fn react(
        &self,
        message: &mut [u8],
        from: From,
        view: &View,
        reply: &mut [u8],
    ) -> Reaction {
        let judged = panics::survive(|| self.judge(message, from, view, reply));
        judged.unwrap_or_else(|| {
            self.counters.served.panics.add_shared(1);
            panics::tell(message);
            match worker::failure(message, reply) {
                Some(len) => Reaction::Reply(self.count(&reply[..len], Rcode::SERVFAIL)),
                None => self.silent(Silence::Response),
            }
        })
    }

    fn judge(&self, message: &mut [u8], from: From, view: &View, reply: &mut [u8]) -> Reaction {
        let now_ms = self.clock.now_ms();
        let unsigned = Verified::unsigned(&*message, from, now_ms);
        match answer::respond(unsigned.message, &unsigned.via(), view, reply) {
            Outcome::Silent(why) => self.silent(why),
            Outcome::Reply { len, rcode, .. } => Reaction::Reply(self.count(&reply[..len], rcode)),
            Outcome::Defer(Deferred::Signed) => self.verify(message, from, view, reply),
            Outcome::Defer(Deferred::Notify) => self.notify(unsigned, view, reply),
            Outcome::Defer(Deferred::Update) => self.update(unsigned, view, reply),
            Outcome::Defer(Deferred::Transfer) => self.transfer(unsigned, view, reply),
        }
    }

    /// A message that says that it is signed.
    fn verify(&self, message: &mut [u8], from: From, view: &View, reply: &mut [u8]) -> Reaction {
        let now_ms = self.clock.now_ms();
        let whole = is_update(message).then(|| message.to_vec());
        match tsig::verify_request(message, &view.keys, now_s()) {
            tsig::Request::Refused { message, refusal } => {
                let request = Verified::unsigned(message, from, now_ms);
                if refusal.error() == Rcode::BADKEY
                    && is_update(message)
                    && may_update_unsigned(message, from.peer, view)
                {
                    // A key that is the client's and the primary's alone (RFC 8945 section 5.5).
                    return self.update(request, view, reply);
                }
                let (why, rcode) = (tsig::error_name(refusal.error()), refusal.rcode());
                warn_seldom(from.peer, "the signature is not accepted", &why);
                let refused = answer::refuse(message, rcode, &request.via(), view, reply);
                let Some(len) = refused else { return self.silent(Silence::Runt) };
                match refusal.add(reply, len, now_s()) {
                    Ok(len) => Reaction::Reply(self.count(&reply[..len], rcode)),
                    Err(_) => self.silent(Silence::NoRoom),
                }
            }
            // Both readers of messages look for the same record.
            tsig::Request::Unsigned(message) => {
                let request = Verified::unsigned(message, from, now_ms);
                self.refuse(request, Rcode::FORMERR, view, reply)
            }
            tsig::Request::Signed { message, signer } => {
                let signer = Some(signer);
                self.signed(Verified { message, from, now_ms, signer, whole }, view, reply)
            }
        }
    }

    fn signed(&self, request: Verified<'_>, view: &View, reply: &mut [u8]) -> Reaction {
        match answer::respond(request.message, &request.via(), view, reply) {
            Outcome::Silent(why) => self.silent(why),
            Outcome::Reply { len, rcode, .. } => self.sign(request, reply, len, rcode),
            Outcome::Defer(Deferred::Notify) => self.notify(request, view, reply),
            Outcome::Defer(Deferred::Update) => self.update(request, view, reply),
            Outcome::Defer(Deferred::Transfer) => self.transfer(request, view, reply),
            Outcome::Defer(Deferred::Signed) => self.refuse(request, Rcode::FORMERR, view, reply),
        }
    }

    /// A NOTIFY of a zone that is configured, from an address that may send one (RFC 1996).
    fn notify(&self, request: Verified<'_>, view: &View, reply: &mut [u8]) -> Reaction {
        let rcode = match xfr::parse_notify(request.message) {
            Err(rcode) => rcode,
            Ok(notify) => match view.zone(notify.apex.as_name()) {
                None => Rcode::NOTAUTH,
                Some(served) if self.may_tell(&request, served, Deferred::Notify) => {
                    let (apex, serial) = (notify.apex, notify.serial);
                    let notified = Notified { apex, peer: request.from.peer, serial };
                    (self.pass)(Passed::Notify(notified));
                    Rcode::NOERROR
                }
                Some(_) => Rcode::REFUSED,
            },
        };
        if rcode != Rcode::NOERROR {
            return self.refuse(request, rcode, view, reply);
        }
        match answer::acknowledge(request.message, &request.via(), view, reply) {
            Some(len) => self.sign(request, reply, len, rcode),
            None => self.silent(Silence::Runt),
        }
    }

    /// An UPDATE of a zone that is copied from primaries, from an address that may send one: one of
    /// them decides (RFC 2136 section 6).
    fn update(&self, mut request: Verified<'_>, view: &View, reply: &mut [u8]) -> Reaction {
        let served = updated_zone(request.message, view);
        let Some(served) = served.filter(|it| self.may_tell(&request, it, Deferred::Update)) else {
            return self.refuse(request, Rcode::REFUSED, view, reply);
        };
        let (tell, answered) = oneshot::channel();
        let message = request.whole.take().unwrap_or_else(|| request.message.to_vec());
        let (apex, peer) = (NameBuf::clone(&served.apex), request.from.peer);
        (self.pass)(Passed::Update(Update { apex, peer, message, reply: tell }));
        Reaction::Forward(Box::new(Forward {
            request: request.message.to_vec(),
            from: request.from,
            signer: request.signer,
            answered,
        }))
    }

    /// May this client say `what` of a zone, signed as it is? Counted, and told if not.
    fn may_tell(&self, request: &Verified<'_>, served: &Served, what: Deferred) -> bool {
        let (access, replicated) = (&served.access, &self.stats.replicated);
        let (list, heeded, refused, name) = if what == Deferred::Update {
            (&access.update, &replicated.updates, &replicated.updates_refused, "UPDATE")
        } else {
            (&access.notify, &replicated.notifies, &replicated.notifies_refused, "NOTIFY")
        };
        let may = list.allows(request.from.peer.ip(), request.key());
        if may {
            heeded.add_shared(1);
        } else {
            refused.add_shared(1);
            let what = format!("{name} without the key it needs");
            warn_seldom(request.from.peer, &what, "REFUSED");
        }
        may
    }

    /// AXFR or IXFR over a connection.
    fn transfer(&self, request: Verified<'_>, view: &View, reply: &mut [u8]) -> Reaction {
        match self.outgoing(&request, view) {
            Ok((asked, serial, outgoing)) => Reaction::Transfer(Box::new(Transfer {
                outgoing,
                serial,
                client: request.from.peer,
                key: request.key_text(),
                request: request.message.to_vec(),
                asked,
                signer: request.signer,
            })),
            Err(rcode) => {
                if rcode == Rcode::REFUSED {
                    warn_seldom(request.from.peer, "a transfer is not allowed", "REFUSED");
                }
                self.refuse(request, rcode, view, reply)
            }
        }
    }

    /// What is to be transferred, if it is there and this client may have it.
    fn outgoing(
        &self,
        request: &Verified<'_>,
        view: &View,
    ) -> Result<(TransferRequest, Serial, Outgoing), Rcode> {
        let asked = xfr::parse_transfer(request.message)?;
        let served = view.zone(asked.apex.as_name()).ok_or(Rcode::NOTAUTH)?;
        if !served.access.transfer.allows(request.from.peer.ip(), request.key()) {
            return Err(Rcode::REFUSED);
        }
        let zone = Arc::clone(served.fresh(request.now_ms).ok_or(Rcode::SERVFAIL)?);
        let serial = zone.serial();
        let outgoing = match asked.have {
            Some(have) => Outgoing::ixfr(&asked, zone, served.since(have)),
            None => Outgoing::axfr(&asked, zone),
        };
        let outgoing = outgoing.expiring_in(served.expires_in_s(request.now_ms));
        Ok((asked, serial, outgoing))
    }

    /// An error reply, signed if the request was.
    fn refuse(
        &self,
        request: Verified<'_>,
        rcode: Rcode,
        view: &View,
        reply: &mut [u8],
    ) -> Reaction {
        match answer::refuse(request.message, rcode, &request.via(), view, reply) {
            Some(len) => self.sign(request, reply, len, rcode),
            None => self.silent(Silence::Runt),
        }
    }

    /// Signs a reply if its request was, and counts it.
    pub(super) fn sign(
        &self,
        request: Verified<'_>,
        reply: &mut [u8],
        len: usize,
        rcode: Rcode,
    ) -> Reaction {
        let signed = match request.signer {
            Some(mut signer) => signer.sign(reply, len, now_s()),
            None => Ok(len),
        };
        match signed {
            Ok(len) => Reaction::Reply(self.count(&reply[..len], rcode)),
            Err(_) => self.silent(Silence::NoRoom),
        }
    }

    fn silent(&self, why: Silence) -> Reaction {
        self.counters.served.silent.add_shared(1);
        Reaction::Silent(why)
    }

    /// Counts a reply; its length.
    pub(super) fn count(&self, reply: &[u8], rcode: Rcode) -> usize {
        let served = &self.counters.served;
        served.replies.add_shared(1);
        served.reply_octets.add_shared(reply.len() as u64);
        served.truncated.add_shared(u64::from(worker::is_truncated(reply)));
        self.counters.rcode(rcode.0).add_shared(1);
        reply.len()
    }
}

/// Is this an UPDATE, by its header?
pub(super) fn is_update(message: &[u8]) -> bool {
    let opcode = read_u16(message, 2).map(|flags| flags >> flag::OPCODE_SHIFT & 0xf);
    opcode == Some(Opcode::UPDATE.0.into())
}

/// The zone that an UPDATE is of, if it is one of ours.
fn updated_zone<'v>(message: &[u8], view: &'v View) -> Option<&'v Arc<Served>> {
    view.zone(Query::read(message).ok()?.question?.name)
}

/// May this client send this UPDATE without a signature?
fn may_update_unsigned(message: &[u8], peer: SocketAddr, view: &View) -> bool {
    updated_zone(message, view).is_some_and(|served| served.access.update.allows(peer.ip(), None))
}

/// Tells of a request that was refused, and not of all of them: anybody can send them.
fn warn_seldom(peer: SocketAddr, what: &str, error: &str) {
    static TOLD: Seldom = Seldom::new();
    if TOLD.is_due() {
        warn!(%peer, %error, "{what} (told once a second at most)");
    }
}

/// A time in units of 100 ms, as the option that tells it counts (RFC 7828 section 3.1).
fn tenths(time: Duration) -> u16 {
    u16::try_from(time.as_millis() / 100).unwrap_or(u16::MAX)
}
