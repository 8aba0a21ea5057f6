//! Record data from their text form and back. Most types are the `domain` crate's; those it has
//! no text form for are in [`parts`], SVCB and HTTPS in [`service`], LOC, APL, HIP and AMTRELAY in
//! [`special`].

use super::{parts, service, special};
use crate::name::{Name, NameBuf};
use crate::wire::{Rtype, data_fields};
use domain::base::iana;
use domain::base::name::{Name as DomainName, ParsedName};
use domain::base::rdata::{ComposeRecordData as _, ParseAnyRecordData as _};
use domain::base::scan::IterScanner;
use domain::base::zonefile_fmt::{DisplayKind, ZonefileFmt as _};
use domain::dep::octseq::Parser;
use domain::rdata::{AllRecordData, ZoneRecordData};
use domain::utils::base16;
use std::borrow::Cow;
use std::fmt::Write as _;

/// The type that this word names.
pub(super) fn rtype(word: &str) -> Option<Rtype> {
    if word.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    word.parse::<iana::Rtype>().ok().map(|rtype| Rtype(rtype.to_int()))
}

/// Reads `word` as a name, relative to `origin` if it does not end with a dot.
pub(super) fn name(word: &str, origin: Name<'_>) -> Result<NameBuf, String> {
    if word == "@" {
        return Ok(origin.to_owned());
    }
    let name: NameBuf = word.parse().map_err(|error| format!("{word}: {error}"))?;
    if is_absolute(word) || origin.is_root() {
        return Ok(name);
    }
    let front = name.as_name().as_wire();
    let whole = [&front[..front.len() - 1], origin.as_wire()].concat();
    let whole = Name::from_wire(&whole);
    Ok(whole.ok_or_else(|| format!("{word} with {origin} after it is too long a name"))?.to_owned())
}

fn is_absolute(word: &str) -> bool {
    let Some(before) = word.strip_suffix('.') else { return false };
    let escapes = before.bytes().rev().take_while(|&byte| byte == b'\\').count();
    escapes % 2 == 0
}

/// A time or TTL in seconds, also as `1h30m` (units w, d, h, m, s).
pub(super) fn seconds(word: &str) -> Option<u32> {
    let (mut total, mut number) = (0_u32, None::<u32>);
    for byte in word.bytes() {
        let unit = match byte.to_ascii_lowercase() {
            digit @ b'0'..=b'9' => {
                let shifted = number.unwrap_or(0).checked_mul(10)?;
                number = Some(shifted.checked_add(u32::from(digit - b'0'))?);
                continue;
            }
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    match number {
        Some(rest) => total.checked_add(rest),
        None => (!word.is_empty()).then_some(total),
    }
}

/// Appends the data that `words` are to `out`, names completed with `origin`.
pub(super) fn read<'w>(
    rtype: Rtype,
    words: impl ExactSizeIterator<Item = &'w str>,
    origin: Name<'_>,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let mut words: Vec<Cow<'_, str>> = words.map(Cow::Borrowed).collect();
    let begin = out.len();
    if words.first().is_some_and(|word| word == "\\#") {
        read_generic(&words[1..], out)?;
    } else {
        prepare(rtype, &mut words, origin)?;
        if let Some(parts) = parts::of(rtype) {
            parts::read(parts, &words, out)?;
        } else {
            match rtype {
                Rtype::LOC => special::read_loc(&words, out)?,
                Rtype::APL => special::read_apl(&words, out)?,
                Rtype::HIP => special::read_hip(&words, out)?,
                Rtype::AMTRELAY => special::read_amtrelay(&words, out)?,
                Rtype::SVCB | Rtype::HTTPS => service::read(&words, out)?,
                // It differs in what it covers only.
                Rtype::SIG => read_known(Rtype::RRSIG, &words, out)?,
                _ => read_known(rtype, &words, out)?,
            }
        }
    }
    if out.len() - begin > usize::from(u16::MAX) {
        return Err("the data are longer than 65535 octets".into());
    }
    data_fields(rtype, &out[begin..], |_, _| ())
        .ok_or_else(|| format!("these are no data of an {rtype} record"))
}

/// The form for any type (RFC 3597 section 5): `\# LENGTH HEX`.
fn read_generic(words: &[Cow<'_, str>], out: &mut Vec<u8>) -> Result<(), String> {
    let (len, hex) = words.split_first().ok_or("after \\# the length is missing")?;
    let len: u16 = len.parse().map_err(|_| format!("{len} is no length up to 65535"))?;
    let data = base16::decode_vec(&hex.concat())
        .map_err(|error| format!("the data are not hexadecimal: {error}"))?;
    if data.len() != usize::from(len) {
        return Err(format!("\\# says {len} octets, there are {}", data.len()));
    }
    out.extend_from_slice(&data);
    Ok(())
}

/// Completes the names among the words, turns times with units into seconds and algorithms into
/// their numbers.
fn prepare(rtype: Rtype, words: &mut [Cow<'_, str>], origin: Name<'_>) -> Result<(), String> {
    if rtype == Rtype::SOA {
        for word in words.iter_mut().skip(3) {
            *word = seconds(word).ok_or_else(|| format!("{word} is no time"))?.to_string().into();
        }
    }
    if let Some(word) = algorithm_place(rtype).and_then(|place| words.get_mut(place))
        && let Some(algorithm) = iana::SecurityAlgorithm::from_mnemonic(word.as_bytes())
    {
        *word = algorithm.to_int().to_string().into();
    }
    if matches!(rtype, Rtype::RRSIG | Rtype::SIG) {
        // As many digits as it has: the order of texts is that of time.
        let late = |word: &&Cow<'_, str>| word.len() == MOMENT_MAX.len() && &***word > MOMENT_MAX;
        if let Some(word) = words.iter().skip(4).take(2).find(late) {
            return Err(format!("{word} is more than 32 bits of seconds since 1970"));
        }
    }
    let servers = if rtype == Rtype::HIP { 3..words.len() } else { 0..0 };
    let known = name_places(rtype, words).iter().copied().chain(servers);
    for place in known.chain(parts::of(rtype).into_iter().flat_map(parts::names)) {
        if let Some(word) = words.get_mut(place) {
            *word = name(word, origin)?.to_string().into();
        }
    }
    Ok(())
}

/// Which words are names, in the types that `domain` knows.
fn name_places(rtype: Rtype, words: &[Cow<'_, str>]) -> &'static [usize] {
    match rtype {
        Rtype::NS
        | Rtype::MD
        | Rtype::MF
        | Rtype::CNAME
        | Rtype::MB
        | Rtype::MG
        | Rtype::MR
        | Rtype::PTR
        | Rtype::DNAME
        | Rtype::NSEC => &[0],
        Rtype::SOA | Rtype::MINFO | Rtype::RP => &[0, 1],
        Rtype::MX | Rtype::SVCB | Rtype::HTTPS => &[1],
        Rtype::SRV => &[3],
        Rtype::NAPTR => &[5],
        Rtype::RRSIG | Rtype::SIG => &[7],
        Rtype::IPSECKEY if words.get(1).is_some_and(|kind| kind == "3") => &[3],
        Rtype::AMTRELAY if words.get(2).is_some_and(|kind| kind == "3") => &[3],
        _ => &[],
    }
}

/// Which word is a DNSSEC algorithm, which may have its name there (RFC 4034 appendix A.1).
fn algorithm_place(rtype: Rtype) -> Option<usize> {
    match rtype {
        Rtype::DS | Rtype::CDS | Rtype::TA | Rtype::DLV | Rtype::RRSIG | Rtype::SIG => Some(1),
        Rtype::DNSKEY | Rtype::CDNSKEY | Rtype::KEY | Rtype::RKEY | Rtype::CERT => Some(2),
        _ => None,
    }
}

/// The last moment that a signature can end.
const MOMENT_MAX: &str = "21060207062815";

fn read_known(rtype: Rtype, words: &[Cow<'_, str>], out: &mut Vec<u8>) -> Result<(), String> {
    type Data = ZoneRecordData<Vec<u8>, DomainName<Vec<u8>>>;
    let mut scanner = IterScanner::<_, Vec<u8>>::new(words);
    let explain = |error: domain::base::scan::StrError| match error.to_string() {
        text if text.starts_with("unknown record type") => {
            format!("{rtype} has no text form here: write \\# LENGTH HEX (RFC 3597)")
        }
        text => format!("{rtype}: {text}"),
    };
    let data = Data::scan(iana::Rtype::from_int(rtype.0), &mut scanner).map_err(explain)?;
    if !scanner.is_exhausted() {
        return Err(format!("{rtype}: there is more on the line than its data"));
    }
    data.compose_rdata(out).map_err(|error| format!("{rtype}: {error}"))
}

/// Appends the text form of `data` to `line`; the generic one if there is no other that reads
/// back as the same data.
pub(super) fn write(rtype: Rtype, data: &[u8], line: &mut String) {
    let begin = line.len();
    let done = match (parts::of(rtype), rtype) {
        (Some(parts), _) => parts::write(parts, data, line),
        (None, Rtype::RRSIG | Rtype::SIG) => special::write_rrsig(data, line),
        (None, Rtype::LOC) => special::write_loc(data, line),
        (None, Rtype::APL) => special::write_apl(data, line),
        (None, Rtype::HIP) => special::write_hip(data, line),
        (None, Rtype::SVCB | Rtype::HTTPS) => service::write(data, line),
        (None, _) => write_known(rtype, data, line),
    };
    if done.is_some() && reads_back(rtype, &line[begin..], data) {
        return;
    }
    line.truncate(begin);
    write_generic(data, line);
}

/// Is this a type that NSD, Knot or BIND may not know by its name?
pub(super) fn is_rare(rtype: Rtype) -> bool {
    matches!(
        rtype,
        Rtype::X25
            | Rtype::ISDN
            | Rtype::NSAP
            | Rtype::SIG
            | Rtype::PX
            | Rtype::GPOS
            | Rtype::EID
            | Rtype::NIMLOC
            | Rtype::SINK
            | Rtype::HIP
            | Rtype::AMTRELAY
            | Rtype::RKEY
            | Rtype::HHIT
            | Rtype::BRID
            | Rtype::DOA
            | Rtype::NINFO
            | Rtype::TALINK
            | Rtype::DSYNC
            | Rtype::AVC
            | Rtype::RESINFO
            | Rtype::WALLET
            | Rtype::TA
            | Rtype::DLV
    )
}

/// Appends the form that any server reads for any type (RFC 3597 section 5).
pub(super) fn write_generic(data: &[u8], line: &mut String) {
    let _ = write!(line, "\\# {}", data.len());
    for (at, byte) in data.iter().enumerate() {
        let _ = write!(line, "{}{byte:02x}", if at % 32 == 0 { " " } else { "" });
    }
}

fn write_known(rtype: Rtype, data: &[u8], line: &mut String) -> Option<()> {
    let mut parser = Parser::from_ref(data);
    type Data<'d> = AllRecordData<&'d [u8], ParsedName<&'d [u8]>>;
    let parsed = Data::parse_any_rdata(iana::Rtype::from_int(rtype.0), &mut parser).ok()?;
    if parser.remaining() > 0 || matches!(parsed, AllRecordData::Unknown(_)) {
        return None;
    }
    write!(line, "{}", parsed.display_zonefile(DisplayKind::Simple)).ok()
}

fn reads_back(rtype: Rtype, text: &str, data: &[u8]) -> bool {
    let mut entry = super::lexer::Entry::default();
    let mut lexer = super::lexer::Lexer::new(text.as_bytes());
    let mut again = Vec::new();
    matches!(lexer.next(&mut entry), Ok(true))
        && read(rtype, entry.words(), Name::ROOT, &mut again).is_ok()
        && again == data
}
