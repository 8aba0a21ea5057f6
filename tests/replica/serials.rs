//! Serials that go backwards, and NOTIFYs that tell another one than there is.

use super::scripted::message::notify;
use super::scripted::primary::notify_from;
use super::scripted::watch::{Said, Watch, socket, www};
use super::scripted::*;
use crate::common::dns::wait_until;
use backstop::replica::State;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

/// A zone with its primary that was at serial 20 and is at 10 now, and its secondary.
fn gone_back(
    ip: [u8; 4],
    apex: &str,
    expire: u32,
    policy: &str,
) -> (Arc<Zone>, Primary, Secondary) {
    let zone = Zone::new(apex, [1, 1, expire], 20);
    let primary = Primary::of(ip, &zone);
    let secondary = Secondary::start(&format!(
        "[template.default]\nrefresh-min = \"1s\"\nretry-min = \"1s\"\n{policy}\n\
         [[zone]]\nname = \"{apex}\"\n{}\n",
        primary.config()
    ));
    secondary.wait_serial(apex, 20);
    zone.add(10);
    (zone, primary, secondary)
}

fn said(secondary: &Secondary, apex: &str) -> Said {
    www(&socket(secondary.address), secondary.address, apex, 7).expect("a reply")
}

const OURS: Said = Said { rcode: rcode::NOERROR, version: Some(20) };
const THEIRS: Said = Said { rcode: rcode::NOERROR, version: Some(10) };

#[test]
fn a_lower_serial_is_loud_and_ours_is_served_until_the_operator_takes_theirs() {
    let (zone, _primary, secondary) = gone_back([127, 7, 0, 1], "back.test.", 86_400, "");
    let watch =
        Watch::start(secondary.address, std::slice::from_ref(&zone.apex), Duration::from_millis(1));
    let status = secondary.wait_status("back.test.", |status| status.state == State::LowerSerial);
    assert_eq!((status.serial, status.lower_serial), (Some(20), Some(10)));
    let error = status.primaries[0].last_error.as_deref();
    assert_eq!(error, Some("its serial 10 is behind ours, 20"));
    secondary.wait_log(&[
        "ERROR",
        "back.test.",
        "lower-serial: all primaries that answer have a lower serial than ours",
        "ours=20 theirs=10",
        "theirs is taken when the zone expires",
    ]);
    let before = status.last_contact_s;
    let later = secondary.wait_status("back.test.", |status| status.last_contact_s > before);
    assert_eq!(later.state, State::LowerSerial, "it is no contact");
    assert_eq!(secondary.logged(&["lower-serial:"]), 1, "it is told once");
    watch.all_was_well();
    secondary.retransfer("back.test.");
    secondary.wait_status("back.test.", |it| it.serial == Some(10) && it.state == State::Ok);
    secondary.wait_log(&["WARN", "back.test.", "a lower serial is taken", "ours=20 theirs=10"]);
    assert_eq!(said(&secondary, "back.test."), THEIRS);
}

#[test]
fn a_lower_serial_is_taken_when_the_zone_expires() {
    let (_zone, _primary, secondary) = gone_back([127, 7, 0, 2], "expires.test.", 6, "");
    secondary.wait_status("expires.test.", |status| status.state == State::LowerSerial);
    assert_eq!(said(&secondary, "expires.test."), OURS);
    secondary.wait_log(&["ERROR", "expires.test.", "expired:"]);
    secondary.wait_status("expires.test.", |it| it.serial == Some(10) && it.state == State::Ok);
    assert_eq!(said(&secondary, "expires.test."), THEIRS);
}

#[test]
fn a_lower_serial_is_taken_at_once_if_that_is_wanted() {
    let accept = "on-lower-serial = \"accept\"";
    let (_zone, _primary, secondary) = gone_back([127, 7, 0, 3], "accept.test.", 86_400, accept);
    secondary.wait_status("accept.test.", |it| it.serial == Some(10) && it.state == State::Ok);
    assert_eq!(said(&secondary, "accept.test."), THEIRS);
}

#[test]
fn a_lower_serial_is_never_taken_if_that_is_wanted_and_a_higher_one_ends_it() {
    let keep = "on-lower-serial = \"keep\"";
    let (zone, primary, secondary) = gone_back([127, 7, 0, 4], "keep.test.", 4, keep);
    let expired = secondary.wait_status("keep.test.", |status| status.state == State::Expired);
    assert_eq!((expired.serial, expired.lower_serial), (Some(20), Some(10)));
    assert_eq!(said(&secondary, "keep.test.").rcode, rcode::SERVFAIL);
    let asked = primary.asked().len();
    primary.wait_asked(|all| all.len() > asked + 1).expect("it goes on asking");
    assert_eq!(secondary.status("keep.test.").serial, Some(20));
    zone.add(21);
    secondary.wait_status("keep.test.", |it| it.serial == Some(21) && it.state == State::Ok);
}

#[test]
fn a_serial_ahead_of_its_notify_is_taken_and_a_notify_ahead_of_its_serial_is_followed_up() {
    let zone = Zone::new("ahead.test.", [3600, 1, 86_400], 1);
    let primary = Primary::of([127, 7, 0, 5], &zone);
    let config = primary.config();
    let secondary = Secondary::start(&format!("[[zone]]\nname = \"ahead.test\"\n{config}\n"));
    secondary.wait_serial("ahead.test.", 1);
    let watch =
        Watch::start(secondary.address, std::slice::from_ref(&zone.apex), Duration::from_millis(1));
    let socket = UdpSocket::bind((primary.address.ip(), 0)).unwrap();
    let tell = |serial| {
        let request = notify(9, &zone.apex, Some(&zone.soa(serial)));
        notify_from(&socket, secondary.address, &request);
    };
    zone.add(2);
    zone.add(3);
    tell(2);
    secondary.wait_status("ahead.test.", |it| it.serial == Some(3) && it.state == State::Ok);
    secondary.wait_log(&["INFO", "transferred", "ahead.test.", "from=1 to=3"]);
    let before = primary.asked().len();
    tell(5);
    primary.wait_asked(|asked| asked.len() == before + 1).expect("it looks");
    // The primary has it a moment after its NOTIFY.
    zone.add(5);
    assert!(wait_until(DEADLINE, || secondary.status("ahead.test.").serial == Some(5)));
    assert_eq!(secondary.logged(&["WARN", "ahead.test."]), 0, "nothing is wrong");
    watch.all_was_well();
}
