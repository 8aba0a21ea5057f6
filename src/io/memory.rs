//! Memory that is given back to the system: what the allocator holds free, and what is mapped of a
//! file.
//!
//! **How it fits.** `main` and the store use it; no packet passes here.

#![allow(unsafe_code, reason = "the allocator's options and the mapping of files are the system's")]

use super::sys::check;
use std::fs;
use std::io;
use std::path::Path;
use std::ptr;

/// The number of an option of mimalloc's, as its header has it (3.3): Rust has no name for it.
const PURGE_DELAY: libc::c_int = 15;

/// From now on mimalloc gives back at once what is free. By default it waits for its next use by
/// the thread that had the memory: builders and the reaper may have none for a long time, and the
/// version that was replaced stays resident meanwhile. To be called before threads are started.
pub fn give_back_at_once() {
    // SAFETY: takes no pointers; no other thread allocates yet.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, 0) };
}

/// Only what asks for transparent huge pages gets them: the frames of AF_XDP. The allocator is built
/// without (two megabytes for a first octet are too much), and forbids them to the whole process.
pub fn huge_pages_where_asked_for() {
    const NONE: libc::c_ulong = 0;
    // PR_THP_DISABLE_EXCEPT_ADVISED, from Linux 6.18 on. Before, it is as the system's setting says.
    const EXCEPT_ADVISED: libc::c_ulong = 1 << 1;
    for (disable, flags) in [(1, EXCEPT_ADVISED), (NONE, NONE)] {
        // SAFETY: takes no pointers.
        if unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, disable, flags, NONE, NONE) } == 0 {
            return;
        }
    }
}

/// Takes the pages of a file that this process has mapped to share out of its memory; those that
/// are read again come back from the system's cache. Whoever calls keeps the mapping from being
/// undone meanwhile.
///
/// # Errors
/// The system's.
pub fn forget_mapped(file: &Path) -> io::Result<()> {
    let file = fs::canonicalize(file)?;
    for line in fs::read_to_string("/proc/self/maps")?.lines() {
        let Some((start, len)) = shared_mapping(line, &file) else { continue };
        let start = ptr::without_provenance_mut(start);
        // SAFETY: a mapping of the file, which it shares: what is in it is in the file as well, and
        // the caller keeps it from being undone.
        check(unsafe { libc::madvise(start, len, libc::MADV_DONTNEED) })?;
    }
    Ok(())
}

/// Address and length of the mapping that a line of `/proc/self/maps` tells of, if it is of `file`,
/// read-only and shared.
fn shared_mapping(line: &str, file: &Path) -> Option<(usize, usize)> {
    let mut words = line.splitn(6, ' ');
    let (start, end) = words.next()?.split_once('-')?;
    let shares = words.next()? == "r--s";
    let is_file = Path::new(words.nth(3)?.trim_start()) == file;
    let number = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (number(start)?, number(end)?);
    (shares && is_file).then_some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsRawFd;

    /// Octets of the file that are in memory, by the system's account.
    fn resident(file: &Path) -> usize {
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = smaps.lines().skip_while(|line| !line.ends_with(file.to_str().unwrap()));
        let rss = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
        rss.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
    }

    #[test]
    fn what_was_read_of_a_mapped_file_is_forgotten_and_can_be_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = fs::canonicalize(dir.path()).unwrap().join("a file");
        fs::write(&path, [7; 1 << 20]).unwrap();
        let file = File::open(&path).unwrap();
        let (prot, flags) = (libc::PROT_READ, libc::MAP_SHARED);
        // SAFETY: a mapping of its own, wherever there is room.
        let map = unsafe { libc::mmap(ptr::null_mut(), 1 << 20, prot, flags, file.as_raw_fd(), 0) };
        assert_ne!(map, libc::MAP_FAILED);
        // SAFETY: just mapped, as long, and never unmapped in this test.
        let octets = unsafe { std::slice::from_raw_parts(map.cast::<u8>(), 1 << 20) };
        assert!(octets.iter().all(|&octet| octet == 7));
        assert_eq!(resident(&path), 1 << 20);
        forget_mapped(&path).unwrap();
        assert_eq!(resident(&path), 0);
        assert!(octets.iter().all(|&octet| octet == 7));
    }

    #[test]
    fn only_a_shared_read_only_mapping_of_the_very_file_is_meant() {
        let line = "7f00-7f10 r--s 00000000 fe:00 12                   /a/data.mdb";
        assert_eq!(shared_mapping(line, Path::new("/a/data.mdb")), Some((0x7f00, 0x10)));
        assert_eq!(shared_mapping(line, Path::new("/data.mdb")), None);
        for other in ["r--p", "rw-s"] {
            let line = line.replace("r--s", other);
            assert_eq!(shared_mapping(&line, Path::new("/a/data.mdb")), None);
        }
        assert_eq!(shared_mapping("7f00-7f10 rw-p 00000000 00:00 0 ", Path::new("/a")), None);
    }
}
