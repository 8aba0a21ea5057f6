//! A page: some twenty entries in one allocation, never changed, only replaced.
//!
//! ```text
//! head     values . count . length of the prefix
//! bytes    prefix | count x word (4) | count x place of the entry (2) | entries
//! entry    length of the key without the prefix (1) | the key behind prefix and word | blob
//! ```

use super::Entry;
use super::key::{EntryKey, Padded, Sought, WORD, word};
use crate::name::NAME_MAX;
use crate::octets;
use std::cmp::Ordering;
use triomphe::ThinArc;

/// What the allocation holds before the bytes: reference count, head, length.
pub(super) const OVERHEAD: usize = 16 + size_of::<Head<()>>();
/// The most bytes of a page of several entries. With the overhead 1024, a size class of the
/// allocator. Measured: 512 makes more inner nodes than the cache holds, 2048 costs a batch of
/// look-ups 40 % and every update twice the copying.
pub(super) const PAGE_MAX: usize = 1024 - OVERHEAD;
/// A page below this is joined with a sibling that has room.
pub(super) const PAGE_MIN: usize = PAGE_MAX / 3;
/// How far bulk loading fills a page: to the next smaller size class, so that the first change
/// does not split it.
pub(super) const PAGE_FILL: usize = 896 - OVERHEAD;
/// What an entry takes besides blob and key: word, place, length.
const ENTRY_FIXED: usize = WORD + 2 + 1;

pub(super) struct Head<V> {
    values: Box<[V]>,
    count: u16,
    prefix: u8,
}

pub(super) struct Page<V>(ThinArc<Head<V>, u8>);

impl<V> Clone for Page<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<V> Page<V> {
    #[inline(always)]
    fn head(&self) -> &Head<V> {
        &self.0.header.header
    }

    /// How many entries.
    #[inline(always)]
    pub(super) fn count(&self) -> usize {
        usize::from(self.head().count)
    }

    /// How many bytes, to be held against [`PAGE_MAX`].
    pub(super) fn size(&self) -> usize {
        self.0.slice.len()
    }

    /// Where it is, without touching it.
    pub(super) fn address(&self) -> usize {
        self.0.as_ptr().addr()
    }

    /// Starts loading the page. Measured: only its head, prefix and tables, the entry then being
    /// a miss of its own, makes a look-up in a million names 15 % slower.
    #[inline(always)]
    pub(super) fn prefetch(&self) {
        for line in 0..12 {
            octets::prefetch(self.0.as_ptr().cast(), 64 * line);
        }
    }

    fn prefix(&self) -> &[u8] {
        &self.0.slice[..usize::from(self.head().prefix)]
    }

    /// The words and the places of all entries.
    #[inline(always)]
    fn tables(&self) -> (&[[u8; WORD]], &[[u8; 2]]) {
        let (prefix, count) = (usize::from(self.head().prefix), self.count());
        let (words, rest) = self.0.slice[prefix..].split_at(WORD * count);
        (words.as_chunks().0, rest[..2 * count].as_chunks().0)
    }

    fn places(&self) -> impl Iterator<Item = u16> {
        self.tables().1.iter().map(|&place| u16::from_le_bytes(place))
    }

    /// Where the bytes of entry `at` begin; where they end with `at + 1`.
    fn place(&self, at: usize) -> usize {
        self.places().nth(at).map_or_else(|| self.size(), usize::from)
    }

    /// Of entry `at`: the length of the key without the prefix, and its key behind prefix and
    /// word with the blob.
    #[inline(always)]
    fn entry_bytes(&self, places: &[[u8; 2]], at: usize) -> (usize, &[u8]) {
        let place = |place: &[u8; 2]| usize::from(u16::from_le_bytes(*place));
        let end = places.get(at + 1).map_or(self.0.slice.len(), place);
        let bytes = &self.0.slice[place(&places[at])..end];
        (usize::from(bytes[0]), &bytes[1..])
    }

    /// Entry `at`, if there are that many.
    pub(super) fn entry(&self, at: usize) -> Option<Entry<'_, V>> {
        let value = self.head().values.get(at)?;
        let (words, places) = self.tables();
        let (suffix, bytes) = self.entry_bytes(places, at);
        let (rest, blob) = bytes.split_at(suffix.saturating_sub(WORD));
        let word = u32::from_le_bytes(*words.get(at)?);
        let len = u8::try_from(self.prefix().len() + suffix).ok()?;
        Some(Entry { key: EntryKey::new(self.prefix(), word, rest, len), blob, value })
    }

    /// The value of entry `at`, if there are that many.
    #[inline(always)]
    pub(super) fn value(&self, at: usize) -> Option<&V> {
        self.head().values.get(at)
    }

    /// The value of entry `at`, if its key is the one sought or an ancestor's.
    #[inline(always)]
    pub(super) fn if_at_or_above(&self, at: usize, sought: Sought<'_>) -> Option<&V> {
        let prefix = usize::from(self.head().prefix);
        let (words, places) = self.tables();
        let (suffix, bytes) = self.entry_bytes(places, at);
        let unused = 8 * WORD.saturating_sub(suffix);
        let differ = u64::from(u32::from_le_bytes(*words.get(at)?) ^ sought.word(prefix));
        let is_above = differ >> unused == 0
            && sought.compare_start(&self.0.slice, prefix) == Ordering::Equal
            && (suffix <= WORD || sought.rest(prefix).starts_with(&bytes[..suffix - WORD]));
        self.head().values.get(at).filter(|_| is_above)
    }

    /// The blob of the last entry before the one at `at` whose key has `len` octets, if it is among
    /// a few: of the entry's ancestor or elder sibling, then, since what is below those comes after
    /// them.
    #[inline(always)]
    pub(super) fn last_of_len(&self, len: usize, at: usize) -> Option<&[u8]> {
        const FEW: usize = 8;
        let suffix_len = len.checked_sub(usize::from(self.head().prefix))?;
        let places = self.tables().1;
        (at.saturating_sub(FEW)..at).rev().find_map(|at| {
            let (suffix, bytes) = self.entry_bytes(places, at);
            (suffix == suffix_len).then(|| &bytes[suffix.saturating_sub(WORD)..])
        })
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = Entry<'_, V>> {
        (0..self.count()).filter_map(|at| self.entry(at))
    }

    /// The last entry.
    pub(super) fn last(&self) -> Option<Entry<'_, V>> {
        self.entry(self.count().checked_sub(1)?)
    }

    /// Where the entry of exactly this key is, with its blob, or else where it would go.
    #[inline(always)]
    pub(super) fn search(&self, sought: Sought<'_>) -> Result<(usize, &[u8]), usize> {
        let prefix = usize::from(self.head().prefix);
        match sought.compare_start(&self.0.slice, prefix) {
            Ordering::Less => return Err(0),
            Ordering::Greater => return Err(self.count()),
            Ordering::Equal => {}
        }
        let (words, places) = self.tables();
        let mine = sought.word(prefix);
        let mut low = below(words, mine);
        let equal = |word: &&[u8; WORD]| u32::from_le_bytes(**word) == mine;
        let mut high = low + words[low..].iter().take_while(equal).count();
        while low < high {
            let middle = usize::midpoint(low, high);
            let (suffix, bytes) = self.entry_bytes(places, middle);
            let rest = suffix.saturating_sub(WORD);
            let order = sought.compare(prefix + WORD, bytes, rest).reverse();
            match order.then((prefix + suffix).cmp(&sought.len())) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok((middle, &bytes[rest..])),
                Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }
}

/// How many of these words, which ascend, are below this one.
#[inline(always)]
fn below(words: &[[u8; WORD]], mine: u32) -> usize {
    words.partition_point(|&word| u32::from_le_bytes(word) < mine)
}

impl<V: Clone> Page<V> {
    /// The page of these entries, at least one, in order.
    pub(super) fn pack(entries: &[Entry<'_, V>]) -> Self {
        let mut key: Padded = [0; NAME_MAX + 8];
        let shared = shared_prefix(entries, &mut key);
        let words = shared;
        let places = words + WORD * entries.len();
        let mut bytes = vec![0; places + 2 * entries.len()];
        bytes.reserve_exact(packed_size(entries, shared) - bytes.len());
        bytes[..shared].copy_from_slice(&key[..shared]);
        for (at, entry) in entries.iter().enumerate() {
            entry.key.copy_to(&mut key);
            let place = u16::try_from(bytes.len()).expect("only the last entry may be large");
            bytes[words + WORD * at..][..WORD].copy_from_slice(&word(&key, shared).to_le_bytes());
            bytes[places + 2 * at..][..2].copy_from_slice(&place.to_le_bytes());
            push_entry(&mut bytes, &key, shared, entry);
        }
        Self::seal(bytes, shared, entries.iter().map(|entry| entry.value.clone()).collect())
    }

    fn seal(bytes: Vec<u8>, prefix: usize, values: Box<[V]>) -> Self {
        let head = Head {
            count: u16::try_from(values.len()).expect("a page is too small for more"),
            prefix: u8::try_from(prefix).expect("a key has 254 octets at most"),
            values,
        };
        Self(ThinArc::from_header_and_slice(head, &bytes))
    }

    /// The pages that the entries need, at least one entry, in order.
    pub(super) fn paginate(entries: &[Entry<'_, V>], pages: &mut Vec<Self>) {
        let shared = shared_prefix(entries, &mut [0; NAME_MAX + 8]);
        if entries.len() == 1 || packed_size(entries, shared) <= PAGE_MAX {
            pages.push(Self::pack(entries));
        } else {
            let (left, right) = entries.split_at(middle(entries));
            Self::paginate(left, pages);
            Self::paginate(right, pages);
        }
    }

    /// What this page becomes when the entry of this key is `new`, or gone: none, one or several.
    pub(super) fn edit(&self, sought: Sought<'_>, new: Option<Entry<'_, V>>) -> Vec<Self> {
        let found = self.search(sought).map(|(at, _)| at);
        let at = found.unwrap_or_else(|at| at);
        let gone = usize::from(found.is_ok());
        if new.is_none() && gone == self.count() {
            return Vec::new();
        }
        if let Some(page) = self.splice(at, gone, sought, new.as_ref()) {
            return vec![page];
        }
        let mut entries: Vec<_> = self.entries().collect();
        entries.splice(at..at + gone, new);
        let mut pages = Vec::new();
        Self::paginate(&entries, &mut pages);
        pages
    }

    /// The common case of [`edit`](Self::edit): the prefix stays, the result fits. Copies the
    /// bytes before and behind the place of the change. A removal may leave the prefix shorter
    /// than it could be.
    fn splice(
        &self,
        at: usize,
        gone: usize,
        sought: Sought<'_>,
        new: Option<&Entry<'_, V>>,
    ) -> Option<Self> {
        let prefix = self.prefix();
        let added = usize::from(new.is_some());
        let size = match new {
            Some(new) if new.key.starts_with(prefix) => {
                ENTRY_FIXED + sought.rest(prefix.len()).len() + new.blob.len()
            }
            Some(_) => return None,
            None => 0,
        };
        let (start, end) = (self.place(at), self.place(at + gone));
        let size_after = self.size() + size - gone * (WORD + 2) - (end - start);
        if size_after > PAGE_MAX {
            return None;
        }
        let count = self.count() + added - gone;
        let mut bytes = Vec::with_capacity(size_after);
        bytes.extend_from_slice(prefix);
        let words = self.tables().0;
        bytes.extend_from_slice(words[..at].as_flattened());
        if added == 1 {
            bytes.extend_from_slice(&sought.word(prefix.len()).to_le_bytes());
        }
        bytes.extend_from_slice(words[at + gone..].as_flattened());
        let first = prefix.len() + (WORD + 2) * count;
        let shift = |place: usize, by: usize, less: usize| {
            u16::try_from(place + by - less).expect("within the page").to_le_bytes()
        };
        let tables = (WORD + 2) * self.count();
        for place in self.places().take(at) {
            bytes.extend_from_slice(&shift(place.into(), (WORD + 2) * count, tables));
        }
        if added == 1 {
            bytes.extend_from_slice(&shift(start, (WORD + 2) * count, tables));
        }
        for place in self.places().skip(at + gone) {
            bytes.extend_from_slice(&shift(place.into(), size_after, self.size()));
        }
        bytes.extend_from_slice(&self.0.slice[self.place(0)..start]);
        debug_assert_eq!(bytes.len(), first + start - self.place(0), "tables of another size");
        if let Some(new) = new {
            push_entry(&mut bytes, sought.as_bytes(), prefix.len(), new);
        }
        bytes.extend_from_slice(&self.0.slice[end..]);
        let mut values = self.head().values.to_vec();
        values.splice(at..at + gone, new.map(|new| new.value.clone()));
        Some(Self::seal(bytes, prefix.len(), values.into()))
    }

    /// The page of both, if they fit into one.
    pub(super) fn join(&self, right: &Self) -> Option<Self> {
        if self.size() + right.size() > PAGE_MAX {
            return None;
        }
        let entries: Vec<_> = self.entries().chain(right.entries()).collect();
        let shared = shared_prefix(&entries, &mut [0; NAME_MAX + 8]);
        (packed_size(&entries, shared) <= PAGE_MAX).then(|| Self::pack(&entries))
    }

    /// The shortest string above everything in `self` and not above anything in `right`.
    pub(super) fn separator(&self, right: &Self) -> Vec<u8> {
        let (mut low, mut high): (Padded, Padded) = ([0; NAME_MAX + 8], [0; NAME_MAX + 8]);
        let ends = self.last().zip(right.entry(0));
        let (last, first) = ends.expect("a page has entries");
        last.key.copy_to(&mut low);
        first.key.copy_to(&mut high);
        let common = octets::common(&low[..last.key.len()], &high[..first.key.len()]);
        high[..=common].to_vec()
    }
}

/// Appends the entry whose key is `key`, in a page of keys that share `prefix` octets.
fn push_entry<V>(bytes: &mut Vec<u8>, key: &[u8], prefix: usize, entry: &Entry<'_, V>) {
    let len = entry.key.len();
    bytes.push(u8::try_from(len - prefix).expect("a key has 254 octets at most"));
    bytes.extend_from_slice(key.get(prefix + WORD..len).unwrap_or(&[]));
    bytes.extend_from_slice(entry.blob);
}

/// How many octets the keys share, which are left in `key`.
fn shared_prefix<V>(entries: &[Entry<'_, V>], key: &mut Padded) -> usize {
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return 0 };
    first.key.copy_to(key);
    last.key.common(Sought::new(key, first.key.len()))
}

/// How many bytes a page of `entries` has whose keys share so many octets.
fn packed_size<V>(entries: &[Entry<'_, V>], shared: usize) -> usize {
    let size = |entry: &Entry<'_, V>| entry_size(entry.key.len(), entry.blob.len(), shared);
    shared + entries.iter().map(size).sum::<usize>()
}

/// How many of them are for an entry of so many octets of key and of blob.
pub(super) fn entry_size(key: usize, blob: usize, shared: usize) -> usize {
    ENTRY_FIXED + (key - shared).saturating_sub(WORD) + blob
}

/// Where to part entries, at least two, into halves of about as many bytes.
fn middle<V>(entries: &[Entry<'_, V>]) -> usize {
    let size = |entry: &Entry<'_, V>| entry_size(entry.key.len(), entry.blob.len(), 0);
    let half = entries.iter().map(size).sum::<usize>() / 2;
    let mut left = size(&entries[0]);
    let mut at = 1;
    while at < entries.len() - 1 && left + size(&entries[at]) / 2 < half {
        left += size(&entries[at]);
        at += 1;
    }
    at
}
