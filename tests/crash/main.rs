//! What a crash, a power cut, a bad disk or a foreign file may do to the store: nothing that is
//! not noticed.
//!
//! `CRASH_KILLS`, `CRASH_CUTS` and `CRASH_DAMAGES` set how many of each, `CRASH_SEED` where chance
//! begins: `scripts/crash` does a thousand, `scripts/crash figures` measures.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod damage;
mod model;
mod random;
mod shim;

use model::{Version, advance, apex, append, judge, load, state};
use random::Random;
use shim::Images;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use backstop::store::{History, Options, Store, StoreError, Stored};

const ZONES: u32 = 24;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().map_or(default, |text| text.parse().unwrap())
}

fn data_file(dir: &Path) -> PathBuf {
    dir.join("data.mdb")
}

/// All that a store writes to.
fn files(dir: &Path) -> [PathBuf; 3] {
    ["data.mdb", "log.0", "log.1"].map(|name| dir.join(name))
}

fn open_files(dir: &Path) -> [File; 3] {
    files(dir).map(|path| File::open(path).unwrap())
}

fn read_files(dir: &Path) -> Images {
    files(dir).iter().map(|path| fs::read(path).unwrap()).collect()
}

/// The first of the files, or all.
fn write_files(dir: &Path, images: &[Vec<u8>]) {
    for (path, image) in files(dir).iter().zip(images) {
        fs::write(path, image).unwrap();
    }
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
    let (mut total, mut beside) = (0, 0);
    for kill in 0..number("CRASH_KILLS", 20) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writes_until_killed", "--ignored", "--nocapture"])
            .env("CRASH_CHILD", dir.path())
            .env("CRASH_SEED", random.below(1 << 40).to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (first, is_kept) = std::sync::mpsc::channel();
        let acks = std::thread::spawn(move || {
            let mut acks = Vec::new();
            while let Some(Ok(line)) = lines.next() {
                if let Some(kept) = line.strip_prefix("kept ") {
                    // Waited for once, if at all.
                    let _ = first.send(());
                    let (zone, serial) = kept.split_once(' ').unwrap();
                    acks.push((zone.parse().unwrap(), serial.parse().unwrap()));
                }
            }
            acks
        });
        // Every other one may be killed while it starts, the rest is at work.
        if kill % 2 == 0 {
            is_kept.recv_timeout(Duration::from_secs(60)).expect("it gets to work");
        }
        std::thread::sleep(Duration::from_millis(random.below(370)));
        child.kill().unwrap();
        let ended = child.wait().unwrap();
        assert_eq!(ended.code(), None, "it failed before kill {kill}");
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
        beside += found.before.len();
        drop(store);
    }
    assert!(total > 100, "only {total} changes between the kills");
    assert!(beside > 0, "no version was kept beside a newer one");
}

/// A moment at which the power failed: the disk, and what each zone may be at.
struct Moment {
    images: Images,
    within: BTreeMap<u32, RangeInclusive<u32>>,
}

/// Writes at random with power cuts, and returns what was wrong after each of them.
fn power_cuts(cuts: u64, seed: u64, flushes_work: bool) -> Vec<Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    drop(load(dir.path()).unwrap());
    let files = open_files(dir.path());
    let within: BTreeMap<u32, RangeInclusive<u32>> = (0..ZONES).map(|zone| (zone, 0..=0)).collect();
    let within = Arc::new(Mutex::new(within));
    let moments = Arc::new(Mutex::new(Vec::new()));
    let set = |watch: &mut shim::Watch| {
        let (within, moments) = (Arc::clone(&within), Arc::clone(&moments));
        watch.flushes_work = flushes_work;
        watch.cut_one_in = 61;
        watch.random = Random::new(seed);
        watch.cut = Box::new(move |images| {
            let within = within.lock().unwrap().clone();
            moments.lock().unwrap().push(Moment { images, within });
        });
    };
    let mut random = Random::new(seed + 1);
    let mut wrong = Vec::new();
    shim::watch(&files, set, || {
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
    write_files(dir.path(), &moment.images);
    let (store, found) = match load(dir.path()) {
        Ok(loaded) => loaded,
        Err(error) => return vec![error.to_string()],
    };
    let mut wrong = judge(&found, &moment.within);
    if wrong.is_empty() {
        // It goes on from there, and what the log holds from before is not taken for newer.
        let mut random = Random::new(1);
        let next = found.serials.iter().map(|(&zone, &serial)| {
            advance(&store, zone, serial, &mut random).wait().unwrap();
            (zone, serial + 1..=serial + 1)
        });
        let next: BTreeMap<u32, RangeInclusive<u32>> = next.collect();
        drop(store);
        wrong = judge(&load(dir.path()).unwrap().1, &next);
    }
    wrong
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
    drop(load(dir.path()).unwrap());
    let files = open_files(dir.path());
    let mut random = Random::new(1);
    let full = |watch: &mut shim::Watch| watch.full = true;
    shim::watch(&files, full, || {
        shim::rewatch(|watch| watch.full = false);
        let (store, _) = load(dir.path()).unwrap();
        advance(&store, 1, 0, &mut random).wait().unwrap();
        shim::rewatch(|watch| watch.full = true);
        let large = advance(&store, 0, 0, &mut random).wait();
        assert!(matches!(large, Err(StoreError::Full(_))), "{large:?}");
        assert!(store.disk().full && store.disk().error.is_some());
        // The log has its room already, until it is used up.
        let diffs = (1..).map(|serial| append(&store, 1, serial).wait());
        let last = diffs.enumerate().find_map(|(n, kept)| kept.err().map(|error| (n, error)));
        let (kept, error) = last.unwrap();
        assert!(matches!(error, StoreError::Full(_)), "{error:?}");
        assert!((10..200).contains(&kept), "{kept} diffs in the log");
        // A crash now would lose none of them.
        let copy = tempfile::tempdir().unwrap();
        write_files(copy.path(), &read_files(dir.path()));
        let serial = 1 + u32::try_from(kept).unwrap();
        let (_, found) = load(copy.path()).unwrap();
        assert_eq!(judge(&found, &BTreeMap::from([(1, serial..=serial)])), [""; 0]);
        shim::rewatch(|watch| watch.full = false);
        append(&store, 1, serial).wait().unwrap();
        advance(&store, 0, 0, &mut random).wait().unwrap();
        assert_eq!(store.disk().error, None);
        drop(store);
        let (_store, found) = load(dir.path()).unwrap();
        assert_eq!(found.serials, BTreeMap::from([(0, 1), (1, serial + 1)]));
        assert_eq!(found.wrong, [""; 0]);
    });
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
    let read = |stored: Stored<'_>| -> usize {
        stored.entries().map(|(key, blob)| key.len() + blob.len()).sum()
    };
    let store = opened.load(read, |read| octets += read.unwrap());
    drop(store);
    let loaded = begun.elapsed();
    eprintln!("open {inspected:.2?}, with load {loaded:.2?}: {octets} octets, file {len}");
}
