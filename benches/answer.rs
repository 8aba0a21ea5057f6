//! What a reply costs, by kind of answer.
//!
//! `NAMES=1000000 cargo bench --bench answer` measures zones of that many names (default 100,000):
//! hot (one request again and again), uniform (random names), and in batches of 32. What is "made"
//! is answered anew each time; the rest is done as the workers do it, who repeat a reply that was
//! given a moment ago.
//!
//! Instructions a reply, where the clock is too noisy: build, then count what `make` executes, or
//! `as_worker` for a reply that is repeated:
//!
//! ```text
//! COUNT=positive valgrind --tool=callgrind --toggle-collect='*::make' \
//!     --callgrind-out-file=/dev/null target/release/deps/answer-HASH
//! ```
//!
//! and divide `Collected` by the number of replies that the program prints.

use arrayvec::ArrayVec;
use backstop::answer::{AT_ONCE, Asked, Outcome, Recent, Via, respond};
use backstop::name::{Key, NAME_MAX, Name, NameBuf};
use backstop::view::{Access, Expiry, Served, View};
use backstop::wire::Rtype;
use backstop::zone::{Builder, Record, Zone};
use criterion::{Criterion, Throughput};
use sha1::{Digest, Sha1};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 32;

/// How many requests the uniform runs take turns in.
const REQUESTS: usize = 1 << 16;

fn main() {
    let names = std::env::var("NAMES").map_or(100_000, |names| names.parse().expect("a number"));
    let kinds = kinds();
    if let Ok(wanted) = std::env::var("COUNT") {
        let kind = kinds.iter().find(|kind| kind.label == wanted).expect("a kind of answer");
        return count(kind, names);
    }
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    for signing in [Signing::None, Signing::Nsec, Signing::Nsec3] {
        let view = view(names, signing);
        for kind in kinds.iter().filter(|kind| kind.signing == signing) {
            measure(&mut criterion, kind, &view, names);
        }
    }
    criterion.final_summary();
}

/// How a zone is signed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Signing {
    None,
    Nsec,
    Nsec3,
}

/// A kind of answer: how the i-th name is called that gets it.
struct Kind {
    label: &'static str,
    signing: Signing,
    name: fn(usize) -> String,
    rtype: Rtype,
}

fn kinds() -> Vec<Kind> {
    let kind = |label, signing, name, rtype| Kind { label, signing, name, rtype };
    let (host, none) = (|i| format!("host{i}.example"), |i| format!("host{i}x.example"));
    let (wild, cut) = (|i| format!("q{i}.wild.example"), |i| format!("www.d{i}.example"));
    let alias = |i| format!("alias{}.example", i / 8 * 8);
    vec![
        kind("positive", Signing::None, host, Rtype::A),
        kind("nxdomain", Signing::None, none, Rtype::A),
        kind("nodata", Signing::None, host, Rtype::MX),
        kind("wildcard", Signing::None, wild, Rtype::A),
        kind("cname", Signing::None, alias, Rtype::A),
        kind("referral", Signing::None, cut, Rtype::A),
        kind("nsec-positive", Signing::Nsec, host, Rtype::A),
        kind("nsec-nxdomain", Signing::Nsec, none, Rtype::A),
        kind("nsec-nodata", Signing::Nsec, host, Rtype::MX),
        kind("nsec-referral", Signing::Nsec, cut, Rtype::A),
        kind("nsec3-nxdomain", Signing::Nsec3, none, Rtype::A),
        kind("nsec3-nodata", Signing::Nsec3, host, Rtype::MX),
        kind("nsec3-wildcard", Signing::Nsec3, wild, Rtype::A),
        kind("nsec3-referral", Signing::Nsec3, cut, Rtype::A),
    ]
}

fn measure(criterion: &mut Criterion, kind: &Kind, view: &View, names: usize) {
    let requests = requests(kind, names);
    let mut reply = [0; 1232];
    let mut group = criterion.benchmark_group(kind.label);
    group.throughput(Throughput::Elements(1));
    group.bench_function("made hot", |bench| {
        bench.iter(|| make(black_box(&requests[0]), view, &mut reply));
    });
    let mut turn = requests.iter().cycle();
    group.bench_function("made uniform", |bench| {
        bench.iter(|| make(turn.next().expect("endless"), view, &mut reply));
    });
    let mut recent = Recent::new(1);
    group.bench_function("hot", |bench| {
        bench.iter(|| as_worker(black_box(&requests[0]), view, &mut recent, &mut reply));
    });
    group.bench_function("uniform", |bench| {
        bench.iter(|| as_worker(turn.next().expect("endless"), view, &mut recent, &mut reply));
    });
    group.throughput(Throughput::Elements(BATCH as u64));
    for (label, hot) in [("hot batch", true), ("uniform batch", false)] {
        let mut batches =
            requests[..if hot { BATCH } else { REQUESTS }].chunks_exact(BATCH).cycle();
        group.bench_function(label, |bench| {
            bench.iter(|| {
                as_worker_all(batches.next().expect("endless"), view, &mut recent, &mut reply);
            });
        });
    }
}

fn via() -> Via<'static> {
    Via::datagram([192, 0, 2, 1].into())
}

#[inline(never)]
fn make(request: &[u8], view: &View, reply: &mut [u8]) -> Outcome {
    respond(request, &via(), view, reply)
}

/// As a worker does with one request.
#[inline(never)]
fn as_worker(request: &[u8], view: &View, recent: &mut Recent, reply: &mut [u8]) -> Outcome {
    let via = via();
    recent.begin(view.version(), via.now_ms);
    match recent.repeat(request, &via, reply) {
        Ok(outcome) => outcome,
        Err(vacancy) => {
            let outcome = respond(request, &via, view, reply);
            if let Some(vacancy) = vacancy {
                recent.keep(vacancy, request, &via, reply, outcome);
            }
            outcome
        }
    }
}

/// As a worker does with what came together.
#[inline(never)]
fn as_worker_all(batch: &[Vec<u8>], view: &View, recent: &mut Recent, reply: &mut [u8]) {
    let via = via();
    recent.begin(view.version(), via.now_ms);
    let mut asked = [const { Asked::new() }; AT_ONCE];
    for requests in batch.chunks(AT_ONCE) {
        let mut waiting = ArrayVec::<_, AT_ONCE>::new();
        for request in requests {
            match recent.repeat(request, &via, reply) {
                Ok(outcome) => drop(black_box(outcome)),
                Err(vacancy) => {
                    asked[waiting.len()].read(request, view);
                    waiting.push((request, vacancy));
                }
            }
        }
        for (asked, (request, vacancy)) in asked.iter().zip(waiting) {
            let outcome = black_box(asked.respond(&via, reply));
            if let Some(vacancy) = vacancy {
                recent.keep(vacancy, request, &via, reply, outcome);
            }
        }
    }
}

fn count(kind: &Kind, names: usize) {
    let view = view(names, kind.signing);
    let requests = requests(kind, names);
    let mut reply = [0; 1232];
    for request in &requests[..1000] {
        black_box(make(request, &view, &mut reply));
    }
    let mut recent = Recent::new(1);
    for _ in 0..1000 {
        black_box(as_worker(&requests[0], &view, &mut recent, &mut reply));
    }
    let outcome = make(&requests[0], &view, &mut reply);
    eprintln!("{} replies like {outcome:?}", 1001);
}

/// Requests in random order, the same each time.
fn requests(kind: &Kind, names: usize) -> Vec<Vec<u8>> {
    let mut state = 0x5eed_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 1).expect("64 bits") % names
    };
    (0..REQUESTS).map(|_| request(&(kind.name)(random()), kind)).collect()
}

fn request(text: &str, kind: &Kind) -> Vec<u8> {
    let mut message = b"\xab\xcd\x01\0\0\x01\0\0\0\0\0\x01".to_vec();
    message.extend_from_slice(name(text).as_name().as_wire());
    message.extend_from_slice(&kind.rtype.0.to_be_bytes());
    message.extend_from_slice(b"\0\x01\0\0\x29\x04\xd0\0\0");
    message.extend_from_slice(&[if kind.signing == Signing::None { 0 } else { 0x80 }, 0, 0, 0]);
    message
}

fn name(text: &str) -> NameBuf {
    text.parse().expect("a name")
}

/// Half hosts, half delegations with glue, every eighth host with an alias.
fn view(names: usize, signing: Signing) -> View {
    let mut zone = Signed::new(signing);
    let mut soa = name("ns1.example").as_name().as_wire().to_vec();
    soa.extend_from_slice(name("hostmaster.example").as_name().as_wire());
    soa.extend_from_slice(&[0, 0, 1, 0].repeat(5));
    zone.add("example", Rtype::SOA, &soa);
    zone.add("example", Rtype::NS, name("ns1.example").as_name().as_wire());
    zone.add("*.wild.example", Rtype::A, &[192, 0, 2, 1]);
    zone.add("wild.example", Rtype::TXT, b"\x01x");
    for i in 0..names {
        zone.add(&format!("host{i}.example"), Rtype::A, &[192, 0, 2, 1]);
        let (cut, glue) = (format!("d{i}.example"), format!("ns1.d{i}.example"));
        zone.add(&cut, Rtype::NS, name(&glue).as_name().as_wire());
        zone.add(&cut, Rtype::NS, name(&format!("ns2.d{i}.example")).as_name().as_wire());
        zone.glue(&glue, &[192, 0, 2, 2]);
        if i % 8 == 0 {
            let target = name(&format!("host{i}.example"));
            zone.add(&format!("alias{i}.example"), Rtype::CNAME, target.as_name().as_wire());
        }
    }
    let mut view = View::default();
    view.put(Arc::new(Served {
        apex: name("example"),
        access: Arc::new(Access::default()),
        zone: Some(Arc::new(zone.build())),
        expiry: Arc::new(Expiry::at(Expiry::NEVER)),
        history: Arc::new([]),
    }));
    view
}

/// A zone with signatures that are none, but as long as those of ECDSA P-256, and real chains.
struct Signed {
    builder: Builder,
    signing: Signing,
    /// Wire forms of owners by their keys in the chain.
    owners: Vec<(Vec<u8>, NameBuf)>,
}

impl Signed {
    fn new(signing: Signing) -> Self {
        Self { builder: Builder::new(name("example").as_name()), signing, owners: Vec::new() }
    }

    fn add(&mut self, owner: &str, rtype: Rtype, data: &[u8]) {
        let owner = name(owner);
        self.put(&owner, rtype, data);
        if self.signing == Signing::None {
            return;
        }
        let key = match self.signing {
            Signing::Nsec3 => Sha1::digest(owner.as_name().as_wire()).to_vec(),
            _ => Key::of(owner.as_name(), 0).as_bytes().to_vec(),
        };
        if rtype != Rtype::NS || owner.as_name().label_count() == 1 {
            self.sign(&owner, rtype);
        }
        if self.owners.last().is_none_or(|(_, last)| *last != owner) {
            self.owners.push((key, owner));
        }
    }

    fn glue(&mut self, owner: &str, data: &[u8]) {
        self.put(&name(owner), Rtype::A, data);
    }

    fn put(&mut self, owner: &NameBuf, rtype: Rtype, data: &[u8]) {
        self.builder.add(owner.as_name(), Record { rtype, ttl: 3600, data });
    }

    fn sign(&mut self, owner: &NameBuf, covered: Rtype) {
        let mut data = covered.0.to_be_bytes().to_vec();
        data.extend_from_slice(&[13; 16]);
        data.extend_from_slice(name("example").as_name().as_wire());
        data.extend_from_slice(&[7; 64]);
        self.put(owner, Rtype::RRSIG, &data);
    }

    fn build(mut self) -> Zone {
        let mut owners = std::mem::take(&mut self.owners);
        owners.sort();
        owners.dedup();
        let bitmap = [0, 6, 0x40, 0, 0, 0, 0, 3];
        for (i, (key, owner)) in owners.iter().enumerate() {
            let (next, after) = &owners[(i + 1) % owners.len()];
            if self.signing == Signing::Nsec {
                let data = [after.as_name().as_wire(), &bitmap].concat();
                self.put(owner, Rtype::NSEC, &data);
                self.sign(owner, Rtype::NSEC);
            } else {
                let data = [&[1, 0, 0, 0, 0, 20][..], next, &bitmap].concat();
                let hashed = hashed(key);
                self.put(&hashed, Rtype::NSEC3, &data);
                self.sign(&hashed, Rtype::NSEC3);
            }
        }
        if self.signing == Signing::Nsec3 {
            self.put(&name("example"), Rtype::NSEC3PARAM, &[1, 0, 0, 0, 0]);
            self.sign(&name("example"), Rtype::NSEC3PARAM);
        }
        self.builder.build().expect("a zone")
    }
}

/// The owner of the NSEC3 record with this hash.
fn hashed(hash: &[u8]) -> NameBuf {
    let mut wire = [0; NAME_MAX];
    wire[0] = 32;
    let bit = |at: usize| hash[at / 8] >> (7 - at % 8) & 1;
    for (at, digit) in wire[1..33].iter_mut().enumerate() {
        let value = (0..5).fold(0, |value, i| value << 1 | bit(5 * at + i));
        *digit = b"0123456789abcdefghijklmnopqrstuv"[usize::from(value)];
    }
    wire[33..42].copy_from_slice(b"\x07example\0");
    Name::from_wire(&wire[..42]).expect("a name").to_owned()
}
