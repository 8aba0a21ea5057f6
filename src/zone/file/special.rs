//! The text forms of LOC (RFC 1876 section 3), APL (RFC 3123 section 5) and HIP (RFC 8005 section
//! 6). AMTRELAY (RFC 8777 section 4.3) is read only: Knot and NSD know no text form of it. RRSIG
//! (RFC 4034 section 3.2) is written only: NSD does not read times that are plain numbers of
//! seconds, as the `domain` crate writes them.

use crate::name::{Name, NameBuf};
use crate::wire::{Rtype, read_u16, read_u32};
use domain::utils::{base16, base64};
use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Degrees, minutes and thousandths of a second, on the wire relative to 2^31.
const MIDDLE: u32 = 1 << 31;

/// `d1 [m1 [s1]] N|S d2 [m2 [s2]] E|W alt[m] [size[m] [horizontal[m] [vertical[m]]]]`
pub(super) fn read_loc(words: &[Cow<'_, str>], out: &mut Vec<u8>) -> Result<(), String> {
    let mut words = words.iter().map(|word| &**word);
    let latitude = angle(&mut words, 90, ["N", "S"])?;
    let longitude = angle(&mut words, 180, ["E", "W"])?;
    let altitude = words.next().ok_or("LOC: the altitude is missing")?;
    let altitude = centimetres(altitude)? + 10_000_000;
    let altitude =
        u32::try_from(altitude).map_err(|_| "LOC: the altitude is out of range".to_string())?;
    out.push(0);
    for default in [100, 1_000_000, 1000] {
        let size = words.next().map_or(Ok(default), centimetres)?;
        out.push(precision(size).ok_or("LOC: a size is out of range")?);
    }
    for value in [latitude, longitude, altitude] {
        out.extend_from_slice(&value.to_be_bytes());
    }
    match words.next() {
        Some(word) => Err(format!("LOC: {word} is too much")),
        None => Ok(()),
    }
}

fn angle<'w>(
    words: &mut impl Iterator<Item = &'w str>,
    most: u32,
    [plus, minus]: [&str; 2],
) -> Result<u32, String> {
    let (mut total, mut unit) = (0_u32, 3_600_000);
    loop {
        let word = words.next().ok_or_else(|| format!("LOC: {plus} or {minus} is missing"))?;
        let is = |side: &str| word.eq_ignore_ascii_case(side);
        if unit < 3_600_000 && (is(plus) || is(minus)) {
            let total = Some(total).filter(|&total| total <= most * 3_600_000);
            let total = total.ok_or_else(|| format!("LOC: more than {most} degrees"))?;
            return Ok(if is(plus) { MIDDLE + total } else { MIDDLE - total });
        }
        let whole = |most: u32| word.parse().ok().filter(|&number| number <= most);
        let value = match unit {
            3_600_000 => whole(most),
            60_000 => whole(59),
            1000 => decimal(word, 3).and_then(|n| u32::try_from(n).ok()).filter(|&n| n < 60_000),
            _ => None,
        };
        let value = value.ok_or_else(|| format!("LOC: {word} is out of place"))?;
        total += if unit > 1000 { value * unit } else { value };
        unit /= if unit == 1000 { 1000 } else { 60 };
    }
}

/// A number with at most `places` decimals, as an integer of the last of them.
fn decimal(word: &str, places: usize) -> Option<i64> {
    let (whole, part) = word.split_once('.').unwrap_or((word, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = whole.strip_prefix('-').unwrap_or(whole);
    if unsigned.is_empty() || unsigned.len() > 9 || part.len() > places {
        return None;
    }
    if !digits(unsigned) || !digits(part) {
        return None;
    }
    format!("{whole}{part:0<places$}").parse().ok()
}

fn centimetres(word: &str) -> Result<i64, String> {
    let number = word.strip_suffix(['m', 'M']).unwrap_or(word);
    decimal(number, 2).ok_or_else(|| format!("LOC: {word} is no length in metres"))
}

/// Centimetres as a digit and a power of ten, a nibble each.
fn precision(mut size: i64) -> Option<u8> {
    if size > 9_000_000_000 {
        return None;
    }
    let mut power = 0;
    while size > 9 {
        size /= 10;
        power += 1;
    }
    Some(u8::try_from(size).ok()? << 4 | power)
}

/// As [`read_loc`] reads it.
pub(super) fn write_loc(data: &[u8], line: &mut String) -> Option<()> {
    let &[0, size, horizontal, vertical, ..] = data else { return None };
    let [latitude, longitude, altitude] =
        [read_u32(data, 4)?, read_u32(data, 8)?, read_u32(data, 12)?];
    for (angle, [plus, minus]) in [(latitude, ["N", "S"]), (longitude, ["E", "W"])] {
        let total = angle.abs_diff(MIDDLE);
        let (degrees, minutes) = (total / 3_600_000, total / 60_000 % 60);
        let (seconds, part) = (total / 1000 % 60, total % 1000);
        let side = if angle < MIDDLE { minus } else { plus };
        write!(line, "{degrees} {minutes} {seconds}.{part:03} {side} ").ok()?;
    }
    let altitude = i64::from(altitude) - 10_000_000;
    let sign = if altitude < 0 { "-" } else { "" };
    write!(line, "{sign}{}.{:02}m", altitude.abs() / 100, altitude.abs() % 100).ok()?;
    for precision in [size, horizontal, vertical] {
        let size = u64::from(precision >> 4) * 10_u64.pow(u32::from(precision & 15));
        write!(line, " {}.{:02}m", size / 100, size % 100).ok()?;
    }
    Some(())
}

/// `{[!]afi:address/prefix}*`
pub(super) fn read_apl(words: &[Cow<'_, str>], out: &mut Vec<u8>) -> Result<(), String> {
    for word in words {
        let item =
            prefix(word).ok_or_else(|| format!("APL: {word} is no [!]afi:address/prefix"))?;
        out.extend_from_slice(&item);
    }
    Ok(())
}

fn prefix(word: &str) -> Option<Vec<u8>> {
    let (negated, rest) = word.strip_prefix('!').map_or((0, word), |rest| (0x80, rest));
    let (family, rest) = rest.split_once(':')?;
    let (address, prefix) = rest.split_once('/')?;
    let (octets, most): (Vec<u8>, u8) = match (family, address.parse().ok()?) {
        ("1", IpAddr::V4(address)) => (address.octets().into(), 32),
        ("2", IpAddr::V6(address)) => (address.octets().into(), 128),
        _ => return None,
    };
    let prefix: u8 = prefix.parse().ok().filter(|&prefix| prefix <= most)?;
    // Zeros at the end are not sent (RFC 3123 section 4).
    let len = octets.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let mut item = vec![0, family.parse().ok()?, prefix, negated | u8::try_from(len).ok()?];
    item.extend_from_slice(&octets[..len]);
    Some(item)
}

/// As [`read_apl`] reads it.
pub(super) fn write_apl(mut data: &[u8], line: &mut String) -> Option<()> {
    while let Some((&[_, family, prefix, len], rest)) = data.split_first_chunk() {
        let (octets, after) = rest.split_at_checked(usize::from(len & 0x7f))?;
        let mut whole = [0; 16];
        whole.get_mut(..octets.len())?.copy_from_slice(octets);
        let address = match family {
            1 => IpAddr::from(*whole.first_chunk::<4>()?),
            _ => IpAddr::from(whole),
        };
        let not = if len & 0x80 == 0 { "" } else { "!" };
        let space = if after.is_empty() { "" } else { " " };
        write!(line, "{not}{family}:{address}/{prefix}{space}").ok()?;
        data = after;
    }
    Some(())
}

/// `algorithm HIT key {server}*`, the names of servers being absolute
pub(super) fn read_hip(words: &[Cow<'_, str>], out: &mut Vec<u8>) -> Result<(), String> {
    let [algorithm, hit, key, servers @ ..] = words else {
        return Err("HIP: the data are not complete".into());
    };
    let bad = |word: &str| format!("HIP: {word} has not the form that is wanted here");
    let algorithm: u8 = algorithm.parse().map_err(|_| bad(algorithm))?;
    let octets = base16::decode_vec(hit).map_err(|_| bad(hit))?;
    let hit_len = u8::try_from(octets.len()).map_err(|_| bad(hit))?;
    let public = base64::decode::<Vec<u8>>(key).map_err(|_| bad(key))?;
    let key_len = u16::try_from(public.len()).map_err(|_| bad(key))?;
    out.extend_from_slice(&[hit_len, algorithm]);
    out.extend_from_slice(&key_len.to_be_bytes());
    out.extend_from_slice(&octets);
    out.extend_from_slice(&public);
    for server in servers {
        let server: NameBuf = server.parse().map_err(|_| bad(server))?;
        out.extend_from_slice(server.as_name().as_wire());
    }
    Ok(())
}

/// As [`read_hip`] reads it.
pub(super) fn write_hip(data: &[u8], line: &mut String) -> Option<()> {
    let (&[hit_len, algorithm], rest) = data.split_first_chunk()?;
    let key_len = usize::from(read_u16(rest, 0)?);
    let (hit, rest) = rest[2..].split_at_checked(usize::from(hit_len))?;
    let (key, mut servers) = rest.split_at_checked(key_len)?;
    let (hit, key) = (base16::encode_string(hit), base64::encode_string(key));
    write!(line, "{algorithm} {hit} {key}").ok()?;
    while !servers.is_empty() {
        let (server, rest) = Name::split(servers)?;
        write!(line, " {server}").ok()?;
        servers = rest;
    }
    Some(())
}

/// `precedence D type relay`, a relay that is a name being absolute
pub(super) fn read_amtrelay(words: &[Cow<'_, str>], out: &mut Vec<u8>) -> Result<(), String> {
    let [precedence, discovery, kind, relay] = words else {
        return Err("AMTRELAY: it has four parts: precedence, D, type and relay".into());
    };
    let bad = |word: &str| format!("AMTRELAY: {word} has not the form that is wanted here");
    let number = |word: &str, most| word.parse().ok().filter(|&number: &u8| number <= most);
    let precedence = number(precedence, u8::MAX).ok_or_else(|| bad(precedence))?;
    let discovery = number(discovery, 1).ok_or_else(|| bad(discovery))?;
    // Where a name is, is known by this one digit.
    let kind = number(kind, 3).filter(|_| kind.len() == 1).ok_or_else(|| bad(kind))?;
    out.extend_from_slice(&[precedence, discovery << 7 | kind]);
    let octets = match kind {
        0 => (&**relay == ".").then(Vec::new),
        1 => relay.parse::<Ipv4Addr>().ok().map(|relay| relay.octets().to_vec()),
        2 => relay.parse::<Ipv6Addr>().ok().map(|relay| relay.octets().to_vec()),
        _ => relay.parse::<NameBuf>().ok().map(|relay| relay.as_name().as_wire().to_vec()),
    };
    out.extend_from_slice(&octets.ok_or_else(|| bad(relay))?);
    Ok(())
}

/// `type algorithm labels ttl expiration inception tag signer signature`
pub(super) fn write_rrsig(data: &[u8], line: &mut String) -> Option<()> {
    let (signer, signature) = Name::split(data.get(18..)?)?;
    let covered = Rtype(read_u16(data, 0)?);
    let (algorithm, labels, ttl) = (data[2], data[3], read_u32(data, 4)?);
    write!(line, "{covered} {algorithm} {labels} {ttl} ").ok()?;
    for time in [read_u32(data, 8)?, read_u32(data, 12)?] {
        write!(line, "{} ", moment(time)).ok()?;
    }
    let tag = read_u16(data, 16)?;
    write!(line, "{tag} {signer} {}", base64::encode_string(signature)).ok()
}

/// Seconds since 1970 as `YYYYMMDDHHmmSS`.
fn moment(seconds: u32) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March, so that the leap day is the last (days since 0000-03-01).
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = 400 * era + year + next;
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_days_of_the_calendar() {
        for (seconds, expected) in [
            (0, "19700101000000"),
            (951_782_400, "20000229000000"),
            (951_868_799, "20000229235959"),
            (1_893_456_000, "20300101000000"),
            (4_107_542_400, "21000301000000"),
            (u32::MAX, "21060207062815"),
        ] {
            assert_eq!(moment(seconds), expected);
        }
    }
}
