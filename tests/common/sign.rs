//! Signed zones for the tests, made by BIND's tools (`require!(Bind)`), so that their signatures
//! and proofs owe nothing to our own code.

use std::{fs, path::Path, process::Command};

use super::skip;

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

fn run(dir: &Path, program: &str, arguments: &[&str]) {
    let program = skip::program(program).expect("checked by require!");
    let output = Command::new(program).args(arguments).current_dir(dir).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", arguments.join(" "));
}
