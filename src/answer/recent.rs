//! Replies given a moment ago, to be given again: most of what is asked was asked just before.
//!
//! **How it fits.** Each worker has a [`Recent`] and looks there for a reply before it reads a
//! request ([`Recent::repeat`]); what it then had to make, it may leave there
//! ([`Recent::keep`]). What is found is what [`respond`](super::respond) would have said, octet for
//! octet, so statistics and rate limits come after it as after any reply.
//!
//! **Invariants.**
//! - *as of now*: what was kept before a publication is not repeated after it, nor anything for
//!   longer than [`LIFETIME_MS`]: by so much may a zone's expiry be noticed late.
//! - *for anyone*: only replies are kept of which [`Outcome::Reply`] says that whoever asks gets
//!   the same: no cookies, no signatures, no access lists, no errors.
//! - *the question's own*: requests are alike if they are equal but for their IDs and the case of
//!   the name that is asked for, and have the same limits; ID and name are the request's own.
//! - *bounded*: the table has the size it was made with. A request is kept when it comes the second
//!   time, so that what is asked once costs a mark; and what is asked often stays.
//! - *pays*: where few are found, only some are looked for.
//!
//! Time, versions and randomness are passed in. Requests with options are not looked for.

use super::{Kind, Outcome, Transport, Via};
use crate::name::Name;
use crate::octets::{fold, word};
use crate::view::ZoneId;
use crate::wire::{HEADER_LEN, Rcode};

/// For how long a reply is repeated, milliseconds.
const LIFETIME_MS: u64 = 1000;

/// Sets of places, and places a set: what a hash chooses, and what shares a cache line.
const SETS: usize = 1024;
const WAYS: usize = 4;

/// The room for a kept reply, octets.
const ROOM: usize = 1024;

/// The octets behind the name in a request without EDNS, and with an OPT record without options.
const TYPE_CLASS: usize = 4;
const TYPE_CLASS_OPT: usize = 15;

/// The words that a request is compared by; those that are not of its name; and the longest name
/// that there is room for, octets.
const WORDS: usize = 16;
const FIXED: usize = 3;
const NAME_LEN: usize = 8 * (WORDS - FIXED) - 1;

/// What requests are compared by, the rest zeros.
type Question = [u64; WORDS];

/// How many newcomers a reply outlasts at most: one for each time that it was repeated.
const WORTH_MAX: u8 = 3;

/// After how many looks it is judged whether they pay.
pub(super) const LOOKS: u32 = 1024;

/// What one worker said of late.
pub struct Recent {
    sets: Box<[Set]>,
    /// Of each place, in their order: the question, the reply, and the zone that it is of.
    questions: Box<[Question]>,
    replies: Box<[u8]>,
    zones: Box<[Option<ZoneId>]>,
    seed: u64,
    luck: Luck,
    /// The version of the view and the time that replies are repeated of.
    as_of: (u64, u64),
    /// Changes with that.
    pub(super) epoch: u32,
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Set([Place; WAYS]);

/// What is known of a reply without looking at it.
#[derive(Clone, Copy)]
struct Place {
    /// A part of the question's hash.
    tag: u32,
    /// When the reply was kept.
    epoch: u32,
    /// Its length; 0: the question was seen, no more.
    len: u16,
    rcode: u8,
    kind: Kind,
    /// How many newcomers it outlasts.
    worth: u8,
}

impl Place {
    const EMPTY: Self = Self { tag: 0, epoch: 0, len: 0, rcode: 0, kind: Kind::Other, worth: 0 };
}

/// Where the reply to a question may be kept that was seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vacancy {
    set: usize,
    way: usize,
}

impl Vacancy {
    /// Its number among all places.
    fn number(self) -> usize {
        self.set * WAYS + self.way
    }
}

impl Recent {
    /// Nothing was said yet. `seed` is random: nobody else can tell which questions share a set.
    pub fn new(seed: u64) -> Self {
        let places = SETS * WAYS;
        Self {
            sets: vec![Set([Place::EMPTY; WAYS]); SETS].into(),
            questions: vec![[0; WORDS]; places].into(),
            replies: vec![0; places * ROOM].into(),
            zones: vec![None; places].into(),
            seed,
            luck: Luck::default(),
            as_of: (0, 0),
            epoch: 1,
        }
    }

    /// From here on it is `now_ms`, and answers come from another view if `version` is another.
    #[inline]
    pub fn begin(&mut self, version: u64, now_ms: u64) {
        let as_of = (version, now_ms / LIFETIME_MS);
        if self.as_of != as_of {
            self.as_of = as_of;
            self.epoch = self.epoch.checked_add(1).unwrap_or_else(|| {
                self.sets.fill(Set([Place::EMPTY; WAYS]));
                1
            });
        }
    }

    /// Writes the reply that a request like this one had, if it is still there; else tells where to
    /// [keep](Self::keep) the one that is made, if it is worth that.
    #[inline]
    pub fn repeat(
        &mut self,
        request: &[u8],
        via: &Via<'_>,
        reply: &mut [u8],
    ) -> Result<Outcome, Option<Vacancy>> {
        if self.luck.is_out() {
            return Err(None);
        }
        let likeness = Likeness::of(request, via, reply.len()).ok_or(None)?;
        let Hash { set, way, tag } = likeness.hash(self.seed);
        let places = &mut self.sets[set].0;
        let Some(found) = places.iter().position(|place| place.tag == tag) else {
            match places[way].worth.checked_sub(1) {
                Some(worth) => places[way].worth = worth,
                None => places[way] = Place { tag, ..Place::EMPTY },
            }
            return Err(None);
        };
        let (place, at) = (&mut places[found], Vacancy { set, way: found });
        let question = &self.questions[at.number()];
        if place.epoch != self.epoch || !likeness.is(question) {
            return Err(Some(at));
        }
        self.luck.found += 1;
        place.worth = WORTH_MAX.min(place.worth + 1);
        let len = usize::from(place.len);
        reply[..len].copy_from_slice(&self.replies[at.number() * ROOM..][..len]);
        reply[..2].copy_from_slice(&request[..2]);
        reply[HEADER_LEN..][..likeness.name.len()].copy_from_slice(likeness.name);
        Ok(Outcome::Reply {
            len,
            rcode: Rcode(place.rcode.into()),
            kind: place.kind,
            zone: self.zones[at.number()],
            known_client: false,
            for_anyone: true,
        })
    }

    /// Keeps a reply, with the room it had, where [`repeat`](Self::repeat) said, if it is one that
    /// anyone gets.
    #[cold]
    pub fn keep(
        &mut self,
        at: Vacancy,
        request: &[u8],
        via: &Via<'_>,
        reply: &[u8],
        outcome: Outcome,
    ) {
        let Outcome::Reply { len, rcode, kind, zone, for_anyone: true, .. } = outcome else {
            return;
        };
        let (Some(likeness), Ok(rcode), Ok(short_len)) =
            (Likeness::of(request, via, reply.len()), u8::try_from(rcode.0), u16::try_from(len))
        else {
            return;
        };
        let name = Name::split(&request[HEADER_LEN..]).map(|(name, _)| name.as_wire());
        if name != Some(likeness.name) || len > ROOM {
            return;
        }
        self.questions[at.number()] = likeness.question();
        self.replies[at.number() * ROOM..][..len].copy_from_slice(&reply[..len]);
        self.zones[at.number()] = zone;
        let (tag, epoch) = (likeness.hash(self.seed).tag, self.epoch);
        self.sets[at.set].0[at.way] = Place { tag, epoch, len: short_len, rcode, kind, worth: 1 };
    }
}

/// Whether it pays to look.
#[derive(Default)]
pub(super) struct Luck {
    /// Since it was last judged.
    looked: u32,
    pub(super) found: u32,
    /// For how many requests no one looks.
    rest: u32,
}

impl Luck {
    /// To be asked before a look. One that is found in eight saves more than the others cost.
    #[inline(always)]
    pub(super) fn is_out(&mut self) -> bool {
        if self.rest > 0 {
            self.rest -= 1;
            return true;
        }
        self.looked += 1;
        if self.looked == LOOKS {
            let found = std::mem::take(self).found;
            self.rest = if found < LOOKS / 8 { 7 * LOOKS } else { 0 };
        }
        false
    }
}

/// A request without what may differ between those that are alike.
struct Likeness<'r> {
    /// Flags, type, class and OPT; what the name's length is and what limits the reply has.
    fixed: [u64; FIXED],
    /// The name, and the last eight octets of the request that end with it: in a short name some
    /// are the header's.
    name: &'r [u8],
    last: u64,
}

impl<'r> Likeness<'r> {
    /// `None` if it is not of the usual form: one question with a name of the usual length, and at
    /// most an OPT record without options. That what looks like a name is one, is for who keeps it
    /// to see: the same octets, but for case, are the same name then.
    #[inline(always)]
    fn of(request: &'r [u8], via: &Via<'_>, room: usize) -> Option<Self> {
        const QUESTION: u64 = u64::from_be_bytes([0, 1, 0, 0, 0, 0, 0, 0]);
        let (header, rest) = request.split_first_chunk::<HEADER_LEN>()?;
        let behind = match u64::from_be_bytes(*header.last_chunk()?) {
            QUESTION => TYPE_CLASS,
            counts if counts == QUESTION + 1 => TYPE_CLASS_OPT,
            _ => return None,
        };
        let name_len = rest.len().checked_sub(behind).filter(|len| (1..=NAME_LEN).contains(len))?;
        let is_plain = via.transport == Transport::Udp && via.key.is_none() && via.reserved == 0;
        if !is_plain {
            return None;
        }
        let flags = u64::from(header[2]) << 8 | u64::from(header[3]);
        let is_v4 = u64::from(via.peer.to_canonical().is_ipv4());
        let limits = flags | (name_len as u64) << 16 | is_v4 << 31 | (room as u64) << 32;
        let (name, behind) = rest.split_at(name_len);
        let (start, end) = match behind.first_chunk::<TYPE_CLASS_OPT>() {
            Some(all) => (word(&all[..8]), word(&all[7..])),
            None => (u64::from(u32::from_le_bytes(*behind.first_chunk()?)), 0),
        };
        let last = word(&request[HEADER_LEN + name_len - 8..][..8]);
        let last = last >> (8 * 8_usize.saturating_sub(name_len));
        Some(Self { fixed: [limits, start, end], name, last })
    }

    /// Is this the question of another?
    #[inline(always)]
    fn is(&self, question: &Question) -> bool {
        let (all, _) = self.name.as_chunks();
        let (last, mut theirs) = (question[FIXED + all.len()], question[FIXED..].iter());
        self.fixed[..] == question[..FIXED]
            && fold(self.last) == last
            && all.iter().all(|chunk| theirs.next() == Some(&fold(u64::from_le_bytes(*chunk))))
    }

    /// What others are compared with.
    fn question(&self) -> Question {
        let (all, _) = self.name.as_chunks();
        let mut question = [0; WORDS];
        question[..FIXED].copy_from_slice(&self.fixed);
        for (word, chunk) in question[FIXED..].iter_mut().zip(all) {
            *word = fold(u64::from_le_bytes(*chunk));
        }
        question[FIXED + all.len()] = fold(self.last);
        question
    }

    #[inline(always)]
    fn hash(&self, seed: u64) -> Hash {
        let mix = |hash: u64, word: u64| {
            let product = u128::from(hash ^ fold(word)) * 0x9e37_79b9_7f4a_7c15;
            let halves = (product ^ product >> 64) & u128::from(u64::MAX);
            u64::try_from(halves).expect("masked")
        };
        let [limits, start, end] = self.fixed;
        let first = seed ^ limits ^ start.rotate_left(16) ^ end.rotate_left(48);
        let (all, _) = self.name.as_chunks();
        let hash = all.iter().fold(first, |hash, chunk| mix(hash, u64::from_le_bytes(*chunk)));
        let hash = mix(hash, self.last);
        let [a, b, way, _, tag @ ..] = hash.to_le_bytes();
        Hash {
            set: usize::from(u16::from_le_bytes([a, b])) % SETS,
            way: usize::from(way) % WAYS,
            tag: u32::from_le_bytes(tag),
        }
    }
}

/// Where a question has its place.
struct Hash {
    set: usize,
    /// The place that a newcomer may take.
    way: usize,
    tag: u32,
}
