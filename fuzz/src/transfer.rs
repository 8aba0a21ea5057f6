//! The messages of a transfer, each with its length before it, as over TCP: no more is held than
//! the limit, and what zone or differences come of them is sound.

use super::{Target, world, zones};
use backstop::name::NameBuf;
use backstop::wire::Serial;
use backstop::xfr::{
    Incoming, MESSAGE_MAX, Outgoing, Progress, axfr_query, check_any_messages, ixfr_query,
    parse_transfer,
};
use backstop::zone::{Diff, Zone};
use std::sync::{Arc, LazyLock};

pub const TARGET: Target = Target { name: "transfer", run, seeds };

const ID: u16 = 0xabcd;

static APEX: LazyLock<NameBuf> = LazyLock::new(|| world::name("example"));

/// The version that differences go on from, with its cut, DNAME, wildcard and NSEC3.
pub static FIRST: LazyLock<Zone> = LazyLock::new(|| version(1));

/// A version of a zone: some of it is there in all, some comes and goes.
pub fn version(serial: u32) -> Zone {
    let hash = "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom";
    let mut text = format!(
        "@ SOA ns h {serial} 3600 600 86400 60\n@ NS ns\n@ NSEC3PARAM 1 0 0 -\n\
         @ RRSIG NSEC3PARAM 13 1 1 20300101000000 20200101000000 1 @ AAAA\n\
         ns A 192.0.2.1\n*.wild TXT a b\na.b.c MX {serial} ns\n"
    );
    if serial % 2 == 1 {
        text += "cut NS ns.cut\nns.cut A 192.0.2.2\nold.x DNAME new\nb.old.x A 192.0.2.3\n";
    } else {
        text += "a.cut DNAME ns\nx CNAME ns\n";
        text += &format!("{hash} NSEC3 1 0 0 - {hash} A NS\n");
    }
    world::zone("example.", &text)
}

fn run(data: &[u8]) {
    let messages = messages(data);
    check_any_messages(&messages);
    let limit = zones::LIMIT as u64;
    let axfr = Incoming::axfr(APEX.as_name(), ID, limit);
    let ixfr = Incoming::ixfr(APEX.as_name(), ID, FIRST.serial(), limit);
    for mut incoming in [axfr, ixfr] {
        for message in &messages {
            match incoming.message(message) {
                Ok(Progress::More) => {}
                Ok(Progress::Whole(builder, soa)) => {
                    if let Ok(zone) = builder.build() {
                        assert_eq!(*zone.soa(), soa, "the one it was announced with");
                        zones::is_sound(&zone);
                    }
                    break;
                }
                Ok(Progress::Diffs(diffs)) => {
                    apply(&diffs);
                    break;
                }
                Ok(_) | Err(_) => break,
            }
        }
    }
}

fn apply(diffs: &[Diff]) {
    let mut zone = FIRST.clone();
    for diff in diffs {
        assert!(Diff::decode(&diff.encode()) == Some(diff.clone()), "the store loses some of it");
        match zone.apply(diff) {
            Ok(next) => zone = next,
            Err(_) => break,
        }
    }
    zones::is_sound(&zone);
}

/// The messages, taken apart.
fn messages(mut data: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some((len, rest)) = data.split_first_chunk::<2>() {
        let (message, rest) = rest.split_at(rest.len().min(u16::from_be_bytes(*len).into()));
        messages.push(message.to_vec());
        data = rest;
    }
    messages
}

/// A whole zone, and differences, in one message and in many.
fn seeds() -> Vec<Vec<u8>> {
    let versions: Vec<_> = (1..=4).map(|serial| Arc::new(version(serial))).collect();
    let diffs = versions.windows(2).map(|pair| Arc::new(Diff::between(&pair[0], &pair[1])));
    let diffs: Vec<_> = diffs.collect();
    let ask = |query: &[u8]| parse_transfer(query).unwrap();
    let whole = ask(&axfr_query(ID, APEX.as_name()));
    let parts = ask(&ixfr_query(ID, APEX.as_name(), Serial(1)));
    let mut seeds = Vec::new();
    for room in [200, MESSAGE_MAX] {
        for zone in &versions[..2] {
            seeds.push(sent(Outgoing::axfr(&whole, Arc::clone(zone)), room));
        }
        for end in 1..=diffs.len() {
            let newest = Arc::clone(&versions[end]);
            seeds.push(sent(Outgoing::ixfr(&parts, newest, Some(&diffs[..end])), room));
        }
    }
    seeds
}

fn sent(mut outgoing: Outgoing, room: usize) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), vec![0; room]);
    while let Some(len) = outgoing.next(&mut buffer, 0).unwrap() {
        all.extend_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
        all.extend_from_slice(&buffer[..len]);
    }
    all
}
