//! What the rest of the world is told: the NS set, the addresses and the delegation, through the
//! system's resolver.

use super::client::{Client, Peer};
use super::message::{Fault, Form, Question, Reply, Rr};
use crate::name::{Name, NameBuf};
use crate::wire::{Rcode, Rtype};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};

/// Where a host's resolvers are named.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Resolvers of a host that are asked at the most (resolv.conf(5)).
const RESOLVERS_MAX: usize = 3;

/// Addresses of one name that are asked at the most.
pub(super) const ADDRESSES_MAX: usize = 16;

/// Servers of the parent that are asked for the delegation at the most.
const PARENTS_MAX: usize = 4;

/// Resolvers, the first of which that answers is believed.
pub(super) struct Resolver<'c> {
    client: &'c Client,
    addresses: Vec<SocketAddr>,
}

/// A zone's delegation, as one of its parent's servers tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delegation {
    /// The server of the parent.
    pub server: Option<SocketAddr>,
    /// The NS set there.
    pub names: BTreeSet<NameBuf>,
    /// The addresses beside it, of those of the names that have any.
    pub glue: BTreeMap<NameBuf, BTreeSet<IpAddr>>,
}

impl<'c> Resolver<'c> {
    pub(super) fn new(client: &'c Client, addresses: Vec<SocketAddr>) -> Self {
        Self { client, addresses }
    }

    async fn ask(&self, name: Name<'_>, rtype: Rtype) -> Result<Reply, Fault> {
        let mut question = Question::new(name, rtype);
        question.recursive = true;
        let mut last = Fault::NoWay;
        for &address in self.addresses.iter().take(RESOLVERS_MAX) {
            let peer = Peer { address, source: None, key: None };
            match self.client.ask(&peer, &question).await {
                Ok(reply) if matches!(reply.rcode, Rcode::NOERROR | Rcode::NXDOMAIN) => {
                    return Ok(reply);
                }
                Ok(reply) => last = Fault::Rcode(reply.rcode),
                Err(fault) => last = fault,
            }
        }
        Err(last)
    }

    /// The NS set of a zone; empty if there is none.
    pub(super) async fn name_servers(&self, zone: Name<'_>) -> Result<BTreeSet<NameBuf>, Fault> {
        Ok(name_servers(&self.ask(zone, Rtype::NS).await?.answer, zone))
    }

    /// Every address of a name, IPv4 and IPv6.
    pub(super) async fn addresses(&self, name: Name<'_>) -> Result<BTreeSet<IpAddr>, Fault> {
        let mut found = addresses(&self.ask(name, Rtype::A).await?.answer);
        found.append(&mut addresses(&self.ask(name, Rtype::AAAA).await?.answer));
        Ok(found)
    }

    /// Servers of the zone that `zone` is delegated from.
    pub(super) async fn parents(
        &self,
        zone: Name<'_>,
        port: u16,
    ) -> Result<Vec<SocketAddr>, Fault> {
        let mut name = zone.parent();
        while let Some(above) = name {
            let names = self.name_servers(above).await?;
            let mut servers = Vec::new();
            for name in names.iter().take(PARENTS_MAX) {
                let addresses = self.addresses(name.as_name()).await.unwrap_or_default();
                servers.extend(addresses.into_iter().map(|ip| SocketAddr::new(ip, port)));
            }
            if !names.is_empty() {
                return Ok(servers);
            }
            name = above.parent();
        }
        Ok(Vec::new())
    }
}

/// The resolvers of this host.
pub(super) fn of_system() -> Vec<SocketAddr> {
    parse(&fs::read_to_string(RESOLV_CONF).unwrap_or_default())
}

/// What resolv.conf(5) says. Link-local addresses need an interface, which is not read.
fn parse(text: &str) -> Vec<SocketAddr> {
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let ip: IpAddr = (words.next()? == "nameserver").then(|| words.next())??.parse().ok()?;
        Some(SocketAddr::new(ip, 53))
    });
    let addresses: Vec<_> = addresses.take(RESOLVERS_MAX).collect();
    // With none, the host itself is meant.
    if addresses.is_empty() { vec![SocketAddr::from(([127, 0, 0, 1], 53))] } else { addresses }
}

/// Asks the parent's servers one after the other for the zone's delegation. `None` if none of
/// them tells: they may serve the zone themselves, and then speak for it, not for the parent.
pub(super) async fn delegation(
    client: &Client,
    parents: &[SocketAddr],
    zone: Name<'_>,
) -> Option<Delegation> {
    let question = Question { form: Form::Edns, ..Question::new(zone, Rtype::NS) };
    for &address in parents.iter().take(PARENTS_MAX) {
        let peer = Peer { address, source: None, key: None };
        let Ok(reply) = client.ask(&peer, &question).await else { continue };
        let names = name_servers(&reply.authority, zone);
        if reply.rcode == Rcode::NOERROR && reply.answer.is_empty() && !names.is_empty() {
            let glue = |name: &NameBuf| {
                let of_name = reply.additional.iter().filter(|rr| rr.owner == *name).cloned();
                (name.clone(), addresses(&of_name.collect::<Vec<_>>()))
            };
            let glue = names.iter().map(glue).filter(|(_, found)| !found.is_empty()).collect();
            return Some(Delegation { server: Some(address), names, glue });
        }
    }
    None
}

/// The names that `zone`'s NS records among these lead to, in lower case.
pub(super) fn name_servers(records: &[Rr], zone: Name<'_>) -> BTreeSet<NameBuf> {
    let of_zone = records.iter().filter(|rr| rr.rtype == Rtype::NS && rr.owner.as_name() == zone);
    of_zone.filter_map(|rr| Some(lower(Name::from_wire(&rr.data)?))).collect()
}

fn lower(name: Name<'_>) -> NameBuf {
    let wire = name.as_wire().to_ascii_lowercase();
    Name::from_wire(&wire).expect("length octets are no letters").to_owned()
}

/// The addresses among these records.
fn addresses(records: &[Rr]) -> BTreeSet<IpAddr> {
    let address = |rr: &Rr| match rr.rtype {
        Rtype::A => Some(IpAddr::from(<[u8; 4]>::try_from(&rr.data[..]).ok()?)),
        Rtype::AAAA => Some(IpAddr::from(<[u8; 16]>::try_from(&rr.data[..]).ok()?)),
        _ => None,
    };
    records.iter().filter_map(address).take(ADDRESSES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_is_read_as_its_manual_says() {
        let text = "# a comment\nsearch example.org\nnameserver 192.0.2.1\n\
                    nameserver\t2001:db8::1 \nnameserver fe80::1%eth0\noptions edns0\n";
        let found: Vec<_> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1:53", "[2001:db8::1]:53"]);
        assert_eq!(parse("nameserver\n"), ["127.0.0.1:53".parse().unwrap()]);
        let many = "nameserver 192.0.2.1\n".repeat(9);
        assert_eq!(parse(&many).len(), RESOLVERS_MAX);
    }
}
