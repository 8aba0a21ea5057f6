//! Damage at rest: it costs the zones it hit, and nothing is ever overwritten.

use super::model::{Version, advance, apex, append, load, state};
use super::random::Random;
use super::shim::{self, Images};
use super::{ZONES, data_file, number, open_files, read_files, write_files};
use backstop::name::Key;
use backstop::store::{History, Options, Store, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const PAGE: usize = 4096;

/// A store with all zones at some version, closed; the serials.
fn filled(dir: &Path) -> BTreeMap<u32, u32> {
    let (store, _) = load(dir).unwrap();
    let mut random = Random::new(5);
    let mut serials = BTreeMap::new();
    for zone in 0..ZONES {
        let last = 1 + u32::try_from(random.below(12)).unwrap();
        for serial in 0..last {
            advance(&store, zone, serial, &mut random).wait().unwrap();
        }
        serials.insert(zone, last);
    }
    serials
}

/// Loads a damaged copy twice: nothing may be wrong or missing without a word. Was it noticed?
fn bears(images: &[Vec<u8>], serials: &BTreeMap<u32, u32>, what: &str) -> bool {
    // Of a file that is cut, the newest rows may be gone and older ones be the best there are.
    let older = what.contains("cut");
    let dir = tempfile::tempdir().unwrap();
    write_files(dir.path(), images);
    let Ok((store, found)) = load(dir.path()) else {
        let left = fs::read(data_file(dir.path())).unwrap();
        assert!(left == images[0], "{what}: changed by a refusal");
        return true;
    };
    assert_eq!(found.wrong, [""; 0], "{what}");
    assert!(
        found
            .serials
            .iter()
            .all(|(zone, &serial)| { serial == serials[zone] || older && serial < serials[zone] }),
        "{what}"
    );
    let lost = serials.len() - found.serials.len();
    assert!(lost == 0 || !found.damaged.is_empty(), "{what}: {lost} lost without a word");
    let mut random = Random::new(3);
    for zone in found.damaged.iter().filter_map(|(zone, _)| *zone) {
        advance(&store, zone, 0, &mut random).wait().unwrap();
    }
    let named = found.damaged.iter().filter(|(zone, _)| zone.is_some()).count();
    drop(store);
    let (_, again) = load(dir.path()).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!((again.wrong.len(), again.damaged.len()), (0, 0), "{what}: {again:?}");
    assert_eq!(again.serials.len(), found.serials.len() + named, "{what}");
    let aside = fs::read_dir(dir.path().join("damaged")).map_or(0, Iterator::count);
    assert!(aside >= usize::from(!found.damaged.is_empty()), "{what}: {aside} files aside");
    aside > 0
}

#[test]
fn damage_at_rest_costs_the_zones_it_hit() {
    let dir = tempfile::tempdir().unwrap();
    let serials = filled(dir.path());
    let image = fs::read(data_file(dir.path())).unwrap();
    let mut random = Random::new(number("CRASH_SEED", 1));
    let mut noticed = [0; 3];
    let rounds = number("CRASH_DAMAGES", 20);
    for round in 0..rounds {
        let mut flipped = image.clone();
        let bit = random.index(image.len() * 8);
        flipped[bit / 8] ^= 1 << (bit % 8);
        noticed[0] += u64::from(bears(&[flipped], &serials, &format!("{round}: bit {bit}")));
        let mut zeroed = image.clone();
        let page = random.index(image.len() / 4096) * 4096;
        zeroed[page..page + 4096].fill(0);
        noticed[1] += u64::from(bears(&[zeroed], &serials, &format!("{round}: page at {page}")));
        let len = random.index(image.len());
        noticed[2] +=
            u64::from(bears(&[image[..len].to_vec()], &serials, &format!("{round}: cut to {len}")));
    }
    assert!(noticed.iter().all(|noticed| *noticed > rounds / 5), "{noticed:?} of {rounds}");
}

/// A store as a crash leaves it, with diffs that only the log has; the serials.
fn crashed() -> (Images, BTreeMap<u32, u32>) {
    let dir = tempfile::tempdir().unwrap();
    let mut serials = filled(dir.path());
    let files = open_files(dir.path());
    let images = shim::watch(
        &files,
        |watch| watch.full = true,
        || {
            let (store, _) = load(dir.path()).unwrap();
            // Diffs are logged from when the keeper has the data file open.
            let open = store.read(apex(1).as_name(), |stored| stored.is_ok());
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            assert_eq!(runtime.block_on(open), Some(true));
            for _ in 0..3 {
                // The larger diffs come with the 13th version.
                let small = serials.iter_mut().filter(|(_, serial)| **serial < 11);
                let tickets = small.map(|(&zone, serial)| {
                    *serial += 1;
                    append(&store, zone, *serial - 1)
                });
                tickets.collect::<Vec<_>>().into_iter().for_each(|kept| kept.wait().unwrap());
            }
            let images = read_files(dir.path());
            shim::rewatch(|watch| watch.full = false);
            images
        },
    );
    (images, serials)
}

#[test]
fn damage_to_the_data_file_after_a_crash_costs_the_zones_it_hit() {
    let (images, serials) = crashed();
    let mut random = Random::new(number("CRASH_SEED", 1));
    assert!(!bears(&images, &serials, "no damage"));
    for round in 0..number("CRASH_DAMAGES", 20) {
        let mut damaged = images.clone();
        let page =
            if round % 4 == 0 { random.index(2) } else { random.index(images[0].len() / PAGE) };
        if round % 2 == 0 {
            damaged[0][page * PAGE..(page + 1) * PAGE].fill(0);
        } else {
            damaged[0][page * PAGE + random.index(PAGE)] ^= 1 << random.below(8);
        }
        bears(&damaged, &serials, &format!("{round}: page {page} after a crash"));
    }
}

#[test]
fn damage_to_the_log_after_a_crash_is_told() {
    let (images, serials) = crashed();
    // Behind the 488 octets that a sector has of a frame: the log's id, the frame's number, which of
    // its sectors it is. Behind the newest frame there are older ones.
    let is_first = |block: &[u8]| block[504..508] == [0; 4] && block[508..512] != [0; 4];
    let number_of = |block: &[u8]| is_first(block).then(|| block[496..504].to_vec());
    let numbers: Vec<_> = images[1].chunks(PAGE).map(number_of).collect();
    let newest = numbers.iter().position(|number| number == numbers.iter().max().unwrap()).unwrap();
    let frames = numbers[..newest].iter().flatten().count();
    assert!(frames >= 2 && images[2].chunks(PAGE).all(|block| number_of(block) < numbers[newest]));
    let mut random = Random::new(number("CRASH_SEED", 1));
    let mut lost = 0;
    for round in 0..number("CRASH_DAMAGES", 20) {
        let dir = tempfile::tempdir().unwrap();
        let mut damaged = images.clone();
        // The newest one, which nothing follows, more often than chance would have it.
        let from = if round % 3 == 0 { newest } else { 0 };
        let bit = (from * PAGE + random.index((newest + 1 - from) * PAGE)) * 8 + random.index(8);
        damaged[1][bit / 8] ^= 1 << (bit % 8);
        write_files(dir.path(), &damaged);
        let (_, found) = load(dir.path()).unwrap();
        assert_eq!(found.wrong, [""; 0], "{round}: bit {bit}");
        let all = found.serials == serials;
        assert!(all || found.damaged.iter().any(|(zone, _)| zone.is_none()), "{round}: bit {bit}");
        // Where later diffs show that one is missing, it is known of which zone.
        let known = |zone: &u32| found.damaged.iter().any(|(damaged, _)| damaged == &Some(*zone));
        let older = serials.iter().filter(|(zone, serial)| found.serials.get(zone) != Some(serial));
        lost += older.filter(|(zone, _)| known(zone)).count();
        let (_, again) = load(dir.path()).unwrap();
        assert_eq!((again.wrong.len(), again.damaged.len()), (0, 0), "{round}: {again:?}");
    }
    assert!(lost > 0, "no damage was felt");
}

#[test]
fn every_bit_of_a_page_that_holds_structure_is_minded() {
    let dir = tempfile::tempdir().unwrap();
    let serials = filled(dir.path());
    let image = fs::read(data_file(dir.path())).unwrap();
    let mut random = Random::new(number("CRASH_SEED", 1));
    // Meta pages, and the headers, slots and node headers of all others, where LMDB would stumble.
    for round in 0..number("CRASH_DAMAGES", 20) * 3 {
        let page = if round % 3 == 0 { random.index(2) } else { random.index(image.len() / 4096) };
        let bit = (page * 4096 + random.index(160)) * 8 + random.index(8);
        let mut flipped = image.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        bears(&[flipped], &serials, &format!("{round}: bit {bit}"));
    }
}

fn refused(dir: &Path) -> StoreError {
    let before = fs::read(data_file(dir)).unwrap();
    let error = Store::open(dir, Options::default()).err().expect("a refusal");
    assert_eq!(fs::read(data_file(dir)).unwrap(), before, "changed by a refusal");
    assert!(error.to_string().contains("move"), "no advice: {error}");
    error
}

#[test]
fn foreign_files_are_refused_and_left_as_they_are() {
    for content in [&b""[..], b"$ORIGIN example.\n", &[0; 20_000], &[0xff; 300]] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(data_file(dir.path()), content).unwrap();
        assert!(matches!(refused(dir.path()), StoreError::Foreign { .. }));
    }
}

/// The data file, with another number for its format.
fn with_format(image: &[u8], format: u32) -> Vec<u8> {
    // It is sealed: with the crc of "format" and it.
    let sealed = |format: u32| {
        let number = format.to_be_bytes();
        let crc = crc32fast::hash(&[&b"format"[..], &number].concat());
        [number, crc.to_be_bytes()].concat()
    };
    let known = sealed(3);
    let mut changed = image.to_vec();
    let places: Vec<usize> =
        (0..image.len() - 8).filter(|at| image[*at..*at + 8] == known).collect();
    assert!(!places.is_empty());
    for at in places {
        changed[at..at + 8].copy_from_slice(&sealed(format));
    }
    changed
}

#[test]
fn a_store_without_a_log_is_upgraded_without_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let serials = filled(dir.path());
    let mut image = with_format(&fs::read(data_file(dir.path())).unwrap(), 1);
    // As if there had never been such a value: under another key it means nothing.
    let position = b"\x03\0log";
    for at in
        (0..image.len() - 5).filter(|&at| image[at..].starts_with(position)).collect::<Vec<_>>()
    {
        image[at + 4] = b'f';
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(data_file(dir.path()), &image).unwrap();
    for _ in 0..2 {
        let (_, found) = load(dir.path()).unwrap();
        assert_eq!((found.wrong.len(), found.damaged.len(), &found.serials), (0, 0, &serials));
    }
    assert!(!fs::read(data_file(dir.path())).unwrap().starts_with(&image));
}

#[test]
fn other_formats_and_page_sizes_are_refused_and_left_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    drop(load(dir.path()).unwrap());
    let image = fs::read(data_file(dir.path())).unwrap();
    fs::write(data_file(dir.path()), with_format(&image, 4)).unwrap();
    assert!(matches!(refused(dir.path()), StoreError::Format { found: 4, .. }));
    // With such pages, the second meta page lies elsewhere.
    let mut changed = image;
    changed[40..44].copy_from_slice(&16_384_u32.to_ne_bytes());
    changed[4096..8192].fill(0);
    fs::write(data_file(dir.path()), &changed).unwrap();
    assert!(matches!(refused(dir.path()), StoreError::PageSize { found: 16_384, .. }));
}

/// A store of many small zones, closed, and the pages of each that nobody else's data is in.
fn many(dir: &Path, zones: u32) -> Vec<u8> {
    let (store, _) = load(dir).unwrap();
    let tickets = (1..=zones).map(|zone| {
        let version = Version { zone, serial: 1 };
        store.replace(apex(zone).as_name(), state(1), History::Drop, version)
    });
    tickets.collect::<Vec<_>>().into_iter().for_each(|ticket| ticket.wait().unwrap());
    drop(store);
    fs::read(data_file(dir)).unwrap()
}

/// The zones whose row, or part of whose base, is in one of the octets: found by what is in there,
/// for an image that has known no other version.
fn touched(image: &[u8], pages: &BTreeSet<usize>, zones: u32) -> BTreeSet<u32> {
    let within = |zone: &u32| {
        let row = Key::of(apex(*zone).as_name(), 0);
        let base = [zone.to_be_bytes(), 1_u32.to_be_bytes()].concat();
        pages.iter().any(|page| {
            let octets = &image[page * PAGE..(page + 1) * PAGE];
            let has = |what: &[u8]| octets.windows(what.len()).any(|window| window == what);
            has(row.as_bytes()) || has(&base)
        })
    };
    (1..=zones).filter(within).collect()
}

#[test]
fn zones_that_damage_did_not_touch_are_all_there() {
    const MANY: u32 = 200;
    let dir = tempfile::tempdir().unwrap();
    let image = many(dir.path(), MANY);
    let mut random = Random::new(number("CRASH_SEED", 1));
    let mut lost_in_all = 0;
    for round in 0..number("CRASH_DAMAGES", 20) {
        // Both meta pages may be hit too.
        let pages = 0..1 + random.below(3);
        let pages: BTreeSet<usize> = pages.map(|_| random.index(image.len() / PAGE)).collect();
        let mut damaged = image.clone();
        for page in &pages {
            for octet in &mut damaged[page * PAGE..(page + 1) * PAGE] {
                *octet = u8::try_from(random.below(256)).unwrap();
            }
        }
        let dir = tempfile::tempdir().unwrap();
        fs::write(data_file(dir.path()), &damaged).unwrap();
        let (_store, found) = load(dir.path()).unwrap();
        assert_eq!(found.wrong, [""; 0], "{round}: {pages:?}");
        let touched = touched(&image, &pages, MANY);
        let missing: Vec<u32> =
            (1..=MANY).filter(|zone| !found.serials.contains_key(zone)).collect();
        // What refers to chunks elsewhere is in pages without any octet of theirs.
        let indirect = |zone: &u32| zone.is_multiple_of(5);
        let unhurt: Vec<&u32> =
            missing.iter().filter(|zone| !touched.contains(zone) && !indirect(zone)).collect();
        assert!(unhurt.is_empty(), "{round}: pages {pages:?} cost {unhurt:?}");
        let hurt = missing.len();
        assert!(hurt == 0 || !found.damaged.is_empty(), "{round}: {hurt} lost without a word");
        lost_in_all += hurt;
        let kept = fs::read(dir.path().join("damaged/data.mdb.1"));
        assert!(kept.is_err() || kept.unwrap() == damaged, "{round}: not kept as it was");
    }
    assert!(lost_in_all > 0, "no damage was felt");
}

#[test]
fn a_file_without_meta_pages_is_salvaged_and_each_damaged_file_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let serials = filled(dir.path());
    for round in 1..=3 {
        let mut image = fs::read(data_file(dir.path())).unwrap();
        image[..2 * PAGE].fill(0);
        fs::write(data_file(dir.path()), &image).unwrap();
        let (_, found) = load(dir.path()).unwrap();
        assert_eq!((found.wrong.len(), &found.serials), (0, &serials), "{found:?}");
        let kept = dir.path().join(format!("damaged/data.mdb.{round}"));
        assert!(fs::read(kept).unwrap() == image);
    }
}
