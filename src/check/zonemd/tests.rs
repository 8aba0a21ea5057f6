use super::*;
use crate::name::NameBuf;
use crate::zone::file::{Limits, read_text};
use std::path::Path;

/// The examples of RFC 8976 appendix A, with their digests.
const EXAMPLES: [(&str, &str); 5] = [
    ("example.", include_str!("../../../tests/zones/zonemd/a1.zone")),
    ("example.", include_str!("../../../tests/zones/zonemd/a2.zone")),
    ("example.", include_str!("../../../tests/zones/zonemd/a3.zone")),
    ("uri.arpa.", include_str!("../../../tests/zones/zonemd/a4.zone")),
    ("root-servers.net.", include_str!("../../../tests/zones/zonemd/a5.zone")),
];

fn zone(apex: &str, text: &str) -> Zone {
    let apex: NameBuf = apex.parse().unwrap();
    let built = read_text(text.as_bytes(), Path::new("zone"), apex.as_name(), Limits::default());
    built.unwrap().build().unwrap()
}

/// What is found of an example after `from` is replaced by `to`.
#[track_caller]
fn changed(example: usize, from: &str, to: &str) -> Result<(), ZonemdError> {
    let (apex, text) = EXAMPLES[example];
    assert!(text.contains(from), "{from} is in the example");
    verify(&zone(apex, &text.replace(from, to)))
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[test]
fn the_examples_of_the_rfc_are_right() {
    for (apex, text) in EXAMPLES {
        assert_eq!(check(&zone(apex, text), Zonemd::Required), Ok(()), "{apex}");
    }
}

#[test]
fn sha_512_is_right_as_well() {
    let (apex, text) = EXAMPLES[2];
    let digest = hex(&digest::<Sha512>(&zone(apex, text)));
    assert!(digest.starts_with("08cfa1115c7b948c4163a901270395ea226a930cd2cbcf2f"), "{digest}");
    assert!(digest.ends_with("2e0cc4827e7a3204f166b47e5613fd27"), "{digest}");
    // With the first digest wrong, the second is enough.
    assert_eq!(changed(2, "62e6cf51b02e54b9", "62e6cf51b02e54b8"), Ok(()));
    let both = EXAMPLES[2].1.replace("62e6cf51b02e54b9", "62e6cf51b02e54b8");
    let both = both.replace("08cfa1115c7b948c", "08cfa1115c7b948d");
    assert_eq!(verify(&zone("example.", &both)), Err(ZonemdError::Mismatch));
}

#[test]
fn any_change_shows() {
    for (from, to) in [
        ("203.0.113.63", "203.0.113.64"),
        ("ns1           3600", "ns1           3601"),
        ("I'm occluded but", "I was occluded but"),
        ("sub           7200    IN  NS      ns1", "sub           7200    IN  NS      ns2"),
        ("616c6c6f77656420", "616c6c6f77656421"),
        ("ns2           3600", "ns3           3600"),
    ] {
        assert_eq!(changed(1, from, to), Err(ZonemdError::Mismatch), "{from} -> {to}");
    }
}

#[test]
fn order_and_case_of_names_do_not_matter() {
    assert_eq!(changed(1, "NS      ns1", "NS      NS1.Example."), Ok(()));
    let (apex, text) = EXAMPLES[4];
    let records: Vec<_> = text.lines().rev().filter(|line| line.starts_with(['k', 'l'])).collect();
    let rest = text.lines().filter(|line| !line.starts_with(['k', 'l']));
    let other = rest.chain(records).collect::<Vec<_>>().join("\n");
    let other = other.replace("m.root-servers.net.", "M.ROOT-Servers.net.");
    assert_eq!(verify(&zone(apex, &other)), Ok(()));
}

#[test]
fn signatures_over_the_digest_are_not_part_of_it_and_others_are() {
    let signature = |covered: &str| {
        let signature = format!(
            "@ 86400 RRSIG {covered} 8 1 86400 20300101000000 \
            20200101000000 1 example. AAAA\n"
        );
        verify(&zone("example.", &(EXAMPLES[0].1.to_owned() + &signature)))
    };
    assert_eq!(signature("ZONEMD"), Ok(()));
    assert_eq!(signature("NS"), Err(ZonemdError::Mismatch));
}

#[test]
fn a_record_of_another_serial_does_not_count() {
    let other = changed(0, "ZONEMD  2018031900", "ZONEMD  2018031901");
    assert_eq!(other, Err(ZonemdError::Serial));
}

#[test]
fn two_records_of_one_kind_do_not_count_and_another_kind_does() {
    let zeros = "00".repeat(48);
    let (apex, text) = EXAMPLES[0];
    let twice = format!("{text}@ 86400 ZONEMD 2018031900 1 1 {zeros}\n");
    assert_eq!(verify(&zone(apex, &twice)), Err(ZonemdError::Duplicate));
    let (apex, text) = EXAMPLES[2];
    let twice = format!("{text}@ 86400 ZONEMD 2018031900 1 1 {zeros}\n");
    assert_eq!(verify(&zone(apex, &twice)), Ok(()), "SHA-512 is there once and right");
}

#[test]
fn a_digest_of_another_length_than_its_algorithm_has_does_not_count() {
    assert_eq!(changed(0, "777f98b8e730044c", ""), Err(ZonemdError::Length));
}

#[test]
fn what_is_not_known_counts_as_absent() {
    let (apex, text) = EXAMPLES[0];
    let unknown_scheme = zone(apex, &text.replace("1900 1 1", "1900 240 1"));
    let unknown_hash = zone(apex, &text.replace("1900 1 1", "1900 1 240"));
    for zone in [&unknown_scheme, &unknown_hash] {
        assert_eq!(check(zone, Zonemd::Required), Err(ZonemdError::Unsupported));
        assert_eq!(check(zone, Zonemd::IfPresent), Ok(()));
    }
    let absent = zone("example.", "@ 60 SOA ns admin 1 1 1 1 1\n@ 60 NS ns\n");
    assert_eq!(check(&absent, Zonemd::Required), Err(ZonemdError::Missing));
    assert_eq!(check(&absent, Zonemd::IfPresent), Ok(()));
    let wrong = zone(apex, &text.replace("203.0.113.63", "203.0.113.64"));
    assert_eq!(check(&wrong, Zonemd::IfPresent), Err(ZonemdError::Mismatch));
    assert_eq!(check(&wrong, Zonemd::Off), Ok(()));
}

#[test]
fn data_too_short_for_a_digest_are_malformed() {
    let (apex, text) = EXAMPLES[0];
    let short = text.lines().filter(|line| !line.contains("ZONEMD")).collect::<Vec<_>>().join("\n");
    let short = format!("{short}\n@ 60 TYPE63 \\# 5 0000000001\n");
    assert_eq!(verify(&zone(apex, &short)), Err(ZonemdError::Malformed));
}

#[test]
fn owners_of_nsec3_records_are_in_their_place_among_the_others() {
    // Hashes lie between, before and behind ordinary names, and one is at such a name itself.
    let text = "@ 60 SOA ns admin 1 1 1 1 1\n@ 60 NS ns\nns 60 A 192.0.2.1\nzz 60 A 192.0.2.2\n\
        00000000000000000000000000000001 60 NSEC3 1 0 0 - 00000000000000000000000000000002 A\n\
        00000000000000000000000000000001 60 TXT \"both\"\n\
        p0000000000000000000000000000001 60 NSEC3 1 0 0 - 00000000000000000000000000000001 A\n";
    let zone = zone("example.", text);
    let keys: Vec<_> = Owners::of(&zone)
        .map(|owner| {
            let types: Vec<_> = owner.sets().map(|set| set.rtype().to_string()).collect();
            let name = owner.key.name(zone.apex()).unwrap().to_string();
            (name.chars().take(3).collect::<String>(), types.join(" "))
        })
        .collect();
    let expected =
        [("exa", "NS SOA"), ("000", "TXT NSEC3"), ("ns.", "A"), ("p00", "NSEC3"), ("zz.", "A")];
    assert_eq!(keys, expected.map(|(name, types)| (name.to_owned(), types.to_owned())));
}
