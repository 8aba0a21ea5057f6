//! From a resolver's view: a domain with a primary and Backstop as its backup, on two addresses,
//! through an Unbound that knows both. The primary dies, comes back, and nobody who asks notices.
mod common;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use common::{
    backstop::Backstop,
    dns::{self, Ask, Reply, TsigKey, wait_for_serial},
    peers::{Kind, Peer, Setup, ZoneSetup, unbound::Unbound},
    ports,
    skip::require,
    transfer::transfer,
};

const ZONE: &str = "domain.test.";
const HOSTS: usize = 60;
const PATIENCE: Duration = Duration::from_secs(30);

/// TTL 0: a resolver has to ask every time.
fn zone(serial: u32) -> String {
    let hosts: String = (0..HOSTS).map(|n| format!("host-{n} A 198.51.100.{n}\n")).collect();
    format!(
        "$ORIGIN {ZONE}
$TTL 0
@ SOA ns1 hostmaster {serial} 2 1 604800 0
@ NS ns1
@ NS ns2
@ MX 10 mail
@ MX 20 mail2
ns1 A 127.0.0.1
ns2 A 127.0.0.2
mail A 192.0.2.1
mail AAAA 2001:db8::1
mail2 A 192.0.2.2
serial-{serial} TXT \"only in this version\"
{hosts}"
    )
}

struct World {
    primary: Peer,
    backup: Backstop,
    resolver: Unbound,
    key: TsigKey,
}

impl World {
    fn start(kind: Kind) -> Self {
        let (first, second) = (ports::free(), ports::free_on(IpAddr::from([127, 0, 0, 2])));
        let key = TsigKey::new("backup.key.");
        let source = ZoneSetup::primary(ZONE, &zone(1)).key(&key).notify(second);
        let primary = Peer::start(kind, &Setup::of([source]).at(first));
        let copy = Setup::of([ZoneSetup::secondary(ZONE, first).key(&key)]).at(second);
        let backup = Backstop::start_with(&copy, "retry-min = \"1s\"");
        wait_for_serial(second, ZONE, 1, PATIENCE);
        let resolver = Unbound::start(&[(ZONE, &[first, second])], None);
        Self { primary, backup, resolver, key }
    }

    #[track_caller]
    fn resolve(&self, name: &str, rtype: &str) -> Reply {
        let name = if name == "@" { ZONE.to_owned() } else { format!("{name}.{ZONE}") };
        let ask = Ask::new(&name, rtype).recursion_desired();
        let reply = dns::tcp(self.resolver.addr(), &ask).expect("the resolver replies");
        assert_eq!(reply.rcode, "NOERROR", "{name} {rtype}: {reply}\n{}", self.resolver.log());
        assert!(!reply.answer.is_empty(), "{name} {rtype}: {reply}");
        reply
    }

    #[track_caller]
    fn assert_everything_resolves(&self) {
        for n in 0..HOSTS {
            let reply = self.resolve(&format!("host-{n}"), "A");
            assert!(reply.answer[0].ends_with(&format!(" A 198.51.100.{n}")), "{reply}");
        }
        let exchanges = self.resolve("@", "MX").answer;
        let wanted = ["10 mail.domain.test.", "20 mail2.domain.test."];
        assert_eq!(exchanges.len(), wanted.len(), "{exchanges:?}");
        assert!(
            exchanges.iter().zip(wanted).all(|(line, end)| line.ends_with(end)),
            "{exchanges:?}"
        );
        for (name, rtype) in [("mail", "A"), ("mail", "AAAA"), ("mail2", "A"), ("ns2", "A")] {
            self.resolve(name, rtype);
        }
    }

    /// How many replies the resolver says it has had from this server.
    fn replies_from(&self, server: SocketAddr) -> usize {
        let from = format!("reply from <{ZONE}> {}#{}", server.ip(), server.port());
        self.resolver.log().lines().filter(|line| line.contains(&from)).count()
    }
}

fn survives(kind: Kind) {
    let mut world = World::start(kind);
    let (first, second) = (world.primary.addr(), world.backup.addr());
    world.assert_everything_resolves();
    world.assert_everything_resolves();
    let replies = [first, second].map(|server| world.replies_from(server));
    assert!(replies.iter().all(|&count| count > 0), "only one is asked: {replies:?}");

    world.primary.kill();
    world.assert_everything_resolves();
    world.resolve("serial-1", "TXT");
    assert!(world.replies_from(second) > replies[1], "who answered?");

    world.primary.write_zone(ZONE, &zone(2));
    world.primary.restart();
    wait_for_serial(second, ZONE, 2, PATIENCE);
    world.assert_everything_resolves();
    world.resolve("serial-2", "TXT");
    let both = [first, second].map(|server| transfer(server, ZONE, Some(&world.key)));
    let [theirs, ours] = both.map(|records| records.expect("AXFR"));
    assert_eq!(theirs, ours);
}

#[test]
fn everything_resolves_while_knot_is_dead_and_the_backup_catches_up() {
    require!(Knot, Unbound);
    survives(Kind::Knot);
}

#[test]
fn everything_resolves_while_bind_is_dead_and_the_backup_catches_up() {
    require!(Bind, Unbound);
    survives(Kind::Bind);
}
