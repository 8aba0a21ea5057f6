//! Who must show a cookie, and replies that are truncated on purpose.

use super::*;

const TEXT: &str = "@ SOA ns h 1 3600 600 86400 60\n@ NS ns\nns A 192.0.2.9";

fn view(require_cookie: bool) -> View {
    let mut view = View::default();
    view.put(served("example.", Some(zone("example.", TEXT)), Access::default()));
    let cookie_secrets = [[1; 16], [2; 16]].into();
    view.identity = Arc::new(Identity { cookie_secrets, require_cookie, ..Identity::default() });
    view
}

fn with_cookie(cookie: &[u8]) -> Ask {
    let len = u8::try_from(cookie.len()).unwrap();
    let options = [&[0, 10, 0, len], cookie].concat();
    Ask { options, ..ask("ns.example.", Rtype::A).edns(1232) }
}

/// The cookie that ends a reply.
fn cookie(reply: &[u8]) -> Vec<u8> {
    let (head, cookie) = reply.split_at(reply.len() - 24);
    assert!(head.ends_with(&[0, 10, 0, 24]), "{reply:02x?}");
    cookie.to_vec()
}

fn rcode(reply: &[u8]) -> String {
    Message::from_octets(reply).unwrap().opt_rcode().to_string()
}

#[test]
fn where_cookies_are_required_a_client_that_has_one_must_show_ours() {
    let view = view(true);
    let refused = with_cookie(b"8 octets").of(&view);
    assert_eq!(show(&refused), "BADCOOKIE\nad OPT");
    let good = cookie(&refused);
    assert_eq!(rcode(&with_cookie(&good).of(&view)), "NOERROR");
    let mut forged = good.clone();
    forged[23] ^= 1;
    assert_eq!(rcode(&with_cookie(&forged).of(&view)), "BADCOOKIE");
    assert_eq!(rcode(&with_cookie(&good).from("192.0.2.78").of(&view)), "BADCOOKIE");
    // Who knows no cookies, and whose address a connection or a signature proves, is answered.
    assert_eq!(rcode(&ask("ns.example.", Rtype::A).edns(1232).of(&view)), "NOERROR");
    assert_eq!(rcode(&with_cookie(b"8 octets").tcp().of(&view)), "NOERROR");
    let (asked, key) = (with_cookie(b"8 octets"), name("key."));
    let via = Via { key: Some(key.as_name()), ..asked.via() };
    let outcome = respond(&asked.message(), &via, &view, &mut [0; 1232]);
    assert!(matches!(outcome, Outcome::Reply { rcode: Rcode::NOERROR, .. }), "{outcome:?}");
}

#[test]
fn where_cookies_are_not_required_a_bad_one_is_answered_with_a_good_one() {
    let view = view(false);
    let reply = with_cookie(b"8 octets").of(&view);
    assert_eq!(rcode(&reply), "NOERROR");
    let known = |cookie: &[u8]| {
        let asked = with_cookie(cookie);
        match respond(&asked.message(), &asked.via(), &view, &mut [0; 1232]) {
            Outcome::Reply { known_client, .. } => known_client,
            other => panic!("{other:?}"),
        }
    };
    assert!(known(&cookie(&reply)) && !known(b"8 octets"));
}

#[test]
fn a_reply_tells_its_zone() {
    let view = view(false);
    let zone = |asked: Ask| match respond(&asked.message(), &asked.via(), &view, &mut [0; 1232]) {
        Outcome::Reply { zone, .. } => zone,
        other => panic!("{other:?}"),
    };
    let id = view.zone(name("example.").as_name()).unwrap().id();
    assert_eq!(zone(ask("ns.example.", Rtype::A)), Some(id));
    assert_eq!(zone(ask("absent.example.", Rtype::A)), Some(id));
    assert_eq!(zone(ask("elsewhere.", Rtype::A)), None);
}

#[test]
fn a_reply_that_is_truncated_on_purpose_says_nothing_else() {
    let view = view(false);
    let asked = with_cookie(b"8 octets");
    let mut reply = [0; 1232];
    let len = truncate(&asked.message(), &asked.via(), &view, &mut reply).unwrap();
    assert_eq!(show(&reply[..len]), "NOERROR TC\nad OPT");
    assert_eq!(cookie(&reply[..len])[..8], *b"8 octets");
    assert_eq!(truncate(b"no message", &asked.via(), &view, &mut reply), None);
}
