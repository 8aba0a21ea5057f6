//! How a zone is, in the words of `status`.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::net::SocketAddr;

/// One zone's status. Times are seconds from now, or ago.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub struct ZoneStatus {
    /// The apex.
    pub zone: String,
    /// In a word.
    pub state: State,
    /// The serial of the version served; none if there is none.
    pub serial: Option<u32>,
    /// Records of the version served.
    pub records: u64,
    /// Seconds since a primary confirmed or renewed the version; none if none ever has, and for
    /// a zone from a file.
    pub last_contact_s: Option<u64>,
    /// Seconds until the primaries are asked next; 0 while they are being asked.
    pub refresh_in_s: u64,
    /// Seconds until the zone is no longer answered for; none for never.
    pub expires_in_s: Option<u64>,
    /// The primary that the version came from or that confirmed it last.
    pub primary: Option<SocketAddr>,
    /// A primary had other data under the serial that we had: it was edited without a new one.
    pub same_serial_difference: bool,
    /// How many older versions can be told as differences to our own secondaries.
    pub versions_held: usize,
    /// The version that a check keeps from being served.
    pub held: Option<HeldStatus>,
    /// What is wrong with the zone itself: its file, the store.
    pub error: Option<String>,
    /// The last version received.
    pub last_transfer: Option<LastTransfer>,
    /// Every primary, in the order of the configuration.
    pub primaries: Vec<PrimaryStatus>,
}

/// How a zone is, in a word; those that need someone's attention come first.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// No primary has renewed it in time: SERVFAIL.
    Expired,
    /// There is no version yet: SERVFAIL.
    NeverLoaded,
    /// An older version is served: a check has refused the primary's.
    HeldByCheck,
    /// It is served, but the last round of asking was of no use.
    Stale,
    /// It is served; a primary had other data under the same serial.
    Diverged,
    /// A primary is being asked.
    Refreshing,
    /// It is served, as fresh as its SOA demands.
    Ok,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Expired => "expired",
            Self::NeverLoaded => "never-loaded",
            Self::HeldByCheck => "held-by-check",
            Self::Stale => "stale",
            Self::Diverged => "diverged",
            Self::Refreshing => "refreshing",
            Self::Ok => "ok",
        })
    }
}

/// One primary of a zone.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub struct PrimaryStatus {
    /// Its address.
    pub address: SocketAddr,
    /// The serial that it told last.
    pub serial: Option<u32>,
    /// What went wrong when it was asked last; none if nothing did.
    pub last_error: Option<String>,
    /// Seconds since it was asked last; none if never.
    pub asked_s: Option<u64>,
}

/// A version that a check refused; it is served after `backstop approve`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub struct HeldStatus {
    /// Its serial.
    pub serial: u32,
    /// The check, by the key that configures it.
    pub check: Cow<'static, str>,
    /// What it says.
    pub why: String,
    /// Seconds since it was refused for the first time.
    pub since_s: u64,
}

/// The last version received.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub struct LastTransfer {
    /// AXFR, IXFR, or file.
    pub kind: Cow<'static, str>,
    /// Octets of its messages.
    pub octets: u64,
    /// Records in them.
    pub records: u64,
    /// Milliseconds from the question until it was served.
    pub ms: u64,
    /// Seconds since then.
    pub ago_s: u64,
}
