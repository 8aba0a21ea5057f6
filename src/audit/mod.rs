//! `backstop audit`: every server of a zone, asked at once and compared.
//!
//! **How it fits.** `command` calls [`audit`] with what `main` read, and prints the [`Report`].
//! It needs no server of ours to run: it asks as any client would.
//!
//! **In it.** `client` puts a question, `message` is one and its reply; `resolver` finds the NS
//! set, its addresses and the delegation; `observe` asks one server in every way; `content`
//! digests what they have; `judge` tells what it means, a pure function; `report` writes it down.
//!
//! **Invariants.**
//! - *asked only*: nothing is sent but to the servers given, those of the configuration, the
//!   resolvers and what they lead to; with servers given, no resolver is asked unless one is, too.
//! - *bounded*: no more than [`SERVERS_MAX`] servers and [`NAMES_MAX`] names; every question has a
//!   time limit, and a whole zone a size limit.
//!
//! **Sections.** RFC 1034 section 4.2.2 (delegations), RFC 1982, RFC 5936, RFC 6891, NSID RFC
//! 5001, EXPIRE RFC 7314.
//!
//! It validates no DNSSEC, and reaches an anycast server's other instances only by chance.

mod client;
mod content;
mod judge;
mod message;
mod observe;
mod report;
mod resolver;

pub use content::{Sample, Sum, Whole};
pub use judge::{Finding, Findings, Grade, Verdict, judge};
pub use message::Fault;
pub use observe::{Edns, Observation, Role, Server, Told};
pub use resolver::Delegation;

use crate::config::{Config, Source, ZoneConfig};
use crate::name::NameBuf;
use crate::tsig::Key;
use client::{Client, Peer};
use resolver::Resolver;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Servers that are asked at the most.
pub const SERVERS_MAX: usize = 256;

/// Names of the NS set that are resolved at the most.
pub const NAMES_MAX: usize = 64;

/// What to audit, and how.
pub struct Options {
    /// The zone.
    pub zone: NameBuf,
    /// Servers to ask.
    pub servers: Vec<Given>,
    /// Whose primaries and listen addresses to ask besides.
    pub config: Option<Config>,
    /// A key of the configuration's that requests to `servers` are signed with.
    pub key: Option<NameBuf>,
    /// Resolvers to find the NS set by; empty: the host's, unless `servers` are given.
    pub resolvers: Vec<SocketAddr>,
    /// Servers of the parent; empty: found by the resolver.
    pub parents: Vec<SocketAddr>,
    /// Where servers that were resolved are asked.
    pub port: u16,
    /// For one reply.
    pub patience: Duration,
    /// Octets of a zone that is transferred to be compared; 0: none is.
    pub transfer_max: u64,
}

/// A server as the command line names it: `ADDRESS[:PORT]`, or `NAME=ADDRESS[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// What it is called, as in the NS set.
    pub name: Option<NameBuf>,
    /// Where it is.
    pub address: SocketAddr,
}

impl FromStr for Given {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, address) = match text.split_once('=') {
            None => (None, text),
            Some((name, address)) => {
                let name = name.parse().map_err(|error| format!("\"{name}\": {error}"))?;
                (Some(name), address)
            }
        };
        Ok(Self { name, address: address_of(address)? })
    }
}

/// An address, at port 53 if it names none.
///
/// # Errors
/// It is none.
pub fn address_of(text: &str) -> Result<SocketAddr, String> {
    let bare = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
    text.parse().or_else(|_| bare()).map_err(|_| {
        format!("\"{text}\" is no address: write 192.0.2.1, 192.0.2.1:53 or [2001:db8::1]:53")
    })
}

/// Why there is nothing to report.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The configuration has no such zone.
    #[error("{0}: no such zone is configured")]
    NoZone(NameBuf),
    /// The configuration has no such key.
    #[error("key {0}: no such key is configured; give its configuration by --config")]
    NoKey(NameBuf),
    /// Nobody to ask.
    #[error("{zone}: no server to ask{why}; name some by --server, or a --resolver")]
    NoServers {
        /// The zone.
        zone: NameBuf,
        /// What was tried.
        why: String,
    },
    /// The system gives no socket events or timers.
    #[error("the audit cannot be run: {0}")]
    System(#[from] io::Error),
}

/// What was found out and what it means.
#[derive(Debug)]
pub struct Report {
    /// What was found out.
    pub findings: Findings,
    /// What it means.
    pub verdict: Verdict,
}

impl Report {
    /// Writes a table, and what is wrong below it.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn words(&self, out: &mut impl Write) -> io::Result<()> {
        report::words(&self.findings, &self.verdict, out)
    }

    /// All of it for programs.
    pub fn json(&self) -> serde_json::Value {
        report::json(&self.findings, &self.verdict)
    }
}

/// Asks, and judges.
///
/// # Errors
/// There is no server to ask, or a zone or key is unknown.
pub fn audit(options: &Options) -> Result<Report, AuditError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let findings = runtime.block_on(Audit::new(options)?.run())?;
    let verdict = judge(&findings);
    Ok(Report { findings, verdict })
}

struct Audit<'o> {
    options: &'o Options,
    client: Arc<Client>,
    /// What resolved servers are asked with.
    key: Option<Arc<Key>>,
    to_ask: BTreeMap<SocketAddr, Server>,
    findings: Findings,
}

impl<'o> Audit<'o> {
    fn new(options: &'o Options) -> Result<Self, AuditError> {
        let find = |name: &NameBuf| {
            let found = options.config.as_ref().and_then(|config| config.keys.get(name));
            found.map(|key| Arc::new(key.key())).ok_or_else(|| AuditError::NoKey(name.clone()))
        };
        let mut audit = Self {
            options,
            client: Arc::new(Client::new(options.patience)),
            key: options.key.as_ref().map(find).transpose()?,
            to_ask: BTreeMap::new(),
            findings: Findings {
                zone: options.zone.clone(),
                servers: Vec::new(),
                delegation: None,
                resolved: BTreeMap::new(),
                unresolved: None,
                samples: Vec::new(),
            },
        };
        for Given { name, address } in &options.servers {
            let peer = Peer { address: *address, source: None, key: audit.key.clone() };
            audit.add(name.clone(), Role::Server, false, peer);
        }
        if let Some(config) = &options.config {
            audit.add_configured(config)?;
        }
        Ok(audit)
    }

    /// The zone's primaries, and ourselves.
    fn add_configured(&mut self, config: &Config) -> Result<(), AuditError> {
        let zone = config.zones.iter().find(|zone| zone.name == self.options.zone);
        let Some(ZoneConfig { settings, .. }) = zone else {
            return Err(AuditError::NoZone(self.options.zone.clone()));
        };
        if let Source::Primaries(primaries) = &settings.source {
            for primary in primaries {
                let key = primary.key.as_ref().map(|key| Arc::new(key.key()));
                let peer = Peer { address: primary.address, source: primary.source, key };
                self.add(None, Role::Primary, primary.independent, peer);
            }
        }
        let mut keys = settings.allow_transfer.rules().iter().filter_map(|rule| rule.key.as_ref());
        let key = keys.find_map(|name| config.keys.get(name)).map(|key| Arc::new(key.key()));
        for &listen in config.server.listen.iter().filter(|listen| listen.port() != 0) {
            let peer = Peer { address: reachable(listen), source: None, key: key.clone() };
            self.add(None, Role::Own, false, peer);
        }
        Ok(())
    }

    /// Notes a server to be asked, once for each address.
    fn add(&mut self, name: Option<NameBuf>, role: Role, independent: bool, peer: Peer) {
        if self.to_ask.len() + self.findings.servers.len() >= SERVERS_MAX {
            return;
        }
        let asked = |one: &&mut Observation| one.server.address() == peer.address;
        if let Some(one) = self.findings.servers.iter_mut().find(asked) {
            one.server.names.extend(name);
            return;
        }
        let names = BTreeSet::new();
        let new = Server { names, role, independent, peer };
        let server = self.to_ask.entry(new.address()).or_insert_with(|| new.clone());
        server.names.extend(name);
        if role < server.role {
            *server = Server { names: std::mem::take(&mut server.names), ..new };
        }
    }

    async fn run(mut self) -> Result<Findings, AuditError> {
        let client = Arc::clone(&self.client);
        let resolver = self.resolver(&client);
        if let Some(resolver) = &resolver {
            self.resolve_zone(resolver).await;
        }
        if self.to_ask.is_empty() {
            let why = self.findings.unresolved.map(|why| format!(": {why}")).unwrap_or_default();
            return Err(AuditError::NoServers { zone: self.findings.zone, why });
        }
        self.observe().await;
        self.find_delegation(resolver.as_ref()).await;
        if let Some(resolver) = &resolver {
            // The servers may name others than the resolver did, and so may the parent.
            let told = self.findings.servers.iter().filter_map(|one| one.name_servers.as_ref());
            let delegated = self.findings.delegation.iter().map(|delegation| &delegation.names);
            let names = told.chain(delegated).flatten().cloned().collect();
            self.resolve_names(resolver, names).await;
            self.observe().await;
        }
        self.compare().await;
        let rank = |one: &Observation| (one.server.role, one.server.names.first().cloned());
        self.findings.servers.sort_by_cached_key(|one| (rank(one), one.server.address()));
        Ok(self.findings)
    }

    /// Who finds the NS set, if anybody is to.
    fn resolver<'c>(&self, client: &'c Client) -> Option<Resolver<'c>> {
        let resolvers = match &self.options.resolvers[..] {
            [] if !self.options.servers.is_empty() => return None,
            [] => resolver::of_system(),
            given => given.to_vec(),
        };
        Some(Resolver::new(client, resolvers))
    }

    async fn resolve_zone(&mut self, resolver: &Resolver<'_>) {
        match resolver.name_servers(self.options.zone.as_name()).await {
            Ok(names) if names.is_empty() => {
                self.findings.unresolved = Some("it does not exist, says the resolver".into());
            }
            Ok(names) => self.resolve_names(resolver, names).await,
            Err(fault) => self.findings.unresolved = Some(format!("the resolver: {fault}")),
        }
    }

    /// Notes the servers that these names lead to.
    async fn resolve_names(&mut self, resolver: &Resolver<'_>, names: BTreeSet<NameBuf>) {
        for name in names {
            if self.findings.resolved.len() >= NAMES_MAX {
                return;
            }
            if self.findings.resolved.contains_key(&name) {
                continue;
            }
            let addresses = resolver.addresses(name.as_name()).await;
            for &ip in addresses.iter().flatten().take(resolver::ADDRESSES_MAX) {
                let address = SocketAddr::new(ip, self.options.port);
                let peer = Peer { address, source: None, key: self.key.clone() };
                self.add(Some(name.clone()), Role::Server, false, peer);
            }
            self.findings.resolved.insert(name, addresses);
        }
    }

    async fn find_delegation(&mut self, resolver: Option<&Resolver<'_>>) {
        let zone = self.options.zone.as_name();
        let parents = match (&self.options.parents[..], resolver) {
            ([], Some(resolver)) => resolver.parents(zone, self.options.port).await,
            (given, _) => Ok(given.to_vec()),
        };
        let parents = parents.unwrap_or_default();
        self.findings.delegation = resolver::delegation(&self.client, &parents, zone).await;
    }

    /// Asks the servers that were noted, all at once.
    async fn observe(&mut self) {
        let mut asking = JoinSet::new();
        for server in std::mem::take(&mut self.to_ask).into_values() {
            let (client, zone) = (Arc::clone(&self.client), self.options.zone.clone());
            asking.spawn(async move { observe::observe(&client, zone.as_name(), server).await });
        }
        self.findings.servers.extend(asking.join_all().await);
    }

    /// Compares what servers of one serial have: whole zones where they can be had, samples
    /// elsewhere.
    async fn compare(&mut self) {
        let with_company = self.with_company();
        if with_company.is_empty() {
            return;
        }
        let mut transferred = None;
        let mut all_whole = true;
        for (at, whole) in self.transfer(&with_company).await {
            all_whole &= whole.is_some();
            if let Some((whole, samples)) = whole {
                self.findings.servers[at].whole = Some(whole);
                transferred.get_or_insert(samples);
            }
        }
        if all_whole {
            return;
        }
        let names = self.findings.child(None).into_iter().flatten();
        let usual = content::usual_samples(self.options.zone.as_name(), names);
        let samples: Arc<[Sample]> = transferred.unwrap_or(usual).into();
        let mut asking = JoinSet::new();
        for at in with_company {
            let one = &self.findings.servers[at];
            let (client, server) = (Arc::clone(&self.client), one.server.clone());
            let way = (one.edns, one.udp.is_err());
            let samples = Arc::clone(&samples);
            asking
                .spawn(async move { (at, observe::sample(&client, &server, way, &samples).await) });
        }
        for (at, sums) in asking.join_all().await {
            self.findings.servers[at].samples = sums;
        }
        self.findings.samples = samples.to_vec();
    }

    /// Which servers have a serial that another has as well.
    fn with_company(&self) -> Vec<usize> {
        let servers = &self.findings.servers;
        let has_company = |&at: &usize| {
            let serial = servers[at].serial();
            serial.is_some() && servers.iter().filter(|one| one.serial() == serial).count() > 1
        };
        (0..servers.len()).filter(has_company).collect()
    }

    /// The whole zone of each of these servers that transfers it.
    async fn transfer(&self, from: &[usize]) -> Vec<(usize, Option<(Whole, Vec<Sample>)>)> {
        let max_octets = self.options.transfer_max;
        let mut transfers = JoinSet::new();
        for &at in from {
            let (client, zone) = (Arc::clone(&self.client), self.options.zone.clone());
            let one = &self.findings.servers[at];
            let (peer, serial) = (one.server.peer.clone(), one.serial());
            let may = max_octets > 0 && one.tcp.is_ok();
            transfers.spawn(async move {
                if !may {
                    return (at, None);
                }
                let zone = client.transfer(&peer, zone.as_name(), max_octets).await.ok();
                // It may have moved on since it was asked.
                let zone = zone.filter(|zone| Some(zone.serial()) == serial);
                (at, zone.map(|zone| (Whole::of(&zone), content::samples_of(&zone))))
            });
        }
        transfers.join_all().await
    }
}

/// Where a server of this host that listens there is reached from this host.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_by_address_with_or_without_port_and_name() {
        for (text, name, address) in [
            ("192.0.2.1", None, "192.0.2.1:53"),
            ("192.0.2.1:5300", None, "192.0.2.1:5300"),
            ("2001:db8::1", None, "[2001:db8::1]:53"),
            ("ns1.example.org=[2001:db8::1]:54", Some("ns1.example.org."), "[2001:db8::1]:54"),
        ] {
            let given: Given = text.parse().unwrap();
            assert_eq!(given.name.map(|name| name.to_string()).as_deref(), name);
            assert_eq!(given.address.to_string(), address);
        }
        for (text, words) in [
            ("ns1.example.org", "is no address: write 192.0.2.1"),
            ("a..b=192.0.2.1", "\"a..b\": a label is empty"),
            ("=192.0.2.1", "a label is empty"),
        ] {
            let error = text.parse::<Given>().unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
