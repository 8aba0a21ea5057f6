//! System calls, checked: what socket2 and std do not cover, each behind a safe function.
//!
//! **How it fits.** With `message` (the memory that messages are made of), `memory` and `uring`, the
//! only places of `io` with unsafe code. Whatever is lent to the kernel here is borrowed for the call.
//!
//! Sending and receiving are in `message`, beside the types that make them safe.

#![allow(unsafe_code, reason = "this is where system calls are made")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use libc::{c_int, c_void, socklen_t};

/// TCP connections that may wait to be accepted; the system may allow fewer.
pub(super) const BACKLOG_MAX: c_int = libc::SOMAXCONN;

/// Wakes a sleeping turn: an eventfd.
pub(super) struct Bell(File);

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: just opened, owned by nobody else.
        Ok(Self(File::from(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Makes it readable. It can only fail where it is so already.
    pub(super) fn ring(&self) {
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }

    /// Makes it unreadable again. Had it rung?
    pub(super) fn hush(&self) -> bool {
        (&self.0).read(&mut [0; 8]).is_ok()
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// File descriptors to sleep on until one is readable.
pub(super) struct PollSet(Vec<libc::pollfd>);

impl PollSet {
    pub(super) fn new<'a>(fds: impl Iterator<Item = BorrowedFd<'a>>) -> Self {
        let entry = |fd: BorrowedFd<'_>| libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        Self(fds.map(entry).collect())
    }

    /// Waits until one is readable, `wait` is over (`None`: never), or a signal came. How many are?
    pub(super) fn wait(&mut self, wait: Option<Duration>) -> io::Result<usize> {
        let timeout = wait.map(timespec);
        let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        let (fds, count) = (self.0.as_mut_ptr(), self.0.len() as libc::nfds_t);
        // SAFETY: `fds` and `timeout` are borrowed for the call, `count` is their number.
        match check_count(unsafe { libc::ppoll(fds, count, timeout, ptr::null()) }) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            result => result,
        }
    }

    /// Was entry `index` readable, or in error, when last waited for?
    pub(super) fn is_ready(&self, index: usize) -> bool {
        self.0[index].revents != 0
    }
}

/// Binds the calling thread to one CPU.
pub fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: an array of integers.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: `cpu` was checked to be within the set.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: `set` is borrowed for the call, with its size.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) }).map(drop)
}

/// The CPUs that the calling thread may run on; none if the kernel does not say.
pub fn cpus() -> Vec<usize> {
    // SAFETY: an array of integers.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: `set` is borrowed for the call, with its size.
    let result = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
    if check(result).is_err() {
        return Vec::new();
    }
    // SAFETY: the range is that of the set.
    (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
}

/// Asks that the calling thread gets the processor soon after it wakes, if not for long. On the way
/// of an update are several threads with little to do each; on a busy machine every one of them
/// would wait until somebody's turn is over, 3 ms and more. Its share of the time stays the same,
/// and threads that it starts are as any others. Linux 6.12; before, nothing changes, nor where the
/// operator has given the process a rank of its own.
pub fn wake_soon() {
    const SLICE_NS: u64 = 100_000;
    let Ok(mut attributes) = scheduling() else { return };
    if attributes.sched_policy != libc::SCHED_OTHER.cast_unsigned() || attributes.sched_nice < 0 {
        return;
    }
    attributes.sched_flags |= libc::SCHED_FLAG_RESET_ON_FORK as u64;
    attributes.sched_runtime = SLICE_NS;
    // SAFETY: `attributes` is borrowed for the call; its size is in it.
    let _ = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
}

/// How the calling thread is scheduled.
fn scheduling() -> io::Result<libc::sched_attr> {
    // SAFETY: integers.
    let mut found: libc::sched_attr = unsafe { mem::zeroed() };
    let size = size_of_val(&found);
    // SAFETY: `found` is borrowed for the call, with its size.
    match unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut found, size, 0) } {
        0 => Ok(found),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Never set don't-fragment, never believe a path MTU (RFC 9715 section 3.1).
pub(super) fn set_mtu_omit(fd: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    if v6 {
        set(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, &libc::IPV6_PMTUDISC_OMIT)
    } else {
        set(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, &libc::IP_PMTUDISC_OMIT)
    }
}

/// Has the kernel tell the local address with each datagram.
pub(super) fn set_packet_info(fd: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    if v6 {
        set(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, &1)
    } else {
        set(fd, libc::IPPROTO_IP, libc::IP_PKTINFO, &1)
    }
}

/// A receive buffer beyond the system's limit; needs CAP_NET_ADMIN.
pub(super) fn force_receive_buffer(fd: BorrowedFd<'_>, size: usize) -> io::Result<()> {
    let size = c_int::try_from(size).unwrap_or(c_int::MAX);
    set(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &size)
}

/// A send buffer beyond the system's limit; needs CAP_NET_ADMIN.
pub(super) fn force_send_buffer(fd: BorrowedFd<'_>, size: usize) -> io::Result<()> {
    let size = c_int::try_from(size).unwrap_or(c_int::MAX);
    set(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &size)
}

/// Gives the packets of a group of `count` sockets to the one numbered CPU modulo `count`.
#[expect(clippy::cast_possible_truncation, reason = "instruction codes have 16 bits")]
pub(super) fn steer_by_cpu(fd: BorrowedFd<'_>, count: u32) -> io::Result<()> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const MODULO: u16 = (libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_A) as u16;
    const CPU: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_CPU).cast_unsigned();
    let step = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    let mut steps = [step(LOAD, CPU), step(MODULO, count), step(RETURN, 0)];
    let program = libc::sock_fprog { len: 3, filter: steps.as_mut_ptr() };
    set(fd, libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, &program)
}

/// setsockopt(2). `T` must be the type that the option wants; any other is an error or nonsense,
/// but the kernel reads no more than its size.
fn set<T>(fd: BorrowedFd<'_>, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    let start: *const c_void = ptr::from_ref(value).cast();
    // SAFETY: `start` is borrowed for the call, with its size; pointers in it (in a sock_fprog)
    // are to locals of the caller.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, start, size::<T>()) }).map(drop)
}

/// A wait as the kernel wants it; beyond its range is as good as for ever.
pub(super) fn timespec(wait: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: wait.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: wait.subsec_nanos().into(),
    }
}

/// The result of a system call: an error is -1 and errno.
pub(super) fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The same, of one that returns a count.
pub(super) fn check_count(result: c_int) -> io::Result<usize> {
    check(result).map(|count| count.cast_unsigned() as usize)
}

#[expect(clippy::cast_possible_truncation, reason = "the types of this file are small")]
pub(super) const fn size<T>() -> socklen_t {
    size_of::<T>() as socklen_t
}

/// The time as of the kernel's last tick, 1 to 10 ms ago, in nanoseconds: it only goes forward, from
/// no time in particular. Reading it costs less than half of what reading the exact one does.
#[inline]
pub fn tick() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is borrowed for the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Does the kernel say that something keeps the wall clock right?
pub fn wall_clock_is_synchronised() -> bool {
    // SAFETY: all fields of a `timex` are numbers, for which zero is a value.
    let mut clock: libc::timex = unsafe { mem::zeroed() };
    // SAFETY: `clock` is borrowed for the call; with no modes set it is only written to.
    let state = unsafe { libc::adjtimex(&raw mut clock) };
    state >= 0 && state != libc::TIME_ERROR && clock.status & libc::STA_UNSYNC == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_thread_that_is_to_wake_soon_keeps_its_rank_and_hands_nothing_on() {
        let before = scheduling().unwrap();
        let hurried = thread::spawn(|| {
            wake_soon();
            (scheduling().unwrap(), thread::spawn(|| scheduling().unwrap()).join().unwrap())
        });
        let (own, started) = hurried.join().unwrap();
        assert_eq!((own.sched_policy, own.sched_nice), (before.sched_policy, before.sched_nice));
        // A kernel that knows of no such thing says nothing of it.
        let changed = own.sched_runtime != before.sched_runtime;
        assert!(before.sched_runtime == 0 || changed && own.sched_runtime < 1_000_000);
        assert_eq!(started.sched_runtime, before.sched_runtime);
    }
}
