//! `scripts/load-test` against a real server.
mod common;

use std::{
    path::Path,
    process::{Command, Output},
};

use common::{
    peers::{Peer, Setup, ZoneSetup},
    skip::{self, require},
};

const ZONE: &str = "$ORIGIN load.test.
$TTL 300
@ SOA ns1 hostmaster 1 3600 900 604800 60
@ NS ns1
ns1 A 127.0.0.1
www A 192.0.2.1
www AAAA 2001:db8::1
";

fn load_test(arguments: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/load-test");
    Command::new(script).args(arguments).output().expect("bash")
}

#[test]
fn it_loads_a_running_server_and_says_what_came_of_it() {
    require!(Knot);
    if skip::program("dnsperf").is_none() {
        return skip::uninstalled("dnsperf is not installed (scripts/test installs it as root)");
    }
    let peer = Peer::knot(&Setup::of([ZoneSetup::primary("load.test.", ZONE)]));
    let (server, pid) = (peer.addr().to_string(), peer.pid().expect("it runs").to_string());
    let output = load_test(&[
        "--server",
        &server,
        "--zone",
        "load.test",
        "--seconds",
        "1",
        "--rate",
        "2000",
        "--nxdomain",
        "40",
        "--pid",
        &pid,
    ]);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    for part in ["5 questions", "Queries per second:", "NXDOMAIN", "p99.9", "us a reply"] {
        assert!(said.contains(part), "no {part:?} in:\n{said}");
    }
}

#[test]
fn it_refuses_a_server_that_is_not_known_to_be_ours() {
    for server in ["192.0.2.1", "198.20.0.1:53", "[2001:db8::1]:53", "1.127.0.0"] {
        let output = load_test(&["--server", server, "--zone", "load.test", "--seconds", "1"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{server}");
        assert!(said.contains("is not ours to load"), "{server}: {said}");
    }
}
