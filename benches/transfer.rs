//! A whole zone coming in, the network left out: messages read and built into a zone, and what the
//! store keeps of it read out and read back.
//!
//! `NAMES=1000000 cargo bench --bench transfer` measures the full shape, three records a name; the
//! default is 100,000 names.

use backstop::name::NameBuf;
use backstop::wire::Rtype;
use backstop::xfr::{Incoming, MESSAGE_MAX, Outgoing, Progress, axfr_query, parse_transfer};
use backstop::zone::{Builder, Record, Zone};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ID: u16 = 7;

fn name(text: &str) -> NameBuf {
    text.parse().expect("a name")
}

/// Delegations `d{i}` with two name servers, one of them below with an address.
fn delegations(apex: &NameBuf, names: u32) -> Zone {
    let mut builder = Builder::new(apex.as_name());
    let mut add = |owner: &NameBuf, rtype, data: &[u8]| {
        assert!(builder.add(owner.as_name(), Record { rtype, ttl: 3600, data }));
    };
    add(apex, Rtype::SOA, &[0; 22]);
    for n in 0..names {
        let owner = name(&format!("d{n}.{apex}"));
        let glue = name(&format!("ns1.d{n}.{apex}"));
        let other = name(&format!("ns2.hoster{}.net.", n % 1000));
        add(&owner, Rtype::NS, glue.as_name().as_wire());
        add(&owner, Rtype::NS, other.as_name().as_wire());
        add(&glue, Rtype::A, &(10 << 24 | n).to_be_bytes());
    }
    builder.build().expect("a zone")
}

/// What a primary sends.
fn messages(apex: &NameBuf, zone: &Arc<Zone>) -> Vec<Vec<u8>> {
    let request = parse_transfer(&axfr_query(ID, apex.as_name())).expect("a request");
    let mut outgoing = Outgoing::axfr(&request, Arc::clone(zone));
    let mut buffer = vec![0; MESSAGE_MAX];
    let mut messages = Vec::new();
    while let Some(len) = outgoing.next(&mut buffer, 0).expect("it fits") {
        messages.push(buffer[..len].to_vec());
    }
    messages
}

fn receive(apex: &NameBuf, messages: &[Vec<u8>]) -> Zone {
    let mut incoming = Incoming::axfr(apex.as_name(), ID, u64::MAX);
    for message in messages {
        if let Progress::Whole(builder, _) = incoming.message(message).expect("a transfer") {
            return builder.build().expect("a zone");
        }
    }
    unreachable!("it ends with the SOA")
}

/// What the store keeps: keys and nodes.
fn kept(zone: &Zone, each: &mut dyn FnMut(&[u8], &[u8])) {
    let whole = zone.kept(None, &mut |key, blob| {
        each(key, blob);
        ControlFlow::Continue(())
    });
    assert!(whole.is_continue());
}

fn transfer(c: &mut Criterion) {
    let names = std::env::var("NAMES").map_or(100_000, |n| n.parse().expect("NAMES: a number"));
    let apex = name("bench.example.");
    let zone = Arc::new(delegations(&apex, names));
    let messages = messages(&apex, &zone);
    let mut entries = Vec::new();
    kept(&zone, &mut |key, blob| entries.push((key.to_vec(), blob.to_vec())));
    let mut group = c.benchmark_group("a zone");
    group.throughput(Throughput::Elements(zone.records()));
    group.bench_function("received", |b| b.iter_with_large_drop(|| receive(&apex, &messages)));
    group.bench_function("read out", |b| {
        b.iter(|| {
            let mut octets = 0;
            kept(&zone, &mut |key, blob| octets += key.len() + blob.len());
            octets
        });
    });
    group.bench_function("restored", |b| {
        let entries = || entries.iter().map(|(key, blob)| (key, blob));
        b.iter_with_large_drop(|| Zone::restore(apex.as_name(), entries()).expect("a zone"));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .sample_size(10);
    targets = transfer
}
criterion_main!(benches);
