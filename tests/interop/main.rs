//! Backstop beside BIND, Knot, NSD and PowerDNS: as their secondary, as their primary, and
//! question by question. Every peer is the real program (`common::peers`), so is Backstop.
#[path = "../common/mod.rs"]
mod common;

/// One test for each peer: `each! { check: what_it_shows(Knot), .. }`
macro_rules! each {
    ($check:ident: $($name:ident($kind:ident)),+ $(,)?) => {
        $(
            #[test]
            fn $name() {
                $crate::common::skip::require!($kind);
                $check($crate::common::peers::Kind::$kind);
            }
        )+
    };
}

mod anchored;
mod answers;
mod audit;
mod primary;
#[path = "../model/random.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::cast_possible_truncation,
    reason = "shared with the oracle"
)]
mod random;
mod secondary;
mod sizes;
mod updates;
mod validation;
mod zonemd;
mod zones;

use std::time::Duration;

/// How long anything that must come may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
