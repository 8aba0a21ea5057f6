//! kill -9 at any moment: what was answered from is never taken back.

use super::scripted::watch::{Said, Watch, is_after, said};
use super::scripted::*;
use crate::common::transfer::transfer;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const KILLS: u32 = 8;

#[test]
fn after_a_kill_no_older_version_is_answered_from_than_before_and_ixfr_goes_on() {
    let zone = Zone::new("kill.test.", [3600, 1, 86_400], 1);
    let primary = Arc::new(Primary::of([127, 7, 0, 1], &zone));
    let config = format!(
        "[template.default]\nretry-min = \"1s\"\nallow-transfer = [{{ from = \"127.0.0.1\" }}]\n\
         [[zone]]\nname = \"kill.test\"\n{}\n",
        primary.config()
    );
    let mut secondary = Secondary::start(&config);
    secondary.wait_serial("kill.test.", 1);
    let done = Arc::new(AtomicBool::new(false));
    let pusher = push(&zone, &primary, &secondary, &done);
    let mut newest = 1;
    for kill in 0..KILLS {
        let watch = Watch::start(secondary.address, &["kill.test.".into()], Duration::ZERO);
        let before = Instant::now();
        // Any moment will do, some while a version is being stored.
        let moment = Duration::from_millis(150 + u64::from(getrandom::u32().unwrap() % 250));
        while before.elapsed() < moment || watch.newest("kill.test.").is_none() {
            thread::sleep(Duration::from_micros(300));
        }
        secondary.kill();
        let seen = watch.newest("kill.test.").unwrap();
        let watched = watch.stop();
        assert!(watched.wrong.is_empty(), "{:?}", watched.wrong);
        assert!(!is_after(newest, seen), "kill {kill}: {newest} was answered, now {seen}");
        newest = seen;
        secondary.run();
        let Said { rcode, version } = said(secondary.address, "kill.test.");
        assert_eq!(rcode, rcode::NOERROR, "kill {kill}");
        assert!(!is_after(newest, version.unwrap()), "kill {kill}: {newest}, then {version:?}");
        same_as_the_primary(&secondary);
    }
    done.store(true, Ordering::Relaxed);
    pusher.join().unwrap();
    primary.notify(secondary.address, "kill.test.");
    secondary.wait_serial("kill.test.", zone.serial());
    let asked = primary.asked();
    let count = |rtype| asked.iter().filter(|asked| asked.rtype == rtype).count();
    assert_eq!(count(rtype::AXFR), 1, "all the rest were differences");
    assert!(count(rtype::IXFR) > KILLS as usize, "{}", count(rtype::IXFR));
}

/// Version after version, each with a NOTIFY, whether the server runs or not.
fn push(
    zone: &Arc<Zone>,
    primary: &Arc<Primary>,
    secondary: &Secondary,
    done: &Arc<AtomicBool>,
) -> thread::JoinHandle<()> {
    let (zone, primary, done) = (Arc::clone(zone), Arc::clone(primary), Arc::clone(done));
    let server = secondary.address;
    thread::spawn(move || {
        let socket = std::net::UdpSocket::bind((primary.address.ip(), 0)).unwrap();
        while !done.load(Ordering::Relaxed) {
            zone.add(zone.serial() + 1);
            let request = message::notify(1, &zone.apex, Some(&zone.soa(zone.serial())));
            // Lost while the server is down.
            let _ = socket.send_to(&request, server);
            thread::sleep(Duration::from_millis(5));
        }
    })
}

/// The whole zone is the primary's of that serial: five records, all of one version.
fn same_as_the_primary(secondary: &Secondary) {
    let records = transfer(secondary.address, "kill.test.", None).unwrap();
    let serial = records.iter().find_map(|line| crate::common::dns::serial_of(line)).unwrap();
    let [a, b, c, d] = serial.to_be_bytes();
    let has = |words: &str| records.iter().any(|line| line.contains(words));
    assert_eq!(records.len(), 5, "{records:?}");
    assert!(has(&format!("www.kill.test. 60 IN A {a}.{b}.{c}.{d}")), "{records:?}");
    assert!(has(&format!("serial.kill.test. 60 IN TXT \"{serial}\"")), "{records:?}");
}
