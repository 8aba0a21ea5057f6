//! What the integration tests share: real peers, a DNS client that owes nothing to our own
//! code, free ports, and a pair of network namespaces.
//!
//! A test binary says `mod common;` and takes what it needs. Whatever runs outside this process
//! is started by the test that uses it, in a temporary directory, on loopback (or in a namespace
//! of its own), and is gone when the test ends, however it ends.
#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    unreachable_pub,
    missing_docs,
    reason = "every test binary compiles all of this and uses a part of it"
)]

pub mod backstop;
pub mod dns;
pub mod netns;
pub mod peers;
pub mod ports;
pub mod sign;
pub mod skip;
pub mod transfer;
