use super::*;
use crate::name::NameBuf;
use crate::zone::file::{Limits, read_data, read_text};
use std::path::Path;

/// Made by dnssec-signzone; the signatures are good until 2045.
const NSEC: &str = include_str!("../../../tests/zones/nsec.zone");
const NSEC3: &str = include_str!("../../../tests/zones/nsec3.zone");
const OPTOUT: &str = include_str!("../../../tests/zones/optout.zone");
const ALL: [&str; 3] = [NSEC, NSEC3, OPTOUT];

/// 2026, and the days after and before the signatures.
const NOW: u32 = 1_780_000_000;
const AFTER: u32 = 2_366_841_600 + 86_400;
const BEFORE: u32 = 1_735_689_600 - 86_400;

fn built(text: &str) -> Zone {
    let apex: NameBuf = "signed.".parse().unwrap();
    let read = read_text(text.as_bytes(), Path::new("zone"), apex.as_name(), Limits::default());
    read.unwrap().build().unwrap()
}

/// The key of the zone itself as its anchor.
fn anchors(zone: &Zone) -> Vec<Anchor> {
    let key = zone.apex_node().find(Rtype::DNSKEY).unwrap().first();
    vec![Anchor::of(Rtype::DNSKEY, key).unwrap()]
}

fn checked(text: &str, now_s: u32) -> Result<(), DnssecError> {
    let zone = built(text);
    check(&zone, &anchors(&zone), None, now_s)
}

/// What is found of a zone without the lines that `gone` is true for, as a whole and as a change of
/// the whole one, which must agree.
#[track_caller]
fn without(text: &str, gone: impl Fn(&str) -> bool) -> Result<(), DnssecError> {
    let lines: Vec<_> = text.lines().filter(|line| !gone(line)).collect();
    assert!(lines.len() < text.lines().count(), "something is gone");
    changed(text, &lines.join("\n"))
}

#[track_caller]
fn changed(text: &str, after: &str) -> Result<(), DnssecError> {
    let (old, new) = (built(text), built(after));
    let diff = Diff::between(&old, &new);
    let whole = check(&new, &anchors(&old), None, NOW);
    let step = check(&new, &anchors(&old), Some((&old, &[&diff])), NOW);
    assert_eq!(step.is_err(), whole.is_err(), "{step:?}, {whole:?}");
    step
}

fn owner_and_type(line: &str) -> (&str, &str) {
    let mut words = line.split_whitespace();
    let owner = words.next().unwrap_or_default();
    (owner, words.nth(2).unwrap_or_default())
}

#[test]
fn zones_that_bind_signed_are_good_for_as_long_as_their_signatures() {
    for text in ALL {
        assert_eq!(checked(text, NOW), Ok(()));
        let fault = |now| match checked(text, now) {
            Err(DnssecError::Signature(_, Rtype::DNSKEY, fault)) => fault,
            other => panic!("{other:?}"),
        };
        assert_eq!((fault(AFTER), fault(BEFORE)), (Fault::Expired, Fault::NotYet));
    }
}

#[test]
fn a_digest_of_the_key_is_an_anchor_as_well_and_another_key_is_none() {
    let zone = built(NSEC);
    let key = zone.apex_node().find(Rtype::DNSKEY).unwrap().first();
    let owner = b"\x06signed\0";
    let digest = {
        use sha2::{Digest, Sha256};
        Sha256::new().chain_update(owner).chain_update(key).finalize()
    };
    let ds = |tag: u16, kind: u8| {
        let data = [&tag.to_be_bytes()[..], &[13, kind], &digest].concat();
        Anchor::of(Rtype::DS, &data)
    };
    let check = |anchor: Anchor| check(&zone, &[anchor], None, NOW);
    assert_eq!(check(ds(43871, 2).unwrap()), Ok(()));
    assert_eq!(check(ds(43872, 2).unwrap()), Err(DnssecError::NoAnchor), "another tag");
    assert_eq!(check(ds(43871, 1).unwrap()), Err(DnssecError::NoAnchor), "another digest");
    assert_eq!(ds(43871, 3), None, "a digest that is not known");
    let other = built(NSEC3).apex_node().find(Rtype::DNSKEY).unwrap().first().to_vec();
    if other != key {
        let other = Anchor::of(Rtype::DNSKEY, &other).unwrap();
        assert_eq!(check(other), Err(DnssecError::NoAnchor));
    }
    let (rtype, data) = read_data("DS 43871 13 2 ( 00112233 44556677 )").unwrap();
    assert!(Anchor::of(rtype, &data).is_some());
    let (rtype, data) = read_data("A 192.0.2.1").unwrap();
    assert_eq!(Anchor::of(rtype, &data), None);
}

#[test]
fn every_record_that_goes_missing_is_noticed_unless_nobody_could_know() {
    for text in ALL {
        let zone = built(text);
        let apex = zone.apex();
        let mut kept = 0;
        for line in text.lines().filter(|line| line.contains(" IN ")) {
            let (owner, rtype) = owner_and_type(line);
            if rtype == "SOA" || line.contains("RRSIG") && line.contains("SOA ") {
                continue;
            }
            let name: NameBuf = owner.parse().unwrap();
            let key = zone.key(name.as_name());
            let standing =
                zone.node(&key).map_or(Standing::Inside, |node| Standing::of(&key, node));
            let result = without(text, |other| other == line);
            // Glue, and what is below a cut, is not signed. Of an NS set at a cut, the type is.
            let free = standing == Standing::Occluded
                || standing == Standing::Cut && !matches!(rtype, "DS" | "NSEC" | "RRSIG");
            match result {
                Ok(()) => {
                    assert!(free, "{apex}: nobody noticed that this is gone: {line}");
                    kept += 1;
                }
                Err(_) => {
                    let last_ns = standing == Standing::Cut && rtype == "NS";
                    assert!(!free || last_ns, "{apex}: this may go: {line}");
                }
            }
        }
        assert!(kept > 0);
    }
}

#[test]
fn a_record_that_was_changed_or_added_is_noticed() {
    for text in ALL {
        let line = text.lines().find(|line| owner_and_type(line) == ("www.signed.", "A"));
        let line = line.or_else(|| text.lines().find(|line| owner_and_type(line).1 == "A"));
        let line = line.unwrap();
        let other = line.rsplit_once(char::is_whitespace).unwrap().0.to_owned() + " 192.0.2.250";
        let (owner, _) = owner_and_type(line);
        match changed(text, &text.replace(line, &other)) {
            Err(DnssecError::Signature(name, Rtype::A, Fault::Wrong)) => assert_eq!(name, owner),
            Ok(()) => assert!(!owner.contains("ns1.signed"), "glue: {line}"),
            found => panic!("{found:?}: {line}"),
        }
        let new = format!("{text}\nnew.signed. 60 IN A 192.0.2.1\n");
        let unsigned = DnssecError::Unsigned("new.signed.".into(), Rtype::A);
        assert_eq!(changed(text, &new), Err(unsigned));
        let more = format!("{text}\nsigned. 3600 IN TXT \"more\"\n");
        let unsigned = DnssecError::Unsigned("signed.".into(), Rtype::TXT);
        assert_eq!(changed(text, &more), Err(unsigned));
        let other_ttl = format!("{text}\nwww.signed. 60 IN TXT \"x\"\n");
        assert!(changed(text, &other_ttl).is_err());
    }
}

#[test]
fn unsigned_delegations_may_come_and_go_where_opt_out_says_so_only() {
    for (text, allowed) in [(NSEC, false), (NSEC3, false), (OPTOUT, true)] {
        let new = format!(
            "{text}\nfresh.signed. 60 IN NS ns.fresh.signed.\n\
            ns.fresh.signed. 60 IN A 192.0.2.1\na.b.signed. 60 IN NS ns.elsewhere.\n"
        );
        assert_eq!(changed(text, &new).is_ok(), allowed);
        let back = built(&new);
        let old = built(text);
        let diff = Diff::between(&back, &old);
        let gone = check(&old, &anchors(&old), Some((&back, &[&diff])), NOW);
        assert_eq!(gone, Ok(()), "what is left is as it was");
    }
}

#[test]
fn a_cut_that_hides_names_makes_their_proofs_wrong() {
    for text in [NSEC, NSEC3] {
        // Everything below it is the zone's no more, but still proven to be.
        let owners = text.lines().map(|line| owner_and_type(line).0);
        let deep = owners.filter(|owner| owner.split('.').count() > 4).find(|owner| {
            let above: Vec<_> = owner.split('.').skip(1).collect();
            !text.lines().any(|line| {
                let (owner, rtype) = owner_and_type(line);
                rtype == "NS" && owner != "signed." && above.join(".").ends_with(owner)
            })
        });
        let Some(deep) = deep else { continue };
        let above = deep.split_once('.').unwrap().1;
        let cut = format!("{text}\n{above} 60 IN NS ns.elsewhere.\n");
        assert!(changed(text, &cut).is_err(), "{above}");
    }
}

#[test]
fn the_set_that_is_first_without_a_signature_is_known_and_what_stands_in_for_another() {
    for text in ALL {
        let ending = Ending::of(&built(text)).unwrap();
        assert_eq!(ending.at.0, AFTER - 86_400, "all end then");
        let is_mails = |line: &&str| line.starts_with("mail.signed.") && line.contains("RRSIG\tA ");
        let line = text.lines().find(is_mails).unwrap();
        let earlier = line.replace(" 20450101000000 ", " 20440101000000 ");
        assert_ne!(line, earlier, "{line}");
        let instead = built(&text.replace(line, &earlier));
        let first = Ending::of(&instead).unwrap();
        assert_eq!((first.owner.as_str(), first.rtype), ("mail.signed.", Rtype::A));
        assert!(ending.at.is_after(first.at) && first.at.is_after(first.near()));
        let beside = built(&format!("{text}\n{earlier}\n"));
        assert_eq!(Ending::of(&beside).unwrap().at, ending.at, "the other one still holds");
        let diff = Diff::between(&built(text), &instead);
        assert!(ending.is_after_any_of(&diff) && !first.is_after_any_of(&diff));
    }
    let unsigned = "@ 60 SOA ns admin 1 1 1 1 1\n@ 60 NS ns\n";
    assert_eq!(Ending::of(&built(unsigned)), None);
}
