//! Random chains of differences: a zone that came by them is the zone that its records, built
//! afresh, make; and differences survive their journeys through the store and between versions.
//!
//! `BACKSTOP_IXFR_CHAINS` is how many chains (300).
#![allow(clippy::unwrap_used, reason = "a test")]

mod model;

use backstop::name::Name;
use backstop::wire::Rtype;
use backstop::zone::{At, Diff, Found, Node, OutOfSync, RecordSet, Zone};
use model::random::Random;
use model::zone::*;
use std::ops::ControlFlow;

const VERSIONS: usize = 8;

#[test]
fn a_chain_of_differences_makes_what_a_fresh_build_makes() {
    let chains = std::env::var("BACKSTOP_IXFR_CHAINS").map_or(300, |text| text.parse().unwrap());
    for seed in 0..chains {
        let mut random = Random::new(seed);
        let mut model = start(&mut random);
        let mut zone = model.build(&mut random);
        let (first, first_contents) = (zone.clone(), contents(&zone));
        let mut past = vec![zone.clone()];
        for version in 0..VERSIONS {
            let story = format!("seed {seed}, version {version}");
            let later = change(&model, &mut random);
            let diff = model.diff(&later);
            let fresh = later.build(&mut random);
            zone = zone.apply(&diff).unwrap_or_else(|error| panic!("{story}: {error}"));
            same(&zone, &fresh, &story);
            same_look_ups(&zone, &fresh, &later, &mut random, &story);
            between_is_exact(past.last().unwrap(), &fresh, &diff, &story);
            model = later;
            past.push(fresh);
        }
        assert_eq!(contents(&first), first_contents, "seed {seed}: the first version changed");
        let story = format!("seed {seed}, all at once");
        let leap = Diff::between(&first, &zone);
        same(&first.apply(&leap).unwrap(), &zone, &story);
        let back = Diff::between(&zone, &first);
        same(&zone.apply(&back).unwrap(), &first, &story);
        same(&kept(&zone), &zone, &story);
    }
}

fn start(random: &mut Random) -> Model {
    let apex = *random.pick(&["", "example", "a.b.example"]);
    let mut model = Model::new(name(apex), random);
    for _ in 0..random.below(30) {
        model.grow(&[], random);
        if random.chance(30) {
            model.grow_dnssec(random);
        }
    }
    model
}

fn change(model: &Model, random: &mut Random) -> Model {
    let mut later = model.clone();
    later.change(&[], random);
    for _ in 0..random.below(3) {
        later.grow_dnssec(random);
    }
    later
}

type Contents = Vec<(Vec<u8>, usize, Vec<String>)>;

/// Keys, marks of cuts, sets. The order of a set's records is nobody's business.
fn contents(zone: &Zone) -> Contents {
    let sets = |node: Node<'_>| node.sets().map(|set| describe_set(&set)).collect();
    zone.entries().map(|(key, node)| (key.as_bytes().to_vec(), node.cut(), sets(node))).collect()
}

fn describe_set(set: &RecordSet<'_>) -> String {
    let mut data: Vec<&[u8]> = set.iter().collect();
    data.sort_unstable();
    assert_eq!((data.len(), data.concat().len()), (set.count(), set.data_len()));
    format!("{} {} {} {data:x?}", set.rtype(), set.is_signatures(), set.ttl())
}

fn same(zone: &Zone, fresh: &Zone, story: &str) {
    assert_eq!(contents(zone), contents(fresh), "{story}");
    assert_eq!(zone.records(), fresh.records(), "{story}");
    assert_eq!(zone.owners(), fresh.owners(), "{story}");
    assert_eq!(zone.soa(), fresh.soa(), "{story}");
    let counted: usize = zone.entries().map(|(_, node)| node.records()).sum();
    assert_eq!(counted as u64, zone.records(), "{story}");
}

fn same_look_ups(zone: &Zone, fresh: &Zone, model: &Model, random: &mut Random, story: &str) {
    for _ in 0..30 {
        let near = random_target(&[model], random);
        let question = match random.below(3) {
            _ if !near.starts_with(&model.apex) => model.apex.clone(),
            0 => near,
            1 => random_below(&near, random),
            _ => [&near[..], &[random_label(random)]].concat(),
        };
        let question = if fits(&question) { question } else { model.apex.clone() };
        let rtype = Rtype(*random.pick(&[A, NS, CNAME, DNAME, DS, TXT, ANY, RRSIG, NSEC3]));
        let wire = wire(&question);
        let question = Name::from_wire(&wire).unwrap();
        let (ours, theirs) = (found(zone, question, rtype), found(fresh, question, rtype));
        assert_eq!(ours, theirs, "{story}: {question} {rtype}");
    }
}

fn found(zone: &Zone, name: Name<'_>, rtype: Rtype) -> String {
    let at = |at: At| format!("{at:?}");
    match zone.lookup(&zone.key(name), rtype) {
        Found::Records { set, at: place, .. } => format!("{} {}", at(place), describe_set(&set)),
        Found::Alias { set, at: place, .. } => {
            format!("alias {} {}", at(place), describe_set(&set))
        }
        Found::Rename { set, owner, .. } => format!("rename {owner} {}", describe_set(&set)),
        Found::Delegation { set, cut, .. } => format!("cut {cut} {}", describe_set(&set)),
        Found::NoData { node, at: place } => format!("no data {} {}", at(place), node.is_some()),
        Found::NoName { encloser } => format!("no name {encloser}"),
    }
}

/// What [`Diff::between`] finds is no more and no less than what was changed, and what the store
/// keeps of it is it again.
fn between_is_exact(old: &Zone, new: &Zone, diff: &Diff, story: &str) {
    let found = Diff::between(old, new);
    let list = |records: &backstop::zone::Records| {
        let mut list: Vec<_> = records
            .iter()
            .map(|(owner, record)| {
                let owner = owner.as_wire().to_ascii_lowercase();
                (owner, record.rtype, record.ttl, record.data.to_vec())
            })
            .collect();
        list.sort();
        list
    };
    assert_eq!(list(&found.removed), list(&diff.removed), "{story}");
    assert_eq!(list(&found.added), list(&diff.added), "{story}");
    assert_eq!((found.from, found.to), (diff.from, diff.to), "{story}");
    let among = Diff::among(old, new, [diff]);
    assert_eq!(list(&among.removed), list(&diff.removed), "{story}");
    assert_eq!(list(&among.added), list(&diff.added), "{story}");
    let (next, exact) = old.apply_exactly(&among).unwrap();
    assert!(exact, "{story}");
    same(&next.apply(&among.reversed()).unwrap(), old, story);
    let first = [&found.removed, &found.added].map(|list| list.iter().next().unwrap().1.rtype);
    assert_eq!(first, [Rtype::SOA; 2], "{story}: an IXFR's lists begin with the SOA");
    let octets = found.encode();
    assert!(Diff::decode(&octets).unwrap() == found, "{story}");
    for cut in (0..octets.len()).step_by(octets.len() / 40 + 1) {
        // Cut short it is damaged, or a shorter list of whole records: never a panic.
        if let Some(shorter) = Diff::decode(&octets[..cut]) {
            assert!(shorter.records() < found.records(), "{story}");
        }
    }
}

/// Through the form that the store keeps.
fn kept(zone: &Zone) -> Zone {
    let mut entries: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let done = zone.kept(None, &mut |key, blob| {
        entries.push((key.to_vec(), blob.to_vec()));
        ControlFlow::Continue(())
    });
    assert!(done.is_continue() && entries.is_sorted());
    Zone::restore(zone.apex(), entries).unwrap()
}

#[test]
fn a_difference_of_another_history_is_refused_and_leaves_the_zone_as_it_was() {
    let mut refused = 0;
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let model = start(&mut random);
        let zone = model.build(&mut random);
        let before = contents(&zone);
        // The same serial, another change in between.
        let mut other = model.clone();
        other.grow(&[], &mut random);
        let later = change(&other, &mut random);
        let diff = other.diff(&later);
        match zone.apply(&diff) {
            // It did not touch what is different.
            Ok(next) => assert_eq!(next.serial(), diff.to),
            Err(OutOfSync::Missing(_)) => refused += 1,
            Err(error) => panic!("seed {seed}: {error}"),
        }
        assert_eq!(contents(&zone), before);
    }
    assert!(refused > 5, "{refused} of 200");
}

#[test]
fn a_zone_file_of_any_random_zone_reads_back_as_that_zone() {
    use backstop::zone::file;
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let zone = start(&mut random).build(&mut random);
        let mut text = Vec::new();
        file::write(&zone, &mut text).unwrap();
        let path = std::path::Path::new("random.zone");
        let again = file::read_text(&text, path, zone.apex(), file::Limits::default());
        let again = again.unwrap_or_else(|error| panic!("seed {seed}: {error}")).build().unwrap();
        same(&again, &zone, &format!("seed {seed}"));
    }
}
