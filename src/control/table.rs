//! A status in words: [`zones`] as a table, what needs someone's attention first; [`zone`] in
//! full.

use crate::replica::{
    HeldStatus, LastTransfer, PrimaryStatus, SignaturesStatus, State, TransferStatus, ZoneStatus,
};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};

mod server;

pub use server::server;

/// The columns of the table.
const HEAD: [&str; 7] =
    ["ZONE", "STATE", "SERIAL", "LAST CONTACT", "NEXT REFRESH", "EXPIRES IN", "PRIMARY"];

/// Names longer than this move the columns of their own line alone.
const WIDTH_MAX: usize = 40;

/// Writes a line for each zone, with its errors on lines of their own after it, and how many
/// zones there are of each state.
///
/// # Errors
/// Those of `out`.
pub fn zones(zones: &[ZoneStatus], out: &mut impl Write) -> io::Result<()> {
    let mut sorted: Vec<_> = zones.iter().collect();
    sorted.sort_by_key(|zone| (zone.state, &zone.zone));
    let mut widths = HEAD.map(str::len);
    for zone in &sorted {
        for (width, cell) in widths.iter_mut().zip(cells(zone)) {
            *width = cell.len().min(WIDTH_MAX).max(*width);
        }
    }
    if !sorted.is_empty() {
        row(&HEAD.map(str::to_owned), &widths, out)?;
    }
    for zone in sorted {
        row(&cells(zone), &widths, out)?;
        for error in errors(zone) {
            writeln!(out, "    {error}")?;
        }
    }
    writeln!(out, "{}", summary(zones))
}

/// A line of a table.
pub(crate) fn row<const N: usize>(
    cells: &[String; N],
    widths: &[usize; N],
    out: &mut impl Write,
) -> io::Result<()> {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        // Writing to a string does not fail.
        let _ = write!(line, "{cell:<width$}  ");
    }
    writeln!(out, "{}", line.trim_end())
}

fn cells(zone: &ZoneStatus) -> [String; 7] {
    let none = || "-".to_owned();
    [
        zone.zone.clone(),
        zone.state.to_string(),
        zone.serial.map_or_else(none, |serial| serial.to_string()),
        zone.last_contact_s.map_or_else(none, |s| format!("{} ago", time(s))),
        refresh(zone).unwrap_or_else(none),
        expiry(zone).unwrap_or_else(none),
        source(zone).unwrap_or_else(none),
    ]
}

pub(super) fn is_from_file(zone: &ZoneStatus) -> bool {
    zone.primaries.is_empty()
}

fn refresh(zone: &ZoneStatus) -> Option<String> {
    match zone.refresh_in_s {
        // A file is read when it is asked for, again and again only if that failed.
        _ if is_from_file(zone) && zone.serial.is_some() => None,
        0 => Some("now".into()),
        s => Some(format!("in {}", time(s))),
    }
}

fn expiry(zone: &ZoneStatus) -> Option<String> {
    match zone.expires_in_s {
        _ if zone.serial.is_none() => None,
        _ if zone.state == State::Expired => Some("expired".into()),
        None => Some("never".into()),
        Some(s) => Some(time(s)),
    }
}

fn source(zone: &ZoneStatus) -> Option<String> {
    let file = || is_from_file(zone).then(|| "file".to_owned());
    zone.primary.map(|address| address.to_string()).or_else(file)
}

fn errors(zone: &ZoneStatus) -> impl Iterator<Item = String> {
    let of_zone = zone.error.as_deref().map(plain);
    of_zone.into_iter().chain(zone.held.as_ref().map(held)).chain(zone.primaries.iter().filter_map(
        |primary| {
            let error = plain(primary.last_error.as_deref()?);
            Some(format!("{}: {error}", primary.address))
        },
    ))
}

fn held(held: &HeldStatus) -> String {
    let HeldStatus { serial, check, why, since_s } = held;
    format!("serial {serial} is held by {check} since {}: {}", time(*since_s), plain(why))
}

/// What peers and files brought, without what a terminal would obey.
pub(crate) fn plain(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    text.chars().map(escaped).collect()
}

/// "3 zones: 1 expired, 2 ok".
fn summary(zones: &[ZoneStatus]) -> String {
    let mut states: BTreeMap<State, u64> = BTreeMap::new();
    for zone in zones {
        *states.entry(zone.state).or_default() += 1;
    }
    summary_of(&states)
}

fn summary_of(states: &BTreeMap<State, u64>) -> String {
    let counts: Vec<_> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    match states.values().sum::<u64>() {
        0 => "no zones are configured".into(),
        1 => format!("1 zone: {}", counts.join(", ")),
        count => format!("{count} zones: {}", counts.join(", ")),
    }
}

/// Writes all that is known of one zone, and what to do about what is wrong.
///
/// # Errors
/// Those of `out`.
pub fn zone(zone: &ZoneStatus, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", zone.zone)?;
    let mut field = |name: &str, value: String| writeln!(out, "  {name:<14} {value}");
    field("state", format!("{}: {}", zone.state, meaning(zone)))?;
    if let Some(serial) = zone.serial {
        field("serial", format!("{serial} ({})", counted(zone.records, "record")))?;
    }
    if zone.behind_serials > 0 {
        let (serials, s) = (zone.behind_serials, time(zone.behind_s));
        field("behind", format!("by {serials} of serial, known for {s}"))?;
    }
    if let Some(s) = zone.last_contact_s {
        field("last contact", format!("{} ago", time(s)))?;
    }
    if let Some(address) = zone.primary {
        field("copied from", address.to_string())?;
    }
    if let Some(text) = refresh(zone) {
        field("next refresh", text)?;
    }
    match zone.expires_in_s {
        Some(s) if zone.state != State::Expired => field("expires", format!("in {}", time(s)))?,
        None if zone.serial.is_some() => field("expires", "never".into())?,
        _ => {}
    }
    if let Some(course) = &zone.transfer {
        field("transfer", under_way(course))?;
    }
    if let Some(signatures) = &zone.signatures {
        field("signatures", signed(signatures))?;
    }
    if let Some(last) = &zone.last_transfer {
        field("last transfer", transfer(last))?;
    }
    if zone.versions_held > 0 {
        field(
            "history",
            format!("{} for outgoing IXFR", counted(zone.versions_held as u64, "difference")),
        )?;
    }
    if zone.nsec3_iterations > 0 {
        let iterations = zone.nsec3_iterations;
        field("NSEC3", format!("{iterations} extra iterations; RFC 9276 advises 0"))?;
    }
    if let Some(error) = &zone.error {
        field("error", plain(error))?;
    }
    if let Some(version) = &zone.held {
        field("held", held(version))?;
    }
    if is_from_file(zone) {
        field("source", "a zone file".into())?;
    }
    for primary in &zone.primaries {
        field("primary", asked(primary))?;
        if let Some(error) = &primary.last_error {
            field("", format!("error: {}", plain(error)))?;
        }
    }
    advice(zone, out)
}

/// Writes what to do about what is wrong.
fn advice(zone: &ZoneStatus, out: &mut impl Write) -> io::Result<()> {
    if zone.held.is_some() {
        writeln!(
            out,
            "\nTo serve the version that is held, whatever the check says:\n    \
            backstop approve {}",
            zone.zone
        )?;
    }
    if let Some(theirs) = zone.lower_serial {
        writeln!(out, "\n{}", lower_serial(zone, theirs))?;
    }
    if zone.same_serial_difference {
        writeln!(out, "\n{}", difference(zone))?;
    }
    if zone.signatures.as_ref().is_some_and(|signatures| signatures.ends_in_s == 0) {
        writeln!(
            out,
            "\nSign the zone anew at the primary: validating resolvers take nothing from it that \
             has no\nsignature that holds. It is served as it is."
        )?;
    }
    Ok(())
}

fn meaning(zone: &ZoneStatus) -> &'static str {
    match zone.state {
        State::Expired if zone.serve_stale => {
            "no primary has renewed it in time; it is served stale until one does"
        }
        State::Expired => {
            "no primary has renewed it in time; it is answered with SERVFAIL until one does"
        }
        State::Damaged => {
            "what was kept of it is damaged, and no primary has given it anew; it is answered \
             with SERVFAIL until one does"
        }
        State::NeverLoaded if is_from_file(zone) => {
            "its file has not been loaded yet; it is answered with SERVFAIL until then"
        }
        State::NeverLoaded => {
            "no primary has given it yet; it is answered with SERVFAIL until one does"
        }
        State::LowerSerial => {
            "it is served; all primaries that answer have a lower serial than ours"
        }
        State::Expiring => {
            "it is served, but less than half of its time is left, and the primaries are of no use"
        }
        State::HeldByCheck => "it is served; a newer version is not, because a check refused it",
        State::Stale if is_from_file(zone) => {
            "it is served, but its file could not be read when it was last tried"
        }
        State::Stale => "it is served, but no primary was of use when they were asked last",
        State::Diverged => "it is served; a primary has other data under the same serial",
        State::Refreshing => "it is served; a primary is being asked for a newer version",
        State::Ok if is_from_file(zone) => "it is served",
        State::Ok => "it is served, as fresh as its SOA demands",
    }
}

fn under_way(course: &TransferStatus) -> String {
    let much = amount(course.records, course.octets);
    format!("{}, for {}: {much} so far", course.doing, time(course.s))
}

fn signed(signatures: &SignaturesStatus) -> String {
    let SignaturesStatus { ends_in_s, of } = signatures;
    match ends_in_s {
        0 => format!("have run out: {of}"),
        s => format!("the first runs out in {}: {of}", time(*s)),
    }
}

fn transfer(last: &LastTransfer) -> String {
    let took = match last.ms {
        ms @ 0..1000 => format!("{ms}ms"),
        ms => time(ms / 1000),
    };
    let much = amount(last.records, last.octets);
    format!("{}, {} ago: {much}, {took}", last.kind, time(last.ago_s))
}

fn amount(records: u64, octets: u64) -> String {
    format!("{} in {}", counted(records, "record"), counted(octets, "octet"))
}

fn asked(primary: &PrimaryStatus) -> String {
    let asked = primary
        .asked_s
        .map_or_else(|| "not asked yet".to_owned(), |s| format!("asked {} ago", time(s)));
    let serial = primary.serial.map(|serial| format!(", told serial {serial}"));
    format!("{}: {asked}{}", primary.address, serial.unwrap_or_default())
}

/// What to do about a serial that went backwards.
fn lower_serial(zone: &ZoneStatus, theirs: u32) -> String {
    let ours = zone.serial.map_or_else(String::new, |serial| format!(", {serial}"));
    format!(
        "The primaries have serial {theirs}, which is lower than ours{ours}: it went backwards \
         there.\nRaise it above ours at the primary; or, to take the primary's version here as it \
         is:\n    backstop retransfer {}",
        zone.zone
    )
}

/// What to do about data that changed without their serial.
fn difference(zone: &ZoneStatus) -> String {
    let serial = zone.serial.map_or_else(String::new, |serial| format!(" {serial}"));
    format!(
        "A primary has other data under the serial{serial} than are served here: the zone was \
         edited there\nwithout raising its serial. Raise it at the primary, so that every secondary \
         takes the change;\nor, to take the primary's data here as they are:\n    \
         backstop retransfer {}",
        zone.zone
    )
}

fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Seconds, as a person says them: the two largest units, "3m12s".
pub(crate) fn time(s: u64) -> String {
    const UNITS: [(u64, char); 4] = [(86_400, 'd'), (3600, 'h'), (60, 'm'), (1, 's')];
    let at = UNITS.iter().position(|&(unit, _)| s >= unit).unwrap_or(3);
    let (unit, letter) = UNITS[at];
    let (count, rest) = (s / unit, s % unit);
    match UNITS.get(at + 1).map(|&(unit, letter)| (rest / unit, letter)) {
        None | Some((0, _)) => format!("{count}{letter}"),
        Some((more, smaller)) => format!("{count}{letter}{more}{smaller}"),
    }
}

#[cfg(test)]
mod tests;
