//! A bare echo over recvmmsg and sendmmsg: what the kernel's UDP costs without a server on top.
//! `scripts/bench rate` sets the servers beside it.
//!
//!     udp_echo ADDRESS:PORT
//!
//! It sends every message back as a response (the QR bit set), until it is killed.

#![allow(unsafe_code, reason = "two system calls that take pointers")]

use backstop::io::{BATCH, Bind, REQUEST_MAX, bind};
use std::error::Error;
use std::os::fd::{AsFd, AsRawFd};
use std::{io, mem, ptr};

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).ok_or("usage: udp_echo ADDRESS:PORT")?;
    let socket = bind(address.parse()?, Bind::default())?;
    socket2::SockRef::from(&*socket).set_nonblocking(false)?;
    let fd = socket.as_fd().as_raw_fd();
    let mut octets = vec![[0_u8; REQUEST_MAX]; BATCH];
    // SAFETY: zero is a value of every field, here and below: numbers and null pointers.
    let mut peers: [libc::sockaddr_storage; BATCH] = unsafe { mem::zeroed() };
    // SAFETY: as above.
    let mut parts: [libc::iovec; BATCH] = unsafe { mem::zeroed() };
    // SAFETY: as above.
    let mut messages: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
    loop {
        for (index, message) in messages.iter_mut().enumerate() {
            let base = octets[index].as_mut_ptr().cast();
            parts[index] = libc::iovec { iov_base: base, iov_len: REQUEST_MAX };
            message.msg_hdr.msg_iov = &raw mut parts[index];
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_name = (&raw mut peers[index]).cast();
            message.msg_hdr.msg_namelen = u32::try_from(size_of::<libc::sockaddr_storage>())?;
        }
        let (first, count) = (messages.as_mut_ptr(), u32::try_from(BATCH)?);
        // SAFETY: the headers lead to arrays that live as long and are written by nobody else.
        let got =
            unsafe { libc::recvmmsg(fd, first, count, libc::MSG_WAITFORONE, ptr::null_mut()) };
        let Ok(got) = usize::try_from(got) else { return Err(io::Error::last_os_error().into()) };
        for (index, message) in messages[..got].iter().enumerate() {
            octets[index][2] |= 0x80;
            let base = octets[index].as_mut_ptr().cast();
            parts[index] = libc::iovec { iov_base: base, iov_len: message.msg_len as usize };
        }
        send(fd, &mut messages[..got]);
    }
}

/// Sends all of them; what cannot be sent is left out.
fn send(fd: i32, mut messages: &mut [libc::mmsghdr]) {
    while !messages.is_empty() {
        let count = u32::try_from(messages.len()).expect("a batch");
        // SAFETY: the headers lead to arrays of the caller, as long as their lengths say.
        let sent = unsafe { libc::sendmmsg(fd, messages.as_mut_ptr(), count, 0) };
        messages = &mut messages[usize::try_from(sent).map_or(1, |sent| sent.max(1))..];
    }
}
