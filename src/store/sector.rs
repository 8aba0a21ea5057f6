//! Sectors, each sealed by itself: what a crash cut off is told from what the disk has damaged.
//!
//! **How it fits.** `log` has a frame spread over sectors to be written, and puts it together
//! again from what was read.
//!
//! **Invariants.**
//! - *as a whole*: a disk writes a sector or does not. So of a frame that was cut off while it was
//!   written, each sector is what it is to be, or what it was before: of another frame, or zeros.
//! - *anything else is damage*: a sector that is neither zeros nor sealed.

/// Octets that a disk writes as a whole.
const SECTOR: usize = 512;
/// Octets of a frame in one.
const BODY: usize = SECTOR - SEAL;
/// Behind them: the log's id, the frame's number, which of its sectors it is, a crc32 of all that.
const SEAL: usize = 24;

/// What a sector is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The log.
    pub(super) id: u64,
    /// The frame, by its first record.
    pub(super) first: u64,
    /// The how manieth of its sectors, from 0 on.
    pub(super) index: u32,
}

/// A sector that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sector<'l> {
    /// It was never written.
    Empty,
    /// It is as it was written.
    Sealed(Place, &'l [u8]),
    /// It is damaged.
    Broken,
}

/// What is where a frame may begin.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Gathered {
    /// No frame begins here.
    Nothing,
    /// What is here is damaged.
    Broken,
    /// This frame, which was cut off while it was written.
    Cut(Place),
    /// This frame, which is damaged.
    Damaged(Place),
    /// A whole one: its octets, to which there may be zeros behind, and how much room they take.
    Whole(Place, Vec<u8>, usize),
}

/// How many octets of sectors a frame of `len` octets takes.
pub(super) const fn room(len: usize) -> usize {
    len.div_ceil(BODY) * SECTOR
}

/// Spreads a frame over sectors.
pub(super) fn spread(frame: &[u8], id: u64, first: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(room(frame.len()));
    for (index, body) in (0_u32..).zip(frame.chunks(BODY)) {
        let begin = out.len();
        out.extend_from_slice(body);
        out.resize(begin + BODY, 0);
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&first.to_be_bytes());
        out.extend_from_slice(&index.to_be_bytes());
        let crc = crc32fast::hash(&out[begin..]);
        out.extend_from_slice(&crc.to_be_bytes());
    }
    out
}

/// Puts together the frame that begins here; `len_of` tells its length by its first octets.
pub(super) fn gather(octets: &[u8], len_of: impl Fn(&[u8]) -> Option<usize>) -> Gathered {
    let mut sectors = octets.chunks(SECTOR).map(Sector::of);
    let (place, body) = match sectors.next() {
        None | Some(Sector::Empty) => return Gathered::Nothing,
        Some(Sector::Broken) => return Gathered::Broken,
        Some(Sector::Sealed(Place { index: 1.., .. }, _)) => return Gathered::Nothing,
        Some(Sector::Sealed(place, body)) => (place, body),
    };
    let Some(len) = len_of(body) else { return Gathered::Damaged(place) };
    let (mut frame, mut is_cut, mut is_broken) = (body.to_vec(), false, false);
    for (index, sector) in (1_u32..).zip(sectors).take(len.div_ceil(BODY).saturating_sub(1)) {
        match sector {
            Sector::Sealed(found, body) if found == (Place { index, ..place }) => {
                frame.extend_from_slice(body);
            }
            Sector::Sealed(..) | Sector::Empty => is_cut = true,
            Sector::Broken => is_broken = true,
        }
    }
    match () {
        () if is_broken => Gathered::Damaged(place),
        () if is_cut => Gathered::Cut(place),
        // Sealed, and longer than the file: no frame was ever written like that.
        () if frame.len() < len => Gathered::Damaged(place),
        () => Gathered::Whole(place, frame, room(len)),
    }
}

impl<'l> Sector<'l> {
    fn of(octets: &'l [u8]) -> Self {
        let sealed = || {
            let (body, seal) = octets.split_at_checked(BODY)?;
            let (seal, crc) = seal.split_last_chunk()?;
            let (id, rest) = seal.split_first_chunk()?;
            let (first, index) = rest.split_first_chunk()?;
            let place = Place {
                id: u64::from_be_bytes(*id),
                first: u64::from_be_bytes(*first),
                index: u32::from_be_bytes(index.try_into().ok()?),
            };
            let is_whole =
                crc32fast::hash(&octets[..SECTOR - crc.len()]) == u32::from_be_bytes(*crc);
            is_whole.then_some(Self::Sealed(place, body))
        };
        match sealed() {
            Some(sealed) => sealed,
            None if octets.iter().all(|&octet| octet == 0) => Self::Empty,
            None => Self::Broken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 3 * BODY - 10;

    fn len_of(body: &[u8]) -> Option<usize> {
        Some(usize::from(u16::from_be_bytes([body[0], body[1]])))
    }

    fn frame(len: usize, with: u8) -> Vec<u8> {
        let mut frame = vec![with; len];
        frame[..2].copy_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
        frame
    }

    fn written(with: u8, first: u64) -> Vec<u8> {
        spread(&frame(LEN, with), 9, first)
    }

    #[test]
    fn a_frame_comes_back_from_its_sectors() {
        for len in [2, BODY - 1, BODY, BODY + 1, LEN] {
            let octets = spread(&frame(len, 7), 9, 4);
            assert_eq!(octets.len(), room(len));
            let more = [&octets[..], &[0; SECTOR]].concat();
            let Gathered::Whole(place, found, taken) = gather(&more, len_of) else {
                panic!("{len}")
            };
            assert_eq!((place, taken), (Place { id: 9, first: 4, index: 0 }, octets.len()));
            assert!(found.starts_with(&frame(len, 7)) && found.len() < len + BODY);
        }
        assert_eq!(gather(&[], len_of), Gathered::Nothing);
        assert_eq!(gather(&[0; 2 * SECTOR], len_of), Gathered::Nothing);
        assert_eq!(gather(&written(7, 4)[SECTOR..], len_of), Gathered::Nothing, "its middle");
    }

    /// Whatever of its sectors arrived, in the place of zeros or of an older frame.
    #[test]
    fn a_frame_that_was_cut_off_is_not_taken_for_a_damaged_one() {
        let new = written(7, 4);
        for before in [vec![0; new.len()], written(5, 1)] {
            for arrived in 0..8 {
                let mut octets = before.clone();
                for sector in (0..3).filter(|sector| arrived & 1 << sector != 0) {
                    let range = sector * SECTOR..(sector + 1) * SECTOR;
                    octets[range.clone()].copy_from_slice(&new[range]);
                }
                let found = gather(&octets, len_of);
                let is_old = before[0] != 0;
                let expected = match (arrived, &found) {
                    (7, Gathered::Whole(place, ..)) => place.first == 4,
                    (0, Gathered::Whole(place, ..)) => is_old && place.first == 1,
                    (_, Gathered::Cut(place)) if arrived & 1 == 0 => is_old && place.first == 1,
                    (_, Gathered::Cut(place)) => place.first == 4,
                    (_, Gathered::Nothing) => arrived & 1 == 0 && !is_old,
                    _ => false,
                };
                assert!(expected, "{arrived:b} arrived: {found:?}");
            }
        }
    }

    #[test]
    fn every_bit_that_flips_is_damage() {
        let whole = written(7, 4);
        for bit in 0..whole.len() * 8 {
            let mut octets = whole.clone();
            octets[bit / 8] ^= 1 << (bit % 8);
            let found = gather(&octets, len_of);
            let told = match bit / 8 / SECTOR {
                0 => found == Gathered::Broken,
                _ => found == Gathered::Damaged(Place { id: 9, first: 4, index: 0 }),
            };
            assert!(told, "bit {bit}: {found:?}");
        }
        assert!(matches!(gather(&whole[..2 * SECTOR], len_of), Gathered::Damaged(_)), "cut short");
    }
}
