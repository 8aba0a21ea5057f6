//! Signed zones for the tests, made by BIND's tools (`require!(Bind)`) or by Knot, so that their
//! signatures and proofs owe nothing to our own code.

use std::{fs, io::Write, path::Path, process::Command, process::Stdio, time::Duration};

use super::{
    dns::{self, Ask, wait_until},
    peers::{Kind, Peer, Setup, ZoneSetup},
    skip,
    transfer::transfer,
};

/// How long Knot may take to sign a zone.
const PATIENCE: Duration = Duration::from_secs(30);

/// How names that do not exist are denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// RFC 4034.
    Nsec,
    /// RFC 5155, without salt and extra iterations (RFC 9276).
    Nsec3,
    /// RFC 5155 with the opt-out flag: unsigned delegations have no record of their own.
    Nsec3OptOut,
}

/// A signed zone.
pub struct Signed {
    /// A zone file with a record on each line.
    pub text: String,
    /// The DS record of its key, as a trust anchor.
    pub anchor: String,
}

/// Signs a zone file with a new key (ECDSA P-256, one for all); signatures hold for 30 days.
#[track_caller]
pub fn sign(zone: &str, text: &str, denial: Denial) -> Signed {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("zone"), text).expect("a zone file");
    run(dir.path(), "dnssec-keygen", &["-a", "ECDSAP256SHA256", "-f", "KSK", zone]);
    let denial: &[&str] = match denial {
        Denial::Nsec => &[],
        Denial::Nsec3 => &["-3", "-", "-H", "0"],
        Denial::Nsec3OptOut => &["-3", "-", "-H", "0", "-A"],
    };
    // -S takes the key that lies there, -z signs everything with it.
    let rest = ["-S", "-z", "-K", ".", "-O", "full", "-o", zone, "-f", "signed", "zone"];
    run(dir.path(), "dnssec-signzone", &[denial, &rest].concat());
    let anchors = format!("dsset-{zone}");
    Signed {
        text: fs::read_to_string(dir.path().join("signed")).expect("dnssec-signzone wrote it"),
        anchor: fs::read_to_string(dir.path().join(anchors)).expect("and this").trim().to_owned(),
    }
}

/// Has Knot sign its zones from now on, by a policy of these lines.
pub fn knot_signs(peer: &mut Peer, policy: &str) {
    let path = peer.dir().join("knot.conf");
    let config = fs::read_to_string(&path).expect("it was written");
    let signing = "  - id: default\n    dnssec-signing: on\n    dnssec-policy: test\n";
    let config = config.replace("  - id: default\n", signing);
    let policy = format!("policy:\n  - id: test\n{policy}template:\n");
    fs::write(&path, config.replace("template:\n", &policy)).expect("it is ours");
    peer.restart();
}

/// Signs a zone file as [`sign`] does, but by Knot (`require!(Knot, Bind)`): with a key for keys
/// and one for all else, and with a salt.
#[track_caller]
pub fn sign_by_knot(zone: &str, text: &str, denial: Denial) -> Signed {
    let mut peer = Peer::knot(&Setup::of([ZoneSetup::primary(zone, text)]));
    let policy = match denial {
        Denial::Nsec => "    nsec3: off\n",
        Denial::Nsec3 => "    nsec3: on\n    nsec3-iterations: 1\n    nsec3-salt-length: 4\n",
        Denial::Nsec3OptOut => "    nsec3: on\n    nsec3-iterations: 0\n    nsec3-opt-out: on\n",
    };
    knot_signs(&mut peer, policy);
    let mut keys = Vec::new();
    let signed = wait_until(PATIENCE, || {
        keys =
            dns::udp(peer.addr(), &Ask::new(zone, "DNSKEY")).map_or_else(|_| vec![], |r| r.answer);
        !keys.is_empty()
    });
    assert!(signed, "{:?} signed nothing", Kind::Knot);
    keys.retain(|line| line.contains(" DNSKEY 257 "));
    let program = skip::program("dnssec-dsfromkey").expect("checked by require!");
    let mut child = Command::new(program)
        .args(["-2", "-f", "-", zone])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all((keys.join("\n") + "\n").as_bytes()).expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let anchor = String::from_utf8(output.stdout).expect("text").trim().to_owned();
    assert!(!anchor.is_empty(), "no DS record of {keys:?}");
    let records = transfer(peer.addr(), zone, None).expect("AXFR");
    Signed { text: records.join("\n") + "\n", anchor }
}

fn run(dir: &Path, program: &str, arguments: &[&str]) {
    let program = skip::program(program).expect("checked by require!");
    let output = Command::new(program).args(arguments).current_dir(dir).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", arguments.join(" "));
}
