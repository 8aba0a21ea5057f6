//! The real program at the server's end of a cable, with AF_XDP.

use super::common::dns::{self, Ask, wait_until};
use super::common::netns::{End, Pair};
use super::common::peers::guarded::Guarded;
use super::common::skip;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
const PROGRAM: &str = env!("CARGO_BIN_EXE_backstop");
const ZONE: &str = "@ 60 SOA ns root 7 3600 600 86400 60\n@ 60 NS ns\nns 60 A 192.0.2.1\n";

/// A server that answers for `example.` at its end.
pub(crate) struct Server {
    process: Option<Guarded>,
    dir: TempDir,
    /// What is run in front of the program.
    pub(crate) wrapper: Vec<String>,
    /// More of `[server]`, for the next configuration.
    pub(crate) own: String,
}

impl Server {
    /// Configured and not yet started.
    pub(crate) fn new(listen: &[&str], more: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("backstop-xdp-").tempdir().unwrap();
        let own = "workers = 1".to_owned();
        let server = Self { process: None, dir, wrapper: Vec::new(), own };
        server.configure(listen, more);
        server
    }

    pub(crate) fn configure(&self, listen: &[&str], more: &str) {
        let text = format!(
            "[server]\nlisten = {listen:?}\n{}\nio = \"xdp\"\nstate-dir = \"state\"\n\
             control = \"control.sock\"\n[xdp]\nring = 256\n{more}\n\
             [[zone]]\nname = \"example\"\nfile = \"example.zone\"\nallow-notify = [{{ from = \"::/0\" }}, {{ from = \"0.0.0.0/0\" }}]\n",
            self.own
        );
        fs::write(self.dir.path().join("example.zone"), ZONE).unwrap();
        fs::write(self.config(), text).unwrap();
    }

    fn config(&self) -> String {
        self.dir.path().join("backstop.toml").to_str().unwrap().to_owned()
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Starts it; it may end by itself.
    pub(crate) fn launch(&mut self, pair: &Pair) {
        let mut words = self.wrapper.clone();
        words.push(PROGRAM.into());
        let mut command = pair.command(End::Server, &words[0]);
        command.args(&words[1..]).args(["serve", "--config", &self.config()]);
        self.process = Some(Guarded::spawn(command, &self.dir.path().join("log")));
    }

    /// Starts it and waits until AF_XDP serves, or says why it does not.
    #[track_caller]
    pub(crate) fn start(&mut self, pair: &Pair) {
        let before = self.count("AF_XDP serves");
        self.launch(pair);
        let served = wait_until(PATIENCE, || self.count("AF_XDP serves") > before);
        assert!(served, "AF_XDP does not serve:\n{}", self.log());
        self.wait_for("INFO serving");
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Guarded::is_running)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().pid()
    }

    pub(crate) fn signal(&self, name: &str) {
        assert!(self.process.as_ref().unwrap().signal(name), "it is gone");
    }

    pub(crate) fn stop(&mut self) {
        self.process.take().unwrap().stop(PATIENCE);
    }

    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    pub(crate) fn log(&self) -> String {
        let log = fs::read(self.dir.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    pub(crate) fn count(&self, line: &str) -> usize {
        self.log().matches(line).count()
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, line: &str) {
        let said = wait_until(PATIENCE, || self.log().contains(line));
        assert!(said, "it never says {line:?}:\n{}", self.log());
    }

    /// What `backstop status` prints, warnings after it.
    pub(crate) fn status(&self) -> String {
        let mut command = Command::new(PROGRAM);
        let output = command.args(["status", "--config", &self.config()]).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }

    /// Waits for a line of the status.
    #[track_caller]
    pub(crate) fn wait_status(&self, line: &str) {
        let said = wait_until(PATIENCE, || self.status().contains(line));
        assert!(said, "no {line:?} in\n{}\n{}", self.status(), self.log());
    }
}

/// Is AF_XDP to be had here? Loudly if not.
pub(crate) fn pair() -> Option<Pair> {
    let pair = Pair::up()?;
    let mut server = Server::new(&["198.18.0.1:53"], "");
    server.launch(&pair);
    wait_until(PATIENCE, || server.log().contains("AF_XDP") || !server.is_running());
    if server.log().contains("AF_XDP is not permitted") {
        skip::say("AF_XDP is not permitted here");
        return None;
    }
    Some(pair)
}

/// A client's socket at its end of the cable.
pub(crate) fn client(pair: &Pair, to: &str) -> UdpSocket {
    let to: SocketAddr = to.parse().unwrap();
    pair.inside(End::Client, || {
        let local = if to.is_ipv4() { End::Client.v4() } else { End::Client.v6() };
        let client = UdpSocket::bind(SocketAddr::new(local.parse().unwrap(), 0)).unwrap();
        client.connect(to).unwrap();
        client
    })
}

/// One question, and whether it was answered with the address.
pub(crate) fn is_answered(client: &UdpSocket, patience: Duration) -> bool {
    let query = b"\x12\x34\0\0\0\x01\0\0\0\0\0\0\x02ns\x07example\0\0\x01\0\x01";
    client.set_read_timeout(Some(patience)).unwrap();
    let mut reply = [0; 512];
    // An ICMP error of before is a failure like silence.
    client.send(query).is_ok()
        && client.recv(&mut reply).is_ok_and(|len| reply[..len].ends_with(&[192, 0, 2, 1]))
}

/// Asks until there is an answer.
#[track_caller]
pub(crate) fn wait_answer(client: &UdpSocket, server: &Server) {
    let answered = wait_until(PATIENCE, || is_answered(client, Duration::from_millis(300)));
    assert!(answered, "no answer:\n{}", server.log());
}

/// Over TCP, at the client's end.
pub(crate) fn is_answered_over_tcp(pair: &Pair, to: &str) -> bool {
    let to = to.parse().unwrap();
    pair.inside(End::Client, || dns::tcp(to, &Ask::new("ns.example.", "A")).is_ok())
}
