//! The operator's own check: a program that is given the candidate as a zone file and says by its
//! exit status whether it may be served.
//!
//! It runs as a process group of its own, a few at once for all zones, and is killed with all
//! that it started when its time is over. No thread waits for it. What it writes is read, so that
//! it never waits for us, and its last line is told if it refuses.
//!
//! **Invariant.** *nothing of ours*: it has the server's user and no more: no capabilities, nor
//! ways to them, none of the server's files, and of its environment what [`ENVIRONMENT`] names.

use crate::config::CheckProgram;
use crate::io::give_up_all;
use crate::wire::Serial;
use crate::zone::{Zone, file};
use rustix::process::{Pid, Signal, kill_process_group};
use std::env;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// How many programs run at once, for all zones, and how many more that have run for longer than
/// [`BRIEF`]: those that hang delay nobody's who do not.
const PROGRAMS_MAX: usize = 4;
const SLOW_MAX: usize = 32;
const BRIEF: Duration = Duration::from_secs(5);
/// How long we go on reading what a program that has ended wrote: its children may live.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Octets of its output that are remembered, and characters that are told.
const OUTPUT_MAX: usize = 4096;
const TOLD_MAX: usize = 300;

/// What of the server's environment a program gets.
const ENVIRONMENT: [&str; 5] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ"];

/// Why a program did not say yes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ProgramError {
    /// It says no.
    #[error("{program} ended with {status}{said}")]
    Refused {
        /// Its name.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// Its last line, behind a colon.
        said: String,
    },
    /// It took too long.
    #[error("{program} was killed after {} s{said}", limit.as_secs())]
    TimeOut {
        /// Its name.
        program: String,
        /// What it was given.
        limit: Duration,
        /// Its last line, behind a colon.
        said: String,
    },
    /// It could not be run.
    #[error("{program} cannot be run: {error}")]
    NotRun {
        /// Its name.
        program: String,
        /// Why.
        error: String,
    },
}

/// Where and how many at once programs are run.
pub(super) struct Programs {
    /// The folder for the files that they are given.
    folder: PathBuf,
    places: Semaphore,
    slow_places: Semaphore,
    files: AtomicU64,
}

/// A file that is gone with this.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is removed at the next start.
        let _ = fs::remove_file(&self.0);
    }
}

impl Programs {
    /// Files are written to `folder`, which is emptied: an earlier server may have been killed.
    pub(super) fn new(folder: PathBuf) -> Self {
        let _ = fs::remove_dir_all(&folder);
        Self {
            folder,
            places: Semaphore::new(PROGRAMS_MAX),
            slow_places: Semaphore::new(SLOW_MAX),
            files: AtomicU64::new(0),
        }
    }

    /// Asks the program about `candidate`, which is to replace the version `held`.
    pub(super) async fn ask(
        &self,
        program: &CheckProgram,
        candidate: &Arc<Zone>,
        held: Option<Serial>,
    ) -> Result<(), ProgramError> {
        let place = self.places.acquire().await.expect("it is never closed");
        let name = || program.command[0].clone();
        let failed =
            |error: io::Error| ProgramError::NotRun { program: name(), error: error.to_string() };
        let file = self.write(candidate).await.map_err(failed)?;
        let command = command(program, candidate, held, &file.0);
        let mut child = start(command).await.map_err(failed)?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let output = child.stdout.take().zip(child.stderr.take());
        let (stdout, stderr) = output.expect("both were asked for");
        let output = tokio::spawn(async move { tokio::join!(tail(stdout), tail(stderr)) });
        let ended = timeout(program.timeout, self.wait(&mut child, place)).await;
        if ended.is_err() {
            stop(group, &mut child).await;
        }
        let said = match timeout(LAST_WORDS, output).await {
            Ok(Ok((stdout, stderr))) => last_line(&stderr).or_else(|| last_line(&stdout)),
            _ => None,
        };
        let said = said.map(|line| format!(": {line}")).unwrap_or_default();
        match ended {
            Err(_) => Err(ProgramError::TimeOut { program: name(), limit: program.timeout, said }),
            Ok(Err(error)) => Err(failed(error)),
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(ProgramError::Refused { program: name(), status, said }),
        }
    }

    /// Waits for a program to end. One that is not brief leaves its place to others, if it can
    /// have one among the slow.
    async fn wait<'s>(
        &'s self,
        child: &mut Child,
        place: SemaphorePermit<'s>,
    ) -> io::Result<ExitStatus> {
        if let Ok(ended) = timeout(BRIEF, child.wait()).await {
            return ended;
        }
        let _place = self.slow_places.try_acquire().unwrap_or(place);
        child.wait().await
    }

    async fn write(&self, zone: &Arc<Zone>) -> io::Result<Scratch> {
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(format!("{number}.zone"));
        let (zone, folder) = (Arc::clone(zone), self.folder.clone());
        spawn_blocking(move || {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            let scratch = Scratch(path);
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(0o600);
            let mut file = BufWriter::new(options.open(&scratch.0)?);
            file::write(&zone, &mut file)?;
            file.flush()?;
            Ok(scratch)
        })
        .await?
    }
}

fn command(program: &CheckProgram, candidate: &Zone, held: Option<Serial>, file: &Path) -> Command {
    let kept = ENVIRONMENT.iter().filter_map(|name| Some((name, env::var_os(name)?)));
    let mut command = Command::new(&program.command[0]);
    command
        .args(&program.command[1..])
        .env_clear()
        .envs(kept)
        .env("BACKSTOP_ZONE", candidate.apex().to_string())
        .env("BACKSTOP_SERIAL", candidate.serial().to_string())
        .env("BACKSTOP_ZONE_FILE", file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(held) = held {
        command.env("BACKSTOP_OLD_SERIAL", held.to_string());
    }
    command
}

/// Starts it from a thread that has given up all rights before: they are inherited from there.
/// (Giving them up between fork(2) and execve(2) would need the former, which stops us for as
/// long as copying the page tables of all zones takes.)
async fn start(mut command: Command) -> io::Result<Child> {
    let runtime = Handle::current();
    let (started, is_started) = oneshot::channel();
    thread::Builder::new().name("starter".into()).spawn(move || {
        let _entered = runtime.enter();
        // Where nobody waits any more the child is killed, being dropped.
        let _ = started.send(give_up_all().and_then(|()| command.spawn()));
    })?;
    is_started.await.unwrap_or_else(|_| Err(io::Error::other("its thread has ended in a panic")))
}

/// Ends a program with all that it started.
async fn stop(group: Option<Pid>, child: &mut Child) {
    if let Some(group) = group {
        // There is nothing more to be done about one that cannot be killed.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.kill().await;
}

/// All that comes, of which the end is kept.
async fn tail(mut from: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut part = [0; OUTPUT_MAX];
    while let Ok(len @ 1..) = from.read(&mut part).await {
        kept.extend_from_slice(&part[..len]);
        let more = kept.len().saturating_sub(OUTPUT_MAX);
        kept.drain(..more);
    }
    kept
}

fn last_line(output: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(output);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().take(TOLD_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::NameBuf;
    use std::time::Instant;

    fn candidate() -> Arc<Zone> {
        let apex: NameBuf = "example.".parse().unwrap();
        let text = b"@ 60 SOA ns admin 7 1 1 1 1\n@ 60 NS ns\n";
        let read = file::read_text(text, Path::new("x"), apex.as_name(), file::Limits::default());
        Arc::new(read.unwrap().build().unwrap())
    }

    /// What comes of this shell script, and the folder of its files.
    fn asked(script: &str, limit: Duration) -> Result<(), ProgramError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("check");
        let programs = Programs::new(path.clone());
        let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let program = CheckProgram { command, timeout: limit };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let asked = runtime.block_on(programs.ask(&program, &candidate(), Some(Serial(6))));
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0, "the file is gone");
        asked
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_program_is_told_what_it_is_about_and_says_yes_by_exiting_with_0() {
        let script = "test \"$BACKSTOP_ZONE $BACKSTOP_SERIAL $BACKSTOP_OLD_SERIAL\" = \
            'example. 7 6' && grep -q '^example. 60 IN SOA ns.example. admin.example. 7 ' \
            \"$BACKSTOP_ZONE_FILE\" && ! read -r line";
        assert_eq!(asked(script, LONG), Ok(()));
    }

    #[test]
    fn a_program_has_none_of_our_rights_files_and_secrets() {
        let file = fs::File::open("/dev/null").unwrap();
        // As one that came from whoever started us.
        rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
        // Cargo's variables stand for those of a service's environment.
        let script = "test -z \"$CARGO_MANIFEST_DIR\" && test -n \"$PATH\" &&
            ! grep -E '^Cap(Inh|Prm|Eff|Amb):.*[1-9a-f]' /proc/self/status >&2 &&
            grep -q 'NoNewPrivs:.1' /proc/self/status &&
            test \"$(ls /proc/self/fd | wc -l)\" -eq 4 ||
            { env; ls -l /proc/self/fd; exit 1; } >&2";
        assert!(env::var_os("CARGO_MANIFEST_DIR").is_some());
        assert_eq!(asked(script, LONG), Ok(()));
        let thread = fs::read_to_string("/proc/thread-self/status").unwrap();
        assert!(thread.contains("NoNewPrivs:\t0"), "ours are as they were: {thread}");
        drop(file);
    }

    #[test]
    fn any_other_exit_is_a_no_and_the_last_line_says_why() {
        let refused = asked("echo no; echo 'the MX is gone' >&2; echo >&2; exit 3", LONG);
        let refused = refused.unwrap_err().to_string();
        assert_eq!(refused, "/bin/sh ended with exit status: 3: the MX is gone");
        let killed = asked("kill -TERM $$", LONG).unwrap_err().to_string();
        assert_eq!(killed, "/bin/sh ended with signal: 15 (SIGTERM)");
        let long = asked("yes | head -c 300000; exit 1", LONG).unwrap_err().to_string();
        assert_eq!(long, "/bin/sh ended with exit status: 1: y");
    }

    #[test]
    fn a_program_that_takes_too_long_is_killed_with_its_children() {
        let began = Instant::now();
        let limit = Duration::from_millis(300);
        let error = asked("echo 'still looking'; sleep 1000 & wait", limit).unwrap_err();
        assert_eq!(error.to_string(), "/bin/sh was killed after 0 s: still looking");
        assert!(began.elapsed() < Duration::from_secs(100), "the child that held the pipe, too");
    }

    #[test]
    fn a_program_that_is_not_there_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let programs = Programs::new(folder.path().join("check"));
        let command = vec!["/nonexistent/check".to_owned()];
        let program = CheckProgram { command, timeout: LONG };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let error = runtime.block_on(programs.ask(&program, &candidate(), None)).unwrap_err();
        assert!(error.to_string().starts_with("/nonexistent/check cannot be run: No such file"));
    }
}
