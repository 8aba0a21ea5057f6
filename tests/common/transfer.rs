//! Zone transfers as a client sees them: AXFR (RFC 5936) and IXFR over TCP (RFC 1995), signed or
//! not, as sorted text, so that servers can be compared record by record.

use std::{io, net::SocketAddr};

use domain::{base::Message, rdata::tsig::Time48, tsig::ClientSequence};

use super::dns::{Ask, TsigKey, connect, line, read_message, serial_of, write_message};

/// What came back for a request to transfer a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// One SOA: the asker has the newest version (RFC 1995 section 2).
    Current(u32),
    /// The whole zone, sorted, with its SOA once.
    Whole(Vec<String>),
    /// RFC 1995 section 4, oldest first.
    Diffs(Vec<Diff>),
}

/// One step of an incremental transfer; records sorted, without the two SOAs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diff {
    pub from: u32,
    pub to: u32,
    pub removed: Vec<String>,
    pub added: Vec<String>,
}

/// The whole zone by AXFR (RFC 5936): its records sorted, the SOA once.
pub fn transfer(server: SocketAddr, zone: &str, key: Option<&TsigKey>) -> io::Result<Vec<String>> {
    match exchange(server, zone, None, key)? {
        Transfer::Whole(records) => Ok(records),
        other => Err(io::Error::other(format!("not a whole zone: {other:?}"))),
    }
}

/// What changed since `serial`, by IXFR over TCP (RFC 1995), in whatever form the server chose.
pub fn transfer_since(
    server: SocketAddr,
    zone: &str,
    serial: u32,
    key: Option<&TsigKey>,
) -> io::Result<Transfer> {
    exchange(server, zone, Some(serial), key)
}

/// Asks again if the connection is reset: NSD does that to all it has when it reloads a zone.
fn exchange(
    server: SocketAddr,
    zone: &str,
    since: Option<u32>,
    key: Option<&TsigKey>,
) -> io::Result<Transfer> {
    let was_reset = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionReset;
    let mut tries = 0..3;
    loop {
        match exchange_once(server, zone, since, key) {
            Err(error) if was_reset(&error) && tries.next().is_some() => {}
            done => return done,
        }
    }
}

fn exchange_once(
    server: SocketAddr,
    zone: &str,
    since: Option<u32>,
    key: Option<&TsigKey>,
) -> io::Result<Transfer> {
    let mut message = Ask::new(zone, if since.is_some() { "IXFR" } else { "AXFR" }).message(since);
    let mut sequence = key.map(|key| {
        ClientSequence::request(key.domain(), &mut message, Time48::now()).expect("a TSIG fits")
    });
    let mut stream = connect(server)?;
    write_message(&mut stream, &message.finish())?;
    let mut received = Received::default();
    while !received.is_complete(since) {
        let octets = read_message(&mut stream)?;
        let mut message = Message::from_octets(octets).map_err(io::Error::other)?;
        if let Some(sequence) = &mut sequence {
            sequence.answer(&mut message, Time48::now()).map_err(io::Error::other)?;
        }
        received.take(message.as_octets())?;
    }
    if let Some(sequence) = sequence {
        sequence.done().map_err(io::Error::other)?;
    }
    told(received.records, since)
}

/// The records of a transfer as far as it has come.
#[derive(Default)]
struct Received {
    records: Vec<String>,
    /// How many of them are an SOA with the serial of the first.
    newest_seen: usize,
}

impl Received {
    fn take(&mut self, octets: &[u8]) -> io::Result<()> {
        let message = Message::from_octets(octets).map_err(io::Error::other)?;
        let rcode = message.opt_rcode().to_string();
        if rcode != "NOERROR" {
            return Err(io::Error::other(rcode));
        }
        let before = self.records.len();
        for record in message.answer().map_err(io::Error::other)? {
            let line = line(&record.map_err(io::Error::other)?).map_err(io::Error::other)?;
            let newest = serial_of(self.records.first().unwrap_or(&line));
            self.newest_seen += usize::from(newest.is_some() && serial_of(&line) == newest);
            self.records.push(line);
        }
        if self.records.len() == before {
            return Err(io::Error::other("a message without records"));
        }
        Ok(())
    }

    /// RFC 5936 section 2.2 and RFC 1995 section 4: a transfer ends with the SOA it began with;
    /// in an incremental one that SOA also opens the last step's additions.
    fn is_complete(&self, since: Option<u32>) -> bool {
        let Some(first) = self.records.first() else { return false };
        let newest = serial_of(first);
        let incremental = self.records.get(1).is_some_and(|line| serial_of(line).is_some());
        match since {
            Some(serial) if newest == Some(serial) => true,
            Some(_) if self.records.len() == 1 => false,
            Some(_) if incremental => self.newest_seen == 3,
            _ => self.newest_seen == 2,
        }
    }
}

fn told(mut records: Vec<String>, since: Option<u32>) -> io::Result<Transfer> {
    let newest = serial_of(&records[0]).ok_or_else(|| io::Error::other("no SOA at the start"))?;
    if records.len() == 1 && since == Some(newest) {
        return Ok(Transfer::Current(newest));
    }
    records.pop();
    if since.is_none() || serial_of(&records[1]).is_none() {
        records.sort_unstable();
        return Ok(Transfer::Whole(records));
    }
    let mut parts: Vec<(u32, Vec<String>)> = Vec::new();
    for record in records.drain(1..) {
        match (serial_of(&record), parts.last_mut()) {
            (Some(serial), _) => parts.push((serial, Vec::new())),
            (None, Some((_, part))) => part.push(record),
            (None, None) => return Err(io::Error::other("a record before the first SOA")),
        }
    }
    parts.iter_mut().for_each(|(_, part)| part.sort_unstable());
    if !parts.len().is_multiple_of(2) {
        return Err(io::Error::other("a removal without its additions"));
    }
    let steps = parts.chunks_exact(2).map(|step| {
        let [(from, removed), (to, added)] = step else { unreachable!("chunks of two") };
        Diff { from: *from, to: *to, removed: removed.clone(), added: added.clone() }
    });
    Ok(Transfer::Diffs(steps.collect()))
}
