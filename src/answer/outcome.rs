//! What goes into an answer beside the request, and what comes out beside the reply.

use crate::name::Name;
use crate::view::ZoneId;
use crate::wire::Rcode;
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
    /// Octets that the reply must leave free: for the TSIG that the caller adds.
    pub reserved: usize,
    /// Seconds since 1970, modulo 2^32: what cookies are stamped with.
    pub unix_s: u32,
    /// How long this connection may be idle, in units of 100 ms (RFC 7828).
    pub keepalive: Option<u16>,
}

impl Via<'_> {
    /// An unsigned datagram from `peer`, when the server's clock and the wall clock began.
    pub fn datagram(peer: IpAddr) -> Self {
        Self {
            transport: Transport::Udp,
            peer,
            now_ms: 0,
            key: None,
            reserved: 0,
            unix_s: 0,
            keepalive: None,
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is sent.
    Silent(Silence),
    /// A reply of so many octets.
    Reply {
        /// Octets.
        len: usize,
        /// How the query ended, the bits in OPT included.
        rcode: Rcode,
        /// What it says.
        kind: Kind,
        /// The zone of the question's name, if its data were looked at.
        zone: Option<ZoneId>,
        /// The client sent a cookie that we made: its address is not forged.
        known_client: bool,
        /// Whoever asks the same while the view is this one and no zone expires gets the same.
        for_anyone: bool,
    },
    /// Not decided here.
    Defer(Deferred),
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// It is shorter than a header.
    Runt,
    /// It is a response.
    Response,
    /// The buffer is smaller than the smallest limit on replies, 512 octets.
    NoRoom,
}

/// What a reply says: what statistics and rate limits tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Records; also aliases that lead out of what is served.
    Records,
    /// The name exists, the type does not.
    NoData,
    /// There is no such name.
    NoName,
    /// A delegation.
    Referral,
    /// Nothing of a zone: errors, the server's identity, requests for cookies.
    Other,
}

/// What the workers do not decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deferred {
    /// Its TSIG is to be verified and taken off; then the request comes back with [`Via::key`].
    Signed,
    /// A NOTIFY of a zone that is configured, from an address that may send one.
    Notify,
    /// An UPDATE of a zone that is copied from primaries, from an address that may send one.
    Update,
    /// An AXFR or IXFR question over a connection. Nothing about it is checked yet.
    Transfer,
}
