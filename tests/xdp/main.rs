//! AF_XDP over a cable between two network namespaces: the same bytes as from the other backends,
//! and a life in which everything goes away and comes back. All of it is skipped, loudly, where
//! namespaces or AF_XDP are not permitted.
#![allow(clippy::unwrap_used, reason = "a test may fail where it likes")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../model/mod.rs"]
mod model;

mod life;
mod raw;
mod rights;
mod same_bytes;
mod server;
