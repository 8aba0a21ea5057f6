//! The words of a message: protocol numbers, serial arithmetic, where names lie in record data,
//! and the writer of replies.
//!
//! **How it fits.** `query` and `xfr` read with these words, `answer`, `xfr` and `replica` write
//! with [`Writer`]. Nothing here knows what a zone is.
//!
//! **Invariants.**
//! - *hard end*: a [`Writer`] never writes past the end it was given, less what is reserved; a
//!   write that does not fit returns [`Full`] and the caller rewinds to its [`Mark`].
//! - *backward pointers*: every compression pointer it writes leads to a name that begins earlier
//!   in the same message, within 14 bits.
//!
//! **Sections.** RFC 1035 section 4, RFC 1982, RFC 3597 sections 4 and 7, RFC 6895.

mod data;
mod numbers;
mod writer;

pub use data::{
    Field, data_fields, data_names, expand_data, expand_name, is_compressed, layout, same_data,
};
pub use numbers::{Class, Opcode, Rcode, Rtype, Serial, flag};
pub use writer::{DataStart, Full, Mark, Section, Writer};

/// Octets of a message's header.
pub const HEADER_LEN: usize = 12;

/// The largest TTL, seconds (RFC 2181 section 8).
pub const TTL_MAX: u32 = 0x7fff_ffff;

/// Reads the 16-bit number at `at`, if it is there.
pub fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes([two[0], two[1]]))
}

/// Reads the 32-bit number at `at`, if it is there.
pub fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
}
