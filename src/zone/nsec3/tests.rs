//! Hashes, and what changes make of them.

use super::*;
use crate::name::NameBuf;
use crate::zone::{Builder, Diff, OutOfSync, Records};
use std::ops::ControlFlow;

const SALTED: &[u8] = &[1, 0, 0, 12, 4, 0xaa, 0xbb, 0xcc, 0xdd];

fn name(text: &str) -> NameBuf {
    text.parse().unwrap()
}

fn soa(serial: u8) -> [u8; 22] {
    let mut data = [0; 22];
    data[5] = serial;
    data
}

/// The data of a signature of such records.
fn signature(covered: Rtype) -> Vec<u8> {
    [&covered.0.to_be_bytes(), &[0; 18][..]].concat()
}

/// A zone with one text at each of these names.
fn zone(serial: u8, param: Option<&[u8]>, names: &[&str]) -> Zone {
    let apex = name("example");
    let mut builder = Builder::new(apex.as_name());
    let mut add = |owner: &str, rtype, data: &[u8]| {
        builder.add(name(owner).as_name(), Record { rtype, ttl: 1, data });
    };
    add("example", Rtype::SOA, &soa(serial));
    if let Some(data) = param {
        add("example", Rtype::NSEC3PARAM, data);
        add("example", Rtype::RRSIG, &signature(Rtype::NSEC3PARAM));
    }
    for owner in names {
        let is_cut = owner.starts_with("cut");
        add(owner, if is_cut { Rtype::NS } else { Rtype::TXT }, b"\0");
    }
    builder.build().unwrap()
}

/// Every hash is that of its name, every empty non-terminal is known, and nothing else is.
fn assert_right(zone: &Zone) {
    let mut anew = zone.clone();
    anew.hash_all();
    let all = |tree: &Tree| -> Vec<_> {
        tree.iter().map(|entry| (entry.key.to_key(), entry.blob.to_vec())).collect()
    };
    assert_eq!(all(&zone.names), all(&anew.names));
    assert_eq!(all(&zone.empties), all(&anew.empties));
    for entry in zone.names.iter() {
        let (key, node) = (entry.key.to_key(), Node::of(entry.blob));
        let occluded = node.cut() > 0 && node.cut() < key.len();
        assert_eq!(node.hash().is_some(), zone.nsec3().is_some() && !occluded, "{key:?}");
    }
}

#[test]
fn names_are_hashed_as_rfc_5155_shows() {
    let zone = zone(1, Some(SALTED), &[]);
    let nsec3 = zone.nsec3().unwrap();
    for (text, hash) in [
        ("example", "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom"),
        ("a.example", "35mthgpgcu1qg68fab165klnsnk3dpvl"),
        ("*.w.Example", "r53bq7cc2uvmubfu5ocmm6pers9tk9en"),
        ("2t7b4g4vsa5smi47k61mv5bv1a22bojr.example", "kohar7mbb8dc2ce8a9qvl8hon4k53uhi"),
    ] {
        let key = hash_key(&nsec3.hash(name(text).as_name()));
        assert!(key == Key::of(name(hash).as_name(), 0), "{text}");
    }
}

#[test]
fn a_name_of_any_length_is_hashed_like_any_octets() {
    for len in 0..200 {
        let (octets, salt) = (vec![7; len], vec![9; len / 3]);
        let whole: Hash = Sha1::digest([&octets[..], &salt].concat()).into();
        assert_eq!(sha1(&octets, &salt), whole, "{len}");
    }
}

#[test]
fn the_hashes_of_names_and_of_empty_names_are_known_from_the_beginning() {
    let names = ["a.b.c.example", "cut.example", "x.cut.example", "z.c.example"];
    let zone = zone(1, Some(SALTED), &names);
    assert_right(&zone);
    let empties: Vec<_> = zone.empties.iter().map(|entry| entry.key.to_key()).collect();
    assert_eq!(empties, ["c.example", "b.c.example"].map(|n| zone.key(name(n).as_name())));
    let mut kept: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let _ = zone.kept(None, &mut |key, blob| {
        kept.push((key.to_vec(), blob.to_vec()));
        ControlFlow::Continue(())
    });
    assert!(kept.iter().all(|(_, blob)| Node::check(blob)), "hashes are not kept");
    let again = Zone::restore(zone.apex(), kept).unwrap();
    assert_right(&again);
    assert_eq!(again.empties.len(), 2);
}

#[test]
fn every_change_leaves_the_hashes_right() {
    let other: &[u8] = &[1, 0, 0, 0, 0];
    let steps: [(Option<&[u8]>, &[&str]); 11] = [
        (None, &["a.example"]),
        (Some(SALTED), &["a.example"]),
        (Some(SALTED), &["a.example", "x.y.z.example"]),
        (Some(SALTED), &["a.example", "x.y.z.example", "y.z.example"]),
        (Some(SALTED), &["x.y.z.example", "q.a.example", "p.o.a.example"]),
        (Some(SALTED), &["q.a.example", "a.example"]),
        (Some(other), &["q.a.example", "b.cut.example", "cut.example"]),
        (Some(other), &["q.a.example", "b.cut.example"]),
        (Some(other), &["q.a.example", "b.cut.example", "cut.example", "c.d.cut.example"]),
        (Some(other), &[]),
        (None, &["b.c.example"]),
    ];
    let mut zones = (1..).zip(steps).map(|(serial, (param, names))| zone(serial, param, names));
    let mut now = zones.next().unwrap();
    for next in zones {
        now = now.apply(&Diff::between(&now, &next)).unwrap();
        assert_right(&now);
        assert_eq!(now.nsec3(), next.nsec3());
    }
}

#[test]
fn too_many_iterations_are_refused() {
    let build = |rtype, data: &[u8]| {
        let mut builder = Builder::new(name("example").as_name());
        let mut add = |owner: &str, rtype, data: &[u8]| {
            builder.add(name(owner).as_name(), Record { rtype, ttl: 1, data });
        };
        add("example", Rtype::SOA, &soa(1));
        add(if rtype == Rtype::NSEC3 { "0p9.example" } else { "example" }, rtype, data);
        builder.build().map(|zone| zone.records()).map_err(|error| error.to_string())
    };
    let told =
        Err("there is NSEC3 with 151 iterations; more than 150 are refused (RFC 9276)".to_owned());
    let record = [&[1, 1, 0, 151, 0, 20][..], &[7; 20]].concat();
    assert_eq!(build(Rtype::NSEC3PARAM, &[1, 0, 0, 151, 0]), told);
    assert_eq!(build(Rtype::NSEC3, &record), told);
    assert_eq!(build(Rtype::NSEC3PARAM, &[1, 0, 0, 150, 0]), Ok(2));
    assert_eq!(build(Rtype::NSEC3PARAM, &[1, 1, 0, 151, 0]), Ok(2), "it is not in use");

    let held = zone(1, None, &[]);
    let list = |serial, params: &[&[u8]]| {
        let mut list = Records::default();
        let apex = name("example");
        let mut add = |rtype, data: &[u8]| {
            list.push(apex.as_name(), Record { rtype, ttl: 1, data });
        };
        add(Rtype::SOA, &soa(serial));
        params.iter().for_each(|data| add(Rtype::NSEC3PARAM, data));
        list
    };
    let (from, added) = (held.serial(), list(2, &[&[1, 0, 1, 0, 0]]));
    let diff = Diff { from, to: crate::wire::Serial(2), removed: list(1, &[]), added };
    let refused = held.apply(&diff).map(|_| ()).unwrap_err();
    assert!(matches!(refused, OutOfSync::Broken(_)), "{refused}");
    assert_eq!(
        refused.to_string(),
        "after it there is NSEC3 with 256 iterations; more than 150 are refused (RFC 9276)"
    );
}
