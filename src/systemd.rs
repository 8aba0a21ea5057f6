//! Telling systemd how the server is (sd_notify(3)), over the datagram socket that it names.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Tells the service manager `state`, such as `"READY=1"` or `"STOPPING=1"`. `false`: there is
/// none that wants to know.
///
/// # Errors
/// It cannot be reached at `$NOTIFY_SOCKET`.
pub fn notify_systemd(state: &str) -> io::Result<bool> {
    match env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()) {
        Some(socket) => notify(&socket, state).map(|()| true),
        None => Ok(false),
    }
}

/// A name that begins with `@` is abstract: not in the file system (unix(7)).
fn notify(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    let sent = UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    if sent == state.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(receiver: &UnixDatagram) -> String {
        receiver.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        let mut octets = [0; 64];
        let len = receiver.recv(&mut octets).unwrap();
        String::from_utf8(octets[..len].to_vec()).unwrap()
    }

    #[test]
    fn a_socket_in_the_file_system_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        notify(path.as_os_str(), "READY=1").unwrap();
        assert_eq!(received(&receiver), "READY=1");
    }

    #[test]
    fn an_abstract_socket_is_told() {
        let name = format!("backstop-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let receiver = UnixDatagram::bind_addr(&address).unwrap();
        notify(OsStr::new(&format!("@{name}")), "STOPPING=1").unwrap();
        assert_eq!(received(&receiver), "STOPPING=1");
    }

    #[test]
    fn a_socket_that_no_one_reads_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(notify(folder.path().join("none").as_os_str(), "READY=1").is_err());
    }
}
