//! Random zones, also after random changes, and random questions: `respond` must say what the
//! [`resolver`], a slow and obvious one, says.
//!
//! `BACKSTOP_ORACLE_PAIRS` is how many questions are asked (100,000), `BACKSTOP_ORACLE_SEED` the
//! one world to look at, as a failure prints it.
#![allow(clippy::unwrap_used, reason = "a test")]

mod judge;
#[path = "../model/mod.rs"]
mod model;
mod proof;
mod resolver;

use backstop::answer::{Outcome, Transport, Via, respond};
use backstop::name::Name;
use backstop::view::{Access, Expiry, Served, View};
use backstop::zone::Zone;
use model::message::{Question, Reply, name_text};
use model::random::Random;
use model::zone::*;
use resolver::{Reading, World};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Questions for each version of a world.
const QUESTIONS: usize = 50;
const VERSIONS: usize = 4;

/// How many failures are printed: the shortest.
const SHOWN: usize = 4;

#[test]
fn the_server_says_what_the_oracle_says() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let pairs = number("BACKSTOP_ORACLE_PAIRS").unwrap_or(100_000);
    let worlds = match number("BACKSTOP_ORACLE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..pairs.div_ceil((QUESTIONS * VERSIONS) as u64),
    };
    let (next, wrong) = (AtomicU64::new(worlds.start), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= worlds.end {
                return;
            }
            let panicked = |_| Err(format!("seed {seed}: a panic, see above"));
            if let Err(report) = std::panic::catch_unwind(|| world(seed)).unwrap_or_else(panicked) {
                wrong.lock().unwrap().push(report);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().unwrap().get().min(4) {
            scope.spawn(work);
        }
    });
    let mut wrong = wrong.into_inner().unwrap();
    wrong.sort_by_key(String::len);
    let shown = wrong.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} of {worlds:?} worlds are wrong\n{shown}", wrong.len());
}

/// Zones from a seed, asked, changed, asked again.
fn world(seed: u64) -> Result<(), String> {
    let mut random = Random::new(seed);
    let mut world = World { zones: random_zones(&mut random) };
    let mut zones: Vec<Zone> = world.zones.iter().map(|zone| zone.build(&mut random)).collect();
    for version in 0..VERSIONS {
        if version > 0 {
            zones = change(&mut world, &zones, &mut random, seed);
        }
        let view = view(zones.iter().cloned());
        for _ in 0..QUESTIONS {
            let question = random_question(&world, &mut random);
            if let Err(problem) = check(&world, &view, &question) {
                let report = report(world, &question, &problem);
                return Err(format!("seed {seed}, version {version}\n{report}"));
            }
        }
    }
    Ok(())
}

/// The next version of some of the zones, by diffs.
fn change(world: &mut World, zones: &[Zone], random: &mut Random, seed: u64) -> Vec<Zone> {
    let mut next = zones.to_vec();
    for at in 0..zones.len() {
        if random.chance(30) {
            continue;
        }
        let mut later = world.zones[at].unsigned();
        let others: Vec<&Model> = world.zones.iter().collect();
        later.change(&others, random);
        // Sometimes it is signed otherwise from now on, or no longer.
        let denial = if random.chance(20) { random_denial(random) } else { world.zones[at].denial };
        let later = later.signed(denial);
        let diff = world.zones[at].diff(&later);
        next[at] = zones[at].apply(&diff).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        world.zones[at] = later;
    }
    next
}

fn random_zones(random: &mut Random) -> Vec<Model> {
    let apexes = ["", "a", "example", "a.example", "b.a.example", "c.b.a.example", "other"];
    let mut zones: Vec<Model> = Vec::new();
    while zones.is_empty() {
        for apex in apexes {
            if random.chance(if apex.is_empty() { 10 } else { 35 }) {
                zones.push(Model::new(name(apex), random));
            }
        }
    }
    for _ in 0..random.below(15 * zones.len()) + 5 {
        let at = random.below(zones.len());
        let mut zone = zones[at].clone();
        let others: Vec<&Model> = zones.iter().collect();
        zone.grow(&others, random);
        zones[at] = zone;
    }
    zones.into_iter().map(|zone| zone.signed(random_denial(random))).collect()
}

fn random_denial(random: &mut Random) -> Denial {
    let &salt = random.pick(&[&[][..], &[0xab, 0xcd]]);
    match random.below(4) {
        0 => Denial::Nsec,
        1 => {
            Denial::Nsec3 { iterations: *random.pick(&[0, 1, 2]), salt, opt_out: random.chance(50) }
        }
        _ => Denial::Unsigned,
    }
}

fn view(zones: impl IntoIterator<Item = Zone>) -> View {
    let mut view = View::default();
    for zone in zones {
        view.put(Arc::new(Served {
            apex: zone.apex().to_owned(),
            access: Arc::new(Access::default()),
            zone: Some(Arc::new(zone)),
            expiry: Arc::new(Expiry::at(Expiry::NEVER)),
            history: Arc::new([]),
        }));
    }
    view
}

fn random_question(world: &World, random: &mut Random) -> Question {
    let types = [
        A, A, A, A, AAAA, NS, NS, CNAME, SOA, MX, SRV, TXT, DNAME, DS, DS, RRSIG, NSEC, ANY,
        UNKNOWN, 65281,
    ];
    let zones: Vec<&Model> = world.zones.iter().collect();
    let near = random_target(&zones, random);
    let name = match random.below(8) {
        0..=2 => near,
        3 => near[..random.below(near.len() + 1)].to_vec(),
        4 | 5 => [&near[..], &[random_label(random)]].concat(),
        6 => random_below(&near, random),
        _ => random_below(&zones[random.below(zones.len())].apex, random),
    };
    let name = if fits(&name) { name } else { Labels::new() };
    let size = *random.pick(&[0, 512, 600, 1232, 4096, 65535]);
    Question {
        name: wire(&respelled(&name, random)),
        rtype: *random.pick(&types),
        class: 1,
        flags: *random.pick(&[0, 0x0100, 0x0010]),
        edns: random.chance(60).then(|| (size, 0, random.chance(50))),
        tcp: random.chance(15),
    }
}

/// Asks the server.
fn ask(view: &View, question: &Question) -> Result<Reply, String> {
    let transport = if question.tcp { Transport::Tcp } else { Transport::Udp };
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let via =
        Via { transport, peer, now_ms: 1, key: None, reserved: 0, keepalive: None, unix_s: 1 };
    let mut reply = vec![0xee; 65535];
    match respond(&question.message(), &via, view, &mut reply) {
        Outcome::Reply { len, .. } => Reply::read(&reply[..len]),
        other => Err(format!("no reply but {other:?}")),
    }
}

/// Is the server's answer what some reading of the RFCs says?
fn check(world: &World, view: &View, question: &Question) -> Result<(), String> {
    let reply = ask(view, question)?;
    judge::check_header(question, &reply)?;
    let is_whole = question.tcp || reply.flags & judge::TC == 0;
    let whole = match is_whole {
        true => reply.clone(),
        false => ask(view, &Question { tcp: true, ..question.clone() })?,
    };
    let (name, _) = labels(&question.name);
    let dnssec = question.edns.is_some_and(|(_, _, dnssec)| dnssec);
    let mut problems = String::new();
    for reading in Reading::all() {
        let expected = world.resolve(&name, question.rtype, dnssec, reading);
        match judge::check(world, question, &expected, &reply, &whole) {
            Ok(()) => return Ok(()),
            Err(problem) if !problems.contains(&problem) => problems.push_str(&problem),
            Err(_) => {}
        }
    }
    Err(format!("{problems}\n  the reply: {reply:?}"))
}

/// The least world with which it still fails, what it should say, and what it says.
fn report(mut world: World, question: &Question, first: &str) -> String {
    let fails = |world: &World| {
        let zones = world.zones.iter().map(|zone| zone.build(&mut Random::new(0)));
        check(world, &view(zones), question).err()
    };
    let mut problem = first.to_owned();
    match fails(&world) {
        Some(again) => problem = again,
        None => problem.push_str("\n  ONLY AFTER DIFFS: a fresh build of the same zones is right"),
    }
    'smaller: while fails(&world).is_some() {
        for at in 0..world.zones.len() {
            let kept = world.zones.remove(at);
            if let Some(again) = fails(&world) {
                problem = again;
                continue 'smaller;
            }
            world.zones.insert(at, kept.clone());
            for owner in kept.names.keys().filter(|&owner| *owner != kept.apex) {
                let mut smaller = kept.unsigned();
                smaller.names.remove(owner);
                world.zones[at] = smaller.signed(kept.denial);
                if let Some(again) = fails(&world) {
                    problem = again;
                    continue 'smaller;
                }
                world.zones[at] = kept.clone();
            }
        }
        break;
    }
    let mut text = format!("question {question}\n  {problem}\n");
    for zone in &world.zones {
        let _ = writeln!(text, "zone {}", name_text(&wire(&zone.apex)));
        let zone = zone.build(&mut Random::new(0));
        let mut file = Vec::new();
        backstop::zone::file::write(&zone, &mut file).unwrap();
        text.push_str(&String::from_utf8_lossy(&file));
    }
    text
}

#[test]
fn the_oracle_knows_the_example_of_rfc_4592() {
    let mut random = Random::new(1);
    let mut zone = Model::new(name("example"), &mut random);
    let a = vec![192, 0, 2, 1];
    for (owner, rtype, data) in [
        ("*.example", TXT, b"\x01x".to_vec()),
        ("*.example", MX, [&[0, 10][..], &wire(&name("host1.example"))].concat()),
        ("sub.*.example", TXT, b"\x01y".to_vec()),
        ("host1.example", A, a.clone()),
        ("_ssh._tcp.host1.example", SRV, [&[0; 6][..], &wire(&name("host1.example"))].concat()),
        ("subdel.example", NS, wire(&name("ns.example.com"))),
    ] {
        assert!(zone.add(&name(owner), rtype, 3600, data));
    }
    let world = World { zones: vec![zone] };
    let reading = Reading::all().next().unwrap();
    for (owner, rtype, rcode, answers, aa) in [
        ("host3.example", MX, 0, 1, true),
        ("host3.example", A, 0, 0, true),
        ("foo.bar.example", TXT, 0, 1, true),
        ("host1.example", MX, 0, 0, true),
        ("sub.*.example", MX, 0, 0, true),
        ("_telnet._tcp.host1.example", SRV, 3, 0, true),
        ("host.subdel.example", A, 0, 0, false),
        ("ghost.*.example", MX, 3, 0, true),
    ] {
        let expected = world.resolve(&name(owner), rtype, false, reading);
        let got = (expected.rcode, expected.answer.len(), expected.aa);
        assert_eq!(got, (rcode, answers, aa), "{owner} {rtype}");
    }
}

#[test]
fn names_as_long_as_names_get_are_among_the_random_ones() {
    let mut random = Random::new(3);
    let lengths: Vec<usize> =
        (0..2000).map(|_| wire(&random_below(&name("example"), &mut random)).len()).collect();
    assert!(lengths.contains(&255) && lengths.iter().all(|&len| len <= 255));
    assert!(Name::from_wire(&wire(&random_below(&name(""), &mut random))).is_some());
}
