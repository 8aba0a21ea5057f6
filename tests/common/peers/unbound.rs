//! Unbound: a resolver whose stubs point at servers on loopback, for tests from a client's view.

use std::{fmt::Write, fs, net::SocketAddr};

use tempfile::TempDir;

use super::{Kind, PATIENCE, guarded::Guarded, tool};
use crate::common::{
    dns::{self, Ask, wait_until},
    ports,
};

/// A running Unbound.
pub struct Unbound {
    addr: SocketAddr,
    // Before `dir`, as with `Peer`.
    _process: Guarded,
    dir: TempDir,
}

impl Unbound {
    /// Resolves names of each zone at its servers, all else with SERVFAIL. With `anchor` (a DS or
    /// DNSKEY record as text) it validates from there.
    #[track_caller]
    pub fn start(stubs: &[(&str, &[SocketAddr])], anchor: Option<&str>) -> Self {
        let addr = ports::free();
        let dir = tempfile::Builder::new().prefix("backstop-peer-").tempdir().expect("a folder");
        let file = dir.path().join("unbound.conf");
        fs::write(&file, configuration(addr, &dir, stubs, anchor)).expect("a file");
        let mut command = tool("unbound");
        command.args(["-d", "-p", "-c"]).arg(file);
        let mut process = Guarded::spawn(command, &dir.path().join("log"));
        let ready = wait_until(PATIENCE, || {
            assert!(process.is_running(), "{:?} ended at once:\n{}", Kind::Unbound, log(&dir));
            dns::udp(addr, &Ask::new("localhost.", "A")).is_ok()
        });
        assert!(ready, "unbound does not answer on {addr}:\n{}", log(&dir));
        Self { addr, dir, _process: process }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn log(&self) -> String {
        log(&self.dir)
    }
}

fn log(dir: &TempDir) -> String {
    fs::read_to_string(dir.path().join("log")).unwrap_or_else(|error| error.to_string())
}

fn configuration(
    addr: SocketAddr,
    dir: &TempDir,
    stubs: &[(&str, &[SocketAddr])],
    anchor: Option<&str>,
) -> String {
    let dir = dir.path().display();
    let (ip, port) = (addr.ip(), addr.port());
    let modules = if anchor.is_some() { "validator iterator" } else { "iterator" };
    let mut text = format!(
        "server:
    interface: {ip}@{port}
    username: \"\"
    chroot: \"\"
    directory: \"{dir}\"
    pidfile: \"\"
    use-syslog: no
    logfile: \"\"
    verbosity: 2
    num-threads: 1
    do-not-query-localhost: no
    module-config: \"{modules}\"
    root-hints: \"/dev/null\"
    local-zone: \"test.\" nodefault
    qname-minimisation: yes
    harden-glue: yes
    cache-max-negative-ttl: 0
    cache-max-ttl: 1
"
    );
    if let Some(anchor) = anchor {
        writeln!(text, "    trust-anchor: \"{anchor}\"").expect("a string grows");
    }
    text += "remote-control:\n    control-enable: no\n";
    for (zone, servers) in stubs {
        write!(text, "stub-zone:\n    name: \"{zone}\"\n    stub-no-cache: yes\n")
            .expect("a string grows");
        for server in *servers {
            writeln!(text, "    stub-addr: {}@{}", server.ip(), server.port()).expect("it grows");
        }
    }
    text
}
