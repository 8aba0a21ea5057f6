//! The answer path never allocates: counted by the allocator, for every kind of answer.
#![allow(clippy::unwrap_used)]
#![expect(unsafe_code, reason = "an allocator that counts is unsafe to write")]

mod world;

use backstop::answer::{Outcome, Transport, respond, warm};
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

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
    let views = world::views();
    let mut requests = world::requests();
    requests.push(requests[0][..11].to_vec());
    requests.push([&requests[0][..], b"x"].concat());
    let mut reply = vec![0; 65535];
    let mut kinds = HashSet::new();
    for request in &requests {
        let ways = [Transport::Udp, Transport::Tcp].map(world::via);
        for (view, via) in views.iter().flat_map(|view| ways.iter().map(move |via| (view, via))) {
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            warm([&request[..]], view);
            let outcome = respond(request, via, view, &mut reply);
            let after = ALLOCATIONS.load(Ordering::Relaxed);
            assert_eq!(after, before, "{request:02x?}: {outcome:?}");
            if let Outcome::Reply { rcode, kind, .. } = outcome {
                kinds.insert((kind, rcode));
            }
        }
    }
    assert!(kinds.len() >= 10, "{kinds:?}");
    assert!(ALLOCATIONS.load(Ordering::Relaxed) > 0, "they are counted");
}
