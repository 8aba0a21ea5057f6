//! What comes together: primaries that differ, policies that change while a zone is in trouble,
//! commands in an order that nobody expects, programs that outlast what they were asked about.

use super::checks::{Book, approve, names, zone_with};
use super::scripted::watch::{self, Said};
use super::scripted::*;
use crate::common::dns::{Ask, Edns, udp_raw, wait_until};
use backstop::control::{ClientError, Place, Request};
use backstop::replica::State;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const LONG: [u32; 3] = [3600, 3600, 86_400];
const QUICK: &str = "[template.default]\nrefresh-min = \"1s\"\nretry-min = \"1s\"\n";

fn reload(secondary: &Secondary, zones: &str) {
    secondary.configure(zones);
    secondary.client().command(&Request::Reload {}).unwrap();
}

fn rollback(secondary: &Secondary, zone: &str, serial: Option<u32>) -> Result<String, ClientError> {
    secondary.client().command(&Request::Rollback { zone: zone.into(), serial, hold: false })
}

/// What is told beside SERVFAIL, or beside a stale answer.
fn error_told(secondary: &Secondary, zone: &str) -> String {
    let ask = Ask::new(&format!("www.{zone}"), "A").edns(Edns::default());
    let reply = udp_raw(secondary.address, &ask.octets()).unwrap();
    String::from_utf8_lossy(&reply).into_owned()
}

fn said(secondary: &Secondary, zone: &str) -> Said {
    watch::said(secondary.address, zone)
}

#[test]
fn a_newer_serial_that_cannot_be_had_keeps_a_lower_one_from_being_taken() {
    let zone = |serial| Zone::new("three.test.", [1, 1, 86_400], serial);
    let (lower, newer, own) = (zone(5), zone(5), zone(99));
    let primaries = [
        Primary::of([127, 15, 0, 1], &lower),
        Primary::of([127, 15, 0, 2], &newer),
        Primary::of([127, 15, 0, 3], &own),
    ];
    let [a, b, c] = primaries.each_ref().map(|primary| primary.address);
    let secondary = Secondary::start(&format!(
        "{QUICK}[[zone]]\nname = \"three.test\"\non-lower-serial = \"accept\"\nprimaries = [\
         {{ address = \"{a}\" }}, {{ address = \"{b}\" }}, \
         {{ address = \"{c}\", independent = true }}]\n"
    ));
    secondary.wait_serial("three.test.", 5);
    lower.add(3);
    newer.add(10);
    let promising = Arc::clone(&newer);
    primaries[1].script(move |asked| match asked.rtype {
        rtype::SOA => promising.answer(asked),
        _ => vec![Act::Reset],
    });
    secondary.refresh("three.test.");
    let status = secondary.wait_status("three.test.", |status| {
        status.primaries.iter().take(2).all(|primary| primary.last_error.is_some())
    });
    assert_eq!((status.lower_serial, status.behind_serials), (None, 5));
    // A few more rounds: nothing becomes of it.
    let before = primaries[1].asked().len();
    primaries[1].wait_asked(|all| all.len() > before + 6).expect("it goes on asking");
    let status = secondary.status("three.test.");
    assert_eq!((status.serial, status.primaries[2].serial), (Some(5), None));
    let good = Arc::clone(&newer);
    primaries[1].script(move |asked| good.answer(asked));
    secondary.wait_serial("three.test.", 10);
    // The second notifies: the first, which is behind, is not waited for.
    newer.add(11);
    primaries[1].notify(secondary.address, "three.test.");
    secondary.wait_serial("three.test.", 11);
    assert_eq!(primaries[2].asked().len(), 0, "the one with a history of its own was left alone");
}

#[test]
fn a_primary_that_is_there_over_tcp_alone_renews_the_zone() {
    let zone = Zone::new("tcp.test.", [1, 1, 4], 1);
    let of_script = Arc::clone(&zone);
    let primary = Primary::on_tcp_alone([127, 15, 0, 4], move |asked| of_script.answer(asked));
    let config = primary.config();
    let secondary = Secondary::start(&format!("{QUICK}[[zone]]\nname = \"tcp.test\"\n{config}\n"));
    secondary.wait_serial("tcp.test.", 1);
    let probes = |asked: &[Asked]| asked.iter().filter(|asked| asked.rtype == rtype::SOA).count();
    primary.wait_asked(|asked| probes(asked) >= 6).expect("it is asked for its serial");
    zone.add(2);
    secondary.wait_status("tcp.test.", |it| it.serial == Some(2) && it.state == State::Ok);
    assert_eq!(secondary.logged(&["tcp.test.", "failed"]), 0);
}

#[test]
fn policies_may_change_after_the_zone_has_expired() {
    let zones = ["a.test.", "b.test."].map(|apex| Zone::new(apex, [1, 1, 3], 20));
    let primaries =
        [Primary::of([127, 15, 0, 5], &zones[0]), Primary::of([127, 15, 0, 6], &zones[1])];
    let config = |of_a: &str| {
        let [a, b] = primaries.each_ref().map(Primary::config);
        let keep = "on-lower-serial = \"keep\"";
        let of_a =
            if of_a.contains("on-lower") { of_a.to_owned() } else { format!("{keep}\n{of_a}") };
        format!(
            "{QUICK}[[zone]]\nname = \"a.test\"\n{a}\n{of_a}\n[[zone]]\nname = \"b.test\"\n{keep}\n{b}\n"
        )
    };
    let secondary = Secondary::start(&config(""));
    for zone in &zones {
        secondary.wait_serial(&zone.apex, 20);
        zone.add(10);
    }
    for zone in &zones {
        secondary.wait_status(&zone.apex, |status| status.state == State::Expired);
    }
    let servfail = Said { rcode: rcode::SERVFAIL, version: None };
    let stale = Said { rcode: rcode::NOERROR, version: Some(20) };
    assert_eq!([said(&secondary, "a.test."), said(&secondary, "b.test.")], [servfail, servfail]);
    let lower = |told: &str| told.contains("its primaries have a lower serial");
    let told = error_told(&secondary, "a.test.");
    assert!(told.contains("zone expired") && lower(&told), "{told}");
    reload(&secondary, &config("after-expiry = \"serve-stale\""));
    assert_eq!([said(&secondary, "a.test."), said(&secondary, "b.test.")], [stale, servfail]);
    assert!(wait_until(DEADLINE, || lower(&error_told(&secondary, "a.test."))), "also when stale");
    reload(&secondary, &config(""));
    assert_eq!(said(&secondary, "a.test."), servfail);
    // That it has expired, and what may be taken then, is not forgotten.
    reload(&secondary, &config("on-lower-serial = \"accept-after-expiry\""));
    secondary.wait_status("a.test.", |it| it.serial == Some(10) && it.state == State::Ok);
    let status = secondary.status("b.test.");
    assert_eq!((status.serial, status.state), (Some(20), State::Expired));
    assert_eq!(secondary.logged(&["ERROR", "a.test.", "expired: "]), 1, "it is told once");
}

#[test]
fn what_a_chain_passes_on_of_its_time_is_warned_of_while_it_shrinks() {
    let zone = Zone::new("shrinks.test.", [1, 1, 12], 1);
    // As another secondary says it that does not reach its own primary.
    let ends = Arc::new(std::sync::Mutex::new(None));
    let (of_script, end) = (Arc::clone(&zone), Arc::clone(&ends));
    let primary = Primary::on([127, 15, 0, 7], move |asked| {
        let left = |at: Instant| at.saturating_duration_since(Instant::now()).as_secs();
        let s = u32::try_from(end.lock().unwrap().map_or(12, left)).unwrap();
        let records = of_script.records(asked);
        vec![Act::Message(asked.extended(rcode::NOERROR, &records, &[(9, &s.to_be_bytes())]))]
    });
    let config = primary.config();
    let secondary =
        Secondary::start(&format!("{QUICK}[[zone]]\nname = \"shrinks.test\"\n{config}\n"));
    secondary.wait_serial("shrinks.test.", 1);
    *ends.lock().unwrap() = Some(Instant::now() + Duration::from_secs(12));
    secondary.wait_status("shrinks.test.", |status| status.state == State::Expiring);
    let status = secondary.wait_status("shrinks.test.", |status| status.state == State::Expired);
    assert_eq!(status.primaries[0].last_error, None, "the primary answers all the while");
    let told = [
        &["WARN", "shrinks.test.", "less than half"][..],
        &["WARN", "shrinks.test.", "less than a tenth"],
        &["ERROR", "shrinks.test.", "expired: "],
    ];
    let asked = primary.asked().len();
    primary.wait_asked(|all| all.len() > asked + 2).expect("it goes on asking");
    for words in told {
        assert_eq!(secondary.logged(words), 1, "{words:?}: {:#?}", secondary.log());
    }
    assert_eq!(secondary.logged(&["no longer exp"]), 0, "it renews nothing");
    *ends.lock().unwrap() = None;
    secondary.wait_status("shrinks.test.", |status| status.state == State::Ok);
    secondary.wait_log(&["INFO", "no longer expired", "shrinks.test."]);
}

#[test]
fn why_a_zone_has_no_data_is_told_to_who_asks_for_them() {
    let closed = std::net::TcpListener::bind(("127.15.0.8", 0)).unwrap().local_addr().unwrap();
    let refusing =
        Primary::on([127, 15, 0, 9], |asked| vec![Act::Message(asked.reply(rcode::REFUSED, &[]))]);
    let bare = Book::new("bare.test.", LONG, 1, vec![Rr::a("bare.test.", [192, 0, 2, 1])]);
    let bare = bare.primary([127, 15, 0, 10]);
    let (refused, held) = (refusing.config(), bare.config());
    let secondary = Secondary::start(&format!(
        "[[zone]]\nname = \"silent.test\"\nprimaries = [{{ address = \"{closed}\" }}]\n\
         [[zone]]\nname = \"refused.test\"\n{refused}\n[[zone]]\nname = \"bare.test\"\n{held}\n\
         [[zone]]\nname = \"both.test\"\nprimaries = [{{ address = \"{closed}\" }}, \
         {{ address = \"{}\" }}]\n",
        refusing.address
    ));
    for (zone, words) in [
        ("silent.test.", "zone not loaded yet: no primary answers"),
        ("refused.test.", "zone not loaded yet: a primary answers REFUSED"),
        ("bare.test.", "zone not loaded yet: a check holds what its primaries have"),
        ("both.test.", "zone not loaded yet: a primary answers REFUSED"),
    ] {
        let mut told = String::new();
        let so = wait_until(DEADLINE, || {
            told = error_told(&secondary, zone);
            told.contains(words)
        });
        assert!(so, "{zone}: {told}");
    }
}

/// A program in `folder` that does what the rest of the script says.
fn program(folder: &Path, script: &str) -> String {
    let path = folder.join("check.sh");
    fs::write(&path, format!("#!/bin/sh\ncd {}\n{script}\n", folder.display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    format!("check-program = [\"{}\"]", path.display())
}

#[test]
fn a_program_that_outlasts_what_it_is_asked_about_brings_nothing_old_back() {
    const APEX: &str = "outlast.test.";
    let folder = tempfile::tempdir().unwrap();
    // Of version 2 it says no, and the next time, after long, yes.
    let script = "echo $BACKSTOP_SERIAL >>asked\n[ $BACKSTOP_SERIAL = 2 ] || exit 0\n\
        [ -e slow ] || { touch slow; exit 1; }\n\
        while [ ! -e go ]; do sleep 0.05; done\ntouch gone\nexit 0";
    let book = Book::new(APEX, LONG, 1, names(APEX, 3));
    let primary = book.primary([127, 15, 0, 11]);
    let more = program(folder.path(), script);
    let secondary = Secondary::start(&zone_with(&primary, APEX, &more));
    secondary.wait_serial(APEX, 1);
    book.add(2, names(APEX, 4));
    primary.notify(secondary.address, APEX);
    secondary.wait_status(APEX, |status| status.held.is_some());
    let asked = || fs::read_to_string(folder.path().join("asked")).unwrap();
    let times = |serial: &str| asked().lines().filter(|line| *line == serial).count();
    for _ in 0..3 {
        let before = primary.asked().len();
        // While one is under way, another is not begun.
        let more = wait_until(DEADLINE, || {
            secondary.refresh(APEX);
            primary.asked().len() > before
        });
        assert!(more, "it is asked");
    }
    assert!(wait_until(DEADLINE, || times("2") == 2), "{}", asked());
    book.add(3, names(APEX, 5));
    primary.notify(secondary.address, APEX);
    secondary.wait_serial(APEX, 3);
    fs::write(folder.path().join("go"), "").unwrap();
    assert!(wait_until(DEADLINE, || folder.path().join("gone").exists()));
    // What comes of it has come when a later question is over.
    book.add(4, names(APEX, 6));
    primary.notify(secondary.address, APEX);
    let status = secondary.wait_status(APEX, |status| status.serial == Some(4));
    assert_eq!(status.held, None);
    assert_eq!(times("2"), 2, "one at a time");
    assert_eq!(secondary.logged(&[APEX, "transferred", "to=2"]), 0, "{:#?}", secondary.log());
}

#[test]
fn a_program_that_is_gone_or_may_not_be_run_holds_the_version_until_it_is_back() {
    const APEX: &str = "gone.test.";
    let folder = tempfile::tempdir().unwrap();
    let more = program(folder.path(), "rm check.sh");
    let book = Book::new(APEX, [1, 1, 60], 1, names(APEX, 3));
    let primary = book.primary([127, 15, 0, 12]);
    let secondary = Secondary::start(&zone_with(&primary, APEX, &more));
    // It said yes, and is gone from then on.
    secondary.wait_serial(APEX, 1);
    book.add(2, names(APEX, 4));
    primary.notify(secondary.address, APEX);
    let why = |status: &backstop::replica::ZoneStatus, words: &str| {
        status.held.as_ref().is_some_and(|held| held.why.contains(words))
    };
    secondary
        .wait_status(APEX, |it| why(it, "cannot be run: No such file") && it.serial == Some(1));
    program(folder.path(), "kill -KILL $$");
    secondary.wait_status(APEX, |status| why(status, "ended with signal: 9 (SIGKILL)"));
    let unfit = fs::Permissions::from_mode(0o644);
    fs::set_permissions(folder.path().join("check.sh"), unfit).unwrap();
    secondary.wait_status(APEX, |status| why(status, "cannot be run: Permission denied"));
    program(folder.path(), "exit 0");
    let status = secondary.wait_status(APEX, |status| status.serial == Some(2));
    assert_eq!(status.held, None);
}

#[test]
fn programs_that_hang_delay_no_zone_whose_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let more = program(folder.path(), "case $BACKSTOP_ZONE in hangs*) sleep 1000;; esac");
    let zones: Vec<_> = (1..=4).map(|n| format!("hangs{n}.test.")).collect();
    let book = |apex: &str| Book::new(apex, LONG, 1, names(apex, 3));
    let primaries: Vec<_> =
        (20..).zip(&zones).map(|(n, it)| book(it).primary([127, 15, 0, n])).collect();
    let fine = book("fine.test.").primary([127, 15, 0, 19]);
    let mut config = zone_with(&fine, "fine.test", &more);
    for (primary, apex) in primaries.iter().zip(&zones) {
        config += &format!("[[zone]]\nname = \"{apex}\"\n{}\n{more}\n", primary.config());
    }
    let began = Instant::now();
    let secondary = Secondary::start(&config);
    secondary.wait_serial("fine.test.", 1);
    assert!(began.elapsed() < Duration::from_secs(300), "not only when the others are killed");
    for zone in &zones {
        assert_eq!(secondary.status(zone).serial, None);
    }
}

#[test]
fn a_held_version_does_not_hide_that_the_zone_is_expiring() {
    const APEX: &str = "both.test.";
    let book = Book::new(APEX, [1, 1, 6], 1, names(APEX, 1200));
    let primary = book.primary([127, 15, 0, 13]);
    let secondary = Secondary::start(&zone_with(&primary, APEX, ""));
    secondary.wait_serial(APEX, 1);
    book.add(2, names(APEX, 10));
    primary.notify(secondary.address, APEX);
    secondary.wait_status(APEX, |status| status.state == State::HeldByCheck);
    primary.script(|asked| vec![Act::Message(asked.reply(rcode::SERVFAIL, &[]))]);
    let status = secondary.wait_status(APEX, |status| status.state == State::Expiring);
    assert_eq!(status.held.map(|held| held.serial), Some(2), "it is told all the same");
    secondary.wait_status(APEX, |status| status.state == State::Expired);
    assert!(wait_until(DEADLINE, || {
        error_told(&secondary, APEX).contains("a primary answers SERVFAIL")
    }));
}

#[test]
fn a_rollback_that_is_over_bars_nothing_any_more() {
    const APEX: &str = "over.test.";
    let book = Book::new(APEX, LONG, 11, names(APEX, 3));
    let primary = book.primary([127, 15, 0, 14]);
    let more = "on-lower-serial = \"accept\"";
    let mut secondary = Secondary::start(&zone_with(&primary, APEX, more));
    secondary.wait_serial(APEX, 11);
    book.add(12, names(APEX, 4));
    primary.notify(secondary.address, APEX);
    secondary.wait_serial(APEX, 12);
    rollback(&secondary, APEX, None).unwrap();
    secondary.wait_serial(APEX, 11);
    book.add(13, names(APEX, 5));
    primary.notify(secondary.address, APEX);
    secondary.wait_serial(APEX, 13);
    // Another way back, which was not forbidden, also over a restart.
    book.add(5, names(APEX, 6));
    secondary.refresh(APEX);
    let status = secondary.wait_status(APEX, |status| status.serial == Some(5));
    assert_eq!(status.held, None);
    secondary.kill();
    secondary.run();
    book.add(6, names(APEX, 7));
    primary.notify(secondary.address, APEX);
    let status = secondary.wait_status(APEX, |status| status.serial == Some(6));
    assert_eq!(status.held, None);
}

#[test]
fn commands_in_any_order_are_answered_and_do_no_harm() {
    const APEX: &str = "order.test.";
    let book = Book::new(APEX, LONG, 1, names(APEX, 1200));
    let primary = book.primary([127, 15, 0, 15]);
    let mut config = zone_with(&primary, APEX, "");
    let closed = std::net::TcpListener::bind(("127.15.0.16", 0)).unwrap().local_addr().unwrap();
    config +=
        &format!("[[zone]]\nname = \"never.test\"\nprimaries = [{{ address = \"{closed}\" }}]\n");
    let secondary = Secondary::start(&config);
    secondary.wait_serial(APEX, 1);
    let fails = |told: Result<String, ClientError>, words: &str| {
        let error = told.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    let never = secondary.client().history("never.test.").unwrap();
    assert!(never.versions.is_empty());
    let mut written = Vec::new();
    never.write(&mut written).unwrap();
    assert!(String::from_utf8(written).unwrap().contains("never.test.: there is no version yet"));
    fails(approve(&secondary, "never.test."), "no version of it is held by a check");
    fails(rollback(&secondary, "never.test.", None), "no version");
    assert!(secondary.client().changes("never.test.", 1, &mut Vec::new()).is_err());
    fails(approve(&secondary, APEX), "no version of it is held by a check");
    fails(rollback(&secondary, APEX, None), "no such older version is held");
    for serial in [2, 3] {
        book.add(serial, names(APEX, 1200 + serial as usize));
        primary.notify(secondary.address, APEX);
        secondary.wait_serial(APEX, serial);
    }
    // What a check holds stays what approval is about, however far back is gone.
    book.add(4, names(APEX, 10));
    primary.notify(secondary.address, APEX);
    secondary.wait_status(APEX, |status| status.held.is_some());
    fails(rollback(&secondary, APEX, Some(4)), "no such older version is held");
    for serial in [2, 1] {
        rollback(&secondary, APEX, None).unwrap();
        let status = secondary.wait_status(APEX, |status| status.serial == Some(serial));
        assert_eq!(status.held.map(|held| (held.serial, held.check)), Some((4, "rollback".into())));
    }
    fails(rollback(&secondary, APEX, None), "no such older version is held");
    approve(&secondary, APEX).unwrap();
    let status = secondary.wait_status(APEX, |status| status.serial == Some(4));
    assert_eq!((status.held, status.records), (None, 12));
    // Back again, and the primary goes on.
    rollback(&secondary, APEX, Some(2)).unwrap();
    secondary.wait_serial(APEX, 2);
    book.add(5, names(APEX, 1210));
    primary.notify(secondary.address, APEX);
    let status = secondary.wait_status(APEX, |status| status.serial == Some(5));
    assert_eq!((status.held, status.records), (None, 1212));
    let history = secondary.client().history(APEX).unwrap();
    let serials: Vec<_> = history.versions.iter().map(|version| version.serial).collect();
    assert_eq!(serials, [5, 2, 1]);
}

#[test]
fn a_rollback_leads_to_what_was_served_and_not_to_what_only_led_on() {
    const APEX: &str = "steps.test.";
    let zone = Zone::new(APEX, LONG, 1);
    let primary = Primary::of([127, 15, 0, 17], &zone);
    let config = format!("[[zone]]\nname = \"{APEX}\"\n{}\n", primary.config());
    let mut secondary = Secondary::start(&config);
    secondary.wait_serial(APEX, 1);
    // All three come with one IXFR.
    (2..=4).for_each(|serial| zone.add(serial));
    primary.notify(secondary.address, APEX);
    secondary.wait_serial(APEX, 4);
    let places = |secondary: &Secondary| -> Vec<(u32, Place)> {
        let history = secondary.client().history(APEX).unwrap();
        history.versions.iter().map(|version| (version.serial, version.place)).collect()
    };
    let skipped = [(3, Place::Skipped), (2, Place::Skipped), (1, Place::Older)];
    assert_eq!(places(&secondary), [&[(4, Place::Served)], &skipped[..]].concat());
    secondary.kill();
    secondary.run();
    assert_eq!(places(&secondary), [&[(4, Place::Served)], &skipped[..]].concat());
    assert!(rollback(&secondary, APEX, None).unwrap().contains("serial 1"));
    assert_eq!(said(&secondary, APEX).version, Some(1));
    approve(&secondary, APEX).unwrap();
    assert_eq!(places(&secondary), [&[(4, Place::Served)], &skipped[..]].concat());
    // By its number, it can be had.
    rollback(&secondary, APEX, Some(3)).unwrap();
    assert_eq!(said(&secondary, APEX).version, Some(3));
}
