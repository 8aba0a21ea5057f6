//! Other data under the same serial: edited without a new one, or signed anew.

use super::scripted::watch::{Watch, socket, www};
use super::scripted::*;
use crate::common::dns::wait_until;
use backstop::replica::State;
use std::sync::Arc;
use std::time::Duration;

const TIMES: [u32; 3] = [1, 1, 86_400];

/// The whole zone of serial 1, `www` with the number `www`, and what else is at the apex.
fn records(zone: &Zone, www: u32, apex: &[Rr]) -> Vec<Rr> {
    let mut records = zone.whole(1);
    let at = records.iter().position(|rr| rr.owner.starts_with(b"\x03www")).unwrap();
    records[at].data = www.to_be_bytes().to_vec();
    records.splice(1..1, apex.iter().cloned());
    records
}

/// Answers as a primary of a zone that is as [`records`] says.
fn answer(zone: &Zone, asked: &Asked, www: u32, apex: &[Rr]) -> Vec<Act> {
    let of_type = |rtype| apex.iter().filter(move |rr| rr.rtype == rtype).cloned();
    let answers: Vec<Rr> = match asked.rtype {
        rtype::SOA if asked.dnssec_ok => {
            [zone.soa(1)].into_iter().chain(of_type(rtype::RRSIG)).collect()
        }
        rtype::SOA | rtype::IXFR => vec![zone.soa(1)],
        rtype::AXFR => records(zone, www, apex),
        other => of_type(other).collect(),
    };
    vec![Act::Message(asked.reply(rcode::NOERROR, &answers))]
}

fn start(primary: &Primary, apex: &str, settings: &str) -> Secondary {
    let secondary = Secondary::start(&format!(
        "[template.default]\nrefresh-min = \"1s\"\nretry-min = \"1s\"\n{settings}\n\
         [[zone]]\nname = \"{apex}\"\n{}\n",
        primary.config()
    ));
    secondary.wait_serial(apex, 1);
    secondary
}

fn version(secondary: &Secondary, apex: &str) -> Option<u32> {
    www(&socket(secondary.address), secondary.address, apex, 3).expect("a reply").version
}

/// Signatures over the SOA, made at `inception`.
fn signature(zone: &Zone, inception: u32) -> Rr {
    let mut data = vec![0, 6, 13, 2, 0, 0, 0, 60];
    data.extend((inception + 1_000_000).to_be_bytes());
    data.extend(inception.to_be_bytes());
    data.extend([0x12, 0x34]);
    data.extend(message::name(&zone.apex));
    data.extend([inception.to_be_bytes()[3]; 64]);
    Rr::new(&zone.apex, rtype::RRSIG, data)
}

fn digest(zone: &Zone, octet: u8) -> Rr {
    let data = [&[0, 0, 0, 1, 1, 1][..], &[octet; 48]].concat();
    Rr::new(&zone.apex, rtype::ZONEMD, data)
}

#[test]
fn an_edit_without_a_new_serial_is_found_by_comparing_and_taken() {
    let zone = Zone::new("edited.test.", TIMES, 1);
    let of_script = Arc::clone(&zone);
    let primary = Primary::on([127, 8, 0, 1], move |asked| answer(&of_script, asked, 1, &[]));
    let secondary = start(&primary, "edited.test.", "compare-every = \"1s\"");
    let watch =
        Watch::start(secondary.address, std::slice::from_ref(&zone.apex), Duration::from_millis(1));
    primary.wait_asked(|all| all.iter().filter(|it| it.rtype == rtype::AXFR).count() >= 3);
    assert_eq!(secondary.logged(&["diverged"]), 0, "the same is the same");
    let of_script = Arc::clone(&zone);
    primary.script(move |asked| answer(&of_script, asked, 77, &[]));
    secondary.wait_log(&[
        "ERROR",
        "edited.test.",
        "diverged: the primary has other data under the serial that we have",
        "all records were compared",
        "its data are taken",
    ]);
    assert!(wait_until(DEADLINE, || version(&secondary, "edited.test.") == Some(77)));
    let status = secondary.wait_status("edited.test.", |status| status.state == State::Ok);
    assert!(status.same_serial_difference, "what happened can still be seen");
    assert_eq!(secondary.logged(&["diverged:"]), 1);
    watch.all_was_well();
}

#[test]
fn where_that_is_to_be_reported_ours_stays_served_until_the_operator_takes_theirs() {
    let zone = Zone::new("report.test.", TIMES, 1);
    let of_script = Arc::clone(&zone);
    let primary = Primary::on([127, 8, 0, 2], move |asked| answer(&of_script, asked, 1, &[]));
    let settings = "compare-every = \"1s\"\non-same-serial = \"report\"";
    let secondary = start(&primary, "report.test.", settings);
    let watch =
        Watch::start(secondary.address, std::slice::from_ref(&zone.apex), Duration::from_millis(1));
    let of_script = Arc::clone(&zone);
    primary.script(move |asked| answer(&of_script, asked, 77, &[]));
    let status = secondary.wait_status("report.test.", |status| status.state == State::Diverged);
    assert_eq!((status.serial, status.same_serial_difference), (Some(1), true));
    secondary.wait_log(&["ERROR", "report.test.", "diverged:", "ours stay served"]);
    let before = primary.asked().len();
    primary
        .wait_asked(|all| all[before..].iter().filter(|it| it.rtype == rtype::AXFR).count() >= 2);
    assert_eq!(secondary.logged(&["diverged:"]), 1, "it is told once, however often it is found");
    assert_eq!(version(&secondary, "report.test."), Some(1));
    secondary.retransfer("report.test.");
    secondary.wait_status("report.test.", |status| status.state == State::Ok);
    assert_eq!(version(&secondary, "report.test."), Some(77));
    watch.all_was_well();
}

/// The primary has `before` at its apex when it is loaded, then `after`, and all of it with
/// another `www`. What is logged of it has the words `why`.
fn found_at_a_refresh(
    ip: [u8; 4],
    apex: &str,
    before: fn(&Zone) -> Rr,
    after: fn(&Zone) -> Rr,
    why: &str,
) {
    let zone = Zone::new(apex, TIMES, 1);
    let of_script = Arc::clone(&zone);
    let primary = Primary::on(ip, move |asked| answer(&of_script, asked, 1, &[before(&of_script)]));
    let secondary = start(&primary, apex, "compare-every = \"off\"");
    let asked = primary.asked().len();
    primary.wait_asked(|all| all.len() >= asked + 4).expect("it is refreshed");
    assert_eq!(secondary.logged(&["diverged"]), 0, "the same is the same");
    let of_script = Arc::clone(&zone);
    primary.script(move |asked| answer(&of_script, asked, 77, &[after(&of_script)]));
    secondary.wait_log(&["ERROR", apex, "diverged:", why]);
    assert!(wait_until(DEADLINE, || version(&secondary, apex) == Some(77)));
    secondary.wait_status(apex, |status| status.state == State::Ok);
    assert_eq!(primary.asked().iter().filter(|it| it.rtype == rtype::AXFR).count(), 2);
}

#[test]
fn newer_signatures_under_the_same_serial_are_taken_at_the_next_refresh() {
    let why = "its SOA has newer signatures";
    let (old, new) = (|zone: &Zone| signature(zone, 1000), |zone: &Zone| signature(zone, 2000));
    found_at_a_refresh([127, 8, 0, 3], "signed.test.", old, new, why);
}

#[test]
fn another_digest_under_the_same_serial_is_noticed_at_the_next_refresh() {
    let (old, new) = (|zone: &Zone| digest(zone, 1), |zone: &Zone| digest(zone, 2));
    found_at_a_refresh([127, 8, 0, 4], "digest.test.", old, new, "its ZONEMD is another");
}

#[test]
fn primaries_that_sign_by_themselves_do_not_make_it_flap() {
    let zone = Zone::new("flap.test.", TIMES, 1);
    let [one, other] = [1000, 2000].map(|inception| {
        let zone = Arc::clone(&zone);
        let last = u8::try_from(inception / 1000).unwrap();
        Primary::on([127, 8, 1, last], move |asked| {
            answer(&zone, asked, inception, &[signature(&zone, inception)])
        })
    });
    let secondary = Secondary::start(&format!(
        "[template.default]\nrefresh-min = \"1s\"\ncompare-every = \"1s\"\n\
         [[zone]]\nname = \"flap.test\"\n\
         primaries = [{{ address = \"{}\" }}, {{ address = \"{}\" }}]\n",
        one.address, other.address
    ));
    secondary.wait_serial("flap.test.", 1);
    let probed = |all: &[Asked]| all.iter().filter(|it| it.rtype == rtype::SOA).count() >= 4;
    one.wait_asked(probed).expect("it is refreshed");
    other.wait_asked(probed).expect("both are asked");
    assert_eq!(version(&secondary, "flap.test."), Some(1000));
    assert_eq!(secondary.logged(&["diverged"]), 0);
    assert_eq!(other.asked().iter().filter(|it| it.rtype == rtype::AXFR).count(), 0);
}
