//! Going back to an older version, staying there, and going on.

use super::checks::{Book, approve, names, zone_with};
use super::scripted::*;
use backstop::control::{ClientError, History, Place, Request};
use backstop::replica::{State, ZoneStatus};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const LONG: [u32; 3] = [3600, 3600, 86_400];

fn rollback(
    secondary: &Secondary,
    zone: &str,
    serial: Option<u32>,
    hold: bool,
) -> Result<String, ClientError> {
    secondary.client().command(&Request::Rollback { zone: zone.into(), serial, hold })
}

fn exported(secondary: &Secondary, zone: &str) -> String {
    let mut text = Vec::new();
    secondary.client().export(zone, &mut text).unwrap();
    let mut lines: Vec<_> = text.split(|&octet| octet == b'\n').collect();
    lines.sort_unstable();
    String::from_utf8(lines.join(&b'\n')).unwrap()
}

fn held(status: &ZoneStatus) -> Option<(u32, String)> {
    status.held.as_ref().map(|held| (held.serial, held.check.to_string()))
}

/// The versions 1 to `last` at the primary and here, and what each was when it was served.
fn played(apex: &str, ip: [u8; 4], last: u32) -> (Arc<Book>, Primary, Secondary, Vec<String>) {
    let records = |serial: u32| {
        let mut records = names(apex, 20 + serial as usize);
        records.push(Rr::txt(&format!("serial.{apex}"), &serial.to_string()));
        records
    };
    let book = Book::new(apex, LONG, 1, records(1));
    let primary = book.primary(ip);
    let secondary = Secondary::start(&zone_with(&primary, apex, ""));
    secondary.wait_serial(apex, 1);
    let mut contents = vec![exported(&secondary, apex)];
    for serial in 2..=last {
        book.add(serial, records(serial));
        primary.notify(secondary.address, apex);
        secondary.wait_serial(apex, serial);
        contents.push(exported(&secondary, apex));
    }
    (book, primary, secondary, contents)
}

fn places(history: &History) -> Vec<(u32, Place)> {
    history.versions.iter().map(|version| (version.serial, version.place)).collect()
}

#[test]
fn a_version_is_rolled_back_and_approved_again() {
    const APEX: &str = "back.test.";
    let (_book, primary, secondary, contents) = played(APEX, [127, 6, 0, 1], 4);
    let history = secondary.client().history(APEX).unwrap();
    let older = |serial| (serial, Place::Older);
    assert_eq!(places(&history), [(4, Place::Served), older(3), older(2), older(1)]);
    let newest = &history.versions[0];
    assert_eq!((newest.removed, newest.added), (Some(2), Some(3)), "SOA, TXT, and a new name");
    assert_eq!(newest.kind.as_deref(), Some("IXFR"));
    assert!(newest.ago_s.is_some_and(|s| s < 60));
    assert_eq!((history.versions[3].removed, history.versions[3].ago_s), (None, None));
    let mut lines = Vec::new();
    let changes = secondary.client().changes(APEX, 4, &mut lines).unwrap();
    assert_eq!((changes.from, changes.to, changes.lines), (3, 4, 5));
    let lines = String::from_utf8(lines).unwrap();
    let lines: Vec<_> = lines.lines().collect();
    assert!(lines[0].starts_with("- back.test. 60 IN SOA") && lines[1].starts_with("+ back.test."));
    assert_eq!(
        lines[2..],
        [
            "+ n23.back.test. 60 IN A 192.0.2.1",
            "- serial.back.test. 60 IN TXT \"3\"",
            "+ serial.back.test. 60 IN TXT \"4\"",
        ]
    );

    let done = rollback(&secondary, APEX, None, false).unwrap();
    assert!(done.starts_with("back.test.: serial 3 is served in place of 4."), "{done}");
    let status = secondary.wait_status(APEX, |status| status.serial == Some(3));
    assert_eq!(status.state, State::HeldByCheck);
    assert_eq!(held(&status), Some((4, "rollback".into())));
    assert_eq!(exported(&secondary, APEX), contents[2]);
    // The primary still has 4, which is known: it is not even transferred.
    let before = primary.asked().len();
    primary.notify(secondary.address, APEX);
    let asked = primary.wait_asked(|asked| asked.len() > before).unwrap();
    assert!(asked[before..].iter().all(|asked| asked.rtype == rtype::SOA), "{asked:?}");
    let history = secondary.client().history(APEX).unwrap();
    assert_eq!(places(&history), [(4, Place::Held), (3, Place::Served), older(2), older(1)]);
    let mut ahead = Vec::new();
    secondary.client().changes(APEX, 4, &mut ahead).unwrap();
    assert_eq!(String::from_utf8(ahead).unwrap().lines().collect::<Vec<_>>(), lines);
    // Further back, and all the way forward at once.
    rollback(&secondary, APEX, Some(1), false).unwrap();
    secondary.wait_serial(APEX, 1);
    assert_eq!(exported(&secondary, APEX), contents[0]);
    approve(&secondary, APEX).unwrap();
    let status = secondary.wait_status(APEX, |status| status.serial == Some(4));
    assert_eq!(held(&status), None);
    assert_eq!(exported(&secondary, APEX), contents[3]);
    let history = secondary.client().history(APEX).unwrap();
    assert_eq!(places(&history), [(4, Place::Served), older(3), older(2), older(1)]);
    assert_eq!(history.versions[0].kind.as_deref(), Some("approved"));
    for (serial, why) in [(Some(9), "no such older version is held"), (Some(4), "no such older")] {
        let error = rollback(&secondary, APEX, serial, false).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    assert_eq!(secondary.status(APEX).serial, Some(4));
}

#[test]
fn a_rollback_lasts_over_a_restart_until_the_primary_has_a_newer_version() {
    const APEX: &str = "lasts.test.";
    let (book, primary, mut secondary, contents) = played(APEX, [127, 6, 0, 2], 3);
    rollback(&secondary, APEX, Some(1), false).unwrap();
    secondary.kill();
    secondary.run();
    // It has to be transferred to know what is not wanted of it.
    let status = secondary.wait_status(APEX, |status| status.held.is_some());
    assert_eq!((status.serial, held(&status)), (Some(1), Some((3, "rollback".into()))));
    assert_eq!(exported(&secondary, APEX), contents[0]);
    let nothing = rollback(&secondary, APEX, None, false).unwrap_err().to_string();
    assert!(nothing.contains("no such older version is held"), "{nothing}");
    book.add(4, names(APEX, 24));
    primary.notify(secondary.address, APEX);
    let status = secondary.wait_status(APEX, |status| status.serial == Some(4));
    assert_eq!(held(&status), None);
    secondary.kill();
    secondary.run();
    book.add(5, names(APEX, 25));
    primary.notify(secondary.address, APEX);
    secondary.wait_serial(APEX, 5);
}

#[test]
fn with_hold_no_newer_version_is_taken_until_it_is_approved() {
    const APEX: &str = "hold.test.";
    let (book, primary, mut secondary, _) = played(APEX, [127, 6, 0, 3], 3);
    rollback(&secondary, APEX, None, true).unwrap();
    secondary.kill();
    secondary.run();
    secondary.wait_status(APEX, |status| held(status) == Some((3, "rollback".into())));
    book.add(4, names(APEX, 24));
    primary.notify(secondary.address, APEX);
    let status = secondary.wait_status(APEX, |status| held(status).is_some_and(|(at, _)| at == 4));
    assert_eq!(status.serial, Some(2));
    approve(&secondary, APEX).unwrap();
    secondary.wait_serial(APEX, 4);
    book.add(5, names(APEX, 25));
    primary.notify(secondary.address, APEX);
    secondary.wait_serial(APEX, 5);
}

/// What such a primary sends tells a difference, but not the one that it makes: undone as it is, it
/// would lead to a version that never was.
#[test]
fn a_difference_that_tells_too_much_is_undone_exactly() {
    const APEX: &str = "messy.test.";
    let times = LONG;
    let host = format!("www.{APEX}");
    let whole = {
        let mut records = names(APEX, 2);
        records.extend([Rr::a(&host, [192, 0, 2, 7]), Rr::a(&host, [192, 0, 2, 8])]);
        records
    };
    let book = Book::new(APEX, times, 1, whole);
    let primary = book.primary([127, 6, 0, 4]);
    let secondary = Secondary::start(&zone_with(&primary, APEX, ""));
    secondary.wait_serial(APEX, 1);
    let before = exported(&secondary, APEX);
    primary.script(move |asked| {
        let soa = |serial| Rr::soa(APEX, serial, times);
        let shorter = Rr { ttl: 30, ..Rr::a(&host, [192, 0, 2, 9]) };
        let records = match asked.rtype {
            rtype::IXFR => vec![
                soa(2),
                soa(1),
                soa(2),
                Rr::a(&host, [192, 0, 2, 7]),
                shorter,
                Rr::a("www.elsewhere.", [192, 0, 2, 1]),
                soa(2),
            ],
            _ => vec![soa(2)],
        };
        vec![Act::Message(asked.reply(rcode::NOERROR, &records))]
    });
    primary.notify(secondary.address, APEX);
    secondary.wait_serial(APEX, 2);
    let after = exported(&secondary, APEX);
    assert!(after.contains("www.messy.test. 30 IN A 192.0.2.7"), "{after}");
    rollback(&secondary, APEX, None, false).unwrap();
    secondary.wait_serial(APEX, 1);
    assert_eq!(exported(&secondary, APEX), before);
    approve(&secondary, APEX).unwrap();
    secondary.wait_serial(APEX, 2);
    assert_eq!(exported(&secondary, APEX), after);
}

#[test]
fn a_crash_in_a_rollback_leaves_the_one_version_or_the_other() {
    const APEX: &str = "crash.test.";
    let (book, primary, mut secondary, contents) = played(APEX, [127, 6, 0, 5], 3);
    let (mut done, mut undone) = (0, 0);
    for round in 0..12_u64 {
        let asking = {
            let client = secondary.client();
            let request = Request::Rollback { zone: APEX.into(), serial: Some(1), hold: false };
            thread::spawn(move || client.command(&request))
        };
        // Somewhere between nothing and all of it.
        thread::sleep(Duration::from_micros(round * 300));
        secondary.kill();
        let told = asking.join().unwrap();
        secondary.run();
        let status = secondary.wait_status(APEX, |status| {
            status.primaries[0].serial.is_some() && status.state != State::Refreshing
        });
        match status.serial {
            Some(1) => {
                done += 1;
                assert_eq!(held(&status), Some((3, "rollback".into())), "round {round}");
                assert_eq!(exported(&secondary, APEX), contents[0]);
                approve(&secondary, APEX).unwrap();
                secondary.wait_serial(APEX, 3);
            }
            Some(3) => {
                undone += 1;
                assert!(told.is_err(), "round {round}: what was told is lost: {told:?}");
                assert_eq!(held(&status), None, "round {round}");
            }
            other => panic!("round {round}: {other:?}"),
        }
        assert_eq!(exported(&secondary, APEX), contents[2]);
        if secondary.client().history(APEX).unwrap().versions.len() < 2 {
            // The way back is one that was transferred as such.
            break;
        }
    }
    assert!(done + undone > 0);
    book.add(9, names(APEX, 3));
    primary.notify(secondary.address, APEX);
    secondary.wait_serial(APEX, 9);
}

#[test]
fn a_whole_transfer_that_changes_all_of_the_zone_can_be_undone_as_well() {
    const APEX: &str = "other.test.";
    let records = |address: u8| {
        let mut records = names(APEX, 30);
        records.iter_mut().filter(|rr| rr.rtype == rtype::A).for_each(|rr| rr.data[3] = address);
        records
    };
    let book = Book::new(APEX, LONG, 1, records(1));
    let primary = book.primary([127, 6, 0, 7]);
    let secondary = Secondary::start(&zone_with(&primary, APEX, "ixfr = false"));
    secondary.wait_serial(APEX, 1);
    let before = exported(&secondary, APEX);
    book.add(2, records(2));
    primary.notify(secondary.address, APEX);
    secondary.wait_serial(APEX, 2);
    let history = secondary.client().history(APEX).unwrap();
    assert_eq!(places(&history), [(2, Place::Served), (1, Place::Older)]);
    assert_eq!(history.versions[0].kind.as_deref(), Some("AXFR"));
    assert_eq!((history.versions[0].removed, history.versions[0].added), (Some(31), Some(31)));
    rollback(&secondary, APEX, None, false).unwrap();
    secondary.wait_serial(APEX, 1);
    assert_eq!(exported(&secondary, APEX), before);
}

/// Such a difference is not held in memory: the version before it is kept in the store alone.
#[test]
fn a_whole_transfer_that_changes_most_of_a_larger_zone_is_undone_from_the_store() {
    const APEX: &str = "larger.test.";
    let records = |address: u8| {
        let mut records = names(APEX, 1000);
        records.iter_mut().filter(|rr| rr.rtype == rtype::A).for_each(|rr| rr.data[3] = address);
        records
    };
    let older = |serial| (serial, Place::Older);
    let book = Book::new(APEX, LONG, 1, records(1));
    let primary = book.primary([127, 6, 0, 8]);
    let mut secondary = Secondary::start(&zone_with(&primary, APEX, "ixfr = false"));
    secondary.wait_serial(APEX, 1);
    let take = |secondary: &Secondary, serial: u32, records: Vec<Rr>| {
        book.add(serial, records);
        primary.notify(secondary.address, APEX);
        secondary.wait_serial(APEX, serial);
        exported(secondary, APEX)
    };
    let first = exported(&secondary, APEX);
    let second = take(&secondary, 2, records(2));
    let mut third = records(2);
    third.push(Rr::txt(&format!("more.{APEX}"), "3"));
    let third = take(&secondary, 3, third);
    // The one before is kept over a restart, and what led on from the one after it.
    for _ in 0..2 {
        let history = secondary.client().history(APEX).unwrap();
        assert_eq!(places(&history), [(3, Place::Served), older(2), older(1)]);
        assert_eq!((history.versions[1].removed, history.versions[2].removed), (None, None));
        let error = secondary.client().changes(APEX, 2, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("what made serial 2 is not held"), "{error}");
        secondary.kill();
        secondary.run();
        secondary.wait_serial(APEX, 3);
    }
    rollback(&secondary, APEX, Some(2), false).unwrap();
    secondary.wait_serial(APEX, 2);
    assert_eq!(exported(&secondary, APEX), second);
    let done = rollback(&secondary, APEX, None, false).unwrap();
    assert!(done.starts_with("larger.test.: serial 1 is served in place of 2."), "{done}");
    let status = secondary.wait_status(APEX, |status| status.serial == Some(1));
    assert_eq!(held(&status), Some((3, "rollback".into())));
    assert_eq!(exported(&secondary, APEX), first);
    let history = secondary.client().history(APEX).unwrap();
    assert_eq!(places(&history), [(3, Place::Held), (1, Place::Served)]);
    // That lasts, and is undone in its turn; and so is that.
    secondary.kill();
    secondary.run();
    let status = secondary.wait_status(APEX, |status| status.held.is_some());
    assert_eq!((status.serial, held(&status)), (Some(1), Some((3, "rollback".into()))));
    approve(&secondary, APEX).unwrap();
    secondary.wait_serial(APEX, 3);
    assert_eq!(exported(&secondary, APEX), third);
    let history = secondary.client().history(APEX).unwrap();
    assert_eq!(places(&history), [(3, Place::Served), older(1)]);
    rollback(&secondary, APEX, Some(1), false).unwrap();
    secondary.wait_serial(APEX, 1);
    assert_eq!(exported(&secondary, APEX), first);
    approve(&secondary, APEX).unwrap();
    secondary.wait_serial(APEX, 3);
    // Where no history is wanted, there is none.
    secondary.configure(&zone_with(&primary, APEX, "ixfr = false\nhistory = 0"));
    secondary.kill();
    secondary.run();
    secondary.wait_serial(APEX, 3);
    let none = rollback(&secondary, APEX, None, false).unwrap_err().to_string();
    assert!(none.contains("no such older version is held"), "{none}");
}
