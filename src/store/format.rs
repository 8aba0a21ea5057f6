//! What the store's bytes mean: keys, sealed values, zone rows, and streams cut into chunks.
//!
//! **How it fits.** `keeper` writes with it, `load` reads with it; neither knows an offset.
//!
//! **Invariants.**
//! - *sealed*: every value ends in the crc32 of its key and of what precedes the crc, so a value
//!   that is damaged, or found under another key, is refused. LMDB itself has no checksums.
//! - *chunked*: a base and a diff are streams of bytes, cut every [`CHUNK`] octets: with its crc a
//!   chunk fills exactly one overflow page, so that LMDB never has to find a run of free pages.
//! - *checked*: every length is compared with what is there before it is used.
//!
//! Integers are big-endian, so that the order of keys is the order of numbers.

use super::{State, StoreError};
use crate::name::{Key, Name, NameBuf};
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

/// The number of the format described here. An older one is brought to it: before 3, no version
/// was kept beside the newest; before 2, there was no log. Any other is refused.
pub(super) const FORMAT: u32 = 3;
pub(super) const FORMAT_WITHOUT_BEFORE: u32 = 2;
pub(super) const FORMAT_WITHOUT_LOG: u32 = 1;

/// Octets of a stream in one value: the page of 4,096 less LMDB's header of 16 and the crc.
pub(super) const CHUNK: usize = 4076;

/// The key in `meta` of the format's number.
pub(super) const META_FORMAT: &[u8] = b"format";
/// The key in `meta` of the next id that is free.
pub(super) const META_NEXT_ID: &[u8] = b"next-id";
/// The key in `meta` of what is contained of the log.
pub(super) const META_LOG: &[u8] = b"log";
/// What the keys in `meta` of the caller's own values begin with.
pub(super) const META_USER: u8 = b'.';

/// The names of LMDB's databases, in the order of `Tables`.
pub(super) const TABLES: [&str; 6] = ["meta", "zones", "base", "journal", "doomed", BEFORE];
/// The one that older formats have not.
pub(super) const BEFORE: &str = "before";

/// `payload` with the crc32 of `key` and itself behind it.
pub(super) fn seal(key: &[u8], mut payload: Vec<u8>) -> Vec<u8> {
    let crc = checksum(key, &payload);
    payload.extend_from_slice(&crc.to_be_bytes());
    payload
}

/// What was sealed under `key`; `None` if it is damaged.
pub(super) fn unseal<'v>(key: &[u8], value: &'v [u8]) -> Option<&'v [u8]> {
    let (payload, crc) = value.split_last_chunk::<4>()?;
    (checksum(key, payload) == u32::from_be_bytes(*crc)).then_some(payload)
}

fn checksum(key: &[u8], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(key);
    crc.update(payload);
    crc.finalize()
}

/// The key of a zone in `zones`: a tag, as LMDB has no empty keys, and the key of the apex.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct ZoneKey(Box<[u8]>);

impl ZoneKey {
    const TAG: u8 = b'z';
    const TAG_BEFORE: u8 = b'b';

    pub(super) fn of(apex: Name<'_>) -> Self {
        Self([&[Self::TAG], Key::of(apex, 0).as_bytes()].concat().into())
    }

    /// The apex that a key in `zones` stands for, if it is one.
    pub(super) fn apex(key: &[u8]) -> Option<NameBuf> {
        let (&tag, key) = key.split_first()?;
        if tag != Self::TAG {
            return None;
        }
        Key::from_bytes(key)?.name(Name::ROOT)
    }

    /// The key of a zone, if these are its octets.
    pub(super) fn from_bytes(key: &[u8]) -> Option<Self> {
        Self::apex(key).map(|_| Self(key.into()))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key of the zone in `before`.
    pub(super) fn before(&self) -> Box<[u8]> {
        [&[Self::TAG_BEFORE], &self.0[1..]].concat().into()
    }

    /// Is this such a key?
    pub(super) fn is_before(key: &[u8]) -> bool {
        key.split_first()
            .is_some_and(|(&tag, key)| tag == Self::TAG_BEFORE && Key::from_bytes(key).is_some())
    }
}

/// Names a base or a journal, never both, and is never used again.
pub(super) type Id = u64;

/// No base: the zone has state, but no data.
pub(super) const NO_BASE: Id = 0;

/// The key in `base` of one chunk.
pub(super) fn base_key(id: Id, chunk: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&id.to_be_bytes());
    key[8..].copy_from_slice(&chunk.to_be_bytes());
    key
}

/// The key in `journal` of one chunk of a diff.
pub(super) fn journal_key(id: Id, seq: u64, chunk: u32) -> [u8; 20] {
    let mut key = [0; 20];
    key[..8].copy_from_slice(&id.to_be_bytes());
    key[8..16].copy_from_slice(&seq.to_be_bytes());
    key[16..].copy_from_slice(&chunk.to_be_bytes());
    key
}

/// A zone's value in `zones`: its state, and where its data is.
///
/// Diffs are numbered by `seq`, as serials wrap: those from `first_seq` up to `base_seq` lead to
/// the base and are kept for outgoing IXFR, those from `base_seq` up to `next_seq` lead on from it.
/// The marks count the octets of all diffs ever appended before the one they belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) state: State,
    pub(super) base: Id,
    pub(super) base_serial: u32,
    pub(super) base_chunks: u32,
    pub(super) base_len: u64,
    pub(super) journal: Id,
    pub(super) first_seq: u64,
    pub(super) base_seq: u64,
    pub(super) next_seq: u64,
    pub(super) first_mark: u64,
    pub(super) base_mark: u64,
    pub(super) next_mark: u64,
}

impl Row {
    const VERSION: u8 = 1;

    /// A zone without data, whose diffs will go to `journal`, numbered from `seq` on.
    pub(super) fn new(state: State, journal: Id, seq: u64) -> Self {
        Self {
            state,
            base: NO_BASE,
            base_serial: 0,
            base_chunks: 0,
            base_len: 0,
            journal,
            first_seq: seq,
            base_seq: seq,
            next_seq: seq,
            first_mark: 0,
            base_mark: 0,
            next_mark: 0,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(160);
        out.push(Self::VERSION);
        encode_state(&self.state, &mut out);
        out.extend_from_slice(&self.base.to_be_bytes());
        out.extend_from_slice(&self.base_serial.to_be_bytes());
        out.extend_from_slice(&self.base_chunks.to_be_bytes());
        out.extend_from_slice(&self.base_len.to_be_bytes());
        out.extend_from_slice(&self.journal.to_be_bytes());
        for seq in [self.first_seq, self.base_seq, self.next_seq] {
            out.extend_from_slice(&seq.to_be_bytes());
        }
        for mark in [self.first_mark, self.base_mark, self.next_mark] {
            out.extend_from_slice(&mark.to_be_bytes());
        }
        out
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let from = &mut bytes;
        if take::<1>(from)? != [Self::VERSION] {
            return None;
        }
        let row = Self {
            state: decode_state(from)?,
            base: u64::from_be_bytes(take(from)?),
            base_serial: u32::from_be_bytes(take(from)?),
            base_chunks: u32::from_be_bytes(take(from)?),
            base_len: u64::from_be_bytes(take(from)?),
            journal: u64::from_be_bytes(take(from)?),
            first_seq: u64::from_be_bytes(take(from)?),
            base_seq: u64::from_be_bytes(take(from)?),
            next_seq: u64::from_be_bytes(take(from)?),
            first_mark: u64::from_be_bytes(take(from)?),
            base_mark: u64::from_be_bytes(take(from)?),
            next_mark: u64::from_be_bytes(take(from)?),
        };
        let ordered = row.first_seq <= row.base_seq
            && row.base_seq <= row.next_seq
            && row.first_mark <= row.base_mark
            && row.base_mark <= row.next_mark;
        (bytes.is_empty() && ordered).then_some(row)
    }

    /// The row in `value`, as found under `key`.
    pub(super) fn read(key: &[u8], value: &[u8]) -> Result<Self, StoreError> {
        unseal(key, value).and_then(Self::decode).ok_or_else(|| StoreError::Damaged {
            what: "the row of the zone is not what was written".into(),
        })
    }
}

const FLAG_DATA: u8 = 1;
const FLAG_RETIRED: u8 = 2;

pub(super) fn encode_state(state: &State, out: &mut Vec<u8>) {
    let data = if state.has_data { FLAG_DATA } else { 0 };
    let retired = if state.retired_at_ms.is_some() { FLAG_RETIRED } else { 0 };
    out.push(data | retired);
    out.extend_from_slice(&state.serial.to_be_bytes());
    out.extend_from_slice(&state.contact_ms.to_be_bytes());
    out.extend_from_slice(&state.refresh_at_ms.to_be_bytes());
    out.extend_from_slice(&state.expires_at_ms.to_be_bytes());
    out.extend_from_slice(&state.expire_s.to_be_bytes());
    out.extend_from_slice(&state.retired_at_ms.unwrap_or(0).to_be_bytes());
    // Family, address, port: always as long as an IPv6 one.
    let (family, address, port) = match state.primary {
        None => (0, [0; 16], 0),
        Some(SocketAddr::V4(v4)) => (4, v4.ip().to_ipv6_mapped().octets(), v4.port()),
        Some(SocketAddr::V6(v6)) => (6, v6.ip().octets(), v6.port()),
    };
    out.push(family);
    out.extend_from_slice(&address);
    out.extend_from_slice(&port.to_be_bytes());
}

pub(super) fn decode_state(from: &mut &[u8]) -> Option<State> {
    let [flags] = take(from)?;
    let serial = u32::from_be_bytes(take(from)?);
    let contact_ms = u64::from_be_bytes(take(from)?);
    let refresh_at_ms = u64::from_be_bytes(take(from)?);
    let expires_at_ms = u64::from_be_bytes(take(from)?);
    let expire_s = u32::from_be_bytes(take(from)?);
    let retired = u64::from_be_bytes(take(from)?);
    let [family] = take(from)?;
    let address: [u8; 16] = take(from)?;
    let port = u16::from_be_bytes(take(from)?);
    let primary = match family {
        0 => None,
        4 => {
            let ip = std::net::Ipv6Addr::from(address).to_ipv4_mapped()?;
            Some(SocketAddr::new(IpAddr::V4(ip), port))
        }
        6 => Some(SocketAddr::new(IpAddr::from(address), port)),
        _ => return None,
    };
    if flags & !(FLAG_DATA | FLAG_RETIRED) != 0 {
        return None;
    }
    let retired_at_ms = (flags & FLAG_RETIRED != 0).then_some(retired);
    let has_data = flags & FLAG_DATA != 0;
    Some(State {
        serial,
        has_data,
        contact_ms,
        refresh_at_ms,
        expires_at_ms,
        expire_s,
        primary,
        retired_at_ms,
    })
}

/// The next `N` octets.
pub(super) fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(*head)
}

/// Appends an entry of a base to a stream: lengths of key and blob, key, blob.
pub(super) fn encode_entry(key: &[u8], blob: &[u8], out: &mut Vec<u8>) {
    out.push(u8::try_from(key.len()).expect("a key is at most 254 octets"));
    out.extend_from_slice(&u32::try_from(blob.len()).expect("blobs are below 4 GiB").to_be_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(blob);
}

/// What precedes a diff in its stream: the serials it leads from and to, and its length.
pub(super) fn encode_diff(from: u32, to: u32, diff: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(DIFF_HEADER + diff.len());
    out.extend_from_slice(&from.to_be_bytes());
    out.extend_from_slice(&to.to_be_bytes());
    out.extend_from_slice(&(diff.len() as u64).to_be_bytes());
    out.extend_from_slice(diff);
    out
}

/// Octets before a diff in its stream.
pub(super) const DIFF_HEADER: usize = 16;

/// The serials and the length at the beginning of a diff's stream.
pub(super) fn decode_diff_header(mut first: &[u8]) -> Option<(u32, u32, u64)> {
    let from = u32::from_be_bytes(take(&mut first)?);
    let to = u32::from_be_bytes(take(&mut first)?);
    Some((from, to, u64::from_be_bytes(take(&mut first)?)))
}

/// A stream that is read from its chunks: what lies within one chunk is borrowed from it.
pub(super) struct Stream<'t> {
    chunks: &'t [&'t [u8]],
    current: &'t [u8],
}

/// A place in a stream: chunks begun before it, and what is left of the last of them.
pub(super) type Place = (usize, usize);

impl<'t> Stream<'t> {
    /// From `place` on, which [`place`](Self::place) gave for the same chunks, or is that of the
    /// beginning, (0, 0).
    pub(super) fn new(chunks: &'t [&'t [u8]], place: Place) -> Self {
        let (begun, left) = place;
        let last = begun.checked_sub(1).map_or(&[][..], |last| chunks[last]);
        Self { chunks: &chunks[begun..], current: &last[last.len() - left..] }
    }

    /// Where it is, in a stream of so many chunks.
    pub(super) fn place(&self, chunks: usize) -> Place {
        (chunks - self.chunks.len(), self.current.len())
    }

    fn next_chunk(&mut self) -> Option<&'t [u8]> {
        let (first, rest) = self.chunks.split_first()?;
        self.chunks = rest;
        Some(first)
    }

    /// The next `len` octets; `None` if the stream ends before.
    fn bytes(&mut self, len: usize) -> Option<Cow<'t, [u8]>> {
        if let Some((head, rest)) = self.current.split_at_checked(len) {
            self.current = rest;
            return Some(Cow::Borrowed(head));
        }
        let mut joined = std::mem::take(&mut self.current).to_vec();
        while joined.len() < len {
            let chunk = self.next_chunk()?;
            let (head, rest) = chunk.split_at(chunk.len().min(len - joined.len()));
            joined.extend_from_slice(head);
            self.current = rest;
        }
        Some(Cow::Owned(joined))
    }

    /// The next entry of a base; `Some(None)` at its end, `None` if it ends within an entry.
    #[expect(clippy::type_complexity, reason = "a key and a blob, twice optional")]
    pub(super) fn entry(&mut self) -> Option<Option<(Cow<'t, [u8]>, Cow<'t, [u8]>)>> {
        if self.current.is_empty() {
            match self.next_chunk() {
                None => return Some(None),
                Some(chunk) => self.current = chunk,
            }
        }
        let key_len = usize::from(*self.bytes(1)?.first()?);
        let blob_len = u32::from_be_bytes(self.bytes(4)?.as_ref().try_into().ok()?);
        let key = self.bytes(key_len)?;
        let blob = self.bytes(usize::try_from(blob_len).ok()?)?;
        Some(Some((key, blob)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            serial: 0xffff_fff0,
            has_data: true,
            contact_ms: 1,
            refresh_at_ms: 2,
            expires_at_ms: u64::MAX,
            expire_s: 86_400,
            primary: Some("[fd18::1]:53".parse().unwrap()),
            retired_at_ms: Some(7),
        }
    }

    #[test]
    fn a_row_survives_its_encoding() {
        for primary in [None, Some("198.18.0.1:5301".parse().unwrap()), state().primary] {
            let row = Row { base: 3, next_seq: 9, ..Row::new(State { primary, ..state() }, 4, 0) };
            assert_eq!(Row::decode(&row.encode()), Some(row));
        }
    }

    #[test]
    fn a_row_of_any_other_length_is_refused() {
        let bytes = Row::new(state(), 4, 0).encode();
        for len in 0..bytes.len() {
            assert_eq!(Row::decode(&bytes[..len]), None);
        }
        assert_eq!(Row::decode(&[&bytes[..], b"x"].concat()), None);
    }

    #[test]
    fn a_value_that_is_damaged_or_under_another_key_is_refused() {
        let value = seal(b"key", b"payload".to_vec());
        assert_eq!(unseal(b"key", &value), Some(&b"payload"[..]));
        assert_eq!(unseal(b"kez", &value), None);
        for bit in 0..value.len() * 8 {
            let mut flipped = value.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal(b"key", &flipped), None);
        }
        assert_eq!(unseal(b"key", b"abc"), None);
    }

    #[test]
    fn entries_are_read_back_wherever_the_stream_is_cut() {
        let entries: Vec<(Vec<u8>, Vec<u8>)> =
            (0..40_u8).map(|n| (vec![n; usize::from(n) + 1], vec![n; 300])).collect();
        let mut stream = Vec::new();
        for (key, blob) in &entries {
            encode_entry(key, blob, &mut stream);
        }
        for size in [1, 7, 299, CHUNK, stream.len()] {
            let chunks: Vec<&[u8]> = stream.chunks(size).collect();
            let mut place = (0, 0);
            for (key, blob) in &entries {
                let mut reader = Stream::new(&chunks, place);
                let (k, b) = reader.entry().unwrap().unwrap();
                assert_eq!((&k[..], &b[..]), (&key[..], &blob[..]));
                place = reader.place(chunks.len());
            }
            assert!(Stream::new(&chunks, place).entry().unwrap().is_none());
            let chunks: Vec<&[u8]> = stream[..stream.len() - 1].chunks(size).collect();
            let mut cut = Stream::new(&chunks, (0, 0));
            assert!((0..entries.len()).any(|_| cut.entry().is_none()));
        }
    }
}
