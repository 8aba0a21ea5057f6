//! Requests around transfers: built and parsed.
#![allow(unused_variables)]
use super::XfrError;
use crate::name::{Name, NameBuf};
use crate::wire::{Rcode, Rtype, Serial};
use crate::zone::Soa;

/// `edns`: the UDP payload size to announce; `None`: no OPT record.
pub fn soa_query(id: u16, apex: Name<'_>, edns: Option<u16>) -> Vec<u8> {
    unimplemented!()
}
pub fn axfr_query(id: u16, apex: Name<'_>) -> Vec<u8> {
    unimplemented!()
}
pub fn ixfr_query(id: u16, apex: Name<'_>, have: Serial) -> Vec<u8> {
    unimplemented!()
}
/// `soa`: TTL and data of the new SOA (a hint).
pub fn notify(id: u16, apex: Name<'_>, soa: Option<(u32, &[u8])>) -> Vec<u8> {
    unimplemented!()
}
/// The SOA in the reply to [`soa_query`].
pub fn parse_soa_reply(reply: &[u8], id: u16, apex: Name<'_>) -> Result<Soa, XfrError> {
    unimplemented!()
}
pub fn parse_notify_reply(reply: &[u8], id: u16, apex: Name<'_>) -> Result<(), XfrError> {
    unimplemented!()
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyRequest {
    pub apex: NameBuf,
    pub serial: Option<Serial>,
}
/// Err: the rcode to answer.
pub fn parse_notify(request: &[u8]) -> Result<NotifyRequest, Rcode> {
    unimplemented!()
}
/// Question copied, AA on NOERROR.
pub fn notify_reply(request: &[u8], rcode: Rcode) -> Vec<u8> {
    unimplemented!()
}

/// A client's AXFR or IXFR request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferRequest {
    pub id: u16,
    pub flags: u16,
    pub apex: NameBuf,
    pub rtype: Rtype,
    pub have: Option<Serial>,
}
/// Err: the rcode to answer.
pub fn parse_transfer(request: &[u8]) -> Result<TransferRequest, Rcode> {
    unimplemented!()
}
