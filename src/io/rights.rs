//! Capabilities (capabilities(7)): what AF_XDP needs while the server runs, and nothing else; and
//! none at all for what it starts.
//!
//! Sets are of threads: [`keep_for_xdp`] is to be called while there is but one, from which the
//! others have theirs; [`give_up_all`] on one that does nothing but start a program.

#![allow(unsafe_code, reason = "capset(2) and prctl(2) have no other way")]

use std::io;

use libc::{c_int, c_ulong};

use super::sys::check;

/// linux/capability.h: binding ports below 1024, interfaces and rings, AF_XDP sockets, programs.
const KEPT: [u32; 4] = [NET_BIND_SERVICE, NET_ADMIN, NET_RAW, BPF];
const NET_BIND_SERVICE: u32 = 10;
const NET_ADMIN: u32 = 12;
const NET_RAW: u32 = 13;
const BPF: u32 = 39;
/// Kept only where the limit of locked memory cannot be lifted: it stands in for that.
const IPC_LOCK: u32 = 14;
/// More than any kernel has.
const LAST: u32 = 63;
/// _LINUX_CAPABILITY_VERSION_3
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: c_int,
}

/// `struct __user_cap_data_struct`, of which there are two: the lower and the upper 32.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Gives up all capabilities but those that AF_XDP needs to set interfaces up again, of those that
/// there are, for good; and raises the limit of locked memory, as far as that is permitted.
///
/// # Errors
/// The system refuses: nothing is certain then.
pub fn keep_for_xdp() -> io::Result<()> {
    let mut keep = KEPT.to_vec();
    if !raise_locked_memory() {
        keep.push(IPC_LOCK);
    }
    let mut sets = read()?;
    let has = |number: u32| sets[(number / 32) as usize].permitted & 1 << (number % 32) != 0;
    let mut kept = [0; 2];
    for number in keep.iter().copied().filter(|&number| has(number)) {
        kept[(number / 32) as usize] |= 1 << (number % 32);
    }
    // Who may not bound himself (CAP_SETPCAP) has bounds already, or none that matter: the only
    // programs that are started have no capabilities and gain none.
    for number in (0..=LAST).filter(|number| !keep.contains(number)) {
        let _ = control(libc::PR_CAPBSET_DROP, number.into());
    }
    let _ = control(libc::PR_SET_NO_NEW_PRIVS, 1);
    for (set, kept) in sets.iter_mut().zip(kept) {
        *set = Sets { effective: kept, permitted: kept, inheritable: 0 };
    }
    write(&sets)
}

/// Gives up all capabilities of this thread for good, so that a program started from it has none
/// and gains none, not even as root; and has all files of the process closed where one starts.
///
/// # Errors
/// The system refuses: nothing should be started then.
pub fn give_up_all() -> io::Result<()> {
    control(libc::PR_SET_NO_NEW_PRIVS, 1)?;
    write(&[Sets::default(); 2])?;
    // Ours are opened so. Those that we were started with may not be, and where that cannot be
    // mended (before Linux 5.11), whoever started us left them open to all that we start.
    let (first, last) = (3_u32, u32::MAX);
    // SAFETY: takes numbers.
    let _ = unsafe { libc::syscall(libc::SYS_close_range, first, last, libc::CLOSE_RANGE_CLOEXEC) };
    Ok(())
}

fn read() -> io::Result<[Sets; 2]> {
    let mut header = Header { version: VERSION, pid: 0 };
    let mut sets = [Sets::default(); 2];
    let (head, data) = (&raw mut header, sets.as_mut_ptr());
    // SAFETY: both are borrowed for the call, and of the sizes that this version has.
    let result = unsafe { libc::syscall(libc::SYS_capget, head, data) };
    check(c_int::try_from(result).unwrap_or(-1)).map(|_| sets)
}

fn write(sets: &[Sets; 2]) -> io::Result<()> {
    let mut header = Header { version: VERSION, pid: 0 };
    let (head, data) = (&raw mut header, sets.as_ptr());
    // SAFETY: as in `read`.
    let result = unsafe { libc::syscall(libc::SYS_capset, head, data) };
    check(c_int::try_from(result).unwrap_or(-1)).map(drop)
}

fn control(what: c_int, value: c_ulong) -> io::Result<()> {
    let none: c_ulong = 0;
    // SAFETY: these take numbers.
    check(unsafe { libc::prctl(what, value, none, none, none) }).map(drop)
}

/// Without CAP_IPC_LOCK packets' memory counts against this limit. Is there none any more?
fn raise_locked_memory() -> bool {
    let all = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `all` is borrowed for the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const all) } == 0 {
        return true;
    }
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is borrowed for the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) } == 0 {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` is borrowed for the call. Where it is too low, opening a socket says so.
        let _ = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
    }
    limit.rlim_cur == libc::RLIM_INFINITY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_but_what_is_needed() {
        // Capabilities are a thread's own; the limit of locked memory may only have grown.
        std::thread::spawn(|| {
            let before = read().unwrap();
            let lifted = raise_locked_memory();
            keep_for_xdp().unwrap();
            let after = read().unwrap();
            for number in 0..=LAST {
                let (at, bit) = ((number / 32) as usize, 1 << (number % 32));
                let kept = (KEPT.contains(&number) || number == IPC_LOCK && !lifted)
                    && before[at].permitted & bit != 0;
                for set in [after[at].permitted, after[at].effective] {
                    assert_eq!(set & bit != 0, kept, "capability {number}");
                }
                assert_eq!(after[at].inheritable, 0);
            }
        })
        .join()
        .unwrap();
    }
}
