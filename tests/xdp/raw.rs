//! A card's view of the cable: whole frames, with the tags that the kernel takes off them on the
//! way in (packet(7)).
#![allow(unsafe_code, reason = "the tag comes in a control message")]

use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

/// Frames out and in at the interface "cable" of the namespace it is opened in.
pub(crate) struct Raw(OwnedFd);

const SOL_PACKET: i32 = 263;
const PACKET_AUXDATA: i32 = 8;
const TP_STATUS_VLAN_VALID: u32 = 1 << 4;

impl Raw {
    pub(crate) fn open() -> Self {
        let all = i32::from(u16::try_from(libc::ETH_P_ALL).unwrap().to_be());
        // SAFETY: takes no pointers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, all) };
        assert!(fd >= 0, "root may open a packet socket");
        // SAFETY: just opened, owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: integers: all zeros are a value.
        let mut name: libc::sockaddr_ll = unsafe { mem::zeroed() };
        name.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
        name.sll_protocol = u16::try_from(libc::ETH_P_ALL).unwrap().to_be();
        // SAFETY: a string that ends with zero.
        let index = unsafe { libc::if_nametoindex(c"cable".as_ptr()) };
        name.sll_ifindex = i32::try_from(index).unwrap();
        let len = libc::socklen_t::try_from(size_of_val(&name)).unwrap();
        // SAFETY: `name` is borrowed for the call, with its size.
        let bound = unsafe { libc::bind(fd.as_raw_fd(), (&raw const name).cast(), len) };
        assert_eq!(bound, 0);
        let patience = libc::timeval { tv_sec: 10, tv_usec: 0 };
        for (level, option, value, len) in [
            (SOL_PACKET, PACKET_AUXDATA, (&raw const ON).cast(), 4),
            (libc::SOL_SOCKET, libc::SO_RCVTIMEO, (&raw const patience).cast(), 16),
        ] {
            // SAFETY: `value` is borrowed for the call, with its size.
            let set = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, value, len) };
            assert_eq!(set, 0);
        }
        Self(fd)
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        // SAFETY: `frame` is borrowed for the call, with its length.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(usize::try_from(sent).unwrap(), frame.len());
    }

    /// The next frame that came in, and its tag.
    pub(crate) fn receive(&self) -> (Vec<u8>, Option<u16>) {
        let mut frame = vec![0_u8; 2048];
        let mut control = [0_u64; 16];
        let mut piece = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
        loop {
            // SAFETY: integers: all zeros are a value.
            let mut from: libc::sockaddr_ll = unsafe { mem::zeroed() };
            // SAFETY: integers and null pointers: all zeros are a value.
            let mut header: libc::msghdr = unsafe { mem::zeroed() };
            header.msg_name = (&raw mut from).cast();
            header.msg_namelen = libc::socklen_t::try_from(size_of_val(&from)).unwrap();
            header.msg_iov = &raw mut piece;
            header.msg_iovlen = 1;
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = size_of_val(&control);
            // SAFETY: all that `header` points to is borrowed for the call.
            let got = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut header, 0) };
            assert!(got > 0, "no frame came: {}", std::io::Error::last_os_error());
            if from.sll_pkttype == libc::PACKET_OUTGOING {
                continue;
            }
            return (frame[..usize::try_from(got).unwrap()].to_vec(), tag(&header));
        }
    }
}

static ON: i32 = 1;

/// "02:00:00:00:00:01"
pub(crate) fn mac(text: &str) -> [u8; 6] {
    let octets: Vec<_> =
        text.trim().split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect();
    octets.try_into().unwrap()
}

fn tag(header: &libc::msghdr) -> Option<u16> {
    /// `struct tpacket_auxdata`
    #[repr(C)]
    struct Auxiliary {
        status: u32,
        lens: [u32; 2],
        offsets: [u16; 2],
        tag: u16,
        kind: u16,
    }
    // SAFETY: a header that recvmsg filled in.
    let first = unsafe { libc::CMSG_FIRSTHDR(ptr::from_ref(header)) };
    // SAFETY: null, or within the control data.
    let control = unsafe { first.as_ref() }?;
    assert_eq!((control.cmsg_level, control.cmsg_type), (SOL_PACKET, PACKET_AUXDATA));
    // SAFETY: a control message has data.
    let data = unsafe { libc::CMSG_DATA(first) };
    // SAFETY: data of this kind is this struct.
    let told: Auxiliary = unsafe { data.cast::<Auxiliary>().read_unaligned() };
    (told.status & TP_STATUS_VLAN_VALID != 0).then_some(told.tag)
}
