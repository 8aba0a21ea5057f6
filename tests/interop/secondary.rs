//! Backstop as the secondary of each peer.

use std::{net::Ipv6Addr, thread};

use super::{PATIENCE, zones};
use crate::common::{
    backstop::Backstop,
    dns::{self, Ask, TsigKey, wait_for_serial, wait_until},
    peers::{Kind, Peer, Setup, ZoneSetup},
    ports,
    skip::require,
    transfer::transfer,
};

const ZONE: &str = "secondary.test.";
/// The SOA's refresh where nothing but a NOTIFY can be what brings a version in time.
const LATER: u32 = 3600;

/// Every algorithm that both sides have.
const ALGORITHMS: [&str; 4] = ["hmac-sha1", "hmac-sha256", "hmac-sha384", "hmac-sha512"];

pub(crate) fn keys() -> [TsigKey; 4] {
    ALGORITHMS.map(|algorithm| {
        let name = format!("{algorithm}.key.");
        TsigKey { algorithm: algorithm.to_owned(), ..TsigKey::new(&name) }
    })
}

#[track_caller]
fn assert_same_data(peer: &Peer, backstop: &Backstop, zone: &str, key: Option<&TsigKey>) {
    let theirs = transfer(peer.addr(), zone, key).expect("AXFR from the peer");
    let ours = transfer(backstop.addr(), zone, key).expect("AXFR from Backstop");
    assert_eq!(theirs, ours);
}

/// What Backstop calls the transfer of a change from this peer.
fn way(kind: Kind) -> &'static str {
    if kind.sends_differences() { "IXFR" } else { "AXFR" }
}

fn follows_notify(kind: Kind) {
    let key = TsigKey::new("xfr.key.");
    let (at, to) = (ports::free(), ports::free());
    let zone = ZoneSetup::primary(ZONE, &zones::plain(ZONE, 1, LATER)).key(&key).notify(to);
    let peer = Peer::start(kind, &Setup::of([zone]).at(at));
    let copy = ZoneSetup::secondary(ZONE, at).key(&key);
    let backstop = Backstop::start(&Setup::of([copy]).at(to));
    wait_for_serial(to, ZONE, 1, PATIENCE);
    assert_eq!(backstop.last_transfer(ZONE), "AXFR");
    assert_same_data(&peer, &backstop, ZONE, Some(&key));
    for serial in [2, 3] {
        peer.update_zone(ZONE, &zones::plain(ZONE, serial, LATER));
        wait_for_serial(to, ZONE, serial, PATIENCE);
        assert_eq!(backstop.last_transfer(ZONE), way(kind), "of serial {serial}");
        assert_same_data(&peer, &backstop, ZONE, Some(&key));
    }
    assert!(transfer(to, ZONE, None).is_err(), "Backstop gave the zone away without the key");
    let status = backstop.status(ZONE);
    assert_eq!(status["state"], "ok", "{status}");
    assert_eq!(status["primaries"][0]["serial"], 3, "{status}");
    // What was heeded was signed: an unsigned one is not.
    let reply = dns::udp(to, &Ask::notify(ZONE)).expect("a reply");
    assert_ne!(reply.rcode, "NOERROR", "an unsigned NOTIFY was heeded");
}

each! { follows_notify:
    a_change_at_bind_arrives_by_signed_notify_and_ixfr(Bind),
    a_change_at_knot_arrives_by_signed_notify_and_ixfr(Knot),
    a_change_at_nsd_arrives_by_signed_notify_and_ixfr(Nsd),
    a_change_at_powerdns_arrives_by_signed_notify_and_axfr(Pdns),
}

/// The peer tells nobody of its changes, as if every NOTIFY were lost.
fn follows_by_timer(kind: Kind) {
    let peer = Setup::of([ZoneSetup::primary(ZONE, &zones::plain(ZONE, 1, 2))]);
    let peer = Peer::start(kind, &peer);
    let backstop = Backstop::start(&Setup::of([ZoneSetup::secondary(ZONE, peer.addr())]));
    wait_for_serial(backstop.addr(), ZONE, 1, PATIENCE);
    peer.update_zone(ZONE, &zones::plain(ZONE, 2, 2));
    wait_for_serial(backstop.addr(), ZONE, 2, PATIENCE);
    assert_eq!(backstop.last_transfer(ZONE), way(kind));
    assert_same_data(&peer, &backstop, ZONE, None);
}

each! { follows_by_timer:
    a_change_at_bind_arrives_by_the_refresh_timer_when_notify_is_lost(Bind),
    a_change_at_knot_arrives_by_the_refresh_timer_when_notify_is_lost(Knot),
    a_change_at_nsd_arrives_by_the_refresh_timer_when_notify_is_lost(Nsd),
    a_change_at_powerdns_arrives_by_the_refresh_timer_when_notify_is_lost(Pdns),
}

/// A zone for each algorithm; NOTIFY, transfers and refreshes are signed by it.
fn uses_every_algorithm(kind: Kind) {
    let (at, to) = (ports::free(), ports::free());
    let keys = keys();
    let name = |key: &TsigKey| format!("{}.test.", key.algorithm);
    let text = |key: &TsigKey, serial| zones::plain(&name(key), serial, LATER);
    let primary = |key: &TsigKey| ZoneSetup::primary(&name(key), &text(key, 1)).key(key).notify(to);
    let copy = |key: &TsigKey| ZoneSetup::secondary(&name(key), at).key(key);
    let peer = Peer::start(kind, &Setup::of(keys.iter().map(primary).collect::<Vec<_>>()).at(at));
    let setup = Setup::of(keys.iter().map(copy).collect::<Vec<_>>()).at(to);
    let backstop = Backstop::start(&setup);
    for key in &keys {
        let zone = name(key);
        wait_for_serial(to, &zone, 1, PATIENCE);
        peer.update_zone(&zone, &text(key, 2));
        wait_for_serial(to, &zone, 2, PATIENCE);
        assert_eq!(backstop.last_transfer(&zone), way(kind), "{zone}");
        assert_same_data(&peer, &backstop, &zone, Some(key));
    }
}

each! { uses_every_algorithm:
    bind_and_backstop_sign_with_every_algorithm(Bind),
    knot_and_backstop_sign_with_every_algorithm(Knot),
    nsd_and_backstop_sign_with_every_algorithm(Nsd),
    powerdns_and_backstop_sign_with_every_algorithm(Pdns),
}

/// The primary comes back with other data under the serial that it had.
fn is_told_of_other_data_under_the_same_serial(kind: Kind) {
    let before = zones::plain(ZONE, 5, LATER);
    let after = before.replace("mail A 192.0.2.5", "mail A 192.0.2.99\nmail AAAA 2001:db8::99");
    assert_ne!(before, after);
    let mut peer = Peer::start(kind, &Setup::of([ZoneSetup::primary(ZONE, &before)]));
    let backstop = Backstop::start(&Setup::of([ZoneSetup::secondary(ZONE, peer.addr())]));
    wait_for_serial(backstop.addr(), ZONE, 5, PATIENCE);
    assert_eq!(backstop.status(ZONE)["same-serial-difference"], false);
    peer.kill();
    peer.write_zone(ZONE, &after);
    peer.restart();
    backstop.retransfer(ZONE);
    let mail = Ask::new("mail.secondary.test.", "AAAA");
    let came = wait_until(PATIENCE, || {
        dns::udp(backstop.addr(), &mail).is_ok_and(|reply| reply.answer.len() == 1)
    });
    assert!(came, "the new data did not come: {}", backstop.status(ZONE));
    assert_same_data(&peer, &backstop, ZONE, None);
    let status = backstop.status(ZONE);
    assert_eq!(status["serial"], 5, "{status}");
    assert_eq!(status["same-serial-difference"], true, "{status}");
    assert_eq!(status["state"], "diverged", "{status}");
    // A new serial settles it.
    peer.update_zone(ZONE, &zones::plain(ZONE, 6, LATER));
    backstop.refresh(ZONE);
    wait_for_serial(backstop.addr(), ZONE, 6, PATIENCE);
    assert_same_data(&peer, &backstop, ZONE, None);
    assert_eq!(backstop.status(ZONE)["same-serial-difference"], false);
}

each! { is_told_of_other_data_under_the_same_serial:
    retransfer_takes_what_bind_changed_without_a_new_serial(Bind),
    retransfer_takes_what_knot_changed_without_a_new_serial(Knot),
    retransfer_takes_what_nsd_changed_without_a_new_serial(Nsd),
    retransfer_takes_what_powerdns_changed_without_a_new_serial(Pdns),
}

/// Killed while the primary is down, Backstop comes back with all that it served.
fn comes_back_without_the_primary(kind: Kind) {
    let key = TsigKey::new("xfr.key.");
    let (at, to) = (ports::free(), ports::free());
    let zone = ZoneSetup::primary(ZONE, &zones::plain(ZONE, 1, LATER)).key(&key).notify(to);
    let mut peer = Peer::start(kind, &Setup::of([zone]).at(at));
    let copy = ZoneSetup::secondary(ZONE, at).key(&key);
    let mut backstop = Backstop::start_with(&Setup::of([copy]).at(to), "retry-min = \"1s\"");
    wait_for_serial(to, ZONE, 1, PATIENCE);
    peer.update_zone(ZONE, &zones::plain(ZONE, 2, LATER));
    wait_for_serial(to, ZONE, 2, PATIENCE);
    let served = transfer(to, ZONE, Some(&key)).expect("AXFR from Backstop");
    peer.kill();
    backstop.kill();
    assert!(dns::connect(to).is_err(), "it listens after kill -9");
    backstop.restart();
    // No waiting: it is there with the first answer.
    assert_eq!(dns::serial(to, ZONE), Some(2), "{}", backstop.log());
    let ask = Ask::new("changing-2.secondary.test.", "A");
    assert_eq!(dns::udp(to, &ask).expect("a reply").answer.len(), 1);
    assert_eq!(transfer(to, ZONE, Some(&key)).expect("AXFR from Backstop"), served);
    peer.restart();
    peer.update_zone(ZONE, &zones::plain(ZONE, 3, LATER));
    wait_for_serial(to, ZONE, 3, PATIENCE);
    assert_eq!(backstop.last_transfer(ZONE), way(kind));
    assert_same_data(&peer, &backstop, ZONE, Some(&key));
}

each! { comes_back_without_the_primary:
    killed_while_bind_is_down_it_answers_at_once_and_goes_on_by_ixfr(Bind),
    killed_while_knot_is_down_it_answers_at_once_and_goes_on_by_ixfr(Knot),
    killed_while_nsd_is_down_it_answers_at_once_and_goes_on_by_ixfr(Nsd),
    killed_while_powerdns_is_down_it_answers_at_once_and_goes_on_by_axfr(Pdns),
}

#[test]
fn changes_arrive_over_ipv6() {
    require!(Knot);
    let [at, to] = [(); 2].map(|()| ports::free_on(Ipv6Addr::LOCALHOST.into()));
    let key = TsigKey::new("xfr.key.");
    let zone = ZoneSetup::primary(ZONE, &zones::plain(ZONE, 1, LATER)).key(&key).notify(to);
    let peer = Peer::knot(&Setup::of([zone]).at(at));
    let copy = ZoneSetup::secondary(ZONE, at).key(&key);
    let backstop = Backstop::start(&Setup::of([copy]).at(to));
    wait_for_serial(to, ZONE, 1, PATIENCE);
    peer.update_zone(ZONE, &zones::plain(ZONE, 2, LATER));
    wait_for_serial(to, ZONE, 2, PATIENCE);
    assert_eq!(backstop.last_transfer(ZONE), "IXFR");
    assert_same_data(&peer, &backstop, ZONE, Some(&key));
}

#[test]
fn a_new_zone_comes_with_sighup_and_no_query_is_lost_meanwhile() {
    require!(Knot);
    let other = "other.test.";
    let zones = [ZONE, other].map(|name| ZoneSetup::primary(name, &zones::plain(name, 1, LATER)));
    let peer = Peer::knot(&Setup::of(zones));
    let copies = [ZONE, other].map(|name| ZoneSetup::secondary(name, peer.addr()));
    let backstop = Backstop::start(&Setup::of([copies[0].clone()]));
    wait_for_serial(backstop.addr(), ZONE, 1, PATIENCE);
    let reply = dns::udp(backstop.addr(), &Ask::new(other, "SOA")).expect("a reply");
    assert_eq!(reply.rcode, "REFUSED");
    let question = Ask::new("host-1.secondary.test.", "A").octets();
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            (0..500).filter(|_| dns::udp_raw(backstop.addr(), &question).is_err()).count()
        });
        backstop.reconfigure(&Setup::of(copies), "");
        wait_for_serial(backstop.addr(), other, 1, PATIENCE);
        assert_eq!(asking.join().expect("it asks"), 0, "queries were lost");
    });
    assert_same_data(&peer, &backstop, other, None);
}
