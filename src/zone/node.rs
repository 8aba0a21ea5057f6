//! What one owner name has: its record sets, packed into the bytes that a tree page holds, that
//! replies are copied from, and that the store keeps.
//!
//! **The packing.** One octet: the key's length of the topmost cut or DNAME at or above this
//! owner, 0 if there is none. In a zone that denies by NSEC3, unless it is in the store, an octet
//! 255 and the 20 of the owner's hash. Then the sets, ascending by type, each RRSIG set directly behind
//! the set it covers (or where that would be):
//!
//! ```text
//! kind u8 (1: signatures, 2: wide)  type u16  ttl u32  count  length  { data length, data } ...
//!                                        narrow: u8     u8      u8
//!                                        wide:   u32    u32     u16
//! ```
//!
//! For signatures `type` is the type covered. Data are wire form, no name compressed.
//!
//! **Invariants.**
//! - *checked*: bytes that come from outside this process pass [`Node::check`] before they are
//!   read; reading then needs no errors.
//! - *one*: no two sets with the same type and kind, no two records of a set with the same data
//!   (names compared without case).

use super::nsec3::Hash;
use crate::wire::{Rtype, TTL_MAX, data_fields, same_data};

const SIGNATURES: u8 = 1;
const WIDE: u8 = 2;
/// In place of a set's kind: the owner's hash follows.
const HASHED: u8 = 255;
const NARROW_HEAD: usize = 9;
const WIDE_HEAD: usize = 15;

/// One owner's record sets, as packed.
#[derive(Clone, Copy)]
pub struct Node<'z>(&'z [u8]);

impl<'z> Node<'z> {
    /// The node that `blob` is: bytes of a [`NodeBuf`], or checked; what a zone's trees hold.
    pub(crate) fn of(blob: &'z [u8]) -> Self {
        Self(blob)
    }

    /// Are these bytes from outside a node? Every length, all types and TTLs, and the form
    /// of all data.
    pub fn check(blob: &[u8]) -> bool {
        let Some((_, mut rest)) = blob.split_first() else { return false };
        let mut last = None;
        while !rest.is_empty() {
            let Some((set, after)) = RecordSet::check(rest) else { return false };
            let order = Some((set.rtype, set.signatures));
            if last >= order {
                return false;
            }
            (last, rest) = (order, after);
        }
        last.is_some()
    }

    /// The key's length of the topmost cut or DNAME at or above this owner; 0: none.
    pub fn cut(self) -> usize {
        usize::from(self.0[0])
    }

    /// The owner's hash, if it is denied by NSEC3.
    pub fn hash(self) -> Option<&'z Hash> {
        self.0[1..].strip_prefix(&[HASHED])?.first_chunk()
    }

    /// The sets in order, signatures behind what they cover.
    #[inline]
    pub fn sets(self) -> Sets<'z> {
        Sets(self.packed())
    }

    #[inline(always)]
    fn packed(self) -> &'z [u8] {
        match self.0 {
            [_, HASHED, rest @ ..] => &rest[size_of::<Hash>()..],
            _ => &self.0[1..],
        }
    }

    /// The same node with another hash, or with none, into `out`, which is cleared first.
    pub(super) fn with_hash(self, hash: Option<Hash>, out: &mut Vec<u8>) {
        out.clear();
        begin_node(out, self.0[0], hash);
        out.extend_from_slice(self.packed());
    }

    /// The records of this type (not signatures: those are found beside what they cover).
    #[inline(always)]
    pub fn find(self, rtype: Rtype) -> Option<RecordSet<'z>> {
        self.set(rtype, false)
    }

    /// The signatures over the records of this type.
    pub fn signatures(self, covered: Rtype) -> Option<RecordSet<'z>> {
        self.set(covered, true)
    }

    /// Only the heads of those before it are read; they ascend.
    #[inline(always)]
    fn set(self, rtype: Rtype, signatures: bool) -> Option<RecordSet<'z>> {
        let mut rest = self.packed();
        while let Some(&[kind, high, low]) = rest.first_chunk() {
            let order = u16::from_be_bytes([high, low]).cmp(&rtype.0);
            if order.is_eq() && (kind & SIGNATURES != 0) == signatures {
                return Some(RecordSet::split(rest).0);
            }
            if order.is_gt() {
                return None;
            }
            let (head, len) = RecordSet::extent(rest);
            rest = &rest[head + len..];
        }
        None
    }

    /// How many records, signatures included.
    pub fn records(self) -> usize {
        self.sets().map(|set| set.count()).sum()
    }
}

/// The sets of a node.
#[derive(Clone)]
pub struct Sets<'z>(&'z [u8]);

impl<'z> Iterator for Sets<'z> {
    type Item = RecordSet<'z>;

    #[inline]
    fn next(&mut self) -> Option<RecordSet<'z>> {
        if self.0.is_empty() {
            return None;
        }
        let (set, rest) = RecordSet::split(self.0);
        self.0 = rest;
        Some(set)
    }
}

/// The records of one owner and type, or the signatures over them.
#[derive(Clone, Copy)]
pub struct RecordSet<'z> {
    rtype: Rtype,
    signatures: bool,
    wide: bool,
    ttl: u32,
    count: u32,
    body: &'z [u8],
}

impl<'z> RecordSet<'z> {
    #[inline(always)]
    fn split(bytes: &'z [u8]) -> (Self, &'z [u8]) {
        let kind = bytes[0];
        let wide = kind & WIDE != 0;
        let (head, len) = Self::extent(bytes);
        let count = if wide { word(bytes, 7) } else { u32::from(bytes[7]) };
        let set = Self {
            rtype: Rtype(u16::from_be_bytes([bytes[1], bytes[2]])),
            signatures: kind & SIGNATURES != 0,
            wide,
            ttl: word(bytes, 3),
            count,
            body: &bytes[head..head + len],
        };
        (set, &bytes[head + len..])
    }

    /// How many of the bytes are the first set's head, and its body.
    #[inline(always)]
    fn extent(bytes: &[u8]) -> (usize, usize) {
        match bytes[0] & WIDE {
            0 => (NARROW_HEAD, usize::from(bytes[8])),
            _ => (WIDE_HEAD, word(bytes, 11) as usize),
        }
    }

    fn check(bytes: &'z [u8]) -> Option<(Self, &'z [u8])> {
        let kind = *bytes.first()?;
        let head = if kind & WIDE != 0 { WIDE_HEAD } else { NARROW_HEAD };
        if kind > SIGNATURES | WIDE || bytes.len() < head {
            return None;
        }
        if bytes.len() - head < Self::extent(bytes).1 {
            return None;
        }
        let (set, after) = Self::split(bytes);
        let mut rest = set.body;
        for _ in 0..set.count {
            let prefix = if set.wide { 2 } else { 1 };
            let head = rest.get(..prefix)?;
            let len = head.iter().fold(0, |len, &byte| len << 8 | usize::from(byte));
            let data = rest.get(prefix..prefix + len)?;
            data_fields(set.data_type(), data, |_, _| ())?;
            rest = &rest[prefix + len..];
        }
        let known = set.signatures || set.rtype.is_data();
        let sound = known && set.count > 0 && set.ttl <= TTL_MAX && rest.is_empty();
        sound.then_some((set, after))
    }

    /// The type of these records, or the type that these signatures cover.
    #[inline]
    pub fn rtype(&self) -> Rtype {
        self.rtype
    }

    /// The type that these records are sent as: RRSIG for signatures.
    #[inline]
    pub fn data_type(&self) -> Rtype {
        if self.signatures { Rtype::RRSIG } else { self.rtype }
    }

    /// Are these signatures?
    #[inline]
    pub fn is_signatures(&self) -> bool {
        self.signatures
    }

    /// Seconds that the records may be cached.
    #[inline]
    pub fn ttl(&self) -> u32 {
        self.ttl
    }

    /// How many records; at least one.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// Octets of all data, without the lengths in front of them.
    pub fn data_len(&self) -> usize {
        self.body.len() - self.count() * if self.wide { 2 } else { 1 }
    }

    /// The data of each record.
    #[inline]
    pub fn iter(&self) -> Data<'z> {
        Data { wide: self.wide, rest: self.body }
    }

    /// The data of the first record.
    pub fn first(&self) -> &'z [u8] {
        self.iter().next().expect("a set has a record")
    }

    /// As a set of its own, the record that is the least by its octets, whatever order they came in.
    pub fn sole(self) -> Self {
        if self.count == 1 {
            return self;
        }
        let prefix = if self.wide { 2 } else { 1 };
        let mut end = 0;
        let placed = self.iter().map(|data| {
            let start = end;
            end += prefix + data.len();
            (data, start..end)
        });
        let (_, place) = placed.min_by_key(|(data, _)| *data).expect("a set has a record");
        Self { count: 1, body: &self.body[place], ..self }
    }
}

/// The data of a set's records.
#[derive(Clone)]
pub struct Data<'z> {
    wide: bool,
    rest: &'z [u8],
}

impl<'z> Iterator for Data<'z> {
    type Item = &'z [u8];

    #[inline]
    fn next(&mut self) -> Option<&'z [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let (prefix, len) = if self.wide {
            (2, usize::from(u16::from_be_bytes([self.rest[0], self.rest[1]])))
        } else {
            (1, usize::from(self.rest[0]))
        };
        let (data, rest) = self.rest[prefix..].split_at(len);
        self.rest = rest;
        Some(data)
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// A record: its type, TTL in seconds and data; its owner is told elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The type.
    pub rtype: Rtype,
    /// Seconds that it may be cached.
    pub ttl: u32,
    /// Wire form, uncompressed.
    pub data: &'a [u8],
}

/// A node under construction.
#[derive(Default)]
pub struct NodeBuf {
    cut: u8,
    hash: Option<Hash>,
    sets: Vec<SetBuf>,
}

struct SetBuf {
    rtype: Rtype,
    signatures: bool,
    ttl: u32,
    data: Vec<Box<[u8]>>,
}

impl NodeBuf {
    /// A node with what `node` has.
    pub fn from_node(node: Node<'_>) -> Self {
        let sets = node.sets().map(|set| SetBuf {
            rtype: set.rtype,
            signatures: set.signatures,
            ttl: set.ttl,
            data: set.iter().map(Into::into).collect(),
        });
        Self { cut: node.0[0], hash: node.hash().copied(), sets: sets.collect() }
    }

    /// See [`Node::cut`].
    pub fn set_cut(&mut self, len: usize) {
        self.cut = u8::try_from(len).expect("a key has 254 octets at most");
    }

    /// See [`Node::hash`].
    pub(super) fn set_hash(&mut self, hash: Option<Hash>) {
        self.hash = hash;
    }

    /// Nothing left?
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// Has it records of this type?
    pub fn has(&self, rtype: Rtype) -> bool {
        self.sets.iter().any(|set| set.rtype == rtype && !set.signatures)
    }

    /// The TTL of the set that this record belongs to, if there is one.
    pub fn ttl(&self, record: Record<'_>) -> Option<u32> {
        let (rtype, signatures) = split_type(record);
        self.place(rtype, signatures).ok().map(|at| self.sets[at].ttl)
    }

    /// Is this record there, with this TTL and its names in this case?
    pub fn has_exactly(&self, record: Record<'_>) -> bool {
        let (rtype, signatures) = split_type(record);
        let Ok(at) = self.place(rtype, signatures) else { return false };
        let set = &self.sets[at];
        set.ttl == record.ttl && set.data.iter().any(|data| **data == *record.data)
    }

    /// Adds a record. `false`: it was there already; its set then takes the new TTL all the same
    /// (all records of a set have one TTL, RFC 2181 section 5.2: the latest wins).
    pub fn add(&mut self, record: Record<'_>) -> bool {
        let (rtype, signatures) = split_type(record);
        let at = match self.place(rtype, signatures) {
            Ok(at) => at,
            Err(at) => {
                let set = SetBuf { rtype, signatures, ttl: record.ttl, data: Vec::new() };
                self.sets.insert(at, set);
                at
            }
        };
        let set = &mut self.sets[at];
        set.ttl = record.ttl;
        if set.data.iter().any(|data| same_data(record.rtype, data, record.data)) {
            return false;
        }
        set.data.push(record.data.into());
        true
    }

    /// Takes a record out, whatever its TTL and the case of names in it. `false`: it is not there.
    pub fn remove(&mut self, record: Record<'_>) -> bool {
        let (rtype, signatures) = split_type(record);
        let Ok(at) = self.place(rtype, signatures) else { return false };
        let data = &mut self.sets[at].data;
        let Some(index) = data.iter().position(|data| same_data(record.rtype, data, record.data))
        else {
            return false;
        };
        data.remove(index);
        if data.is_empty() {
            self.sets.remove(at);
        }
        true
    }

    /// Takes all records of a type out. `false`: there were none.
    pub fn remove_all(&mut self, rtype: Rtype) -> bool {
        let place = self.place(rtype, false);
        place.map(|at| self.sets.remove(at)).is_ok()
    }

    fn place(&self, rtype: Rtype, signatures: bool) -> Result<usize, usize> {
        self.sets.binary_search_by_key(&(rtype, signatures), |set| (set.rtype, set.signatures))
    }

    /// The packed form, into `out`, which is cleared first.
    pub fn pack(&self, out: &mut Vec<u8>) {
        out.clear();
        begin_node(out, self.cut, self.hash);
        for set in &self.sets {
            pack_set(out, set.rtype, set.signatures, set.ttl, set.data.iter().map(|data| &**data));
        }
    }
}

/// The covered type and `true` for a signature, the record's own type and `false` otherwise.
pub(super) fn split_type(record: Record<'_>) -> (Rtype, bool) {
    match record.data {
        [high, low, ..] if record.rtype == Rtype::RRSIG => {
            (Rtype(u16::from_be_bytes([*high, *low])), true)
        }
        _ => (record.rtype, false),
    }
}

/// Appends what goes before the sets to `out`.
fn begin_node(out: &mut Vec<u8>, cut: u8, hash: Option<Hash>) {
    out.push(cut);
    if let Some(hash) = hash {
        out.push(HASHED);
        out.extend_from_slice(&hash);
    }
}

/// Appends one packed set to `out`.
pub(super) fn pack_set<'d>(
    out: &mut Vec<u8>,
    rtype: Rtype,
    signatures: bool,
    ttl: u32,
    data: impl Iterator<Item = &'d [u8]> + Clone,
) {
    let (mut count, mut octets, mut widest) = (0_usize, 0, 0);
    for data in data.clone() {
        count += 1;
        octets += data.len();
        widest = widest.max(data.len());
    }
    let wide = count > 255 || octets + count > 255 || widest > 255;
    let kind = if signatures { SIGNATURES } else { 0 } | if wide { WIDE } else { 0 };
    out.push(kind);
    out.extend_from_slice(&rtype.0.to_be_bytes());
    out.extend_from_slice(&ttl.to_be_bytes());
    #[expect(clippy::cast_possible_truncation, reason = "narrow was checked; a set is below 4 GiB")]
    if wide {
        out.extend_from_slice(&(count as u32).to_be_bytes());
        out.extend_from_slice(&((octets + 2 * count) as u32).to_be_bytes());
        for data in data {
            out.extend_from_slice(&(data.len() as u16).to_be_bytes());
            out.extend_from_slice(data);
        }
    } else {
        out.push(count as u8);
        out.push((octets + count) as u8);
        for data in data {
            out.push(data.len() as u8);
            out.extend_from_slice(data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a(octet: u8) -> [u8; 4] {
        [192, 0, 2, octet]
    }

    fn record(rtype: Rtype, data: &[u8]) -> Record<'_> {
        Record { rtype, ttl: 60, data }
    }

    #[test]
    fn sets_are_found_in_order_with_their_signatures_beside_them() {
        let mut node = NodeBuf::default();
        let signature = [&[0, 1][..], &[0; 16], &[0, 9]].concat();
        assert!(node.add(record(Rtype::TXT, b"\x01x")));
        assert!(node.add(record(Rtype::RRSIG, &signature)));
        assert!(node.add(record(Rtype::A, &a(1))));
        assert!(node.add(record(Rtype::A, &a(2))));
        assert!(!node.add(record(Rtype::A, &a(1))), "a duplicate");
        let mut blob = Vec::new();
        node.pack(&mut blob);
        assert!(Node::check(&blob));
        let node = Node::of(&blob);
        let types: Vec<_> = node.sets().map(|set| set.data_type()).collect();
        assert_eq!(types, [Rtype::A, Rtype::RRSIG, Rtype::TXT]);
        assert_eq!(node.find(Rtype::A).unwrap().iter().collect::<Vec<_>>(), [a(1), a(2)]);
        assert_eq!(node.signatures(Rtype::A).unwrap().first(), signature);
        assert!(node.find(Rtype::RRSIG).is_none() && node.signatures(Rtype::TXT).is_none());
        assert_eq!(node.records(), 4);
    }

    #[test]
    fn big_sets_and_big_data_are_packed_wide() {
        for (count, len) in [(1, 256), (300, 4), (100, 200), (2, 65535)] {
            let mut node = NodeBuf::default();
            for i in 0..count {
                let mut data = vec![7; len];
                data[..2].copy_from_slice(&u16::to_be_bytes(i));
                assert!(node.add(record(Rtype(65280), &data)));
            }
            let mut blob = Vec::new();
            node.pack(&mut blob);
            assert!(Node::check(&blob));
            let set = Node::of(&blob).find(Rtype(65280)).unwrap();
            assert_eq!(
                (set.count(), set.data_len()),
                (usize::from(count), usize::from(count) * len)
            );
            assert!(set.iter().all(|data| data.len() == len));
        }
    }

    #[test]
    fn removal_ignores_ttl_and_the_case_of_names() {
        let mut node = NodeBuf::default();
        node.add(record(Rtype::NS, b"\x01a\0"));
        assert!(!node.remove(record(Rtype::NS, b"\x01b\0")));
        assert!(node.remove(Record { rtype: Rtype::NS, ttl: 1, data: b"\x01A\0" }));
        assert!(node.is_empty());
    }

    #[test]
    fn damaged_bytes_are_no_node() {
        let mut node = NodeBuf::default();
        node.add(record(Rtype::A, &a(1)));
        node.add(record(Rtype::NS, b"\x01a\0"));
        let mut blob = Vec::new();
        node.pack(&mut blob);
        for cut in 0..blob.len() {
            assert!(!Node::check(&blob[..cut]) || cut == 1 + NARROW_HEAD + 5, "cut at {cut}");
        }
        for at in 1..blob.len() {
            let mut bad = blob.clone();
            bad[at] ^= 0xff;
            let _ = Node::check(&bad);
        }
    }
}
