//! Many zones at once.

use super::scripted::*;
use crate::common::dns::wait_until;
use backstop::replica::State;
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
