use super::*;
use crate::replica::Doing;

fn status(name: &str, state: State) -> ZoneStatus {
    ZoneStatus {
        zone: name.into(),
        state,
        serial: Some(2026),
        records: 1,
        last_contact_s: Some(192),
        refresh_in_s: 3600,
        expires_in_s: Some(600_000),
        primary: Some("192.0.2.1:53".parse().unwrap()),
        serve_stale: false,
        behind_serials: 0,
        behind_s: 0,
        lower_serial: None,
        same_serial_difference: false,
        versions_held: 2,
        nsec3_iterations: 0,
        held: None,
        signatures: None,
        error: None,
        transfer: None,
        last_transfer: None,
        primaries: vec![primary("192.0.2.1:53", None)],
    }
}

fn primary(address: &str, error: Option<&str>) -> PrimaryStatus {
    PrimaryStatus {
        address: address.parse().unwrap(),
        serial: Some(2026),
        last_error: error.map(str::to_owned),
        asked_s: Some(5),
    }
}

fn never_loaded(name: &str) -> ZoneStatus {
    ZoneStatus {
        serial: None,
        records: 0,
        last_contact_s: None,
        refresh_in_s: 0,
        expires_in_s: None,
        primary: None,
        versions_held: 0,
        nsec3_iterations: 0,
        primaries: vec![primary("192.0.2.1:53", Some("connection refused"))],
        ..status(name, State::NeverLoaded)
    }
}

fn from_file(name: &str) -> ZoneStatus {
    ZoneStatus {
        last_contact_s: None,
        expires_in_s: None,
        primary: None,
        primaries: vec![],
        ..status(name, State::Ok)
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn table(all: &[ZoneStatus]) -> String {
    written(|out| zones(all, out))
}

fn full(one: &ZoneStatus) -> String {
    written(|out| zone(one, out))
}

#[test]
fn zones_in_trouble_come_first_with_their_errors_below() {
    let expired = ZoneStatus {
        expires_in_s: Some(0),
        primaries: vec![
            primary("192.0.2.1:53", Some("no route to host")),
            primary("[2001:db8::1]:53", Some("REFUSED")),
        ],
        ..status("old.example.", State::Expired)
    };
    let all = [status("a.example.", State::Ok), from_file("file."), never_loaded("new."), expired];
    let expected = "\
ZONE          STATE         SERIAL  LAST CONTACT  NEXT REFRESH  EXPIRES IN  PRIMARY
old.example.  expired       2026    3m12s ago     in 1h         expired     192.0.2.1:53
    192.0.2.1:53: no route to host
    [2001:db8::1]:53: REFUSED
new.          never-loaded  -       -             now           -           -
    192.0.2.1:53: connection refused
a.example.    ok            2026    3m12s ago     in 1h         6d22h       192.0.2.1:53
file.         ok            2026    -             -             never       file
4 zones: 1 expired, 1 never-loaded, 2 ok
";
    assert_eq!(table(&all), expected);
}

#[test]
fn the_summary_counts_each_state() {
    assert_eq!(table(&[]), "no zones are configured\n");
    assert!(table(&[from_file("a.")]).ends_with("\n1 zone: 1 ok\n"));
    let mut all: Vec<_> = State::all().map(|state| status("a.", state)).collect();
    all.reverse();
    let words = "10 zones: 1 expired, 1 damaged, 1 never-loaded, 1 lower-serial, 1 expiring, \
                 1 held-by-check, 1 stale, 1 diverged, 1 refreshing, 1 ok\n";
    assert!(table(&all).ends_with(words));
}

#[test]
fn an_error_of_the_zone_itself_is_told_before_those_of_primaries() {
    let mut zone = never_loaded("a.");
    zone.error = Some("the disk is full".into());
    let table = table(&[zone]);
    assert!(table.contains("    the disk is full\n    192.0.2.1:53: connection"), "{table}");
}

#[test]
fn a_version_that_is_held_is_told_with_what_to_do() {
    let held = HeldStatus {
        serial: 2027,
        check: "shrink-guard".into(),
        why: "all is gone".into(),
        since_s: 90,
    };
    let zone = ZoneStatus { held: Some(held), ..status("a.example.", State::HeldByCheck) };
    let line = "serial 2027 is held by shrink-guard since 1m30s: all is gone";
    assert!(table(std::slice::from_ref(&zone)).contains(&format!("\n    {line}\n")));
    let text = full(&zone);
    assert!(text.contains("held-by-check: it is served; a newer version is not"), "{text}");
    assert!(text.contains(line), "{text}");
    assert!(text.ends_with("\n    backstop approve a.example.\n"), "{text}");
}

#[test]
fn what_a_terminal_would_obey_is_escaped() {
    let mut zone = status("a.", State::Stale);
    zone.primaries = vec![primary("192.0.2.1:53", Some("no \u{1b}[2J\nno"))];
    for text in [table(&[zone.clone()]), full(&zone)] {
        assert!(text.contains("no \\u{1b}[2J\\nno"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }
}

#[test]
fn a_long_name_moves_no_line_but_its_own() {
    let long = "long.".repeat(40);
    let table = table(&[status(&long, State::Ok), status("short.", State::Ok)]);
    let short = table.lines().find(|line| line.starts_with("short.")).unwrap();
    assert_eq!(short.find("ok"), Some(WIDTH_MAX + 2));
    assert!(table.contains(&format!("{long}  ok")), "{table}");
}

#[test]
fn each_state_is_explained() {
    for (one, words) in [
        (
            status("a.", State::Expired),
            "expired: no primary has renewed it in time; it is answered with SERVFAIL",
        ),
        (
            ZoneStatus { serve_stale: true, ..status("a.", State::Expired) },
            "expired: no primary has renewed it in time; it is served stale until one does\n",
        ),
        (
            ZoneStatus { state: State::Damaged, ..never_loaded("a.") },
            "damaged: what was kept of it is damaged, and no primary has given it anew; it is \
             answered with SERVFAIL",
        ),
        (
            status("a.", State::LowerSerial),
            "lower-serial: it is served; all primaries that answer have a lower serial than ours",
        ),
        (
            status("a.", State::Expiring),
            "expiring: it is served, but less than half of its time is left, and the primaries",
        ),
        (
            status("a.", State::HeldByCheck),
            "held-by-check: it is served; a newer version is not, because a check refused it",
        ),
        (
            never_loaded("a."),
            "never-loaded: no primary has given it yet; it is answered with SERVFAIL",
        ),
        (
            ZoneStatus { primaries: vec![], ..never_loaded("a.") },
            "never-loaded: its file has not been loaded yet",
        ),
        (status("a.", State::Stale), "stale: it is served, but no primary was of use"),
        (
            ZoneStatus { primaries: vec![], ..status("a.", State::Stale) },
            "stale: it is served, but its file could not be read",
        ),
        (status("a.", State::Diverged), "diverged: it is served; a primary has other data"),
        (status("a.", State::Refreshing), "refreshing: it is served; a primary is being asked"),
        (status("a.", State::Ok), "ok: it is served, as fresh as its SOA demands"),
        (from_file("a."), "ok: it is served\n"),
    ] {
        let text = full(&one);
        assert!(text.starts_with(&format!("a.\n  state          {words}")), "{text}");
    }
}

#[test]
fn one_zone_is_told_in_full() {
    let zone = ZoneStatus {
        same_serial_difference: true,
        nsec3_iterations: 10,
        error: Some("the store is behind with its work".into()),
        transfer: Some(TransferStatus {
            doing: Doing::Receiving,
            octets: 61_000_000,
            records: 1_200_000,
            s: 63,
        }),
        last_transfer: Some(LastTransfer {
            kind: "IXFR".into(),
            octets: 412,
            records: 1,
            ms: 35,
            ago_s: 90_000,
        }),
        primaries: vec![
            primary("192.0.2.1:53", None),
            PrimaryStatus {
                serial: None,
                asked_s: None,
                ..primary("192.0.2.2:53", Some("timed out"))
            },
        ],
        ..status("example.org.", State::Diverged)
    };
    let expected = "\
example.org.
  state          diverged: it is served; a primary has other data under the same serial
  serial         2026 (1 record)
  last contact   3m12s ago
  copied from    192.0.2.1:53
  next refresh   in 1h
  expires        in 6d22h
  transfer       receiving, for 1m3s: 1200000 records in 61000000 octets so far
  last transfer  IXFR, 1d1h ago: 1 record in 412 octets, 35ms
  history        2 differences for outgoing IXFR
  NSEC3          10 extra iterations; RFC 9276 advises 0
  error          the store is behind with its work
  primary        192.0.2.1:53: asked 5s ago, told serial 2026
  primary        192.0.2.2:53: not asked yet
                 error: timed out

A primary has other data under the serial 2026 than are served here: the zone was edited there
without raising its serial. Raise it at the primary, so that every secondary takes the change;
or, to take the primary's data here as they are:
    backstop retransfer example.org.
";
    assert_eq!(full(&zone), expected);
}

#[test]
fn how_far_it_is_behind_and_what_to_do_about_a_lower_serial_is_told() {
    let behind =
        ZoneStatus { behind_serials: 3, behind_s: 61, ..status("a.example.", State::Stale) };
    let text = full(&behind);
    assert!(text.contains("\n  behind         by 3 of serial, known for 1m1s\n"), "{text}");
    let lower = ZoneStatus { lower_serial: Some(7), ..status("a.example.", State::LowerSerial) };
    let advice = "
The primaries have serial 7, which is lower than ours, 2026: it went backwards there.
Raise it above ours at the primary; or, to take the primary's version here as it is:
    backstop retransfer a.example.
";
    let text = full(&lower);
    assert!(text.ends_with(advice), "{text}");
}

#[test]
fn when_its_signatures_run_out_is_told() {
    let signed = |ends_in_s| {
        let signatures = Some(SignaturesStatus { ends_in_s, of: "www.a.example. A".into() });
        full(&ZoneStatus { signatures, ..status("a.example.", State::Ok) })
    };
    let text = signed(90_000);
    assert!(text.contains("\n  signatures     the first runs out in 1d1h: www.a.example. A\n"));
    let text = signed(0);
    assert!(text.contains("\n  signatures     have run out: www.a.example. A\n"), "{text}");
    assert!(text.contains("\nSign the zone anew at the primary: validating resolvers"), "{text}");
}

#[test]
fn a_zone_from_a_file_never_expires_and_asks_no_one() {
    let expected = "\
file.
  state          ok: it is served
  serial         2026 (1 record)
  expires        never
  history        2 differences for outgoing IXFR
  source         a zone file
";
    assert_eq!(full(&from_file("file.")), expected);
}

#[test]
fn times_are_told_in_their_two_largest_units() {
    for (s, words) in [
        (0, "0s"),
        (59, "59s"),
        (60, "1m"),
        (192, "3m12s"),
        (3599, "59m59s"),
        (3600, "1h"),
        (3659, "1h"),
        (7260, "2h1m"),
        (86_400 + 3600, "1d1h"),
        (400 * 86_400, "400d"),
    ] {
        assert_eq!(time(s), words);
    }
}
