//! Several primaries, their order, where they are asked from, and waits between attempts.

use super::scripted::primary::Gate;
use super::scripted::*;
use backstop::replica::State;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

const TIMES: [u32; 3] = [3600, 1, 86_400];

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 2, 0, last)
}

fn refuse(asked: &Asked) -> Vec<Act> {
    vec![Act::Message(asked.reply(rcode::REFUSED, &[]))]
}

fn listed(primaries: &[&Primary], of: impl Fn(usize) -> String) -> String {
    let line = |(at, primary): (usize, &&Primary)| {
        format!("{{ address = \"{}\"{} }}", primary.address, of(at))
    };
    let lines: Vec<_> = primaries.iter().enumerate().map(line).collect();
    format!("primaries = [{}]", lines.join(", "))
}

fn count(asked: &[Asked], rtype: u16) -> usize {
    asked.iter().filter(|asked| asked.rtype == rtype).count()
}

#[test]
fn primaries_are_asked_together_each_from_its_own_source() {
    let zone = Zone::new("order.test.", TIMES, 1);
    let first = Primary::on(ip(1), refuse);
    let second = Primary::on(ip(2), |asked| match asked.tcp {
        true => vec![Act::Reset],
        false => vec![Act::Message(asked.reply(rcode::SERVFAIL, &[]))],
    });
    let third = Primary::of(ip(3), &zone);
    let all = [&first, &second, &third];
    let source = |at| format!(", source = \"127.2.1.{}\"", at + 1);
    let lines = listed(&all, source);
    let secondary = Secondary::start(&format!("[[zone]]\nname = \"order.test\"\n{lines}\n"));
    let status = secondary.wait_status("order.test.", |status| {
        status.serial == Some(1) && status.primaries[1].last_error.is_some()
    });
    assert_eq!(status.primary, Some(third.address));
    let error = |at: usize| status.primaries[at].last_error.clone().unwrap_or_default();
    assert!(error(0).contains("REFUSED"), "{}", error(0));
    assert!(error(1).contains("SERVFAIL"), "{}", error(1));
    assert_eq!(status.primaries[2].last_error, None);
    for (at, primary) in all.iter().enumerate() {
        let source = IpAddr::from([127, 2, 1, u8::try_from(at + 1).unwrap()]);
        assert!(primary.asked().iter().all(|asked| asked.from.ip() == source));
    }
    assert_eq!(first.asked().len(), 1, "the preferred one was asked for the zone at once");
    assert_eq!((count(&third.asked(), rtype::SOA), count(&third.asked(), rtype::AXFR)), (1, 1));
    // Whoever notifies is asked, and nobody else.
    let before = (first.asked().len(), second.asked().len());
    zone.add(2);
    third.notify(secondary.address, "order.test.");
    secondary.wait_serial("order.test.", 2);
    assert_eq!((first.asked().len(), second.asked().len()), before);
}

#[test]
fn the_newest_serial_of_all_primaries_wins_and_who_stalls_is_left_for_the_next_at_once() {
    let (old, new) = (Zone::new("newest.test.", TIMES, 1), Zone::new("newest.test.", TIMES, 1));
    let newest = Zone::new("newest.test.", TIMES, 1);
    let primaries = [(7, &old), (8, &new), (9, &newest)];
    let primaries = primaries.map(|(at, zone)| Primary::of(ip(at), zone));
    let lines = listed(&[&primaries[0], &primaries[1], &primaries[2]], |_| String::new());
    let secondary = Secondary::start(&format!("[[zone]]\nname = \"newest.test\"\n{lines}\n"));
    secondary.wait_serial("newest.test.", 1);
    let watch =
        watch::Watch::start(secondary.address, &["newest.test.".into()], Duration::from_millis(1));
    new.add(2);
    newest.add(2);
    newest.add(3);
    secondary.refresh("newest.test.");
    let status = secondary.wait_status("newest.test.", |status| status.serial == Some(3));
    assert_eq!((status.primary, status.behind_serials), (Some(primaries[2].address), 0));
    assert_eq!(count(&primaries[1].asked(), rtype::IXFR), 0, "2 was not worth it");
    // The newest is promised, and the transfer says nothing: the second newest is taken.
    new.add(3);
    new.add(4);
    let promising = Arc::clone(&newest);
    primaries[2].script(move |asked| match asked.rtype {
        rtype::SOA => vec![Act::Message(asked.reply(0, &[promising.soa(5)]))],
        _ => vec![Act::Silence],
    });
    secondary.refresh("newest.test.");
    let status = secondary.wait_status("newest.test.", |status| status.serial == Some(4));
    assert_eq!(status.primary, Some(primaries[1].address));
    assert_eq!((status.behind_serials, status.state), (1, State::Stale), "5 is known of");
    let error = status.primaries[2].last_error.as_deref();
    assert_eq!(error, Some("no answer within 2 s"));
    watch.all_was_well();
}

#[test]
fn an_independent_primary_is_not_mixed_with_another_and_switched_to_by_axfr_alone() {
    // Serials of their own: what one has says nothing about the other.
    let (one, other) =
        (Zone::new("pin.test.", [1, 1, 86_400], 10), Zone::new("pin.test.", [1, 1, 86_400], 2));
    let primaries = [Primary::of(ip(10), &one), Primary::of(ip(11), &other)];
    let lines = listed(&[&primaries[0], &primaries[1]], |_| ", independent = true".into());
    let secondary = Secondary::start(&format!(
        "[template.default]\nrefresh-min = \"1s\"\nretry-min = \"1s\"\npin-tolerance = \"5s\"\n\
         [[zone]]\nname = \"pin.test\"\n{lines}\n"
    ));
    secondary.wait_serial("pin.test.", 10);
    other.add(99);
    primaries[1].notify(secondary.address, "pin.test.");
    one.add(11);
    primaries[0].notify(secondary.address, "pin.test.");
    secondary.wait_serial("pin.test.", 11);
    assert_eq!(primaries[1].asked().len(), 0, "it is not the one that ours came from");
    primaries[0].script(refuse);
    let status = secondary.wait_status("pin.test.", |status| status.serial == Some(99));
    assert_eq!(status.primary, Some(primaries[1].address));
    assert_eq!(primaries[1].asked()[0].rtype, rtype::AXFR);
    let refused = count(&primaries[0].asked(), rtype::SOA);
    assert!(refused >= 3, "it was waited for: {refused}");
    // Now it is the pinned one, and IXFR is for it.
    other.add(100);
    primaries[1].notify(secondary.address, "pin.test.");
    secondary.wait_serial("pin.test.", 100);
    assert_eq!(count(&primaries[1].asked(), rtype::IXFR), 1);
}

#[test]
fn a_zone_that_was_never_loaded_is_asked_for_after_longer_and_longer_waits() {
    let primary = Primary::on(ip(4), |asked| vec![Act::Message(asked.reply(rcode::REFUSED, &[]))]);
    let config = primary.config();
    let secondary = Secondary::start(&format!("[[zone]]\nname = \"empty.test\"\n{config}\n"));
    let asked = primary.wait_asked(|asked| asked.len() == 4).expect("it goes on asking");
    let waits: Vec<Duration> = asked.windows(2).map(|two| two[1].at - two[0].at).collect();
    // A second, two, four, each up to a tenth more or less; never sooner.
    for (wait, least_ms) in waits.iter().zip([900, 1800, 3600]) {
        assert!(wait.as_millis() >= least_ms, "{waits:?}");
    }
    let status = secondary.status("empty.test.");
    assert_eq!((status.state, status.serial), (State::NeverLoaded, None));
    assert_eq!(status.primaries[0].last_error.as_deref(), Some("the primary answered REFUSED"));
    let said = watch::www(&watch::socket(secondary.address), secondary.address, "empty.test.", 1);
    assert_eq!(said, Some(watch::Said { rcode: rcode::SERVFAIL, version: None }));
    // A NOTIFY need not wait for the next attempt.
    let zone = Zone::new("empty.test.", TIMES, 1);
    let good = Arc::clone(&zone);
    primary.script(move |asked| good.answer(asked));
    primary.notify(secondary.address, "empty.test.");
    secondary.wait_serial("empty.test.", 1);
}

#[test]
fn serials_wrap_around() {
    let zone = Zone::new("wrap.test.", TIMES, u32::MAX - 1);
    let primary = Primary::of(ip(5), &zone);
    let config = primary.config();
    let secondary = Secondary::start(&format!("[[zone]]\nname = \"wrap.test\"\n{config}\n"));
    secondary.wait_serial("wrap.test.", u32::MAX - 1);
    let watch =
        watch::Watch::start(secondary.address, &["wrap.test.".into()], Duration::from_millis(1));
    for serial in [u32::MAX, 0, 1] {
        zone.add(serial);
        primary.notify(secondary.address, "wrap.test.");
        secondary.wait_serial("wrap.test.", serial);
    }
    let ixfrs = primary.asked().iter().filter(|asked| asked.rtype == rtype::IXFR).count();
    assert_eq!(ixfrs, 3, "each step was a difference");
    assert_eq!(primary.asked().iter().filter(|asked| asked.rtype == rtype::AXFR).count(), 1);
    watch.all_was_well();
}

#[test]
fn a_probe_that_promises_more_than_the_transfer_brings_does_no_harm() {
    let zone = Zone::new("lies.test.", TIMES, 5);
    let primary = Primary::of(ip(6), &zone);
    let config = primary.config();
    let secondary = Secondary::start(&format!("[[zone]]\nname = \"lies.test\"\n{config}\n"));
    secondary.wait_serial("lies.test.", 5);
    let lying = Arc::clone(&zone);
    primary.script(move |asked| match asked.rtype {
        rtype::SOA => vec![Act::Message(asked.reply(0, &[lying.soa(99)]))],
        _ => lying.answer(asked),
    });
    secondary.refresh("lies.test.");
    let asked = primary.wait_asked(|asked| asked.iter().any(|asked| asked.rtype == rtype::IXFR));
    assert!(asked.is_some(), "it looked");
    let status = secondary.wait_status("lies.test.", |status| status.state != State::Refreshing);
    assert_eq!((status.serial, status.state), (Some(5), State::Ok));
    let transfers = |asked: &[Asked]| asked.iter().filter(|asked| asked.tcp).count();
    assert!(transfers(&primary.asked()) <= 3, "it does not ask over and over");
}

#[test]
fn a_primary_that_answers_one_request_a_connection_and_leaves_it_open_is_asked_over_another() {
    let zone = Zone::new("one.test.", TIMES, 1);
    let (of_script, end) = (Arc::clone(&zone), Arc::new(Gate::default()));
    let open = Arc::clone(&end);
    let primary = Primary::on(ip(90), move |asked| {
        [of_script.answer(asked), vec![Act::Gate(Arc::clone(&open))]].concat()
    });
    let secondary =
        Secondary::start(&format!("[[zone]]\nname = \"{}\"\n{}\n", zone.apex, primary.config()));
    for serial in 2..5 {
        secondary.wait_serial(&zone.apex, serial - 1);
        zone.add(serial);
        primary.notify(secondary.address, &zone.apex);
    }
    secondary.wait_serial(&zone.apex, 4);
    assert_eq!(secondary.logged(&["WARN", &zone.apex]), 0, "{:?}", secondary.log());
    end.open();
}
