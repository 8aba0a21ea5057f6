//! The control socket: status and commands, on a local Unix socket.
//!
//! **How it fits.** [`Listener`] and [`serve`] are the server's side, [`Client`] is what the
//! commands that ask a running server talk through, [`table`]
//! puts a status into words.
//!
//! **Protocol.** A client sends one line, a [`Request`] as JSON; the server replies with one line
//! and closes. `{"error": "..."}` is a request that was not carried out, `{"done": "..."}` one
//! that was; the others are [`Status`], [`History`], [`Changes`] and [`Exported`]. After the last two
//! follow as many lines as they say, so that the client knows a whole reply from one that was cut.
//!
//! **Invariants.**
//! - *private*: the socket is its owner's alone from the moment that it exists.
//! - *one server*: the socket of a living server is never taken, what is no socket is never
//!   removed.
//! - *no one waits*: each client has a task of its own and a time to say what it wants; what
//!   blocks is done on threads for that.
//!
//! It does not authenticate: whoever may open the socket may command.

mod client;
mod history;
mod server;
pub mod table;
#[cfg(test)]
mod tests;

pub use client::{Client, ClientError};
pub use history::{Changes, History, Place, Version};
pub use server::{ListenError, Listener, Parts, serve};

use crate::replica::{Counts, ZoneStatus};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a client may ask for. Zones are in presentation form, the last dot may be left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How one zone is, or all of them.
    Status {
        /// Which.
        zone: Option<String>,
    },
    /// How the server is as a whole.
    Server {},
    /// Ask the primaries for a newer version now.
    Refresh {
        /// Of which zone.
        zone: String,
    },
    /// Transfer all of it again.
    Retransfer {
        /// Which zone.
        zone: String,
    },
    /// Tell our own secondaries of the version served.
    Notify {
        /// Of which zone.
        zone: String,
    },
    /// Serve the version that a check has refused.
    Approve {
        /// Of which zone.
        zone: String,
    },
    /// Serve an older version again.
    Rollback {
        /// Of which zone.
        zone: String,
        /// Which version; none: the one before what is served.
        serial: Option<u32>,
        /// Whether no version is taken afterwards until one is approved.
        hold: bool,
    },
    /// The versions held.
    History {
        /// Of which zone.
        zone: String,
    },
    /// What made a version.
    Changes {
        /// Of which zone.
        zone: String,
        /// Which version.
        serial: u32,
    },
    /// The zone file of the version served.
    Export {
        /// Of which zone.
        zone: String,
    },
    /// Read the configuration anew, as on SIGHUP.
    Reload {},
}

/// The reply to [`Request::Status`], with the zones in any form that has the JSON of theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status<Z = Vec<ZoneStatus>> {
    /// What is wrong with the server as a whole.
    pub warnings: Vec<String>,
    /// How packets come past the network stack, a line an interface; none where they do not.
    pub io: Vec<String>,
    /// The zones, in no order.
    pub zones: Z,
}

/// The reply to [`Request::Server`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServerStatus {
    /// Of the program.
    pub version: String,
    /// Seconds since it was started.
    pub up_s: u64,
    /// What is wrong.
    pub warnings: Vec<String>,
    /// The zones in a few numbers.
    pub zones: Counts,
    /// What was counted since the start: by what it is called in the metrics.
    pub counted: BTreeMap<String, u64>,
    /// How long answers took since the start: of each worker, and of all at the end.
    pub answers: Vec<Answers>,
}

/// How long a worker took for its answers: from taking a batch of UDP requests until their answers
/// were written. Times are nanoseconds, to within an eighth.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Answers {
    /// Its number; "all" for all of them together.
    pub worker: String,
    /// How many.
    pub count: u64,
    /// Half of them took no longer.
    pub p50_ns: u64,
    /// Nine of ten.
    pub p90_ns: u64,
    /// 99 of a hundred.
    pub p99_ns: u64,
    /// 999 of a thousand.
    pub p999_ns: u64,
    /// None took longer.
    pub max_ns: u64,
}

/// The reply to [`Request::Export`], before the zone file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// The apex.
    pub zone: String,
    /// The version's serial.
    pub serial: u32,
    /// How many records, and lines, follow.
    pub records: u64,
    /// It is no longer answered for.
    pub expired: bool,
}

/// The reply to a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Done {
    done: String,
}

/// The reply to what is not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Refused {
    error: String,
}

/// How long either side waits for the other to take or give anything.
const PATIENCE: Duration = Duration::from_secs(30);
