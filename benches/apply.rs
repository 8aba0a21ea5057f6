//! What an update costs, and what it does to those who answer meanwhile.
//!
//! `cargo bench --bench apply`, with `NAMES=100000` for smaller zones than of a million names and
//! `SECONDS=5` for longer runs than of three seconds. It needs two cores, one of them to itself:
//! what the scheduler takes from the thread that answers is in its figures too.
#![expect(clippy::print_stdout, reason = "its report")]

use backstop::answer::{Via, respond};
use backstop::name::NameBuf;
use backstop::view::{Access, Expiry, Served, View, Views, reap};
use backstop::wire::{Rtype, Serial};
use backstop::zone::{Builder, Diff, Record, Records, Zone};
use hdrhistogram::Histogram;
use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many records a zone has beside its delegations: SOA, NS and its address.
const APEX_RECORDS: usize = 3;

fn main() {
    // `cargo test --benches` only wants to know that it runs.
    let measures = std::env::args().any(|argument| argument == "--bench");
    let number = |name, default| {
        let given = std::env::var(name).ok();
        given.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: a number")))
    };
    let names = number("NAMES", if measures { 1_000_000 } else { 2_000 });
    let seconds = number("SECONDS", 3);
    let run = Duration::from_secs(seconds as u64).min(if measures {
        Duration::MAX
    } else {
        Duration::from_millis(20)
    });
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load average {}", load.split(' ').next().unwrap_or("?"));
    for names in [names.min(1000), names] {
        let mut primary = Primary::new(names);
        one_record(&mut primary, names);
        if names > 1000 || !measures {
            many_records(&mut primary, names);
            primary = wear(primary, names);
            latencies(primary, names, run);
        }
    }
}

/// Versions of a zone of delegations `d{i}` with two name servers each, the first of which has an
/// address. An update changes that.
struct Primary {
    zone: Arc<Zone>,
    /// In canonical order.
    names: Vec<NameBuf>,
    /// How often each one's address was changed.
    changed: Vec<u32>,
    seed: u64,
}

impl Primary {
    fn new(names: usize) -> Self {
        let mut sorted: Vec<String> = (0..names).map(|i| format!("d{i}")).collect();
        sorted.sort();
        let names: Vec<NameBuf> =
            sorted.iter().map(|label| name(&format!("ns1.{label}.example"))).collect();
        let zone = Arc::new(build(&names));
        let changed = vec![0; names.len()];
        Self { zone, names, changed, seed: 0x9e37_79b9_7f4a_7c15 }
    }

    fn random(&mut self) -> usize {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        usize::try_from(self.seed >> 1).expect("64 bits") % self.names.len()
    }

    /// What leads to the next version, with so many addresses changed.
    fn diff(&mut self, changes: usize) -> Diff {
        let from = self.zone.serial();
        let to = Serial(from.0.wrapping_add(1));
        let (mut removed, mut added) = (Records::default(), Records::default());
        removed.push(name("example").as_name(), record(Rtype::SOA, &soa(from)));
        added.push(name("example").as_name(), record(Rtype::SOA, &soa(to)));
        // A diff that told of a record twice would not apply.
        let mut chosen = BTreeSet::new();
        while chosen.len() < changes.min(self.names.len()) {
            chosen.insert(self.random());
        }
        for at in chosen {
            let owner = self.names[at].as_name();
            removed.push(owner, record(Rtype::A, &self.changed[at].to_be_bytes()));
            self.changed[at] += 1;
            added.push(owner, record(Rtype::A, &self.changed[at].to_be_bytes()));
        }
        Diff { from, to, removed, added }
    }

    /// The next version; the one before is given back.
    fn apply(&mut self, diff: &Diff) -> Arc<Zone> {
        let next = Arc::new(self.zone.apply(diff).expect("made for it"));
        std::mem::replace(&mut self.zone, next)
    }
}

fn name(text: &str) -> NameBuf {
    text.parse().expect("a name")
}

fn record(rtype: Rtype, data: &[u8]) -> Record<'_> {
    Record { rtype, ttl: 3600, data }
}

fn soa(serial: Serial) -> Vec<u8> {
    [b"\0\0", &serial.0.to_be_bytes()[..], &[0; 16]].concat()
}

/// The first version, of records in canonical order, as primaries send them.
fn build(names: &[NameBuf]) -> Zone {
    let apex = name("example");
    let mut builder = Builder::new(apex.as_name());
    builder.add(apex.as_name(), record(Rtype::SOA, &soa(Serial(1))));
    builder.add(apex.as_name(), record(Rtype::NS, name("ns.example").as_name().as_wire()));
    for (i, glue) in names.iter().enumerate() {
        let hoster = name(&format!("ns2.hoster{}.net", i % 1000));
        let cut = glue.as_name().skip(1);
        builder.add(cut, record(Rtype::NS, glue.as_name().as_wire()));
        builder.add(cut, record(Rtype::NS, hoster.as_name().as_wire()));
        builder.add(glue.as_name(), record(Rtype::A, &[0; 4]));
    }
    builder.add(name("ns.example").as_name(), record(Rtype::A, &[192, 0, 2, 1]));
    builder.build().expect("a zone")
}

fn one_record(primary: &mut Primary, names: usize) {
    let mut times = histogram();
    for _ in 0..10_000_usize.min(10 * names) {
        let diff = primary.diff(1);
        let began = Instant::now();
        let before = primary.apply(&diff);
        drop(before);
        times.saturating_record(nanoseconds(began));
    }
    let diff = primary.diff(1);
    let before = primary.apply(&diff);
    let copied = primary.zone.names().not_shared_with(before.names());
    println!(
        "{names} names, one record: {} ns (median), copies {copied:?}",
        times.value_at_quantile(0.5)
    );
}

fn many_records(primary: &mut Primary, names: usize) {
    let diff = primary.diff(1000);
    let began = Instant::now();
    let before = primary.apply(&diff);
    let us = nanoseconds(began) / 1000;
    let copied = primary.zone.names().not_shared_with(before.names());
    println!("{names} names, 1000 records in one version: {us} us, copies {copied:?}");
}

/// As many random updates as there are names, a thousand a version.
fn wear(mut primary: Primary, names: usize) -> Primary {
    let octets = |zone: &Zone| zone.names().bytes() as f64 / (3 * names + APEX_RECORDS) as f64;
    let fresh = octets(&build(&primary.names));
    for _ in 0..names / 1000 {
        let diff = primary.diff(1000);
        primary.apply(&diff);
    }
    println!(
        "{names} names: {fresh:.1} octets a record when loaded, {:.1} after as many random updates",
        octets(&primary.zone)
    );
    primary
}

/// What `respond` takes by the clock on a core of its own: at rest, while another thread applies
/// and publishes one-record versions as fast as it can, and while it builds the zone anew.
fn latencies(mut primary: Primary, names: usize, run: Duration) {
    let cpus = backstop::io::cpus();
    // Who builds, publishes and frees stays away from the core of who answers.
    if let [others, _, ..] = cpus[..] {
        let _ = backstop::io::pin(others);
    }
    let (views, retired) = Views::new(view(&primary.zone));
    let reaper = thread::spawn(move || reap(&retired));
    let requests: Vec<_> = (0..1 << 16).map(|_| request(&primary)).collect();
    println!("{names} names: nanoseconds of `respond` by the clock");
    println!(
        "{:<26}{:>10}{:>9}{:>9}{:>9}{:>9}",
        "", "answers", "50 %", "99 %", "99.9 %", "99.99 %"
    );
    for what in ["at rest", "under updates", "while a zone is built", "at rest again"] {
        let stop = AtomicBool::new(false);
        let done = AtomicU64::new(0);
        let times = thread::scope(|scope| {
            let answering = scope.spawn(|| {
                if let Some(&cpu) = cpus.get(1) {
                    // Without a core of its own it measures all the same, if not as well.
                    let _ = backstop::io::pin(cpu);
                }
                answer(&views, &requests, &stop)
            });
            let began = Instant::now();
            while began.elapsed() < run {
                match what {
                    "under updates" => {
                        let diff = primary.diff(1);
                        primary.apply(&diff);
                        views.publish(|view| view.put(served(&primary.zone)));
                    }
                    "while a zone is built" => drop(black_box(build(&primary.names))),
                    _ => thread::sleep(run / 10),
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
            stop.store(true, Ordering::Relaxed);
            answering.join().expect("answering does not panic")
        });
        let of = |quantile| times.value_at_quantile(quantile);
        println!(
            "{what:<26}{:>10}{:>9}{:>9}{:>9}{:>9}   {}",
            times.len(),
            of(0.5),
            of(0.99),
            of(0.999),
            of(0.9999),
            match what {
                "under updates" => format!("{done:?} versions"),
                "while a zone is built" => format!("{done:?} zones"),
                _ => String::new(),
            }
        );
    }
    drop(views);
    reaper.join().expect("the reaper does not panic");
}

fn served(zone: &Arc<Zone>) -> Arc<Served> {
    Arc::new(Served {
        apex: name("example"),
        access: Arc::new(Access::default()),
        zone: Some(Arc::clone(zone)),
        expiry: Arc::new(Expiry::at(Expiry::NEVER)),
        history: Arc::new([]),
    })
}

fn view(zone: &Arc<Zone>) -> View {
    let mut view = View::default();
    view.put(served(zone));
    view
}

/// A question for a random delegation.
fn request(primary: &Primary) -> Vec<u8> {
    static SEED: AtomicU64 = AtomicU64::new(1);
    let n = SEED.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
    let owner = &primary.names[usize::try_from(n).expect("48 bits") % primary.names.len()];
    let mut message = b"\xab\xcd\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    message.extend_from_slice(owner.as_name().as_wire());
    message.extend_from_slice(b"\0\x01\0\x01");
    message
}

/// Answers until it is stopped, a batch of 32 with each view, as a worker does.
fn answer(views: &Views, requests: &[Vec<u8>], stop: &AtomicBool) -> Histogram<u64> {
    let mut times = histogram();
    let mut reader = views.reader();
    let mut reply = [0; 1232];
    let via = Via::datagram([192, 0, 2, 1].into());
    for batch in requests.chunks(32).cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let view = reader.refresh();
        for request in batch {
            let began = Instant::now();
            black_box(respond(request, &via, view, &mut reply));
            times.saturating_record(nanoseconds(began));
        }
    }
    times
}

/// Of nanoseconds up to ten seconds, to three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("good bounds")
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
