//! A child process and all its children, which do not outlive the test.

use std::{
    fs::{self, OpenOptions},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::common::dns::wait_until;

/// A server in a process group of its own. Beside it a shell reads from a pipe whose other end
/// only we hold: should this process vanish without a `Drop` (time-out, Ctrl-C, kill -9), the
/// shell reads the end and kills the group.
pub struct Guarded {
    server: Child,
    guard: Child,
}

impl Guarded {
    /// Runs the command with what it prints appended to `log`.
    pub fn spawn(mut command: Command, log: &Path) -> Self {
        let log = OpenOptions::new().create(true).append(true).open(log).expect("a log file");
        let server = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("the program starts");
        let guard = Command::new("sh")
            .args(["-c", "read _; kill -s KILL -- \"-$0\"", &server.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("sh starts");
        Self { server, guard }
    }

    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.server.try_wait(), Ok(None))
    }

    /// Sends a signal, named as `kill -s` names it, to the server and its children.
    ///
    /// Whether any of them was there to take it.
    pub fn signal(&self, name: &str) -> bool {
        let group = format!("-{}", self.server.id());
        let script = "kill -s \"$0\" -- \"$1\" 2>/dev/null";
        let status = Command::new("sh").args(["-c", script, name, &group]).status();
        status.expect("sh runs").success()
    }

    /// Stops every thread of it and of its children: when this returns, none of them runs.
    pub fn pause(&self) {
        assert!(self.signal("STOP"), "it is gone");
        let stopped = wait_until(Duration::from_secs(5), || {
            self.threads().iter().all(|state| matches!(state.as_str(), "T" | "Z"))
        });
        assert!(stopped, "it still runs: {:?}", self.threads());
    }

    /// The state of each thread of each process of the group, as proc(5) abbreviates it.
    fn threads(&self) -> Vec<String> {
        let group = self.server.id().to_string();
        let folders = |path: &Path| -> Vec<PathBuf> {
            // A process that ends meanwhile takes its folder with it.
            fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
        };
        let stat = |folder: &Path| -> Option<(String, String)> {
            let text = fs::read_to_string(folder.join("stat")).ok()?;
            let mut fields = text.rsplit_once(") ")?.1.split(' ').map(str::to_owned);
            Some((fields.next()?, fields.nth(1)?))
        };
        let mut states = Vec::new();
        for process in folders(Path::new("/proc")) {
            if stat(&process).is_some_and(|(_, its_group)| its_group == group) {
                let threads = folders(&process.join("task"));
                states.extend(threads.iter().filter_map(|thread| stat(thread)).map(|(s, _)| s));
            }
        }
        states
    }

    /// Asks the server to end; kills it when it does not within `patience`.
    pub fn stop(mut self, patience: Duration) {
        let first = self.server.id().to_string();
        Command::new("sh").args(["-c", "kill \"$0\"", &first]).status().expect("sh runs");
        wait_until(patience, || !self.is_running());
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // The group may outlive its first process; its id is not given away until all are gone.
        self.signal("KILL");
        self.server.wait().expect("our own child");
        // Its children are init's to bury: dead is enough, their sockets are closed.
        wait_until(Duration::from_secs(5), || self.threads().iter().all(|state| state == "Z"));
        self.guard.kill().expect("our own child");
        self.guard.wait().expect("our own child");
    }
}
