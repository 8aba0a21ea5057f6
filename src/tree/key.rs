//! Keys as the tree holds and compares them: in pieces, and by their first differing word.

use crate::name::{Key, NAME_MAX};
use crate::octets;
use std::cmp::Ordering;
use std::fmt;

/// A word of a key: the octets behind a prefix that searches compare first.
pub(super) const WORD: usize = 4;

/// The octets of a key with enough zeros behind them to read a word at any place.
pub(super) type Padded = [u8; NAME_MAX + 8];

/// What a search looks for.
#[derive(Clone, Copy)]
pub(super) struct Sought<'k> {
    padded: &'k Padded,
    start: usize,
    len: usize,
}

impl<'k> Sought<'k> {
    /// The first `len` octets of `padded`; those behind must be zero, eight at least.
    #[inline]
    pub(super) fn new(padded: &'k Padded, len: usize) -> Self {
        Self::within(padded, 0, len)
    }

    /// As [`new`](Self::new), but for the octets from `start` on.
    #[inline]
    fn within(padded: &'k Padded, start: usize, len: usize) -> Self {
        debug_assert!(padded[start + len..].iter().all(|&byte| byte == 0), "not padded with zeros");
        debug_assert!(padded.len() >= start + len + 8, "too few zeros");
        Self { padded, start, len }
    }

    pub(super) fn as_bytes(self) -> &'k [u8] {
        &self.padded[self.start..self.start + self.len]
    }

    pub(super) fn len(self) -> usize {
        self.len
    }

    /// The first `len` octets, zeros standing in for missing ones.
    pub(super) fn first(self, len: usize) -> &'k [u8] {
        let end = self.padded.len().min(self.start + len);
        &self.padded[self.start..end]
    }

    /// The eight octets behind the first `at`, the first one highest.
    #[inline(always)]
    fn octets(self, at: usize) -> u64 {
        // No key reaches further: there are zeros. Said so, it costs no check.
        let at = (self.start + at).min(NAME_MAX);
        let octets = self.padded[at..at + 8].first_chunk();
        u64::from_be_bytes(*octets.expect("eight octets"))
    }

    /// How the key's first octets compare with the first `len` of `bytes`.
    #[inline(always)]
    pub(super) fn compare_start(self, bytes: &[u8], len: usize) -> Ordering {
        self.compare(0, bytes, len)
    }

    /// How the key's octets from `start` on compare with the first `len` of `bytes`, zeros standing
    /// in for missing ones. A zero is below all octets a key could have there, so the order is
    /// right. Whole words of `bytes` are read, if there are so many: what is behind the `len` does
    /// not matter.
    #[inline(always)]
    pub(super) fn compare(self, start: usize, bytes: &[u8], len: usize) -> Ordering {
        let mut at = 0;
        while at < len {
            let unused = 8 * 8_usize.saturating_sub(len - at);
            let mine = self.octets(start + at) >> unused;
            let theirs = octets::word(&bytes[at..]).swap_bytes() >> unused;
            if mine != theirs {
                return mine.cmp(&theirs);
            }
            at += 8;
        }
        Ordering::Equal
    }

    /// The two words behind the first `at` octets.
    #[inline(always)]
    pub(super) fn words(self, at: usize) -> u64 {
        self.octets(at)
    }

    /// The word behind the first `at` octets.
    #[inline(always)]
    pub(super) fn word(self, at: usize) -> u32 {
        (self.octets(at) >> 32) as u32
    }

    /// What follows that word.
    #[inline(always)]
    pub(super) fn rest(self, at: usize) -> &'k [u8] {
        self.as_bytes().get(at + WORD..).unwrap_or(&[])
    }
}

impl<'k> From<&'k Key> for Sought<'k> {
    fn from(key: &'k Key) -> Self {
        let (padded, start) = key.padded();
        Self::within(padded, start, key.len())
    }
}

/// The word at `at`.
#[inline(always)]
pub(super) fn word(padded: &Padded, at: usize) -> u32 {
    Sought { padded, start: at, len: 0 }.word(0)
}

/// The key of an entry, as it lies in its page: in three pieces, nothing copied.
#[derive(Clone, Copy)]
pub struct EntryKey<'t> {
    prefix: &'t [u8],
    word: [u8; WORD],
    rest: &'t [u8],
    len: u8,
}

impl<'t> EntryKey<'t> {
    /// A key of `len` octets: those all keys of a page begin with, a word, and what follows it.
    pub(super) fn new(prefix: &'t [u8], word: u32, rest: &'t [u8], len: u8) -> Self {
        Self { prefix, word: word.to_be_bytes(), rest, len }
    }

    /// The key that is all in `bytes`, at most [`Key::MAX`] of them.
    pub(super) fn whole(bytes: &'t [u8]) -> Self {
        let len = u8::try_from(bytes.len()).expect("a key has 254 octets at most");
        Self { prefix: bytes, word: [0; WORD], rest: &[], len }
    }

    fn pieces(&self) -> [&[u8]; 3] {
        let in_word = (self.len() - self.prefix.len()).min(WORD);
        [self.prefix, &self.word[..in_word], self.rest]
    }

    /// How many octets the key has.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Is this the key without labels: the apex, or the root?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Does the key begin with `prefix`?
    pub fn starts_with(&self, prefix: &[u8]) -> bool {
        let mut rest = prefix;
        for piece in self.pieces() {
            let (theirs, after) = rest.split_at(piece.len().min(rest.len()));
            if !piece.starts_with(theirs) {
                return false;
            }
            rest = after;
        }
        rest.is_empty()
    }

    /// How many leading octets this key and `key` have in common, counted in whole labels: the
    /// key's length of their closest common ancestor.
    pub fn common_labels(&self, key: &Key) -> usize {
        self.common_labels_of(key.into())
    }

    /// As [`common_labels`](Self::common_labels).
    pub(super) fn common_labels_of(&self, sought: Sought<'_>) -> usize {
        let common = self.common(sought);
        if common == self.len() {
            return common; // All of it, so an ancestor, or the key itself.
        }
        let shared = &sought.as_bytes()[..common];
        shared.iter().rposition(|&byte| byte == 0).map_or(0, |end| end + 1)
    }

    /// A key of its own: a copy of 264 octets, so better not on the answer path.
    pub fn to_key(&self) -> Key {
        let mut padded = [0; NAME_MAX + 8];
        self.copy_to(&mut padded);
        Key::from_bytes(&padded[..self.len()]).expect("only keys are stored")
    }

    /// Writes the key to the front of `to`, which has room for it.
    pub fn copy_octets(&self, to: &mut [u8]) {
        let mut at = 0;
        for piece in self.pieces() {
            to[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        }
    }

    /// Writes the key to the front of `to` and zeros behind it, enough of them to read a word.
    pub(super) fn copy_to(&self, to: &mut Padded) {
        self.copy_octets(to);
        to[self.len()..self.len() + WORD].fill(0);
    }

    /// How many leading octets this key and the one sought have in common.
    pub(super) fn common(&self, sought: Sought<'_>) -> usize {
        let mut at = 0;
        while at < self.prefix.len() {
            let theirs = octets::word(&self.prefix[at..]) ^ sought.octets(at).swap_bytes();
            let differ = theirs & octets::mask(self.prefix.len() - at);
            if differ != 0 {
                return at + differ.trailing_zeros() as usize / 8;
            }
            at += 8;
        }
        let differ = u32::from_be_bytes(self.word) ^ sought.word(self.prefix.len());
        let common = self.prefix.len() + differ.leading_zeros() as usize / 8;
        let len = self.len().min(sought.len());
        if differ != 0 || self.rest.is_empty() {
            return common.min(len);
        }
        common + octets::common(self.rest, sought.rest(self.prefix.len()))
    }
}

impl PartialEq<Key> for EntryKey<'_> {
    fn eq(&self, other: &Key) -> bool {
        self.len() == other.as_bytes().len() && self.starts_with(other.as_bytes())
    }
}

impl fmt::Debug for EntryKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_key().fmt(f)
    }
}
