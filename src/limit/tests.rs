//! Against virtual time, a millisecond at a time.

use super::*;
use crate::acl::{Acl, Prefix, Rule};
use crate::view::{Expiry, Served};
use std::collections::HashMap;
use std::time::Duration;

/// Some moment of the server's clock.
const START_MS: u64 = 1 << 40;

fn settings() -> RateLimit {
    RateLimit {
        per_second: 100,
        window: Duration::from_secs(1),
        slip: 0,
        ipv4_prefix: 24,
        ipv6_prefix: 56,
        entries: 1024,
        exempt: Acl::default(),
        dry_run: false,
    }
}

fn limiter(settings: RateLimit) -> Limiter {
    Limiter::new(Arc::new(settings), b"0123456789abcdef")
}

fn subject(peer: &str) -> Subject {
    Subject { peer: peer.parse().unwrap(), zone: None, kind: Kind::Records }
}

/// The i-th network of many.
fn network(i: u32) -> Subject {
    Subject { peer: Ipv4Addr::from_bits(i << 8 | 1).into(), zone: None, kind: Kind::Records }
}

/// Asks so many times, evenly over a time; how many are sent.
fn steady(
    limiter: &mut Limiter,
    subject: &Subject,
    asks: u64,
    from_ms: u64,
    during_ms: u64,
) -> u64 {
    let asked = (0..asks).map(|i| limiter.judge(subject, from_ms + i * during_ms / asks));
    asked.filter(|&verdict| verdict == Verdict::Send).count() as u64
}

#[test]
fn a_steady_rate_below_the_limit_passes_whole() {
    for per_second in [1, 3, 7, 99, 100, 1000, 33_333, 100_000] {
        let mut limiter = limiter(RateLimit { per_second, ..settings() });
        let asks = u64::from(per_second) * 10;
        let sent = steady(&mut limiter, &subject("192.0.2.1"), asks, START_MS, 10_000);
        assert_eq!(sent, asks, "at {per_second}");
    }
}

#[test]
fn a_rate_above_the_limit_is_cut_to_it_after_one_burst() {
    for (per_second, window_s) in [(1, 1), (7, 1), (100, 1), (100, 15), (1000, 3)] {
        let window = Duration::from_secs(window_s);
        let mut limiter = limiter(RateLimit { per_second, window, ..settings() });
        let limit = u64::from(per_second);
        let sent = steady(&mut limiter, &subject("192.0.2.1"), limit * 60 * 10, START_MS, 60_000);
        let expected = limit * (60 + window_s);
        assert!(sent.abs_diff(expected) <= expected / 50 + 1, "{sent} for {expected}");
    }
}

#[test]
fn a_burst_is_had_again_once_the_window_has_passed_and_not_before() {
    let mut limiter = limiter(settings());
    let client = subject("192.0.2.1");
    assert_eq!(steady(&mut limiter, &client, 500, START_MS, 1), 100);
    assert_eq!(steady(&mut limiter, &client, 500, START_MS + 500, 1), 50);
    assert_eq!(steady(&mut limiter, &client, 500, START_MS + 1500, 1), 100);
    // However long the silence was, also with a clock that has gone round.
    for silence_ms in [3_600_000, 1 << 30, (1 << 40) / 1000 + 5000, 1 << 50] {
        assert_eq!(steady(&mut limiter, &client, 500, START_MS + silence_ms, 1), 100);
    }
}

#[test]
fn a_network_is_counted_as_one_and_apart_from_its_neighbours() {
    for (one, same, other) in [
        ("192.0.2.1", "192.0.2.254", "192.0.3.1"),
        ("192.0.2.1", "::ffff:192.0.2.7", "::ffff:192.0.3.1"),
        ("2001:db8:0:1::1", "2001:db8:0:ff:ffff::", "2001:db8:0:100::1"),
    ] {
        let mut limiter = limiter(settings());
        assert_eq!(steady(&mut limiter, &subject(one), 500, START_MS, 1), 100);
        assert_eq!(steady(&mut limiter, &subject(same), 500, START_MS, 1), 0, "{same}");
        assert_eq!(steady(&mut limiter, &subject(other), 500, START_MS, 1), 100, "{other}");
    }
    let whole = RateLimit { ipv4_prefix: 32, ipv6_prefix: 128, ..settings() };
    let mut limiter = limiter(whole);
    for peer in ["192.0.2.1", "192.0.2.2", "::1", "::2", "::"] {
        assert_eq!(steady(&mut limiter, &subject(peer), 500, START_MS, 1), 100, "{peer}");
    }
}

#[test]
fn zones_and_kinds_of_answer_are_counted_apart() {
    let zone = |apex: &str| Served {
        apex: apex.parse().unwrap(),
        access: Arc::default(),
        zone: None,
        expiry: Arc::new(Expiry::at(Expiry::NEVER)),
        history: Arc::new([]),
    };
    let (a, b) = (zone("a."), zone("b."));
    assert_eq!(a.clone().id(), a.id(), "a zone's versions are one zone");
    let mut limiter = limiter(settings());
    for zone in [None, Some(a.id()), Some(b.id())] {
        for kind in [Kind::Records, Kind::NoData, Kind::NoName, Kind::Referral, Kind::Other] {
            let subject = Subject { zone, kind, ..subject("192.0.2.1") };
            let sent = steady(&mut limiter, &subject, 500, START_MS, 1);
            assert_eq!(sent, 100, "{zone:?} {kind:?}");
        }
    }
}

/// 500 networks, half of which ask for ten times what they get.
#[test]
fn each_network_gets_its_own_share_whatever_others_ask() {
    let mut limiter = limiter(RateLimit { entries: 4096, ..settings() });
    let mut sent: HashMap<u32, u64> = HashMap::new();
    for ms in 0..10_000_u64 {
        for i in 0..500 {
            let asks = i % 2 == 0 || ms % 20 == u64::from(i % 20);
            if asks && limiter.judge(&network(i), START_MS + ms) == Verdict::Send {
                *sent.entry(i).or_default() += 1;
            }
        }
    }
    for (i, sent) in sent {
        let expected = if i % 2 == 0 { 1100 } else { 500 };
        assert!(sent.abs_diff(expected) <= 11, "network {i}: {sent} for {expected}");
    }
}

/// A table of 1024 buckets, a million forged networks a second, one that is flooded, and clients.
#[test]
fn a_flood_of_networks_harms_no_quiet_client_and_frees_no_loud_one() {
    let mut limiter = limiter(settings());
    let (quiet, loud) = (subject("192.0.2.1"), subject("198.51.100.1"));
    let (mut harmed, mut loud_sent) = (0, 0);
    for ms in 0..10_000_u32 {
        let now_ms = START_MS + u64::from(ms);
        for i in 0..100 {
            limiter.judge(&network(ms * 100 + i), now_ms);
        }
        for _ in 0..10 {
            loud_sent += u64::from(limiter.judge(&loud, now_ms) == Verdict::Send);
        }
        // At half of what it may.
        if ms % 20 == 0 {
            harmed += u64::from(limiter.judge(&quiet, now_ms) != Verdict::Send);
        }
    }
    assert_eq!(harmed, 0);
    assert!((1000..=1200).contains(&loud_sent), "{loud_sent} of 100000 where 1100 are allowed");
    assert_eq!(size_of_val(&*limiter.sets), 8 * 1024, "it does not grow");
    assert_eq!(align_of::<Set>(), 64);
}

#[test]
fn of_so_many_replies_over_the_limit_one_slips() {
    for slip in [0_u8, 1, 2, 3, 10] {
        let mut limiter = limiter(RateLimit { slip, ..settings() });
        let mut count = |verdict| {
            let client = subject("192.0.2.1");
            let verdicts = (0..100_000).map(|_| limiter.judge(&client, START_MS));
            verdicts.filter(|&found| found == verdict).count()
        };
        assert_eq!(count(Verdict::Send), 100);
        let slipped = count(Verdict::Slip);
        match 100_000_usize.checked_div(slip.into()) {
            None => assert_eq!(slipped, 0),
            Some(expected) => assert!(slipped.abs_diff(expected) <= expected / 20, "{slipped}"),
        }
        assert_eq!(count(Verdict::Drop) == 0, slip == 1);
    }
}

/// Were every other reply to slip, one of two that take turns would never have one.
#[test]
fn clients_that_take_turns_slip_alike() {
    let mut limiter = limiter(RateLimit { slip: 2, ..settings() });
    let mut slipped = [0; 2];
    for turn in 0..20_000 {
        let verdict = limiter.judge(&network(turn % 2), START_MS);
        slipped[turn as usize % 2] += u32::from(verdict == Verdict::Slip);
    }
    assert!(slipped.iter().all(|slipped| (4500..5500).contains(slipped)), "{slipped:?}");
}

#[test]
fn who_is_exempt_is_sent_all_and_a_dry_run_sends_all() {
    let exempt = |prefix: &str| Rule { from: prefix.parse::<Prefix>().unwrap(), key: None };
    let exempt = [exempt("192.0.2.0/25"), exempt("2001:db8::/32")].into_iter().collect();
    let mut limiter1 = limiter(RateLimit { exempt, ..settings() });
    assert_eq!(steady(&mut limiter1, &subject("192.0.2.1"), 500, START_MS, 1), 500);
    assert_eq!(steady(&mut limiter1, &subject("2001:db8::1"), 500, START_MS, 1), 500);
    assert_eq!(steady(&mut limiter1, &subject("198.51.100.1"), 500, START_MS, 1), 100);
    let mut limiter2 = limiter(RateLimit { dry_run: true, slip: 1, ..settings() });
    let verdicts = (0..500).map(|_| limiter2.judge(&subject("192.0.2.1"), START_MS));
    let over = verdicts.filter(|&verdict| verdict == Verdict::SendOver).count();
    assert_eq!(over, 400, "all others are sent, and within the limit");
}

#[test]
fn another_key_chooses_other_places() {
    let hashes = |key| {
        let limiter = Limiter::new(Arc::new(settings()), key);
        (0..1000).map(|i| limiter.hash(&network(i)) & 127).collect::<Vec<_>>()
    };
    let (one, other) = (hashes(b"0123456789abcdef"), hashes(b"0123456789abcdeg"));
    let same = one.iter().zip(&other).filter(|(one, other)| one == other).count();
    assert!(same < 50, "{same} of 1000 where chance makes 8");
}

#[test]
fn equal_settings_are_followed_without_a_new_table_and_others_are_not() {
    let mut limiter = limiter(settings());
    let equal = Arc::new(settings());
    assert!(limiter.follows(&equal) && Arc::ptr_eq(&limiter.settings, &equal));
    assert!(!limiter.follows(&Arc::new(RateLimit { slip: 9, ..settings() })));
}
