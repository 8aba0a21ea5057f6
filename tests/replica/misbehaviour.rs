//! What a primary can do wrong with a transfer, case by case: the state, the log's line, and that
//! the old version is served all the while. All cases of a table run at once, each with a primary
//! and a zone of its own. What it can do wrong with serials is in `serials` and `same`, with
//! signatures in `signed`.

use super::scripted::message::{QR, TC, name};
use super::scripted::watch::Watch;
use super::scripted::*;
use backstop::replica::State;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

/// The serial that is held when the misbehaviour begins, and the one that is then at the primary.
const OLD: u32 = 10;
const NEW: u32 = 11;

/// A secondary asks again after a second or two.
const TIMES: [u32; 3] = [3600, 1, 86_400];

const SETTINGS: &str =
    "[template.default]\nretry-min = \"1s\"\nrefresh-min = \"1s\"\nmax-size = \"64KiB\"\n";

/// How the primary answers a transfer request over TCP; probes it answers as it should.
type Deed = fn(&Asked, &Zone) -> Vec<Act>;

struct Case {
    what: &'static str,
    deed: Deed,
    /// What `status` or the log says about it.
    said: &'static str,
}

struct Stage {
    secondary: Secondary,
    players: Vec<(Arc<Zone>, Primary)>,
    watch: Watch,
}

impl Stage {
    /// All zones loaded at OLD; the primaries have NEW and begin to misbehave.
    fn set(table: u8, cases: &[Case]) -> Self {
        let mut config = SETTINGS.to_owned();
        let mut players = Vec::new();
        for at in 0..cases.len() {
            let zone = Zone::new(&format!("case-{at}.test."), TIMES, OLD);
            let ip = Ipv4Addr::new(127, 1, table, u8::try_from(at + 1).unwrap());
            let primary = Primary::of(ip, &zone);
            config += &format!("[[zone]]\nname = \"{}\"\n{}\n", zone.apex, primary.config());
            players.push((zone, primary));
        }
        let secondary = Secondary::start(&config);
        for (zone, _) in &players {
            secondary.wait_serial(&zone.apex, OLD);
        }
        let apexes: Vec<_> = players.iter().map(|(zone, _)| zone.apex.clone()).collect();
        let watch = Watch::start(secondary.address, &apexes, Duration::from_micros(500));
        for ((zone, primary), case) in players.iter().zip(cases) {
            let (of_script, deed) = (Arc::clone(zone), case.deed);
            primary.script(move |asked| match asked.tcp {
                true => deed(asked, &of_script),
                false => of_script.answer(asked),
            });
            zone.add(NEW);
            primary.notify(secondary.address, &zone.apex);
        }
        Self { secondary, players, watch }
    }

    fn end(self) {
        for (zone, _) in &self.players {
            let good = self.secondary.wait_status(&zone.apex, |status| {
                status.serial == Some(NEW) && status.state == State::Ok
            });
            assert_eq!(good.primaries[0].last_error, None, "{}", zone.apex);
            let came = crate::common::dns::wait_until(DEADLINE, || {
                self.watch.newest(&zone.apex) == Some(NEW)
            });
            assert!(came, "{}: the new version is what is answered from", zone.apex);
        }
        self.watch.all_was_well();
    }
}

fn message(asked: &Asked, records: &[Rr]) -> Act {
    Act::Message(asked.reply(rcode::NOERROR, records))
}

/// The right records, changed.
fn with(asked: &Asked, zone: &Zone, change: impl FnOnce(&mut Vec<Rr>)) -> Vec<Act> {
    let mut records = zone.records(asked);
    change(&mut records);
    vec![message(asked, &records)]
}

/// The octets of an answer section of one SOA and what comes behind it.
fn behind_soa(asked: &Asked, zone: &Zone, octets: &[u8]) -> Vec<Act> {
    let answers = [zone.soa(NEW).octets(), octets.to_vec()].concat();
    vec![Act::Message(asked.reply_of(rcode::NOERROR, 2, &answers))]
}

/// A record whose owner is these octets.
fn owned_by(owner: &[u8]) -> Vec<u8> {
    [owner, &[0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 1, 2, 3, 4]].concat()
}

/// A whole zone's messages, whatever was asked for.
fn whole(zone: &Zone, change: impl FnOnce(&mut Vec<Rr>)) -> Vec<Rr> {
    let mut records = zone.whole(NEW);
    change(&mut records);
    records
}

/// No transfer works, IXFR or AXFR.
const HOPELESS: &[Case] = &[
    Case {
        what: "it stops in mid-message",
        deed: |asked, zone| {
            let octets = asked.reply(rcode::NOERROR, &zone.records(asked));
            let part = primary::framed(&octets)[..octets.len() - 5].to_vec();
            vec![Act::Raw(part), Act::Silence]
        },
        said: "it stopped in mid-transfer: nothing for 2 s",
    },
    Case {
        what: "it stops between messages",
        deed: |asked, zone| vec![message(asked, &zone.whole(NEW)[..3]), Act::Silence],
        said: "it stopped in mid-transfer: nothing for 2 s",
    },
    Case {
        what: "it accepts and says nothing",
        deed: |_, _| vec![Act::Silence],
        said: "no answer within 2 s",
    },
    Case {
        what: "it answers later than is waited for",
        deed: |asked, zone| [vec![Act::Wait(Duration::from_secs(3))], zone.answer(asked)].concat(),
        said: "no answer within 2 s",
    },
    Case { what: "a reset", deed: |_, _| vec![Act::Reset], said: "Connection reset" },
    Case {
        what: "a reset in mid-transfer",
        deed: |asked, zone| {
            vec![
                message(asked, &zone.whole(NEW)[..3]),
                Act::Wait(Duration::from_millis(50)),
                Act::Reset,
            ]
        },
        said: "Connection reset",
    },
    Case { what: "it closes at once", deed: |_, _| vec![], said: "it closed the connection" },
    Case {
        what: "it closes in mid-transfer",
        deed: |asked, zone| vec![message(asked, &zone.whole(NEW)[..3])],
        said: "it closed the connection in mid-transfer",
    },
    Case {
        what: "a frame longer than what comes",
        deed: |_, _| vec![Act::Raw(vec![0xff, 0xff, 1, 2, 3])],
        said: "it closed the connection in mid-transfer",
    },
    Case {
        what: "a frame of half a length",
        deed: |_, _| vec![Act::Raw(vec![0])],
        said: "it closed the connection in mid-transfer",
    },
    Case { what: "an empty frame", deed: |_, _| vec![Act::Message(vec![])], said: "no header" },
    Case {
        what: "less than a header",
        deed: |asked, zone| vec![Act::Message(asked.reply(0, &zone.records(asked))[..11].to_vec())],
        said: "no header",
    },
    Case {
        what: "an octet now and then",
        deed: |asked, zone| {
            let octets = primary::framed(&asked.reply(rcode::NOERROR, &zone.records(asked)));
            vec![Act::Trickle(octets, Duration::from_millis(100))]
        },
        said: "it is too slow: less than 1024 octets/s",
    },
    Case {
        what: "a stream without end",
        deed: |asked, zone| {
            let many: Vec<_> =
                (0..200_u8).map(|n| Rr::a(&format!("n{n}.{}", zone.apex), [n; 4])).collect();
            vec![message(asked, &zone.whole(NEW)[..2]), Act::Endless(asked.reply(0, &many))]
        },
        said: "the zone has more than 65536 octets",
    },
    Case {
        what: "a stream without end of records that are not the zone's",
        deed: |asked, zone| {
            let many: Vec<_> =
                (0..200_u8).map(|n| Rr::a(&format!("n{n}.other."), [n; 4])).collect();
            vec![message(asked, &zone.whole(NEW)[..2]), Act::Endless(asked.reply(0, &many))]
        },
        said: "octets",
    },
    Case {
        what: "data that are longer than the message",
        deed: |asked, zone| {
            let mut octets = owned_by(&name(&zone.apex));
            let len = octets.len() - 5;
            octets[len - 1..=len].copy_from_slice(&[0xff, 0xff]);
            behind_soa(asked, zone, &octets)
        },
        said: "malformed reply: a record",
    },
    Case {
        what: "a name that points at itself",
        deed: |asked, zone| {
            let at = 12 + asked.question.len() + zone.soa(NEW).octets().len();
            behind_soa(asked, zone, &owned_by(&[0xc0, u8::try_from(at).unwrap()]))
        },
        said: "malformed reply: a record",
    },
    Case {
        what: "a name that points forward",
        deed: |asked, zone| {
            let at = 12 + asked.question.len() + zone.soa(NEW).octets().len();
            behind_soa(asked, zone, &owned_by(&[0xc0, u8::try_from(at + 2).unwrap()]))
        },
        said: "malformed reply: a record",
    },
    Case {
        what: "a name that points beyond the message",
        deed: |asked, zone| behind_soa(asked, zone, &owned_by(&[0xff, 0xff])),
        said: "malformed reply: a record",
    },
    Case {
        what: "a label of a kind that there is not",
        deed: |asked, zone| behind_soa(asked, zone, &owned_by(&[0x40, 0x41, 0])),
        said: "malformed reply: a record",
    },
    Case {
        what: "data of a wrong form",
        deed: |asked, zone| {
            let bad = Rr::new(&format!("bad.{}", zone.apex), rtype::A, vec![1, 2, 3]);
            vec![message(asked, &whole(zone, |records| records.insert(2, bad)))]
        },
        said: "malformed reply: a record",
    },
    Case {
        what: "fewer records than it says",
        deed: |asked, zone| {
            let octets = zone.soa(NEW).octets();
            vec![Act::Message(asked.reply_of(rcode::NOERROR, 9, &octets))]
        },
        said: "malformed reply: a record",
    },
    Case {
        what: "a wrong id",
        deed: |asked, zone| {
            let mut octets = asked.reply(rcode::NOERROR, &zone.records(asked));
            octets[0] ^= 1;
            vec![Act::Message(octets)]
        },
        said: "not the reply to our request",
    },
    Case {
        what: "another question",
        deed: |asked, zone| {
            let other = Asked {
                question: [&name("other.")[..], &[0, 252, 0, 1]].concat(),
                ..asked.clone()
            };
            vec![message(&other, &zone.records(asked))]
        },
        said: "not the reply to our request",
    },
    Case {
        what: "a query instead of a reply",
        deed: |asked, zone| {
            let mut octets = asked.reply(rcode::NOERROR, &zone.records(asked));
            octets[2] &= !QR;
            vec![Act::Message(octets)]
        },
        said: "not the reply to our request",
    },
    Case {
        what: "truncated, over TCP",
        deed: |asked, zone| {
            let mut octets = asked.reply(rcode::NOERROR, &zone.records(asked));
            octets[2] |= TC;
            vec![Act::Message(octets)]
        },
        said: "the reply is truncated",
    },
    Case {
        what: "no records",
        deed: |asked, _| vec![message(asked, &[])],
        said: "without records",
    },
    Case {
        what: "no SOA at the beginning",
        deed: |asked, zone| vec![message(asked, &zone.whole(NEW)[1..])],
        said: "the first record is no SOA",
    },
    Case {
        what: "another zone's SOA",
        deed: |asked, zone| {
            let other = Rr::soa("other.", NEW, zone.times);
            vec![message(asked, &whole(zone, |records| records[0] = other))]
        },
        said: "an SOA record that is not the zone's",
    },
    Case {
        what: "another SOA in the middle",
        deed: |asked, zone| {
            let other = zone.soa(NEW + 1);
            vec![message(asked, &whole(zone, |records| records.insert(3, other)))]
        },
        said: "it ends with another SOA than it began with",
    },
    Case {
        what: "another SOA at the end",
        deed: |asked, zone| {
            let other = zone.soa(NEW + 1);
            vec![message(asked, &whole(zone, |records| *records.last_mut().unwrap() = other))]
        },
        said: "it ends with another SOA than it began with",
    },
    Case {
        what: "records after the end",
        deed: |asked, zone| {
            let more = Rr::a(&format!("late.{}", zone.apex), [1, 2, 3, 4]);
            vec![message(asked, &whole(zone, |records| records.push(more)))]
        },
        said: "records after the end",
    },
    Case {
        what: "a record of another class",
        deed: |asked, zone| {
            let mut octets = owned_by(&name(&zone.apex));
            let class = name(&zone.apex).len() + 3;
            octets[class] = 3;
            behind_soa(asked, zone, &octets)
        },
        said: "a record of another class",
    },
    Case {
        what: "a type that is only asked for",
        deed: |asked, zone| {
            let bad = Rr::new(&zone.apex, 255, vec![]);
            vec![message(asked, &whole(zone, |records| records.insert(2, bad)))]
        },
        said: "a record of a type that no zone has",
    },
    Case {
        what: "an older version than ours, though its SOA promises a newer",
        deed: |asked, zone| vec![message(asked, &zone.whole(OLD - 1))],
        said: "its serial 9 is behind ours, 10",
    },
    Case {
        what: "REFUSED to all",
        deed: |asked, _| refuses(asked, rcode::REFUSED),
        said: "the primary answered REFUSED",
    },
    Case {
        what: "NOTIMP to all",
        deed: |asked, _| refuses(asked, rcode::NOTIMP),
        said: "the primary answered NOTIMP",
    },
    Case {
        what: "FORMERR to all, with EDNS and without",
        deed: |asked, _| refuses(asked, rcode::FORMERR),
        said: "the primary answered FORMERR",
    },
    Case {
        what: "an error that is explained",
        deed: |asked, _| {
            let why = [&[0, 18][..], b"not you"].concat();
            vec![Act::Message(asked.extended(rcode::REFUSED, &[], &[(15, &why)]))]
        },
        said: "the primary answered REFUSED (Prohibited: not you)",
    },
    Case {
        what: "SERVFAIL to all",
        deed: |asked, _| vec![Act::Message(asked.reply(rcode::SERVFAIL, &[]))],
        said: "the primary answered SERVFAIL",
    },
];

#[test]
fn while_a_primary_fails_the_old_version_is_served_and_when_it_behaves_the_zone_recovers() {
    let stage = Stage::set(1, HOPELESS);
    for (case, (zone, _)) in HOPELESS.iter().zip(&stage.players) {
        let what = case.what;
        let status = stage.secondary.wait_status(&zone.apex, |status| {
            let error = status.primaries[0].last_error.as_deref();
            status.state == State::Stale && error.is_some_and(|error| error.contains(case.said))
        });
        assert_eq!(status.serial, Some(OLD), "{what}");
        assert!(status.refresh_in_s <= 2, "{what}: it is asked again soon: {status:?}");
        stage.secondary.wait_log(&["WARN", &zone.apex, case.said]);
        assert_eq!(stage.watch.newest(&zone.apex), Some(OLD), "{what}");
    }
    assert!(
        stage.secondary.memory_kib("VmHWM") < 256 * 1024,
        "streams without end do not fill the memory: {} KiB",
        stage.secondary.memory_kib("VmHWM")
    );
    for (case, (zone, primary)) in HOPELESS.iter().zip(&stage.players) {
        let again = |asked: &[Asked]| asked.iter().filter(|it| it.tcp).count() > 6;
        primary.wait_asked(again).expect("it is tried again and again");
        for asked in ["asked=IXFR", "asked=AXFR", "not used"] {
            let told = stage.secondary.logged(&["WARN", &zone.apex, asked]);
            // The first, the tenth, the hundredth time.
            assert!(told <= 2, "{}: {asked}: the same is told {told} times", case.what);
        }
        let good = Arc::clone(zone);
        primary.script(move |asked| good.answer(asked));
    }
    for (zone, _) in &stage.players {
        stage.secondary.wait_log(&["INFO", &zone.apex, "of use again"]);
    }
    stage.end();
}

fn refuses(asked: &Asked, rcode: u8) -> Vec<Act> {
    vec![Act::Message(asked.reply(rcode, &[]))]
}

/// IXFR does not work, AXFR does.
const NO_IXFR: &[Case] = &[
    Case {
        what: "REFUSED",
        deed: |asked, _| refuses(asked, rcode::REFUSED),
        said: "answered REFUSED",
    },
    Case {
        what: "SERVFAIL",
        deed: |asked, _| refuses(asked, rcode::SERVFAIL),
        said: "answered SERVFAIL",
    },
    Case {
        what: "SERVFAIL behind whole differences",
        deed: |asked, zone| {
            let mut records = zone.records(asked);
            records.pop();
            vec![message(asked, &records), Act::Message(asked.reply(rcode::SERVFAIL, &[]))]
        },
        said: "answered SERVFAIL",
    },
    Case {
        what: "NOTIMP",
        deed: |asked, _| refuses(asked, rcode::NOTIMP),
        said: "answered NOTIMP",
    },
    Case {
        what: "FORMERR",
        deed: |asked, _| refuses(asked, rcode::FORMERR),
        said: "answered FORMERR",
    },
    Case {
        what: "NOTAUTH",
        deed: |asked, _| refuses(asked, rcode::NOTAUTH),
        said: "answered NOTAUTH",
    },
    Case {
        what: "differences that delete what is not there",
        deed: |asked, zone| with(asked, zone, |records| records[2].data[0] ^= 1),
        said: "it deletes a record that is not there",
    },
    Case {
        what: "differences that delete a name that is not there",
        deed: |asked, zone| with(asked, zone, |records| records[2].owner[1] ^= 1),
        said: "it deletes a record that is not there",
    },
    Case {
        what: "differences from another serial",
        deed: |asked, zone| with(asked, zone, |records| records[1] = zone.soa(OLD - 1)),
        said: "the differences go on from serial 9, not from 10",
    },
    Case {
        what: "differences with a gap",
        deed: |asked, zone| {
            with(asked, zone, |records| {
                let more = [zone.soa(NEW + 1), zone.soa(NEW + 2), zone.soa(NEW + 2)];
                records[0] = zone.soa(NEW + 2);
                records.pop();
                records.extend(more);
            })
        },
        said: "the differences go on from serial 12, not from 11",
    },
    Case {
        what: "differences to an older serial",
        deed: |asked, zone| with(asked, zone, |records| records[4] = zone.soa(OLD - 3)),
        said: "a difference to an older serial",
    },
    Case {
        what: "differences with records after their end",
        deed: |asked, zone| {
            with(asked, zone, |records| records.push(Rr::a(&zone.apex, [1, 2, 3, 4])))
        },
        said: "records after the end",
    },
    Case {
        what: "differences without end",
        deed: |asked, zone| {
            let many: Vec<_> =
                (0..200_u8).map(|n| Rr::a(&format!("n{n}.{}", zone.apex), [n; 4])).collect();
            vec![message(asked, &zone.records(asked)[..5]), Act::Endless(asked.reply(0, &many))]
        },
        said: "the differences have more than 65536 octets",
    },
    Case {
        what: "a malformed record",
        deed: |asked, zone| behind_soa(asked, zone, &owned_by(&[0xff, 0xff])),
        said: "malformed reply: a record",
    },
];

#[test]
fn where_ixfr_does_not_work_axfr_is_asked_for_at_once_and_the_log_says_why() {
    let stage = Stage::set(2, NO_IXFR);
    for (case, (zone, primary)) in NO_IXFR.iter().zip(&stage.players) {
        // IXFR alone is what does not work.
        let (good, deed) = (Arc::clone(zone), case.deed);
        primary.script(move |asked| match asked.rtype {
            rtype::IXFR => deed(asked, &good),
            _ => good.answer(asked),
        });
        stage.secondary.wait_serial(&zone.apex, NEW);
        stage.secondary.wait_log(&[
            "WARN",
            &zone.apex,
            "IXFR",
            case.said,
            "AXFR from the same primary at once",
        ]);
        let asked = primary.asked();
        let ixfr = asked.iter().rposition(|asked| asked.rtype == rtype::IXFR).unwrap();
        assert_eq!(asked[ixfr].since, Some(OLD), "{}", case.what);
        let next = primary.wait_asked(|asked| asked.len() > ixfr + 1).expect("something follows");
        assert_eq!(next[ixfr + 1].rtype, rtype::AXFR, "{}: nothing between", case.what);
    }
    stage.end();
}

/// Strange, and right all the same.
const STRANGE: &[Case] = &[
    Case {
        what: "an answer that comes late",
        deed: |asked, zone| {
            [vec![Act::Wait(Duration::from_millis(800))], zone.answer(asked)].concat()
        },
        said: "asked=IXFR got=IXFR",
    },
    Case {
        what: "a record a message",
        deed: |asked, zone| {
            let records = zone.records(asked);
            records.iter().map(|record| message(asked, std::slice::from_ref(record))).collect()
        },
        said: "messages=8",
    },
    Case {
        what: "a record a message, all but the first without a question",
        deed: |asked, zone| {
            let bare = |octets: Vec<u8>| {
                let mut bare = [&octets[..12], &octets[12 + asked.question.len()..]].concat();
                bare[5] = 0;
                Act::Message(bare)
            };
            let records = zone.records(asked);
            let one = |record: &Rr| asked.reply(rcode::NOERROR, std::slice::from_ref(record));
            let later = records[1..].iter().map(|record| bare(one(record)));
            [Act::Message(one(&records[0]))].into_iter().chain(later).collect()
        },
        said: "messages=8",
    },
    Case {
        what: "octet by octet, quickly",
        deed: |asked, zone| {
            let octets = primary::framed(&asked.reply(rcode::NOERROR, &zone.records(asked)));
            octets.into_iter().map(|octet| Act::Raw(vec![octet])).collect()
        },
        said: "asked=IXFR got=IXFR",
    },
    Case {
        what: "a whole zone in answer to IXFR",
        deed: |asked, zone| vec![message(asked, &zone.whole(NEW))],
        said: "asked=IXFR got=AXFR",
    },
    Case {
        what: "one newer SOA in answer to IXFR",
        deed: |asked, zone| match asked.rtype {
            rtype::IXFR => vec![message(asked, &[zone.soa(NEW)])],
            _ => zone.answer(asked),
        },
        said: "asked=AXFR got=AXFR",
    },
    Case {
        what: "one newer SOA in answer to IXFR, and the connection left open",
        deed: |asked, zone| match asked.rtype {
            rtype::IXFR => vec![message(asked, &[zone.soa(NEW)]), Act::Silence],
            _ => zone.answer(asked),
        },
        said: "asked=AXFR got=AXFR",
    },
    Case {
        what: "no EDNS, which is FORMERR",
        deed: |asked, zone| match (asked.rtype, &asked.options) {
            (rtype::IXFR, _) => zone.answer(asked),
            (_, Some(_)) => refuses(asked, rcode::FORMERR),
            (_, None) => zone.answer(asked),
        },
        said: "asked=IXFR got=IXFR",
    },
    Case {
        what: "deletions with names in other case and with another TTL",
        deed: |asked, zone| {
            with(asked, zone, |records| {
                for record in &mut records[2..4] {
                    record.owner.make_ascii_uppercase();
                    record.ttl = 7;
                }
            })
        },
        said: "asked=IXFR got=IXFR",
    },
    Case {
        what: "names that point back",
        deed: |asked, zone| {
            let mut octets = Vec::new();
            for record in zone.records(asked) {
                let apex = name(&zone.apex);
                let own = record.owner.len() - apex.len();
                octets.extend(&record.owner[..own]);
                octets.extend([0xc0, 12]);
                octets.extend(&record.octets()[record.owner.len()..]);
            }
            vec![Act::Message(asked.reply_of(rcode::NOERROR, 8, &octets))]
        },
        said: "asked=IXFR got=IXFR",
    },
    Case {
        what: "a whole zone in an odd order, its records twice",
        deed: |asked, zone| {
            vec![message(
                asked,
                &whole(zone, |records| {
                    let last = records.len() - 1;
                    records[1..last].reverse();
                    let again = records[1..last].to_vec();
                    records.splice(1..1, again);
                }),
            )]
        },
        said: "to=11",
    },
    Case {
        what: "another zone's records in a whole zone",
        deed: |asked, zone| {
            vec![message(
                asked,
                &whole(zone, |records| {
                    records.insert(2, Rr::a("www.other.", [6, 6, 6, 6]));
                    records.insert(3, Rr::a("test.", [6, 6, 6, 6]));
                }),
            )]
        },
        said: "outside=2",
    },
    Case {
        what: "another zone's records among the differences",
        deed: |asked, zone| with(asked, zone, |records| records.insert(5, Rr::a("other.", [6; 4]))),
        said: "outside=1",
    },
];

#[test]
fn what_is_strange_but_right_is_taken() {
    let stage = Stage::set(3, STRANGE);
    for (case, (zone, primary)) in STRANGE.iter().zip(&stage.players) {
        stage.secondary.wait_serial(&zone.apex, NEW);
        stage.secondary.wait_log(&["transferred", &zone.apex, "to=11", case.said]);
        let failed = stage
            .secondary
            .log()
            .into_iter()
            .find(|line| line.contains(&zone.apex) && line.contains("WARN"));
        assert_eq!(failed, None, "{}", case.what);
        assert!(primary.asked().iter().all(|asked| asked.zone == zone.apex));
    }
    assert_eq!(stage.secondary.counted("records_outside"), 3);
    stage.end();
}
