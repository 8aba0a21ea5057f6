//! A zone that Knot signs and keeps signed, verified version by version from a trust anchor.

use std::fmt::Write;

use super::{PATIENCE, zones};
use crate::common::{
    backstop::Backstop,
    dns::{self, Ask, wait_until},
    peers::{Kind, Peer, Setup, ZoneSetup},
    sign::knot_signs,
    skip::require,
};

const ZONE: &str = "anchored.test.";

/// A zone in which names, empty ones above others, and cuts come and go.
fn text(serial: u32) -> String {
    let mut text = zones::plain(ZONE, serial, 1);
    if serial.is_multiple_of(2) {
        text += "a.b.c A 192.0.2.1\nhost-7 NS ns.elsewhere.test.\nx.host-8 A 192.0.2.9\n";
    } else {
        text += "x.y.host-7 A 192.0.2.1\nhost-8 DS 1 13 2 00\nhost-8 NS ns1\n";
        text = text.replace("host-8 A 198.51.100.8\n", "");
        text = text.replace("DS 1 13 2 00", &format!("DS 1 13 2 {}", "00".repeat(32)));
    }
    if serial.is_multiple_of(3) {
        text += "*.b.c TXT \"above and beside\"\nold DNAME new\n";
    }
    if serial.is_multiple_of(2) {
        text = text.replace("host-7 A 198.51.100.7\n", "");
    }
    text
}

fn follows(policy: &str) {
    let setup = Setup::of([ZoneSetup::primary(ZONE, &text(10))]);
    let mut peer = Peer::start(Kind::Knot, &setup);
    knot_signs(&mut peer, policy);
    let mut anchors = String::new();
    let signed = wait_until(PATIENCE, || {
        let reply = dns::udp(peer.addr(), &Ask::new(ZONE, "DNSKEY")).expect("it answers");
        let keys = reply.answer.iter().filter_map(|line| line.split_once(" DNSKEY 257 "));
        anchors.clear();
        for (_, key) in keys {
            write!(anchors, "\"DNSKEY 257 {key}\",").expect("a string grows");
        }
        !anchors.is_empty()
    });
    assert!(signed, "{}", peer.log());
    let zone = ZoneSetup::secondary(ZONE, peer.addr());
    let settings = format!("trust-anchor = [{anchors}]");
    let backstop = Backstop::start_with(&Setup::of([zone]), &settings);
    for serial in [20, 31, 42, 53, 63, 66, 70] {
        peer.update_zone(ZONE, &text(serial));
        let newest = || dns::serial(peer.addr(), ZONE).map(u64::from);
        let came = wait_until(PATIENCE, || backstop.status(ZONE)["serial"].as_u64() == newest());
        assert!(came, "{serial}: {}\n{}", backstop.status(ZONE), backstop.log());
        assert!(newest().is_some_and(|newest| newest >= u64::from(serial)));
    }
    assert_eq!(backstop.last_transfer(ZONE), "IXFR");
    let ends = || backstop.status(ZONE)["signatures"]["ends-in-s"].as_u64();
    let told = wait_until(PATIENCE, || ends().is_some_and(|s| s > 0));
    assert!(told, "when they run out: {}", backstop.status(ZONE));
    assert!(!backstop.log().contains("held by a check"), "{}", backstop.log());
}

#[test]
fn a_zone_that_knot_signs_with_nsec_passes_from_change_to_change() {
    require!(Knot);
    follows("    nsec3: off\n");
}

#[test]
fn a_zone_that_knot_signs_with_nsec3_passes_from_change_to_change() {
    require!(Knot);
    follows("    nsec3: on\n    nsec3-iterations: 3\n    nsec3-salt-length: 4\n");
}

#[test]
fn a_zone_that_knot_signs_with_opt_out_passes_from_change_to_change() {
    require!(Knot);
    follows("    nsec3: on\n    nsec3-iterations: 0\n    nsec3-opt-out: on\n");
}

#[test]
fn rsa_and_ed25519_signatures_are_verified_as_well() {
    require!(Knot);
    follows("    nsec3: off\n    algorithm: rsasha256\n    zsk-size: 1024\n");
    follows("    nsec3: off\n    algorithm: ed25519\n");
}

#[test]
fn a_zone_that_is_not_signed_from_the_anchor_is_not_served() {
    require!(Knot);
    let setup = Setup::of([ZoneSetup::primary(ZONE, &text(10))]);
    let peer = Peer::start(Kind::Knot, &setup);
    let zone = ZoneSetup::secondary(ZONE, peer.addr());
    let anchor = format!("trust-anchor = [\"DS 1 13 2 {}\"]", "00".repeat(32));
    let backstop = Backstop::start_with(&Setup::of([zone]), &anchor);
    let held = wait_until(PATIENCE, || backstop.status(ZONE)["held"]["check"] == "trust-anchor");
    assert!(held, "{}", backstop.status(ZONE));
    assert_eq!(backstop.status(ZONE)["state"], "never-loaded");
}
