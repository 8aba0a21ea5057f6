//! The real server as an operator meets it: killed, stopped, reloaded, damaged.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../scripted/mod.rs"]
mod scripted;

mod addresses;
mod crash;
mod monitored;
mod reload;
mod store;
mod told;
