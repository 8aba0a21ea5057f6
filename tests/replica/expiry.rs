//! A zone that no primary has renewed in time is no longer answered for.

use super::scripted::watch::{Said, Watch, socket, www};
use super::scripted::*;
use crate::common::dns::wait_until;
use backstop::replica::State;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn an_expired_zone_says_servfail_until_the_primary_is_back_and_others_go_on() {
    let short = Zone::new("short.test.", [1, 1, 6], 1);
    let long = Zone::new("long.test.", [1, 1, 86_400], 1);
    let primaries = [Primary::of([127, 4, 0, 1], &short), Primary::of([127, 4, 0, 2], &long)];
    let secondary = Secondary::start(&format!(
        "[template.default]\nretry-min = \"1s\"\nrefresh-min = \"1s\"\n\
         [[zone]]\nname = \"short.test\"\n{}\n[[zone]]\nname = \"long.test\"\n{}\n",
        primaries[0].config(),
        primaries[1].config()
    ));
    secondary.wait_serial("short.test.", 1);
    secondary.wait_serial("long.test.", 1);
    let others = Watch::start(secondary.address, &["long.test.".into()], Duration::from_millis(1));
    // Good checks keep a zone alive beyond its interval of expiry.
    let probes = |asked: &[Asked]| asked.iter().filter(|asked| asked.rtype == rtype::SOA).count();
    primaries[0].wait_asked(|asked| probes(asked) >= 8).expect("it is refreshed");
    let (client, at) = (socket(secondary.address), secondary.address);
    let ask = || www(&client, at, "short.test.", 9).expect("a reply");
    assert_eq!(ask(), Said { rcode: rcode::NOERROR, version: Some(1) });
    for primary in &primaries {
        primary.script(|asked| vec![Act::Message(asked.reply(rcode::SERVFAIL, &[]))]);
    }
    let status = secondary.wait_status("short.test.", |status| status.state == State::Expired);
    assert_eq!((status.serial, status.expires_in_s), (Some(1), Some(0)));
    // Workers go by a clock that is some milliseconds behind.
    let gone = || ask() == Said { rcode: rcode::SERVFAIL, version: None };
    assert!(wait_until(DEADLINE, gone), "it is answered from");
    secondary.wait_log(&["ERROR", "short.test.", "expired: no primary has renewed it in time"]);
    assert_eq!(secondary.status("long.test.").state, State::Stale);
    let good = Arc::clone(&short);
    primaries[0].script(move |asked| good.answer(asked));
    let back = || ask() == Said { rcode: rcode::NOERROR, version: Some(1) };
    assert!(wait_until(DEADLINE, back), "a good check is all it needs");
    let transfers =
        |asked: &[Asked]| asked.iter().filter(|asked| asked.rtype == rtype::AXFR).count();
    assert_eq!(transfers(&primaries[0].asked()), 1, "the data were kept");
    others.all_was_well();
}

/// The primary says that the zone expires there in `s` seconds.
fn expiring(zone: &Zone, asked: &Asked, s: u32) -> Vec<Act> {
    let asks = asked.options.as_deref().is_some_and(|options| options == [0, 9, 0, 0]);
    assert!(asks, "EXPIRE is asked for: {asked:?}");
    let records = zone.records(asked);
    vec![Act::Message(asked.extended(rcode::NOERROR, &records, &[(9, &s.to_be_bytes())]))]
}

#[test]
fn what_a_primary_says_of_expiry_is_honoured_in_transfers_and_refreshes() {
    let zone = Zone::new("chain.test.", [3600, 1, 86_400], 1);
    let of_script = Arc::clone(&zone);
    let primary = Primary::on([127, 4, 1, 1], move |asked| expiring(&of_script, asked, 1000));
    let secondary =
        Secondary::start(&format!("[[zone]]\nname = \"chain.test\"\n{}\n", primary.config()));
    let left = |least: u64, most: u64| {
        secondary.wait_status("chain.test.", |status| {
            status.expires_in_s.is_some_and(|s| (least..=most).contains(&s))
        })
    };
    left(900, 1000);
    // Through an IXFR.
    let of_script = Arc::clone(&zone);
    primary.script(move |asked| expiring(&of_script, asked, 500));
    zone.add(2);
    primary.notify(secondary.address, "chain.test.");
    left(400, 500);
    // A refresh prolongs it, as far as the primary goes, and never shortens it.
    let of_script = Arc::clone(&zone);
    primary.script(move |asked| expiring(&of_script, asked, 2000));
    secondary.refresh("chain.test.");
    left(1900, 2000);
    let of_script = Arc::clone(&zone);
    primary.script(move |asked| expiring(&of_script, asked, 100));
    let asked = primary.asked().len();
    secondary.refresh("chain.test.");
    primary.wait_asked(|all| all.len() > asked).expect("it is asked");
    left(1800, 2000);
    // Nor is it more than the SOA's own.
    let of_script = Arc::clone(&zone);
    primary.script(move |asked| expiring(&of_script, asked, 999_999));
    secondary.refresh("chain.test.");
    left(86_300, 86_400);
}

#[test]
fn a_chain_of_secondaries_does_not_stretch_expiry() {
    let zone = Zone::new("long.test.", [3600, 1, 86_400], 1);
    let of_script = Arc::clone(&zone);
    let primary = Primary::on([127, 4, 1, 2], move |asked| expiring(&of_script, asked, 600));
    let first = Secondary::start(&format!(
        "[[zone]]\nname = \"long.test\"\nallow-transfer = [{{ from = \"127.0.0.1\" }}]\n{}\n",
        primary.config()
    ));
    first.wait_serial("long.test.", 1);
    let second = Secondary::start(&format!(
        "[[zone]]\nname = \"long.test\"\nprimaries = [{{ address = \"{}\" }}]\n",
        first.address
    ));
    second.wait_serial("long.test.", 1);
    let left = |secondary: &Secondary| secondary.status("long.test.").expires_in_s.unwrap();
    // Rounded to seconds: what is asked first is the larger.
    let of_second = left(&second);
    assert!(of_second <= 600 && of_second <= left(&first) + 1, "{of_second}");
    second.refresh("long.test.");
    second.wait_log(&["refreshed now"]);
    assert!(left(&second) <= left(&first) + 1);
}

#[test]
fn a_zone_that_may_be_served_stale_is_and_each_approach_of_expiry_is_told_once() {
    let zone = Zone::new("stale.test.", [1, 1, 6], 1);
    let primary = Primary::of([127, 4, 1, 3], &zone);
    let secondary = Secondary::start(&format!(
        "[template.default]\nretry-min = \"1s\"\nrefresh-min = \"1s\"\n\
         [[zone]]\nname = \"stale.test\"\nafter-expiry = \"serve-stale\"\n{}\n",
        primary.config()
    ));
    secondary.wait_serial("stale.test.", 1);
    let told = b"no longer";
    primary.script(move |asked| {
        let error = [&[0, 24][..], told].concat();
        vec![Act::Message(asked.extended(rcode::SERVFAIL, &[], &[(15, &error)]))]
    });
    let status = secondary.wait_status("stale.test.", |status| status.state == State::Expiring);
    let error = status.primaries[0].last_error.as_deref();
    assert_eq!(error, Some("the primary answered SERVFAIL (Invalid Data: no longer)"));
    let status = secondary.wait_status("stale.test.", |status| status.state == State::Expired);
    assert!(status.serve_stale);
    let said = www(&socket(secondary.address), secondary.address, "stale.test.", 9);
    assert_eq!(said, Some(Said { rcode: rcode::NOERROR, version: Some(1) }));
    for words in [
        &["WARN", "expiring: less than half of the time"][..],
        &["WARN", "expiring: less than a tenth of the time"],
        &["ERROR", "expired: ", "it is served stale until one does"],
    ] {
        let line = secondary.wait_log(words);
        assert!(line.contains("stale.test.") && line.contains("no longer"), "{line}");
        assert_eq!(secondary.logged(words), 1, "{words:?}");
    }
    let good = Arc::clone(&zone);
    primary.script(move |asked| good.answer(asked));
    secondary.wait_status("stale.test.", |status| status.state == State::Ok);
    secondary.wait_log(&["INFO", "no longer expired: a primary has renewed it", "stale.test."]);
}

#[test]
fn the_least_expiry_that_is_configured_holds_beside_a_primary_that_tells_the_soas() {
    // Knot and BIND tell EXPIRE of zones that are their own: the SOA's. That is no bound of
    // theirs, or the setting would be of no use with them.
    let zone = Zone::new("least.test.", [3600, 1, 2], 1);
    let of_script = Arc::clone(&zone);
    let primary = Primary::on([127, 4, 1, 7], move |asked| expiring(&of_script, asked, 2));
    let secondary = Secondary::start(&format!(
        "[[zone]]\nname = \"least.test\"\nexpire-min = \"3h\"\n{}\n",
        primary.config()
    ));
    secondary.wait_serial("least.test.", 1);
    let left = || secondary.status("least.test.").expires_in_s.unwrap();
    assert!(left() > 7200, "{}", left());
    let asked = primary.asked().len();
    secondary.refresh("least.test.");
    primary.wait_asked(|all| all.len() > asked).expect("it is asked again");
    secondary.wait_status("least.test.", |status| status.state == State::Ok);
    assert!(left() > 7200, "{}", left());
    // What is left of another secondary's copy is one.
    let of_script = Arc::clone(&zone);
    primary.script(move |asked| expiring(&of_script, asked, 1000));
    zone.add(2);
    primary.notify(secondary.address, "least.test.");
    secondary.wait_serial("least.test.", 2);
    assert!(left() <= 1000, "{}", left());
}

#[test]
fn the_soas_intervals_are_kept_within_the_configured_bounds() {
    let (long, short) =
        (Zone::new("long.test.", [86_400; 3], 1), Zone::new("short.test.", [1, 1, 2], 1));
    let primaries = [Primary::of([127, 4, 1, 5], &long), Primary::of([127, 4, 1, 6], &short)];
    let secondary = Secondary::start(&format!(
        "[[zone]]\nname = \"long.test\"\nrefresh-min = \"1s\"\nrefresh-max = \"1s\"\n\
         expire-max = \"1h\"\n{}\n\
         [[zone]]\nname = \"short.test\"\nrefresh-min = \"1h\"\nretry-min = \"1h\"\n\
         expire-min = \"3h\"\n{}\n",
        primaries[0].config(),
        primaries[1].config()
    ));
    secondary.wait_serial("long.test.", 1);
    secondary.wait_serial("short.test.", 1);
    let left = |apex| secondary.status(apex).expires_in_s.unwrap();
    assert!(left("long.test.") <= 3600, "{}", left("long.test."));
    assert!(left("short.test.") > 7200, "{}", left("short.test."));
    let probes = |asked: &[Asked]| asked.iter().filter(|asked| asked.rtype == rtype::SOA).count();
    primaries[0].wait_asked(|asked| probes(asked) >= 3).expect("it is refreshed each second");
    assert!(secondary.status("short.test.").refresh_in_s > 1800, "and the other once an hour");
    assert_eq!(probes(&primaries[1].asked()), 0);
}

#[test]
fn a_zone_whose_soa_has_no_expiry_is_good_for_a_refresh_and_a_retry() {
    let zone = Zone::new("none.test.", [3600, 60, 0], 1);
    let of_script = Arc::clone(&zone);
    // What BIND says as its primary.
    let primary = Primary::on([127, 4, 1, 7], move |asked| expiring(&of_script, asked, 0));
    let secondary =
        Secondary::start(&format!("[[zone]]\nname = \"none.test\"\n{}\n", primary.config()));
    let status = secondary.wait_status("none.test.", |status| status.state == State::Ok);
    assert!(status.expires_in_s.is_some_and(|s| (3600..=3660).contains(&s)), "{status:?}");
    let (client, at) = (socket(secondary.address), secondary.address);
    let said = www(&client, at, "none.test.", 9);
    assert_eq!(said, Some(Said { rcode: rcode::NOERROR, version: Some(1) }));
}

#[test]
fn a_zone_that_would_expire_before_it_is_refreshed_is_refreshed_earlier() {
    let zone = Zone::new("earlier.test.", [3600, 1, 6], 1);
    let primary = Primary::of([127, 4, 1, 8], &zone);
    let secondary =
        Secondary::start(&format!("[[zone]]\nname = \"earlier.test\"\n{}\n", primary.config()));
    secondary.wait_serial("earlier.test.", 1);
    let probes = |asked: &[Asked]| asked.iter().filter(|asked| asked.rtype == rtype::SOA).count();
    primary.wait_asked(|asked| probes(asked) >= 3).expect("it is asked in the middle");
    let (client, at) = (socket(secondary.address), secondary.address);
    let said = www(&client, at, "earlier.test.", 9);
    assert_eq!(said, Some(Said { rcode: rcode::NOERROR, version: Some(1) }));
}
