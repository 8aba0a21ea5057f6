//! Zone files read and written.

use super::*;
use crate::zone::{At, BuildError, Found};

fn name(text: &str) -> NameBuf {
    text.parse().unwrap()
}

fn example(text: &str) -> Result<Builder, FileError> {
    let apex = name("example");
    read_text(text.as_bytes(), Path::new("example.zone"), apex.as_name(), Limits::default())
}

fn zone(text: &str) -> Zone {
    example(text).unwrap_or_else(|error| panic!("{error}")).build().unwrap()
}

fn written(zone: &Zone) -> String {
    let mut out = Vec::new();
    write(zone, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

const HEAD: &str = "$TTL 1h\n@ SOA ns hostmaster 1 1h 10m 1w 5m\n";

#[test]
fn a_zone_file_with_every_liberty_of_rfc_1035_is_read() {
    let zone = zone(
        "; a comment\n\
         $TTL 1h30m\n\
         @ IN SOA ns hostmaster.example. ( 7 ; serial\n\
            1d 2h ; refresh, retry\n\
            1w\n\
            300 )\n\
         \tNS ns\n\
         \t60 IN NS ns.other.\n\
         $ORIGIN sub.example.\n\
         Host in 5 a 192.0.2.1\n\
         $ORIGIN deeper\n\
         a\\.b A 192.0.2.2\r\n\
         \\065\\032c TXT \"two words\" one \"\" \"q\\\"\" \\;\n\
         @ MX 10 @\n",
    );
    assert_eq!(
        written(&zone),
        "example. 5400 IN SOA ns.example. hostmaster.example. 7 86400 7200 604800 300\n\
         example. 60 IN NS ns.other.\n\
         example. 60 IN NS ns.example.\n\
         deeper.sub.example. 5400 IN MX 10 deeper.sub.example.\n\
         a\\032c.deeper.sub.example. 5400 IN TXT \"two words\" \"one\" \"\" \"q\\\"\" \";\"\n\
         a\\.b.deeper.sub.example. 5400 IN A 192.0.2.2\n\
         host.sub.example. 5 IN A 192.0.2.1\n"
    );
}

/// A zone with every type whose text form is known, here or to the domain crate, and some more.
const EVERY_TYPE: &str = r#"
$TTL 300
@ SOA ns hostmaster 1 2 3 4 5
@ NS ns
ns A 192.0.2.1
ns AAAA 2001:db8::1
*.wild TXT "a" "b c" "\200\"\\;"
_sip._tcp SRV 1 2 5060 ns
alias CNAME ns
old DNAME new
mx MX 10 ns
host PTR ns
host HINFO "PC" "Linux \"x\""
host RP hostmaster txt
host AFSDB 1 ns
host RT 2 ns
host KX 3 ns
host PX 4 ns mx
host LP 5 ns
host NAPTR 100 10 "u" "E2U+sip" "!^.*$!sip:info@example.com!" .
host LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m
host CERT PKIX 12345 8 AQIDBA==
host APL 1:192.168.32.0/21 !1:192.168.38.0/28 2:2001:db8::/32
host URI 10 1 "ftp://ftp1.example.com/public;x=\"1\""
host SSHFP 4 2 123456789abcdef67890123456789abcdef67890123456789abcdef123456789
host TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
host SMIMEA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
host CAA 0 issue "ca.example; policy=ev"
host SPF "v=spf1 -all"
host OPENPGPKEY AQIDBAUGBwg=
host DHCID AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA=
host SVCB 1 foo alpn="h2,h3" port=8443 ipv4hint=192.0.2.7 key667="hello"
host HTTPS 1 . alpn=h2
svc SVCB 16 ns alpn="f\\\\oo\\,bar,h2" mandatory=ipv4hint,alpn ipv4hint=192.0.2.1,192.0.2.2
svc2 HTTPS 1 . alpn=h2 no-default-alpn ech=AQID ipv6hint=2001:db8::1,2001:db8::2 dohpath=/q{?dns}
svc3 SVCB 0 ns
host IPSECKEY 10 1 2 192.0.2.38 AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ==
host2 IPSECKEY 10 3 2 ns AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ==
host ZONEMD 1 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
host CDS 60485 8 2 D4B7D520E7BB5F0F67674A0CCEB1E3E0614B93C4F9E99B8383F6A1E4469DA50A
host X25 "311061700956"
host ISDN "150862028003217" "004"
host NSAP 0x47.0005.80.005a00.0000.0001.e133.ffffff000161.00
host GPOS "-32.6882" "116.8652" "10.0"
host NINFO "a" "b"
host TALINK alias host
host CSYNC 66 3 A NS AAAA
host DSYNC CDS NOTIFY 5300 ns
host NID 10 0014:4fff:ff20:ee64
host L32 10 10.1.2.0
host L64 10 2001:0db8:1140:1000
host EUI48 00-00-5e-00-53-2a
host EUI64 00-00-5e-ef-10-00-00-2a
host AVC "app-name:x" "y"
host RESINFO "qnamemin" "exterr=15-17"
host WALLET "coin" "address"
host TA 60485 8 2 D4B7D520E7BB5F0F67674A0CCEB1E3E0614B93C4F9E99B8383F6A1E4469DA50A
host DLV 60485 8 2 D4B7D520E7BB5F0F67674A0CCEB1E3E0614B93C4F9E99B8383F6A1E4469DA50A
host EID e32c6f78163a9348
host NIMLOC 3251222d2e2f
host SIG TXT RSASHA1 2 300 20300101000000 20200101000000 8 @ AQIDBA==
host SINK 1 0 0 AQIDBA==
host HIP 2 200100107B1A74DF365639CC39F1D578 AQIDBAUG rvs1 rvs2.other.
host AMTRELAY 0 0 0 .
host AMTRELAY 10 0 1 203.0.113.15
host AMTRELAY 10 1 2 2001:db8::15
host AMTRELAY 128 1 3 relay
host RKEY 0 3 RSASHA1 AQIDBA==
host HHIT AQIDBA==
host BRID AQIDBA==
host DOA 1 2 3 "text/plain" AQIDBA==
host TYPE65280 \# 3 010203
host TYPE65281 \# 0
host3 A \# 4 c0000203
cut NS ns.cut
cut DS 60485 8 2 D4B7D520E7BB5F0F67674A0CCEB1E3E0614B93C4F9E99B8383F6A1E4469DA50A
ns.cut A 192.0.2.4
@ DNSKEY 256 3 8 AwEAAcw5QLr0IjC0wKbGoBPQv4qmeqHy9mvL5qGQTuaG5TSrNqEAR6b/qvxDx6my4JmEmjUPA1JeEI9YfTUieMr2UZflu7aIbZFLw0vqiYrywCGrCHXLalOrEOmrvAxLvq4vHtuTlH7JIszzYBSes8g1vle6KG7xXiP3U5Ll96Qiu6bZ
@ NSEC3PARAM 1 0 0 -
@ CDNSKEY 0 3 0 AA==
@ RRSIG SOA 8 1 300 20300101000000 20200101000000 12345 example. AQIDBA==
@ NSEC a SOA NS RRSIG NSEC DNSKEY TYPE65280
0p9mhaveqvm6t7vbl5lop2u3t2rp3tom NSEC3 1 1 12 aabbccdd 2t7b4g4vsa5smi47k61mv5bv1a22bojr MX DNSKEY NS SOA NSEC3PARAM RRSIG
0p9mhaveqvm6t7vbl5lop2u3t2rp3tom RRSIG NSEC3 8 2 300 20300101000000 20200101000000 12345 example. AQIDBA==
\000\255\.\@.esc TXT \000\255
"#;

#[test]
fn what_is_written_reads_back_as_the_same_zone() {
    let zone = zone(EVERY_TYPE);
    let text = written(&zone);
    let again = self::zone(&text);
    assert_eq!(written(&again), text);
    assert!(crate::zone::Diff::between(&zone, &again).records() == 2, "only the SOA's two sides");
    assert_eq!(zone.records(), 83);
    // Types that other servers print in their own form are not hidden in the generic one.
    let generic: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("\\#"))
        .map(|line| line.split(' ').nth(3).unwrap())
        .collect();
    let rare = [
        19, 20, 22, 24, 26, 27, 31, 32, 40, 55, 56, 57, 58, 66, 67, 68, 258, 259, 260, 260, 260,
        260, 261, 262, 32768, 32769, 65280, 65281,
    ];
    assert_eq!(generic, rare.map(|number| format!("TYPE{number}")));
}

#[test]
fn other_servers_load_what_is_written_and_see_the_same_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let ours = folder.path().join("ours");
    std::fs::write(&ours, written(&zone(EVERY_TYPE))).unwrap();
    let ours = ours.to_str().unwrap();
    ask(&["kzonecheck", "--dnssec", "off", "-o", "example", ours]);
    ask(&["nsd-checkzone", "example", ours]);
    let theirs = folder.path().join("theirs");
    // What BIND does not know yet is written for it as we write it.
    let newer = |line: &&str| !NEW_TO_BIND.iter().any(|new| line.contains(new));
    let known: Vec<&str> = EVERY_TYPE.lines().filter(newer).collect();
    let text = std::fs::read_to_string(ours).unwrap();
    let new = |line: &&str| [" TYPE6", " TYPE26"].iter().any(|rtype| line.contains(rtype));
    let rest = text.lines().filter(new).filter(|line| !line.contains(" TYPE6528"));
    let text = [&["$ORIGIN example."], &known[..], &rest.collect::<Vec<_>>()].concat().join("\n");
    std::fs::write(&theirs, text + "\n").unwrap();
    let bind = ["named-checkzone", "-q", "-i", "none", "-k", "ignore", "-D", "example"];
    let dump = |file: &str| ask(&[&bind[..], &[file]].concat());
    assert_eq!(dump(ours), dump(theirs.to_str().unwrap()));
}

const NEW_TO_BIND: [&str; 5] = ["DSYNC", "HHIT", "BRID", "RESINFO", "WALLET"];

/// What the command says; nothing if it is not installed.
fn ask(command: &[&str]) -> Option<String> {
    let Ok(output) = std::process::Command::new(command[0]).args(&command[1..]).output() else {
        eprintln!("SKIPPED: {} is not installed; nothing was checked with it", command[0]);
        return None;
    };
    let said = String::from_utf8_lossy(&output.stdout).to_lowercase();
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}{wrong}");
    Some(said)
}

#[test]
fn loc_and_apl_have_the_octets_that_their_rfcs_give() {
    let zone = zone(EVERY_TYPE);
    let node = zone.node(&zone.key(name("host.example").as_name())).unwrap();
    let hex = |rtype| {
        let data = node.find(rtype).unwrap().first();
        data.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    assert_eq!(hex(Rtype::LOC), "000016138b3cf018810cbce0009895b8");
    assert_eq!(hex(Rtype::APL), "000115 03c0a820 00011c83c0a826 0002200420010db8".replace(' ', ""));
    assert_eq!(hex(Rtype::CERT), "000130390801020304");
}

/// As RFC 9460 appendix D has them, and what peers do not know by name.
#[test]
fn services_have_the_octets_of_rfc_9460_and_are_written_for_peers_of_any_age() {
    let zone = zone(&format!(
        "{HEAD}a SVCB 16 foo mandatory=ipv4hint,alpn alpn=h2,h3-19 ipv4hint=192.0.2.1\n\
         b SVCB 16 foo alpn=f\\\\\\092oo\\092,bar,h2\n\
         c SVCB 1 foo ipv6hint=2001:db8::1,2001:db8::53:1\n\
         d SVCB 1 . alpn=h2 dohpath=\"/q{{?dns}}\" ohttp docpath=n,s tls-supported-groups=29,23\n",
    ));
    let data = |owner: &str| {
        let node = zone.node(&zone.key(name(owner).as_name())).unwrap();
        node.find(Rtype::SVCB).unwrap().first()[2..].to_vec()
    };
    let foo = b"\x03foo\x07example\0";
    let a = b"\0\0\0\x04\0\x01\0\x04\0\x01\0\x09\x02h2\x05h3-19\0\x04\0\x04\xc0\0\x02\x01";
    assert_eq!(data("a.example"), [&foo[..], a].concat());
    let b = b"\0\x01\0\x0c\x08f\\oo,bar\x02h2";
    assert_eq!(data("b.example"), [&foo[..], b].concat());
    let lines = written(&zone);
    assert!(lines.contains("SVCB 1 foo.example. ipv6hint=2001:db8::1,2001:db8::53:1\n"), "{lines}");
    let rare = "key7=\"/q{?dns}\" key8 key9=\"\\000\\029\\000\\023\" key10=\"\\001n\\001s\"\n";
    assert!(lines.contains(rare), "{lines}");
}

/// A line after the head, and what is said of it, with the number of its line.
const MISTAKES: &[(&str, &str)] = &[
    ("www", "4: the record has no type"),
    ("\n\nwww A 192.0.2", "6: A: "),
    ("www A", "4: A: unexpected end of entry"),
    ("www A 192.0.2.1 x", "4: A: there is more on the line than its data"),
    ("www BOGUS x", "4: BOGUS is no record type"),
    ("www CH TXT x", "4: only class IN is served"),
    ("www AXFR x", "4: AXFR is a type of questions, not of data"),
    ("www 3000000000 A 1.2.3.4", "4: a TTL is at most 2147483647 seconds, 3000000000 is more"),
    ("www 1x A 1.2.3.4", "4: 1x is no TTL"),
    ("a..b A 1.2.3.4", "4: a..b: a label is empty: remove the extra dot"),
    ("www MX 10 (\n\nns", "4: `(` is never closed by `)`"),
    ("www A 1.2.3.4 )", "4: `)` without `(`"),
    ("www TXT \"abc\nx A 1.2.3.4", "4: a text is not closed: its `\"` is missing on this line"),
    ("www A \\# 5 01020304", "4: \\# says 5 octets, there are 4"),
    ("www A \\# 3 010203", "4: these are no data of an A record"),
    ("www A6 64 ::1 ns", "4: A6 has no text form here: write \\# LENGTH HEX (RFC 3597)"),
    ("www AMTRELAY 10 2 1 192.0.2.1", "4: AMTRELAY: 2 has not the form that is wanted here"),
    (
        "www AMTRELAY 10 0 2 192.0.2.1",
        "4: AMTRELAY: 192.0.2.1 has not the form that is wanted here",
    ),
    ("www HIP 1 2 3", "4: HIP: 2 has not the form that is wanted here"),
    ("www TXT \"a\\256b\"", "4: a backslash and a digit begin three digits up to 255"),
    ("www TXT \"a\\01\"", "4: a backslash and a digit begin three digits up to 255"),
    ("w\\9 A 1.2.3.4", "4: a backslash and a digit begin three digits up to 255"),
    ("www CERT 1 2 3", "4: the data are not complete"),
    ("www TLSA 3 1 1", "4: the data are not complete"),
    ("www DHCID", "4: the data are not complete"),
    ("www OPENPGPKEY", "4: the data are not complete"),
    ("www NSAP 0x", "4: the number has no digits"),
    ("www DNSKEY 256 3 RSASHA9 AQID", "4: DNSKEY: expected SecurityAlgorithm"),
    (
        "www RRSIG A 8 1 60 21060207062816 20200101000000 1 @ AQID",
        "4: 21060207062816 is more than 32 bits of seconds since 1970",
    ),
    ("www LOC 1 N 1 E 0m 90000000.01m", "4: LOC: a size is out of range"),
    ("www SVCB 1", "4: the priority or the target is missing"),
    ("www SVCB 1 . alpn=h2 alpn=h3", "4: alpn is there twice"),
    ("www SVCB 1 . alpn=h2,", "4: alpn: a value is empty"),
    ("www SVCB 1 . alpn", "4: alpn: a value is empty"),
    ("www SVCB 1 . alpn=a\\\\b", "4: alpn: in a list a backslash stands before , or another one"),
    ("www SVCB 1 . mandatory=port", "4: port is mandatory, but not there"),
    ("www SVCB 1 . mandatory=alpn,alpn alpn=h2", "4: mandatory cannot have this value"),
    ("www SVCB 1 . mandatory=mandatory", "4: mandatory cannot have this value"),
    ("www SVCB 1 . port=65536", "4: port: the port has not the form that is wanted here"),
    ("www SVCB 1 . ipv4hint=192.0.2.1,", "4: ipv4hint:  has not the form"),
    ("www SVCB 1 . ech", "4: ech cannot have this value"),
    ("www SVCB 1 . no-default-alpn=h2", "4: no-default-alpn cannot have this value"),
    ("www SVCB 1 . key3=\"x\"", "4: key3 cannot have this value"),
    ("www SVCB 1 . key03=\"xx\"", "4: key03 is no parameter"),
    ("www SVCB 1 . dohpath", "4: dohpath cannot have this value"),
    ("www EUI48 00-00-5e-00-53", "4: 00-00-5e-00-53 has not the form that is wanted here"),
    ("www DSYNC CDS x 5300 ns", "4: x is no number"),
    ("$FOO x", "4: $FOO is not known: $ORIGIN, $TTL, $INCLUDE, $GENERATE"),
    ("$TTL", "4: $TTL needs one value"),
    ("$GENERATE 1-x a$ A 1.2.3.4", "4: $GENERATE needs a range: 1-10/2"),
    ("www LOC 91 N 0 E 0m", "4: LOC: 91 is out of place"),
    ("www APL 1:1.2.3.4/33", "4: APL: 1:1.2.3.4/33 is no [!]afi:address/prefix"),
];

#[test]
fn every_mistake_is_told_with_its_line() {
    for (text, expected) in MISTAKES {
        let error = example(&format!("{HEAD}{}{text}", "\n")).err();
        let error = error.unwrap_or_else(|| panic!("{text:?} was read")).to_string();
        assert!(error.starts_with(&format!("example.zone:{expected}")), "{text:?}: {error}");
    }
    let long = example(&format!("{HEAD}www TXT \"{}\"", "x".repeat(300))).err().unwrap();
    assert_eq!(
        long.to_string(),
        "example.zone:3: a text has 255 octets at most, not 300: split it into several, each in \
         quotes"
    );
    let error = example("www A 192.0.2.1").err().unwrap().to_string();
    assert_eq!(
        error,
        "example.zone:1: there is no TTL: write `$TTL 1h` (or another) at the top of the file"
    );
    assert_eq!(
        example("\t60 A 192.0.2.1").err().unwrap().to_string(),
        "example.zone:1: the first record has no owner"
    );
}

#[test]
fn an_alias_is_alone_but_for_what_dnssec_adds() {
    for (text, expected) in [
        ("www CNAME a\nwww A 192.0.2.1", Some("www.example. has a CNAME record beside others")),
        ("www CNAME a\nwww CNAME b", Some("www.example. has more than one CNAME record")),
        ("@ CNAME a", Some("example. has a CNAME record beside others")),
        ("www DNAME a\nwww DNAME b", Some("www.example. has more than one DNAME record")),
        ("www CNAME a\nwww DNAME b", Some("www.example. has a CNAME record beside others")),
        ("www CNAME a\nwww CNAME a\nother A 192.0.2.1", None),
        (
            "www CNAME a\nwww NSEC x CNAME RRSIG NSEC\n\
             www RRSIG CNAME 8 2 60 20300101000000 20200101000000 1 @ AQID",
            None,
        ),
        ("www DNAME a\nwww A 192.0.2.1", None),
    ] {
        assert_eq!(crowded(&zone(&format!("{HEAD}{text}\n"))).as_deref(), expected, "{text}");
    }
}

#[test]
fn no_text_makes_the_reader_panic_or_read_for_ever() {
    let mut state = 7_u64;
    let mut random = |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    for _ in 0..3000 {
        let mut text = EVERY_TYPE.as_bytes().to_vec();
        for _ in 0..=random(6) {
            let at = random(text.len());
            match random(3) {
                0 => text[at] = u8::try_from(random(256)).unwrap(),
                1 => drop(text.remove(at)),
                _ => text.insert(at, b"\\\"().$@{} \n\t#0-/"[random(16)]),
            }
        }
        let apex = name("example");
        let read = read_text(&text, Path::new("x"), apex.as_name(), Limits { octets: 1 << 20 });
        if let Ok(zone) = read.map_err(drop).and_then(|builder| builder.build().map_err(drop)) {
            let again = self::zone(&written(&zone));
            assert_eq!(written(&again), written(&zone));
        }
    }
}

#[test]
fn what_is_outside_is_counted_and_a_zone_needs_an_soa() {
    let builder = example(&format!("{HEAD}www.other. A 192.0.2.1\nother. NS ns\n")).unwrap();
    assert_eq!((builder.outside(), builder.build().unwrap().records()), (2, 1));
    assert!(matches!(example("").unwrap().build(), Err(BuildError::NoSoa)));
}

#[test]
fn generate_makes_the_records_that_bind_makes() {
    let zone = zone(&format!(
        "{HEAD}$GENERATE 1-3 host$ A 192.0.2.$\n\
         $GENERATE 8-16/8 ${{0,4,x}} CNAME host${{-7}}.x\\$\n",
    ));
    let lines: Vec<String> = written(&zone).lines().skip(1).map(Into::into).collect();
    assert_eq!(
        lines,
        [
            "0008.example. 3600 IN CNAME host1.x$.example.",
            "0010.example. 3600 IN CNAME host9.x$.example.",
            "host1.example. 3600 IN A 192.0.2.1",
            "host2.example. 3600 IN A 192.0.2.2",
            "host3.example. 3600 IN A 192.0.2.3",
        ]
    );
    let nibbles = self::zone(&format!(
        "{HEAD}$GENERATE 1024-1024 ${{0,3,n}} PTR ${{-2000,0,N}}.p${{0,10,n}}x\n",
    ));
    assert_eq!(
        written(&nibbles).lines().nth(1).unwrap(),
        "0.0.4.example. 3600 IN PTR 0.3.C.F.F.F.F.F.p0.0.4.0.0.x.example."
    );
    let huge = format!("{HEAD}$GENERATE 0-4294967295 host$ A 192.0.2.1\n");
    let limits = Limits { octets: 1 << 16 };
    let error = read_text(huge.as_bytes(), Path::new("x"), name("example").as_name(), limits);
    assert!(error.err().unwrap().to_string().contains("more than the limit allows"));
}

#[test]
fn files_include_each_other_relative_to_themselves_and_not_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("parts")).unwrap();
    let put = |file: &str, text: &str| std::fs::write(folder.path().join(file), text).unwrap();
    put("main", &format!("{HEAD}$INCLUDE parts/one sub\nafter A 192.0.2.9\n"));
    put("parts/one", "$INCLUDE two\nwww A 192.0.2.1\n");
    put("parts/two", "$ORIGIN deep.sub.example.\n@ A 192.0.2.2\n");
    let apex = name("example");
    let read = |file: &str| read(&folder.path().join(file), apex.as_name(), Limits::default());
    put("parts/an odd name", "odd A 192.0.2.3\n");
    put(
        "main",
        &format!(
            "{HEAD}$INCLUDE parts/one sub\nafter A 192.0.2.9\n$INCLUDE \"parts/an odd\\032name\"\n"
        ),
    );
    let zone = read("main").unwrap().build().unwrap();
    for owner in ["after.example", "odd.example", "www.sub.example", "deep.sub.example"] {
        let found = zone.lookup(&zone.key(name(owner).as_name()), Rtype::A);
        assert!(matches!(found, Found::Records { at: At::Owner, .. }), "{owner}");
    }
    put("loop", "$INCLUDE loop\n");
    let error = read("loop").err().unwrap().to_string();
    assert!(error.ends_with("loop:1: files include each other more than 8 deep"), "{error}");
    assert!(matches!(read("none").err(), Some(FileError::Unreadable { .. })));
}
