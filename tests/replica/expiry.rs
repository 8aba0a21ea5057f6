//! A zone that no primary has renewed in time is no longer answered for.

use super::scripted::watch::{Said, Watch, socket, www};
use super::scripted::*;
use crate::common::dns::wait_until;
use backstop::replica::State;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn an_expired_zone_says_servfail_until_the_primary_is_back_and_others_go_on() {
    let short = Zone::new("short.test.", [1, 1, 4], 1);
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
    primaries[0].wait_asked(|asked| probes(asked) >= 6).expect("it is refreshed");
    let (client, at) = (socket(secondary.address), secondary.address);
    let ask = || www(&client, at, "short.test.", 9).expect("a reply");
    assert_eq!(ask(), Said { rcode: rcode::NOERROR, version: Some(1) });
    for primary in &primaries {
        primary.script(|asked| vec![Act::Message(asked.reply(rcode::SERVFAIL, &[]))]);
    }
    let status = secondary.wait_status("short.test.", |status| status.state == State::Expired);
    assert_eq!((status.serial, status.expires_in_s), (Some(1), Some(0)));
    assert_eq!(ask(), Said { rcode: rcode::SERVFAIL, version: None });
    secondary.wait_log(&["ERROR", "short.test.", "expired: no primary could be reached in time"]);
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
