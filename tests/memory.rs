//! What memory large zones take while they are built and replaced, counted by the allocator.
#![allow(clippy::unwrap_used)]
#![expect(unsafe_code, reason = "an allocator that counts is unsafe to write")]

use backstop::name::{Name, NameBuf};
use backstop::view::{Access, Expiry, Served, View, Views, reap};
use backstop::wire::Rtype;
use backstop::zone::{Builder, Diff, Record, Zone};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the block came from `alloc` above, that is from the system's allocator.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The tests here count for the whole process.
static ALONE: Mutex<()> = Mutex::new(());

const NAMES: usize = 4_000;
/// What is allocated beside zones: threads, the test's own lists.
const SLACK: usize = 128 * 1024;

fn live() -> usize {
    LIVE.load(Ordering::Relaxed)
}

fn name(text: &str) -> NameBuf {
    text.parse().unwrap()
}

/// Delegations and their glue, in the order in which primaries send them.
fn owners(names: usize) -> Vec<NameBuf> {
    let mut labels: Vec<String> = (0..names).map(|i| format!("d{i}")).collect();
    labels.sort();
    labels.iter().map(|label| name(&format!("ns1.{label}.example"))).collect()
}

fn build<'n>(serial: u8, owners: impl Iterator<Item = &'n NameBuf>) -> Zone {
    changed(serial, owners, |_| true)
}

/// The version `serial`, where only the addresses of these glue records are its own.
fn changed<'n>(
    serial: u8,
    owners: impl Iterator<Item = &'n NameBuf>,
    is_new: impl Fn(usize) -> bool,
) -> Zone {
    let apex = name("example");
    let mut builder = Builder::new(apex.as_name());
    let mut add = |owner: Name<'_>, rtype, data: &[u8]| {
        assert!(builder.add(owner, Record { rtype, ttl: 3600, data }));
    };
    let numbers = [&[0, 0, 0, 0, 0, serial][..], &[0; 16]].concat();
    add(apex.as_name(), Rtype::SOA, &numbers);
    for (n, glue) in owners.enumerate() {
        let address = if is_new(n) { serial } else { 1 };
        add(glue.as_name().skip(1), Rtype::NS, glue.as_name().as_wire());
        add(glue.as_name().skip(1), Rtype::NS, b"\x03ns2\x06hoster\x03net\0");
        add(glue.as_name(), Rtype::A, &[192, 0, 2, address]);
    }
    builder.build().unwrap()
}

#[test]
fn building_a_zone_that_comes_in_order_takes_hardly_more_than_the_zone() {
    let _alone = ALONE.lock().unwrap();
    let owners = owners(NAMES);
    let before = live();
    PEAK.store(before, Ordering::Relaxed);
    let zone = build(1, owners.iter());
    let (peak, own) = (PEAK.load(Ordering::Relaxed) - before, live() - before);
    assert_eq!(zone.records(), 3 * NAMES as u64 + 1);
    assert!(own > 20 * 3 * NAMES, "it counts: {own}");
    assert!(peak < own + own / 4 + SLACK, "{peak} at the peak, {own} in the end");
    // Whatever the order, what is left is the same.
    let before = live();
    let other = build(1, owners.iter().rev());
    assert_eq!(other.records(), zone.records());
    assert!((live() - before).abs_diff(own) < own / 4 + SLACK, "{} not {own}", live() - before);
}

#[test]
fn a_whole_transfer_of_a_zone_held_takes_no_more_than_the_zone_again_and_gives_it_back() {
    let _alone = ALONE.lock().unwrap();
    let names = 5 * NAMES;
    let owners = owners(names);
    let before = live();
    let have = build(1, owners.iter());
    let own = live() - before;
    // One in so many delegations has another address; is the difference held?
    for (one_in, is_held) in [(1, false), (4, false), (8, true), (50, true), (2_000, true)] {
        let held = live();
        PEAK.store(held, Ordering::Relaxed);
        let came = changed(2, owners.iter(), |n| n % one_in == 0);
        let (next, diff) = came.follow(&have).unwrap();
        let (peak, after) = (PEAK.load(Ordering::Relaxed) - held, live() - held);
        assert_eq!((next.serial().0, next.records()), (2, have.records()));
        let records = diff.as_ref().map(Diff::records);
        assert_eq!(records, is_held.then_some(2 * names / one_in + 2), "1/{one_in}");
        let octets = diff.as_ref().map_or(0, Diff::octets);
        assert!(peak < own + octets + SLACK, "1/{one_in}: {peak} at the peak beside {own}");
        let shares = one_in >= 2_000;
        assert!(!shares || after < own / 4, "1/{one_in}: {after} beside {own}");
        drop((next, diff));
        assert!(live() < held + SLACK, "1/{one_in}: {} are not given back", live() - held);
    }
}

#[test]
fn after_many_transfers_memory_is_what_it_was_after_one() {
    let _alone = ALONE.lock().unwrap();
    let owners = owners(NAMES);
    let before = live();
    let (views, retired) = Views::new(View::default());
    let reaper = thread::spawn(move || reap(&retired));
    let mut reader = views.reader();
    let mut publish = |serial| {
        let served = Arc::new(Served {
            apex: name("example"),
            access: Arc::new(Access::default()),
            zone: Some(Arc::new(build(serial, owners.iter()))),
            expiry: Arc::new(Expiry::at(Expiry::NEVER)),
            history: Arc::new([]),
        });
        views.publish(|view| view.put(served));
        // As a worker does that was woken.
        assert_eq!(reader.refresh().len(), 1);
    };
    publish(1);
    let after_one = live() - before;
    for serial in 2..=21 {
        publish(serial);
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while live() - before > after_one + SLACK && Instant::now() < deadline {
        thread::yield_now();
    }
    let after_many = live() - before;
    assert!(after_many <= after_one + SLACK, "{after_one} after one, {after_many} after 21");
    drop((reader, views));
    reaper.join().unwrap();
}
