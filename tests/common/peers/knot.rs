//! Knot DNS: `knotd` in the foreground, told what to do by `knotc`.

use std::{fmt::Write, net::SocketAddr, process::Command};

use super::{Peer, Role, tool};

pub fn configure(peer: &Peer) {
    let dir = peer.dir().display();
    let mut text = format!(
        "server:
    listen: {}@{}
    rundir: {dir}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 2
log:
  - target: stderr
    any: info
control:
    listen: {dir}/knot.sock
database:
    storage: {dir}
",
        peer.addr.ip(),
        peer.addr.port(),
    );
    let keys = peer.setup.keys();
    for (n, key) in keys.iter().enumerate() {
        text += if n == 0 { "key:\n" } else { "" };
        let (id, algorithm, secret) = (&key.name, &key.algorithm, &key.secret);
        writeln!(text, "  - id: {id}\n    algorithm: {algorithm}\n    secret: {secret}")
            .expect("a string grows");
    }
    remotes_and_access(peer, &mut text);
    text += "template:
  - id: default
    zonefile-sync: -1
    zonefile-load: difference
    journal-content: changes
    semantic-checks: off
zone:
";
    for (n, zone) in peer.setup.zones.iter().enumerate() {
        writeln!(text, "  - domain: {}\n    file: {}", zone.name, peer.path(&zone.file()))
            .expect("a string grows");
        // With a zone file that does not exist, a secondary keeps its zone in the journal.
        if let Role::Secondary(_) = zone.role {
            writeln!(text, "    master: primary{n}\n    zonefile-load: none").expect("it grows");
            text += "    journal-content: all\n";
        }
        let notify: Vec<_> = (0..zone.notify.len()).map(|i| format!("notify{n}-{i}")).collect();
        if !notify.is_empty() {
            writeln!(text, "    notify: [{}]", notify.join(", ")).expect("a string grows");
        }
        let updates = (0..zone.updates.len()).map(|i| format!(", update{i}-{n}"));
        let updates: String = updates.collect();
        writeln!(text, "    acl: [access{n}, notify{n}, unsigned{n}{updates}]").expect("it grows");
    }
    peer.write("knot.conf", &text);
}

fn remotes_and_access(peer: &Peer, text: &mut String) {
    let (mut remotes, mut access) = (String::from("remote:\n"), String::from("acl:\n"));
    for (n, zone) in peer.setup.zones.iter().enumerate() {
        let key = zone.key.as_ref().map_or_else(String::new, |k| format!("    key: {}\n", k.name));
        let mut remote = |id: String, addr: SocketAddr| {
            let (ip, port) = (addr.ip(), addr.port());
            write!(remotes, "  - id: {id}\n    address: {ip}@{port}\n{key}").expect("it grows");
        };
        if let Role::Secondary(of) = zone.role {
            remote(format!("primary{n}"), of);
        }
        zone.notify.iter().enumerate().for_each(|(i, &to)| remote(format!("notify{n}-{i}"), to));
        let deny = if zone.allow_transfer { "" } else { "    deny: on\n" };
        let mut allow = |id: &str, action: &str, terms: &str| {
            let from = "    address: [127.0.0.0/8, \"::1\"]";
            writeln!(access, "  - id: {id}{n}\n{from}\n    action: {action}").expect("it grows");
            access += terms;
        };
        allow("access", "transfer", &format!("{key}{deny}"));
        allow("notify", "notify", &key);
        allow("unsigned", "notify", "");
        for (i, key) in zone.updates.iter().enumerate() {
            let key = key.as_ref().map(|key| format!("    key: {}\n", key.name));
            allow(&format!("update{i}-"), "update", &key.unwrap_or_default());
        }
    }
    let is_empty = remotes.lines().count() == 1;
    *text += if is_empty { "" } else { &remotes };
    *text += &access;
}

pub fn command(peer: &Peer) -> Command {
    let mut command = tool("knotd");
    command.args(["-c", &peer.path("knot.conf")]);
    command
}

fn knotc(peer: &Peer, arguments: &[&str]) {
    let socket = peer.path("knot.sock");
    peer.control("knotc", &[&["-s", &socket], arguments].concat());
}

pub fn reload(peer: &Peer, zone: &str) {
    knotc(peer, &["zone-reload", zone]);
}

pub fn refresh(peer: &Peer, zone: &str) {
    knotc(peer, &["zone-refresh", zone]);
}

pub fn retransfer(peer: &Peer, zone: &str) {
    knotc(peer, &["zone-retransfer", zone]);
}

pub fn notify(peer: &Peer, zone: &str) {
    knotc(peer, &["zone-notify", zone]);
}
