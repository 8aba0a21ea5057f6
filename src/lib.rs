//! Backstop, an authoritative secondary DNS server.
#![allow(missing_docs, reason = "while the pieces come together")]

pub mod acl;
pub mod answer;
pub mod check;
pub mod clock;
pub mod command;
pub mod config;
pub mod control;
pub mod demo;
pub mod edns;
pub mod io;
pub mod limit;
pub mod name;
pub mod query;
pub mod refresh;
pub mod replica;
pub mod server;
pub mod stats;
pub mod store;
pub mod stream;
pub mod systemd;
pub mod tree;
pub mod tsig;
pub mod view;
pub mod web;
pub mod wire;
pub mod worker;
pub mod xfr;
pub mod zone;
