//! What the replies to a transfer request say.

use super::XfrError;
use super::reader::{Found, Reader};
use crate::name::{Name, NameBuf};
use crate::wire::{Class, Opcode, Rtype, Section, Serial, same_data};
use crate::zone::{Builder, Diff, Record, Records, Soa, Sum};

/// What has come of the messages so far.
pub enum Progress {
    /// There is more to come.
    More,
    /// IXFR: the primary has just what we have.
    UpToDate(Serial),
    /// IXFR: the primary's serial, which is not after ours.
    Behind(Serial),
    /// The whole zone, and its SOA.
    Whole(Box<Builder>, Soa),
    /// The whole zone was only to be summed up: its sum, and its SOA.
    Summed(Sum, Soa),
    /// The differences, oldest first: the first goes on from the serial we have, each from the
    /// one before it.
    Diffs(Vec<Diff>),
}

/// What a transfer consisted of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Messages.
    pub messages: u64,
    /// Their octets, without TSIG and the lengths in front of them.
    pub octets: u64,
    /// Records in their answer sections.
    pub records: u64,
    /// Records whose owner is not in the zone, which were dropped.
    pub outside: u64,
}

/// Reads the replies to one transfer request.
pub struct Incoming {
    apex: NameBuf,
    id: u16,
    /// IXFR: the serial that we have; `None` for AXFR.
    have: Option<Serial>,
    /// A whole zone is summed up, not built.
    sums: bool,
    max_octets: u64,
    /// Octets of the records so far in wire form, also of those that were dropped.
    held: u64,
    statistics: Statistics,
    state: State,
    /// The zone's new SOA, which is the first record of all.
    soa: Option<(Soa, Box<[u8]>)>,
    /// Whole differences.
    diffs: Vec<Diff>,
}

/// What the next record may be.
enum State {
    /// The SOA that announces the version.
    Start,
    /// IXFR: the second record, which tells differences from a whole zone.
    Announced,
    /// A record of the zone, or the SOA again, which ends it.
    Whole(Box<Builder>),
    /// Likewise, where the zone is only summed up.
    Summing(Sum),
    /// A removed record, or the SOA that what is added begins with.
    Removed(Diff),
    /// An added record, or the SOA that the next difference begins with, or that ends it all.
    Added(Diff),
    /// None: this is what came of it, until it is handed out.
    Done(Progress),
}

impl Incoming {
    /// Awaits the replies to [`axfr_query`](super::axfr_query) with this ID. Of the zone's records
    /// no more than `max_octets` octets of wire form are held.
    pub fn axfr(apex: Name<'_>, id: u16, max_octets: u64) -> Self {
        Self {
            apex: apex.to_owned(),
            id,
            have: None,
            sums: false,
            max_octets,
            held: 0,
            statistics: Statistics::default(),
            state: State::Start,
            soa: None,
            diffs: Vec::new(),
        }
    }

    /// As [`axfr`](Self::axfr), but no record is held: all that comes of it is the zone's sum.
    pub fn sum(apex: Name<'_>, id: u16, max_octets: u64) -> Self {
        Self { sums: true, ..Self::axfr(apex, id, max_octets) }
    }

    /// As [`axfr`](Self::axfr), to [`ixfr_query`](super::ixfr_query).
    pub fn ixfr(apex: Name<'_>, id: u16, have: Serial, max_octets: u64) -> Self {
        Self { have: Some(have), ..Self::axfr(apex, id, max_octets) }
    }

    /// What the transfer consisted of so far.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// A newer serial, if that is all that has come in reply to an IXFR request so far. If nothing
    /// follows, it means that AXFR is to be used (RFC 1995 section 4).
    pub fn lone_soa(&self) -> Option<Serial> {
        matches!(self.state, State::Announced).then(|| self.announced_serial())
    }

    /// What has come of a whole zone that is being built.
    pub fn builder(&self) -> Option<&Builder> {
        match &self.state {
            State::Whole(builder) => Some(builder),
            _ => None,
        }
    }

    /// How many octets of records are held, counted in what holds them.
    pub(super) fn octets(&self) -> usize {
        let begun = match &self.state {
            State::Whole(builder) => builder.octets(),
            State::Removed(diff) | State::Added(diff) => diff.octets(),
            State::Start | State::Announced | State::Summing(_) | State::Done(_) => 0,
        };
        begun + self.diffs.iter().map(Diff::octets).sum::<usize>()
    }

    /// Reads the next message; its signature is verified and taken off already.
    ///
    /// # Errors
    /// After one, and after anything but [`Progress::More`], the transfer is over: any further
    /// message is an error.
    pub fn message(&mut self, message: &[u8]) -> Result<Progress, XfrError> {
        let result = self.read(message);
        if result.is_err() {
            self.state = State::Done(Progress::More);
            self.diffs = Vec::new();
        }
        result
    }

    fn read(&mut self, message: &[u8]) -> Result<Progress, XfrError> {
        if matches!(self.state, State::Done(_)) {
            return Err(XfrError::Malformed("a message after the end"));
        }
        let mut reader = Reader::new(message).ok_or(XfrError::Malformed("no header"))?;
        let rtype = if self.have.is_some() { Rtype::IXFR } else { Rtype::AXFR };
        let later = self.statistics.messages > 0;
        reader.check_reply(self.id, Opcode::QUERY, self.apex.as_name(), rtype, later)?;
        self.statistics.messages += 1;
        self.statistics.octets += message.len() as u64;
        let records = reader.count(Section::Answer);
        if records == 0 {
            return Err(XfrError::Malformed("a message without records"));
        }
        let mut scratch = Vec::new();
        for _ in 0..records {
            let found = reader.record(&mut scratch).ok_or(XfrError::Malformed("a record"))?;
            self.statistics.records += 1;
            self.record(&found)?;
            if matches!(self.state, State::Done(Progress::UpToDate(_) | Progress::Behind(_))) {
                // Some primaries add more to the one SOA (its RRSIG); it does not matter.
                break;
            }
        }
        match &mut self.state {
            State::Done(progress) => Ok(std::mem::replace(progress, Progress::More)),
            _ => Ok(Progress::More),
        }
    }

    fn record(&mut self, found: &Found<'_>) -> Result<(), XfrError> {
        let rtype = found.record.rtype;
        if found.class != Class::IN {
            return Err(XfrError::Malformed("a record of another class"));
        }
        if !rtype.is_data() {
            return Err(XfrError::Malformed("a record of a type that no zone has"));
        }
        if rtype == Rtype::SOA {
            if found.owner != self.apex.as_name() {
                return Err(XfrError::Malformed("an SOA record that is not the zone's"));
            }
            return self.soa(found);
        }
        match &self.state {
            State::Start => return Err(XfrError::Malformed("the first record is no SOA")),
            State::Done(_) => return Err(XfrError::Malformed("records after the end")),
            State::Announced => self.begin_whole()?,
            State::Whole(_) | State::Summing(_) | State::Removed(_) | State::Added(_) => {}
        }
        self.keep(found.owner, found.record)
    }

    /// The apex's SOA, in whichever of its roles.
    fn soa(&mut self, found: &Found<'_>) -> Result<(), XfrError> {
        let soa = Soa::parse(found.record.ttl, found.record.data)
            .ok_or(XfrError::Malformed("an SOA record"))?;
        let serial = soa.serial;
        match std::mem::replace(&mut self.state, State::Announced) {
            State::Start => self.announced(soa, found.record.data),
            State::Announced => match self.have {
                Some(have) if serial != self.announced_serial() => {
                    if serial != have {
                        return Err(XfrError::OutOfSync { from: serial, ours: have });
                    }
                    self.begin_diff(found)
                }
                _ => {
                    self.begin_whole()?;
                    self.soa(found)
                }
            },
            State::Whole(builder) => {
                let soa = self.end_whole(found.record)?;
                self.state = State::Done(Progress::Whole(builder, soa));
                Ok(())
            }
            State::Summing(sum) => {
                let soa = self.end_whole(found.record)?;
                self.state = State::Done(Progress::Summed(sum, soa));
                Ok(())
            }
            State::Removed(mut diff) => {
                if !serial.is_after(diff.from) {
                    return Err(XfrError::Malformed("a difference to an older serial"));
                }
                diff.to = serial;
                self.state = State::Added(diff);
                self.keep(found.owner, found.record)
            }
            State::Added(diff) => {
                if serial != diff.to {
                    return Err(XfrError::OutOfSync { from: serial, ours: diff.to });
                }
                self.diffs.push(diff);
                if serial != self.announced_serial() {
                    return self.begin_diff(found);
                }
                let diffs = std::mem::take(&mut self.diffs);
                self.state = State::Done(Progress::Diffs(diffs));
                Ok(())
            }
            State::Done(_) => Err(XfrError::Malformed("records after the end")),
        }
    }

    /// The first record of all.
    fn announced(&mut self, soa: Soa, data: &[u8]) -> Result<(), XfrError> {
        let serial = soa.serial;
        self.soa = Some((soa, data.into()));
        match self.have {
            None => self.begin_whole()?,
            Some(have) if serial == have => self.state = State::Done(Progress::UpToDate(serial)),
            Some(have) if !serial.is_after(have) => {
                self.state = State::Done(Progress::Behind(serial));
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn announced_serial(&self) -> Serial {
        self.soa.as_ref().expect("the state says that it was announced").0.serial
    }

    /// The announced SOA is the first record of the zone.
    fn begin_whole(&mut self) -> Result<(), XfrError> {
        let (soa, data) = self.soa.take().expect("the state says that it was announced");
        let apex = self.apex.clone();
        self.state = match self.sums {
            true => State::Summing(Sum::default()),
            false => State::Whole(Box::new(Builder::new(apex.as_name()))),
        };
        self.keep(apex.as_name(), Record { rtype: Rtype::SOA, ttl: soa.ttl, data: &data })?;
        self.soa = Some((soa, data));
        Ok(())
    }

    /// The SOA that the zone began with must be the one that ends it.
    fn end_whole(&mut self, last: Record<'_>) -> Result<Soa, XfrError> {
        let (soa, data) = self.soa.take().expect("the state says that it was announced");
        if !same_data(Rtype::SOA, &data, last.data) {
            return Err(XfrError::Malformed("it ends with another SOA than it began with"));
        }
        Ok(soa)
    }

    /// A difference begins with the SOA that it removes.
    fn begin_diff(&mut self, found: &Found<'_>) -> Result<(), XfrError> {
        let soa = Soa::parse(0, found.record.data).expect("the caller has read it");
        self.state = State::Removed(Diff {
            from: soa.serial,
            to: soa.serial,
            removed: Records::default(),
            added: Records::default(),
        });
        self.keep(found.owner, found.record)
    }

    /// Holds a record where the state says it belongs.
    fn keep(&mut self, owner: Name<'_>, record: Record<'_>) -> Result<(), XfrError> {
        let octets = (owner.len() + 10 + record.data.len()) as u64;
        let whole = matches!(self.state, State::Whole(_) | State::Summing(_));
        if self.held + octets > self.max_octets {
            let max = self.max_octets;
            return Err(if whole { XfrError::TooBig(max) } else { XfrError::DiffsTooBig(max) });
        }
        // Also of what is dropped, or a stream of that would never end.
        self.held += octets;
        let list = match &mut self.state {
            State::Whole(builder) => {
                if !builder.add(owner, record) {
                    self.statistics.outside += 1;
                }
                return Ok(());
            }
            State::Summing(sum) => {
                if owner.is_at_or_below(self.apex.as_name()) {
                    sum.add(owner, record);
                } else {
                    self.statistics.outside += 1;
                }
                return Ok(());
            }
            State::Removed(diff) => &mut diff.removed,
            State::Added(diff) => &mut diff.added,
            State::Start | State::Announced | State::Done(_) => {
                unreachable!("records are kept in no other state")
            }
        };
        if owner.is_at_or_below(self.apex.as_name()) {
            list.push(owner, record);
        } else {
            self.statistics.outside += 1;
        }
        Ok(())
    }
}
