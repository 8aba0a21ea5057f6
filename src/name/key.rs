//! What names are looked up by and sorted by.

use super::{NAME_MAX, Name, NameBuf};
use crate::octets;
use std::fmt;

/// What names are looked up and sorted by: the labels from the top down, case folded, each
/// followed by a zero octet.
///
/// No escapes are needed: a folded octet is never in `A..=Z`, so 0x00-0x40 move up by one, and
/// zero is free as the end of a label. A key is as long as the name without its root octet.
///
/// The key of a name in a zone is what follows the apex's key in the name's: one key serves to
/// find the zone, and then to [enter](Self::enter) it.
#[derive(Clone)]
pub struct Key {
    /// Where the key begins: behind the key of the zone it was made to enter.
    start: u8,
    end: u8,
    bytes: [u8; NAME_MAX + 8],
}

impl Key {
    /// The longest key, in octets.
    pub const MAX: usize = NAME_MAX - 1;

    /// The key of `name` without its `above` rightmost labels: relative to a zone of that many
    /// labels, or the whole name with 0.
    #[inline(always)]
    pub fn of(name: Name<'_>, above: usize) -> Self {
        if above == 0 {
            return Self::below(name, Name::ROOT);
        }
        let own = name.label_count().saturating_sub(above);
        Self::leading(name, name.len() - name.skip(own).len())
    }

    /// The key of `name` relative to `apex`, which is it or above it.
    #[inline(always)]
    pub fn below(name: Name<'_>, apex: Name<'_>) -> Self {
        Self::leading(name, name.len() - apex.len())
    }

    /// The key of the labels in the first `len` octets of a name.
    #[inline(always)]
    fn leading(name: Name<'_>, len: usize) -> Self {
        let mut key = Self::empty();
        key.put_leading(name, len);
        key
    }

    /// Makes this the key of `name` with all its labels: as [`of`](Self::of), where the key already
    /// has a place, since moving one costs as much as making it.
    #[inline(always)]
    pub fn set(&mut self, name: Name<'_>) {
        self.bytes[..usize::from(self.end)].fill(0);
        self.start = 0;
        self.put_leading(name, name.len() - 1);
    }

    #[inline(always)]
    fn put_leading(&mut self, name: Name<'_>, len: usize) {
        let (mut rest, mut at) = (name.as_wire(), len);
        while at > 0 {
            let (label, behind) = (usize::from(rest[0]), &rest[1..]);
            // What is to the right in the name is to the left in the key; a label's length octet
            // makes the room for the zero that ends it.
            at -= 1 + label;
            self.put_label(at, behind, label);
            rest = &behind[label..];
        }
        #[expect(clippy::cast_possible_truncation, reason = "a name has 255 octets at most")]
        {
            self.end = len as u8;
        }
    }

    /// Puts the first `len` octets of `bytes` to where there are zeros. What follows them is
    /// only there to be read with them.
    #[inline(always)]
    fn put_label(&mut self, mut at: usize, mut bytes: &[u8], mut len: usize) {
        loop {
            let folded = octets::fold_above_zero(octets::word(bytes)) & octets::mask(len);
            let to = self.bytes.get_mut(at..at + 8).and_then(|to| to.first_chunk_mut());
            let to = to.expect("eight octets behind the longest key");
            // Beside zeros, what labels to the left of this one in the name have written.
            *to = (u64::from_le_bytes(*to) | folded).to_le_bytes();
            if len <= 8 {
                return;
            }
            (at, bytes, len) = (at + 8, &bytes[8..], len - 8);
        }
    }

    /// The key without labels: the zone's apex, or the root.
    pub const fn empty() -> Self {
        Self { start: 0, end: 0, bytes: [0; NAME_MAX + 8] }
    }

    /// The key that `bytes` are: taken from a tree or a store. `None` if they are none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > Self::MAX || bytes.first() == Some(&0) {
            return None;
        }
        let mut label = 0;
        for &byte in bytes {
            match byte {
                0 if label == 0 => return None,
                0 => label = 0,
                b'B'..=b'Z' => return None,
                _ => label += 1,
            }
            if label > 63 {
                return None;
            }
        }
        if label != 0 {
            return None;
        }
        Some(Self::made(bytes))
    }

    /// The key that `bytes` are, which the caller made as keys are made.
    pub fn made(bytes: &[u8]) -> Self {
        let mut key = Self::empty();
        key.bytes[..bytes.len()].copy_from_slice(bytes);
        key.end = u8::try_from(bytes.len()).expect("a key has 254 octets at most");
        key
    }

    /// From now on the key of the name in the zone of this apex, which is at or above it.
    pub fn enter(&mut self, apex: Name<'_>) {
        debug_assert!(apex.len() <= usize::from(self.end) + 1, "the name is not in the zone");
        self.start = u8::try_from(apex.len() - 1).expect("a name has 255 octets at most");
    }

    /// The octets that order is defined on.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[usize::from(self.start)..usize::from(self.end)]
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        usize::from(self.end - self.start)
    }

    /// Is this the key without labels: the apex, or the root?
    pub fn is_empty(&self) -> bool {
        self.end == self.start
    }

    /// The array that the [octets](Self::as_bytes) are in, and where they begin. Behind them are
    /// zeros to its end, eight at least, so that a word may be read at any place in the key.
    pub fn padded(&self) -> (&[u8; NAME_MAX + 8], usize) {
        (&self.bytes, usize::from(self.start))
    }

    /// The key of the ancestor whose key has `len` octets; `len` must be the end of a label.
    pub fn ancestor(&self, len: usize) -> Self {
        debug_assert!(len == 0 || self.as_bytes()[len - 1] == 0, "not the end of a label");
        let mut key = Self::empty();
        key.bytes[..len].copy_from_slice(&self.as_bytes()[..len]);
        #[expect(clippy::cast_possible_truncation, reason = "not longer than this key")]
        {
            key.end = len as u8;
        }
        key
    }

    /// The key of the wildcard below the ancestor of `len` octets (RFC 4592 section 2.1.1).
    /// `None` if such a name would be too long.
    pub fn wildcard(&self, len: usize) -> Option<Self> {
        if usize::from(self.start) + len + 2 > Self::MAX {
            return None;
        }
        let mut key = self.ancestor(len);
        key.bytes[len] = b'*' + 1;
        key.end += 2;
        Some(key)
    }

    /// How many octets of this key and of `other` are the same whole labels: the key's length of
    /// their closest common ancestor.
    pub fn common(&self, other: &[u8]) -> usize {
        common_labels(self.as_bytes(), other)
    }

    /// The folded (lower case) name that this is the key of, below `apex`. `None` if the two
    /// together are too long.
    pub fn name(&self, apex: Name<'_>) -> Option<NameBuf> {
        self.write_name(apex, &mut [0; NAME_MAX]).map(Name::to_owned)
    }

    /// As [`name`](Self::name), into `buffer`.
    pub fn write_name<'b>(
        &self,
        apex: Name<'_>,
        buffer: &'b mut [u8; NAME_MAX],
    ) -> Option<Name<'b>> {
        let own = self.len();
        let wire = buffer.get_mut(..own + apex.len())?;
        wire[own..].copy_from_slice(apex.as_wire());
        let mut end = own;
        for label in self.as_bytes().split_inclusive(|&byte| byte == 0) {
            let label = &label[..label.len() - 1];
            let start = end - label.len();
            wire[start - 1] = u8::try_from(label.len()).ok()?;
            wire[start..end].copy_from_slice(label);
            unfold(&mut wire[start..end]);
            end = start - 1;
        }
        Some(Name(wire))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", self.name(Name::ROOT))
    }
}

/// How many leading octets two keys have in common, counted in whole labels.
pub fn common_labels(a: &[u8], b: &[u8]) -> usize {
    a[..octets::common(a, b)].iter().rposition(|&byte| byte == 0).map_or(0, |end| end + 1)
}

/// Makes the octets of a label in a key those of a folded name.
pub fn unfold(label: &mut [u8]) {
    let (words, rest) = label.as_chunks_mut::<8>();
    for word in words {
        *word = octets::unfold_above_zero(u64::from_le_bytes(*word)).to_le_bytes();
    }
    let last = octets::unfold_above_zero(octets::word(rest)).to_le_bytes();
    rest.copy_from_slice(&last[..rest.len()]);
}
