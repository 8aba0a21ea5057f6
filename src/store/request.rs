//! What waits for the intake, and then for the keeper.
//!
//! **How it fits.** `Store` makes requests, `intake` and `keeper` take them in their order and
//! answer each where its [`Done`] says: those that are logged the one, all others the other.

use super::ahead::{Ahead, Piece};
use super::format::ZoneKey;
use super::intake::Claim;
use super::stored::Stored;
use super::{Damage, History, Snapshot, State, StoreError};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Where a ticket's outcome goes.
pub(super) struct Done {
    ticket: Option<oneshot::Sender<Result<(), StoreError>>>,
    /// Until the outcome is known, the change is under way.
    pub(super) claim: Option<Claim>,
}

impl Done {
    pub(super) fn new(ticket: oneshot::Sender<Result<(), StoreError>>) -> Self {
        Self { ticket: Some(ticket), claim: None }
    }

    pub(super) fn send(self, result: Result<(), StoreError>) {
        let Self { ticket, claim } = self;
        drop(claim);
        // Whoever asked may have gone.
        ticket.map(|ticket| ticket.send(result).ok());
    }

    /// All of it, leaving one that nobody listens to.
    pub(super) fn take(&mut self) -> Self {
        Self { ticket: self.ticket.take(), claim: self.claim.take() }
    }
}

/// A diff to be kept.
pub(super) struct Append {
    pub(super) key: ZoneKey,
    pub(super) state: State,
    pub(super) from: u32,
    pub(super) diff: Vec<u8>,
    pub(super) snapshot: Arc<dyn Snapshot>,
}

/// A diff that is in the log, under this number.
pub(super) struct Logged {
    pub(super) append: Append,
    pub(super) number: u64,
    pub(super) claim: Claim,
}

/// What is done with a zone that is read: on the reader's thread, `None` if nothing is kept of it.
pub(super) type With = Box<dyn FnOnce(Option<Result<Stored<'_>, Damage>>) + Send>;

/// A zone to be read.
pub(super) struct Read {
    pub(super) key: ZoneKey,
    pub(super) which: Which,
    pub(super) with: With,
}

/// Which version of a zone.
#[derive(Clone, Copy)]
pub(super) enum Which {
    Newest,
    Before,
}

/// A change that waits.
pub(super) enum Request {
    Replace {
        key: ZoneKey,
        state: State,
        history: History,
        snapshot: Arc<dyn Snapshot>,
        /// What of it was written ahead.
        ahead: Option<Ahead>,
        done: Done,
    },
    Append {
        append: Append,
        done: Done,
    },
    /// Not before it is durable.
    Logged(Logged),
    Retire {
        key: ZoneKey,
        at_ms: u64,
        done: Done,
    },
    Forget {
        key: ZoneKey,
        done: Done,
    },
    PutMeta {
        key: String,
        value: Vec<u8>,
        done: Done,
    },
    /// Entries of a zone that is still coming in.
    Piece(Piece),
    /// It does not come.
    Abandon {
        number: u64,
    },
    /// As it is after all that was handed over before.
    Read(Read),
    Sweep {
        now_ms: u64,
    },
    /// There are timers to be kept.
    Wake,
}

impl Request {
    /// The zone that is changed.
    pub(super) fn zone(&self) -> Option<&ZoneKey> {
        match self {
            Self::Replace { key, .. }
            | Self::Append { append: Append { key, .. }, .. }
            | Self::Logged(Logged { append: Append { key, .. }, .. })
            | Self::Retire { key, .. }
            | Self::Read(Read { key, .. })
            | Self::Forget { key, .. } => Some(key),
            Self::PutMeta { .. } | Self::Sweep { .. } | Self::Wake => None,
            Self::Piece(_) | Self::Abandon { .. } => None,
        }
    }

    pub(super) fn is_piece(&self) -> bool {
        matches!(self, Self::Piece(_))
    }

    /// Octets that it adds to a group.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Append { append, .. } | Self::Logged(Logged { append, .. }) => append.diff.len(),
            Self::PutMeta { value, .. } => value.len(),
            Self::Piece(piece) => piece.len(),
            _ => 0,
        }
    }

    /// Where the outcome goes; what is taken is not asked for again.
    pub(super) fn take_done(&mut self) -> Option<Done> {
        self.done().map(Done::take)
    }

    /// Where the outcome goes, if anybody wants to know.
    pub(super) fn done(&mut self) -> Option<&mut Done> {
        match self {
            Self::Replace { done, .. }
            | Self::Append { done, .. }
            | Self::Retire { done, .. }
            | Self::Forget { done, .. }
            | Self::PutMeta { done, .. } => Some(done),
            Self::Logged(_) | Self::Read(_) | Self::Sweep { .. } | Self::Wake => None,
            Self::Piece(_) | Self::Abandon { .. } => None,
        }
    }
}
