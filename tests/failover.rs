//! Two primaries, one of them at the other end of a cable that is cut and mended: in network
//! namespaces, because on loopback nobody is ever unreachable.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(unused_imports, reason = "of `common`, a part is used")]
mod common;

use common::dns::wait_until;
use common::netns::{End, Pair};
use common::peers::guarded::Guarded;
use common::skip;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_backstop");

/// How long anything may take: a NOTIFY is repeated for half a minute.
const PATIENCE: Duration = Duration::from_secs(90);

/// A Backstop in a namespace. Its control socket can be had from here.
struct Node {
    // Before the folder that it works in.
    _process: Guarded,
    folder: TempDir,
}

impl Node {
    fn start(pair: &Pair, end: End, listen: &str, zone: &str) -> Self {
        let folder = TempDir::with_prefix("backstop-").unwrap();
        let config = format!(
            "[server]\nlisten = {listen}\nworkers = 1\nstate-dir = \"state\"\n\
             [transfer]\nconnect-timeout = \"2s\"\n[[zone]]\nname = \"fail.test\"\n{zone}\n"
        );
        fs::write(folder.path().join("zone"), text(1)).unwrap();
        fs::write(folder.path().join("backstop.toml"), config).unwrap();
        let mut command = pair.command(end, PROGRAM);
        command.args(["serve", "--config"]).arg(folder.path().join("backstop.toml"));
        let process = Guarded::spawn(command, &folder.path().join("log"));
        let node = Self { _process: process, folder };
        let serves = wait_until(PATIENCE, || node.status().is_some());
        assert!(serves, "it does not serve:\n{}", node.log());
        node
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("backstop.toml")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn run(&self, arguments: &[&str]) -> Option<String> {
        let mut command = Command::new(PROGRAM);
        let output = command.args(arguments).arg("--config").arg(self.config()).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    fn status(&self) -> Option<Value> {
        let text = self.run(&["status", "fail.test", "--json"])?;
        serde_json::from_str::<Vec<Value>>(&text).unwrap().pop()
    }

    /// Waits until its status is so.
    #[track_caller]
    fn wait(&self, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        let mut last = None;
        let came = wait_until(PATIENCE, || {
            last = self.status();
            last.as_ref().is_some_and(&so)
        });
        assert!(came, "{what}: {last:#?}\n{}", self.log());
        last.unwrap()
    }

    #[track_caller]
    fn wait_serial(&self, serial: u32) -> Value {
        self.wait(&format!("serial {serial}"), |status| status["serial"] == serial)
    }

    #[track_caller]
    fn wait_log(&self, words: &str) {
        let came = wait_until(PATIENCE, || self.log().contains(words));
        assert!(came, "no {words:?}:\n{}", self.log());
    }

    /// The primary's zone is this version from now on.
    fn edit(&self, serial: u32) {
        fs::write(self.folder.path().join("zone"), text(serial)).unwrap();
        self.run(&["refresh", "fail.test"]).expect("the file is read");
        self.wait_serial(serial);
    }
}

fn text(serial: u32) -> String {
    format!("$TTL 60\n@ SOA ns h {serial} 1 1 86400 60\n@ NS ns\nns A 192.0.2.1\nwww A 192.0.2.7\n")
}

fn link(pair: &Pair, end: End, state: &str) {
    let ip = skip::program("ip").expect("it made the pair");
    let namespace = pair.namespace(end);
    let arguments = ["-n", &namespace, "link", "set", pair.interface(), state];
    assert!(Command::new(ip).args(arguments).status().unwrap().success());
}

#[test]
fn when_the_cable_to_a_primary_is_cut_the_other_takes_over_and_both_are_used_when_it_is_mended() {
    let Some(pair) = Pair::up() else { return };
    let far = "file = \"zone\"\nallow-transfer = [{ from = \"198.18.0.0/24\" }]\n\
               notify = [{ address = \"198.18.0.1:5301\" }]";
    let far = Node::start(&pair, End::Client, "[\"198.18.0.2:5300\"]", far);
    let near = "file = \"zone\"\nallow-transfer = [{ from = \"127.0.0.0/8\" }]\n\
                notify = [{ address = \"127.0.0.1:5301\", source = \"127.0.0.2\" }]";
    let near = Node::start(&pair, End::Server, "[\"127.0.0.2:5300\"]", near);
    let both = "refresh-min = \"1s\"\nretry-min = \"1s\"\nprimaries = \
                [{ address = \"198.18.0.2:5300\" }, { address = \"127.0.0.2:5300\" }]";
    let listen = "[\"198.18.0.1:5301\", \"127.0.0.1:5301\"]";
    let secondary = Node::start(&pair, End::Server, listen, both);
    assert_eq!(secondary.wait_serial(1)["primary"], "198.18.0.2:5300");

    link(&pair, End::Client, "down");
    near.edit(2);
    let status = secondary.wait_serial(2);
    assert_eq!(status["primary"], "127.0.0.2:5300");
    secondary.wait_log("unreachable: all its zones leave it alone for this long");
    let status = secondary.wait("the far one's error shows", |status| {
        status["primaries"][0]["last-error"].is_string()
    });
    assert!(matches!(status["state"].as_str(), Some("ok" | "refreshing")), "{status:#?}");
    let dig = skip::program("dig").map(|dig| {
        let arguments = ["@127.0.0.1", "-p", "5301", "www.fail.test", "+short", "+tries=1"];
        let output = pair.command(End::Server, dig).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    });
    assert!(dig.is_none_or(|said| said == "192.0.2.7\n"));

    far.edit(3);
    link(&pair, End::Client, "up");
    let status = secondary.wait_serial(3);
    assert_eq!(status["primary"], "198.18.0.2:5300");
    secondary.wait_log("reachable again");
    secondary.wait("no error is left but that the near one is behind", |status| {
        status["primaries"][0]["last-error"].is_null() && status["state"] != "stale"
    });
}
