//! Zones built, changed and looked into.

use super::*;
use std::ops::ControlFlow;

fn name(text: &str) -> NameBuf {
    text.parse().unwrap()
}

fn soa(serial: u32) -> Vec<u8> {
    let mut data = b"\x02ns\x07example\0\x01h\x07example\0".to_vec();
    for number in [serial, 3600, 600, 86400, 300] {
        data.extend_from_slice(&number.to_be_bytes());
    }
    data
}

fn record(rtype: Rtype, data: &[u8]) -> Record<'_> {
    Record { rtype, ttl: 60, data }
}

fn zone(serial: u32, records: &[(&str, Rtype, &[u8])]) -> Zone {
    let mut builder = Builder::new(name("example").as_name());
    builder.add(name("example").as_name(), record(Rtype::SOA, &soa(serial)));
    for (owner, rtype, data) in records {
        builder.add(name(owner).as_name(), record(*rtype, data));
    }
    builder.build().unwrap()
}

const A: &[u8] = &[192, 0, 2, 1];

fn found(zone: &Zone, owner: &str, rtype: Rtype) -> String {
    match zone.lookup(&zone.key(name(owner).as_name()), rtype) {
        Found::Records { at: At::Owner, .. } => "records".into(),
        Found::Records { .. } => "wildcard records".into(),
        Found::Alias { at: At::Owner, .. } => "alias".into(),
        Found::Alias { .. } => "wildcard alias".into(),
        Found::Rename { owner, .. } => format!("rename {owner}"),
        Found::Delegation { cut, .. } => format!("delegation {cut}"),
        Found::NoData { node, at: At::Owner } if node.is_none() => "empty non-terminal".into(),
        Found::NoData { at: At::Owner, .. } => "no data".into(),
        Found::NoData { .. } => "wildcard no data".into(),
        Found::NoName { encloser } => format!("no name {encloser}"),
    }
}

#[test]
fn the_data_say_what_rfc_1034_section_4_3_2_wants_to_know() {
    let zone = zone(
        1,
        &[
            ("www.example", Rtype::A, A),
            ("alias.example", Rtype::CNAME, b"\x03www\x07example\0"),
            ("a.b.c.example", Rtype::A, A),
            ("*.w.example", Rtype::A, A),
            ("x.*.e.example", Rtype::A, A),
            ("*.v.example", Rtype::CNAME, b"\0"),
            ("sub.example", Rtype::NS, b"\x02ns\x03sub\x07example\0"),
            ("ns.sub.example", Rtype::A, A),
            ("deep.ns.sub.example", Rtype::NS, b"\0"),
            ("old.example", Rtype::DNAME, b"\x03new\0"),
            ("hidden.old.example", Rtype::A, A),
        ],
    );
    for (owner, rtype, expected) in [
        ("www.example", Rtype::A, "records"),
        ("www.example", Rtype::ANY, "records"),
        ("www.example", Rtype::MX, "no data"),
        ("alias.example", Rtype::A, "alias"),
        ("alias.example", Rtype::CNAME, "records"),
        ("alias.example", Rtype::ANY, "records"),
        ("alias.example", Rtype::NSEC, "alias"),
        ("alias.example", Rtype::RRSIG, "alias"),
        ("c.example", Rtype::A, "empty non-terminal"),
        ("b.c.example", Rtype::A, "empty non-terminal"),
        ("x.c.example", Rtype::A, "no name 2"),
        ("x.w.example", Rtype::A, "wildcard records"),
        ("x.y.w.example", Rtype::A, "wildcard records"),
        ("x.w.example", Rtype::MX, "wildcard no data"),
        ("x.v.example", Rtype::MX, "wildcard alias"),
        ("w.example", Rtype::A, "empty non-terminal"),
        ("y.e.example", Rtype::A, "wildcard no data"),
        ("y.z.e.example", Rtype::A, "wildcard no data"),
        ("y.*.e.example", Rtype::A, "no name 4"),
        ("sub.example", Rtype::A, "delegation 4"),
        ("sub.example", Rtype::DS, "no data"),
        ("x.sub.example", Rtype::DS, "delegation 4"),
        ("ns.sub.example", Rtype::A, "delegation 4"),
        ("x.deep.ns.sub.example", Rtype::A, "delegation 4"),
        ("zzz.sub.example", Rtype::A, "delegation 4"),
        ("old.example", Rtype::DNAME, "records"),
        ("old.example", Rtype::A, "no data"),
        ("x.old.example", Rtype::A, "rename 4"),
        ("hidden.old.example", Rtype::A, "rename 4"),
        ("nothing.example", Rtype::A, "no name 0"),
    ] {
        assert_eq!(found(&zone, owner, rtype), expected, "{owner} {rtype}");
    }
}

#[test]
fn a_dname_at_the_apex_renames_all_below_it() {
    let zone = zone(1, &[("example", Rtype::DNAME, b"\x03new\0"), ("a.example", Rtype::A, A)]);
    assert_eq!(found(&zone, "a.example", Rtype::A), "rename 0");
    assert_eq!(found(&zone, "b.c.example", Rtype::A), "rename 0");
    assert_eq!(found(&zone, "example", Rtype::SOA), "records");
}

type Sets = Vec<(Rtype, bool, u32, Vec<Vec<u8>>)>;

fn contents(zone: &Zone) -> Vec<(Vec<u8>, usize, Sets)> {
    zone.entries()
        .map(|(key, node)| {
            let sets = node.sets().map(|set| {
                let mut data: Vec<_> = set.iter().map(<[u8]>::to_vec).collect();
                data.sort();
                (set.rtype(), set.is_signatures(), set.ttl(), data)
            });
            (key.as_bytes().to_vec(), node.cut(), sets.collect())
        })
        .collect()
}

#[test]
fn a_diff_makes_what_a_fresh_build_makes_also_when_cuts_come_and_go() {
    let old = zone(
        1,
        &[
            ("a.cut.example", Rtype::A, A),
            ("b.a.cut.example", Rtype::NS, b"\0"),
            ("x.b.a.cut.example", Rtype::A, A),
            ("gone.example", Rtype::NS, b"\0"),
            ("glue.gone.example", Rtype::A, A),
            ("sub.gone.example", Rtype::NS, b"\0"),
            ("x.sub.gone.example", Rtype::A, A),
        ],
    );
    let new = zone(
        2,
        &[
            ("cut.example", Rtype::NS, b"\0"),
            ("a.cut.example", Rtype::A, A),
            ("b.a.cut.example", Rtype::NS, b"\0"),
            ("x.b.a.cut.example", Rtype::A, A),
            ("y.cut.example", Rtype::A, A),
            ("glue.gone.example", Rtype::A, A),
            ("sub.gone.example", Rtype::NS, b"\0"),
            ("x.sub.gone.example", Rtype::A, A),
        ],
    );
    for (from, to) in [(&old, &new), (&new, &old)] {
        let diff = Diff::between(from, to);
        let applied = from.apply(&diff).unwrap();
        assert_eq!(contents(&applied), contents(to));
        assert_eq!(applied.records(), to.records());
        assert_eq!(applied.soa(), to.soa());
        let decoded = Diff::decode(&diff.encode()).unwrap();
        assert!(decoded == diff);
    }
}

#[test]
fn a_diff_of_another_history_is_refused() {
    let old = zone(1, &[("a.example", Rtype::A, A)]);
    let new = zone(2, &[("b.example", Rtype::A, A)]);
    let other = zone(1, &[("b.example", Rtype::A, A)]);
    let diff = Diff::between(&old, &new);
    assert!(matches!(new.apply(&diff), Err(OutOfSync::From { .. })));
    assert!(matches!(other.apply(&diff), Err(OutOfSync::Missing(_))));
    let both = zone(1, &[("a.example", Rtype::A, A), ("b.example", Rtype::A, A)]);
    assert_eq!(contents(&both.apply(&diff).unwrap()), contents(&new), "adding again is no harm");
}

#[test]
fn a_diff_that_was_applied_exactly_leads_back() {
    let old = zone(1, &[("a.example", Rtype::A, A), ("sub.example", Rtype::NS, b"\0")]);
    let new = zone(2, &[("b.example", Rtype::A, A), ("x.sub.example", Rtype::A, A)]);
    let diff = Diff::between(&old, &new);
    let (applied, exact) = old.apply_exactly(&diff).unwrap();
    assert!(exact);
    let back = applied.apply(&diff.reversed()).unwrap();
    assert_eq!(contents(&back), contents(&old));
    assert_eq!(back.serial(), old.serial());
}

#[test]
fn what_a_diff_says_beside_what_it_does_is_noticed_and_can_be_left_out() {
    let b: &[u8] = &[192, 0, 2, 2];
    let old = zone(1, &[("a.example", Rtype::A, A), ("ns.example", Rtype::NS, b"\x01x\0")]);
    let plain = Diff::between(&old, &zone(2, &[("a.example", Rtype::A, A)]));
    let soas = |change: &dyn Fn(&mut Diff)| {
        let mut diff = plain.clone();
        change(&mut diff);
        diff
    };
    let with_ttl = |ttl, data| Record { ttl, ..record(Rtype::A, data) };
    let messy = [
        (
            "adds what is there",
            soas(&|diff| {
                diff.added.push(name("a.example").as_name(), record(Rtype::A, A));
            }),
        ),
        (
            "another TTL for the whole set",
            soas(&|diff| {
                diff.added.push(name("a.example").as_name(), with_ttl(7, b));
            }),
        ),
        (
            "removed with another TTL",
            soas(&|diff| {
                diff.removed.push(name("a.example").as_name(), with_ttl(7, A));
            }),
        ),
        (
            "outside",
            soas(&|diff| {
                diff.added.push(name("elsewhere").as_name(), record(Rtype::A, A));
            }),
        ),
        (
            "another case",
            Diff {
                removed: soas(&|diff| {
                    diff.removed = Diff::between(&old, &old).removed;
                    diff.removed.push(name("ns.example").as_name(), record(Rtype::NS, b"\x01X\0"));
                })
                .removed,
                ..plain.clone()
            },
        ),
    ];
    for (what, diff) in messy {
        let (new, exact) = old.apply_exactly(&diff).unwrap();
        assert!(!exact, "{what}");
        let true_diff = Diff::among(&old, &new, [&diff]);
        let (again, exact) = old.apply_exactly(&true_diff).unwrap();
        assert!(exact, "{what}");
        assert_eq!(contents(&again), contents(&new), "{what}");
        let back = again.apply(&true_diff.reversed()).unwrap();
        assert_eq!(contents(&back), contents(&old), "{what}");
    }
}

#[test]
fn the_difference_of_two_large_sets_is_what_differs() {
    let set = |serial, from: u32| {
        let mut builder = Builder::new(name("example").as_name());
        builder.add(name("example").as_name(), record(Rtype::SOA, &soa(serial)));
        for i in from..from + 60_000 {
            let data = [&b"\x04"[..], &i.to_be_bytes()].concat();
            builder.add(name("a.example").as_name(), record(Rtype::TXT, &data));
        }
        builder.build().unwrap()
    };
    let (old, new) = (set(1, 0), set(2, 1));
    let diff = Diff::between(&old, &new);
    assert_eq!(diff.records(), 2 + 2, "two SOA records, two others");
}

#[test]
fn what_the_store_kept_is_the_zone_again_or_an_error() {
    let nsec3 = [&[1, 0, 0, 0, 0, 20][..], &[7; 20], &[0, 1, 0x40]].concat();
    let zone = zone(9, &[("www.example", Rtype::A, A), ("0p9.example", Rtype::NSEC3, &nsec3)]);
    assert_eq!(zone.hashes().len(), 1);
    let mut kept: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    loop {
        let last = kept.last().map(|(key, _)| key.clone());
        let walked = zone.kept(last.as_deref(), &mut |key, blob| {
            kept.push((key.to_vec(), blob.to_vec()));
            ControlFlow::Break(())
        });
        if walked.is_continue() {
            break;
        }
    }
    assert_eq!(kept.len(), zone.owners());
    let again = Zone::restore(zone.apex(), kept.clone()).unwrap();
    assert_eq!(contents(&again), contents(&zone));
    assert_eq!(again.records(), zone.records());
    for (at, _) in kept.iter().enumerate() {
        let mut bad = kept.clone();
        bad[at].1.pop();
        assert!(Zone::restore(zone.apex(), bad).is_err());
    }
    kept.swap(1, 2);
    assert!(Zone::restore(zone.apex(), kept).is_err());
}

/// Fuzzing found entries that were accepted and then not readable: with marks of cuts that are not
/// there, names that are too long, TTLs and types that no record has.
#[test]
fn entries_that_no_zone_has_are_refused() {
    let cut: &[(&str, Rtype, &[u8])] =
        &[("sub.example", Rtype::NS, b"\0"), ("ns.sub.example", Rtype::A, A)];
    let mut kept: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let _ = zone(1, cut).kept(None, &mut |key, blob| {
        kept.push((key.to_vec(), blob.to_vec()));
        ControlFlow::Continue(())
    });
    let restore = |kept: &[(Vec<u8>, Vec<u8>)]| {
        Zone::restore(name("example").as_name(), kept.to_vec()).map(|zone| zone.owners())
    };
    assert_eq!(kept.iter().map(|(_, blob)| blob[0]).collect::<Vec<_>>(), [0, 4, 4]);
    assert_eq!(restore(&kept), Ok(3));
    for (at, mark) in [(0, 1), (1, 0), (1, 3), (2, 0), (2, 7), (2, 99)] {
        let mut bad = kept.clone();
        bad[at].1[0] = mark;
        assert_eq!(restore(&bad), Err(BuildError::Damaged), "entry {at}, mark {mark}");
    }
    for (at, octet, what) in [(4, 0x80, "TTL"), (3, 0xff, "type")] {
        let mut bad = kept.clone();
        bad[2].1[at] = octet;
        assert_eq!(restore(&bad), Err(BuildError::Damaged), "{what}");
    }
    kept.remove(1);
    assert_eq!(restore(&kept), Err(BuildError::Damaged), "the cut is gone");
    kept[1].1[0] = 0;
    kept[1].0 = [&[b'z'; 49][..], b"\0"].concat().repeat(5);
    assert_eq!(restore(&kept), Err(BuildError::Damaged), "with the apex it is too long a name");
    kept[1].0.truncate(200);
    assert_eq!(restore(&kept), Ok(2));
}

#[test]
fn duplicates_and_what_is_outside_are_dropped() {
    let mut builder = Builder::new(name("example").as_name());
    assert!(builder.add(name("EXAMPLE").as_name(), record(Rtype::SOA, &soa(1))));
    assert!(builder.add(name("a.example").as_name(), record(Rtype::NS, b"\x01B\0")));
    assert!(builder.add(name("A.example").as_name(), record(Rtype::NS, b"\x01b\0")));
    assert!(!builder.add(name("other").as_name(), record(Rtype::A, A)));
    assert_eq!(builder.outside(), 1);
    assert_eq!(builder.build().unwrap().records(), 2);
    assert!(matches!(Builder::new(Name::ROOT).build(), Err(BuildError::NoSoa)));
}

/// The records of a set are sorted by their data, so the last of them was once taken for the
/// last sent.
#[test]
fn a_set_has_the_ttl_that_came_last() {
    let mut builder = Builder::new(name("example").as_name());
    builder.add(name("example").as_name(), record(Rtype::SOA, &soa(1)));
    for (ttl, octet) in [(10, 2), (30, 9), (20, 1)] {
        let data = [192, 0, 2, octet];
        builder.add(name("a.example").as_name(), Record { rtype: Rtype::A, ttl, data: &data });
    }
    let zone = builder.build().unwrap();
    let node = zone.node(&zone.key(name("a.example").as_name())).unwrap();
    assert_eq!(node.find(Rtype::A).unwrap().ttl(), 20);
}

#[test]
fn what_is_final_while_records_come_in_order_is_what_is_kept_in_the_end() {
    let mut builder = Builder::new(name("example").as_name());
    let add = |builder: &mut Builder, owner: &str, rtype, data: &[u8]| {
        assert!(builder.add(name(owner).as_name(), record(rtype, data)));
    };
    add(&mut builder, "example", Rtype::SOA, &soa(1));
    // With this the zone's nodes get hashes, which are not kept.
    add(&mut builder, "example", Rtype::NSEC3PARAM, &[1, 0, 0, 0, 0]);
    let signature = [&Rtype::NSEC3PARAM.0.to_be_bytes(), &[0; 18][..]].concat();
    add(&mut builder, "example", Rtype::RRSIG, &signature);
    for n in 0..2000 {
        add(&mut builder, &format!("d{n:04}.example"), Rtype::NS, b"\x02ns\0");
        add(&mut builder, &format!("glue.d{n:04}.example"), Rtype::A, A);
    }
    assert!(builder.is_in_order());
    let mut early = Vec::new();
    for at in 0..builder.final_pages() {
        builder.final_page(at, |key, blob| early.push((key.to_vec(), blob.to_vec())));
    }
    assert!((3000..=4000).contains(&early.len()), "{}", early.len());
    let mut kept = Vec::new();
    let _ = builder.build().unwrap().kept(None, &mut |key, blob| {
        kept.push((key.to_vec(), blob.to_vec()));
        ControlFlow::Continue(())
    });
    assert_eq!(kept.len(), 4001);
    assert!(kept.starts_with(&early));
}

#[test]
fn a_record_that_comes_late_or_belongs_to_nsec3_ends_the_order() {
    let nsec3 = [1, 0, 0, 0, 0, 1, b'x', 0, 0];
    let late = [("a.example", Rtype::A, A), ("0p9mhaveqvm6t7v.example", Rtype::NSEC3, &nsec3)];
    for (owner, rtype, data) in late {
        let mut builder = Builder::new(name("example").as_name());
        builder.add(name("example").as_name(), record(Rtype::SOA, &soa(1)));
        builder.add(name("z.example").as_name(), record(Rtype::A, A));
        assert!(builder.is_in_order());
        builder.add(name(owner).as_name(), record(rtype, data));
        assert!(!builder.is_in_order());
    }
}

mod order {
    //! However records come, and however what was kept of them is cut, it is the same zone.

    use super::*;
    use proptest::prelude::*;

    /// Owners among which there are cuts, a DNAME, names below them, and NSEC3 hashes.
    const OWNERS: [&str; 9] = [
        "example",
        "a.example",
        "x.a.example",
        "y.x.a.example",
        "b.example",
        "m.b.example",
        "c.example",
        "0p9.example",
        "1q8.example",
    ];

    fn any_record() -> impl Strategy<Value = (usize, Rtype, u32, Vec<u8>)> {
        let of_names =
            (0..7_usize, 0..4_u8, 1..3_u32, 0..3_u8).prop_map(|(owner, kind, ttl, n)| {
                let (rtype, data) = match kind {
                    0 if owner > 0 => (Rtype::NS, vec![1, b'a' + n, 0]),
                    1 if owner == 4 => (Rtype::DNAME, vec![1, b'd', 0]),
                    2 => (Rtype::TXT, vec![1, n]),
                    _ => (Rtype::A, vec![192, 0, 2, n]),
                };
                (owner, rtype, ttl, data)
            });
        let of_hashes = (7..9_usize, 0..3_u8).prop_map(|(owner, n)| {
            let data = [&[1, 0, 0, n, 0, 20][..], &[7; 20], &[0, 1, 0x40]].concat();
            (owner, Rtype::NSEC3, 60, data)
        });
        prop_oneof![3 => of_names, 1 => of_hashes]
    }

    fn built(records: &[(usize, Rtype, u32, Vec<u8>)]) -> Zone {
        let mut builder = Builder::new(name("example").as_name());
        builder.add(name("example").as_name(), record(Rtype::SOA, &soa(1)));
        for (owner, rtype, ttl, data) in records {
            let record = Record { rtype: *rtype, ttl: *ttl, data };
            assert!(builder.add(name(OWNERS[*owner]).as_name(), record));
        }
        builder.build().unwrap()
    }

    proptest! {
        #[test]
        fn the_order_of_owners_is_of_no_account(
            records in prop::collection::vec(any_record(), 0..40)
        ) {
            let mut sorted = records.clone();
            let key = |owner: usize| Key::of(name(OWNERS[owner]).as_name(), 1);
            // Stable: of one owner they come as before, so that the same TTL is the last.
            sorted.sort_by(|a, b| key(a.0).as_bytes().cmp(key(b.0).as_bytes()));
            let (one, other) = (built(&records), built(&sorted));
            prop_assert_eq!(contents(&one), contents(&other));
            prop_assert_eq!(one.records(), other.records());
            let count: usize = one.entries().map(|(_, node)| node.records()).sum();
            prop_assert_eq!(one.records(), count as u64);
        }

        #[test]
        fn parts_of_what_was_kept_are_the_zone_again(
            records in prop::collection::vec(any_record(), 0..40),
            cuts in prop::collection::vec(0..12_usize, 0..4),
            lost in 0..12_usize,
        ) {
            let zone = built(&records);
            let mut kept = Vec::new();
            let _ = zone.kept(None, &mut |key, blob| {
                kept.push((key.to_vec(), blob.to_vec()));
                ControlFlow::Continue(())
            });
            let mut ends: Vec<usize> = cuts.iter().map(|at| at.min(&kept.len()).to_owned()).collect();
            ends.sort_unstable();
            ends.push(kept.len());
            let mut start = 0;
            let parts: Vec<_> = ends.into_iter().map(|end| {
                let part = kept[start..end].to_vec();
                start = end;
                part
            }).collect();
            let read = |entries: &Vec<(Vec<u8>, Vec<u8>)>| {
                Part::read(zone.apex(), entries.iter().map(|(key, blob)| (key, blob)))
            };
            let joined = Zone::join(zone.apex(), parts.iter().map(|part| read(part).unwrap()));
            let joined = joined.unwrap();
            prop_assert_eq!(contents(&joined), contents(&zone));
            prop_assert_eq!(joined.records(), zone.records());
            // In another order, or without a cut that what follows is marked with, they are none.
            let is_name = |(key, _): &(Vec<u8>, Vec<u8>)| key.first() != Some(&HASHES);
            if parts.iter().filter(|part| part.iter().any(is_name)).count() > 1 {
                let backwards = parts.iter().rev().map(|part| read(part).unwrap());
                prop_assert!(Zone::join(zone.apex(), backwards).is_err());
            }
            let lost = lost % kept.len();
            let is_cut = usize::from(kept[lost].1[0]) == kept[lost].0.len() && lost > 0;
            let below = |(key, _): &(Vec<u8>, Vec<u8>)| key.starts_with(&kept[lost].0);
            let hides = kept.get(lost + 1).is_some_and(below);
            if is_cut && hides {
                let (before, after) = (kept[..lost].to_vec(), kept[lost + 1..].to_vec());
                let parts = [read(&before).unwrap(), read(&after).unwrap()];
                prop_assert!(Zone::join(zone.apex(), parts).is_err());
            }
        }
    }
}
