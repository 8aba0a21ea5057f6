//! `backstop demo`, as README's first command runs it: in a network namespace, where its ports are
//! free.
#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(unused_imports, reason = "of `common`, a part is used")]
mod common;

use common::dns::{self, Ask};
use common::netns::{End, Pair};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::Stdio;

const PRIMARY: &str = "127.0.0.1:5301";
const SECONDARY: &str = "127.0.0.1:5300";

/// The answer's serial; `None` if there is no answer.
fn serial(pair: &Pair, server: &str) -> Option<u32> {
    let server: SocketAddr = server.parse().unwrap();
    pair.inside(End::Server, || dns::serial(server, "example.org."))
}

#[test]
fn the_demo_shows_a_change_that_travels_and_a_secondary_that_answers_on_alone() {
    let Some(pair) = Pair::up() else { return };
    let mut command = pair.command(End::Server, env!("CARGO_BIN_EXE_backstop"));
    command.arg("demo").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut demo = command.spawn().unwrap();
    let mut enter = demo.stdin.take().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut told = |words: &str| {
        let line = lines.find(|line| line.contains(words));
        line.unwrap_or_else(|| panic!("it ended without saying \"{words}\""))
    };
    told("dig @127.0.0.1 -p 5300 now.example.org TXT");
    told("serial 1 has been transferred (AXFR)");
    assert!(told("serial 3: ").contains("(NOTIFY, IXFR)"));
    let last = serial(&pair, SECONDARY).unwrap();
    assert!(last >= 3 && serial(&pair, PRIMARY).is_some());
    enter.write_all(b"\n").unwrap();
    told("The primary is gone.");
    assert_eq!(serial(&pair, PRIMARY), None);
    assert!(serial(&pair, SECONDARY).unwrap() >= last, "it answers on");
    let server: SocketAddr = SECONDARY.parse().unwrap();
    let www = pair.inside(End::Server, || dns::udp(server, &Ask::new("www.example.org", "A")));
    assert_eq!(www.unwrap().rcode, "NOERROR");
    enter.write_all(b"\n").unwrap();
    assert!(demo.wait().unwrap().success());
}
