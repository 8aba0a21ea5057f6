//! `[cookies]` and `[rate-limit]` from the configuration to the wire, seen with dig and kdig.
#![allow(clippy::unwrap_used)]
#![allow(unused_imports, reason = "of `common`, a part is used")]
mod common;

use std::{fs, net::UdpSocket, path::Path, process::Command, time::Duration};

use backstop::{config::Config, name::NameBuf, server::Server};
use common::{dns::wait_until, skip};
use tempfile::TempDir;

const ZONE: &str = "$ORIGIN guard.test.
$TTL 300
@ SOA ns1 hostmaster 1 3600 900 604800 60
@ NS ns1
ns1 A 192.0.2.1
";

const SECRETS: [&str; 2] = ["000102030405060708090a0b0c0d0e0f", "ffeeddccbbaa99887766554433221100"];

/// A server of `guard.test.`, and the folder of its configuration.
struct Guarded {
    folder: TempDir,
    server: Server,
}

impl Guarded {
    fn start(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("zone"), ZONE).unwrap();
        let config = configuration(folder.path(), settings);
        let server = Server::start(config, Box::new(|| Err("not here".into()))).unwrap();
        let apex: NameBuf = "guard.test".parse().unwrap();
        let is_loaded = || {
            let view = server.views().load();
            view.zone(apex.as_name()).is_some_and(|served| served.zone.is_some())
        };
        assert!(wait_until(Duration::from_secs(20), is_loaded), "the zone is not served");
        Self { folder, server }
    }

    /// As SIGHUP does it, once what is published shows it.
    fn reload(&mut self, settings: &str) {
        let before = self.server.views().load().identity.clone();
        self.server.configure(configuration(self.folder.path(), settings)).unwrap();
        let is_new = || !std::sync::Arc::ptr_eq(&before, &self.server.views().load().identity);
        assert!(wait_until(Duration::from_secs(20), is_new), "not published");
    }

    fn secrets(&self, secrets: &[&str]) {
        write_secrets(self.folder.path(), secrets);
    }

    /// What a program says when it asks for the address of `ns1.guard.test.`
    fn asked(&self, program: &str, options: &[&str]) -> String {
        let address = self.server.addresses()[0];
        let (at, port) = (format!("@{}", address.ip()), address.port().to_string());
        let mut command = Command::new(skip::program(program).unwrap());
        command.args([at.as_str(), "-p", &port, "ns1.guard.test.", "A"]).args(options);
        let output = command.output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    fn dig(&self, options: &[&str]) -> String {
        self.asked("dig", options)
    }
}

fn write_secrets(folder: &Path, secrets: &[&str]) {
    use std::os::unix::fs::PermissionsExt;
    let file = folder.join("cookies");
    fs::write(&file, secrets.join("\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
}

fn configuration(folder: &Path, settings: &str) -> Config {
    let file = folder.join("backstop.toml");
    if !folder.join("cookies").exists() {
        write_secrets(folder, &SECRETS[..1]);
    }
    let text = format!(
        "[server]\nlisten = ['127.0.0.1:0']\nworkers = 1\nstate-dir = 'state'\n\
         control = 'control.sock'\n[[zone]]\nname = 'guard.test'\nfile = 'zone'\n{settings}"
    );
    fs::write(&file, text).unwrap();
    let (config, warnings) = Config::load(&file).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    config
}

/// `false`, and said so, unless all these programs are there.
fn are_here(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| skip::program(program).is_none());
    if let Some(program) = missing {
        skip::uninstalled(&format!("{program} is not installed (scripts/test installs it)"));
    }
    missing.is_none()
}

/// The cookie that dig was given, the client's half first, in hexadecimal digits.
fn cookie(said: &str) -> String {
    let line = said.lines().find_map(|line| line.strip_prefix("; COOKIE: "));
    let line = line.unwrap_or_else(|| panic!("no cookie in:\n{said}"));
    line.split(' ').next().unwrap().to_owned()
}

#[test]
fn cookies_are_given_by_default_and_can_be_turned_off() {
    if !are_here(&["dig", "kdig"]) {
        return;
    }
    let mut guarded = Guarded::start("");
    let said = guarded.dig(&["+cookie"]);
    assert!(said.contains("(good)") && said.contains("192.0.2.1"), "{said}");
    let before = cookie(&guarded.dig(&["+cookie=0102030405060708"]));
    assert_eq!(before.len(), 48, "8 octets of the client's, 16 of ours");
    let said = guarded.asked("kdig", &["+cookie"]);
    assert!(said.contains("COOKIE") && said.contains("192.0.2.1"), "{said}");

    // The random secret outlives a new configuration: with `require`, only ours is answered.
    guarded.reload("[cookies]\nrequire = true\n");
    let (old, none) = (format!("+cookie={before}"), "+cookie=0102030405060708");
    assert!(guarded.dig(&[&old, "+nobadcookie"]).contains("status: NOERROR"));
    assert!(guarded.dig(&[none, "+nobadcookie"]).contains("status: BADCOOKIE"));
    for program in ["dig", "kdig"] {
        let said = guarded.asked(program, &["+cookie", "+badcookie"]);
        assert!(said.contains("192.0.2.1"), "{program} asks again, with our cookie: {said}");
    }
    guarded.reload("[cookies]\nenabled = false\n");
    let said = guarded.dig(&["+cookie"]);
    assert!(!said.contains("COOKIE: ") && said.contains("192.0.2.1"), "{said}");
    guarded.server.stop();
}

#[test]
fn secrets_are_shared_by_a_file_and_changed_without_a_client_noticing() {
    if !are_here(&["dig"]) {
        return;
    }
    let settings = "[cookies]\nrequire = true\nsecret-file = 'cookies'\n";
    let (mut one, other) = (Guarded::start(settings), Guarded::start(settings));
    let given = |server: &Guarded| cookie(&server.dig(&["+cookie=0102030405060708"]));
    let takes = |server: &Guarded, cookie: &str| {
        let said = server.dig(&[&format!("+cookie={cookie}"), "+nobadcookie"]);
        assert!(said.contains("NOERROR") || said.contains("BADCOOKIE"), "{said}");
        said.contains("NOERROR")
    };
    let old = given(&one);
    assert!(takes(&one, &old) && takes(&other, &old), "what one gave, the other takes");

    one.secrets(&[SECRETS[1], SECRETS[0]]);
    one.reload(settings);
    let new = given(&one);
    assert!(takes(&one, &old) && takes(&one, &new));
    assert!(takes(&other, &old) && !takes(&other, &new), "it has the old secret alone");

    one.secrets(&[SECRETS[1]]);
    one.reload(settings);
    assert!(!takes(&one, &old) && takes(&one, &new));
    one.server.stop();
    other.server.stop();
}

#[test]
fn a_flood_is_limited_and_a_real_client_still_gets_its_answer() {
    if !are_here(&["dig"]) {
        return;
    }
    let guarded = Guarded::start(
        "[rate-limit]\nresponses-per-second = 1\nwindow = '10s'\nslip = 1\nipv4-prefix = 8\n",
    );
    let flood = UdpSocket::bind("127.0.0.1:0").unwrap();
    flood.connect(guarded.server.addresses()[0]).unwrap();
    flood.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let question = b"\x12\x34\0\0\0\x01\0\0\0\0\0\0\x03ns1\x05guard\x04test\0\0\x01\0\x01";
    let mut truncated = 0;
    for _ in 0..200 {
        let mut reply = [0; 512];
        flood.send(question).unwrap();
        let len = flood.recv(&mut reply).unwrap();
        assert_eq!(reply[3] & 0xf, 0, "NOERROR");
        let is_truncated = reply[2] & 2 != 0;
        assert_eq!(len > question.len(), !is_truncated, "an answer, or nothing but the question");
        truncated += u32::from(is_truncated);
    }
    assert!(truncated >= 100, "{truncated} of 200");
    let said = guarded.dig(&["+nocookie"]);
    assert!(said.contains("retrying in TCP") && said.contains("192.0.2.1"), "{said}");
    let fresh = cookie(&guarded.dig(&["+cookie", "+tcp"]));
    let said = guarded.dig(&[&format!("+cookie={fresh}"), "+ignore"]);
    assert!(said.contains("192.0.2.1") && !said.contains("flags: qr aa tc"), "{said}");
    guarded.server.stop();
}
