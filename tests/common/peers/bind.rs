//! BIND 9: `named -g` as whoever runs the test, told what to do by `rndc`.

use std::{fmt::Write, net::SocketAddr, process::Command};

use super::{Peer, Role, ZoneSetup, tool};
use crate::common::{dns::TsigKey, ports};

pub fn configure(peer: &Peer) {
    let dir = peer.dir().display();
    let (ip, port) = (peer.addr.ip(), peer.addr.port());
    let (v4, v6) = if ip.is_ipv4() { (ip.to_string(), "none") } else { ("none".into(), "::1") };
    let control = ports::free().port();
    let mut text = format!(
        "options {{
    directory \"{dir}\";
    pid-file none;
    session-keyfile none;
    listen-on port {port} {{ {v4}; }};
    listen-on-v6 port {port} {{ {v6}; }};
    recursion no;
    dnssec-validation no;
    empty-zones-enable no;
    minimal-responses no-auth-recursive;
    allow-query {{ any; }};
    notify explicit;
    notify-delay 0;
    startup-notify-rate 1000;
    serial-query-rate 1000;
    min-refresh-time 1;
    min-retry-time 1;
    ixfr-from-differences yes;
    max-ixfr-ratio unlimited;
    check-names primary ignore;
    check-names secondary ignore;
    check-integrity no;
}};
include \"{dir}/rndc.key\";
controls {{ inet 127.0.0.1 port {control} allow {{ 127.0.0.1; }} keys {{ \"rndc.\"; }}; }};
"
    );
    for key in peer.setup.keys() {
        text += &key_clause(key);
    }
    for zone in &peer.setup.zones {
        zone_clause(&mut text, zone);
    }
    let key = key_clause(&TsigKey::new("rndc."));
    peer.write("rndc.key", &key);
    let client = format!(
        "{key}options {{ default-key \"rndc.\"; default-server 127.0.0.1; default-port {control}; }};\n"
    );
    peer.write("rndc.conf", &client);
    peer.write("named.conf", &text);
}

fn key_clause(key: &TsigKey) -> String {
    let (name, algorithm, secret) = (&key.name, &key.algorithm, &key.secret);
    format!("key \"{name}\" {{ algorithm {algorithm}; secret \"{secret}\"; }};\n")
}

fn zone_clause(text: &mut String, zone: &ZoneSetup) {
    let key = zone.key.as_ref().map(|key| format!(" key \"{}\"", key.name)).unwrap_or_default();
    let server = |addr: &SocketAddr| format!("{} port {}{key};", addr.ip(), addr.port());
    let role = match &zone.role {
        Role::Primary(_) => "type primary;".to_owned(),
        Role::Secondary(of) => {
            let of = server(of);
            format!(
                "type secondary; masterfile-format text; primaries {{ {of} }};
    allow-notify {{ 127.0.0.0/8; ::1; }};"
            )
        }
    };
    let allowed = match (&zone.key, zone.allow_transfer) {
        (_, false) => "none;".to_owned(),
        (None, true) => "127.0.0.0/8; ::1;".to_owned(),
        (Some(_), true) => format!("{key};"),
    };
    let updates = zone.updates.iter().map(|key| match key {
        Some(key) => format!("key \"{}\"; ", key.name),
        None => "127.0.0.0/8; ::1; ".to_owned(),
    });
    // A zone that may be updated is dynamic.
    let updates = match updates.collect::<String>() {
        none if none.is_empty() => none,
        some => format!("allow-update {{ {some}}}; "),
    };
    let notify: String = zone.notify.iter().map(server).collect();
    write!(
        text,
        "zone \"{}\" {{ {role} file \"{}\";
    {updates}allow-transfer {{ {allowed} }}; also-notify {{ {notify} }};
}};
",
        zone.name,
        zone.file(),
    )
    .expect("a string grows");
}

pub fn command(peer: &Peer) -> Command {
    let mut command = tool("named");
    command.args(["-g", "-n", "1", "-c", &peer.path("named.conf")]);
    command
}

fn rndc(peer: &Peer, arguments: &[&str]) {
    let file = peer.path("rndc.conf");
    peer.control("rndc", &[&["-c", &file], arguments].concat());
}

pub fn reload(peer: &Peer, zone: &str) {
    rndc(peer, &["reload", zone]);
}

pub fn refresh(peer: &Peer, zone: &str) {
    rndc(peer, &["refresh", zone]);
}

pub fn retransfer(peer: &Peer, zone: &str) {
    rndc(peer, &["retransfer", zone]);
}

pub fn notify(peer: &Peer, zone: &str) {
    rndc(peer, &["notify", zone]);
}
