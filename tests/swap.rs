//! Readers race a publisher; and what a version costs: its own size, never the zone's nor the
//! server's.
#![allow(clippy::unwrap_used)]
#![expect(unsafe_code, reason = "an allocator that counts is unsafe to write")]

mod world;

use backstop::answer::{Outcome, Transport, respond};
use backstop::config::Config;
use backstop::name::NameBuf;
use backstop::server::Server;
use backstop::view::{Access, Served, View, Views, reap};
use backstop::wire::{Rtype, Serial};
use backstop::zone::{Builder, Diff, Record, Records, Zone};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

struct Counting;

thread_local! {
    /// Octets that this thread has asked for.
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.set(ASKED.get() + layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block came from `alloc` above, that is from the system's allocator.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `work` makes, and how many octets it asks for on this thread.
fn octets<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ASKED.get();
    let made = work();
    (made, ASKED.get() - before)
}

fn add(builder: &mut Builder, owner: &str, rtype: Rtype, data: &[u8]) {
    let owner: NameBuf = owner.parse().unwrap();
    assert!(builder.add(owner.as_name(), Record { rtype, ttl: 60, data }));
}

fn wire(name: &str) -> Vec<u8> {
    name.parse::<NameBuf>().unwrap().as_name().as_wire().to_vec()
}

fn soa(serial: u32) -> Vec<u8> {
    let mut data = [wire("ns.example."), wire("h.example.")].concat();
    data.extend([serial, 3600, 600, 86_400, 300].iter().flat_map(|number| number.to_be_bytes()));
    data
}

/// A zone with so many hosts; all that can change says the serial.
fn zone(apex: &str, serial: u32, hosts: u32) -> Zone {
    let name: NameBuf = apex.parse().unwrap();
    let mut builder = Builder::new(name.as_name());
    let mail = format!("mail.{apex}");
    add(&mut builder, apex, Rtype::SOA, &soa(serial));
    add(&mut builder, apex, Rtype::NS, &wire(&format!("ns.{apex}")));
    add(&mut builder, apex, Rtype::MX, &[&[0, 10][..], &wire(&mail)].concat());
    add(&mut builder, &mail, Rtype::A, &serial.to_be_bytes());
    for part in 0..4 {
        add(&mut builder, apex, Rtype::TXT, &[&[5, part][..], &serial.to_be_bytes()].concat());
    }
    for host in 0..hosts {
        add(&mut builder, &format!("h{host}.{apex}"), Rtype::A, &host.to_be_bytes());
    }
    builder.build().unwrap()
}

fn served(apex: &str, zone: Zone) -> Arc<Served> {
    world::served(apex, Some(zone), Access::default())
}

/// The reply to a question.
fn ask(view: &View, owner: &str, rtype: Rtype) -> Vec<u8> {
    let mut reply = vec![0; 65_535];
    let request = world::request(owner, rtype, None);
    let Outcome::Reply { len, .. } =
        respond(&request, &world::via(Transport::Tcp), view, &mut reply)
    else {
        panic!("no reply")
    };
    reply.truncate(len);
    assert_eq!(reply[3] & 0x0f, 0, "{owner}");
    reply
}

fn last_four(octets: &[u8]) -> u32 {
    u32::from_be_bytes(octets[octets.len() - 4..].try_into().unwrap())
}

/// The serials that a reply's parts are from: each is told by four octets of their own.
fn serial_of(view: &View, apex: &str) -> u32 {
    // MX, and in the additional section the address, which comes last.
    let serial = last_four(&ask(view, apex, Rtype::MX));
    let text = ask(view, apex, Rtype::TXT);
    let parts = text.windows(6).filter(|six| six[0] == 5 && six[2..] == serial.to_be_bytes());
    assert_eq!(parts.count(), 4, "all records of a set are of one version");
    let soa = ask(view, apex, Rtype::SOA);
    assert!(soa.windows(4).any(|four| four == serial.to_be_bytes()), "and so is the SOA");
    serial
}

/// How many versions each reader sees come.
const CHANGES: u32 = 40;

/// The time that a machine may need for what happens at once.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn readers_never_see_a_mixture_and_what_was_published_together_is_seen_together() {
    const APEXES: [&str; 2] = ["one.example.", "two.example."];
    let start = 0x0101_0101;
    let mut first = View::default();
    for apex in APEXES {
        first.put(served(apex, zone(apex, start, 20)));
    }
    let (views, retired) = Views::new(first);
    let reaper = thread::spawn(move || reap(&retired));
    let stop = Arc::new(AtomicBool::new(false));
    let read = || {
        let (mut reader, stop) = (views.reader(), Arc::clone(&stop));
        let changes = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&changes);
        let thread = thread::spawn(move || {
            let mut last = start;
            while !stop.load(Ordering::Relaxed) {
                // A worker's turn: a view, and all that is answered from it.
                let view = reader.refresh();
                let serials = APEXES.map(|apex| serial_of(view, apex));
                assert_eq!(serials[0], serials[1], "published together");
                assert!(serials[0] >= last, "never back");
                seen.fetch_add(u32::from(serials[0] != last), Ordering::Relaxed);
                last = serials[0];
            }
        });
        (thread, changes)
    };
    let readers: Vec<_> = (0..3).map(|_| read()).collect();
    let mut watched = Vec::new();
    let end = Instant::now() + SOON;
    for serial in start + 1.. {
        let next = APEXES.map(|apex| {
            let old =
                views.load().zone(apex.parse::<NameBuf>().unwrap().as_name()).unwrap().clone();
            let old = old.zone.as_ref().unwrap();
            let diff = Diff::between(old, &zone(apex, serial, 20));
            served(apex, old.apply(&diff).unwrap())
        });
        watched.push(Arc::downgrade(next[0].zone.as_ref().unwrap()));
        views.publish(|view| next.into_iter().for_each(|served| view.put(served)));
        if readers.iter().all(|(_, changes)| changes.load(Ordering::Relaxed) >= CHANGES) {
            break;
        }
        assert!(Instant::now() < end, "each reader sees versions come");
    }
    stop.store(true, Ordering::Relaxed);
    for (reader, _) in readers {
        reader.join().unwrap();
    }
    let newest = watched.pop().unwrap();
    let end = Instant::now() + SOON;
    while watched.iter().any(|version| version.strong_count() > 0) {
        assert!(Instant::now() < end, "old versions are freed");
        thread::yield_now();
    }
    assert!(newest.upgrade().is_some());
    drop(views);
    reaper.join().unwrap();
}

#[test]
fn an_idle_worker_keeps_no_old_version() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("zone", "@ 60 SOA ns h 1 3600 600 86400 300\n@ 60 NS ns\nns 60 A 127.0.0.1\n");
    write(
        "config",
        "[server]\nlisten = [\"127.0.0.1:0\"]\nworkers = 2\nstate-dir = \"state\"\n\
         [[zone]]\nname = \"example\"\nfile = \"zone\"\n",
    );
    let (config, _) = Config::load(&folder.path().join("config")).unwrap();
    let server = Server::start(config, Box::new(|| Err("not here".into()))).unwrap();
    let views = Arc::clone(server.views());
    let apex: NameBuf = "other.".parse().unwrap();
    let put = |serial| views.publish(|view| view.put(served("other.", zone("other.", serial, 10))));
    for serial in 1..20 {
        put(serial);
        let old = {
            let view = views.load();
            Arc::downgrade(view.zone(apex.as_name()).unwrap())
        };
        put(serial + 1);
        // No query comes that would make a worker look.
        let end = Instant::now() + SOON;
        while old.strong_count() > 0 {
            assert!(Instant::now() < end, "version {serial} is freed");
            thread::yield_now();
        }
    }
    drop(views);
    server.stop();
}

/// A difference of one record, and the SOA's.
fn one_record(from: u32) -> Diff {
    let (mut removed, mut added) = (Records::default(), Records::default());
    let apex: NameBuf = "example.".parse().unwrap();
    let host: NameBuf = "h77.example.".parse().unwrap();
    let change = |list: &mut Records, serial, address: [u8; 4]| {
        list.push(apex.as_name(), Record { rtype: Rtype::SOA, ttl: 60, data: &soa(serial) });
        list.push(host.as_name(), Record { rtype: Rtype::A, ttl: 60, data: &address });
    };
    change(&mut removed, from, [0, 0, 0, 77]);
    change(&mut added, from + 1, [9; 4]);
    Diff { from: Serial(from), to: Serial(from + 1), removed, added }
}

#[test]
fn a_one_record_change_costs_the_same_in_a_small_zone_and_in_a_large_one() {
    let cost = |hosts| {
        let old = zone("example.", 5, hosts);
        let diff = one_record(5);
        let (new, octets) = octets(|| old.apply(&diff).unwrap());
        let copied = new.names().not_shared_with(old.names());
        assert_eq!(new.hashes().not_shared_with(old.hashes()).bytes, 0);
        assert_eq!(new.serial(), Serial(6));
        (copied, octets, old.names().bytes())
    };
    let (small, small_octets, _) = cost(1_000);
    let (large, large_octets, whole) = cost(100_000);
    // The page of the apex and that of the host, and the nodes above them.
    assert_eq!((small.pages, large.pages), (2, 2));
    let shown = format!("{small:?}, {small_octets}; {large:?}, {large_octets}; {whole}");
    // Of a hundred times the names, both paths are two levels longer.
    assert!(large.inner <= small.inner + 4, "{shown}");
    assert!(large.bytes < 16 * 1024 && large_octets < 32 * 1024, "{shown}");
    assert!(large_octets <= small_octets + 3 * 2048, "{shown}");
    assert!(whole > 200 * large_octets / 2, "it is nothing beside the zone: {shown}");
}

#[test]
fn a_publication_costs_the_same_among_few_zones_and_among_many() {
    let cost = |zones: u32| {
        let mut view = View::default();
        for at in 0..zones {
            let apex = format!("z{at}.example.");
            view.put(world::served(&apex, None, Access::default()));
        }
        let (views, retired) = Views::new(view);
        let next = served("z7.example.", zone("z7.example.", 1, 3));
        let (.., octets) = octets(|| views.publish(|view| view.put(next)));
        drop((views, retired));
        octets
    };
    let (few, many) = (cost(10), cost(10_000));
    assert!(many <= few + 3 * 2048 && many < 16 * 1024, "{few} octets, {many} octets");
}
