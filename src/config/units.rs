//! The single values: durations, sizes, addresses, names, choices. Each function takes a TOML
//! value, or says what is wrong with it and what to write instead.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::document::{Wrong, wrong_type};
use crate::acl::Prefix;
use crate::name::NameBuf;

/// What all durations are at the most, some 67 years: added to any time, they do not overflow.
pub(super) const LONGEST: Duration = Duration::from_hours(3500 * 7 * 24);

const TIMES: [(&str, u64); 7] = [
    ("w", 7 * 24 * 3_600_000_000),
    ("d", 24 * 3_600_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

const SIZES: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

pub(super) fn text<'a>(value: &'a DeValue<'_>) -> Result<&'a str, Wrong> {
    value.as_str().ok_or_else(|| wrong_type(value, "text in quotes"))
}

/// Text that fits into one character-string of a TXT record (RFC 1035 section 3.3).
pub(super) fn short_text(value: &DeValue<'_>) -> Result<String, Wrong> {
    let text = text(value)?;
    if text.len() > 255 {
        let message = format!("has {} octets", text.len());
        return Err(Wrong::new(message, "write 255 at the most"));
    }
    Ok(text.to_owned())
}

/// Text that is not empty.
pub(super) fn some_text<'a>(value: &'a DeValue<'_>) -> Result<&'a str, Wrong> {
    match text(value)? {
        "" => Err(Wrong::new("is empty", "write at least one character, or remove the key")),
        text => Ok(text),
    }
}

pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, Wrong> {
    value.as_bool().ok_or_else(|| wrong_type(value, "true or false, without quotes"))
}

/// A whole number within `range`.
pub(super) fn integer<T>(range: RangeInclusive<T>) -> impl Fn(&DeValue<'_>) -> Result<T, Wrong>
where
    T: TryFrom<i64> + PartialOrd + fmt::Display,
{
    move |value| {
        let advice = format!("a number from {} to {}", range.start(), range.end());
        let number = value.as_integer().ok_or_else(|| wrong_type(value, &advice))?;
        i64::from_str_radix(number.as_str(), number.radix())
            .ok()
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| Wrong::new(format!("is {number}"), format!("write {advice}")))
    }
}

/// One of some words.
pub(super) fn choice<T: Copy>(
    choices: &'static [(&'static str, T)],
) -> impl Fn(&DeValue<'_>) -> Result<T, Wrong> {
    move |value| {
        let words = || choices.iter().map(|&(word, _)| word);
        let all = words().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        let text = value.as_str().ok_or_else(|| wrong_type(value, &format!("one of {all}")))?;
        match choices.iter().find(|(word, _)| *word == text) {
            Some(&(_, choice)) => Ok(choice),
            None => {
                let advice =
                    nearest(text, words()).unwrap_or_else(|| format!("write one of {all}"));
                Err(Wrong::new(format!("is \"{text}\""), advice))
            }
        }
    }
}

/// A time with its unit, as "30s" or "1h30m", within `range`.
pub(super) fn duration(
    range: RangeInclusive<Duration>,
) -> impl Fn(&DeValue<'_>) -> Result<Duration, Wrong> {
    move |value| {
        let us = measured(value, &TIMES, "s", "us, ms, s, m, h, d or w")?;
        let duration = Duration::from_micros(us);
        if range.contains(&duration) {
            return Ok(duration);
        }
        let (least, most) = (written(*range.start()), written(*range.end()));
        let message = format!("is {}", written(duration));
        Err(Wrong::new(message, format!("write a time from \"{least}\" to \"{most}\"")))
    }
}

/// A time within `range`, or "off".
pub(super) fn off_or(
    range: RangeInclusive<Duration>,
) -> impl Fn(&DeValue<'_>) -> Result<Option<Duration>, Wrong> {
    let duration = duration(range);
    move |value| match value.as_str() {
        Some("off") => Ok(None),
        _ => duration(value)
            .map(Some)
            .map_err(|wrong| Wrong { advice: wrong.advice + ", or \"off\"", ..wrong }),
    }
}

/// A number of octets with its unit, as "16MiB", of at least `least`.
pub(super) fn size(least: u64) -> impl Fn(&DeValue<'_>) -> Result<u64, Wrong> {
    move |value| {
        let size = measured(value, &SIZES, "MiB", "B, KiB, MiB, GiB or TiB")?;
        if size >= least {
            return Ok(size);
        }
        Err(Wrong::new(format!("is {size}B"), format!("write a size of at least \"{least}B\"")))
    }
}

/// Octets a second, as "1KiB/s".
pub(super) fn rate(value: &DeValue<'_>) -> Result<u64, Wrong> {
    let units = SIZES.map(|(unit, scale)| (format!("{unit}/s"), scale));
    let units = units.each_ref().map(|(unit, scale)| (unit.as_str(), *scale));
    measured(value, &units, "KiB/s", "B/s, KiB/s, MiB/s, GiB/s or TiB/s")
}

/// A sum of numbers, each with one of `units`; `usual` is the unit to suggest.
fn measured(
    value: &DeValue<'_>,
    units: &[(&str, u64)],
    usual: &str,
    all: &str,
) -> Result<u64, Wrong> {
    let bare = |number: &str| {
        let advice = format!("write \"{number}{usual}\" (units: {all})");
        Wrong::new(format!("is {number} without a unit"), advice)
    };
    let text = match value {
        DeValue::String(text) => text.as_ref(),
        DeValue::Integer(number) => return Err(bare(number.as_str())),
        _ => return Err(wrong_type(value, &format!("a number with its unit: \"10{usual}\""))),
    };
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bare(text));
    }
    sum(text, units).ok_or_else(|| {
        let advice = format!("write a number with its unit, as \"10{usual}\" (units: {all})");
        Wrong::new(format!("is \"{text}\""), advice)
    })
}

fn sum(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let mut total: Option<u64> = None;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let &(_, scale) = units.iter().find(|(known, _)| *known == unit)?;
        let part = number.parse::<u64>().ok()?.checked_mul(scale)?;
        total = Some(total.unwrap_or(0).checked_add(part)?);
        rest = tail;
    }
    total
}

/// A duration as it is written in the configuration, in the largest unit that divides it.
pub(super) fn written(duration: Duration) -> String {
    let us = duration.as_micros();
    let unit = TIMES.iter().find(|&&(_, scale)| us != 0 && us.is_multiple_of(scale.into()));
    unit.map_or_else(|| "0s".into(), |&(unit, scale)| format!("{}{unit}", us / u128::from(scale)))
}

/// An address with its port, or without: then `port`.
pub(super) fn address(port: u16) -> impl Fn(&DeValue<'_>) -> Result<SocketAddr, Wrong> {
    move |value| {
        let example = format!("\"192.0.2.1:{port}\" or \"[2001:db8::1]:{port}\"");
        let text = value.as_str().ok_or_else(|| wrong_type(value, &example))?;
        let bare = || text.parse::<IpAddr>().map(|address| SocketAddr::new(address, port));
        text.parse::<SocketAddr>().or_else(|_| bare()).map_err(|_| {
            let advice = format!("write an address like {example}");
            Wrong::new(format!("\"{text}\" is no address"), advice)
        })
    }
}

/// The address of another server: one that packets can be sent to.
pub(super) fn remote(value: &DeValue<'_>) -> Result<SocketAddr, Wrong> {
    let remote = address(53)(value)?;
    if remote.ip().is_unspecified() || remote.ip().is_multicast() || remote.port() == 0 {
        let advice = "write the address and port of one server, as \"192.0.2.1:53\"";
        return Err(Wrong::new(format!("\"{remote}\" is no server's address"), advice));
    }
    Ok(remote)
}

/// A domain name.
pub(super) fn name(value: &DeValue<'_>) -> Result<NameBuf, Wrong> {
    name_in(text(value)?)
}

/// The domain name that `text` is.
pub(super) fn name_in(text: &str) -> Result<NameBuf, Wrong> {
    if text.is_empty() {
        return Err(Wrong::new("is empty", "write a domain name; \".\" is the root"));
    }
    let wrong = |advice: &str| Wrong::new(format!("{text:?} is no domain name"), advice);
    if !text.is_ascii() {
        return Err(wrong("write letters outside ASCII as an A-label: \"xn--...\""));
    }
    if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(wrong("write it without spaces; \\032 stands for one in a label"));
    }
    text.parse().map_err(|error: crate::name::NameError| wrong(&error.to_string()))
}

/// An address or a network.
pub(super) fn prefix(value: &DeValue<'_>) -> Result<Prefix, Wrong> {
    let text = text(value)?;
    text.parse().map_err(|error: crate::acl::PrefixError| {
        let told = error.to_string();
        let (message, advice) = told.split_once(": ").unwrap_or((&told, ""));
        Wrong::new(format!("\"{text}\" is no network ({message})"), advice)
    })
}

/// Advice that names the one of `known` that `text` was probably meant to be.
pub(super) fn nearest<'k>(text: &str, known: impl Iterator<Item = &'k str>) -> Option<String> {
    let bound = text.chars().count().div_ceil(3).min(text.chars().count() / 2);
    let close = known.map(|known| (edits(text, known), known)).min_by_key(|&(edits, _)| edits)?;
    (close.0 <= bound).then(|| format!("did you mean \"{}\"?", close.1))
}

/// How many characters must be inserted, removed or replaced to turn `a` into `b`.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &b) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
