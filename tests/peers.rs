//! The test harness proves itself: each real server as primary and as secondary, signed
//! transfers, NOTIFY, incremental transfers, restarts; signed zones; and the namespaces.
mod common;

use std::{
    net::{Ipv6Addr, SocketAddr},
    path::Path,
    process::Command,
    time::Duration,
};

use common::{
    dns::{self, Ask, Edns, TsigKey, wait_for_serial, wait_until},
    netns::{End, Pair},
    peers::{Kind, Peer, Setup, ZoneSetup, unbound::Unbound},
    ports,
    sign::{Denial, sign},
    skip::{self, require},
    transfer::{Transfer, transfer, transfer_since},
};

const ZONE: &str = "harness.test.";
const PATIENCE: Duration = Duration::from_secs(20);

/// A zone whose last records change with the serial.
fn zone(serial: u32) -> String {
    format!(
        "$ORIGIN {ZONE}
$TTL 300
@ SOA ns1 hostmaster {serial} 3600 900 604800 60
@ NS ns1
@ NS ns2.elsewhere.test.
@ MX 10 mail
ns1 A 127.0.0.1
ns1 AAAA ::1
mail A 192.0.2.{last}
*.wild TXT \"a wildcard; serial {serial}\"
alias CNAME mail
sub NS ns.sub
ns.sub A 192.0.2.53
changing-{serial} A 192.0.2.1
",
        last = serial % 250,
    )
}

fn serves_the_zone(kind: Kind) {
    let peer = Peer::start(kind, &Setup::of([ZoneSetup::primary(ZONE, &zone(1))]));
    let reply = dns::udp(peer.addr(), &Ask::new("changing-1.harness.test.", "A")).expect("UDP");
    assert_eq!(reply.rcode, "NOERROR");
    assert!(reply.flags.contains("AA"), "{reply}");
    assert_eq!(reply.answer, ["changing-1.harness.test. 300 IN A 192.0.2.1"]);
    let over_tcp = dns::tcp(peer.addr(), &Ask::new("changing-1.harness.test.", "A")).expect("TCP");
    assert_eq!(reply.answer, over_tcp.answer);
    let edns = Ask::new("nothing.harness.test.", "A").edns(Edns::default());
    let reply = dns::udp(peer.addr(), &edns).expect("UDP");
    assert_eq!(reply.rcode, "NXDOMAIN");
    assert!(reply.opt.starts_with("v0 "), "{reply}");
    let records = transfer(peer.addr(), ZONE, None).expect("AXFR");
    assert_eq!(records.len(), 12, "{records:#?}");

    peer.update_zone(ZONE, &zone(2));
    assert_eq!(dns::serial(peer.addr(), ZONE), Some(2));
    let reply = dns::udp(peer.addr(), &Ask::new("changing-1.harness.test.", "A")).expect("UDP");
    assert_eq!(reply.rcode, "NXDOMAIN", "the old name is gone");
    match transfer_since(peer.addr(), ZONE, 1, None).expect("IXFR") {
        Transfer::Diffs(diffs) if kind.sends_differences() => {
            assert_eq!((diffs.len(), diffs[0].from, diffs[0].to), (1, 1, 2));
            assert_eq!(diffs[0].removed.len(), 3, "{diffs:#?}");
            // NSD 4.6 also "adds" records that are there already.
            let new = ["*.wild", "changing-2", "mail"];
            for owner in new.map(|label| format!("{label}.{ZONE} ")) {
                assert!(diffs[0].added.iter().any(|r| r.starts_with(&owner)), "{diffs:#?}");
            }
        }
        Transfer::Whole(records) if !kind.sends_differences() => assert_eq!(records.len(), 12),
        other => panic!("{kind:?} sent {other:#?}"),
    }
    assert_eq!(
        transfer_since(peer.addr(), ZONE, 2, None).expect("IXFR"),
        Transfer::Current(2),
        "nothing is newer than the newest"
    );
}

#[test]
fn knot_serves_and_updates_a_zone() {
    require!(Knot);
    serves_the_zone(Kind::Knot);
}

#[test]
fn nsd_serves_and_updates_a_zone() {
    require!(Nsd);
    serves_the_zone(Kind::Nsd);
}

#[test]
fn bind_serves_and_updates_a_zone() {
    require!(Bind);
    serves_the_zone(Kind::Bind);
}

#[test]
fn pdns_serves_and_updates_a_zone() {
    require!(Pdns);
    serves_the_zone(Kind::Pdns);
}

/// A primary and a secondary with a key between them, and NOTIFY: an update at the one arrives
/// at the other long before the SOA's timers (an hour) say so.
fn follows(primary: Kind, secondary: Kind) {
    let key = TsigKey::new("xfr.key.");
    let (at, to): (SocketAddr, SocketAddr) = (ports::free(), ports::free());
    let source = ZoneSetup::primary(ZONE, &zone(1)).key(&key).notify(to);
    let copy = ZoneSetup::secondary(ZONE, at).key(&key);
    let from = Peer::start(primary, &Setup::of([source]).at(at));
    let copy = Peer::start(secondary, &Setup::of([copy]).at(to));
    wait_for_serial(copy.addr(), ZONE, 1, PATIENCE);
    for serial in [2, 3] {
        from.update_zone(ZONE, &zone(serial));
        wait_for_serial(copy.addr(), ZONE, serial, PATIENCE);
    }
    let original = transfer(from.addr(), ZONE, Some(&key)).expect("signed AXFR of the original");
    let copied = transfer(copy.addr(), ZONE, Some(&key)).expect("signed AXFR of the copy");
    assert_eq!(original, copied);
    assert!(transfer(from.addr(), ZONE, None).is_err(), "a transfer without the key");
    let wrong = TsigKey { secret: TsigKey::new("other.").secret, ..key };
    assert!(transfer(from.addr(), ZONE, Some(&wrong)).is_err(), "a transfer with a wrong secret");
}

#[test]
fn bind_follows_knot_by_notify_with_a_key() {
    require!(Knot, Bind);
    follows(Kind::Knot, Kind::Bind);
}

#[test]
fn nsd_follows_bind_by_notify_with_a_key() {
    require!(Bind, Nsd);
    follows(Kind::Bind, Kind::Nsd);
}

#[test]
fn pdns_follows_nsd_by_notify_with_a_key() {
    require!(Nsd, Pdns);
    follows(Kind::Nsd, Kind::Pdns);
}

#[test]
fn knot_follows_pdns_by_notify_with_a_key() {
    require!(Pdns, Knot);
    follows(Kind::Pdns, Kind::Knot);
}

#[test]
fn a_secondary_can_be_told_to_refresh_and_to_retransfer() {
    require!(Bind);
    for kind in Kind::AUTHORITATIVE {
        if let Some(why) = kind.missing() {
            skip::uninstalled(&why);
            continue;
        }
        let from = Peer::bind(&Setup::of([ZoneSetup::primary(ZONE, &zone(1))]));
        let copy = Peer::start(kind, &Setup::of([ZoneSetup::secondary(ZONE, from.addr())]));
        wait_for_serial(copy.addr(), ZONE, 1, PATIENCE);
        from.update_zone(ZONE, &zone(2));
        copy.refresh(ZONE);
        wait_for_serial(copy.addr(), ZONE, 2, PATIENCE);
        copy.retransfer(ZONE);
        wait_for_serial(copy.addr(), ZONE, 2, PATIENCE);
    }
}

#[test]
fn a_peer_refuses_transfers_when_told_so() {
    for kind in Kind::AUTHORITATIVE {
        if let Some(why) = kind.missing() {
            skip::uninstalled(&why);
            continue;
        }
        let setup = Setup::of([ZoneSetup::primary(ZONE, &zone(1)).no_transfer()]);
        let peer = Peer::start(kind, &setup);
        assert!(transfer(peer.addr(), ZONE, None).is_err(), "{kind:?} gave the zone away");
    }
}

#[test]
fn every_peer_speaks_ipv6() {
    for kind in Kind::AUTHORITATIVE {
        if let Some(why) = kind.missing() {
            skip::uninstalled(&why);
            continue;
        }
        let at = || ports::free_on(Ipv6Addr::LOCALHOST.into());
        let from = Setup::of([ZoneSetup::primary(ZONE, &zone(1))]).at(at());
        let from = Peer::start(kind, &from);
        let copy = Setup::of([ZoneSetup::secondary(ZONE, from.addr())]).at(at());
        let copy = Peer::start(kind, &copy);
        wait_for_serial(copy.addr(), ZONE, 1, PATIENCE);
        let both = [&from, &copy].map(|peer| transfer(peer.addr(), ZONE, None).expect("AXFR"));
        assert_eq!(both[0], both[1], "{kind:?}");
    }
}

#[test]
fn a_port_is_handed_out_once() {
    let (one, other) = (ports::free(), ports::free());
    assert_ne!(one, other);
    assert!(!ports::claim(one), "claimed twice");
}

fn comes_back_after_stop_and_kill(kind: Kind) {
    let mut peer = Peer::start(kind, &Setup::of([ZoneSetup::primary(ZONE, &zone(7))]));
    peer.stop();
    assert!(dns::connect(peer.addr()).is_err(), "it listens after stop");
    peer.restart();
    wait_for_serial(peer.addr(), ZONE, 7, PATIENCE);
    peer.kill();
    assert!(dns::connect(peer.addr()).is_err(), "it listens after kill");
    peer.restart();
    peer.pause();
    let question = Ask::new(ZONE, "SOA").octets();
    assert!(dns::udp_raw(peer.addr(), &question).is_err(), "it answers while paused");
    peer.resume();
    wait_for_serial(peer.addr(), ZONE, 7, PATIENCE);
    let (pid, addr, dir) = (peer.pid().expect("it runs"), peer.addr(), peer.dir().to_owned());
    drop(peer);
    assert!(!Path::new("/proc").join(pid.to_string()).exists(), "it outlives its Peer");
    assert!(dns::connect(addr).is_err(), "its children outlive its Peer");
    assert!(!dir.exists(), "its folder is left over");
}

#[test]
fn knot_comes_back_after_stop_and_kill() {
    require!(Knot);
    comes_back_after_stop_and_kill(Kind::Knot);
}

#[test]
fn nsd_comes_back_after_stop_and_kill() {
    require!(Nsd);
    comes_back_after_stop_and_kill(Kind::Nsd);
}

#[test]
fn bind_comes_back_after_stop_and_kill() {
    require!(Bind);
    comes_back_after_stop_and_kill(Kind::Bind);
}

#[test]
fn pdns_comes_back_after_stop_and_kill() {
    require!(Pdns);
    comes_back_after_stop_and_kill(Kind::Pdns);
}

#[test]
fn a_resolver_finds_a_zone_at_its_stub() {
    require!(Knot, Unbound);
    let peer = Peer::knot(&Setup::of([ZoneSetup::primary(ZONE, &zone(1))]));
    let resolver = Unbound::start(&[(ZONE, &[peer.addr()])], None);
    let ask = Ask::new("a.b.wild.harness.test.", "TXT").recursion_desired();
    let reply = dns::udp(resolver.addr(), &ask).expect("UDP");
    assert_eq!(reply.answer.len(), 1, "{reply}\n{}", resolver.log());
}

#[test]
fn a_resolver_validates_a_signed_zone_from_its_anchor() {
    require!(Knot, Unbound, Bind);
    for denial in [Denial::Nsec, Denial::Nsec3, Denial::Nsec3OptOut] {
        let signed = sign(ZONE, &zone(1), denial);
        let peer = Peer::knot(&Setup::of([ZoneSetup::primary(ZONE, &signed.text)]));
        let resolver = Unbound::start(&[(ZONE, &[peer.addr()])], Some(&signed.anchor));
        for (name, rcode) in [("mail", "NOERROR"), ("a.wild", "NOERROR"), ("no", "NXDOMAIN")] {
            let ask = Ask::new(&format!("{name}.{ZONE}"), "A").recursion_desired().dnssec();
            let reply = dns::udp(resolver.addr(), &ask).expect("UDP");
            assert_eq!(reply.rcode, rcode, "{denial:?} {name}: {reply}\n{}", resolver.log());
            // Under opt-out a name that is not there might be an unsigned delegation.
            let secure = denial != Denial::Nsec3OptOut || name == "mail";
            assert_eq!(reply.flags.contains("AD"), secure, "{denial:?} {name}: {reply}");
        }
    }
}

#[test]
fn a_cable_joins_two_namespaces_and_is_gone_afterwards() {
    let Some(pair) = Pair::up() else { return };
    let namespace = pair.namespace(End::Server);
    let routes = |end: End| {
        let output = pair.command(end, "ip").args(["-br", "address"]).output().expect("ip");
        String::from_utf8(output.stdout).expect("text")
    };
    for end in [End::Server, End::Client] {
        let both = wait_until(PATIENCE, || {
            let text = routes(end);
            text.contains(end.v4()) && text.contains(end.v6())
        });
        assert!(both, "{end:?}: {}", routes(end));
    }
    for address in [End::Server.v4(), End::Server.v6()] {
        // Nobody listens: only a refusal, sent back by the other end, shows that packets pass.
        let script = format!("exec 3<> /dev/tcp/{address}/9");
        let output = pair.command(End::Client, "bash").args(["-c", &script]).output();
        let said = String::from_utf8(output.expect("bash").stderr).expect("text");
        assert!(said.contains("refused"), "{address}: {said}");
    }
    drop(pair);
    let list = Command::new("ip").args(["netns", "list"]).output().expect("ip");
    assert!(!String::from_utf8_lossy(&list.stdout).contains(&namespace));
}
