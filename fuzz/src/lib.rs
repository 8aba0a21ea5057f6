//! What is fuzzed: for each target a body that takes any octets and panics if a promise is broken.
//!
//! **How it fits.** libFuzzer runs the bodies for as long as `scripts/fuzz` says; `tests/fuzz.rs`
//! runs the same bodies over the same seeds, and mutations of them, on every change. Seeds are
//! the files in `corpus/TARGET`, those worth keeping by hand, and what [`Target::seeds`] makes.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "shared by a test and the targets")]
#![allow(clippy::unwrap_used, reason = "a body panics if something is wrong")]

mod respond;
mod store_node;
mod text;
mod transfer;
mod tsig;
#[path = "../../tests/world/mod.rs"]
mod world;
mod xdp;
mod zones;

/// A body and what it starts from.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub seeds: fn() -> Vec<Vec<u8>>,
}

pub const RESPOND: Target = respond::TARGET;
pub const TRANSFER: Target = transfer::TARGET;
pub const ZONE_FILE: Target = text::ZONE_FILE;
pub const TSIG: Target = tsig::TARGET;
pub const STORE_NODE: Target = store_node::TARGET;
pub const CONTROL: Target = text::CONTROL;
pub const CONFIG: Target = text::CONFIG;
pub const XDP: Target = xdp::TARGET;

impl Target {
    /// Writes the seeds to files in the folder that `BACKSTOP_FUZZ_SEEDS` names, if it does:
    /// libFuzzer reads its corpus from files.
    pub fn write_seeds(&self) {
        let Some(folder) = std::env::var_os("BACKSTOP_FUZZ_SEEDS") else { return };
        for (number, seed) in (self.seeds)().iter().enumerate() {
            let file = std::path::Path::new(&folder).join(format!("seed-{number:04}"));
            std::fs::write(file, seed).unwrap();
        }
    }
}
