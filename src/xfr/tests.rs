//! Transfers between our two halves, and messages written by hand.

use super::*;
use crate::name::{Name, NameBuf};
use crate::wire::{Class, Rtype, Section, Writer, flag};
use crate::zone::{Builder, Record, Records, Zone};
use std::sync::{Arc, LazyLock};

const ID: u16 = 4711;
const LIMIT: u64 = 1 << 20;
const A: &[u8] = &[192, 0, 2, 1];

fn name(text: &str) -> NameBuf {
    text.parse().unwrap()
}

fn apex() -> NameBuf {
    name("example")
}

fn soa_data(serial: u32) -> Vec<u8> {
    let mut data = b"\x02ns\x07example\0\x01h\x07example\0".to_vec();
    for number in [serial, 3600, 600, 86400, 300] {
        data.extend_from_slice(&number.to_be_bytes());
    }
    data
}

type Item = (&'static str, Rtype, Vec<u8>);

fn soa(serial: u32) -> Item {
    ("example", Rtype::SOA, soa_data(serial))
}

fn a(owner: &'static str) -> Item {
    (owner, Rtype::A, A.to_vec())
}

fn zone(serial: u32, items: impl IntoIterator<Item = (String, Rtype, Vec<u8>)>) -> Arc<Zone> {
    let mut builder = Builder::new(apex().as_name());
    let data = soa_data(serial);
    builder.add(apex().as_name(), Record { rtype: Rtype::SOA, ttl: 60, data: &data });
    for (owner, rtype, data) in items {
        builder.add(name(&owner).as_name(), Record { rtype, ttl: 60, data: &data });
    }
    Arc::new(builder.build().unwrap())
}

/// Hosts, an alias each, and of everything that is sent in another way something.
fn sample(serial: u32, hosts: std::ops::Range<u32>) -> Arc<Zone> {
    let signature = |covered: u16| [&covered.to_be_bytes()[..], &[0; 16], b"\0sig"].concat();
    let mut items = vec![
        ("example".into(), Rtype::NS, b"\x02ns\x07example\0".to_vec()),
        ("example".into(), Rtype::RRSIG, signature(6)),
        ("*.w.example".into(), Rtype::MX, b"\0\x0a\x04mail\x07example\0".to_vec()),
        ("sub.example".into(), Rtype::NS, b"\x02ns\x03sub\x07example\0".to_vec()),
        ("\\000\\065\\@.example".into(), Rtype::TXT, b"\x01x".to_vec()),
        ("0p9.example".into(), Rtype::NSEC3, [&[1, 0, 0, 0, 0, 20][..], &[7; 20]].concat()),
        ("0p9.example".into(), Rtype::RRSIG, signature(50)),
    ];
    for i in hosts {
        let host = format!("host{i}.a{}.example", i % 7);
        items.push((host.clone(), Rtype::A, i.to_be_bytes().to_vec()));
        items.push((host.clone(), Rtype::A, (!i).to_be_bytes().to_vec()));
        let target = name(&host).as_name().as_wire().to_vec();
        items.push((format!("www.{host}"), Rtype::CNAME, target));
    }
    zone(serial, items)
}

fn is_same(a: &Zone, b: &Zone) -> bool {
    let diff = Diff::between(a, b);
    a.serial() == b.serial() && a.records() == b.records() && diff.records() == 2
}

fn axfr_request() -> TransferRequest {
    parse_transfer(&axfr_query(ID, apex().as_name())).unwrap()
}

fn ixfr_request(have: u32) -> TransferRequest {
    parse_transfer(&ixfr_query(ID, apex().as_name(), Serial(have))).unwrap()
}

fn messages(mut outgoing: Outgoing) -> Vec<Vec<u8>> {
    let mut buffer = vec![0; MESSAGE_MAX];
    let mut messages = Vec::new();
    while let Some(len) = outgoing.next(&mut buffer, 100).unwrap() {
        messages.push(buffer[..len].to_vec());
    }
    messages
}

/// Feeds all messages; all but the last must ask for more.
fn receive(mut incoming: Incoming, messages: &[Vec<u8>]) -> Result<Progress, XfrError> {
    let (last, others) = messages.split_last().unwrap();
    for message in others {
        match incoming.message(message)? {
            Progress::More => {}
            _ => panic!("it ended before the last message"),
        }
    }
    incoming.message(last)
}

fn axfr() -> Incoming {
    Incoming::axfr(apex().as_name(), ID, LIMIT)
}

fn ixfr(have: u32) -> Incoming {
    Incoming::ixfr(apex().as_name(), ID, Serial(have), LIMIT)
}

/// A reply with these answers; `rtype` is asked for.
fn reply(rtype: Rtype, answers: &[Item]) -> Vec<u8> {
    let mut buffer = vec![0; MESSAGE_MAX];
    let mut writer = Writer::new(&mut buffer, MESSAGE_MAX);
    writer.question(apex().as_name(), rtype, Class::IN).unwrap();
    for (owner, rtype, data) in answers {
        let owner = name(owner);
        writer.record(Section::Answer, owner.as_name(), *rtype, Class::IN, 60).unwrap();
        writer.data(*rtype, data).unwrap();
    }
    let len = writer.finish(ID, flag::QR | flag::AA);
    buffer.truncate(len);
    buffer
}

/// A reply without data to a request that is a question.
fn refusal(request: &[u8], rcode: u8) -> Vec<u8> {
    let mut reply = request.to_vec();
    reply[2] |= 0x80;
    reply[3] |= rcode;
    reply
}

fn replies(rtype: Rtype, messages: &[&[Item]]) -> Vec<Vec<u8>> {
    messages.iter().map(|answers| reply(rtype, answers)).collect()
}

fn error(result: Result<Progress, XfrError>) -> XfrError {
    result.err().expect("it must not be taken")
}

fn whole(progress: Progress) -> Zone {
    let Progress::Whole(builder, soa) = progress else { panic!("not a whole zone") };
    let zone = builder.build().unwrap();
    assert_eq!(zone.soa(), &soa);
    zone
}

fn diffs(progress: Progress) -> Vec<Diff> {
    let Progress::Diffs(diffs) = progress else { panic!("no differences") };
    diffs
}

#[test]
fn a_zone_that_is_summed_up_has_the_sum_of_the_zone_that_was_sent() {
    let sum = |zone: &Arc<Zone>| {
        let sent = messages(Outgoing::axfr(&axfr_request(), Arc::clone(zone)));
        let incoming = Incoming::sum(apex().as_name(), ID, LIMIT);
        match receive(incoming, &sent) {
            Ok(Progress::Summed(sum, soa)) if soa == *zone.soa() => sum,
            _ => panic!("no sum"),
        }
    };
    let (one, other) = (sample(5, 0..3000), sample(5, 0..3001));
    assert_eq!(sum(&one), one.sum());
    assert_eq!(sum(&other), other.sum());
    assert_ne!(one.sum(), other.sum());
    let sent = messages(Outgoing::axfr(&axfr_request(), one));
    let little = Incoming::sum(apex().as_name(), ID, 1000);
    assert_eq!(error(receive(little, &sent)), XfrError::TooBig(1000));
}

#[test]
fn who_asks_when_the_zone_expires_is_told_in_the_first_message() {
    let zone = sample(5, 0..3000);
    let mut query = axfr_query(ID, apex().as_name());
    extend(&mut query, false);
    let told = |query: &[u8]| {
        let request = parse_transfer(query).unwrap();
        let sent = messages(Outgoing::axfr(&request, Arc::clone(&zone)).expiring_in(77));
        assert!(sent.len() > 1);
        assert!(sent[1..].iter().all(|message| read_extended(message) == Extended::default()));
        read_extended(&sent[0]).expire_s
    };
    assert_eq!(told(&query), Some(77));
    assert_eq!(told(&axfr_query(ID, apex().as_name())), None);
}

#[test]
fn a_whole_zone_arrives_as_it_was_sent() {
    for hosts in [0, 1, 5000] {
        let zone = sample(7, 0..hosts);
        let sent = messages(Outgoing::axfr(&axfr_request(), Arc::clone(&zone)));
        let mut incoming = axfr();
        let mut received = None;
        for message in &sent {
            assert!(message.len() < 17_000);
            received = Some(incoming.message(message).unwrap());
        }
        assert!(is_same(&zone, &whole(received.unwrap())));
        assert_eq!(incoming.statistics().messages, sent.len() as u64);
        assert_eq!(incoming.statistics().records, zone.records() + 1);
        assert_eq!(incoming.statistics().outside, 0);
    }
}

#[test]
fn the_root_zone_arrives_as_it_was_sent() {
    let mut builder = Builder::new(Name::ROOT);
    let data = soa_data(3);
    builder.add(Name::ROOT, Record { rtype: Rtype::SOA, ttl: 1, data: &data });
    builder.add(name("com").as_name(), Record { rtype: Rtype::NS, ttl: 1, data: b"\x01a\0" });
    let zone = Arc::new(builder.build().unwrap());
    let request = parse_transfer(&axfr_query(ID, Name::ROOT)).unwrap();
    let sent = messages(Outgoing::axfr(&request, Arc::clone(&zone)));
    let received = receive(Incoming::axfr(Name::ROOT, ID, LIMIT), &sent).unwrap();
    assert!(is_same(&zone, &whole(received)));
}

#[test]
fn large_records_go_in_messages_of_their_own_and_larger_ones_nowhere() {
    let big = |len| zone(1, [("b.example".to_string(), Rtype(65280), vec![7; len])]);
    let sent = messages(Outgoing::axfr(&axfr_request(), big(65_000)));
    let received = whole(receive(axfr(), &sent).unwrap());
    assert!(is_same(&big(65_000), &received));
    let mut outgoing = Outgoing::axfr(&axfr_request(), big(65_500));
    let mut buffer = vec![0; MESSAGE_MAX];
    assert!(outgoing.next(&mut buffer, 100).unwrap().is_some());
    assert_eq!(outgoing.next(&mut buffer, 100), Err(Unsendable));
}

#[test]
fn room_is_kept_for_the_signature_and_the_first_message_answers_edns() {
    let mut query = axfr_query(ID, apex().as_name());
    query.extend_from_slice(b"\0\0\x29\x04\xd0\0\0\0\0\0\0");
    query[11] = 1;
    let request = parse_transfer(&query).unwrap();
    assert!(request.edns);
    let mut outgoing = Outgoing::axfr(&request, sample(1, 0..2000));
    let mut buffer = vec![0; 600];
    let mut options = Vec::new();
    while let Some(len) = outgoing.next(&mut buffer, 100).unwrap() {
        assert!(len <= 500);
        options.push(buffer[11]);
    }
    assert_eq!(options[0], 1);
    assert!(options[1..].iter().all(|&count| count == 0));
}

/// Versions with the serials given, and the differences between neighbours.
fn history(serials: &[u32], hosts: u32) -> (Vec<Arc<Zone>>, Vec<Arc<Diff>>) {
    let zones: Vec<_> = (0..).zip(serials).map(|(i, &s)| sample(s, i..i + hosts)).collect();
    let diffs = zones.windows(2).map(|pair| Arc::new(Diff::between(&pair[0], &pair[1])));
    let diffs = diffs.collect();
    (zones, diffs)
}

#[test]
fn differences_arrive_as_they_were_sent_also_across_the_end_of_serials() {
    let serials = [u32::MAX - 1, u32::MAX, 0, 5, 0x7000_0000];
    let (zones, sent) = history(&serials, 200);
    for first in 0..sent.len() {
        let newest = Arc::clone(zones.last().unwrap());
        let outgoing = Outgoing::ixfr(&ixfr_request(serials[first]), newest, Some(&sent[first..]));
        assert_eq!(outgoing.way(), Way::Diffs { from: Serial(serials[first]) });
        let received = diffs(receive(ixfr(serials[first]), &messages(outgoing)).unwrap());
        assert_eq!(received.len(), sent.len() - first);
        let mut zone = Zone::clone(&zones[first]);
        for (received, sent) in received.iter().zip(&sent[first..]) {
            assert!(received == &**sent);
            zone = zone.apply(received).unwrap();
        }
        assert!(is_same(&zone, zones.last().unwrap()));
    }
}

#[test]
fn differences_that_fill_many_messages_arrive_too() {
    let (old, new) = (sample(1, 0..9000), sample(2, 3000..9000));
    let diff = Arc::new(Diff::between(&old, &new));
    let outgoing = Outgoing::ixfr(&ixfr_request(1), new, Some(&[Arc::clone(&diff)]));
    assert_eq!(outgoing.way(), Way::Diffs { from: Serial(1) });
    let sent = messages(outgoing);
    assert!(sent.len() > 5);
    let received = diffs(receive(ixfr(1), &sent).unwrap());
    assert!(received[0] == *diff);
}

#[test]
fn a_client_with_the_newest_version_gets_one_soa() {
    for (have, serial) in [(7, 7), (9, 7), (0x8000_0007, 7)] {
        let outgoing = Outgoing::ixfr(&ixfr_request(have), sample(serial, 0..1), None);
        assert_eq!(outgoing.way(), Way::Soa);
        let sent = messages(outgoing);
        assert_eq!(sent.len(), 1);
        match receive(ixfr(have), &sent).unwrap() {
            Progress::UpToDate(Serial(7)) if have == 7 => {}
            Progress::Behind(Serial(7)) if have != 7 => {}
            _ => panic!("{have}"),
        }
    }
}

#[test]
fn without_history_or_with_too_much_of_it_the_whole_zone_is_sent() {
    let (old, new) = (sample(1, 0..1000), sample(2, 1000..2000));
    let rewritten = [Arc::new(Diff::between(&old, &new))];
    let (_, other) = history(&[3, 4], 9);
    for since in [None, Some(&[][..]), Some(&rewritten[..]), Some(&other[..])] {
        let outgoing = Outgoing::ixfr(&ixfr_request(1), Arc::clone(&new), since);
        assert_eq!(outgoing.way(), Way::Whole);
        let received = receive(ixfr(1), &messages(outgoing)).unwrap();
        assert!(is_same(&new, &whole(received)));
    }
}

#[test]
fn a_difference_of_as_many_records_as_the_zone_has_is_sent_as_one() {
    // Half of the names are others: with the whole zone, the client would have to find out which.
    let (old, new) = (sample(1, 0..1000), sample(2, 490..1490));
    let diffs = [Arc::new(Diff::between(&old, &new))];
    let outgoing = Outgoing::ixfr(&ixfr_request(1), Arc::clone(&new), Some(&diffs));
    assert_eq!(outgoing.way(), Way::Diffs { from: Serial(1) });
    assert!(diffs[0].octets() > 16 * 1024 && diffs[0].records() as u64 <= new.records());
}

#[test]
fn records_may_come_in_any_number_of_messages() {
    let all = [soa(2), a("www.example"), a("example"), soa(2)];
    let one_each: Vec<_> = all.iter().map(std::slice::from_ref).collect();
    for messages in [vec![&all[..]], vec![&all[..1], &all[1..]], one_each] {
        let received = whole(receive(axfr(), &replies(Rtype::AXFR, &messages)).unwrap());
        assert_eq!(received.records(), 3);
        let received = whole(receive(ixfr(1), &replies(Rtype::IXFR, &messages)).unwrap());
        assert_eq!(received.records(), 3);
    }
    let all = [soa(3), soa(1), a("x.example"), soa(2), soa(2), soa(3), a("y.example"), soa(3)];
    let one_each: Vec<_> = all.iter().map(std::slice::from_ref).collect();
    for messages in [vec![&all[..]], one_each] {
        let received = diffs(receive(ixfr(1), &replies(Rtype::IXFR, &messages)).unwrap());
        let ends: Vec<_> = received.iter().map(|diff| (diff.from.0, diff.to.0)).collect();
        assert_eq!(ends, [(1, 2), (2, 3)]);
        let count = |list: &Records| list.iter().count();
        let counts = received.iter().map(|d| (count(&d.removed), count(&d.added)));
        assert_eq!(counts.collect::<Vec<_>>(), [(2, 1), (1, 2)]);
    }
}

#[test]
fn later_messages_may_lack_the_question_the_first_may_not() {
    let bare = |answers: &[Item]| {
        let with = reply(Rtype::AXFR, answers);
        // Nothing may point into the question that is taken out.
        let mut out = with[..12].to_vec();
        out[5] = 0;
        let (owner, rtype, data) = &answers[0];
        out.extend_from_slice(name(owner).as_name().as_wire());
        out.extend_from_slice(&rtype.0.to_be_bytes());
        out.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
        out.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
        out.extend_from_slice(data);
        out
    };
    let first = reply(Rtype::AXFR, &[soa(1), a("a.example")]);
    assert!(receive(axfr(), &[first, bare(&[soa(1)])]).is_ok());
    let verdict = receive(axfr(), &[bare(&[soa(1)])]);
    assert!(matches!(error(verdict), XfrError::Malformed(_)));
}

/// Fuzzing found zones with such TTLs: their own exported file was refused.
#[test]
fn a_ttl_of_more_than_31_bits_is_zero() {
    for (first, expected) in [(0x80, 0), (0xff, 0), (0x7f, 0x7f00_003c)] {
        let mut message = reply(Rtype::AXFR, &[soa(1), a("a.example"), soa(1)]);
        for at in 0..message.len() - 4 {
            if message[at..at + 4] == [0, 0, 0, 60] {
                message[at] = first;
            }
        }
        let zone = whole(receive(axfr(), &[message]).unwrap());
        let ttls = zone.entries().flat_map(|(_, node)| node.sets()).map(|set| set.ttl());
        assert_eq!(ttls.collect::<Vec<_>>(), [expected; 2]);
    }
}

#[test]
fn what_is_outside_the_zone_is_dropped_and_counted() {
    let mut incoming = axfr();
    let message = reply(Rtype::AXFR, &[soa(1), a("example.org"), a("a.example"), soa(1)]);
    assert_eq!(whole(incoming.message(&message).unwrap()).records(), 2);
    assert_eq!(incoming.statistics().outside, 1);
    let mut incoming = ixfr(1);
    let message = reply(Rtype::IXFR, &[soa(2), soa(1), a("org"), soa(2), a("com"), soa(2)]);
    assert_eq!(diffs(incoming.message(&message).unwrap())[0].records(), 2);
    assert_eq!(incoming.statistics().outside, 2);
}

#[test]
fn more_than_one_soa_is_up_to_date_when_the_serial_is_ours() {
    let signature = ("example", Rtype::RRSIG, [&[0, 6][..], &[0; 16], b"\0sig"].concat());
    let message = reply(Rtype::IXFR, &[soa(5), signature]);
    assert!(matches!(receive(ixfr(5), &[message]).unwrap(), Progress::UpToDate(Serial(5))));
}

#[test]
fn a_single_newer_soa_asks_for_more() {
    let message = reply(Rtype::IXFR, &[soa(6)]);
    let mut incoming = ixfr(5);
    assert_eq!(incoming.lone_soa(), None);
    assert!(matches!(incoming.message(&message).unwrap(), Progress::More));
    assert_eq!(incoming.lone_soa(), Some(Serial(6)));
    assert!(matches!(incoming.message(&message).unwrap(), Progress::Whole(..)));
    assert_eq!(incoming.lone_soa(), None);
}

#[test]
fn malformed_transfers_are_refused() {
    let mx = |data: &[u8]| ("m.example", Rtype::MX, data.to_vec());
    let cases: &[&[Item]] = &[
        &[],
        &[a("www.example"), soa(1)],
        &[soa(1), a("a.example"), soa(2)],
        &[soa(1), a("a.example"), soa(1), a("b.example")],
        &[soa(1), soa(1), soa(1)],
        &[soa(1), ("a.example", Rtype::SOA, soa_data(1)), soa(1)],
        &[soa(1), ("a.example", Rtype::A, vec![1, 2, 3]), soa(1)],
        &[soa(1), mx(b"\0\x0a"), soa(1)],
        &[soa(1), mx(b"\0\x0a\x01a\0x"), soa(1)],
        &[soa(1), ("a.example", Rtype::TSIG, vec![]), soa(1)],
        &[soa(1), ("a.example", Rtype::OPT, vec![]), soa(1)],
        &[soa(1), ("a.example", Rtype::ANY, vec![]), soa(1)],
        &[soa(1), ("a.example", Rtype(0), vec![]), soa(1)],
        &[("example", Rtype::SOA, vec![0; 10])],
    ];
    for (number, &case) in cases.iter().enumerate() {
        let verdict = error(receive(axfr(), &replies(Rtype::AXFR, &[case])));
        assert!(matches!(verdict, XfrError::Malformed(_)), "case {number}: {verdict}");
        assert!(verdict.asks_for_axfr());
    }
    let mut class = reply(Rtype::AXFR, &[soa(1), a("a.example"), soa(1)]);
    let at = class.windows(4).position(|four| four == [0, 1, 0, 1]).unwrap();
    class[at + 3] = 3;
    assert!(matches!(error(receive(axfr(), &[class])), XfrError::Malformed(_)));
}

#[test]
fn differences_that_do_not_lead_on_are_out_of_sync() {
    let cases: &[&[Item]] = &[
        &[soa(9), soa(4), soa(9), soa(9)],
        &[soa(9), soa(5), soa(6), soa(7), soa(9), soa(9)],
        &[soa(9), soa(5), soa(6), a("a.example"), soa(9), soa(9)],
    ];
    for &case in cases {
        let verdict = error(receive(ixfr(5), &replies(Rtype::IXFR, &[case])));
        assert!(matches!(verdict, XfrError::OutOfSync { .. }), "{verdict}");
        assert!(verdict.asks_for_axfr());
    }
    for back in [4, 5] {
        let case = [soa(9), soa(5), soa(back), soa(9)];
        let verdict = error(receive(ixfr(5), &replies(Rtype::IXFR, &[&case])));
        assert!(matches!(verdict, XfrError::Malformed(_)), "{verdict}");
    }
}

#[test]
fn what_answers_something_else_is_not_ours() {
    let good = reply(Rtype::AXFR, &[soa(1), soa(1)]);
    assert!(axfr().message(&good).is_ok());
    for (at, value) in [(0, 0xff), (2, 0x04), (2, 0xa4), (13, b'f'), (22, 251), (24, 3)] {
        let mut other = good.clone();
        other[at] = value;
        assert_eq!(error(axfr().message(&other)), XfrError::NotOurs, "octet {at}");
    }
    let mut truncated = good;
    truncated[2] |= 0x02;
    assert_eq!(error(axfr().message(&truncated)), XfrError::Truncated);
}

#[test]
fn each_error_of_the_primary_is_told_and_asks_for_the_whole_zone() {
    for code in [1, 2, 4, 5, 9] {
        let request = ixfr_query(ID, apex().as_name(), Serial(1));
        let message = refusal(&request, code);
        let verdict = error(ixfr(1).message(&message));
        assert_eq!(verdict, XfrError::Rcode(Rcode(code.into())));
        assert!(verdict.asks_for_axfr());
    }
}

#[test]
fn no_more_is_held_than_the_limit() {
    let zone = sample(2, 0..1000);
    let small = |have: Option<u32>| match have {
        None => Incoming::axfr(apex().as_name(), ID, 5000),
        Some(have) => Incoming::ixfr(apex().as_name(), ID, Serial(have), 5000),
    };
    let sent = messages(Outgoing::axfr(&axfr_request(), Arc::clone(&zone)));
    let verdict = error(receive(small(None), &sent));
    assert_eq!(verdict, XfrError::TooBig(5000));
    assert!(!verdict.asks_for_axfr());
    let diff = [Arc::new(Diff::between(&sample(1, 300..1000), &zone))];
    let outgoing = Outgoing::ixfr(&ixfr_request(1), zone, Some(&diff));
    let verdict = error(receive(small(Some(1)), &messages(outgoing)));
    assert_eq!(verdict, XfrError::DiffsTooBig(5000));
    assert!(verdict.asks_for_axfr());
}

/// A primary once sent records of other zones without end. They were dropped, so nothing was held,
/// no limit was reached, and the transfer never ended.
#[test]
fn a_stream_of_what_is_dropped_comes_to_an_end() {
    let (name, many) = (apex(), vec![a("example.org"); 100]);
    let axfr = Incoming::axfr(name.as_name(), ID, 5000);
    let ixfr = Incoming::ixfr(name.as_name(), ID, Serial(1), 5000);
    for (mut incoming, rtype, begin, error) in [
        (axfr, Rtype::AXFR, vec![soa(2)], XfrError::TooBig(5000)),
        (ixfr, Rtype::IXFR, vec![soa(2), soa(1)], XfrError::DiffsTooBig(5000)),
    ] {
        assert!(matches!(incoming.message(&reply(rtype, &begin)), Ok(Progress::More)));
        let more = reply(rtype, &many);
        let ended = (0..100).find_map(|_| incoming.message(&more).err());
        assert_eq!(ended, Some(error));
    }
}

#[test]
fn nothing_is_read_after_the_end_or_an_error() {
    let good = reply(Rtype::AXFR, &[soa(1), soa(1)]);
    let mut incoming = axfr();
    assert!(incoming.message(&good).is_ok());
    assert!(matches!(error(incoming.message(&good)), XfrError::Malformed(_)));
    let mut incoming = axfr();
    assert!(incoming.message(&[]).is_err());
    assert!(incoming.message(&good).is_err());
}

#[test]
fn the_reply_to_an_soa_query_tells_the_serial() {
    let apex = apex();
    let query = soa_query(ID, apex.as_name(), Some(1232));
    assert_eq!(query.len(), 12 + 13 + 11);
    let good = reply(Rtype::SOA, &[soa(5)]);
    let parse = |reply: &[u8]| parse_soa_reply(reply, ID, apex.as_name());
    assert_eq!(parse(&good).unwrap().serial, Serial(5));
    let mut lame = good.clone();
    lame[2] &= !0x04;
    assert_eq!(parse(&lame), Err(XfrError::Lame));
    assert_eq!(parse(&query), Err(XfrError::NotOurs));
    assert!(matches!(parse(&reply(Rtype::SOA, &[])), Err(XfrError::Malformed(_))));
    assert!(matches!(parse(&good[..good.len() - 1]), Err(XfrError::Malformed(_))));
}

#[test]
fn a_notify_and_its_reply_are_understood() {
    let apex = apex();
    let data = soa_data(9);
    let request = notify(ID, apex.as_name(), Some((60, &data)));
    let told = NotifyRequest { apex: apex.clone(), serial: Some(Serial(9)) };
    assert_eq!(parse_notify(&request), Ok(told));
    let plain = notify(ID, apex.as_name(), None);
    let told = NotifyRequest { apex: apex.clone(), serial: None };
    assert_eq!(parse_notify(&plain), Ok(told));
    for (rcode, expected) in [(0, Ok(())), (9, Err(XfrError::Rcode(Rcode::NOTAUTH)))] {
        let reply = refusal(&plain, rcode);
        assert_eq!(parse_notify_reply(&reply, ID, apex.as_name()), expected);
        assert_eq!(parse_notify(&reply), Err(Rcode::FORMERR), "a reply is no request");
    }
    assert_eq!(parse_notify(&soa_query(ID, apex.as_name(), None)), Err(Rcode::NOTIMP));
    assert_eq!(parse_notify(&request[..request.len() - 1]), Err(Rcode::FORMERR));
}

#[test]
fn transfer_requests_are_understood_or_answered_with_an_error() {
    assert_eq!(axfr_request().have, None);
    assert_eq!(ixfr_request(8).have, Some(Serial(8)));
    let mut without_soa = ixfr_query(ID, apex().as_name(), Serial(1));
    without_soa[9] = 0;
    assert_eq!(parse_transfer(&without_soa), Err(Rcode::FORMERR));
    let query = soa_query(ID, apex().as_name(), None);
    assert_eq!(parse_transfer(&query), Err(Rcode::FORMERR));
    assert_eq!(parse_transfer(&notify(ID, apex().as_name(), None)), Err(Rcode::NOTIMP));
    assert_eq!(parse_transfer(&reply(Rtype::AXFR, &[])), Err(Rcode::FORMERR));
}

/// The messages with some octets set: what a fuzzer would come to.
fn mutated(seed: &[Vec<u8>], changes: &[(u16, u16, u8)]) -> Vec<Vec<u8>> {
    let mut messages = seed.to_vec();
    for &(message, at, value) in changes {
        let count = messages.len();
        let message = &mut messages[usize::from(message) % count];
        let at = usize::from(at) % message.len();
        message[at] = value;
    }
    messages
}

/// Messages of good transfers.
static SEEDS: LazyLock<[Vec<Vec<u8>>; 2]> = LazyLock::new(|| {
    let (zones, sent) = history(&[1, 2, 3], 12);
    let newest = Arc::clone(&zones[2]);
    let whole = Outgoing::axfr(&axfr_request(), Arc::clone(&newest));
    let parts = Outgoing::ixfr(&ixfr_request(1), newest, Some(&sent));
    [messages(whole), messages(parts)]
});

proptest::proptest! {
    #[test]
    fn no_messages_make_it_panic_or_hold_more_than_the_limit(
        changes: Vec<(u16, u16, u8)>, noise: Vec<u8>,
    ) {
        for seed in &*SEEDS {
            check_any_messages(&mutated(seed, &changes));
        }
        check_any_messages(&[noise]);
    }
}
