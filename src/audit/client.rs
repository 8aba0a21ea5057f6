//! Putting questions to servers: over UDP, over TCP, and for the whole zone.

use super::message::{Fault, Question, Reply};
use crate::clock::now_s;
use crate::name::Name;
use crate::replica::dial;
use crate::tsig::{Key, Verifier};
use crate::xfr::{self, Incoming, Progress};
use crate::zone::Zone;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{timeout, timeout_at};

/// Conversations at a time.
const CONVERSATIONS_MAX: usize = 64;
/// Whole zones at a time: each is held in memory.
const TRANSFERS_MAX: usize = 2;
/// How long a whole zone may take.
const TRANSFER_TIME: Duration = Duration::from_secs(60);
/// How often a datagram is sent.
const TRIES: u32 = 2;

/// Where a server is, and how it is talked to.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// Where questions come from.
    pub(super) source: Option<SocketAddr>,
    /// What they are signed with.
    pub(super) key: Option<Arc<Key>>,
}

/// Asks; waits no longer than its patience for one reply.
pub(super) struct Client {
    patience: Duration,
    conversations: Semaphore,
    transfers: Semaphore,
}

impl Client {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            conversations: Semaphore::new(CONVERSATIONS_MAX),
            transfers: Semaphore::new(TRANSFERS_MAX),
        }
    }

    /// Over UDP; over TCP if the reply is truncated.
    pub(super) async fn ask(&self, peer: &Peer, question: &Question<'_>) -> Result<Reply, Fault> {
        match self.udp(peer, question).await {
            Ok((reply, _)) if reply.is_truncated() => Ok(self.tcp(peer, question).await?.0),
            Ok((reply, _)) => Ok(reply),
            Err(fault) => Err(fault),
        }
    }

    /// The reply over UDP, and how long it took.
    pub(super) async fn udp(
        &self,
        peer: &Peer,
        question: &Question<'_>,
    ) -> Result<(Reply, Duration), Fault> {
        let _place = self.conversations.acquire().await.expect("it is never closed");
        for _ in 1..TRIES {
            match self.datagram(peer, question).await {
                Err(Fault::TimedOut(_)) => {}
                other => return other,
            }
        }
        self.datagram(peer, question).await
    }

    async fn datagram(
        &self,
        peer: &Peer,
        question: &Question<'_>,
    ) -> Result<(Reply, Duration), Fault> {
        let socket = dial::udp(peer.address, peer.source).await?;
        let mut asked = Asked::new(peer, question);
        let began = Instant::now();
        socket.send(&asked.request).await?;
        let until = tokio::time::Instant::now() + self.patience;
        let mut buffer = vec![0; usize::from(u16::MAX)];
        while let Ok(len) = timeout_at(until, socket.recv(&mut buffer)).await {
            // What is not ours is late, or forged: the reply may still come.
            if let Some(reply) = asked.read(&mut buffer[..len?], question)? {
                return Ok((reply, began.elapsed()));
            }
        }
        Err(Fault::TimedOut(self.patience))
    }

    /// The reply over TCP, and how long it took, connecting included.
    pub(super) async fn tcp(
        &self,
        peer: &Peer,
        question: &Question<'_>,
    ) -> Result<(Reply, Duration), Fault> {
        let _place = self.conversations.acquire().await.expect("it is never closed");
        let began = Instant::now();
        let conversation = async {
            let mut asked = Asked::new(peer, question);
            let mut stream = dial::tcp(peer.address, peer.source).await?;
            dial::send(&mut stream, &asked.request).await?;
            let mut message = Vec::new();
            receive(&mut stream, &mut message).await?;
            asked.read(&mut message, question)?.ok_or(Fault::Malformed)
        };
        match timeout(self.patience, conversation).await {
            Ok(reply) => Ok((reply?, began.elapsed())),
            Err(_) => Err(Fault::TimedOut(self.patience)),
        }
    }

    /// The whole zone, if it has no more than `max_octets`.
    pub(super) async fn transfer(
        &self,
        peer: &Peer,
        apex: Name<'_>,
        max_octets: u64,
    ) -> Result<Zone, Fault> {
        let _place = self.transfers.acquire().await.expect("it is never closed");
        let conversation = async {
            let id = dial::random_id();
            let mut request = xfr::axfr_query(id, apex);
            let mut verifier = peer.key.as_ref().map(|key| key.sign_request(&mut request, now_s()));
            let mut incoming = Incoming::axfr(apex, id, max_octets);
            let mut stream = dial::tcp(peer.address, peer.source).await?;
            dial::send(&mut stream, &request).await?;
            let mut message = Vec::new();
            loop {
                let more = timeout(self.patience, receive(&mut stream, &mut message)).await;
                more.map_err(|_| Fault::TimedOut(self.patience))??;
                let verified = match &mut verifier {
                    Some(verifier) => verifier.verify(&mut message, now_s())?,
                    None => &message,
                };
                if let Progress::Whole(builder, _) = incoming.message(verified)? {
                    verifier.map_or(Ok(()), |verifier| verifier.finish())?;
                    return Ok(builder.build()?);
                }
            }
        };
        match timeout(TRANSFER_TIME, conversation).await {
            Ok(zone) => zone,
            Err(_) => Err(Fault::TimedOut(TRANSFER_TIME)),
        }
    }
}

/// A question on its way.
struct Asked {
    id: u16,
    request: Vec<u8>,
    verifier: Option<Verifier>,
}

impl Asked {
    fn new(peer: &Peer, question: &Question<'_>) -> Self {
        let id = dial::random_id();
        let mut request = question.write(id);
        let verifier = peer.key.as_ref().map(|key| key.sign_request(&mut request, now_s()));
        Self { id, request, verifier }
    }

    fn read(
        &mut self,
        message: &mut [u8],
        question: &Question<'_>,
    ) -> Result<Option<Reply>, Fault> {
        if !message.starts_with(&self.id.to_be_bytes()) {
            return Ok(None);
        }
        match &mut self.verifier {
            Some(verifier) => Reply::read(verifier.verify(message, now_s())?, self.id, question),
            None => Reply::read(message, self.id, question),
        }
    }
}

async fn receive(stream: &mut TcpStream, message: &mut Vec<u8>) -> Result<(), Fault> {
    let closed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Fault::Lost("it closed the connection".into()),
        _ => error.into(),
    };
    let len = stream.read_u16().await.map_err(closed)?;
    message.resize(usize::from(len), 0);
    stream.read_exact(message).await.map_err(closed)?;
    Ok(())
}
