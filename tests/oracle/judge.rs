//! Is a reply what was expected? Record sets are compared as sets; what a server may leave out
//! for want of room, or add, is allowed for.

use crate::model::message::{Question, Record, Reply, name_text, type_text};
use crate::model::zone::*;
use crate::resolver::{Answered, Expected, World, targets};
use std::collections::BTreeSet;

const AA: u16 = 0x0400;
pub(crate) const TC: u16 = 0x0200;

/// So many aliases every server follows (the peers: 5 to 18).
const LINKS_SURE: usize = 5;

/// What is the same for all replies.
pub(crate) fn check_header(question: &Question, reply: &Reply) -> Result<(), String> {
    let limit = limit(question);
    let message = question.message();
    let asked = &message[12..12 + question.name.len() + 4];
    if reply.question != asked {
        return Err(format!("the question came back as {:02x?}", reply.question));
    }
    // QR set, RD copied, and CD to who wants signatures, the rest (opcode, RA, Z, AD) zero.
    let copied = if question.edns.is_some_and(|edns| edns.2) { 0x0110 } else { 0x0100 };
    let fixed = 0x8000 | question.flags & copied;
    if reply.flags & !(AA | TC | 15) != fixed {
        return Err(format!("flags {:04x}", reply.flags));
    }
    if question.edns.is_some() != reply.edns.is_some() {
        return Err("OPT must be there if and only if it was asked with".into());
    }
    if let (Some(asked), Some(told)) = (question.edns, reply.edns)
        && (told.1 != 0 || told.0 < 512 || told.2 != asked.2)
    {
        return Err(format!("the OPT record says {told:?}"));
    }
    if reply.len > limit {
        return Err(format!("{} octets, {limit} are allowed", reply.len));
    }
    Ok(())
}

/// The longest reply that this question allows, the server's own limit being 1232.
fn limit(question: &Question) -> usize {
    match question.edns {
        _ if question.tcp => 65535,
        Some((size, ..)) => usize::from(size).clamp(512, 1232),
        None => 512,
    }
}

/// Compares.
pub(crate) fn check(
    world: &World,
    question: &Question,
    expected: &Expected,
    reply: &Reply,
    whole: &Reply,
) -> Result<(), String> {
    let [answer, authority, additional] = &reply.sections;
    let sets = [sets(answer)?, sets(authority)?, sets(additional)?];
    let (sets, dnssec) = apart(expected, sets);
    let done = match reply.has(TC) {
        true => check_truncated(question, expected, reply, whole),
        false => check_whole(world, question, expected, reply, &sets)
            .and_then(|()| check_dnssec(world, question, expected, &sets, &dnssec)),
    };
    let long = expected.links > LINKS_SURE && is_beginning(expected, reply, &sets[0]);
    match done {
        Err(what) if !long => Err(format!("{what}\n  expected {expected:?}\n")),
        _ => Ok(()),
    }
}

/// Nothing required is left out.
fn check_whole(
    world: &World,
    question: &Question,
    expected: &Expected,
    reply: &Reply,
    sets: &[Vec<Answered>; 3],
) -> Result<(), String> {
    if (reply.rcode, reply.has(AA)) != (expected.rcode, expected.aa) {
        return Err(format!("rcode {}, AA {}", reply.rcode, reply.has(AA)));
    }
    check_answer(expected, &sets[0])?;
    same_sets("authority", &expected.authority, &sets[1])?;
    check_additional(world, question, expected, sets)
}

/// Takes out of the sections what is there for DNSSEC's sake: signatures of other sets, and the
/// NSEC and NSEC3 records of the authority section.
fn apart(
    expected: &Expected,
    mut sets: [Vec<Answered>; 3],
) -> ([Vec<Answered>; 3], [Vec<Answered>; 3]) {
    let mut dnssec: [Vec<Answered>; 3] = Default::default();
    for (at, section) in sets.iter_mut().enumerate() {
        let is_extra = |set: &mut Answered| {
            let proof = at == 1 && [NSEC, NSEC3].contains(&set.rtype);
            proof || (set.rtype == RRSIG && !(at == 0 && expected.any_of.contains(set)))
        };
        dnssec[at] = section.extract_if(.., is_extra).collect();
    }
    (sets, dnssec)
}

/// Every signature that there is beside what it covers, and none without; and proof for what the
/// reply claims (RFC 4035 section 3.1, RFC 5155 section 7.2).
fn check_dnssec(
    world: &World,
    question: &Question,
    expected: &Expected,
    sets: &[Vec<Answered>; 3],
    dnssec: &[Vec<Answered>; 3],
) -> Result<(), String> {
    if !question.edns.is_some_and(|(_, _, dnssec)| dnssec) {
        return match dnssec.iter().all(Vec::is_empty) {
            true => Ok(()),
            false => Err(format!("DNSSEC records without DO: {dnssec:?}")),
        };
    }
    let (proofs, signatures): (Vec<_>, Vec<_>) =
        dnssec[1].iter().cloned().partition(|set| set.rtype != RRSIG);
    for proof in &proofs {
        let owned = |zone: &&Model| stored(zone, proof).is_some();
        if !world.zones.iter().any(|zone| owned(&zone)) {
            return Err(format!("a proof that no zone has: {proof:?}"));
        }
    }
    let of = |wanted: &[Answered]| wanted.to_vec();
    let answer = [of(&expected.answer), of(&expected.any_of)].concat();
    let with_proofs: Vec<Answered> = proofs
        .iter()
        .map(|proof| {
            let signatures = world.zones.iter().find_map(|zone| stored(zone, proof));
            Answered { signatures: signatures.flatten(), ..proof.clone() }
        })
        .collect();
    let authority = [of(&expected.authority), with_proofs].concat();
    let shown = |all: &[Answered], there: &[Answered]| {
        all.iter().filter(|set| there.contains(set)).cloned().collect::<Vec<_>>()
    };
    let there = [&sets[1][..], &proofs].concat();
    check_signatures("answer", &shown(&answer, &sets[0]), &dnssec[0])?;
    check_signatures("authority", &shown(&authority, &there), &signatures)?;
    let missing = expected.claims.iter().find(|claim| !crate::proof::shows(&proofs, claim));
    missing.map_or(Ok(()), |claim| Err(format!("not shown: {claim:?}\n  by {proofs:?}")))
}

/// If the zone has this NSEC or NSEC3 set: its signatures.
fn stored(zone: &Model, proof: &Answered) -> Option<Option<Set>> {
    let set = match proof.rtype {
        NSEC => zone.names.get(&proof.owner).and_then(|node| node.get(&NSEC)),
        _ => zone.hashes.get(&proof.owner),
    };
    let found = set.is_some_and(|set| *set == proof.set);
    found.then(|| zone.signatures.get(&(proof.owner.clone(), proof.rtype)).cloned())
}

fn check_signatures(
    section: &str,
    sets: &[Answered],
    signatures: &[Answered],
) -> Result<(), String> {
    let mut wanted = 0;
    for set in sets {
        let Some(expected) = &set.signatures else { continue };
        wanted += 1;
        let found = signatures.iter().find(|found| {
            (&found.owner, found.covered) == (&set.owner, set.rtype)
                && found.set.data == expected.data
                && [expected.ttl, set.set.ttl].contains(&found.set.ttl)
        });
        if found.is_none() {
            return Err(format!("{section}: the signature of {set:?} is missing"));
        }
    }
    match wanted == signatures.len() {
        true => Ok(()),
        false => Err(format!("{section}: signatures of nothing that is there: {signatures:?}")),
    }
}

fn check_answer(expected: &Expected, answer: &[Answered]) -> Result<(), String> {
    let chain = expected.answer.len();
    if answer.len() < chain || answer[..chain] != expected.answer {
        return Err("the answer section differs".into());
    }
    let rest = &answer[chain..];
    if expected.any_of.is_empty() != rest.is_empty() {
        return Err("too much or nothing in the answer section".into());
    }
    match rest.iter().all(|set| expected.any_of.contains(set)) {
        true => Ok(()),
        false => Err("an answer to ANY that is not the zone's".into()),
    }
}

fn same_sets(section: &str, expected: &[Answered], found: &[Answered]) -> Result<(), String> {
    let same = expected.len() == found.len() && expected.iter().all(|set| found.contains(set));
    if same { Ok(()) } else { Err(format!("the {section} section differs")) }
}

fn check_additional(
    world: &World,
    question: &Question,
    expected: &Expected,
    sets: &[Vec<Answered>; 3],
) -> Result<(), String> {
    let wanted = expected.wanted.iter().filter(|_| question.tcp);
    for set in expected.glue.iter().chain(wanted) {
        if !sets[2].contains(set) {
            let (owner, rtype) = (name_text(&wire(&set.owner)), type_text(set.rtype));
            return Err(format!("{owner} {rtype} is missing in the additional section"));
        }
    }
    let named: Vec<Labels> =
        sets[0].iter().chain(&sets[1]).flat_map(|set| targets(set.rtype, &set.set)).collect();
    for set in &sets[2] {
        if !named.contains(&set.owner) || !world.addresses(&set.owner).contains(set) {
            return Err(format!("{set:?} does not belong in the additional section"));
        }
    }
    Ok(())
}

/// TC is set only where the whole does not fit, and what is there is part of the whole. What is
/// cut off in the middle of a chain need not know how that ends.
fn check_truncated(
    question: &Question,
    expected: &Expected,
    reply: &Reply,
    whole: &Reply,
) -> Result<(), String> {
    let limit = limit(question);
    if question.tcp || whole.len <= limit {
        return Err(format!("TC, though the whole has {} of {limit} octets", whole.len));
    }
    let unknown = !expected.answer.is_empty() && reply.rcode == 0;
    if (reply.rcode != expected.rcode && !unknown) || reply.has(AA) != expected.aa {
        return Err(format!("rcode {}, AA {}", reply.rcode, reply.has(AA)));
    }
    let mut parts = reply.sections.iter().zip(&whole.sections);
    match parts.all(|(part, whole)| part.iter().all(|record| whole.contains(record))) {
        true => Ok(()),
        false => Err("the truncated reply is no part of the whole one".into()),
    }
}

/// Of a chain longer than all servers follow: is this the beginning of it?
fn is_beginning(expected: &Expected, reply: &Reply, answer: &[Answered]) -> bool {
    let links = answer.iter().filter(|set| set.rtype == CNAME).count();
    let enough = links >= LINKS_SURE || reply.has(TC);
    reply.rcode == 0 && reply.has(AA) && enough && expected.answer.starts_with(answer)
}

/// The sets of a section, in the order that they begin in.
fn sets(section: &[Record]) -> Result<Vec<Answered>, String> {
    let mut sets: Vec<Answered> = Vec::new();
    for record in section {
        let owner = labels(&record.owner).0;
        let covered = match (record.rtype, &record.data[..]) {
            (RRSIG, [high, low, ..]) => u16::from_be_bytes([*high, *low]),
            _ => 0,
        };
        let key = (&owner, record.rtype, covered);
        let found = sets.iter().position(|set| (&set.owner, set.rtype, set.covered) == key);
        let at = found.unwrap_or_else(|| {
            let set = Set { ttl: record.ttl, data: BTreeSet::new() };
            sets.push(Answered { covered, ..Answered::new(&owner, record.rtype, &set) });
            sets.len() - 1
        });
        let set = &mut sets[at].set;
        if set.ttl != record.ttl {
            return Err(format!("two TTLs in one set: {record:?}"));
        }
        if !set.data.insert(record.data.clone()) {
            return Err(format!("twice in one section: {record:?}"));
        }
    }
    Ok(sets)
}
