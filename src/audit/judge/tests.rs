use super::*;
use crate::audit::client::Peer;
use crate::audit::content::{Sum, Whole};
use crate::audit::observe::{Server, Told};
use crate::wire::{Rcode, Rtype};
use crate::zone::Soa;
use std::time::Duration;

fn name(text: &str) -> NameBuf {
    text.parse().unwrap()
}

fn names(text: &str) -> BTreeSet<NameBuf> {
    text.split_whitespace().map(name).collect()
}

fn told(serial: u32) -> Result<Told, Fault> {
    let soa =
        Soa { serial: Serial(serial), refresh: 1, retry: 1, expire: 1000, minimum: 1, ttl: 1 };
    Ok(Told { soa, took: Duration::from_millis(1) })
}

/// A server `ns{number}.` at 192.0.2.{number} that has `serial`, in full health.
fn server(number: u8, serial: u32) -> Observation {
    let peer = Peer { address: ([192, 0, 2, number], 53).into(), source: None, key: None };
    let names = names(&format!("ns{number}."));
    Observation {
        server: Server { names, role: Role::Server, independent: false, peer },
        udp: told(serial),
        tcp: told(serial),
        edns: Edns::Works,
        nsid: None,
        expire_s: None,
        recursive: false,
        name_servers: Some(self::names("ns1. ns2.")),
        whole: None,
        samples: Vec::new(),
    }
}

fn primary(number: u8, serial: u32) -> Observation {
    let mut one = server(number, serial);
    one.server.role = Role::Primary;
    one.server.names.clear();
    one
}

fn found(servers: impl IntoIterator<Item = Observation>) -> Findings {
    Findings {
        zone: name("example."),
        servers: servers.into_iter().collect(),
        delegation: None,
        resolved: BTreeMap::new(),
        unresolved: None,
        samples: Vec::new(),
    }
}

/// The exit code, and each finding: its grade, the last octet of its server's address, what it is.
fn judged(found: &Findings) -> (u8, Vec<String>) {
    let verdict = judge(found);
    let line = |finding: &Finding| {
        let of = finding.server.map(|at| match at.ip() {
            IpAddr::V4(ip) => format!("{} ", ip.octets()[3]),
            IpAddr::V6(_) => unreachable!("none is made here"),
        });
        format!("{:?} {}{}", finding.grade, of.unwrap_or_default(), finding.what)
    };
    (verdict.exit_code(), verdict.findings.iter().map(line).collect())
}

#[track_caller]
fn assert_judged(found: &Findings, code: u8, lines: &[&str]) {
    let (exit_code, findings) = judged(found);
    assert_eq!(findings, lines);
    assert_eq!(exit_code, code);
}

#[test]
fn servers_that_agree_give_no_finding() {
    let found = found([server(1, 7), server(2, 7), primary(9, 7)]);
    assert_judged(&found, 0, &[]);
    assert_eq!(judge(&found).newest, Some(Serial(7)));
}

#[test]
fn lag_is_counted_in_serial_arithmetic() {
    let wrapped = found([server(1, 1), server(2, u32::MAX)]);
    assert_judged(&wrapped, 3, &["Lag 2 serial 4294967295 is 2 behind 1"]);
    assert_eq!(judge(&wrapped).newest, Some(Serial(1)));
}

#[test]
fn serials_that_do_not_compare_are_a_conflict() {
    let opposite = found([server(1, 0), server(2, 1 << 31)]);
    let line = "Data serials do not compare (RFC 1982): 0, 2147483648";
    assert_judged(&opposite, 6, &[line]);
    // Each is after one and before another.
    let circle = found([server(1, 0), server(2, 1_500_000_000), server(3, 3_000_000_000)]);
    assert_eq!(judge(&circle).newest, None);
    assert_eq!(judged(&circle).0, 6);
}

#[test]
fn a_primary_below_all_that_is_served_is_a_conflict() {
    let found = found([server(1, 9), server(2, 9), primary(9, 7)]);
    let (code, findings) = judged(&found);
    assert_eq!(code, 6);
    assert!(findings[0].starts_with("Data the primary's serial is lower than 9"), "{findings:?}");
    assert_eq!(findings[1], "Lag 9 serial 7 is 2 behind 9");
}

#[test]
fn of_several_primaries_one_may_be_behind() {
    let found = found([server(1, 9), server(2, 9), primary(8, 9), primary(9, 7)]);
    assert_judged(&found, 3, &["Lag 9 serial 7 is 2 behind 9"]);
}

#[test]
fn the_serials_of_an_independent_primary_are_not_compared() {
    let mut independent = primary(9, 4_000_000_000);
    independent.server.independent = true;
    assert_judged(&found([server(1, 7), server(2, 7), independent.clone()]), 0, &[]);
    assert_judged(&found([independent]), 0, &["Note of the NS set, not asked by name: ns1., ns2."]);
}

#[test]
fn how_a_server_fails_is_told_by_transport() {
    let mut no_tcp = server(1, 7);
    no_tcp.tcp = Err(Fault::TimedOut(Duration::from_secs(3)));
    let mut refuses = server(2, 7);
    refuses.udp = Err(Fault::Rcode(Rcode::REFUSED));
    refuses.tcp = refuses.udp.clone();
    refuses.name_servers = None;
    let lines = ["Service 1 over TCP: no answer within 3s", "Service 2 it answers REFUSED"];
    assert_judged(&found([no_tcp, refuses]), 5, &lines);
}

#[test]
fn an_address_that_this_host_has_no_way_to_is_no_fault_of_the_server() {
    let mut away = server(2, 7);
    (away.udp, away.tcp) = (Err(Fault::NoWay), Err(Fault::NoWay));
    away.name_servers = None;
    let found = found([server(1, 7), away]);
    assert_judged(&found, 0, &["Note 2 not asked: this host has no way there"]);
}

#[test]
fn nobody_that_answers_is_the_worst() {
    let mut lame = server(1, 7);
    (lame.udp, lame.tcp) = (Err(Fault::Lame), Err(Fault::Lame));
    lame.name_servers = None;
    let (code, findings) = judged(&found([lame]));
    assert_eq!(code, 7);
    assert_eq!(findings[0], "Silence no server answers for the zone");
    assert!(findings[1].starts_with("Service 1 it answers without authority (lame)"));
}

#[test]
fn edns_is_judged_by_how_it_fails() {
    for (edns, code, words) in [
        (Edns::Absent, 0, "Note 2 it has no EDNS"),
        (Edns::Broken, 5, "Service 2 it answers without EDNS only"),
        (Edns::BrokenByOptions, 5, "Service 2 it does not answer questions with EDNS options"),
    ] {
        let one = Observation { edns, ..server(2, 7) };
        let (found_code, findings) = judged(&found([server(1, 7), one]));
        assert_eq!(found_code, code);
        assert!(findings.len() == 1 && findings[0].starts_with(words), "{findings:?}");
    }
}

#[test]
fn a_copy_that_is_about_to_expire_is_told() {
    let healthy = Observation { expire_s: Some(999), ..server(1, 7) };
    let ending = Observation { expire_s: Some(99), ..server(2, 7) };
    let line = "Lag 2 its copy expires in 99 s of 1000: it has not reached its primary for long";
    assert_judged(&found([healthy, ending]), 3, &[line]);
}

fn with_whole(mut one: Observation, unsigned: u8, digest: u8) -> Observation {
    let sum = |octet| Sum([octet; 32]);
    one.whole = Some(Whole { digest: sum(digest), unsigned: sum(unsigned), records: 10 });
    one
}

#[test]
fn who_differs_is_who_differs_from_the_primary_or_from_most() {
    let most = found([
        with_whole(server(1, 7), 1, 1),
        with_whole(server(2, 7), 2, 2),
        with_whole(server(3, 7), 2, 2),
    ]);
    let line = "Data 1 not the data of 192.0.2.2:53 under the same serial 7: a digest of the \
                whole zone differs (10 and 10 records)";
    assert!(judged(&most).1.contains(&line.to_owned()), "{:?}", judged(&most));
    let against_primary = found([
        with_whole(primary(9, 7), 1, 1),
        with_whole(server(2, 7), 2, 2),
        with_whole(server(3, 7), 2, 2),
    ]);
    let (code, findings) = judged(&against_primary);
    assert_eq!(code, 6);
    let differing = findings.iter().filter(|line| line.contains("not the data of 192.0.2.9:53"));
    assert_eq!(differing.count(), 2, "{findings:?}");
}

#[test]
fn an_independent_primary_with_other_data_by_the_same_number_is_no_fault() {
    let mut own = primary(1, 5);
    own.server.independent = true;
    let others = [with_whole(primary(2, 5), 2, 2), with_whole(server(3, 5), 2, 2)];
    let all = found([vec![with_whole(own, 1, 1)], others.to_vec()].concat());
    let (code, lines) = judged(&all);
    let differing: Vec<_> = lines.iter().filter(|line| line.contains("the same serial")).collect();
    assert_eq!((code, differing.len()), (0, 1), "{lines:?}");
    assert!(differing[0].starts_with("Note 1 not the data of 192.0.2.2:53"), "{lines:?}");
    // Between those that share a history it is.
    let mut all = all;
    all.servers[2] = with_whole(server(3, 5), 3, 3);
    assert_eq!(judged(&all).0, 6);
}

/// One that answers nothing differs from nobody: it must not be what the others are compared with.
#[test]
fn who_answers_no_samples_hides_no_difference() {
    let sample = |mut one: Observation, sums: &[Option<u64>]| {
        one.samples = sums.to_vec();
        one
    };
    for silent in [primary(1, 7), server(1, 7)] {
        let mut all = found([
            sample(silent, &[None, None]),
            sample(server(2, 7), &[Some(1), None]),
            sample(server(3, 7), &[Some(1), Some(2)]),
            sample(server(4, 7), &[Some(1), Some(2)]),
            sample(server(5, 7), &[Some(1), Some(9)]),
        ]);
        let zone: NameBuf = name("example.");
        let sampled = |rtype| Sample { name: zone.clone(), rtype };
        all.samples = vec![sampled(Rtype::SOA), sampled(Rtype::MX)];
        let (code, lines) = judged(&all);
        let differing: Vec<_> = lines.iter().filter(|line| line.starts_with("Data")).collect();
        assert_eq!((code, differing.len()), (6, 1), "{lines:?}");
        assert!(differing[0].starts_with("Data 5 not the data of 192.0.2.3:53"), "{lines:?}");
    }
}

#[test]
fn other_signatures_alone_are_called_so() {
    let found = found([with_whole(server(1, 7), 1, 1), with_whole(server(2, 7), 1, 2)]);
    let (code, findings) = judged(&found);
    assert_eq!(code, 6);
    assert!(findings[0].ends_with("the signatures differ, nothing else"), "{findings:?}");
}

#[test]
fn versions_of_other_serials_are_not_compared() {
    let found = found([with_whole(server(1, 7), 1, 1), with_whole(server(2, 8), 2, 2)]);
    assert_judged(&found, 3, &["Lag 1 serial 7 is 1 behind 8"]);
}

#[test]
fn a_sample_that_was_not_answered_is_no_difference() {
    let sample = |text| Sample { name: name(text), rtype: Rtype::A };
    let mut all = found([server(1, 7), server(2, 7)]);
    all.samples = vec![sample("a.example."), sample("b.example."), sample("c.example.")];
    all.servers[0].samples = vec![Some(1), Some(2), Some(3)];
    all.servers[1].samples = vec![Some(1), None, Some(3)];
    assert_judged(&all, 0, &[]);
    all.servers[1].samples = vec![Some(9), None, Some(8)];
    let (code, findings) = judged(&all);
    assert_eq!(code, 6);
    let words = "it answers differently to a.example. A, c.example. A";
    assert!(findings[0].ends_with(words), "{findings:?}");
}

#[test]
fn ns_sets_of_one_version_must_agree() {
    let mut other = server(2, 7);
    other.name_servers = Some(names("ns1. ns3."));
    let all = found([server(1, 7), other.clone()]);
    let lines = ["NameServers 2 another NS set than the others': without ns2.; with ns3. besides"];
    assert_judged(&all, 4, &lines);
    // An older version may have had another.
    other.udp = told(6);
    other.tcp = told(6);
    assert_judged(&found([server(1, 7), other]), 3, &["Lag 2 serial 6 is 1 behind 7"]);
}

#[test]
fn the_parent_is_compared_with_the_zone_its_glue_included() {
    let mut all = found([server(1, 7), server(2, 7)]);
    all.zone = name("example.");
    let inside = name("ns1.example.");
    for one in &mut all.servers {
        one.name_servers = Some([inside.clone()].into());
        one.server.names = [inside.clone()].into();
    }
    let addresses = |last| BTreeSet::from([IpAddr::from([192, 0, 2, last])]);
    all.resolved.insert(inside.clone(), Ok(addresses(1)));
    let glue = BTreeMap::from([(inside.clone(), addresses(1))]);
    all.delegation = Some(Delegation { server: None, names: [inside.clone()].into(), glue });
    assert_judged(&all, 0, &[]);
    all.delegation.as_mut().unwrap().glue.insert(inside, addresses(2));
    all.delegation.as_mut().unwrap().names.insert(name("old."));
    let lines = [
        "NameServers the parent has another NS set than the zone: with old. besides",
        "NameServers the parent's glue for ns1.example. is 192.0.2.2, the zone has 192.0.2.1",
        "Note of the NS set, not asked by name: old.",
    ];
    assert_judged(&all, 4, &lines);
}

#[test]
fn names_that_lead_nowhere_and_names_that_do_not_belong_are_told() {
    let mut all = found([server(1, 7), server(3, 7)]);
    all.resolved.insert(name("ns1."), Ok([IpAddr::from([192, 0, 2, 1])].into()));
    all.resolved.insert(name("ns2."), Err(Fault::Rcode(Rcode::SERVFAIL)));
    let lines = [
        "NameServers ns2. cannot be resolved: it answers SERVFAIL",
        "Note 3 not in the NS set: ns3.",
    ];
    assert_judged(&all, 4, &lines);
}
