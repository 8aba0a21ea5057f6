//! One server of a zone: what it says over UDP and over TCP, with EDNS and without.

use super::client::{Client, Peer};
use super::content::{self, Sample, Whole};
use super::message::{Fault, Form, Question, Reply};
use super::resolver;
use crate::name::{Name, NameBuf};
use crate::wire::{Rcode, Rtype, Serial};
use crate::zone::Soa;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

/// Whose server it is; the first that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The configuration copies the zone from it.
    Primary,
    /// The configuration listens there.
    Own,
    /// It was named on the command line, or is in the NS set.
    Server,
}

/// A server to ask.
#[derive(Clone, Debug)]
pub struct Server {
    /// What leads to it: names of the NS set, or what it was called on the command line.
    pub names: BTreeSet<NameBuf>,
    /// Whose it is.
    pub role: Role,
    /// Its serials are its own.
    pub independent: bool,
    pub(super) peer: Peer,
}

impl Server {
    /// Where it is asked.
    pub fn address(&self) -> SocketAddr {
        self.peer.address
    }
}

/// What a server says over one transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The zone's SOA.
    pub soa: Soa,
    /// From the question to the answer; over TCP with connecting.
    pub took: Duration,
}

impl Told {
    /// The zone's version there.
    pub fn serial(&self) -> Serial {
        self.soa.serial
    }
}

/// How a server takes EDNS (RFC 6891).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Edns {
    /// As it should be.
    Works,
    /// It does not have it.
    Absent,
    /// It answers without options only.
    BrokenByOptions,
    /// It answers without EDNS only, and not by saying that it has none.
    Broken,
    /// No answer tells.
    Unknown,
}

/// What was found out about a server.
#[derive(Clone, Debug)]
pub struct Observation {
    /// Which.
    pub server: Server,
    /// Over UDP.
    pub udp: Result<Told, Fault>,
    /// Over TCP.
    pub tcp: Result<Told, Fault>,
    /// How it takes EDNS.
    pub edns: Edns,
    /// Who answers, as it says (NSID).
    pub nsid: Option<String>,
    /// Seconds until its copy expires, as it says (EXPIRE).
    pub expire_s: Option<u32>,
    /// It offers to resolve for us.
    pub recursive: bool,
    /// The NS set in its copy; none if it does not say.
    pub name_servers: Option<BTreeSet<NameBuf>>,
    /// Its whole copy, if it transfers it.
    pub whole: Option<Whole>,
    /// What it answers to the samples, a number each; none where it does not answer.
    pub samples: Vec<Option<u64>>,
}

impl Observation {
    /// The version it serves, over whichever transport.
    pub fn serial(&self) -> Option<Serial> {
        self.soa().map(|soa| soa.serial)
    }

    /// Its SOA, over whichever transport.
    pub fn soa(&self) -> Option<&Soa> {
        self.udp.as_ref().or(self.tcp.as_ref()).ok().map(|told| &told.soa)
    }

    /// This host could not even ask.
    pub fn is_out_of_reach(&self) -> bool {
        self.udp == Err(Fault::NoWay) && self.tcp == Err(Fault::NoWay)
    }
}

/// Asks a server for the zone's SOA and NS set in every way.
pub(super) async fn observe(client: &Client, zone: Name<'_>, server: Server) -> Observation {
    let peer = &server.peer;
    let soa = Question { form: Form::Options, ..Question::new(zone, Rtype::SOA) };
    let ns = Question::new(zone, Rtype::NS);
    let (first, tcp) = tokio::join!(client.udp(peer, &soa), client.tcp(peer, &soa));
    let (edns, udp) = with_less(client, peer, &soa, first).await;
    // Over TCP, EDNS breaks as it does over UDP: what matters is whether there is TCP.
    let tcp = match (tcp, edns) {
        (Ok((reply, _)), Edns::Broken | Edns::Absent) if is_unfit(&reply) => {
            client.tcp(peer, &Question { form: Form::Plain, ..soa }).await
        }
        (tcp, _) => tcp,
    };
    let form = if matches!(edns, Edns::Broken | Edns::Absent) { Form::Plain } else { Form::Edns };
    let ns = Question { form, ..ns };
    let of_zone = if udp.is_ok() {
        client.ask(peer, &ns).await.ok()
    } else if tcp.is_ok() {
        client.tcp(peer, &ns).await.ok().map(|(reply, _)| reply)
    } else {
        None
    };
    let any = udp.as_ref().or(tcp.as_ref()).ok().map(|(reply, _)| reply);
    let names = of_zone.filter(|reply| reply.rcode == Rcode::NOERROR && reply.is_authoritative());
    Observation {
        edns,
        nsid: any.and_then(|reply| reply.nsid.clone()),
        expire_s: any.and_then(|reply| reply.expire_s),
        recursive: any.is_some_and(Reply::offers_recursion),
        name_servers: names.map(|reply| resolver::name_servers(&reply.answer, zone)),
        udp: udp.and_then(|answered| told(answered, zone)),
        tcp: tcp.and_then(|answered| told(answered, zone)),
        server,
        whole: None,
        samples: Vec::new(),
    }
}

type Answered = Result<(Reply, Duration), Fault>;

/// If a question with options has no good answer: does one with fewer have?
async fn with_less(
    client: &Client,
    peer: &Peer,
    soa: &Question<'_>,
    first: Answered,
) -> (Edns, Answered) {
    match &first {
        Ok((reply, _)) if reply.edns => return (Edns::Works, first),
        Ok((reply, _)) if !is_unfit(reply) => return (Edns::Absent, first),
        Ok(_) | Err(Fault::TimedOut(_) | Fault::Malformed) => {}
        Err(_) => return (Edns::Unknown, first),
    }
    let plain = client.udp(peer, &Question { form: Form::Plain, ..*soa }).await;
    if plain.is_err() {
        return (Edns::Unknown, first);
    }
    match client.udp(peer, &Question { form: Form::Edns, ..*soa }).await {
        Ok((reply, took)) if reply.edns && !is_unfit(&reply) => {
            (Edns::BrokenByOptions, Ok((reply, took)))
        }
        // That it does not know EDNS it may say so (RFC 6891 section 7).
        Ok((reply, _)) if is_unfit(&reply) => (Edns::Absent, plain),
        _ => (Edns::Broken, plain),
    }
}

/// Is this what servers say to what they do not understand?
fn is_unfit(reply: &Reply) -> bool {
    matches!(reply.rcode, Rcode::FORMERR | Rcode::NOTIMP | Rcode::BADVERS)
}

/// The SOA in an answer, if it is good.
fn told((reply, took): (Reply, Duration), zone: Name<'_>) -> Result<Told, Fault> {
    if reply.rcode != Rcode::NOERROR {
        return Err(Fault::Rcode(reply.rcode));
    }
    if !reply.is_authoritative() {
        return Err(Fault::Lame);
    }
    let is_soa = |rr: &&super::message::Rr| rr.rtype == Rtype::SOA && rr.owner.as_name() == zone;
    let found = reply.answer.iter().find(is_soa).ok_or(Fault::NoSoa)?;
    let soa = Soa::parse(found.ttl, &found.data).ok_or(Fault::Malformed)?;
    Ok(Told { soa, took })
}

/// What a server answers to the samples, over TCP if it does not answer otherwise.
pub(super) async fn sample(
    client: &Client,
    server: &Server,
    (edns, over_tcp): (Edns, bool),
    samples: &[Sample],
) -> Vec<Option<u64>> {
    let form = if matches!(edns, Edns::Broken | Edns::Absent) { Form::Plain } else { Form::Edns };
    let mut sums = Vec::with_capacity(samples.len());
    for sample in samples {
        let name = sample.name.as_name();
        let question = Question { form, ..Question::new(name, sample.rtype) };
        let reply = match over_tcp {
            true => client.tcp(&server.peer, &question).await.map(|(reply, _)| reply),
            false => client.ask(&server.peer, &question).await,
        };
        let silent = matches!(reply, Err(Fault::TimedOut(_)));
        let reply = reply.ok().filter(content::is_comparable);
        sums.push(reply.map(|reply| content::sum_of(&reply, name)));
        if silent {
            // Whoever falls silent would be waited for again and again.
            sums.resize(samples.len(), None);
            break;
        }
    }
    sums
}
