//! What people write: zone files, the configuration, lines on the control socket.

use super::{Target, zones};
use backstop::config::{self, Config};
use backstop::control::Request;
use backstop::name::{Name, NameBuf};
use backstop::zone::file::{self, Limits};
use std::collections::HashSet;
use std::path::Path;

pub const ZONE_FILE: Target = Target { name: "zone_file", run: zone_file, seeds: zone_files };
pub const CONTROL: Target = Target { name: "control", run: control, seeds: Vec::new };
pub const CONFIG: Target = Target { name: "config", run: config, seeds: Vec::new };

/// A zone file is refused, or makes a sound zone.
fn zone_file(text: &[u8]) {
    if text.to_ascii_uppercase().windows(8).any(|word| word == b"$INCLUDE") {
        return; // it may name any file of this machine
    }
    let apex = Name::from_wire(b"\x07example\0").unwrap();
    let limits = Limits { octets: zones::LIMIT };
    let read = file::read_text(text, Path::new("fuzz"), apex, limits);
    if let Ok(builder) = read {
        assert!(builder.octets() <= zones::LIMIT);
        if let Ok(zone) = builder.build() {
            zones::is_sound(&zone);
        }
    }
}

fn zone_files() -> Vec<Vec<u8>> {
    let signed =
        [include_str!("../../tests/zones/nsec.zone"), include_str!("../../tests/zones/nsec3.zone")];
    signed.map(|text| text.replace("signed.\t", "signed.example.\t").into_bytes()).to_vec()
}

/// A line is refused, or a request that is written and read as the same.
fn control(line: &[u8]) {
    let Ok(request) = serde_json::from_slice::<Request>(line) else { return };
    let text = serde_json::to_string(&request).unwrap();
    assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
    let zone = match request {
        Request::Status { zone } => zone,
        Request::Refresh { zone }
        | Request::Notify { zone }
        | Request::Retransfer { zone }
        | Request::Approve { zone }
        | Request::Rollback { zone, .. }
        | Request::History { zone }
        | Request::Changes { zone, .. }
        | Request::Export { zone } => Some(zone),
        Request::Server {} | Request::Reload {} => None,
    };
    if let Some(Ok(name)) = zone.map(|zone| zone.parse::<NameBuf>()) {
        assert_eq!(name.to_string().parse(), Ok(name));
    }
}

/// A configuration is refused with what is wrong and where, or has no zone twice.
fn config(text: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backstop.toml");
    std::fs::write(&path, text).unwrap();
    std::fs::write(folder.path().join("example.net.zone"), "").unwrap();
    std::fs::write(folder.path().join("zones.txt"), "a.example\nb.example\n").unwrap();
    let loaded = Config::load(&path);
    let _ = Config::control(&path);
    assert!(!config::report(&loaded).is_empty());
    match loaded {
        Ok((config, _)) => {
            let names: HashSet<_> = config.zones.iter().map(|zone| &zone.name).collect();
            assert_eq!(names.len(), config.zones.len());
        }
        Err(problems) => assert!(!problems.is_empty(), "refused for no reason"),
    }
}
