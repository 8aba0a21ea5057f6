//! Our real binary, started in a folder of its own and gone with it.

use crate::common::dns::wait_until;
use backstop::control::{Client, Request};
use backstop::replica::ZoneStatus;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub struct Secondary {
    pub address: SocketAddr,
    metrics: SocketAddr,
    folder: TempDir,
    listen: String,
    child: Option<Child>,
    log: Arc<Mutex<Vec<String>>>,
    /// For the process that is started next.
    pub environment: Vec<(String, String)>,
}

impl Secondary {
    /// Starts it on a free port of 127.0.0.1. `zones` is all of the configuration but `[server]`.
    pub fn start(zones: &str) -> Self {
        let address = crate::common::ports::free();
        let mut secondary = Self::stopped(address, &[address]);
        secondary.configure(zones);
        secondary.run();
        secondary
    }

    /// One that is not started. It is talked to at `address`.
    pub fn stopped(address: SocketAddr, listen: &[SocketAddr]) -> Self {
        let mut secondary = Self {
            address,
            metrics: crate::common::ports::free(),
            folder: TempDir::with_prefix("backstop-").unwrap(),
            listen: String::new(),
            child: None,
            log: Arc::default(),
            environment: Vec::new(),
        };
        secondary.listen_on(listen);
        secondary
    }

    /// What the next configuration listens on.
    pub fn listen_on(&mut self, listen: &[SocketAddr]) {
        self.listen = format!("{:?}", listen.iter().map(SocketAddr::to_string).collect::<Vec<_>>());
    }

    /// Writes the configuration.
    pub fn configure(&self, zones: &str) {
        let text = format!(
            "[server]\nlisten = {}\nworkers = 1\nstate-dir = \"state\"\n\
             metrics = \"{}\"\n[transfer]\nstall-timeout = \"2s\"\nconnect-timeout = \"2s\"\n{zones}",
            self.listen, self.metrics
        );
        fs::write(self.config(), text).unwrap();
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("backstop.toml")
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Starts the process and waits until it serves.
    pub fn run(&mut self) {
        self.launch();
        let mut ended = None;
        let came = wait_until(super::DEADLINE, || {
            ended = self.child.as_mut().unwrap().try_wait().unwrap();
            ended.is_some() || self.try_status(None).is_some()
        });
        assert!(came && ended.is_none(), "it should serve:\n{}", self.log().join("\n"));
    }

    /// Starts the process, whatever becomes of it.
    pub fn launch(&mut self) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_backstop"))
            .args(["serve", "--config"])
            .arg(self.config())
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, log) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&self.log));
        thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                log.lock().unwrap().push(line);
            }
        });
        self.child = Some(child);
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            child.wait().unwrap();
        }
    }

    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.pid().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// Waits for the process to end.
    pub fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let mut status = None;
        wait_until(super::DEADLINE, || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        if status.is_none() {
            child.kill().unwrap();
        }
        status.expect("it should end")
    }

    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Waits for a line of the log with all these words.
    #[track_caller]
    pub fn wait_log(&self, words: &[&str]) -> String {
        let mut found = None;
        wait_until(super::DEADLINE, || {
            let log = self.log.lock().unwrap();
            found = log.iter().find(|line| words.iter().all(|word| line.contains(word))).cloned();
            found.is_some()
        });
        found.unwrap_or_else(|| panic!("no line has {words:?}:\n{}", self.log().join("\n")))
    }

    pub fn client(&self) -> Client {
        Client::new(&self.state().join("control.sock"))
    }

    fn try_status(&self, zone: Option<&str>) -> Option<Vec<ZoneStatus>> {
        Some(self.client().status(zone).ok()?.zones)
    }

    pub fn all(&self) -> Vec<ZoneStatus> {
        self.try_status(None).expect("it answers on its control socket")
    }

    pub fn status(&self, zone: &str) -> ZoneStatus {
        self.try_status(Some(zone)).expect("the zone is configured").remove(0)
    }

    pub fn refresh(&self, zone: &str) {
        self.client().command(&Request::Refresh { zone: zone.to_owned() }).unwrap();
    }

    pub fn retransfer(&self, zone: &str) {
        self.client().command(&Request::Retransfer { zone: zone.to_owned() }).unwrap();
    }

    /// How many lines of the log have all these words.
    pub fn logged(&self, words: &[&str]) -> usize {
        self.log().iter().filter(|line| words.iter().all(|word| line.contains(word))).count()
    }

    /// Waits until the zone's status is so.
    #[track_caller]
    pub fn wait_status(&self, zone: &str, so: impl Fn(&ZoneStatus) -> bool) -> ZoneStatus {
        self.wait_status_for(zone, super::DEADLINE, so)
    }

    #[track_caller]
    pub fn wait_status_for(
        &self,
        zone: &str,
        deadline: Duration,
        so: impl Fn(&ZoneStatus) -> bool,
    ) -> ZoneStatus {
        let end = Instant::now() + deadline;
        loop {
            let status = self.status(zone);
            if so(&status) {
                return status;
            }
            let lines: Vec<_> = self.log().into_iter().filter(|l| l.contains(zone)).collect();
            assert!(Instant::now() < end, "never so: {status:#?}\n{}", lines.join("\n"));
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until this serial is served.
    #[track_caller]
    pub fn wait_serial(&self, zone: &str, serial: u32) {
        self.wait_status(zone, |status| status.serial == Some(serial));
    }

    /// What `/metrics` says that was counted.
    pub fn counted(&self, what: &str) -> u64 {
        let mut stream = TcpStream::connect(self.metrics).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        let name = format!("backstop_{what}_total ");
        let line = page.lines().find_map(|line| line.strip_prefix(&name));
        line.unwrap_or_else(|| panic!("no {name}in {page}")).trim().parse().unwrap()
    }

    /// A number of /proc/PID/status, such as `VmHWM`, in KiB.
    pub fn memory_kib(&self, what: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = text.lines().find(|line| line.starts_with(what)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Secondary {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(60);
            eprintln!("the server's last lines:\n{}", log[from..].join("\n"));
        }
    }
}
