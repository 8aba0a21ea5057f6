//! A client's connection.
//!
//! It goes in steps: read what is there, react to the complete messages, write the replies at
//! once. A step that waits for octets has no buffer, and one that has them does not wait, so all
//! connections of a thread share the buffers. What is left over is kept: an incomplete message,
//! and replies that the client does not take in yet.

use super::Shared;
use super::forward::Forward;
use super::places::Place;
use super::service::{From, Reaction};
use super::transfer::Transfer;
use crate::answer::{Silence, Transport};
use socket2::SockRef;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tracing::debug;

/// Octets of the longest message with its length.
const FRAME_MAX: usize = 2 + 65535;

/// So many octets of a transfer may wait in the kernel to be sent. With the megabytes that it would
/// take, a client that reads little by little seems not to read at all.
const UNSENT_MAX: u32 = 128 * 1024;

/// How many messages a step reacts to before others have their turn.
const MESSAGES_MAX: usize = 64;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        input: vec![0; FRAME_MAX].into(),
        output: vec![0; 2 * FRAME_MAX].into(),
    });
}

/// The buffers that all connections of a thread share.
struct Scratch {
    /// Room for one message.
    input: Box<[u8]>,
    /// Room for one reply more than is written at once.
    output: Box<[u8]>,
}

pub(super) struct Connection {
    shared: Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    /// What came and was not reacted to.
    held: Vec<u8>,
    /// What the client did not take in.
    unsent: Vec<u8>,
}

/// What a step led to.
struct Step {
    /// It reacted to some message.
    reacted: bool,
    then: Then,
}

enum Then {
    /// Another step, when something has come.
    Wait,
    /// Another step at once: there is another message.
    GoOn,
    /// A transfer, then the rest.
    Transfer(Box<Transfer>),
    /// What a primary says, then the rest.
    Forward(Box<Forward>),
    /// The end.
    Close,
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>, stream: TcpStream, peer: SocketAddr) -> Self {
        Self { shared, stream, peer, held: Vec::new(), unsent: Vec::new() }
    }

    /// Serves it to its end, or until `place` is taken away.
    pub(super) async fn run(mut self, place: Place) {
        if let Err(error) = self.converse(&place).await {
            debug!(peer = %self.peer, %error, "the connection broke");
        }
    }

    async fn converse(&mut self, place: &Place) -> io::Result<()> {
        loop {
            let step = tokio::select! {
                biased;
                () = place.closed() => return Ok(()),
                step = poll_fn(|cx| self.step(cx)) => step?,
            };
            let is_long = matches!(step.then, Then::Transfer(_) | Then::Forward(_));
            let has_work = !self.unsent.is_empty() || is_long;
            if has_work && !place.work() {
                return Ok(());
            }
            self.flush().await?;
            match step.then {
                Then::Close => return Ok(()),
                // Rare and large: an idle connection has no room for it.
                Then::Transfer(transfer) => Box::pin(self.send(*transfer)).await?,
                Then::Forward(forward) => Box::pin(self.forward(*forward)).await?,
                Then::GoOn => tokio::task::yield_now().await,
                Then::Wait => {}
            }
            if (step.reacted || has_work) && !place.rest(Instant::now()) {
                return Ok(());
            }
        }
    }

    /// Has the client take in what it did not take in at once.
    async fn flush(&mut self) -> io::Result<()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        let unsent = std::mem::take(&mut self.unsent);
        let write_max = self.shared.settings.load().write;
        timeout(write_max, self.stream.write_all(&unsent)).await?
    }

    async fn send(&mut self, transfer: Transfer) -> io::Result<()> {
        // Where that cannot be had, a slow client may look like one that has stopped.
        let _ = SockRef::from(&self.stream).set_tcp_notsent_lowat(UNSENT_MAX);
        let settings = self.shared.settings.load_full();
        transfer.run(&self.shared.service, &settings, &mut self.stream).await
    }

    async fn forward(&mut self, forward: Forward) -> io::Result<()> {
        if let Some(reply) = forward.reply(&self.shared.service).await {
            let len = u16::try_from(reply.len()).expect("it came, or was made, with such a length");
            self.unsent = [&len.to_be_bytes()[..], &reply].concat();
            self.flush().await?;
        }
        Ok(())
    }

    fn step(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Step>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let Some(len) = ready!(self.read(cx, &mut scratch.input))? else {
                return Poll::Ready(Ok(Step { reacted: false, then: Then::Close }));
            };
            let mut input = &mut scratch.input[..len];
            let (step, written) = self.react(&mut input, &mut scratch.output);
            // An empty vector has no memory.
            self.held = input.to_vec();
            self.write(&scratch.output[..written])?;
            Poll::Ready(Ok(step))
        })
    }

    /// Reads behind what is held, unless that is a message already. How many octets there are
    /// then; `None`: the client has closed.
    fn read(&mut self, cx: &mut Context<'_>, input: &mut [u8]) -> Poll<io::Result<Option<usize>>> {
        let held = self.held.len();
        input[..held].copy_from_slice(&self.held);
        if is_whole(&self.held) {
            return Poll::Ready(Ok(Some(held)));
        }
        let mut space = ReadBuf::new(&mut input[held..]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut space))?;
        let read = space.filled().len();
        Poll::Ready(Ok((read > 0).then_some(held + read)))
    }

    /// Reacts to the messages in `input`, which it leaves with the rest, and writes the replies to
    /// `output`: how many octets.
    fn react(&self, input: &mut &mut [u8], output: &mut [u8]) -> (Step, usize) {
        let service = &self.shared.service;
        let idle_max = Some(self.shared.places.idle_max());
        let from = From { transport: Transport::Tcp, peer: self.peer, idle_max };
        let view = service.views.load();
        let mut written = 0;
        for messages in 0..MESSAGES_MAX {
            let step = |then| Step { reacted: messages > 0, then };
            let Some(message) = take(input) else {
                return (step(Then::Wait), written);
            };
            if message.is_empty() {
                return (step(Then::Close), written);
            }
            let served = &service.counters.served;
            served.requests.add_shared(1);
            served.request_octets.add_shared(message.len() as u64);
            let (length, reply) = output[written..][..FRAME_MAX].split_at_mut(2);
            match service.react(message, from, &view, reply) {
                Reaction::Silent(Silence::Runt) => return (step(Then::Close), written),
                Reaction::Silent(_) => {}
                Reaction::Reply(len) => {
                    let len16 = u16::try_from(len).expect("the room for a reply is as large");
                    length.copy_from_slice(&len16.to_be_bytes());
                    written += 2 + len;
                }
                Reaction::Transfer(transfer) => return (step(Then::Transfer(transfer)), written),
                Reaction::Forward(forward) => return (step(Then::Forward(forward)), written),
            }
            if written > FRAME_MAX {
                break;
            }
        }
        let then = if is_whole(input) { Then::GoOn } else { Then::Wait };
        (Step { reacted: true, then }, written)
    }

    /// Writes what the client takes in at once, and keeps the rest.
    fn write(&mut self, output: &[u8]) -> io::Result<()> {
        if output.is_empty() {
            return Ok(());
        }
        let written = match self.stream.try_write(output) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            written => written?,
        };
        self.unsent = output[written..].to_vec();
        Ok(())
    }
}

/// Does it begin with a whole message?
fn is_whole(input: &[u8]) -> bool {
    frame_len(input).is_some_and(|len| len <= input.len())
}

/// How many octets the first message has, with its length.
fn frame_len(input: &[u8]) -> Option<usize> {
    let length = input.first_chunk::<2>()?;
    Some(2 + usize::from(u16::from_be_bytes(*length)))
}

/// Takes the first message off, if it is whole.
fn take<'m>(input: &mut &'m mut [u8]) -> Option<&'m mut [u8]> {
    let len = frame_len(input).filter(|&len| len <= input.len())?;
    let (frame, rest) = std::mem::take(input).split_at_mut(len);
    *input = rest;
    Some(&mut frame[2..])
}
