//! PowerDNS: `pdns_server` with the bind backend (zone files; keys and metadata in SQLite),
//! told what to do by `pdns_control`. It never answers IXFR with differences.

use std::{fmt::Write, process::Command};

use super::{Peer, Role, output, tool};

pub fn configure(peer: &Peer) {
    let dir = peer.dir().display();
    let (ip, port) = (peer.addr.ip(), peer.addr.port());
    let text = format!(
        "launch=bind
local-address={ip}
local-port={port}
daemon=no
guardian=no
socket-dir={dir}
bind-config={dir}/zones.conf
bind-dnssec-db={dir}/dnssec.db
bind-check-interval=0
primary=yes
secondary=yes
disable-axfr=no
dname-processing=yes
allow-axfr-ips=
allow-notify-from=127.0.0.0/8,::1
xfr-cycle-interval=1
only-notify=
cache-ttl=0
query-cache-ttl=0
negquery-cache-ttl=0
zone-cache-refresh-interval=0
zone-metadata-cache-ttl=0
receiver-threads=1
distributor-threads=1
loglevel=6
log-timestamp=no
version-string=anonymous
"
    );
    peer.write("pdns.conf", &text);
    let mut zones = format!("options {{ directory \"{dir}\"; }};\n");
    for zone in &peer.setup.zones {
        let role = match zone.role {
            Role::Primary(_) => "type master;".to_owned(),
            Role::Secondary(of) => format!("type slave; masters {{ {of}; }};"),
        };
        let (name, file) = (zone.name.trim_end_matches('.'), peer.path(&zone.file()));
        writeln!(zones, "zone \"{name}\" {{ {role} file \"{file}\"; }};").expect("it grows");
    }
    peer.write("zones.conf", &zones);
    metadata(peer);
}

/// Keys, access and whom to notify live beside the zone files, in the backend's SQLite file.
fn metadata(peer: &Peer) {
    pdnsutil(peer, &["create-bind-db", &peer.path("dnssec.db")]);
    for key in peer.setup.keys() {
        pdnsutil(peer, &["import-tsig-key", &key.name, &key.algorithm, &key.secret]);
    }
    for zone in &peer.setup.zones {
        let name = zone.name.as_str();
        match (&zone.key, zone.allow_transfer) {
            (Some(key), true) => pdnsutil(peer, &["activate-tsig-key", name, &key.name, "primary"]),
            (None, true) => {
                pdnsutil(peer, &["set-meta", name, "ALLOW-AXFR-FROM", "127.0.0.0/8", "::1/128"]);
            }
            (_, false) => {}
        }
        if let (Some(key), Role::Secondary(_)) = (&zone.key, &zone.role) {
            pdnsutil(peer, &["activate-tsig-key", name, &key.name, "secondary"]);
        }
        if !zone.notify.is_empty() {
            let whom: Vec<_> = zone.notify.iter().map(ToString::to_string).collect();
            let whom: Vec<_> = whom.iter().map(String::as_str).collect();
            pdnsutil(peer, &[&["set-meta", name, "ALSO-NOTIFY"], &whom[..]].concat());
        }
    }
}

#[track_caller]
fn pdnsutil(peer: &Peer, arguments: &[&str]) {
    let dir = format!("--config-dir={}", peer.dir().display());
    output("pdnsutil", &[&[dir.as_str()], arguments].concat()).expect("pdnsutil");
}

pub fn command(peer: &Peer) -> Command {
    let mut command = tool("pdns_server");
    command.arg(format!("--config-dir={}", peer.dir().display()));
    command
}

fn pdns_control(peer: &Peer, arguments: &[&str]) {
    let dir = format!("--config-dir={}", peer.dir().display());
    let socket = format!("--socket-dir={}", peer.dir().display());
    peer.control("pdns_control", &[&[dir.as_str(), &socket], arguments].concat());
}

pub fn reload(peer: &Peer, zone: &str) {
    pdns_control(peer, &["bind-reload-now", zone]);
    pdns_control(peer, &["purge", &format!("{zone}$")]);
    if peer.setup.zones.iter().any(|known| known.name == zone && !known.notify.is_empty()) {
        notify(peer, zone);
    }
}

pub fn retransfer(peer: &Peer, zone: &str) {
    pdns_control(peer, &["retrieve", zone]);
}

pub fn notify(peer: &Peer, zone: &str) {
    pdns_control(peer, &["notify", zone]);
}
