//! The mistakes that can be made, and what exactly is told of each.

use super::report;
use super::tests::{folder, load, told, told_in};

/// Each line of a configuration that is otherwise good, and what is told of it: the line is the
/// fourth, below `[server]`, `listen` and `workers`.
const SERVER_MISTAKES: &[(&str, &str)] = &[
    ("wrokers = 2", r#"4:1: unknown key "wrokers" in [server]: did you mean "workers"?"#),
    ("io = \"urnig\"", r#"4:6: io is "urnig": did you mean "uring"?"#),
    ("io = 5", r#"4:6: io is a number: write one of "auto", "uring", "mmsg", "xdp""#),
    (
        "keep-removed = 7",
        r#"4:16: keep-removed is 7 without a unit: write "7s" (units: us, ms, s, m, h, d or w)"#,
    ),
    (
        "keep-removed = \"7\"",
        r#"4:16: keep-removed is 7 without a unit: write "7s" (units: us, ms, s, m, h, d or w)"#,
    ),
    (
        "keep-removed = \"7 days\"",
        r#"4:16: keep-removed is "7 days": write a number with its unit, as "10s" (units: us, ms, s, m, h, d or w)"#,
    ),
    ("udp-size-v4 = 100", "4:15: udp-size-v4 is 100: write a number from 512 to 4096"),
    ("udp-size-v4 = -1", "4:15: udp-size-v4 is -1: write a number from 512 to 4096"),
    ("identity = 3", "4:12: identity is a number: write text in quotes"),
    ("state-dir = ''", "4:13: state-dir is empty: write at least one character, or remove the key"),
    (
        "metrics = \"localhost\"",
        r#"4:11: metrics "localhost" is no address: write an address like "192.0.2.1:9153" or "[2001:db8::1]:9153""#,
    ),
    (
        "metrics = \"127.0.0.1:5300\"",
        r#"4:11: metrics "127.0.0.1:5300" is a listen address too: write another port, as "127.0.0.1:9153""#,
    ),
];

#[test]
fn a_mistake_in_server_is_told_with_its_place_and_what_to_write() {
    for (line, expected) in SERVER_MISTAKES {
        let text = format!("[server]\nlisten = [\"127.0.0.1:5300\"]\nworkers = 1\n{line}\n");
        assert_eq!(told(&text), [*expected], "{line}");
    }
}

#[test]
fn listen_must_name_addresses_once() {
    for (text, expected) in [
        ("", r#"1:1: there is no [server]: write [server] with listen = ["ADDRESS:PORT"]"#),
        ("\n[server]", r#"2:1: [server] has no listen: write listen = ["ADDRESS:PORT"]"#),
        ("server.listen = []", r#"1:17: listen is empty: write at least one "ADDRESS:PORT""#),
        ("server.listen = '::1'", r#"1:17: listen is text: write a list: ["..."]"#),
        (
            "server.listen = ['::1', '[::1]:53']",
            r#"1:25: listen "[::1]:53" is here twice: remove one of them"#,
        ),
    ] {
        assert_eq!(told(text), [expected], "{text}");
    }
    assert!(told("server.listen = ['[::1]:0', '[::1]:0']").is_empty(), "port 0 is any port");
}

#[test]
fn what_does_not_say_which_interfaces_to_serve_is_no_configuration_for_them() {
    let told = |listen: &str, more: &str| {
        told(&format!("[server]\nlisten = ['{listen}']\nio = 'xdp'\n{more}"))
    };
    for (listen, expected) in [
        (
            "[::]:53",
            "1:1: a wildcard among the listen addresses does not say which interfaces AF_XDP is \
             to serve: write interfaces = [\"NAME\"] in [xdp]",
        ),
        (
            "127.0.0.1:53",
            "1:1: all listen addresses are of loopback, where AF_XDP is of no use: listen on \
             others, or write io = \"auto\"",
        ),
    ] {
        assert_eq!(told(listen, ""), [expected], "{listen}");
        assert!(told(listen, "[xdp]\ninterfaces = ['eth0']").is_empty(), "{listen}");
    }
    assert!(told("192.0.2.1:53", "").is_empty());
}

/// The same below a good `[server]` and `[[key]]`: the text begins in line 6.
const ZONE_MISTAKES: &[(&str, &[&str])] = &[
    ("[[zone]]", &["6:1: this zone has no name: write name = \"example.org\"", MISSING]),
    (
        "[[zone]]\nname = 'a..b'\nprimaries = [{ address = '192.0.2.1' }]",
        &[r#"7:8: name "a..b" is no domain name: a label is empty: remove the extra dot"#],
    ),
    (
        "[[zone]]\nname = 'a.'",
        &[
            r#"7:8: zone "a." has neither primaries nor a file: write primaries = [{ address = "192.0.2.1" }] or file = "...""#,
        ],
    ),
    (
        "[[zone]]\nname = 'a.'\nfile = 'example.net.zone'\nprimaries = [{ address = '192.0.2.1' }]",
        &[
            "8:8: both primaries and a file are given: keep one of them: a zone is copied, or served from a file",
        ],
    ),
    (
        "[[zone]]\nname = 'a.'\nfile = 'b.zone'",
        &[
            r#"8:8: warning: file "b.zone" cannot be read (No such file or directory (os error 2)): write the path of a zone file, relative to this file's folder"#,
        ],
    ),
    (
        "[[zone]]\nname = 'a.'\nfile = '.'",
        &[
            r#"8:8: file "." cannot be read (not a file): write the path of a zone file, relative to this file's folder"#,
        ],
    ),
    (
        "[[zone]]\nname = 'a.'\nprimaries = []",
        &[r#"8:13: primaries is empty: write a list: primaries = [{ address = "192.0.2.1" }]"#],
    ),
    (
        "[[zone]]\nname = 'a.'\nprimaries = ['192.0.2.1']",
        &[r#"8:14: primaries is text: write a list: primaries = [{ address = "192.0.2.1" }]"#],
    ),
    (
        "[[zone]]\nname = 'a.'\nprimaries = [{ address = '192.0.2.1', key = 'xfr.kee' }]",
        &[r#"8:45: key "xfr.kee." is not defined: did you mean "xfr.key."?"#],
    ),
    (
        "[[zone]]\nname = 'a.'\nprimaries = [{ address = '192.0.2.1', key = 'other' }]",
        &[r#"8:45: key "other." is not defined: write a [[key]] with name = "other.""#],
    ),
    (
        "[[zone]]\nname = 'a.'\nprimaries = [{ address = '127.0.0.1:5300' }]",
        &[
            r#"8:26: address "127.0.0.1:5300" is this server: write another server's address; this is one of our own listen addresses"#,
        ],
    ),
    (
        "[[zone]]\nname = 'a.'\nfile = 'example.net.zone'\nnotify = [{ address = '[::1]:5300' }]",
        &[
            r#"9:23: address "[::1]:5300" is this server: write another server's address; this is one of our own listen addresses"#,
        ],
    ),
    (
        "[[zone]]\nname = 'a.'\nprimaries = [{ address = '192.0.2.1', source = '::1' }]",
        &[r#"8:48: source "::1" cannot reach 192.0.2.1: write one of this host's IPv4 addresses"#],
    ),
    (
        "[[zone]]\nname = 'a.'\nfile = 'example.net.zone'\nallow-query = [{ from = '10.0.0.1/8' }]",
        &[
            r#"9:25: from "10.0.0.1/8" is no network (bits are set beyond its first 8): write "10.0.0.0/8""#,
        ],
    ),
    (
        "[[zone]]\nname = 'a.'\nfile = 'example.net.zone'\nallow-transfer = [{ from = '::/0' }]",
        &[
            r#"9:28: warning: allow-transfer gives the whole zone to everybody ("::/0"): write a narrower network, or a key"#,
        ],
    ),
    (
        "[[zone]]\nname = 'a.'\nprimaries = [{ address = '192.0.2.1' }]\nallow-update = [{ from = '0.0.0.0/0' }]",
        &[
            r#"9:26: warning: allow-update forwards changes of the zone from everybody ("0.0.0.0/0"): write a narrower network, or a key"#,
        ],
    ),
    (
        "[[zone]]\nname = 'a.'\nfile = 'example.net.zone'\nallow-update = [{ from = '::1' }]",
        &[
            "9:16: warning: a zone from a file has no primary to forward updates to: remove allow-update: what changes a zone from a file is a change of the file",
        ],
    ),
    (
        "[[zone]]\nname = 'a.'\nfile = 'example.net.zone'\nshrink-guard = '100%'",
        &[
            r#"9:16: shrink-guard is "100%": write how much of the names may go at once, from "0%" to "99%", or "off""#,
        ],
    ),
    (
        "[[zone]]\nname = 'a.'\nfile = 'example.net.zone'\nzonemd = 'requried'",
        &[r#"9:10: zonemd is "requried": did you mean "required"?"#],
    ),
    (
        "[[zone]]\nname = 'a.'\nfile = 'example.net.zone'\ncheck-program = ['./zones.txt']",
        &[
            r#"9:17: check-program "./zones.txt" is no program: write ["/path/to/program", "argument"], a file that can be run"#,
        ],
    ),
    (
        "[[zone]]\nname = 'a.'\nfile = 'example.net.zone'\ntemplate = 'x'",
        &[r#"9:12: template "x" is not defined: write a [template.x]"#],
    ),
    (
        "[[zone]]\nname = 'a.'\ntemplate = 'defualt'\n[template.default]\nfile = 'example.net.zone'",
        &[r#"8:12: template "defualt" is not defined: did you mean "default"?"#],
    ),
    (
        "[[zone]]\nname = 'a.'\nfile = 'example.net.zone'\n[[zone]]\nname = 'A'\nfile = 'example.net.zone'",
        &[r#"10:8: zone "A." is here twice: remove one (the other: 7)"#],
    ),
    (
        "[[zone]]\nname = 'a.'\nfile = 'example.net.zone'\nrefresh-min = '1m'\nrefresh-max = '59s'",
        &[
            r#"10:15: refresh-max is shorter than refresh-min ("1m"): write a longer refresh-max, or a shorter refresh-min"#,
        ],
    ),
    (
        "[[zone]]\nname = 'a.'\nfile = 'example.net.zone'\nmax-size = 4096",
        &[
            r#"9:12: max-size is 4096 without a unit: write "4096MiB" (units: B, KiB, MiB, GiB or TiB)"#,
        ],
    ),
    ("[zone]\nname = 'a.'", &["6:1: zone is a table: write [[zone]]"]),
    (
        "[[key]]\nname = 'k'\nsecret = 'not base64!'",
        &[
            "8:10: secret is not base64 (illegal character ' '): write it as the primary has it: openssl rand -base64 32",
        ],
    ),
    (
        "[[key]]\nname = 'k'\nsecret = 'c2hvcnQ='",
        &[
            "8:10: warning: secret has 5 octets, few enough to be guessed: write 16 at least, better 32: openssl rand -base64 32",
        ],
    ),
    (
        "[[key]]\nname = 'k'\nalgorithm = 'hmac-md5'\nsecret = 'SECRET'",
        &[
            r#"8:13: algorithm is "hmac-md5": MD5 is broken (RFC 8945 forbids it); write "hmac-sha256" and change the primary too"#,
        ],
    ),
    (
        "[[key]]\nname = 'k'",
        &[r#"6:1: this key has no secret: write secret = "BASE64" or secret-file = "PATH""#],
    ),
    (
        "[[key]]\nname = 'XFR.key'\nsecret = 'SECRET'",
        &[r#"7:8: key "XFR.key." is defined twice: remove one of them"#],
    ),
    (
        "[xdp]\nring = 1000",
        &[
            "6:1: warning: [xdp] is not used: write io = \"xdp\" in [server], or remove it",
            "7:8: ring is 1000: write a power of two, as 1024",
        ],
    ),
    (
        "[transfer]\nmin-rate = '1KiB'",
        &[
            r#"7:12: min-rate is "1KiB": write a number with its unit, as "10KiB/s" (units: B/s, KiB/s, MiB/s, GiB/s or TiB/s)"#,
        ],
    ),
    (
        "[rate-limit]\nresponses-per-second = 0\nwindow = '100ms'\nexempt = ['::/0', '10.0.0.1/8']",
        &[
            "7:24: responses-per-second is 0: write a number from 1 to 100000",
            r#"8:10: window is 100ms: write a time from "1s" to "1m""#,
            r#"9:11: warning: exempt "::/0" leaves nobody of its family to limit: write the networks of clients that you trust"#,
            r#"9:19: exempt "10.0.0.1/8" is no network (bits are set beyond its first 8): write "10.0.0.0/8""#,
        ],
    ),
    (
        "[cookies]\nenabled = false\nrequire = true",
        &["8:11: require needs cookies, and they are off: write enabled = true, or remove require"],
    ),
    (
        "[cookies]\nsecret-file = 'none'",
        &[
            r#"7:15: secret-file "none" cannot be read (No such file or directory (os error 2)): write the path of a file that holds a secret of 32 hexadecimal digits a line"#,
        ],
    ),
    (
        "[tcp]\nidle-timeout = '0s'",
        &[r#"7:16: idle-timeout is 0s: write a time from "100ms" to "3500w""#],
    ),
];

const MISSING: &str = r#"6:1: this zone has neither primaries nor a file: write primaries = [{ address = "192.0.2.1" }] or file = "...""#;

#[test]
fn a_mistake_elsewhere_is_told_with_its_place_and_what_to_write() {
    const TOP: &str = "[server]\nlisten = ['127.0.0.1:5300', '[::]:5300']\n[[key]]\n\
                       name = 'xfr.key'\nsecret = 'SECRET'\n";
    assert!(told(TOP).is_empty());
    for (text, expected) in ZONE_MISTAKES {
        assert_eq!(told(&format!("{TOP}{text}")), *expected, "{text}");
    }
}

#[test]
fn every_mistake_is_told_from_top_to_bottom() {
    let text =
        "[server]\nlisten = ['x', '::1']\nworkers = 0\n[tcp]\nidle = '1s'\n[[zone]]\nname = ''\n";
    let lines = told(text);
    let places: Vec<&str> = lines.iter().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["2:11", "3:11", "5:1", "7:8", "7:8"], "{lines:#?}");
    let report = report(&load(text));
    assert!(report.ends_with("\n5 errors, 0 warnings\n"), "{report}");
}

#[test]
fn columns_count_characters() {
    assert_eq!(
        told("server = { identity = 'ü', listen = 5 }"),
        [r#"1:37: listen is a number: write a list: ["..."]"#]
    );
}

#[test]
fn text_that_is_not_toml_is_told_with_its_place() {
    let lines = told("[server]\nlisten = 127.0.0.1\nworkers = \n");
    assert_eq!(
        lines,
        [
            r#"2:15: invalid float, expected nothing: write text in quotes: "...""#,
            r#"3:11: string values must be quoted, expected literal string: write text in quotes: "...""#,
        ]
    );
    let lines = told("server.listen = ['::1']\nserver.workers = 1\nserver.workers = 2\n");
    assert_eq!(lines, ["3:8: duplicate key: remove one of the two"]);
}

#[test]
fn a_control_path_that_no_socket_can_have_is_told() {
    let long = "x".repeat(108);
    let lines = told(&format!("[server]\nlisten = ['::1']\ncontrol = '/{long}'\n"));
    assert_eq!(
        lines,
        [format!(
            "3:11: control \"/{long}\" has 109 octets: \
             write a path of 107 at the most: a socket has no more"
        )]
    );
    let lines = told(&format!("[server]\nlisten = ['::1']\nstate-dir = '/{}'\n", &long[..95]));
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].starts_with("3:13: control \"/xxx") && lines[0].contains("109 octets"));
    assert!(
        told(&format!("[server]\nlisten = ['::1']\ncontrol = '/{}'\n", &long[..106])).is_empty()
    );
}

#[test]
fn a_secret_file_that_is_no_file_is_told() {
    let folder = folder("server.listen = ['::1']\n[[key]]\nname = 'a'\nsecret-file = '.'\n");
    let lines = told_in(&folder);
    assert!(lines.iter().any(|line| line.contains("no file of at most 4096 octets")), "{lines:#?}");
}
