//! The same questions to a peer and to Backstop, which has the zone from that peer.
//!
//! Compared are the response code, AA and the answer section with every peer; the authority and
//! additional sections with those that aim at what we do (Knot, NSD). Where a peer differs as a
//! rule, [`exception`] says so and why.

use std::{collections::BTreeSet, net::SocketAddr};

use super::{PATIENCE, random::Random, zones};
use crate::common::{
    backstop::Backstop,
    dns::{self, Ask, Edns, Reply, wait_for_serial},
    peers::{Kind, Peer, Setup, ZoneSetup},
    sign::{Denial, sign},
    skip::require,
    transfer::transfer,
};

const QUESTIONS: usize = 1000;
/// How many differences are shown.
const SHOWN: usize = 12;

const TYPES: [&str; 23] = [
    "A",
    "A",
    "A",
    "AAAA",
    "NS",
    "NS",
    "CNAME",
    "SOA",
    "MX",
    "TXT",
    "SRV",
    "DNAME",
    "DS",
    "CAA",
    "HTTPS",
    "SVCB",
    "HINFO",
    "NAPTR",
    "TLSA",
    "PTR",
    "SSHFP",
    "TYPE65280",
    "TYPE65281",
];

/// Owners and types of the records in a zone of [`zones::rich`].
fn records(zone: &str) -> Vec<(String, String)> {
    let text = zones::rich(zone);
    let record = |line: &str| {
        let mut words = line.split(' ').filter(|word| word.parse::<u32>().is_err());
        let (owner, rtype) = (words.next()?, words.next()?);
        let owner = if owner == "@" { zone.to_owned() } else { format!("{owner}.{zone}") };
        // Many of one kind are there to make the zone large.
        let is_filler = owner.starts_with("host-");
        (!line.starts_with('$') && !is_filler).then(|| (owner, rtype.to_owned()))
    };
    let records: BTreeSet<_> = text.lines().filter_map(record).collect();
    records.into_iter().collect()
}

/// A name that is there, above one, below one, beside one, or made by a wildcard; a type, often
/// one that is there.
fn random_question(
    records: &[(String, String)],
    zone: &str,
    random: &mut Random,
) -> (String, String) {
    let (owner, there) = random.pick(records).clone();
    let label = *random.pick(&["x", "0", "zzz", "www", "nothing-here", "*", "_tcp"]);
    let above = owner.split_once('.').expect("a final dot").1;
    let inside = |name: String| if name.ends_with(zone) { name } else { zone.to_owned() };
    let name = match random.below(10) {
        0..4 => owner.clone(),
        4 => inside(above.to_owned()),
        5 | 6 => format!("{label}.{owner}"),
        7 => format!("y.{label}.{owner}"),
        _ => inside(format!("{label}.{above}")),
    };
    let rtype = if random.chance(50) { there } else { (*random.pick(&TYPES)).to_owned() };
    (name, rtype)
}

/// One question to both, over TCP if either reply does not fit a datagram.
fn ask_both(servers: [SocketAddr; 2], ask: &Ask) -> [Reply; 2] {
    let replies = servers.map(|server| dns::udp(server, ask).expect("a reply"));
    if replies.iter().any(|reply| reply.flags.contains("TC")) {
        return servers.map(|server| dns::tcp(server, ask).expect("a reply over TCP"));
    }
    replies
}

/// What is compared; the replies are [peer's, ours].
#[derive(Clone, Copy)]
struct Compared {
    authority: bool,
    additional: bool,
}

fn difference(kind: Kind, [theirs, ours]: &[Reply; 2], compared: Compared) -> Option<String> {
    let aa = |reply: &Reply| reply.flags.contains("AA");
    let parts = [
        ("rcode", theirs.rcode == ours.rcode),
        ("AA", aa(theirs) == aa(ours)),
        ("answer", theirs.answer == ours.answer),
        ("authority", !compared.authority || theirs.authority == ours.authority),
        ("additional", !compared.additional || theirs.additional == ours.additional),
    ];
    let differs: Vec<_> = parts.iter().filter(|(_, same)| !same).map(|(part, _)| *part).collect();
    if differs.is_empty() {
        return None;
    }
    Some(format!("{}\n--- {kind:?}:\n{theirs}--- Backstop:\n{ours}", differs.join(", ")))
}

/// Asks `QUESTIONS` random questions about `zone` and tells the differences.
fn compare(kind: Kind, servers: [SocketAddr; 2], zone: &str, dnssec: bool, compared: Compared) {
    let mut random = Random::new(zone.len() as u64);
    let records = records(zone);
    let (mut wrong, mut excepted) = (Vec::new(), 0);
    for _ in 0..QUESTIONS {
        let (name, rtype) = random_question(&records, zone, &mut random);
        let ask = Ask::new(&name, &rtype).edns(Edns { dnssec_ok: dnssec, ..Edns::default() });
        let replies = ask_both(servers, &ask);
        let Some(what) = difference(kind, &replies, compared) else { continue };
        if exception(kind, &name, &replies).is_some() {
            excepted += 1;
        } else {
            wrong.push(format!("{name} {rtype}: {what}"));
        }
    }
    wrong.sort_by_key(String::len);
    let shown = wrong.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} replies differ\n{shown}", wrong.len());
    assert!(excepted * 4 < QUESTIONS, "{excepted} exceptions: nothing is compared any more");
}

/// Why the peer's reply may differ from ours in this way, if it may.
fn exception(kind: Kind, name: &str, [theirs, ours]: &[Reply; 2]) -> Option<&'static str> {
    let of_type = |lines: &[String], rtype: &str| -> usize {
        lines.iter().filter(|line| line.split(' ').nth(3) == Some(rtype)).count()
    };
    let within = |some: &[String], all: &[String]| some.iter().all(|line| all.contains(line));
    let only_proofs_more = |fewer: &[String], more: &[String]| {
        let is_proof = |line: &&String| line.contains(" NSEC") || line.contains(" RRSIG NSEC");
        within(fewer, more)
            && more.iter().filter(|line| !fewer.contains(line)).all(|l| is_proof(&l))
    };
    let same_answer = theirs.answer == ours.answer;
    let same_head = same_answer && theirs.rcode == ours.rcode;
    let same_authority = theirs.authority == ours.authority;
    match kind {
        Kind::Knot
            if of_type(&theirs.answer, "CNAME") == 5
                && of_type(&ours.answer, "CNAME") > 5
                && within(&theirs.answer, &ours.answer) =>
        {
            Some("Knot follows 5 aliases and says NOERROR then; we follow 16")
        }
        Kind::Bind | Kind::Pdns
            if is_loop(&ours.answer)
                && theirs.rcode == "SERVFAIL"
                && ours.rcode == "NOERROR"
                && (same_answer || theirs.answer.is_empty()) =>
        {
            Some("to aliases in a circle they say SERVFAIL; we, Knot and NSD give the circle")
        }
        Kind::Nsd
            if same_head
                && same_authority
                && !theirs.answer.is_empty()
                && theirs.additional.is_empty() =>
        {
            Some("with minimal-responses NSD gives addresses with referrals only")
        }
        Kind::Nsd
            if same_head
                && ours.rcode == "NOERROR"
                && name.starts_with("*.")
                && only_proofs_more(&ours.authority, &theirs.authority) =>
        {
            Some(
                "NSD treats NODATA at a wildcard's own name as expanded, and proves more than \
                 RFC 5155 section 7.2.3 asks for",
            )
        }
        Kind::Nsd
            if same_head
                && ours.rcode == "NXDOMAIN"
                && of_type(&ours.answer, "DNAME") == 1
                && only_proofs_more(&theirs.authority, &ours.authority) =>
        {
            Some("NSD 4.6 proves that the wildcard is missing where a DNAME leads, not the name")
        }
        _ => None,
    }
}

/// Whether these are CNAME records whose targets are their owners.
fn is_loop(answer: &[String]) -> bool {
    let words = |at: usize| -> BTreeSet<&str> {
        answer.iter().filter_map(|line| line.split(' ').nth(at)).collect()
    };
    !answer.is_empty() && words(3) == BTreeSet::from(["CNAME"]) && words(0) == words(4)
}

fn agrees(kind: Kind) {
    let zone = "rich.test.";
    let peer = Peer::start(kind, &Setup::of([ZoneSetup::primary(zone, &zones::rich(zone))]));
    let backstop = Backstop::start(&Setup::of([ZoneSetup::secondary(zone, peer.addr())]));
    wait_for_serial(backstop.addr(), zone, 1, PATIENCE);
    let [theirs, ours] = [peer.addr(), backstop.addr()].map(|addr| transfer(addr, zone, None));
    assert_eq!(theirs.expect("AXFR from the peer"), ours.expect("AXFR from Backstop"));
    let all = matches!(kind, Kind::Knot | Kind::Nsd);
    let compared = Compared { authority: all, additional: all };
    compare(kind, [peer.addr(), backstop.addr()], zone, false, compared);
}

each! { agrees:
    a_thousand_questions_are_answered_as_bind_does(Bind),
    a_thousand_questions_are_answered_as_knot_does(Knot),
    a_thousand_questions_are_answered_as_nsd_does(Nsd),
    a_thousand_questions_are_answered_as_powerdns_does(Pdns),
}

fn agrees_on_signed(kind: Kind, denial: Denial, zone: &str) {
    let signed = sign(zone, &zones::rich(zone), denial);
    let peer = Peer::start(kind, &Setup::of([ZoneSetup::primary(zone, &signed.text)]));
    let backstop = Backstop::start(&Setup::of([ZoneSetup::secondary(zone, peer.addr())]));
    wait_for_serial(backstop.addr(), zone, 1, PATIENCE);
    let compared = Compared { authority: true, additional: false };
    compare(kind, [peer.addr(), backstop.addr()], zone, true, compared);
}

fn agrees_on_nsec(kind: Kind) {
    require!(Bind);
    agrees_on_signed(kind, Denial::Nsec, "nsec.test.");
}

fn agrees_on_nsec3(kind: Kind) {
    require!(Bind);
    agrees_on_signed(kind, Denial::Nsec3, "nsec3.test.");
}

fn agrees_on_opt_out(kind: Kind) {
    require!(Bind);
    agrees_on_signed(kind, Denial::Nsec3OptOut, "optout.test.");
}

each! { agrees_on_nsec:
    proofs_by_nsec_are_those_of_knot(Knot),
    proofs_by_nsec_are_those_of_nsd(Nsd),
}

each! { agrees_on_nsec3:
    proofs_by_nsec3_are_those_of_knot(Knot),
    proofs_by_nsec3_are_those_of_nsd(Nsd),
}

each! { agrees_on_opt_out:
    proofs_by_nsec3_with_opt_out_are_those_of_knot(Knot),
    proofs_by_nsec3_with_opt_out_are_those_of_nsd(Nsd),
}
