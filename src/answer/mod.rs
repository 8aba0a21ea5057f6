//! Answering: the pure function from a request and a view to a reply (interface; to come).

use crate::name::Name;
use crate::view::View;
use std::net::IpAddr;

/// How a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram.
    Udp,
    /// Over a connection.
    Tcp,
}

/// What is known of a request beside its octets.
#[derive(Clone, Copy)]
pub struct Via<'a> {
    /// How it came.
    pub transport: Transport,
    /// Who sent it.
    pub peer: IpAddr,
    /// Milliseconds of the server's clock, which zones expire by.
    pub now_ms: u64,
    /// The key that it was verified to be signed with. The request is then without its TSIG.
    pub key: Option<Name<'a>>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is sent.
    Silent,
    /// A reply of so many octets.
    Reply { len: usize },
    /// Not decided here: NOTIFY, TSIG, transfers.
    Defer,
}

/// Answers one request into `reply`.
pub fn respond(request: &[u8], via: &Via<'_>, view: &View, reply: &mut [u8]) -> Outcome {
    let _ = (request, via, view, reply);
    Outcome::Silent
}
