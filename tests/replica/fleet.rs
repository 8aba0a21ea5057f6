//! Many zones at once.

use super::scripted::watch::Watch;
use super::scripted::*;
use crate::common::dns::wait_until;
use backstop::replica::{State, ZoneStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

fn list(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|at| format!("{prefix}-{at}.test.")).collect()
}

fn answer_any(asked: &Asked) -> Vec<Act> {
    Zone::new(&asked.zone, [3600, 1, 86_400], 1).answer(asked)
}

fn configured(zones: &[String], primary: &Primary) -> String {
    let line = |zone: &String| format!("[[zone]]\nname = \"{zone}\"\n{}\n", primary.config());
    zones.iter().map(line).collect()
}

#[test]
fn five_hundred_zones_of_a_silent_primary_delay_no_zone_of_another() {
    let (quick, stuck) = (list("quick", 500), list("stuck", 500));
    let good = Primary::on([127, 5, 0, 1], answer_any);
    let silent = Primary::on([127, 5, 0, 2], |_| vec![Act::Silence]);
    // The silent one's come first.
    let config = configured(&stuck, &silent) + &configured(&quick, &good);
    let began = Instant::now();
    let secondary = Secondary::start(&config);
    let loaded = || secondary.all().iter().filter(|zone| zone.serial.is_some()).count();
    assert!(wait_until(DEADLINE, || loaded() == 500), "{} are loaded", loaded());
    let took = began.elapsed();
    // Eight at a time with two seconds each, the silent half alone takes two minutes.
    assert!(took < Duration::from_secs(30), "the good half took {took:?}");
    let all = secondary.all();
    assert!(
        all.iter()
            .filter(|zone| zone.zone.starts_with("stuck"))
            .all(|zone| { zone.state == State::NeverLoaded })
    );
    // It is asked with few connections at once, not five hundred.
    let at_once = silent.asked().len();
    assert!(at_once <= 8 * (1 + usize::try_from(took.as_secs()).unwrap()), "{at_once}");
    let since = Instant::now();
    for zone in quick.iter().take(100) {
        good.notify(secondary.address, zone);
    }
    let asked = |asked: &[Asked]| asked.iter().filter(|asked| asked.rtype == rtype::IXFR).count();
    good.wait_asked(|all| asked(all) == 100).expect("all hundred are followed up");
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
}

#[test]
fn ten_thousand_zones_of_which_one_primarys_half_dies_and_the_other_half_notices_nothing() {
    const HALF: usize = 5_000;
    const SAMPLE: usize = 200;
    let (living, dying) = (list("living", HALF), list("dying", HALF));
    // The dying half is due all the time, the living half when it is told.
    let newest = Arc::new(AtomicU32::new(1));
    let of_script = Arc::clone(&newest);
    let good = Primary::on([127, 5, 0, 3], move |asked| {
        let zone = Zone::new(&asked.zone, [3600, 1, 86_400], 1);
        for serial in 2..=of_script.load(Ordering::Relaxed) {
            zone.add(serial);
        }
        zone.answer(asked)
    });
    let dies = Primary::on([127, 5, 0, 4], |asked| {
        Zone::new(&asked.zone, [60, 1, 86_400], 1).answer(asked)
    });
    let config = configured(&dying, &dies) + &configured(&living, &good);
    let secondary = Secondary::start(&config);
    let loaded = || secondary.all().iter().filter(|zone| zone.serial.is_some()).count();
    assert!(wait_until(4 * DEADLINE, || loaded() == 2 * HALF), "{} are loaded", loaded());
    let round = |serial| {
        newest.store(serial, Ordering::Relaxed);
        let began = Instant::now();
        for zone in living.iter().take(SAMPLE) {
            good.notify(secondary.address, zone);
        }
        let has_it = |zone: &ZoneStatus| zone.serial == Some(serial);
        let come = || secondary.all().iter().filter(|zone| has_it(zone)).count();
        assert!(wait_until(DEADLINE, || come() == SAMPLE), "{} have {serial}", come());
        began.elapsed()
    };
    let before = round(2);
    let watch = Watch::start(secondary.address, &living[..SAMPLE], Duration::from_millis(2));
    dies.script(|_| vec![Act::Silence]);
    for zone in &dying[..1000] {
        secondary.refresh(zone);
    }
    dies.wait_asked(|asked| asked.iter().filter(|it| it.rtype == rtype::SOA).count() >= 8);
    let after = round(3);
    // Eight at a time, the dead ones' thousand questions alone would take a quarter of an hour.
    assert!(after < Duration::from_secs(20), "{after:?}, and {before:?} before");
    let all = secondary.all();
    let of = |prefix: &str| all.iter().filter(|zone| zone.zone.starts_with(prefix)).count();
    assert_eq!((of("living"), of("dying")), (HALF, HALF));
    for zone in all.iter().filter(|zone| zone.zone.starts_with("living")) {
        assert!(matches!(zone.state, State::Ok | State::Refreshing), "{zone:?}");
        assert_eq!(zone.primaries[0].last_error, None);
    }
    watch.all_was_well();
}

#[test]
fn a_notify_overtakes_the_planned_transfers_that_wait_for_a_silent_primary() {
    let zones = list("waiting", 400);
    let told = zones[399].clone();
    let wanted = told.clone();
    let primary = Primary::on([127, 5, 0, 5], move |asked| match asked.zone == wanted {
        true => answer_any(asked),
        false => vec![Act::Silence],
    });
    let secondary = Secondary::start(&configured(&zones, &primary));
    primary.wait_asked(|asked| asked.len() >= 8).expect("as many as there are places for");
    // Eight at a time with two seconds each, it would have its turn after 100 seconds.
    primary.notify(secondary.address, &told);
    secondary.wait_serial(&told, 1);
    assert_eq!(secondary.all().iter().filter(|zone| zone.serial.is_some()).count(), 1);
}

#[test]
fn after_a_restart_what_was_missed_is_found_little_by_little() {
    let zones = list("resting", 300);
    let newest = Arc::new(AtomicU32::new(1));
    let of_script = Arc::clone(&newest);
    let primary = Primary::on([127, 5, 0, 6], move |asked| {
        let zone = Zone::new(&asked.zone, [3600, 1, 86_400], 1);
        for serial in 2..=of_script.load(Ordering::Relaxed) {
            zone.add(serial);
        }
        zone.answer(asked)
    });
    let mut secondary = Secondary::start(&configured(&zones, &primary));
    let at = |secondary: &Secondary, serial| {
        secondary.all().iter().filter(|it| it.serial == Some(serial)).count()
    };
    assert!(wait_until(DEADLINE, || at(&secondary, 1) == 300));
    secondary.kill();
    newest.store(2, Ordering::Relaxed);
    let before = primary.asked().len();
    secondary.run();
    // All are served as they were, none waits for its turn to be asked about, and a NOTIFY has its
    // turn at once.
    assert!(secondary.all().iter().all(|zone| zone.serial.is_some()));
    primary.notify(secondary.address, &zones[7]);
    secondary.wait_serial(&zones[7], 2);
    assert!(wait_until(DEADLINE, || at(&secondary, 2) == 300));
    let asked = primary.asked().split_off(before);
    for zone in &zones {
        let of_it = || asked.iter().filter(|it| it.zone == *zone);
        assert!(of_it().all(|it| it.rtype != rtype::AXFR), "the difference is enough");
        assert!(of_it().count() <= 4, "{:?}", of_it().collect::<Vec<_>>());
    }
}
