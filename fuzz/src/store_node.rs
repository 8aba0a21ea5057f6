//! What the store might give back, were its checksums right: the entries of a zone, or a
//! difference. What is accepted can be read, written and asked without a panic.
//!
//! The first octet says which. An entry is its key and its node, each with its length before it,
//! of one and two octets.

use super::{Target, transfer, zones};
use backstop::zone::{Diff, Node, Zone, file};

pub const TARGET: Target = Target { name: "store_node", run, seeds };

fn run(data: &[u8]) {
    match data.split_first() {
        None => {}
        Some((0, rest)) => difference(rest),
        Some((_, rest)) => entries(rest),
    }
}

fn difference(bytes: &[u8]) {
    let Some(diff) = Diff::decode(bytes) else { return };
    assert!(diff.encode() == bytes, "one encoding only");
    assert!(diff.removed.iter().count() + diff.added.iter().count() == diff.records());
    if let Ok(zone) = transfer::FIRST.apply(&diff) {
        zones::is_sound(&zone);
    }
}

fn entries(mut bytes: &[u8]) {
    let mut entries = Vec::new();
    while let Some((&[key, high, low], rest)) = bytes.split_first_chunk::<3>() {
        let (key, rest) = rest.split_at(rest.len().min(key.into()));
        let (blob, rest) = rest.split_at(rest.len().min(u16::from_be_bytes([high, low]).into()));
        entries.push((key.to_vec(), blob.to_vec()));
        bytes = rest;
    }
    let nodes_are_sound = entries.iter().all(|(_, blob)| Node::check(blob));
    let Ok(zone) = Zone::restore(transfer::FIRST.apex(), entries.clone()) else { return };
    assert!(nodes_are_sound);
    assert!(zones::kept(&zone) == entries, "other entries than were given");
    let mut text = Vec::new();
    file::write(&zone, &mut text).unwrap();
    zones::can_be_asked(&zone);
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for serial in [1, 2] {
        let mut seed = vec![1];
        for (key, blob) in zones::kept(&transfer::version(serial)) {
            seed.push(u8::try_from(key.len()).unwrap());
            seed.extend_from_slice(&u16::try_from(blob.len()).unwrap().to_be_bytes());
            seed.extend_from_slice(&[key, blob].concat());
        }
        seeds.push(seed);
    }
    for to in [2, 3] {
        let diff = Diff::between(&transfer::FIRST, &transfer::version(to));
        seeds.push([&[0][..], &diff.encode()].concat());
    }
    seeds
}
