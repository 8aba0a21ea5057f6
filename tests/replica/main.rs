//! A scripted primary that misbehaves in every way that we know of: the old version is served all
//! the while, `status` and the log say what is wrong, and when the primary behaves again the zone
//! recovers by itself.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../scripted/mod.rs"]
mod scripted;

mod ahead;
mod checks;
mod course;
mod expiry;
mod fleet;
mod misbehaviour;
mod mixed;
mod notify;
mod primaries;
mod same;
mod serials;
mod rollback;
mod signed;
