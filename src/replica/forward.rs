//! UPDATEs on their way to the primaries of a zone (RFC 2136 section 6), which decide.
//!
//! The primaries are asked one after the other, over TCP, those that do not answer last, until one
//! says what becomes of the UPDATE. Where none does, the first one's error is what the client gets.
//! A change that a primary has made is fetched from it at once.
//!
//! **Invariants.**
//! - *unchanged*: a message is forwarded as it came, but for its ID. A client's own signature is
//!   what tells the primary who it is (RFC 8945 section 5.5; the ID that was signed is in it), and
//!   one that signs nothing is never lent a key of ours, which may do more than the client may.
//! - *not twice*: it is sent over a connection of its own, to each primary once at the most, and to
//!   the next only when one has not answered, or cannot decide.
//! - *bounded*: so many are under way at once, each for so long.
//!
//! It looks at no record of an UPDATE: who may change what is for the primary to say.

use super::ask::{AskError, Primary, connect, is_unreachable, send};
use super::inbox::Inbox;
use super::limits::Limits;
use super::scheduler::{Done, Scheduler, What};
use super::{Update, dial};
use crate::name::NameBuf;
use crate::refresh::Event;
use crate::seldom::Seldom;
use crate::wire::{HEADER_LEN, Opcode, Rcode, flag, read_u16};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

/// How many are under way at once; clients whose UPDATE is one more are told to try again.
pub(super) const CONCURRENT: usize = 256;
/// How long connecting to one primary may take, until its answer is there, and all together.
const CONNECT: Duration = Duration::from_secs(2);
const EACH: Duration = Duration::from_secs(5);
const ALL: Duration = Duration::from_secs(10);

impl Scheduler {
    /// Has an UPDATE forwarded to the zone's primaries.
    pub(super) fn forward(&mut self, update: Update) {
        let Some(id) = self.zones.id(&update.apex) else { return };
        let Ok(place) = Arc::clone(&self.forwards).try_acquire_owned() else {
            let why = format!("{CONCURRENT} others are being forwarded");
            warn_seldom(&update.apex, update.peer, &why, "not forwarded");
            return;
        };
        let entry = self.entry(id);
        let epoch = entry.epoch;
        let known = entry.primaries.iter().enumerate();
        let mut primaries: Vec<_> = known.map(|(at, it)| (at, Arc::clone(&it.primary))).collect();
        let limits = Arc::clone(&self.limits);
        primaries.sort_by_key(|(_, primary)| limits.is_silent(primary.address.ip()).is_some());
        let done = self.done.clone();
        tokio::spawn(async move {
            let _place = place;
            if let Some(primary) = decided(update, &primaries, &limits).await {
                // At shutdown nobody wants to know any more.
                let _ = done.send(Done { id, epoch, what: What::Updated { primary } });
            }
        });
    }

    /// A primary has changed a zone, as one of its clients wished: as if it had told us.
    pub(super) fn updated(&mut self, id: usize, primary: usize) {
        self.on(id, Event::Notified { primary, serial: None });
        self.hurry(id);
    }
}

/// Has the primaries asked in this order, and the client told. Which of them has changed the zone.
async fn decided(
    update: Update,
    primaries: &[(usize, Arc<Primary>)],
    limits: &Limits,
) -> Option<usize> {
    let Update { apex, peer, message, reply: tell } = update;
    let end = Instant::now() + ALL;
    let (mut undecided, mut errors) = (None, String::new());
    for (at, primary) in primaries {
        let address = primary.address;
        match deliver(&message, primary, limits, end.min(Instant::now() + EACH)).await {
            Err(error) => write!(errors, "{address}: {error}; ").expect("a string grows"),
            Ok(reply) => {
                let rcode = rcode(&reply);
                if decides(rcode) {
                    tell_answered(&apex, peer, address, rcode);
                    // The client may have gone meanwhile.
                    let _ = tell.send(reply);
                    return (rcode == Rcode::NOERROR).then_some(*at);
                }
                write!(errors, "{address}: {rcode}; ").expect("a string grows");
                undecided.get_or_insert(reply);
            }
        }
        if Instant::now() >= end {
            break;
        }
    }
    warn_seldom(&apex, peer, errors.trim_end_matches("; "), "no primary has taken it");
    if let Some(reply) = undecided {
        let _ = tell.send(reply);
    }
    None
}

/// Asks one primary: its reply, with the client's ID.
async fn deliver(
    message: &[u8],
    primary: &Primary,
    limits: &Limits,
    until: Instant,
) -> Result<Vec<u8>, AskError> {
    let address = primary.address.ip();
    let asking = async {
        let options = limits.options();
        let connected = connect(primary, options.connect_timeout.min(CONNECT)).await;
        let stream = connected.inspect_err(|error| match error {
            AskError::Connect(error) if is_unreachable(error.kind()) => limits.silent(address),
            _ => {}
        })?;
        let mut request = message.to_vec();
        let id = dial::random_id().to_be_bytes();
        request[..2].copy_from_slice(&id);
        let mut inbox = Inbox::new(send(stream, &request, EACH).await?);
        let mut stretch = inbox.next(EACH).await?;
        let mut reply = stretch.next().ok_or(AskError::Closed)?.to_vec();
        if !is_reply(&reply, id) {
            return Err(AskError::NoReply);
        }
        reply[..2].copy_from_slice(&message[..2]);
        limits.heard(address);
        // What it has changed is asked for next.
        if let Some(stream) = inbox.into_stream().filter(|_| stretch.next().is_none()) {
            limits.connections.keep(primary, stream);
        }
        Ok(reply)
    };
    timeout_at(until, asking).await.unwrap_or(Err(AskError::TimeOut(EACH)))
}

/// Is it a reply to the UPDATE with this ID?
fn is_reply(message: &[u8], id: [u8; 2]) -> bool {
    let kind = 0xf << flag::OPCODE_SHIFT | flag::QR;
    let update = u16::from(Opcode::UPDATE.0) << flag::OPCODE_SHIFT | flag::QR;
    message.len() >= HEADER_LEN
        && message.starts_with(&id)
        && read_u16(message, 2).is_some_and(|flags| flags & kind == update)
}

fn rcode(reply: &[u8]) -> Rcode {
    Rcode(read_u16(reply, 2).unwrap_or(0) & 0xf)
}

/// Does a reply with this RCODE say what becomes of the UPDATE? Whoever refuses it, knows no
/// UPDATE or is not the zone's primary itself leaves that to others (RFC 2136 section 2.2).
fn decides(rcode: Rcode) -> bool {
    matches!(
        rcode,
        Rcode::NOERROR
            | Rcode::NXDOMAIN
            | Rcode::YXDOMAIN
            | Rcode::YXRRSET
            | Rcode::NXRRSET
            | Rcode::NOTZONE
    )
}

fn tell_answered(zone: &NameBuf, client: SocketAddr, primary: SocketAddr, rcode: Rcode) {
    static TOLD: Seldom = Seldom::new();
    if rcode == Rcode::NOERROR {
        info!(%zone, %client, %primary, %rcode, "UPDATE forwarded");
    } else if TOLD.is_due() {
        info!(%zone, %client, %primary, %rcode, "UPDATE forwarded, and not carried out (told once \
            a second at most)");
    }
}

fn warn_seldom(zone: &NameBuf, client: SocketAddr, why: &str, what: &str) {
    static TOLD: Seldom = Seldom::new();
    if TOLD.is_due() {
        warn!(%zone, %client, why, "UPDATE: {what} (told once a second at most)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::limits::Options;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::sync::oneshot;

    const UPDATE: &[u8] = b"\x12\x34\x28\0\0\x01\0\0\0\0\0\0\x07example\0\0\x06\0\x01";

    fn limits() -> Limits {
        Limits::new(Options {
            concurrent: 1,
            per_primary: 1,
            probes_a_second: 1,
            connect_timeout: EACH,
            stall_timeout: EACH,
            min_rate: 0,
        })
    }

    /// A primary that answers with this RCODE, or closes without an answer. What it was asked.
    async fn primary(rcode: Option<Rcode>) -> (Arc<Primary>, oneshot::Receiver<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, asked) = oneshot::channel();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let len = stream.read_u16().await.unwrap();
            let mut request = vec![0; len.into()];
            stream.read_exact(&mut request).await.unwrap();
            if let Some(rcode) = rcode {
                let mut reply = request.clone();
                reply[2] |= 0x80;
                reply[3] = rcode.0.to_be_bytes()[1];
                stream.write_all(&[&len.to_be_bytes()[..], &reply].concat()).await.unwrap();
            }
            let _ = tell.send(request);
        });
        (Arc::new(Primary { address, source: None, key: None }), asked)
    }

    /// What these primaries make of an UPDATE: what the client is told, and who has changed the
    /// zone.
    async fn forwarded(to: &[&Arc<Primary>]) -> (Option<Vec<u8>>, Option<usize>) {
        let (reply, told) = oneshot::channel();
        let apex: NameBuf = "example.".parse().unwrap();
        let peer = "192.0.2.1:5353".parse().unwrap();
        let update = Update { apex, peer, message: UPDATE.to_vec(), reply };
        let to: Vec<_> = to.iter().map(|&primary| Arc::clone(primary)).enumerate().collect();
        let changed = decided(update, &to, &limits()).await;
        (told.await.ok(), changed)
    }

    #[tokio::test]
    async fn it_arrives_as_it_came_with_another_id_and_the_reply_has_the_clients() {
        let (primary, asked) = primary(Some(Rcode::YXRRSET)).await;
        let (told, changed) = forwarded(&[&primary]).await;
        assert_eq!((told.as_deref().map(rcode), changed), (Some(Rcode::YXRRSET), None));
        let (told, asked) = (told.unwrap(), asked.await.unwrap());
        assert_eq!((&told[..2], &told[4..]), (&UPDATE[..2], &UPDATE[4..]));
        assert_eq!(asked[2..], UPDATE[2..]);
        assert_ne!(asked[..2], UPDATE[..2], "one in 65536 runs is unlucky");
    }

    #[tokio::test]
    async fn the_next_is_asked_when_one_is_not_there_or_does_not_decide() {
        // Bound, so that nobody else is there, and not listening.
        let closed = TcpSocket::new_v4().unwrap();
        closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = closed.local_addr().unwrap();
        let gone = Arc::new(Primary { address, source: None, key: None });
        let (mute, _) = primary(None).await;
        let (other, _) = primary(Some(Rcode::NOTIMP)).await;
        let (real, _) = primary(Some(Rcode::NOERROR)).await;
        let (last, mut asked) = primary(Some(Rcode::NOERROR)).await;
        let (told, changed) = forwarded(&[&gone, &mute, &other, &real, &last]).await;
        assert_eq!((told.as_deref().map(rcode), changed), (Some(Rcode::NOERROR), Some(3)));
        assert!(asked.try_recv().is_err(), "the first who decides is the last to be asked");
    }

    #[tokio::test]
    async fn the_first_refusal_is_passed_on_if_nobody_decides() {
        let (one, _) = primary(Some(Rcode::REFUSED)).await;
        let (other, _) = primary(Some(Rcode::NOTAUTH)).await;
        let (mute, _) = primary(None).await;
        let (told, changed) = forwarded(&[&mute, &one, &other]).await;
        assert_eq!((told.as_deref().map(rcode), changed), (Some(Rcode::REFUSED), None));
        assert_eq!(forwarded(&[&mute]).await, (None, None), "and nothing if nobody is there");
    }

    #[tokio::test]
    async fn one_that_says_nothing_is_not_waited_for_for_long() {
        let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = mute.local_addr().unwrap();
        let (real, _) = primary(Some(Rcode::NOERROR)).await;
        let silent = Arc::new(Primary { address, source: None, key: None });
        let (told, changed) = forwarded(&[&silent, &real]).await;
        assert_eq!((told.as_deref().map(rcode), changed), (Some(Rcode::NOERROR), Some(1)));
    }

    #[test]
    fn a_reply_is_told_from_other_messages() {
        let reply = b"\x12\x34\xa8\x05\0\x01\0\0\0\0\0\0";
        assert!(is_reply(reply, [0x12, 0x34]));
        assert!(!is_reply(reply, [0x12, 0x35]) && !is_reply(&reply[..11], [0x12, 0x34]));
        assert!(!is_reply(UPDATE, [0x12, 0x34]), "a request");
        assert!(!is_reply(b"\x12\x34\x84\0\0\x01\0\0\0\0\0\0", [0x12, 0x34]), "of a query");
    }
}
