//! How AF_XDP is, for `status` and metrics.

use std::fmt::{self, Display};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};

use super::Mode;
use super::socket::{Tally, kernel_drops};

/// How an interface is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its name.
    pub interface: String,
    /// Where the program runs; `None`: the ordinary sockets alone serve.
    pub mode: Option<Mode>,
    /// Does the card write into our memory, on every queue?
    pub zero_copy: bool,
    /// The receive queues, by number.
    pub queues: Vec<QueueTold>,
    /// What is wrong.
    pub trouble: Option<String>,
}

/// What became of the packets of a queue, since it was set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueTold {
    /// The worker that has it.
    pub worker: usize,
    /// Requests.
    pub received: u64,
    /// Replies.
    pub sent: u64,
    /// What was no request to us, and replies that could not be sent.
    pub dropped: u64,
    /// What the kernel had no room for: the worker was too slow.
    pub overrun: u64,
}

impl Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.interface)?;
        match self.mode {
            None => write!(f, "ordinary sockets")?,
            Some(mode) => {
                let mode = if mode == Mode::Native { "native" } else { "generic" };
                let copy = if self.zero_copy { "zero-copy" } else { "copied" };
                let s = |count| if count == 1 { "" } else { "s" };
                let count = self.queues.len();
                write!(f, "AF_XDP, {mode}, {copy}, {count} queue{}", s(count))?;
                let mut workers: Vec<_> = self.queues.iter().map(|queue| queue.worker).collect();
                workers.sort_unstable();
                workers.dedup();
                let workers: Vec<_> = workers.iter().map(ToString::to_string).collect();
                write!(f, " on worker{} {}", s(workers.len()), workers.join(", "))?;
            }
        }
        match &self.trouble {
            Some(trouble) => write!(f, " ({trouble})"),
            None => Ok(()),
        }
    }
}

/// Tells how AF_XDP is, at any time.
#[derive(Clone, Default)]
pub struct Reporter(Arc<Mutex<Vec<Known>>>);

/// What the keeper says of an interface.
pub(super) struct Known {
    pub(super) interface: String,
    pub(super) mode: Option<Mode>,
    pub(super) zero_copy: bool,
    pub(super) queues: Vec<KnownQueue>,
    pub(super) trouble: Option<String>,
}

#[derive(Clone)]
pub(super) struct KnownQueue {
    pub(super) worker: usize,
    pub(super) tally: Arc<Tally>,
    pub(super) socket: Weak<OwnedFd>,
}

impl Reporter {
    /// All interfaces.
    pub fn report(&self) -> Vec<Told> {
        let known = self.0.lock().expect("nothing panics with the lock");
        known.iter().map(Known::tell).collect()
    }

    pub(super) fn set(&self, known: Vec<Known>) {
        *self.0.lock().expect("nothing panics with the lock") = known;
    }
}

impl Known {
    fn tell(&self) -> Told {
        Told {
            interface: self.interface.clone(),
            mode: self.mode,
            zero_copy: self.zero_copy,
            queues: self.queues.iter().map(KnownQueue::tell).collect(),
            trouble: self.trouble.clone(),
        }
    }
}

impl KnownQueue {
    fn tell(&self) -> QueueTold {
        let Tally { received, sent, dropped, .. } = &*self.tally;
        let [received, sent, dropped] =
            [received, sent, dropped].map(|number| number.load(Ordering::Relaxed));
        let overrun = self.socket.upgrade().map_or(0, |socket| kernel_drops(socket.as_fd()));
        QueueTold { worker: self.worker, received, sent, dropped, overrun }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_was_chosen() {
        let queue = |worker| QueueTold { worker, received: 0, sent: 0, dropped: 0, overrun: 0 };
        let mut told = Told {
            interface: "eth0".into(),
            mode: Some(Mode::Native),
            zero_copy: true,
            queues: vec![queue(0), queue(1), queue(0)],
            trouble: None,
        };
        let line = "eth0: AF_XDP, native, zero-copy, 3 queues on workers 0, 1";
        assert_eq!(told.to_string(), line);
        told = Told { mode: None, queues: vec![], trouble: Some("it is gone".into()), ..told };
        assert_eq!(told.to_string(), "eth0: ordinary sockets (it is gone)");
    }
}
