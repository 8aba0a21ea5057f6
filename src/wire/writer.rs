//! The writer of messages: into a slice, with name compression and a hard end.

use super::{Class, Field, HEADER_LEN, Rtype, is_compressed, layout};
use crate::name::Name;
use crate::octets;
use arrayvec::ArrayVec;

/// What did not fit. The caller rewinds, and decides whether that means TC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A place to go back to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark {
    at: usize,
    seen: usize,
    counts: [u16; 4],
}

/// Where the data begin that are being written.
#[derive(Debug)]
#[must_use = "data that are begun are ended"]
pub struct DataStart(usize);

/// The sections of a message, as its header counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// The question, or the zone of an UPDATE.
    Question = 0,
    /// Answers.
    Answer = 1,
    /// Where the authority is, or why there is no answer.
    Authority = 2,
    /// What helps, and OPT and TSIG.
    Additional = 3,
}

/// How many names' suffixes are remembered: more than any datagram's worth. The root's priming reply
/// needs 30.
const SEEN_MAX: usize = 256;

/// Writes one message. Owners and names in data are compressed against what was written before.
pub struct Writer<'b> {
    message: &'b mut [u8],
    at: usize,
    end: usize,
    counts: [u16; 4],
    /// Names already in the message: hash << 16 | offset.
    seen: ArrayVec<u32, SEEN_MAX>,
    /// Octets of the question's name, which is in `seen` once another name is written.
    question_len: usize,
}

impl<'b> Writer<'b> {
    /// Begins a message in `buffer`, to be no longer than `limit` octets. The header is zero but
    /// for what [`finish`](Self::finish) sets.
    ///
    /// # Panics
    /// If there is no room for a header.
    pub fn new(buffer: &'b mut [u8], limit: usize) -> Self {
        let end = limit.min(buffer.len());
        assert!(end >= HEADER_LEN, "no room for a header");
        Self {
            message: buffer,
            at: HEADER_LEN,
            end,
            counts: [0; 4],
            seen: ArrayVec::new(),
            question_len: 0,
        }
    }

    /// How many octets are written.
    pub fn len(&self) -> usize {
        self.at
    }

    /// A message has a header: never.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// How many octets are left.
    pub fn room(&self) -> usize {
        self.end - self.at
    }

    /// What is written so far.
    pub fn written(&self) -> &[u8] {
        &self.message[..self.at]
    }

    /// How many records `section` holds.
    pub fn count(&self, section: Section) -> u16 {
        self.counts[section as usize]
    }

    /// Keeps `octets` at the end free, for OPT or TSIG. `false` if they are not there.
    pub fn reserve(&mut self, octets: usize) -> bool {
        let fits = self.room() >= octets;
        if fits {
            self.end -= octets;
        }
        fits
    }

    /// Gives reserved octets back.
    pub fn release(&mut self, octets: usize) {
        self.end = (self.end + octets).min(self.message.len());
    }

    /// Where we are.
    pub fn mark(&self) -> Mark {
        Mark { at: self.at, seen: self.seen.len(), counts: self.counts }
    }

    /// Forgets what was written since `mark`.
    pub fn rewind(&mut self, mark: Mark) {
        self.at = mark.at;
        self.seen.truncate(mark.seen);
        self.counts = mark.counts;
    }

    /// Writes the question, its name's case kept. It is the first thing after the header.
    #[inline]
    pub fn question(&mut self, name: Name<'_>, rtype: Rtype, class: Class) -> Result<(), Full> {
        debug_assert_eq!(self.at, HEADER_LEN, "the question comes first");
        self.put(name.as_wire())?;
        self.question_len = name.len();
        self.put_u32(kind(rtype, class))?;
        self.counts[Section::Question as usize] += 1;
        Ok(())
    }

    /// Begins a record with an owner that is compressed as well as can be; [`data`](Self::data)
    /// or [`plain_data`](Self::plain_data) comes next. Returns what [`name`](Self::name) does.
    pub fn record(
        &mut self,
        section: Section,
        owner: Name<'_>,
        rtype: Rtype,
        class: Class,
        ttl: u32,
    ) -> Result<Option<usize>, Full> {
        let at = self.name(owner)?;
        self.fixed(section, rtype, class, ttl)?;
        Ok(at)
    }

    /// As [`record`](Self::record), the owner being the name that begins at `offset` of this
    /// message. This is the quick way: the question's name, or a part of it.
    #[inline]
    pub fn record_at(
        &mut self,
        section: Section,
        offset: usize,
        rtype: Rtype,
        class: Class,
        ttl: u32,
    ) -> Result<(), Full> {
        self.put_u16(self.pointer(offset))?;
        self.fixed(section, rtype, class, ttl)
    }

    /// A whole record, its owner the name that begins at `offset` of this message, its data as
    /// they are.
    #[inline]
    pub fn plain_record_at(
        &mut self,
        section: Section,
        offset: usize,
        kind: (Rtype, Class, u32),
        data: &[u8],
    ) -> Result<(), Full> {
        let body = self.body_at(section, offset, kind, data.len())?;
        octets::copy(body, data);
        Ok(())
    }

    /// A whole SOA record, its owner the zone's apex, which begins at `offset` of this message and
    /// which both names in the data end with: `own` octets of each, that share nothing, come
    /// before. `None`: there may be more in the message that they could point at.
    #[inline]
    pub fn soa_at(
        &mut self,
        section: Section,
        offset: usize,
        (class, ttl): (Class, u32),
        data: &[u8],
        own: [u8; 2],
    ) -> Option<Result<(), Full>> {
        let [first, second] = own.map(usize::from);
        let numbers = data.last_chunk::<20>()?;
        let apex = (data.len() - numbers.len() - first - second) / 2;
        let names = [&data[..first], &data[first + apex..][..second]];
        let before = self.message[offset - 1].to_ascii_lowercase();
        let may_share =
            |own: &&[u8]| own.last().is_some_and(|last| last.to_ascii_lowercase() == before);
        if offset > HEADER_LEN && names.iter().any(may_share) {
            return None;
        }
        let pointer = self.pointer(offset).to_be_bytes();
        let len = first + second + 4 + numbers.len();
        Some(self.body_at(section, offset, (Rtype::SOA, class, ttl), len).map(|body| {
            let (names_to, numbers_to) = body.split_at_mut(first + second + 4);
            let (first_to, second_to) = names_to.split_at_mut(first + 2);
            for (to, own) in [(first_to, names[0]), (second_to, names[1])] {
                octets::copy(&mut to[..own.len()], own);
                to[own.len()..].copy_from_slice(&pointer);
            }
            numbers_to.copy_from_slice(numbers);
        }))
    }

    /// Begins a record, its owner the name that begins at `offset` of this message. Returns where
    /// its `len` octets of data go.
    #[inline]
    fn body_at(
        &mut self,
        section: Section,
        offset: usize,
        (rtype, class, ttl): (Rtype, Class, u32),
        len: usize,
    ) -> Result<&mut [u8], Full> {
        let len_word = u16::try_from(len).map_err(|_| Full)?;
        let (pointer, kind) = (u64::from(self.pointer(offset)), u64::from(kind(rtype, class)));
        if self.room() < 12 + len {
            return Err(Full);
        }
        self.counts[section as usize] += 1;
        let (head, body) = self.take(12 + len)?.split_at_mut(12);
        let first = pointer << 48 | kind << 16 | u64::from(ttl >> 16);
        head[..8].copy_from_slice(&first.to_be_bytes());
        head[8..].copy_from_slice(&(ttl << 16 | u32::from(len_word)).to_be_bytes());
        Ok(body)
    }

    /// A whole record of the root without data.
    #[inline]
    pub fn bare_root_record(
        &mut self,
        section: Section,
        rtype: Rtype,
        class: Class,
        ttl: u32,
    ) -> Result<(), Full> {
        let kind = u64::from(kind(rtype, class));
        let record = self.take(11)?;
        record[..8].copy_from_slice(&(kind << 24 | u64::from(ttl >> 8)).to_be_bytes());
        record[8..].copy_from_slice(&[ttl.to_be_bytes()[3], 0, 0]);
        self.counts[section as usize] += 1;
        Ok(())
    }

    /// What follows a record's owner, up to the data's length.
    #[inline]
    pub fn fixed(
        &mut self,
        section: Section,
        rtype: Rtype,
        class: Class,
        ttl: u32,
    ) -> Result<(), Full> {
        let kind = u64::from(kind(rtype, class));
        self.put(&(kind << 32 | u64::from(ttl)).to_be_bytes())?;
        self.counts[section as usize] += 1;
        Ok(())
    }

    /// The data of the record begun, with its length; names in it compressed where RFC 3597
    /// section 4 allows it.
    #[inline]
    pub fn data(&mut self, rtype: Rtype, data: &[u8]) -> Result<(), Full> {
        if is_compressed(rtype) {
            self.compressed_data(layout(rtype), data)
        } else {
            self.plain_data(data)
        }
    }

    /// The data of the record begun, with its length, as they are.
    #[inline]
    pub fn plain_data(&mut self, data: &[u8]) -> Result<(), Full> {
        self.put_u16(u16::try_from(data.len()).map_err(|_| Full)?)?;
        self.put(data)
    }

    /// Begins data whose length is not known before they are written; then come [`put`](Self::put)
    /// and [`end_data`](Self::end_data).
    pub fn begin_data(&mut self) -> Result<DataStart, Full> {
        let start = self.at;
        self.put_u16(0)?;
        Ok(DataStart(start))
    }

    /// Ends data begun, and sets their length.
    pub fn end_data(&mut self, DataStart(start): DataStart) -> Result<(), Full> {
        let len = u16::try_from(self.at - start - 2).map_err(|_| Full)?;
        self.message[start..start + 2].copy_from_slice(&len.to_be_bytes());
        Ok(())
    }

    fn compressed_data(&mut self, fields: &[Field], data: &[u8]) -> Result<(), Full> {
        let start = self.begin_data()?;
        let mut rest = data;
        for &field in fields {
            let len = match field {
                Field::Octets(len) => len,
                Field::Text => 1 + usize::from(rest.first().copied().unwrap_or(0)),
                Field::Name | Field::PlainName => {
                    let Some((name, after)) = Name::split(rest) else { break };
                    self.name(name)?;
                    rest = after;
                    continue;
                }
            };
            let Some((octets, after)) = rest.split_at_checked(len) else { break };
            self.put(octets)?;
            rest = after;
        }
        self.put(rest)?;
        self.end_data(start)
    }

    /// What points at the name that begins at `offset`.
    #[inline]
    fn pointer(&self, offset: usize) -> u16 {
        debug_assert!(offset < self.at && offset <= POINTER_MAX, "no such name to point at");
        #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
        {
            0xc000 | offset as u16
        }
    }

    /// Writes a label below the name that begins at `parent`: an owner that no other name shares
    /// more with, and that need not be remembered. Returns what [`name`](Self::name) does.
    pub fn child(&mut self, label: &[u8], parent: usize) -> Result<Option<usize>, Full> {
        let (at, pointer) = (self.at, self.pointer(parent));
        let len = u8::try_from(label.len()).map_err(|_| Full)?;
        self.put(&[len])?;
        self.put(label)?;
        self.put_u16(pointer)?;
        Ok((at <= POINTER_MAX).then_some(at))
    }

    /// Writes `name`, its longest known suffix as a pointer, and remembers its new suffixes.
    /// Returns where the name lies, for [`record_at`](Self::record_at): `None` if it is too far
    /// back, or the root, which no pointer makes shorter.
    pub fn name(&mut self, name: Name<'_>) -> Result<Option<usize>, Full> {
        if name.is_root() {
            self.put(&[0])?;
            return Ok(None);
        }
        if self.seen.is_empty() {
            self.remember_question();
        }
        let (wire, begin, known) = (name.as_wire(), self.at, self.seen.len());
        // Octets before the suffix that is known.
        let mut fresh = 0;
        let found = loop {
            let suffix = &wire[fresh..];
            if suffix[0] == 0 {
                break None;
            }
            let hash = hash(suffix);
            if let Some(at) = self.find(suffix, hash, known) {
                break Some(at);
            }
            self.remember(hash, begin + fresh);
            fresh += 1 + usize::from(suffix[0]);
        };
        let written = match found {
            Some(at) => self.put(&wire[..fresh]).and_then(|()| self.put_u16(0xc000 | at)),
            None => self.put(wire),
        };
        written.inspect_err(|_| self.seen.truncate(known))?;
        let at = found.filter(|_| fresh == 0).map_or(begin, usize::from);
        Ok((at <= POINTER_MAX).then_some(at))
    }

    fn remember_question(&mut self) {
        let mut at = HEADER_LEN;
        while at + 1 < HEADER_LEN + self.question_len {
            let suffix = &self.message[at..HEADER_LEN + self.question_len];
            let (hash, label) = (hash(suffix), usize::from(suffix[0]));
            self.remember(hash, at);
            at += 1 + label;
        }
    }

    /// Remembers that a name with this hash lies at `offset`. If that is too far back, or there are
    /// too many, the name is only written again.
    #[inline]
    fn remember(&mut self, hash: u16, offset: usize) {
        if offset <= POINTER_MAX
            && let Ok(offset) = u32::try_from(offset)
        {
            let _ = self.seen.try_push(u32::from(hash) << 16 | offset);
        }
    }

    /// Where the name lies that is `suffix`, among the first `known` of those seen.
    #[inline]
    fn find(&self, suffix: &[u8], hash: u16, known: usize) -> Option<u16> {
        self.seen[..known].iter().find_map(|&seen| {
            let offset = (seen & 0xffff) as u16;
            (seen >> 16 == u32::from(hash) && self.is_at(usize::from(offset), suffix))
                .then_some(offset)
        })
    }

    /// Is the name that lies at `at`, where this writer wrote one, this name?
    pub fn has_name_at(&self, at: usize, name: Name<'_>) -> bool {
        self.is_at(at, name.as_wire())
    }

    /// Is the name that begins at `at` of the message this one? Pointers in it are our own and
    /// lead backwards.
    fn is_at(&self, mut at: usize, suffix: &[u8]) -> bool {
        let question_end = HEADER_LEN + self.question_len;
        let mut rest = suffix;
        loop {
            // The question's name is in one piece.
            if at < question_end {
                let len = rest.len();
                return question_end - at == len
                    && octets::start_eq_folded(&self.message[at..], rest, len);
            }
            let len = usize::from(self.message[at]);
            if len >= 0xc0 {
                at = usize::from(
                    u16::from_be_bytes([self.message[at], self.message[at + 1]]) & 0x3fff,
                );
                continue;
            }
            if rest.len() <= len || !octets::start_eq_folded(&self.message[at..], rest, 1 + len) {
                return false;
            }
            if len == 0 {
                return true;
            }
            at += 1 + len;
            rest = &rest[1 + len..];
        }
    }

    /// Writes octets as they are.
    #[inline]
    pub fn put(&mut self, octets: &[u8]) -> Result<(), Full> {
        let to = self.take(octets.len())?;
        octets::copy(to, octets);
        Ok(())
    }

    /// Writes a 16-bit number.
    #[inline]
    pub fn put_u16(&mut self, value: u16) -> Result<(), Full> {
        self.take(2)?.copy_from_slice(&value.to_be_bytes());
        Ok(())
    }

    #[inline]
    fn put_u32(&mut self, value: u32) -> Result<(), Full> {
        self.take(4)?.copy_from_slice(&value.to_be_bytes());
        Ok(())
    }

    /// Counts a record that was written octet by octet with [`put`](Self::put).
    pub fn counted(&mut self, section: Section) {
        self.counts[section as usize] += 1;
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&mut [u8], Full> {
        if self.room() < len {
            return Err(Full);
        }
        let from = self.at;
        self.at += len;
        Ok(&mut self.message[from..from + len])
    }

    /// Writes the header and returns the message's length.
    pub fn finish(&mut self, id: u16, flags: u16) -> usize {
        let [questions, answers, authority, additional] = self.counts.map(u64::from);
        let first = u64::from(id) << 48 | u64::from(flags) << 32 | questions << 16 | answers;
        let last = authority << 48 | additional << 32;
        self.message[..8].copy_from_slice(&first.to_be_bytes());
        self.message[8..HEADER_LEN].copy_from_slice(&last.to_be_bytes()[..4]);
        self.at
    }
}

/// Type and class as they are sent.
#[inline]
fn kind(rtype: Rtype, class: Class) -> u32 {
    u32::from(rtype.0) << 16 | u32::from(class.0)
}

/// The furthest that a compression pointer reaches.
const POINTER_MAX: usize = 0x3fff;

/// What names that are `suffix` have in common: its first label's beginning, and its length.
#[inline]
fn hash(suffix: &[u8]) -> u16 {
    let label = octets::word(suffix) & octets::mask(1 + usize::from(suffix[0]));
    let mixed =
        (octets::fold(label) ^ (suffix.len() as u64) << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 48) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::NameBuf;

    fn name(text: &str) -> NameBuf {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_compressed_against_the_question_and_each_other() {
        let mut buffer = [0; 512];
        let mut writer = Writer::new(&mut buffer, 512);
        let (host, ns) = (name("www.Example.org"), name("ns1.example.ORG"));
        writer.question(host.as_name(), Rtype::A, Class::IN).unwrap();
        let at = writer.len();
        writer.record(Section::Answer, host.as_name(), Rtype::NS, Class::IN, 1).unwrap();
        writer.data(Rtype::NS, ns.as_name().as_wire()).unwrap();
        writer.record(Section::Additional, ns.as_name(), Rtype::A, Class::IN, 1).unwrap();
        writer.data(Rtype::A, &[1, 2, 3, 4]).unwrap();
        let len = writer.finish(7, flag_qr());
        let expected = b"\xc0\x0c\0\x02\0\x01\0\0\0\x01\0\x06\x03ns1\xc0\x10\
                         \xc0\x2d\0\x01\0\x01\0\0\0\x01\0\x04\x01\x02\x03\x04";
        assert_eq!(&buffer[at..len], expected);
        assert_eq!(&buffer[..12], b"\0\x07\x80\0\0\x01\0\x01\0\0\0\x01");
    }

    fn flag_qr() -> u16 {
        super::super::flag::QR
    }

    #[test]
    fn what_does_not_fit_is_taken_back() {
        let mut buffer = [0; 64];
        let mut writer = Writer::new(&mut buffer, 40);
        writer.question(name("a.example").as_name(), Rtype::TXT, Class::IN).unwrap();
        let mark = writer.mark();
        assert!(writer.reserve(10) && !writer.reserve(10));
        writer.record_at(Section::Answer, 12, Rtype::TXT, Class::IN, 1).unwrap_err();
        writer.rewind(mark);
        writer.release(10);
        assert_eq!((writer.len(), writer.count(Section::Answer)), (27, 0));
    }

    #[test]
    fn names_in_srv_and_dname_stay_plain() {
        let mut buffer = [0; 512];
        let mut writer = Writer::new(&mut buffer, 512);
        writer.question(name("example.org").as_name(), Rtype::SRV, Class::IN).unwrap();
        writer.record_at(Section::Answer, 12, Rtype::SRV, Class::IN, 1).unwrap();
        let at = writer.len();
        writer.data(Rtype::SRV, b"\0\0\0\0\0\x01\x07example\x03org\0").unwrap();
        assert_eq!(writer.len() - at, 2 + 19);
    }

    #[test]
    fn a_message_with_more_names_than_are_remembered_stays_right() {
        let mut buffer = vec![0; 65535];
        let mut writer = Writer::new(&mut buffer, 65535);
        for i in 0..2000 {
            let owner = name(&format!("host{i}.a{}.example.org", i % 7));
            writer.record(Section::Answer, owner.as_name(), Rtype::A, Class::IN, 1).unwrap();
            writer.data(Rtype::A, &[1, 2, 3, 4]).unwrap();
        }
        let len = writer.finish(1, 0);
        let mut at = HEADER_LEN;
        for i in 0..2000 {
            let mut out = Vec::new();
            at = super::super::data::expand_name(&buffer[..len], at, &mut out).unwrap() + 14;
            let owner = name(&format!("host{i}.a{}.example.org", i % 7));
            assert_eq!(Name::from_wire(&out).unwrap(), owner.as_name());
        }
        assert_eq!(at, len);
    }
}
