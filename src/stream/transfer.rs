//! A zone on its way out.
//!
//! A transfer runs as part of its connection's task, a message at a time: building one takes less
//! than a millisecond, then others have their turn. It holds the version that it sends, which
//! delays nobody. How many run at a time is limited; others wait, for a while.

use super::Settings;
use super::service::Service;
use crate::answer::{self, Transport, Via};
use crate::clock::{self, millis, now_s};
use crate::tsig::Signer;
use crate::wire::{Rcode, Serial};
use crate::xfr::{MESSAGE_MAX, Outgoing, TransferRequest, Unsendable, Way};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tracing::{error, info, warn};

/// A transfer that was asked for and may be had.
pub(super) struct Transfer {
    pub(super) outgoing: Outgoing,
    pub(super) asked: TransferRequest,
    /// The request without its signature, for an error reply.
    pub(super) request: Vec<u8>,
    pub(super) client: SocketAddr,
    /// The key's name, for the log.
    pub(super) key: String,
    pub(super) signer: Option<Box<Signer>>,
    /// The version that is sent.
    pub(super) serial: Serial,
}

/// Why a transfer ended early.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the client: {0}")]
    Client(#[from] io::Error),
    #[error(transparent)]
    Unsendable(#[from] Unsendable),
}

/// What was sent.
#[derive(Default)]
struct Sent {
    messages: u64,
    octets: u64,
}

impl Transfer {
    /// Sends it to `stream`, as one of the few that run at a time.
    ///
    /// # Errors
    /// If the connection is of no more use.
    pub(super) async fn run(
        mut self,
        service: &Service,
        settings: &Settings,
        stream: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<()> {
        let begun = Instant::now();
        let write_max = settings.write;
        let turn = timeout(settings.transfer_wait, settings.transfers.acquire()).await;
        let Ok(Ok(_permit)) = turn else {
            warn!(zone = %self.asked.apex, client = %self.client, "too many transfers at a time");
            return self.fail(service, write_max, stream).await;
        };
        service.stats.replicated.transfers_out.add_shared(1);
        let mut sent = Sent::default();
        let result = self.send(write_max, stream, &mut sent).await;
        service.stats.replicated.transfer_out_octets.add_shared(sent.octets);
        match result {
            Ok(()) => {
                self.tell(&sent, begun);
                Ok(())
            }
            Err(Broken::Unsendable(why)) if sent.messages == 0 => {
                error!(zone = %self.asked.apex, client = %self.client, %why, "transfer failed");
                self.fail(service, write_max, stream).await
            }
            Err(why) => {
                let Sent { messages, octets } = sent;
                warn!(
                    zone = %self.asked.apex, client = %self.client, messages, octets, %why,
                    "the transfer broke off"
                );
                Err(io::ErrorKind::ConnectionAborted.into())
            }
        }
    }

    async fn send(
        &mut self,
        write_max: Duration,
        stream: &mut (impl AsyncWrite + Unpin),
        sent: &mut Sent,
    ) -> Result<(), Broken> {
        let mut buffer = vec![0; 2 + MESSAGE_MAX];
        let reserve = self.signer.as_ref().map_or(0, |signer| signer.signature_len());
        while let Some(len) = self.outgoing.next(&mut buffer[2..], reserve)? {
            let len = match &mut self.signer {
                Some(signer) => {
                    signer.sign(&mut buffer[2..], len, now_s()).map_err(|_| Unsendable)?
                }
                None => len,
            };
            write(stream, &mut buffer[..2 + len], write_max).await?;
            sent.messages += 1;
            sent.octets += len as u64;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Replies SERVFAIL in its stead.
    async fn fail(
        mut self,
        service: &Service,
        write_max: Duration,
        stream: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<()> {
        let mut buffer = vec![0; 2 + MESSAGE_MAX];
        let via = Via {
            transport: Transport::Tcp,
            peer: self.client.ip(),
            now_ms: service.clock.now_ms(),
            key: self.signer.as_ref().map(|signer| signer.key().name()),
            reserved: self.signer.as_ref().map_or(0, |signer| signer.signature_len()),
            unix_s: clock::unix_s(),
            keepalive: None,
        };
        let (view, reply) = (service.views.load(), &mut buffer[2..]);
        let len = answer::refuse(&self.request, Rcode::SERVFAIL, &via, &view, reply);
        let mut len = len.ok_or(io::ErrorKind::InvalidData)?;
        if let Some(signer) = &mut self.signer {
            len = signer.sign(reply, len, now_s()).map_err(|_| io::ErrorKind::InvalidData)?;
        }
        service.count(&reply[..len], Rcode::SERVFAIL);
        write(stream, &mut buffer[..2 + len], write_max).await
    }

    fn tell(&self, sent: &Sent, begun: Instant) {
        let way = match (self.asked.have, self.outgoing.way()) {
            (_, Way::Soa) => "IXFR, up to date".to_owned(),
            (_, Way::Diffs { from }) => format!("IXFR from {from}"),
            (Some(have), Way::Whole) => format!("IXFR from {have}, but whole"),
            (None, Way::Whole) => "AXFR".to_owned(),
        };
        info!(
            zone = %self.asked.apex, client = %self.client, key = %self.key, %way,
            serial = self.serial.0, messages = sent.messages, octets = sent.octets,
            ms = millis(begun.elapsed()),
            "transferred out"
        );
    }
}

/// Writes a message, whose first two octets are for its length. The client has to take all of it
/// in within `write_max`.
async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &mut [u8],
    write_max: Duration,
) -> io::Result<()> {
    let len = u16::try_from(message.len() - 2).map_err(|_| io::ErrorKind::InvalidData)?;
    message[..2].copy_from_slice(&len.to_be_bytes());
    timeout(write_max, stream.write_all(message)).await?
}
