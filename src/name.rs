//! A domain name: its borrowed wire form, an owned one, and the key that names are ordered by.
//!
//! **How it fits.** Every name that comes from outside passes [`Name::split`] or
//! [`Name::from_wire`] once; from then on its bytes are known to be labels of 1-63 octets ended
//! by the root's zero, 255 octets at the most, without compression. [`Key`] is what `tree` sorts by.
//!
//! **Invariants.**
//! - *well-formed*: a [`Name`] and a [`NameBuf`] hold exactly one uncompressed name.
//! - *canonical*: byte order of keys is RFC 4034 section 6.1 order of names; an ancestor's key is
//!   a prefix of its descendants' keys, so a subtree is contiguous and follows its top.
//!
//! **Sections.** RFC 1035 section 3.1, RFC 4034 section 6.1, RFC 4343 (case).
//!
//! It knows nothing of messages: compression pointers are read in `query` and `xfr`, and written
//! in `wire`.

mod key;

use crate::octets;
pub use key::{Key, common_labels, unfold};
use std::fmt;
use std::str::FromStr;

/// The longest name, in octets of wire form (RFC 1035 section 2.3.4).
pub const NAME_MAX: usize = 255;

/// The longest label, in octets without its length.
pub const LABEL_MAX: usize = 63;

/// A name in uncompressed wire form, borrowed.
#[derive(Clone, Copy)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// The root.
    pub const ROOT: Name<'static> = Name(&[0]);

    /// The name that `bytes` are, all of them.
    pub fn from_wire(bytes: &'a [u8]) -> Option<Self> {
        match Self::split(bytes)? {
            (name, []) => Some(name),
            _ => None,
        }
    }

    /// The name that `bytes` begin with, and what follows it. Compression is not understood.
    pub fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut at = 0;
        loop {
            let len = usize::from(*bytes.get(at)?);
            if len > LABEL_MAX || at + len >= NAME_MAX {
                return None;
            }
            at += 1 + len;
            if len == 0 {
                return Some((Name(&bytes[..at]), &bytes[at..]));
            }
        }
    }

    /// The wire form, with the root's zero at its end.
    pub fn as_wire(self) -> &'a [u8] {
        self.0
    }

    /// How many octets the wire form has.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(self) -> usize {
        self.0.len()
    }

    /// Is this the root?
    pub fn is_root(self) -> bool {
        self.0.len() == 1
    }

    /// Is the leftmost label an asterisk (RFC 4592 section 2.1.1)?
    pub fn is_wildcard(self) -> bool {
        self.0.starts_with(b"\x01*")
    }

    /// The labels from left to right, without the root's empty one.
    pub fn labels(self) -> Labels<'a> {
        Labels(self.0)
    }

    /// How many labels, the root's not counted.
    pub fn label_count(self) -> usize {
        self.labels().count()
    }

    /// The name without its leftmost label; `None` for the root.
    pub fn parent(self) -> Option<Self> {
        match usize::from(self.0[0]) {
            0 => None,
            len => Some(Name(&self.0[1 + len..])),
        }
    }

    /// The name without its `n` leftmost labels (the root if it has no more).
    pub fn skip(self, n: usize) -> Self {
        let mut name = self;
        for _ in 0..n {
            name = name.parent().unwrap_or(Name(&[0]));
        }
        name
    }

    /// Is this name `apex` or below it?
    pub fn is_at_or_below(self, apex: Name<'_>) -> bool {
        let Some(mut above) = self.0.len().checked_sub(apex.0.len()) else { return false };
        let mut rest = self.0;
        while above > 0 {
            let label = 1 + usize::from(rest[0]);
            if label > above {
                return false;
            }
            (above, rest) = (above - label, &rest[label..]);
        }
        Name(rest) == apex
    }

    /// An owned copy.
    pub fn to_owned(self) -> NameBuf {
        NameBuf(self.0.into())
    }
}

/// Names are equal whatever the case of their ASCII letters (RFC 4343).
impl PartialEq<Name<'_>> for Name<'_> {
    fn eq(&self, other: &Name<'_>) -> bool {
        // Length octets are below 64, outside the letters: folding leaves them alone.
        octets::eq_folded(self.0, other.0)
    }
}

impl Eq for Name<'_> {}

/// Presentation form (RFC 1035 section 5.1), absolute: `www.example.org.`
impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        for label in self.labels() {
            for &byte in label {
                match byte {
                    b'.' | b'\\' | b'"' | b';' | b'(' | b')' | b'@' | b'$' => {
                        write!(f, "\\{}", char::from(byte))?;
                    }
                    0x21..=0x7e => write!(f, "{}", char::from(byte))?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
            f.write_str(".")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The labels of a name, from left to right.
#[derive(Clone)]
pub struct Labels<'a>(&'a [u8]);

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (&len, rest) = self.0.split_first()?;
        if len == 0 {
            return None;
        }
        let (label, rest) = rest.split_at(usize::from(len));
        self.0 = rest;
        Some(label)
    }
}

/// A name that owns its bytes.
#[derive(Clone)]
pub struct NameBuf(Box<[u8]>);

impl NameBuf {
    /// The root.
    pub fn root() -> Self {
        Self(Box::new([0]))
    }

    /// The same, borrowed.
    pub fn as_name(&self) -> Name<'_> {
        Name(&self.0)
    }
}

impl PartialEq for NameBuf {
    fn eq(&self, other: &Self) -> bool {
        self.as_name() == other.as_name()
    }
}

impl Eq for NameBuf {}

impl std::hash::Hash for NameBuf {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        for byte in &self.0 {
            state.write_u8(byte.to_ascii_lowercase());
        }
    }
}

/// Canonical order (RFC 4034 section 6.1).
impl Ord for NameBuf {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        Key::of(self.as_name(), 0).as_bytes().cmp(Key::of(other.as_name(), 0).as_bytes())
    }
}

impl PartialOrd for NameBuf {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for NameBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_name(), f)
    }
}

impl fmt::Debug for NameBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_name(), f)
    }
}

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Two dots in a row, or one at the beginning.
    #[error("a label is empty: remove the extra dot")]
    EmptyLabel,
    /// A label of more than 63 octets.
    #[error("a label is longer than 63 octets")]
    LongLabel,
    /// More than 255 octets in all.
    #[error("the name is longer than 255 octets")]
    LongName,
    /// A backslash that is not followed by a character or three digits up to 255.
    #[error("a backslash must be followed by a character or by three digits up to 255")]
    BadEscape,
}

/// Reads presentation form; a final dot may be left out.
impl FromStr for NameBuf {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text == "." {
            return Ok(Self::root());
        }
        let mut wire = Vec::with_capacity(text.len() + 2);
        let mut label: Vec<u8> = Vec::with_capacity(63);
        let mut bytes = text.bytes();
        let mut ended = false;
        while let Some(byte) = bytes.next() {
            ended = byte == b'.';
            match byte {
                b'.' => end_label(&mut wire, &mut label)?,
                b'\\' => label.push(unescape(&mut bytes)?),
                _ => label.push(byte),
            }
        }
        if !ended {
            end_label(&mut wire, &mut label)?;
        }
        wire.push(0);
        if wire.len() > NAME_MAX {
            return Err(NameError::LongName);
        }
        Ok(Self(wire.into()))
    }
}

fn end_label(wire: &mut Vec<u8>, label: &mut Vec<u8>) -> Result<(), NameError> {
    match label.len() {
        0 => Err(NameError::EmptyLabel),
        #[expect(clippy::cast_possible_truncation, reason = "at most 63")]
        len @ 1..=63 => {
            wire.push(len as u8);
            wire.append(label);
            Ok(())
        }
        _ => Err(NameError::LongLabel),
    }
}

fn unescape(bytes: &mut std::str::Bytes<'_>) -> Result<u8, NameError> {
    let first = bytes.next().ok_or(NameError::BadEscape)?;
    if !first.is_ascii_digit() {
        return Ok(first);
    }
    let mut value = u16::from(first - b'0');
    for _ in 0..2 {
        match bytes.next() {
            Some(digit @ b'0'..=b'9') => value = value * 10 + u16::from(digit - b'0'),
            _ => return Err(NameError::BadEscape),
        }
    }
    u8::try_from(value).map_err(|_| NameError::BadEscape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> NameBuf {
        text.parse().unwrap()
    }

    #[test]
    fn text_and_wire_form_agree() {
        for text in [".", "org.", "www.Example.org.", "a\\.b.c.", "\\000\\255.x.", "\\*.y\\;."] {
            assert_eq!(name(text).to_string().replace("\\*", "*"), text.replace("\\*", "*"));
        }
        assert_eq!(name("www.example").as_name().as_wire(), b"\x03www\x07example\0");
        assert_eq!("a..b".parse::<NameBuf>(), Err(NameError::EmptyLabel));
        assert_eq!("a\\25".parse::<NameBuf>(), Err(NameError::BadEscape));
        assert_eq!("a\\256".parse::<NameBuf>(), Err(NameError::BadEscape));
        assert_eq!("x".repeat(64).parse::<NameBuf>(), Err(NameError::LongLabel));
        assert_eq!("x.".repeat(128).parse::<NameBuf>(), Err(NameError::LongName));
        assert_eq!(name(&"x.".repeat(127)).as_name().len(), 255);
    }

    #[test]
    fn keys_sort_as_rfc_4034_section_6_1_says() {
        let sorted = [
            "example.",
            "a.example.",
            "yljkjljk.a.example.",
            "Z.a.example.",
            "zABC.a.EXAMPLE.",
            "z.example.",
            "\\001.z.example.",
            "*.z.example.",
            "\\200.z.example.",
        ];
        for pair in sorted.windows(2) {
            assert!(name(pair[0]) < name(pair[1]), "{} is not before {}", pair[0], pair[1]);
        }
    }

    #[test]
    fn a_key_gives_its_name_back() {
        let apex = name("Example.org.");
        for text in ["Example.org.", "www.Example.org.", "\\000@.a.Example.org."] {
            let full = name(text);
            let key = Key::of(full.as_name(), 2);
            assert_eq!(key.name(apex.as_name()).unwrap(), full);
            assert_eq!(Key::from_bytes(key.as_bytes()).unwrap(), key);
        }
        assert!(Key::from_bytes(b"a").is_none());
        assert!(Key::from_bytes(b"\0").is_none());
        assert!(Key::from_bytes(b"a\0\0").is_none());
    }

    #[test]
    fn ancestors_are_prefixes_and_wildcards_are_below_them() {
        let key = Key::of(name("a.b.example.").as_name(), 1);
        let other = Key::of(name("x.b.example.").as_name(), 1);
        let common = key.common(other.as_bytes());
        assert_eq!(key.ancestor(common), Key::of(name("b.example.").as_name(), 1));
        assert_eq!(key.wildcard(common), Some(Key::of(name("*.b.example.").as_name(), 1)));
    }

    #[test]
    fn being_below_is_a_matter_of_labels() {
        let (apex, below) = (name("example.org."), name("a.EXAMPLE.org."));
        assert!(below.as_name().is_at_or_below(apex.as_name()));
        assert!(apex.as_name().is_at_or_below(apex.as_name()));
        assert!(!apex.as_name().is_at_or_below(below.as_name()));
        assert!(!name("notexample.org.").as_name().is_at_or_below(apex.as_name()));
        assert!(below.as_name().is_at_or_below(Name::ROOT));
    }

    #[test]
    fn malformed_wire_names_are_refused() {
        for bad in [&b""[..], b"\x01", b"\x01a", b"\xc0\x0c", b"\x40"] {
            assert!(Name::split(bad).is_none());
        }
        assert!(Name::from_wire(b"\0\0").is_none());
    }
}
