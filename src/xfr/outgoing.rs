//! A version of a zone, or how it came to be, as the messages that answer a transfer request.
//!
//! Messages are filled to about 16 KiB, as far as compression pointers reach. In canonical order
//! most of an owner's name is in the one before it, so owners are compressed against the last
//! one and the question, without searching; names in data by the [`Writer`].

use super::TransferRequest;
use super::request::{OPT_LEN, write_opt};
use crate::name::{Key, NAME_MAX, Name};
use crate::wire::{Class, Full, HEADER_LEN, Rtype, Section, Serial, Writer, flag};
use crate::zone::{Diff, Node, Record, Zone};
use std::sync::Arc;

/// The longest message, octets: what the buffer for [`Outgoing::next`] should have.
pub const MESSAGE_MAX: usize = 65535;

/// A message of so many octets gets no more records.
const ENOUGH: usize = 16 * 1024 - 512;

/// The payload size that our OPT record announces: what we take over UDP.
const UDP_SIZE: u16 = 1232;

/// What a request is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The SOA alone: the client has the newest version, or must ask over TCP.
    Soa,
    /// The differences from the client's serial on.
    Diffs {
        /// The client's serial.
        from: Serial,
    },
    /// The whole zone.
    Whole,
}

/// A record is larger than a message can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record does not fit into a message")]
pub struct Unsendable;

/// Writes the replies to one transfer request, one after the other.
pub struct Outgoing {
    request: TransferRequest,
    zone: Arc<Zone>,
    diffs: Vec<Arc<Diff>>,
    way: Way,
    next: Next,
    first_message: bool,
    /// Seconds until the zone expires, for clients that ask.
    expire_s: Option<u32>,
}

/// What comes next.
#[derive(Clone)]
enum Next {
    /// The SOA that everything begins with.
    Opening,
    /// The records of the owner with this key, without the `sent` first ones.
    Owner { hashes: bool, key: Box<Key>, sent: usize },
    /// Of the difference `diff`, what is removed or added, from a place in the list on.
    Diff { diff: usize, added: bool, at: usize },
    /// The SOA that ends it.
    Closing,
    /// Nothing.
    End,
}

impl Outgoing {
    /// Answers with the whole zone.
    pub fn axfr(request: &TransferRequest, zone: Arc<Zone>) -> Self {
        Self::new(request, zone, Way::Whole, &[])
    }

    /// Answers with what changed since the client's serial, `request.have`; `since` are the
    /// diffs that lead from there to `zone`, if they are held. Where there is no such history,
    /// or it has more records than the zone, the whole zone is sent in its place.
    pub fn ixfr(request: &TransferRequest, zone: Arc<Zone>, since: Option<&[Arc<Diff>]>) -> Self {
        let Some(have) = request.have else { return Self::axfr(request, zone) };
        if !zone.serial().is_after(have) {
            return Self::soa(request, zone);
        }
        match since {
            Some(diffs) if leads(diffs, have, zone.serial()) && is_worth_it(diffs, &zone) => {
                Self::new(request, zone, Way::Diffs { from: have }, diffs)
            }
            _ => Self::axfr(request, zone),
        }
    }

    /// Answers with the SOA alone: to an IXFR request over UDP it says, ask over TCP.
    pub fn soa(request: &TransferRequest, zone: Arc<Zone>) -> Self {
        Self::new(request, zone, Way::Soa, &[])
    }

    fn new(request: &TransferRequest, zone: Arc<Zone>, way: Way, diffs: &[Arc<Diff>]) -> Self {
        let request = request.clone();
        let (diffs, next) = (diffs.to_vec(), Next::Opening);
        Self { request, zone, diffs, way, next, first_message: true, expire_s: None }
    }

    /// Tells the client, if it asks, in how many seconds the zone expires here (RFC 7314).
    #[must_use]
    pub fn expiring_in(self, s: u32) -> Self {
        Self { expire_s: Some(s).filter(|_| self.request.expire), ..self }
    }

    /// What the request is answered with.
    pub fn way(&self) -> Way {
        self.way
    }

    /// Writes the next message to `buffer` and returns its length; `reserve` octets behind it
    /// are left free, for a signature. `None`: all is sent.
    ///
    /// # Errors
    /// If a record does not fit into the buffer. Nothing more can be sent then.
    pub fn next(&mut self, buffer: &mut [u8], reserve: usize) -> Result<Option<usize>, Unsendable> {
        if matches!(self.next, Next::End) {
            return Ok(None);
        }
        let edns = self.request.edns && self.first_message;
        let kept = reserve + if edns { OPT_LEN } else { 0 };
        let limit = buffer.len().min(MESSAGE_MAX).checked_sub(kept).ok_or(Unsendable)?;
        if limit < HEADER_LEN {
            return Err(Unsendable);
        }
        let rtype = if self.request.have.is_some() { Rtype::IXFR } else { Rtype::AXFR };
        let mut message = Message::new(buffer, limit, self.request.apex.as_name(), rtype)?;
        self.fill(&mut message)?;
        if edns {
            message.writer.release(OPT_LEN);
            write_opt(&mut message.writer, UDP_SIZE, self.expire_s).expect("its room was kept");
        }
        self.first_message = false;
        let rd = if self.request.recursion_desired { flag::RD } else { 0 };
        Ok(Some(message.writer.finish(self.request.id, flag::QR | flag::AA | rd)))
    }

    fn fill(&mut self, message: &mut Message<'_>) -> Result<(), Unsendable> {
        let zone = Arc::clone(&self.zone);
        loop {
            let next = std::mem::replace(&mut self.next, Next::End);
            let stopped = match next {
                Next::Opening => self.put_soa(message, &zone, Next::Opening, self.behind_opening()),
                Next::Owner { hashes, key, sent } => {
                    self.put_owners(message, &zone, hashes, &key, sent)
                }
                Next::Diff { diff, added, at } => self.put_list(message, diff, added, at),
                Next::Closing => self.put_soa(message, &zone, Next::Closing, Next::End),
                Next::End => return Ok(()),
            };
            if stopped {
                let empty = message.writer.count(Section::Answer) == 0;
                return if empty { Err(Unsendable) } else { Ok(()) };
            }
        }
    }

    fn behind_opening(&self) -> Next {
        match self.way {
            Way::Soa => Next::End,
            Way::Whole => Next::Owner { hashes: false, key: Box::new(Key::empty()), sent: 0 },
            Way::Diffs { .. } => Next::Diff { diff: 0, added: false, at: 0 },
        }
    }

    /// `true`: the message is full, and `now` is still to be sent; else `then` is.
    fn put_soa(&mut self, message: &mut Message<'_>, zone: &Zone, now: Next, then: Next) -> bool {
        let soa = Record { rtype: Rtype::SOA, ttl: zone.soa().ttl, data: zone.soa_data() };
        let full = message.put(zone.apex(), soa).is_err();
        self.next = if full { now } else { then };
        full
    }

    /// The records of all owners from `from` on. `true`: the message is full.
    fn put_owners(
        &mut self,
        message: &mut Message<'_>,
        zone: &Zone,
        hashes: bool,
        from: &Key,
        mut skip: usize,
    ) -> bool {
        for (key, node) in zone.entries_from(hashes, from) {
            let owner = key.name(zone.apex()).expect("a key of this zone");
            for (sent, record) in records(node).enumerate().skip(skip) {
                if message.put(owner.as_name(), record).is_err() {
                    self.next = Next::Owner { hashes, key: Box::new(key), sent };
                    return true;
                }
            }
            skip = 0;
        }
        self.next = if hashes {
            Next::Closing
        } else {
            Next::Owner { hashes: true, key: Box::new(Key::empty()), sent: 0 }
        };
        false
    }

    /// One list of one difference. `true`: the message is full.
    fn put_list(&mut self, message: &mut Message<'_>, diff: usize, added: bool, at: usize) -> bool {
        let whole = &self.diffs[diff];
        let list = if added { &whole.added } else { &whole.removed };
        let mut begin = at;
        for (owner, record, end) in list.iter_from(at) {
            if message.put(owner, record).is_err() {
                self.next = Next::Diff { diff, added, at: begin };
                return true;
            }
            begin = end;
        }
        self.next = match (added, diff + 1 < self.diffs.len()) {
            (false, _) => Next::Diff { diff, added: true, at: 0 },
            (true, true) => Next::Diff { diff: diff + 1, added: false, at: 0 },
            (true, false) => Next::Closing,
        };
        false
    }
}

/// Does this history begin and end where it must?
fn leads(diffs: &[Arc<Diff>], from: Serial, to: Serial) -> bool {
    diffs.first().is_some_and(|first| first.from == from)
        && diffs.last().is_some_and(|last| last.to == to)
}

/// Is sending the differences less than sending the zone? What fits into one message is.
fn is_worth_it(diffs: &[Arc<Diff>], zone: &Zone) -> bool {
    if diffs.iter().map(|diff| diff.octets()).sum::<usize>() < ENOUGH {
        return true;
    }
    let most = zone.records();
    let mut records = 0;
    diffs.iter().all(|diff| {
        records += diff.records() as u64;
        records <= most
    })
}

/// An owner's records but the SOA, which begins and ends a transfer.
fn records(node: Node<'_>) -> impl Iterator<Item = Record<'_>> {
    node.sets().filter(|set| set.data_type() != Rtype::SOA).flat_map(|set| {
        let (rtype, ttl) = (set.data_type(), set.ttl());
        set.iter().map(move |data| Record { rtype, ttl, data })
    })
}

/// A message being written, and where in it the parts of the last owner's name are.
struct Message<'b> {
    writer: Writer<'b>,
    last: [u8; NAME_MAX],
    starts: Starts,
    /// Where the last owner's suffix of so many labels begins.
    offsets: [usize; 128],
}

/// Where the labels of a name begin, from left to right.
struct Starts {
    at: [u8; 128],
    labels: usize,
}

impl Starts {
    fn of(name: Name<'_>) -> Self {
        let mut starts = Self { at: [0; 128], labels: 0 };
        let mut at = 0;
        for label in name.labels() {
            #[expect(clippy::cast_possible_truncation, reason = "a name has 255 octets at most")]
            {
                starts.at[starts.labels] = at as u8;
            }
            starts.labels += 1;
            at += 1 + label.len();
        }
        starts
    }

    /// Where the suffix of so many labels begins in a name of `len` octets.
    fn of_suffix(&self, labels: usize, len: usize) -> usize {
        if labels == 0 { len - 1 } else { usize::from(self.at[self.labels - labels]) }
    }
}

impl<'b> Message<'b> {
    /// Begins a message with the question of a transfer of the zone at `apex`.
    fn new(
        buffer: &'b mut [u8],
        limit: usize,
        apex: Name<'_>,
        rtype: Rtype,
    ) -> Result<Self, Unsendable> {
        let mut writer = Writer::new(buffer, limit);
        writer.question(apex, rtype, Class::IN).map_err(|Full| Unsendable)?;
        let starts = Starts::of(apex);
        let mut last = [0; NAME_MAX];
        last[..apex.len()].copy_from_slice(apex.as_wire());
        let mut offsets = [0; 128];
        for (labels, offset) in offsets.iter_mut().enumerate().take(starts.labels + 1) {
            *offset = HEADER_LEN + starts.of_suffix(labels, apex.len());
        }
        Ok(Self { writer, last, starts, offsets })
    }

    /// Adds a record, unless there is enough in the message or no room.
    fn put(&mut self, owner: Name<'_>, record: Record<'_>) -> Result<(), Full> {
        if self.writer.len() >= ENOUGH {
            return Err(Full);
        }
        let mark = self.writer.mark();
        let result = self.put_owner(owner).and_then(|offset| {
            self.writer.record_at(Section::Answer, offset, record.rtype, Class::IN, record.ttl)?;
            self.writer.data(record.rtype, record.data)
        });
        if result.is_err() {
            self.writer.rewind(mark);
        }
        result
    }

    /// Writes what the owner's name does not share with the last one, and returns where the rest
    /// of it is in the message. After an error the message takes no more records.
    fn put_owner(&mut self, owner: Name<'_>) -> Result<usize, Full> {
        let (wire, starts) = (owner.as_wire(), Starts::of(owner));
        let mut shared = self.shared_labels(wire, &starts);
        while shared > 0 && self.offsets[shared] > POINTER_MAX {
            shared -= 1;
        }
        let begin = self.writer.len();
        self.writer.put(&wire[..starts.of_suffix(shared, wire.len())])?;
        for labels in shared + 1..=starts.labels {
            self.offsets[labels] = begin + starts.of_suffix(labels, wire.len());
        }
        self.last[..wire.len()].copy_from_slice(wire);
        self.starts = starts;
        Ok(self.offsets[shared])
    }

    fn shared_labels(&self, wire: &[u8], starts: &Starts) -> usize {
        let pairs = self.starts.at[..self.starts.labels]
            .iter()
            .rev()
            .zip(starts.at[..starts.labels].iter().rev());
        pairs
            .take_while(|&(&mine, &theirs)| {
                let (mine, theirs) =
                    (&self.last[usize::from(mine)..], &wire[usize::from(theirs)..]);
                let len = usize::from(mine[0]);
                mine[..=len].eq_ignore_ascii_case(theirs.get(..=len).unwrap_or(&[]))
            })
            .count()
    }
}

/// The furthest that a compression pointer reaches.
const POINTER_MAX: usize = 0x3fff;
