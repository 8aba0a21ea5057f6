//! The dashboard and the alert rules before a real Prometheus that scrapes the real server: every
//! expression is one, and finds what it asks for.

use super::scripted::watch::{socket, www};
use super::scripted::*;
use super::told::{monitoring, start, zone};
use crate::common::dns::wait_until;
use crate::common::{ports, skip};
use backstop::replica::State;
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Stopped and gone with its data when it is dropped.
struct Prometheus {
    address: SocketAddr,
    child: Child,
    _folder: TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    /// Scrapes this address, of zones one by one as well. `None`: it is not installed.
    fn start(target: &str) -> Option<Self> {
        let program = skip::program("prometheus")?;
        let (address, folder) = (ports::free(), tempfile::tempdir().unwrap());
        let config = format!(
            "global: {{ scrape_interval: 500ms, evaluation_interval: 500ms }}\n\
             rule_files: [\"{}\"]\nscrape_configs:\n  - job_name: backstop\n    \
             params: {{ zones: [\"1\"] }}\n    static_configs: [{{ targets: [\"{target}\"] }}]\n",
            monitoring("alerts.yml").display()
        );
        let path = folder.path().join("prometheus.yml");
        fs::write(&path, config).unwrap();
        let child = Command::new(program)
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self { address, child, _folder: folder })
    }

    /// What its API says at a path; null while it says nothing.
    fn get(&self, path: &str) -> Value {
        let page = TcpStream::connect(self.address).and_then(|mut stream| {
            write!(stream, "GET /api/v1/{path} HTTP/1.0\r\nHost: x\r\n\r\n")?;
            let mut page = String::new();
            stream.read_to_string(&mut page)?;
            Ok(page)
        });
        let page = page.unwrap_or_default();
        let body = page.split_once("\r\n\r\n").map(|(_, body)| body);
        body.and_then(|body| serde_json::from_str(body).ok()).unwrap_or_default()
    }

    /// The series that an expression finds now, each with its labels.
    fn query(&self, expression: &str) -> Vec<Value> {
        let octets = expression.bytes().map(|octet| format!("%{octet:02X}"));
        let said = self.get(&format!("query?query={}", octets.collect::<String>()));
        assert_ne!(said["status"], "error", "{expression}: {said}");
        said["data"]["result"].as_array().cloned().unwrap_or_default()
    }
}

/// The labels that a legend shows: `{{label}}`.
fn labels_in(legend: &str) -> impl Iterator<Item = &str> {
    legend.split("{{").skip(1).filter_map(|rest| Some(rest.split_once("}}")?.0.trim()))
}

#[test]
fn each_panel_of_the_dashboard_finds_something_to_show_and_each_rule_can_be_evaluated() {
    let data = Zone::new("seen.test.", [3600, 3600, 86_400], 1);
    let primary = Primary::of([127, 12, 0, 6], &data);
    let refusing =
        Primary::on([127, 12, 0, 7], |asked| vec![Act::Message(asked.reply(rcode::REFUSED, &[]))]);
    let zones = zone("seen.test", &primary) + &zone("never.test", &refusing);
    let secondary = start("", &zones);
    secondary.wait_serial("seen.test.", 1);
    secondary.wait_status("never.test.", |status| status.state == State::NeverLoaded);
    let config = fs::read_to_string(secondary.config()).unwrap();
    let metrics = config.split("metrics = \"").nth(1).unwrap().split('"').next().unwrap();
    let Some(prometheus) = Prometheus::start(metrics) else {
        return skip::uninstalled("prometheus is not installed (scripts/test installs it as root)");
    };
    let client = socket(secondary.address);
    let text = fs::read_to_string(monitoring("dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let mut seen = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let expression =
                expression.replace("$instance", ".*").replace("$__rate_interval", "1m");
            let mut series = Vec::new();
            let found = wait_until(DEADLINE, || {
                www(&client, secondary.address, "seen.test.", 1);
                series = prometheus.query(&expression);
                !series.is_empty()
            });
            assert!(found, "{}: nothing for {expression}", panel["title"]);
            for label in labels_in(target["legendFormat"].as_str().unwrap()) {
                let has = |one: &Value| one["metric"][label].is_string();
                assert!(series.iter().all(has), "{expression}: no label {label} in {series:?}");
            }
            seen += 1;
        }
    }
    assert!(seen > 30, "{seen}");
    let variable = dashboard["templating"]["list"][1]["definition"].as_str().unwrap();
    assert_eq!(variable, "label_values(backstop_build_info, instance)");
    assert!(prometheus.query("backstop_build_info")[0]["metric"]["instance"].is_string());
    let mut rules = Vec::new();
    let never_loaded =
        |rule: &Value| rule["name"] == "BackstopZoneNeverLoaded" && rule["state"] != "inactive";
    let evaluated = wait_until(DEADLINE, || {
        let said = prometheus.get("rules");
        let groups = said["data"]["groups"].as_array().cloned().unwrap_or_default();
        rules = groups.iter().flat_map(|it| it["rules"].as_array().unwrap().clone()).collect();
        rules.iter().all(|rule| rule["health"] != "unknown") && rules.iter().any(never_loaded)
    });
    let wrong: Vec<_> = rules.iter().filter(|rule| rule["health"] != "ok").collect();
    assert!(evaluated && wrong.is_empty() && rules.len() > 10, "{wrong:#?} of {}", rules.len());
}
