//! The rate limit as a worker keeps it.

use super::*;
use crate::acl::Acl;
use crate::view::{Identity, RateLimit};

fn limit() -> RateLimit {
    RateLimit {
        per_second: 10,
        // Longer than any test, so that what flows back meanwhile is nothing to speak of.
        window: Duration::from_secs(60),
        slip: 0,
        ipv4_prefix: 24,
        ipv6_prefix: 56,
        entries: 1024,
        exempt: Acl::default(),
        dry_run: false,
    }
}

/// How many replies a burst of that limit is, and how many may have flowed back meanwhile.
const BURST: usize = 600;
const GAINED_MAX: usize = 300;

fn publish(shared: &Shared, rate_limit: Option<RateLimit>) {
    let identity = Identity {
        rate_limit: rate_limit.map(Arc::new),
        cookie_secrets: [[7; 16]].into(),
        ..Identity::default()
    };
    shared.views.publish(|view| view.identity = Arc::new(identity));
}

fn served_and_desk(rate_limit: Option<RateLimit>) -> (Shared, Desk, Route) {
    let (shared, _queue) = shared(sample(Access::default(), 3));
    publish(&shared, rate_limit);
    let (desk, route) = desk(&shared);
    (shared, desk, route)
}

fn answered(replies: &[Vec<u8>]) -> usize {
    replies.iter().filter(|reply| !reply.is_empty() && !is_truncated(reply)).count()
}

fn ask_often(desk: &mut Desk, route: &Route, request: &[u8]) -> Vec<Vec<u8>> {
    serve(desk, route, &vec![request.to_vec(); 2000])
}

#[track_caller]
fn assert_limited(answered: usize) {
    assert!((BURST..BURST + GAINED_MAX).contains(&answered), "{answered}");
}

/// A query with an OPT record that has this cookie.
fn with_cookie(mut message: Vec<u8>, cookie: &[u8]) -> Vec<u8> {
    message[11] = 1;
    message.extend(b"\0\0\x29\x04\xd0\0\0\0\0");
    message.extend([0, u8::try_from(cookie.len() + 4).unwrap(), 0, 10, 0]);
    message.push(u8::try_from(cookie.len()).unwrap());
    message.extend(cookie);
    message
}

#[test]
fn what_is_over_the_limit_is_dropped_and_counted() {
    let (shared, mut desk, route) = served_and_desk(Some(limit()));
    let replies = ask_often(&mut desk, &route, &query(1, "h1.example.", Rtype::A));
    let sent = answered(&replies);
    assert_limited(sent);
    assert_eq!(counter(&shared, "replies"), sent as u64);
    assert_eq!(counter(&shared, "limited"), 2000 - sent as u64);
    assert_eq!((counter(&shared, "slipped"), counter(&shared, "truncated")), (0, 0));
    assert_eq!(shared.stats.rcodes()[0], sent as u64);
    let other = Route { peer: "198.51.100.1:9".parse().unwrap(), ..route };
    assert_limited(answered(&ask_often(&mut desk, &other, &query(1, "h1.example.", Rtype::A))));
    let absent = query(1, "absent.example.", Rtype::A);
    assert_limited(answered(&ask_often(&mut desk, &route, &absent)));
    assert_limited(answered(&ask_often(&mut desk, &route, &query(1, "elsewhere.", Rtype::A))));
}

#[test]
fn what_slips_is_an_empty_truncated_reply_with_opt_and_a_cookie() {
    let (shared, mut desk, route) = served_and_desk(Some(RateLimit { slip: 1, ..limit() }));
    let absent = with_cookie(query(7, "absent.example.", Rtype::A), b"8 octets");
    let replies = ask_often(&mut desk, &route, &absent);
    assert_limited(answered(&replies));
    let last = replies.last().unwrap();
    assert_eq!(gist(last), (7, 0, 0), "a truncated reply does not deny a name");
    assert!(is_truncated(last));
    assert_eq!(last[6..12], [0, 0, 0, 0, 0, 1]);
    assert_eq!(last.len(), absent.len() + 16, "question, OPT, and the server's cookie");
    let slipped = counter(&shared, "slipped");
    assert_eq!((slipped, counter(&shared, "truncated")), (counter(&shared, "limited"), slipped));
    // A message that cannot be read to its end gets no other reply.
    let broken = ask_often(&mut desk, &route, &absent[..absent.len() - 1]);
    assert_limited(answered(&broken));
    assert!(broken.last().unwrap().is_empty());
}

#[test]
fn who_shows_our_cookie_is_not_limited() {
    let (shared, mut desk, route) = served_and_desk(Some(limit()));
    let plain = query(1, "h1.example.", Rtype::A);
    let first = with_cookie(plain.clone(), b"8 octets");
    let reply = serve(&mut desk, &route, &[first]).remove(0);
    let cookie = &reply[reply.len() - 24..];
    assert_eq!(cookie[..8], *b"8 octets");
    let replies = ask_often(&mut desk, &route, &with_cookie(plain.clone(), cookie));
    assert_eq!((answered(&replies), counter(&shared, "limited")), (2000, 0));
    let forged = [&cookie[..23], &[cookie[23] ^ 1]].concat();
    assert_limited(answered(&ask_often(&mut desk, &route, &with_cookie(plain, &forged))) + 1);
}

#[test]
fn a_dry_run_changes_no_reply() {
    let (plain, mut desk1, route1) = served_and_desk(None);
    let (dry, mut desk2, route2) =
        served_and_desk(Some(RateLimit { dry_run: true, slip: 1, ..limit() }));
    let request = query(1, "absent.example.", Rtype::A);
    let expected = ask_often(&mut desk1, &route1, &request);
    assert_eq!(ask_often(&mut desk2, &route2, &request), expected);
    assert_eq!(counter(&plain, "limited_dry_run"), 0);
    let over = usize::try_from(counter(&dry, "limited_dry_run")).unwrap();
    assert_limited(2000 - over);
    assert_eq!((counter(&dry, "limited"), counter(&dry, "replies")), (0, 2000));
}

#[test]
fn the_limit_is_the_newest_views() {
    let (shared, mut desk, route) = served_and_desk(None);
    let request = query(1, "h1.example.", Rtype::A);
    let mut answered = || answered(&ask_often(&mut desk, &route, &request));
    assert_eq!(answered(), 2000);
    publish(&shared, Some(limit()));
    assert_limited(answered());
    publish(&shared, Some(limit()));
    assert!(answered() < GAINED_MAX, "the same settings forget nothing");
    publish(&shared, Some(RateLimit { ipv4_prefix: 16, ..limit() }));
    assert_limited(answered());
    publish(&shared, None);
    assert_eq!(answered(), 2000);
}
