//! Protocol numbers (the IANA "DNS Parameters" registry) and serial arithmetic.

use std::fmt;

/// A record type. Any 16-bit value is one (RFC 3597).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rtype(pub u16);

macro_rules! rtypes {
    ($($name:ident $value:literal),* $(,)?) => {
        #[allow(missing_docs, reason = "the mnemonic is the documentation")]
        impl Rtype {
            $(pub const $name: Self = Self($value);)*
        }
    };
}

rtypes! {
    A 1, NS 2, MD 3, MF 4, CNAME 5, SOA 6, MB 7, MG 8, MR 9, PTR 12, HINFO 13, MINFO 14, MX 15,
    TXT 16, RP 17, AFSDB 18, X25 19, ISDN 20, RT 21, NSAP 22, SIG 24, KEY 25, PX 26, GPOS 27,
    AAAA 28, LOC 29, NXT 30, EID 31, NIMLOC 32, SRV 33, NAPTR 35, KX 36, CERT 37, DNAME 39, SINK 40,
    OPT 41, APL 42, DS 43,
    SSHFP 44, IPSECKEY 45, RRSIG 46, NSEC 47, DNSKEY 48, DHCID 49, NSEC3 50, NSEC3PARAM 51,
    TLSA 52, SMIMEA 53, HIP 55, NINFO 56, RKEY 57, TALINK 58, CDS 59, CDNSKEY 60, OPENPGPKEY 61,
    CSYNC 62, ZONEMD 63, SVCB 64, HTTPS 65, DSYNC 66, HHIT 67, BRID 68, SPF 99, NID 104, L32 105, L64 106, LP 107, EUI48 108, EUI64 109, TSIG 250,
    IXFR 251, AXFR 252, MAILB 253, MAILA 254, ANY 255, URI 256, CAA 257, AVC 258, DOA 259,
    AMTRELAY 260, RESINFO 261, WALLET 262, TA 32768, DLV 32769,
}

impl Rtype {
    /// Is this a type of questions or of messages only, never of data in a zone
    /// (RFC 6895 section 3.1)?
    pub fn is_meta(self) -> bool {
        self == Self::OPT || (128..=255).contains(&self.0)
    }

    /// Is this a type of questions alone that asks for records of several types (RFC 1035 section
    /// 3.2.3)? That there are none is no error.
    pub fn asks_for_several(self) -> bool {
        matches!(self, Self::ANY | Self::MAILA | Self::MAILB)
    }

    /// May a zone have records of this type? Type 0 is reserved.
    pub fn is_data(self) -> bool {
        self.0 != 0 && !self.is_meta()
    }
}

impl fmt::Display for Rtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&domain::base::iana::Rtype::from_int(self.0), f)
    }
}

impl fmt::Debug for Rtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class(pub u16);

impl Class {
    /// The Internet.
    pub const IN: Self = Self(1);
    /// Chaosnet, which `id.server` and `version.bind` are asked in (RFC 4892).
    pub const CH: Self = Self(3);
    /// No class: a deletion in an UPDATE.
    pub const NONE: Self = Self(254);
    /// Any class, in questions and TSIG records.
    pub const ANY: Self = Self(255);
}

/// What a message asks for (4 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opcode(pub u8);

#[allow(missing_docs, reason = "the mnemonic is the documentation")]
impl Opcode {
    pub const QUERY: Self = Self(0);
    pub const NOTIFY: Self = Self(4);
    pub const UPDATE: Self = Self(5);
}

/// How a query ended: 4 bits in the header, 8 more in OPT, or 16 in a TSIG record.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rcode(pub u16);

#[allow(missing_docs, reason = "the mnemonic is the documentation")]
impl Rcode {
    pub const NOERROR: Self = Self(0);
    pub const FORMERR: Self = Self(1);
    pub const SERVFAIL: Self = Self(2);
    pub const NXDOMAIN: Self = Self(3);
    pub const NOTIMP: Self = Self(4);
    pub const REFUSED: Self = Self(5);
    pub const YXDOMAIN: Self = Self(6);
    pub const YXRRSET: Self = Self(7);
    pub const NXRRSET: Self = Self(8);
    pub const NOTAUTH: Self = Self(9);
    pub const NOTZONE: Self = Self(10);
    pub const BADVERS: Self = Self(16);
    pub const BADSIG: Self = Self(16);
    pub const BADKEY: Self = Self(17);
    pub const BADTIME: Self = Self(18);
    pub const BADCOOKIE: Self = Self(23);
}

impl fmt::Display for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            0 => "NOERROR",
            1 => "FORMERR",
            2 => "SERVFAIL",
            3 => "NXDOMAIN",
            4 => "NOTIMP",
            5 => "REFUSED",
            6 => "YXDOMAIN",
            7 => "YXRRSET",
            8 => "NXRRSET",
            9 => "NOTAUTH",
            10 => "NOTZONE",
            16 => "BADVERS/BADSIG",
            17 => "BADKEY",
            18 => "BADTIME",
            23 => "BADCOOKIE",
            other => return write!(f, "RCODE{other}"),
        };
        f.write_str(name)
    }
}

impl fmt::Debug for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The bits of the header's second word (RFC 1035 section 4.1.1, RFC 4035 section 3.2).
pub mod flag {
    /// Response.
    pub const QR: u16 = 0x8000;
    /// Where the opcode lies.
    pub const OPCODE_SHIFT: u32 = 11;
    /// Authoritative answer.
    pub const AA: u16 = 0x0400;
    /// Truncated.
    pub const TC: u16 = 0x0200;
    /// Recursion desired: copied from query to reply.
    pub const RD: u16 = 0x0100;
    /// Recursion available: never set here.
    pub const RA: u16 = 0x0080;
    /// Authentic data: never set here.
    pub const AD: u16 = 0x0020;
    /// Checking disabled: copied from query to reply.
    pub const CD: u16 = 0x0010;
}

/// A zone's version number (RFC 1982).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize)]
pub struct Serial(pub u32);

impl Serial {
    /// Is this one after `other`? Two serials exactly 2^31 apart are not comparable: neither is
    /// after the other (RFC 1982 section 3.2).
    pub fn is_after(self, other: Self) -> bool {
        let ahead = self.0.wrapping_sub(other.0);
        ahead != 0 && ahead < 0x8000_0000
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_wrap_and_the_middle_is_undefined() {
        assert!(Serial(1).is_after(Serial(0)));
        assert!(Serial(0).is_after(Serial(u32::MAX)));
        assert!(Serial(0x7fff_ffff).is_after(Serial(0)));
        assert!(!Serial(0x8000_0000).is_after(Serial(0)));
        assert!(!Serial(0).is_after(Serial(0x8000_0000)));
        assert!(!Serial(7).is_after(Serial(7)));
    }

    #[test]
    fn types_have_their_mnemonics() {
        assert_eq!(Rtype::AAAA.to_string(), "AAAA");
        assert_eq!(Rtype(65280).to_string(), "TYPE65280");
        assert!(!Rtype(0).is_data() && !Rtype::ANY.is_data() && Rtype(65280).is_data());
        assert!(Rtype::AXFR.is_meta() && Rtype::OPT.is_meta() && !Rtype::DNSKEY.is_meta());
    }
}
