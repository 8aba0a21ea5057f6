//! Record data whose text form is a plain row of parts: the types that the `domain` crate has no
//! text form for, and those of texts, whose mistakes it does not tell.

use crate::name::{Name, NameBuf};
use crate::wire::{Rtype, read_u16, read_u32};
use domain::base::iana;
use domain::rdata::dnssec::{RtypeBitmap, RtypeBitmapBuilder};
use domain::utils::{base16, base64};
use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

/// A part of the text form.
#[derive(Clone, Copy)]
pub(super) enum Part {
    U8,
    U16,
    U32,
    /// A record type, by its mnemonic.
    Type,
    Name,
    V4,
    /// So many octets in hexadecimal with dashes between them (RFC 7043 section 3.2).
    Dashed(usize),
    /// Eight octets as four groups in hexadecimal with colons between them (RFC 6742 section 2.1).
    Groups,
    /// A text with its length before it.
    Text,
    /// At least one of those, to the end.
    Texts,
    /// Octets without a length, to the end (URI's target).
    Octets,
    /// The same in hexadecimal, and in Base64.
    Hex,
    Base64,
    /// The same as one hexadecimal number in which dots do not count (RFC 1706 section 6).
    Dotted,
    /// The types that there are, to the end (RFC 4034 section 4.1.2).
    Types,
    /// A certificate's type (RFC 4398 section 2.1).
    Certificate,
    /// How a change is told (RFC 9859 section 2).
    Scheme,
}

/// The parts of this type, if it is one of those.
pub(super) fn of(rtype: Rtype) -> Option<&'static [Part]> {
    use Part::{
        Base64, Certificate, Dashed, Dotted, Groups, Hex, Name, Octets, Scheme, Text, Texts, Type,
        Types, U8, U16, U32, V4,
    };
    Some(match rtype {
        Rtype::AFSDB | Rtype::RT | Rtype::KX | Rtype::LP => &[U16, Name],
        Rtype::PX => &[U16, Name, Name],
        Rtype::KEY => &[U16, U8, U8, Base64],
        Rtype::CERT => &[Certificate, U16, U8, Base64],
        Rtype::RKEY => &[U16, U8, U8, Base64],
        Rtype::EID | Rtype::NIMLOC => &[Hex],
        Rtype::SINK => &[U8, U8, U8, Base64],
        Rtype::DOA => &[U32, U32, U8, Text, Base64],
        Rtype::HHIT | Rtype::BRID => &[Base64],
        Rtype::URI => &[U16, U16, Octets],
        Rtype::X25 => &[Text],
        Rtype::NSAP => &[Dotted],
        Rtype::GPOS => &[Text, Text, Text],
        Rtype::DHCID => &[Base64],
        Rtype::TLSA | Rtype::SMIMEA => &[U8, U8, U8, Hex],
        Rtype::SSHFP => &[U8, U8, Hex],
        Rtype::OPENPGPKEY => &[Base64],
        Rtype::ZONEMD => &[U32, U8, U8, Hex],
        Rtype::TALINK => &[Name, Name],
        Rtype::CSYNC => &[U32, U16, Types],
        Rtype::DSYNC => &[Type, Scheme, U16, Name],
        Rtype::NID | Rtype::L64 => &[U16, Groups],
        Rtype::L32 => &[U16, V4],
        Rtype::EUI48 => &[Dashed(6)],
        Rtype::EUI64 => &[Dashed(8)],
        Rtype::TA | Rtype::DLV => &[U16, U8, U8, Hex],
        Rtype::HINFO => &[Text, Text],
        // ISDN has one text or two (RFC 1183 section 3.2), the others any number.
        Rtype::TXT
        | Rtype::SPF
        | Rtype::ISDN
        | Rtype::NINFO
        | Rtype::AVC
        | Rtype::RESINFO
        | Rtype::WALLET => &[Texts],
        _ => return None,
    })
}

/// Which of these words are names.
pub(super) fn names(parts: &[Part]) -> impl Iterator<Item = usize> {
    let names = parts.iter().enumerate().filter(|(_, part)| matches!(part, Part::Name));
    names.map(|(at, _)| at)
}

/// Appends what the words say to `out`.
pub(super) fn read(
    parts: &[Part],
    words: &[Cow<'_, str>],
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let mut rest = words.iter().map(|word| &**word);
    for &part in parts {
        if let Part::Texts | Part::Hex | Part::Base64 | Part::Dotted | Part::Types = part {
            let words: Vec<&str> = rest.by_ref().collect();
            read_rest(part, &words, out)?;
        } else {
            read_one(part, rest.next().ok_or("the data are not complete")?, out)?;
        }
    }
    if rest.next().is_some() {
        return Err("there is more on the line than the data".into());
    }
    Ok(())
}

fn read_one(part: Part, word: &str, out: &mut Vec<u8>) -> Result<(), String> {
    let number = || word.parse::<u16>().map_err(|_| format!("{word} is no number"));
    let bad = || format!("{word} has not the form that is wanted here");
    match part {
        Part::Scheme if word.eq_ignore_ascii_case("NOTIFY") => out.push(1),
        Part::U8 | Part::Scheme => {
            out.push(u8::try_from(number()?).map_err(|_| format!("{word} is over 255"))?)
        }
        Part::U16 => out.extend_from_slice(&number()?.to_be_bytes()),
        Part::U32 => {
            let number = word.parse::<u32>().map_err(|_| format!("{word} is no number"))?;
            out.extend_from_slice(&number.to_be_bytes());
        }
        Part::Type => {
            let rtype = super::text::rtype(word);
            let rtype = rtype.ok_or_else(|| format!("{word} is no record type"))?;
            out.extend_from_slice(&rtype.0.to_be_bytes());
        }
        Part::Certificate => {
            let known = CERTIFICATES.iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
            let value = known.map_or_else(number, |&(_, value)| Ok(value))?;
            out.extend_from_slice(&value.to_be_bytes());
        }
        Part::Name => {
            let name: NameBuf = word.parse().map_err(|_| "no name")?;
            out.extend_from_slice(name.as_name().as_wire());
        }
        Part::V4 => {
            let address: Ipv4Addr = word.parse().map_err(|_| format!("{word} is no address"))?;
            out.extend_from_slice(&address.octets());
        }
        Part::Dashed(count) => {
            let octets: Vec<&str> = word.split('-').collect();
            if octets.len() != count || octets.iter().any(|octet| octet.len() != 2) {
                return Err(bad());
            }
            out.extend(base16::decode_vec(&octets.concat()).map_err(|_| bad())?);
        }
        Part::Groups => {
            let groups: Vec<&str> = word.split(':').collect();
            if groups.len() != 4 {
                return Err(bad());
            }
            for group in groups {
                let group = u16::from_str_radix(group, 16).map_err(|_| bad())?;
                out.extend_from_slice(&group.to_be_bytes());
            }
        }
        Part::Text => read_text(word, out)?,
        _ => out.extend_from_slice(&octets(word)?),
    }
    Ok(())
}

fn read_rest(part: Part, words: &[&str], out: &mut Vec<u8>) -> Result<(), String> {
    if words.is_empty() && !matches!(part, Part::Types) {
        return Err("the data are not complete".into());
    }
    let data = match part {
        Part::Texts => return words.iter().try_for_each(|word| read_text(word, out)),
        Part::Types => return read_types(words, out),
        Part::Dotted => {
            let number = words.concat();
            let digits = number.strip_prefix("0x").or_else(|| number.strip_prefix("0X"));
            let digits = digits.ok_or("the number does not begin with 0x")?;
            let digits = Some(digits.replace('.', "")).filter(|digits| !digits.is_empty());
            let digits = digits.ok_or("the number has no digits")?;
            base16::decode_vec(&digits).map_err(|error| error.to_string())
        }
        Part::Hex => base16::decode_vec(&words.concat()).map_err(|error| error.to_string()),
        _ => base64::decode(&words.concat()).map_err(|error| error.to_string()),
    };
    out.append(&mut data?);
    Ok(())
}

fn read_text(word: &str, out: &mut Vec<u8>) -> Result<(), String> {
    let octets = octets(word)?;
    let len = u8::try_from(octets.len()).map_err(|_| too_long(octets.len()))?;
    out.push(len);
    out.extend_from_slice(&octets);
    Ok(())
}

/// What to do with a text that a length of one octet cannot tell (RFC 1035 section 3.3).
pub(super) fn too_long(len: usize) -> String {
    format!("a text has 255 octets at most, not {len}: split it into several, each in quotes")
}

fn read_types(words: &[&str], out: &mut Vec<u8>) -> Result<(), String> {
    let mut types = RtypeBitmapBuilder::new_vec();
    for word in words {
        let rtype = super::text::rtype(word).ok_or_else(|| format!("{word} is no record type"))?;
        types.add(iana::Rtype::from_int(rtype.0)).map_err(|error| error.to_string())?;
    }
    out.extend_from_slice(types.finalize().as_slice());
    Ok(())
}

/// RFC 4398 section 2.1.
const CERTIFICATES: [(&str, u16); 10] = [
    ("PKIX", 1),
    ("SPKI", 2),
    ("PGP", 3),
    ("IPKIX", 4),
    ("ISPKI", 5),
    ("IPGP", 6),
    ("ACPKIX", 7),
    ("IACPKIX", 8),
    ("URI", 253),
    ("OID", 254),
];

/// A word's octets, escapes undone.
pub(super) fn octets(word: &str) -> Result<Vec<u8>, String> {
    let mut octets = Vec::with_capacity(word.len());
    let mut rest = word.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let (octet, after) = match byte {
            b'\\' => unescape(after).ok_or_else(|| format!("`{word}` has a bad escape"))?,
            _ => (byte, after),
        };
        octets.push(octet);
        rest = after;
    }
    Ok(octets)
}

/// The octet that an escape stands for, and what follows it; `after` is what follows the
/// backslash: three digits up to 255, or any other character (RFC 1035 section 5.1).
pub(super) fn unescape(after: &[u8]) -> Option<(u8, &[u8])> {
    let (&first, rest) = after.split_first()?;
    if !first.is_ascii_digit() {
        return Some((first, rest));
    }
    let (digits, rest) = after.split_at_checked(3)?;
    let value = digits.iter().try_fold(0_u16, |value, digit| {
        digit.is_ascii_digit().then(|| value * 10 + u16::from(digit - b'0'))
    })?;
    Some((u8::try_from(value).ok()?, rest))
}

/// Appends the text form of `data` to `line`.
pub(super) fn write(parts: &[Part], data: &[u8], line: &mut String) -> Option<()> {
    let mut rest = data;
    for (at, &part) in parts.iter().enumerate() {
        line.push_str(if at > 0 { " " } else { "" });
        let len = match part {
            Part::U8 | Part::Scheme => 1,
            Part::U16 | Part::Certificate | Part::Type => 2,
            Part::U32 | Part::V4 => 4,
            Part::Groups => 8,
            Part::Dashed(count) => count,
            Part::Name => Name::split(rest)?.0.len(),
            Part::Text => 1 + usize::from(*rest.first()?),
            Part::Texts | Part::Types => rest.len(),
            Part::Octets | Part::Hex | Part::Base64 | Part::Dotted => rest.len(),
        };
        let (octets, after) = rest.split_at_checked(len)?;
        rest = after;
        write_one(part, octets, line)?;
    }
    rest.is_empty().then_some(())
}

fn write_one(part: Part, octets: &[u8], line: &mut String) -> Option<()> {
    let words = |width: usize| octets.chunks(width).map(base16::encode_string::<[u8]>);
    match part {
        Part::U8 | Part::Scheme => write!(line, "{}", octets[0]),
        Part::U16 | Part::Certificate => write!(line, "{}", read_u16(octets, 0)?),
        Part::U32 => write!(line, "{}", read_u32(octets, 0)?),
        Part::Type => write!(line, "{}", Rtype(read_u16(octets, 0)?)),
        Part::Name => write!(line, "{}", Name::from_wire(octets)?),
        Part::V4 => write!(line, "{}", Ipv4Addr::from(read_u32(octets, 0)?)),
        Part::Dashed(_) => write!(line, "{}", words(1).collect::<Vec<_>>().join("-")),
        Part::Groups => write!(line, "{}", words(2).collect::<Vec<_>>().join(":")),
        Part::Text => return quote(&octets[1..], line),
        Part::Texts => return write_texts(octets, line),
        Part::Types => return write_types(octets, line),
        Part::Octets => return quote(octets, line),
        Part::Hex => write!(line, "{}", base16::encode_string(octets)),
        Part::Dotted => write!(line, "0x{}", base16::encode_string(octets)),
        Part::Base64 => write!(line, "{}", base64::encode_string(octets)),
    }
    .ok()
}

fn write_texts(mut octets: &[u8], line: &mut String) -> Option<()> {
    while let Some((&len, rest)) = octets.split_first() {
        let (text, after) = rest.split_at_checked(usize::from(len))?;
        quote(text, line)?;
        line.push_str(if after.is_empty() { "" } else { " " });
        octets = after;
    }
    Some(())
}

fn write_types(octets: &[u8], line: &mut String) -> Option<()> {
    let types = RtypeBitmap::from_octets(octets).ok()?;
    let words: Vec<String> = types.iter().map(|rtype| Rtype(rtype.to_int()).to_string()).collect();
    line.push_str(&words.join(" "));
    Some(())
}

pub(super) fn quote(octets: &[u8], line: &mut String) -> Option<()> {
    line.push('"');
    for &byte in octets {
        match byte {
            b'"' | b'\\' => write!(line, "\\{}", char::from(byte)),
            0x20..=0x7e => write!(line, "{}", char::from(byte)),
            _ => write!(line, "\\{byte:03}"),
        }
        .ok()?;
    }
    line.push('"');
    Some(())
}
