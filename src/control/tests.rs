//! The socket itself; what goes over it is tested with a real server in tests/control.rs.

use super::*;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use tempfile::TempDir;

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state").join("control.sock");
    (folder, path)
}

#[test]
fn the_socket_is_its_owners_alone_and_goes_with_the_listener() {
    let (_folder, path) = place();
    let listener = Listener::bind(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    drop(listener);
    assert!(!path.exists());
}

#[test]
fn who_asks_before_the_server_serves_is_told_why_not() {
    let (_folder, path) = place();
    let listener = Listener::bind(&path).unwrap();
    listener.refuse("nobody hears it");
    let client = Client::new(&path);
    let asked = thread::spawn(move || client.status(None));
    while !asked.is_finished() {
        listener.refuse("the server is starting");
        thread::yield_now();
    }
    let error = asked.join().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the server is starting");
}

#[test]
fn the_socket_of_a_dead_server_is_replaced() {
    let (_folder, path) = place();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "std leaves the file behind, as a killed server does");
    let _listener = Listener::bind(&path).unwrap();
    UnixStream::connect(&path).unwrap();
}

#[test]
fn the_socket_of_a_living_server_is_refused_even_if_it_takes_no_one() {
    let (_folder, path) = place();
    let _living = Listener::bind(&path).unwrap();
    let waiting: Vec<_> = (0..200).map(|_| connect_or_not(&path)).collect();
    let error = Listener::bind(&path).unwrap_err();
    assert!(matches!(error, ListenError::InUse(_)), "{error}");
    assert!(error.to_string().contains("another server is using this control socket"), "{error}");
    assert!(waiting.iter().any(Option::is_none), "its queue was not full");
    assert!(path.exists());
}

/// Connects without waiting for a place in the queue.
fn connect_or_not(path: &std::path::Path) -> Option<socket2::Socket> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.connect(&socket2::SockAddr::unix(path).unwrap()).ok().map(|()| socket)
}

#[test]
fn what_is_no_socket_is_not_removed() {
    let (folder, _) = place();
    let path = folder.path().join("notes");
    fs::write(&path, "mine").unwrap();
    let error = Listener::bind(&path).unwrap_err();
    assert!(matches!(error, ListenError::Foreign(_)), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
}

#[test]
fn the_socket_of_a_later_server_is_left_to_it() {
    let (_folder, path) = place();
    let first = Listener::bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let _second = Listener::bind(&path).unwrap();
    drop(first);
    assert!(path.exists());
}

#[test]
fn a_path_that_cannot_be_had_is_told_with_its_reason() {
    let (folder, _) = place();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Listener::bind(&file.join("control.sock")).unwrap_err().to_string();
    assert!(error.contains("the control socket cannot be made"), "{error}");
}

/// A server that replies to one client with `reply`, whatever it says.
fn replier(path: &std::path::Path, reply: &'static str) -> JoinHandle<String> {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        let mut client = BufReader::new(listener.accept().unwrap().0);
        let mut request = String::new();
        client.read_line(&mut request).unwrap();
        client.get_mut().write_all(reply.as_bytes()).unwrap();
        request
    })
}

#[test]
fn a_zone_file_that_was_cut_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sock");
    let header = r#"{"zone":"example.","serial":1,"records":2,"expired":false}"#;
    let reply = format!("{header}\nexample. 1 IN SOA a. b. 1 1 1 1 1\nexample. 1 IN NS").leak();
    let server = replier(&path, reply);
    let mut out = Vec::new();
    let error = Client::new(&path).export("example.", &mut out).unwrap_err();
    assert!(error.to_string().contains("1 of 2 records came"), "{error}");
    assert_eq!(server.join().unwrap(), "{\"command\":\"export\",\"zone\":\"example.\"}\n");
}

#[test]
fn what_is_no_server_of_ours_is_told_so() {
    for (reply, words) in [
        ("", "broke off"),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "is no Backstop of this version"),
        ("{\"done\": \"yes\"}\n", "is no Backstop of this version"),
        ("{\"error\": \"no\"}\n", "no"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sock");
        let server = replier(&path, reply);
        let error = Client::new(&path).status(None).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        server.join().unwrap();
    }
}
