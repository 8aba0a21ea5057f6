//! The bodies that `scripts/fuzz` runs for hours, run over their seeds and mutations of them, the
//! same each time: what any octets may do, and what must hold whatever they are.
//!
//! `BACKSTOP_FUZZ_RUNS` multiplies how often (1).

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use fuzz::Target;
use std::fs;
use std::path::Path;

/// xorshift64*: the same octets each time.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(high).unwrap() % n
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    fn pick<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        &all[self.below(all.len())]
    }
}

/// Changes, removes, inserts and repeats some octets; now and then all of it is random.
fn mutate(random: &mut Random, data: &mut Vec<u8>) {
    if random.below(50) == 0 {
        let len = random.below(120);
        data.clear();
        data.extend((0..len).map(|_| random.byte()));
        return;
    }
    for _ in 0..random.below(4) {
        if data.is_empty() {
            return;
        }
        let at = random.below(data.len());
        match random.below(8) {
            0 => data.truncate(at),
            1 => data.insert(at, random.byte()),
            2 => data[at] ^= 1 << random.below(8),
            3 => data[at] = *random.pick(&[0, 1, 0x3f, 0x40, 0xc0, 0xc0, 0xff]),
            4 => data.extend_from_slice(random.pick::<&[u8]>(TAILS)),
            5 => _ = data.remove(at),
            6 => {
                let end = (at + random.below(40)).min(data.len());
                let part = data[at..end].to_vec();
                let to = random.below(data.len());
                data.splice(to..to, part);
            }
            _ => data[at] = random.byte(),
        }
    }
}

/// Records that change how a request is read.
const TAILS: &[&[u8]] = &[
    b"\0\0\x29\x04\xd0\0\0\x80\0\0\0",
    b"\0\0\x29\xff\xff\0\0\x80\0\0\x0c\0\x0a\0\x08abcdefgh",
    b"\0\0\x29\0\0\0\x01\0\0\0\0",
    b"\xc0\x0c\0\xfa\0\xff\0\0\0\0\0\0",
    b"\xc0\x0c\0\x06\0\x01\0\0\0\0\0\0",
];

/// The files of a target's corpus, and the seeds that are made.
fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name);
    let mut files: Vec<_> =
        fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let kept = files.iter().map(|file| fs::read(file).unwrap());
    let seeds: Vec<_> = kept.chain((target.seeds)()).collect();
    assert!(!seeds.is_empty(), "{} has no seeds", target.name);
    seeds
}

/// Runs a body over its seeds and `count` mutations of them, on as many threads as there are
/// numbers to begin with.
fn fuzz(target: &Target, count: usize) {
    let seeds = seeds(target);
    seeds.iter().for_each(|seed| (target.run)(seed));
    let times = std::env::var("BACKSTOP_FUZZ_RUNS").map_or(1, |text| text.parse().unwrap());
    let starts = [0x5eed, 0x1dea, 0xf00d, 0xcafe];
    std::thread::scope(|scope| {
        for start in starts {
            let seeds = &seeds;
            scope.spawn(move || {
                let mut random = Random(start);
                let mut data = Vec::new();
                for _ in 0..count * times / starts.len() {
                    data.clone_from(random.pick(seeds));
                    mutate(&mut random, &mut data);
                    let last = Last(target.name, &data);
                    (target.run)(&data);
                    drop(last);
                }
            });
        }
    });
}

/// Tells what a body was given if it panics.
struct Last<'d>(&'static str, &'d [u8]);

impl Drop for Last<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} panicked given b\"{}\"", self.0, self.1.escape_ascii());
        }
    }
}

#[test]
fn every_reply_to_a_million_requests_is_a_sound_message() {
    fuzz(&fuzz::RESPOND, 1_000_000);
}

#[test]
fn no_transfer_makes_an_unsound_zone() {
    fuzz(&fuzz::TRANSFER, 2000);
}

#[test]
fn every_zone_file_is_refused_or_makes_a_zone_that_survives_its_own_file() {
    fuzz(&fuzz::ZONE_FILE, 1000);
}

#[test]
fn no_signature_is_believed_that_another_implementation_does_not_believe() {
    fuzz(&fuzz::TSIG, 40_000);
}

#[test]
fn whatever_the_store_gives_back_is_refused_or_can_be_read() {
    fuzz(&fuzz::STORE_NODE, 2000);
}

#[test]
fn no_control_request_means_two_things() {
    fuzz(&fuzz::CONTROL, 40_000);
}

#[test]
fn every_configuration_is_refused_for_a_reason_or_good() {
    fuzz(&fuzz::CONFIG, 2000);
}

#[test]
fn no_frame_is_lost_and_every_reply_is_a_sound_packet_whatever_comes() {
    fuzz(&fuzz::XDP, 20_000);
}
