//! What is on the disk: served at once without a primary, set aside when damaged, refused when
//! it is someone else's.

use super::scripted::watch::{self, Said, Watch};
use super::scripted::*;
use crate::common::dns::wait_until;
use backstop::replica::State;
use std::fs;
use std::time::Duration;

const TIMES: [u32; 3] = [3600, 1, 86_400];

fn said(secondary: &Secondary, zone: &str) -> Said {
    watch::said(secondary.address, zone)
}

fn good(version: u32) -> Said {
    Said { rcode: rcode::NOERROR, version: Some(version) }
}

fn configured(zones: &[&str], primary: &Primary) -> String {
    let line = |zone: &&str| format!("[[zone]]\nname = \"{zone}\"\n{}\n", primary.config());
    "[template.default]\nretry-min = \"1s\"\n".to_owned()
        + &zones.iter().map(line).collect::<String>()
}

/// A primary of any zone, always at serial 1.
fn of_any(ip: [u8; 4]) -> Primary {
    Primary::on(ip, |asked| Zone::new(&asked.zone, TIMES, 1).answer(asked))
}

#[test]
fn a_server_without_zones_has_less_than_ten_megabytes_to_itself() {
    let secondary = Secondary::start("");
    let status = fs::read_to_string(format!("/proc/{}/status", secondary.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kb: u64 = line.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    assert!(kb < 10 * 1024, "{kb} kB");
}

#[test]
fn with_the_primary_down_it_serves_at_once_from_the_disk() {
    let primary = of_any([127, 8, 0, 1]);
    let mut secondary = Secondary::start(&configured(&["disk.test."], &primary));
    secondary.wait_serial("disk.test.", 1);
    secondary.kill();
    drop(primary);
    secondary.run();
    assert_eq!(said(&secondary, "disk.test."), good(1));
}

#[test]
fn a_zone_taken_out_by_sighup_is_refused_and_its_data_are_there_when_it_is_wanted_again() {
    let primary = of_any([127, 8, 0, 2]);
    let both = configured(&["stays.test.", "goes.test."], &primary);
    let mut secondary = Secondary::start(&both);
    secondary.wait_serial("stays.test.", 1);
    secondary.wait_serial("goes.test.", 1);
    let watch = Watch::start(secondary.address, &["stays.test.".into()], Duration::from_millis(1));
    secondary.configure(&configured(&["stays.test."], &primary));
    secondary.signal("-HUP");
    let refused = || said(&secondary, "goes.test.").rcode == rcode::REFUSED;
    assert!(wait_until(DEADLINE, refused));
    secondary.wait_log(&["goes.test.", "no longer configured; its data is kept for a while"]);
    watch.all_was_well();
    // Whether the server is stopped at once or in good time, the data are kept.
    secondary.signal("-TERM");
    assert!(secondary.ended().success());
    secondary.run();
    assert_eq!(said(&secondary, "goes.test.").rcode, rcode::REFUSED);
    secondary.kill();
    drop(primary);
    secondary.configure(&both);
    secondary.run();
    assert_eq!(said(&secondary, "goes.test."), good(1));
    assert_eq!(said(&secondary, "stays.test."), good(1));
}

#[test]
fn a_zone_whose_data_are_damaged_is_set_aside_and_transferred_again_others_are_served() {
    let primary = of_any([127, 8, 0, 3]);
    let zones: Vec<_> = (0..20).map(|at| format!("fine-{at}.test.")).collect();
    let mut all: Vec<&str> = zones.iter().map(String::as_str).collect();
    all.push("damaged-one.test.");
    let mut secondary = Secondary::start(&configured(&all, &primary));
    for zone in &all {
        secondary.wait_serial(zone, 1);
    }
    secondary.signal("-TERM");
    assert!(secondary.ended().success());
    let file = secondary.state().join("data.mdb");
    let mut octets = fs::read(&file).unwrap();
    // The data of its NS record: the name is spelt out there.
    let wanted = message::name("ns.damaged-one.test.");
    let places: Vec<_> =
        (0..octets.len() - wanted.len()).filter(|&at| octets[at..].starts_with(&wanted)).collect();
    assert!(!places.is_empty(), "the zone's data are in the file");
    for at in places {
        octets[at + 1] ^= 0x04;
    }
    fs::write(&file, octets).unwrap();
    primary.script(|asked| vec![Act::Message(asked.reply(rcode::REFUSED, &[]))]);
    secondary.launch();
    secondary.wait_log(&["ERROR", "damaged-one.test.", "damaged"]);
    secondary.wait_log(&["serving"]);
    for zone in &zones {
        assert_eq!(said(&secondary, zone), good(1), "{zone}");
    }
    assert!(wait_until(DEADLINE, || secondary.client().status(None).is_ok()));
    let status = secondary.wait_status("damaged-one.test.", |it| it.state == State::Damaged);
    assert!(status.serial.is_none() && status.error.is_some(), "{status:?}");
    primary.script(|asked| Zone::new(&asked.zone, TIMES, 1).answer(asked));
    secondary.wait_serial("damaged-one.test.", 1);
    assert_eq!(said(&secondary, "damaged-one.test."), good(1));
    let aside = fs::read_dir(secondary.state().join("damaged")).unwrap().count();
    assert!(aside > 0, "what was damaged is kept to be looked at");
    // It is whole again.
    secondary.kill();
    drop(primary);
    secondary.run();
    assert_eq!(said(&secondary, "damaged-one.test."), good(1));
}

#[test]
fn a_store_that_is_not_ours_is_refused_by_name_and_left_as_it_is() {
    let primary = of_any([127, 8, 0, 4]);
    let mut secondary = Secondary::start(&configured(&["foreign.test."], &primary));
    secondary.wait_serial("foreign.test.", 1);
    secondary.signal("-TERM");
    assert!(secondary.ended().success());
    let file = secondary.state().join("data.mdb");
    let ours = fs::read(&file).unwrap();
    let mut newer = ours.clone();
    // LMDB's own version, behind its magic number.
    let magic = 0xBEEF_C0DE_u32.to_le_bytes();
    for at in (0..newer.len() - 8).filter(|&at| ours[at..at + 4] == magic) {
        newer[at + 4] = 99;
    }
    assert_ne!(newer, ours);
    for foreign in [b"Dear diary, ".repeat(2000), newer] {
        fs::write(&file, &foreign).unwrap();
        secondary.launch();
        assert!(!secondary.ended().success());
        secondary.wait_log(&["data.mdb"]);
        assert!(fs::read(&file).unwrap() == foreign, "the file is as it was");
    }
    fs::write(&file, &ours).unwrap();
    secondary.run();
    assert_eq!(said(&secondary, "foreign.test."), good(1));
}

#[test]
fn a_store_that_was_cut_is_salvaged_and_what_is_lost_is_transferred_again() {
    let primary = of_any([127, 8, 0, 5]);
    let mut secondary = Secondary::start(&configured(&["cut.test."], &primary));
    secondary.wait_serial("cut.test.", 1);
    secondary.signal("-TERM");
    assert!(secondary.ended().success());
    let file = secondary.state().join("data.mdb");
    let cut = fs::read(&file).unwrap().len() / 2;
    fs::File::options().write(true).open(&file).unwrap().set_len(cut as u64).unwrap();
    secondary.run();
    secondary.wait_serial("cut.test.", 1);
    assert_eq!(said(&secondary, "cut.test."), good(1));
    let kept = fs::read_dir(secondary.state().join("damaged")).unwrap();
    assert!(kept.count() > 0, "the damaged file is kept");
}

/// Of the last part of the log nothing shows that it was there, once it is damaged, but the damage.
#[test]
fn a_version_that_only_the_log_had_and_that_is_damaged_there_is_told_of_and_fetched_again() {
    let zone = Zone::new("log.test.", TIMES, 1);
    let primary = Primary::of([127, 8, 0, 9], &zone);
    let mut secondary = Secondary::start(&configured(&["log.test."], &primary));
    secondary.wait_serial("log.test.", 1);
    let told = ["ERROR", "the log is damaged", "all zones are asked for at once"];
    let logs = ["log.0", "log.1"].map(|name| secondary.state().join(name));
    // Each round may come too late: when the data file has it as well, nothing is lost.
    for _ in 0..20 {
        zone.add(zone.serial() + 1);
        primary.notify(secondary.address, "log.test.");
        secondary.wait_serial("log.test.", zone.serial());
        secondary.kill();
        let text = zone.serial().to_string();
        let wanted = [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        let wanted =
            [&message::name("serial.log.test.")[..1 + "serial".len()], &wanted].map(<[u8]>::to_vec);
        for path in &logs {
            let mut octets = fs::read(path).unwrap();
            for block in octets.chunks_mut(4096) {
                let has = |what: &Vec<u8>| block.windows(what.len()).any(|it| it == what);
                if wanted.iter().all(has) {
                    block[300] ^= 0x10;
                }
            }
            fs::write(path, octets).unwrap();
        }
        secondary.run();
        secondary.wait_serial("log.test.", zone.serial());
        if secondary.logged(&told) > 0 {
            return;
        }
    }
    panic!("no damage was felt");
}
