//! Network interfaces as the system knows them: numbers, addresses, queues, and news of them.
//!
//! Asked by ioctl(2) and getifaddrs(3), which see the network namespace of who asks (what /sys
//! shows is that of who mounted it).

#![allow(unsafe_code, reason = "requests to the system are unions and linked lists")]

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use libc::{c_char, c_int, c_ulong};

use super::super::sys::{check, size};

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mac(pub(super) [u8; 6]);

/// What an interface is at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    /// Its number; a new one if it was deleted and made again.
    pub(super) index: u32,
    pub(super) mac: Mac,
    /// Octets of an IP packet at the most.
    pub(super) mtu: u32,
    /// Receive queues.
    pub(super) queues: u32,
    pub(super) is_up: bool,
}

/// Why an interface cannot be had.
#[derive(Debug)]
pub(super) enum Unfit {
    /// There is none of this name.
    Absent,
    /// It has no Ethernet addresses.
    NoEthernet,
    /// The system does not say.
    Unknown(io::Error),
}

const SIOCETHTOOL: c_ulong = 0x8946;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ARPHRD_ETHER: libc::sa_family_t = 1;

impl Device {
    /// The interface of this name.
    pub(super) fn find(name: &str) -> Result<Self, Unfit> {
        let asker = UdpSocket::bind("0.0.0.0:0").map_err(Unfit::Unknown)?;
        let ask = |what| ask(asker.as_fd(), name, what, |_| ());
        let index = match ask(libc::SIOCGIFINDEX) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Err(Unfit::Absent),
            result => result.map_err(Unfit::Unknown)?,
        };
        let flags = ask(libc::SIOCGIFFLAGS).map_err(Unfit::Unknown)?;
        let mtu = ask(libc::SIOCGIFMTU).map_err(Unfit::Unknown)?;
        let hardware = ask(libc::SIOCGIFHWADDR).map_err(Unfit::Unknown)?;
        // SAFETY: integers, filled in by this request.
        let index = unsafe { index.ifr_ifru.ifru_ifindex };
        // SAFETY: as above.
        let flags = unsafe { flags.ifr_ifru.ifru_flags };
        // SAFETY: as above.
        let mtu = unsafe { mtu.ifr_ifru.ifru_mtu };
        // SAFETY: as above.
        let hardware = unsafe { hardware.ifr_ifru.ifru_hwaddr };
        if hardware.sa_family != ARPHRD_ETHER {
            return Err(Unfit::NoEthernet);
        }
        let mac = std::array::from_fn(|at| hardware.sa_data[at].cast_unsigned());
        Ok(Self {
            index: index.cast_unsigned(),
            mac: Mac(mac),
            mtu: mtu.cast_unsigned(),
            queues: queues(asker.as_fd(), name),
            is_up: c_int::from(flags) & libc::IFF_UP != 0,
        })
    }
}

/// How many receive queues it uses; one where the driver does not say.
fn queues(asker: BorrowedFd<'_>, name: &str) -> u32 {
    /// `struct ethtool_channels`
    #[derive(Default)]
    #[repr(C)]
    struct Channels {
        command: u32,
        max: [u32; 4],
        rx: u32,
        tx: u32,
        other: u32,
        combined: u32,
    }
    let mut channels = Channels { command: ETHTOOL_GCHANNELS, ..Channels::default() };
    let data = (&raw mut channels).cast::<c_char>();
    match ask(asker, name, SIOCETHTOOL, |request| request.ifr_ifru.ifru_data = data) {
        Ok(_) => (channels.rx + channels.combined).max(1),
        Err(_) => 1,
    }
}

/// ioctl(2) with the interface's name, and whatever `prepare` adds: pointers to what outlives it.
fn ask(
    asker: BorrowedFd<'_>,
    name: &str,
    what: c_ulong,
    prepare: impl FnOnce(&mut libc::ifreq),
) -> io::Result<libc::ifreq> {
    // SAFETY: integers and a pointer: all zeros are a value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, octet) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = octet.cast_signed();
    }
    prepare(&mut request);
    // SAFETY: `request` is borrowed for the call and is what these requests take.
    check(unsafe { libc::ioctl(asker.as_raw_fd(), what as _, &raw mut request) })?;
    Ok(request)
}

/// An address of this host and the interface that has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Local {
    pub(super) ip: IpAddr,
    pub(super) interface: String,
}

/// The unicast addresses of this host, without those of loopback.
pub(super) fn local_addresses() -> io::Result<Vec<Local>> {
    let mut first: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: `first` is borrowed for the call.
    check(unsafe { libc::getifaddrs(&raw mut first) })?;
    let mut found = Vec::new();
    let mut next = first;
    // SAFETY: null, or a node of the list, which lives until it is freed below.
    while let Some(node) = unsafe { next.as_ref() } {
        next = node.ifa_next;
        // SAFETY: null, or an address of that node.
        let Some(address) = (unsafe { node.ifa_addr.as_ref() }) else { continue };
        let ip = match c_int::from(address.sa_family) {
            libc::AF_INET => {
                // SAFETY: the family says that it is a sockaddr_in.
                let v4 = unsafe { node.ifa_addr.cast::<libc::sockaddr_in>().read_unaligned() };
                IpAddr::V4(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)))
            }
            libc::AF_INET6 => {
                // SAFETY: the family says that it is a sockaddr_in6.
                let v6 = unsafe { node.ifa_addr.cast::<libc::sockaddr_in6>().read_unaligned() };
                IpAddr::V6(Ipv6Addr::from(v6.sin6_addr.s6_addr))
            }
            _ => continue,
        };
        // SAFETY: the name of that node, ended by a zero.
        let name = unsafe { CStr::from_ptr(node.ifa_name) };
        if !ip.is_loopback() {
            found.push(Local { ip, interface: name.to_string_lossy().into_owned() });
        }
    }
    // SAFETY: the list that getifaddrs gave, freed once; nothing of it was kept.
    unsafe { libc::freeifaddrs(first) };
    found.sort();
    found.dedup();
    Ok(found)
}

/// Readable when interfaces or addresses have changed (rtnetlink(7)). What is said is not read:
/// who hears of it looks for himself.
pub(super) struct News(File);

impl News {
    pub(super) fn listen() -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: takes no pointers.
        let fd = check(unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) })?;
        // SAFETY: just opened, owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: integers: all zeros are a value.
        let mut name: libc::sockaddr_nl = unsafe { mem::zeroed() };
        name.nl_family = libc::sa_family_t::try_from(libc::AF_NETLINK).expect("a small number");
        let groups = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
        name.nl_groups = groups.cast_unsigned();
        let len = size::<libc::sockaddr_nl>();
        let name = (&raw const name).cast();
        // SAFETY: `name` is borrowed for the call, with its size.
        check(unsafe { libc::bind(fd.as_raw_fd(), name, len) })?;
        Ok(Self(File::from(fd)))
    }

    /// Reads what was said, so that it is no longer readable.
    pub(super) fn hush(&self) {
        let mut octets = [0; 4096];
        // Too many to keep is an error once (ENOBUFS), then there are no more.
        for _ in 0..1000 {
            match (&self.0).read(&mut octets) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                _ => {}
            }
        }
    }
}

impl AsFd for News {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_found_and_no_ethernet() {
        assert!(matches!(Device::find("lo"), Err(Unfit::NoEthernet)));
        assert!(matches!(Device::find("no-such-thing"), Err(Unfit::Absent)));
        assert!(matches!(Device::find("a-name-that-is-too-long"), Err(Unfit::Absent)));
    }

    #[test]
    fn the_addresses_of_this_host_are_no_loopback() {
        let all = local_addresses().unwrap();
        assert!(all.iter().all(|local| !local.ip.is_loopback() && !local.interface.is_empty()));
    }

    #[test]
    fn news_are_silent_where_nothing_happens() {
        let news = News::listen().unwrap();
        news.hush();
    }
}
