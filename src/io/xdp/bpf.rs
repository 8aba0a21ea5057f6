//! bpf(2): maps of AF_XDP sockets, programs, and the links that attach them to interfaces.
//!
//! **Invariants.** *gone with us*: all are file descriptors, so that whatever ends the process,
//! even SIGKILL, detaches its programs.

#![allow(unsafe_code, reason = "this is where bpf(2) is called")]

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use libc::c_int;

use super::super::sys::check;

/// One instruction of a program (linux/bpf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Instruction {
    pub(super) code: u8,
    pub(super) registers: u8,
    pub(super) offset: i16,
    pub(super) immediate: i32,
}

// enum bpf_cmd
const MAP_CREATE: c_int = 0;
const MAP_UPDATE: c_int = 2;
const PROG_LOAD: c_int = 5;
#[cfg(test)]
const PROG_TEST_RUN: c_int = 10;
const INFO_BY_FD: c_int = 15;
const LINK_CREATE: c_int = 28;
const LINK_UPDATE: c_int = 29;

const MAP_TYPE_XSKMAP: u32 = 17;
const PROG_TYPE_XDP: u32 = 6;
/// enum bpf_attach_type: BPF_XDP
const ATTACH_XDP: u32 = 37;
/// linux/if_link.h
const XDP_FLAGS_SKB_MODE: u32 = 2;
const XDP_FLAGS_DRV_MODE: u32 = 4;

/// The verifier's words are cut to this.
const LOG_MAX: u32 = 16 << 10;

/// AF_XDP sockets by the number of their queue.
pub(super) struct Map(OwnedFd);

impl Map {
    /// With places for queues 0 to `queues` - 1.
    pub(super) fn new(queues: u32) -> io::Result<Self> {
        #[repr(C)]
        struct Create {
            map_type: u32,
            key_size: u32,
            value_size: u32,
            max_entries: u32,
        }
        let mut create = Create {
            map_type: MAP_TYPE_XSKMAP,
            key_size: 4,
            value_size: 4,
            max_entries: queues.max(1),
        };
        bpf_fd(MAP_CREATE, &mut create).map(Self)
    }

    /// Gives the packets of `queue` to `socket`.
    pub(super) fn put(&self, queue: u32, socket: &impl AsFd) -> io::Result<()> {
        #[repr(C)]
        struct Element {
            map: c_int,
            pad: u32,
            key: u64,
            value: u64,
            flags: u64,
        }
        let socket: c_int = socket.as_fd().as_raw_fd();
        let mut element = Element {
            map: self.raw(),
            pad: 0,
            key: address(&queue),
            value: address(&socket),
            flags: 0,
        };
        bpf(MAP_UPDATE, &mut element).map(drop)
    }

    /// For the instruction that names it.
    pub(super) fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A program that the verifier has accepted.
pub(super) struct Program(OwnedFd);

impl Program {
    /// Loads an XDP program; a refusal has the verifier's words.
    pub(super) fn load(steps: &[Instruction]) -> io::Result<Self> {
        match Self::try_load(steps, &mut []) {
            Err(error) if !matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOMEM)) => {
                let mut log = vec![0; LOG_MAX as usize];
                Self::try_load(steps, &mut log).map_err(|error| {
                    let end = log.iter().position(|&octet| octet == 0).unwrap_or(log.len());
                    let log = String::from_utf8_lossy(&log[..end]);
                    io::Error::new(error.kind(), format!("{error}; the verifier says: {log}"))
                })
            }
            result => result,
        }
    }

    fn try_load(steps: &[Instruction], log: &mut [u8]) -> io::Result<Self> {
        #[repr(C)]
        struct Load {
            prog_type: u32,
            insn_cnt: u32,
            insns: u64,
            license: u64,
            log_level: u32,
            log_size: u32,
            log_buf: u64,
            kern_version: u32,
            prog_flags: u32,
            prog_name: [u8; 16],
            prog_ifindex: u32,
            expected_attach_type: u32,
        }
        let licence = c"MIT";
        let told = !log.is_empty();
        let mut load = Load {
            prog_type: PROG_TYPE_XDP,
            insn_cnt: u32::try_from(steps.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
            insns: steps.as_ptr().expose_provenance() as u64,
            license: licence.as_ptr().expose_provenance() as u64,
            log_level: u32::from(told),
            log_size: if told { LOG_MAX } else { 0 },
            log_buf: if told { log.as_mut_ptr().expose_provenance() as u64 } else { 0 },
            kern_version: 0,
            prog_flags: 0,
            prog_name: *b"backstop\0\0\0\0\0\0\0\0",
            prog_ifindex: 0,
            expected_attach_type: ATTACH_XDP,
        };
        bpf_fd(PROG_LOAD, &mut load).map(Self)
    }

    /// What the program returns for `frame`, as if it had come in by queue 0.
    #[cfg(test)]
    pub(super) fn test_run(&self, frame: &[u8]) -> io::Result<u32> {
        #[repr(C)]
        struct Run {
            program: c_int,
            retval: u32,
            data_size_in: u32,
            data_size_out: u32,
            data_in: u64,
            data_out: u64,
            repeat: u32,
            duration: u32,
        }
        let mut run = Run {
            program: self.0.as_raw_fd(),
            retval: 0,
            data_size_in: u32::try_from(frame.len()).expect("a frame"),
            data_size_out: 0,
            data_in: frame.as_ptr().expose_provenance() as u64,
            data_out: 0,
            repeat: 1,
            duration: 0,
        };
        bpf(PROG_TEST_RUN, &mut run)?;
        Ok(run.retval)
    }
}

/// Where in the kernel the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver.
    Native,
    /// In the network stack: any driver, at a higher cost.
    Generic,
}

/// A program on an interface, which leaves it when this is dropped.
pub(super) struct Link(OwnedFd);

impl Link {
    pub(super) fn attach(program: &Program, interface: u32, mode: Mode) -> io::Result<Self> {
        #[repr(C)]
        struct Create {
            program: c_int,
            interface: u32,
            attach_type: u32,
            flags: u32,
        }
        let flags = match mode {
            Mode::Native => XDP_FLAGS_DRV_MODE,
            Mode::Generic => XDP_FLAGS_SKB_MODE,
        };
        let program = program.0.as_raw_fd();
        bpf_fd(LINK_CREATE, &mut Create { program, interface, attach_type: ATTACH_XDP, flags })
            .map(Self)
    }

    /// Puts another program in the place of the one that is there: no packet passes between.
    pub(super) fn replace(&self, program: &Program) -> io::Result<()> {
        #[repr(C)]
        struct Update {
            link: c_int,
            program: c_int,
            flags: u32,
            old: c_int,
        }
        let (link, program) = (self.0.as_raw_fd(), program.0.as_raw_fd());
        bpf(LINK_UPDATE, &mut Update { link, program, flags: 0, old: 0 }).map(drop)
    }

    /// Is the program still on an interface? Not if that is gone, or somebody detached it.
    pub(super) fn is_attached(&self) -> bool {
        /// `struct bpf_link_info`, with what it holds of an XDP link, and room to grow.
        #[repr(C)]
        struct About {
            kind: u32,
            id: u32,
            program: u32,
            pad: u32,
            interface: u32,
            rest: [u32; 59],
        }
        #[repr(C)]
        struct Info {
            fd: c_int,
            len: u32,
            about: u64,
        }
        // SAFETY: integers: all zeros are a value.
        let mut about: About = unsafe { mem::zeroed() };
        let len = u32::try_from(size_of::<About>()).expect("small");
        let to = (&raw mut about).expose_provenance() as u64;
        let asked = bpf(INFO_BY_FD, &mut Info { fd: self.0.as_raw_fd(), len, about: to });
        asked.is_err() || about.interface != 0
    }
}

fn address<T>(of: &T) -> u64 {
    (&raw const *of).expose_provenance() as u64
}

fn bpf_fd<A>(command: c_int, attributes: &mut A) -> io::Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    // SAFETY: just opened (close-on-exec, as bpf(2) has them), owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `A` is what `command` takes; its addresses are of memory that the caller borrows.
fn bpf<A>(command: c_int, attributes: &mut A) -> io::Result<c_int> {
    let start = &raw mut *attributes;
    // SAFETY: `attributes` are borrowed for the call, with their size.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, start, size_of::<A>()) };
    check(c_int::try_from(result).unwrap_or(-1))
}
