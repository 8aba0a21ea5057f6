//! Backstop as the primary of each peer, and chains.

use std::thread;

use super::{PATIENCE, secondary::keys, zones};
use crate::common::{
    backstop::Backstop,
    dns::{TsigKey, wait_for_serial, wait_until},
    peers::{Kind, Peer, Setup, ZoneSetup},
    ports,
    skip::require,
    transfer::{Transfer, transfer, transfer_since},
};

const ZONE: &str = "primary.test.";
const LATER: u32 = 3600;

/// How a transfer to a secondary went, as Backstop logs it; waits for it.
#[track_caller]
fn assert_sent(backstop: &Backstop, zone: &str, way: &str, serial: u32) {
    let zone = format!("zone={zone}");
    let (way, serial) = (format!("way={way} "), format!("serial={serial} "));
    let is_it = |line: &str| [&zone, &way, &serial].iter().all(|part| line.contains(*part));
    let sent = wait_until(PATIENCE, || backstop.log().lines().any(is_it));
    assert!(sent, "no transfer with {zone} {way} {serial}");
}

fn is_followed(kind: Kind) {
    let key = TsigKey::new("xfr.key.");
    let (at, to) = (ports::free(), ports::free());
    let zone = ZoneSetup::primary(ZONE, &zones::plain(ZONE, 1, LATER)).key(&key).notify(to);
    let backstop = Backstop::start(&Setup::of([zone]).at(at));
    let copy = ZoneSetup::secondary(ZONE, at).key(&key);
    let peer = Peer::start(kind, &Setup::of([copy]).at(to));
    wait_for_serial(to, ZONE, 1, PATIENCE);
    for serial in [2, 3] {
        backstop.update_zone(ZONE, &zones::plain(ZONE, serial, LATER));
        wait_for_serial(to, ZONE, serial, PATIENCE);
        // PowerDNS' backend for zone files takes whole zones only.
        match kind {
            Kind::Pdns => assert_sent(&backstop, ZONE, "AXFR", serial),
            _ => assert_sent(&backstop, ZONE, &format!("IXFR from {}", serial - 1), serial),
        }
    }
    let ours = transfer(at, ZONE, Some(&key)).expect("AXFR from Backstop");
    let theirs = transfer(to, ZONE, Some(&key)).expect("AXFR from the peer");
    assert_eq!(ours, theirs);
    assert!(transfer(at, ZONE, None).is_err(), "Backstop gave the zone away without the key");
    match transfer_since(at, ZONE, 1, Some(&key)).expect("IXFR from Backstop") {
        Transfer::Diffs(diffs) => {
            let steps: Vec<_> = diffs.iter().map(|diff| (diff.from, diff.to)).collect();
            assert_eq!(steps, [(1, 2), (2, 3)]);
        }
        other => panic!("{other:#?}"),
    }
    drop(peer);
}

each! { is_followed:
    bind_follows_backstop_by_notify_and_ixfr(Bind),
    knot_follows_backstop_by_notify_and_ixfr(Knot),
    nsd_follows_backstop_by_notify_and_ixfr(Nsd),
    powerdns_follows_backstop_by_notify_and_axfr(Pdns),
}

fn is_followed_with_every_algorithm(kind: Kind) {
    let (at, to) = (ports::free(), ports::free());
    let keys = keys();
    let name = |key: &TsigKey| format!("{}.primary.test.", key.algorithm);
    let text = |key: &TsigKey, serial| zones::plain(&name(key), serial, LATER);
    let primary = |key: &TsigKey| ZoneSetup::primary(&name(key), &text(key, 1)).key(key).notify(to);
    let copy = |key: &TsigKey| ZoneSetup::secondary(&name(key), at).key(key);
    let backstop = Backstop::start(&Setup::of(keys.iter().map(primary).collect::<Vec<_>>()).at(at));
    let _peer = Peer::start(kind, &Setup::of(keys.iter().map(copy).collect::<Vec<_>>()).at(to));
    for key in &keys {
        let zone = name(key);
        wait_for_serial(to, &zone, 1, PATIENCE);
        backstop.update_zone(&zone, &text(key, 2));
        wait_for_serial(to, &zone, 2, PATIENCE);
        let ours = transfer(at, &zone, Some(key)).expect("AXFR from Backstop");
        let theirs = transfer(to, &zone, Some(key)).expect("AXFR from the peer");
        assert_eq!(ours, theirs);
    }
}

each! { is_followed_with_every_algorithm:
    bind_follows_backstop_with_every_algorithm(Bind),
    knot_follows_backstop_with_every_algorithm(Knot),
}

/// A zone with many types: from its file here, by AXFR to the peer, and by export to another.
fn takes_every_type(kind: Kind) {
    let zone = "rich.test.";
    let backstop = Backstop::start(&Setup::of([ZoneSetup::primary(zone, &zones::rich(zone))]));
    let copy = Setup::of([ZoneSetup::secondary(zone, backstop.addr())]);
    let copy = Peer::start(kind, &copy);
    wait_for_serial(copy.addr(), zone, 1, PATIENCE);
    let exported = backstop.command(&["export", zone]);
    let other = Peer::start(kind, &Setup::of([ZoneSetup::primary(zone, &exported)]));
    let [ours, copied, loaded] = [backstop.addr(), copy.addr(), other.addr()]
        .map(|addr| transfer(addr, zone, None).expect("AXFR"));
    assert_eq!(ours, copied, "by AXFR");
    assert_eq!(ours, loaded, "by export");
}

each! { takes_every_type:
    bind_takes_every_type_by_axfr_and_from_an_export(Bind),
    knot_takes_every_type_by_axfr_and_from_an_export(Knot),
    nsd_takes_every_type_by_axfr_and_from_an_export(Nsd),
    powerdns_takes_every_type_by_axfr_and_from_an_export(Pdns),
}

#[test]
fn a_change_passes_along_a_chain_of_knot_two_backstops_and_nsd() {
    require!(Knot, Nsd);
    let key = TsigKey::new("chain.key.");
    let addrs @ [knot, one, two, nsd] = [(); 4].map(|()| ports::free());
    let text = |serial| zones::plain(ZONE, serial, LATER);
    let link = |of| ZoneSetup::secondary(ZONE, of).key(&key);
    let first = ZoneSetup::primary(ZONE, &text(1)).key(&key).notify(one);
    let first = Peer::knot(&Setup::of([first]).at(knot));
    let middle = [(one, knot, two), (two, one, nsd)]
        .map(|(at, of, to)| Backstop::start(&Setup::of([link(of).notify(to)]).at(at)));
    let _last = Peer::nsd(&Setup::of([link(two)]).at(nsd));
    wait_for_serial(nsd, ZONE, 1, PATIENCE);
    for serial in [2, 3] {
        first.update_zone(ZONE, &text(serial));
        wait_for_serial(nsd, ZONE, serial, PATIENCE);
        for backstop in &middle {
            assert_eq!(backstop.last_transfer(ZONE), "IXFR");
            assert_sent(backstop, ZONE, &format!("IXFR from {}", serial - 1), serial);
        }
    }
    let copies = thread::scope(|scope| {
        addrs
            .map(|addr| {
                scope.spawn(move || transfer(addr, ZONE, Some(&TsigKey::new("chain.key."))))
            })
            .map(|copy| copy.join().expect("no panic").expect("AXFR"))
    });
    assert!(copies.iter().all(|copy| *copy == copies[0]), "{copies:#?}");
}
