//! When the first of a zone's signatures runs out that nothing else stands in for.

use super::Standing;
use crate::name::Key;
use crate::wire::{Rtype, Serial, read_u32};
use crate::zone::{Diff, Node, Record, RecordSet, Zone};

/// The set of records that is the first to be without a signature that holds. Times are seconds
/// since 1970, as far as 32 bits (RFC 4034 section 3.1.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Whose set.
    pub owner: String,
    /// The type of its records.
    pub rtype: Rtype,
    /// When its last signature begins to hold.
    pub since: Serial,
    /// When that ends.
    pub at: Serial,
}

impl Ending {
    /// Looks at all signatures of a zone, and verifies none. `None`: it has none.
    pub fn of(zone: &Zone) -> Option<Self> {
        let mut first: Option<(Key, Rtype, Times)> = None;
        for entry in zone.names().iter().chain(zone.hashes().iter()) {
            let (key, node) = (entry.key.to_key(), Node::of(entry.blob));
            let standing = Standing::of(&key, node);
            for set in node.sets().filter(|set| !set.is_signatures() && standing.signs(set.rtype()))
            {
                let last = node.signatures(set.rtype()).and_then(last);
                if let Some(last) = last
                    && first.as_ref().is_none_or(|(_, _, first)| first.at.is_after(last.at))
                {
                    first = Some((entry.key.to_key(), set.rtype(), last));
                }
            }
        }
        let (key, rtype, Times { since, at }) = first?;
        let owner = key.name(zone.apex()).expect("a key of this zone").to_string();
        Some(Self { owner, rtype, since, at })
    }

    /// When no more than a tenth of the time is left that the signature is good for.
    pub fn near(&self) -> Serial {
        let lasts = self.at.0.wrapping_sub(self.since.0);
        Serial(self.at.0.wrapping_sub(lasts / 10))
    }

    /// Does a difference bring a signature that ends before this?
    pub fn is_after_any_of(&self, diff: &Diff) -> bool {
        let times = |record: Record<'_>| Times::of(record.data);
        let signatures = diff.added.iter().filter(|(_, record)| record.rtype == Rtype::RRSIG);
        let mut ends = signatures.filter_map(|(_, record)| times(record));
        ends.any(|times| self.at.is_after(times.at))
    }
}

/// From when on and until when a signature holds.
#[derive(Clone, Copy)]
struct Times {
    since: Serial,
    at: Serial,
}

impl Times {
    /// Of an RRSIG record's data.
    fn of(data: &[u8]) -> Option<Self> {
        Some(Self { at: Serial(read_u32(data, 8)?), since: Serial(read_u32(data, 12)?) })
    }
}

/// The signature that ends last.
fn last(signatures: RecordSet<'_>) -> Option<Times> {
    let times = signatures.iter().filter_map(Times::of);
    times.reduce(|last, next| if next.at.is_after(last.at) { next } else { last })
}
