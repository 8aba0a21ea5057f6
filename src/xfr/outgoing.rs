//! A zone or its history as messages.
#![allow(unused_variables)]
use super::TransferRequest;
use crate::wire::Serial;
use crate::zone::{Diff, Zone};
use std::sync::Arc;

/// The longest message: a buffer for [`Outgoing::next`] should have so many octets.
pub const MESSAGE_MAX: usize = 65535;
pub struct Outgoing;
impl Outgoing {
    pub fn axfr(request: &TransferRequest, zone: Arc<Zone>) -> Self {
        unimplemented!()
    }
    /// `since`: the diffs from the client's serial (request.have) to the zone's, if held: `Served::since`.
    pub fn ixfr(request: &TransferRequest, zone: Arc<Zone>, since: Option<&[Arc<Diff>]>) -> Self {
        unimplemented!()
    }
    /// IXFR over UDP: the SOA alone, which means: ask over TCP, or up to date.
    pub fn soa(request: &TransferRequest, zone: Arc<Zone>) -> Self {
        unimplemented!()
    }
    /// For the log.
    pub fn way(&self) -> Way {
        unimplemented!()
    }
    /// The length of the next message, written to `buffer`, `reserve` octets left free behind it
    /// (`Signer::signature_len`). `None`: all is sent.
    pub fn next(&mut self, buffer: &mut [u8], reserve: usize) -> Result<Option<usize>, Unsendable> {
        unimplemented!()
    }
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Soa,
    Diffs { from: Serial },
    Whole,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record does not fit into a message")]
pub struct Unsendable;
