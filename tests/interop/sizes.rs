//! Replies are no larger than those of others: compression where there is much to compress, and
//! little to gain for who asks in somebody else's name.

use std::{fmt::Write, net::SocketAddr};

use super::zones;
use crate::common::{
    backstop::Backstop,
    dns::{self, Ask, Edns, Reply, connect, read_message, write_message},
    peers::{Kind, Peer, Setup, ZoneSetup},
    sign::{Denial, sign},
    skip::require,
};

/// Who is compared with. PowerDNS answers ANY by nothing but TC, and signs what it has not signed
/// itself in ways of its own.
const PEERS: [Kind; 3] = [Kind::Nsd, Kind::Knot, Kind::Bind];

/// A zone from the same file at every server.
struct World {
    ours: Backstop,
    peers: Vec<Peer>,
}

impl World {
    fn new(zone: &str, text: &str) -> Self {
        let setup = Setup::of([ZoneSetup::primary(zone, text)]);
        let peers = PEERS.map(|kind| Peer::start(kind, &setup)).into();
        Self { ours: Backstop::start(&setup), peers }
    }

    /// Our reply and each peer's.
    fn ask(&self, ask: &Ask, tcp: bool) -> (Sized, Vec<(Kind, Sized)>) {
        let theirs = PEERS.into_iter().zip(&self.peers);
        let theirs = theirs.map(|(kind, peer)| (kind, Sized::of(peer.addr(), ask, tcp)));
        (Sized::of(self.ours.addr(), ask, tcp), theirs.collect())
    }
}

/// A reply and how many octets it has.
#[derive(Debug)]
struct Sized {
    reply: Reply,
    octets: usize,
}

impl Sized {
    fn of(server: SocketAddr, ask: &Ask, tcp: bool) -> Self {
        let message = if tcp {
            let mut stream = connect(server).expect("a connection");
            write_message(&mut stream, &ask.octets()).expect("a question");
            read_message(&mut stream)
        } else {
            let asked = || dns::udp_raw(server, &ask.octets());
            asked().or_else(|_| asked()).or_else(|_| asked())
        };
        let message = message.expect("a reply");
        Self { reply: Reply::parse(&message).expect("a reply"), octets: message.len() }
    }

    fn records(&self) -> [&[String]; 3] {
        [&self.reply.answer, &self.reply.authority, &self.reply.additional]
    }

    fn is_truncated(&self) -> bool {
        self.reply.flags.contains("TC")
    }

    /// Knot gives the first of a name's sets for ANY, and that may be its signatures: nothing that
    /// anybody could use is smaller.
    fn is_signature_alone(&self) -> bool {
        let answer = &self.reply.answer;
        !answer.is_empty() && answer.iter().all(|line| line.split(' ').nth(3) == Some("RRSIG"))
    }
}

/// A zone with delegations that have much in common.
fn delegations(zone: &str) -> String {
    let mut text =
        format!("$ORIGIN {zone}\n$TTL 3600\n@ SOA ns1 hostmaster 1 3600 900 604800 300\n");
    let mut add = |line: &str| writeln!(text, "{line}").expect("a string grows");
    // As at the root: 13 servers under a domain that is not the apex.
    for n in 0..13 {
        let server = format!("{}.root-servers.net", char::from(b'a' + n));
        add(&format!("@ NS {server}"));
        add(&format!("com NS {}.gtld-servers.net", char::from(b'a' + n)));
        for server in [&server, &server.replace("root", "gtld")] {
            add(&format!("{server} A 198.41.0.{n}"));
            add(&format!("{server} AAAA 2001:503:ba3e::2:{n:x}"));
        }
    }
    for n in 0..60 {
        // Many servers beside one, inside one, and everywhere.
        add(&format!("many NS ns{n}.hosting.many-servers.example.net."));
        add(&format!("deep NS ns{n}.in.some.deep.place.deep"));
        add(&format!("ns{n}.in.some.deep.place.deep A 192.0.2.{n}"));
        add(&format!("ns{n}.in.some.deep.place.deep AAAA 2001:db8::{n:x}"));
        add(&format!("wide NS ns.provider-{n}.wide"));
        add(&format!("ns.provider-{n}.wide A 192.0.2.{n}"));
    }
    for n in 0..4 {
        add(&format!("usual NS ns{n}.usual"));
        add(&format!("ns{n}.usual A 192.0.2.{n}"));
        add(&format!("mail MX {n} mx{n}.mail"));
        add(&format!("mx{n}.mail A 192.0.2.{n}"));
    }
    text
}

#[test]
fn long_referrals_and_name_server_sets_are_at_least_as_small_as_elsewhere() {
    require!(Nsd, Knot, Bind);
    let mut compared = 0;
    for zone in [".", "zone.test."] {
        let world = World::new(zone, &delegations(zone));
        let below = |name: &str| format!("{name}.{}", zone.trim_start_matches('.'));
        let questions = [
            (zone.to_owned(), "NS"),
            (below("www.example.com"), "A"),
            (below("x.many"), "A"),
            (below("x.deep"), "A"),
            (below("ns7.in.some.deep.place.deep"), "AAAA"),
            (below("x.wide"), "A"),
            (below("x.usual"), "A"),
            (below("mail"), "MX"),
        ];
        for (name, rtype) in &questions {
            for tcp in [false, true] {
                let ask = Ask::new(name, rtype).edns(Edns::default());
                let (ours, theirs) = world.ask(&ask, tcp);
                for (kind, theirs) in theirs {
                    // As long as they say the same: a reply that leaves records out is smaller.
                    if ours.records() != theirs.records() || ours.is_truncated() {
                        continue;
                    }
                    compared += 1;
                    let (us, them) = (ours.octets, theirs.octets);
                    assert!(us <= them, "{name} {rtype}, TCP {tcp}: {us}, {kind:?} {them}");
                }
            }
        }
        let priming = Ask::new(zone, "NS").edns(Edns::default());
        let (ours, theirs) = world.ask(&priming, false);
        let sizes: Vec<_> = theirs.iter().map(|(kind, reply)| (kind, reply.octets)).collect();
        assert!(!ours.is_truncated() && ours.reply.answer.len() == 13);
        assert_eq!(ours.reply.additional.len(), 26, "{} octets, they have {sizes:?}", ours.octets);
    }
    // Two zones, eight questions over two transports, three peers.
    assert!(compared >= 60, "only {compared} replies say the same");
}

#[test]
fn nobody_gains_more_by_asking_us_than_by_asking_others() {
    require!(Nsd, Knot, Bind);
    let mut compared = 0;
    for denial in [None, Some(Denial::Nsec), Some(Denial::Nsec3), Some(Denial::Nsec3OptOut)] {
        let zone = "rich.test.";
        let text = match denial {
            None => zones::rich(zone),
            Some(denial) => sign(zone, &zones::rich(zone), denial).text,
        };
        let world = World::new(zone, &text);
        let of_every_kind = ["", "www.", "mail.", "svc.", "big.", "many.", "unknown.", "x.wild."];
        let any = of_every_kind.into_iter().map(|label| (label, "ANY"));
        let missing = ["nothing.", "x.y.nothing.", "x.www.", "zzz.", "x.c.empty.", "x.info."];
        let missing = missing.into_iter().map(|label| (label, "A"));
        for (label, rtype) in any.chain(missing).chain([("", "DNSKEY")]) {
            for dnssec_ok in [false, true] {
                let edns = Edns { dnssec_ok, size: 4096, ..Edns::default() };
                let ask = Ask::new(&format!("{label}{zone}"), rtype).edns(edns);
                let (ours, theirs) = world.ask(&ask, false);
                for (kind, theirs) in theirs {
                    if theirs.is_truncated() || theirs.is_signature_alone() {
                        continue;
                    }
                    compared += 1;
                    let (us, them) = (ours.octets, theirs.octets);
                    let what = format!("{label}{zone} {rtype} {denial:?} DO {dnssec_ok}");
                    assert!(
                        us <= them,
                        "{what}: {us}, {kind:?} {them}\n{}\n{}",
                        ours.reply,
                        theirs.reply
                    );
                }
            }
        }
    }
    // Four zones, fifteen questions with and without DO, three peers.
    assert!(compared >= 300, "only {compared} replies are compared");
}
