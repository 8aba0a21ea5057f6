//! The text forms of SVCB and HTTPS (RFC 9460 section 2.1 and appendix A; RFC 9461, RFC 9540,
//! RFC 9953): `priority target key[=value]...`.
//!
//! Parameters are written by their number where servers in use do not know the name.

use super::parts::{octets, quote};
use crate::name::{Name, NameBuf};
use crate::wire::{read_u16, read_u32};
use domain::utils::base64;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

const MANDATORY: u16 = 0;
const ALPN: u16 = 1;
const NO_DEFAULT_ALPN: u16 = 2;
const PORT: u16 = 3;
const IPV4HINT: u16 = 4;
const ECH: u16 = 5;
const IPV6HINT: u16 = 6;
const DOHPATH: u16 = 7;
const OHTTP: u16 = 8;
const TLS_GROUPS: u16 = 9;
const DOCPATH: u16 = 10;

/// Their names, by number.
const KEYS: [&str; 11] = [
    "mandatory",
    "alpn",
    "no-default-alpn",
    "port",
    "ipv4hint",
    "ech",
    "ipv6hint",
    "dohpath",
    "ohttp",
    "tls-supported-groups",
    "docpath",
];

/// The words with their escapes, the target being absolute.
pub(super) fn read(words: &[Cow<'_, str>], out: &mut Vec<u8>) -> Result<(), String> {
    let [priority, target, words @ ..] = words else {
        return Err("the priority or the target is missing".into());
    };
    let priority: u16 = priority.parse().map_err(|_| format!("{priority} is no priority"))?;
    let target: NameBuf = target.parse().map_err(|error| format!("{target}: {error}"))?;
    out.extend_from_slice(&priority.to_be_bytes());
    out.extend_from_slice(target.as_name().as_wire());
    let mut parameters = BTreeMap::new();
    for word in words {
        let (key, value) = parameter(word)?;
        if parameters.insert(key, value).is_some() {
            return Err(format!("{} is there twice", Key(key)));
        }
    }
    if let Some(keys) = parameters.get(&MANDATORY) {
        let missing = numbers(keys).find(|key| !parameters.contains_key(key));
        if let Some(key) = missing {
            return Err(format!("{} is mandatory, but not there", Key(key)));
        }
    }
    for (key, value) in parameters {
        let len = u16::try_from(value.len()).map_err(|_| format!("{} is too long", Key(key)))?;
        out.extend_from_slice(&key.to_be_bytes());
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(&value);
    }
    Ok(())
}

fn parameter(word: &str) -> Result<(u16, Vec<u8>), String> {
    let (name, value) = word.split_once('=').unwrap_or((word, ""));
    let value = octets(value)?;
    let (key, value) = match named(name) {
        Some(key) => {
            let value = from_text(key, &value);
            (key, value.map_err(|what| format!("{name}: {what}"))?)
        }
        // In this form a value is octets, whatever the parameter is.
        None => (number_of(name).ok_or_else(|| format!("{name} is no parameter"))?, value),
    };
    match is_right(key, &value) {
        true => Ok((key, value)),
        false => Err(format!("{name} cannot have this value")),
    }
}

/// The number of the parameter with this name.
fn named(name: &str) -> Option<u16> {
    KEYS.iter().zip(0..).find_map(|(known, key)| (*known == name).then_some(key))
}

/// `key` and a number without leading zeros.
fn number_of(name: &str) -> Option<u16> {
    let digits = name.strip_prefix("key")?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let short = digits == "0" || !digits.starts_with('0');
    digits.parse().ok().filter(|_| plain && short)
}

/// The value of a parameter, escapes of the zone file undone, as it is sent.
fn from_text(key: u16, value: &[u8]) -> Result<Vec<u8>, String> {
    let text = || std::str::from_utf8(value).map_err(|_| "this is no text".to_owned());
    let bad = |item: &str| format!("{item} has not the form that is wanted here");
    let mut out = Vec::new();
    match key {
        PORT => {
            let port: u16 = text()?.parse().map_err(|_| bad("the port"))?;
            out.extend_from_slice(&port.to_be_bytes());
        }
        ECH => out = base64::decode(text()?).map_err(|error| error.to_string())?,
        MANDATORY => {
            let keys: Result<Vec<u16>, String> = text()?
                .split(',')
                .map(|item| named(item).or_else(|| number_of(item)).ok_or_else(|| bad(item)))
                .collect();
            let mut keys = keys?;
            keys.sort_unstable();
            keys.iter().for_each(|key| out.extend_from_slice(&key.to_be_bytes()));
        }
        IPV4HINT => {
            for item in text()?.split(',') {
                out.extend_from_slice(&item.parse::<Ipv4Addr>().map_err(|_| bad(item))?.octets());
            }
        }
        IPV6HINT => {
            for item in text()?.split(',') {
                out.extend_from_slice(&item.parse::<Ipv6Addr>().map_err(|_| bad(item))?.octets());
            }
        }
        TLS_GROUPS => {
            for item in text()?.split(',') {
                out.extend_from_slice(&item.parse::<u16>().map_err(|_| bad(item))?.to_be_bytes());
            }
        }
        DOCPATH if value.is_empty() => {}
        ALPN | DOCPATH => {
            for item in items(value)? {
                let len = u8::try_from(item.len()).map_err(|_| "a value is over 255 octets")?;
                out.push(len);
                out.extend_from_slice(&item);
            }
        }
        _ => out.extend_from_slice(value),
    }
    Ok(out)
}

/// A list of values (RFC 9460 appendix A.1): `\,` and `\\` stand for octets of a value.
fn items(list: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut items = vec![Vec::new()];
    let mut rest = list.iter();
    while let Some(&octet) = rest.next() {
        let item = items.last_mut().expect("there is always one");
        match octet {
            b',' => items.push(Vec::new()),
            b'\\' => match rest.next() {
                Some(&escaped @ (b',' | b'\\')) => item.push(escaped),
                _ => return Err("in a list a backslash stands before , or another one".into()),
            },
            _ => item.push(octet),
        }
    }
    match items.iter().any(Vec::is_empty) {
        true => Err("a value is empty".into()),
        false => Ok(items),
    }
}

/// Has the value the form that its parameter must have?
fn is_right(key: u16, value: &[u8]) -> bool {
    match key {
        MANDATORY => {
            let keys: Vec<u16> = numbers(value).collect();
            let ascending = keys.windows(2).all(|pair| pair[0] < pair[1]);
            value.len().is_multiple_of(2) && keys.first().is_some_and(|&key| key > 0) && ascending
        }
        ALPN => !value.is_empty() && strings(value).is_some_and(|all| !all.contains(&&[][..])),
        NO_DEFAULT_ALPN | OHTTP => value.is_empty(),
        PORT => value.len() == 2,
        IPV4HINT => !value.is_empty() && value.len().is_multiple_of(4),
        IPV6HINT => !value.is_empty() && value.len().is_multiple_of(16),
        ECH | DOHPATH => !value.is_empty(),
        TLS_GROUPS => !value.is_empty() && value.len().is_multiple_of(2),
        DOCPATH => strings(value).is_some(),
        _ => true,
    }
}

fn numbers(value: &[u8]) -> impl Iterator<Item = u16> {
    value.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
}

/// The texts, each behind its length.
fn strings(mut value: &[u8]) -> Option<Vec<&[u8]>> {
    let mut all = Vec::new();
    while let Some((&len, rest)) = value.split_first() {
        let (text, after) = rest.split_at_checked(usize::from(len))?;
        all.push(text);
        value = after;
    }
    Some(all)
}

/// A parameter as it is written: by its name if servers in use know that.
struct Key(u16);

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match KEYS.get(usize::from(self.0)).filter(|_| self.0 < DOHPATH) {
            Some(name) => f.write_str(name),
            None => write!(f, "key{}", self.0),
        }
    }
}

/// As [`read`] reads it.
pub(super) fn write(data: &[u8], line: &mut String) -> Option<()> {
    let (target, mut rest) = Name::split(data.get(2..)?)?;
    write!(line, "{} {target}", read_u16(data, 0)?).ok()?;
    while !rest.is_empty() {
        let (key, len) = (read_u16(rest, 0)?, read_u16(rest, 2)?);
        let (value, after) = rest[4..].split_at_checked(usize::from(len))?;
        write!(line, " {}", Key(key)).ok()?;
        if !value.is_empty() {
            line.push('=');
            write_value(key, value, line)?;
        }
        rest = after;
    }
    Some(())
}

fn write_value(key: u16, value: &[u8], line: &mut String) -> Option<()> {
    let list = |items: Vec<String>| items.join(",");
    match key {
        MANDATORY => line.push_str(&list(numbers(value).map(|key| Key(key).to_string()).collect())),
        ALPN => {
            let mut all = Vec::new();
            for item in strings(value)? {
                all.extend((!all.is_empty()).then_some(b','));
                for &octet in item {
                    all.extend(matches!(octet, b',' | b'\\').then_some(b'\\'));
                    all.push(octet);
                }
            }
            quote(&all, line)?;
        }
        PORT => line.push_str(&read_u16(value, 0)?.to_string()),
        IPV4HINT => {
            let hints = value.chunks_exact(4).filter_map(|hint| read_u32(hint, 0));
            line.push_str(&list(hints.map(|hint| Ipv4Addr::from(hint).to_string()).collect()));
        }
        IPV6HINT => {
            let hints = value.chunks_exact(16).filter_map(|hint| <[u8; 16]>::try_from(hint).ok());
            line.push_str(&list(hints.map(|hint| Ipv6Addr::from(hint).to_string()).collect()));
        }
        ECH => line.push_str(&base64::encode_string(value)),
        _ => quote(value, line)?,
    }
    Some(())
}
