//! A large zone that is not held yet is written to the store while the rest of it is on its way.

use super::common::dns::wait_until;
use super::scripted::*;
use std::fs;
use std::sync::Arc;

const TIMES: [u32; 3] = [3600, 1, 86_400];
const SETTINGS: &str = "[template.default]\nretry-min = \"1s\"\nrefresh-min = \"1s\"\n";
/// So many records of 250 octets each: four megabytes.
const OWNERS: usize = 16_000;

fn records(apex: &str) -> Vec<Rr> {
    let text = "x".repeat(240);
    let ns = Rr::new(apex, rtype::NS, message::name(&format!("ns.{apex}")));
    let owner = |n| Rr::txt(&format!("t{n:06}.{apex}"), &format!("{n}{text}"));
    [ns].into_iter().chain((0..OWNERS).map(owner)).collect()
}

/// What a primary says that sends these records in this order; `until` so many messages were sent.
fn answer(asked: &Asked, apex: &str, records: &[Rr], until: Option<usize>) -> Vec<Act> {
    let soa = vec![Rr::soa(apex, 1, TIMES)];
    if asked.rtype == rtype::SOA {
        return vec![Act::Message(asked.reply(rcode::NOERROR, &soa))];
    }
    let all = [soa.clone(), records.to_vec(), soa].concat();
    let messages = all.chunks(150).map(|some| Act::Message(asked.reply(rcode::NOERROR, some)));
    match until {
        Some(count) => messages.take(count).chain([Act::Gate(Arc::default())]).collect(),
        None => messages.collect(),
    }
}

fn exported(secondary: &Secondary, apex: &str) -> Vec<u8> {
    let mut text = Vec::new();
    secondary.client().export(apex, &mut text).unwrap();
    text
}

/// Starts one that gets these records in this order.
fn transferred(apex: &'static str, ip: [u8; 4], records: Vec<Rr>) -> (Primary, Secondary) {
    let primary = Primary::on(ip, move |asked| answer(asked, apex, &records, None));
    let zone = format!("{SETTINGS}[[zone]]\nname = \"{apex}\"\n{}\n", primary.config());
    let secondary = Secondary::start(&zone);
    secondary.wait_serial(apex, 1);
    (primary, secondary)
}

#[test]
fn what_has_come_of_a_zone_is_written_and_counts_for_nothing_until_all_of_it_has_come() {
    const APEX: &str = "ahead.test.";
    let all = records(APEX);
    let some = all.clone();
    let primary = Primary::on([127, 8, 0, 1], move |asked| answer(asked, APEX, &some, Some(90)));
    let zone = format!("{SETTINGS}[[zone]]\nname = \"{APEX}\"\n{}\n", primary.config());
    let mut secondary = Secondary::start(&zone);
    let file = secondary.state().join("data.mdb");
    let written = || fs::metadata(&file).map_or(0, |file| file.len());
    assert!(wait_until(DEADLINE, || written() > 2 << 20), "{} octets", written());
    assert_eq!(secondary.status(APEX).serial, None);
    // In the middle of a transfer, or between one that stalled and the next.
    secondary.kill();
    secondary.run();
    assert_eq!(secondary.status(APEX).serial, None);
    primary.script(move |asked| answer(asked, APEX, &all, None));
    secondary.wait_serial(APEX, 1);
    let before = exported(&secondary, APEX);
    assert!(before.split(|&octet| octet == b'\n').count() > OWNERS);
    secondary.kill();
    secondary.run();
    secondary.wait_serial(APEX, 1);
    assert!(exported(&secondary, APEX) == before, "another zone than was received is kept");
}

#[test]
fn a_zone_whose_last_records_come_late_is_kept_as_it_is() {
    const APEX: &str = "late.test.";
    let mut records = records(APEX);
    // One that belongs into a page that was final, and one to an owner that was.
    records.push(Rr::txt(&format!("t000007a.{APEX}"), "late"));
    records.push(Rr::txt(&format!("t000010.{APEX}"), "late"));
    let (_primary, mut secondary) = transferred(APEX, [127, 8, 0, 2], records);
    let before = exported(&secondary, APEX);
    assert_eq!(before.windows(6).filter(|word| word == b"\"late\"").count(), 2);
    secondary.kill();
    secondary.run();
    secondary.wait_serial(APEX, 1);
    assert!(exported(&secondary, APEX) == before, "another zone than was received is kept");
}
