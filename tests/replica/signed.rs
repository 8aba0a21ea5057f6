//! TSIG: what is not signed as it must be is not believed (RFC 8945).

use super::scripted::message::notify;
use super::scripted::sign::{KEY, SECRET_BASE64, Signer};
use super::scripted::watch::Watch;
use super::scripted::*;
use backstop::replica::State;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

const TIMES: [u32; 3] = [3600, 1, 86_400];

/// Answers well, all messages but the transfers' through `sign`.
type Deed = fn(&Asked, Vec<Vec<u8>>) -> Vec<Vec<u8>>;

fn answer(zone: &Zone, asked: &Asked, deed: Deed) -> Vec<Act> {
    let records = zone.records(asked);
    // A message for each record of a transfer.
    let per = if asked.tcp { 1 } else { records.len() };
    let messages = records.chunks(per).map(|some| asked.reply(rcode::NOERROR, some)).collect();
    deed(asked, messages).into_iter().map(Act::Message).collect()
}

fn good(asked: &Asked, messages: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut signer = Signer::new(asked);
    messages.into_iter().map(|message| signer.sign(message)).collect()
}

/// What is wrong with the signatures, and what `status` says of it.
const CASES: &[(&str, Deed, &str)] = &[
    ("unsigned", |_, messages| messages, "not signed"),
    (
        "the first message unsigned",
        |asked, messages| {
            let mut signer = Signer::new(asked);
            let sign =
                |(at, message)| if at == 0 { signer.skip(message) } else { signer.sign(message) };
            messages.into_iter().enumerate().map(sign).collect()
        },
        "not signed",
    ),
    (
        "a forged MAC in the fourth message",
        |asked, messages| {
            let mut signed = good(asked, messages);
            let at = 3.min(signed.len() - 1);
            let len = signed[at].len();
            // The MAC is followed by the ID, the error and the length of other data.
            signed[at][len - 7] ^= 1;
            signed
        },
        "signature",
    ),
    (
        "a forged record under a good MAC",
        |asked, messages| {
            let mut signed = good(asked, messages);
            let at = 12 + asked.question.len() + 8;
            let last = signed.len() - 1;
            signed[last][at] ^= 0x20;
            signed
        },
        "signature",
    ),
    (
        "the last message unsigned",
        |asked, messages| {
            let mut signer = Signer::new(asked);
            let last = messages.len() - 1;
            let sign = |(at, message)| {
                if at == last { signer.skip(message) } else { signer.sign(message) }
            };
            messages.into_iter().enumerate().map(sign).collect()
        },
        "signed",
    ),
    (
        "signed in another key's name",
        |asked, messages| {
            let mut signer = Signer::new(asked);
            signer.key = "other.key.";
            messages.into_iter().map(|message| signer.sign(message)).collect()
        },
        "key",
    ),
    (
        "signed an hour ago",
        |asked, messages| {
            let mut signer = Signer::new(asked);
            signer.time_s -= 3600;
            messages.into_iter().map(|message| signer.sign(message)).collect()
        },
        "clock",
    ),
];

#[test]
fn replies_that_are_not_signed_as_they_must_be_are_not_believed() {
    let mut config = format!(
        "[[key]]\nname = \"{KEY}\"\nalgorithm = \"hmac-sha256\"\nsecret = \"{SECRET_BASE64}\"\n\
         [template.default]\nretry-min = \"1s\"\n"
    );
    let mut players = Vec::new();
    for at in 0..CASES.len() {
        let zone = Zone::new(&format!("signed-{at}.test."), TIMES, 1);
        let of_script = Arc::clone(&zone);
        let ip = Ipv4Addr::new(127, 3, 0, u8::try_from(at + 1).unwrap());
        let primary = Primary::on(ip, move |asked| answer(&of_script, asked, good));
        let (apex, address) = (&zone.apex, primary.address);
        config += &format!(
            "[[zone]]\nname = \"{apex}\"\nprimaries = [{{ address = \"{address}\", key = \"{KEY}\" }}]\n"
        );
        players.push((zone, primary));
    }
    let secondary = Secondary::start(&config);
    for (zone, _) in &players {
        secondary.wait_serial(&zone.apex, 1);
    }
    let apexes: Vec<_> = players.iter().map(|(zone, _)| zone.apex.clone()).collect();
    let watch = Watch::start(secondary.address, &apexes, Duration::from_millis(1));
    for ((zone, primary), (_, deed, _)) in players.iter().zip(CASES) {
        let (of_script, deed) = (Arc::clone(zone), *deed);
        primary.script(move |asked| answer(&of_script, asked, if asked.tcp { deed } else { good }));
        zone.add(2);
        // An unsigned NOTIFY will not do; a refresh asks over UDP first, which is well signed.
        let socket = UdpSocket::bind((primary.address.ip(), 0)).unwrap();
        let reply = primary::notify_from(&socket, secondary.address, &notify(5, &zone.apex, None));
        assert_eq!(reply[3] & 0x0f, rcode::REFUSED);
        secondary.refresh(&zone.apex);
    }
    for ((zone, primary), (what, _, said)) in players.iter().zip(CASES) {
        let status = secondary.wait_status(&zone.apex, |status| {
            let error = status.primaries[0].last_error.as_deref();
            status.state == State::Stale && error.is_some_and(|error| error.contains(said))
        });
        assert_eq!(status.serial, Some(1), "{what}");
        secondary.wait_log(&["WARN", &zone.apex, said]);
        assert_eq!(watch.newest(&zone.apex), Some(1), "{what}");
        let of_script = Arc::clone(zone);
        primary.script(move |asked| answer(&of_script, asked, good));
    }
    for (zone, _) in &players {
        secondary.wait_status(&zone.apex, |it| it.serial == Some(2) && it.state == State::Ok);
        secondary.wait_log(&["INFO", &zone.apex, "of use again"]);
    }
    watch.all_was_well();
}

#[test]
fn a_transfer_with_signatures_only_now_and_then_is_believed() {
    let zone = Zone::new("seldom.test.", TIMES, 1);
    let of_script = Arc::clone(&zone);
    let primary = Primary::on([127, 3, 1, 1], move |asked| {
        answer(&of_script, asked, |asked, messages| {
            let mut signer = Signer::new(asked);
            let last = messages.len() - 1;
            let sign = |(at, message)| match at % 3 == 0 || at == last {
                true => signer.sign(message),
                false => signer.skip(message),
            };
            messages.into_iter().enumerate().map(sign).collect()
        })
    });
    let address = primary.address;
    let secondary = Secondary::start(&format!(
        "[[key]]\nname = \"{KEY}\"\nalgorithm = \"hmac-sha256\"\nsecret = \"{SECRET_BASE64}\"\n\
         [[zone]]\nname = \"seldom.test\"\nprimaries = [{{ address = \"{address}\", key = \"{KEY}\" }}]\n"
    ));
    secondary.wait_serial("seldom.test.", 1);
}
