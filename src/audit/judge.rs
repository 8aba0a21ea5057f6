//! What the observations mean: a pure function from them to findings.

use super::content::{Sample, some_of};
use super::message::Fault;
use super::observe::{Edns, Observation, Role, Server};
use super::resolver::Delegation;
use crate::name::{Name, NameBuf};
use crate::wire::Serial;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// How serious a finding is; the exit code of `backstop audit` is that of the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// Worth knowing.
    Note,
    /// A server has an older version than another.
    Lag,
    /// The NS sets do not agree, or lead nowhere.
    NameServers,
    /// A server does not answer as it must.
    Service,
    /// The data cannot all be right.
    Data,
    /// Not one server answers.
    Silence,
}

impl Grade {
    /// What `backstop audit` exits with.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Note => 0,
            Self::Lag => 3,
            Self::NameServers => 4,
            Self::Service => 5,
            Self::Data => 6,
            Self::Silence => 7,
        }
    }
}

/// Something that an operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How serious it is.
    pub grade: Grade,
    /// Of which server; none: of the zone.
    pub server: Option<SocketAddr>,
    /// What it is.
    pub what: String,
}

/// All that was found out.
#[derive(Clone, Debug)]
pub struct Findings {
    /// The zone.
    pub zone: NameBuf,
    /// Every server that was asked.
    pub servers: Vec<Observation>,
    /// What the parent says, if that was asked and told.
    pub delegation: Option<Delegation>,
    /// The addresses that each name of the NS set was found to have, where names were resolved.
    pub resolved: BTreeMap<NameBuf, Result<BTreeSet<IpAddr>, Fault>>,
    /// Why nothing, or not all, could be resolved.
    pub unresolved: Option<String>,
    /// The questions whose answers were compared.
    pub samples: Vec<Sample>,
}

/// What it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The version that the zone should have everywhere; none if no server says one, or serials
    /// do not compare.
    pub newest: Option<Serial>,
    /// What should be known, the worst first.
    pub findings: Vec<Finding>,
}

impl Verdict {
    /// What `backstop audit` exits with.
    pub fn exit_code(&self) -> u8 {
        self.findings.iter().map(|finding| finding.grade.exit_code()).max().unwrap_or(0)
    }
}

/// Tells what the observations mean.
pub fn judge(found: &Findings) -> Verdict {
    let mut judge = Judge { found, newest: newest(&found.servers), findings: Vec::new() };
    for server in &found.servers {
        judge.service(server);
    }
    judge.serials();
    judge.data();
    judge.name_servers();
    judge.delegation();
    judge.names();
    let mut findings = judge.findings;
    findings.sort_by_key(|finding| Reverse(finding.grade));
    Verdict { newest: judge.newest, findings }
}

/// The serial that none is after, of those that compare (RFC 1982).
fn newest(servers: &[Observation]) -> Option<Serial> {
    let comparable = servers.iter().filter(|one| !one.server.independent);
    let serials: Vec<_> = comparable.filter_map(Observation::serial).collect();
    let is_newest =
        |&one: &Serial| serials.iter().all(|&other| one == other || one.is_after(other));
    serials.iter().copied().find(is_newest)
}

struct Judge<'f> {
    found: &'f Findings,
    newest: Option<Serial>,
    findings: Vec<Finding>,
}

impl Judge<'_> {
    fn add(&mut self, grade: Grade, server: Option<&Observation>, what: impl Into<String>) {
        let server = server.map(|one| one.server.address());
        self.findings.push(Finding { grade, server, what: what.into() });
    }

    /// Does a server answer as it must?
    fn service(&mut self, one: &Observation) {
        let at = Some(one);
        match (&one.udp, &one.tcp) {
            _ if one.is_out_of_reach() => {
                self.add(Grade::Note, at, "not asked: this host has no way there");
            }
            (Ok(_), Ok(_)) => {}
            (Err(udp), Err(tcp)) if udp == tcp => self.add(Grade::Service, at, udp.to_string()),
            (udp, tcp) => {
                for (transport, told) in [("UDP", udp), ("TCP", tcp)] {
                    if let Err(fault) = told {
                        self.add(Grade::Service, at, format!("over {transport}: {fault}"));
                    }
                }
            }
        }
        match one.edns {
            Edns::Works | Edns::Unknown => {}
            Edns::Absent => self.add(Grade::Note, at, "it has no EDNS, so no DNSSEC either"),
            Edns::Broken => {
                self.add(Grade::Service, at, "it answers without EDNS only: resolvers time out");
            }
            Edns::BrokenByOptions => {
                let what = "it does not answer questions with EDNS options that it does not know";
                self.add(Grade::Service, at, what);
            }
        }
        if one.recursive {
            self.add(Grade::Note, at, "it offers recursion, as an authoritative server should not");
        }
    }

    fn serials(&mut self) {
        let servers = &self.found.servers;
        let serials: BTreeSet<u32> =
            servers.iter().filter_map(|one| Some(one.serial()?.0)).collect();
        let Some(newest) = self.newest else {
            if servers.iter().all(|one| one.serial().is_none()) {
                self.add(Grade::Silence, None, "no server answers for the zone");
            } else if servers.iter().any(|one| !one.server.independent && one.serial().is_some()) {
                let serials: Vec<_> = serials.into_iter().collect();
                let what = format!("serials do not compare (RFC 1982): {}", some_of(&serials, 4));
                self.add(Grade::Data, None, what);
            }
            return;
        };
        let primaries = || servers.iter().filter(|one| one.server.role == Role::Primary);
        let mut of_primaries = primaries().filter(|one| !one.server.independent);
        let primary_serials: Vec<_> =
            of_primaries.by_ref().filter_map(Observation::serial).collect();
        let behind = !primary_serials.is_empty() && !primary_serials.contains(&newest);
        if behind {
            let what = format!(
                "the primary's serial is lower than {newest}, which others serve: none of them \
                 takes its changes until it is raised above that"
            );
            self.add(Grade::Data, None, what);
        }
        for one in servers {
            self.lag(one, newest);
        }
    }

    /// Is a server behind the others, or out of touch with its primary?
    fn lag(&mut self, one: &Observation, newest: Serial) {
        let at = Some(one);
        if let (Ok(udp), Ok(tcp)) = (&one.udp, &one.tcp)
            && udp.serial() != tcp.serial()
        {
            let (udp, tcp) = (udp.serial(), tcp.serial());
            self.add(Grade::Lag, at, format!("serial {udp} over UDP, {tcp} over TCP"));
        }
        if let Some(serial) = one.serial().filter(|_| !one.server.independent)
            && serial != newest
        {
            let lag = newest.0.wrapping_sub(serial.0);
            self.add(Grade::Lag, at, format!("serial {serial} is {lag} behind {newest}"));
        }
        if let (Some(left_s), Some(soa)) = (one.expire_s, one.soa())
            && left_s < soa.expire / 2
        {
            let what = format!(
                "its copy expires in {left_s} s of {}: it has not reached its primary for long",
                soa.expire
            );
            self.add(Grade::Lag, at, what);
        }
    }

    /// Have servers of one serial one zone?
    fn data(&mut self) {
        let mut groups: BTreeMap<u32, Vec<&Observation>> = BTreeMap::new();
        for one in &self.found.servers {
            if let Some(serial) = one.serial() {
                groups.entry(serial.0).or_default().push(one);
            }
        }
        for (serial, group) in &groups {
            let has_whole = |one: &Observation| usize::from(one.whole.is_some());
            self.compare(*serial, group, has_whole, |a, b| match (a.whole, b.whole) {
                (Some(a), Some(b)) if a.unsigned != b.unsigned => {
                    let (a, b) = (a.records, b.records);
                    Some(format!("a digest of the whole zone differs ({a} and {b} records)"))
                }
                (Some(a), Some(b)) if a.digest != b.digest => {
                    Some("the signatures differ, nothing else".into())
                }
                _ => None,
            });
            let samples = &self.found.samples;
            let answered = |one: &Observation| one.samples.iter().flatten().count();
            self.compare(*serial, group, answered, |a, b| {
                let differing = samples.iter().zip(a.samples.iter().zip(&b.samples));
                let differing =
                    differing.filter(|(_, (a, b))| a.is_some() && b.is_some() && a != b);
                let names: Vec<_> = differing.map(|(sample, _)| sample).collect();
                // Where the whole zones were compared, the difference is told already.
                let told = a.whole.is_some() && b.whole.is_some();
                (!names.is_empty() && !told)
                    .then(|| format!("it answers differently to {}", some_of(&names, 4)))
            });
        }
    }

    /// Tells which of a group differ from the primary among them, or from what most of them are, as
    /// far as they are `known`. That an independent one does is no fault: only its number is the
    /// same.
    fn compare(
        &mut self,
        serial: u32,
        group: &[&Observation],
        known: impl Fn(&Observation) -> usize,
        difference: impl Fn(&Observation, &Observation) -> Option<String>,
    ) {
        let differing = |one: &&Observation| {
            group.iter().filter(|&&other| difference(one, other).is_some()).count()
        };
        let rank = |one: &&Observation| {
            let Server { independent, role, .. } = one.server;
            (independent, role != Role::Primary, Reverse(known(one)), differing(one))
        };
        // Of whom nothing is known nobody differs.
        let references = group.iter().filter(|one| known(one) > 0);
        let Some(&reference) = references.min_by_key(|one| rank(one)) else { return };
        for &one in group {
            if let Some(what) = difference(one, reference) {
                let with = reference.server.address();
                let what = format!("not the data of {with} under the same serial {serial}: {what}");
                let is_fault = !one.server.independent && !reference.server.independent;
                self.add(if is_fault { Grade::Data } else { Grade::Note }, Some(one), what);
            }
        }
    }

    /// Do the servers of the newest version agree on the NS set?
    fn name_servers(&mut self) {
        let Some(reference) = self.found.child(self.newest) else { return };
        for one in &self.found.servers {
            let Some(names) = one.name_servers.as_ref().filter(|&names| names != reference) else {
                continue;
            };
            if one.serial() == self.newest {
                let what =
                    format!("another NS set than the others': {}", difference(names, reference));
                self.add(Grade::NameServers, Some(one), what);
            }
        }
    }

    /// Does the parent say what the zone says?
    fn delegation(&mut self) {
        let Some(delegation) = &self.found.delegation else { return };
        if let Some(child) = self.found.child(self.newest)
            && *child != delegation.names
        {
            let difference = difference(&delegation.names, child);
            let what = format!("the parent has another NS set than the zone: {difference}");
            self.add(Grade::NameServers, None, what);
        }
        let zone = self.found.zone.as_name();
        for (name, glue) in &delegation.glue {
            let Some(Ok(addresses)) = self.found.resolved.get(name) else { continue };
            if name.as_name().is_at_or_below(zone) && addresses != glue {
                let list = |set: &BTreeSet<IpAddr>| some_of(&set.iter().collect::<Vec<_>>(), 8);
                let (at_parent, here) = (list(glue), list(addresses));
                let what =
                    format!("the parent's glue for {name} is {at_parent}, the zone has {here}");
                self.add(Grade::NameServers, None, what);
            }
        }
    }

    /// Does every name of the NS set lead to a server, and every server that was named belong?
    fn names(&mut self) {
        if let Some(why) = &self.found.unresolved {
            self.add(Grade::Note, None, format!("the NS set is not resolved: {why}"));
        }
        let child = self.found.child(self.newest).cloned().unwrap_or_default();
        let parent = self.found.delegation.iter().flat_map(|delegation| &delegation.names);
        let listed: BTreeSet<_> = child.iter().chain(parent).cloned().collect();
        for (name, resolved) in &self.found.resolved {
            match resolved {
                Ok(addresses) if !addresses.is_empty() => {}
                Ok(_) => self.add(Grade::NameServers, None, format!("{name} has no address")),
                Err(fault) => {
                    let what = format!("{name} cannot be resolved: {fault}");
                    self.add(Grade::NameServers, None, what);
                }
            }
        }
        let named =
            |name: &NameBuf| self.found.servers.iter().any(|one| one.server.names.contains(name));
        let unasked: Vec<_> = listed
            .iter()
            .filter(|name| !named(name) && !self.found.resolved.contains_key(*name))
            .collect();
        if !unasked.is_empty() {
            let what = format!("of the NS set, not asked by name: {}", some_of(&unasked, 8));
            self.add(Grade::Note, None, what);
        }
        for one in &self.found.servers {
            let stray: Vec<_> =
                one.server.names.iter().filter(|&name| !listed.contains(name)).collect();
            if !stray.is_empty() && !listed.is_empty() {
                let what = format!("not in the NS set: {}", some_of(&stray, 4));
                self.add(Grade::Note, Some(one), what);
            }
        }
    }
}

impl Findings {
    /// The NS set of the version `newest` (none: of any), as the primary has it, else the first
    /// that does.
    pub fn child(&self, newest: Option<Serial>) -> Option<&BTreeSet<NameBuf>> {
        let is_newest = |one: &&Observation| newest.is_none() || one.serial() == newest;
        let of_newest = self.servers.iter().filter(is_newest);
        let told = of_newest.filter(|one| one.name_servers.is_some());
        told.min_by_key(|one| one.server.role)?.name_servers.as_ref()
    }
}

/// "without a, b; with c besides".
fn difference(these: &BTreeSet<NameBuf>, those: &BTreeSet<NameBuf>) -> String {
    let missing: Vec<Name<'_>> = those.difference(these).map(NameBuf::as_name).collect();
    let extra: Vec<Name<'_>> = these.difference(those).map(NameBuf::as_name).collect();
    let mut parts = Vec::new();
    if !missing.is_empty() {
        parts.push(format!("without {}", some_of(&missing, 8)));
    }
    if !extra.is_empty() {
        parts.push(format!("with {} besides", some_of(&extra, 8)));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests;
