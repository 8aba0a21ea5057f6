//! Our own server as its users run it: the real program, a configuration file, signals and the
//! commands of `backstop`. It takes the same [`Setup`] as a peer does.

use std::{
    fmt::Write,
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Output},
    thread,
};

use serde_json::Value;
use tempfile::TempDir;

use super::{
    dns::{self, Ask, TsigKey, wait_until},
    peers::{PATIENCE, Role, Setup, ZoneSetup, file_of, guarded::Guarded, replace},
    ports,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_backstop");

/// A Backstop with a state directory of its own, which dies with this.
pub struct Backstop {
    addr: SocketAddr,
    // Before `dir`, as with `Peer`.
    process: Option<Guarded>,
    dir: TempDir,
}

impl Backstop {
    /// Starts it and waits until it answers, with authority for the zones from files.
    #[track_caller]
    pub fn start(setup: &Setup) -> Self {
        Self::start_with(setup, "")
    }

    /// As [`start`](Self::start), with these lines of zone settings for all zones.
    #[track_caller]
    pub fn start_with(setup: &Setup, settings: &str) -> Self {
        let addr = setup.listen.unwrap_or_else(ports::free);
        let dir = tempfile::Builder::new().prefix("backstop-").tempdir().expect("a folder");
        let mut backstop = Self { addr, process: None, dir };
        backstop.configure(setup, settings);
        backstop.launch();
        for zone in &setup.zones {
            if matches!(zone.role, Role::Primary(_)) {
                let loaded = wait_until(PATIENCE, || dns::serial(addr, &zone.name).is_some());
                assert!(loaded, "no {} from its file:\n{}", zone.name, backstop.log());
            }
        }
        backstop
    }

    fn configure(&self, setup: &Setup, settings: &str) {
        for zone in &setup.zones {
            if let Role::Primary(text) = &zone.role {
                replace(&self.dir.path().join(zone.file()), text);
            }
        }
        let text = configuration(self.addr, setup, settings);
        fs::write(self.config(), text).expect("a configuration file");
    }

    fn config(&self) -> String {
        self.dir.path().join("backstop.toml").to_str().expect("ASCII").to_owned()
    }

    fn launch(&mut self) {
        let mut command = Command::new(PROGRAM);
        command.args(["serve", "--config", &self.config()]);
        self.process = Some(Guarded::spawn(command, &self.dir.path().join("log")));
        let ready = wait_until(PATIENCE, || {
            let process = self.process.as_mut().expect("just started");
            let running = process.is_running();
            assert!(running, "it ended at once:\n{}", self.log());
            dns::udp(self.addr, &Ask::new(".", "SOA")).is_ok()
        });
        assert!(ready, "it does not answer on {}:\n{}", self.addr, self.log());
    }

    /// UDP and TCP.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// All it has logged so far, over restarts.
    pub fn log(&self) -> String {
        fs::read(self.dir.path().join("log"))
            .map_or_else(|error| error.to_string(), |log| String::from_utf8_lossy(&log).into())
    }

    /// Runs `backstop` with these arguments against this server; what it says on its standard
    /// output. Panics if it fails.
    #[track_caller]
    pub fn command(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = Command::new(PROGRAM)
            .args(arguments)
            .args(["--config", &self.config()])
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&stderr);
        assert!(status.success(), "backstop {}: {said}", arguments.join(" "));
        String::from_utf8(stdout).expect("UTF-8")
    }

    /// The zone's status (`backstop status ZONE --json`).
    #[track_caller]
    pub fn status(&self, zone: &str) -> Value {
        let text = self.command(&["status", zone, "--json"]);
        let mut zones: Vec<Value> = serde_json::from_str(&text).expect("a JSON array");
        assert_eq!(zones.len(), 1, "{text}");
        zones.remove(0)
    }

    /// How the version served came: "AXFR", "IXFR", "file".
    #[track_caller]
    pub fn last_transfer(&self, zone: &str) -> String {
        let status = self.status(zone);
        let kind = status["last-transfer"]["kind"].as_str();
        kind.unwrap_or_else(|| panic!("no transfer: {status}\n{}", self.log())).to_owned()
    }

    #[track_caller]
    pub fn refresh(&self, zone: &str) {
        self.command(&["refresh", zone]);
    }

    #[track_caller]
    pub fn retransfer(&self, zone: &str) {
        self.command(&["retransfer", zone]);
    }

    /// Replaces the file of a zone and has it read.
    #[track_caller]
    pub fn update_zone(&self, zone: &str, text: &str) {
        let before = dns::serial(self.addr, zone);
        replace(&self.dir.path().join(file_of(zone)), text);
        self.refresh(zone);
        let served = wait_until(PATIENCE, || dns::serial(self.addr, zone) != before);
        assert!(served, "no new version of {zone} after {before:?}:\n{}", self.log());
    }

    /// Another configuration, on SIGHUP, on the same port; returns when it says it is applied.
    #[track_caller]
    pub fn reconfigure(&self, setup: &Setup, settings: &str) {
        let told = || self.log().matches("configuration applied").count();
        let before = told();
        self.configure(setup, settings);
        let process = self.process.as_ref().expect("it runs");
        assert!(process.signal("HUP"), "it is gone");
        assert!(wait_until(PATIENCE, || told() > before), "not applied:\n{}", self.log());
    }

    /// Ends it by SIGTERM; what it has on disk stays.
    pub fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.stop(PATIENCE);
        }
    }

    /// Ends it as a power cut would (SIGKILL).
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it, after stopping it if it runs, with the same state on the same port.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        self.launch();
    }
}

impl Drop for Backstop {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- log of Backstop on {} ---\n{}---", self.addr, self.log());
        }
    }
}

fn configuration(addr: SocketAddr, setup: &Setup, settings: &str) -> String {
    let mut text = format!(
        "[server]
listen = [\"{addr}\"]
workers = 1
state-dir = \"state\"
control = \"control.sock\"
"
    );
    for TsigKey { name, algorithm, secret } in setup.keys() {
        write!(
            text,
            "[[key]]
name = \"{name}\"
algorithm = \"{algorithm}\"
secret = \"{secret}\"
"
        )
        .expect("a string grows");
    }
    writeln!(text, "[template.default]\n{settings}").expect("a string grows");
    setup.zones.iter().for_each(|zone| zone_section(&mut text, zone));
    text
}

fn zone_section(text: &mut String, zone: &ZoneSetup) {
    let key = zone.key.as_ref().map(|key| format!(", key = \"{}\"", key.name)).unwrap_or_default();
    let server = |addr: &SocketAddr| format!("{{ address = \"{addr}\"{key} }}");
    writeln!(text, "[[zone]]\nname = \"{}\"", zone.name).expect("a string grows");
    match &zone.role {
        Role::Primary(_) => writeln!(text, "file = \"{}\"", zone.file()),
        Role::Secondary(of) => writeln!(text, "primaries = [{}]", server(of)),
    }
    .expect("a string grows");
    if zone.allow_transfer {
        let rules = ["127.0.0.0/8", "::1"].map(|from| format!("{{ from = \"{from}\"{key} }}"));
        writeln!(text, "allow-transfer = [{}]", rules.join(", ")).expect("a string grows");
    }
    if !zone.notify.is_empty() {
        let targets: Vec<_> = zone.notify.iter().map(server).collect();
        writeln!(text, "notify = [{}]", targets.join(", ")).expect("a string grows");
    }
}
