//! Dynamic updates by `nsupdate`, through Backstop, to the primary and back.

use std::{
    io::Write,
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Stdio},
};

use super::{PATIENCE, zones};
use crate::common::{
    backstop::Backstop,
    dns::{self, Ask, TsigKey, wait_for_serial, wait_until},
    peers::{Kind, Peer, Setup, ZoneSetup},
    ports,
    skip::{self, require},
};

const LATER: u32 = 3600;

/// Where `nsupdate` is; without it the test is skipped.
fn nsupdate() -> Option<PathBuf> {
    let program = skip::program("nsupdate");
    if program.is_none() {
        skip::uninstalled("nsupdate is not installed (scripts/test installs it as root)");
    }
    program
}

/// Has a name with an address added to a zone; `Err`: what `nsupdate` says.
fn add(
    to: SocketAddr,
    name: &str,
    zone: &str,
    key: Option<&TsigKey>,
    tcp: bool,
) -> Result<(), String> {
    let mut command = Command::new(nsupdate().expect("it was looked for"));
    command.args(["-t", "30"]).args(tcp.then_some("-v"));
    if let Some(key) = key {
        command.args(["-y", &key.dig()]);
    }
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().expect("it runs");
    let script = format!(
        "server {} {}\nzone {zone}\nprereq nxdomain {name}\nupdate add {name} 60 A 192.0.2.77\nsend\n",
        to.ip(),
        to.port()
    );
    child.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if output.status.success() { Ok(()) } else { Err(said) }
}

fn has(server: SocketAddr, name: &str) -> bool {
    let ask = Ask::new(name, "A");
    dns::udp(server, &ask).is_ok_and(|reply| reply.answer.len() == 1)
}

/// Over UDP and TCP, unsigned and signed: by a key of ours, and one that is the primary's alone.
/// Nobody tells Backstop of the change: it asks by itself.
fn is_reached_through_backstop(kind: Kind) {
    if nsupdate().is_none() {
        return;
    }
    let (known, unknown) = (TsigKey::new("known.key."), TsigKey::new("unknown.key."));
    let ways =
        [("open.test.", None), ("ours.test.", Some(&known)), ("theirs.test.", Some(&unknown))];
    let zone = |(name, key): (&str, Option<&TsigKey>)| {
        ZoneSetup::primary(name, &zones::plain(name, 1, LATER)).update(key)
    };
    let peer = Peer::start(kind, &Setup::of(ways.map(zone)));
    let copies = ways.map(|(name, _)| ZoneSetup::secondary(name, peer.addr()));
    let settings = format!(
        "allow-update = [{{ from = \"127.0.0.0/8\" }}]\n[[key]]\nname = \"{}\"\nsecret = \"{}\"",
        known.name, known.secret
    );
    let backstop = Backstop::start_with(&Setup::of(copies), &settings);
    for (zone, key) in ways {
        wait_for_serial(backstop.addr(), zone, 1, PATIENCE);
        for tcp in [false, true] {
            let name = format!("by-{}.{zone}", if tcp { "tcp" } else { "udp" });
            assert_eq!(add(backstop.addr(), &name, zone, key, tcp), Ok(()), "{}", backstop.log());
            assert!(has(peer.addr(), &name), "the primary has no {name}:\n{}", peer.log());
            let came = wait_until(PATIENCE, || has(backstop.addr(), &name));
            assert!(came, "{name} does not come back:\n{}", backstop.log());
            assert_eq!(backstop.last_transfer(zone), "IXFR");
            // What the primary makes of it is what the client is told.
            let again =
                add(backstop.addr(), &name, zone, key, tcp).expect_err("it was carried out");
            assert!(again.contains("YXDOMAIN"), "{again}");
        }
        if key.is_some() {
            let refused = add(backstop.addr(), &format!("unsigned.{zone}"), zone, None, false);
            let refused = refused.expect_err("it was carried out");
            let by_primary = if kind == Kind::Knot { "NOTAUTH" } else { "REFUSED" };
            assert!(refused.contains(by_primary), "{refused}");
        }
    }
    let log = backstop.log();
    assert_eq!(log.matches("UPDATE forwarded zone=").count(), 6, "{log}");
}

each! { is_reached_through_backstop:
    bind_is_reached_by_updates_through_backstop(Bind),
    knot_is_reached_by_updates_through_backstop(Knot),
}

/// The list says who may, before the primary is asked; a signature by a key of ours must be right.
#[test]
fn updates_from_those_who_may_not_are_refused_and_the_primary_is_not_troubled() {
    require!(Bind);
    if nsupdate().is_none() {
        return;
    }
    let (zone, key) = ("strict.test.", TsigKey::new("client.key."));
    let primary = ZoneSetup::primary(zone, &zones::plain(zone, 1, LATER));
    let peer = Peer::bind(&Setup::of([primary.update(None).update(Some(&key))]));
    let copy = Setup::of([ZoneSetup::secondary(zone, peer.addr())]);
    let settings = format!(
        "allow-update = [{{ from = \"127.0.0.1\", key = \"{0}\" }}]\n\
         [[key]]\nname = \"{0}\"\nsecret = \"{1}\"",
        key.name, key.secret
    );
    let backstop = Backstop::start_with(&copy, &settings);
    wait_for_serial(backstop.addr(), zone, 1, PATIENCE);
    let told = |key: Option<&TsigKey>| {
        [false, true].map(|tcp| add(backstop.addr(), &format!("x.{zone}"), zone, key, tcp))
    };
    let wrong = TsigKey { secret: TsigKey::new("another.").secret, ..key.clone() };
    let stranger = TsigKey::new("stranger.key.");
    for (key, says) in [(None, "REFUSED"), (Some(&wrong), "BADSIG"), (Some(&stranger), "BADKEY")] {
        for told in told(key) {
            let told = told.expect_err("it was carried out");
            assert!(told.contains(says), "{told}");
        }
    }
    let elsewhere = add(backstop.addr(), "x.elsewhere.test.", "elsewhere.test.", None, true);
    assert!(elsewhere.expect_err("it was carried out").contains("NOTAUTH"));
    assert_eq!(dns::serial(peer.addr(), zone), Some(1), "{}", peer.log());
    assert_eq!(add(backstop.addr(), &format!("x.{zone}"), zone, Some(&key), false), Ok(()));
    assert!(has(peer.addr(), &format!("x.{zone}")));
}

/// A chain of two, and a first primary that is not there.
#[test]
fn an_update_passes_along_a_chain_and_by_a_primary_that_is_down() {
    require!(Knot);
    if nsupdate().is_none() {
        return;
    }
    let (zone, key) = ("chain.test.", TsigKey::new("client.key."));
    let text = zones::plain(zone, 1, LATER);
    let mut peer = Peer::knot(&Setup::of([ZoneSetup::primary(zone, &text).update(Some(&key))]));
    let open = "allow-update = [{ from = \"127.0.0.0/8\" }]";
    let copy = |of| Setup::of([ZoneSetup::secondary(zone, of)]);
    let first = Backstop::start_with(&copy(peer.addr()), open);
    let mut last = Backstop::start_with(&copy(first.addr()), open);
    wait_for_serial(last.addr(), zone, 1, PATIENCE);
    let name = format!("far.{zone}");
    assert_eq!(add(last.addr(), &name, zone, Some(&key), false), Ok(()), "{}", last.log());
    assert!(has(peer.addr(), &name));
    let closed = ports::free();
    let config = last.dir().join("backstop.toml");
    let before = std::fs::read_to_string(&config).expect("its configuration");
    let one = format!("{{ address = \"{}\" }}", first.addr());
    let two = before.replace(&one, &format!("{{ address = \"{closed}\" }}, {one}"));
    assert_ne!(before, two);
    std::fs::write(&config, two).expect("its configuration");
    last.restart();
    let name = format!("further.{zone}");
    assert_eq!(add(last.addr(), &name, zone, Some(&key), true), Ok(()), "{}", last.log());
    assert!(has(peer.addr(), &name));
    // The primary goes: whoever asks is told that it failed, and at once.
    peer.kill();
    let failed = add(last.addr(), &format!("late.{zone}"), zone, None, true)
        .expect_err("it was carried out");
    assert!(failed.contains("SERVFAIL"), "{failed}");
    let log = first.log();
    assert!(log.contains("UPDATE: no primary has taken it") && log.contains("refused"), "{log}");
}
