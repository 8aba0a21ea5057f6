//! Skipping a test for want of a program or of rights: always loud. Want of a program is a
//! failure where `BACKSTOP_NO_SKIP` is set (`scripts/test` sets it once it has installed all).

use std::{
    env,
    io::{self, Write},
    path::{Path, PathBuf},
    thread,
};

/// Returns from the calling test, loudly, unless all the peers named are installed.
///
/// `require!(Knot, Bind);`
macro_rules! require {
    ($($kind:ident),+ $(,)?) => {
        $(
            if let Some(why) = $crate::common::peers::Kind::$kind.missing() {
                $crate::common::skip::uninstalled(&why);
                return;
            }
        )+
    };
}
pub(crate) use require;

/// For want of a program: as [`say`], but panics where that is forbidden.
pub fn uninstalled(why: &str) {
    assert!(env::var_os("BACKSTOP_NO_SKIP").is_none(), "this may not be skipped: {why}");
    say(why);
}

/// Says on the real standard error (which the test harness does not capture) that the running
/// test is skipped, and why.
pub fn say(why: &str) {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("SKIP {test}: {why}\n");
    io::stderr().write_all(line.as_bytes()).expect("standard error takes a line");
}

/// Where a program is, in PATH or where Debian keeps the daemons.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| Path::is_file(file))
}
