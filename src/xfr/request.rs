//! Requests around transfers and the short replies to them: written and read.

use super::XfrError;
use super::reader::Reader;
use crate::edns::Edns;
use crate::name::{Name, NameBuf};
use crate::wire::{Class, Full, Opcode, Rcode, Rtype, Section, Serial, Writer, flag, read_u16};
use crate::zone::{Record, Soa};

/// Asks for the zone's SOA. `udp_size`: announce EDNS with this payload size, octets.
pub fn soa_query(id: u16, apex: Name<'_>, udp_size: Option<u16>) -> Vec<u8> {
    request(id, Opcode::QUERY, apex, Rtype::SOA, |writer| match udp_size {
        Some(octets) => write_opt(writer, octets, None),
        None => Ok(()),
    })
}

/// Asks for the apex's records of a type.
pub fn query(id: u16, apex: Name<'_>, rtype: Rtype) -> Vec<u8> {
    request(id, Opcode::QUERY, apex, rtype, |_| Ok(()))
}

/// Asks for the whole zone (RFC 5936 section 2.1).
pub fn axfr_query(id: u16, apex: Name<'_>) -> Vec<u8> {
    request(id, Opcode::QUERY, apex, Rtype::AXFR, |_| Ok(()))
}

/// Asks for what changed since serial `have` (RFC 1995 section 3). Of the SOA record that says
/// so only the serial means anything.
pub fn ixfr_query(id: u16, apex: Name<'_>, have: Serial) -> Vec<u8> {
    request(id, Opcode::QUERY, apex, Rtype::IXFR, |writer| {
        let mut data = vec![0; 22];
        data[2..6].copy_from_slice(&have.0.to_be_bytes());
        write(writer, Section::Authority, apex, Record { rtype: Rtype::SOA, ttl: 0, data: &data })
    })
}

/// Tells that the zone has changed (RFC 1996 section 3). `soa`: the new SOA's TTL and data, as
/// a hint.
pub fn notify(id: u16, apex: Name<'_>, soa: Option<(u32, &[u8])>) -> Vec<u8> {
    request(id, Opcode::NOTIFY, apex, Rtype::SOA, |writer| match soa {
        Some((ttl, data)) => {
            write(writer, Section::Answer, apex, Record { rtype: Rtype::SOA, ttl, data })
        }
        None => Ok(()),
    })
}

fn request(
    id: u16,
    opcode: Opcode,
    apex: Name<'_>,
    rtype: Rtype,
    rest: impl FnOnce(&mut Writer<'_>) -> Result<(), Full>,
) -> Vec<u8> {
    let mut message = vec![0; 2048];
    let limit = message.len();
    let mut writer = Writer::new(&mut message, limit);
    writer.question(apex, rtype, Class::IN).and_then(|()| rest(&mut writer)).expect("short parts");
    let aa = if opcode == Opcode::NOTIFY { flag::AA } else { 0 };
    let len = writer.finish(id, aa | u16::from(opcode.0) << flag::OPCODE_SHIFT);
    message.truncate(len);
    message
}

pub(super) fn write(
    writer: &mut Writer<'_>,
    section: Section,
    owner: Name<'_>,
    record: Record<'_>,
) -> Result<(), Full> {
    writer.record(section, owner, record.rtype, Class::IN, record.ttl)?;
    writer.data(record.rtype, record.data)
}

/// An OPT record (RFC 6891 section 6.1.2), with the seconds until the zone expires if those are
/// to be told (RFC 7314).
pub(super) fn write_opt(
    writer: &mut Writer<'_>,
    udp_size: u16,
    expire_s: Option<u32>,
) -> Result<(), Full> {
    writer.record(Section::Additional, Name::ROOT, Rtype::OPT, Class(udp_size), 0)?;
    match expire_s.map(u32::to_be_bytes) {
        None => writer.plain_data(&[]),
        Some([a, b, c, d]) => writer.plain_data(&[0, 9, 0, 4, a, b, c, d]),
    }
}

/// Octets of [`write_opt`]'s record at the most.
pub(super) const OPT_LEN: usize = 11 + 8;

/// The SOA in the reply to [`soa_query`].
pub fn parse_soa_reply(reply: &[u8], id: u16, apex: Name<'_>) -> Result<Soa, XfrError> {
    let mut reader = Reader::new(reply).ok_or(XfrError::NotOurs)?;
    reader.check_reply(id, Opcode::QUERY, apex, Rtype::SOA, false)?;
    if reader.flags() & flag::AA == 0 {
        return Err(XfrError::Lame);
    }
    find_soa(&mut reader, Section::Answer, apex)
        .ok_or(XfrError::Malformed("a record in the answer"))?
        .ok_or(XfrError::Malformed("no SOA record in the answer"))
}

/// The data of the records in the reply to [`query`].
pub fn parse_records_reply(
    reply: &[u8],
    id: u16,
    apex: Name<'_>,
    rtype: Rtype,
) -> Result<Vec<Vec<u8>>, XfrError> {
    let mut reader = Reader::new(reply).ok_or(XfrError::NotOurs)?;
    reader.check_reply(id, Opcode::QUERY, apex, rtype, false)?;
    find_data(&mut reader, apex, rtype).ok_or(XfrError::Malformed("a record in the answer"))
}

/// The data of the signatures over the SOA that came with it. Nothing is verified.
pub fn signatures_of_soa(reply: &[u8], apex: Name<'_>) -> Vec<Vec<u8>> {
    let read = || {
        let mut reader = Reader::new(reply)?;
        reader.question(&mut Vec::new())?;
        find_data(&mut reader, apex, Rtype::RRSIG)
    };
    let mut signatures = read().unwrap_or_default();
    signatures.retain(|data| read_u16(data, 0) == Some(Rtype::SOA.0));
    signatures
}

/// The data of the apex's records of a type in the answer; `None` if a record is malformed.
fn find_data(reader: &mut Reader<'_>, apex: Name<'_>, rtype: Rtype) -> Option<Vec<Vec<u8>>> {
    let (mut scratch, mut all) = (Vec::new(), Vec::new());
    for _ in 0..reader.count(Section::Answer) {
        let found = reader.record(&mut scratch)?;
        if found.owner == apex && found.class == Class::IN && found.record.rtype == rtype {
            all.push(found.record.data.to_vec());
        }
    }
    Some(all)
}

/// The apex's SOA in the section that `reader` stands before; `None` if a record is malformed.
#[expect(clippy::option_option, reason = "malformed, none, or one")]
fn find_soa(reader: &mut Reader<'_>, section: Section, apex: Name<'_>) -> Option<Option<Soa>> {
    let mut scratch = Vec::new();
    for _ in 0..reader.count(section) {
        let found = reader.record(&mut scratch)?;
        let record = found.record;
        if found.owner == apex && found.class == Class::IN && record.rtype == Rtype::SOA {
            return Some(Some(Soa::parse(record.ttl, record.data)?));
        }
    }
    Some(None)
}

/// Was our NOTIFY heard?
pub fn parse_notify_reply(reply: &[u8], id: u16, apex: Name<'_>) -> Result<(), XfrError> {
    let mut reader = Reader::new(reply).ok_or(XfrError::NotOurs)?;
    reader.check_reply(id, Opcode::NOTIFY, apex, Rtype::SOA, true)
}

/// A primary's word that a zone has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyRequest {
    /// The zone.
    pub apex: NameBuf,
    /// Its new serial, if told: a hint, to be believed only once the SOA was asked for.
    pub serial: Option<Serial>,
}

/// Reads a NOTIFY request. The error is what to answer.
pub fn parse_notify(request: &[u8]) -> Result<NotifyRequest, Rcode> {
    let mut reader = Reader::new(request).ok_or(Rcode::FORMERR)?;
    if reader.opcode() != Opcode::NOTIFY {
        return Err(Rcode::NOTIMP);
    }
    let (apex, rtype) = question(&mut reader)?;
    if rtype != Rtype::SOA {
        return Err(Rcode::FORMERR);
    }
    let soa = find_soa(&mut reader, Section::Answer, apex.as_name()).ok_or(Rcode::FORMERR)?;
    Ok(NotifyRequest { apex, serial: soa.map(|soa| soa.serial) })
}

/// The one question of a request in our class.
fn question(reader: &mut Reader<'_>) -> Result<(NameBuf, Rtype), Rcode> {
    if reader.is_reply() || reader.count(Section::Question) != 1 {
        return Err(Rcode::FORMERR);
    }
    let mut scratch = Vec::new();
    let (name, rtype, class) = reader.question(&mut scratch).ok_or(Rcode::FORMERR)?;
    if class != Class::IN {
        return Err(Rcode::REFUSED);
    }
    Ok((name.to_owned(), rtype))
}

/// A client's AXFR or IXFR request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferRequest {
    /// Its ID.
    pub id: u16,
    /// RD: the replies repeat it.
    pub recursion_desired: bool,
    /// It has an OPT record: the first reply then has one, too.
    pub edns: bool,
    /// It asks when the zone expires (RFC 7314).
    pub expire: bool,
    /// The zone asked for.
    pub apex: NameBuf,
    /// IXFR: the serial that the client has; `None` for AXFR.
    pub have: Option<Serial>,
}

/// Reads an AXFR or IXFR request. The error is what to answer.
pub fn parse_transfer(request: &[u8]) -> Result<TransferRequest, Rcode> {
    let mut reader = Reader::new(request).ok_or(Rcode::FORMERR)?;
    if reader.opcode() != Opcode::QUERY {
        return Err(Rcode::NOTIMP);
    }
    let (apex, rtype) = question(&mut reader)?;
    if reader.count(Section::Answer) > 0 {
        return Err(Rcode::FORMERR);
    }
    let mut soa = None;
    let (mut edns, mut expire) = (false, false);
    let mut scratch = Vec::new();
    let authority = reader.count(Section::Authority);
    for at in 0..u32::from(authority) + u32::from(reader.count(Section::Additional)) {
        let found = reader.record(&mut scratch).ok_or(Rcode::FORMERR)?;
        let record = found.record;
        if at < u32::from(authority) && record.rtype == Rtype::SOA && found.owner == apex.as_name()
        {
            soa = Soa::parse(record.ttl, record.data);
        }
        if record.rtype == Rtype::OPT {
            edns = true;
            expire |= Edns::read(found.class.0, [0; 2], record.data).is_some_and(|opt| opt.expire);
        }
    }
    let have = match (rtype, soa) {
        (Rtype::AXFR, _) => None,
        (Rtype::IXFR, Some(soa)) => Some(soa.serial),
        _ => return Err(Rcode::FORMERR),
    };
    Ok(TransferRequest {
        id: reader.id(),
        recursion_desired: reader.flags() & flag::RD != 0,
        edns,
        expire,
        apex,
        have,
    })
}
