//! The reference backend: recvmmsg and sendmmsg.
//!
//! **How it fits.** [`super::Port`] turns it. A turn asks the sockets that had something, one after
//! the other, until the batch is full; it sleeps in ppoll only once all of them are empty, as a
//! vain question or the poll itself says ([`Guess`]: of a lone query's 9.4 us it saves 1).
//!
//! **Invariants.**
//! - *fair*: a turn begins with the socket after the one that filled the last batch; and however
//!   busy, every [`POLL_EVERY`] turns all sockets and the bell are looked at.
//! - *runs*: the requests of one socket are neighbours in the batch, so that one sendmmsg a socket
//!   sends its replies.

use std::io;
use std::iter;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use super::message::{Inbox, Outbox};
use super::sys::{Bell, PollSet};
use super::{BATCH, Batch, Lens, Packet, REPLY_MAX, Route, Serve, Socket, Turn, served};

/// Busy turns between two looks at the sockets that were idle: 16 of at most 64 packets each are
/// some milliseconds, and a sixteenth of a poll's 0.5 us a turn is nothing.
const POLL_EVERY: u32 = 16;

pub(super) struct Mmsg {
    lines: Vec<Line>,
    /// Where the next batch begins.
    cursor: usize,
    /// All lines, then the bell.
    poll: PollSet,
    turns_to_poll: u32,
    bell: Arc<Bell>,
    inbox: Inbox,
    outbox: Outbox,
    /// How many letters this batch has.
    filled: usize,
    /// The routes of those; none where a letter was dropped.
    routes: Box<[Option<Route>; BATCH]>,
    replies: Box<[[u8; REPLY_MAX]]>,
}

/// A socket and what is known of it.
struct Line {
    socket: Arc<Socket>,
    /// May have more: it is asked without a poll before.
    ready: bool,
    guess: Guess,
    /// Its letters in this batch.
    run: Range<usize>,
}

/// Whether a socket that was just emptied is asked again at once, or only after a poll that says it
/// has something: under load the poll is one call too many, else the vain question is.
#[derive(Debug, Default)]
struct Guess {
    /// It was asked at once, and has not said yet.
    asked: bool,
    /// How often in a row that is left out after it was in vain, and is still to be.
    pause: u8,
    left: u8,
}

impl Guess {
    /// The longest pause.
    const PAUSE_MAX: u8 = 15;

    /// It was emptied: may it have more?
    fn has_more(&mut self) -> bool {
        self.asked = self.left == 0;
        self.left = self.left.saturating_sub(1);
        self.asked
    }

    /// It was asked, and had something or not.
    fn learn(&mut self, had: bool) {
        if std::mem::take(&mut self.asked) {
            self.pause = if had { 0 } else { (2 * self.pause + 1).min(Self::PAUSE_MAX) };
            self.left = self.pause;
        }
    }
}

impl Mmsg {
    pub(super) fn new(sockets: Vec<Arc<Socket>>, bell: Arc<Bell>) -> Self {
        let mut mmsg = Self {
            lines: Vec::new(),
            cursor: 0,
            poll: PollSet::new(iter::empty()),
            turns_to_poll: 0,
            bell,
            inbox: Inbox::new(BATCH),
            outbox: Outbox::new(BATCH),
            filled: 0,
            routes: Box::new([None; BATCH]),
            replies: vec![[0; REPLY_MAX]; BATCH].into(),
        };
        mmsg.replace(sockets);
        mmsg
    }

    /// What is queued on a socket stays in the kernel: nothing but the list changes.
    pub(super) fn replace(&mut self, sockets: Vec<Arc<Socket>>) {
        let line = |socket| Line { socket, ready: true, guess: Guess::default(), run: 0..0 };
        self.lines = sockets.into_iter().map(line).collect();
        let sockets = self.lines.iter().map(|line| line.socket.as_fd());
        self.poll = PollSet::new(sockets.chain(iter::once(self.bell.as_fd())));
        self.cursor = 0;
    }

    pub(super) fn turn(
        &mut self,
        wait: Option<Duration>,
        serve: &mut (impl Serve + ?Sized),
    ) -> io::Result<Turn> {
        let mut turn = Turn::default();
        match self.turns_to_poll.checked_sub(1) {
            Some(turns) => self.turns_to_poll = turns,
            None => self.look(Some(Duration::ZERO), &mut turn)?,
        }
        self.receive(&mut turn)?;
        if turn == Turn::default() {
            self.look(wait, &mut turn)?;
            self.receive(&mut turn)?;
        }
        if turn.received > 0 {
            let lens = self.serve(serve);
            self.send(&lens, &mut turn);
        }
        Ok(turn)
    }

    /// Learns which sockets have something, sleeping for at most `wait` while none has.
    fn look(&mut self, wait: Option<Duration>, turn: &mut Turn) -> io::Result<()> {
        self.turns_to_poll = POLL_EVERY;
        if self.poll.wait(wait)? == 0 {
            return Ok(());
        }
        for (index, line) in self.lines.iter_mut().enumerate() {
            line.ready |= self.poll.is_ready(index);
        }
        turn.woken = self.poll.is_ready(self.lines.len()) && self.bell.hush();
        Ok(())
    }

    /// Fills the batch from the sockets that may have something, starting at the cursor.
    fn receive(&mut self, turn: &mut Turn) -> io::Result<()> {
        let count = self.lines.len();
        self.filled = 0;
        for line in &mut self.lines {
            line.run = 0..0;
        }
        for index in (self.cursor..count).chain(0..self.cursor) {
            let line = &mut self.lines[index];
            if self.filled == BATCH || !line.ready {
                continue;
            }
            let got = match self.inbox.receive(&line.socket, self.filled) {
                Ok(got) => got,
                Err(error) => {
                    line.ready = false;
                    line.guess.learn(false);
                    if error.kind() != io::ErrorKind::WouldBlock {
                        turn.dropped += super::lost(error)?;
                    }
                    continue;
                }
            };
            line.guess.learn(true);
            line.ready = self.filled + got == BATCH || line.guess.has_more();
            line.run = self.filled..self.filled + got;
            for letter in line.run.clone() {
                self.routes[letter] = self.inbox.route(letter, &line.socket);
                match self.routes[letter] {
                    Some(_) => turn.received += 1,
                    None => turn.dropped += 1,
                }
            }
            self.filled += got;
            if self.filled == BATCH {
                self.cursor = (index + 1) % count;
            }
        }
        Ok(())
    }

    /// Has the batch served. Returns the lengths of the replies, by letter.
    fn serve(&mut self, serve: &mut (impl Serve + ?Sized)) -> Lens {
        let routes = &self.routes[..self.filled];
        let mut batch = Batch::new();
        for (letter, (route, reply)) in routes.iter().zip(&mut self.replies).enumerate() {
            if let Some(route) = route {
                batch.push(Packet::new(self.inbox.request(letter), route, reply));
            }
        }
        let mut served = served(&mut batch, serve).into_iter();
        routes.iter().map(|route| route.and_then(|_| served.next()).unwrap_or(0)).collect()
    }

    /// Sends the replies, a run at a time.
    fn send(&mut self, lens: &Lens, turn: &mut Turn) {
        for line in &self.lines {
            let replies =
                line.run.clone().filter(|&letter| lens[letter] > 0).filter_map(|letter| {
                    let route = self.routes[letter].as_ref()?;
                    Some((letter, route, &self.replies[letter][..lens[letter]]))
                });
            let sent = self.outbox.send_back(&line.socket, &self.inbox, replies);
            turn.sent += sent.sent;
            turn.dropped += sent.failed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often of so many times it is asked at once, and has `some` or not.
    fn asked(guess: &mut Guess, times: usize, some: bool) -> usize {
        let ask = |_: &usize| {
            guess.learn(true); // after a poll
            let at_once = guess.has_more();
            if at_once {
                guess.learn(some);
            }
            at_once
        };
        (0..times).filter(ask).count()
    }

    #[test]
    fn a_socket_is_asked_at_once_while_that_pays_and_seldom_while_it_does_not() {
        let mut guess = Guess::default();
        assert_eq!(asked(&mut guess, 100, true), 100);
        assert_eq!(asked(&mut guess, 1 + 2 + 4 + 8, false), 4, "the pauses double");
        assert_eq!(asked(&mut guess, 1600, false), 100, "up to a length");
        assert!(asked(&mut guess, 100, true) >= 85, "and end with the first success");
    }
}
