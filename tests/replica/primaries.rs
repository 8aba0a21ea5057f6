//! Several primaries, their order, where they are asked from, and waits between attempts.

use super::scripted::*;
use backstop::replica::State;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

const TIMES: [u32; 3] = [3600, 1, 86_400];

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 2, 0, last)
}

#[test]
fn primaries_are_tried_in_order_each_asked_from_its_own_source() {
    let zone = Zone::new("order.test.", TIMES, 1);
    let refuse = |asked: &Asked| vec![Act::Message(asked.reply(rcode::REFUSED, &[]))];
    let first = Primary::on(ip(1), refuse);
    let second = Primary::on(ip(2), |_| vec![Act::Reset]);
    let third = Primary::of(ip(3), &zone);
    let all = [&first, &second, &third];
    let line = |(at, primary): (usize, &&Primary)| {
        format!("{{ address = \"{}\", source = \"127.2.1.{}\" }}", primary.address, at + 1)
    };
    let lines: Vec<_> = all.iter().enumerate().map(line).collect();
    let secondary = Secondary::start(&format!(
        "[[zone]]\nname = \"order.test\"\nprimaries = [{}]\n",
        lines.join(", ")
    ));
    let status = secondary.wait_status("order.test.", |status| status.serial == Some(1));
    assert_eq!(status.primary, Some(third.address));
    let error = |at: usize| status.primaries[at].last_error.clone().unwrap_or_default();
    assert!(error(0).contains("REFUSED"), "{}", error(0));
    assert!(error(1).contains("reset"), "{}", error(1));
    assert_eq!(status.primaries[2].last_error, None);
    for (at, primary) in all.iter().enumerate() {
        let asked = primary.asked();
        let source = IpAddr::from([127, 2, 1, u8::try_from(at + 1).unwrap()]);
        assert!(asked.iter().all(|asked| asked.from.ip() == source), "{asked:?}");
        assert_eq!(asked.len(), 1, "one round was enough");
    }
    let times: Vec<_> = all.iter().map(|primary| primary.asked()[0].at).collect();
    assert!(times.is_sorted(), "in the order of the configuration");
    // Whoever notifies is asked first.
    zone.add(2);
    third.notify(secondary.address, "order.test.");
    secondary.wait_serial("order.test.", 2);
    assert_eq!((first.asked().len(), second.asked().len()), (1, 1));
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
