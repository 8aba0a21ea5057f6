//! Versions that a check refuses: what is served stays, the zone lives on, and the operator or a
//! better version ends it.

use super::scripted::*;
use backstop::control::{ClientError, Request};
use backstop::replica::{State, ZoneStatus};
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

/// Asked every second, expired after four without contact.
const SHORT: [u32; 3] = [1, 1, 4];
/// Asked for when it is told, not sooner.
const LONG: [u32; 3] = [3600, 3600, 86_400];

const SETTINGS: &str = "[template.default]\nretry-min = \"1s\"\nrefresh-min = \"1s\"\n";

/// A zone at a primary: each version's records, without the SOA.
pub(super) struct Book {
    pub(super) apex: String,
    times: [u32; 3],
    versions: Mutex<Vec<(u32, Vec<Rr>)>>,
}

impl Book {
    pub(super) fn new(apex: &str, times: [u32; 3], serial: u32, records: Vec<Rr>) -> Arc<Self> {
        let versions = Mutex::new(vec![(serial, records)]);
        Arc::new(Self { apex: apex.into(), times, versions })
    }

    pub(super) fn add(&self, serial: u32, records: Vec<Rr>) {
        self.versions.lock().unwrap().push((serial, records));
    }

    fn soa(&self, serial: u32) -> Rr {
        Rr::soa(&self.apex, serial, self.times)
    }

    fn answer(&self, asked: &Asked) -> Vec<Act> {
        let versions = self.versions.lock().unwrap();
        let (newest, last) = versions.last().unwrap();
        let since = versions.iter().find(|(serial, _)| Some(*serial) == asked.since);
        let soa = || self.soa(*newest);
        let records = match (asked.rtype, since) {
            (rtype::IXFR, Some((serial, _))) if serial == newest => vec![soa()],
            (rtype::IXFR, Some((serial, first))) => {
                let not_in = |some: &[Rr], others: &[Rr]| -> Vec<Rr> {
                    some.iter().filter(|record| !others.contains(record)).cloned().collect()
                };
                let (gone, new) = (not_in(first, last), not_in(last, first));
                [vec![soa(), self.soa(*serial)], gone, vec![soa()], new, vec![soa()]].concat()
            }
            (rtype::IXFR | rtype::AXFR, _) => [vec![soa()], last.clone(), vec![soa()]].concat(),
            _ => vec![soa()],
        };
        let messages = records.chunks(500).map(|some| asked.reply(rcode::NOERROR, some));
        messages.map(Act::Message).collect()
    }

    pub(super) fn primary(self: &Arc<Self>, ip: [u8; 4]) -> Primary {
        let book = Arc::clone(self);
        Primary::on(Ipv4Addr::from(ip), move |asked| book.answer(asked))
    }
}

/// The apex's NS record and as many more names.
pub(super) fn names(apex: &str, count: usize) -> Vec<Rr> {
    let ns = Rr::new(apex, rtype::NS, message::name(&format!("ns.{apex}")));
    let names = (0..count).map(|i| Rr::a(&format!("n{i}.{apex}"), [192, 0, 2, 1]));
    [ns].into_iter().chain(names).collect()
}

pub(super) fn zone_with(primary: &Primary, apex: &str, more: &str) -> String {
    format!("{SETTINGS}[[zone]]\nname = \"{apex}\"\n{}\n{more}\n", primary.config())
}

fn held(status: &ZoneStatus, serial: u32) -> bool {
    status.held.as_ref().is_some_and(|held| held.serial == serial)
}

pub(super) fn approve(secondary: &Secondary, zone: &str) -> Result<String, ClientError> {
    secondary.client().command(&Request::Approve { zone: zone.into() })
}

fn transfers(asked: &[Asked]) -> usize {
    asked.iter().filter(|asked| asked.rtype != rtype::SOA).count()
}

#[test]
fn a_zone_that_shrinks_too_much_is_held_and_lives_on_until_it_is_approved() {
    const APEX: &str = "shrink.test.";
    let book = Book::new(APEX, SHORT, 1, names(APEX, 1200));
    let primary = book.primary([127, 5, 0, 1]);
    let secondary = Secondary::start(&zone_with(&primary, APEX, ""));
    secondary.wait_serial(APEX, 1);
    book.add(2, names(APEX, 10));
    primary.notify(secondary.address, APEX);
    let status = secondary.wait_status(APEX, |status| held(status, 2));
    assert_eq!((status.serial, status.state), (Some(1), State::HeldByCheck));
    let version = status.held.unwrap();
    assert_eq!(version.check, "shrink-guard");
    assert_eq!(
        version.why,
        "1190 of 1201 names are gone, more than the 50 % that `shrink-guard` allows"
    );
    secondary.wait_log(&["WARN", APEX, "backstop approve shrink.test.", "it is not served"]);
    // It is asked about, which keeps the zone alive beyond its expiry, and not transferred again.
    let before = primary.asked().len();
    for _ in 0..3 {
        primary.notify(secondary.address, APEX);
    }
    primary.wait_asked(|asked| asked.len() >= before + 7).expect("it goes on asking");
    assert_eq!(transfers(&primary.asked()), 2, "one for each version");
    let status = secondary.status(APEX);
    assert_eq!((status.serial, status.state), (Some(1), State::HeldByCheck));
    let told = secondary.log().iter().filter(|line| line.contains("held by a check")).count();
    assert_eq!((told, secondary.counted("held_by_check")), (1, 1), "told once");

    let done = approve(&secondary, APEX).unwrap();
    assert_eq!(done, "shrink.test.: serial 2 is served");
    let status = secondary.wait_status(APEX, |status| status.serial == Some(2));
    assert_eq!((status.held, status.records), (None, 12));
    let nothing = approve(&secondary, APEX).unwrap_err().to_string();
    assert!(nothing.contains("no version of it is held by a check"), "{nothing}");
    // And on from there.
    book.add(3, names(APEX, 11));
    primary.notify(secondary.address, APEX);
    secondary.wait_serial(APEX, 3);
    secondary.wait_status(APEX, |status| status.state == State::Ok);
    assert_eq!(transfers(&primary.asked()), 3);
}

#[test]
fn a_held_version_survives_no_restart_but_is_held_again() {
    const APEX: &str = "restart.test.";
    let book = Book::new(APEX, LONG, 1, names(APEX, 1200));
    let primary = book.primary([127, 5, 0, 2]);
    let mut secondary = Secondary::start(&zone_with(&primary, APEX, ""));
    secondary.wait_serial(APEX, 1);
    book.add(2, names(APEX, 10));
    primary.notify(secondary.address, APEX);
    secondary.wait_status(APEX, |status| held(status, 2));
    secondary.kill();
    secondary.run();
    let status = secondary.wait_status(APEX, |status| held(status, 2));
    assert_eq!((status.serial, status.state), (Some(1), State::HeldByCheck));
    // What the operator approved does survive.
    approve(&secondary, APEX).unwrap();
    secondary.wait_serial(APEX, 2);
    secondary.kill();
    primary.script(|_| vec![Act::Reset]);
    secondary.run();
    let status = secondary.status(APEX);
    assert_eq!((status.serial, status.held), (Some(2), None));
}

#[test]
fn a_better_version_takes_the_place_of_the_one_that_is_held() {
    const APEX: &str = "better.test.";
    let book = Book::new(APEX, LONG, 1, names(APEX, 1200));
    let primary = book.primary([127, 5, 0, 3]);
    let secondary = Secondary::start(&zone_with(&primary, APEX, ""));
    secondary.wait_serial(APEX, 1);
    book.add(2, names(APEX, 10));
    primary.notify(secondary.address, APEX);
    secondary.wait_status(APEX, |status| held(status, 2));
    book.add(3, names(APEX, 9));
    primary.notify(secondary.address, APEX);
    secondary.wait_status(APEX, |status| held(status, 3));
    book.add(4, names(APEX, 1201));
    primary.notify(secondary.address, APEX);
    let status = secondary.wait_status(APEX, |status| status.serial == Some(4));
    assert_eq!(status.held, None);
    assert_eq!(secondary.counted("held_by_check"), 2);
}

#[test]
fn other_rules_judge_a_held_version_anew() {
    const APEX: &str = "rules.test.";
    let book = Book::new(APEX, LONG, 1, names(APEX, 1200));
    let primary = book.primary([127, 5, 0, 4]);
    let secondary = Secondary::start(&zone_with(&primary, APEX, ""));
    secondary.wait_serial(APEX, 1);
    book.add(2, names(APEX, 10));
    primary.notify(secondary.address, APEX);
    secondary.wait_status(APEX, |status| held(status, 2));
    secondary.configure(&zone_with(&primary, APEX, "shrink-guard = \"off\""));
    secondary.client().command(&Request::Reload {}).unwrap();
    secondary.wait_serial(APEX, 2);
}

#[test]
fn a_zone_that_never_had_a_good_version_is_not_served_until_it_is_approved() {
    const APEX: &str = "bare.test.";
    let book = Book::new(APEX, SHORT, 1, vec![Rr::a(APEX, [192, 0, 2, 1])]);
    let primary = book.primary([127, 5, 0, 5]);
    let secondary = Secondary::start(&zone_with(&primary, APEX, ""));
    let status = secondary.wait_status(APEX, |status| held(status, 1));
    assert_eq!((status.serial, status.state), (None, State::NeverLoaded));
    assert_eq!(status.held.unwrap().why, "the zone's apex has no NS record");
    primary.wait_asked(|asked| asked.len() >= 4).expect("it goes on asking");
    assert_eq!(transfers(&primary.asked()), 1);
    approve(&secondary, APEX).unwrap();
    let status = secondary.wait_status(APEX, |status| status.state == State::Ok);
    assert_eq!(status.serial, Some(1));
    assert!(status.expires_in_s.is_some_and(|s| s > 1), "it lives from the last contact on");
}

#[test]
fn a_zone_file_with_a_wrong_digest_is_held_and_one_with_the_right_one_is_served() {
    const GOOD: &str = include_str!("../zones/zonemd/a1.zone");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("example.zone");
    fs::write(&path, GOOD).unwrap();
    let secondary = Secondary::start(&format!(
        "[[zone]]\nname = \"example\"\nzonemd = \"required\"\nfile = \"{}\"\n",
        path.display()
    ));
    secondary.wait_serial("example.", 2_018_031_900);
    // A new serial, and the digest of the old one.
    fs::write(&path, GOOD.replacen("2018031900", "2018031901", 1)).unwrap();
    secondary.refresh("example.");
    let status = secondary.wait_status("example.", |status| held(status, 2_018_031_901));
    assert_eq!((status.serial, status.state), (Some(2_018_031_900), State::HeldByCheck));
    let version = status.held.unwrap();
    assert_eq!(version.check, "zonemd");
    assert_eq!(version.why, "ZONEMD: the record is of another serial than the zone");
    fs::write(&path, GOOD.replace("2018031900", "2018031901")).unwrap();
    secondary.refresh("example.");
    let mismatch = "ZONEMD: the digest is not that of the zone";
    secondary.wait_status("example.", |status| {
        status.held.as_ref().is_some_and(|held| held.why == mismatch)
    });
    approve(&secondary, "example.").unwrap();
    let status = secondary.wait_status("example.", |status| status.state == State::Ok);
    assert_eq!((status.serial, status.expires_in_s), (Some(2_018_031_901), None));
}

/// A program that says what is in a file: "yes", "no", or that waits for ever.
fn oracle(folder: &std::path::Path) -> (String, impl Fn(&str)) {
    let says = folder.join("says");
    let script = format!(
        "#!/bin/sh\nread -r says <{says}\ncp \"$BACKSTOP_ZONE_FILE\" {seen}\n\
         echo \"$BACKSTOP_ZONE\" >>{asked}\n\
         case $says in\n yes) exit 0;;\n wait) sleep 1000;;\nesac\n\
         echo \"serial $BACKSTOP_SERIAL is not wanted\" >&2\nexit 1\n",
        says = says.display(),
        seen = folder.join("seen").display(),
        asked = folder.join("asked").display(),
    );
    let path = folder.join("oracle.sh");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let say = move |word: &str| fs::write(&says, format!("{word}\n")).unwrap();
    (path.display().to_string(), say)
}

#[test]
fn a_program_of_the_operator_decides_and_is_asked_again_at_each_refresh() {
    const APEX: &str = "asked.test.";
    let folder = tempfile::tempdir().unwrap();
    let (program, say) = oracle(folder.path());
    say("yes");
    let book = Book::new(APEX, SHORT, 1, names(APEX, 3));
    let primary = book.primary([127, 5, 0, 6]);
    let more = format!("check-program = [\"{program}\"]");
    let secondary = Secondary::start(&zone_with(&primary, APEX, &more));
    secondary.wait_serial(APEX, 1);
    say("no");
    book.add(2, names(APEX, 4));
    primary.notify(secondary.address, APEX);
    let status = secondary.wait_status(APEX, |status| held(status, 2));
    let version = status.held.unwrap();
    assert_eq!((status.serial, &*version.check), (Some(1), "check-program"));
    assert!(version.why.ends_with("exit status: 1: serial 2 is not wanted"), "{}", version.why);
    let seen = fs::read_to_string(folder.path().join("seen")).unwrap();
    assert!(seen.starts_with("asked.test. 60 IN SOA") && seen.contains("n3.asked.test. 60 IN A"));
    say("yes");
    secondary.wait_serial(APEX, 2);
    assert_eq!(transfers(&primary.asked()), 2, "the version that was held is the one asked about");
    assert_eq!(secondary.counted("held_by_check"), 1);
    assert_eq!(fs::read_dir(secondary.state().join("check")).unwrap().count(), 0);
}

#[test]
fn a_program_that_does_not_end_is_killed_and_delays_no_other_zone() {
    const SLOW: &str = "slow.test.";
    const FAST: &str = "fast.test.";
    let folder = tempfile::tempdir().unwrap();
    let (program, say) = oracle(folder.path());
    say("yes");
    let slow = Book::new(SLOW, LONG, 1, names(SLOW, 3));
    let fast = Book::new(FAST, LONG, 1, names(FAST, 3));
    let primaries = [slow.primary([127, 5, 0, 7]), fast.primary([127, 5, 0, 8])];
    let secondary = Secondary::start(&format!(
        "{SETTINGS}[[zone]]\nname = \"{SLOW}\"\n{}\ncheck-program = [\"{program}\"]\n\
         check-program-timeout = \"3s\"\n[[zone]]\nname = \"{FAST}\"\n{}\n",
        primaries[0].config(),
        primaries[1].config()
    ));
    secondary.wait_serial(SLOW, 1);
    secondary.wait_serial(FAST, 1);
    say("wait");
    slow.add(2, names(SLOW, 4));
    primaries[0].notify(secondary.address, SLOW);
    let asked = || fs::read_to_string(folder.path().join("asked")).unwrap_or_default();
    assert!(crate::common::dns::wait_until(DEADLINE, || asked().lines().count() == 2));
    for serial in 2..6 {
        fast.add(serial, names(FAST, 3 + serial as usize));
        primaries[1].notify(secondary.address, FAST);
        secondary.wait_serial(FAST, serial);
    }
    let status = secondary.status(SLOW);
    assert_eq!((status.serial, status.state, status.held), (Some(1), State::Refreshing, None));
    let status = secondary.wait_status(SLOW, |status| held(status, 2));
    assert!(status.held.unwrap().why.ends_with("oracle.sh was killed after 3 s"));
}

#[test]
fn a_zone_with_too_many_nsec3_iterations_is_refused_and_one_with_some_is_told_of() {
    const APEX: &str = "iterations.test.";
    let with = |iterations: u8| {
        let parameters = Rr::new(APEX, rtype::NSEC3PARAM, vec![1, 0, 0, iterations, 0]);
        let signature = [&rtype::NSEC3PARAM.to_be_bytes(), &[0; 18][..]].concat();
        let signature = Rr::new(APEX, rtype::RRSIG, signature);
        [names(APEX, 5), vec![parameters, signature]].concat()
    };
    let book = Book::new(APEX, LONG, 1, with(0));
    let primary = book.primary([127, 5, 0, 30]);
    let secondary = Secondary::start(&zone_with(&primary, APEX, ""));
    secondary.wait_serial(APEX, 1);
    book.add(2, with(151));
    primary.notify(secondary.address, APEX);
    let told = "there is NSEC3 with 151 iterations; more than 150 are refused (RFC 9276)";
    let status = secondary.wait_status(APEX, |status| {
        status.primaries[0].last_error.as_deref().is_some_and(|error| error.contains(told))
    });
    assert_eq!((status.serial, status.nsec3_iterations), (Some(1), 0), "what was, is served");
    secondary.wait_log(&["WARN", APEX, told]);
    book.add(3, with(150));
    primary.notify(secondary.address, APEX);
    secondary.wait_serial(APEX, 3);
    assert_eq!(secondary.status(APEX).nsec3_iterations, 150);
    secondary.wait_log(&["WARN", APEX, "iterations=150", "RFC 9276 advises 0"]);
    book.add(4, [with(150), vec![Rr::a("more.iterations.test.", [192, 0, 2, 9])]].concat());
    primary.notify(secondary.address, APEX);
    secondary.wait_serial(APEX, 4);
    assert_eq!(secondary.logged(&["RFC 9276 advises 0"]), 1, "told once");
}
