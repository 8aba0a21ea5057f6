//! `[rate-limit]` and `[cookies]`: what is done about forged source addresses.

use std::sync::Arc;
use std::time::Duration;

use super::document::{At, Kind, Section, Wrong};
use super::keys;
use super::units::{boolean, duration, integer, prefix, some_text};
use super::{CookieSecret, Cookies};
use crate::acl::{Acl, Rule};
use crate::view::RateLimit;

pub(super) static RATE_LIMIT: Kind = Kind {
    title: "[rate-limit]",
    own: &[
        "responses-per-second",
        "window",
        "slip",
        "ipv4-prefix",
        "ipv6-prefix",
        "table-size",
        "exempt",
        "dry-run",
    ],
    shared: &[],
};

pub(super) static COOKIES: Kind =
    Kind { title: "[cookies]", own: &["enabled", "secret-file", "require"], shared: &[] };

/// `None`: there is no limit.
pub(super) fn rate_limit(top: &Section<'_>) -> Option<Arc<RateLimit>> {
    let section = top.table("rate-limit", &RATE_LIMIT)?;
    let window = duration(Duration::from_secs(1)..=Duration::from_mins(1));
    let length = |key, most| section.get(key, integer(1..=most));
    let exempt = section.list("exempt", prefix).unwrap_or_default();
    if let Some(all) = exempt.iter().find(|network| network.value.is_everybody()) {
        let wrong = Wrong::new(
            format!("exempt \"{}\" leaves nobody of its family to limit", all.value),
            "write the networks of clients that you trust",
        );
        section.doc.warn(all.at, wrong);
    }
    let rule = |At { value: from, .. }| Rule { from, key: None };
    Some(Arc::new(RateLimit {
        per_second: section.get("responses-per-second", integer(1..=100_000)).unwrap_or(200),
        window: section.get("window", window).unwrap_or(Duration::from_secs(1)),
        slip: section.get("slip", integer(0..=100)).unwrap_or(2),
        ipv4_prefix: length("ipv4-prefix", 32).unwrap_or(24),
        ipv6_prefix: length("ipv6-prefix", 128).unwrap_or(56),
        entries: section.get("table-size", integer(1024..=1 << 27)).unwrap_or(1 << 17),
        exempt: exempt.into_iter().map(rule).collect::<Acl>(),
        dry_run: section.get("dry-run", boolean).unwrap_or(false),
    }))
}

pub(super) fn cookies(top: &Section<'_>) -> Cookies {
    let Some(section) = top.table("cookies", &COOKIES) else {
        return Cookies { enabled: true, secrets: Vec::new(), require: false };
    };
    let enabled = section.get("enabled", boolean).unwrap_or(true);
    let file = section.get("secret-file", |value| Ok(section.doc.path(some_text(value)?)));
    if let Some(file) = &file {
        keys::warn_if_open(&section, file);
    }
    let read = |_: &_| {
        let text = |file| keys::secret_text(file, "a secret of 32 hexadecimal digits a line");
        file.as_deref().map(|file| secrets(&text(file)?)).transpose()
    };
    let secrets = section.get("secret-file", read).flatten().unwrap_or_default();
    let require = section.get("require", boolean).unwrap_or(false);
    if require && !enabled {
        let advice = "write enabled = true, or remove require";
        let wrong = Wrong::new("require needs cookies, and they are off", advice);
        section.doc.error(section.place_of("require"), wrong);
    }
    Cookies { enabled, secrets, require }
}

/// The secrets in a file. What is wrong with one is told without showing it.
fn secrets(text: &str) -> Result<Vec<CookieSecret>, Wrong> {
    let advice = "write one of 32 hexadecimal digits: openssl rand -hex 16";
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let secret = |(number, line): (usize, &str)| {
        let wrong = || Wrong::new(format!("has no secret in line {number}"), advice);
        octets(line.trim()).map(CookieSecret).ok_or_else(wrong)
    };
    let secrets: Vec<_> = lines.map(secret).collect::<Result<_, _>>()?;
    match secrets.len() {
        0 => Err(Wrong::new("names an empty file", advice)),
        1 | 2 => Ok(secrets),
        more => {
            let advice = "keep two: the one to make cookies with, and the last one";
            Err(Wrong::new(format!("names a file with {more} secrets"), advice))
        }
    }
}

/// The 16 octets that 32 hexadecimal digits are.
fn octets(digits: &str) -> Option<[u8; 16]> {
    let hexadecimal = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = hexadecimal.then(|| u128::from_str_radix(digits, 16).ok())?;
    number.map(u128::to_be_bytes)
}
