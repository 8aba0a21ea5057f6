//! Zone transfers. Signatures first, bodies follow.
mod incoming;
mod outgoing;
mod request;
pub use incoming::{Incoming, Progress, Statistics, XfrError};
pub use outgoing::{MESSAGE_MAX, Outgoing, Unsendable, Way};
pub use request::{
    NotifyRequest, TransferRequest, axfr_query, ixfr_query, notify, notify_reply, parse_notify,
    parse_notify_reply, parse_soa_reply, parse_transfer, soa_query,
};
