//! A scripted primary, hand-written messages, and our real binary as its secondary.
//!
//! Nothing here uses the code under test for a message: what is malformed must be so by hand, and
//! what is right must not be right by the same mistake.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    missing_docs,
    reason = "each test binary uses a part of it"
)]

pub mod message;
pub mod primary;
pub mod secondary;
pub mod sign;
pub mod watch;

pub use message::{Asked, Rr, rcode, rtype};
pub use primary::{Act, Primary, Zone};
pub use secondary::Secondary;

use std::time::Duration;

/// How long anything may take on a busy machine before it counts as never.
pub const DEADLINE: Duration = Duration::from_secs(40);
