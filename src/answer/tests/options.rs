//! The options of OPT.

use super::*;
use crate::edns::Obstacle;

const ZONE: &str = "@ SOA ns h 5 1 1 9000 1\nwww A 192.0.2.1";

fn view() -> View {
    let mut view = View::default();
    let put = |view: &mut View, apex: &str, zone| {
        view.put(served(apex, zone, Access::default()));
    };
    put(&mut view, "a.example.", Some(zone("a.example.", ZONE)));
    put(&mut view, "empty.", None);
    let closed = Access { query: Some(acl("10.0.0.0/8")), ..Access::default() };
    view.put(served("closed.", None, closed));
    view.identity = Arc::new(Identity {
        id: Some("here".into()),
        cookie_secrets: [[1; 16], [2; 16]].into(),
        ..Identity::default()
    });
    view
}

/// The options of the reply's OPT record, which is its end.
fn options(reply: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let message = Message::from_octets(reply).unwrap();
    let opt = message.opt().expect("an OPT record");
    let options = opt.opt().iter::<domain::base::opt::UnknownOptData<_>>();
    options
        .map(|option| {
            let option = option.unwrap();
            (option.code().to_int(), option.data().to_vec())
        })
        .collect()
}

fn with(ask: Ask, options: &[u8]) -> Ask {
    Ask { options: options.to_vec(), ..ask.edns(1232) }
}

#[test]
fn the_servers_identity_is_told_to_who_asks() {
    let www = ask("www.a.example", Rtype::A);
    assert_eq!(options(&with(www.clone(), b"\0\x03\0\0").of(&view())), [(3, b"here".to_vec())]);
    assert_eq!(options(&with(www, b"").of(&view())), []);
}

#[test]
fn the_time_to_expiry_comes_with_the_soa_alone() {
    let soa = with(ask("a.example", Rtype::SOA), b"\0\x09\0\0");
    let late = Ask { now_ms: 400_999, ..soa.clone() };
    assert_eq!(options(&late.of(&view())), [(9, 599_u32.to_be_bytes().to_vec())]);
    assert_eq!(options(&with(ask("a.example", Rtype::NS), b"\0\x09\0\0").of(&view())), []);
    // A primary tells the SOA's own number.
    let view = view();
    view.zone(name("a.example").as_name()).unwrap().expiry.set(Expiry::NEVER);
    assert_eq!(options(&soa.of(&view)), [(9, 9000_u32.to_be_bytes().to_vec())]);
}

#[test]
fn the_zones_version_is_told_of_names_in_it() {
    let asked = b"\0\x13\0\0";
    let told = vec![(19, b"\x02\0\0\0\0\x05".to_vec())];
    assert_eq!(options(&with(ask("www.a.example", Rtype::A), asked).of(&view())), told);
    assert_eq!(options(&with(ask("x.a.example", Rtype::A), asked).of(&view())), told);
    let refused = options(&with(ask("other", Rtype::A), asked).of(&view()));
    assert!(refused.iter().all(|(code, _)| *code == 15));
}

#[test]
fn keepalive_is_told_where_there_is_a_connection() {
    let www = with(ask("www.a.example", Rtype::A).tcp(), b"\0\x0b\0\0");
    let via = Via { keepalive: Some(100), ..www.via() };
    let mut reply = [0; 512];
    let outcome = respond(&www.message(), &via, &view(), &mut reply);
    let Outcome::Reply { len, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(options(&reply[..len]), [(11, vec![0, 100])]);
    assert_eq!(options(&www.of(&view())), []);
}

#[test]
fn errors_say_why() {
    let error = |name| {
        let options = options(&with(ask(name, Rtype::A), b"").of(&view()));
        u16::from_be_bytes([options[0].1[0], options[0].1[1]])
    };
    assert_eq!(error("www.nowhere"), 20);
    assert_eq!(error("www.closed"), 18);
    assert_eq!(error("www.empty"), 14);
    let late = Ask { now_ms: 1_061_999, ..with(ask("www.a.example", Rtype::A), b"") };
    let told = |text: &str| vec![(15, [b"\0\x18", text.as_bytes()].concat())];
    assert_eq!(options(&late.of(&view())), told("zone expired 61 s ago"));
    let view = view();
    let expiry = &view.zone(name("a.example").as_name()).unwrap().expiry;
    for (obstacle, words) in [
        (Obstacle::Silence, "no primary answers"),
        (Obstacle::Useless, "what its primaries answer is of no use"),
        (Obstacle::Error(Rcode::REFUSED), "a primary answers REFUSED"),
        (Obstacle::LowerSerial, "its primaries have a lower serial"),
        (Obstacle::Check, "a check holds what its primaries have"),
    ] {
        expiry.note(obstacle);
        assert_eq!(options(&late.of(&view)), told(&format!("zone expired 61 s ago: {words}")));
    }
}

#[test]
fn the_longest_error_has_room() {
    let now_ms = u64::MAX / 2;
    let view = view();
    let expiry = &view.zone(name("a.example").as_name()).unwrap().expiry;
    for obstacle in (0..u16::MAX).map(Obstacle::of_code) {
        assert_eq!(Obstacle::of_code(obstacle.code()), obstacle);
        expiry.note(obstacle);
        let late = Ask { now_ms, ..with(ask("www.a.example", Rtype::A), b"") };
        assert!(options(&late.of(&view))[0].1.starts_with(b"\0\x18zone expired 4294967295 s ago"));
    }
}

#[test]
fn a_zone_that_may_be_served_stale_is_answered_for_and_the_answer_says_so() {
    let mut view = view();
    let stale = Access { serve_stale: true, ..Access::default() };
    view.put(served("a.example.", Some(zone("a.example.", ZONE)), stale));
    let asked = |name, now_ms| {
        let reply = Ask { now_ms, ..with(ask(name, Rtype::A), b"") }.of(&view);
        (reply[3] & 0xf, options(&reply))
    };
    assert_eq!(asked("www.a.example", 999_999), (0, vec![]));
    let told = |code: u8| vec![(15, [&[0, code][..], b"zone expired"].concat())];
    assert_eq!(asked("www.a.example", 1_000_000), (0, told(3)));
    assert_eq!(asked("x.a.example", 1_000_000), (3, told(19)), "RFC 8914 section 4.20");
    // Who copies zones from us is not given what is stale.
    let served = view.zone(name("a.example").as_name()).unwrap();
    assert!(served.fresh(1_000_000).is_none());
}

/// The reply's cookie, and whether the client's was ours.
fn cookie(ask: &Ask, unix_s: u32) -> (Vec<u8>, bool) {
    let via = Via { unix_s, ..ask.via() };
    let mut reply = [0; 512];
    match respond(&ask.message(), &via, &view(), &mut reply) {
        Outcome::Reply { len, known_client, .. } => {
            (options(&reply[..len]).remove(0).1, known_client)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_that_brings_its_cookie_back_is_known() {
    let www = ask("www.a.example", Rtype::A);
    let (first, known) = cookie(&with(www.clone(), b"\0\x0a\0\x0812345678"), 1000);
    assert_eq!((&first[..8], known), (&b"12345678"[..], false));
    let back = with(www, &[b"\0\x0a\0\x18", &first[..]].concat());
    assert!(cookie(&back, 2000).1);
    assert!(!cookie(&back, 9000).1, "too old");
    assert!(!cookie(&back.clone().from("192.0.2.78"), 2000).1, "another client's");
}

#[test]
fn a_request_for_a_cookie_alone_gets_one() {
    let mut asked = with(ask(".", Rtype::A), b"\0\x0a\0\x0812345678").message();
    asked[5] = 0;
    asked.drain(HEADER_LEN..HEADER_LEN + 5);
    let via = ask(".", Rtype::A).via();
    let mut reply = [0; 512];
    let outcome = respond(&asked, &via, &view(), &mut reply);
    let Outcome::Reply { len, rcode: Rcode::NOERROR, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(options(&reply[..len])[0].1.len(), 24);
    let outcome = respond(&asked, &via, &View::default(), &mut reply);
    assert!(matches!(outcome, Outcome::Reply { rcode: Rcode::FORMERR, .. }), "no cookies here");
}

#[test]
fn options_are_left_out_rather_than_records() {
    let mut view = view();
    let id = Some("n".repeat(255).into());
    view.identity = Arc::new(Identity { id, ..Identity::default() });
    let text = format!("@ SOA ns h 1 1 1 1 1\nbig TXT {} {}", "x".repeat(200), "y".repeat(200));
    view.put(served("example.", Some(zone("example.", &text)), Access::default()));
    let small =
        |name| Ask { edns: Some((512, false)), ..with(ask(name, Rtype::TXT), b"\0\x03\0\0") };
    assert_eq!(options(&small("x.example").of(&view)).len(), 1);
    assert!(show(&small("big.example").of(&view)).starts_with("NOERROR AA\nan big"));
}
