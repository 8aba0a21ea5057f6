//! The tree as a zone of delegations uses it: look-ups, updates, loading, memory.
//!
//! `NAMES=1000000 cargo bench --bench zone` measures the full shape (two owners a name); the
//! default of 100,000 names is quick, but half of it fits into caches.

use backstop::name::{Key, NameBuf};
use backstop::tree::{Tree, Way};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::array;
use std::hint::black_box;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 32;

struct Shape {
    sorted: Vec<(Key, Vec<u8>)>,
    tree: Tree,
}

/// Delegations `d{i}` with two name servers, one of them below with an address.
fn delegations(names: usize) -> Shape {
    let mut sorted = Vec::with_capacity(2 * names + 1);
    sorted.push((Key::empty(), vec![0; 100]));
    for n in 0..names {
        sorted.push((key(&format!("d{n}.")), vec![1; 31]));
        sorted.push((key(&format!("ns1.d{n}.")), vec![2; 12]));
    }
    sorted.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
    let tree = build(&sorted);
    Shape { sorted, tree }
}

fn build(sorted: &[(Key, Vec<u8>)]) -> Tree {
    Tree::build(sorted.iter().map(|(key, blob)| (key.as_bytes(), blob, ())))
}

fn key(name: &str) -> Key {
    Key::of(name.parse::<NameBuf>().expect("a name").as_name(), 0)
}

/// `count` keys, chosen as if by chance among the first `among` of a fixed shuffle.
fn questions(shape: &Shape, count: usize, among: usize) -> Vec<Key> {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut chosen = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed >> 1).expect("64 bits") % among
    };
    let spread = |n: usize| n.wrapping_mul(0x9e37_79b1) % shape.sorted.len();
    (0..count).map(|_| shape.sorted[spread(chosen())].0.clone()).collect()
}

/// Batches of `keys`, over and over.
fn batches<'k>(keys: &'k [Key]) -> impl FnMut() -> &'k [Key] {
    let mut at = 0;
    move || {
        at = (at + BATCH) % (keys.len() - BATCH);
        &keys[at..at + BATCH]
    }
}

fn look_ups(c: &mut Criterion, shape: &Shape) {
    let tree = &shape.tree;
    let mut group = c.benchmark_group("32 look-ups");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (which, among) in [("hot", 1000), ("uniform", shape.sorted.len())] {
        // Few enough that reading the keys themselves does not count.
        let keys = questions(shape, if which == "hot" { 1024 } else { 1 << 15 }, among);
        let below: Vec<_> = keys
            .iter()
            .map(|key| Key::from_bytes(&[key.as_bytes(), b"www\0"].concat()).expect("a key"))
            .collect();
        let get = |key: &Key| tree.get(key).map_or(0, |(blob, ())| usize::from(blob[0]));
        let seek = |key: &Key| tree.seek(key).at_or_before().map_or(0, |e| usize::from(e.blob[0]));
        let mut next = batches(&keys);
        group.bench_function(format!("get {which}"), |b| {
            b.iter(|| next().iter().map(get).sum::<usize>())
        });
        let mut next = batches(&keys);
        group.bench_function(format!("get {which}, each after the last"), |b| {
            let nothing = black_box(0);
            b.iter(|| {
                let batch = next();
                (0..BATCH).fold(0, |last, at| get(&batch[at + (last & nothing)]))
            })
        });
        let together = |batch: &[Key]| {
            let ways: [_; BATCH] = array::from_fn(|at| tree.way(&batch[at]));
            let place = |(way, key): (&Way<'_, ()>, &Key)| {
                way.place(key).at_or_before().map_or(0, |e| usize::from(e.blob[0]))
            };
            ways.iter().zip(batch).map(place).sum::<usize>()
        };
        for (what, keys) in [("exact", &keys), ("below", &below)] {
            let mut next = batches(keys);
            group.bench_function(format!("seek {what} {which}"), |b| {
                b.iter(|| next().iter().map(seek).sum::<usize>())
            });
            let mut next = batches(keys);
            group.bench_function(format!("seek {what} {which}, together"), |b| {
                b.iter(|| together(next()))
            });
        }
    }
    group.finish();
}

fn changes(c: &mut Criterion, shape: &Shape) {
    let keys = questions(shape, 1 << 16, shape.sorted.len());
    let mut tree = shape.tree.clone();
    let mut at = 0;
    c.bench_function("replace one, as a version of its own", |b| {
        b.iter(|| {
            at = (at + 1) % keys.len();
            let old = tree.clone();
            tree.insert(&keys[at], &[3; 31], ());
            old
        });
    });
    let mut fresh = 0;
    c.bench_function("insert one, as a version of its own", |b| {
        b.iter_batched(
            || {
                fresh += 1;
                key(&format!("new{fresh}.{}d{}.", fresh % 7, fresh * 7919 % 100_000))
            },
            |key| {
                let old = tree.clone();
                tree.insert(&key, &[3; 31], ());
                old
            },
            BatchSize::SmallInput,
        );
    });
}

fn whole(c: &mut Criterion, shape: &Shape) {
    let mut group = c.benchmark_group("all entries");
    group.throughput(Throughput::Elements(shape.tree.len() as u64));
    group.bench_function("build", |b| {
        b.iter_with_large_drop(|| build(&shape.sorted));
    });
    group.bench_function("iterate", |b| {
        b.iter(|| shape.tree.iter().map(|entry| entry.blob.len()).sum::<usize>());
    });
    group.finish();
}

fn zone(c: &mut Criterion) {
    let names = std::env::var("NAMES").map_or(100_000, |n| n.parse().expect("NAMES: a number"));
    let shape = delegations(names);
    let content: usize = shape.sorted.iter().map(|(_, blob)| blob.len()).sum();
    let records = 3 * names + 1;
    eprintln!(
        "{} entries, {records} records: {:.1} bytes a record, {:.1} of them blobs; {:.2} bytes an \
         entry beside blobs",
        shape.tree.len(),
        shape.tree.bytes() as f64 / records as f64,
        content as f64 / records as f64,
        (shape.tree.bytes() - content) as f64 / shape.tree.len() as f64,
    );
    let mut one = shape.tree.clone();
    one.insert(&shape.sorted[shape.sorted.len() / 2].0, &[3; 31], ());
    eprintln!("replacing one entry copies {:?}", one.not_shared_with(&shape.tree));
    look_ups(c, &shape);
    changes(c, &shape);
    whole(c, &shape);
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20);
    targets = zone
}
criterion_main!(benches);
