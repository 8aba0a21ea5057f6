//! The digests of RFC 8976 that others make are the ones that Backstop makes.

use std::{fs, process::Command};

use super::{PATIENCE, zones};
use crate::common::{
    backstop::Backstop,
    dns::wait_until,
    peers::{Kind, Peer, Setup, ZoneSetup},
    sign::{Denial, sign},
    skip::{self, require},
};

const ZONE: &str = "digest.test.";

/// The zone with digests of both algorithms, made by ldns.
fn digested(text: &str) -> Option<String> {
    let Some(program) = skip::program("ldns-signzone") else {
        skip::uninstalled("ldns-signzone is not installed (ldnsutils)");
        return None;
    };
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("zone"), text).expect("a zone file");
    let arguments = ["-Z", "-z", "simple:sha384", "-z", "simple:sha512", "-o", ZONE];
    let output = Command::new(program)
        .args(arguments)
        .args(["-f", "digested", "zone"])
        .current_dir(dir.path())
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(fs::read_to_string(dir.path().join("digested")).expect("it wrote that"))
}

fn accepts(text: &str) {
    let Some(text) = digested(text) else { return };
    assert_eq!(text.matches("\tZONEMD\t").count(), 2, "one of each algorithm");
    // Each by itself: one that is right would hide that the other is not.
    for left_out in ["\t1 1 1 ", "\t1 1 2 "] {
        let is_other = |line: &&str| line.contains("\tZONEMD\t") && line.contains(left_out);
        let one: Vec<_> = text.lines().filter(|line| !is_other(line)).collect();
        let setup = Setup::of([ZoneSetup::primary(ZONE, &(one.join("\n") + "\n"))]);
        let backstop = Backstop::start_with(&setup, "zonemd = \"required\"");
        assert_eq!(backstop.status(ZONE)["state"], "ok", "without {left_out}");
    }
}

#[test]
fn the_digest_that_ldns_makes_of_a_plain_zone_is_right() {
    accepts(&zones::plain(ZONE, 1, 3600).replace("mail A", "MAIL A").replace("ns1 h", "NS1 H"));
}

#[test]
fn the_digest_that_ldns_makes_of_a_signed_zone_is_right() {
    require!(Bind);
    for denial in [Denial::Nsec, Denial::Nsec3] {
        accepts(&sign(ZONE, &zones::plain(ZONE, 1, 3600), denial).text);
    }
}

#[test]
fn versions_with_the_digest_that_knot_keeps_up_to_date_are_served() {
    require!(Knot);
    let setup = Setup::of([ZoneSetup::primary(ZONE, &zones::plain(ZONE, 1, 1))]);
    let mut peer = Peer::start(Kind::Knot, &setup);
    let path = peer.dir().join("knot.conf");
    let text = fs::read_to_string(&path).expect("it was written");
    let template = "  - id: default\n";
    assert!(text.contains(template));
    let with_digest = format!("{template}    zonemd-generate: zonemd-sha512\n");
    fs::write(&path, text.replace(template, &with_digest)).expect("it is ours");
    peer.restart();
    let zone = ZoneSetup::secondary(ZONE, peer.addr());
    let backstop = Backstop::start_with(&Setup::of([zone]), "zonemd = \"required\"");
    let came = wait_until(PATIENCE, || backstop.status(ZONE)["serial"].is_u64());
    assert!(came, "{}\n{}", backstop.status(ZONE), peer.log());
    let before = backstop.status(ZONE)["serial"].as_u64().expect("just seen");
    peer.update_zone(ZONE, &zones::plain(ZONE, 100, 1));
    // Knot raises the serial for the digest.
    let serial = || backstop.status(ZONE)["serial"].as_u64();
    let came = wait_until(PATIENCE, || serial().is_some_and(|serial| serial >= 100));
    assert!(came && before < 100, "{}", backstop.status(ZONE));
    assert_eq!(backstop.last_transfer(ZONE), "IXFR");
}
