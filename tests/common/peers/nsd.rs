//! NSD: `nsd -d` as whoever runs the test, told what to do by `nsd-control` over a socket.

use std::{fmt::Write, process::Command};

use super::{Peer, Role, tool};

pub fn configure(peer: &Peer) {
    let dir = peer.dir().display();
    let mut text = format!(
        "server:
    ip-address: {}@{}
    server-count: 1
    username: \"\"
    chroot: \"\"
    zonesdir: \"{dir}\"
    database: \"\"
    pidfile: \"{dir}/nsd.pid\"
    xfrdfile: \"{dir}/xfrd.state\"
    zonelistfile: \"{dir}/zone.list\"
    xfrdir: \"{dir}\"
    cookie-secret-file: \"{dir}/cookies\"
    verbosity: 2
    xfrd-reload-timeout: 0
    rrl-ratelimit: 0
    minimal-responses: yes
remote-control:
    control-enable: yes
    control-interface: \"{dir}/nsd.sock\"
",
        peer.addr.ip(),
        peer.addr.port(),
    );
    for key in peer.setup.keys() {
        let (name, algorithm, secret) = (&key.name, &key.algorithm, &key.secret);
        writeln!(
            text,
            "key:\n    name: {name}\n    algorithm: {algorithm}\n    secret: \"{secret}\""
        )
        .expect("a string grows");
    }
    for zone in &peer.setup.zones {
        let key = zone.key.as_ref().map_or("NOKEY", |key| &key.name);
        writeln!(text, "zone:\n    name: {}\n    zonefile: {}", zone.name, zone.file())
            .expect("a string grows");
        text += "    store-ixfr: yes\n";
        match zone.role {
            Role::Primary(_) => text += "    create-ixfr: yes\n",
            Role::Secondary(of) => {
                let (ip, port) = (of.ip(), of.port());
                writeln!(text, "    request-xfr: {ip}@{port} {key}").expect("it grows");
                text += "    min-refresh-time: 1\n    min-retry-time: 1\n";
            }
        }
        for ip in ["127.0.0.0/8", "::1"] {
            writeln!(text, "    allow-notify: {ip} NOKEY").expect("it grows");
            if key != "NOKEY" {
                writeln!(text, "    allow-notify: {ip} {key}").expect("it grows");
            }
            if zone.allow_transfer {
                writeln!(text, "    provide-xfr: {ip} {key}").expect("it grows");
            }
        }
        for to in &zone.notify {
            writeln!(text, "    notify: {}@{} {key}", to.ip(), to.port()).expect("it grows");
        }
    }
    peer.write("nsd.conf", &text);
}

pub fn command(peer: &Peer) -> Command {
    let mut command = tool("nsd");
    command.args(["-d", "-c", &peer.path("nsd.conf")]);
    command
}

fn nsd_control(peer: &Peer, arguments: &[&str]) {
    let file = peer.path("nsd.conf");
    peer.control("nsd-control", &[&["-c", &file], arguments].concat());
}

pub fn reload(peer: &Peer, zone: &str) {
    nsd_control(peer, &["reload", zone]);
}

pub fn refresh(peer: &Peer, zone: &str) {
    nsd_control(peer, &["transfer", zone]);
}

pub fn retransfer(peer: &Peer, zone: &str) {
    nsd_control(peer, &["force_transfer", zone]);
}

pub fn notify(peer: &Peer, zone: &str) {
    nsd_control(peer, &["notify", zone]);
}
