//! The answer path never allocates: counted by the allocator, for every kind of answer.
#![allow(clippy::unwrap_used)]
#![expect(unsafe_code, reason = "an allocator that counts is unsafe to write")]

mod world;

use backstop::acl::Acl;
use backstop::answer::{Outcome, Recent, Transport, respond, truncate};
use backstop::edns::Obstacle;
use backstop::limit::{Limiter, Subject};
use backstop::view::{Access, RateLimit};
use backstop::wire::{Rcode, Rtype};
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
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

#[test]
fn no_kind_of_answer_allocates() {
    let mut views = world::views();
    let mut requests = world::requests();
    // What is told of the primaries of those that have nothing to answer from, or only stale data.
    let small = "@ SOA ns h 1 3600 600 86400 60\n@ NS ns\nwww A 192.0.2.11";
    for (apex, data, serve_stale) in
        [("new.", None, false), ("late.", Some(small), false), ("stale.", Some(small), true)]
    {
        let access = Access { serve_stale, ..Access::default() };
        let served = world::served(apex, data.map(|text| world::zone(apex, text)), access);
        served.expiry.set(0);
        served.expiry.note(Obstacle::Error(Rcode::REFUSED));
        views[0].put(served);
        for name in ["www", "nothing"] {
            requests.push(world::request(&format!("{name}.{apex}"), Rtype::A, Some((1232, false))));
        }
    }
    requests.push(requests[0][..11].to_vec());
    requests.push([&requests[0][..], b"x"].concat());
    for (name, opcode) in [("example", 4), ("example", 5), ("private", 5), ("www.example", 5)] {
        let mut request = world::request(name, Rtype::SOA, None);
        request[2] = opcode << 3;
        requests.push(request);
    }
    let mut reply = vec![0; 65535];
    let mut limiter = limiter();
    let (mut recent, mut repeated) = (Recent::new(1), 0);
    let mut kinds = HashSet::new();
    for request in &requests {
        let ways = [Transport::Udp, Transport::Tcp].map(world::via);
        for (view, via) in views.iter().flat_map(|view| ways.iter().map(move |via| (view, via))) {
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            let outcome = respond(request, via, view, &mut reply);
            if let Outcome::Reply { kind, zone, .. } = outcome {
                limiter.judge(&Subject { peer: via.peer, zone, kind }, via.now_ms);
            }
            let after = ALLOCATIONS.load(Ordering::Relaxed);
            assert_eq!(after, before, "{request:02x?}: {outcome:?}");
            if let Outcome::Reply { rcode, kind, .. } = outcome {
                kinds.insert((kind, rcode));
            }
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            for _ in 0..3 {
                match recent.repeat(request, via, &mut reply[..4096]) {
                    Ok(again) => repeated += usize::from(again == outcome),
                    Err(Some(at)) => recent.keep(at, request, via, &reply[..4096], outcome),
                    Err(None) => {}
                }
            }
            assert_eq!(ALLOCATIONS.load(Ordering::Relaxed), before, "given again");
            truncate(request, via, view, &mut reply);
            assert_eq!(ALLOCATIONS.load(Ordering::Relaxed), before, "truncated on purpose");
        }
    }
    assert!(kinds.len() >= 10, "{kinds:?}");
    assert!(repeated > 0, "some are given again");
    assert!(ALLOCATIONS.load(Ordering::Relaxed) > 0, "they are counted");
}

/// One that the requests of this test come to exceed.
fn limiter() -> Limiter {
    let settings = RateLimit {
        per_second: 1,
        window: Duration::from_secs(1),
        slip: 2,
        ipv4_prefix: 24,
        ipv6_prefix: 56,
        entries: 1024,
        exempt: Acl::default(),
        dry_run: false,
    };
    Limiter::new(Arc::new(settings), &[7; 16])
}
