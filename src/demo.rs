//! `backstop demo`: the main job to look at, with no configuration.
//!
//! Two servers in this process: a primary with a zone file, and a secondary of it. A record of
//! the zone changes every few seconds and travels by NOTIFY and IXFR; then the primary is stopped
//! and the secondary answers on.

use crate::clock::now_s;
use crate::config::{self, Config};
use crate::name::NameBuf;
use crate::server::{Reload, ServeError, Server};
use crate::view::Views;
use crate::wire::Serial;
use std::fs;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

const PRIMARY: &str = "127.0.0.1:5301";
const SECONDARY: &str = "127.0.0.1:5300";
const ZONE: &str = "example.org.";
/// Between two changes of the zone.
const CHANGE: Duration = Duration::from_secs(3);
/// How long the primary lives if nobody presses Enter.
const PRIMARY_LIFE: Duration = Duration::from_secs(30);
/// How long the secondary lives alone, if there is nobody to press Enter.
const SECONDARY_LIFE: Duration = Duration::from_secs(30);
/// How long a change may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(10);

/// Why the demo ends early.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A server does not start.
    #[error("{0}")]
    Server(#[from] ServeError),
    /// A file or the terminal fails.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The secondary did not follow.
    #[error("the secondary did not get serial {0} in time")]
    NotArrived(Serial),
}

/// Runs the demo, telling on the standard output what happens.
///
/// # Errors
/// The two addresses are in use, or the secondary does not follow.
pub fn run() -> Result<(), DemoError> {
    let out = &mut io::stdout();
    let no_reload = || -> Reload { Box::new(|| Err("the demo has no configuration".into())) };
    let folder = Folder::new()?;
    let enter = enter_pressed();
    let zone_file = folder.0.join("example.org.zone");
    fs::write(&zone_file, zone_text(1))?;
    let primary = Server::start(configuration(&folder.0, "primary")?, no_reload())?;
    let secondary = Server::start(configuration(&folder.0, "secondary")?, no_reload())?;
    let took = arrival(secondary.views(), Serial(1))?;
    writeln!(out, "{}", introduction())?;
    writeln!(out, "serial 1 has been transferred (AXFR) in {}", ms(took))?;
    let mut serial = 1;
    let stop_at = Instant::now() + PRIMARY_LIFE;
    while Instant::now() < stop_at && !enter.wait(CHANGE) {
        serial += 1;
        fs::write(&zone_file, zone_text(serial))?;
        reload(&primary);
        let took = arrival(secondary.views(), Serial(serial))?;
        writeln!(
            out,
            "serial {serial}: the primary read its file; the secondary had it {} later (NOTIFY, IXFR)",
            ms(took)
        )?;
    }
    primary.stop();
    writeln!(out, "{FAREWELL}")?;
    enter.wait_long();
    secondary.stop();
    Ok(())
}

fn introduction() -> String {
    format!(
        "A primary for {ZONE} on {PRIMARY}, and a secondary of it on {SECONDARY} (UDP and TCP).\n\
         Every {} seconds a record changes at the primary. In another terminal, try:\n\n\
         \x20   dig @127.0.0.1 -p 5300 now.example.org TXT +short\n\
         \x20   dig @127.0.0.1 -p 5300 www.example.org A\n\
         \x20   dig @127.0.0.1 -p 5300 example.org MX\n\
         \x20   dig @127.0.0.1 -p 5300 +tcp example.org AXFR\n\n\
         Press Enter to stop the primary (or wait for {} s).\n",
        CHANGE.as_secs(),
        PRIMARY_LIFE.as_secs()
    )
}

const FAREWELL: &str = "\nThe primary is gone. The secondary answers on, from its own copy:\n\n\
    \x20   dig @127.0.0.1 -p 5301 www.example.org A +tries=1 +time=1     # the primary: no answer\n\
    \x20   dig @127.0.0.1 -p 5300 www.example.org A                      # the secondary\n\n\
    It would do so for a week (the SOA's expire time), also over a restart. Press Enter to end.";

fn ms(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1000.0)
}

/// Has the primary read its zone file anew; what comes of it is seen at the secondary.
fn reload(primary: &Server) {
    let replica = primary.replica().clone();
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let zone: NameBuf = ZONE.parse().expect("a name");
    if let Ok(runtime) = runtime {
        let _ = runtime.block_on(replica.check(zone));
    }
}

/// How long the secondary takes to have this serial.
fn arrival(views: &Views, serial: Serial) -> Result<Duration, DemoError> {
    let zone: NameBuf = ZONE.parse().expect("a name");
    let began = Instant::now();
    loop {
        let view = views.load();
        let served = view.zone(zone.as_name()).and_then(|served| served.zone.as_ref());
        if served.is_some_and(|zone| zone.serial() == serial) {
            return Ok(began.elapsed());
        }
        if began.elapsed() > ARRIVAL {
            return Err(DemoError::NotArrived(serial));
        }
        thread::sleep(Duration::from_micros(100));
    }
}

fn configuration(folder: &Path, which: &str) -> Result<Config, DemoError> {
    let text = match which {
        "primary" => format!(
            "[server]\nlisten = [\"{PRIMARY}\"]\nworkers = 1\nstate-dir = \"primary\"\n\
             [[zone]]\nname = \"{ZONE}\"\nfile = \"example.org.zone\"\n\
             allow-transfer = [{{ from = \"127.0.0.1\" }}]\n\
             notify = [{{ address = \"{SECONDARY}\" }}]\n"
        ),
        _ => format!(
            "[server]\nlisten = [\"{SECONDARY}\"]\nworkers = 1\nstate-dir = \"secondary\"\n\
             [[zone]]\nname = \"{ZONE}\"\nprimaries = [{{ address = \"{PRIMARY}\" }}]\n\
             allow-transfer = [{{ from = \"127.0.0.1\" }}]\n"
        ),
    };
    let path = folder.join(format!("{which}.toml"));
    fs::write(&path, text)?;
    let loaded = Config::load(&path);
    match loaded {
        Ok((config, _)) => Ok(config),
        failed @ Err(_) => Err(ServeError::Config(config::report(&failed)).into()),
    }
}

fn zone_text(serial: u32) -> String {
    let time = now_s();
    format!(
        "$ORIGIN {ZONE}\n$TTL 300\n\
         @    SOA  ns1 hostmaster {serial} 3600 600 604800 60\n\
         \x20    NS   ns1\n\
         \x20    NS   ns2\n\
         \x20    MX   10 mail\n\
         ns1  A    127.0.0.1\n\
         ns2  A    127.0.0.2\n\
         mail A    127.0.0.3\n\
         www  A    127.0.0.4\n\
         www  AAAA ::1\n\
         now  TXT  \"serial {serial}, at {time} seconds since 1970\"\n"
    )
}

/// A folder of the demo's own, removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("backstop-demo-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in a temporary folder does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Whether someone presses Enter.
struct Enter(Receiver<()>);

fn enter_pressed() -> Enter {
    let (pressed, enter) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        while io::stdin().lock().read_line(&mut line).is_ok_and(|len| len > 0) {
            if pressed.send(()).is_err() {
                return;
            }
        }
    });
    Enter(enter)
}

impl Enter {
    /// Waits for Enter. `false`: it was not pressed in time.
    fn wait(&self, at_most: Duration) -> bool {
        match self.0.recv_timeout(at_most) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => {
                thread::sleep(at_most.min(SECONDARY_LIFE));
                false
            }
        }
    }

    /// Waits for Enter as long as there is someone who could press it, and then for a while.
    fn wait_long(&self) {
        if self.0.recv().is_err() {
            thread::sleep(SECONDARY_LIFE);
        }
    }
}
