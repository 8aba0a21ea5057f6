//! What a crash, a power cut, a bad disk or a foreign file may do to the store: nothing that is
//! not noticed.
//!
//! `CRASH_KILLS`, `CRASH_CUTS` and `CRASH_DAMAGES` set how many of each, `CRASH_SEED` where chance
//! begins. Figures: `cargo test --release --test crash commits_take -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod model;
mod random;
mod shim;

use model::{Version, advance, apex, judge, load, state};
use random::Random;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use backstop::store::{History, Options, Store, StoreError};

const ZONES: u32 = 24;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().map_or(default, |text| text.parse().unwrap())
}

fn data_file(dir: &Path) -> std::path::PathBuf {
    dir.join("data.mdb")
}

/// Not a test by itself: the child of the next one, which writes until it is killed.
#[test]
#[ignore = "the child of killed_at_any_moment"]
fn writes_until_killed() {
    let Some(dir) = std::env::var_os("CRASH_CHILD") else { return };
    let (store, found) = load(Path::new(&dir)).unwrap();
    let mut serials = found.serials;
    let mut random = Random::new(number("CRASH_SEED", 1));
    let mut stdout = std::io::stdout();
    for _ in 0.. {
        let mut zones: Vec<u32> = (0..ZONES).collect();
        random.shuffle(&mut zones);
        zones.truncate(1 + random.index(6));
        let tickets = zones.into_iter().map(|zone| {
            let serial = serials.get(&zone).copied().unwrap_or(0);
            (zone, serial + 1, advance(&store, zone, serial, &mut random))
        });
        for (zone, serial, ticket) in tickets.collect::<Vec<_>>() {
            ticket.wait().unwrap();
            serials.insert(zone, serial);
            stdout.write_all(format!("\nkept {zone} {serial}\n").as_bytes()).unwrap();
            stdout.flush().unwrap();
        }
    }
}

#[test]
fn killed_at_any_moment_it_has_all_that_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random::new(number("CRASH_SEED", 1));
    let mut acked: BTreeMap<u32, u32> = BTreeMap::new();
    let mut total = 0;
    for kill in 0..number("CRASH_KILLS", 20) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writes_until_killed", "--ignored", "--nocapture"])
            .env("CRASH_CHILD", dir.path())
            .env("CRASH_SEED", random.below(1 << 40).to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let acks = std::thread::spawn(move || {
            let mut acks = Vec::new();
            while let Some(Ok(line)) = lines.next() {
                if let Some(kept) = line.strip_prefix("kept ") {
                    let (zone, serial) = kept.split_once(' ').unwrap();
                    acks.push((zone.parse().unwrap(), serial.parse().unwrap()));
                }
            }
            acks
        });
        std::thread::sleep(Duration::from_millis(20 + random.below(350)));
        child.kill().unwrap();
        child.wait().unwrap();
        let acks: Vec<(u32, u32)> = acks.join().unwrap();
        total += acks.len();
        acked.extend(acks);
        let (store, found) = load(dir.path()).unwrap();
        let within = (0..ZONES).map(|zone| {
            let least = acked.get(&zone).copied().unwrap_or(0);
            (zone, least..=least + 1)
        });
        assert_eq!(judge(&found, &within.collect()), [""; 0], "after kill {kill}");
        acked = found.serials;
        drop(store);
    }
    assert!(total > 100, "only {total} changes between the kills");
}

/// A moment at which the power failed: the disk, and what each zone may be at.
struct Moment {
    image: Vec<u8>,
    within: BTreeMap<u32, RangeInclusive<u32>>,
}

/// Writes at random with power cuts, and returns what was wrong after each of them.
fn power_cuts(cuts: u64, seed: u64, flushes_work: bool) -> Vec<Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    drop(load(dir.path()).unwrap());
    let file = File::open(data_file(dir.path())).unwrap();
    let within: BTreeMap<u32, RangeInclusive<u32>> = (0..ZONES).map(|zone| (zone, 0..=0)).collect();
    let within = Arc::new(Mutex::new(within));
    let moments = Arc::new(Mutex::new(Vec::new()));
    let set = |watch: &mut shim::Watch| {
        let (within, moments) = (Arc::clone(&within), Arc::clone(&moments));
        watch.flushes_work = flushes_work;
        watch.cut_one_in = 97;
        watch.random = Random::new(seed);
        watch.cut = Box::new(move |image| {
            let within = within.lock().unwrap().clone();
            moments.lock().unwrap().push(Moment { image, within });
        });
    };
    let mut random = Random::new(seed + 1);
    let mut wrong = Vec::new();
    shim::watch(&file, set, || {
        let (store, _) = load(dir.path()).unwrap();
        while wrong.len() < usize::try_from(cuts).unwrap() {
            let mut zones: Vec<u32> = (0..ZONES).collect();
            random.shuffle(&mut zones);
            zones.truncate(1 + random.index(6));
            let tickets = zones.into_iter().map(|zone| {
                let mut within = within.lock().unwrap();
                let serial = *within[&zone].end();
                within.insert(zone, serial..=serial + 1);
                drop(within);
                (zone, serial + 1, advance(&store, zone, serial, &mut random))
            });
            for (zone, serial, ticket) in tickets.collect::<Vec<_>>() {
                ticket.wait().unwrap();
                within.lock().unwrap().insert(zone, serial..=serial);
            }
            let reached = std::mem::take(&mut *moments.lock().unwrap());
            wrong.extend(reached.iter().map(after_power_cut));
        }
    });
    wrong
}

fn after_power_cut(moment: &Moment) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(data_file(dir.path()), &moment.image).unwrap();
    match load(dir.path()) {
        Ok((_, found)) => judge(&found, &moment.within),
        Err(error) => vec![error.to_string()],
    }
}

#[test]
fn after_a_power_cut_all_that_was_acknowledged_is_there() {
    let cuts = number("CRASH_CUTS", 40);
    for (cut, wrong) in power_cuts(cuts, number("CRASH_SEED", 1), true).iter().enumerate() {
        assert_eq!(wrong, &[""; 0], "after power cut {cut}");
    }
}

#[test]
fn the_simulation_of_power_cuts_has_teeth() {
    let wrong = power_cuts(30, number("CRASH_SEED", 1), false);
    let noticed = wrong.iter().filter(|wrong| !wrong.is_empty()).count();
    assert!(noticed * 4 > wrong.len() * 3, "{noticed} of {} cuts without flushes", wrong.len());
}

#[test]
fn a_full_disk_fails_tickets_and_the_store_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = load(dir.path()).unwrap();
    let file = File::open(data_file(dir.path())).unwrap();
    let mut random = Random::new(1);
    advance(&store, 1, 0, &mut random).wait().unwrap();
    shim::watch(
        &file,
        |watch| watch.full = true,
        || {
            let small = advance(&store, 1, 1, &mut random).wait();
            assert!(matches!(small, Err(StoreError::Full(_))), "{small:?}");
            let large = advance(&store, 0, 0, &mut random).wait();
            assert!(matches!(large, Err(StoreError::Full(_))), "{large:?}");
            assert!(store.disk().full && store.disk().error.is_some());
            shim::rewatch(|watch| watch.full = false);
            advance(&store, 1, 1, &mut random).wait().unwrap();
            advance(&store, 0, 0, &mut random).wait().unwrap();
            assert_eq!(store.disk().error, None);
        },
    );
    drop(store);
    let (_store, found) = load(dir.path()).unwrap();
    assert_eq!(found.serials, BTreeMap::from([(0, 1), (1, 2)]));
    assert_eq!(found.wrong, [""; 0]);
}

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
fn bears(image: &[u8], serials: &BTreeMap<u32, u32>, what: &str) -> bool {
    let dir = tempfile::tempdir().unwrap();
    fs::write(data_file(dir.path()), image).unwrap();
    let Ok((store, found)) = load(dir.path()) else {
        assert_eq!(fs::read(data_file(dir.path())).unwrap(), image, "{what}: changed by a refusal");
        return true;
    };
    assert_eq!(found.wrong, [""; 0], "{what}");
    assert_eq!(found.serials.len() + found.damaged.len(), serials.len(), "{what}: {found:?}");
    assert!(found.serials.iter().all(|(zone, serial)| serials[zone] == *serial), "{what}");
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
    assert!(aside >= found.damaged.len(), "{what}: {aside} files aside");
    !found.damaged.is_empty()
}

#[test]
fn damage_at_rest_costs_the_zones_it_hit_or_is_refused_by_name() {
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
        noticed[0] += u64::from(bears(&flipped, &serials, &format!("{round}: bit {bit}")));
        let mut zeroed = image.clone();
        let page = random.index(image.len() / 4096) * 4096;
        zeroed[page..page + 4096].fill(0);
        noticed[1] += u64::from(bears(&zeroed, &serials, &format!("{round}: page at {page}")));
        let len = random.index(image.len());
        noticed[2] += u64::from(bears(&image[..len], &serials, &format!("{round}: cut to {len}")));
    }
    assert!(noticed.iter().all(|noticed| *noticed > rounds / 5), "{noticed:?} of {rounds}");
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
        bears(&flipped, &serials, &format!("{round}: bit {bit}"));
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

#[test]
fn other_formats_and_page_sizes_are_refused_and_left_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    drop(load(dir.path()).unwrap());
    let image = fs::read(data_file(dir.path())).unwrap();
    // The sealed number of the format: 1, and the crc of "format" and it.
    let sealed = |format: u32| {
        let number = format.to_be_bytes();
        let crc = crc32fast::hash(&[&b"format"[..], &number].concat());
        [number, crc.to_be_bytes()].concat()
    };
    let (known, newer) = (sealed(1), sealed(2));
    let mut changed = image.clone();
    let places: Vec<usize> =
        (0..image.len() - 8).filter(|at| image[*at..*at + 8] == known).collect();
    for at in places {
        changed[at..at + 8].copy_from_slice(&newer);
    }
    fs::write(data_file(dir.path()), &changed).unwrap();
    assert!(matches!(refused(dir.path()), StoreError::Format { found: 2, .. }));
    let mut changed = image;
    changed[40..44].copy_from_slice(&16_384_u32.to_ne_bytes());
    fs::write(data_file(dir.path()), &changed).unwrap();
    assert!(matches!(refused(dir.path()), StoreError::PageSize { found: 16_384, .. }));
}

#[test]
fn the_file_stops_growing_when_zones_are_replaced_again_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = load(dir.path()).unwrap();
    let mut middle = 0;
    for serial in 1..=40 {
        for zone in [0, 5, 10, 1, 2] {
            let version = Version { zone, serial };
            let apex = apex(zone);
            let ticket = store.replace(apex.as_name(), state(serial), History::Drop, version);
            ticket.wait().unwrap();
        }
        if serial == 20 {
            middle = store.disk().file_len;
        }
    }
    let end = store.disk().file_len;
    let data = 9000 * (5 + 12 + 96) + 2 * 300 * (5 + 12 + 96);
    assert!(end <= middle + middle / 5, "from {middle} to {end} octets");
    assert!(end <= 4 * data, "{end} octets for {data}");
}

/// Prints figures; nothing here fails by the clock.
#[test]
#[ignore = "a measurement"]
fn commits_take_this_long() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let (store, _) = load(dir.path()).unwrap();
    let zones = u32::try_from(number("CRASH_ZONES", 50_000)).unwrap();
    let small = |zone: u32, serial| Version { zone: 10_000 * (zone + 1) + 1, serial };
    let name = |zone: u32| -> backstop::name::NameBuf {
        format!("zone-{zone:07}.example.").parse().unwrap()
    };
    let begun = Instant::now();
    let tickets = (0..zones)
        .map(|zone| store.replace(name(zone).as_name(), state(0), History::Drop, small(zone, 0)));
    tickets.collect::<Vec<_>>().into_iter().for_each(|ticket| ticket.wait().unwrap());
    eprintln!("{zones} zones replaced at once: {:.2?}", begun.elapsed());
    let mut random = Random::new(1);
    let mut serials = vec![0; zones as usize];
    for group in [1, 10, 100, 1000] {
        let mut times = Vec::new();
        let begun = Instant::now();
        let rounds = if group == 1 { 2000 } else { 100 };
        for _ in 0..rounds {
            let begun = Instant::now();
            let tickets = (0..group).map(|_| {
                let zone = u32::try_from(random.below(u64::from(zones))).unwrap();
                let serial = &mut serials[zone as usize];
                *serial += 1;
                let diff = vec![7; 200 + random.index(1848)];
                let next = small(zone, *serial);
                store.append(name(zone).as_name(), state(*serial), *serial - 1, diff, next)
            });
            tickets.collect::<Vec<_>>().into_iter().for_each(|ticket| ticket.wait().unwrap());
            times.push(begun.elapsed());
        }
        let rate = f64::from(rounds * group) / begun.elapsed().as_secs_f64();
        times.sort_unstable();
        let at = |share: usize| times[(times.len() - 1) * share / 100];
        eprintln!("{group} at once: p50 {:.2?}, p99 {:.2?}, {rate:.0}/s", at(50), at(99));
    }
    let len = store.disk().file_len;
    drop(store);
    let begun = Instant::now();
    let opened = Store::open(dir.path(), Options::default()).unwrap();
    let inspected = begun.elapsed();
    let mut octets = 0;
    let store = opened.load(|stored| {
        octets +=
            stored.unwrap().entries().map(|(key, blob)| key.len() + blob.len()).sum::<usize>();
    });
    drop(store);
    let loaded = begun.elapsed();
    eprintln!("open {inspected:.2?}, with load {loaded:.2?}: {octets} octets, file {len}");
}
