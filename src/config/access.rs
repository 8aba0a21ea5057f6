//! Other servers and who may do what: primaries, targets of NOTIFY, access lists.

use std::net::SocketAddr;

use toml::de::DeValue;

use super::document::{Kind, Section, Wrong};
use super::keys::{self, Keys};
use super::units::{address, boolean, prefix, remote};
use super::{Primary, Target};
use crate::acl::{Acl, Rule};

pub(super) static PRIMARY: Kind =
    Kind { title: "primaries", own: &["independent"], shared: REMOTE };

pub(super) static TARGET: Kind = Kind { title: "notify", own: &[], shared: REMOTE };

pub(super) const REMOTE: &[&str] = &["address", "key", "source"];

pub(super) static RULE: Kind = Kind { title: "an access rule", own: &["from", "key"], shared: &[] };

/// What the zones' part of the file refers to.
pub(super) struct Known<'a> {
    pub(super) keys: &'a Keys,
    pub(super) listen: &'a [SocketAddr],
}

/// The primaries of a zone or template.
pub(super) fn primaries(section: &Section<'_>, known: &Known<'_>) -> Option<Vec<Primary>> {
    let example = "a list: primaries = [{ address = \"192.0.2.1\" }]";
    let primaries = section.tables("primaries", &PRIMARY, example)?;
    if section.has_empty("primaries") {
        let wrong = Wrong::new("primaries is empty", format!("write {example}"));
        section.doc.error(section.place_of("primaries"), wrong);
    }
    let read = |section: &Section<'_>| {
        let independent = section.get("independent", boolean).unwrap_or(false);
        let Target { address, key, source } = target(section, known)?;
        Some(Primary { address, key, source, independent })
    };
    Some(primaries.iter().filter_map(read).collect())
}

/// Whom a zone's NOTIFY goes to.
pub(super) fn targets(section: &Section<'_>, known: &Known<'_>) -> Option<Vec<Target>> {
    let example = "a list: notify = [{ address = \"192.0.2.1\" }]";
    let targets = section.tables("notify", &TARGET, example)?;
    Some(targets.iter().filter_map(|section| target(section, known)).collect())
}

fn target(section: &Section<'_>, known: &Known<'_>) -> Option<Target> {
    if !section.has("address") {
        let wrong = Wrong::new("the server has no address", "write address = \"192.0.2.1\"");
        section.doc.error(section.at, wrong);
    }
    let key = keys::lookup(section, known.keys);
    let remote = section.get("address", |value| {
        let remote = remote(value)?;
        if known.listen.iter().any(|&listen| is_same(listen, remote)) {
            let advice = "write another server's address; this is one of our own listen addresses";
            return Err(Wrong::new(format!("\"{remote}\" is this server"), advice));
        }
        Ok(remote)
    });
    let source = section.get("source", |value| source(value, remote));
    Some(Target { address: remote?, key, source })
}

/// Does what is sent to `remote` arrive at `listen`? Of the addresses that a wildcard stands for,
/// only the loopback's are known here.
fn is_same(listen: SocketAddr, remote: SocketAddr) -> bool {
    let wild = listen.ip().is_unspecified() && listen.is_ipv4() == remote.is_ipv4();
    let address = listen.ip() == remote.ip() || wild && remote.ip().is_loopback();
    address && listen.port() == remote.port()
}

fn source(value: &DeValue<'_>, remote: Option<SocketAddr>) -> Result<SocketAddr, Wrong> {
    let source = address(0)(value)?;
    match remote {
        Some(remote) if remote.is_ipv4() != source.is_ipv4() => {
            let family = if remote.is_ipv4() { "IPv4" } else { "IPv6" };
            let message = format!("\"{}\" cannot reach {}", source.ip(), remote.ip());
            Err(Wrong::new(message, format!("write one of this host's {family} addresses")))
        }
        _ => Ok(source),
    }
}

/// The access list under `key`.
pub(super) fn acl(section: &Section<'_>, key: &str, known: &Known<'_>) -> Option<Acl> {
    let example = format!("a list: {key} = [{{ from = \"10.0.0.0/8\" }}]");
    let rules = section.tables(key, &RULE, &example)?;
    Some(rules.iter().filter_map(|section| rule(section, key, known)).collect())
}

fn rule(section: &Section<'_>, list: &str, known: &Known<'_>) -> Option<Rule> {
    if !section.has("from") {
        let advice = "write from = \"10.0.0.0/8\"; \"0.0.0.0/0\" and \"::/0\" are everybody";
        section.doc.error(section.at, Wrong::new("the rule has no from", advice));
    }
    let key = keys::lookup(section, known.keys).map(|key| key.name.clone());
    let from = section.get("from", prefix)?;
    let gives = match list {
        "allow-transfer" => Some("gives the whole zone to everybody"),
        "allow-update" => Some("forwards changes of the zone from everybody"),
        _ => None,
    };
    if let Some(gives) = gives.filter(|_| from.is_everybody() && !section.has("key")) {
        let message = format!("{list} {gives} (\"{from}\")");
        let wrong = Wrong::new(message, "write a narrower network, or a key");
        section.doc.warn(section.place_of("from"), wrong);
    }
    Some(Rule { from, key })
}
