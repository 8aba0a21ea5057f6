//! Where a worker's requests are answered, a batch at a time.
//!
//! **How it fits.** A port hands over what came ([`Serve`]). What was asked a moment ago gets the
//! same reply again ([`Recent`]); of the rest, some requests are [read](Asked::read) and then each
//! is [answered](Asked::respond). What any of them would be told, a [`Limiter`] may hold back.
//!
//! **Invariants.**
//! - *one view, one time*: a batch is answered from one view and as of one moment.
//! - *once a batch*: what costs the same for one packet and for many is done once: the view, the
//!   clock ([`Watch`]), the guard against panics, the publication of what was counted.
//! - *survives a bug*: a panic ends the answering of its request only. The others of the batch are
//!   answered.
//!
//! **Sections.** RFC 1035 section 4.1.1 (the SERVFAIL).

use super::watch::Watch;
use super::{Deferred, Shared, panics};
use crate::answer::{self, AT_ONCE, Asked, Outcome, Recent, Vacancy, Via};
use crate::io::{Courier, Packet, Serve};
use crate::limit::{Limiter, Subject, Verdict};
use crate::stats::{self, Tally};
use crate::view::{RateLimit, Reader, View};
use crate::wire::{HEADER_LEN, Rcode, flag};
use arrayvec::ArrayVec;
use crossbeam::utils::CachePadded;
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use tokio::sync::mpsc;

/// The two halves of answering: tests have others, with bugs.
pub(super) trait Answering {
    #[inline]
    fn read<'a>(&self, asked: &mut Asked<'a>, request: &'a [u8], view: &'a View) {
        asked.read(request, view);
    }

    #[inline]
    fn respond(&self, asked: &Asked<'_>, via: &Via<'_>, reply: &mut [u8]) -> Outcome {
        asked.respond(via, reply)
    }
}

/// As `answer` does it.
pub(super) struct AsEver;

impl Answering for AsEver {}

/// What a worker answers with.
pub(super) struct Desk {
    pub(super) view: Reader,
    pub(super) counters: Arc<CachePadded<stats::Worker>>,
    pub(super) courier: Courier,
    watch: Watch,
    deferred: mpsc::Sender<Deferred>,
    recent: Recent,
    /// As the view that was last answered from says.
    limiter: Option<Limiter>,
}

impl Desk {
    /// Answers from the newest view; `name` is what its counters are called.
    pub(super) fn new(shared: &Shared, name: String, courier: Courier) -> Self {
        Self {
            view: shared.views.reader(),
            counters: shared.stats.worker(name),
            courier,
            watch: Watch::new(shared.clock),
            deferred: shared.deferred.clone(),
            recent: Recent::new(u64::from_ne_bytes(random())),
            limiter: None,
        }
    }

    /// Answers a batch.
    pub(super) fn serve_with(&mut self, batch: &mut [Packet<'_>], answering: impl Answering) {
        let time = self.watch.begin();
        let view = self.view.refresh();
        set_limit(&mut self.limiter, view.identity.rate_limit.as_ref());
        self.recent.begin(view.version(), time.now_ms);
        let via = Via::datagram(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let mut sitting = Sitting {
            view,
            via: Via { now_ms: time.now_ms, unix_s: time.unix_s, ..via },
            recent: &mut self.recent,
            limiter: self.limiter.as_mut(),
            tally: Tally::default(),
            counters: &self.counters,
            deferred: &self.deferred,
            courier: &self.courier,
            answering,
        };
        let mut asked = ArrayVec::<_, AT_ONCE>::new();
        // Which packets were read into `asked`, and where what they get may be kept.
        let mut waiting = ArrayVec::<(usize, Option<Vacancy>), AT_ONCE>::new();
        let (mut next, mut answered) = (0, 0);
        loop {
            let at_hand = Cell::new(0);
            let survived = panics::survive(|| {
                while next < batch.len() || answered < waiting.len() {
                    while next < batch.len() && !waiting.is_full() {
                        let at = next;
                        at_hand.set(at);
                        next += 1;
                        if asked.len() == waiting.len() {
                            asked.push(Asked::new());
                        }
                        if let Err(to) = sitting.take(&mut batch[at], &mut asked[waiting.len()]) {
                            waiting.push((at, to));
                        }
                    }
                    while let Some(&(at, to)) = waiting.get(answered) {
                        at_hand.set(at);
                        answered += 1;
                        sitting.answer(&mut batch[at], &asked[answered - 1], to);
                    }
                    waiting.clear();
                    answered = 0;
                }
            });
            match survived {
                Some(()) => break,
                None => sitting.apologise(&mut batch[at_hand.get()]),
            }
        }
        self.counters.count(&sitting.tally);
        let (took, count) = (self.watch.end(time, batch.len()), batch.len() as u64);
        // Each of them leaves with the last.
        self.counters.latency.record(took, count);
    }
}

impl Serve for Desk {
    fn serve(&mut self, batch: &mut [Packet<'_>]) {
        self.serve_with(batch, AsEver);
    }
}

/// The answering of one batch.
struct Sitting<'d, A> {
    view: &'d View,
    via: Via<'static>,
    recent: &'d mut Recent,
    limiter: Option<&'d mut Limiter>,
    tally: Tally,
    counters: &'d stats::Worker,
    deferred: &'d mpsc::Sender<Deferred>,
    courier: &'d Courier,
    answering: A,
}

impl<'d, A: Answering> Sitting<'d, A> {
    /// Gives a request the reply that one like it had a moment ago; or reads it, to be answered,
    /// and tells where the answer may be kept.
    #[inline]
    fn take<'a, 'p: 'a>(
        &mut self,
        packet: &mut Packet<'p>,
        asked: &mut Asked<'a>,
    ) -> Result<(), Option<Vacancy>>
    where
        'd: 'a,
    {
        self.tally.request(packet.request.len());
        self.via.peer = packet.route.peer.ip();
        let again = self.recent.repeat(packet.request, &self.via, packet.reply);
        match again {
            Ok(outcome) => {
                self.tally.repeat();
                self.conclude(packet, outcome);
            }
            Err(_) => self.answering.read(asked, packet.request, self.view),
        }
        again.map(|_| ())
    }

    /// Answers a request that was read.
    #[inline]
    fn answer(&mut self, packet: &mut Packet<'_>, asked: &Asked<'_>, to: Option<Vacancy>) {
        self.via.peer = packet.route.peer.ip();
        let outcome = self.answering.respond(asked, &self.via, packet.reply);
        if let Some(at) = to {
            self.recent.keep(at, packet.request, &self.via, packet.reply, outcome);
        }
        self.conclude(packet, outcome);
    }

    /// Does what a request's outcome calls for.
    #[inline]
    fn conclude(&mut self, packet: &mut Packet<'_>, outcome: Outcome) {
        match outcome {
            Outcome::Reply { len, rcode, kind, zone, known_client, .. } => {
                let verdict = match &mut self.limiter {
                    Some(limiter) if !known_client => {
                        let subject = Subject { peer: self.via.peer, zone, kind };
                        limiter.judge(&subject, self.via.now_ms)
                    }
                    _ => Verdict::Send,
                };
                match verdict {
                    Verdict::Send => self.send(packet, len, rcode),
                    over => self.limit(packet, over, len, rcode),
                }
            }
            Outcome::Silent(_) => self.counters.served.silent.add(1),
            Outcome::Defer(_) => self.hand_on(packet),
        }
    }

    #[inline]
    fn send(&mut self, packet: &mut Packet<'_>, len: usize, rcode: Rcode) {
        packet.reply_len = len;
        self.tally.reply(self.counters, len, is_truncated(packet.reply), rcode.0);
    }

    /// Does with a reply over the limit what is to be done.
    #[cold]
    fn limit(&mut self, packet: &mut Packet<'_>, verdict: Verdict, len: usize, rcode: Rcode) {
        let served = &self.counters.served;
        if verdict == Verdict::SendOver {
            served.limited_dry_run.add(1);
            return self.send(packet, len, rcode);
        }
        served.limited.add(1);
        if verdict == Verdict::Slip
            && let Some(len) = answer::truncate(packet.request, &self.via, self.view, packet.reply)
        {
            served.slipped.add(1);
            self.send(packet, len, Rcode::NOERROR);
        }
    }

    /// Hands a request on to who decides it, if there is a place.
    #[cold]
    fn hand_on(&self, packet: &Packet<'_>) {
        self.counters.served.deferred.add(1);
        match self.deferred.try_reserve() {
            Ok(place) => place.send(Deferred {
                request: packet.request.to_vec(),
                route: *packet.route,
                courier: self.courier.clone(),
            }),
            Err(_) => self.counters.served.deferred_dropped.add(1),
        }
    }

    /// Answers a request whose answering panicked.
    #[cold]
    fn apologise(&mut self, packet: &mut Packet<'_>) {
        self.counters.served.panics.add(1);
        panics::tell(packet.request);
        if let Some(len) = failure(packet.request, packet.reply) {
            self.send(packet, len, Rcode::SERVFAIL);
        }
    }
}

/// Makes the limiter what the settings say. What it knew goes with settings that have changed.
fn set_limit(limiter: &mut Option<Limiter>, settings: Option<&Arc<RateLimit>>) {
    let Some(settings) = settings else {
        *limiter = None;
        return;
    };
    if !limiter.as_mut().is_some_and(|limiter| limiter.follows(settings)) {
        *limiter = Some(Limiter::new(Arc::clone(settings), &random()));
    }
}

/// Octets that nobody foresees.
fn random<const N: usize>() -> [u8; N] {
    let mut octets = [0; N];
    getrandom::fill(&mut octets).expect("the kernel gives random numbers");
    octets
}

/// Does this reply say that it is not all?
#[inline]
pub(crate) fn is_truncated(reply: &[u8]) -> bool {
    reply.get(2).is_some_and(|&octet| octet & (flag::TC >> 8) as u8 != 0)
}

/// Writes a SERVFAIL that is a header alone, for a request that cannot be trusted to be readable.
/// Its length; `None` for what must get no reply: responses, and what has no header.
pub(crate) fn failure(request: &[u8], reply: &mut [u8]) -> Option<usize> {
    let header = request.first_chunk::<HEADER_LEN>()?;
    let flags = u16::from_be_bytes([header[2], header[3]]);
    if flags & flag::QR != 0 {
        return None;
    }
    let kept = flags & (0xf << flag::OPCODE_SHIFT | flag::RD);
    let reply = reply.first_chunk_mut::<HEADER_LEN>()?;
    reply.fill(0);
    reply[..2].copy_from_slice(&header[..2]);
    reply[2..4].copy_from_slice(&(kept | flag::QR | Rcode::SERVFAIL.0).to_be_bytes());
    Some(HEADER_LEN)
}
