//! Where a worker's requests are answered, a batch at a time.
//!
//! **How it fits.** A port hands over what came ([`Serve`]); some requests are [read](Asked::read)
//! and then each is [answered](Asked::respond), and what that says, a [`Limiter`] may hold back.
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
use crate::answer::{self, AT_ONCE, Asked, Outcome, Via};
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
            limiter: None,
        }
    }

    /// Answers a batch.
    pub(super) fn serve_with(&mut self, batch: &mut [Packet<'_>], answering: impl Answering) {
        let time = self.watch.begin();
        let view = self.view.refresh();
        set_limit(&mut self.limiter, view.identity.rate_limit.as_ref());
        let via = Via::datagram(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let mut sitting = Sitting {
            view,
            via: Via { now_ms: time.now_ms, unix_s: time.unix_s, ..via },
            limiter: self.limiter.as_mut(),
            tally: Tally::default(),
            counters: &self.counters,
            deferred: &self.deferred,
            courier: &self.courier,
        };
        let mut asked = ArrayVec::<_, AT_ONCE>::new();
        let (mut next, mut at_once) = (0, AT_ONCE);
        while next < batch.len() {
            let reading = Cell::new(false);
            let survived = panics::survive(|| {
                while next < batch.len() {
                    let some = next..batch.len().min(next + at_once);
                    reading.set(true);
                    for (at, packet) in batch[some.clone()].iter().enumerate() {
                        if at == asked.len() {
                            asked.push(Asked::new());
                        }
                        answering.read(&mut asked[at], packet.request, view);
                    }
                    reading.set(false);
                    for (asked, packet) in asked.iter().zip(&mut batch[some]) {
                        next += 1;
                        sitting.tally.request(packet.request.len());
                        sitting.via.peer = packet.route.peer.ip();
                        let outcome = answering.respond(asked, &sitting.via, packet.reply);
                        sitting.conclude(packet, outcome);
                    }
                }
            });
            match survived {
                Some(()) => {}
                // Which of them it was shows if they are read one by one.
                None if reading.get() && at_once > 1 => at_once = 1,
                None => {
                    next += usize::from(reading.get());
                    sitting.apologise(&mut batch[next - 1]);
                }
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
struct Sitting<'d> {
    view: &'d View,
    via: Via<'static>,
    limiter: Option<&'d mut Limiter>,
    tally: Tally,
    counters: &'d stats::Worker,
    deferred: &'d mpsc::Sender<Deferred>,
    courier: &'d Courier,
}

impl Sitting<'_> {
    /// Does what a request's outcome calls for.
    #[inline]
    fn conclude(&mut self, packet: &mut Packet<'_>, outcome: Outcome) {
        match outcome {
            Outcome::Reply { len, rcode, kind, zone, known_client } => {
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
        let mut key = [0; 16];
        getrandom::fill(&mut key).expect("the kernel gives random numbers");
        *limiter = Some(Limiter::new(Arc::clone(settings), &key));
    }
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
