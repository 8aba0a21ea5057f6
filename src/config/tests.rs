use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use tempfile::TempDir;

use super::document::Kind;
use super::*;

const SECRET: &str = "c2l4dGVlbiBvY3RldHMgYXJlIGVub3VnaCBoZXJlISE=";

/// A folder with the configuration `text` and some files that it may name.
pub(super) fn folder(text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = text.replace("SECRET", SECRET);
    fs::write(folder.path().join("backstop.toml"), text).unwrap();
    fs::write(folder.path().join("example.net.zone"), "").unwrap();
    fs::write(folder.path().join("zones.txt"), "a.example\n").unwrap();
    folder
}

fn load_in(folder: &TempDir) -> Loaded {
    Config::load(&folder.path().join("backstop.toml"))
}

pub(super) fn load(text: &str) -> Loaded {
    load_in(&folder(text))
}

#[track_caller]
fn good(text: &str) -> Config {
    let folder = folder(text);
    load_in(&folder).unwrap_or_else(|problems| panic!("{problems:#?}")).0
}

/// What is told of `text`, without the folder's name.
pub(super) fn told_in(folder: &TempDir) -> Vec<String> {
    let problems = match load_in(folder) {
        Ok((_, warnings)) => warnings,
        Err(problems) => problems,
    };
    let prefix = format!("{}/", folder.path().display());
    let lines = problems.iter().map(|problem| problem.to_string().replace(&prefix, ""));
    lines.map(|line| line.replace("backstop.toml:", "")).collect()
}

pub(super) fn told(text: &str) -> Vec<String> {
    told_in(&folder(text))
}

fn name(text: &str) -> NameBuf {
    text.parse().unwrap()
}

const EXAMPLE: &str = r#"
[server]
listen = ["127.0.0.1:5300", "::1"]
workers = 1
io = "xdp"
state-dir = "state"
control = "state/control.sock"
metrics = "127.0.0.1:9153"
metrics-zones = 500
log-format = "json"
[xdp]
interfaces = ["eth0"]
mode = "native"
zero-copy = "off"
ring = 2048
busy-poll = "20us"
[[key]]
name = "xfr.key."
algorithm = "hmac-sha256"
secret = "SECRET"
[template.default]
primaries = [{ address = "127.0.0.1:5301", key = "xfr.key." }]
allow-transfer = [{ from = "127.0.0.0/8", key = "xfr.key." }, { from = "::1" }]
allow-update = [{ from = "10.0.0.0/8", key = "xfr.key." }]
notify = [{ address = "127.0.0.1:5400" }]
[[zone]]
name = "example.org"
[[zone]]
name = "example.net"
file = "example.net.zone"
[[zone-list]]
file = "zones.txt"
template = "default"
"#;

#[test]
fn the_example_means_what_it_says() {
    let folder = folder(EXAMPLE);
    let (config, warnings) = load_in(&folder).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let server = &config.server;
    assert_eq!(server.listen, ["127.0.0.1:5300".parse().unwrap(), "[::1]:53".parse().unwrap()]);
    assert_eq!((server.workers, server.io), (1, Io::Xdp));
    assert_eq!(server.state_dir, folder.path().join("state"));
    assert_eq!(server.control, folder.path().join("state/control.sock"));
    assert_eq!(server.metrics, "127.0.0.1:9153".parse().ok());
    assert_eq!((server.metrics_zones, server.log_format), (500, LogFormat::Json));
    let xdp = &config.xdp;
    assert_eq!((xdp.interfaces[0].as_str(), xdp.mode), ("eth0", XdpMode::Native));
    assert_eq!((xdp.zero_copy, xdp.ring), (ZeroCopy::Off, 2048));
    assert_eq!(xdp.busy_poll, Some(Duration::from_micros(20)));

    let names: Vec<String> = config.zones.iter().map(|zone| zone.name.to_string()).collect();
    assert_eq!(names, ["example.org.", "example.net.", "a.example."]);
    let settings = &config.zones[0].settings;
    let Source::Primaries(primaries) = &settings.source else { panic!("{settings:?}") };
    assert_eq!(primaries[0].address, "127.0.0.1:5301".parse().unwrap());
    let key = primaries[0].key.as_ref().unwrap();
    assert_eq!((&key.name, key.algorithm), (&name("xfr.key."), Algorithm::Sha256));
    assert_eq!(key.secret.as_bytes(), b"sixteen octets are enough here!!");
    assert!(settings.allow_query.is_none());
    assert!(settings.allow_transfer.allows("::1".parse().unwrap(), None));
    assert!(!settings.allow_transfer.allows("127.0.0.1".parse().unwrap(), None));
    let (primary, key) = ("127.0.0.1".parse().unwrap(), name("xfr.key."));
    assert!(settings.allow_notify.allows(primary, Some(key.as_name())));
    assert!(!settings.allow_notify.allows(primary, None), "the primary has a key");
    assert!(!settings.allow_notify.allows("127.0.0.2".parse().unwrap(), None));
    let client = "10.1.2.3".parse().unwrap();
    assert!(settings.allow_update.allows(client, Some(key.as_name())));
    assert!(!settings.allow_update.allows(client, None));
    let from_file = &config.zones[1].settings.allow_update;
    assert!(!from_file.allows_address(client), "there is no primary to forward to");
    assert_eq!(settings.notify[0].address, "127.0.0.1:5400".parse().unwrap());
    let Source::File(file) = &config.zones[1].settings.source else { panic!() };
    assert_eq!(*file, folder.path().join("example.net.zone"));
    assert!(config.zones[1].settings.allow_transfer.allows("::1".parse().unwrap(), None));
}

#[test]
fn what_is_not_written_has_its_default() {
    let config = good("[server]\nlisten = ['127.0.0.1:5300']");
    let server = &config.server;
    assert_eq!((server.udp_size_v4, server.udp_size_v6), (1232, 1232));
    assert_eq!(server.control, Path::new("/var/lib/backstop/control.sock"));
    assert!(server.version.as_deref().unwrap().starts_with("Backstop "));
    assert_eq!(server.keep_removed, Duration::from_secs(7 * 86_400));
    assert_eq!((server.durability, server.log_level), (Durability::Commit, LogLevel::Info));
    assert!(server.workers >= 1 && config.tcp.max_connections >= config.tcp.max_per_client);
    assert_eq!(config.tcp.idle_timeout, Duration::from_secs(10));
    assert_eq!((config.transfer.concurrent, config.transfer.per_primary), (256, 8));
    assert_eq!(config.transfer.stall_timeout, Duration::from_secs(30));
    assert_eq!(config.transfer.min_rate, 1024);
    assert!(config.zones.is_empty() && config.keys.is_empty());
    assert!(config.rate_limit.is_none() && config.cookies.enabled && !config.cookies.require);
    assert!(config.cookies.secrets.is_empty());
}

#[test]
fn what_is_done_about_expiry_and_odd_serials_is_chosen_in_words() {
    let of = |settings: &str| {
        let source = "primaries = [{ address = '192.0.2.1' }]";
        let zone = format!("[[zone]]\nname = 'a'\n{source}\n{settings}");
        let config = good(&format!("[server]\nlisten = ['127.0.0.1:5300']\n{zone}"));
        Arc::clone(&config.zones[0].settings)
    };
    let usual = of("");
    assert_eq!(usual.after_expiry, AfterExpiry::Servfail);
    assert_eq!(usual.on_lower_serial, LowerSerial::AcceptAfterExpiry);
    assert_eq!(usual.on_same_serial, SameSerial::Retransfer);
    assert_eq!(usual.compare_every, Some(Duration::from_hours(24)));
    assert_eq!(usual.pin_tolerance, Duration::from_hours(1));
    let chosen = of("after-expiry = 'serve-stale'\non-lower-serial = 'keep'\n\
                     on-same-serial = 'report'\ncompare-every = 'off'\npin-tolerance = '5m'");
    assert_eq!(chosen.after_expiry, AfterExpiry::ServeStale);
    assert_eq!(chosen.on_lower_serial, LowerSerial::Keep);
    assert_eq!(chosen.on_same_serial, SameSerial::Report);
    assert_eq!(chosen.compare_every, None);
    assert_eq!(chosen.pin_tolerance, Duration::from_mins(5));
    assert_eq!(of("on-lower-serial = 'accept'").on_lower_serial, LowerSerial::Accept);
    assert_eq!(of("compare-every = '2h'").compare_every, Some(Duration::from_hours(2)));
}

#[test]
fn empty_texts_hide_identity_and_version() {
    let config = good("[server]\nlisten = ['::1']\nidentity = ''\nversion = 'x'");
    assert_eq!(config.server.identity, None);
    assert_eq!(config.server.version.as_deref(), Some("x"));
}

#[test]
fn a_zone_goes_before_its_template_and_that_before_default() {
    let config = good(
        r#"
        server.listen = ["127.0.0.1:5300"]
        [template.default]
        primaries = [{ address = "192.0.2.1" }]
        max-size = "1MiB"
        refresh-min = "1m"
        ixfr = false
        [template.big]
        max-size = "16MiB"
        refresh-max = "1h30m"
        [[zone]]
        name = "a."
        [[zone]]
        name = "b."
        template = "big"
        [[zone]]
        name = "c."
        template = "big"
        ixfr = true
        file = "example.net.zone"
        [[zone]]
        name = "d."
        template = "big"
        "#,
    );
    let settings: Vec<&ZoneSettings> = config.zones.iter().map(|zone| &*zone.settings).collect();
    assert_eq!([1, 16, 16, 16].map(|mib| mib << 20), [0, 1, 2, 3].map(|i| settings[i].max_size));
    assert_eq!([false, false, true, false], [0, 1, 2, 3].map(|i| settings[i].ixfr));
    let minute = Duration::from_secs(60);
    assert_eq!(settings[0].refresh, Clamp { min: minute, max: None });
    assert_eq!(settings[1].refresh, Clamp { min: minute, max: Some(90 * minute) });
    assert!(matches!(settings[1].source, Source::Primaries(_)));
    assert!(matches!(settings[2].source, Source::File(_)));
    assert!(Arc::ptr_eq(&config.zones[1].settings, &config.zones[3].settings));
    assert_eq!(settings[1].refresh.apply(Duration::from_secs(1)), minute);
    assert_eq!(settings[1].refresh.apply(Duration::from_secs(99_999)), 90 * minute);
}

#[test]
fn what_is_checked_before_a_version_is_served_is_set_key_by_key() {
    let config = good(
        r#"
        server.listen = ["127.0.0.1:5300"]
        [template.default]
        primaries = [{ address = "192.0.2.1" }]
        shrink-guard = "10%"
        check-program = ["true", "an argument"]
        history = 5
        [[zone]]
        name = "a."
        check-program-timeout = "2s"
        zonemd = "if-present"
        [[zone]]
        name = "b."
        shrink-guard = "off"
        check-apex = false
        check-program = []
        [[zone]]
        name = "c."
        shrink-guard-names = 0
        check-program = ["/bin/sh"]
        "#,
    );
    let settings: Vec<&ZoneSettings> = config.zones.iter().map(|zone| &*zone.settings).collect();
    let usual = check::Rules::default();
    let shrink = Some(check::Shrink { percent: 10, names: 1000 });
    let zonemd = check::Zonemd::IfPresent;
    assert_eq!(settings[0].checks, check::Rules { shrink, zonemd, ..usual.clone() });
    assert_eq!(settings[0].history, 5);
    let program = settings[0].check_program.as_ref().unwrap();
    assert_eq!(program.command, ["true", "an argument"]);
    assert_eq!(program.timeout, Duration::from_secs(2));
    let off = check::Rules { apex: false, shrink: None, ..usual.clone() };
    assert_eq!((&settings[1].checks, &settings[1].check_program), (&off, &None));
    let shrink = Some(check::Shrink { percent: 10, names: 0 });
    assert_eq!(settings[2].checks, check::Rules { shrink, ..usual });
    let program = settings[2].check_program.as_ref().unwrap();
    assert_eq!((program.command[0].as_str(), program.timeout.as_secs()), ("/bin/sh", 300));
}

#[test]
fn a_good_configuration_is_summed_up() {
    let report = report(&load(EXAMPLE));
    assert_eq!(
        report,
        "ok: 3 zones (2 from primaries, 1 from files), 1 key, 2 listen addresses, 0 warnings\n"
    );
}

#[test]
fn a_file_that_is_not_there_is_told() {
    let problems = Config::load(Path::new("/nonexistent/x.toml")).unwrap_err();
    assert!(problems[0].to_string().starts_with("/nonexistent/x.toml:1:1: cannot be read"));
}

#[test]
fn a_list_tells_its_own_lines() {
    let folder = folder(
        "server.listen = ['::1']\n[template.default]\nfile = 'example.net.zone'\n[template.t]\n\
         [[zone]]\nname = 'first.'\n[[zone-list]]\nfile = 'zones.txt'\ntemplate = 't'\n",
    );
    let list = "# all\na.example\n  b..example # bad\n\nc.example t\nd.example u\n\
                e.example t more\nA.example\nfirst\n";
    fs::write(folder.path().join("zones.txt"), list).unwrap();
    assert_eq!(
        told_in(&folder),
        [
            r#"zones.txt:3:3: "b..example" is no domain name: a label is empty: remove the extra dot"#,
            r#"zones.txt:6:11: template "u" is not defined: write a [template.u]"#,
            r#"zones.txt:7:13: "more" follows the zone and its template: remove it"#,
            r#"zones.txt:8:1: zone "A.example." is here twice: remove one (the other: zones.txt:2)"#,
            r#"zones.txt:9:1: zone "first." is here twice: remove one (the other: 6)"#,
        ]
    );
}

#[test]
fn a_list_whose_template_has_no_source_is_told_once() {
    let folder = folder("server.listen = ['::1']\n[[zone-list]]\nfile = 'zones.txt'\n");
    fs::write(folder.path().join("zones.txt"), "a.\nb.\n").unwrap();
    let lines = told_in(&folder);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].starts_with("2:1: the template of this list has neither primaries nor"));
}

#[test]
fn a_list_of_nothing_but_mistakes_is_cut_short() {
    let folder = folder(
        "server.listen = ['::1']\n[template.default]\nfile = 'example.net.zone'\n\
         [[zone-list]]\nfile = 'zones.txt'\n",
    );
    fs::write(folder.path().join("zones.txt"), "a..b\n".repeat(5000)).unwrap();
    let lines = told_in(&folder);
    assert_eq!(lines.len(), 101);
    assert!(lines[0].starts_with("5:8: 4900 more mistakes in \"zones.txt\""), "{}", lines[0]);
}

#[test]
fn a_line_without_end_is_not_read_to_its_end() {
    let folder = folder(
        "server.listen = ['::1']\n[template.default]\nfile = 'example.net.zone'\n\
         [[zone-list]]\nfile = 'zones.txt'\n",
    );
    fs::write(folder.path().join("zones.txt"), "x".repeat(1 << 20)).unwrap();
    assert_eq!(
        told_in(&folder),
        ["zones.txt:1:1: the line is longer than 4096 octets: write one zone's name a line"]
    );
}

#[test]
fn a_hundred_thousand_zones_of_a_list_share_their_settings() {
    let folder = folder(
        "server.listen = ['::1']\n[template.default]\nfile = 'example.net.zone'\n[template.t]\n\
         [[zone-list]]\nfile = 'zones.txt'\n",
    );
    let lines =
        (0..100_000).map(|i| format!("zone-{i}.example{}\n", if i % 2 == 0 { "" } else { " t" }));
    fs::write(folder.path().join("zones.txt"), lines.collect::<String>()).unwrap();
    let start = Instant::now();
    let (config, _) = load_in(&folder).unwrap();
    let took = start.elapsed();
    assert!(took < Duration::from_secs(60), "not linear: {took:?}");
    assert_eq!(config.zones.len(), 100_000);
    assert_eq!(config.zones[99_999].name, name("zone-99999.example"));
    let settings = |i: usize| &config.zones[i].settings;
    assert!(Arc::ptr_eq(settings(0), settings(99_998)) && Arc::ptr_eq(settings(1), settings(3)));
    assert_eq!(Arc::strong_count(settings(0)), 50_000, "no one else holds them");
    assert_eq!(size_of::<ZoneConfig>(), 24);
}

#[test]
fn secrets_are_read_from_files_and_never_shown() {
    let folder = folder(
        "server.listen = ['::1']\n[[key]]\nname = 'a'\nsecret-file = 'a.secret'\n\
         [[key]]\nname = 'b'\nsecret = 'SECRET'\n",
    );
    let file = folder.path().join("a.secret");
    fs::write(&file, format!("{SECRET}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(
        told_in(&folder),
        [
            "4:15: warning: secret-file can be read by every user: take the others' permission away: chmod 600"
        ]
    );
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let (config, warnings) = load_in(&folder).unwrap();
    assert!(warnings.is_empty());
    let secret = &config.keys[&name("a")].secret;
    assert_eq!(secret.as_bytes(), b"sixteen octets are enough here!!");
    let shown = format!("{config:?}");
    assert!(shown.contains("hidden") && !shown.contains(SECRET) && !shown.contains("sixteen"));
    assert!(!shown.contains(&format!("{:?}", secret.as_bytes())), "{shown}");

    // Nor by the messages about a secret that is wrong.
    fs::write(&file, "sixteen-octets-are-enough-here!!").unwrap();
    let lines = told_in(&folder);
    assert!(lines.len() == 1 && !lines[0].contains("sixteen"), "{lines:#?}");
}

#[test]
fn a_rate_limit_means_what_it_says() {
    let config = good("server.listen = ['::1']\n[rate-limit]");
    let limit = config.rate_limit.unwrap();
    assert_eq!((limit.per_second, limit.window, limit.slip), (200, Duration::from_secs(1), 2));
    assert_eq!((limit.ipv4_prefix, limit.ipv6_prefix, limit.entries), (24, 56, 1 << 17));
    assert!(!limit.dry_run && limit.exempt == Acl::default());
    let config = good(
        "server.listen = ['::1']\n[rate-limit]\nresponses-per-second = 5\nwindow = '15s'\n\
         slip = 0\nipv4-prefix = 32\nipv6-prefix = 48\ntable-size = 5000\n\
         exempt = ['192.0.2.0/24', '2001:db8::1']\ndry-run = true\n",
    );
    let limit = config.rate_limit.unwrap();
    assert_eq!((limit.per_second, limit.window, limit.slip), (5, Duration::from_secs(15), 0));
    assert_eq!((limit.ipv4_prefix, limit.ipv6_prefix, limit.entries), (32, 48, 5000));
    assert!(limit.dry_run && limit.exempt.allows_address("192.0.2.77".parse().unwrap()));
    assert!(!limit.exempt.allows_address("2001:db8::2".parse().unwrap()));
}

#[test]
fn cookie_secrets_are_read_from_a_file_and_never_shown() {
    let folder = folder("server.listen = ['::1']\n[cookies]\nsecret-file = 'c'\nrequire = true\n");
    let file = folder.path().join("c");
    let (first, second) = ("000102030405060708090a0b0c0d0e0f", "FFeeddccbbaa99887766554433221100");
    fs::write(&file, format!("{first}\n\n {second} \n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let (config, warnings) = load_in(&folder).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert!(config.cookies.require);
    let secrets: Vec<_> = config.cookies.secrets.iter().map(|secret| secret.octets()).collect();
    assert_eq!((secrets.len(), secrets[0][15], secrets[1][0]), (2, 15, 0xff));
    let shown = format!("{config:?}");
    assert!(shown.contains("CookieSecret(hidden)") && !shown.contains("12, 13, 14, 15"), "{shown}");

    let advice = "write one of 32 hexadecimal digits: openssl rand -hex 16";
    let sign = first.replacen('0', "+", 1);
    for (text, told) in [
        (String::new(), format!("names an empty file: {advice}")),
        (format!("{first}\n{second}0\n"), format!("has no secret in line 2: {advice}")),
        (sign, format!("has no secret in line 1: {advice}")),
        (
            [first; 3].join("\n"),
            "names a file with 3 secrets: keep two: the one to make cookies with, and the last one"
                .to_owned(),
        ),
    ] {
        fs::write(&file, text).unwrap();
        assert_eq!(told_in(&folder), [format!("3:15: secret-file {told}")]);
    }
    fs::write(&file, first).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let lines = told_in(&folder);
    assert!(lines.len() == 1 && lines[0].contains("warning: secret-file can be read by every"));
}

const KINDS: [&Kind; 12] = [
    &TOP,
    &server::SERVER,
    &server::TCP,
    &server::TRANSFER,
    &guard::RATE_LIMIT,
    &guard::COOKIES,
    &server::XDP,
    &keys::KEY,
    &zones::ZONE,
    &access::PRIMARY,
    &access::RULE,
    &list::ZONE_LIST,
];

/// The keys that `KEYS.md` has below the heading `title`.
fn documented(title: &str) -> Vec<&'static str> {
    let heading = format!("## {title}");
    let lines = Config::reference().lines().skip_while(|line| *line != heading).skip(1);
    let rows = lines.take_while(|line| !line.starts_with("## "));
    rows.filter_map(|row| row.strip_prefix("| `")?.split_once('`').map(|(key, _)| key)).collect()
}

#[test]
fn the_reference_has_every_key_and_no_other() {
    let mut titles = Vec::new();
    for kind in KINDS.iter().skip(1) {
        let title = match kind.title {
            "primaries" => "a server in primaries",
            title => title,
        };
        assert_eq!(documented(title), kind.own, "{title}");
        titles.push(format!("## {title}"));
    }
    assert_eq!(documented("zone settings"), settings::SETTINGS);
    assert_eq!(documented("a server in primaries or notify"), access::REMOTE);
    titles.extend(["## zone settings", "## a server in primaries or notify"].map(String::from));
    let headings = Config::reference().lines().filter(|line| line.starts_with("## "));
    let other: Vec<&str> = headings.filter(|line| !titles.iter().any(|t| t == line)).collect();
    assert!(other.is_empty(), "{other:?}");
}

/// Nothing takes a date, so a key that is read complains of one.
#[test]
fn every_key_that_is_known_is_read() {
    let dates =
        |keys: &[&str]| keys.iter().map(|key| format!("{key} = 2000-01-01\n")).collect::<String>();
    let inline = |keys: &[&str]| dates(keys).trim_end().replace('\n', ", ");
    let server = [&[], access::REMOTE].concat();
    let mut primary = server.clone();
    primary.extend(access::PRIMARY.own);
    let sections = [
        format!("[server]\n{}", dates(server::SERVER.own)),
        format!("[tcp]\n{}", dates(server::TCP.own)),
        format!("[transfer]\n{}", dates(server::TRANSFER.own)),
        format!("[rate-limit]\n{}", dates(guard::RATE_LIMIT.own)),
        format!("[cookies]\n{}", dates(guard::COOKIES.own)),
        format!("[xdp]\n{}", dates(server::XDP.own)),
        format!("[[key]]\n{}", dates(&["name", "algorithm", "secret"])),
        format!("[[key]]\n{}", dates(&["secret-file"])),
        format!("[[zone]]\n{}{}", dates(zones::ZONE.own), dates(settings::SETTINGS)),
        format!("[template.x]\n{}", dates(settings::SETTINGS)),
        format!("[[zone]]\nprimaries = [{{ {} }}]\n", inline(&primary)),
        format!("[[zone]]\nnotify = [{{ {} }}]\n", inline(&server)),
        format!("[[zone]]\nallow-query = [{{ {} }}]\n", inline(access::RULE.own)),
        format!("[[zone-list]]\n{}", dates(list::ZONE_LIST.own)),
    ];
    let text = sections.concat();
    let given = text.matches("2000").count();
    let complaints: Vec<String> =
        told(&text).into_iter().filter(|line| line.contains(" is a date")).collect();
    assert_eq!(complaints.len(), given, "{complaints:#?}");
    let top = told(&dates(TOP.own));
    assert_eq!(top.iter().filter(|line| line.contains("is a date")).count(), TOP.own.len());
}

#[test]
fn no_text_makes_it_panic() {
    let text = EXAMPLE.replace("SECRET", SECRET);
    let folder = folder("");
    let file = folder.path().join("backstop.toml");
    for end in (0..text.len()).step_by(7) {
        for middle in ["", "[", "\u{0}", "=", "'", "9"] {
            fs::write(&file, format!("{}{middle}{}", &text[..end], &text[end / 2..])).unwrap();
            let _ = report(&Config::load(&file));
        }
    }
}

#[test]
fn the_readme_has_every_key() {
    let readme = include_str!("../../README.md");
    for line in Config::reference().lines().filter(|line| line.starts_with('|')) {
        assert!(readme.contains(line), "README.md lacks this line of KEYS.md: {line}");
    }
}
