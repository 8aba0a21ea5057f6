//! Signed answers: from zones that `dnssec-signzone` signed.

use super::*;
use std::collections::BTreeSet;

const NSEC: &str = include_str!("../../../tests/zones/nsec.zone");
const NSEC3: &str = include_str!("../../../tests/zones/nsec3.zone");
const OPTOUT: &str = include_str!("../../../tests/zones/optout.zone");

fn view(text: &str) -> View {
    let mut view = View::default();
    view.put(served("signed.", Some(zone("signed.", text)), Access::default()));
    view
}

/// A reply's rcode and record sets, a line each: `+` stands for "with its signature".
fn sets(reply: &[u8]) -> String {
    let shown = show(reply);
    let mut lines = shown.lines();
    let head = lines.next().unwrap().to_owned();
    let mut sets: Vec<String> = Vec::new();
    let mut signed = BTreeSet::new();
    for line in lines.filter(|line| !line.ends_with("OPT")) {
        let words: Vec<&str> = line.split(' ').collect();
        if words[3] == "RRSIG" {
            signed.insert(format!("{} {} {}", words[0], words[1], words[4]));
        } else {
            let set = format!("{} {} {}", words[0], words[1], words[3]);
            if sets.last() != Some(&set) {
                sets.push(set);
            }
        }
    }
    for set in &mut sets {
        if signed.remove(set) {
            set.push('+');
        }
    }
    assert!(signed.is_empty(), "signatures without their records: {signed:?}");
    sets.insert(0, head);
    sets.join("\n")
}

#[track_caller]
fn expect_sets(view: &View, name: &'static str, rtype: Rtype, expected: &str) {
    let expected: Vec<&str> = expected.trim().lines().map(str::trim).collect();
    let shown = sets(&ask(name, rtype).signed().of(view));
    assert_eq!(shown, expected.join("\n"), "{name} {rtype}");
}

#[test]
fn signatures_come_with_what_they_cover_only_if_they_are_wanted() {
    let view = view(NSEC);
    expect_sets(&view, "www.signed", Rtype::A, "NOERROR AA\nan www.signed. A+");
    expect_sets(&view, "www.signed", Rtype::ANY, "NOERROR AA\nan www.signed. A+");
    expect_sets(
        &view,
        "signed",
        Rtype::MX,
        "
        NOERROR AA
        an signed. MX+
        ad mail.signed. A+",
    );
    for (name, rtype) in [("www.signed", Rtype::A), ("none.signed", Rtype::A)] {
        let reply = ask(name, rtype).edns(1232).of(&view);
        assert!(!show(&reply).contains("RRSIG") && !show(&reply).contains("NSEC"));
    }
    let signature = show(&ask("www.signed", Rtype::RRSIG).of(&view));
    assert!(signature.starts_with("NOERROR AA\nan www.signed. 60 RRSIG A 13 2 60 "), "{signature}");
    assert_eq!(signature.lines().count(), 2, "one set of them");
}

#[test]
fn the_signature_of_a_negative_answers_soa_has_its_ttl() {
    let shown = show(&ask("none.signed", Rtype::A).signed().of(&view(NSEC)));
    assert!(shown.contains("au signed. 300 SOA ") && shown.contains("au signed. 300 RRSIG SOA "));
}

#[test]
fn with_nsec_the_record_at_or_before_the_name_proves_what_is_said() {
    let view = view(NSEC);
    for (name, rtype, expected) in [
        ("www.signed", Rtype::MX, "NOERROR AA, au signed. SOA+, au www.signed. NSEC+"),
        ("c.signed", Rtype::A, "NOERROR AA, au signed. SOA+, au alias.signed. NSEC+"),
        (
            "none.signed",
            Rtype::A,
            "NXDOMAIN AA, au signed. SOA+, au www.new.signed. NSEC+, au signed. NSEC+",
        ),
        (
            "x.c.signed",
            Rtype::A,
            "NXDOMAIN AA, au signed. SOA+, au a.b.c.signed. NSEC+, au alias.signed. NSEC+",
        ),
        (
            "q.r.wild.signed",
            Rtype::A,
            "NOERROR AA, an q.r.wild.signed. A+, au *.wild.signed. NSEC+",
        ),
        // One record proves both: that the name is not there, and the wildcard's types.
        ("q.wild.signed", Rtype::MX, "NOERROR AA, au signed. SOA+, au *.wild.signed. NSEC+"),
        (
            "x.n.t.signed",
            Rtype::A,
            "NXDOMAIN AA, au signed. SOA+, au e.n.t.signed. NSEC+, au svc.signed. NSEC+",
        ),
    ] {
        expect_sets(&view, name, rtype, &expected.replace(", ", "\n"));
    }
}

#[test]
fn every_wildcard_that_a_chain_leads_through_is_proved() {
    expect_sets(
        &view(NSEC),
        "q.wtow.signed",
        Rtype::A,
        "
        NOERROR AA
        an q.wtow.signed. CNAME+
        an q.wild.signed. A+
        au *.wtow.signed. NSEC+
        au *.wild.signed. NSEC+",
    );
    expect_sets(
        &view(NSEC),
        "q.wnone.signed",
        Rtype::A,
        "
        NXDOMAIN AA
        an q.wnone.signed. CNAME+
        au signed. SOA+
        au *.wnone.signed. NSEC+
        au www.new.signed. NSEC+
        au signed. NSEC+",
    );
    // What a DNAME makes needs no signature, and has none.
    expect_sets(
        &view(NSEC),
        "x.old.signed",
        Rtype::A,
        "
        NXDOMAIN AA
        an old.signed. DNAME+
        an x.old.signed. CNAME
        au signed. SOA+
        au www.new.signed. NSEC+
        au mail.signed. NSEC+",
    );
}

#[test]
fn a_referral_is_secure_or_proved_not_to_be() {
    expect_sets(
        &view(NSEC),
        "x.secure.signed",
        Rtype::A,
        "
        NOERROR
        au secure.signed. NS
        au secure.signed. DS+
        ad ns.secure.signed. A",
    );
    expect_sets(&view(NSEC), "secure.signed", Rtype::DS, "NOERROR AA\nan secure.signed. DS+");
    expect_sets(
        &view(NSEC),
        "x.sub.signed",
        Rtype::A,
        "
        NOERROR
        au sub.signed. NS
        au sub.signed. NSEC+
        ad ns.sub.signed. A
        ad ns.sub.signed. AAAA
        ad ns1.signed. A+
        ad ns1.signed. AAAA+",
    );
    expect_sets(
        &view(NSEC),
        "sub.signed",
        Rtype::DS,
        "
        NOERROR AA
        au signed. SOA+
        au sub.signed. NSEC+",
    );
}

/// The hash of a name as RFC 5155 section 5 has it, in base32hex.
fn hash(of: &str, salt: &[u8], iterations: usize) -> String {
    use sha1::{Digest, Sha1};
    let mut hash = name(&of.to_lowercase()).as_name().as_wire().to_vec();
    for _ in 0..=iterations {
        hash = Sha1::digest([&hash, salt].concat()).to_vec();
    }
    domain::utils::base32::encode_string_hex(&hash).to_lowercase()
}

/// Does a reply's NSEC3 record show this fact: `at NAME` (it is the name's own), or `over NAME`
/// (the name's hash is within its span)?
fn shows(record: &str, fact: &str) -> bool {
    let words: Vec<&str> = record.split(' ').collect();
    let (iterations, salt) = (words[6].parse().unwrap(), words[7]);
    let salt: &[u8] = if salt == "-" { &[] } else { &[0xaa, 0xbb] };
    let (how, of) = fact.split_once(' ').unwrap();
    let (owner, next) = (&words[1][..32].to_lowercase(), &words[8].to_lowercase());
    let hash = &hash(of, salt, iterations);
    match how {
        "at" => hash == owner,
        _ if owner < next => owner < hash && hash < next,
        _ => hash > owner || hash < next,
    }
}

#[track_caller]
fn expect_facts(view: &View, name: &'static str, rtype: Rtype, head: &str, facts: &str) {
    let shown = show(&ask(name, rtype).signed().of(view));
    assert_eq!(shown.lines().next(), Some(head), "{name} {rtype}");
    let records: Vec<&str> =
        shown.lines().filter(|line| line.split(' ').nth(3) == Some("NSEC3")).collect();
    for fact in facts.split(", ") {
        assert!(records.iter().any(|record| shows(record, fact)), "{name} {rtype} {fact}\n{shown}");
    }
    for record in &records {
        assert!(facts.split(", ").any(|fact| shows(record, fact)), "not needed: {record}");
    }
    assert_eq!(shown.matches(" RRSIG NSEC3 ").count(), records.len(), "all are signed");
}

#[test]
fn with_nsec3_the_hashes_prove_what_is_said() {
    let view = view(NSEC3);
    let no_name = "NXDOMAIN AA";
    for (name, rtype, head, facts) in [
        ("www.signed", Rtype::MX, "NOERROR AA", "at www.signed"),
        ("WWW.signed", Rtype::MX, "NOERROR AA", "at www.signed"),
        ("b.c.signed", Rtype::A, "NOERROR AA", "at b.c.signed"),
        ("none.signed", Rtype::A, no_name, "at signed, over none.signed, over *.signed"),
        ("x.y.c.signed", Rtype::A, no_name, "at c.signed, over y.c.signed, over *.c.signed"),
        ("q.r.wild.signed", Rtype::A, "NOERROR AA", "over r.wild.signed"),
        (
            "q.wild.signed",
            Rtype::MX,
            "NOERROR AA",
            "at wild.signed, over q.wild.signed, at *.wild.signed",
        ),
        ("q.wtow.signed", Rtype::A, "NOERROR AA", "over q.wtow.signed, over q.wild.signed"),
        ("x.sub.signed", Rtype::A, "NOERROR", "at sub.signed"),
        ("sub.signed", Rtype::DS, "NOERROR AA", "at sub.signed"),
    ] {
        expect_facts(&view, name, rtype, head, facts);
    }
}

#[test]
fn what_opt_out_leaves_out_is_proved_by_its_closest_encloser() {
    let view = view(OPTOUT);
    for (name, rtype, head, facts) in [
        ("x.sub.signed", Rtype::A, "NOERROR", "at signed, over sub.signed"),
        ("sub.signed", Rtype::DS, "NOERROR AA", "at signed, over sub.signed"),
        ("x.e.n.t.signed", Rtype::A, "NOERROR", "at signed, over t.signed"),
        // An empty non-terminal that only leads to an unsigned delegation has no record either.
        ("n.t.signed", Rtype::A, "NOERROR AA", "at signed, over t.signed"),
        ("x.n.t.signed", Rtype::A, "NXDOMAIN AA", "at signed, over t.signed, over *.signed"),
        ("none.signed", Rtype::A, "NXDOMAIN AA", "at signed, over none.signed, over *.signed"),
    ] {
        expect_facts(&view, name, rtype, head, facts);
    }
}

/// While a chain is replaced, servers have both (RFC 5155 section 7.3 has the apex say which is
/// whole). Records of the other one were once sent where their hashes happened to lie nearer.
#[test]
fn of_two_chains_only_the_one_that_the_apex_names_proves() {
    let is_of_chain = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(3) == Some(&"NSEC3") || words.get(3..5) == Some(&["RRSIG", "NSEC3"])
    };
    for (text, other) in [(NSEC3, OPTOUT), (OPTOUT, NSEC3)] {
        let others: Vec<&str> = other.lines().filter(is_of_chain).collect();
        assert!(others.len() > 20);
        let (alone, both) = (view(text), view(&[text, &others.join("\n")].join("\n")));
        for name in ["none.signed", "x.y.c.signed", "b.c.signed", "q.wild.signed", "x.sub.signed"] {
            for rtype in [Rtype::A, Rtype::MX, Rtype::DS] {
                let ask = ask(name, rtype).signed();
                assert_eq!(show(&ask.of(&both)), show(&ask.of(&alone)), "{name} {rtype}");
            }
        }
        // Before the new chain is whole, the apex has NSEC and not yet a word of NSEC3.
        let other: Vec<&str> = NSEC.lines().chain(others).collect();
        let ask = ask("none.signed", Rtype::A).signed();
        assert_eq!(show(&ask.of(&view(&other.join("\n")))), show(&ask.of(&view(NSEC))));
    }
}

#[test]
fn a_proof_that_does_not_fit_means_tc() {
    let mut none = ask("none.signed", Rtype::A).signed();
    none.edns = Some((512, true));
    expect(&view(NSEC3), &none, "NXDOMAIN AA TC\nad OPT");
    let mut referral = ask("x.sub.signed", Rtype::A).signed();
    referral.edns = Some((512, true));
    let shown = sets(&referral.of(&view(NSEC)));
    assert!(shown.starts_with("NOERROR\nau sub.signed. NS\nau sub.signed. NSEC+\nad"), "{shown}");
}
