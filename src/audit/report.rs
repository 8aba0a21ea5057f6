//! An audit in words: a table with what is wrong below it, or JSON.

use super::judge::{Findings, Grade, Verdict};
use super::message::Fault;
use super::observe::{Edns, Observation, Role, Told};
use crate::control::table::{plain, row, time};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::time::Duration;

const HEAD: [&str; 9] =
    ["SERVER", "ADDRESS", "SERIAL", "LAG", "UDP", "TCP", "EDNS", "EXPIRES IN", "DATA"];

/// Writes the table.
///
/// # Errors
/// Those of `out`.
pub(super) fn words(found: &Findings, verdict: &Verdict, out: &mut impl Write) -> io::Result<()> {
    let rows: Vec<_> = found.servers.iter().map(|one| cells(one, verdict)).collect();
    let mut widths = HEAD.map(str::len);
    for cells in &rows {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = cell.chars().count().max(*width);
        }
    }
    if !rows.is_empty() {
        row(&HEAD.map(str::to_owned), &widths, out)?;
    }
    rows.iter().try_for_each(|cells| row(cells, &widths, out))?;
    if let Some(names) = found.child(verdict.newest) {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let parent = match &found.delegation {
            None => "",
            Some(delegation) if Some(&delegation.names) == found.child(verdict.newest) => {
                " (the parent says the same)"
            }
            Some(_) => " (the parent says otherwise)",
        };
        writeln!(out, "\nNS set: {}{parent}", names.join(" "))?;
    }
    if !verdict.findings.is_empty() {
        writeln!(out)?;
    }
    for finding in &verdict.findings {
        let of = finding.server.map(|address| format!("{}: ", title(found, address)));
        let (grade, of) = (grade(finding.grade), of.unwrap_or_default());
        writeln!(out, "{grade}: {of}{}", plain(&finding.what))?;
    }
    writeln!(out, "\n{}", summary(found, verdict))
}

fn cells(one: &Observation, verdict: &Verdict) -> [String; 9] {
    let none = || "-".to_owned();
    let whole = one.whole.map(|whole| format!("{} whole", whole.digest));
    let sampled = one.samples.iter().flatten().count();
    let samples = (sampled > 0).then(|| format!("{sampled} samples"));
    [
        plain(&name(one)),
        one.server.address().to_string(),
        one.serial().map_or_else(none, |serial| serial.to_string()),
        lag(one, verdict).map_or_else(none, |lag| lag.to_string()),
        transport(&one.udp),
        transport(&one.tcp),
        edns(one.edns).to_owned(),
        one.expire_s.map_or_else(none, |s| time(s.into())),
        whole.or(samples).unwrap_or_else(none),
    ]
}

/// The names that lead to a server, and whose it is.
fn name(one: &Observation) -> String {
    let mut words: Vec<_> = one.server.names.iter().map(ToString::to_string).collect();
    match one.server.role {
        Role::Primary => words.push("(primary)".into()),
        Role::Own => words.push("(own)".into()),
        Role::Server if words.is_empty() => words.push("-".into()),
        Role::Server => {}
    }
    words.join(" ")
}

fn title(found: &Findings, address: std::net::SocketAddr) -> String {
    let one = found.servers.iter().find(|one| one.server.address() == address);
    match one.map(name).filter(|name| name != "-") {
        Some(name) => format!("{} {address}", plain(&name)),
        None => address.to_string(),
    }
}

fn lag(one: &Observation, verdict: &Verdict) -> Option<u32> {
    let serial = one.serial().filter(|_| !one.server.independent)?;
    Some(verdict.newest?.0.wrapping_sub(serial.0))
}

fn transport(told: &Result<Told, Fault>) -> String {
    match told {
        Ok(told) => millis(told.took),
        Err(Fault::TimedOut(_)) => "none".into(),
        Err(Fault::NoWay) => "no way".into(),
        Err(Fault::Rcode(rcode)) => rcode.to_string(),
        Err(Fault::Lame) => "lame".into(),
        Err(_) => "fails".into(),
    }
}

fn millis(took: Duration) -> String {
    let ms = took.as_secs_f64() * 1000.0;
    if ms < 10.0 { format!("{ms:.1}ms") } else { format!("{ms:.0}ms") }
}

fn edns(edns: Edns) -> &'static str {
    match edns {
        Edns::Works => "yes",
        Edns::Absent => "no",
        Edns::BrokenByOptions => "no options",
        Edns::Broken => "broken",
        Edns::Unknown => "-",
    }
}

fn grade(grade: Grade) -> &'static str {
    match grade {
        Grade::Note => "note",
        Grade::Lag => "lag",
        Grade::NameServers => "name servers",
        Grade::Service => "service",
        Grade::Data => "data",
        Grade::Silence => "silence",
    }
}

fn summary(found: &Findings, verdict: &Verdict) -> String {
    let asked = found.servers.iter().filter(|one| !one.is_out_of_reach()).count();
    let newest = |one: &&Observation| one.serial().is_some() && one.serial() == verdict.newest;
    let current = found.servers.iter().filter(newest).count();
    let serial = verdict.newest.map(|serial| format!(" have serial {serial}"));
    let serial = serial.unwrap_or_else(|| " agree on a serial".into());
    let worst = verdict.findings.iter().map(|finding| finding.grade).max();
    let judgement = match worst.filter(|&worst| worst > Grade::Note) {
        None => "nothing is wrong".to_owned(),
        Some(worst) => format!("worst: {} (exit code {})", grade(worst), worst.exit_code()),
    };
    format!("{}: {current} of {asked} servers{serial}; {judgement}", found.zone)
}

/// The same, for programs.
pub(super) fn json(found: &Findings, verdict: &Verdict) -> Value {
    let names = |names: Option<&std::collections::BTreeSet<_>>| {
        names.map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let servers = found.servers.iter().map(|one| {
        json!({
            "names": names(Some(&one.server.names)),
            "role": one.server.role,
            "independent": one.server.independent,
            "address": one.server.address(),
            "serial": one.serial(),
            "lag": lag(one, verdict),
            "udp": transport_json(&one.udp),
            "tcp": transport_json(&one.tcp),
            "edns": one.edns,
            "nsid": one.nsid,
            "recursion-offered": one.recursive,
            "expires-in-s": one.expire_s,
            "name-servers": names(one.name_servers.as_ref()),
            "digest": one.whole.map(|whole| hex(&whole.digest.0)),
            "records": one.whole.map(|whole| whole.records),
            "samples": one.samples.iter().flatten().count(),
        })
    });
    let findings = verdict.findings.iter().map(
        |finding| json!({ "grade": finding.grade, "server": finding.server, "what": finding.what }),
    );
    let at_parent = found.delegation.as_ref().map(|delegation| &delegation.names);
    json!({
        "zone": found.zone.to_string(),
        "serial": verdict.newest,
        "exit-code": verdict.exit_code(),
        "name-servers": names(found.child(verdict.newest)),
        "name-servers-at-parent": names(at_parent),
        "servers": servers.collect::<Vec<_>>(),
        "findings": findings.collect::<Vec<_>>(),
    })
}

fn transport_json(told: &Result<Told, Fault>) -> Value {
    match told {
        Ok(told) => {
            json!({ "serial": told.serial(), "ms": told.took.as_secs_f64() * 1000.0 })
        }
        Err(fault) => json!({ "error": fault.to_string() }),
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
