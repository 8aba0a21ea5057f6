//! Asking a primary for its serial, and for signs that it has other data under ours: over UDP,
//! and over TCP if that brings nothing.

use super::ask::{AskError, Asked, Job, begin, refused};
use super::dial;
use super::limits::Limits;
use super::sameness::{self, Difference};
use crate::clock::now_s;
use crate::tsig::Verifier;
use crate::wire::{Rtype, Serial};
use crate::xfr::{self, XfrError};
use crate::zone::Zone;
use std::time::Duration;
use tokio::time::timeout_at;

/// How long a datagram's answer is waited for, attempt by attempt.
pub(super) const PROBE_WAITS: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(3)];
/// The largest datagram that we take.
const PROBE_SIZE: usize = 1232;

/// The primary's serial: over UDP, or over TCP if that brings nothing.
pub(super) async fn probe(
    job: &Job,
    limits: &Limits,
    edns: bool,
    asked: &mut Asked,
) -> Result<Serial, AskError> {
    let judged = job.have.as_ref().filter(|_| job.is_source);
    let signed = judged.is_some_and(|zone| sameness::is_signed(zone));
    let request = |id| {
        let mut request = xfr::soa_query(id, job.apex.as_name(), None);
        if edns {
            xfr::extend(&mut request, signed);
        }
        request
    };
    let reply = exchange(job, limits, Rtype::SOA, &request).await?;
    asked.expire_s = xfr::read_extended(&reply.message).expire_s;
    let apex = job.apex.as_name();
    let serial = xfr::parse_soa_reply(&reply.message, reply.id, apex)?.serial;
    if let Some(zone) = judged.filter(|zone| zone.serial() == serial) {
        if sameness::has_newer_signatures(zone, &xfr::signatures_of_soa(&reply.message, apex)) {
            asked.difference = Some(Difference::Signatures);
        } else if sameness::has_digest(zone) {
            asked.difference = other_digest(job, limits, zone).await;
        }
    }
    Ok(serial)
}

/// Asks for the primary's digest of the zone. What goes wrong with that is of no importance.
async fn other_digest(job: &Job, limits: &Limits, zone: &Zone) -> Option<Difference> {
    let request = |id| {
        let mut request = xfr::query(id, job.apex.as_name(), Rtype::ZONEMD);
        xfr::extend(&mut request, false);
        request
    };
    let reply = exchange(job, limits, Rtype::ZONEMD, &request).await.ok()?;
    let apex = job.apex.as_name();
    let theirs = xfr::parse_records_reply(&reply.message, reply.id, apex, Rtype::ZONEMD).ok()?;
    sameness::has_other_digest(zone, &theirs).then_some(Difference::Digest)
}

/// A reply, its signature verified and taken off.
struct Reply {
    id: u16,
    message: Vec<u8>,
}

/// Asks a question for the apex's records, over UDP, or over TCP if that brings nothing.
async fn exchange(
    job: &Job,
    limits: &Limits,
    rtype: Rtype,
    request: &(dyn Fn(u16) -> Vec<u8> + Sync),
) -> Result<Reply, AskError> {
    match exchange_udp(job, rtype, request).await {
        Err(AskError::TimeOut(_) | AskError::Io(_) | AskError::Transfer(XfrError::Truncated)) => {
            exchange_tcp(job, limits, rtype, request).await
        }
        other => other,
    }
}

async fn exchange_udp(
    job: &Job,
    rtype: Rtype,
    request: &(dyn Fn(u16) -> Vec<u8> + Sync),
) -> Result<Reply, AskError> {
    let primary = &job.primary;
    let socket = dial::udp(primary.address, primary.source).await?;
    let mut reply = vec![0; PROBE_SIZE];
    for wait in PROBE_WAITS {
        let (id, request, mut verifier) = signed(job, request);
        socket.send(&request).await?;
        let until = tokio::time::Instant::now() + wait;
        while let Ok(len) = timeout_at(until, socket.recv(&mut reply)).await {
            match read_reply(job, id, rtype, &mut reply[..len?], verifier.as_mut()) {
                // Not the reply to this question: a late one, or forged.
                Err(AskError::Transfer(XfrError::NotOurs)) => {}
                other => return other,
            }
        }
    }
    Err(AskError::TimeOut(PROBE_WAITS.iter().sum()))
}

async fn exchange_tcp(
    job: &Job,
    limits: &Limits,
    rtype: Rtype,
    request: &(dyn Fn(u16) -> Vec<u8> + Sync),
) -> Result<Reply, AskError> {
    let (id, request, mut verifier) = signed(job, request);
    let mut inbox = begin(job, limits, &request).await?;
    let mut stretch = inbox.next(limits.options().stall_timeout).await?;
    let reply = stretch.next().ok_or(AskError::Closed)?;
    let reply = read_reply(job, id, rtype, reply, verifier.as_mut())?;
    if let Some(stream) = inbox.into_stream().filter(|_| stretch.next().is_none()) {
        limits.connections.keep(&job.primary, stream);
    }
    Ok(reply)
}

/// A request with an id of its own, signed if it must be.
fn signed(
    job: &Job,
    request: &(dyn Fn(u16) -> Vec<u8> + Sync),
) -> (u16, Vec<u8>, Option<Verifier>) {
    let id = dial::random_id();
    let mut request = request(id);
    let key = job.primary.key.as_ref();
    let verifier = key.map(|key| key.sign_request(&mut request, now_s()));
    (id, request, verifier)
}

fn read_reply(
    job: &Job,
    id: u16,
    rtype: Rtype,
    reply: &mut [u8],
    verifier: Option<&mut Verifier>,
) -> Result<Reply, AskError> {
    let message = match verifier {
        Some(verifier) => verifier.verify(reply, now_s())?,
        None => reply,
    };
    let read = xfr::parse_records_reply(message, id, job.apex.as_name(), rtype);
    read.map_err(|error| refused(error, message))?;
    Ok(Reply { id, message: message.to_vec() })
}
