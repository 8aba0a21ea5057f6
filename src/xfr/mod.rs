//! Zone transfers, both ways: what the messages are and what they mean.
//!
//! **How it fits.** `replica` asks with the requests built here, feeds the messages it gets to
//! [`Incoming`] and builds, checks and publishes what comes of them. `stream` reads a client's
//! request with [`parse_transfer`] and sends what [`Outgoing`] writes, one message at a time.
//! Signatures are `tsig`'s: they are off before a message comes here, and put on behind.
//!
//! **Invariants.**
//! - *all or nothing*: nothing of a transfer is handed out before its last record was seen.
//! - *bounded*: of a transfer in, no more than the given octets are held, whatever is sent; a
//!   transfer out holds one version of the zone and its place in it.
//! - *in form*: record data that are handed out are uncompressed and of their type's form.
//! - *of one version*: a transfer out tells of the version that it began with.
//!
//! **Sections.** RFC 1995 (IXFR), RFC 1996 (NOTIFY), RFC 5936 (AXFR), RFC 1982.
//!
//! It opens no connection, knows no time and retries nothing: `refresh` decides what to ask whom.

mod extended;
mod incoming;
mod outgoing;
mod reader;
mod request;

pub use extended::{Extended, extend, read_extended};
pub use incoming::{Incoming, Progress, Statistics};
pub use outgoing::{MESSAGE_MAX, Outgoing, Unsendable, Way};
pub(crate) use reader::{Found, Reader};
pub use request::{
    NotifyRequest, TransferRequest, axfr_query, ixfr_query, notify, parse_notify,
    parse_notify_reply, parse_records_reply, parse_soa_reply, parse_transfer, query,
    signatures_of_soa, soa_query,
};

use crate::name::Name;
use crate::wire::{Rcode, Serial, read_u16};
use crate::zone::Diff;

/// Why a reply is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum XfrError {
    /// Another ID, opcode or question than was asked, or no reply at all.
    #[error("the message is not the reply to our request")]
    NotOurs,
    /// TC is set: ask over TCP.
    #[error("the reply is truncated")]
    Truncated,
    /// The primary answers with an error.
    #[error("the primary answered {0}")]
    Rcode(Rcode),
    /// AA is not set: the primary does not have the zone.
    #[error("the primary is not authoritative for the zone")]
    Lame,
    /// The messages break the rules, and how.
    #[error("malformed reply: {0}")]
    Malformed(&'static str),
    /// The differences do not lead on from what we have.
    #[error("the differences go on from serial {from}, not from {ours}")]
    OutOfSync {
        /// What they go on from.
        from: Serial,
        /// What they should have gone on from.
        ours: Serial,
    },
    /// A whole zone of more octets than may be held.
    #[error("the zone has more than {0} octets")]
    TooBig(u64),
    /// Differences of more octets than may be held.
    #[error("the differences have more than {0} octets")]
    DiffsTooBig(u64),
}

impl XfrError {
    /// Does an IXFR that ended so mean: ask the same primary for the whole zone, at once?
    ///
    /// Whatever a primary makes of an IXFR request, and however its differences are broken, an
    /// AXFR may still work. Only a zone that is itself too big stays so.
    pub fn asks_for_axfr(&self) -> bool {
        !matches!(self, Self::TooBig(_))
    }
}

/// For fuzzing: whatever the messages are, everything here reads them without a panic, and no
/// transfer holds more than its limit.
///
/// # Panics
/// If that is not so.
pub fn check_any_messages(messages: &[Vec<u8>]) {
    const LIMIT: u64 = 4096;
    let apex = Name::from_wire(b"\x07example\0").expect("written so");
    let id = messages.first().and_then(|first| read_u16(first, 0)).unwrap_or(0);
    let asked = [
        Incoming::axfr(apex, id, LIMIT),
        Incoming::sum(apex, id, LIMIT),
        Incoming::ixfr(apex, id, Serial(1), LIMIT),
    ];
    for mut incoming in asked {
        for message in messages {
            let progress = incoming.message(message);
            let octets = match progress {
                Ok(Progress::Whole(builder, _)) => {
                    let octets = builder.octets();
                    let _ = builder.build();
                    octets
                }
                Ok(Progress::Diffs(diffs)) => diffs.iter().map(Diff::octets).sum(),
                _ => incoming.octets(),
            };
            assert!(octets as u64 <= LIMIT, "more is held than allowed");
        }
    }
    for message in messages {
        let _ = parse_soa_reply(message, id, apex);
        let _ = parse_records_reply(message, id, apex, crate::wire::Rtype::ZONEMD);
        let _ = signatures_of_soa(message, apex);
        let _ = read_extended(message);
        let _ = parse_notify_reply(message, id, apex);
        let _ = parse_notify(message);
        let _ = parse_transfer(message);
    }
}

#[cfg(test)]
mod tests;
