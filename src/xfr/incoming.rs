//! Replies to a transfer request.
#![allow(unused_variables)]
use crate::name::Name;
use crate::wire::{Rcode, Serial};
use crate::zone::{Builder, Diff, Soa};

pub struct Incoming;
impl Incoming {
    /// `id`: of the request. `max_octets`: of records in wire form that may be held.
    pub fn axfr(apex: Name<'_>, id: u16, max_octets: u64) -> Self {
        unimplemented!()
    }
    pub fn ixfr(apex: Name<'_>, id: u16, have: Serial, max_octets: u64) -> Self {
        unimplemented!()
    }
    /// The next message, TSIG verified and stripped.
    pub fn message(&mut self, message: &[u8]) -> Result<Progress, XfrError> {
        unimplemented!()
    }
    pub fn statistics(&self) -> Statistics {
        unimplemented!()
    }
}
pub enum Progress {
    /// More messages are to come.
    More,
    /// IXFR: the primary has what we have.
    UpToDate(Serial),
    /// IXFR: the primary's serial is not after ours.
    Behind(Serial),
    /// The whole zone, ready to build, and its SOA.
    Whole(Box<Builder>, Soa),
    /// The differences, oldest first, contiguous from our serial on.
    Diffs(Vec<Diff>),
}
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    pub messages: u64,
    pub octets: u64,
    pub records: u64,
    pub outside: u64,
}
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum XfrError {
    #[error("it is not the reply to our request")]
    NotOurs,
    #[error("the reply is truncated")]
    Truncated,
    #[error("the primary answered {0}")]
    Rcode(Rcode),
    #[error("the primary is not authoritative for the zone")]
    Lame,
    #[error("malformed: {0}")]
    Malformed(&'static str),
    #[error("the differences begin at serial {from}, the zone has {ours}")]
    OutOfSync { from: Serial, ours: Serial },
    #[error("more than {0} octets")]
    TooBig(u64),
    #[error("differences of more than {0} octets")]
    DiffsTooBig(u64),
}
impl XfrError {
    /// After an IXFR that ended so: ask the same primary for the whole zone at once?
    pub fn asks_for_axfr(&self) -> bool {
        unimplemented!()
    }
}
