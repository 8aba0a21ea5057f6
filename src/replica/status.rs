//! How a zone is, in the words of `status`.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
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
    /// Seconds until the zone expires; none for never.
    pub expires_in_s: Option<u64>,
    /// Is it answered for also after that?
    pub serve_stale: bool,
    /// How far the newest serial that a primary has told is ahead of ours.
    pub behind_serials: u32,
    /// For how many seconds a newer one has been known; 0 if none is.
    pub behind_s: u64,
    /// The primary that the version came from.
    pub primary: Option<SocketAddr>,
    /// The serial that the primaries have, if all that answered have a lower one than ours.
    pub lower_serial: Option<u32>,
    /// A primary had other data under the serial that we had: it was edited without a new one.
    pub same_serial_difference: bool,
    /// How many older versions can be told as differences to our own secondaries.
    pub versions_held: usize,
    /// How often names are hashed again for NSEC3, which is advised against; 0 is as it should be.
    pub nsec3_iterations: u16,
    /// The version that a check keeps from being served.
    pub held: Option<HeldStatus>,
    /// When its signatures run out; none unless it has a trust anchor.
    pub signatures: Option<SignaturesStatus>,
    /// What is wrong with the zone itself: its file, the store.
    pub error: Option<String>,
    /// The transfer that is under way, once something of it has come.
    #[serde(default)]
    pub transfer: Option<TransferStatus>,
    /// The last version received.
    pub last_transfer: Option<LastTransfer>,
    /// Every primary, in the order of the configuration.
    pub primaries: Vec<PrimaryStatus>,
}

/// How a zone is, in a word; those that need someone's attention come first.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// No primary has renewed it in time: SERVFAIL, if stale data are not to be served.
    Expired,
    /// There is no version: what was kept is damaged, and no primary has given it anew. SERVFAIL.
    Damaged,
    /// There is no version yet: SERVFAIL.
    NeverLoaded,
    /// It is served; all primaries that answer have a lower serial.
    LowerSerial,
    /// It is served; half of its time is over, and the primaries are of no use.
    Expiring,
    /// It is served; a newer version has come and did not pass a check.
    HeldByCheck,
    /// It is served, but the last round of asking was of no use.
    Stale,
    /// It is served; the primary it came from has other data under the same serial.
    Diverged,
    /// A primary is being asked.
    Refreshing,
    /// It is served, as fresh as its SOA demands.
    Ok,
}

impl State {
    /// Every state, in their order.
    pub fn all() -> impl Iterator<Item = Self> {
        std::iter::successors(Some(Self::Expired), |state| state.next())
    }

    /// The one after this. Who adds a state is told by the compiler to name it here.
    fn next(self) -> Option<Self> {
        match self {
            Self::Expired => Some(Self::Damaged),
            Self::Damaged => Some(Self::NeverLoaded),
            Self::NeverLoaded => Some(Self::LowerSerial),
            Self::LowerSerial => Some(Self::Expiring),
            Self::Expiring => Some(Self::HeldByCheck),
            Self::HeldByCheck => Some(Self::Stale),
            Self::Stale => Some(Self::Diverged),
            Self::Diverged => Some(Self::Refreshing),
            Self::Refreshing => Some(Self::Ok),
            Self::Ok => None,
        }
    }

    /// Is there a version that is good to answer from?
    pub fn is_fresh(self) -> bool {
        !matches!(self, Self::Expired | Self::Damaged | Self::NeverLoaded)
    }
}

/// All zones in a few numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Counts {
    /// How many there are of each state; none of those that no zone is in.
    pub states: BTreeMap<State, u64>,
    /// How many are answered for.
    pub served: u64,
    /// Seconds until the first of those that are served expires.
    pub soonest_expiry_s: Option<u64>,
    /// Seconds since the good contact with a primary that is longest ago.
    pub oldest_contact_s: Option<u64>,
    /// Seconds until a zone with a trust anchor has records without a signature that holds.
    pub soonest_signature_end_s: Option<u64>,
}

impl Counts {
    /// How many zones.
    pub fn zones(&self) -> u64 {
        self.states.values().sum()
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Expired => "expired",
            Self::Damaged => "damaged",
            Self::NeverLoaded => "never-loaded",
            Self::LowerSerial => "lower-serial",
            Self::Expiring => "expiring",
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

/// The signatures that run out first, as far as no others stand in for them.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub struct SignaturesStatus {
    /// Seconds until then; 0 if it is over.
    pub ends_in_s: u64,
    /// The records that they are of: owner and type.
    pub of: String,
}

/// A transfer under way.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub struct TransferStatus {
    /// What is being done.
    pub doing: Doing,
    /// Octets of its messages so far.
    pub octets: u64,
    /// Records in them.
    pub records: u64,
    /// For how many seconds it has lasted.
    pub s: u64,
}

/// How far a transfer has come.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Doing {
    /// Messages are being received, and read.
    Receiving,
    /// All has come; the version is being completed and compared with the one before.
    Building,
    /// The store is writing it.
    Storing,
}

impl std::fmt::Display for Doing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Receiving => "receiving",
            Self::Building => "building",
            Self::Storing => "storing",
        })
    }
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
