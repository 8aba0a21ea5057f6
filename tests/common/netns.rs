//! Two network namespaces of our own with a cable between them, for what loopback cannot show:
//! AF_XDP, checksums left to the card, MTU. Addresses 198.18.0.1 - 198.18.0.2 and fd18::1 -
//! fd18::2. `scripts/netns` does the work, so that a person can have the same pair.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    path::Path,
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use super::skip;

/// A veth pair between two namespaces, removed on drop.
pub struct Pair {
    name: String,
}

/// One end of the cable.
#[derive(Clone, Copy, Debug)]
pub enum End {
    Server,
    Client,
}

impl End {
    pub fn v4(self) -> &'static str {
        match self {
            Self::Server => "198.18.0.1",
            Self::Client => "198.18.0.2",
        }
    }

    pub fn v6(self) -> &'static str {
        match self {
            Self::Server => "fd18::1",
            Self::Client => "fd18::2",
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Server => "s",
            Self::Client => "c",
        }
    }
}

impl Pair {
    /// None, loudly, where we may not make namespaces.
    pub fn up() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bs{}-{count}", process::id());
        match script("up", &name) {
            Ok(()) => Some(Self { name }),
            Err(why) => {
                skip::say(&format!("no network namespaces here: {why}"));
                None
            }
        }
    }

    /// The namespace's name, as `ip netns exec` takes it.
    pub fn namespace(&self, end: End) -> String {
        format!("{}{}", self.name, end.suffix())
    }

    /// The network interface's name within its namespace.
    pub fn interface(&self) -> &'static str {
        "cable"
    }

    /// Runs `ip` at this end; panics if that fails.
    #[track_caller]
    pub fn ip(&self, end: End, arguments: &[&str]) {
        let output = self.command(end, "ip").args(arguments).output().expect("ip");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {}: {said}", arguments.join(" "));
    }

    /// Runs `f` on a thread at this end. Sockets that it opens and threads that it starts stay
    /// there.
    pub fn inside<T: Send>(&self, end: End, f: impl FnOnce() -> T + Send) -> T {
        let namespace = format!("/run/netns/{}", self.namespace(end));
        thread::scope(|scope| {
            let inside = move || {
                enter(&File::open(namespace).expect("the namespace")).expect("root may enter it");
                f()
            };
            let thread = thread::Builder::new().name(current_name());
            thread.spawn_scoped(scope, inside).expect("a thread").join()
        })
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// A command that will run at this end.
    pub fn command(&self, end: End, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(skip::program("ip").expect("it made the pair"));
        command.args(["netns", "exec", &self.namespace(end)]).arg(program.as_ref());
        command
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if let Err(why) = script("down", &self.name) {
            eprintln!("namespaces of {} are left over: {why}", self.name);
        }
    }
}

/// Moves the calling thread to a network namespace.
#[expect(unsafe_code, reason = "std has no word for it")]
fn enter(namespace: &File) -> io::Result<()> {
    // SAFETY: takes no pointers.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The test's, for messages.
fn current_name() -> String {
    thread::current().name().unwrap_or("a test").to_owned()
}

fn script(action: &str, name: &str) -> Result<(), String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/netns");
    let output = Command::new(script).args([action, name]).output().map_err(|e| e.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "))
}
