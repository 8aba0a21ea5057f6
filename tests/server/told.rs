//! What the server tells to those who watch it: metrics, health, its log; and whether the alert
//! rules and the dashboard in `tuning/monitoring` ask for what it tells.

use super::scripted::watch::{socket, www};
use super::scripted::*;
use crate::common::skip;
use backstop::replica::{State, ZoneStatus};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A secondary with these lines in `[server]` besides.
pub(super) fn start(server: &str, zones: &str) -> Secondary {
    let address = crate::common::ports::free();
    let mut secondary = Secondary::stopped(address, &[address]);
    secondary.configure(zones);
    let text = fs::read_to_string(secondary.config()).unwrap();
    let text = text.replace("workers = 1\n", &format!("workers = 1\n{server}\n"));
    fs::write(secondary.config(), text).unwrap();
    secondary.run();
    secondary
}

fn get(secondary: &Secondary, path: &str) -> String {
    let config = fs::read_to_string(secondary.config()).unwrap();
    let address = config.split("metrics = \"").nth(1).unwrap().split('"').next().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}

pub(super) fn zone(name: &str, primary: &Primary) -> String {
    format!("[[zone]]\nname = \"{name}\"\n{}\n", primary.config())
}

#[test]
fn a_zone_that_expires_does_not_take_the_server_out_of_service() {
    let (short, long) =
        (Zone::new("short.test.", [1, 1, 3], 1), Zone::new("l.test.", [9, 9, 9999], 1));
    let primaries = [Primary::of([127, 12, 0, 1], &short), Primary::of([127, 12, 0, 2], &long)];
    let zones = zone("short.test", &primaries[0]) + &zone("l.test", &primaries[1]);
    let template = "[template.default]\nretry-min = \"1s\"\nrefresh-min = \"1s\"\n".to_owned();
    let mut secondary = start("metrics-zones = 1", &(template + &zones));
    secondary.wait_serial("short.test.", 1);
    secondary.wait_serial("l.test.", 1);
    assert!(get(&secondary, "/healthz").starts_with("HTTP/1.1 200 "));
    let [gone, _stays] = primaries;
    drop(gone);
    secondary.wait_status("short.test.", |status| status.state == State::Expired);
    assert!(get(&secondary, "/healthz").starts_with("HTTP/1.1 200 "), "one zone has expired");
    let page = get(&secondary, "/metrics");
    for line in [
        "backstop_zones{state=\"expired\"} 1",
        "backstop_zones_served 1",
        "backstop_zone_state{zone=\"short.test.\",state=\"expired\"} 1",
        "backstop_zones_left_out 1",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
    // Nor does one that has expired when the server is started.
    secondary.kill();
    secondary.run();
    assert!(get(&secondary, "/healthz").starts_with("HTTP/1.1 200 "));
    assert_eq!(secondary.status("short.test.").state, State::Expired);
}

#[test]
fn the_log_is_an_object_a_line_if_it_is_for_programs() {
    let zone_data = Zone::new("log.test.", [3600, 3600, 86_400], 7);
    let primary = Primary::of([127, 12, 0, 3], &zone_data);
    let secondary = start("log-format = \"json\"", &zone("log.test", &primary));
    secondary.wait_serial("log.test.", 7);
    let line = secondary.wait_log(&["transferred", "log.test."]);
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&event["level"], &event["message"]), (&"INFO".into(), &"transferred".into()));
    assert_eq!((&event["zone"], &event["to"]), (&"log.test.".into(), &7.into()), "{event}");
    assert!(event["timestamp"].is_string(), "{event}");
    for line in secondary.log() {
        assert!(serde_json::from_str::<Value>(&line).unwrap().is_object(), "{line}");
    }
}

#[test]
fn how_long_answers_took_is_told_by_worker() {
    let zone_data = Zone::new("took.test.", [3600, 3600, 86_400], 1);
    let primary = Primary::of([127, 12, 0, 4], &zone_data);
    let secondary = start("", &zone("took.test", &primary));
    secondary.wait_serial("took.test.", 1);
    let client = socket(secondary.address);
    for id in 0..20 {
        www(&client, secondary.address, "took.test.", id).expect("a reply");
    }
    let status = secondary.client().server().unwrap();
    let [worker, all] = &status.answers[..] else { panic!("{status:?}") };
    assert_eq!((&*worker.worker, &*all.worker, worker.count), ("0", "all", 20));
    assert!(worker.p50_ns > 0 && worker.p50_ns <= worker.p999_ns, "{worker:?}");
    assert_eq!((status.zones.zones(), status.counted["requests"]), (1, 20));
    let page = get(&secondary, "/metrics");
    assert!(page.contains("backstop_answer_latency_seconds_count{worker=\"0\"} 20\n"), "{page}");
    assert!(page.contains("# TYPE backstop_answer_latency_seconds histogram\n"), "{page}");
}

pub(super) fn monitoring(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/monitoring").join(file)
}

/// The names of metrics in a text: what begins like one of ours.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("backstop_") || word.starts_with("process_")).collect()
}

#[test]
fn rules_and_dashboard_ask_for_nothing_that_is_not_told() {
    let zone_data = Zone::new("asked.test.", [3600, 3600, 86_400], 1);
    let primary = Primary::of([127, 12, 0, 5], &zone_data);
    // What is told of zones with a trust anchor only.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/zones/nsec.zone");
    let text = fs::read_to_string(&path).unwrap();
    let key = text.lines().find_map(|line| line.split_once("IN DNSKEY\t")).unwrap().1;
    let signed = format!(
        "[[zone]]\nname = \"signed\"\nfile = \"{}\"\ntrust-anchor = [\"DNSKEY {key}\"]\n",
        path.display()
    );
    let secondary = start("", &(zone("asked.test", &primary) + &signed));
    secondary.wait_serial("asked.test.", 1);
    let signatures = |status: &ZoneStatus| status.signatures.clone();
    let told = secondary.wait_status("signed.", |status| signatures(status).is_some());
    assert!(signatures(&told).unwrap().ends_in_s > 86_400, "{told:?}");
    www(&socket(secondary.address), secondary.address, "asked.test.", 1).expect("a reply");
    let page = get(&secondary, "/metrics?zones=1");
    for name in ["versions_held", "behind_seconds", "last_transfer_seconds", "signature_ends_in"] {
        assert!(page.contains(&format!("\nbackstop_zone_{name}")), "no {name} in\n{page}");
    }
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let told: BTreeSet<_> = lines.filter_map(|line| line.split(['{', ' ']).next()).collect();
    for file in ["alerts.yml", "alerts.test.yml", "dashboard.json"] {
        let text = fs::read_to_string(monitoring(file)).unwrap();
        let asked = metrics_in(&text);
        assert!(asked.len() > 8, "{file}: {asked:?}");
        let unknown: Vec<_> = asked.difference(&told).collect();
        assert!(unknown.is_empty(), "{file} asks for {unknown:?}, of\n{page}");
    }
}

#[test]
fn every_state_but_the_good_ones_has_an_alert() {
    let rules = fs::read_to_string(monitoring("alerts.yml")).unwrap();
    for state in State::all().filter(|state| !matches!(state, State::Ok | State::Refreshing)) {
        let expression = format!("backstop_zones{{state=\"{state}\"}} > 0");
        assert!(rules.contains(&expression), "no alert on {expression}");
    }
}

#[test]
fn the_dashboard_is_json_with_a_place_for_each_panel() {
    let text = fs::read_to_string(monitoring("dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut places = BTreeSet::new();
    for panel in panels {
        assert!(!panel["targets"].as_array().unwrap().is_empty(), "{panel}");
        let at = ["y", "x"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(places.insert(at), "two panels at {at:?}");
    }
    assert!(panels.len() > 10);
}

#[test]
fn promtool_finds_the_rules_right_and_their_tests_pass() {
    let Some(promtool) = skip::program("promtool") else {
        return skip::uninstalled("promtool is not installed (scripts/test installs it as root)");
    };
    for (command, file) in [("check", "alerts.yml"), ("test", "alerts.test.yml")] {
        let output = Command::new(&promtool)
            .args([command, "rules", file])
            .current_dir(monitoring(""))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success() && said.contains("SUCCESS"), "{said}");
    }
}
