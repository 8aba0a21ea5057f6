//! What the server may do, what it needs, and what it says where that is too little.

use super::common::dns::wait_until;
use super::common::skip;
use super::server::{PATIENCE, Server, client, pair, wait_answer};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

const LISTEN: &str = "198.18.0.1:53";
const NOBODY: &str = "65534";

/// Runs it as nobody, with these capabilities and no more.
fn as_nobody(server: &mut Server, capabilities: &[&str]) {
    let all = capabilities.iter().map(|name| format!("+{name}"));
    let set: Vec<_> = ["-all".to_owned()].into_iter().chain(all).collect();
    let set = set.join(",");
    let ids = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".into()];
    let sets = [format!("--inh-caps={set}"), format!("--ambient-caps={set}")];
    let bound = format!("--bounding-set={set}");
    server.wrapper = ["setpriv".to_owned()].into_iter().chain(ids).chain(sets).collect();
    server.wrapper.push(bound);
    let own = Command::new("chown").args(["-R", NOBODY]).arg(server.path()).status().unwrap();
    assert!(own.success());
    fs::set_permissions(server.path(), fs::Permissions::from_mode(0o700)).unwrap();
}

fn effective(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

const BIND: u64 = 1 << 10;
const ADMIN: u64 = 1 << 12;
const RAW: u64 = 1 << 13;
const LOCK: u64 = 1 << 14;
const BPF: u64 = 1 << 39;

#[test]
fn as_root_it_keeps_what_it_needs_and_nothing_else() {
    let Some(pair) = pair() else { return };
    let mut server = Server::new(&[LISTEN], "");
    server.start(&pair);
    wait_answer(&client(&pair, LISTEN), &server);
    let kept = effective(&server);
    // Locking memory stands in for a limit that may not be lifted.
    assert_eq!(kept & !LOCK, BIND | ADMIN | RAW | BPF, "{kept:x}");
}

#[test]
fn as_nobody_it_serves_with_four_capabilities_and_says_which_are_missing() {
    let Some(pair) = pair() else { return };
    if skip::program("setpriv").is_none() {
        skip::say("setpriv is not installed");
        return;
    }
    let mut server = Server::new(&[LISTEN], "");
    as_nobody(&mut server, &["net_bind_service", "net_admin", "net_raw", "bpf"]);
    server.start(&pair);
    wait_answer(&client(&pair, LISTEN), &server);
    assert_eq!(effective(&server), BIND | ADMIN | RAW | BPF);
    server.stop();

    for missing in ["net_admin", "net_raw", "bpf"] {
        let mut server = Server::new(&[LISTEN], "");
        let mut given = vec!["net_bind_service", "net_admin", "net_raw", "bpf"];
        given.retain(|name| *name != missing);
        as_nobody(&mut server, &given);
        server.launch(&pair);
        let ended = wait_until(PATIENCE, || !server.is_running());
        assert!(ended, "without {missing}:\n{}", server.log());
        server.wait_for("it needs CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF");
    }

    let mut server = Server::new(&[LISTEN], "");
    as_nobody(&mut server, &["net_bind_service", "net_admin", "net_raw", "bpf"]);
    let limited = ["prlimit".to_owned(), "--memlock=65536".into()];
    server.wrapper = limited.into_iter().chain(server.wrapper.clone()).collect();
    server.launch(&pair);
    let ended = wait_until(PATIENCE, || !server.is_running());
    assert!(ended, "without locked memory:\n{}", server.log());
    server.wait_for("AF_XDP needs 1024 KiB of locked memory for each of the 1 queues of cable");
}
