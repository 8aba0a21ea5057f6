//! Surviving panics while answering, and telling of them without being drowned by them.
//!
//! A request that makes `answer` panic is a bug, and whoever found it can send it a million times
//! a second. One a second is told, with the request, which is all that is needed to reproduce it;
//! the counters tell of all. Panics elsewhere are told as ever.

use crate::seldom::Seldom;
use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use tracing::error;

/// Octets of the request that are told.
const TOLD_MAX: usize = 512;

thread_local! {
    /// Is this thread within [`survive`]?
    static ANSWERING: Cell<bool> = const { Cell::new(false) };
    /// What the panic that is being survived said, and where.
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Has panics within [`survive`] told by it alone. Panics elsewhere go to the hook that was there.
pub(crate) fn tell_seldom() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if ANSWERING.get() {
                SAID.set(info.to_string());
            } else {
                before(info);
            }
        }));
    });
}

/// What `answer` returns; `None` if it panicked, which is then to be [told](tell). What it was
/// writing to must be good for anything after.
pub(crate) fn survive<R>(answer: impl FnOnce() -> R) -> Option<R> {
    ANSWERING.set(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(answer));
    ANSWERING.set(false);
    outcome.ok()
}

/// Tells of the last panic of this thread that was survived, and of the request that caused it.
pub(crate) fn tell(request: &[u8]) {
    static TOLD: Seldom = Seldom::new();
    let said = SAID.take();
    if TOLD.is_due() {
        error!(said, request = hex(request), "a bug: a request made answering panic");
    }
}

fn hex(octets: &[u8]) -> String {
    let mut text = String::new();
    for octet in &octets[..octets.len().min(TOLD_MAX)] {
        write!(text, "{octet:02x}").expect("a String takes everything");
    }
    text
}
