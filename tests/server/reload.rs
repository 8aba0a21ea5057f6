//! A new configuration while queries come, all of it as one step, and stopping.

use super::scripted::sign::{KEY, SECRET_BASE64};
use super::scripted::watch::{Watch, socket, www};
use super::scripted::*;
use crate::common::dns::{Ask, TsigKey, tcp, wait_until};
use crate::common::ports;
use backstop::replica::State;
use std::fs;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

fn of_any(ip: [u8; 4]) -> Primary {
    Primary::on(ip, |asked| Zone::new(&asked.zone, [3600, 1, 86_400], 1).answer(asked))
}

fn zone(name: &str, primary: &Primary) -> String {
    format!("[[zone]]\nname = \"{name}\"\n{}\n", primary.config())
}

fn applied(secondary: &Secondary) -> usize {
    secondary.log().iter().filter(|line| line.contains("configuration applied")).count()
}

/// SIGHUP, until the configuration is applied.
fn reload(secondary: &Secondary) {
    let before = applied(secondary);
    secondary.signal("-HUP");
    assert!(wait_until(DEADLINE, || applied(secondary) > before), "{:#?}", secondary.log());
}

#[test]
fn fifty_reloads_under_load_lose_no_query_and_answer_none_wrong() {
    let primary = of_any([127, 9, 0, 1]);
    let (always, sometimes) = (ports::free(), ports::free());
    let mut secondary = Secondary::stopped(always, &[always]);
    let kept: String = (0..5).map(|at| zone(&format!("kept-{at}.test."), &primary)).collect();
    secondary.configure(&kept);
    secondary.run();
    let apexes: Vec<_> = (0..5).map(|at| format!("kept-{at}.test.")).collect();
    for apex in &apexes {
        secondary.wait_serial(apex, 1);
    }
    let watches: Vec<_> =
        (0..2).map(|_| Watch::start(always, &apexes, Duration::from_micros(200))).collect();
    let client = socket(sometimes);
    for round in 0..50 {
        let with = round % 2 == 0;
        let key = if round % 4 < 2 { SECRET_BASE64 } else { "b3RoZXI=" };
        let mut config = format!(
            "[[key]]\nname = \"{KEY}\"\nalgorithm = \"hmac-sha256\"\nsecret = \"{key}\"\n{kept}"
        );
        if with {
            config += &zone("sometimes.test.", &primary);
            secondary.listen_on(&[sometimes, always]);
        } else {
            secondary.listen_on(&[always]);
        }
        secondary.configure(&config);
        reload(&secondary);
        if with {
            secondary.wait_serial("sometimes.test.", 1);
            let said = www(&client, sometimes, "sometimes.test.", round).expect("it listens");
            assert_eq!(said.version, Some(1));
        } else {
            let unbound = || UdpSocket::bind(sometimes).is_ok();
            assert!(wait_until(DEADLINE, unbound), "it no longer listens");
            let refused = || {
                www(&socket(always), always, "sometimes.test.", round).unwrap().rcode
                    == rcode::REFUSED
            };
            assert!(wait_until(DEADLINE, refused));
        }
    }
    watches.into_iter().for_each(Watch::all_was_well);
}

#[test]
fn a_changed_secret_is_in_force_after_a_reload() {
    let primary = of_any([127, 9, 0, 2]);
    let (first, second) = (
        TsigKey::new("a.key."),
        TsigKey { secret: SECRET_BASE64.into(), ..TsigKey::new("a.key.") },
    );
    let config = |key: &TsigKey| {
        format!(
            "[[key]]\nname = \"{}\"\nalgorithm = \"{}\"\nsecret = \"{}\"\n{}",
            key.name,
            key.algorithm,
            key.secret,
            zone("key.test.", &primary)
        )
    };
    let secondary = Secondary::start(&config(&first));
    secondary.wait_serial("key.test.", 1);
    let ask = |key: &TsigKey| tcp(secondary.address, &Ask::new("key.test.", "SOA").key(key));
    assert_eq!(ask(&first).expect("signed as asked").rcode, "NOERROR");
    assert!(ask(&second).is_err());
    secondary.configure(&config(&second));
    reload(&secondary);
    assert!(wait_until(DEADLINE, || ask(&second).is_ok()));
    assert!(ask(&first).is_err());
}

#[test]
fn zone_files_are_read_anew_with_the_configuration() {
    // As SIGHUP does in other servers: who edits a file need not say which.
    let mut secondary = Secondary::stopped(ports::free(), &[]);
    let file = secondary.config().with_file_name("file.zone");
    let edit = |serial: u32| {
        let text = format!("@ 9 SOA ns.test. h.test. {serial} 9 9 9 9\n@ 9 NS ns.test.\n");
        fs::write(&file, text).unwrap();
    };
    edit(1);
    secondary.listen_on(&[secondary.address]);
    secondary.configure("[[zone]]\nname = \"file.test\"\nfile = \"file.zone\"\n");
    secondary.run();
    secondary.wait_serial("file.test.", 1);
    edit(2);
    reload(&secondary);
    secondary.wait_serial("file.test.", 2);
}

#[test]
fn a_zone_file_that_is_missing_keeps_no_other_zone_from_being_served() {
    let primary = of_any([127, 9, 0, 4]);
    let mut secondary = Secondary::stopped(ports::free(), &[]);
    secondary.listen_on(&[secondary.address]);
    let missing = "[[zone]]\nname = \"missing.test\"\nfile = \"missing.zone\"\n";
    secondary.configure(&(zone("there.test.", &primary) + missing));
    secondary.run();
    secondary.wait_serial("there.test.", 1);
    secondary.wait_log(&["ERROR", "the zone file is not used", "missing.test.", "No such file"]);
    // Once it is there, nobody has to say so.
    let file = secondary.config().with_file_name("missing.zone");
    fs::write(file, "@ 9 SOA ns.test. h.test. 3 9 9 9 9\n@ 9 NS ns.test.\n").unwrap();
    secondary.wait_serial("missing.test.", 3);
    secondary.wait_status("missing.test.", |status| status.state == State::Ok);
}

#[test]
fn a_broken_configuration_changes_nothing_and_says_why() {
    let primary = of_any([127, 9, 0, 3]);
    let config = zone("broken.test.", &primary);
    let secondary = Secondary::start(&config);
    secondary.wait_serial("broken.test.", 1);
    let watch = Watch::start(secondary.address, &["broken.test.".into()], Duration::from_millis(1));
    secondary.configure("[[zone]]\nname = \"other.test\"\nprimares = []\n");
    secondary.signal("-HUP");
    secondary.wait_log(&["ERROR", "the configuration is not applied, nothing is changed"]);
    let command = || {
        let command = Command::new(env!("CARGO_BIN_EXE_backstop"))
            .args(["reload", "--control"])
            .arg(secondary.state().join("control.sock"))
            .output()
            .unwrap();
        let text = String::from_utf8(command.stdout).unwrap()
            + &String::from_utf8(command.stderr).unwrap();
        (command.status.success(), text)
    };
    let (success, told) = command();
    assert!(!success && told.contains("nothing is changed") && told.contains("primares"), "{told}");
    let names: Vec<_> = secondary.all().into_iter().map(|zone| zone.zone).collect();
    assert_eq!(names, ["broken.test."]);
    // Nor does one whose address another server has.
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut other = secondary;
    other.listen_on(&[other.address, taken.local_addr().unwrap()]);
    other.configure(&config);
    other.signal("-HUP");
    other.wait_log(&["ERROR", "nothing is changed: cannot listen on", "another server has it"]);
    other.listen_on(&[other.address]);
    other.configure(&config);
    reload(&other);
    watch.all_was_well();
}

#[test]
fn systemd_is_told_and_sigterm_ends_it_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(DEADLINE)).unwrap();
    let told = || {
        let mut text = [0; 256];
        let len = systemd.recv(&mut text).expect("systemd is told");
        String::from_utf8(text[..len].to_vec()).unwrap()
    };
    let primary = of_any([127, 9, 0, 4]);
    let address = ports::free();
    let mut secondary = Secondary::stopped(address, &[address]);
    secondary.environment = vec![("NOTIFY_SOCKET".into(), path.to_str().unwrap().into())];
    secondary.configure(&zone("systemd.test.", &primary));
    secondary.launch();
    assert_eq!(told(), "READY=1");
    secondary.wait_serial("systemd.test.", 1);
    secondary.signal("-HUP");
    assert_eq!((told().as_str(), told().as_str()), ("RELOADING=1", "READY=1"));
    // What has come before the signal is answered.
    let client = socket(address);
    let request =
        [&[0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], &message::name("systemd.test.")[..], &[0, 6, 0, 1]];
    client.send_to(&request.concat(), address).unwrap();
    secondary.signal("-TERM");
    assert_eq!(told(), "STOPPING=1");
    let mut reply = [0; 512];
    let (len, _) = client.recv_from(&mut reply).expect("an answer");
    assert!(len > 12 && reply[3] & 0x0f == rcode::NOERROR);
    assert_eq!(secondary.ended().code(), Some(0));
    secondary.wait_log(&["stopped"]);
}
