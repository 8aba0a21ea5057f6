//! The scheduler (interface; to come).

use crate::name::NameBuf;
use crate::wire::Serial;
use std::net::SocketAddr;

/// A NOTIFY that came from one who may send it, its signature verified.
#[derive(Clone, Debug)]
pub struct Notified {
    /// The zone.
    pub apex: NameBuf,
    /// Who sent it.
    pub peer: SocketAddr,
    /// The serial that it told, if it did.
    pub serial: Option<Serial>,
}
