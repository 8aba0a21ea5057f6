//! What waits for the keeper.
//!
//! **How it fits.** `Store` makes requests, `keeper` takes them in their order and answers each
//! where its [`Done`] says.

use super::format::ZoneKey;
use super::stored::Stored;
use super::{Damage, History, Snapshot, State, StoreError};
use tokio::sync::oneshot;

/// Where a ticket's outcome goes.
pub(super) type Done = oneshot::Sender<Result<(), StoreError>>;

/// What is done with a zone that is read: on the reader's thread, `None` if nothing is kept of it.
pub(super) type Read = Box<dyn FnOnce(Option<Result<Stored<'_>, Damage>>) + Send>;

/// A change that waits for the keeper.
pub(super) enum Request {
    Replace {
        key: ZoneKey,
        state: State,
        history: History,
        snapshot: Box<dyn Snapshot>,
        done: Done,
    },
    Append {
        key: ZoneKey,
        state: State,
        from: u32,
        diff: Vec<u8>,
        snapshot: Box<dyn Snapshot>,
        done: Done,
    },
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
    /// Reads a zone as it is after what came before.
    Read {
        key: ZoneKey,
        read: Read,
    },
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
            | Self::Append { key, .. }
            | Self::Retire { key, .. }
            | Self::Read { key, .. }
            | Self::Forget { key, .. } => Some(key),
            Self::PutMeta { .. } | Self::Sweep { .. } | Self::Wake => None,
        }
    }

    /// Octets that it adds to a group.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Append { diff, .. } => diff.len(),
            Self::PutMeta { value, .. } => value.len(),
            _ => 0,
        }
    }

    /// Where the outcome goes; what is taken is not asked for again.
    pub(super) fn take_done(&mut self) -> Option<Done> {
        match self {
            Self::Replace { done, .. }
            | Self::Append { done, .. }
            | Self::Retire { done, .. }
            | Self::Forget { done, .. }
            | Self::PutMeta { done, .. } => Some(take_done(done)),
            Self::Read { .. } | Self::Sweep { .. } | Self::Wake => None,
        }
    }
}

/// Takes the sender, leaving one that nobody listens to.
pub(super) fn take_done(done: &mut Done) -> Done {
    std::mem::replace(done, oneshot::channel().0)
}
