//! EDNS: the OPT record as it comes and as it goes, and the options that we know.
//!
//! **How it fits.** `query` reads the client's OPT with [`Edns::read`]; `answer` writes ours with
//! [`Opt::write`].
//!
//! **Sections.** RFC 6891; options: RFC 7873 (cookies). Options that we do not know are ignored
//! (RFC 6891 section 6.1.2).

use crate::wire::{Class, Full, Rcode, Rtype, Section, Writer};

/// The bit of OPT's flags that asks for DNSSEC records (RFC 3225).
const DNSSEC_OK: u16 = 0x8000;

/// The least size of datagrams that every client takes (RFC 6891 section 6.2.3).
pub const UDP_SIZE_MIN: u16 = 512;

/// The codes of options.
mod code {
    pub(super) const COOKIE: u16 = 10;
}

/// What a client's OPT record says.
#[derive(Clone, Copy, Debug)]
pub struct Edns<'q> {
    /// The largest datagram that it takes, as it said; octets.
    pub udp_size: u16,
    /// The version; we know 0.
    pub version: u8,
    /// Does it want DNSSEC records?
    pub dnssec_ok: bool,
    /// Its COOKIE option.
    pub cookie: Option<&'q [u8]>,
}

impl<'q> Edns<'q> {
    /// Reads an OPT record's class, the two halves of its TTL, and its data. `None`: malformed.
    pub fn read(class: u16, ttl: [u16; 2], data: &'q [u8]) -> Option<Self> {
        let mut edns = Self {
            udp_size: class,
            version: (ttl[0] & 0xff) as u8,
            dnssec_ok: ttl[1] & DNSSEC_OK != 0,
            cookie: None,
        };
        let mut rest = data;
        while !rest.is_empty() {
            let (head, after) = rest.split_first_chunk::<4>()?;
            let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
            let (value, after) = after.split_at_checked(len)?;
            if u16::from_be_bytes([head[0], head[1]]) == code::COOKIE {
                edns.cookie.get_or_insert(value);
            }
            rest = after;
        }
        Some(edns)
    }
}

/// Our OPT record.
#[derive(Clone, Copy, Debug)]
pub struct Opt {
    /// The largest datagram that we take.
    pub udp_size: u16,
    /// Its upper 8 bits are sent here.
    pub rcode: Rcode,
    /// The client's bit, sent back.
    pub dnssec_ok: bool,
}

impl Opt {
    /// Octets of the record without options.
    pub const LEN: usize = 11;

    /// Writes the record.
    pub fn write(self, writer: &mut Writer<'_>) -> Result<(), Full> {
        let flags = if self.dnssec_ok { u32::from(DNSSEC_OK) } else { 0 };
        let ttl = u32::from(self.rcode.0 >> 4) << 24 | flags;
        writer.put(&[0])?;
        writer.fixed(Section::Additional, Rtype::OPT, Class(self.udp_size), ttl)?;
        writer.plain_data(&[])
    }
}
