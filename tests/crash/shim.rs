//! The system calls that the store writes with, watched: what would be on the disk if the power
//! failed.
//!
//! The functions defined here stand in for those of the C library, for LMDB as for the standard
//! library. They do what those do, and for the files of one store they also keep *stable*, what
//! was flushed, and *pending*, what was written since. A power cut leaves the stable images with
//! any of the pending writes applied, in any order, each sector of 512 octets by itself.
#![allow(unsafe_code, reason = "system calls of LMDB's are stood in for, which is done in C")]

use super::random::Random;
use libc::{c_int, c_void, iovec, off_t, size_t, ssize_t};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

const SECTOR: usize = 512;

/// Is any file watched? Asked before the lock is taken.
static WATCHING: AtomicBool = AtomicBool::new(false);
static WATCH: Mutex<Option<Watch>> = Mutex::new(None);
/// One watch at a time, as there is one set of system calls.
static TURN: Mutex<()> = Mutex::new(());

/// What the files hold, in the order in which they were given.
pub(crate) type Images = Vec<Vec<u8>>;
/// What a watch calls for every power cut: at that moment, before the write or flush returns.
pub(crate) type Cut = Box<dyn FnMut(Images) + Send>;

pub(crate) struct Watch {
    device_inodes: Vec<(u64, u64)>,
    stable: Images,
    pending: Vec<Write>,
    /// Does a flush do anything? Without, the simulation must find losses.
    pub(crate) flushes_work: bool,
    /// Do writes to the first file fail for want of room?
    pub(crate) full: bool,
    /// One in how many calls is a power cut.
    pub(crate) cut_one_in: u64,
    pub(crate) random: Random,
    pub(crate) cut: Cut,
}

struct Write {
    file: usize,
    at: usize,
    bytes: Vec<u8>,
}

/// Watches `files` while `during` runs.
pub(crate) fn watch<T>(
    files: &[File],
    set: impl FnOnce(&mut Watch),
    during: impl FnOnce() -> T,
) -> T {
    let read = |file: &File| std::fs::read(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut watch = Watch {
        device_inodes: files.iter().map(|file| identity(file.as_raw_fd()).unwrap()).collect(),
        stable: files.iter().map(read).collect(),
        pending: Vec::new(),
        flushes_work: true,
        full: false,
        cut_one_in: u64::MAX,
        random: Random::new(1),
        cut: Box::new(|_| ()),
    };
    set(&mut watch);
    *WATCH.lock().unwrap() = Some(watch);
    WATCHING.store(true, Ordering::SeqCst);
    let result = during();
    WATCHING.store(false, Ordering::SeqCst);
    *WATCH.lock().unwrap() = None;
    result
}

/// Changes the watch that runs.
pub(crate) fn rewatch(change: impl FnOnce(&mut Watch)) {
    change(WATCH.lock().unwrap().as_mut().unwrap());
}

impl Watch {
    fn write(&mut self, file: usize, at: usize, bytes: &[u8], durable: bool) {
        self.pending.push(Write { file, at, bytes: bytes.to_vec() });
        self.perhaps_cut();
        if durable && self.flushes_work {
            let write = self.pending.pop().unwrap();
            apply(&mut self.stable[file], at, &write.bytes);
        }
    }

    fn flush(&mut self, file: usize) {
        self.perhaps_cut();
        if self.flushes_work {
            for write in self.pending.extract_if(.., |write| write.file == file) {
                apply(&mut self.stable[file], write.at, &write.bytes);
            }
        }
    }

    fn perhaps_cut(&mut self) {
        if self.random.below(self.cut_one_in) != 0 {
            return;
        }
        let mut images = self.stable.clone();
        let mut order: Vec<usize> = (0..self.pending.len()).collect();
        self.random.shuffle(&mut order);
        // How much arrived differs from cut to cut: nothing at all, everything, or in between.
        let percent = [0, 20, 50, 80, 100][self.random.index(5)];
        for n in order {
            let Write { file, at, bytes } = &self.pending[n];
            let image = &mut images[*file];
            let torn = self.random.below(4) == 0;
            if !torn && self.random.below(100) < percent {
                apply(image, *at, bytes);
            } else if torn {
                self.tear(image, n, percent);
            }
        }
        (self.cut)(images);
    }

    /// Applies some sectors of a pending write.
    fn tear(&mut self, image: &mut Vec<u8>, n: usize, percent: u64) {
        let Write { at, bytes, .. } = &self.pending[n];
        let mut done = 0;
        while done < bytes.len() {
            let len = (SECTOR - (at + done) % SECTOR).min(bytes.len() - done);
            if self.random.below(100) < percent {
                apply(image, at + done, &bytes[done..done + len]);
            }
            done += len;
        }
    }
}

fn apply(image: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    image.resize(image.len().max(at + bytes.len()), 0);
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

fn identity(fd: c_int) -> Option<(u64, u64)> {
    // SAFETY: all-zero is a valid stat.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: fstat fills the struct that it is given and keeps no pointer to it.
    let failed = unsafe { libc::fstat(fd, &raw mut stat) };
    (failed == 0).then_some((stat.st_dev, stat.st_ino))
}

/// Runs `change` on the watch and the file's place in it, if the file that `fd` is is watched.
fn watched<T>(fd: c_int, change: impl FnOnce(&mut Watch, usize) -> T) -> Option<T> {
    if !WATCHING.load(Ordering::SeqCst) {
        return None;
    }
    let mut watch = WATCH.lock().unwrap_or_else(PoisonError::into_inner);
    let watch = watch.as_mut()?;
    let identity = identity(fd)?;
    let file = watch.device_inodes.iter().position(|&watched| watched == identity)?;
    Some(change(watch, file))
}

fn is_durable(fd: c_int) -> bool {
    // SAFETY: asks for flags, touches no memory.
    unsafe { libc::fcntl(fd, libc::F_GETFL) & libc::O_DSYNC != 0 }
}

/// Answers a write for want of room; `None` if there is room.
fn refuse(fd: c_int) -> Option<ssize_t> {
    if watched(fd, |watch, file| watch.full && file == 0) != Some(true) {
        return None;
    }
    // SAFETY: the C library's place for this thread's errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above; it is valid for the life of the thread.
    unsafe { *errno = libc::ENOSPC };
    Some(-1)
}

fn note(fd: c_int, buffer: *const c_void, written: ssize_t, at: off_t) {
    let Ok(len) = usize::try_from(written) else { return };
    let durable = is_durable(fd);
    watched(fd, |watch, file| {
        // SAFETY: the kernel has just read these octets from the same buffer, our caller's.
        let bytes = unsafe { std::slice::from_raw_parts(buffer.cast::<u8>(), len) };
        watch.write(file, usize::try_from(at).unwrap(), bytes, durable);
    });
}

#[unsafe(no_mangle)]
extern "C" fn pwrite(fd: c_int, buffer: *const c_void, len: size_t, at: off_t) -> ssize_t {
    if let Some(refused) = refuse(fd) {
        return refused;
    }
    // SAFETY: the caller's arguments, passed on.
    let written = unsafe { libc::syscall(libc::SYS_pwrite64, fd, buffer, len, at) };
    let written = ssize_t::try_from(written).unwrap();
    note(fd, buffer, written, at);
    written
}

#[unsafe(no_mangle)]
extern "C" fn pwrite64(fd: c_int, buffer: *const c_void, len: size_t, at: off_t) -> ssize_t {
    pwrite(fd, buffer, len, at)
}

#[unsafe(no_mangle)]
extern "C" fn write(fd: c_int, buffer: *const c_void, len: size_t) -> ssize_t {
    if let Some(refused) = refuse(fd) {
        return refused;
    }
    let at = watched(fd, |_, _| place(fd));
    // SAFETY: the caller's arguments, passed on.
    let written = unsafe { libc::syscall(libc::SYS_write, fd, buffer, len) };
    let written = ssize_t::try_from(written).unwrap();
    if let Some(at) = at {
        note(fd, buffer, written, at);
    }
    written
}

/// LMDB writes runs of pages with this, after seeking.
#[unsafe(no_mangle)]
extern "C" fn writev(fd: c_int, pieces: *const iovec, count: c_int) -> ssize_t {
    if let Some(refused) = refuse(fd) {
        return refused;
    }
    let at = watched(fd, |_, _| place(fd));
    // SAFETY: the caller's arguments, passed on.
    let written = unsafe { libc::syscall(libc::SYS_writev, fd, pieces, count) };
    let written = ssize_t::try_from(written).unwrap();
    let Some(mut at) = at else { return written };
    let mut left = written.max(0);
    for n in 0..usize::try_from(count).unwrap() {
        // SAFETY: within the array of `count` elements that the kernel has just read.
        let piece = unsafe { pieces.add(n) };
        // SAFETY: as above.
        let piece = unsafe { piece.read() };
        let len = left.min(ssize_t::try_from(piece.iov_len).unwrap());
        note(fd, piece.iov_base, len, at);
        at += len as off_t;
        left -= len;
    }
    written
}

/// Where the next write goes.
fn place(fd: c_int) -> off_t {
    // SAFETY: no memory involved.
    unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) }
}

#[unsafe(no_mangle)]
extern "C" fn fdatasync(fd: c_int) -> c_int {
    watched(fd, Watch::flush);
    // SAFETY: no memory involved.
    let result = unsafe { libc::syscall(libc::SYS_fdatasync, fd) };
    c_int::try_from(result).unwrap()
}

#[unsafe(no_mangle)]
extern "C" fn fsync(fd: c_int) -> c_int {
    watched(fd, Watch::flush);
    // SAFETY: no memory involved.
    let result = unsafe { libc::syscall(libc::SYS_fsync, fd) };
    c_int::try_from(result).unwrap()
}
