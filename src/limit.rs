//! Response rate limiting: how many alike UDP replies one network gets a second.
//!
//! **How it fits.** A forged source address makes a server of small queries and large replies a
//! weapon against whoever has that address. Each worker owns a [`Limiter`] and asks it about every
//! reply that it has made over UDP, except to clients whose cookie shows that the address is not
//! forged. `view::RateLimit` is what is set. Replies are alike if they go to one network, come
//! from one zone and are of one [`Kind`].
//!
//! **How it counts.** A token bucket for each such triple, kept as the time at which it will be
//! full again: a reply moves that time on by `1s / responses-per-second`; one that would move it
//! further ahead than `window` is over the limit, and moves nothing. So what is full needs no
//! place, and no one has to sweep.
//!
//! **Invariants.**
//! - *bounded*: the table has the size it was made with; a triple is looked for in one cache line
//!   of [`WAYS`] places, where a newcomer takes the place that is nearest to full: those who take
//!   most stay.
//! - *no blame inherited*: a newcomer begins with a full bucket, so that however many networks
//!   there are, none is limited for what others took. What a table that is too small gets wrong,
//!   it gets wrong by sending.
//! - *not aimed at*: the place is a keyed hash's choice, the key known to nobody.
//! - *a way in*: of the replies over the limit, some leave as empty and truncated ones, so that a
//!   client at a forged address still gets its answers, over TCP.
//!
//! Time and randomness are passed in. It does not know the other workers': see `KEYS.md`.

#[cfg(test)]
mod tests;

use crate::answer::Kind;
use crate::view::{RateLimit, ZoneId};
use siphasher::sip::SipHasher13;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// What a reply is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// Who gets it.
    pub peer: IpAddr,
    /// The zone that it comes from; `None`: from none.
    pub zone: Option<ZoneId>,
    /// What it says.
    pub kind: Kind,
}

/// What becomes of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is sent.
    Send,
    /// It is over the limit, and sent: this is a dry run.
    SendOver,
    /// It is over the limit: an empty, truncated one is sent in its place.
    Slip,
    /// It is over the limit: nothing is sent.
    Drop,
}

/// One worker's buckets.
pub struct Limiter {
    settings: Arc<RateLimit>,
    sets: Box<[Set]>,
    hasher: SipHasher13,
    /// The state of the generator that chooses which replies slip.
    dice: u64,
    v4_mask: u32,
    v6_mask: u128,
    /// What a reply takes from its bucket, and what a bucket holds: in microseconds of refill.
    cost_us: u64,
    window_us: u64,
}

/// Buckets that share a cache line.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct Set([u64; WAYS]);

/// Places a set.
const WAYS: usize = 8;

/// A place holds the time at which its bucket is full, in microseconds modulo 2^40 (12.7 days), and
/// above that 24 bits of the hash. A full bucket is as good as none.
const TIME_BITS: u32 = 40;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;

impl Limiter {
    /// A limiter with all buckets full. `key` makes its choice of places unforeseeable.
    pub fn new(settings: Arc<RateLimit>, key: &[u8; 16]) -> Self {
        let sets = settings.entries.div_ceil(WAYS).next_power_of_two();
        let hasher = SipHasher13::new_with_key(key);
        let v4_mask = u32::MAX.checked_shl(32 - u32::from(settings.ipv4_prefix.min(32)));
        let v6_mask = u128::MAX.checked_shl(128 - u32::from(settings.ipv6_prefix.min(128)));
        Self {
            sets: vec![Set([0; WAYS]); sets].into(),
            dice: hasher.hash(b"dice") | 1,
            hasher,
            v4_mask: v4_mask.unwrap_or(0),
            v6_mask: v6_mask.unwrap_or(0),
            cost_us: 1_000_000 / u64::from(settings.per_second.max(1)),
            window_us: u64::try_from(settings.window.as_micros()).unwrap_or(TIME_MASK >> 1),
            settings,
        }
    }

    /// Can it go on under these settings, as they are those that it was made from?
    pub fn follows(&mut self, settings: &Arc<RateLimit>) -> bool {
        if Arc::ptr_eq(&self.settings, settings) {
            return true;
        }
        let same = self.settings == *settings;
        if same {
            self.settings = Arc::clone(settings);
        }
        same
    }

    /// Takes a reply from its bucket, or says what is to be done without. `now_ms` never goes back.
    pub fn judge(&mut self, subject: &Subject, now_ms: u64) -> Verdict {
        let hash = self.hash(subject);
        let (cost_us, window_us) = (self.cost_us, self.window_us);
        let now_us = now_ms.wrapping_mul(1000) & TIME_MASK;
        // What is missing from the bucket in this place.
        let load = |place: u64| {
            let ahead = place.wrapping_sub(now_us) & TIME_MASK;
            if ahead <= window_us { ahead } else { 0 }
        };
        let tag = hash >> TIME_BITS;
        #[expect(clippy::cast_possible_truncation, reason = "the lowest bits choose")]
        let set = &mut self.sets[hash as usize & (self.sets.len() - 1)].0;
        let own = set.iter().position(|&place| place >> TIME_BITS == tag);
        let (at, missing) = match own {
            Some(at) => (at, load(set[at])),
            None => (emptiest(set, load), 0),
        };
        if missing + cost_us > window_us {
            return self.over(subject.peer);
        }
        set[at] = tag << TIME_BITS | (now_us + missing + cost_us) & TIME_MASK;
        Verdict::Send
    }

    fn hash(&self, subject: &Subject) -> u64 {
        let network = match subject.peer.to_canonical() {
            IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & self.v4_mask).to_ipv6_mapped(),
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & self.v6_mask),
        };
        let zone = subject.zone.map_or(0, ZoneId::number);
        let mut hashed = [0; 25];
        hashed[..16].copy_from_slice(&network.octets());
        hashed[16..24].copy_from_slice(&zone.to_be_bytes());
        hashed[24] = subject.kind as u8;
        self.hasher.hash(&hashed)
    }

    /// What becomes of a reply that is over the limit.
    #[cold]
    fn over(&mut self, peer: IpAddr) -> Verdict {
        if self.settings.exempt.allows_address(peer) {
            Verdict::Send
        } else if self.settings.dry_run {
            Verdict::SendOver
        } else if self.slips() {
            Verdict::Slip
        } else {
            Verdict::Drop
        }
    }

    /// One of `slip` replies, at random: counted off, two clients that take turns could have one
    /// always get them and the other never.
    fn slips(&mut self) -> bool {
        // xorshift64 (Marsaglia, 2003).
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice >> 32).checked_rem(u64::from(self.settings.slip)) == Some(0)
    }
}

/// The place of the bucket that is nearest to full.
fn emptiest(set: &[u64; WAYS], load: impl Fn(u64) -> u64) -> usize {
    let mut least = (0, u64::MAX);
    for (at, &place) in set.iter().enumerate() {
        let load = load(place);
        if load < least.1 {
            least = (at, load);
        }
    }
    least.0
}
