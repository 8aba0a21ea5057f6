//! The log: where a diff is durable before it is in LMDB, at the price of one flush.
//!
//! **How it fits.** `intake` writes frames of diffs; `keeper` brings them into LMDB later, many in
//! one transaction, and keeps there how far it has come, the [`Position`]; `replay` reads what a
//! crash left behind. Two files of a fixed length are written in turn, all of their blocks
//! beforehand, so that a flush has nothing to write but the frame.
//!
//! A frame is how many records it has, their octets, then the records; spread over sectors that
//! say whose they are. It begins at a block of its own.
//!
//! **Invariants.**
//! - *never written again*: no block of a frame is touched until the diffs of all frames in its
//!   file are in LMDB.
//! - *numbered*: records are numbered without a gap from one store's first to its last; what is
//!   at or below the position is in LMDB.
//! - *ours*: frames with another log's id are as good as nothing.
//! - *cut off or damaged*: a frame is written when the one before is on the disk. So one that is
//!   missing before another is damage, and so is a sector that is not sealed where the next frame
//!   was to begin, or in it; one whose sectors did not all arrive was never acknowledged.

use super::State;
use super::format::{ZoneKey, decode_state, encode_state, take};
use super::load::sync_dir;
use super::sector::{Gathered, Place, gather, room, spread};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The files, in the state directory.
pub(super) const FILES: [&str; 2] = ["log.0", "log.1"];
/// What a frame begins at a multiple of.
const BLOCK: usize = 4096;
/// Octets of a frame before its records.
const HEADER: usize = 8;
/// What a frame began with before sectors were sealed.
const UNSEALED: [u8; 4] = *b"bslg";
/// Octets of a record beside its key and diff, at the most.
const RECORD: usize = 80;

/// How far LMDB has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// Which log; 0 if that is not known any more.
    pub(super) id: u64,
    /// The last record that is in LMDB.
    pub(super) applied: u64,
}

impl Position {
    /// Of a store whose position was lost with a damaged part of it.
    pub(super) const UNKNOWN: Self = Self { id: 0, applied: 0 };

    /// The beginning of a log of its own, after a record that may have had that number.
    pub(super) fn begin(applied: u64) -> Self {
        let id = getrandom::u64().expect("the kernel gives random numbers").max(1);
        Self { id, applied }
    }

    pub(super) fn encode(self) -> Vec<u8> {
        [self.id.to_be_bytes(), self.applied.to_be_bytes()].concat()
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let id = u64::from_be_bytes(take(&mut bytes)?);
        let applied = u64::from_be_bytes(take(&mut bytes)?);
        bytes.is_empty().then_some(Self { id, applied })
    }
}

/// The two files, open for writing.
pub(super) struct Log {
    files: [Half; 2],
    current: usize,
    /// Where the next frame begins in the current file.
    at: usize,
    len: usize,
    id: u64,
    next: u64,
}

struct Half {
    file: File,
    /// The last record in it that is not known to be in LMDB, or an earlier one.
    last: u64,
}

/// Records that are to become durable together.
pub(super) struct Frame {
    octets: Vec<u8>,
    count: u32,
    room: usize,
}

impl Log {
    /// Opens the log of a store that has all of its records in LMDB. Both files are written anew
    /// unless they have that length, in octets.
    pub(super) fn open(dir: &Path, position: Position, len: u64) -> io::Result<Self> {
        let [first, second] = FILES.map(|name| Half::open(dir, name, len));
        let files = [first?, second?];
        sync_dir(dir)?;
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let Position { id, applied } = position;
        Ok(Self { files, current: 0, at: 0, len, id, next: applied + 1 })
    }

    /// An empty frame, with the room that there is when LMDB has come to `applied`.
    pub(super) fn frame(&self, applied: u64) -> Frame {
        let left = self.len - self.at;
        let other_is_free = self.files[1 - self.current].last <= applied;
        let room = if other_is_free { self.len } else { left };
        Frame { octets: vec![0; HEADER], count: 0, room }
    }

    /// The number of a frame's last record, if that frame is written next.
    pub(super) fn number(&self, frame: &Frame) -> u64 {
        self.next + u64::from(frame.count) - 1
    }

    /// Writes a frame, and returns when it is on the disk. After an error it is not known what
    /// is: the log is of no use any more.
    pub(super) fn write(&mut self, frame: Frame) -> io::Result<()> {
        let last = self.number(&frame);
        let octets = frame.seal(self.id, self.next);
        if octets.len() > self.len - self.at {
            (self.current, self.at) = (1 - self.current, 0);
        }
        let half = &mut self.files[self.current];
        half.last = last;
        half.file.write_all_at(&octets, self.at as u64)?;
        half.file.sync_data()?;
        self.at += octets.len();
        self.next = last + 1;
        Ok(())
    }
}

impl Half {
    fn open(dir: &Path, name: &str, len: u64) -> io::Result<Self> {
        let path = dir.join(name);
        let mut options = File::options();
        let mut file = options.create(true).truncate(false).read(true).write(true).open(path)?;
        let mut first = Vec::new();
        (&file).take(BLOCK as u64).read_to_end(&mut first)?;
        let is_broken = gather(&first, len_of) == Gathered::Broken;
        if file.metadata()?.len() != len || is_broken {
            file.set_len(0)?;
            if let Err(error) = write_zeros(&mut file, len) {
                // On a full disk, LMDB has more need of the room.
                file.set_len(0)?;
                return Err(error);
            }
        }
        Ok(Self { file, last: 0 })
    }
}

fn write_zeros(file: &mut File, len: u64) -> io::Result<()> {
    let zeros = vec![0; 1 << 20];
    let mut left = len;
    while left > 0 {
        let some = usize::try_from(left).unwrap_or(usize::MAX).min(zeros.len());
        file.write_all(&zeros[..some])?;
        left -= some as u64;
    }
    file.sync_all()
}

impl Frame {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds a diff, unless there is no room for it.
    pub(super) fn add(&mut self, key: &ZoneKey, state: &State, from: u32, diff: &[u8]) -> bool {
        let (key, out) = (key.as_bytes(), &mut self.octets);
        let whole = out.len() + RECORD + key.len() + diff.len();
        let (Ok(key_len), Ok(diff_len)) = (u8::try_from(key.len()), u32::try_from(diff.len()))
        else {
            return false;
        };
        if room(whole).next_multiple_of(BLOCK) > self.room {
            return false;
        }
        out.push(key_len);
        out.extend_from_slice(key);
        encode_state(state, out);
        out.extend_from_slice(&from.to_be_bytes());
        out.extend_from_slice(&diff_len.to_be_bytes());
        out.extend_from_slice(diff);
        self.count += 1;
        true
    }

    /// The octets to be written: whole blocks.
    fn seal(self, id: u64, first: u64) -> Vec<u8> {
        let Self { mut octets, count, .. } = self;
        let len = u32::try_from(octets.len() - HEADER).expect("frames are small");
        octets[..4].copy_from_slice(&count.to_be_bytes());
        octets[4..HEADER].copy_from_slice(&len.to_be_bytes());
        let mut sectors = spread(&octets, id, first);
        sectors.resize(sectors.len().next_multiple_of(BLOCK), 0);
        sectors
    }
}

/// A diff, as it was logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) number: u64,
    pub(super) key: ZoneKey,
    pub(super) state: State,
    pub(super) from: u32,
    pub(super) diff: Vec<u8>,
}

/// What the log holds that is not in LMDB, as far as its position is known.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// In their order.
    pub(super) records: Vec<Record>,
    /// Are some missing before others?
    pub(super) gap: bool,
    /// Is there a frame behind the last one that was cut off while it was written?
    pub(super) is_cut_off: bool,
    /// Is what is behind the last one damaged?
    pub(super) is_end_damaged: bool,
}

/// What the files hold.
#[derive(Default)]
struct Contents {
    frames: Vec<Whole>,
    /// The numbers of frames that were cut off, and of those that are damaged.
    cut_off: Vec<u64>,
    damaged: Vec<u64>,
    /// Blocks that are damaged, so that it is not known whose they are.
    broken: Vec<End>,
}

/// A frame that is whole.
struct Whole {
    first: u64,
    end: End,
    records: Vec<Record>,
}

/// A place in one of the files.
type End = (usize, usize);

/// Reads the files. One that is not there holds nothing, one that cannot be read is a gap.
pub(super) fn read(dir: &Path, position: Position) -> Found {
    let (mut found, mut contents) = (Found::default(), Contents::default());
    for (file, name) in FILES.iter().enumerate() {
        match fs::read(dir.join(name)) {
            Ok(octets) => contents.read(file, &octets, position.id),
            Err(error) => found.gap |= error.kind() != io::ErrorKind::NotFound,
        }
    }
    let Contents { mut frames, cut_off, damaged, broken } = contents;
    frames.sort_by_key(|frame| frame.first);
    // After a start the next frame is at the beginning, and after one that fills its file.
    let last = frames.last().map(|frame| frame.end);
    let is_next = |&(file, at): &End| at == 0 || Some((file, at)) == last;
    let mut next = position.applied + 1;
    for record in frames.into_iter().flat_map(|frame| frame.records) {
        if record.number < next {
            continue;
        }
        // Without a position, what lies before its first record may be from long ago.
        found.gap |= record.number != next && position.id != 0;
        next = record.number + 1;
        found.records.push(record);
    }
    found.is_cut_off = cut_off.contains(&next);
    found.is_end_damaged = damaged.contains(&next) || broken.iter().any(is_next);
    found
}

impl Contents {
    /// Adds all frames of a file, wherever they are. With an `id` of 0, those of any log.
    fn read(&mut self, file: usize, octets: &[u8], id: u64) {
        let is_ours = |place: &Place| id == 0 || place.id == id;
        let mut at = 0;
        while at < octets.len() {
            let mut taken = BLOCK;
            match begun(&octets[at..]) {
                Gathered::Whole(place, frame, room) if is_ours(&place) => {
                    taken = room.next_multiple_of(BLOCK);
                    let (first, end) = (place.first, (file, at + taken));
                    match read_frame(&frame, first) {
                        Some(records) => self.frames.push(Whole { first, end, records }),
                        None => self.damaged.push(first),
                    }
                }
                Gathered::Cut(place) if is_ours(&place) => self.cut_off.push(place.first),
                Gathered::Damaged(place) if is_ours(&place) => self.damaged.push(place.first),
                Gathered::Broken => self.broken.push((file, at)),
                _ => {}
            }
            at += taken;
        }
    }
}

/// What begins here, be it of a version of before sectors were sealed.
fn begun(octets: &[u8]) -> Gathered {
    match gather(octets, len_of) {
        Gathered::Broken => gather_unsealed(octets).unwrap_or(Gathered::Broken),
        gathered => gathered,
    }
}

/// The frame that begins here behind a magic number, a crc32 of all that follows, the log's id,
/// and the number of its first record.
fn gather_unsealed(octets: &[u8]) -> Option<Gathered> {
    let from = &mut &octets[..];
    let (magic, crc): ([u8; 4], [u8; 4]) = (take(from)?, take(from)?);
    let sealed = *from;
    let [id, first] = [take(from)?, take(from)?].map(u64::from_be_bytes);
    let frame = from.get(..len_of(from)?)?;
    let room = octets.len() - from.len() + frame.len();
    let sealed = sealed.get(..room - magic.len() - crc.len())?;
    let is_whole = magic == UNSEALED && crc32fast::hash(sealed) == u32::from_be_bytes(crc);
    is_whole.then(|| Gathered::Whole(Place { id, first, index: 0 }, frame.to_vec(), room))
}

/// The octets of the frame that begins so.
fn len_of(mut header: &[u8]) -> Option<usize> {
    let [_count, len]: [u32; 2] = [take(&mut header)?, take(&mut header)?].map(u32::from_be_bytes);
    usize::try_from(len).ok()?.checked_add(HEADER)
}

/// The records of a frame, the first of which has that number.
fn read_frame(mut frame: &[u8], first: u64) -> Option<Vec<Record>> {
    let len = len_of(frame)?;
    let count = u32::from_be_bytes(take(&mut frame)?);
    let mut records = frame.get(size_of::<u32>()..len - size_of::<u32>())?;
    (0..u64::from(count)).map(|n| read_record(&mut records, first + n)).collect()
}

fn read_record(from: &mut &[u8], number: u64) -> Option<Record> {
    let [key_len] = take(from)?;
    let key = ZoneKey::from_bytes(take_some(from, usize::from(key_len))?)?;
    let state = decode_state(from)?;
    let serial = u32::from_be_bytes(take(from)?);
    let len = usize::try_from(u32::from_be_bytes(take(from)?)).ok()?;
    let diff = take_some(from, len)?.to_vec();
    Some(Record { number, key, state, from: serial, diff })
}

/// The next `len` octets.
fn take_some<'a>(from: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, rest) = from.split_at_checked(len)?;
    *from = rest;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::NameBuf;

    const LEN: usize = 8 * BLOCK;

    fn key(zone: u32) -> ZoneKey {
        ZoneKey::of(format!("z{zone}.example.").parse::<NameBuf>().unwrap().as_name())
    }

    fn state(serial: u32) -> State {
        State { serial, has_data: true, ..State::default() }
    }

    /// Writes a frame with a diff of that many octets; `false` if there was no room.
    fn write(log: &mut Log, applied: u64, serial: u32, len: usize) -> bool {
        let mut frame = log.frame(applied);
        let added = frame.add(&key(serial), &state(serial + 1), serial, &vec![7; len]);
        if added {
            log.write(frame).unwrap();
        }
        added
    }

    fn numbers(found: &Found) -> Vec<u64> {
        found.records.iter().map(|record| record.number).collect()
    }

    #[test]
    fn what_was_written_is_read_from_the_position_on() {
        let dir = tempfile::tempdir().unwrap();
        let position = Position::begin(10);
        let mut log = Log::open(dir.path(), position, LEN as u64).unwrap();
        for serial in 0..5 {
            assert!(write(&mut log, 10, serial, 5000));
        }
        let found = read(dir.path(), Position { applied: 12, ..position });
        assert_eq!((numbers(&found), found.gap), (vec![13, 14, 15], false));
        let record = &found.records[0];
        assert_eq!((&record.key, record.from, &record.state), (&key(2), 2, &state(3)));
        assert_eq!(record.diff, vec![7; 5000]);
        assert!(read(dir.path(), Position::begin(10)).records.is_empty());
        assert_eq!(read(dir.path(), Position::UNKNOWN).records.len(), 5);
    }

    #[test]
    fn a_file_is_used_again_once_all_of_it_is_applied_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let position = Position::begin(0);
        let mut log = Log::open(dir.path(), position, LEN as u64).unwrap();
        let mut serial = 0;
        while write(&mut log, 0, serial, 100) {
            serial += 1;
        }
        assert_eq!(serial, 16);
        assert!(!write(&mut log, 7, serial, 100));
        for serial in serial..24 {
            assert!(write(&mut log, 8, serial, 100));
        }
        assert!(!write(&mut log, 8, 24, 100));
        let found = read(dir.path(), Position { applied: 8, ..position });
        assert_eq!((numbers(&found), found.gap), ((9..=24).collect(), false));
        assert!(!write(&mut log, 24, 0, LEN));
    }

    #[test]
    fn a_frame_that_was_cut_off_is_nothing_and_any_other_that_is_not_whole_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let position = Position::begin(0);
        let mut log = Log::open(dir.path(), position, LEN as u64).unwrap();
        (0..3).for_each(|serial| assert!(write(&mut log, 0, serial, 1000)));
        let path = dir.path().join(FILES[0]);
        let whole = fs::read(&path).unwrap();
        let with = |change: &dyn Fn(&mut [u8])| {
            let mut octets = whole.clone();
            change(&mut octets);
            fs::write(&path, octets).unwrap();
            let found = read(dir.path(), position);
            (numbers(&found), found.gap, found.is_cut_off, found.is_end_damaged)
        };
        assert_eq!(with(&|_| {}), (vec![1, 2, 3], false, false, false));
        let spoilt = |block: usize, at: usize| with(&|octets| octets[block * BLOCK + at] ^= 1);
        for at in [50, 500, 600, 1100] {
            assert_eq!(spoilt(2, at), (vec![1, 2], false, false, true), "{at}: the last one");
            assert_eq!(spoilt(1, at), (vec![1, 3], true, false, false), "{at}");
        }
        assert_eq!(spoilt(3, 50), (vec![1, 2, 3], false, false, true), "where the next begins");
        assert_eq!(spoilt(4, 50), (vec![1, 2, 3], false, false, false), "beyond that");
        let not_arrived = |at: usize| with(&|octets| octets[2 * BLOCK + at..][..512].fill(0));
        assert_eq!(not_arrived(512), (vec![1, 2], false, true, false));
        assert_eq!(not_arrived(0), (vec![1, 2], false, false, false), "it was never begun");
    }

    #[test]
    fn a_log_of_before_sectors_were_sealed_is_read_and_then_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let position = Position::begin(4);
        let mut file = Vec::new();
        for first in [5_u64, 6] {
            let mut frame = Log::open(dir.path(), position, LEN as u64).unwrap().frame(4);
            assert!(frame.add(&key(1), &state(2), 1, &[7; 5000]));
            let mut octets = frame.octets;
            let len = u32::try_from(octets.len() - HEADER).unwrap();
            octets[..4].copy_from_slice(&1_u32.to_be_bytes());
            octets[4..HEADER].copy_from_slice(&len.to_be_bytes());
            let sealed = [&position.id.to_be_bytes()[..], &first.to_be_bytes(), &octets].concat();
            file.extend_from_slice(&UNSEALED);
            file.extend_from_slice(&crc32fast::hash(&sealed).to_be_bytes());
            file.extend_from_slice(&sealed);
            file.resize(file.len().next_multiple_of(BLOCK), 0);
        }
        file.resize(LEN, 0);
        fs::write(dir.path().join(FILES[0]), &file).unwrap();
        let told = |position| {
            let found = read(dir.path(), position);
            (numbers(&found), found.gap || found.is_cut_off || found.is_end_damaged)
        };
        assert_eq!(told(position), (vec![5, 6], false));
        assert_eq!(told(Position { applied: 5, ..position }), (vec![6], false));
        file[BLOCK + 100] ^= 1;
        fs::write(dir.path().join(FILES[0]), &file).unwrap();
        assert_eq!(told(position), (vec![6], true), "damaged");
        Log::open(dir.path(), Position { applied: 6, ..position }, LEN as u64).unwrap();
        assert_eq!(told(Position { applied: 6, ..position }), (vec![], false));
    }

    /// As files that a program of another time has left.
    #[test]
    fn a_file_that_begins_with_something_else_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let position = Position::begin(0);
        fs::write(dir.path().join(FILES[0]), vec![7; LEN]).unwrap();
        assert!(read(dir.path(), position).is_end_damaged);
        let mut log = Log::open(dir.path(), position, LEN as u64).unwrap();
        assert!(!read(dir.path(), position).is_end_damaged);
        assert!(write(&mut log, 0, 1, 100));
        assert_eq!(numbers(&read(dir.path(), position)), [1]);
    }
}
